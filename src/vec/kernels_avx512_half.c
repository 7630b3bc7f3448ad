/* AVX-512: floats of 16 bits. A bf16 is a float32 without its lower half: the ones at odd places of a register need a
 * mask, the others a shift; the query is then wanted in the same order, evens and odds apart. */
#if defined(__x86_64__)
#include "vec/kernels_avx512.h"

TARGET static inline __m256i load16(size_t left, const uint16_t *p)
{
    return _mm256_maskz_loadu_epi16(mask16(left), p);
}

TARGET static inline __m512 load_f16(size_t left, const uint16_t *p)
{
    return _mm512_cvtph_ps(load16(left, p));
}

TARGET static inline __m512 load_bf16(size_t left, const uint16_t *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load16(left, p)), 16));
}

TARGET static inline __m512 load_f32(size_t left, const float *p)
{
    return _mm512_maskz_loadu_ps(mask16(left), p);
}

/* Of 32 bf16. */
TARGET static inline __m512 evens(__m512i x)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
}

TARGET static inline __m512 odds(__m512i x)
{
    return _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32((int)0xffff0000)));
}

/* The loops over 16 at a time with two sums, for a query loaded by LOAD_Q and vectors by LOAD_V. */
#define DOT(LOAD_Q, LOAD_V)                                                                                  \
    __m512 s = _mm512_setzero_ps(), t = s;                                                                   \
    size_t i = 0;                                                                                            \
    for (; i + 32 <= dim; i += 32) {                                                                         \
        s = _mm512_fmadd_ps(LOAD_Q(16, a + i), LOAD_V(16, b + i), s);                                        \
        t = _mm512_fmadd_ps(LOAD_Q(16, a + i + 16), LOAD_V(16, b + i + 16), t);                              \
    }                                                                                                        \
    for (; i < dim; i += 16)                                                                                 \
        s = _mm512_fmadd_ps(LOAD_Q(dim - i, a + i), LOAD_V(dim - i, b + i), s);                              \
    return _mm512_reduce_add_ps(_mm512_add_ps(s, t))

#define DOT4(LOAD_Q, LOAD_V)                                                                                 \
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;                                              \
    const uint16_t *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];                                           \
    size_t i = 0;                                                                                            \
    for (; i + 16 <= dim; i += 16) {                                                                         \
        __m512 x = LOAD_Q(16, q + i);                                                                        \
        s0 = _mm512_fmadd_ps(x, LOAD_V(16, v0 + i), s0);                                                     \
        s1 = _mm512_fmadd_ps(x, LOAD_V(16, v1 + i), s1);                                                     \
        s2 = _mm512_fmadd_ps(x, LOAD_V(16, v2 + i), s2);                                                     \
        s3 = _mm512_fmadd_ps(x, LOAD_V(16, v3 + i), s3);                                                     \
    }                                                                                                        \
    if (i < dim) {                                                                                           \
        __m512 x = LOAD_Q(dim - i, q + i);                                                                   \
        s0 = _mm512_fmadd_ps(x, LOAD_V(dim - i, v0 + i), s0);                                                \
        s1 = _mm512_fmadd_ps(x, LOAD_V(dim - i, v1 + i), s1);                                                \
        s2 = _mm512_fmadd_ps(x, LOAD_V(dim - i, v2 + i), s2);                                                \
        s3 = _mm512_fmadd_ps(x, LOAD_V(dim - i, v3 + i), s3);                                                \
    }                                                                                                        \
    _mm_storeu_ps(out, sum4_ps(s0, s1, s2, s3))

TARGET float avx512_dot_f32_f16(const float *a, const uint16_t *b, size_t dim)
{
    DOT(load_f32, load_f16);
}

TARGET void avx512_dot_f32_f16_4(const float *q, const uint16_t *const v[4], size_t dim, float out[4])
{
    DOT4(load_f32, load_f16);
}

TARGET float avx512_dot_f16(const uint16_t *a, const uint16_t *b, size_t dim)
{
    DOT(load_f16, load_f16);
}

TARGET void avx512_dot_f16_4(const uint16_t *q, const uint16_t *const v[4], size_t dim, float out[4])
{
    DOT4(load_f16, load_f16);
}

TARGET float avx512_dot_f32_bf16(const float *a, const uint16_t *b, size_t dim)
{
    DOT(load_f32, load_bf16);
}

/* Adds the products of 32 dimensions, of which x has the even ones and y the odd ones. */
TARGET static inline __m512 add_pairs(__m512 x, __m512 y, __m512i v, __m512 sum)
{
    return _mm512_fmadd_ps(y, odds(v), _mm512_fmadd_ps(x, evens(v), sum));
}

TARGET static inline __m512i load32(size_t left, const uint16_t *p)
{
    return _mm512_maskz_loadu_epi16(mask32(left), p);
}

