/* VADD, VMADD, VREM, VSETATTR: everything is read and checked before the first change. */
#include "base/num.h"
#include "engine/attributes.h"
#include "engine/commands/vset.h"

#include <stdlib.h>

/* ---- adding ---- */

/* The set at argv[1] for adding vectors of `dim`, made as requested when there is none; NULL after a reply.
 */
static struct kith_vset *open_for_add(struct kith_call *call, const struct kith_set_request *request,
                                      uint32_t dim)
{
    struct kith_key key;
    int found = kith_key_open_write(call, 1, KITH_VSET, &key);
    if (found < 0)
        return NULL;
    if (found) {
        struct kith_vset *vset = kith_key_object(&key);
        return kith_set_request_fits(call, kith_vset_get_options(vset), request, dim) ? vset : NULL;
    }
    if (request->reduce > dim) {
        kith_vector_refuse(call, "REDUCE to more dimensions than the vector has");
        return NULL;
    }
    struct kith_vset_options options;
    kith_set_request_options(request, dim, kith_rng_next(call->rng), &options);
    struct kith_vset *vset;
    int status = kith_vset_open(&vset, call->engine, &options);
    if (status == KITH_EINVAL)
        kith_set_refuse_options(call, &options);
    else if (status != KITH_OK)
        kith_call_no_memory(call);
    if (status != KITH_OK)
        return NULL;
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

static void refuse_option(struct kith_call *call, size_t index, const char *where)
{
    if (kith_call_is(call, index, "setattr"))
        kith_reply_error(call->reply, "ERR syntax error: SETATTR needs a value");
    else
        kith_reply_error_format(call->reply, "ERR invalid option %s: '%.*s'", where,
                                (int)(call->argv[index].length < 64 ? call->argv[index].length : 64),
                                call->argv[index].data);
}

static bool parse_vadd(struct kith_call *call, struct kith_set_request *request, struct element *element)
{
    size_t i = 2;
    int taken;
    while ((taken = kith_set_option_take(call, &i, request)) > 0)
        i++;
    if (taken < 0 || !kith_vector_argument_parse(call, &i, &element->vector))
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
        taken = kith_set_option_take(call, &i, request);
        if (taken == 0)
            refuse_option(call, i, "after element");
        if (taken <= 0)
            return false;
    }
    return true;
}

void kith_vadd_command(struct kith_call *call)
{
    struct kith_set_request request = {0};
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
    struct kith_set_request request;
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
        return kith_vector_refuse(call, "the element's name is missing");
    element->name = call->argv[(*index)++];
    if (kith_call_is(call, *index, "setattr") && *index + 1 < call->argc) {
        element->attributes = call->argv[*index + 1];
        *index += 2;
    }
    if (element->vector.dim == batch->elements[0].vector.dim)
        return true;
    return kith_vector_refuse(call, "the vectors of one call must have one dimension");
}

static bool parse_batch(struct kith_call *call, struct batch *batch)
{
    size_t i = 2;
    for (; i < call->argc && !kith_call_is(call, i, "elements"); i++) {
        int taken = kith_set_option_take(call, &i, &batch->request);
        if (taken == 0)
            refuse_option(call, i, "before ELEMENTS");
        if (taken <= 0)
            return false;
    }
    int64_t count;
    if (i + 1 >= call->argc) {
        kith_reply_error(call->reply,
                         "ERR syntax error: ELEMENTS, a count and that many elements are missing");
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
