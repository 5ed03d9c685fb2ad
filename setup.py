"""Builds the Cython core: one extension per .pyx file under uprobe_core/, all on the stable ABI of 3.11.

UPROBES_BUILD chooses how: release (default), debug (bounds and overflow checks), sanitize (ASan and
UBSan), coverage (line tracing).
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel

CORE = Path("uprobe_core")
MODE = os.environ.get("UPROBES_BUILD", "release")
LIMITED_API = "0x030B0000"

COMPILE_ARGS = {
    "release": ["-O2", "-g"],
    "debug": ["-O0", "-g3"],
    "sanitize": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"],
    "coverage": ["-O0", "-g"],
}
LINK_ARGS = {"sanitize": ["-fsanitize=address,undefined"]}
DIRECTIVES = {
    "language_level": 3,
    "binding": False,
    "boundscheck": MODE == "debug",
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "linetrace": MODE == "coverage",
}

if MODE not in COMPILE_ARGS:
    raise SystemExit(f"UPROBES_BUILD={MODE}: unknown; one of {', '.join(COMPILE_ARGS)}")


def extension(source: Path) -> Extension:
    """The extension of one .pyx file, named by its place under the package."""
    return Extension(
        ".".join(source.with_suffix("").parts),
        [str(source)],
        include_dirs=[str(CORE), str(CORE / "x86")],
        depends=[str(header) for header in sorted(CORE.rglob("*.h"))],
        define_macros=[("Py_LIMITED_API", LIMITED_API)],
        extra_compile_args=[*COMPILE_ARGS[MODE], "-fvisibility=hidden", "-Wall", "-Wextra"],
        extra_link_args=LINK_ARGS.get(MODE, []),
        py_limited_api=True,
    )


class StableAbiWheel(bdist_wheel):
    """A wheel tagged for every CPython from 3.11 on."""

    def finalize_options(self) -> None:
        """Set the tag after the defaults are known."""
        self.py_limited_api = "cp311"
        super().finalize_options()


setup(
    ext_modules=cythonize(
        [extension(source) for source in sorted(CORE.rglob("*.pyx"))],
        compiler_directives=DIRECTIVES,
        nthreads=os.cpu_count() or 1,
    ),
    cmdclass={"bdist_wheel": StableAbiWheel},
)
