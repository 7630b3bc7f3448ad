/* VADD, VMADD, VREM, VSETATTR: everything is read and checked before the first change. */
#include "base/num.h"
#include "engine/attributes.h"
#include "engine/commands/vset.h"

#include <stdlib.h>

enum { M_LEAST = 4 }; /* Redis's bound */

static bool refuse(struct kith_call *call, const char *why)
{
    kith_reply_error_format(call->reply, "ERR invalid vector specification: %s", why);
    return false;
}

static bool alloc_values(struct kith_call *call, struct kith_vector_argument *vector, uint64_t dim)
{
    if (dim > KITH_HNSW_DIM_MAX)
        return refuse(call, "more than 65536 dimensions");
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
        return refuse(call, "FP32 takes 4 bytes for each dimension, little-endian");
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
        return refuse(call, "VALUES takes a count and that many numbers");
    if (!alloc_values(call, vector, (uint64_t)dim))
        return false;
    for (uint32_t i = 0; i < vector->dim; i++) {
        double value;
        if (kith_num_parse_double(call->argv[*index + 1 + i], KITH_NUM_RANGE_OK, &value) != KITH_OK) {
            drop_values(vector);
            return refuse(call, "VALUES has something that is not a number");
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
        return refuse(call, "expected FP32 <bytes> or VALUES <count> <number> ...");
    }
    if (!parsed || all_finite(vector->values, vector->dim))
        return parsed;
    drop_values(vector);
    return refuse(call, "a component is not a finite 32-bit number");
}

bool kith_vector_argument_fit(struct kith_call *call, const struct kith_vset *vset,
                              struct kith_vector_argument *vector)
{
    const struct kith_vset_options *options = kith_vset_get_options(vset);
    if (vector->dim == options->dim)
        return true;
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
    return all_finite(projected, options->dim) ||
           refuse(call, "its components are too large to be projected");
}

/* ---- adding ---- */

/* What VADD and VMADD were told about the set. */
struct set_request {
    uint32_t reduce; /* 0: not given */
    int64_t m, ef;   /* 0: not given */
    enum kith_hnsw_codes codes;
    bool codes_given;
};

/* Takes one option that concerns the set at argv[*index]. 1: taken, 0: it is none, -1: an error was replied.
 */
static int take_set_option(struct kith_call *call, size_t *index, struct set_request *request)
{
    static const struct {
        const char *word;
        enum kith_hnsw_codes codes;
    } codes[] = {{"noquant", KITH_HNSW_F32}, {"q8", KITH_HNSW_I8}, {"bin", KITH_HNSW_BIN}};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (!kith_call_is(call, *index, codes[i].word))
            continue;
        request->codes = codes[i].codes;
        request->codes_given = true;
        return 1;
    }
    if (kith_call_is(call, *index, "cas"))
        return 1; /* Redis's wish for a thread: here links are always made in the background */
    bool has_value = *index + 1 < call->argc;
    if (has_value && kith_call_is(call, *index, "m"))
        return kith_call_int_in(call, ++*index, M_LEAST, KITH_HNSW_M_MAX, &request->m,
                                "ERR invalid M: a number from 4 to 4096")
                   ? 1
                   : -1;
    if (has_value && kith_call_is(call, *index, "ef"))
        return kith_call_int_in(call, ++*index, 1, KITH_HNSW_EF_MAX, &request->ef,
                                "ERR invalid EF: a number from 1 to 1000000")
                   ? 1
                   : -1;
    return 0;
}

static bool take_reduce(struct kith_call *call, size_t *index, struct set_request *request)
{
    int64_t dim;
    if (!kith_call_is(call, *index, "reduce"))
        return true;
    if (*index + 1 >= call->argc || kith_num_parse_int64(call->argv[*index + 1], &dim) != KITH_OK ||
        dim < 1 || dim > KITH_HNSW_DIM_MAX)
        return refuse(call, "REDUCE takes the dimension to reduce to, from 1 to 65536");
    request->reduce = (uint32_t)dim;
    *index += 2;
    return true;
}

static const char *mismatch(const struct kith_vset_options *options, const struct set_request *request,
                            uint32_t dim)
{
    if (request->codes_given && request->codes != options->codes)
        return "ERR asked quantization mismatch with existing vector set";
    if (request->m && (uint32_t)request->m != options->m)
        return "ERR asked M value mismatch with existing vector set";
    if (request->reduce && !options->input_dim)
        return "ERR cannot add projection to existing set without projection";
    if (request->reduce && (request->reduce != options->dim || dim != options->input_dim))
        return "ERR asked projection mismatch with existing vector set";
    return NULL;
}

