/* What the NEON files share. Whole registers come first; what is left over goes to the scalar form. */
#ifndef KITH_VEC_KERNELS_NEON_H
#define KITH_VEC_KERNELS_NEON_H

#include "vec/kernels_forms.h"

#include <arm_neon.h>

/* clang before 16 has the dot product's intrinsics only where the whole file may use it. */
#if !defined(__clang__) || __clang_major__ >= 16 || defined(__ARM_FEATURE_DOTPROD)
#define HAS_NEON_DOT 1
#else
#define HAS_NEON_DOT 0
#endif

FLOAT_KERNELS(KERNEL_DECLARE, neon)
HALF_KERNELS(KERNEL_DECLARE, neon)
STEP_KERNELS(KERNEL_DECLARE, neon)
BF16_KERNELS(KERNEL_DECLARE, neon)
BYTE_KERNELS(KERNEL_DECLARE, neon)
NIBBLE_KERNELS(KERNEL_DECLARE, neon)
BYTE_KERNELS(KERNEL_DECLARE, neondot)
NIBBLE_KERNELS(KERNEL_DECLARE, neondot)
BIT_KERNELS(KERNEL_DECLARE, neon)
TURN_KERNELS(KERNEL_DECLARE, neon)

#endif
