/* Vectors to codes and back, and distances between codes. The one idea: a code knows its own length, so that
 * a cosine is one integer product and two scales; an element compared with itself is at distance 0 whatever
 * was lost in rounding. */
#include "vec/index.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Codes of this many vectors are on their way from memory while one is compared. */
enum { AHEAD_LEAST = 8, AHEAD_MOST = 32, LINES_AHEAD = 64, LINE = 64 };

size_t hnsw_code_bytes(const struct kith_hnsw_options *options)
{
    size_t dim = options->dim;
    switch (options->codes) {
    case KITH_HNSW_F32:
        return dim * sizeof(float);
    case KITH_HNSW_I8:
        return dim;
    case KITH_HNSW_BIN:
        return (dim + 63) / 64 * 8;
    default: /* refused by open() */
        break;
    }
    return 0;
}

/* Scaled to length 1 in out (may be the same array); returns the length. The sum is taken in double: squares
 * of large floats do not fit a float. */
static float normalise(const float *vector, uint32_t dim, float *out)
{
    double sums[8] = {0}, sum = 0;
    uint32_t d = 0;
    for (; d + 8 <= dim; d += 8)
        for (uint32_t i = 0; i < 8; i++)
            sums[i] += (double)vector[d + i] * vector[d + i];
    for (; d < dim; d++)
        sum += (double)vector[d] * vector[d];
    for (uint32_t i = 0; i < 8; i++)
        sum += sums[i];
    double exact = sqrt(sum);
    float norm = exact < FLT_MAX ? (float)exact : FLT_MAX;
    if (norm == FLT_MAX || norm == 0) {
        for (uint32_t i = 0; i < dim; i++)
            out[i] = norm > 0 ? (float)(vector[i] / exact) : 0;
        return norm;
    }
    for (uint32_t i = 0; i < dim; i++) /* in float, as Redis does: the codes shall be the same */
        out[i] = vector[i] / norm;
    return norm;
}

/* Written so that compilers turn the loops into vectors: magnitudes compare as integers; rounding half away from zero is
 * adding a half with the sign, and cutting. */
static float encode_i8(const float *unit, uint32_t dim, int8_t *code)
{
    int32_t most = 0;
    for (uint32_t i = 0; i < dim; i++) {
        int32_t bits;
        memcpy(&bits, &unit[i], sizeof bits);
        bits &= INT32_MAX;
        most = bits > most ? bits : most;
    }
    float range;
    memcpy(&range, &most, sizeof range);
    float factor = range > 0 ? 127 / range : 0;
    for (uint32_t i = 0; i < dim; i++) {
        float scaled = unit[i] * factor;
        code[i] = (int8_t)(int32_t)(scaled + (scaled < 0 ? -0.5f : 0.5f));
    }
    return range;
}

static void encode_bin(const float *unit, uint32_t dim, uint8_t *code)
{
    for (uint32_t i = 0; i < dim; i++)
        if (unit[i] > 0)
            code[i / 8] |= (uint8_t)(1u << i % 8);
}

float hnsw_code_scale(const struct kith_hnsw *h, const void *code)
{
    if (h->options.codes != KITH_HNSW_I8)
        return 1;
    int32_t square = h->kernels->dot_i8(code, code, h->options.dim);
    return square > 0 ? 1 / sqrtf((float)square) : 0;
}

void hnsw_encode(const struct kith_hnsw *h, const float *vector, void *code, float *unit, float *norm,
                 float *range, float *scale)
{
    uint32_t dim = h->options.dim;
    memset(code, 0, h->code_stride);
    *range = 0;
    *norm = normalise(vector, dim, unit);
    switch (h->options.codes) {
    case KITH_HNSW_F32:
        memcpy(code, unit, dim * sizeof *unit);
        break;
    case KITH_HNSW_I8:
        *range = encode_i8(unit, dim, code);
        break;
    case KITH_HNSW_BIN:
        encode_bin(unit, dim, code);
        break;
    default: /* refused by open() */
        break;
    }
    *scale = hnsw_code_scale(h, code);
}

void kith_hnsw_vector(const struct kith_hnsw *h, uint32_t slot, float *out)
{
    const struct element *e = element_at(h, slot);
    const void *code = code_at(h, slot);
    const uint8_t *bits = code;
    float step = e->range / 127;
    for (uint32_t i = 0; i < h->options.dim; i++) {
        switch (h->options.codes) {
        case KITH_HNSW_F32:
            out[i] = ((const float *)code)[i] * e->norm;
            break;
        case KITH_HNSW_I8:
            out[i] = ((const int8_t *)code)[i] * step * e->norm;
            break;
        case KITH_HNSW_BIN:
            out[i] = bits[i / 8] >> i % 8 & 1 ? 1 : -1;
            break;
        default: /* refused by open() */
            break;
        }
    }
}

