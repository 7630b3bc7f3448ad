/* NEON: whole numbers of 8, 4 and 2 bits, widened to 16 bits when multiplied. */
#if defined(__aarch64__)
#include "vec/kernels_neon.h"

#define TARGET
#define FORM(kernel) neon_##kernel

static inline int32x4_t add_products(int32x4_t sum, int8x16_t a, int8x16_t b)
{
    sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(a), vget_low_s8(b)));
    return vpadalq_s16(sum, vmull_high_s8(a, b));
}

#include "vec/kernels_neon_bytes.h"

#endif
