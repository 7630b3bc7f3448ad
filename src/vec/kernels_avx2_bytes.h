/* Whole numbers of 8, 4 and 2 bits on 256-bit registers, 32 bytes at a time, then 8, then one, for AVX2 and AVX-VNNI: included by both files after TARGET,
 * FORM(kernel) (the function's name) and add_products(sum, unsigned bytes, signed bytes) are defined.
 *
 * The first of two factors must be unsigned: |a| * (b with a's sign) is a * b. Bytes in [-127, 127] make pairs of
 * products that fit 16 bits. */
#include "vec/kernels_rest.h"

/* sum + a * b, where `size` is |a|. */
TARGET static inline __m256i add_signed(__m256i sum, __m256i size, __m256i a, __m256i b)
{
    return add_products(sum, size, _mm256_sign_epi8(b, a));
}

TARGET int32_t FORM(dot_i8)(const int8_t *a, const int8_t *b, size_t dim)
{
    __m256i s = _mm256_setzero_si256(), t = s;
    size_t i = 0;
    for (; i + 64 <= dim; i += 64) {
        __m256i x = load(a + i), y = load(a + i + 32);
        s = add_signed(s, _mm256_abs_epi8(x), x, load(b + i));
        t = add_signed(t, _mm256_abs_epi8(y), y, load(b + i + 32));
    }
    for (; i + 32 <= dim; i += 32) {
        __m256i x = load(a + i);
        s = add_signed(s, _mm256_abs_epi8(x), x, load(b + i));
    }
    for (; i + 8 <= dim; i += 8) {
        __m256i x = load8(a + i);
        s = add_signed(s, _mm256_abs_epi8(x), x, load8(b + i));
    }
    return sum_epi32(_mm256_add_epi32(s, t)) + scalar_dot_i8(a + i, b + i, dim - i);
}

TARGET void FORM(dot_i8_4)(const int8_t *q, const int8_t *const v[4], size_t dim, int32_t out[4])
{
    __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
    const int8_t *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];
    size_t i = 0;
    for (; i + 32 <= dim; i += 32) {
        __m256i x = load(q + i), size = _mm256_abs_epi8(x);
        s0 = add_signed(s0, size, x, load(v0 + i));
        s1 = add_signed(s1, size, x, load(v1 + i));
        s2 = add_signed(s2, size, x, load(v2 + i));
        s3 = add_signed(s3, size, x, load(v3 + i));
    }
    for (; i + 8 <= dim; i += 8) {
        __m256i x = load8(q + i), size = _mm256_abs_epi8(x);
        s0 = add_signed(s0, size, x, load8(v0 + i));
        s1 = add_signed(s1, size, x, load8(v1 + i));
        s2 = add_signed(s2, size, x, load8(v2 + i));
        s3 = add_signed(s3, size, x, load8(v3 + i));
    }
    int32_t rest[4] = {0};
    for (int k = 0; k < 4 && i < dim; k++)
        rest[k] = scalar_dot_i8(q + i, v[k] + i, dim - i);
    _mm_storeu_si128((void *)out,
                     _mm_add_epi32(sum4_epi32(s0, s1, s2, s3), _mm_loadu_si128((const void *)rest)));
}

TARGET int32_t FORM(sum_i8)(const int8_t *a, size_t dim)
{
    __m256i sum = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 32 <= dim; i += 32)
        sum = add_products(sum, _mm256_set1_epi8(1), load(a + i));
    return sum_epi32(sum) + scalar_sum_i8(a + i, dim - i);
}

TARGET static inline __m256i low_nibbles(__m256i v)
{
    return _mm256_and_si256(v, _mm256_set1_epi8(15));
}

TARGET static inline __m256i high_nibbles(__m256i v)
{
    return low_nibbles(_mm256_srli_epi16(v, 4));
}

