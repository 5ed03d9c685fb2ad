from typing import NamedTuple

class Liveness(NamedTuple):
    dead_registers: int
    dead_flags: int
    red_zone: bool

def liveness(code: bytes | bytearray | memoryview, vaddr: int, ip: int, *, entry: bool = False) -> Liveness: ...
