/* Vectors as clients give them: FP32 bytes or VALUES, checked, and made to fit their set. */
#include "base/num.h"
#include "engine/commands/vset.h"

#include <stdlib.h>

/* Twice this, squared, is below the largest float. */
static const double LENGTH_MAX = 9e18;

bool kith_vector_refuse(struct kith_call *call, const char *why)
{
    kith_reply_error_format(call->reply, "ERR invalid vector specification: %s", why);
    return false;
}

static bool alloc_values(struct kith_call *call, struct kith_vector_argument *vector, uint64_t dim)
{
    if (dim > KITH_HNSW_DIM_MAX)
        return kith_vector_refuse(call, "more than 65536 dimensions");
    vector->dim = (uint32_t)dim;
    vector->values = malloc(dim * sizeof *vector->values);
    if (!vector->values)
        kith_call_no_memory(call);
    return vector->values != NULL;
}

static void drop_values(struct kith_vector_argument *vector)
{
    free(vector->values);
    *vector = (struct kith_vector_argument){0};
}

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "FP32 is little-endian, and copied as it is"
#endif

static bool parse_blob(struct kith_call *call, struct kith_slice blob, struct kith_vector_argument *vector)
{
    if (blob.length == 0 || blob.length % 4)
        return kith_vector_refuse(call, "FP32 takes 4 bytes for each dimension, little-endian");
    if (!alloc_values(call, vector, blob.length / 4))
        return false;
    memcpy(vector->values, blob.data, blob.length);
    return true;
}

/* No NaN and no infinity: an exponent of all ones. Without a branch, so that it is done by vectors. */
static bool all_finite(const float *values, uint32_t dim)
{
    uint32_t bad = 0;
    for (uint32_t i = 0; i < dim; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return !bad;
}

static bool parse_values(struct kith_call *call, size_t *index, struct kith_vector_argument *vector)
{
    int64_t dim;
    if (*index >= call->argc || kith_num_parse_int64(call->argv[*index], &dim) != KITH_OK || dim < 1 ||
        (uint64_t)dim > call->argc - *index - 1)
        return kith_vector_refuse(call, "VALUES takes a count and that many numbers");
    if (!alloc_values(call, vector, (uint64_t)dim))
        return false;
    for (uint32_t i = 0; i < vector->dim; i++) {
        double value;
        if (kith_num_parse_double(call->argv[*index + 1 + i], KITH_NUM_RANGE_OK, &value) != KITH_OK) {
            drop_values(vector);
            return kith_vector_refuse(call, "VALUES has something that is not a number");
        }
        vector->values[i] = (float)value;
    }
    *index += (size_t)dim + 1;
    return true;
}

bool kith_vector_argument_parse(struct kith_call *call, size_t *index, struct kith_vector_argument *vector)
{
    bool is_blob = kith_call_is(call, *index, "fp32"), parsed;
    if (is_blob && *index + 1 < call->argc) {
        *index += 2;
        parsed = parse_blob(call, call->argv[*index - 1], vector);
    } else if (!is_blob && kith_call_is(call, *index, "values")) {
        ++*index;
        parsed = parse_values(call, index, vector);
    } else {
        return kith_vector_refuse(call, "expected FP32 <bytes> or VALUES <count> <number> ...");
    }
    if (!parsed || all_finite(vector->values, vector->dim))
        return parsed;
    drop_values(vector);
    return kith_vector_refuse(call, "a component is not a finite 32-bit number");
}

/* So that inner products and squared distances of any two are finite numbers; cosines always are. */
static bool fits_metric(struct kith_call *call, const struct kith_vset *vset,
                        const struct kith_vector_argument *vector)
{
    double sum = 0;
    if (kith_vset_get_options(vset)->metric == KITH_HNSW_COSINE)
        return true;
    for (uint32_t i = 0; i < vector->dim; i++)
        sum += (double)vector->values[i] * (double)vector->values[i];
    return sum <= LENGTH_MAX * LENGTH_MAX ||
           kith_vector_refuse(call, "METRIC IP and L2 take vectors whose length is 9e18 at most");
}

bool kith_vector_argument_fit(struct kith_call *call, const struct kith_vset *vset,
                              struct kith_vector_argument *vector)
{
    const struct kith_vset_options *options = kith_vset_get_options(vset);
    if (vector->dim == options->dim)
        return fits_metric(call, vset, vector);
    if (!options->input_dim || vector->dim != options->input_dim) {
        kith_reply_error_format(
            call->reply,
            "ERR Vector dimension mismatch - got %u but set has %u: embed with the model that "
            "filled the set, or use another key",
            vector->dim, options->dim);
        return false;
    }
    float *projected = malloc(options->dim * sizeof *projected);
    if (!projected || kith_vset_project(vset, vector->values, projected) != KITH_OK) {
        free(projected);
        kith_call_no_memory(call);
        return false;
    }
    free(vector->values);
    *vector = (struct kith_vector_argument){projected, options->dim};
    if (!all_finite(projected, options->dim))
        return kith_vector_refuse(call, "its components are too large to be projected");
    return fits_metric(call, vset, vector);
}
