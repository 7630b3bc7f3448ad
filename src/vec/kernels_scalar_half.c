/* The reference for floats of 16 bits. Conversions work on the bits: rounding is adding a bit less than a half, one more
 * when the last bit that stays is odd, and cutting. */
#include "vec/kernels_forms.h"

#include <string.h>

static inline uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3ff;
    if (exponent == 31)
        return float_of(sign | 0x7f800000 | mantissa << 13 | (mantissa ? 0x400000 : 0));
    if (exponent == 0)
        return float_of(sign | bits_of((float)mantissa * 0x1p-24f));
    return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
}

static inline uint16_t f32_to_f16(float x)
{
    uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (size >> 13 & 0x3ff));
    if (size >= 0x477ff000) /* 65,520 and above */
        return (uint16_t)(sign | 0x7c00);
    if (size < 0x38800000) /* below 2^-14: next to 0.5 a float's last bit is a half's subnormal step */
        return (uint16_t)(sign | (bits_of(float_of(size) + 0.5f) - bits_of(0.5f)));
    return (uint16_t)(sign | (size - (112u << 23) + 0xfff + (size >> 13 & 1)) >> 13);
}

static inline float bf16_to_f32(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

static inline uint16_t f32_to_bf16(float x)
{
    uint32_t bits = bits_of(x);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void scalar_to_f16(const float *in, uint16_t *out, size_t dim)
{
    for (size_t i = 0; i < dim; i++)
        out[i] = f32_to_f16(in[i]);
}

void scalar_from_f16(const uint16_t *in, float *out, size_t dim)
{
    for (size_t i = 0; i < dim; i++)
        out[i] = f16_to_f32(in[i]);
}

void scalar_to_bf16(const float *in, uint16_t *out, size_t dim)
{
    for (size_t i = 0; i < dim; i++)
        out[i] = f32_to_bf16(in[i]);
}

void scalar_from_bf16(const uint16_t *in, float *out, size_t dim)
{
    for (size_t i = 0; i < dim; i++)
        out[i] = bf16_to_f32(in[i]);
}

float scalar_dot_f32_f16(const float *a, const uint16_t *b, size_t dim)
{
    float sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += a[i] * f16_to_f32(b[i]);
    return sum;
}

float scalar_dot_f32_bf16(const float *a, const uint16_t *b, size_t dim)
{
    float sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += a[i] * bf16_to_f32(b[i]);
    return sum;
}

float scalar_dot_f16(const uint16_t *a, const uint16_t *b, size_t dim)
{
    float sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += f16_to_f32(a[i]) * f16_to_f32(b[i]);
    return sum;
}

float scalar_dot_bf16(const uint16_t *a, const uint16_t *b, size_t dim)
{
    float sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += bf16_to_f32(a[i]) * bf16_to_f32(b[i]);
    return sum;
}

void scalar_dot_f32_f16_4(const float *q, const uint16_t *const v[4], size_t dim, float out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = scalar_dot_f32_f16(q, v[k], dim);
}

void scalar_dot_f32_bf16_4(const float *q, const uint16_t *const v[4], size_t dim, float out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = scalar_dot_f32_bf16(q, v[k], dim);
}

void scalar_dot_f16_4(const uint16_t *q, const uint16_t *const v[4], size_t dim, float out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = scalar_dot_f16(q, v[k], dim);
}

void scalar_dot_bf16_4(const uint16_t *q, const uint16_t *const v[4], size_t dim, float out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = scalar_dot_bf16(q, v[k], dim);
}
