/* AVX2 kernels (with FMA and POPCNT): whole registers first, then a scalar loop for the tail. int8 is widened
 * to 16 bits for vpmaddwd: vpmaddubsw would saturate. */
#include "vec/kernels_forms.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2,fma,popcnt")))

TARGET static inline float sum_ps(__m256 x)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

TARGET static inline int32_t sum_epi32(__m256i x)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

TARGET static float dot_f32(const float *a, const float *b, size_t dim)
{
    __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    size_t i = 0;
    for (; i + 32 <= dim; i += 32) {
        s0 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), s0);
        s1 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8), s1);
        s2 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 16), _mm256_loadu_ps(b + i + 16), s2);
        s3 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 24), _mm256_loadu_ps(b + i + 24), s3);
    }
    for (; i + 8 <= dim; i += 8)
        s0 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), s0);
    float sum = sum_ps(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3)));
    for (; i < dim; i++)
        sum += a[i] * b[i];
    return sum;
}

TARGET static void dot_f32_4(const float *q, const float *const v[4], size_t dim, float out[4])
{
    __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    size_t i = 0;
    for (; i + 8 <= dim; i += 8) {
        __m256 x = _mm256_loadu_ps(q + i);
        s0 = _mm256_fmadd_ps(x, _mm256_loadu_ps(v[0] + i), s0);
        s1 = _mm256_fmadd_ps(x, _mm256_loadu_ps(v[1] + i), s1);
        s2 = _mm256_fmadd_ps(x, _mm256_loadu_ps(v[2] + i), s2);
        s3 = _mm256_fmadd_ps(x, _mm256_loadu_ps(v[3] + i), s3);
    }
    float sums[4] = {sum_ps(s0), sum_ps(s1), sum_ps(s2), sum_ps(s3)};
    for (; i < dim; i++)
        for (int k = 0; k < 4; k++)
            sums[k] += q[i] * v[k][i];
    memcpy(out, sums, sizeof sums);
}

TARGET static inline __m256i wide(const int8_t *p)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)p));
}

TARGET static int32_t dot_i8(const int8_t *a, const int8_t *b, size_t dim)
{
    __m256i s0 = _mm256_setzero_si256(), s1 = s0;
    size_t i = 0;
    for (; i + 32 <= dim; i += 32) {
        s0 = _mm256_add_epi32(s0, _mm256_madd_epi16(wide(a + i), wide(b + i)));
        s1 = _mm256_add_epi32(s1, _mm256_madd_epi16(wide(a + i + 16), wide(b + i + 16)));
    }
    int32_t sum = sum_epi32(_mm256_add_epi32(s0, s1));
    for (; i < dim; i++)
        sum += a[i] * b[i];
    return sum;
}

TARGET static void dot_i8_4(const int8_t *q, const int8_t *const v[4], size_t dim, int32_t out[4])
{
    __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
    size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        __m256i x = wide(q + i);
        s0 = _mm256_add_epi32(s0, _mm256_madd_epi16(x, wide(v[0] + i)));
        s1 = _mm256_add_epi32(s1, _mm256_madd_epi16(x, wide(v[1] + i)));
        s2 = _mm256_add_epi32(s2, _mm256_madd_epi16(x, wide(v[2] + i)));
        s3 = _mm256_add_epi32(s3, _mm256_madd_epi16(x, wide(v[3] + i)));
    }
    int32_t sums[4] = {sum_epi32(s0), sum_epi32(s1), sum_epi32(s2), sum_epi32(s3)};
    for (; i < dim; i++)
        for (int k = 0; k < 4; k++)
            sums[k] += q[i] * v[k][i];
    memcpy(out, sums, sizeof sums);
}

TARGET static float dot_f32_i8(const float *a, const int8_t *b, size_t dim)
{
    __m256 s0 = _mm256_setzero_ps(), s1 = s0;
    size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        __m256i x = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)(b + i)));
        __m256i y = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)(b + i + 8)));
        s0 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_cvtepi32_ps(x), s0);
        s1 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 8), _mm256_cvtepi32_ps(y), s1);
    }
    float sum = sum_ps(_mm256_add_ps(s0, s1));
    for (; i < dim; i++)
        sum += a[i] * (float)b[i];
    return sum;
}

TARGET static uint32_t hamming(const uint8_t *a, const uint8_t *b, size_t bytes)
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

TARGET static void hamming_4(const uint8_t *q, const uint8_t *const v[4], size_t bytes, uint32_t out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = hamming(q, v[k], bytes);
}

const struct kith_kernels *avx2_kernels(bool more)
{
    if (more)
        return NULL;
    static const struct kith_kernels table = {
        .name = "avx2",
        .level = KITH_KERNEL_AVX2,
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
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt")
               ? &table
               : NULL;
}

#else

const struct kith_kernels *avx2_kernels(bool more)
{
    return NULL;
}

#endif
