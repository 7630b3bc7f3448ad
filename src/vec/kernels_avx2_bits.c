/* AVX2: counts of bits, and the steps of a rotation. Bits of long runs are counted by POPCNT; those of a query's planes
 * by looking up each nibble's count in a register. */
#if defined(__x86_64__)
#include "vec/kernels_avx2.h"

#include <string.h>

#define TURN_WIDTH 8
#include "vec/kernels_turn.h"

TARGET uint32_t avx2_hamming(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    uint64_t count = 0, x = 0, y = 0;
    for (; bytes >= 8; bytes -= 8, a += 8, b += 8) {
        memcpy(&x, a, 8);
        memcpy(&y, b, 8);
        count += (uint64_t)_mm_popcnt_u64(x ^ y);
    }
    for (size_t i = 0; i < bytes; i++)
        count += (uint64_t)_mm_popcnt_u32(a[i] ^ b[i]);
    return (uint32_t)count;
}

TARGET void avx2_hamming_4(const uint8_t *q, const uint8_t *const v[4], size_t bytes, uint32_t out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = avx2_hamming(q, v[k], bytes);
}

/* The bits of each 8 bytes. */
TARGET static inline __m256i popcount(__m256i x)
{
    const __m256i counts = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2,
                                            2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i mask = _mm256_set1_epi8(15);
    __m256i low = _mm256_shuffle_epi8(counts, _mm256_and_si256(x, mask));
    __m256i high = _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16(x, 4), mask));
    return _mm256_sad_epu8(_mm256_add_epi8(low, high), _mm256_setzero_si256());
}

/* 16 bytes, or the `left` that there still are and zeros. before: 16 bytes stand before them, which may be read: then
 * no byte is copied. */
TARGET static inline __m128i load_bits(const uint8_t *v, size_t left, bool before)
{
    static const uint8_t places[32] = {0,    1,    2,    3,    4,    5,    6,    7,    8,    9,    10,
                                       11,   12,   13,   14,   15,   0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
                                       0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80};
    uint8_t last[16] = {0};
    if (left >= 16)
        return _mm_loadu_si128((const void *)v);
    if (before)
        return _mm_shuffle_epi8(_mm_loadu_si128((const void *)(v + left - 16)),
                                _mm_loadu_si128((const void *)(places + 16 - left)));
    memcpy(last, v, left);
    return _mm_loadu_si128((const void *)last);
}

TARGET uint32_t avx2_dot_planes(const uint8_t *planes, const uint8_t *v, size_t bytes)
{
    __m256i low = _mm256_setzero_si256(), high = low; /* planes 0 and 1, 2 and 3 */
    for (size_t i = 0; i < bytes; i += 16) {
        __m256i bits = _mm256_broadcastsi128_si256(load_bits(v + i, bytes - i, i > 0));
        low = _mm256_add_epi64(low, popcount(_mm256_and_si256(bits, load(planes + 4 * i))));
        high = _mm256_add_epi64(high, popcount(_mm256_and_si256(bits, load(planes + 4 * i + 32))));
    }
    __m256i sum = _mm256_add_epi64(low, _mm256_slli_epi64(high, 2));
    sum = _mm256_sllv_epi64(sum, _mm256_setr_epi64x(0, 0, 1, 1));
    return (uint32_t)sum_epi32(sum);
}

TARGET void avx2_dot_planes_4(const uint8_t *planes, const uint8_t *const v[4], size_t bytes, uint32_t out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = avx2_dot_planes(planes, v[k], bytes);
}

TARGET void avx2_flip_signs(float *x, const uint32_t *signs, size_t dim)
{
    const __m256i places = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24),
                  sign = _mm256_set1_epi32(INT32_MIN);
    size_t i = 0;
    for (; i + 32 <= dim; i += 32) {
        for (unsigned part = 0; part < 4; part++) {
            __m256i bits = _mm256_set1_epi32((int)(signs[i / 32] >> 8 * part));
            __m256i flip = _mm256_and_si256(_mm256_sllv_epi32(bits, places), sign);
            float *p = x + i + 8 * part;
            _mm256_storeu_ps(p, _mm256_xor_ps(_mm256_loadu_ps(p), _mm256_castsi256_ps(flip)));
        }
    }
    scalar_flip_signs(x + i, signs + i / 32, dim - i);
}

TARGET void avx2_hadamard(float *x, unsigned log2_dim, float factor)
{
    turn_hadamard(x, log2_dim, factor);
}

TARGET void avx2_butterfly(float *x, float *y, size_t dim)
{
    turn_butterfly(x, y, dim);
}

#endif
