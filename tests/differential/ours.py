"""Our decoder over arrays of byte sequences, through a test-only extension compiled at first use."""

import functools
import importlib.util
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt

from tests.oracle.build import CACHE, ROOT, fingerprint

# fmt: off
BYTES = (
    "length", "bits", "encoding", "map", "opcode", "pp", "prefixes", "segment", "rex", "rex_high", "vvvv",
    "vector_length", "evex", "modrm", "sib", "opcode_off", "modrm_off", "has_sib", "disp_off", "disp_size",
    "imm_off", "imm_size", "operand_size", "address_size", "flow", "step", "prefix_len",
)
# fmt: on
INSN = np.dtype(
    [
        ("target", "<u8"),
        ("imm", "<i8"),
        ("disp", "<i4"),
        ("attrs", "<u4"),
        ("row", "<u2"),
        *((name, "u1") for name in BYTES),
        ("rest", "u1", 11),
    ]
)
EFFECTS = np.dtype(
    [(name, "<u4") for name in ("reads", "writes", "kills", "flags_read", "flags_written", "flags_undefined")]
)
FLOW_NEXT = 0
ENC_VEX, ENC_EVEX, ENC_XOP = 2, 3, 4  # enum insn_encoding
IP = 0x10000000


@dataclass(frozen=True)
class Decoded:
    """Our answers for an array of byte sequences, one row each."""

    status: npt.NDArray[np.uint8]
    insn: npt.NDArray[np.void]
    effects: npt.NDArray[np.void]

    @property
    def lengths(self) -> npt.NDArray[np.uint8]:
        """The length of each instruction; 0 where we refuse it."""
        return np.where(self.status == 0, self.insn["length"], 0).astype(np.uint8)

    def rows(self, rows: npt.NDArray[np.int64]) -> "Decoded":
        """The answers for some of the sequences."""
        return Decoded(self.status[rows], self.insn[rows], self.effects[rows])


@functools.cache
def extension() -> ModuleType:
    """The compiled bulk.pyx, built where the cache has none for these sources."""
    source = Path(__file__).with_name("bulk.pyx")
    contracts = [ROOT / "uprobe_core" / name for name in ("abi.h", "abi.pxd", "x86/decode.pxd", "x86/effects.pxd")]
    folder = CACHE / f"bulk-{fingerprint([source, *contracts], [sys.version])}"
    built = folder / f"bulk{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not built.exists():
        compile_extension(source, built)
    spec = importlib.util.spec_from_file_location("bulk", built)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compile_extension(source: Path, built: Path) -> None:
    """Compile one .pyx against the contracts of uprobe_core into `built`."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    core = ROOT / "uprobe_core"
    built.parent.mkdir(parents=True, exist_ok=True)
    module = Extension(
        "bulk", [str(source)], include_dirs=[str(core), str(core / "x86")], extra_compile_args=["-O2"]
    )
    modules = cythonize(
        [module], include_path=[str(ROOT)], build_dir=str(built.parent), language_level=3, quiet=True
    )
    distribution = Distribution({"name": "bulk", "ext_modules": modules})
    command = distribution.get_command_obj("build_ext")
    command.build_lib = command.build_temp = str(built.parent)
    command.ensure_finalized()
    command.run()


def decode(
    codes: npt.NDArray[np.uint8], bits: npt.NDArray[np.uint8], options: int, size: int = 16, ip: int = IP
) -> Decoded:
    """Decode the first `size` bytes of every row at `ip`."""
    count = len(codes)
    status = np.zeros(count, np.uint8)
    insn, effects = np.zeros(count, INSN), np.zeros(count, EFFECTS)
    raw = (array.view(np.uint8).reshape(count, array.itemsize) for array in (insn, effects))
    extension().decode(np.ascontiguousarray(codes), bits, options, size, ip, status, *raw)
    return Decoded(status, insn, effects)


def mnemonic(insn: np.void) -> str:
    """The mnemonic of one decoded row."""
    return str(extension().mnemonic(np.frombuffer(insn.tobytes(), np.uint8)))
