"""status.h for Cython: what core functions return, and how it becomes an exception."""

cdef extern from "status.h" nogil:
    cpdef enum status:
        STATUS_OK
        STATUS_EMPTY
        STATUS_TRUNCATED
        STATUS_TOO_LONG
        STATUS_INVALID
        STATUS_LOCK
        STATUS_PREFIX
        STATUS_TRY_AGAIN
        STATUS_REFUSED
        STATUS_CHANGED
        STATUS_NO_ROOM
        STATUS_GONE
        STATUS_COUNT
