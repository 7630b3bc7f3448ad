/* Distance kernels: inner products, squared distances, bit counts and the steps of a rotation, in scalar C, AVX2,
 * AVX-512 and NEON forms. The scalar ones are the reference. A table of the best that the machine has is picked once
 * per index, so that nothing is global and any form can be forced in a test. Each kernel takes any length and any
 * alignment, and reads nothing behind the end.
 *
 * Bits below a byte are packed in blocks of 64 bytes, so that one load, one shift and one mask give 64 values that
 * stand in the order of the query (kernels_pack.h packs and unpacks):
 *
 *     u4   a block holds 128 dimensions: byte j has dimension j in its low nibble, 64 + j in its high one
 *     u2   a block holds 256 dimensions: byte j has dimensions j, 64 + j, 128 + j, 192 + j, lowest bits first
 *
 * A last block of r dimensions has s = ceil(r / 2) bytes (u2: ceil(r / 4)) in the same way, s in place of 64. What is
 * left over in its last byte is not looked at. */
#ifndef KITH_VEC_KERNELS_H
#define KITH_VEC_KERNELS_H

#include <stddef.h>
#include <stdint.h>

enum kith_kernel_level {
    KITH_KERNEL_BEST = 0, /* whatever runs here */
    KITH_KERNEL_SCALAR = 1,
    KITH_KERNEL_NEON = 2,
    KITH_KERNEL_NEON_DOT = 3,    /* and the dot product extension */
    KITH_KERNEL_AVX2 = 4,        /* AVX2, FMA, F16C, POPCNT */
    KITH_KERNEL_AVX2_VNNI = 5,   /* and AVX-VNNI */
    KITH_KERNEL_AVX512 = 6,      /* AVX-512 F, BW, VL, DQ, VNNI, VPOPCNTDQ */
    KITH_KERNEL_AVX512_BF16 = 7, /* and AVX512_BF16 */
};

/* The forms with 4 compare one query with four vectors: the query is loaded once, and four sums run side by side.
 *   a, b, q, v   borrowed, aligned as their type wants
 *   dim          elements (bytes where it says so), up to 65,536; 0 gives 0
 * Integer results are exact. Float sums are taken in an order that differs between forms; a NaN or an infinity among
 * the inputs gives what adding and multiplying them gives (0 * inf is NaN). Nothing is returned in outputs but the
 * result; they may not overlap the inputs where it is not said. */
struct kith_kernels {
    const char *name;
    enum kith_kernel_level level;

    /* ---- float32: inner product, squared Euclidean distance ---- */
    float (*dot_f32)(const float *a, const float *b, size_t dim);
    void (*dot_f32_4)(const float *q, const float *const v[4], size_t dim, float out[4]);
    float (*l2sq_f32)(const float *a, const float *b, size_t dim);
    void (*l2sq_f32_4)(const float *q, const float *const v[4], size_t dim, float out[4]);
    float (*dot_f32_i8)(const float *a, const int8_t *b, size_t dim);
    void (*dot_f32_i8_4)(const float *q, const int8_t *const v[4], size_t dim, float out[4]);

    /* ---- 16 bits: f16 is IEEE half, bf16 the upper half of a float32 ---- */
    float (*dot_f32_f16)(const float *a, const uint16_t *b, size_t dim);
    void (*dot_f32_f16_4)(const float *q, const uint16_t *const v[4], size_t dim, float out[4]);
    float (*dot_f32_bf16)(const float *a, const uint16_t *b, size_t dim);
    void (*dot_f32_bf16_4)(const float *q, const uint16_t *const v[4], size_t dim, float out[4]);
    float (*dot_f16)(const uint16_t *a, const uint16_t *b, size_t dim);
    void (*dot_f16_4)(const uint16_t *q, const uint16_t *const v[4], size_t dim, float out[4]);
    /* With AVX512_BF16 numbers below 2^-126 count as 0. */
    float (*dot_bf16)(const uint16_t *a, const uint16_t *b, size_t dim);
    void (*dot_bf16_4)(const uint16_t *q, const uint16_t *const v[4], size_t dim, float out[4]);
    /* Conversions, the same bits from every form: to the nearest, ties to even; too large becomes infinity, a NaN stays
     * a (quiet) NaN with its sign; subnormals are kept. */
    void (*to_f16)(const float *in, uint16_t *out, size_t dim);
    void (*from_f16)(const uint16_t *in, float *out, size_t dim);
    void (*to_bf16)(const float *in, uint16_t *out, size_t dim);
    void (*from_bf16)(const uint16_t *in, float *out, size_t dim);

