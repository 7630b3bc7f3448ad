/* The RDB reader on any bytes: no crash, memory bounded by the limit, and any split of the input tells what one piece
 * tells. The first byte seeds the cuts; the rest is the file, whose checksum is made right when the byte is odd. */
#include "base/assert.h"
#include "base/buf.h"
#include "base/random.h"
#include "wire/rdb.h"

#include <isa-l/crc64.h>
#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { VALUE_MAX = 4096 };

static int record_key(struct kith_buf *log, char what, const struct kith_rdb_key *key)
{
    kith_buf_append_format(log, "\n%c %u %lld %d %s ", what, key->db, (long long)key->expiry_ms,
                           (int)key->kind, key->type);
    KITH_ASSERT(key->expiry_ms >= -1);
    kith_buf_append(log, key->name.data, key->name.length);
    return KITH_OK;
}

static int record(struct kith_buf *log, struct kith_slice bytes)
{
    KITH_ASSERT(bytes.length <= VALUE_MAX);
    kith_buf_append(log, bytes.data, bytes.length);
    return KITH_OK;
}

static int on_string(void *arg, const struct kith_rdb_key *key, struct kith_slice value)
{
    record_key(arg, 's', key);
    return record(arg, value);
}

static int on_begin(void *arg, const struct kith_rdb_key *key, const struct kith_rdb_vectors *vectors)
{
    KITH_ASSERT(!vectors || (vectors->dim >= 1 && vectors->dim <= KITH_RDB_DIM_MAX));
    return record_key(arg, 'b', key);
}

static int on_field(void *arg, const struct kith_rdb_key *key, struct kith_slice field,
                    struct kith_slice value)
{
    KITH_ASSERT(key->kind == KITH_RDB_HASH);
    record(arg, field);
    return record(arg, value);
}

static int on_member(void *arg, const struct kith_rdb_key *key, struct kith_slice member, double score)
{
    KITH_ASSERT(key->kind == KITH_RDB_ZSET && !isnan(score));
    kith_buf_append_format(arg, "\n%g ", score);
    return record(arg, member);
}

static int on_vector(void *arg, const struct kith_rdb_key *key, const struct kith_rdb_vector *vector)
{
    KITH_ASSERT(key->kind == KITH_RDB_VECTORS);
    for (uint32_t i = 0; i < vector->dim; i++)
        KITH_ASSERT(isfinite(vector->components[i]));
    record(arg, vector->element);
    record(arg, vector->attributes);
    kith_buf_append(arg, vector->components, vector->dim * sizeof *vector->components);
    return KITH_OK;
}

static int on_end(void *arg, const struct kith_rdb_key *key, uint64_t elements, uint64_t left_out,
                  const char *why)
{
    KITH_ASSERT((left_out != 0) == (why != NULL));
    kith_buf_append_format(arg, "\ne %llu %llu", (unsigned long long)elements, (unsigned long long)left_out);
    return record_key(arg, 'e', key);
}

static int on_skipped(void *arg, const struct kith_rdb_key *key, const char *why)
{
    KITH_ASSERT(key->kind == KITH_RDB_OTHER);
    kith_buf_append_text(arg, why);
    return record_key(arg, 'o', key);
}

static int on_other(void *arg, const char *what, struct kith_slice name)
{
    kith_buf_append_text(arg, what);
    return record(arg, name);
}

static int on_aux(void *arg, struct kith_slice name, struct kith_slice value)
{
    record(arg, name);
    return record(arg, value);
}

static const struct kith_rdb_events events = {.string = on_string,
                                              .begin = on_begin,
                                              .field = on_field,
                                              .member = on_member,
                                              .vector = on_vector,
                                              .end = on_end,
                                              .skipped = on_skipped,
                                              .other = on_other,
                                              .aux = on_aux};

static void run(struct kith_buf *log, const uint8_t *file, size_t length, uint64_t seed, size_t piece_max)
{
    const struct kith_rdb_limits limits = {.value_max = VALUE_MAX};
    struct kith_rdb *rdb;
    struct kith_rng rng;
    kith_rng_seed(&rng, seed);
    if (kith_rdb_open(&rdb, &limits, &events, log))
        return;
    size_t at = 0;
    int status = 0;
    while (at < length && status == 0) {
        size_t piece = piece_max ? 1 + kith_rng_below(&rng, piece_max) : length, used = 0;
        if (piece > length - at)
            piece = length - at;
        uint8_t *copy = malloc(piece);
        if (!copy)
            abort();
        memcpy(copy, file + at, piece);
        status = kith_rdb_feed(rdb, copy, piece, &used);
        free(copy);
        KITH_ASSERT(status ? used <= piece : used == piece);
        at += used;
    }
    if (status == 0)
        status = kith_rdb_cut_short(rdb);
    kith_buf_append_format(log, "\n%d %s", status, status < 0 ? kith_rdb_error(rdb) : "");
    kith_rdb_close(rdb);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { SUM_BYTES = 8 };
    if (size < 1 + SUM_BYTES)
        return 0;
    uint8_t *file = malloc(size - 1);
    if (!file)
        abort();
    memcpy(file, data + 1, size - 1);
    if (data[0] & 1) {
        uint64_t sum = ~crc64_jones_refl(~UINT64_C(0), file, size - 1 - SUM_BYTES);
        for (int i = 0; i < SUM_BYTES; i++)
            file[size - 1 - SUM_BYTES + i] = (uint8_t)(sum >> (8 * i));
    }
    struct kith_buf whole, split;
    kith_buf_init(&whole);
    kith_buf_init(&split);
    run(&whole, file, size - 1, 0, 0);
    run(&split, file, size - 1, data[0], 1 + data[0] % 32);
    KITH_ASSERT(kith_slice_equal(kith_buf_slice(&whole), kith_buf_slice(&split)));
    kith_buf_fini(&whole);
    kith_buf_fini(&split);
    free(file);
    return 0;
}
