/* NEON: products and squared distances of floats, and products of floats and bytes; floats to steps. */
#if defined(__aarch64__)
#include "vec/kernels_neon.h"

static inline float32x4_t add_product(float32x4_t sum, float32x4_t a, float32x4_t b)
{
    return vfmaq_f32(sum, a, b);
}

static inline float32x4_t add_square(float32x4_t sum, float32x4_t a, float32x4_t b)
{
    float32x4_t difference = vsubq_f32(a, b);
    return vfmaq_f32(sum, difference, difference);
}

/* Both in one: ADD is one of the two above, REST the scalar kernel. */
#define ONE(ADD, REST)                                                                                       \
    float32x4_t s0 = vdupq_n_f32(0), s1 = s0, s2 = s0, s3 = s0;                                              \
    size_t i = 0;                                                                                            \
    for (; i + 16 <= dim; i += 16) {                                                                         \
        s0 = ADD(s0, vld1q_f32(a + i), vld1q_f32(b + i));                                                    \
        s1 = ADD(s1, vld1q_f32(a + i + 4), vld1q_f32(b + i + 4));                                            \
        s2 = ADD(s2, vld1q_f32(a + i + 8), vld1q_f32(b + i + 8));                                            \
        s3 = ADD(s3, vld1q_f32(a + i + 12), vld1q_f32(b + i + 12));                                          \
    }                                                                                                        \
    for (; i + 4 <= dim; i += 4)                                                                             \
        s0 = ADD(s0, vld1q_f32(a + i), vld1q_f32(b + i));                                                    \
    return vaddvq_f32(vaddq_f32(vaddq_f32(s0, s1), vaddq_f32(s2, s3))) + REST(a + i, b + i, dim - i)

#define FOUR(ADD, REST)                                                                                      \
    float32x4_t s0 = vdupq_n_f32(0), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;          \
    const float *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];                                              \
    size_t i = 0;                                                                                            \
    for (; i + 8 <= dim; i += 8) {                                                                           \
        float32x4_t x = vld1q_f32(q + i), y = vld1q_f32(q + i + 4);                                          \
        s0 = ADD(s0, x, vld1q_f32(v0 + i));                                                                  \
        s1 = ADD(s1, x, vld1q_f32(v1 + i));                                                                  \
        s2 = ADD(s2, x, vld1q_f32(v2 + i));                                                                  \
        s3 = ADD(s3, x, vld1q_f32(v3 + i));                                                                  \
        t0 = ADD(t0, y, vld1q_f32(v0 + i + 4));                                                              \
        t1 = ADD(t1, y, vld1q_f32(v1 + i + 4));                                                              \
        t2 = ADD(t2, y, vld1q_f32(v2 + i + 4));                                                              \
        t3 = ADD(t3, y, vld1q_f32(v3 + i + 4));                                                              \
    }                                                                                                        \
    float sums[4] = {vaddvq_f32(vaddq_f32(s0, t0)), vaddvq_f32(vaddq_f32(s1, t1)),                           \
                     vaddvq_f32(vaddq_f32(s2, t2)), vaddvq_f32(vaddq_f32(s3, t3))};                          \
    for (int k = 0; k < 4; k++)                                                                              \
    out[k] = sums[k] + (i < dim ? REST(q + i, v[k] + i, dim - i) : 0)

float neon_dot_f32(const float *a, const float *b, size_t dim)
{
    ONE(add_product, scalar_dot_f32);
}

void neon_dot_f32_4(const float *q, const float *const v[4], size_t dim, float out[4])
{
    FOUR(add_product, scalar_dot_f32);
}

float neon_l2sq_f32(const float *a, const float *b, size_t dim)
{
    ONE(add_square, scalar_l2sq_f32);
}

void neon_l2sq_f32_4(const float *q, const float *const v[4], size_t dim, float out[4])
{
    FOUR(add_square, scalar_l2sq_f32);
}

float neon_dot_f32_i8(const float *a, const int8_t *b, size_t dim)
{
    float32x4_t s0 = vdupq_n_f32(0), s1 = s0;
    size_t i = 0;
    for (; i + 8 <= dim; i += 8) {
        int16x8_t x = vmovl_s8(vld1_s8(b + i));
        s0 = vfmaq_f32(s0, vld1q_f32(a + i), vcvtq_f32_s32(vmovl_s16(vget_low_s16(x))));
        s1 = vfmaq_f32(s1, vld1q_f32(a + i + 4), vcvtq_f32_s32(vmovl_high_s16(x)));
    }
    return vaddvq_f32(vaddq_f32(s0, s1)) + scalar_dot_f32_i8(a + i, b + i, dim - i);
}

void neon_dot_f32_i8_4(const float *q, const int8_t *const v[4], size_t dim, float out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = neon_dot_f32_i8(q, v[k], dim);
}

#define TARGET
#define STEPS(kernel) neon_##kernel
#include "vec/kernels_steps.h"

#endif
