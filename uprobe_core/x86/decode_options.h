/* Bits of the decoder's `options`: exactly one mode and one vendor, and features. Where none is given it is 64-bit AMD. */
#ifndef UPROBES_DECODE_OPTIONS_H
#define UPROBES_DECODE_OPTIONS_H

#include <cpuid.h>
#include <stdint.h>

#define DECODE_64 0x01u
#define DECODE_32 0x02u
#define DECODE_AMD 0x04u
#define DECODE_INTEL 0x08u
#define DECODE_APX 0x10u /* REX2 and the extended EVEX; without it d5 is invalid in 64-bit mode */

/* The vendor of the processor that runs this: DECODE_AMD or DECODE_INTEL. Hygon's are AMD's design; all others
 * follow Intel where the two differ. */
static inline uint32_t decode_host_vendor(void)
{
    unsigned int leaf, ebx = 0, ecx = 0, edx = 0;

    if (!__get_cpuid(0, &leaf, &ebx, &ecx, &edx))
        return DECODE_INTEL;
    if (ebx == signature_AMD_ebx || ebx == 0x6f677948u /* "Hygo" */)
        return DECODE_AMD;
    return DECODE_INTEL;
}

#endif
