"""Register and flag masks, judged by execution and against iced-x86; masks.txt lists what differs and why."""

import numpy as np
import pytest

from tests.differential import effects, iced, influence, masks
from tests.differential.forms import drawn
from tests.differential.verdict import DANGEROUS, Names
from tests.oracle import Oracle

SEEDS = range(3)
SEQUENCES = 400_000


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", SEEDS)
def test_masks_say_all_that_execution_shows(seed):
    names, unexplained, executed, total = Names(), [], 0, 0
    with Oracle() as oracle:
        for bits, codes, decoded in drawn(seed, SEQUENCES, each=1):
            safe = [row for row, insn in enumerate(decoded.insn) if names.of(insn) not in DANGEROUS]
            codes, decoded = codes[safe], decoded.rows(np.array(safe))
            lacking, ran = influence.examine(oracle, bits, codes, decoded, seed)
            executed, total = executed + int(ran.sum()), total + len(ran)
            for row, claim in sorted(lacking):
                name = names.of(decoded.insn[row])
                if masks.explanation("processor", claim, name) is None:
                    code = codes[row].tobytes()[: decoded.insn[row]["length"]]
                    unexplained.append(f"{bits} {code.hex()} ({name}) {claim}")
    assert executed > total / 2
    assert not unexplained, "\n".join(unexplained[:50])


@pytest.mark.timeout(300)
def test_masks_are_those_of_iced():
    names, theirs, unexplained, used, compared = Names(), effects.IcedMasks(), [], set(), 0
    for bits, codes, decoded in drawn(0, 2 * SEQUENCES, each=3):
        for row, insn in enumerate(decoded.insn):
            instruction = iced.decode(codes[row].tobytes()[:15], bits)
            if instruction.is_invalid or instruction.len != insn["length"]:
                continue
            compared += 1
            name, length = names.of(insn), int(insn["length"])
            found = effects.differences(effects.our_masks(decoded.effects[row]), theirs.of(instruction))
            for difference in found:
                entry = masks.explanation("iced", difference, name)
                used.add(entry)
                if entry is None:
                    unexplained.append(f"{bits} {codes[row].tobytes()[:length].hex()} ({name}) {difference}")
    assert compared > 10_000
    assert not unexplained, "\n".join(unexplained[:50])
    idle = [entry for entry in masks.entries() if entry.judge == "iced" and entry not in used]
    assert not idle, "listed without need"
