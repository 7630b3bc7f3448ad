/* The reference kernels: plain loops, which every SIMD form is tested against. */
#include "vec/kernels.h"

#include <string.h>

static float dot_f32(const float *a, const float *b, size_t dim)
{
    float sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += a[i] * b[i];
    return sum;
}

static void dot_f32_4(const float *q, const float *const v[4], size_t dim, float out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = dot_f32(q, v[k], dim);
}

static int32_t dot_i8(const int8_t *a, const int8_t *b, size_t dim)
{
    int32_t sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += a[i] * b[i];
    return sum;
}

static void dot_i8_4(const int8_t *q, const int8_t *const v[4], size_t dim, int32_t out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = dot_i8(q, v[k], dim);
}

static float dot_f32_i8(const float *a, const int8_t *b, size_t dim)
{
    float sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += a[i] * (float)b[i];
    return sum;
}

static uint32_t hamming(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    uint32_t count = 0;
    uint64_t x, y;
    for (; bytes >= 8; bytes -= 8, a += 8, b += 8) {
        memcpy(&x, a, 8);
        memcpy(&y, b, 8);
        count += (uint32_t)__builtin_popcountll(x ^ y);
    }
    for (size_t i = 0; i < bytes; i++)
        count += (uint32_t)__builtin_popcount(a[i] ^ b[i]);
    return count;
}

static void hamming_4(const uint8_t *q, const uint8_t *const v[4], size_t bytes, uint32_t out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = hamming(q, v[k], bytes);
}

const struct kith_kernels *kith_kernels_scalar(void)
{
    static const struct kith_kernels table = {
        .name = "scalar",
        .level = KITH_KERNEL_SCALAR,
        .dot_f32 = dot_f32,
        .dot_f32_4 = dot_f32_4,
        .dot_i8 = dot_i8,
        .dot_i8_4 = dot_i8_4,
        .dot_f32_i8 = dot_f32_i8,
        .hamming = hamming,
        .hamming_4 = hamming_4,
    };
    return &table;
}
