"""Waiting until no thread has anything of ours before it: for a target whose tracer was killed, in which threads may have
been sent to slots by the handler of traps, and signals may have interrupted them there.
"""

from uprobe_core.trace.engine cimport engine_t

# Whether a held task stands in an area, or in the handler of traps, or has an address of theirs on its stack (a signal
# frame that leads back there).
cdef bint areas_in_use(engine_t *engine) noexcept nogil
