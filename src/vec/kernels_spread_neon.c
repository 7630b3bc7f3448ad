/* Estimates of the SPREAD layout with NEON: 16 bytes are one group of a plane. */
#include "vec/kernels_spread.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#define TARGET
#include "vec/kernels_spread_tables.h"

struct sums {
    uint16x8_t low, high;
};

static inline void add(struct sums *s, uint8x16_t entries)
{
    s->low = vaddw_u8(s->low, vget_low_u8(entries));
    s->high = vaddw_high_u8(s->high, entries);
}

/* Adds 2^p times the sums of 16 vectors to out[0..4), in order. */
static inline void add_total(struct sums s, unsigned p, uint32x4_t out[4])
{
    const int32x4_t shift = vdupq_n_s32((int32_t)p);
    out[0] = vaddq_u32(out[0], vshlq_u32(vmovl_u16(vget_low_u16(s.low)), shift));
    out[1] = vaddq_u32(out[1], vshlq_u32(vmovl_high_u16(s.low), shift));
    out[2] = vaddq_u32(out[2], vshlq_u32(vmovl_u16(vget_low_u16(s.high)), shift));
    out[3] = vaddq_u32(out[3], vshlq_u32(vmovl_high_u16(s.high), shift));
}

SPREAD_RACES static inline float32x4_t bf16(const uint8_t *p)
{
    return vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(vld1_u16((const uint16_t *)(const void *)p)), 16));
}

SPREAD_RACES static uint32_t estimate(const struct spread_query *query, const uint8_t *block, float distance,
                                      float bound, float out[SPREAD_LANES])
{
    const uint8x16_t nibble = vdupq_n_u8(15);
    const uint32x4_t bits = {1, 2, 4, 8};
    const uint8_t *codes = block + SPREAD_FACTOR_BYTES;
    uint32x4_t totals[8];
    for (unsigned i = 0; i < 8; i++)
        totals[i] = vdupq_n_u32(0);
    for (unsigned p = 0; p < query->planes; p++) {
        for (size_t g = 0; g < query->groups;) {
            size_t end = query->groups - g > SPREAD_FLUSH_GROUPS ? g + SPREAD_FLUSH_GROUPS : query->groups;
            struct sums l = {vdupq_n_u16(0), vdupq_n_u16(0)}, h = l;
            for (; g < end; g++, codes += SPREAD_GROUP_BYTES) {
                uint8x16_t code = vld1q_u8(codes);
                uint8x16_t table = vld1q_u8(query->tables + SPREAD_GROUP_BYTES * g);
                add(&l, vqtbl1q_u8(table, vandq_u8(code, nibble)));
                add(&h, vqtbl1q_u8(table, vshrq_n_u8(code, 4)));
            }
            add_total(l, p, totals);
            add_total(h, p, totals + 4);
        }
    }
    uint32_t below = 0;
    for (unsigned i = 0; i < 8; i++) {
        float32x4_t x =
            vfmaq_f32(vdupq_n_f32(query->bias), vcvtq_f32_u32(totals[i]), vdupq_n_f32(query->scale));
        float32x4_t base = vaddq_f32(vdupq_n_f32(distance), bf16(block + 8 * i));
        x = vfmaq_f32(base, bf16(block + 64 + 8 * i), x);
        vst1q_f32(out + 4 * i, x);
        below |= vaddvq_u32(vandq_u32(vcltq_f32(x, vdupq_n_f32(bound)), bits)) << 4 * i;
    }
    return below;
}

const struct spread_kernels *spread_kernels_neon(void)
{
    static const struct spread_kernels table = {make_tables, estimate};
    return &table;
}

#else

const struct spread_kernels *spread_kernels_neon(void)
{
    return NULL;
}

#endif
