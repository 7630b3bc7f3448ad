/* NEON with the dot product extension: whole numbers of 8, 4 and 2 bits. */
#if defined(__aarch64__)
#include "vec/kernels_neon.h"

#if HAS_NEON_DOT
#ifdef __clang__
#define TARGET __attribute__((target("dotprod")))
#else
#define TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
#define FORM(kernel) neondot_##kernel

TARGET static inline int32x4_t add_products(int32x4_t sum, int8x16_t a, int8x16_t b)
{
    return vdotq_s32(sum, a, b);
}

#include "vec/kernels_neon_bytes.h"

#endif
#endif
