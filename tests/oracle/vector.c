/* The frame holds an XSAVE image in the standard format (SDM vol. 1, 13.4): 512 bytes of x87 and SSE, a
 * header, then one part per component at an offset that CPUID leaf 0DH tells. */
#include "vector.h"

#include <cpuid.h>
#include <stdbool.h>
#include <string.h>

#include "machine.h"

#define MXCSR_START 0x1f80u
#define FCW_START 0x037fu
#define LEGACY_END 464 /* then 48 bytes for software, where the kernel keeps the size and the components */
#define HEADER 512
#define EXTENDED 576
#define XMM_OFFSET 160
#define COMPONENT_X87 0
#define COMPONENT_SSE 1
#define COMPONENT_AVX 2
#define COMPONENT_OPMASK 5
#define COMPONENT_TILE_CONFIG 17

struct software { /* struct _fpx_sw_bytes of the kernel's sigcontext.h */
    uint32_t magic, extended_size;
    uint64_t features;
    uint32_t state_size;
};

static const struct software *software_of(const struct _libc_fpstate *state)
{
    return (const struct software *)((const char *)state + LEGACY_END);
}

static uint64_t *features_of(fpregset_t state)
{
    return (uint64_t *)((char *)state + HEADER);
}

static uint32_t component_offset(unsigned component)
{
    static uint32_t offsets[64];
    if (offsets[component] == 0) {
        uint32_t size = 0, offset = 0, c = 0, d = 0;
        __cpuid_count(0xd, component, size, offset, c, d);
        offsets[component] = offset;
    }
    return offsets[component];
}

static uint64_t tiles_configure(fpregset_t state)
{
    struct tile_config config = tile_config();
    if (!(software_of(state)->features & 1u << COMPONENT_TILE_CONFIG))
        return 0;
    memcpy((char *)state + component_offset(COMPONENT_TILE_CONFIG), &config, sizeof config);
    return 1u << COMPONENT_TILE_CONFIG;
}

void vector_clear(fpregset_t state)
{
    state->cwd = FCW_START;
    state->mxcsr = MXCSR_START;
    *features_of(state) = tiles_configure(state);
}

void vector_fill(fpregset_t state)
{
    uint64_t features = software_of(state)->features;
    uint64_t wanted = 1u << COMPONENT_SSE | 1u << COMPONENT_AVX | 1u << COMPONENT_OPMASK;
    vector_clear(state);
    *features_of(state) |= features & wanted;
    uint32_t *xmm = (uint32_t *)((char *)state + XMM_OFFSET);
    uint32_t *ymm_high = (uint32_t *)((char *)state + EXTENDED);
    for (unsigned number = 0; number < 16; number++)
        for (unsigned i = 0; i < 4; i++) {
            xmm[number * 4 + i] = number % 2 ? ~0u : 64 * (number + i);
            if (features & 1u << COMPONENT_AVX)
                ymm_high[number * 4 + i] = number % 2 ? ~0u : 64 * (number + i + 4);
        }
    if (features & 1u << COMPONENT_OPMASK)
        memset((char *)state + component_offset(COMPONENT_OPMASK), 0xff, 8 * sizeof(uint64_t));
}

static uint64_t mix(uint64_t hash, uint64_t word)
{
    return (hash ^ word) * 0x9e3779b97f4a7c15u;
}

uint64_t hash_words(const uint64_t *words, uint64_t count)
{
    uint64_t lane[4] = {1, 2, 3, 4};
    for (uint64_t i = 0; i + 4 <= count; i += 4)
        for (unsigned j = 0; j < 4; j++) {
            lane[j] = mix(lane[j], words[i + j]);
            lane[j] ^= lane[j] >> 29;
        }
    return mix(mix(mix(lane[0], lane[1]), lane[2]), lane[3]);
}

void fill_words(uint64_t *words, uint64_t count, uint8_t seed)
{
    for (uint64_t i = 0; i < count; i++)
        words[i] = seed ? (uint64_t)(seed * 0x101u + i) * 0x9e3779b97f4a7c15u : 0;
}

/* Leaves out where the last x87 instruction and its operand were (FOP, FIP, FDP: bytes 6 to 23): they name addresses. */
uint64_t vector_hash(const struct _libc_fpstate *state)
{
    const uint64_t *words = (const uint64_t *)state;
    uint64_t hash = mix(words[0] & 0xffffffffffffu, words[3] & 0xffffffffu);
    hash = mix(hash, hash_words(words + 4, LEGACY_END / 8 - 4));
    uint32_t size = software_of(state)->state_size;
    if (size > EXTENDED)
        hash = mix(hash, hash_words(words + EXTENDED / 8, (size - EXTENDED) / 8));
    return hash;
}
