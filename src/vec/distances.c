/* Distances between codes. One function for each kind of code and metric, picked when the index is opened: what is
 * to be done is decided once, not for each element. They come from one template, whose constants the compiler folds.
 *
 * A product of two codes (an integer one mostly) and two factors make the inner product of the vectors that the codes
 * stand for, and that makes the distance:
 *
 *     p = product * target.scale * factors[0]
 *     COSINE, INNER_PRODUCT   1 - p                  (of unit vectors for COSINE)
 *     L2SQ                    x^2 + y^2 - 2 p        (but (x - y)^2 itself for float32, where equals are at 0)
 *
 * A code knows its own length, so that an element compared with itself is at 0 whatever was lost in rounding. BIN is
 * RaBitQ (Gao & Long, "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for Approximate
 * Nearest Neighbor Search", 2024): the product of a query with the signs of a rotated vector, over the sum of its
 * magnitudes, estimates the inner product without bias. Between two such codes, bits that differ tell the angle. */
#include "vec/index.h"
#include "vec/kernels_pack.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Codes of this many vectors are on their way from memory while one is compared. */
enum { AHEAD_LEAST = 8, AHEAD_MOST = 32, LINES_AHEAD = 64, LINE = 64, RING = 64 };

#define INLINE static inline __attribute__((always_inline))

/* cos(pi x) for x in [0, 1], within 1e-6. */
INLINE float cos_pi(float x)
{
    float y = 0.5f - x, z = y * y; /* sin(pi y) */
    return y * (3.14159265f + z * (-5.16771278f + z * (2.55016404f + z * (-0.59926453f + z * 0.08214589f))));
}

/* Rows of four elements. */
struct four {
    const void *codes[4];
    const float *factors[4];
};

INLINE bool is_unsigned(const struct four *c, int k)
{
    return signbit(c->factors[k][0]);
}

/* I4. A code n stands for n - 8, or for n where the factor is negative; in kernels a query's product is with n, that of
 * two codes with n - 8. */
INLINE void products_i4(const struct kith_hnsw *h, const struct target *t, const struct four *c, float out[4])
{
    int32_t dots[4], sums[4];
    const uint8_t *const *v = (const uint8_t *const *)c->codes;
    if (t->wide) {
        h->kernels->dot_i8_u4_4(t->code, v, h->options.dim, dots);
        for (int k = 0; k < 4; k++)
            out[k] = (float)(dots[k] - (is_unsigned(c, k) ? 0 : t->offset));
        return;
    }
    h->kernels->dot_u4_4(t->code, v, h->options.dim, dots);
    if (t->offset == 0) { /* (n - 8) * (m - 8) + 8 * (n - 8) for the unsigned m */
        for (int k = 0; k < 4; k++)
            out[k] = (float)(dots[k] + (is_unsigned(c, k) ? t->sum : 0));
        return;
    }
    h->kernels->dot_i8_u4_4(h->ones, v, h->options.dim, sums);
    for (int k = 0; k < 4; k++) /* n * (m - 8) + n * 8 for the unsigned m */
        out[k] = (float)(dots[k] + 8 * (sums[k] - t->offset) + (is_unsigned(c, k) ? t->sum : 0));
}

/* BIN. wide: with q = step * (u - 7.5), u the planes, and s the signs (bits b), q * s = step * (2 u * b - 15 |b| - sum(u -
 * 7.5)); the step is in the scale. Else the cosine, for which there is no factor. */
INLINE void products_bin(const struct kith_hnsw *h, const struct target *t, const struct four *c,
                         float out[4])
{
    uint32_t counts[4], sums[4];
    const uint8_t *const *v = (const uint8_t *const *)c->codes;
    if (t->wide) {
        const uint8_t *planes = t->code, *zeros = planes + kith_planes_bytes(h->options.dim);
        h->kernels->dot_planes_4(planes, v, h->code_bytes, sums);
        h->kernels->hamming_4(zeros, v, h->code_bytes, counts);
        for (int k = 0; k < 4; k++)
            out[k] = (float)(4 * (int32_t)sums[k] - 30 * (int32_t)counts[k] - t->offset);
        return;
    }
    h->kernels->hamming_4(t->code, v, h->code_bytes, counts);
    for (int k = 0; k < 4; k++)
        out[k] = cos_pi((float)counts[k] / (float)h->options.dim);
}

