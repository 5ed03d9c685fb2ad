/* Zydis as a filter: reads (16 bytes, mode) records on stdin, writes lengths on stdout; 0 where Zydis refuses.
 *
 * As on an AMD processor: an operand-size prefix shortens near branches; and without MPX. */
#include <Zydis/Zydis.h>
#include <stdint.h>
#include <stdio.h>

struct record {
    uint8_t code[16];
    uint8_t bits;
};

static void decoder_begin(ZydisDecoder *decoder, ZydisMachineMode mode, ZydisStackWidth width)
{
    ZydisDecoderInit(decoder, mode, width);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_AMD_BRANCHES, ZYAN_TRUE);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
}

int main(void)
{
    ZydisDecoder wide, narrow;
    decoder_begin(&wide, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    decoder_begin(&narrow, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
    struct record record;
    while (fread(&record, sizeof record, 1, stdin) == 1) {
        ZydisDecodedInstruction instruction;
        const ZydisDecoder *decoder = record.bits == 64 ? &wide : &narrow;
        ZyanStatus status = ZydisDecoderDecodeInstruction(decoder, NULL, record.code, ZYDIS_MAX_INSTRUCTION_LENGTH,
                                                          &instruction);
        putchar(ZYAN_SUCCESS(status) ? instruction.length : 0);
    }
    return 0;
}
