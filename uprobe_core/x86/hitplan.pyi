from collections.abc import Sequence

class HitPlan:
    def __init__(
        self,
        *,
        board: int = 0,
        shift: int,
        offset: int = 0,
        order: int | None = None,
        site: int = 0,
        fields: Sequence[tuple[int, int]] = (),
        ops: Sequence[tuple[int, int]] = (),
        every: int = 1,
        budget: int = 0,
    ) -> None: ...
    def assemble(
        self,
        ip: int,
        *,
        gate_vaddr: int,
        dead: int = 0,
        flags_dead: bool = False,
        red_zone: bool = True,
        rseq_offset: int | None = None,
        signature: int = 0,
        has_rdpid: bool = False,
        tid_offset: int = 0,
        prefix: bytes = b"",
        suffix: bytes = b"",
    ) -> tuple[bytes, list[tuple[int, int, int]]] | None: ...
    def holds(self, registers: bytes, stack: bytes = b"", tid: int = 0) -> bool: ...
