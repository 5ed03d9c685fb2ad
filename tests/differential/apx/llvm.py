"""LLVM's disassembler, through its C interface. Debian: libllvm22."""

import ctypes
import functools

import numpy as np
import numpy.typing as npt

VERSIONS = range(30, 18, -1)  # 19 is the first that knows all of APX
FEATURES = b"+egpr,+ndd,+ccmp,+nf,+push2pop2,+ppx,+zu"
# To LLVM a prefix with no effect is an instruction of its own.
PREFIXES = {
    *("lock", "rep", "repne", "xacquire", "xrelease", "data16", "data32", "addr16", "addr32"),
    *("cs", "ds", "es", "fs", "gs", "ss", "rex", "rex64"),
}


@functools.cache
def library() -> ctypes.CDLL | None:
    """The newest LLVM installed, or None."""
    for version in VERSIONS:
        for name in (f"libLLVM.so.{version}.1", f"libLLVM-{version}.so.1"):
            try:
                return ctypes.CDLL(name)
            except OSError:
                continue
    return None


@functools.cache
def disassembler() -> ctypes.c_void_p:
    """A disassembler for x86-64 with APX."""
    llvm = library()
    assert llvm is not None
    for part in ("TargetInfo", "TargetMC", "Disassembler"):
        getattr(llvm, f"LLVMInitializeX86{part}")()
    llvm.LLVMCreateDisasmCPUFeatures.restype = ctypes.c_void_p
    llvm.LLVMDisasmInstruction.restype = ctypes.c_size_t
    made = llvm.LLVMCreateDisasmCPUFeatures(b"x86_64-unknown-linux", b"", FEATURES, None, 0, None, None)
    return ctypes.c_void_p(made)


def available() -> bool:
    """Whether there is an LLVM that knows APX."""
    return library() is not None


def lengths(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The length of the instruction at the start of each 16-byte row; 0 where LLVM refuses it."""
    llvm, handle = library(), disassembler()
    assert llvm is not None
    out, text = np.zeros(len(codes), np.uint8), ctypes.create_string_buffer(128)
    size, address, room = ctypes.c_uint64(15), ctypes.c_uint64(0), ctypes.c_size_t(len(text))
    for row, code in enumerate(codes):
        length = llvm.LLVMDisasmInstruction(handle, code.tobytes(), size, address, text, room)
        words = text.value.decode().split()
        alone = len(words) == 1 and words[0] in PREFIXES
        out[row] = 0 if alone else length
    return out
