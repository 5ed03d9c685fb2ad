/* The processor as the judge: reads batches of instruction bytes on stdin, writes what it makes of them on stdout.
 *
 * Usage: oracle [PATIENCE_MS]
 *
 * A batch is a header (kind, count) and `count` records of layout.h; the answer is `count` records. This process
 * never runs a judged byte: it hands them to the sandbox, starts a new one when that dies or hangs, and
 * gives the record to blame to the tracer.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "layout.h"
#include "machine.h"
#include "sandbox.h"
#include "tracer.h"

/* Milliseconds without a record done after which the sandbox hangs; a loaded machine may stall it for seconds. */
static int patience = 10000;

static struct batch *batch;
static pid_t sandbox;
static int go_fd, done_fd;

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void sandbox_start(void)
{
    int go[2], done[2];
    if (pipe(go) != 0 || pipe(done) != 0)
        fail("pipe");
    sandbox = fork();
    if (sandbox < 0)
        fail("fork");
    if (sandbox == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(go[1]);
        close(done[0]);
        sandbox_serve(batch, go[0], done[1]);
    }
    close(go[0]);
    close(done[1]);
    go_fd = go[1];
    done_fd = done[0];
}

static void sandbox_stop(void)
{
    kill(sandbox, SIGKILL);
    waitpid(sandbox, NULL, 0);
    close(go_fd);
    close(done_fd);
    sandbox = 0;
}

/* Runs records first … count. Returns true when done, false when the sandbox died or hung at batch->current. */
static bool sandbox_run(uint32_t first, uint32_t count, bool *hung)
{
    if (sandbox == 0)
        sandbox_start();
    batch->first = batch->current = first;
    batch->count = count;
    if (write(go_fd, "", 1) != 1 && errno != EPIPE) /* a sandbox that is gone shows in poll */
        fail("write");
    for (uint32_t before = first;;) {
        struct pollfd wait = {.fd = done_fd, .events = POLLIN};
        int ready = poll(&wait, 1, patience);
        if (ready < 0 && errno != EINTR)
            fail("poll");
        if (ready > 0) {
            char byte;
            *hung = false;
            return read(done_fd, &byte, 1) == 1;
        }
        if (ready == 0 && batch->current == before) {
            *hung = true;
            return false;
        }
        before = batch->current;
    }
}

static void blame(uint32_t index, bool hung)
{
    uint8_t outcome = hung ? OUT_HUNG : OUT_DIED;
    if (batch->kind == BATCH_EXECUTE)
        batch->execute.out[index].outcome = outcome;
    else if (hung)
        batch->judge.out[index].outcome = outcome;
    else
        batch->judge.in[index].hint |= HINT_PTRACE;
}

static void batch_run(uint32_t count)
{
    bool hung;
    for (uint32_t first = 0; first < count && !sandbox_run(first, count, &hung);) {
        uint32_t culprit = batch->current;
        sandbox_stop();
        blame(culprit, hung);
        first = culprit + 1;
    }
    if (batch->kind != BATCH_JUDGE)
        return;
    for (uint32_t i = 0; i < count; i++)
        if (batch->judge.in[i].hint & HINT_PTRACE)
            tracer_judge(&batch->judge.in[i], &batch->judge.out[i]);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        patience = atoi(argv[1]);
    struct {
        uint32_t kind, count;
    } header;
    signal(SIGPIPE, SIG_IGN);
    machine_ask_tiles();
    batch = mmap(NULL, sizeof *batch, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (batch == MAP_FAILED || machine_map() != 0)
        fail("mmap");
    while (fread(&header, sizeof header, 1, stdin) == 1) {
        bool judge = header.kind == BATCH_JUDGE;
        void *in = judge ? (void *)batch->judge.in : (void *)batch->execute.in;
        void *out = judge ? (void *)batch->judge.out : (void *)batch->execute.out;
        if ((!judge && header.kind != BATCH_EXECUTE) || header.count > BATCH_MAX)
            return 2;
        batch->kind = header.kind;
        if (fread(in, judge ? sizeof(struct judge_in) : sizeof(struct execute_in), header.count, stdin) != header.count)
            return 2;
        batch_run(header.count);
        fwrite(out, judge ? sizeof(struct judge_out) : sizeof(struct execute_out), header.count, stdout);
        fflush(stdout);
    }
    if (sandbox != 0)
        sandbox_stop();
    tracer_stop();
    return 0;
}
