/* One thread a kind of blocking system call. All of them sleep; the order makes main end each call in its own way.
 * Reports "KIND result early ms": what the call returned (-errno), whether it came back before it should have (1), and
 * how long it took. Timed calls nobody ends: they return at their time-out. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "victim.h"

#define TIMEOUT_MS 1200

typedef struct kind kind_t;
struct kind {
    const char *name;
    long (*call)(kind_t *);  /* blocks; its result or -errno */
    void (*end)(kind_t *);   /* ends it; NULL: it has a time-out */
    int fd[2];
    int other;
    void *memory;
    pthread_t thread;
    atomic_int ended;
    long result;
    int early;
    uint64_t ms;
};

static const struct timespec timeout = {TIMEOUT_MS / 1000, TIMEOUT_MS % 1000 * 1000000};
static char page[4096];
static char directory[] = "/tmp/uprobes-blocking-XXXXXX";

PROBED uint64_t work(uint64_t value)
{
    return value * 5 + 1;
}

static long done(long result)
{
    return result < 0 ? -errno : result;
}

static struct timespec later(clockid_t clock)
{
    struct timespec at;
    clock_gettime(clock, &at);
    at.tv_nsec += TIMEOUT_MS % 1000 * 1000000;
    at.tv_sec += TIMEOUT_MS / 1000 + at.tv_nsec / 1000000000;
    at.tv_nsec %= 1000000000;
    return at;
}

#include "blocking_io.h"
#include "blocking_waits.h"

static kind_t kinds[] = {
    {.name = "read_pipe", .call = read_pipe, .end = end_write},
    {.name = "readv_pipe", .call = readv_pipe, .end = end_write},
    {.name = "write_pipe", .call = write_pipe, .end = end_read},
    {.name = "read_socket", .call = read_socket, .end = end_write},
    {.name = "write_socket", .call = write_socket, .end = end_read},
    {.name = "sendmsg_socket", .call = sendmsg_socket, .end = end_read},
    {.name = "send_limited", .call = send_limited},
    {.name = "read_tty", .call = read_tty, .end = end_write},
    {.name = "read_eventfd", .call = read_eventfd, .end = end_write},
    {.name = "read_timerfd", .call = read_timerfd},
    {.name = "read_inotify", .call = read_inotify, .end = end_inotify},
    {.name = "read_signalfd", .call = read_signalfd, .end = end_pending},
    {.name = "open_fifo", .call = open_fifo, .end = end_fifo},
    {.name = "splice_pipe", .call = splice_pipe, .end = end_write},
    {.name = "tee_pipe", .call = tee_pipe, .end = end_write},
    {.name = "poll_untimed", .call = poll_untimed, .end = end_write},
    {.name = "poll_timed", .call = poll_timed},
    {.name = "ppoll_untimed", .call = ppoll_untimed, .end = end_write},
    {.name = "ppoll_timed", .call = ppoll_timed},
    {.name = "select_timed", .call = select_timed},
    {.name = "pselect_untimed", .call = pselect_untimed, .end = end_write},
    {.name = "pselect_timed", .call = pselect_timed},
    {.name = "epoll_untimed", .call = epoll_untimed, .end = end_write},
    {.name = "epoll_timed", .call = epoll_timed},
    {.name = "epoll_pwait_timed", .call = epoll_pwait_timed},
    {.name = "epoll_pwait2_untimed", .call = epoll_pwait2_untimed, .end = end_write},
    {.name = "epoll_pwait2_timed", .call = epoll_pwait2_timed},
    {.name = "futex_plain", .call = futex_plain, .end = end_futex},
    {.name = "futex_timed", .call = futex_timed},
    {.name = "futex_absolute", .call = futex_absolute},
    {.name = "futex_pi", .call = futex_pi, .end = end_pi},
    {.name = "futex_waitv", .call = futex_waitv, .end = end_futex},
    {.name = "sleep_relative", .call = sleep_relative},
    {.name = "sleep_clock", .call = sleep_clock},
    {.name = "sleep_absolute", .call = sleep_absolute},
    {.name = "sem_untimed", .call = sem_untimed, .end = end_semaphore},
    {.name = "sem_timed", .call = sem_timed},
    {.name = "message_receive", .call = message_receive, .end = end_message},
    {.name = "message_send", .call = message_send, .end = end_message_send},
    {.name = "queue_untimed", .call = queue_untimed, .end = end_queue},
    {.name = "queue_receive", .call = queue_receive},
    {.name = "aio_untimed", .call = aio_untimed, .end = end_write},
    {.name = "aio_timed", .call = aio_timed},
    {.name = "ring_untimed", .call = ring_untimed, .end = end_write},
    {.name = "ring_timed", .call = ring_timed},
    {.name = "signal_wait", .call = signal_wait, .end = end_pending},
    {.name = "signal_wait_timed", .call = signal_wait_timed},
    {.name = "receive_untimed", .call = receive_untimed, .end = end_write},
    {.name = "receive_timed", .call = receive_timed},
    {.name = "receive_read_timed", .call = receive_read_timed},
    {.name = "receive_message_timed", .call = receive_message_timed},
    {.name = "receive_limited_woken", .call = receive_limited_woken, .end = end_write},
    {.name = "receive_many", .call = receive_many, .end = end_write},
    {.name = "accept_untimed", .call = accept_untimed, .end = end_accept},
    {.name = "accept_timed", .call = accept_timed},
    {.name = "connect_full", .call = connect_full, .end = end_connect},
    {.name = "wait_child", .call = wait_child, .end = end_write},
    {.name = "waitid_child", .call = waitid_child, .end = end_write},
    {.name = "lock_file", .call = lock_file, .end = end_lock},
    {.name = "lock_record", .call = lock_record, .end = end_lock},
    {.name = "pause_call", .call = pause_call, .end = end_signal},
    {.name = "suspend_call", .call = suspend_call, .end = end_signal},
};

static void *run(void *argument)
{
    kind_t *k = argument;
    uint64_t start = victim_now_ns();
    k->result = k->call(k);
    k->ms = (victim_now_ns() - start) / 1000000;
    k->early = k->end ? !atomic_load(&k->ended) : k->ms + 1 < TIMEOUT_MS;
    work(k->ms);
    return NULL;
}

int main(void)
{
    struct sigaction action = {.sa_handler = ignore};
    sigset_t two;
    size_t count = sizeof kinds / sizeof *kinds;
    if (!mkdtemp(directory))
        return 1;
    sigaction(SIGUSR1, &action, NULL);
    sigemptyset(&two);
    sigaddset(&two, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &two, NULL);
    for (size_t i = 0; i < count; i++) {
        kinds[i].memory = calloc(1, 64);
        if (kinds[i].call == futex_pi)
            *(int *)kinds[i].memory = (int)syscall(SYS_gettid);
        if (pthread_create(&kinds[i].thread, NULL, run, &kinds[i]))
            return 1;
    }
    usleep(100000);
    victim_ready();
    victim_order();
    for (size_t i = 0; i < count; i++) {
        atomic_store(&kinds[i].ended, 1);
        if (kinds[i].end)
            kinds[i].end(&kinds[i]);
    }
    for (size_t i = 0; i < count; i++) {
        pthread_join(kinds[i].thread, NULL);
        printf("%s %ld %d %" PRIu64 "\n", kinds[i].name, kinds[i].result, kinds[i].early, kinds[i].ms);
    }
    char path[128];
    for (size_t i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, kinds[i].name);
        unlink(path);
    }
    rmdir(directory);
    puts("end 0");
    fflush(stdout);
    victim_order();
    return 0;
}