/* The set at argv[1] for adding vectors of `dim`, made as requested when there is none; NULL after a reply.
 */
static struct kith_vset *open_for_add(struct kith_call *call, const struct set_request *request, uint32_t dim)
{
    struct kith_key key;
    int found = kith_key_open_write(call, 1, KITH_VSET, &key);
    if (found < 0)
        return NULL;
    if (found) {
        struct kith_vset *vset = kith_key_object(&key);
        const char *error = mismatch(kith_vset_get_options(vset), request, dim);
        if (error)
            kith_reply_error(call->reply, error);
        return error ? NULL : vset;
    }
    if (request->reduce > dim) {
        refuse(call, "REDUCE to more dimensions than the vector has");
        return NULL;
    }
    struct kith_vset_options options = {.dim = request->reduce ? request->reduce : dim,
                                        .input_dim = request->reduce ? dim : 0,
                                        .codes = request->codes_given ? request->codes : KITH_HNSW_I8,
                                        .m = request->m ? (uint32_t)request->m : 16,
                                        .seed = kith_rng_next(call->rng)};
    struct kith_vset *vset;
    if (kith_vset_open(&vset, call->engine, &options) != KITH_OK) {
        kith_call_no_memory(call);
        return NULL;
    }
    if (kith_key_set_object(&key, KITH_VSET, vset, false) == KITH_OK)
        return vset;
    kith_vset_close(vset);
    kith_call_no_memory(call);
    return NULL;
}

/* One element as read from the arguments. */
struct element {
    struct kith_vector_argument vector;
    struct kith_slice name, attributes; /* data NULL: none given */
};

/* 1 or 0 as kith_vset_add, or KITH_ENOMEM: nothing has changed then. */
static int add_element(struct kith_vset *vset, const struct element *element, uint32_t ef)
{
    struct kith_attributes *attributes = NULL;
    if (element->attributes.length && !(attributes = kith_attributes_open(element->attributes)))
        return KITH_ENOMEM;
    int added = kith_vset_add(vset, element->name, element->vector.values, ef, attributes);
    if (added < 0)
        kith_attributes_close(attributes);
    return added;
}

/* A set that was made for elements which then could not be added must not stay behind empty. */
static void finish_add(struct kith_call *call, struct kith_vset *vset)
{
    struct kith_key key;
    if (kith_vset_count(vset) > 0)
        kith_vset_schedule(vset);
    else if (kith_key_find_for_write(call, call->argv[1], &key))
        kith_key_remove_if_empty(&key);
}

static bool parse_vadd(struct kith_call *call, struct set_request *request, struct element *element)
{
    size_t i = 2;
    if (!take_reduce(call, &i, request) || !kith_vector_argument_parse(call, &i, &element->vector))
        return false;
    if (i >= call->argc) {
        kith_call_wrong_arity(call);
        return false;
    }
    element->name = call->argv[i];
    for (i++; i < call->argc; i++) {
        if (kith_call_is(call, i, "setattr") && i + 1 < call->argc) {
            element->attributes = call->argv[++i];
            continue;
        }
        int taken = take_set_option(call, &i, request);
        if (taken == 0)
            kith_reply_error(call->reply, "ERR invalid option after element");
        if (taken <= 0)
            return false;
    }
    return true;
}

void kith_vadd_command(struct kith_call *call)
{
    struct set_request request = {0};
    struct element element = {0};
    if (!parse_vadd(call, &request, &element)) {
        free(element.vector.values);
        return;
    }
    struct kith_vset *vset = open_for_add(call, &request, element.vector.dim);
    if (vset) {
        if (kith_vector_argument_fit(call, vset, &element.vector)) {
            int added = add_element(vset, &element, (uint32_t)request.ef);
            if (added >= 0)
                kith_reply_bool(call->reply, added);
            else
                kith_call_no_memory(call);
        }
        finish_add(call, vset);
    }
    free(element.vector.values);
}

/* VMADD key [REDUCE dim] [set options] ELEMENTS count, then `count` times: vector name [SETATTR json]. */
struct batch {
    struct set_request request;
    struct element *elements; /* owned, with their vectors */
    size_t count;
};

static void close_batch(struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++)
        free(batch->elements[i].vector.values);
    free(batch->elements);
}

