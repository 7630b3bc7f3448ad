/* Whole numbers of 8, 4 and 2 bits on 128-bit registers, with and without the dot product extension: included by both
 * files after TARGET, FORM(kernel) (the function's name) and add_products(sum, a, b) are defined. 16 bytes at a time, then
 * 8, then one. */
#include "vec/kernels_rest.h"

/* 8 bytes, and zeros. */
TARGET static inline int8x16_t load8_i8(const int8_t *p)
{
    return vcombine_s8(vld1_s8(p), vdup_n_s8(0));
}

TARGET static inline uint8x16_t load8_u8(const uint8_t *p)
{
    return vcombine_u8(vld1_u8(p), vdup_n_u8(0));
}

TARGET int32_t FORM(dot_i8)(const int8_t *a, const int8_t *b, size_t dim)
{
    int32x4_t s = vdupq_n_s32(0), t = s;
    size_t i = 0;
    for (; i + 32 <= dim; i += 32) {
        s = add_products(s, vld1q_s8(a + i), vld1q_s8(b + i));
        t = add_products(t, vld1q_s8(a + i + 16), vld1q_s8(b + i + 16));
    }
    for (; i + 16 <= dim; i += 16)
        s = add_products(s, vld1q_s8(a + i), vld1q_s8(b + i));
    return vaddvq_s32(vaddq_s32(s, t)) + scalar_dot_i8(a + i, b + i, dim - i);
}

TARGET void FORM(dot_i8_4)(const int8_t *q, const int8_t *const v[4], size_t dim, int32_t out[4])
{
    int32x4_t s0 = vdupq_n_s32(0), s1 = s0, s2 = s0, s3 = s0;
    const int8_t *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];
    size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        int8x16_t x = vld1q_s8(q + i);
        s0 = add_products(s0, x, vld1q_s8(v0 + i));
        s1 = add_products(s1, x, vld1q_s8(v1 + i));
        s2 = add_products(s2, x, vld1q_s8(v2 + i));
        s3 = add_products(s3, x, vld1q_s8(v3 + i));
    }
    int32_t sums[4] = {vaddvq_s32(s0), vaddvq_s32(s1), vaddvq_s32(s2), vaddvq_s32(s3)};
    for (int k = 0; k < 4; k++)
        out[k] = sums[k] + (i < dim ? scalar_dot_i8(q + i, v[k] + i, dim - i) : 0);
}

TARGET int32_t FORM(sum_i8)(const int8_t *a, size_t dim)
{
    int32x4_t sum = vdupq_n_s32(0);
    size_t i = 0;
    for (; i + 16 <= dim; i += 16)
        sum = vpadalq_s16(sum, vpaddlq_s8(vld1q_s8(a + i)));
    return vaddvq_s32(sum) + scalar_sum_i8(a + i, dim - i);
}

/* 16 bytes: x stands with the low nibbles, y with the high ones. */
TARGET static inline int32x4_t add_u4(int32x4_t sum, uint8x16_t v, int8x16_t x, int8x16_t y)
{
    sum = add_products(sum, vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(15))), x);
    return add_products(sum, vreinterpretq_s8_u8(vshrq_n_u8(v, 4)), y);
}

TARGET int32_t FORM(dot_i8_u4)(const int8_t *q, const uint8_t *v, size_t dim)
{
    int32x4_t s = vdupq_n_s32(0), t = s;
    for (; dim >= 128; dim -= 128, q += 128, v += 64) {
        for (size_t j = 0; j < 64; j += 32) {
            s = add_u4(s, vld1q_u8(v + j), vld1q_s8(q + j), vld1q_s8(q + 64 + j));
            t = add_u4(t, vld1q_u8(v + j + 16), vld1q_s8(q + j + 16), vld1q_s8(q + 80 + j));
        }
    }
    size_t share = (dim + 1) / 2, j = 0;
    for (; j + 16 <= dim - share; j += 16)
        s = add_u4(s, vld1q_u8(v + j), vld1q_s8(q + j), vld1q_s8(q + share + j));
    for (; j + 8 <= dim - share; j += 8)
        s = add_u4(s, load8_u8(v + j), load8_i8(q + j), load8_i8(q + share + j));
    return vaddvq_s32(vaddq_s32(s, t)) + rest_u4(q, v, j, share, dim);
}

