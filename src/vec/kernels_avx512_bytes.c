/* AVX-512: whole numbers of 8, 4 and 2 bits, by vpdpbusd, which multiplies unsigned by signed bytes and adds four
 * products to each sum.
 *
 * int8: x ^ 0x80 is x + 128 as an unsigned byte, and sum((x + 128) * q) - sum(128 * q) = sum(x * q); the second sum is
 * one more vpdpbusd for each load of the query, shared by the four vectors.
 *
 * 4 and 2 bits: the upper ones of a byte are not shifted down but masked: that makes them 16 (4, 64) times as large, and
 * their sum, taken apart, is shifted at the end. */
#if defined(__x86_64__)
#include "vec/kernels_avx512.h"

TARGET static inline __m512i biased(__m512i x)
{
    return _mm512_xor_si512(x, _mm512_set1_epi8((char)0x80));
}

TARGET static inline __m512i add_offset(__m512i sum, __m512i q)
{
    return _mm512_dpbusd_epi32(sum, _mm512_set1_epi8((char)0x80), q);
}

TARGET int32_t avx512_dot_i8(const int8_t *a, const int8_t *b, size_t dim)
{
    __m512i s = _mm512_setzero_si512(), t = s, offset = s;
    size_t i = 0;
    for (; i + 128 <= dim; i += 128) {
        __m512i x = _mm512_loadu_si512(a + i), y = _mm512_loadu_si512(a + i + 64);
        s = _mm512_dpbusd_epi32(s, biased(_mm512_loadu_si512(b + i)), x);
        t = _mm512_dpbusd_epi32(t, biased(_mm512_loadu_si512(b + i + 64)), y);
        offset = add_offset(add_offset(offset, x), y);
    }
    for (; i < dim; i += 64) {
        __mmask64 mask = mask64(dim - i);
        __m512i x = load_bytes(mask, a + i);
        s = _mm512_dpbusd_epi32(s, biased(load_bytes(mask, b + i)), x);
        offset = add_offset(offset, x);
    }
    return _mm512_reduce_add_epi32(_mm512_sub_epi32(_mm512_add_epi32(s, t), offset));
}

TARGET void avx512_dot_i8_4(const int8_t *q, const int8_t *const v[4], size_t dim, int32_t out[4])
{
    __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0, offset = s0;
    const int8_t *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];
    size_t i = 0;
    for (; i + 64 <= dim; i += 64) {
        __m512i x = _mm512_loadu_si512(q + i);
        offset = add_offset(offset, x);
        s0 = _mm512_dpbusd_epi32(s0, biased(_mm512_loadu_si512(v0 + i)), x);
        s1 = _mm512_dpbusd_epi32(s1, biased(_mm512_loadu_si512(v1 + i)), x);
        s2 = _mm512_dpbusd_epi32(s2, biased(_mm512_loadu_si512(v2 + i)), x);
        s3 = _mm512_dpbusd_epi32(s3, biased(_mm512_loadu_si512(v3 + i)), x);
    }
    if (i < dim) {
        __mmask64 mask = mask64(dim - i);
        __m512i x = load_bytes(mask, q + i);
        offset = add_offset(offset, x);
        s0 = _mm512_dpbusd_epi32(s0, biased(load_bytes(mask, v0 + i)), x);
        s1 = _mm512_dpbusd_epi32(s1, biased(load_bytes(mask, v1 + i)), x);
        s2 = _mm512_dpbusd_epi32(s2, biased(load_bytes(mask, v2 + i)), x);
        s3 = _mm512_dpbusd_epi32(s3, biased(load_bytes(mask, v3 + i)), x);
    }
    _mm_storeu_si128((void *)out, sum4_epi32(_mm512_sub_epi32(s0, offset), _mm512_sub_epi32(s1, offset),
                                             _mm512_sub_epi32(s2, offset), _mm512_sub_epi32(s3, offset)));
}

TARGET int32_t avx512_sum_i8(const int8_t *a, size_t dim)
{
    __m512i sum = _mm512_setzero_si512();
    for (size_t i = 0; i < dim; i += 64)
        sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), load_bytes(mask64(dim - i), a + i));
    return _mm512_reduce_add_epi32(sum);
}

