/* The tables of the AVX-512 kernels. */
#include "vec/kernels_forms.h"

#if defined(__x86_64__)
#include "vec/kernels_avx512.h"
#include "vec/kernels_cpu.h"

#define COMMON                                                                                               \
    FLOAT_KERNELS(KERNEL_ROW, avx512)                                                                        \
    HALF_KERNELS(KERNEL_ROW, avx512)                                                                         \
    STEP_KERNELS(KERNEL_ROW, avx512)                                                                         \
    BYTE_KERNELS(KERNEL_ROW, avx512)                                                                         \
    NIBBLE_KERNELS(KERNEL_ROW, avx512)                                                                       \
    BIT_KERNELS(KERNEL_ROW, avx512)                                                                          \
    TURN_KERNELS(KERNEL_ROW, avx512)

const struct kith_kernels *avx512_kernels(bool more)
{
    static const struct kith_kernels plain = {
        .name = "avx512", .level = KITH_KERNEL_AVX512, COMMON BF16_KERNELS(KERNEL_ROW, avx512)};
    static const struct kith_kernels bf16 = {
        .name = "avx512-bf16", .level = KITH_KERNEL_AVX512_BF16, COMMON BF16_KERNELS(KERNEL_ROW, avx512bf16)};
    __builtin_cpu_init();
    bool here = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vpopcntdq") &&
                __builtin_cpu_supports("bmi2") && cpu_has_f16c();
    if (!here || (more && !cpu_has_avx512_bf16()))
        return NULL;
    return more ? &bf16 : &plain;
}

#else

const struct kith_kernels *avx512_kernels(bool more)
{
    (void)more;
    return NULL;
}

#endif