static inline void prefetch_code(const struct kith_hnsw *h, uint32_t slot)
{
    const char *code = code_at(h, slot);
    /* What is longer than a kilobyte the hardware finds by itself. */
    size_t bytes = h->code_stride < 1024 ? h->code_stride : 1024;
    for (size_t at = 0; at < bytes; at += LINE)
        __builtin_prefetch(code + at);
    if (h->options.codes == KITH_HNSW_I8)
        __builtin_prefetch(region_at(&h->scales, slot));
}

/* Four at once; the inner products or bit counts become distances. */
static inline void four_distances(const struct kith_hnsw *h, struct target t, const uint32_t slots[4],
                                  float out[4])
{
    uint32_t dim = h->options.dim;
    const void *v[4] = {code_at(h, slots[0]), code_at(h, slots[1]), code_at(h, slots[2]),
                        code_at(h, slots[3])};
    switch (h->options.codes) {
    case KITH_HNSW_F32:
        h->kernels->dot_f32_4(t.code, (const float *const *)v, dim, out);
        for (int k = 0; k < 4; k++)
            out[k] = 1 - out[k];
        break;
    case KITH_HNSW_I8: {
        int32_t dots[4];
        h->kernels->dot_i8_4(t.code, (const int8_t *const *)v, dim, dots);
        for (int k = 0; k < 4; k++)
            out[k] = 1 - (float)dots[k] * t.scale * scale_at(h, slots[k]);
        break;
    default: /* refused by open() */
        break;
    }
    case KITH_HNSW_BIN: {
        uint32_t counts[4];
        h->kernels->hamming_4(t.code, (const uint8_t *const *)v, h->code_bytes, counts);
        for (int k = 0; k < 4; k++)
            out[k] = 2 * (float)counts[k] / (float)dim;
        break;
    }
    }
}

static inline float one_distance(const struct kith_hnsw *h, struct target t, uint32_t slot)
{
    uint32_t dim = h->options.dim;
    const void *v = code_at(h, slot);
    switch (h->options.codes) {
    case KITH_HNSW_F32:
        return 1 - h->kernels->dot_f32(t.code, v, dim);
    case KITH_HNSW_I8:
        return 1 - (float)h->kernels->dot_i8(t.code, v, dim) * t.scale * scale_at(h, slot);
    case KITH_HNSW_BIN:
        return 2 * (float)h->kernels->hamming(t.code, v, h->code_bytes) / (float)dim;
    default: /* refused by open() */
        break;
    }
    return 2;
}

/* So many vectors that some 64 lines are under way: measured best for codes of 128 and of 784 bytes alike. */
static inline uint32_t vectors_ahead(const struct kith_hnsw *h)
{
    size_t vectors = LINES_AHEAD * LINE / h->code_stride;
    return vectors < AHEAD_LEAST ? AHEAD_LEAST : vectors > AHEAD_MOST ? AHEAD_MOST : (uint32_t)vectors;
}

void hnsw_distances(const struct kith_hnsw *h, struct target target, const uint32_t *slots, uint32_t count,
                    float *out)
{
    uint32_t i = 0;
    uint32_t distance = vectors_ahead(h);
    for (uint32_t ahead = 0; ahead < count && ahead < distance; ahead++)
        prefetch_code(h, slots[ahead]);
    for (; i + 4 <= count; i += 4) {
        for (uint32_t ahead = i + distance; ahead < count && ahead < i + distance + 4; ahead++)
            prefetch_code(h, slots[ahead]);
        four_distances(h, target, slots + i, out + i);
    }
    if (count - i >= 2) { /* the last ones once more to make it four */
        float last[4];
        uint32_t four[4] = {slots[i], slots[i + 1], slots[count - 1], slots[count - 1]};
        four_distances(h, target, four, last);
        out[i] = last[0];
        out[i + 1] = last[1];
        out[count - 1] = last[2 - (count - i == 2)];
    } else if (count > i) {
        out[i] = one_distance(h, target, slots[i]);
    }
}

void hnsw_fine_distances(const struct kith_hnsw *h, const float *unit, struct target target,
                         const uint32_t *slots, uint32_t count, float *out)
{
    if (!unit || h->options.codes != KITH_HNSW_I8) {
        hnsw_distances(h, target, slots, count, out);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (i + AHEAD_LEAST < count)
            prefetch_code(h, slots[i + AHEAD_LEAST]);
        out[i] =
            1 - h->kernels->dot_f32_i8(unit, code_at(h, slots[i]), h->options.dim) * scale_at(h, slots[i]);
    }
}

float kith_hnsw_distance(const struct kith_hnsw *h, uint32_t a, uint32_t b)
{
    float distance = one_distance(h, hnsw_target(h, a), b);
    return fminf(fmaxf(distance, 0), 2);
}

struct kith_slice kith_hnsw_code(const struct kith_hnsw *h, uint32_t slot, float *range)
{
    if (range)
        *range = element_at(h, slot)->range;
    return kith_slice(code_at(h, slot), h->code_bytes);
}
