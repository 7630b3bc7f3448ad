/* The reference kernels: plain loops, which every SIMD form is tested against. Here: floats, steps, bytes, whole bits, the steps
 * of a rotation, and the table. */
#include "vec/kernels_forms.h"

#include <math.h>
#include <string.h>

float scalar_dot_f32(const float *a, const float *b, size_t dim)
{
    float sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += a[i] * b[i];
    return sum;
}

void scalar_dot_f32_4(const float *q, const float *const v[4], size_t dim, float out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = scalar_dot_f32(q, v[k], dim);
}

float scalar_l2sq_f32(const float *a, const float *b, size_t dim)
{
    float sum = 0;
    for (size_t i = 0; i < dim; i++) {
        float difference = a[i] - b[i];
        sum += difference * difference;
    }
    return sum;
}

void scalar_l2sq_f32_4(const float *q, const float *const v[4], size_t dim, float out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = scalar_l2sq_f32(q, v[k], dim);
}

float scalar_dot_f32_i8(const float *a, const int8_t *b, size_t dim)
{
    float sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += a[i] * (float)b[i];
    return sum;
}

void scalar_dot_f32_i8_4(const float *q, const int8_t *const v[4], size_t dim, float out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = scalar_dot_f32_i8(q, v[k], dim);
}

int32_t scalar_dot_i8(const int8_t *a, const int8_t *b, size_t dim)
{
    int32_t sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += a[i] * b[i];
    return sum;
}

void scalar_dot_i8_4(const int8_t *q, const int8_t *const v[4], size_t dim, int32_t out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = scalar_dot_i8(q, v[k], dim);
}

int32_t scalar_sum_i8(const int8_t *a, size_t dim)
{
    int32_t sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += a[i];
    return sum;
}

uint32_t scalar_hamming(const uint8_t *a, const uint8_t *b, size_t bytes)
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

void scalar_hamming_4(const uint8_t *q, const uint8_t *const v[4], size_t bytes, uint32_t out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = scalar_hamming(q, v[k], bytes);
}

uint32_t scalar_dot_planes(const uint8_t *planes, const uint8_t *v, size_t bytes)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < bytes; i++)
        for (unsigned plane = 0; plane < 4; plane++)
            sum += (uint32_t)__builtin_popcount(v[i] & planes[i / 16 * 64 + plane * 16 + i % 16]) << plane;
    return sum;
}

void scalar_dot_planes_4(const uint8_t *planes, const uint8_t *const v[4], size_t bytes, uint32_t out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = scalar_dot_planes(planes, v[k], bytes);
}

void scalar_flip_signs(float *x, const uint32_t *signs, size_t dim)
{
    for (size_t i = 0; i < dim; i++)
        x[i] = signs[i / 32] >> i % 32 & 1 ? -x[i] : x[i];
}

void scalar_hadamard(float *x, unsigned log2_dim, float factor)
{
    size_t dim = (size_t)1 << log2_dim;
    for (size_t half = 1; half < dim; half *= 2) {
        for (size_t i = 0; i < dim; i += 2 * half) {
            for (size_t j = i; j < i + half; j++) {
                float a = x[j], b = x[j + half];
                x[j] = a + b;
                x[j + half] = a - b;
            }
        }
    }
    for (size_t i = 0; i < dim; i++)
        x[i] *= factor;
}

void scalar_butterfly(float *x, float *y, size_t dim)
{
    for (size_t i = 0; i < dim; i++) {
        float a = x[i] * (float)M_SQRT1_2, b = y[i] * (float)M_SQRT1_2;
        x[i] = a + b;
        y[i] = a - b;
    }
}

#define TARGET
#define STEPS(kernel) scalar_##kernel
#include "vec/kernels_steps.h"

const struct kith_kernels *scalar_kernels(void)
{
    static const struct kith_kernels table = {
        .name = "scalar",
        .level = KITH_KERNEL_SCALAR,
        FLOAT_KERNELS(KERNEL_ROW, scalar) HALF_KERNELS(KERNEL_ROW, scalar) BF16_KERNELS(KERNEL_ROW, scalar)
            STEP_KERNELS(KERNEL_ROW, scalar) BYTE_KERNELS(KERNEL_ROW, scalar)
                NIBBLE_KERNELS(KERNEL_ROW, scalar) BIT_KERNELS(KERNEL_ROW, scalar)
                    TURN_KERNELS(KERNEL_ROW, scalar)};
    return &table;
}