/* 32 bytes: x stands with the low nibbles, y with the high ones. */
TARGET static inline __m256i add_u4(__m256i sum, __m256i v, __m256i x, __m256i y)
{
    return add_products(add_products(sum, low_nibbles(v), x), high_nibbles(v), y);
}

TARGET int32_t FORM(dot_i8_u4)(const int8_t *q, const uint8_t *v, size_t dim)
{
    __m256i s = _mm256_setzero_si256(), t = s;
    for (; dim >= 128; dim -= 128, q += 128, v += 64) {
        s = add_u4(s, load(v), load(q), load(q + 64));
        t = add_u4(t, load(v + 32), load(q + 32), load(q + 96));
    }
    size_t share = (dim + 1) / 2, j = 0;
    for (; j + 32 <= dim - share; j += 32)
        s = add_u4(s, load(v + j), load(q + j), load(q + share + j));
    for (; j + 8 <= dim - share; j += 8)
        s = add_u4(s, load8(v + j), load8(q + j), load8(q + share + j));
    return sum_epi32(_mm256_add_epi32(s, t)) + rest_u4(q, v, j, share, dim);
}

TARGET void FORM(dot_i8_u4_4)(const int8_t *q, const uint8_t *const v[4], size_t dim, int32_t out[4])
{
    __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
    const uint8_t *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];
    size_t i = 0, share = 64, j = 0;
    while (dim > 0) {
        share = dim >= 128 ? 64 : (dim + 1) / 2;
        size_t both = dim >= 128 ? 64 : dim - share; /* bytes of which both nibbles count */
        for (j = 0; j + 32 <= both; j += 32) {
            __m256i x = load(q + j), y = load(q + share + j);
            s0 = add_u4(s0, load(v0 + i + j), x, y);
            s1 = add_u4(s1, load(v1 + i + j), x, y);
            s2 = add_u4(s2, load(v2 + i + j), x, y);
            s3 = add_u4(s3, load(v3 + i + j), x, y);
        }
        for (; j + 8 <= both; j += 8) {
            __m256i x = load8(q + j), y = load8(q + share + j);
            s0 = add_u4(s0, load8(v0 + i + j), x, y);
            s1 = add_u4(s1, load8(v1 + i + j), x, y);
            s2 = add_u4(s2, load8(v2 + i + j), x, y);
            s3 = add_u4(s3, load8(v3 + i + j), x, y);
        }
        if (dim < 128)
            break;
        dim -= 128, q += 128, i += 64;
    }
    int32_t rest[4] = {0};
    for (int k = 0; k < 4 && dim; k++)
        rest[k] = rest_u4(q, v[k] + i, j, share, dim);
    _mm_storeu_si128((void *)out,
                     _mm_add_epi32(sum4_epi32(s0, s1, s2, s3), _mm_loadu_si128((const void *)rest)));
}

/* Two bits of each byte, from bit `from` on, against a part of the query. */
#define ADD_U2(sum, v, from, q)                                                                              \
    add_products(sum, _mm256_and_si256(_mm256_srli_epi16(v, from), _mm256_set1_epi8(3)), q)

/* 32 bytes; the query's parts stand `share` apart. */
TARGET static inline __m256i add_u2(__m256i sum, const uint8_t *p, const int8_t *q, size_t share)
{
    __m256i v = load(p);
    sum = ADD_U2(ADD_U2(sum, v, 0, load(q)), v, 2, load(q + share));
    return ADD_U2(ADD_U2(sum, v, 4, load(q + 2 * share)), v, 6, load(q + 3 * share));
}

/* 8 bytes. */
TARGET static inline __m256i add8_u2(__m256i sum, const uint8_t *p, const int8_t *q, size_t share)
{
    __m256i v = load8(p);
    sum = ADD_U2(ADD_U2(sum, v, 0, load8(q)), v, 2, load8(q + share));
    return ADD_U2(ADD_U2(sum, v, 4, load8(q + 2 * share)), v, 6, load8(q + 3 * share));
}

