/* What the journal file holds: one page of header, then chunks of records. The file outlives the tracer, so its layout
 * is a format: JOURNAL_VERSION changes with it. Written by one tracer at a time, read after its death. */
#ifndef UPROBES_JOURNAL_H
#define UPROBES_JOURNAL_H

#include <stddef.h>
#include <stdint.h>

#define JOURNAL_MAGIC 0x316c616e72756f6aull /* "journal1" */
#define JOURNAL_VERSION 1
#define JOURNAL_PATCH_MAX 16

enum record_kind {
    RECORD_NONE,  /* void: never in the target, or out of it for good */
    RECORD_PATCH, /* bytes of the text that were, are or will be others than the file's */
    RECORD_AREA,  /* a mapping of ours */
    RECORD_SIGNAL /* the disposition of SIGTRAP that was there before ours */
};

/* What a mapping of ours is for. */
enum area_kind {
    AREA_SLOTS, /* copies of single instructions */
    AREA_TRAPS, /* the handler of SIGTRAP, its table, and the frame of remote calls */
    AREA_JUMPS, /* trampolines, with their gate page in front */
    AREA_BOARD  /* memory shared with us: counters or a ring; never emptied, unmapped or sealed by recovery */
};

enum record_flag {
    RECORD_SEALED = 0x01, /* an area that cannot be unmapped */
    RECORD_STEP = 0x02,   /* a patch whose instruction is single-stepped in its slot */
    RECORD_JUMP = 0x04    /* a patch that is a jump of 5 bytes, to `place_vaddr` */
};

/* Everything of one patch, area or disposition. `kind` is stored last: a record is whole or void. */
typedef struct journal_entry {
    uint8_t kind;         /* enum record_kind */
    uint8_t flags;        /* enum record_flag */
    uint8_t length;       /* PATCH: bytes that the patch covers, 1..JOURNAL_PATCH_MAX */
    uint8_t plan;         /* PATCH: the site's plan byte; AREA: enum area_kind */
    uint8_t operand;      /* PATCH: the site's operand bits */
    uint8_t insn_length;  /* PATCH: bytes of the (first) instruction there */
    uint16_t reserved;
    uint32_t generation;  /* records of another one than the header's are void: the target has executed since */
    uint32_t padding;
    uint64_t vaddr;
    uint64_t place_vaddr; /* PATCH: its slot or trampoline, 0: none; AREA: bytes */
    uint8_t original[16]; /* PATCH: the bytes without us, `length` or insn_length of them, whichever is more; AREA: 0 */
    uint8_t patched[16];  /* PATCH: `length` bytes; AREA: 0 */
} journal_entry_t;             /* SIGNAL: `original` and `patched` are the kernel's struct sigaction of 32 bytes */

_Static_assert(sizeof(journal_entry_t) == 64, "journal_entry_t is one cache line");

typedef struct journal_head {
    uint64_t magic;
    uint32_t version;
    uint32_t pid;
    uint64_t start_time;  /* of the target, in clock ticks since boot */
    uint64_t stack_vaddr; /* where its stack began: another one after an exec */
    uint32_t generation;  /* counts the programs that it executed under us */
    uint32_t chunks;
    uint32_t tracer_pid;  /* who writes */
    uint32_t kept;        /* 1: left in place on purpose; the patches stand without a tracer */
} journal_head_t;

#define JOURNAL_HEAD_BYTES 4096
#define JOURNAL_CHUNK_RECORDS 4096u
#define JOURNAL_CHUNK_BYTES (JOURNAL_CHUNK_RECORDS * sizeof(journal_entry_t))

/* A reader after our death sees the rest of a record if it sees its kind. */
static inline void record_publish(journal_entry_t *record, uint8_t kind) { __atomic_store_n(&record->kind, kind, __ATOMIC_RELEASE); }

#endif
