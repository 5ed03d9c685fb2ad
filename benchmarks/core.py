"""Compiles benchmarks/loops.pyx against the core of this tree, and gives the module."""

import importlib.util
import os
import sysconfig
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "benchmarks" / "loops.pyx"


@cache
def load_loops() -> ModuleType:
    """The module `loops`, compiled anew where the core is newer than it."""
    built = ROOT / "build" / "benchmarks" / f"loops{sysconfig.get_config_var('EXT_SUFFIX')}"
    newest = max(path.stat().st_mtime for path in [SOURCE, *(ROOT / "uprobe_core").rglob("*.p[yx][xd]")])
    if not built.exists() or built.stat().st_mtime < newest:
        _compile(built.parent)
    spec = importlib.util.spec_from_file_location("loops", built)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _compile(folder: Path) -> None:
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    core = ROOT / "uprobe_core"
    folder.mkdir(parents=True, exist_ok=True)
    extension = Extension(
        "loops", [str(SOURCE)], include_dirs=[str(core), str(core / "x86")], extra_compile_args=["-O2"]
    )
    before = os.getcwd()
    os.chdir(ROOT)  # cimports are found from here
    try:
        modules = cythonize(
            [extension],
            build_dir=str(folder),
            compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False},
            quiet=True,
        )
        command = Distribution({"name": "loops", "ext_modules": modules}).get_command_obj("build_ext")
        command.build_lib = command.build_temp = str(folder)
        command.ensure_finalized()
        command.run()
    finally:
        os.chdir(before)
