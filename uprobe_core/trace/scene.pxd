"""Where the tasks of a target stand while the world is stopped, and where their stacks say that they will return.

A signal handler returns to where the signal came; its frame, on the stack, has the address. So no word of any stack may
be an address inside bytes that are about to be replaced, nor inside a trampoline that is about to be freed.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from posix.types cimport pid_t

from uprobe_core.linux.maps cimport maps_t
from uprobe_core.trace.engine cimport engine_t

ctypedef struct standing_t:
    pid_t tid
    uint64_t ip, sp, fs_base

ctypedef struct scene_t:
    standing_t *tasks
    uint32_t count
    maps_t maps
    uint8_t *used      # of each trampoline: 1: a task is in it, or will return to it

# Looks at every task. 0 or -errno; then there is nothing to drop.
cdef int scene_take(scene_t *scene, engine_t *engine) noexcept nogil
cdef void scene_drop(scene_t *scene) noexcept nogil

# Reads all stacks: windows marked WINDOW_FRESH into which one leads become WINDOW_BUSY, trampolines `used`; so do those
# in which a task stands. 0 or -errno.
cdef int scene_search(scene_t *scene, engine_t *engine) noexcept nogil
