/* Picks the kernels for this machine. */
#include "vec/kernels_forms.h"

const struct kith_kernels *kith_kernels_at(enum kith_kernel_level level)
{
    switch (level) {
    case KITH_KERNEL_SCALAR:
        return scalar_kernels();
    case KITH_KERNEL_NEON:
    case KITH_KERNEL_NEON_DOT:
        return neon_kernels(level == KITH_KERNEL_NEON_DOT);
    case KITH_KERNEL_AVX2:
    case KITH_KERNEL_AVX2_VNNI:
        return avx2_kernels(level == KITH_KERNEL_AVX2_VNNI);
    case KITH_KERNEL_AVX512:
    case KITH_KERNEL_AVX512_BF16:
        return avx512_kernels(level == KITH_KERNEL_AVX512_BF16);
    case KITH_KERNEL_BEST:
        break;
    }
    return NULL;
}

const struct kith_kernels *kith_kernels_pick(enum kith_kernel_level max)
{
    enum kith_kernel_level level = max == KITH_KERNEL_BEST ? KITH_KERNEL_AVX512_BF16 : max;
    for (; level > KITH_KERNEL_SCALAR; level--)
        if (kith_kernels_at(level))
            return kith_kernels_at(level);
    return scalar_kernels();
}