/* single: only the first counts, and the others are the same. Sums of floats depend on their order, and what a distance
 * is shall not depend on what else is compared. */
INLINE void products(const struct kith_hnsw *h, const struct target *t, const struct four *c, float out[4],
                     enum kith_hnsw_codes codes, bool single)
{
    size_t dim = h->options.dim;
    const struct kith_kernels *kernels = h->kernels;
    switch (codes) {
    case KITH_HNSW_F32:
        kernels->dot_f32_4(t->code, (const float *const *)c->codes, dim, out);
        break;
    case KITH_HNSW_F16:
        if (t->wide)
            kernels->dot_f32_f16_4(t->code, (const uint16_t *const *)c->codes, dim, out);
        else
            kernels->dot_f16_4(t->code, (const uint16_t *const *)c->codes, dim, out);
        break;
    case KITH_HNSW_BF16:
        if (t->wide)
            kernels->dot_f32_bf16_4(t->code, (const uint16_t *const *)c->codes, dim, out);
        else
            kernels->dot_bf16_4(t->code, (const uint16_t *const *)c->codes, dim, out);
        break;
    case KITH_HNSW_I8: {
        int32_t dots[4] = {0};
        if (single)
            dots[0] = kernels->dot_i8(t->code, c->codes[0], dim);
        else
            kernels->dot_i8_4(t->code, (const int8_t *const *)c->codes, dim, dots);
        for (int k = 0; k < 4; k++)
            out[k] = (float)dots[k];
        break;
    }
    case KITH_HNSW_I4:
        products_i4(h, t, c, out);
        break;
    case KITH_HNSW_BIN:
        products_bin(h, t, c, out);
        break;
    }
}

/* Cosine of float32 has no factors: all is in the unit vectors. */
INLINE bool has_factors(enum kith_hnsw_codes codes, enum kith_hnsw_metric metric)
{
    return codes != KITH_HNSW_F32 || metric == KITH_HNSW_INNER_PRODUCT;
}

INLINE float distance_of(const struct target *t, const float *factors, float product,
                         enum kith_hnsw_codes codes, enum kith_hnsw_metric metric)
{
    if (!has_factors(codes, metric))
        return 1 - product;
    float p = product * t->scale;
    if (codes == KITH_HNSW_BIN &&
        !t->wide) /* the cosine: lengths are the only factors, and none for a zero vector */
        p *= metric == KITH_HNSW_COSINE ? factors[0] > 0
             : metric == KITH_HNSW_L2SQ ? sqrtf(factors[1])
                                        : factors[1];
    else
        p *= codes == KITH_HNSW_I4 ? fabsf(factors[0]) : factors[0];
    if (metric == KITH_HNSW_INNER_PRODUCT && t->euclidean)
        return factors[1] * factors[1] + t->square - 2 * p;
    return metric == KITH_HNSW_L2SQ ? factors[1] + t->square - 2 * p : 1 - p;
}

INLINE void four_distances(const struct kith_hnsw *h, const struct target *t, const struct four *four,
                           float out[4], enum kith_hnsw_codes codes, enum kith_hnsw_metric metric,
                           bool single)
{
    if (codes == KITH_HNSW_F32 && metric == KITH_HNSW_L2SQ) {
        h->kernels->l2sq_f32_4(t->code, (const float *const *)four->codes, h->options.dim, out);
        return;
    }
    float dots[4];
    products(h, t, four, dots, codes, single);
    for (int k = 0; k < (single ? 1 : 4); k++)
        out[k] = distance_of(t, four->factors[k], dots[k], codes, metric);
}

/* Where the rows of the elements to come are, so that it is worked out once; a ring. */
struct rows {
    const void *codes[RING];
    const float *factors[RING];
};

