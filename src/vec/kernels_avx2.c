/* The tables of the AVX2 kernels. */
#include "vec/kernels_forms.h"

#if defined(__x86_64__)
#include "vec/kernels_avx2.h"
#include "vec/kernels_cpu.h"

#define COMMON                                                                                               \
    FLOAT_KERNELS(KERNEL_ROW, avx2)                                                                          \
    HALF_KERNELS(KERNEL_ROW, avx2)                                                                           \
    STEP_KERNELS(KERNEL_ROW, avx2)                                                                           \
    BF16_KERNELS(KERNEL_ROW, avx2)                                                                           \
    BIT_KERNELS(KERNEL_ROW, avx2)                                                                            \
    TURN_KERNELS(KERNEL_ROW, avx2)

const struct kith_kernels *avx2_kernels(bool more)
{
    static const struct kith_kernels plain = {.name = "avx2",
                                              .level = KITH_KERNEL_AVX2,
                                              COMMON BYTE_KERNELS(KERNEL_ROW, avx2)
                                                  NIBBLE_KERNELS(KERNEL_ROW, avx2)};
    static const struct kith_kernels vnni = {.name = "avx2-vnni",
                                             .level = KITH_KERNEL_AVX2_VNNI,
                                             COMMON BYTE_KERNELS(KERNEL_ROW, avx2vnni)
                                                 NIBBLE_KERNELS(KERNEL_ROW, avx2vnni)};
    __builtin_cpu_init();
    bool here = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                __builtin_cpu_supports("popcnt") && cpu_has_f16c();
    if (!here || (more && !cpu_has_avx_vnni()))
        return NULL;
    return more ? &vnni : &plain;
}

#else

const struct kith_kernels *avx2_kernels(bool more)
{
    (void)more;
    return NULL;
}

#endif
