"""Builds the Cython core: one extension per .pyx file under uprobe_core/, all on the stable ABI of 3.11.

UPROBES_BUILD chooses how: release (default), debug (bounds and overflow checks), sanitize (ASan and
UBSan), coverage (line tracing). UPROBES_WERROR=1 makes every warning of gcc and Cython fail the build.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

CORE = Path("uprobe_core")
MODE = os.environ.get("UPROBES_BUILD", "release")
WERROR = os.environ.get("UPROBES_WERROR", "") not in ("", "0")
LIMITED_API = "0x030B0000"
# What Cython would else repeat in every extension; with it, objects and build time are about half.
SHARED = "uprobe_core._cyutility"

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


def extension(name: str, source: Path) -> Extension:
    """An extension of the core, on the stable ABI."""
    return Extension(
        name,
        [str(source)],
        include_dirs=[str(CORE), str(CORE / "x86")],
        depends=[str(header) for header in sorted(CORE.rglob("*.h"))],
        define_macros=[("Py_LIMITED_API", LIMITED_API)],
        extra_compile_args=[
            *COMPILE_ARGS[MODE],
            "-fvisibility=hidden",
            "-Wall",
            "-Wextra",
            *(["-Werror"] if WERROR else []),
        ],
        extra_link_args=LINK_ARGS.get(MODE, []),
        py_limited_api=True,
    )


def extensions() -> list[Extension]:
    """One extension per .pyx file, named by its place under the package, and the one that they share."""
    cython = [
        extension(".".join(source.with_suffix("").parts), source) for source in sorted(CORE.rglob("*.pyx"))
    ]
    shared = extension(SHARED, Path(*SHARED.split(".")).with_suffix(".c"))
    Options.warning_errors = WERROR
    return cythonize(
        [*cython, shared],
        compiler_directives=DIRECTIVES,
        shared_utility_qualified_name=SHARED,
        nthreads=os.cpu_count() or 1,
    )


class BuildExt(build_ext):
    """Compiles on every processor, and leaves the build machine's library paths out of the result."""

    def finalize_options(self) -> None:
        """Set the number of compilers that run at a time."""
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self) -> None:
        """Drop the interpreter's own run paths: an extension on the stable ABI links no libpython."""
        self.compiler.linker_so = [
            word for word in self.compiler.linker_so if not word.startswith(("-Wl,-rpath", "-L"))
        ]
        self.compiler.library_dirs = []
        self.compiler.runtime_library_dirs = []
        super().build_extensions()


class StableAbiWheel(bdist_wheel):
    """A wheel tagged for every CPython from 3.11 on."""

    def finalize_options(self) -> None:
        """Set the tag after the defaults are known."""
        self.py_limited_api = "cp311"
        super().finalize_options()


setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildExt, "bdist_wheel": StableAbiWheel},
)
