/* Zydis as a filter: reads (16 bytes, mode) records on stdin, writes lengths on stdout; 0 where Zydis refuses.
 *
 * Usage: zydis [amd]
 *
 * As on a processor without MPX; on AMD's an operand-size prefix shortens near branches. */
#include <Zydis/Zydis.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct record {
    uint8_t code[16];
    uint8_t bits;
};

static void decoder_begin(ZydisDecoder *decoder, ZydisMachineMode mode, ZydisStackWidth width, ZyanBool amd)
{
    ZydisDecoderInit(decoder, mode, width);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_AMD_BRANCHES, amd);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
}

int main(int argc, char **argv)
{
    ZyanBool amd = argc > 1 && strcmp(argv[1], "amd") == 0;
    ZydisDecoder wide, narrow;
    decoder_begin(&wide, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64, amd);
    decoder_begin(&narrow, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32, amd);
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
