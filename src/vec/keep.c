/* What is kept of a vector beside its code, to rank the nearest of a walk again. A row of the region `rest`:
 *
 *     RESIDUAL   float; the next bits below the code: 2 for int8, 4 for 4 bits
 *     F16        float; the vector of length 1 in 16 bits a dimension
 *     F32        the vector of length 1 (L2SQ: as given) in 32 bits a dimension
 *
 * The float makes an inner product with the row that of the vectors: 1 / the length of what the row holds, times
 * the vector's norm where the metric is about that. It is not the code's own factor: that length leaves out what
 * the rounded-off parts and the code have in common, which is as much as the rounding itself.
 *
 * In steps of the code, code + rest is the middle of a bin: with b bits, code + (r + 0.5) / 2^b - 0.5. */
#include "vec/index.h"
#include "vec/kernels_pack.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Rows on their way from memory while one is compared. */
enum { AHEAD = 8, LINE = 64, LINES_MOST = 16, I4_ZERO = 8 };

static bool has_scale(enum kith_hnsw_keep keep)
{
    return keep == KITH_HNSW_KEEP_RESIDUAL || keep == KITH_HNSW_KEEP_F16;
}

size_t hnsw_kept_bytes(const struct kith_hnsw_options *options)
{
    size_t dim = options->dim, bytes = has_scale(options->keep) ? sizeof(float) : 0;
    switch (options->keep) {
    case KITH_HNSW_KEEP_RESIDUAL:
        return bytes + (options->codes == KITH_HNSW_I8 ? kith_u2_bytes(dim) : kith_u4_bytes(dim));
    case KITH_HNSW_KEEP_F16:
        return bytes + dim * sizeof(uint16_t);
    case KITH_HNSW_KEEP_F32:
        return bytes + dim * sizeof(float);
    default:
        return 0;
    }
}

/* Behind the float. */
static void *row_at(const struct kith_hnsw *h, uint32_t slot)
{
    return (char *)region_at(&h->rest, slot) + (has_scale(h->options.keep) ? sizeof(float) : 0);
}

static float kept_scale(const struct kith_hnsw *h, uint32_t slot)
{
    return *(const float *)region_at(&h->rest, slot);
}

struct kith_slice kith_hnsw_kept(const struct kith_hnsw *h, uint32_t slot)
{
    return h->kept_bytes ? kith_slice(region_at(&h->rest, slot), h->kept_bytes) : kith_slice("", 0);
}

/* ---- writing ---- */

/* Code and what is below it, in whole numbers: (2^b) times two of the code's steps. */
static double square_of_residual(const struct kith_hnsw *h, const int8_t *code, const uint8_t *values)
{
    int32_t bins = h->options.codes == KITH_HNSW_I8 ? 4 : 16;
    double square = 0;
    for (uint32_t at = 0; at < h->options.dim;) {
        uint32_t end = at + 512 < h->options.dim ? at + 512 : h->options.dim;
        int32_t sum = 0; /* at most 512 * 1019^2 */
        for (; at < end; at++) {
            int32_t value = 2 * bins * code[at] + 2 * values[at] + 1 - bins;
            sum += value * value;
        }
        square += sum;
    }
    return square / (4.0 * bins * bins);
}

static void set_scale(struct kith_hnsw *h, uint32_t slot, double square)
{
    float scale = square > 0 ? (float)(1 / sqrt(square)) : 0;
    *(float *)region_at(&h->rest, slot) = scale * norm_for_products(h, element_at(h, slot)->norm);
}

/* What the code left over of each value, in bins of its step. */
static void keep_residual(struct kith_hnsw *h, uint32_t slot, const float *rotated, const int8_t *code,
                          float step, uint8_t *values)
{
    uint32_t dim = h->options.dim;
    bool pairs = h->options.codes == KITH_HNSW_I8;
    float bins = pairs ? 4 : 16, factor = step > 0 ? 1 / step : 0;
    for (uint32_t i = 0; i < dim; i++) {
        float bin = (rotated[i] * factor - (float)code[i] + 0.5f) * bins;
        bin = bin < 0 ? 0 : bin > bins - 1 ? bins - 1 : bin;
        values[i] = (uint8_t)bin;
    }
    if (pairs)
        kith_pack_u2(values, dim, row_at(h, slot));
    else
        kith_pack_u4(values, dim, row_at(h, slot));
    set_scale(h, slot, step > 0 ? square_of_residual(h, code, values) : 0);
}