TARGET void FORM(dot_i8_u4_4)(const int8_t *q, const uint8_t *const v[4], size_t dim, int32_t out[4])
{
    int32x4_t s0 = vdupq_n_s32(0), s1 = s0, s2 = s0, s3 = s0;
    const uint8_t *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];
    size_t i = 0, share = 64, j = 0;
    while (dim > 0) {
        share = dim >= 128 ? 64 : (dim + 1) / 2;
        size_t both = dim >= 128 ? 64 : dim - share; /* bytes of which both nibbles count */
        for (j = 0; j + 16 <= both; j += 16) {
            int8x16_t x = vld1q_s8(q + j), y = vld1q_s8(q + share + j);
            s0 = add_u4(s0, vld1q_u8(v0 + i + j), x, y);
            s1 = add_u4(s1, vld1q_u8(v1 + i + j), x, y);
            s2 = add_u4(s2, vld1q_u8(v2 + i + j), x, y);
            s3 = add_u4(s3, vld1q_u8(v3 + i + j), x, y);
        }
        for (; j + 8 <= both; j += 8) {
            int8x16_t x = load8_i8(q + j), y = load8_i8(q + share + j);
            s0 = add_u4(s0, load8_u8(v0 + i + j), x, y);
            s1 = add_u4(s1, load8_u8(v1 + i + j), x, y);
            s2 = add_u4(s2, load8_u8(v2 + i + j), x, y);
            s3 = add_u4(s3, load8_u8(v3 + i + j), x, y);
        }
        if (dim < 128)
            break;
        dim -= 128, q += 128, i += 64;
    }
    int32_t sums[4] = {vaddvq_s32(s0), vaddvq_s32(s1), vaddvq_s32(s2), vaddvq_s32(s3)};
    for (int k = 0; k < 4; k++)
        out[k] = sums[k] + (dim ? rest_u4(q, v[k] + i, j, share, dim) : 0);
}

/* 16 bytes; the query's parts stand `share` apart. */
TARGET static inline int32x4_t add_u2(int32x4_t sum, uint8x16_t v, const int8_t *q, size_t share)
{
    const uint8x16_t mask = vdupq_n_u8(3);
    sum = add_products(sum, vreinterpretq_s8_u8(vandq_u8(v, mask)), vld1q_s8(q));
    sum = add_products(sum, vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(v, 2), mask)), vld1q_s8(q + share));
    sum = add_products(sum, vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(v, 4), mask)), vld1q_s8(q + 2 * share));
    return add_products(sum, vreinterpretq_s8_u8(vshrq_n_u8(v, 6)), vld1q_s8(q + 3 * share));
}

TARGET int32_t FORM(dot_i8_u2)(const int8_t *q, const uint8_t *v, size_t dim)
{
    int32x4_t s = vdupq_n_s32(0), t = s;
    for (; dim >= 256; dim -= 256, q += 256, v += 64) {
        for (size_t j = 0; j < 64; j += 32) {
            s = add_u2(s, vld1q_u8(v + j), q + j, 64);
            t = add_u2(t, vld1q_u8(v + j + 16), q + j + 16, 64);
        }
    }
    size_t share = (dim + 3) / 4, j = 0;
    for (; 3 * share + j + 16 <= dim; j += 16)
        s = add_u2(s, vld1q_u8(v + j), q + j, share);
    return vaddvq_s32(vaddq_s32(s, t)) + rest_u2(q, v, j, share, dim);
}

/* The nibbles less 8. */
struct signed_u4 {
    int8x16_t low, high;
};

TARGET static inline struct signed_u4 split_u4(uint8x16_t v)
{
    const int8x16_t eight = vdupq_n_s8(8);
    return (struct signed_u4){vsubq_s8(vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(15))), eight),
                              vsubq_s8(vreinterpretq_s8_u8(vshrq_n_u8(v, 4)), eight)};
}

TARGET static inline int32x4_t add_codes(int32x4_t sum, struct signed_u4 q, uint8x16_t v)
{
    struct signed_u4 x = split_u4(v);
    return add_products(add_products(sum, q.low, x.low), q.high, x.high);
}

TARGET int32_t FORM(dot_u4)(const uint8_t *a, const uint8_t *b, size_t dim)
{
    int32x4_t sum = vdupq_n_s32(0);
    size_t i = 0;
    for (; i + 16 <= dim / 2; i += 16)
        sum = add_codes(sum, split_u4(vld1q_u8(a + i)), vld1q_u8(b + i));
    return vaddvq_s32(sum) + scalar_dot_u4(a + i, b + i, dim - 2 * i);
}

TARGET void FORM(dot_u4_4)(const uint8_t *q, const uint8_t *const v[4], size_t dim, int32_t out[4])
{
    int32x4_t s0 = vdupq_n_s32(0), s1 = s0, s2 = s0, s3 = s0;
    const uint8_t *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];
    size_t i = 0;
    for (; i + 16 <= dim / 2; i += 16) {
        struct signed_u4 x = split_u4(vld1q_u8(q + i));
        s0 = add_codes(s0, x, vld1q_u8(v0 + i));
        s1 = add_codes(s1, x, vld1q_u8(v1 + i));
        s2 = add_codes(s2, x, vld1q_u8(v2 + i));
        s3 = add_codes(s3, x, vld1q_u8(v3 + i));
    }
    int32_t sums[4] = {vaddvq_s32(s0), vaddvq_s32(s1), vaddvq_s32(s2), vaddvq_s32(s3)};
    for (int k = 0; k < 4; k++)
        out[k] = sums[k] + (2 * i < dim ? scalar_dot_u4(q + i, v[k] + i, dim - 2 * i) : 0);
}