static bool parse_batch_element(struct kith_call *call, size_t *index, struct batch *batch)
{
    struct element *element = &batch->elements[batch->count];
    if (!kith_vector_argument_parse(call, index, &element->vector))
        return false;
    batch->count++;
    if (*index >= call->argc)
        return refuse(call, "the element's name is missing");
    element->name = call->argv[(*index)++];
    if (kith_call_is(call, *index, "setattr") && *index + 1 < call->argc) {
        element->attributes = call->argv[*index + 1];
        *index += 2;
    }
    if (element->vector.dim == batch->elements[0].vector.dim)
        return true;
    return refuse(call, "the vectors of one call must have one dimension");
}

static bool parse_batch(struct kith_call *call, struct batch *batch)
{
    size_t i = 2;
    if (!take_reduce(call, &i, &batch->request))
        return false;
    for (; i < call->argc && !kith_call_is(call, i, "elements"); i++) {
        int taken = take_set_option(call, &i, &batch->request);
        if (taken == 0)
            kith_reply_error(call->reply, "ERR invalid option before ELEMENTS");
        if (taken <= 0)
            return false;
    }
    int64_t count;
    if (i + 1 >= call->argc) {
        kith_call_syntax_error(call);
        return false;
    }
    if (!kith_call_int_in(call, ++i, 1, (int64_t)call->argc, &count, "ERR invalid ELEMENTS: how many follow"))
        return false;
    batch->elements = calloc((size_t)count, sizeof *batch->elements);
    if (!batch->elements) {
        kith_call_no_memory(call);
        return false;
    }
    for (i++; (int64_t)batch->count < count;)
        if (!parse_batch_element(call, &i, batch))
            return false;
    if (i == call->argc)
        return true;
    kith_reply_error(call->reply, "ERR invalid option after the last element");
    return false;
}

/* Everything was read and checked; only memory can run out now, and then what is in stays in. */
static void add_batch(struct kith_call *call, struct kith_vset *vset, const struct batch *batch)
{
    int64_t added = 0;
    for (size_t i = 0; i < batch->count; i++) {
        int n = add_element(vset, &batch->elements[i], (uint32_t)batch->request.ef);
        if (n < 0) {
            kith_reply_error_format(call->reply,
                                    "OOM out of memory after %zu of %zu elements, which are in: remove keys "
                                    "or add memory, then send the rest again",
                                    i, batch->count);
            return;
        }
        added += n;
    }
    kith_reply_int(call->reply, added);
}

void kith_vmadd_command(struct kith_call *call)
{
    struct batch batch = {0};
    struct kith_vset *vset = NULL;
    if (parse_batch(call, &batch))
        vset = open_for_add(call, &batch.request, batch.elements[0].vector.dim);
    if (vset) {
        bool fits = true;
        for (size_t i = 0; fits && i < batch.count; i++)
            fits = kith_vector_argument_fit(call, vset, &batch.elements[i].vector);
        if (fits)
            add_batch(call, vset, &batch);
        finish_add(call, vset);
    }
    close_batch(&batch);
}

/* ---- removing, attributes ---- */

void kith_vrem_command(struct kith_call *call)
{
    struct kith_key key;
    int found = kith_key_open_write(call, 1, KITH_VSET, &key);
    if (found < 0)
        return;
    struct kith_vset *vset = found ? kith_key_object(&key) : NULL;
    int status = vset ? kith_vset_remove(vset, call->argv[2]) : KITH_ENOENT;
    if (status == KITH_ENOMEM)
        kith_call_no_memory(call);
    else
        kith_reply_bool(call->reply, status == KITH_OK);
    if (status != KITH_OK)
        return;
    if (kith_vset_count(vset) > 0)
        kith_vset_schedule(vset);
    else
        kith_key_remove_if_empty(&key);
}

void kith_vsetattr_command(struct kith_call *call)
{
    struct kith_key key;
    int found = kith_key_open_write(call, 1, KITH_VSET, &key);
    if (found < 0)
        return;
    struct kith_vset *vset = found ? kith_key_object(&key) : NULL;
    if (!vset || kith_vset_find(vset, call->argv[2]) == KITH_HNSW_NONE) {
        kith_reply_bool(call->reply, false);
        return;
    }
    struct kith_attributes *attributes = NULL;
    if ((call->argv[3].length && !(attributes = kith_attributes_open(call->argv[3]))) ||
        kith_vset_set_attributes(vset, call->argv[2], attributes) != KITH_OK) {
        kith_attributes_close(attributes);
        kith_call_no_memory(call);
        return;
    }
    kith_reply_bool(call->reply, true);
}