TARGET int32_t FORM(dot_i8_u2)(const int8_t *q, const uint8_t *v, size_t dim)
{
    __m256i s = _mm256_setzero_si256(), t = s;
    for (; dim >= 256; dim -= 256, q += 256, v += 64) {
        s = add_u2(s, v, q, 64);
        t = add_u2(t, v + 32, q + 32, 64);
    }
    size_t share = (dim + 3) / 4, j = 0;
    for (; 3 * share + j + 32 <= dim; j += 32)
        s = add_u2(s, v + j, q + j, share);
    for (; 3 * share + j + 8 <= dim; j += 8)
        s = add8_u2(s, v + j, q + j, share);
    return sum_epi32(_mm256_add_epi32(s, t)) + rest_u2(q, v, j, share, dim);
}

/* The nibbles less 8. */
struct signed_u4 {
    __m256i low, high;
};

TARGET static inline struct signed_u4 split_u4(__m256i v)
{
    const __m256i eight = _mm256_set1_epi8(8);
    return (struct signed_u4){_mm256_sub_epi8(low_nibbles(v), eight),
                              _mm256_sub_epi8(high_nibbles(v), eight)};
}

TARGET static inline __m256i add_codes(__m256i sum, struct signed_u4 size, struct signed_u4 q, __m256i v)
{
    struct signed_u4 x = split_u4(v);
    return add_signed(add_signed(sum, size.low, q.low, x.low), size.high, q.high, x.high);
}

TARGET static inline struct signed_u4 size_of(struct signed_u4 q)
{
    return (struct signed_u4){_mm256_abs_epi8(q.low), _mm256_abs_epi8(q.high)};
}

/* 8 bytes, and nibbles of 8, which stand for 0. */
TARGET static inline __m256i load8_codes(const uint8_t *p)
{
    return _mm256_blend_epi32(_mm256_set1_epi8((char)0x88), load8(p), 3);
}

TARGET int32_t FORM(dot_u4)(const uint8_t *a, const uint8_t *b, size_t dim)
{
    __m256i sum = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 32 <= dim / 2; i += 32) {
        struct signed_u4 q = split_u4(load(a + i));
        sum = add_codes(sum, size_of(q), q, load(b + i));
    }
    for (; i + 8 <= dim / 2; i += 8) {
        struct signed_u4 q = split_u4(load8_codes(a + i));
        sum = add_codes(sum, size_of(q), q, load8_codes(b + i));
    }
    return sum_epi32(sum) + scalar_dot_u4(a + i, b + i, dim - 2 * i);
}

TARGET void FORM(dot_u4_4)(const uint8_t *q, const uint8_t *const v[4], size_t dim, int32_t out[4])
{
    __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
    const uint8_t *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];
    size_t i = 0;
    for (; i + 32 <= dim / 2; i += 32) {
        struct signed_u4 x = split_u4(load(q + i)), size = size_of(x);
        s0 = add_codes(s0, size, x, load(v0 + i));
        s1 = add_codes(s1, size, x, load(v1 + i));
        s2 = add_codes(s2, size, x, load(v2 + i));
        s3 = add_codes(s3, size, x, load(v3 + i));
    }
    for (; i + 8 <= dim / 2; i += 8) {
        struct signed_u4 x = split_u4(load8_codes(q + i)), size = size_of(x);
        s0 = add_codes(s0, size, x, load8_codes(v0 + i));
        s1 = add_codes(s1, size, x, load8_codes(v1 + i));
        s2 = add_codes(s2, size, x, load8_codes(v2 + i));
        s3 = add_codes(s3, size, x, load8_codes(v3 + i));
    }
    int32_t rest[4] = {0};
    for (int k = 0; k < 4 && 2 * i < dim; k++)
        rest[k] = scalar_dot_u4(q + i, v[k] + i, dim - 2 * i);
    _mm_storeu_si128((void *)out,
                     _mm_add_epi32(sum4_epi32(s0, s1, s2, s3), _mm_loadu_si128((const void *)rest)));
}