/* Works out the i-th, and asks for it. */
INLINE void fetch(const struct kith_hnsw *h, struct rows *rows, uint32_t i, uint32_t slot, bool factors)
{
    unsigned chunk = region_chunk_of(h->codes.shift, slot);
    const char *code = region_at_chunk(&h->codes, chunk, slot);
    rows->codes[i % RING] = code;
    /* What is longer than a kilobyte the hardware finds by itself. */
    size_t bytes = h->code_stride < 1024 ? h->code_stride : 1024;
    for (size_t at = 0; at < bytes; at += LINE)
        __builtin_prefetch(code + at);
    if (!factors)
        return;
    rows->factors[i % RING] = region_at_chunk(&h->factors, chunk, slot);
    __builtin_prefetch(rows->factors[i % RING]);
}

/* So many vectors that some 64 lines are under way: measured best for codes of 128 and of 784 bytes alike. */
INLINE uint32_t vectors_ahead(const struct kith_hnsw *h)
{
    size_t vectors = LINES_AHEAD * LINE / h->code_stride;
    return vectors < AHEAD_LEAST ? AHEAD_LEAST : vectors > AHEAD_MOST ? AHEAD_MOST : (uint32_t)vectors;
}

INLINE void distances(const struct kith_hnsw *h, const struct target *t, const uint32_t *slots,
                      uint32_t count, float *out, enum kith_hnsw_codes codes, enum kith_hnsw_metric metric)
{
    struct rows rows;
    uint32_t ahead = vectors_ahead(h), fetched = 0;
    bool factors = has_factors(codes, metric);
    for (uint32_t i = 0; i < count; i += 4) {
        for (; fetched < count && fetched < i + ahead + 4; fetched++)
            fetch(h, &rows, fetched, slots[fetched], factors);
        struct four four;
        for (uint32_t k = 0; k < 4; k++) { /* the last one again to make it four */
            uint32_t at = i + k < count ? i + k : count - 1;
            four.codes[k] = rows.codes[at % RING];
            four.factors[k] = factors ? rows.factors[at % RING] : NULL;
        }
        if (i + 4 <= count) {
            four_distances(h, t, &four, out + i, codes, metric, false);
            continue;
        }
        float last[4];
        if (i + 1 == count)
            four_distances(h, t, &four, last, codes, metric, true);
        else
            four_distances(h, t, &four, last, codes, metric, false);
        memcpy(out + i, last, (count - i) * sizeof *out);
    }
}

/* clang-format off */
#define FUNCTION(codes, metric) \
    static void distances_##codes##_##metric(const struct kith_hnsw *h, const struct target *t, const uint32_t *slots, \
                                             uint32_t count, float *out) \
    { \
        distances(h, t, slots, count, out, KITH_HNSW_##codes, KITH_HNSW_##metric); \
    }
#define METRICS(codes) FUNCTION(codes, COSINE) FUNCTION(codes, INNER_PRODUCT) FUNCTION(codes, L2SQ)
METRICS(F32) METRICS(F16) METRICS(BF16) METRICS(I8) METRICS(I4) METRICS(BIN)

hnsw_distances_fn *hnsw_distances_pick(const struct kith_hnsw_options *options)
{
#define ENTRIES(codes) \
    [KITH_HNSW_##codes] = {[KITH_HNSW_COSINE] = distances_##codes##_COSINE, \
                           [KITH_HNSW_INNER_PRODUCT] = distances_##codes##_INNER_PRODUCT, \
                           [KITH_HNSW_L2SQ] = distances_##codes##_L2SQ}
    static hnsw_distances_fn *const table[KITH_HNSW_I4 + 1][KITH_HNSW_L2SQ + 1] = {
        ENTRIES(F32), ENTRIES(F16), ENTRIES(BF16), ENTRIES(I8), ENTRIES(I4), ENTRIES(BIN)};
    return table[options->codes][options->metric];
}
/* clang-format on */

float hnsw_clamp(const struct kith_hnsw *h, float distance)
{
    switch (h->options.metric) {
    case KITH_HNSW_COSINE:
        return fminf(fmaxf(distance, 0), 2);
    case KITH_HNSW_L2SQ:
        return fminf(fmaxf(distance, 0), FLT_MAX);
    case KITH_HNSW_INNER_PRODUCT:
        break;
    }
    return distance;
}

float kith_hnsw_distance(const struct kith_hnsw *h, uint32_t a, uint32_t b)
{
    float distance;
    hnsw_distances(h, hnsw_target(h, a), &b, 1, &distance);
    return hnsw_clamp(h, distance);
}
