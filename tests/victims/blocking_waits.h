/* Blocking calls that wait for others or for time; see blocking.c. */
#ifndef BLOCKING_WAITS_H
#define BLOCKING_WAITS_H

static long futex_plain(kind_t *k) { return done(syscall(SYS_futex, k->memory, FUTEX_WAIT, 0, NULL, NULL, 0)); }
static long futex_timed(kind_t *k) { return done(syscall(SYS_futex, k->memory, FUTEX_WAIT, 0, &timeout, NULL, 0)); }
static long futex_absolute(kind_t *k)
{
    struct timespec at = later(CLOCK_MONOTONIC);
    return done(syscall(SYS_futex, k->memory, FUTEX_WAIT_BITSET, 0, &at, NULL, FUTEX_BITSET_MATCH_ANY));
}
static long futex_pi(kind_t *k)
{
    long result = done(syscall(SYS_futex, k->memory, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    return result ? result : done(syscall(SYS_futex, k->memory, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
}
static void end_pi(kind_t *k) { syscall(SYS_futex, k->memory, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0); }
static long futex_waitv(kind_t *k)
{
    struct { uint64_t val, uaddr; uint32_t flags, reserved; } one = {0, (uint64_t)k->memory, 2, 0};
    return done(syscall(449, &one, 1, 0, NULL, 0));
}
static long sleep_relative(kind_t *k) { (void)k; return done(syscall(SYS_nanosleep, &timeout, NULL)); }
static long sleep_clock(kind_t *k)
{
    (void)k;
    return done(syscall(SYS_clock_nanosleep, CLOCK_BOOTTIME, 0, &timeout, NULL));
}
static long sleep_absolute(kind_t *k)
{
    struct timespec at = later(CLOCK_MONOTONIC);
    (void)k;
    return done(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL));
}
static long sem_untimed(kind_t *k)
{
    struct sembuf take = {0, -1, 0};
    k->other = semget(IPC_PRIVATE, 1, 0600);
    return done(semop(k->other, &take, 1));
}
static void end_semaphore(kind_t *k)
{
    struct sembuf give = {0, 1, 0};
    semop(k->other, &give, 1);
}
static long sem_timed(kind_t *k)
{
    struct sembuf take = {0, -1, 0};
    k->other = semget(IPC_PRIVATE, 1, 0600);
    return done(semtimedop(k->other, &take, 1, &timeout));
}
struct letter { long type; char text[8]; };
static long message_receive(kind_t *k)
{
    struct letter letter;
    k->other = msgget(IPC_PRIVATE, 0600);
    return done(msgrcv(k->other, &letter, 8, 0, 0));
}
static void end_message(kind_t *k)
{
    struct letter letter = {1, "letter"};
    msgsnd(k->other, &letter, 8, 0);
}
static long message_send(kind_t *k)
{
    struct letter letter = {1, "letter"};
    k->other = msgget(IPC_PRIVATE, 0600);
    while (msgsnd(k->other, &letter, 8, IPC_NOWAIT) == 0)
        continue;
    return done(msgsnd(k->other, &letter, 8, 0));
}
static void end_message_send(kind_t *k)
{
    struct letter letter;
    msgrcv(k->other, &letter, 8, 0, 0);
}
static mqd_t queue_of(kind_t *k)
{
    struct mq_attr form = {.mq_maxmsg = 1, .mq_msgsize = 8};
    char name[64];
    snprintf(name, sizeof name, "/uprobes-%d-%s", getpid(), k->name);
    mqd_t queue = mq_open(name, O_RDWR | O_CREAT, 0600, &form);
    mq_unlink(name);
    return queue;
}
static long queue_receive(kind_t *k)
{
    struct timespec at = later(CLOCK_REALTIME);
    return done(mq_timedreceive(k->other = queue_of(k), page, 8, NULL, &at));
}
static long queue_untimed(kind_t *k) { return done(mq_receive(k->other = queue_of(k), page, 8, NULL)); }
static void end_queue(kind_t *k) { mq_send(k->other, "12345678", 8, 0); }
static long aio_untimed(kind_t *k)
{
    static aio_context_t context;
    struct io_event event;
    struct iocb block = {.aio_lio_opcode = IOCB_CMD_POLL, .aio_buf = POLLIN}, *blocks = &block;
    make_pipe(k);
    block.aio_fildes = (uint32_t)k->fd[0];
    syscall(SYS_io_setup, 4, &context);
    syscall(SYS_io_submit, context, 1, &blocks);
    return done(syscall(SYS_io_getevents, context, 1, 1, &event, NULL));
}
static long aio_timed(kind_t *k)
{
    static aio_context_t context;
    struct io_event event;
    (void)k;
    syscall(SYS_io_setup, 4, &context);
    return done(syscall(SYS_io_getevents, context, 1, 1, &event, &timeout));
}
/* One poll of a pipe is submitted; the call waits for its completion. */
static long ring_wait(kind_t *k, int timed)
{
    struct io_uring_params form = {0};
    int ring = (int)syscall(SYS_io_uring_setup, 4, &form);
    if (ring < 0)
        return -ENOSYS;
    uint64_t span[2] = {TIMEOUT_MS / 1000, TIMEOUT_MS % 1000 * 1000000};
    struct io_uring_getevents_arg argument = {.ts = (uint64_t)span};
    char *queue = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    struct io_uring_sqe *entries = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
    make_pipe(k);
    memset(entries, 0, sizeof *entries);
    entries->opcode = IORING_OP_POLL_ADD;
    entries->fd = k->fd[0];
    entries->poll32_events = POLLIN;
    *(uint32_t *)(queue + form.sq_off.array) = 0;
    atomic_store((_Atomic uint32_t *)(queue + form.sq_off.tail), 1);
    if (timed && syscall(SYS_io_uring_enter, ring, 1, 0, 0, NULL, 0) != 1)
        abort();
    if (timed)
        return done(syscall(SYS_io_uring_enter, ring, 0, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &argument,
                            sizeof argument));
    if (syscall(SYS_io_uring_enter, ring, 1, 0, 0, NULL, 0) != 1)
        abort();
    return done(syscall(SYS_io_uring_enter, ring, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0));
}
static long ring_untimed(kind_t *k) { return ring_wait(k, 0); }
static long ring_timed(kind_t *k) { return ring_wait(k, 1); }
static long signal_wait_timed(kind_t *k)
{
    sigset_t set;
    (void)k;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    return done(syscall(SYS_rt_sigtimedwait, &set, NULL, &timeout, 8));
}
static long signal_wait(kind_t *k)
{
    sigset_t set;
    (void)k;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    return done(syscall(SYS_rt_sigtimedwait, &set, NULL, NULL, 8));
}
static long receive_untimed(kind_t *k) { make_pair(k); return done(recv(k->fd[0], page, 8, 0)); }
static long receive_timed(kind_t *k)
{
    make_pair(k);
    limit(k->fd[0], SO_RCVTIMEO);
    return done(recv(k->fd[0], page, 8, 0));
}
static long receive_read_timed(kind_t *k)
{
    make_pair(k);
    limit(k->fd[0], SO_RCVTIMEO);
    return done(read(k->fd[0], page, 8));
}
static long receive_message_timed(kind_t *k)
{
    struct iovec part = {page, 8};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    make_pair(k);
    limit(k->fd[0], SO_RCVTIMEO);
    return done(recvmsg(k->fd[0], &message, 0));
}
static long receive_limited_woken(kind_t *k)
{
    make_pair(k);
    struct timeval span = {60, 0};
    setsockopt(k->fd[0], SOL_SOCKET, SO_RCVTIMEO, &span, sizeof span);
    return done(recv(k->fd[0], page, 8, 0));
}
static long receive_many(kind_t *k)
{
    struct iovec part = {page, 8};
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};
    make_pair(k);
    return done(recvmmsg(k->fd[0], &message, 1, 0, NULL));
}
static long accept_untimed(kind_t *k) { k->other = listener(k, 1); return done(accept(k->other, NULL, NULL)) >= 0; }
static void end_accept(kind_t *k) { connector(k, socket(AF_UNIX, SOCK_STREAM, 0)); }
static long accept_timed(kind_t *k)
{
    k->other = listener(k, 1);
    limit(k->other, SO_RCVTIMEO);
    return done(accept(k->other, NULL, NULL));
}
static long connect_full(kind_t *k)
{
    k->other = listener(k, 0);
    connector(k, socket(AF_UNIX, SOCK_STREAM, 0));
    return done(connector(k, socket(AF_UNIX, SOCK_STREAM, 0)));
}
static void end_connect(kind_t *k)
{
    accept(k->other, NULL, NULL);
}
static pid_t sleeper(kind_t *k)
{
    make_pipe(k);
    pid_t pid = fork();
    if (pid == 0) {
        close(k->fd[1]);
        _exit(read(k->fd[0], page, 8) == 8 ? 7 : 1);
    }
    return pid;
}
static long wait_child(kind_t *k)
{
    int status = 0;
    pid_t pid = sleeper(k);
    long result = syscall(SYS_wait4, pid, &status, 0, NULL);
    return result == pid ? WEXITSTATUS(status) : -errno;
}
static long waitid_child(kind_t *k)
{
    siginfo_t info;
    long result = waitid(P_PID, (id_t)sleeper(k), &info, WEXITED);
    return result == 0 ? info.si_status : -errno;
}
static int open_lock(kind_t *k)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, k->name);
    return open(path, O_CREAT | O_RDWR, 0600);
}
static long lock_file(kind_t *k)
{
    flock(k->fd[1] = open_lock(k), LOCK_EX);
    return done(flock(open_lock(k), LOCK_EX));
}
static void end_lock(kind_t *k) { close(k->fd[1]); }
static long lock_record(kind_t *k)
{
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    fcntl(k->fd[1] = open_lock(k), F_OFD_SETLK, &all);
    return done(fcntl(open_lock(k), F_OFD_SETLKW, &all));
}
static void ignore(int number) { (void)number; }
static long pause_call(kind_t *k) { (void)k; return done(syscall(SYS_pause)); }
static long suspend_call(kind_t *k)
{
    sigset_t none;
    (void)k;
    sigemptyset(&none);
    return done(sigsuspend(&none));
}

#endif
