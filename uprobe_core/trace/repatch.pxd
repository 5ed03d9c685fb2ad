"""Changing windows while the world is stopped. Every function here expects that, and leaves it so."""

from libc.stdint cimport uint32_t

from uprobe_core.trace.engine cimport engine_t

# Brings the text of these windows to what is prepared for them: tasks inside the bytes are moved into the trampoline, then
# the patches are written. Windows into which a stack leads are left alone and marked WINDOW_BUSY. 0, STATUS_TRY_AGAIN
# (some are busy), STATUS_CHANGED, or -errno.
cdef int windows_apply(engine_t *engine, const uint32_t *windows, size_t count) noexcept nogil

# The sites of these windows, which are planned for it, are served by traps from now on.
# 0, STATUS_CHANGED, or -errno.
cdef int windows_demote(engine_t *engine, const uint32_t *windows, size_t count) noexcept nogil

# Frees trampolines that nothing leads to and nobody is in. How many, or -errno.
cdef int trampolines_reclaim(engine_t *engine) noexcept nogil

# Whether a jump of ours is in the text.
cdef bint windows_are_armed(const engine_t *engine) noexcept nogil

# Takes all jumps back, and all tasks out of trampolines. True: nobody will ever come to one again, or to a board.
cdef bint windows_leave(engine_t *engine) noexcept nogil
