"""A decoded instruction as a Python object."""

from libc.stdint cimport uint32_t, uint64_t

from uprobe_core.abi cimport effects_t, insn_t


cdef class Insn:
    cdef insn_t insn       # everything insn_decode found
    cdef uint64_t ip
    cdef object code       # exactly the instruction's bytes
    cdef uint32_t options  # that it was decoded with

    cdef effects_t effects(self)
    cdef bint is_direct(self)
