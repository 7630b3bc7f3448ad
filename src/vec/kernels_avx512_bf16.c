/* AVX512_BF16: one instruction multiplies 32 pairs of bf16 and adds neighbours. It takes subnormals for 0. */
#if defined(__x86_64__)
#include "vec/kernels_avx512.h"

#undef TARGET
#define TARGET                                                                                               \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vpopcntdq,avx512bf16,bmi2")))

TARGET static inline __m512bh load32(size_t left, const uint16_t *p)
{
    return (__m512bh)_mm512_maskz_loadu_epi16(mask32(left), p);
}

TARGET float avx512bf16_dot_bf16(const uint16_t *a, const uint16_t *b, size_t dim)
{
    __m512 s = _mm512_setzero_ps(), t = s;
    size_t i = 0;
    for (; i + 64 <= dim; i += 64) {
        s = _mm512_dpbf16_ps(s, load32(32, a + i), load32(32, b + i));
        t = _mm512_dpbf16_ps(t, load32(32, a + i + 32), load32(32, b + i + 32));
    }
    for (; i < dim; i += 32)
        s = _mm512_dpbf16_ps(s, load32(dim - i, a + i), load32(dim - i, b + i));
    return _mm512_reduce_add_ps(_mm512_add_ps(s, t));
}

TARGET void avx512bf16_dot_bf16_4(const uint16_t *q, const uint16_t *const v[4], size_t dim, float out[4])
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    const uint16_t *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];
    size_t i = 0;
    for (; i + 32 <= dim; i += 32) {
        __m512bh x = load32(32, q + i);
        s0 = _mm512_dpbf16_ps(s0, x, load32(32, v0 + i));
        s1 = _mm512_dpbf16_ps(s1, x, load32(32, v1 + i));
        s2 = _mm512_dpbf16_ps(s2, x, load32(32, v2 + i));
        s3 = _mm512_dpbf16_ps(s3, x, load32(32, v3 + i));
    }
    if (i < dim) {
        __m512bh x = load32(dim - i, q + i);
        s0 = _mm512_dpbf16_ps(s0, x, load32(dim - i, v0 + i));
        s1 = _mm512_dpbf16_ps(s1, x, load32(dim - i, v1 + i));
        s2 = _mm512_dpbf16_ps(s2, x, load32(dim - i, v2 + i));
        s3 = _mm512_dpbf16_ps(s3, x, load32(dim - i, v3 + i));
    }
    _mm_storeu_ps(out, sum4_ps(s0, s1, s2, s3));
}

#endif
