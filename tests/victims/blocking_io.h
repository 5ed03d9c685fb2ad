/* Blocking calls on descriptors; see blocking.c. */
#ifndef BLOCKING_IO_H
#define BLOCKING_IO_H

/* ---- ways to end a call */

static void end_write(kind_t *k) { if (write(k->fd[1], "12345678", 8) < 0) abort(); }
static void end_read(kind_t *k) { while (read(k->fd[0], page, sizeof page) == (long)sizeof page) sched_yield(); }
static void end_signal(kind_t *k) { pthread_kill(k->thread, SIGUSR1); }
static void end_pending(kind_t *k) { pthread_kill(k->thread, SIGUSR2); }

static void end_futex(kind_t *k)
{
    atomic_store((atomic_int *)k->memory, 1);
    syscall(SYS_futex, k->memory, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* ---- descriptors */

static void make_pipe(kind_t *k) { if (pipe(k->fd)) abort(); }
static void make_pair(kind_t *k) { if (socketpair(AF_UNIX, SOCK_STREAM, 0, k->fd)) abort(); }

static void fill(int fd)
{
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (write(fd, page, sizeof page) > 0)
        continue;
    while (write(fd, page, 1) > 0)
        continue;
    fcntl(fd, F_SETFL, 0);
}

static void limit(int fd, int option)
{
    struct timeval span = {TIMEOUT_MS / 1000, TIMEOUT_MS % 1000 * 1000};
    if (setsockopt(fd, SOL_SOCKET, option, &span, sizeof span))
        abort();
}

static int listener(kind_t *k, int backlog)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "uprobes-%d-%s", getpid(), k->name);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, backlog))
        abort();
    return fd;
}

static int connector(kind_t *k, int fd)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "uprobes-%d-%s", getpid(), k->name);
    return connect(fd, (struct sockaddr *)&at, sizeof at);
}

static int epoll_of(int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    int set = epoll_create1(0);
    if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event))
        abort();
    return set;
}

/* ---- the calls */

