/* Estimates of the SPREAD layout in plain C: the reference; and the choice of the best. */
#include "vec/kernels_spread.h"

#define TARGET
#include "vec/kernels_spread_tables.h"

static float from_bf16(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

SPREAD_RACES static uint32_t estimate(const struct spread_query *query, const uint8_t *block, float distance,
                                      float bound, float out[SPREAD_LANES])
{
    const uint16_t *factors = (const uint16_t *)(const void *)block;
    const uint8_t *codes = block + SPREAD_FACTOR_BYTES;
    size_t plane_bytes = SPREAD_GROUP_BYTES * query->groups;
    uint32_t below = 0;
    for (unsigned lane = 0; lane < SPREAD_LANES; lane++) {
        int32_t sum = 0;
        for (unsigned p = 0; p < query->planes; p++) {
            const uint8_t *at = codes + p * plane_bytes + lane % 16;
            int32_t entries = 0;
            for (size_t g = 0; g < query->groups; g++) {
                uint8_t nibble = at[SPREAD_GROUP_BYTES * g] >> (lane < 16 ? 0 : 4) & 15;
                entries += query->tables[SPREAD_GROUP_BYTES * g + nibble];
            }
            sum += entries << p;
        }
        float a = from_bf16(factors[lane]), b = from_bf16(factors[SPREAD_LANES + lane]);
        out[lane] = distance + a + b * ((float)sum * query->scale + query->bias);
        below |= (uint32_t)(out[lane] < bound) << lane;
    }
    return below;
}

const struct spread_kernels *spread_kernels_scalar(void)
{
    static const struct spread_kernels table = {make_tables, estimate};
    return &table;
}

const struct spread_kernels *spread_kernels_pick(enum kith_kernel_level level)
{
    const struct spread_kernels *best = NULL;
    if (level >= KITH_KERNEL_AVX512)
        best = spread_kernels_avx512();
    else if (level >= KITH_KERNEL_AVX2)
        best = spread_kernels_avx2();
    else if (level >= KITH_KERNEL_NEON)
        best = spread_kernels_neon();
    return best ? best : spread_kernels_scalar();
}