/* Exact, in whatever order: squares of halves up to 2 are whole multiples of 2^-48, and their sum is small. So it is the
 * same on every machine, as what is kept must be. */
static void set_f16_scale(struct kith_hnsw *h, uint32_t slot)
{
    const uint16_t *row = row_at(h, slot);
    double square = 0;
    float block[128];
    for (uint32_t at = 0, count; at < h->options.dim; at += count) {
        count = h->options.dim - at < 128 ? h->options.dim - at : 128;
        h->kernels->from_f16(row + at, block, count);
        square += h->kernels->sum_squares(block, count);
    }
    set_scale(h, slot, square);
}

void hnsw_keep(struct kith_hnsw *h, uint32_t slot, const float *vector, const float *unit,
               const float *rotated, const int8_t *code, float step, uint8_t *values)
{
    uint32_t dim = h->options.dim;
    switch (h->options.keep) {
    case KITH_HNSW_KEEP_RESIDUAL:
        keep_residual(h, slot, rotated, code, step, values);
        break;
    case KITH_HNSW_KEEP_F16:
        h->kernels->to_f16(unit, row_at(h, slot), dim);
        set_f16_scale(h, slot);
        break;
    case KITH_HNSW_KEEP_F32:
        memcpy(row_at(h, slot), h->options.metric == KITH_HNSW_L2SQ ? vector : unit, dim * sizeof *unit);
        break;
    default:
        break;
    }
}

void hnsw_keep_saved(struct kith_hnsw *h, uint32_t slot, struct kith_slice kept)
{
    if (kept.length)
        memcpy(region_at(&h->rest, slot), kept.data, kept.length);
}

bool hnsw_kept_is_sound(const struct kith_hnsw *h, struct kith_slice kept, float norm)
{
    uint32_t dim = h->options.dim;
    size_t data = has_scale(h->options.keep) ? sizeof(float) : 0;
    float scale = 0;
    memcpy(&scale, kept.data, data);
    /* Nothing is shorter than half a step, or than half of 1. NaN fails. */
    if (!(scale >= 0 && scale <= 2 * norm_for_products(h, norm)))
        return false;
    if (h->options.keep == KITH_HNSW_KEEP_F16)
        return hnsw_halves_are_sound(kept.data + data, dim, 0x4000); /* 2.0 */
    if (h->options.keep == KITH_HNSW_KEEP_F32)
        return hnsw_floats_are_sound(kept.data, dim, h->options.metric == KITH_HNSW_L2SQ ? FLT_MAX : 2);
    return true;
}

/* ---- reading ---- */

/* Code and rest in the code's steps, to out. */
static void decode_residual(const struct kith_hnsw *h, uint32_t slot, float *out)
{
    uint32_t dim = h->options.dim;
    const void *code = code_at(h, slot), *row = row_at(h, slot);
    if (h->options.codes == KITH_HNSW_I8) {
        hnsw_unpack(kith_unpack_u2, row, dim, out);
        for (uint32_t i = 0; i < dim; i++)
            out[i] = ((const int8_t *)code)[i] + (out[i] + 0.5f) / 4 - 0.5f;
        return;
    }
    float zero = code_is_unsigned(h, slot) ? 0 : I4_ZERO;
    hnsw_unpack(kith_unpack_u4, row, dim, out);
    for (uint32_t at = 0; at < dim;) { /* a block of 128 at a time, as they are packed */
        float values[128];
        uint32_t count = at + 128 < dim ? 128 : dim - at;
        hnsw_unpack(kith_unpack_u4, (const uint8_t *)code + at / 2, count, values);
        for (uint32_t i = 0; i < count; i++)
            out[at + i] = values[i] - zero + (out[at + i] + 0.5f) / 16 - 0.5f;
        at += count;
    }
}

