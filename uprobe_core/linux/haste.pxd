"""Priority over the target's threads, for as long as these wait for us: a thousand that can run would otherwise each take
their turn before we take ours.
"""

# Real-time priority, if we may have it (root, CAP_SYS_NICE, RLIMIT_RTPRIO); nothing happens otherwise. Not nested: the
# first haste_end ends it.
cdef void haste_begin() noexcept nogil
cdef void haste_end() noexcept nogil
