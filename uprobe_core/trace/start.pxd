"""Bringing a target that we started to its first own instruction, with its libraries loaded."""

from libc.stdint cimport uint64_t

from uprobe_core.trace.engine cimport engine_t

# The target, at the stop of its exec, runs up to `vaddr` (the program's entry point, called by the dynamic linker when it
# is done) and is kept there. 0, or -errno; -ESRCH: it ended before.
cdef int target_run_to(engine_t *engine, uint64_t vaddr) noexcept nogil

# Lets a task that is kept so go on.
cdef int target_go(engine_t *engine) noexcept nogil
