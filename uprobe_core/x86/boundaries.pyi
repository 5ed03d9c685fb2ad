from array import array
from typing import Final

BEGINS: Final[int]
MAY_ABORT: Final[int]

def find_starts(
    vaddrs: array[int],
    bias: int,
    starts: array[int],
    ends: array[int],
    reach: array[int],
    found: array[int],
) -> int: ...
def mark_boundaries(
    code: bytes | memoryview, code_vaddr: int, vaddrs: array[int], starts: array[int], marks: bytearray
) -> int: ...
