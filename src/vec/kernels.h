/* Distance kernels: inner products and Hamming counts in scalar C, AVX2, AVX-512 and NEON forms. The scalar
 * ones are the reference. A table of the best that the machine has is picked once per index, so that nothing
 * is global and any form can be forced in a test. Each kernel takes any length and any alignment. */
#ifndef KITH_VEC_KERNELS_H
#define KITH_VEC_KERNELS_H

#include <stddef.h>
#include <stdint.h>

enum kith_kernel_level {
    KITH_KERNEL_BEST = 0, /* whatever runs here */
    KITH_KERNEL_SCALAR = 1,
    KITH_KERNEL_NEON = 2,
    KITH_KERNEL_AVX2 = 3,   /* AVX2, FMA, POPCNT */
    KITH_KERNEL_AVX512 = 4, /* AVX-512 F, BW, VL, VNNI, VPOPCNTDQ */
};

/* The forms with 4 compare one query with four vectors: the query is loaded once, and four sums run side by
 * side. a, b, q, v   borrowed, any alignment dim          elements; bytes where it says so; 0 gives 0 Integer
 * results are exact for up to 65,536 dimensions; the order of float sums differs between forms. */
struct kith_kernels {
    const char *name;
    enum kith_kernel_level level;
    float (*dot_f32)(const float *a, const float *b, size_t dim);
    void (*dot_f32_4)(const float *q, const float *const v[4], size_t dim, float out[4]);
    int32_t (*dot_i8)(const int8_t *a, const int8_t *b, size_t dim); /* values in [-127, 127] */
    void (*dot_i8_4)(const int8_t *q, const int8_t *const v[4], size_t dim, int32_t out[4]);
    float (*dot_f32_i8)(const float *a, const int8_t *b, size_t dim);
    uint32_t (*hamming)(const uint8_t *a, const uint8_t *b, size_t bytes); /* bits that differ */
    void (*hamming_4)(const uint8_t *q, const uint8_t *const v[4], size_t bytes, uint32_t out[4]);
};

/* The best table at or below `max` that this machine runs (KITH_KERNEL_BEST: no bound). Never NULL; static.
 */
const struct kith_kernels *kith_kernels_pick(enum kith_kernel_level max);

/* NULL where the build or the machine does not have them; the scalar ones are always there. */
const struct kith_kernels *kith_kernels_scalar(void);
const struct kith_kernels *kith_kernels_avx2(void);
const struct kith_kernels *kith_kernels_avx512(void);
const struct kith_kernels *kith_kernels_neon(void);

#endif