/* One step of nibbles: `low` sums the low ones, `high` 16 times the high ones. */
TARGET static inline void add_u4(__m512i v, __m512i x, __m512i y, __m512i *low, __m512i *high)
{
    *low = _mm512_dpbusd_epi32(*low, _mm512_and_si512(v, _mm512_set1_epi8(0x0f)), x);
    *high = _mm512_dpbusd_epi32(*high, _mm512_and_si512(v, _mm512_set1_epi8((char)0xf0)), y);
}

TARGET static inline __m512i both_u4(__m512i low, __m512i high)
{
    return _mm512_add_epi32(low, _mm512_srai_epi32(high, 4));
}

TARGET int32_t avx512_dot_i8_u4(const int8_t *q, const uint8_t *v, size_t dim)
{
    __m512i low = _mm512_setzero_si512(), high = low;
    for (; dim >= 128; dim -= 128, q += 128, v += 64)
        add_u4(_mm512_loadu_si512(v), _mm512_loadu_si512(q), _mm512_loadu_si512(q + 64), &low, &high);
    if (dim) {
        size_t share = (dim + 1) / 2;
        add_u4(load_bytes(mask64(share), v), load_bytes(mask64(share), q),
               load_bytes(mask64(dim - share), q + share), &low, &high);
    }
    return _mm512_reduce_add_epi32(both_u4(low, high));
}

TARGET void avx512_dot_i8_u4_4(const int8_t *q, const uint8_t *const v[4], size_t dim, int32_t out[4])
{
    __m512i l0 = _mm512_setzero_si512(), l1 = l0, l2 = l0, l3 = l0, h0 = l0, h1 = l0, h2 = l0, h3 = l0;
    const uint8_t *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];
    size_t i = 0;
    for (; dim >= 128; dim -= 128, q += 128, i += 64) {
        __m512i x = _mm512_loadu_si512(q), y = _mm512_loadu_si512(q + 64);
        add_u4(_mm512_loadu_si512(v0 + i), x, y, &l0, &h0);
        add_u4(_mm512_loadu_si512(v1 + i), x, y, &l1, &h1);
        add_u4(_mm512_loadu_si512(v2 + i), x, y, &l2, &h2);
        add_u4(_mm512_loadu_si512(v3 + i), x, y, &l3, &h3);
    }
    if (dim) {
        size_t share = (dim + 1) / 2;
        __mmask64 mask = mask64(share);
        __m512i x = load_bytes(mask, q), y = load_bytes(mask64(dim - share), q + share);
        add_u4(load_bytes(mask, v0 + i), x, y, &l0, &h0);
        add_u4(load_bytes(mask, v1 + i), x, y, &l1, &h1);
        add_u4(load_bytes(mask, v2 + i), x, y, &l2, &h2);
        add_u4(load_bytes(mask, v3 + i), x, y, &l3, &h3);
    }
    _mm_storeu_si128((void *)out,
                     sum4_epi32(both_u4(l0, h0), both_u4(l1, h1), both_u4(l2, h2), both_u4(l3, h3)));
}

