"""One target as the tracer sees it. Everything here belongs to the tracer thread; only site counts are read elsewhere."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.types cimport pid_t

from uprobe_core.abi cimport regs_t
from uprobe_core.linux.remote_call cimport gadget_t
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
    CHILDREN_CLEAN  # children get the original text back and are let go
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

cdef enum:
    HEAT_COUNT = 64
    THROTTLE_MAX = 256

# What the recent hits of a site took, of sites whose numbers fall on the same place the latest.
ctypedef struct heat_t:
    uint32_t site
    uint64_t hits
    uint64_t spent_ns
    uint64_t since_ns

# A site that was disarmed for a while because the target's budget was spent (see budget.pxd).
ctypedef struct throttle_t:
    uint32_t site
    uint32_t times
    uint64_t since_ns
    uint64_t until_ns  # 0: it is armed
    uint64_t rest_ns
    uint64_t off_ns    # how long it was disarmed, in all
    uint64_t lost      # hits that it missed, at least
    double rate        # hits in a nanosecond when it was disarmed

cdef struct engine_t:
    family_t *family
    engine_t *next
    const engine_t *parent  # of a followed child, until it is adopted
    int children            # enum children_policy
    pid_t pid
    bint ended
    bint adopted          # what is in the target was put there by a tracer that is dead
    bint unclean          # the last leave had to let something of ours stay: a thread stood in it
    int exit_code
    int exit_signal
    text_t text
    tasks_t tasks
    char *journal_path    # removed when all is taken back; NULL: there is none
    gadget_t gadget       # for system calls, which heals; vaddr 0: there is none yet
    uint64_t unmap_gadget # a `syscall` in the target outside all arenas, for unmapping them at the end; 0: none known
    # for calls before there is that gadget: code of the target's own that makes rt_sigreturn (0: none known), and where its
    # stacks are, start and end of each
    uint64_t restorer_vaddr
    uint64_t *stacks
    size_t stack_count
    # the hit being served, or waiting for its callback
    pid_t hit_tid
    uint32_t hit_site
    regs_t hit_regs
    # the budget
    double budget         # seconds of stops in a second; 0: no limit
    int64_t account_ns
    uint64_t account_at_ns
    uint64_t hit_began_ns # of the stop that is being served, or waits for its callback
    heat_t heat[HEAT_COUNT]
    throttle_t throttles[THROTTLE_MAX]
    uint32_t throttle_count
    # counters
    uint64_t stops        # all stops served
    uint64_t replayed     # hits taken back because a signal came first; they came again
    taps_t taps           # what is counted and recorded at stops, beside the sites' own counts
