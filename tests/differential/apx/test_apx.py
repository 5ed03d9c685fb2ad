"""APX against LLVM and libopcodes; explained.py lists where they differ and why.

What they make of an instruction without APX is judged elsewhere: where they already differ on the twin of a
sequence, nothing follows from what they say of it with APX.
"""

from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest

from tests.differential import ours
from tests.differential.apx import explained, libopcodes, llvm
from tests.differential.apx.spaces import extended, map4, promoted, rex2, without_apx
from tests.differential.spaces import Codes

SEED = 20
PER_SPACE = 40_000
JUDGES = {explained.LLVM: llvm, explained.LIBOPCODES: libopcodes}


def our_lengths(codes: Codes) -> npt.NDArray[np.uint8]:
    extension = ours.extension()
    return ours.decode(codes, np.full(len(codes), 64, np.uint8), int(extension.INTEL | extension.APX)).lengths


def our_length(code: bytes) -> int:
    return int(our_lengths(np.frombuffer(code, np.uint8).reshape(1, 16))[0])


def rows(codes: list[bytes]) -> Codes:
    return np.frombuffer(b"".join(codes), np.uint8).reshape(len(codes), 16)


@pytest.fixture(scope="module", params=["rex2", "map4", "promoted", "extended"])
def sequences(request) -> tuple[str, Codes, npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(SEED)
    spaces = {"rex2": rex2, "map4": map4, "promoted": promoted}
    if request.param == "extended":
        codes = extended(rng, 8 * PER_SPACE)
        codes = codes[our_lengths(np.array([twin(code) for code in codes])) > 0][:PER_SPACE]
    else:
        codes = spaces[request.param]().sample(rng, PER_SPACE)
    return request.param, codes, our_lengths(codes)


def twin(code: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Without APX; the sequence itself where it has no twin."""
    return np.frombuffer(without_apx(code.tobytes()) or code.tobytes(), np.uint8)


def believable(judge: ModuleType, codes: Codes) -> npt.NDArray[np.bool_]:
    """Whether the judge agrees on the twins, where there are any."""
    twins = [without_apx(code.tobytes()) for code in codes]
    known = rows([made or bytes(16) for made in twins])
    agrees = judge.lengths(known) == our_lengths(known)
    return agrees | np.array([made is None for made in twins])


@pytest.mark.parametrize("name", JUDGES)
def test_other_decoders_agree(sequences, name):
    judge = JUDGES[name]
    if not judge.available():
        pytest.skip(f"no {name} that knows APX is installed")
    space, codes, lengths = sequences
    theirs = judge.lengths(codes)
    differing = np.flatnonzero(theirs != lengths)
    differing = differing[believable(judge, codes[differing])] if len(differing) else differing
    unexplained = []
    for row in differing:
        code = codes[row].tobytes()
        case = explained.Disagreement(name, code, int(lengths[row]), int(theirs[row]), our_length)
        if explained.reason(case) is None:
            unexplained.append(f"{code.hex()}: {lengths[row]} here, {theirs[row]} there")
    assert np.count_nonzero(lengths) > len(codes) / 30, space
    assert not unexplained, f"{len(unexplained)} unexplained\n" + "\n".join(unexplained[:30])


def test_without_the_flag_there_is_no_apx(sequences):
    _, codes, lengths = sequences
    plain = ours.decode(codes, np.full(len(codes), 64, np.uint8), int(ours.extension().INTEL)).lengths
    starts = np.isin(codes[:, 0], (0xD5,)) | (codes[:, 0] == 0x62) & (codes[:, 1] & 7 == 4)
    assert np.count_nonzero(lengths[starts]) > 0 or not starts.any()
    assert not plain[starts].any()
