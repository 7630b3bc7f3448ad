/* What the AVX-512 files share: tails as masks, so that no length needs a scalar loop, and sums of four registers at
 * once: turning four sums into one register of four takes fewer steps than adding up each. */
#ifndef KITH_VEC_KERNELS_AVX512_H
#define KITH_VEC_KERNELS_AVX512_H

#include "vec/kernels_forms.h"

#include <immintrin.h>

#define TARGET                                                                                               \
    __attribute__((                                                                                          \
        target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vpopcntdq,avx2,fma,f16c,bmi2")))

/* The lowest `left` bits, all of them from there up. */
TARGET static inline __mmask64 mask64(size_t left)
{
    return left >= 64 ? ~(__mmask64)0 : (__mmask64)_bzhi_u64(~0ull, (unsigned)left);
}

TARGET static inline __mmask16 mask16(size_t left)
{
    return left >= 16 ? (__mmask16)0xffff : (__mmask16)_bzhi_u32(0xffff, (unsigned)left);
}

TARGET static inline __mmask32 mask32(size_t left)
{
    return left >= 32 ? ~(__mmask32)0 : (__mmask32)_bzhi_u32(~0u, (unsigned)left);
}

TARGET static inline __m512i load_bytes(__mmask64 mask, const void *p)
{
    return _mm512_maskz_loadu_epi8(mask, p);
}

/* The four sums, in order. */
TARGET static inline __m128i sum4_epi32(__m512i s0, __m512i s1, __m512i s2, __m512i s3)
{
    __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(s0, s1), _mm512_unpackhi_epi32(s0, s1));
    __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(s2, s3), _mm512_unpackhi_epi32(s2, s3));
    __m512i c = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    __m256i d = _mm256_add_epi32(_mm512_castsi512_si256(c), _mm512_extracti64x4_epi64(c, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(d), _mm256_extracti128_si256(d, 1));
}

TARGET static inline __m128 sum4_ps(__m512 s0, __m512 s1, __m512 s2, __m512 s3)
{
    __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(s0, s1), _mm512_unpackhi_ps(s0, s1));
    __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(s2, s3), _mm512_unpackhi_ps(s2, s3));
    __m512 c = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))),
                             _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))));
    __m256 d = _mm256_add_ps(_mm512_castps512_ps256(c), _mm512_extractf32x8_ps(c, 1));
    return _mm_add_ps(_mm256_castps256_ps128(d), _mm256_extractf128_ps(d, 1));
}

FLOAT_KERNELS(KERNEL_DECLARE, avx512)
HALF_KERNELS(KERNEL_DECLARE, avx512)
STEP_KERNELS(KERNEL_DECLARE, avx512)
BF16_KERNELS(KERNEL_DECLARE, avx512)
BF16_KERNELS(KERNEL_DECLARE, avx512bf16)
BYTE_KERNELS(KERNEL_DECLARE, avx512)
NIBBLE_KERNELS(KERNEL_DECLARE, avx512)
BIT_KERNELS(KERNEL_DECLARE, avx512)
TURN_KERNELS(KERNEL_DECLARE, avx512)

#endif
