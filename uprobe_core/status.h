/* Outcomes of core functions: 0 is success, positive values are below, negative ones are -errno. */
#ifndef UPROBES_STATUS_H
#define UPROBES_STATUS_H

enum status {
    STATUS_OK = 0,
    /* decode */
    STATUS_EMPTY,     /* no bytes */
    STATUS_TRUNCATED, /* the instruction needs more bytes than were given */
    STATUS_TOO_LONG,  /* more than 15 bytes: #GP */
    STATUS_INVALID,   /* #UD: no such instruction */
    STATUS_LOCK,      /* #UD: LOCK on an instruction that cannot have it */
    STATUS_PREFIX,    /* #UD: a prefix that VEX, EVEX or XOP forbids */
    /* engine */
    STATUS_TRY_AGAIN, /* a thread stands in the bytes: not now */
    STATUS_REFUSED,   /* never: see the refusal */
    STATUS_CHANGED,   /* bytes in the target are not what they should be */
    STATUS_NO_ROOM,   /* no slot, no address space */
    STATUS_GONE,      /* the task or the target ended */
    STATUS_COUNT
};

#endif
