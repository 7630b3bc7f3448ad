/* What the AVX2 files share. Whole registers come first; what is left over goes to the scalar form. */
#ifndef KITH_VEC_KERNELS_AVX2_H
#define KITH_VEC_KERNELS_AVX2_H

#include "vec/kernels_forms.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,f16c,popcnt")))

TARGET static inline float sum_ps(__m256 x)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/* The four sums, in order. */
TARGET static inline __m128 sum4_ps(__m256 s0, __m256 s1, __m256 s2, __m256 s3)
{
    __m256 s = _mm256_hadd_ps(_mm256_hadd_ps(s0, s1), _mm256_hadd_ps(s2, s3));
    return _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
}

TARGET static inline int32_t sum_epi32(__m256i x)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

TARGET static inline __m128i sum4_epi32(__m256i s0, __m256i s1, __m256i s2, __m256i s3)
{
    __m256i s = _mm256_hadd_epi32(_mm256_hadd_epi32(s0, s1), _mm256_hadd_epi32(s2, s3));
    return _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
}

TARGET static inline __m256i load(const void *p)
{
    return _mm256_loadu_si256(p);
}

/* 8 bytes, and zeros. */
TARGET static inline __m256i load8(const void *p)
{
    return _mm256_zextsi128_si256(_mm_loadl_epi64(p));
}

FLOAT_KERNELS(KERNEL_DECLARE, avx2)
HALF_KERNELS(KERNEL_DECLARE, avx2)
STEP_KERNELS(KERNEL_DECLARE, avx2)
BF16_KERNELS(KERNEL_DECLARE, avx2)
BYTE_KERNELS(KERNEL_DECLARE, avx2)
NIBBLE_KERNELS(KERNEL_DECLARE, avx2)
BYTE_KERNELS(KERNEL_DECLARE, avx2vnni)
NIBBLE_KERNELS(KERNEL_DECLARE, avx2vnni)
BIT_KERNELS(KERNEL_DECLARE, avx2)
TURN_KERNELS(KERNEL_DECLARE, avx2)

#endif
