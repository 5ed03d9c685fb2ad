#define DECODE_64 1u
#define DECODE_32 2u
#define DECODE_AMD 4u
#define DECODE_INTEL 8u
#define DECODE_APX 16u
