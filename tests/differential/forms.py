"""A few instructions of every form: what the judges of register and flag masks look at."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from tests.differential import ours, verdict
from tests.differential.seeds import seeds
from tests.differential.spaces import Codes, campaign

BATCH = 16384


def drawn(seed: int, total: int, each: int) -> Iterator[tuple[int, Codes, ours.Decoded]]:
    """Decoded instructions from `total` sequences of all spaces, as (bits, codes, decoded).

    At most `each` of a form are given: the same name and form of the opcode tables, operand size and mode, and register
    or memory alike.
    """
    given: Counter[tuple[int, ...]] = Counter()
    for _, bits, codes in campaign(seed, total, seeds(), BATCH):
        decoded = ours.decode(codes, np.full(len(codes), bits, np.uint8), verdict.options())
        chosen = []
        for row in np.flatnonzero(decoded.status == 0):
            insn = decoded.insn[row]
            form = (
                bits,
                *(int(insn[name]) for name in ("name", "form", "operand_size")),
                int(insn["modrm"] >= 0xC0),
            )
            given[form] += 1
            if given[form] <= each:
                chosen.append(row)
        if chosen:
            rows = np.array(chosen)
            yield bits, codes[rows], decoded.rows(rows)
