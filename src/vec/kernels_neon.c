/* NEON kernels for 64-bit Arm, where NEON is always there: nothing to ask at run time. */
#include "vec/kernels_forms.h"

#if defined(__aarch64__)
#include <arm_neon.h>

static float dot_f32(const float *a, const float *b, size_t dim)
{
    float32x4_t s0 = vdupq_n_f32(0), s1 = s0;
    size_t i = 0;
    for (; i + 8 <= dim; i += 8) {
        s0 = vfmaq_f32(s0, vld1q_f32(a + i), vld1q_f32(b + i));
        s1 = vfmaq_f32(s1, vld1q_f32(a + i + 4), vld1q_f32(b + i + 4));
    }
    float sum = vaddvq_f32(vaddq_f32(s0, s1));
    for (; i < dim; i++)
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
    int32x4_t s0 = vdupq_n_s32(0), s1 = s0;
    size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        int8x16_t x = vld1q_s8(a + i), y = vld1q_s8(b + i);
        s0 = vpadalq_s16(s0, vmull_s8(vget_low_s8(x), vget_low_s8(y)));
        s1 = vpadalq_s16(s1, vmull_high_s8(x, y));
    }
    int32_t sum = vaddvq_s32(vaddq_s32(s0, s1));
    for (; i < dim; i++)
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
    float32x4_t s0 = vdupq_n_f32(0), s1 = s0;
    size_t i = 0;
    for (; i + 8 <= dim; i += 8) {
        int16x8_t x = vmovl_s8(vld1_s8(b + i));
        s0 = vfmaq_f32(s0, vld1q_f32(a + i), vcvtq_f32_s32(vmovl_s16(vget_low_s16(x))));
        s1 = vfmaq_f32(s1, vld1q_f32(a + i + 4), vcvtq_f32_s32(vmovl_s16(vget_high_s16(x))));
    }
    float sum = vaddvq_f32(vaddq_f32(s0, s1));
    for (; i < dim; i++)
        sum += a[i] * (float)b[i];
    return sum;
}

static uint32_t hamming(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    uint32_t count = 0;
    size_t i = 0;
    for (; i + 16 <= bytes; i += 16)
        count += vaddlvq_u8(vcntq_u8(veorq_u8(vld1q_u8(a + i), vld1q_u8(b + i))));
    for (; i < bytes; i++)
        count += (uint32_t)__builtin_popcount(a[i] ^ b[i]);
    return count;
}

static void hamming_4(const uint8_t *q, const uint8_t *const v[4], size_t bytes, uint32_t out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = hamming(q, v[k], bytes);
}

const struct kith_kernels *neon_kernels(bool more)
{
    if (more)
        return NULL;
    static const struct kith_kernels table = {
        .name = "neon",
        .level = KITH_KERNEL_NEON,
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
    return &table;
}

#else

const struct kith_kernels *neon_kernels(bool more)
{
    return NULL;
}

#endif
