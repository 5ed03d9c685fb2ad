from array import array

from uprobe_core.x86.hitplan import HitPlan

BUCKETS: int

def bucket_of(value: int) -> int: ...
def bucket_start(bucket: int) -> int: ...

class Pairing:
    unpaired: int
    abandoned: int
    def __init__(self, plan: HitPlan, roles: array[int], functions: int) -> None: ...
    def feed(
        self,
        times: array[int] | memoryview,
        tids: array[int] | memoryview,
        sites: array[int] | memoryview,
        fields: array[int] | memoryview,
        count: int,
    ) -> None: ...
    def forget(self) -> None: ...
    def times(self, function: int) -> tuple[int, int, int, int, dict[int, int]]: ...
    @property
    def open(self) -> int: ...
