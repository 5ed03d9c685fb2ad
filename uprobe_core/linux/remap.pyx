"""Exchanging what is behind a mapping of ours, which stays where it is."""

import os

from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint64_t
from posix.mman cimport MAP_FAILED, MAP_FIXED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap

cdef extern from "<sys/mman.h>" nogil:
    const int MAP_NORESERVE

cdef enum:
    PAGE = 4096


def remap(memory not None, int descriptor):
    """Let `memory`, a writable buffer of whole pages, show the file behind `descriptor` from now on, from its start.

    Whoever has its address keeps it. What was in it is gone. Raises OSError; then nothing has changed.
    """
    cdef uint8_t[::1] view = memory
    cdef void *place = &view[0]
    if <uint64_t>place % PAGE or view.shape[0] % PAGE:
        raise ValueError("memory that is not made of whole pages cannot be mapped anew")
    if mmap(place, view.shape[0], PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, descriptor,
            0) == MAP_FAILED:
        raise OSError(errno, os.strerror(errno))
