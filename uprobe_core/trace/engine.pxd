"""One target as the tracer sees it. Everything here belongs to the tracer thread; only site counts are read elsewhere."""

from libc.stdint cimport uint32_t, uint64_t
from posix.types cimport pid_t

from uprobe_core.abi cimport regs_t
from uprobe_core.linux.twin cimport twin_t
from uprobe_core.patch.text cimport text_t
from uprobe_core.trace.taps cimport taps_t
from uprobe_core.trace.tasks cimport tasks_t

# Defined below.
cdef struct engine_t

cdef enum loop_event:
    LOOP_NONE
    LOOP_BELL      # somebody rang: look at the commands
    LOOP_HIT       # task `hit_tid` stands at site `hit_site`, whose hits go to a callback; `hit_regs` are its registers
    LOOP_EXEC      # the target executed another program: all sites are gone
    LOOP_ENDED     # the target ended: exit_code, exit_signal
    LOOP_AREA      # an arena is gone from the target; whoever ran into the gap stands at its site again
    LOOP_IN_PLACE  # the task at the hit must run its instruction in place
    LOOP_ORPHANED  # the host died
    LOOP_CHILD     # the process has a child, `child_tid` of the family, that stands before its first instruction

cdef enum children_policy:
    CHILDREN_CLEAN   # children get the original text back and are let go
    CHILDREN_FOLLOW # children become targets of their own

# The processes that one tracer serves: a target, and those of its descendants that are followed.
cdef struct family_t:
    twin_t twin
    engine_t *first
    engine_t *current    # of the last event
    pid_t child_tid
    bint child_executes  # the child of LOOP_CHILD shared its parent's memory until now, when it executes another program
    uint64_t alarm_ns    # when the bell rings by itself; 0: never
    # which processor the tracer is kept on
    int processor
    uint32_t until_follow

cdef struct engine_t:
    family_t *family
    engine_t *next
    const engine_t *parent  # of a followed child, until it is adopted
    int children            # enum children_policy
    pid_t pid
    bint ended
    int exit_code
    int exit_signal
    text_t text
    tasks_t tasks
    uint64_t unmap_gadget # a `syscall` in the target outside all arenas, for unmapping them at the end; 0: none known
    # the hit being served, or waiting for its callback
    pid_t hit_tid
    uint32_t hit_site
    regs_t hit_regs
    # counters
    uint64_t stops        # all stops served
    uint64_t replayed     # hits taken back because a signal came first; they came again
    taps_t taps           # what is counted and recorded at stops, beside the sites' own counts
