/* AVX-512 kernels. A tail is one masked load, so that no length needs a scalar loop.
 *
 * int8: vpdpbusd multiplies unsigned by signed bytes. x ^ 0x80 is x + 128 as an unsigned byte, and
 * sum((x + 128) * q) - sum(128 * q) = sum(x * q); the second sum is one more vpdpbusd for each load of the
 * query, shared by the four vectors. */
#include "vec/kernels_forms.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET                                                                                               \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vpopcntdq,avx2,fma")))

TARGET static float dot_f32(const float *a, const float *b, size_t dim)
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    size_t i = 0;
    for (; i + 64 <= dim; i += 64) {
        s0 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), s0);
        s1 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 16), _mm512_loadu_ps(b + i + 16), s1);
        s2 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 32), _mm512_loadu_ps(b + i + 32), s2);
        s3 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 48), _mm512_loadu_ps(b + i + 48), s3);
    }
    for (; i < dim; i += 16) {
        __mmask16 mask = dim - i >= 16 ? (__mmask16)-1 : (__mmask16)((1u << (dim - i)) - 1);
        s0 = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, a + i), _mm512_maskz_loadu_ps(mask, b + i), s0);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)));
}

TARGET static void dot_f32_4(const float *q, const float *const v[4], size_t dim, float out[4])
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
        __mmask16 mask = dim - i >= 16 ? (__mmask16)-1 : (__mmask16)((1u << (dim - i)) - 1);
        __m512 x = _mm512_maskz_loadu_ps(mask, q + i);
        s0 = _mm512_fmadd_ps(x, _mm512_maskz_loadu_ps(mask, v0 + i), s0);
        s1 = _mm512_fmadd_ps(x, _mm512_maskz_loadu_ps(mask, v1 + i), s1);
        s2 = _mm512_fmadd_ps(x, _mm512_maskz_loadu_ps(mask, v2 + i), s2);
        s3 = _mm512_fmadd_ps(x, _mm512_maskz_loadu_ps(mask, v3 + i), s3);
    }
    out[0] = _mm512_reduce_add_ps(_mm512_add_ps(s0, t0));
    out[1] = _mm512_reduce_add_ps(_mm512_add_ps(s1, t1));
    out[2] = _mm512_reduce_add_ps(_mm512_add_ps(s2, t2));
    out[3] = _mm512_reduce_add_ps(_mm512_add_ps(s3, t3));
}

TARGET static inline __mmask64 tail_mask(size_t left)
{
    return left >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << left) - 1;
}

TARGET static int32_t dot_i8(const int8_t *a, const int8_t *b, size_t dim)
{
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    __m512i sum = _mm512_setzero_si512(), offset = sum;
    for (size_t i = 0; i < dim; i += 64) {
        __mmask64 mask = tail_mask(dim - i);
        __m512i q = _mm512_maskz_loadu_epi8(mask, a + i);
        sum = _mm512_dpbusd_epi32(sum, _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, b + i), flip), q);
        offset = _mm512_dpbusd_epi32(offset, flip, q);
    }
    return _mm512_reduce_add_epi32(_mm512_sub_epi32(sum, offset));
}

TARGET static void dot_i8_4(const int8_t *q, const int8_t *const v[4], size_t dim, int32_t out[4])
{
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0, offset = s0;
    const int8_t *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];
    size_t i = 0;
    for (; i + 64 <= dim; i += 64) {
        __m512i x = _mm512_loadu_si512(q + i);
        offset = _mm512_dpbusd_epi32(offset, flip, x);
        s0 = _mm512_dpbusd_epi32(s0, _mm512_xor_si512(_mm512_loadu_si512(v0 + i), flip), x);
        s1 = _mm512_dpbusd_epi32(s1, _mm512_xor_si512(_mm512_loadu_si512(v1 + i), flip), x);
        s2 = _mm512_dpbusd_epi32(s2, _mm512_xor_si512(_mm512_loadu_si512(v2 + i), flip), x);
        s3 = _mm512_dpbusd_epi32(s3, _mm512_xor_si512(_mm512_loadu_si512(v3 + i), flip), x);
    }
    if (i < dim) {
        __mmask64 mask = tail_mask(dim - i);
        __m512i x = _mm512_maskz_loadu_epi8(mask, q + i);
        offset = _mm512_dpbusd_epi32(offset, flip, x);
        s0 = _mm512_dpbusd_epi32(s0, _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, v0 + i), flip), x);
        s1 = _mm512_dpbusd_epi32(s1, _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, v1 + i), flip), x);
        s2 = _mm512_dpbusd_epi32(s2, _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, v2 + i), flip), x);
        s3 = _mm512_dpbusd_epi32(s3, _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, v3 + i), flip), x);
    }
    out[0] = _mm512_reduce_add_epi32(_mm512_sub_epi32(s0, offset));
    out[1] = _mm512_reduce_add_epi32(_mm512_sub_epi32(s1, offset));
    out[2] = _mm512_reduce_add_epi32(_mm512_sub_epi32(s2, offset));
    out[3] = _mm512_reduce_add_epi32(_mm512_sub_epi32(s3, offset));
}

