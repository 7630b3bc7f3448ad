/* Inside the kernels: every form of a kernel is a function <level>_<kernel>, declared here once for all levels with the
 * type that the table has for it, so that a table is a list of groups and a missing kernel does not link. */
#ifndef KITH_VEC_KERNELS_FORMS_H
#define KITH_VEC_KERNELS_FORMS_H

#include "vec/kernels.h"

#include <stdbool.h>

#define FLOAT_KERNELS(X, level)                                                                              \
    X(level, dot_f32)                                                                                        \
    X(level, dot_f32_4)                                                                                      \
    X(level, l2sq_f32)                                                                                       \
    X(level, l2sq_f32_4)                                                                                     \
    X(level, dot_f32_i8)                                                                                     \
    X(level, dot_f32_i8_4)

#define HALF_KERNELS(X, level)                                                                               \
    X(level, dot_f32_f16)                                                                                    \
    X(level, dot_f32_f16_4)                                                                                  \
    X(level, dot_f32_bf16)                                                                                   \
    X(level, dot_f32_bf16_4)                                                                                 \
    X(level, dot_f16)                                                                                        \
    X(level, dot_f16_4)                                                                                      \
    X(level, to_f16)                                                                                         \
    X(level, from_f16)                                                                                       \
    X(level, to_bf16)                                                                                        \
    X(level, from_bf16)

#define BF16_KERNELS(X, level)                                                                               \
    X(level, dot_bf16)                                                                                       \
    X(level, dot_bf16_4)

#define STEP_KERNELS(X, level)                                                                               \
    X(level, sum_squares)                                                                                    \
    X(level, largest)                                                                                        \
    X(level, to_steps)                                                                                       \
    X(level, to_fine_steps)

#define BYTE_KERNELS(X, level)                                                                               \
    X(level, dot_i8)                                                                                         \
    X(level, dot_i8_4)                                                                                       \
    X(level, sum_i8)

#define NIBBLE_KERNELS(X, level)                                                                             \
    X(level, dot_i8_u4)                                                                                      \
    X(level, dot_i8_u4_4)                                                                                    \
    X(level, dot_i8_u2)                                                                                      \
    X(level, dot_u4)                                                                                         \
    X(level, dot_u4_4)

#define BIT_KERNELS(X, level)                                                                                \
    X(level, hamming)                                                                                        \
    X(level, hamming_4)                                                                                      \
    X(level, dot_planes)                                                                                     \
    X(level, dot_planes_4)

#define TURN_KERNELS(X, level)                                                                               \
    X(level, flip_signs)                                                                                     \
    X(level, hadamard)                                                                                       \
    X(level, butterfly)

#define KERNEL_ROW(level, kernel)     .kernel = level##_##kernel,
#define KERNEL_DECLARE(level, kernel) __typeof__(*((struct kith_kernels *)0)->kernel) level##_##kernel;

FLOAT_KERNELS(KERNEL_DECLARE, scalar)
HALF_KERNELS(KERNEL_DECLARE, scalar)
BF16_KERNELS(KERNEL_DECLARE, scalar)
STEP_KERNELS(KERNEL_DECLARE, scalar)
BYTE_KERNELS(KERNEL_DECLARE, scalar)
NIBBLE_KERNELS(KERNEL_DECLARE, scalar)
BIT_KERNELS(KERNEL_DECLARE, scalar)
TURN_KERNELS(KERNEL_DECLARE, scalar)

/* NULL where the build or the machine does not have them. more: with the level's extension. */
const struct kith_kernels *scalar_kernels(void);
const struct kith_kernels *neon_kernels(bool more);
const struct kith_kernels *avx2_kernels(bool more);
const struct kith_kernels *avx512_kernels(bool more);

#endif
