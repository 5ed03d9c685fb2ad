/* A site: one patched address of a target. 40 bytes, so that a site with its share of the index stays under 48. */
#ifndef UPROBES_SITE_H
#define UPROBES_SITE_H

#include <stdint.h>

#define SITE_NONE 0xffffffffu
#define SLOT_NONE 0xffffffffu

enum site_state {
    SITE_LIVE = 0x01,     /* inserted; clear: removed, kept so that a late trap is recognised */
    SITE_ARMED = 0x02,    /* the patch is in the text */
    SITE_CALLBACK = 0x04, /* a hit goes to the caller of the loop while the task is stopped */
    SITE_STEP = 0x08,     /* run by single-step, by the fixup bits of the plan */
    SITE_TAPPED = 0x20,   /* a hit is counted or recorded on boards while the task is stopped */
    SITE_GONE = 0x80      /* its memory is another's by now: never found again, and never written */
};

typedef struct site {
    uint64_t vaddr : 48;
    uint64_t plan : 8;  /* the plan byte */
    uint64_t state : 8; /* enum site_state */
    uint64_t hits;
    uint8_t original[15];
    uint8_t length : 4;
    uint8_t operand : 4; /* see OPERAND_NONE in abi.h */
    uint32_t slot;       /* arena << 20 | index, or SLOT_NONE */
    uint16_t users;      /* probes that have it */
    uint16_t armers;     /* of these, the enabled ones */
} site_t;

_Static_assert(sizeof(site_t) == 40, "site_t");

#endif
