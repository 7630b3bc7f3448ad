/* AVX-512: products and squared distances of floats, and products of floats and bytes; floats to steps. A loop's last step may be past
 * the end: masked loads read zeros there. */
#if defined(__x86_64__)
#include "vec/kernels_avx512.h"

TARGET static inline __m512 load_floats(size_t left, const float *p)
{
    return _mm512_maskz_loadu_ps(mask16(left), p);
}

TARGET static inline __m512 load_bytes_as_floats(size_t left, const int8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask16(left), p)));
}

TARGET float avx512_dot_f32(const float *a, const float *b, size_t dim)
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    size_t i = 0;
    for (; i + 64 <= dim; i += 64) {
        s0 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), s0);
        s1 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 16), _mm512_loadu_ps(b + i + 16), s1);
        s2 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 32), _mm512_loadu_ps(b + i + 32), s2);
        s3 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 48), _mm512_loadu_ps(b + i + 48), s3);
    }
    for (; i < dim; i += 16)
        s0 = _mm512_fmadd_ps(load_floats(dim - i, a + i), load_floats(dim - i, b + i), s0);
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)));
}

TARGET void avx512_dot_f32_4(const float *q, const float *const v[4], size_t dim, float out[4])
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
    const float *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];
    size_t i = 0;
    for (; i + 32 <= dim; i += 32) {
        __m512 x = _mm512_loadu_ps(q + i), y = _mm512_loadu_ps(q + i + 16);
        s0 = _mm512_fmadd_ps(x, _mm512_loadu_ps(v0 + i), s0);
        s1 = _mm512_fmadd_ps(x, _mm512_loadu_ps(v1 + i), s1);
        s2 = _mm512_fmadd_ps(x, _mm512_loadu_ps(v2 + i), s2);
        s3 = _mm512_fmadd_ps(x, _mm512_loadu_ps(v3 + i), s3);
        t0 = _mm512_fmadd_ps(y, _mm512_loadu_ps(v0 + i + 16), t0);
        t1 = _mm512_fmadd_ps(y, _mm512_loadu_ps(v1 + i + 16), t1);
        t2 = _mm512_fmadd_ps(y, _mm512_loadu_ps(v2 + i + 16), t2);
        t3 = _mm512_fmadd_ps(y, _mm512_loadu_ps(v3 + i + 16), t3);
    }
    for (; i < dim; i += 16) {
        __m512 x = load_floats(dim - i, q + i);
        s0 = _mm512_fmadd_ps(x, load_floats(dim - i, v0 + i), s0);
        s1 = _mm512_fmadd_ps(x, load_floats(dim - i, v1 + i), s1);
        s2 = _mm512_fmadd_ps(x, load_floats(dim - i, v2 + i), s2);
        s3 = _mm512_fmadd_ps(x, load_floats(dim - i, v3 + i), s3);
    }
    _mm_storeu_ps(out, sum4_ps(_mm512_add_ps(s0, t0), _mm512_add_ps(s1, t1), _mm512_add_ps(s2, t2),
                               _mm512_add_ps(s3, t3)));
}

/* sum + (a - b)^2 */
TARGET static inline __m512 add_square(__m512 a, __m512 b, __m512 sum)
{
    __m512 difference = _mm512_sub_ps(a, b);
    return _mm512_fmadd_ps(difference, difference, sum);
}

TARGET float avx512_l2sq_f32(const float *a, const float *b, size_t dim)
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    size_t i = 0;
    for (; i + 64 <= dim; i += 64) {
        s0 = add_square(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), s0);
        s1 = add_square(_mm512_loadu_ps(a + i + 16), _mm512_loadu_ps(b + i + 16), s1);
        s2 = add_square(_mm512_loadu_ps(a + i + 32), _mm512_loadu_ps(b + i + 32), s2);
        s3 = add_square(_mm512_loadu_ps(a + i + 48), _mm512_loadu_ps(b + i + 48), s3);
    }
    for (; i < dim; i += 16)
        s0 = add_square(load_floats(dim - i, a + i), load_floats(dim - i, b + i), s0);
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)));
}