TARGET void avx512_dot_f32_bf16_4(const float *q, const uint16_t *const v[4], size_t dim, float out[4])
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    const uint16_t *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];
    size_t i = 0;
    for (; i + 32 <= dim; i += 32) {
        __m512 low = _mm512_loadu_ps(q + i), high = _mm512_loadu_ps(q + i + 16);
        __m512 x = _mm512_permutex2var_ps(low, even, high), y = _mm512_permutex2var_ps(low, odd, high);
        s0 = add_pairs(x, y, _mm512_loadu_si512(v0 + i), s0);
        s1 = add_pairs(x, y, _mm512_loadu_si512(v1 + i), s1);
        s2 = add_pairs(x, y, _mm512_loadu_si512(v2 + i), s2);
        s3 = add_pairs(x, y, _mm512_loadu_si512(v3 + i), s3);
    }
    if (i < dim) {
        size_t left = dim - i, more = left > 16 ? left - 16 : 0;
        __m512 low = load_f32(left, q + i), high = load_f32(more, q + i + (more ? 16 : 0));
        __m512 x = _mm512_permutex2var_ps(low, even, high), y = _mm512_permutex2var_ps(low, odd, high);
        s0 = add_pairs(x, y, load32(left, v0 + i), s0);
        s1 = add_pairs(x, y, load32(left, v1 + i), s1);
        s2 = add_pairs(x, y, load32(left, v2 + i), s2);
        s3 = add_pairs(x, y, load32(left, v3 + i), s3);
    }
    _mm_storeu_ps(out, sum4_ps(s0, s1, s2, s3));
}

TARGET float avx512_dot_bf16(const uint16_t *a, const uint16_t *b, size_t dim)
{
    __m512 s = _mm512_setzero_ps(), t = s;
    for (size_t i = 0; i < dim; i += 32) {
        __m512i x = load32(dim - i, a + i), y = load32(dim - i, b + i);
        s = _mm512_fmadd_ps(evens(x), evens(y), s);
        t = _mm512_fmadd_ps(odds(x), odds(y), t);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(s, t));
}

TARGET void avx512_dot_bf16_4(const uint16_t *q, const uint16_t *const v[4], size_t dim, float out[4])
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    const uint16_t *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];
    for (size_t i = 0; i < dim; i += 32) {
        __m512i x = load32(dim - i, q + i);
        __m512 even = evens(x), odd = odds(x);
        s0 = add_pairs(even, odd, load32(dim - i, v0 + i), s0);
        s1 = add_pairs(even, odd, load32(dim - i, v1 + i), s1);
        s2 = add_pairs(even, odd, load32(dim - i, v2 + i), s2);
        s3 = add_pairs(even, odd, load32(dim - i, v3 + i), s3);
    }
    _mm_storeu_ps(out, sum4_ps(s0, s1, s2, s3));
}

TARGET static inline __m256i f16_of(__m512 x)
{
    return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
}

/* Not by the instruction for it: that one takes subnormals for 0. */
TARGET static inline __m256i bf16_of(__m512 x)
{
    const __m512i one = _mm512_set1_epi32(1), least = _mm512_set1_epi32(0x7fff),
                  quiet = _mm512_set1_epi32(0x40);
    __m512i bits = _mm512_castps_si512(x), high = _mm512_srli_epi32(bits, 16);
    __m512i round = _mm512_add_epi32(least, _mm512_and_si512(high, one));
    __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, round), 16);
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(rounded, nan, high, quiet));
}

/* Masked stores cost more than others: only for what is left over. */
#define TO_16(CONVERT)                                                                                       \
    size_t i = 0;                                                                                            \
    for (; i + 16 <= dim; i += 16)                                                                           \
        _mm256_storeu_si256((void *)(out + i), CONVERT(_mm512_loadu_ps(in + i)));                            \
    if (i < dim) {                                                                                           \
        _mm256_mask_storeu_epi16(out + i, mask16(dim - i), CONVERT(load_f32(dim - i, in + i)));              \
    }

#define FROM_16(LOAD)                                                                                        \
    size_t i = 0;                                                                                            \
    for (; i + 16 <= dim; i += 16)                                                                           \
        _mm512_storeu_ps(out + i, LOAD(16, in + i));                                                         \
    if (i < dim) {                                                                                           \
        _mm512_mask_storeu_ps(out + i, mask16(dim - i), LOAD(dim - i, in + i));                              \
    }

TARGET void avx512_to_f16(const float *in, uint16_t *out, size_t dim)
{
    TO_16(f16_of);
}

TARGET void avx512_from_f16(const uint16_t *in, float *out, size_t dim)
{
    FROM_16(load_f16);
}

TARGET void avx512_to_bf16(const float *in, uint16_t *out, size_t dim)
{
    TO_16(bf16_of);
}

TARGET void avx512_from_bf16(const uint16_t *in, float *out, size_t dim)
{
    FROM_16(load_bf16);
}

#endif
