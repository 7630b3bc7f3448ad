/* The tables of the NEON kernels for 64-bit Arm, where NEON is always there; the dot product extension is asked for. */
#include "vec/kernels_forms.h"

#if defined(__aarch64__)
#include "vec/kernels_neon.h"

#include <sys/auxv.h>

#ifndef HWCAP_ASIMDDP
#define HWCAP_ASIMDDP (1ul << 20)
#endif

#define COMMON                                                                                               \
    FLOAT_KERNELS(KERNEL_ROW, neon)                                                                          \
    HALF_KERNELS(KERNEL_ROW, neon)                                                                           \
    STEP_KERNELS(KERNEL_ROW, neon)                                                                           \
    BF16_KERNELS(KERNEL_ROW, neon)                                                                           \
    BIT_KERNELS(KERNEL_ROW, neon)                                                                            \
    TURN_KERNELS(KERNEL_ROW, neon)

static const struct kith_kernels *with_dot(void)
{
#if HAS_NEON_DOT
    static const struct kith_kernels table = {.name = "neon-dot",
                                              .level = KITH_KERNEL_NEON_DOT,
                                              COMMON BYTE_KERNELS(KERNEL_ROW, neondot)
                                                  NIBBLE_KERNELS(KERNEL_ROW, neondot)};
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP ? &table : NULL;
#else
    return NULL;
#endif
}

const struct kith_kernels *neon_kernels(bool more)
{
    static const struct kith_kernels table = {.name = "neon",
                                              .level = KITH_KERNEL_NEON,
                                              COMMON BYTE_KERNELS(KERNEL_ROW, neon)
                                                  NIBBLE_KERNELS(KERNEL_ROW, neon)};
    return more ? with_dot() : &table;
}

#else

const struct kith_kernels *neon_kernels(bool more)
{
    (void)more;
    return NULL;
}

#endif
