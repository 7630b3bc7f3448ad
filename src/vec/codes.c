/* Vectors to codes and back. A code is of the vector scaled to length 1 (but float32 with L2SQ, which is the vector
 * itself); the length stands beside it. Values of int8 and 4-bit codes are steps of one size per vector, which need
 * not be kept: the code's own length says it.
 *
 * Codes of 4 bits and less are of the vector rotated by a random orthogonal map: then no few dimensions carry most of
 * the length, and one step fits all. A query is rotated likewise, and inner products stay what they are. */
#include "vec/index.h"
#include "vec/kernels_pack.h"
#include "vec/rotation.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* I4: values are -8 to 7 times the step; STEPS_TRIED ranges between the largest magnitude and less are tried. */
enum { I4_ZERO = 8, I4_STEPS_TRIED = 8 };
/* BIN: a query's values are 4 bits each. */
enum { PLANES_MOST = 15 };

/* ---- sizes ---- */

static size_t code_bytes(const struct kith_hnsw_options *options)
{
    size_t dim = options->dim;
    switch (options->codes) {
    case KITH_HNSW_F32:
        return dim * sizeof(float);
    case KITH_HNSW_F16:
    case KITH_HNSW_BF16:
        return dim * sizeof(uint16_t);
    case KITH_HNSW_I8:
        return dim;
    case KITH_HNSW_I4:
        return kith_u4_bytes(dim);
    case KITH_HNSW_BIN:
        return (dim + 63) / 64 * 8;
    }
    return 0;
}