void hnsw_kept_vector(const struct kith_hnsw *h, uint32_t slot, float *out)
{
    uint32_t dim = h->options.dim;
    const void *row = row_at(h, slot);
    switch (h->options.keep) {
    case KITH_HNSW_KEEP_RESIDUAL:
        decode_residual(h, slot, out);
        break;
    case KITH_HNSW_KEEP_F16:
        h->kernels->from_f16(row, out, dim);
        break;
    default:
        memcpy(out, row, dim * sizeof *out);
        return;
    }
    float cut = norm_for_products(h, element_at(h, slot)->norm);
    float gain = cut > 0 ? kept_scale(h, slot) / cut : 0;
    for (uint32_t i = 0; i < dim; i++)
        out[i] *= gain;
}

/* ---- distances ---- */

static void prefetch_row(const struct kith_hnsw *h, uint32_t slot)
{
    const char *row = region_at(&h->rest, slot);
    for (size_t line = 0, at = 0; line < LINES_MOST && at < h->kept_bytes; line++, at += LINE)
        __builtin_prefetch(row + at);
    __builtin_prefetch(row + h->kept_bytes - 1);
}

/* The inner product of the query, scaled to length 1, with what the row and the code hold. */
static float residual_product(const struct kith_hnsw *h, const struct fine *q, uint32_t slot)
{
    uint32_t dim = h->options.dim;
    const void *code = code_at(h, slot), *row = row_at(h, slot);
    const struct kith_kernels *kernels = h->kernels;
    if (h->options.codes == KITH_HNSW_I8) {
        float rest = (float)kernels->dot_i8_u2(q->code, row, dim) - 1.5f * (float)q->code_sum;
        float low = (float)kernels->dot_i8_u2(q->low, row, dim) - 1.5f * (float)q->low_sum;
        return kernels->dot_f32_i8(q->unit, code, dim) + q->step * (rest + low / 256) / 4;
    }
    int32_t zero = code_is_unsigned(h, slot) ? 0 : I4_ZERO;
    float whole = (float)(kernels->dot_i8_u4(q->code, code, dim) - zero * q->code_sum);
    float whole_low = (float)(kernels->dot_i8_u4(q->low, code, dim) - zero * q->low_sum);
    float rest = (float)kernels->dot_i8_u4(q->code, row, dim) - 7.5f * (float)q->code_sum;
    float rest_low = (float)kernels->dot_i8_u4(q->low, row, dim) - 7.5f * (float)q->low_sum;
    return q->step * (whole + whole_low / 256 + (rest + rest_low / 256) / 16);
}

static float fine_distance(const struct kith_hnsw *h, const struct fine *q, uint32_t slot)
{
    uint32_t dim = h->options.dim;
    bool l2sq = h->options.metric == KITH_HNSW_L2SQ;
    float p = q->norm;
    switch (h->options.keep) {
    case KITH_HNSW_KEEP_RESIDUAL:
        p *= residual_product(h, q, slot) * kept_scale(h, slot);
        break;
    case KITH_HNSW_KEEP_F16:
        p *= h->kernels->dot_f32_f16(q->unit, row_at(h, slot), dim) * kept_scale(h, slot);
        break;
    case KITH_HNSW_KEEP_F32:
        if (l2sq)
            return h->kernels->l2sq_f32(q->vector, row_at(h, slot), dim);
        p *= h->kernels->dot_f32(q->unit, row_at(h, slot), dim) *
             norm_for_products(h, element_at(h, slot)->norm);
        break;
    default: /* int8: the query was rounded, too */
        p *= h->kernels->dot_f32_i8(q->unit, code_at(h, slot), dim) * factors_at(h, slot)[0];
        break;
    }
    return l2sq ? factors_at(h, slot)[1] + q->norm * q->norm - 2 * p : 1 - p;
}

void hnsw_prefetch_kept(const struct kith_hnsw *h, uint32_t slot)
{
    if (h->kept_bytes)
        prefetch_row(h, slot);
}

void hnsw_fine_distances(const struct kith_hnsw *h, struct target target, const uint32_t *slots,
                         uint32_t count, float *out)
{
    if (!hnsw_is_refinable(h, &target)) {
        hnsw_distances(h, target, slots, count, out);
        return;
    }
    for (uint32_t i = 0; i < AHEAD && i < count; i++)
        hnsw_prefetch_kept(h, slots[i]);
    for (uint32_t i = 0; i < count; i++) {
        if (i + AHEAD < count)
            hnsw_prefetch_kept(h, slots[i + AHEAD]);
        out[i] = fine_distance(h, target.fine, slots[i]);
    }
}