TARGET int32_t avx512_dot_i8_u2(const int8_t *q, const uint8_t *v, size_t dim)
{
    const __m512i mask0 = _mm512_set1_epi8(3), mask1 = _mm512_set1_epi8(12), mask2 = _mm512_set1_epi8(48),
                  mask3 = _mm512_set1_epi8((char)192);
    __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
    for (; dim >= 256; dim -= 256, q += 256, v += 64) {
        __m512i x = _mm512_loadu_si512(v);
        s0 = _mm512_dpbusd_epi32(s0, _mm512_and_si512(x, mask0), _mm512_loadu_si512(q));
        s1 = _mm512_dpbusd_epi32(s1, _mm512_and_si512(x, mask1), _mm512_loadu_si512(q + 64));
        s2 = _mm512_dpbusd_epi32(s2, _mm512_and_si512(x, mask2), _mm512_loadu_si512(q + 128));
        s3 = _mm512_dpbusd_epi32(s3, _mm512_and_si512(x, mask3), _mm512_loadu_si512(q + 192));
    }
    if (dim) {
        size_t share = (dim + 3) / 4;
        __m512i x = load_bytes(mask64(share), v), y[4];
        for (size_t part = 0; part < 4; part++) {
            size_t from = part * share < dim ? part * share : dim;
            y[part] = load_bytes(mask64(dim - from < share ? dim - from : share), q + from);
        }
        s0 = _mm512_dpbusd_epi32(s0, _mm512_and_si512(x, mask0), y[0]);
        s1 = _mm512_dpbusd_epi32(s1, _mm512_and_si512(x, mask1), y[1]);
        s2 = _mm512_dpbusd_epi32(s2, _mm512_and_si512(x, mask2), y[2]);
        s3 = _mm512_dpbusd_epi32(s3, _mm512_and_si512(x, mask3), y[3]);
    }
    s0 = _mm512_add_epi32(s0, _mm512_srai_epi32(s1, 2));
    s2 = _mm512_add_epi32(_mm512_srai_epi32(s2, 4), _mm512_srai_epi32(s3, 6));
    return _mm512_reduce_add_epi32(_mm512_add_epi32(s0, s2));
}

/* The nibbles less 8, as signed bytes; 0 where the masks have no bit. */
struct signed_u4 {
    __m512i low, high;
};

TARGET static inline struct signed_u4 split_u4(__m512i x, __mmask64 low, __mmask64 high)
{
    const __m512i eight = _mm512_set1_epi8(8), mask = _mm512_set1_epi8(0x0f);
    return (struct signed_u4){
        _mm512_maskz_sub_epi8(low, _mm512_and_si512(x, mask), eight),
        _mm512_maskz_sub_epi8(high, _mm512_and_si512(_mm512_srli_epi16(x, 4), mask), eight)};
}

/* 8 times the sum of the query's values, which dot products with unsigned codes have too much. */
TARGET static inline __m512i add_eights(__m512i sum, struct signed_u4 q)
{
    const __m512i eight = _mm512_set1_epi8(8);
    return _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sum, eight, q.low), eight, q.high);
}

TARGET int32_t avx512_dot_u4(const uint8_t *a, const uint8_t *b, size_t dim)
{
    __m512i low = _mm512_setzero_si512(), high = low, offset = low;
    for (size_t i = 0; i < (dim + 1) / 2; i += 64) {
        __mmask64 mask = mask64((dim + 1) / 2 - i);
        struct signed_u4 q = split_u4(load_bytes(mask, a + i), mask, mask64(dim / 2 - i));
        add_u4(load_bytes(mask, b + i), q.low, q.high, &low, &high);
        offset = add_eights(offset, q);
    }
    return _mm512_reduce_add_epi32(_mm512_sub_epi32(both_u4(low, high), offset));
}

TARGET void avx512_dot_u4_4(const uint8_t *q, const uint8_t *const v[4], size_t dim, int32_t out[4])
{
    __m512i l0 = _mm512_setzero_si512(), l1 = l0, l2 = l0, l3 = l0, h0 = l0, h1 = l0, h2 = l0, h3 = l0;
    __m512i offset = l0;
    const uint8_t *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];
    for (size_t i = 0; i < (dim + 1) / 2; i += 64) {
        __mmask64 mask = mask64((dim + 1) / 2 - i);
        struct signed_u4 x = split_u4(load_bytes(mask, q + i), mask, mask64(dim / 2 - i));
        add_u4(load_bytes(mask, v0 + i), x.low, x.high, &l0, &h0);
        add_u4(load_bytes(mask, v1 + i), x.low, x.high, &l1, &h1);
        add_u4(load_bytes(mask, v2 + i), x.low, x.high, &l2, &h2);
        add_u4(load_bytes(mask, v3 + i), x.low, x.high, &l3, &h3);
        offset = add_eights(offset, x);
    }
    _mm_storeu_si128((void *)out, sum4_epi32(_mm512_sub_epi32(both_u4(l0, h0), offset),
                                             _mm512_sub_epi32(both_u4(l1, h1), offset),
                                             _mm512_sub_epi32(both_u4(l2, h2), offset),
                                             _mm512_sub_epi32(both_u4(l3, h3), offset)));
}

#endif
