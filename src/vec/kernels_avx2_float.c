/* AVX2: products and squared distances of floats, and products of floats and bytes; floats to steps. */
#if defined(__x86_64__)
#include "vec/kernels_avx2.h"

/* sum + a * b, sum + (a - b)^2 */
TARGET static inline __m256 add_product(__m256 a, __m256 b, __m256 sum)
{
    return _mm256_fmadd_ps(a, b, sum);
}

TARGET static inline __m256 add_square(__m256 a, __m256 b, __m256 sum)
{
    __m256 difference = _mm256_sub_ps(a, b);
    return _mm256_fmadd_ps(difference, difference, sum);
}

/* Both in one: ADD is one of the two above, REST the scalar kernel. */
#define ONE(ADD, REST)                                                                                       \
    __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;                                              \
    size_t i = 0;                                                                                            \
    for (; i + 32 <= dim; i += 32) {                                                                         \
        s0 = ADD(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), s0);                                        \
        s1 = ADD(_mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8), s1);                                \
        s2 = ADD(_mm256_loadu_ps(a + i + 16), _mm256_loadu_ps(b + i + 16), s2);                              \
        s3 = ADD(_mm256_loadu_ps(a + i + 24), _mm256_loadu_ps(b + i + 24), s3);                              \
    }                                                                                                        \
    for (; i + 8 <= dim; i += 8)                                                                             \
        s0 = ADD(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), s0);                                        \
    return sum_ps(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3))) + REST(a + i, b + i, dim - i)

#define FOUR(ADD, REST)                                                                                      \
    __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;          \
    const float *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];                                              \
    size_t i = 0;                                                                                            \
    for (; i + 16 <= dim; i += 16) {                                                                         \
        __m256 x = _mm256_loadu_ps(q + i), y = _mm256_loadu_ps(q + i + 8);                                   \
        s0 = ADD(x, _mm256_loadu_ps(v0 + i), s0);                                                            \
        s1 = ADD(x, _mm256_loadu_ps(v1 + i), s1);                                                            \
        s2 = ADD(x, _mm256_loadu_ps(v2 + i), s2);                                                            \
        s3 = ADD(x, _mm256_loadu_ps(v3 + i), s3);                                                            \
        t0 = ADD(y, _mm256_loadu_ps(v0 + i + 8), t0);                                                        \
        t1 = ADD(y, _mm256_loadu_ps(v1 + i + 8), t1);                                                        \
        t2 = ADD(y, _mm256_loadu_ps(v2 + i + 8), t2);                                                        \
        t3 = ADD(y, _mm256_loadu_ps(v3 + i + 8), t3);                                                        \
    }                                                                                                        \
    float rest[4] = {0};                                                                                     \
    for (int k = 0; k < 4 && i < dim; k++)                                                                   \
        rest[k] = REST(q + i, v[k] + i, dim - i);                                                            \
    __m128 sums =                                                                                            \
        sum4_ps(_mm256_add_ps(s0, t0), _mm256_add_ps(s1, t1), _mm256_add_ps(s2, t2), _mm256_add_ps(s3, t3)); \
    _mm_storeu_ps(out, _mm_add_ps(sums, _mm_loadu_ps(rest)))

TARGET float avx2_dot_f32(const float *a, const float *b, size_t dim)
{
    ONE(add_product, scalar_dot_f32);
}

TARGET void avx2_dot_f32_4(const float *q, const float *const v[4], size_t dim, float out[4])
{
    FOUR(add_product, scalar_dot_f32);
}

TARGET float avx2_l2sq_f32(const float *a, const float *b, size_t dim)
{
    ONE(add_square, scalar_l2sq_f32);
}

TARGET void avx2_l2sq_f32_4(const float *q, const float *const v[4], size_t dim, float out[4])
{
    FOUR(add_square, scalar_l2sq_f32);
}

TARGET static inline __m256 load_bytes_as_floats(const int8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p)));
}

TARGET float avx2_dot_f32_i8(const float *a, const int8_t *b, size_t dim)
{
    __m256 s0 = _mm256_setzero_ps(), s1 = s0;
    size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        s0 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), load_bytes_as_floats(b + i), s0);
        s1 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 8), load_bytes_as_floats(b + i + 8), s1);
    }
    return sum_ps(_mm256_add_ps(s0, s1)) + scalar_dot_f32_i8(a + i, b + i, dim - i);
}

TARGET void avx2_dot_f32_i8_4(const float *q, const int8_t *const v[4], size_t dim, float out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = avx2_dot_f32_i8(q, v[k], dim);
}

#define STEPS(kernel) avx2_##kernel
#include "vec/kernels_steps.h"

#endif
