"""Where mutation starts: the golden instructions and code of this very interpreter."""

import functools
import sys

import numpy as np

from tests.differential.code import text_of
from tests.differential.spaces import WIDTH, Codes
from tests.golden import cases
from tests.oracle.oracle import pack


@functools.cache
def seeds() -> Codes:
    """Rows of 16 bytes that mostly start an instruction."""
    golden = np.array([pack(case.code) for case in cases()])
    text = np.frombuffer(text_of(sys.executable)[: 1 << 16], np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(text, WIDTH)[::7]
    return np.concatenate([golden, windows])