TARGET void avx512_l2sq_f32_4(const float *q, const float *const v[4], size_t dim, float out[4])
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
    const float *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];
    size_t i = 0;
    for (; i + 32 <= dim; i += 32) {
        __m512 x = _mm512_loadu_ps(q + i), y = _mm512_loadu_ps(q + i + 16);
        s0 = add_square(x, _mm512_loadu_ps(v0 + i), s0);
        s1 = add_square(x, _mm512_loadu_ps(v1 + i), s1);
        s2 = add_square(x, _mm512_loadu_ps(v2 + i), s2);
        s3 = add_square(x, _mm512_loadu_ps(v3 + i), s3);
        t0 = add_square(y, _mm512_loadu_ps(v0 + i + 16), t0);
        t1 = add_square(y, _mm512_loadu_ps(v1 + i + 16), t1);
        t2 = add_square(y, _mm512_loadu_ps(v2 + i + 16), t2);
        t3 = add_square(y, _mm512_loadu_ps(v3 + i + 16), t3);
    }
    for (; i < dim; i += 16) {
        __m512 x = load_floats(dim - i, q + i);
        s0 = add_square(x, load_floats(dim - i, v0 + i), s0);
        s1 = add_square(x, load_floats(dim - i, v1 + i), s1);
        s2 = add_square(x, load_floats(dim - i, v2 + i), s2);
        s3 = add_square(x, load_floats(dim - i, v3 + i), s3);
    }
    _mm_storeu_ps(out, sum4_ps(_mm512_add_ps(s0, t0), _mm512_add_ps(s1, t1), _mm512_add_ps(s2, t2),
                               _mm512_add_ps(s3, t3)));
}

TARGET float avx512_dot_f32_i8(const float *a, const int8_t *b, size_t dim)
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    size_t i = 0;
    for (; i + 64 <= dim; i += 64) {
        s0 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), load_bytes_as_floats(16, b + i), s0);
        s1 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 16), load_bytes_as_floats(16, b + i + 16), s1);
        s2 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 32), load_bytes_as_floats(16, b + i + 32), s2);
        s3 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 48), load_bytes_as_floats(16, b + i + 48), s3);
    }
    for (; i < dim; i += 16)
        s0 = _mm512_fmadd_ps(load_floats(dim - i, a + i), load_bytes_as_floats(dim - i, b + i), s0);
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)));
}

TARGET void avx512_dot_f32_i8_4(const float *q, const int8_t *const v[4], size_t dim, float out[4])
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    const int8_t *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];
    size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        __m512 x = _mm512_loadu_ps(q + i);
        s0 = _mm512_fmadd_ps(x, load_bytes_as_floats(16, v0 + i), s0);
        s1 = _mm512_fmadd_ps(x, load_bytes_as_floats(16, v1 + i), s1);
        s2 = _mm512_fmadd_ps(x, load_bytes_as_floats(16, v2 + i), s2);
        s3 = _mm512_fmadd_ps(x, load_bytes_as_floats(16, v3 + i), s3);
    }
    if (i < dim) {
        __m512 x = load_floats(dim - i, q + i);
        s0 = _mm512_fmadd_ps(x, load_bytes_as_floats(dim - i, v0 + i), s0);
        s1 = _mm512_fmadd_ps(x, load_bytes_as_floats(dim - i, v1 + i), s1);
        s2 = _mm512_fmadd_ps(x, load_bytes_as_floats(dim - i, v2 + i), s2);
        s3 = _mm512_fmadd_ps(x, load_bytes_as_floats(dim - i, v3 + i), s3);
    }
    _mm_storeu_ps(out, sum4_ps(s0, s1, s2, s3));
}

#define STEPS(kernel) avx512_##kernel
#include "vec/kernels_steps.h"

#endif
