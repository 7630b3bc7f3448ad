/* NEON: floats of 16 bits, 4 at a time; every 64-bit Arm converts halves. */
#if defined(__aarch64__)
#include "vec/kernels_neon.h"

static inline float32x4_t load_f32(const float *p)
{
    return vld1q_f32(p);
}

static inline float32x4_t load_f16(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

static inline float32x4_t load_bf16(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

/* For a query loaded by LOAD_Q and vectors by LOAD_V; REST is the scalar kernel. */
#define ONE(LOAD_Q, LOAD_V, REST)                                                                            \
    float32x4_t s = vdupq_n_f32(0), t = s;                                                                   \
    size_t i = 0;                                                                                            \
    for (; i + 8 <= dim; i += 8) {                                                                           \
        s = vfmaq_f32(s, LOAD_Q(a + i), LOAD_V(b + i));                                                      \
        t = vfmaq_f32(t, LOAD_Q(a + i + 4), LOAD_V(b + i + 4));                                              \
    }                                                                                                        \
    return vaddvq_f32(vaddq_f32(s, t)) + REST(a + i, b + i, dim - i)

#define FOUR(LOAD_Q, LOAD_V, REST)                                                                           \
    float32x4_t s0 = vdupq_n_f32(0), s1 = s0, s2 = s0, s3 = s0;                                              \
    const uint16_t *v0 = v[0], *v1 = v[1], *v2 = v[2], *v3 = v[3];                                           \
    size_t i = 0;                                                                                            \
    for (; i + 4 <= dim; i += 4) {                                                                           \
        float32x4_t x = LOAD_Q(q + i);                                                                       \
        s0 = vfmaq_f32(s0, x, LOAD_V(v0 + i));                                                               \
        s1 = vfmaq_f32(s1, x, LOAD_V(v1 + i));                                                               \
        s2 = vfmaq_f32(s2, x, LOAD_V(v2 + i));                                                               \
        s3 = vfmaq_f32(s3, x, LOAD_V(v3 + i));                                                               \
    }                                                                                                        \
    float sums[4] = {vaddvq_f32(s0), vaddvq_f32(s1), vaddvq_f32(s2), vaddvq_f32(s3)};                        \
    for (int k = 0; k < 4; k++)                                                                              \
    out[k] = sums[k] + (i < dim ? REST(q + i, v[k] + i, dim - i) : 0)

float neon_dot_f32_f16(const float *a, const uint16_t *b, size_t dim)
{
    ONE(load_f32, load_f16, scalar_dot_f32_f16);
}

void neon_dot_f32_f16_4(const float *q, const uint16_t *const v[4], size_t dim, float out[4])
{
    FOUR(load_f32, load_f16, scalar_dot_f32_f16);
}

float neon_dot_f32_bf16(const float *a, const uint16_t *b, size_t dim)
{
    ONE(load_f32, load_bf16, scalar_dot_f32_bf16);
}

void neon_dot_f32_bf16_4(const float *q, const uint16_t *const v[4], size_t dim, float out[4])
{
    FOUR(load_f32, load_bf16, scalar_dot_f32_bf16);
}

float neon_dot_f16(const uint16_t *a, const uint16_t *b, size_t dim)
{
    ONE(load_f16, load_f16, scalar_dot_f16);
}

void neon_dot_f16_4(const uint16_t *q, const uint16_t *const v[4], size_t dim, float out[4])
{
    FOUR(load_f16, load_f16, scalar_dot_f16);
}

float neon_dot_bf16(const uint16_t *a, const uint16_t *b, size_t dim)
{
    ONE(load_bf16, load_bf16, scalar_dot_bf16);
}

void neon_dot_bf16_4(const uint16_t *q, const uint16_t *const v[4], size_t dim, float out[4])
{
    FOUR(load_bf16, load_bf16, scalar_dot_bf16);
}

void neon_to_f16(const float *in, uint16_t *out, size_t dim)
{
    size_t i = 0;
    for (; i + 4 <= dim; i += 4)
        vst1_u16(out + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(in + i))));
    scalar_to_f16(in + i, out + i, dim - i);
}

void neon_from_f16(const uint16_t *in, float *out, size_t dim)
{
    size_t i = 0;
    for (; i + 4 <= dim; i += 4)
        vst1q_f32(out + i, load_f16(in + i));
    scalar_from_f16(in + i, out + i, dim - i);
}

void neon_to_bf16(const float *in, uint16_t *out, size_t dim)
{
    size_t i = 0;
    for (; i + 4 <= dim; i += 4) {
        float32x4_t x = vld1q_f32(in + i);
        uint32x4_t bits = vreinterpretq_u32_f32(x), high = vshrq_n_u32(bits, 16);
        uint32x4_t round = vaddq_u32(vdupq_n_u32(0x7fff), vandq_u32(high, vdupq_n_u32(1)));
        uint32x4_t rounded = vshrq_n_u32(vaddq_u32(bits, round), 16);
        rounded = vbslq_u32(vceqq_f32(x, x), rounded, vorrq_u32(high, vdupq_n_u32(0x40)));
        vst1_u16(out + i, vmovn_u32(rounded));
    }
    scalar_to_bf16(in + i, out + i, dim - i);
}

void neon_from_bf16(const uint16_t *in, float *out, size_t dim)
{
    size_t i = 0;
    for (; i + 4 <= dim; i += 4)
        vst1q_f32(out + i, load_bf16(in + i));
    scalar_from_bf16(in + i, out + i, dim - i);
}

#endif
