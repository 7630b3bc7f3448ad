/* A query's tables for one SIMD level, in the compiler's own vectors: included by each level's file after TARGET is
 * defined. An entry is 128 + (the sum of four halves of the query's values, with signs) in steps, so that the largest
 * sum that a group has makes 255. */
#include "vec/kernels_spread.h"

#include <math.h>
#include <string.h>

typedef float spread_floats __attribute__((vector_size(64)));
typedef int32_t spread_ints __attribute__((vector_size(64)));
typedef uint8_t spread_bytes __attribute__((vector_size(16)));

static inline float spread_largest_group(const float *q, size_t groups)
{
    float most = 0;
    for (size_t g = 0; g < groups; g++) {
        const float *x = q + SPREAD_GROUP_DIMS * g;
        float sum = fabsf(x[0]) + fabsf(x[1]) + fabsf(x[2]) + fabsf(x[3]);
        most = sum > most ? sum : most;
    }
    return most;
}

TARGET static void make_tables(const float *q, struct spread_query *query)
{
    static const float h = 0.5f;
    const spread_floats sign0 = {-h, h, -h, h, -h, h, -h, h, -h, h, -h, h, -h, h, -h, h};
    const spread_floats sign1 = {-h, -h, h, h, -h, -h, h, h, -h, -h, h, h, -h, -h, h, h};
    const spread_floats sign2 = {-h, -h, -h, -h, h, h, h, h, -h, -h, -h, -h, h, h, h, h};
    const spread_floats sign3 = {-h, -h, -h, -h, -h, -h, -h, -h, h, h, h, h, h, h, h, h};
    float most = spread_largest_group(q, query->groups), steps = most > 0 ? 255 / most : 0;
    for (size_t g = 0; g < query->groups; g++) {
        const float *x = q + SPREAD_GROUP_DIMS * g;
        spread_floats sums = 128.0f + sign0 * (x[0] * steps) + sign1 * (x[1] * steps) +
                             sign2 * (x[2] * steps) + sign3 * (x[3] * steps);
        spread_bytes entries =
            __builtin_convertvector(__builtin_convertvector(sums, spread_ints), spread_bytes);
        memcpy(query->tables + SPREAD_GROUP_BYTES * g, &entries, sizeof entries);
    }
    query->scale = most / 255;
    query->bias = -127.5f * query->scale * (float)query->groups * (float)((1u << query->planes) - 1);
}
