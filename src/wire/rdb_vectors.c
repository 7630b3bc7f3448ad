/* Vector sets of Redis 8, a module's type: four numbers (dimension, elements, codes and M, flags), then for each element
 * its name, its attributes when any element has some, its code, and numbers about its place in the graph, of which the
 * last holds the vector's length and its range. The graph is not read: it is made anew. */
#include "wire/rdb_bytes.h"
#include "wire/rdb_internal.h"

#include <math.h>

enum {
    HAS_PROJECTION = 1, /* flags */
    HAS_ATTRIBUTES = 2,
    NUMBERS_LEAST = 3, /* id, level, length and range */
    M_DEFAULT = 16,    /* for a set that was written before M could be chosen */
    BITS_A_WORD = 64,
};

static size_t code_bytes(const struct kith_rdb_vectors *vectors)
{
    switch (vectors->codes) {
    case KITH_RDB_Q8:
        return vectors->dim;
    case KITH_RDB_BIN:
        return (vectors->dim + BITS_A_WORD - 1) / BITS_A_WORD * (BITS_A_WORD / 8);
    default:
        return vectors->dim * sizeof(float);
    }
}

int kith_rdb_do_vectors(struct kith_rdb *rdb)
{
    uint64_t dim = rdb->numbers[0], config = rdb->numbers[2], flags = rdb->numbers[3];
    uint64_t m = config >> 8 & 0xffff, codes = config & 0xff;
    rdb->number_count = 0;
    const char *why = NULL;
    if (flags & HAS_PROJECTION)
        why = "vector sets made with REDUCE cannot be taken over: their projection has another form here";
    else if (dim == 0 || dim > KITH_RDB_DIM_MAX || codes > KITH_RDB_BIN || flags & ~(uint64_t)HAS_ATTRIBUTES)
        why = "a vector set in a form that is not known";
    if (why) {
        rdb->key.kind = KITH_RDB_OTHER;
        rdb->op = "MX";
        return kith_rdb_do_skipped(rdb, why);
    }
    rdb->count = rdb->numbers[1];
    rdb->vectors = (struct kith_rdb_vectors){.dim = (uint32_t)dim,
                                             .m = m ? (uint32_t)m : M_DEFAULT,
                                             .codes = (enum kith_rdb_codes)codes,
                                             .count = rdb->count};
    rdb->op = flags & HAS_ATTRIBUTES ? "[USUSUSun[uy]V]eE" : "[USUSun[uy]V]eE";
    return kith_rdb_do_begin(rdb, &rdb->vectors);
}

static float float_of(uint64_t bits)
{
    uint32_t low = (uint32_t)bits;
    float value;
    memcpy(&value, &low, sizeof value);
    return value;
}

/* The vector as it was before it was normalized; a length that makes no sense is taken as 1. Returns whether all
 * components are finite. */
static bool decode(const struct kith_rdb_vectors *vectors, const uint8_t *code, uint64_t length_and_range,
                   float *out)
{
    float length = float_of(length_and_range), range = float_of(length_and_range >> 32);
    bool is_finite = true;
    if (!isfinite(length) || length <= 0)
        length = 1;
    for (size_t i = 0; i < vectors->dim; i++) {
        if (vectors->codes == KITH_RDB_BIN)
            out[i] = code[i / 8] >> (i % 8) & 1 ? 1 : -1;
        else if (vectors->codes == KITH_RDB_Q8)
            out[i] = (float)kith_rdb_le_signed(code + i, 1) * range / 127 * length;
        else
            out[i] = float_of(kith_rdb_le(code + i * sizeof(float), sizeof(float))) * length;
        is_finite &= isfinite(out[i]) != 0;
    }
    return is_finite;
}

int kith_rdb_do_vector(struct kith_rdb *rdb)
{
    const struct kith_rdb_vectors *vectors = &rdb->vectors;
    struct kith_slice code = kith_rdb_text(rdb, rdb->text_count - 1);
    struct kith_rdb_vector vector = {.element = kith_rdb_text(rdb, 0), .dim = vectors->dim};
    if (rdb->text_count == 3)
        vector.attributes = kith_rdb_text(rdb, 1);
    rdb->text_count = 0;
    if (code.length != code_bytes(vectors) || rdb->count < NUMBERS_LEAST)
        return kith_rdb_fail(rdb, KITH_ECORRUPT, "an element of the vector set is damaged");
    kith_buf_clear(&rdb->components);
    float *components = (float *)(void *)kith_buf_reserve(&rdb->components, vectors->dim * sizeof(float));
    if (!components)
        return kith_rdb_no_memory(rdb);
    if (!decode(vectors, (const uint8_t *)code.data, rdb->last, components)) {
        rdb->left_out++;
        rdb->why = "elements whose vector has a component that is no number";
        return KITH_OK;
    }
    vector.components = components;
    rdb->elements++;
    int status = rdb->events->vector ? rdb->events->vector(rdb->arg, &rdb->key, &vector) : KITH_OK;
    if (status < 0)
        return kith_rdb_fail(rdb, status, "what was read could not be taken: %s", kith_status_text(status));
    return KITH_OK;
}
