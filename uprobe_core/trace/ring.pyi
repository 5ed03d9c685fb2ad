from array import array
from mmap import mmap

from uprobe_core.linux.clock import Clock

class RingReader:
    damaged: int
    clock: Clock
    def __init__(
        self,
        memory: mmap | bytearray,
        strides: int,
        shift: int,
        offset: int,
        order: int,
        fields: int,
        clock: Clock,
    ) -> None: ...
    def read(
        self,
        times: array[int] | memoryview,
        tids: array[int] | memoryview,
        sites: array[int] | memoryview,
        fields: array[int] | memoryview,
        everything: bool = False,
    ) -> int: ...
    @property
    def lost(self) -> int: ...
    @property
    def waiting(self) -> int: ...