TARGET static float dot_f32_i8(const float *a, const int8_t *b, size_t dim)
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0;
    size_t i = 0;
    for (; i + 32 <= dim; i += 32) {
        __m512i x = _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(b + i)));
        __m512i y = _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(b + i + 16)));
        s0 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_cvtepi32_ps(x), s0);
        s1 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 16), _mm512_cvtepi32_ps(y), s1);
    }
    for (; i < dim; i += 16) {
        __mmask16 mask = dim - i >= 16 ? (__mmask16)-1 : (__mmask16)((1u << (dim - i)) - 1);
        __m512i x = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, b + i));
        s0 = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, a + i), _mm512_cvtepi32_ps(x), s0);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(s0, s1));
}

TARGET static inline __m512i differing(__mmask64 mask, const uint8_t *b, __m512i q)
{
    return _mm512_popcnt_epi64(_mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, b), q));
}

TARGET static uint32_t hamming(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    __m512i sum = _mm512_setzero_si512();
    for (size_t i = 0; i < bytes; i += 64) {
        __mmask64 mask = tail_mask(bytes - i);
        sum = _mm512_add_epi64(sum, differing(mask, b + i, _mm512_maskz_loadu_epi8(mask, a + i)));
    }
    return (uint32_t)_mm512_reduce_add_epi64(sum);
}

TARGET static void hamming_4(const uint8_t *q, const uint8_t *const v[4], size_t bytes, uint32_t out[4])
{
    __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
    for (size_t i = 0; i < bytes; i += 64) {
        __mmask64 mask = tail_mask(bytes - i);
        __m512i x = _mm512_maskz_loadu_epi8(mask, q + i);
        s0 = _mm512_add_epi64(s0, differing(mask, v[0] + i, x));
        s1 = _mm512_add_epi64(s1, differing(mask, v[1] + i, x));
        s2 = _mm512_add_epi64(s2, differing(mask, v[2] + i, x));
        s3 = _mm512_add_epi64(s3, differing(mask, v[3] + i, x));
    }
    out[0] = (uint32_t)_mm512_reduce_add_epi64(s0);
    out[1] = (uint32_t)_mm512_reduce_add_epi64(s1);
    out[2] = (uint32_t)_mm512_reduce_add_epi64(s2);
    out[3] = (uint32_t)_mm512_reduce_add_epi64(s3);
}

const struct kith_kernels *avx512_kernels(bool more)
{
    if (more)
        return NULL;
    static const struct kith_kernels table = {
        .name = "avx512",
        .level = KITH_KERNEL_AVX512,
        .dot_f32 = dot_f32,
        .dot_f32_4 = dot_f32_4,
        .dot_i8 = dot_i8,
        .dot_i8_4 = dot_i8_4,
        .dot_f32_i8 = dot_f32_i8,
        .hamming = hamming,
        .hamming_4 = hamming_4,
        .l2sq_f32 = scalar_l2sq_f32,
        .l2sq_f32_4 = scalar_l2sq_f32_4,
        .dot_f32_i8_4 = scalar_dot_f32_i8_4,
        .sum_i8 = scalar_sum_i8,
        .dot_planes = scalar_dot_planes,
        .dot_planes_4 = scalar_dot_planes_4,
        HALF_KERNELS(KERNEL_ROW, scalar) BF16_KERNELS(KERNEL_ROW, scalar) NIBBLE_KERNELS(KERNEL_ROW, scalar)
            TURN_KERNELS(KERNEL_ROW, scalar)};
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                   __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vpopcntdq")
               ? &table
               : NULL;
}

#else

const struct kith_kernels *avx512_kernels(bool more)
{
    return NULL;
}

#endif
