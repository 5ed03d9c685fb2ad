"""What is done at a hit, as an object that crosses from Python to the part that writes trampolines."""

from uprobe_core.abi cimport hitcode_t

cdef class HitPlan:
    cdef hitcode_t code
