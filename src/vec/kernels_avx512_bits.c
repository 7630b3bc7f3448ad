/* AVX-512: counts of bits by VPOPCNTDQ, and the steps of a rotation. */
#if defined(__x86_64__)
#include "vec/kernels_avx512.h"

#define TURN_WIDTH 16
#include "vec/kernels_turn.h"

TARGET static inline __m512i differing(__mmask64 mask, const uint8_t *b, __m512i q)
{
    return _mm512_popcnt_epi32(_mm512_xor_si512(load_bytes(mask, b), q));
}

TARGET uint32_t avx512_hamming(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    __m512i sum = _mm512_setzero_si512();
    for (size_t i = 0; i < bytes; i += 64) {
        __mmask64 mask = mask64(bytes - i);
        sum = _mm512_add_epi32(sum, differing(mask, a + i, load_bytes(mask, b + i)));
    }
    return (uint32_t)_mm512_reduce_add_epi32(sum);
}

TARGET void avx512_hamming_4(const uint8_t *q, const uint8_t *const v[4], size_t bytes, uint32_t out[4])
{
    __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
    const uint8_t *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];
    for (size_t i = 0; i < bytes; i += 64) {
        __mmask64 mask = mask64(bytes - i);
        __m512i x = load_bytes(mask, q + i);
        s0 = _mm512_add_epi32(s0, differing(mask, v0 + i, x));
        s1 = _mm512_add_epi32(s1, differing(mask, v1 + i, x));
        s2 = _mm512_add_epi32(s2, differing(mask, v2 + i, x));
        s3 = _mm512_add_epi32(s3, differing(mask, v3 + i, x));
    }
    _mm_storeu_si128((void *)out, sum4_epi32(s0, s1, s2, s3));
}

/* 16 bytes of bits against the four planes of the query, a quarter of the register each. */
TARGET static inline __m512i common(__m128i bits, __m512i planes)
{
    return _mm512_popcnt_epi32(_mm512_and_si512(_mm512_broadcast_i32x4(bits), planes));
}

TARGET static inline __m512i add_common(__m512i sum, const uint8_t *v, __m512i planes)
{
    return _mm512_add_epi32(sum, common(_mm_loadu_si128((const void *)v), planes));
}

/* The last bytes, fewer than 16. */
TARGET static inline __m512i add_rest(__m512i sum, __mmask16 mask, const uint8_t *v, __m512i planes)
{
    return _mm512_add_epi32(sum, common(_mm_maskz_loadu_epi8(mask, v), planes));
}

TARGET static inline __m512i weighted(__m512i sum)
{
    return _mm512_sllv_epi32(sum, _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3));
}

TARGET uint32_t avx512_dot_planes(const uint8_t *planes, const uint8_t *v, size_t bytes)
{
    __m512i sum = _mm512_setzero_si512();
    size_t i = 0;
    for (; i + 16 <= bytes; i += 16)
        sum = add_common(sum, v + i, _mm512_loadu_si512(planes + 4 * i));
    if (i < bytes)
        sum = add_rest(sum, mask16(bytes - i), v + i, _mm512_loadu_si512(planes + 4 * i));
    return (uint32_t)_mm512_reduce_add_epi32(weighted(sum));
}

TARGET void avx512_dot_planes_4(const uint8_t *planes, const uint8_t *const v[4], size_t bytes,
                                uint32_t out[4])
{
    __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
    const uint8_t *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];
    size_t i = 0;
    for (; i + 16 <= bytes; i += 16) {
        __m512i x = _mm512_loadu_si512(planes + 4 * i);
        s0 = add_common(s0, v0 + i, x);
        s1 = add_common(s1, v1 + i, x);
        s2 = add_common(s2, v2 + i, x);
        s3 = add_common(s3, v3 + i, x);
    }
    if (i < bytes) {
        __mmask16 mask = mask16(bytes - i);
        __m512i x = _mm512_loadu_si512(planes + 4 * i);
        s0 = add_rest(s0, mask, v0 + i, x);
        s1 = add_rest(s1, mask, v1 + i, x);
        s2 = add_rest(s2, mask, v2 + i, x);
        s3 = add_rest(s3, mask, v3 + i, x);
    }
    _mm_storeu_si128((void *)out, sum4_epi32(weighted(s0), weighted(s1), weighted(s2), weighted(s3)));
}

TARGET void avx512_flip_signs(float *x, const uint32_t *signs, size_t dim)
{
    const __m512i sign = _mm512_set1_epi32(INT32_MIN);
    for (size_t i = 0; i < dim; i += 16) {
        __mmask16 mask = mask16(dim - i), negative = (__mmask16)(signs[i / 32] >> i % 32);
        __m512i value = _mm512_maskz_loadu_epi32(mask, x + i);
        _mm512_mask_storeu_epi32(x + i, mask, _mm512_mask_xor_epi32(value, negative, value, sign));
    }
}

TARGET void avx512_hadamard(float *x, unsigned log2_dim, float factor)
{
    turn_hadamard(x, log2_dim, factor);
}

TARGET void avx512_butterfly(float *x, float *y, size_t dim)
{
    turn_butterfly(x, y, dim);
}

#endif