static long read_pipe(kind_t *k) { make_pipe(k); return done(read(k->fd[0], page, 8)); }
static long readv_pipe(kind_t *k)
{
    char buffer[8];
    struct iovec part = {buffer, 8};
    make_pipe(k);
    return done(syscall(SYS_readv, k->fd[0], &part, 1));
}
static long write_pipe(kind_t *k) { make_pipe(k); fill(k->fd[1]); return done(write(k->fd[1], page, 8)); }
static long read_socket(kind_t *k) { make_pair(k); return done(read(k->fd[0], page, 8)); }
static long write_socket(kind_t *k) { make_pair(k); fill(k->fd[1]); return done(write(k->fd[1], page, 8)); }
static long sendmsg_socket(kind_t *k)
{
    struct iovec part = {page, 8};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    make_pair(k);
    fill(k->fd[1]);
    return done(sendmsg(k->fd[1], &message, 0));
}
static long send_limited(kind_t *k)
{
    make_pair(k);
    fill(k->fd[1]);
    limit(k->fd[1], SO_SNDTIMEO);
    return done(send(k->fd[1], page, 8, 0));
}
static long read_tty(kind_t *k)
{
    struct termios raw;
    k->fd[1] = posix_openpt(O_RDWR | O_NOCTTY);
    if (grantpt(k->fd[1]) || unlockpt(k->fd[1]))
        abort();
    k->fd[0] = open(ptsname(k->fd[1]), O_RDWR | O_NOCTTY);
    tcgetattr(k->fd[0], &raw);
    cfmakeraw(&raw);
    tcsetattr(k->fd[0], TCSANOW, &raw);
    return done(read(k->fd[0], page, 8));
}
static long read_eventfd(kind_t *k) { k->fd[0] = k->fd[1] = eventfd(0, 0); return done(read(k->fd[0], page, 8)); }
static long read_timerfd(kind_t *k)
{
    struct itimerspec when = {.it_value = timeout};
    k->fd[0] = timerfd_create(CLOCK_MONOTONIC, 0);
    timerfd_settime(k->fd[0], 0, &when, NULL);
    return done(read(k->fd[0], page, 8));
}
static long read_inotify(kind_t *k)
{
    k->fd[0] = inotify_init1(0);
    inotify_add_watch(k->fd[0], directory, IN_MOVED_TO);
    return done(read(k->fd[0], page, sizeof page)) > 0;
}
static void end_inotify(kind_t *k)
{
    char path[128], other[128];
    (void)k;
    snprintf(path, sizeof path, "%s/made", directory);
    snprintf(other, sizeof other, "%s/moved", directory);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    rename(path, other);
    unlink(other);
}
static long read_signalfd(kind_t *k)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    k->fd[0] = signalfd(-1, &set, 0);
    return done(read(k->fd[0], page, 128));
}
static long open_fifo(kind_t *k)
{
    char path[128];
    snprintf(path, sizeof path, "%s/fifo", directory);
    if (mkfifo(path, 0600))
        abort();
    k->fd[0] = open(path, O_RDONLY);
    return k->fd[0] < 0 ? -errno : 0;
}
static void end_fifo(kind_t *k)
{
    char path[128];
    snprintf(path, sizeof path, "%s/fifo", directory);
    k->fd[1] = open(path, O_WRONLY);
    unlink(path);
}
static long splice_pipe(kind_t *k)
{
    int out[2];
    make_pipe(k);
    if (pipe(out))
        abort();
    return done(splice(k->fd[0], NULL, out[1], NULL, 8, 0));
}
static long tee_pipe(kind_t *k)
{
    int out[2];
    make_pipe(k);
    if (pipe(out))
        abort();
    return done(tee(k->fd[0], out[1], 8, 0));
}
static long poll_untimed(kind_t *k)
{
    make_pipe(k);
    struct pollfd one = {k->fd[0], POLLIN, 0};
    return done(syscall(SYS_poll, &one, 1, -1));
}
static long poll_timed(kind_t *k)
{
    make_pipe(k);
    struct pollfd one = {k->fd[0], POLLIN, 0};
    return done(syscall(SYS_poll, &one, 1, TIMEOUT_MS));
}
static long ppoll_timed(kind_t *k)
{
    make_pipe(k);
    struct pollfd one = {k->fd[0], POLLIN, 0};
    return done(ppoll(&one, 1, &timeout, NULL));
}
static long ppoll_untimed(kind_t *k)
{
    make_pipe(k);
    struct pollfd one = {k->fd[0], POLLIN, 0};
    return done(ppoll(&one, 1, NULL, NULL));
}
static long select_timed(kind_t *k)
{
    struct timeval span = {TIMEOUT_MS / 1000, TIMEOUT_MS % 1000 * 1000};
    fd_set set;
    make_pipe(k);
    FD_ZERO(&set);
    FD_SET(k->fd[0], &set);
    return done(syscall(SYS_select, k->fd[0] + 1, &set, NULL, NULL, &span));
}
static long pselect_untimed(kind_t *k)
{
    fd_set set;
    make_pipe(k);
    FD_ZERO(&set);
    FD_SET(k->fd[0], &set);
    return done(pselect(k->fd[0] + 1, &set, NULL, NULL, NULL, NULL));
}
static long pselect_timed(kind_t *k)
{
    fd_set set;
    make_pipe(k);
    FD_ZERO(&set);
    FD_SET(k->fd[0], &set);
    return done(pselect(k->fd[0] + 1, &set, NULL, NULL, &timeout, NULL));
}
static long epoll_untimed(kind_t *k)
{
    struct epoll_event event;
    make_pipe(k);
    return done(syscall(SYS_epoll_wait, epoll_of(k->fd[0]), &event, 1, -1));
}
static long epoll_timed(kind_t *k)
{
    struct epoll_event event;
    make_pipe(k);
    return done(syscall(SYS_epoll_wait, epoll_of(k->fd[0]), &event, 1, TIMEOUT_MS));
}
static long epoll_pwait_timed(kind_t *k)
{
    struct epoll_event event;
    sigset_t none;
    sigemptyset(&none);
    make_pipe(k);
    return done(syscall(SYS_epoll_pwait, epoll_of(k->fd[0]), &event, 1, TIMEOUT_MS, &none, 8));
}
static long epoll_pwait2_timed(kind_t *k)
{
    struct epoll_event event;
    make_pipe(k);
    return done(syscall(SYS_epoll_pwait2, epoll_of(k->fd[0]), &event, 1, &timeout, NULL, 8));
}
static long epoll_pwait2_untimed(kind_t *k)
{
    struct epoll_event event;
    make_pipe(k);
    return done(syscall(SYS_epoll_pwait2, epoll_of(k->fd[0]), &event, 1, NULL, NULL, 8));
}

#endif
