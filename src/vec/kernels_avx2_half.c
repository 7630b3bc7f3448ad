/* AVX2 with F16C: floats of 16 bits, 8 at a time. */
#if defined(__x86_64__)
#include "vec/kernels_avx2.h"

TARGET static inline __m256 load_f32(const float *p)
{
    return _mm256_loadu_ps(p);
}

TARGET static inline __m256 load_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
}

TARGET static inline __m256 load_bf16(const uint16_t *p)
{
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

/* For a query loaded by LOAD_Q and vectors by LOAD_V; REST is the scalar kernel. */
#define ONE(LOAD_Q, LOAD_V, REST)                                                                            \
    __m256 s = _mm256_setzero_ps(), t = s;                                                                   \
    size_t i = 0;                                                                                            \
    for (; i + 16 <= dim; i += 16) {                                                                         \
        s = _mm256_fmadd_ps(LOAD_Q(a + i), LOAD_V(b + i), s);                                                \
        t = _mm256_fmadd_ps(LOAD_Q(a + i + 8), LOAD_V(b + i + 8), t);                                        \
    }                                                                                                        \
    return sum_ps(_mm256_add_ps(s, t)) + REST(a + i, b + i, dim - i)

#define FOUR(LOAD_Q, LOAD_V, REST)                                                                           \
    __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;                                              \
    const uint16_t *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];                                           \
    size_t i = 0;                                                                                            \
    for (; i + 8 <= dim; i += 8) {                                                                           \
        __m256 x = LOAD_Q(q + i);                                                                            \
        s0 = _mm256_fmadd_ps(x, LOAD_V(v0 + i), s0);                                                         \
        s1 = _mm256_fmadd_ps(x, LOAD_V(v1 + i), s1);                                                         \
        s2 = _mm256_fmadd_ps(x, LOAD_V(v2 + i), s2);                                                         \
        s3 = _mm256_fmadd_ps(x, LOAD_V(v3 + i), s3);                                                         \
    }                                                                                                        \
    float rest[4] = {0};                                                                                     \
    for (int k = 0; k < 4 && i < dim; k++)                                                                   \
        rest[k] = REST(q + i, v[k] + i, dim - i);                                                            \
    _mm_storeu_ps(out, _mm_add_ps(sum4_ps(s0, s1, s2, s3), _mm_loadu_ps(rest)))

TARGET float avx2_dot_f32_f16(const float *a, const uint16_t *b, size_t dim)
{
    ONE(load_f32, load_f16, scalar_dot_f32_f16);
}

TARGET void avx2_dot_f32_f16_4(const float *q, const uint16_t *const v[4], size_t dim, float out[4])
{
    FOUR(load_f32, load_f16, scalar_dot_f32_f16);
}

TARGET float avx2_dot_f32_bf16(const float *a, const uint16_t *b, size_t dim)
{
    ONE(load_f32, load_bf16, scalar_dot_f32_bf16);
}

TARGET void avx2_dot_f32_bf16_4(const float *q, const uint16_t *const v[4], size_t dim, float out[4])
{
    FOUR(load_f32, load_bf16, scalar_dot_f32_bf16);
}

TARGET float avx2_dot_f16(const uint16_t *a, const uint16_t *b, size_t dim)
{
    ONE(load_f16, load_f16, scalar_dot_f16);
}

TARGET void avx2_dot_f16_4(const uint16_t *q, const uint16_t *const v[4], size_t dim, float out[4])
{
    FOUR(load_f16, load_f16, scalar_dot_f16);
}

TARGET float avx2_dot_bf16(const uint16_t *a, const uint16_t *b, size_t dim)
{
    ONE(load_bf16, load_bf16, scalar_dot_bf16);
}

TARGET void avx2_dot_bf16_4(const uint16_t *q, const uint16_t *const v[4], size_t dim, float out[4])
{
    FOUR(load_bf16, load_bf16, scalar_dot_bf16);
}

TARGET void avx2_to_f16(const float *in, uint16_t *out, size_t dim)
{
    size_t i = 0;
    for (; i + 8 <= dim; i += 8)
        _mm_storeu_si128((void *)(out + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT));
    scalar_to_f16(in + i, out + i, dim - i);
}

TARGET void avx2_from_f16(const uint16_t *in, float *out, size_t dim)
{
    size_t i = 0;
    for (; i + 8 <= dim; i += 8)
        _mm256_storeu_ps(out + i, load_f16(in + i));
    scalar_from_f16(in + i, out + i, dim - i);
}

TARGET void avx2_to_bf16(const float *in, uint16_t *out, size_t dim)
{
    const __m256i one = _mm256_set1_epi32(1), least = _mm256_set1_epi32(0x7fff),
                  quiet = _mm256_set1_epi32(0x40);
    size_t i = 0;
    for (; i + 8 <= dim; i += 8) {
        __m256 x = _mm256_loadu_ps(in + i);
        __m256i bits = _mm256_castps_si256(x), high = _mm256_srli_epi32(bits, 16);
        __m256i round = _mm256_add_epi32(least, _mm256_and_si256(high, one));
        __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, round), 16);
        __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
        rounded = _mm256_blendv_epi8(rounded, _mm256_or_si256(high, quiet), nan);
        _mm_storeu_si128((void *)(out + i), _mm_packus_epi32(_mm256_castsi256_si128(rounded),
                                                             _mm256_extracti128_si256(rounded, 1)));
    }
    scalar_to_bf16(in + i, out + i, dim - i);
}

TARGET void avx2_from_bf16(const uint16_t *in, float *out, size_t dim)
{
    size_t i = 0;
    for (; i + 8 <= dim; i += 8)
        _mm256_storeu_ps(out + i, load_bf16(in + i));
    scalar_from_bf16(in + i, out + i, dim - i);
}

#endif
