/* Picks the kernels for this machine. */
#include "vec/kernels.h"

const struct kith_kernels *kith_kernels_pick(enum kith_kernel_level max)
{
    const struct kith_kernels *best_first[] = {kith_kernels_avx512(), kith_kernels_avx2(),
                                               kith_kernels_neon()};
    for (size_t i = 0; i < sizeof best_first / sizeof *best_first; i++)
        if (best_first[i] && (max == KITH_KERNEL_BEST || best_first[i]->level <= max))
            return best_first[i];
    return kith_kernels_scalar();
}
