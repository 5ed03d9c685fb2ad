/* What the floor programs share: a child that is traced, both on chosen processors, and medians of rounds.
 *
 * Usage of each: PROGRAM STOPS ROUNDS CPU_OF_TRACER CPU_OF_TARGET; prints the nanoseconds a stop of each
 * round, one a line. The tracer attaches by PTRACE_SEIZE, as uprobes does. */
#ifndef FLOOR_H
#define FLOOR_H

#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct floor {
    long stops;
    long rounds;
    pid_t pid;
};

static inline void floor_fail(const char *what)
{
    perror(what);
    exit(1);
}

static inline void floor_pin(const char *cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(atoi(cpu), &set);
    if (sched_setaffinity(0, sizeof set, &set))
        floor_fail("sched_setaffinity");
}

static inline double floor_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* Waits for the child's next stop and returns its signal. */
static inline int floor_wait(pid_t pid)
{
    int status;
    if (waitpid(pid, &status, __WALL) != pid)
        floor_fail("waitpid");
    if (!WIFSTOPPED(status)) {
        fprintf(stderr, "the target ended: status 0x%x\n", status);
        exit(1);
    }
    return WSTOPSIG(status);
}

/* Starts `target` in a child that is seized and stands in its first SIGTRAP stop. */
static inline struct floor floor_start(int argc, char **argv, void (*target)(void))
{
    if (argc != 5) {
        fprintf(stderr, "usage: %s STOPS ROUNDS CPU_OF_TRACER CPU_OF_TARGET\n", argv[0]);
        exit(2);
    }
    struct floor floor = {.stops = atol(argv[1]), .rounds = atol(argv[2])};
    int gate[2];
    char byte = 0;
    if (pipe(gate))
        floor_fail("pipe");
    floor.pid = fork();
    if (floor.pid < 0)
        floor_fail("fork");
    if (floor.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        floor_pin(argv[4]);
        if (read(gate[0], &byte, 1) != 1)
            _exit(1);
        target();
        _exit(0);
    }
    floor_pin(argv[3]);
    if (ptrace(PTRACE_SEIZE, floor.pid, 0, PTRACE_O_EXITKILL))
        floor_fail("PTRACE_SEIZE");
    if (write(gate[1], &byte, 1) != 1)
        floor_fail("write");
    if (floor_wait(floor.pid) != SIGTRAP)
        floor_fail("not a SIGTRAP");
    return floor;
}

static inline void floor_end(const struct floor *floor)
{
    kill(floor->pid, SIGKILL);
    waitpid(floor->pid, NULL, __WALL);
}

/* Measures `request` + wait, `stops` times a round. */
static inline void floor_measure(const struct floor *floor, int request)
{
    for (long round = 0; round < floor->rounds; round++) {
        double start = floor_now_ns();
        for (long i = 0; i < floor->stops; i++) {
            if (ptrace(request, floor->pid, 0, 0))
                floor_fail("ptrace");
            floor_wait(floor->pid);
        }
        printf("%.1f\n", (floor_now_ns() - start) / (double)floor->stops);
    }
}

#endif
