"""Feed the decoder bytes from heap blocks of exactly their size, in a process built with ASan and UBSan.

    python -m tests.fuzz.memory --seed 1 --sequences 1000000

A read past the given bytes, an overflow or a bad shift ends the process with a report. build_sanitized()
makes the build, command() and environment() say how to run it; test_memory.py runs a bounded part.
"""

import argparse
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.differential import ours
from tests.differential.apx.spaces import map4, promoted, rex2
from tests.differential.seeds import seeds
from tests.differential.spaces import campaign
from tests.oracle.build import CACHE, ROOT, compiler, fingerprint

PARTS = ("abi", "status")  # besides x86/: all that the decoder needs of the core
SOURCES = (".pyx", ".pxd", ".h", ".py", ".txt")


def build_sanitized() -> Path:
    """A copy of the core's pure part, built with UPROBES_BUILD=sanitize; its path."""
    core = ROOT / "uprobe_core"
    wanted = [
        path for path in core.rglob("*") if path.suffix in SOURCES and is_needed(path.relative_to(core))
    ]
    tree = CACHE / f"sanitized-{fingerprint([*wanted, ROOT / 'setup.py'], [sys.version])}"
    if not (tree / "done").exists():
        for path in [*wanted, ROOT / "setup.py", ROOT / "pyproject.toml"]:
            place = tree / path.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, place)
        build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        subprocess.run(build, cwd=tree, env={**os.environ, "UPROBES_BUILD": "sanitize"}, check=True)
        (tree / "done").touch()
    return tree


def is_needed(path: Path) -> bool:
    """Whether a file of the core belongs to its pure part."""
    return path.parts[0] == "x86" or path.stem in PARTS or path.stem == "__init__"


def environment(tree: Path) -> dict[str, str]:
    """What the sanitized build needs: its runtime loaded first, and itself found first."""
    runtime = subprocess.run(
        [compiler() or "cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return {
        **os.environ,
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "PYTHONPATH": f"{tree}:{ROOT}",
    }


def command(seed: int, sequences: int) -> list[str]:
    """The command line of one bounded run."""
    return [sys.executable, "-m", __name__, "--seed", str(seed), "--sequences", str(sequences)]


def main() -> None:
    parser = argparse.ArgumentParser(description="decode from exact-size heap blocks")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sequences", type=int, default=100_000)
    given = parser.parse_args()
    extension = ours.extension()
    rng = np.random.default_rng(given.seed)
    options = [
        mode | vendor | apx
        for mode in (extension.BITS_64, extension.BITS_32)
        for vendor in (extension.AMD, extension.INTEL)
        for apx in (0, extension.APX)
    ]
    total = decoded = 0
    batches = itertools.chain(
        (codes for _, _, codes in campaign(given.seed, given.sequences, seeds(), 4096)),
        (space().sample(rng, 4096) for space in (rex2, map4, promoted) for _ in options),
    )
    for batch, codes in enumerate(batches):
        sizes = rng.integers(0, codes.shape[1] + 1, len(codes), np.uint8)
        decoded += extension.decode_exact(codes, sizes, options[batch % len(options)])
        total += len(codes)
    print(f"{total} sequences, {decoded} bytes decoded")


if __name__ == "__main__":
    main()
