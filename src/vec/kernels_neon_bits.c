/* NEON: counts of bits, and the steps of a rotation. */
#if defined(__aarch64__)
#include "vec/kernels_neon.h"

#include <string.h>

#define TARGET
#define TURN_WIDTH 4
#include "vec/kernels_turn.h"

/* Adds the bits of 16 bytes to sums of 64 bits. */
static inline uint64x2_t add_bits(uint64x2_t sum, uint8x16_t x)
{
    return vpadalq_u32(sum, vpaddlq_u16(vpaddlq_u8(vcntq_u8(x))));
}

uint32_t neon_hamming(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    uint64x2_t sum = vdupq_n_u64(0);
    size_t i = 0;
    for (; i + 16 <= bytes; i += 16)
        sum = add_bits(sum, veorq_u8(vld1q_u8(a + i), vld1q_u8(b + i)));
    return (uint32_t)vaddvq_u64(sum) + scalar_hamming(a + i, b + i, bytes - i);
}

void neon_hamming_4(const uint8_t *q, const uint8_t *const v[4], size_t bytes, uint32_t out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = neon_hamming(q, v[k], bytes);
}

/* 16 bytes, or the `left` that there still are and zeros. */
static inline uint8x16_t load_bits(const uint8_t *v, size_t left)
{
    uint8_t last[16] = {0};
    if (left >= 16)
        return vld1q_u8(v);
    memcpy(last, v, left);
    return vld1q_u8(last);
}

uint32_t neon_dot_planes(const uint8_t *planes, const uint8_t *v, size_t bytes)
{
    uint64x2_t s0 = vdupq_n_u64(0), s1 = s0, s2 = s0, s3 = s0;
    for (size_t i = 0; i < bytes; i += 16) {
        uint8x16_t bits = load_bits(v + i, bytes - i);
        const uint8_t *p = planes + 4 * i;
        s0 = add_bits(s0, vandq_u8(bits, vld1q_u8(p)));
        s1 = add_bits(s1, vandq_u8(bits, vld1q_u8(p + 16)));
        s2 = add_bits(s2, vandq_u8(bits, vld1q_u8(p + 32)));
        s3 = add_bits(s3, vandq_u8(bits, vld1q_u8(p + 48)));
    }
    uint64x2_t low = vaddq_u64(s0, vshlq_n_u64(s1, 1)), high = vaddq_u64(s2, vshlq_n_u64(s3, 1));
    return (uint32_t)vaddvq_u64(vaddq_u64(low, vshlq_n_u64(high, 2)));
}

void neon_dot_planes_4(const uint8_t *planes, const uint8_t *const v[4], size_t bytes, uint32_t out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = neon_dot_planes(planes, v[k], bytes);
}

void neon_flip_signs(float *x, const uint32_t *signs, size_t dim)
{
    static const int32_t from[4] = {31, 30, 29, 28};
    const int32x4_t places = vld1q_s32(from);
    const uint32x4_t sign = vdupq_n_u32(0x80000000);
    size_t i = 0;
    for (; i + 4 <= dim; i += 4) {
        uint32x4_t flip = vandq_u32(vshlq_u32(vdupq_n_u32(signs[i / 32] >> i % 32), places), sign);
        vst1q_f32(x + i, vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), flip)));
    }
    for (; i < dim; i++)
        x[i] = signs[i / 32] >> i % 32 & 1 ? -x[i] : x[i];
}

void neon_hadamard(float *x, unsigned log2_dim, float factor)
{
    turn_hadamard(x, log2_dim, factor);
}

void neon_butterfly(float *x, float *y, size_t dim)
{
    turn_butterfly(x, y, dim);
}

#endif