    /* ---- float32 to steps of one size: the same bits from every form, in any order of their work ----
     * sum_squares   in double, of each eighth dimension first; then those sums
     * largest       the largest magnitude; a NaN counts as more than infinity
     * to_steps      in * factor, no less than `least` and no more than `most` (in [-128, 127]), to the nearest, halves
     *               away from zero; not for NaN
     * to_fine_steps what to_steps left, 256 times as fine: in * factor - 256 * steps, within 127, rounded likewise */
    double (*sum_squares)(const float *a, size_t dim);
    float (*largest)(const float *a, size_t dim);
    void (*to_steps)(const float *in, float factor, float least, float most, int8_t *out, size_t dim);
    void (*to_fine_steps)(const float *in, float factor, const int8_t *steps, int8_t *out, size_t dim);

    /* ---- int8 (in [-127, 127]) with int8, u4 (0 to 15), u2 (0 to 3) ----
     * Codes are unsigned: with code value n for (n - 8), sum(q * (n - 8)) = dot_i8_u4(q, n) - 8 * sum_i8(q), and the
     * second sum is taken once a query. */
    int32_t (*dot_i8)(const int8_t *a, const int8_t *b, size_t dim);
    void (*dot_i8_4)(const int8_t *q, const int8_t *const v[4], size_t dim, int32_t out[4]);
    int32_t (*sum_i8)(const int8_t *a, size_t dim);
    int32_t (*dot_i8_u4)(const int8_t *q, const uint8_t *v, size_t dim);
    void (*dot_i8_u4_4)(const int8_t *q, const uint8_t *const v[4], size_t dim, int32_t out[4]);
    int32_t (*dot_i8_u2)(const int8_t *q, const uint8_t *v, size_t dim);
    /* Of two codes: sum((a - 8) * (b - 8)). */
    int32_t (*dot_u4)(const uint8_t *a, const uint8_t *b, size_t dim);
    void (*dot_u4_4)(const uint8_t *q, const uint8_t *const v[4], size_t dim, int32_t out[4]);

    /* ---- bits ---- */
    uint32_t (*hamming)(const uint8_t *a, const uint8_t *b, size_t bytes); /* bits that differ */
    void (*hamming_4)(const uint8_t *q, const uint8_t *const v[4], size_t bytes, uint32_t out[4]);
    /* The sum of the query's values (4 bits each) where v has a bit: the query's planes stand interleaved, for each 16
     * bytes of v (a last few count as 16) 16 bytes of each of the 4 planes, lowest first: 64 bytes (kith_pack_planes).
     *   bytes   of v */
    uint32_t (*dot_planes)(const uint8_t *planes, const uint8_t *v, size_t bytes);
    void (*dot_planes_4)(const uint8_t *planes, const uint8_t *const v[4], size_t bytes, uint32_t out[4]);

    /* ---- steps of a rotation (rotation.h), in place ---- */
    /* Negates x[i] where bit i % 32 of signs[i / 32] is set. */
    void (*flip_signs)(float *x, const uint32_t *signs, size_t dim);
    /* The Walsh-Hadamard transform of x[0..2^log2_dim), in the order of the Kronecker product, times `factor`. */
    void (*hadamard)(float *x, unsigned log2_dim, float factor);
    /* (x[i], y[i]) becomes ((x[i] + y[i]) / sqrt 2, (x[i] - y[i]) / sqrt 2). */
    void (*butterfly)(float *x, float *y, size_t dim);
};

/* The best table at or below `max` that this machine runs (KITH_KERNEL_BEST: no bound). Never NULL; static. */
const struct kith_kernels *kith_kernels_pick(enum kith_kernel_level max);

/* NULL where the build or the machine does not have that level; the scalar ones are always there. Static. */
const struct kith_kernels *kith_kernels_at(enum kith_kernel_level level);

#endif
