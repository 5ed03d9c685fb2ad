/* Zydis over a buffer, with all operands: what bench_decode.py sets beside our decoder. A shared library. */
#include <Zydis/Zydis.h>
#include <stddef.h>
#include <stdint.h>

/* Decodes from the start to the end, one byte further where there is no instruction. Returns how many. */
size_t zydis_sweep(const uint8_t *code, size_t size)
{
    ZydisDecoder decoder;
    ZydisDecodedInstruction instruction;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    size_t at = 0, count = 0;

    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    while (at < size) {
        ZyanStatus status = ZydisDecoderDecodeFull(&decoder, code + at, size - at, &instruction, operands);
        at += ZYAN_SUCCESS(status) ? instruction.length : 1;
        count++;
    }
    return count;
}
