"""One target as the tracer sees it. Everything here belongs to the tracer thread; only site counts are read elsewhere."""

from libc.stdint cimport uint32_t, uint64_t
from posix.types cimport pid_t

from uprobe_core.abi cimport regs_t
from uprobe_core.linux.remote_call cimport gadget_t
from uprobe_core.linux.twin cimport twin_t
from uprobe_core.patch.text cimport text_t
from uprobe_core.trace.taps cimport taps_t
from uprobe_core.trace.tasks cimport tasks_t

cdef enum loop_event:
    LOOP_NONE
    LOOP_BELL      # somebody rang: look at the commands
    LOOP_HIT       # task `hit_tid` stands at site `hit_site`, whose hits go to a callback; `hit_regs` are its registers
    LOOP_EXEC      # the target executed another program: all sites are gone
    LOOP_ENDED     # the target ended: exit_code, exit_signal
    LOOP_AREA      # an arena is gone from the target; whoever ran into the gap stands at its site again
    LOOP_IN_PLACE  # the task at the hit must run its instruction in place
    LOOP_ORPHANED  # the host died

ctypedef struct engine_t:
    pid_t pid
    bint ended
    bint adopted          # what is in the target was put there by a tracer that is dead
    bint keeps            # leave lets jumps stand
    bint trap_waits       # the world is stopped, and a trap of ours waits for a task in a group stop
    int unclean           # errno: the leave had to let something of ours stay, as where a thread stood in it (EBUSY)
    int exit_code
    int exit_signal
    text_t text
    tasks_t tasks
    twin_t twin
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
    # counters
    uint64_t stops        # all stops served
    uint64_t replayed     # hits taken back because a signal came first; they came again
    uint64_t alarm_ns     # when the bell rings by itself; 0: never
    # which processor the tracer is kept on
    int processor
    uint32_t until_follow
    taps_t taps           # what is counted and recorded at stops, beside the sites' own counts