static size_t align64(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

size_t hnsw_query_bytes(const struct kith_hnsw *h)
{
    size_t dim = h->options.dim;
    if (h->options.codes == KITH_HNSW_BIN)
        return align64(kith_planes_bytes(dim)) + align64(h->code_bytes) + align64(dim);
    return 3 * align64(dim) + 64; /* of I8 and I4: the values, what is below them, room to pack from */
}

/* Padding costs memory, an unaligned code costs a cache line more to read: whole lines where the padding is
 * small, else the least that does not straddle more lines than it must. */
static size_t stride_of(size_t bytes)
{
    size_t line = align64(bytes), rest = bytes % 64;
    if (bytes <= 8)
        return 8;
    if ((line - bytes) * 12 <= bytes)
        return line;
    return rest <= 16 ? (bytes + 15) & ~(size_t)15 : (bytes + 31) & ~(size_t)31;
}

static unsigned factor_count(const struct kith_hnsw_options *o)
{
    if (o->metric == KITH_HNSW_INNER_PRODUCT) /* the second is for choosing links */
        return 2;
    if (o->codes == KITH_HNSW_F32)
        return 0;
    return o->metric == KITH_HNSW_L2SQ ? 2 : 1;
}

int hnsw_codes_init(struct kith_hnsw *h)
{
    struct kith_hnsw_options *o = &h->options;
    if (o->keep == KITH_HNSW_KEEP_DEFAULT)
        o->keep = o->codes == KITH_HNSW_I8 || o->codes == KITH_HNSW_I4 ? KITH_HNSW_KEEP_RESIDUAL
                                                                       : KITH_HNSW_KEEP_NONE;
    if (o->codes == KITH_HNSW_F32 || (o->codes == KITH_HNSW_F16 && o->keep == KITH_HNSW_KEEP_F16))
        o->keep = KITH_HNSW_KEEP_NONE; /* the codes are as good */
    h->code_bytes = code_bytes(o);
    h->code_stride = stride_of(h->code_bytes);
    h->kept_bytes = hnsw_kept_bytes(o);
    h->factor_count = factor_count(o);
    h->distances = hnsw_distances_pick(o);
    if (o->codes != KITH_HNSW_I4 && o->codes != KITH_HNSW_BIN)
        return KITH_OK;
    if (o->codes == KITH_HNSW_I4) {
        h->ones = malloc(o->dim);
        if (!h->ones)
            return KITH_ENOMEM;
        memset(h->ones, 1, o->dim);
    }
    int rc = kith_rotation_open(&h->rotation, o->dim, o->seed, h->kernels);
    if (rc != KITH_OK)
        hnsw_codes_fini(h);
    return rc;
}

void hnsw_codes_fini(struct kith_hnsw *h)
{
    kith_rotation_close(h->rotation);
    free(h->ones);
}

/* ---- encoding ---- */

/* Scaled to length 1 in out (may be the same array); returns the length. The sum is taken in double: squares
 * of large floats do not fit a float. */
static float normalise(const struct kith_kernels *kernels, const float *vector, uint32_t dim, float *out)
{
    double exact = sqrt(kernels->sum_squares(vector, dim));
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

/* Returns the size of a step. */
static float encode_i8(const struct kith_kernels *kernels, const float *unit, uint32_t dim, int8_t *code)
{
    float range = kernels->largest(unit, dim);
    kernels->to_steps(unit, range > 0 ? 127 / range : 0, -127, 127, code, dim);
    return range / 127;
}

/* What an int8 code is off by, in 256ths of its step. */
static void encode_low(const struct kith_kernels *kernels, const float *unit, uint32_t dim,
                       const int8_t *code, float step, int8_t *low)
{
    kernels->to_fine_steps(unit, step > 0 ? 256 / step : 0, code, low, dim);
}

/* least: what code 0 stands for. */
static void encode_i4_with(const struct kith_kernels *kernels, const float *unit, uint32_t dim, float step,
                           int least, int8_t *code)
{
    kernels->to_steps(unit, step > 0 ? 1 / step : 0, (float)least, (float)(least + 15), code, dim);
}

/* The square of the cosine between a vector of length 1 and its code. */
static double code_quality(const float *unit, uint32_t dim, const int8_t *code)
{
    float dot = 0;
    int32_t square = 0;
    for (uint32_t i = 0; i < dim; i++) {
        dot += unit[i] * code[i];
        square += code[i] * code[i];
    }
    return square > 0 ? (double)dot * dot / square : 0;
}

/* Values to code, from `least` on; returns the step. Cutting off the largest few makes the steps of all others smaller;
 * but what is kept below the code cannot mend what was cut off. */
static float encode_i4(const struct kith_kernels *kernels, const float *unit, uint32_t dim, bool cut,
                       int least, int8_t *code)
{
    float range = kernels->largest(unit, dim), most = range / ((float)(least + 15) + 0.5f), best = most;
    double best_quality = -1;
    for (int i = 0; cut && i < I4_STEPS_TRIED; i++) {
        float step = most * (1 - 0.07f * (float)i);
        encode_i4_with(kernels, unit, dim, step, least, code);
        double quality = code_quality(unit, dim, code);
        if (quality > best_quality) {
            best_quality = quality;
            best = step;
        }
    }
    encode_i4_with(kernels, unit, dim, best, least, code);
    return best;
}

static void pack_i4(const int8_t *code, uint32_t dim, int least, uint8_t *values, uint8_t *out)
{
    for (uint32_t i = 0; i < dim; i++)
        values[i] = (uint8_t)(code[i] - least);
    kith_pack_u4(values, dim, out);
}

static bool has_negative(const float *unit, uint32_t dim)
{
    bool negative = false;
    for (uint32_t i = 0; i < dim; i++)
        negative |= unit[i] < 0;
    return negative;
}

/* Returns 1 / the sum of magnitudes. */
static float encode_bin(const float *unit, uint32_t dim, uint8_t *code)
{
    double sum = 0;
    for (uint32_t i = 0; i < dim; i++) {
        sum += fabsf(unit[i]);
        if (unit[i] > 0)
            code[i / 8] |= (uint8_t)(1u << i % 8);
    }
    return sum > 0 ? (float)(1 / sum) : 0;
}

/* I4: the sum of n. */
static int32_t sum_u4(const struct kith_hnsw *h, const void *code)
{
    return h->kernels->dot_i8_u4(h->ones, code, h->options.dim);
}

/* 1 / the length of a code, and the sign that form has. */
static float code_scale(const struct kith_hnsw *h, const void *code, float form)
{
    const struct kith_kernels *kernels = h->kernels;
    uint32_t dim = h->options.dim;
    float square = 0;
    switch (h->options.codes) {
    case KITH_HNSW_F32:
        return 1;
    case KITH_HNSW_F16:
        square = kernels->dot_f16(code, code, dim);
        break;
    case KITH_HNSW_BF16:
        square = kernels->dot_bf16(code, code, dim);
        break;
    case KITH_HNSW_I8:
        square = (float)kernels->dot_i8(code, code, dim);
        break;
    case KITH_HNSW_I4:
        square = (float)kernels->dot_u4(code, code, dim);
        if (form < 0) /* n^2 = (n - 8)^2 + 16 n - 64 */
            square += (float)(16 * sum_u4(h, code) - 64 * (int32_t)dim);
        break;
    case KITH_HNSW_BIN:
        return form;
    }
    float scale = square > 0 ? 1 / sqrtf(square) : 0;
    return form < 0 ? -scale : scale;
}

static void store_factors(struct kith_hnsw *h, uint32_t slot, float norm, float form)
{
    element_at(h, slot)->norm = norm;
    if (!h->factor_count)
        return;
    float *factors = region_at(&h->factors, slot), cut = norm_for_products(h, norm);
    factors[0] = code_scale(h, code_at(h, slot), form) * cut;
    if (h->factor_count > 1)
        factors[1] = h->options.metric == KITH_HNSW_L2SQ ? cut * cut : cut;
}

static bool is_rotated(const struct kith_hnsw *h)
{
    return h->rotation && atomic_load_explicit(&h->plain, memory_order_relaxed) != PLAIN_YES;
}

/* The vector that codes are of: rotated where they are. */
static const float *rotate(const struct kith_hnsw *h, struct scratch *s)
{
    if (!is_rotated(h))
        return s->query_unit;
    kith_rotation_apply(h->rotation, s->query_unit, s->query_rotated);
    return s->query_rotated;
}

void hnsw_store(struct kith_hnsw *h, struct scratch *s, uint32_t slot, const float *vector)
{
    uint32_t dim = h->options.dim;
    void *code = region_at(&h->codes, slot);
    int8_t *values = s->query_code;
    uint8_t *packed = (uint8_t *)values + align64(dim);
    float norm = normalise(h->kernels, vector, dim, s->query_unit), form = 1, step = 0;
    if (h->options.codes == KITH_HNSW_I4 && h->plain == PLAIN_UNKNOWN)
        h->plain = has_negative(vector, dim) ? PLAIN_NO : PLAIN_YES;
    const float *unit = rotate(h, s);
    int least = h->plain == PLAIN_YES && !has_negative(unit, dim) ? 0 : -I4_ZERO;
    memset(code, 0, h->code_stride);
    switch (h->options.codes) {
    case KITH_HNSW_F32:
        memcpy(code, h->options.metric == KITH_HNSW_L2SQ ? vector : unit, dim * sizeof *unit);
        break;
    case KITH_HNSW_F16:
        h->kernels->to_f16(unit, code, dim);
        break;
    case KITH_HNSW_BF16:
        h->kernels->to_bf16(unit, code, dim);
        break;
    case KITH_HNSW_I8:
        step = encode_i8(h->kernels, unit, dim, code);
        values = code;
        break;
    case KITH_HNSW_I4:
        step = encode_i4(h->kernels, unit, dim, h->options.keep != KITH_HNSW_KEEP_RESIDUAL, least, values);
        pack_i4(values, dim, least, packed, code);
        form = least == 0 && norm > 0 ? -1 : 1;
        break;
    case KITH_HNSW_BIN:
        form = encode_bin(unit, dim, code);
        break;
    }
    store_factors(h, slot, norm, form);
    hnsw_keep(h, slot, vector, s->query_unit, unit, values, step, packed);
}

void hnsw_store_saved(struct kith_hnsw *h, uint32_t slot, float norm, float form, struct kith_slice code,
                      struct kith_slice kept)
{
    void *to = region_at(&h->codes, slot);
    memset(to, 0, h->code_stride);
    memcpy(to, code.data, code.length);
    store_factors(h, slot, norm, form);
    hnsw_keep_saved(h, slot, kept);
}

/* ---- saved codes ---- */

float kith_hnsw_form(const struct kith_hnsw *h, uint32_t slot)
{
    if (h->options.codes == KITH_HNSW_I4)
        return code_is_unsigned(h, slot) ? -1 : 1;
    float cut = norm_for_products(h, element_at(h, slot)->norm);
    return cut > 0 ? factors_at(h, slot)[0] / cut : 0;
}

bool hnsw_form_is_sound(const struct kith_hnsw *h, float form)
{
    if (h->options.codes == KITH_HNSW_I4)
        return form == 1 || form == -1;
    return form >= 0 && form <= 2; /* NaN fails */
}

static bool i8_is_sound(const char *bytes, size_t dim)
{
    bool sound = true;
    for (size_t i = 0; i < dim; i++)
        sound &= (int8_t)bytes[i] != INT8_MIN;
    return sound;
}

bool hnsw_code_is_sound(const struct kith_hnsw *h, struct kith_slice code)
{
    const char *bytes = code.data;
    size_t dim = h->options.dim;
    bool sound = true;
    switch (h->options.codes) {
    case KITH_HNSW_F32:
        return hnsw_floats_are_sound(bytes, dim, h->options.metric == KITH_HNSW_L2SQ ? FLT_MAX : 2);
    case KITH_HNSW_F16:
        return hnsw_halves_are_sound(bytes, dim, 0x4000); /* 2.0 */
    case KITH_HNSW_BF16:
        return hnsw_halves_are_sound(bytes, dim, 0x4000); /* 2.0 here, too */
    case KITH_HNSW_I8:
        return i8_is_sound(bytes, dim);
    case KITH_HNSW_I4: /* what is left over must be 8, which counts as 0 */
        return dim % 2 == 0 || (uint8_t)bytes[code.length - 1] >> 4 == I4_ZERO;
    case KITH_HNSW_BIN: /* no bits behind the last dimension */
        for (size_t i = dim; i < 8 * code.length; i++)
            sound &= !((uint8_t)bytes[i / 8] >> i % 8 & 1);
        return sound;
    }
    return false;
}

/* Written so that NaN fails. */
bool hnsw_floats_are_sound(const char *bytes, size_t dim, float most)
{
    bool sound = true;
    for (size_t i = 0; i < dim; i++) {
        float value;
        memcpy(&value, bytes + 4 * i, sizeof value);
        sound &= fabsf(value) <= most;
    }
    return sound;
}

bool hnsw_halves_are_sound(const char *bytes, size_t dim, uint16_t most)
{
    bool sound = true;
    for (size_t i = 0; i < dim; i++) {
        uint16_t value;
        memcpy(&value, bytes + 2 * i, sizeof value);
        sound &= (value & 0x7fff) <= most; /* infinity and NaN are above */
    }
    return sound;
}

/* ---- targets ---- */

static void set_equal_range(const struct kith_hnsw *h, struct target *t, float norm)
{
    float square = norm_for_products(h, norm);
    square *= square;
    switch (h->options.metric) {
    case KITH_HNSW_COSINE:
        t->least = -FLT_MAX;
        t->most = NEAR_ZERO;
        break;
    case KITH_HNSW_L2SQ: /* of float32, equals are at 0 exactly */
        t->least = -FLT_MAX;
        t->most = h->options.codes == KITH_HNSW_F32 ? 0 : 2 * NEAR_ZERO * square;
        break;
    case KITH_HNSW_INNER_PRODUCT: /* what is not equal may be here, too, but little is */
        t->least = 1 - square - NEAR_ZERO * square;
        t->most = 1 - square + NEAR_ZERO * square;
        if (square < 1e-6f) /* too short to tell */
            t->least = FLT_MAX;
        break;
    }
    t->square = square;
}

struct target hnsw_target(const struct kith_hnsw *h, uint32_t slot)
{
    /* Cosine needs no norm: that would be a cache miss in vain. */
    float norm = h->options.metric == KITH_HNSW_COSINE ? 1 : element_at(h, slot)->norm;
    struct target t = {.code = code_at(h, slot), .scale = 1};
    set_equal_range(h, &t, norm);
    if (h->options.codes == KITH_HNSW_BIN)
        t.scale = norm_for_products(h, norm) * (factors_at(h, slot)[0] > 0);
    else if (h->factor_count)
        t.scale = fabsf(factors_at(h, slot)[0]);
    if (h->options.codes == KITH_HNSW_I4) {
        int32_t dim = (int32_t)h->options.dim;
        bool all = code_is_unsigned(h, slot);
        t.offset = all ? I4_ZERO * dim : 0;
        t.sum = I4_ZERO * (sum_u4(h, t.code) - (all ? 0 : I4_ZERO * dim));
    }
    return t;
}

struct target hnsw_link_target(const struct kith_hnsw *h, uint32_t slot, bool by_product)
{
    struct target t = hnsw_target(h, slot);
    if (h->options.metric == KITH_HNSW_INNER_PRODUCT && !by_product) {
        t.euclidean = true;
        t.least = -FLT_MAX;
        t.most = 2 * NEAR_ZERO * t.square;
    }
    return t;
}

/* BIN: the planes, zeros for counting bits, room to pack from. */
static void set_planes(const struct kith_hnsw *h, struct scratch *s, const float *unit, struct target *t)
{
    uint32_t dim = h->options.dim;
    uint8_t *planes = s->query_code, *zeros = planes + kith_planes_bytes(dim);
    uint8_t *values = zeros + align64(h->code_bytes);
    float range = h->kernels->largest(unit, dim), step = range / (PLANES_MOST * 0.5f);
    float factor = step > 0 ? 1 / step : 0;
    int32_t sum = 0;
    for (uint32_t i = 0; i < dim; i++) {
        float value = unit[i] * factor + PLANES_MOST * 0.5f + 0.5f;
        value = value < 0 ? 0 : value > PLANES_MOST ? PLANES_MOST : value;
        values[i] = (uint8_t)value;
        sum += values[i];
    }
    memset(zeros, 0, h->code_bytes);
    kith_pack_planes(values, dim, planes);
    /* q * signs = step * (2 * sum of (u - 7.5) where a bit is set - sum of (u - 7.5)); all twice, in integers. */
    t->offset = 2 * sum - PLANES_MOST * (int32_t)dim;
    t->scale *= step / 2;
}

/* A query that is a code's decoded vector is compared as a code: the estimate for others does not hold for it. */
static bool is_of_signs(const float *unit, uint32_t dim)
{
    float most = fabsf(unit[0]), least = most;
    for (uint32_t i = 1; i < dim; i++) {
        float magnitude = fabsf(unit[i]);
        most = magnitude > most ? magnitude : most;
        least = magnitude < least ? magnitude : least;
    }
    return most > 0 && most - least < 1e-4f * most;
}

static void set_bits(const struct kith_hnsw *h, struct scratch *s, const float *unit, struct target *t)
{
    memset(s->query_code, 0, h->code_stride);
    encode_bin(unit, h->options.dim, s->query_code);
    t->wide = false;
}

static void set_fine(const struct kith_hnsw *h, struct scratch *s, const float *vector, const float *unit,
                     float norm)
{
    struct fine *fine = &s->fine;
    uint32_t dim = h->options.dim;
    int8_t *code = s->query_code, *low = code + align64(dim);
    fine->vector = vector;
    fine->unit = s->query_unit;
    fine->norm = norm_for_products(h, norm);
    if (h->options.codes != KITH_HNSW_I8 && h->options.codes != KITH_HNSW_I4)
        return;
    fine->code = code;
    fine->low = low;
    fine->step = encode_i8(h->kernels, unit, dim, code);
    fine->code_sum = h->kernels->sum_i8(code, dim);
    if (h->options.keep == KITH_HNSW_KEEP_RESIDUAL) {
        encode_low(h->kernels, unit, dim, code, fine->step, low);
        fine->low_sum = h->kernels->sum_i8(low, dim);
    }
}

struct target hnsw_query_target(const struct kith_hnsw *h, struct scratch *s, const float *vector)
{
    struct fine *fine = &s->fine;
    float norm = normalise(h->kernels, vector, h->options.dim, s->query_unit);
    const float *unit = rotate(h, s);
    struct target t = {.wide = true, .scale = norm_for_products(h, norm), .fine = fine};
    set_equal_range(h, &t, norm);
    set_fine(h, s, vector, unit, norm);
    switch (h->options.codes) {
    case KITH_HNSW_F32:
        t.code = h->options.metric == KITH_HNSW_L2SQ ? vector : unit;
        break;
    case KITH_HNSW_F16:
    case KITH_HNSW_BF16:
        t.code = unit;
        break;
    case KITH_HNSW_I8: /* as an element's: the products of equals shall be equal */
        t.code = s->query_code;
        t.scale *= code_scale(h, s->query_code, 0);
        break;
    case KITH_HNSW_I4:
        t.code = s->query_code;
        t.offset = I4_ZERO * fine->code_sum;
        t.scale *= fine->step;
        break;
    case KITH_HNSW_BIN:
        t.code = s->query_code;
        if (is_of_signs(unit, h->options.dim))
            set_bits(h, s, unit, &t);
        else
            set_planes(h, s, unit, &t);
        break;
    }
    return t;
}

struct target hnsw_element_target(const struct kith_hnsw *h, struct scratch *s, uint32_t slot)
{
    if (h->options.keep == KITH_HNSW_KEEP_NONE)
        return hnsw_target(h, slot);
    kith_hnsw_vector(h, slot, s->query_vector);
    return hnsw_query_target(h, s, s->query_vector);
}

/* ---- one element ---- */

void hnsw_unpack(hnsw_unpack_fn *unpack, const void *packed, uint32_t dim, float *out)
{
    uint8_t *values = (uint8_t *)out + 3 * (size_t)dim; /* each is read before a float comes to lie on it */
    unpack(packed, dim, values);
    for (uint32_t i = 0; i < dim; i++) {
        float value = values[i];
        memcpy(&out[i], &value, sizeof value);
    }
}

/* Its code's values times `scale`; BIN as a vector of length `scale`. */
static void decode(const struct kith_hnsw *h, const void *code, float scale, float *out)
{
    uint32_t dim = h->options.dim;
    const uint8_t *bits = code;
    float sign = scale / sqrtf((float)dim);
    switch (h->options.codes) {
    case KITH_HNSW_F32:
        memcpy(out, code, dim * sizeof *out);
        break;
    case KITH_HNSW_F16:
        h->kernels->from_f16(code, out, dim);
        break;
    case KITH_HNSW_BF16:
        h->kernels->from_bf16(code, out, dim);
        break;
    case KITH_HNSW_I8:
        for (uint32_t i = 0; i < dim; i++)
            out[i] = ((const int8_t *)code)[i];
        break;
    case KITH_HNSW_I4:
        hnsw_unpack(kith_unpack_u4, code, dim, out);
        for (uint32_t i = 0; i < dim && scale >= 0; i++)
            out[i] -= I4_ZERO;
        scale = fabsf(scale);
        break;
    case KITH_HNSW_BIN:
        for (uint32_t i = 0; i < dim; i++)
            out[i] = bits[i / 8] >> i % 8 & 1 ? sign : -sign;
        return;
    }
    for (uint32_t i = 0; i < dim; i++)
        out[i] *= scale;
}

/* A component of what was rounded may be longer than the vector. */
static void scale_by(float norm, uint32_t dim, float *out)
{
    for (uint32_t i = 0; i < dim; i++)
        out[i] *= norm;
    for (uint32_t i = 0; i < dim && norm > FLT_MAX / 2; i++)
        out[i] = fmaxf(-FLT_MAX, fminf(out[i], FLT_MAX));
}

void hnsw_decode(const struct kith_hnsw *h, uint32_t slot, float *out)
{
    const void *code = code_at(h, slot);
    bool as_given = h->options.codes == KITH_HNSW_F32 && h->options.metric == KITH_HNSW_L2SQ;
    float form = h->options.codes == KITH_HNSW_I4 ? kith_hnsw_form(h, slot) : 1;
    decode(h, code, code_scale(h, code, form), out);
    if (is_rotated(h))
        kith_rotation_undo(h->rotation, out, out);
    float length = norm_for_products(h, element_at(h, slot)->norm);
    for (uint32_t i = 0; i < h->options.dim && !as_given; i++)
        out[i] *= length;
}

void kith_hnsw_vector(const struct kith_hnsw *h, uint32_t slot, float *out)
{
    const void *code = code_at(h, slot);
    bool rotated = is_rotated(h), kept = h->options.keep != KITH_HNSW_KEEP_NONE;
    if (kept) {
        hnsw_kept_vector(h, slot, out);
        rotated = rotated && h->options.keep == KITH_HNSW_KEEP_RESIDUAL;
    } else {
        float form = h->options.codes == KITH_HNSW_I4 ? kith_hnsw_form(h, slot) : 1;
        decode(h, code, code_scale(h, code, form), out);
    }
    /* At length 1: rotating what is very long would overflow. */
    if (rotated)
        kith_rotation_undo(h->rotation, out, out);
    bool as_given = h->options.metric == KITH_HNSW_L2SQ &&
                    (kept ? h->options.keep == KITH_HNSW_KEEP_F32 : h->options.codes == KITH_HNSW_F32);
    if (!as_given)
        scale_by(element_at(h, slot)->norm, h->options.dim, out);
}

float kith_hnsw_norm(const struct kith_hnsw *h, uint32_t slot)
{
    return element_at(h, slot)->norm;
}

struct kith_slice kith_hnsw_code(const struct kith_hnsw *h, uint32_t slot, float *range)
{
    const void *code = code_at(h, slot);
    if (range)
        *range = h->options.codes == KITH_HNSW_I8 ? 127 * code_scale(h, code, 0) : 0;
    return kith_slice(code, h->code_bytes);
}
