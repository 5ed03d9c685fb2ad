"""Signal frames: see sigframe.pxd."""

from libc.errno cimport E2BIG, errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from uprobe_core.linux.ptrace cimport SYS_ptrace, iovec_t, syscall

cdef extern from "linux/sigframe.h" nogil:
    ctypedef struct sigframe_t:
        uint64_t restorer, flags, stack_flags
        uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags
        uint16_t cs, ss
        uint64_t fpstate_vaddr, mask
    ctypedef struct xstate_words_t:
        uint32_t magic1, extended_size
        uint64_t features
        uint32_t xstate_size
    const int UC_XSTATE
    const int UC_STACK_SEGMENT
    const int UC_STACK_STRICT
    const int XSTATE_WORDS_OFF
    const int XSTATE_HEADER_OFF
    const int XSTATE_MIN
    const int XSTATE_TILE_DATA
    const uint32_t XSTATE_MAGIC1
    const uint32_t XSTATE_MAGIC2
    uint32_t xstate_end(uint64_t features)

cdef extern from "<sys/ptrace.h>" nogil:
    const int PTRACE_GETREGSET

cdef extern from "<elf.h>" nogil:
    const int NT_X86_XSTATE
    const int NT_PRFPREG

cdef enum:
    FPSTATE_OFF = 512         # in our frames: behind sigframe_t, aligned for xrstor
    NO_STACK = 0x7fffffff     # flags that sigaltstack refuses, which rt_sigreturn overlooks: the alternate stack stays
    ERESTARTSYS = 512         # the kernel's own, include/linux/errno.h
    ERESTART_RESTARTBLOCK = 516


cdef long fpstate_get(pid_t tid, int note, uint8_t *out, size_t room) noexcept nogil:
    cdef iovec_t what
    what.iov_base = out
    what.iov_len = room
    if syscall(SYS_ptrace, <long>PTRACE_GETREGSET, <long>tid, <long>note, <long>&what) < 0:
        return -errno
    return <long>what.iov_len


cdef long xstate_make(pid_t tid, uint8_t *out, size_t room) noexcept nogil:
    """The state as a signal frame has it. The kernel looks for its end mark where the task's own state ends (Linux
    arch/x86/kernel/fpu/signal.c, check_xstate_in_sigframe), which depends on whether it was given AMX tiles."""
    cdef xstate_words_t *words = <xstate_words_t *>(out + XSTATE_WORDS_OFF)
    cdef uint32_t magic = XSTATE_MAGIC2
    cdef uint64_t supported, used
    cdef uint32_t whole, usual
    cdef long size = fpstate_get(tid, NT_X86_XSTATE, out, room - sizeof(magic))
    if size < XSTATE_MIN:
        return size if size < 0 else -E2BIG
    supported = (<uint64_t *>(out + XSTATE_WORDS_OFF))[0]  # the kernel tells a debugger so
    used = (<uint64_t *>(out + XSTATE_HEADER_OFF))[0]
    whole = xstate_end(supported)
    usual = xstate_end(supported & ~(<uint64_t>1 << XSTATE_TILE_DATA))
    if whole > size:
        return -E2BIG
    if not used >> XSTATE_TILE_DATA & 1:
        supported &= ~(<uint64_t>1 << XSTATE_TILE_DATA)
        if whole != usual:
            memcpy(out + whole, &magic, sizeof(magic))
        memcpy(out + usual, &magic, sizeof(magic))
        size = usual
    else:
        memcpy(out + whole, &magic, sizeof(magic))
        size = whole
    words.magic1 = XSTATE_MAGIC1
    words.extended_size = <uint32_t>size + sizeof(magic)
    words.features = supported
    words.xstate_size = <uint32_t>size
    return whole + sizeof(magic)


cdef inline bint call_was_interrupted(const regs_t *regs) noexcept nogil:
    cdef int64_t result = <int64_t>regs.rax
    return (<int64_t>regs.orig_rax >= 0
            and (-ERESTARTSYS >= result >= -ERESTARTSYS - 2 or result == -ERESTART_RESTARTBLOCK))


cdef void frame_fill(sigframe_t *frame, const regs_t *regs, uint64_t mask) noexcept nogil:
    frame.stack_flags = NO_STACK
    frame.r8, frame.r9, frame.r10, frame.r11 = regs.r8, regs.r9, regs.r10, regs.r11
    frame.r12, frame.r13, frame.r14, frame.r15 = regs.r12, regs.r13, regs.r14, regs.r15
    frame.rdi, frame.rsi, frame.rbp, frame.rbx = regs.rdi, regs.rsi, regs.rbp, regs.rbx
    frame.rdx, frame.rax, frame.rcx, frame.rsp = regs.rdx, regs.rax, regs.rcx, regs.rsp
    frame.rip, frame.eflags = regs.rip, regs.eflags
    frame.cs, frame.ss = <uint16_t>regs.cs, <uint16_t>regs.ss
    frame.mask = mask
    if call_was_interrupted(regs):
        # rt_sigreturn forgets what is left of a call's time (restart_block): it waits for the whole of it again.
        frame.rax = regs.orig_rax
        frame.rip -= 2


cdef long sigframe_make(pid_t tid, const regs_t *regs, uint64_t mask, uint64_t frame_vaddr, uint64_t restorer_vaddr,
                        uint8_t *out) noexcept nogil:
    cdef sigframe_t *frame = <sigframe_t *>out
    cdef long size
    memset(out, 0, SIGFRAME_MAX)
    frame_fill(frame, regs, mask)
    frame.restorer = restorer_vaddr
    frame.flags = UC_STACK_SEGMENT | UC_STACK_STRICT
    frame.fpstate_vaddr = frame_vaddr + FPSTATE_OFF
    size = xstate_make(tid, out + FPSTATE_OFF, SIGFRAME_MAX - FPSTATE_OFF)
    if size >= 0:
        frame.flags |= UC_XSTATE
    else:
        # A processor without XSAVE.
        size = fpstate_get(tid, NT_PRFPREG, out + FPSTATE_OFF, SIGFRAME_MAX - FPSTATE_OFF)
    return size if size < 0 else FPSTATE_OFF + size
