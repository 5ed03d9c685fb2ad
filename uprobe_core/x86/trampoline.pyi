from collections.abc import Mapping
from typing import NamedTuple

from uprobe_core.x86.hitplan import HitPlan

class Trampoline(NamedTuple):
    ip: int
    code: bytes
    insns: list[tuple[int, int, int, int]]
    end: int
    cold: bytes

def trampoline(
    window: bytes,
    vaddr: int,
    ip: int,
    cold_ip: int = 0,
    *,
    hits: Mapping[int, HitPlan] = ...,
    gate_vaddr: int = 0,
    rseq_offset: int | None = None,
    signature: int = 0,
    dead: int = 0,
    flags_dead: bool = False,
    red_zone: bool = True,
) -> Trampoline: ...
