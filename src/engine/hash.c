/* Hashes: a packed run while small, a table beyond. */
#include "engine/hash.h"

#include "base/assert.h"
#include "base/status.h"
#include "base/varint.h"
#include "ds/table.h"
#include "engine/checkpoint.h"
#include "engine/engine.h"
#include "engine/keyspace.h"
#include "engine/limits.h"
#include "engine/table_save.h"

#include <stdlib.h>

struct kith_hash {
    const struct kith_hash_seed *seed;
    struct kith_table *table; /* NULL while packed */
    char *packed;             /* `packed_bytes` of pairs; NULL while empty, or in a table */
    uint32_t packed_bytes;
    uint32_t packed_count;
    struct kith_table_save saving; /* tables only */
};

struct kith_hash *kith_hash_open(const struct kith_hash_seed *seed)
{
    struct kith_hash *hash = calloc(1, sizeof *hash);
    if (hash)
        hash->seed = seed;
    return hash;
}

void kith_hash_close(struct kith_hash *hash)
{
    if (!hash)
        return;
    kith_table_close(hash->table, NULL, NULL);
    free(hash->packed);
    free(hash);
}

size_t kith_hash_count(const struct kith_hash *hash)
{
    return hash->table ? kith_table_count(hash->table) : hash->packed_count;
}

bool kith_hash_is_packed(const struct kith_hash *hash)
{
    return !hash->table;
}

/* ---- packed ---- */

struct pair {
    struct kith_slice field, value;
    size_t offset, bytes; /* where the pair lies in the run */
};

/* Our own bytes: the run is always well formed. */
static struct kith_slice packed_slice(const char *packed, size_t *at, size_t end)
{
    uint64_t length = 0;
    *at += kith_varint_get(packed + *at, end - *at, &length);
    struct kith_slice s = kith_slice(packed + *at, (size_t)length);
    *at += (size_t)length;
    return s;
}

static bool packed_next(const struct kith_hash *hash, size_t *at, struct pair *pair)
{
    if (*at >= hash->packed_bytes)
        return false;
    pair->offset = *at;
    pair->field = packed_slice(hash->packed, at, hash->packed_bytes);
    pair->value = packed_slice(hash->packed, at, hash->packed_bytes);
    pair->bytes = *at - pair->offset;
    return true;
}

static bool packed_find(const struct kith_hash *hash, struct kith_slice field, struct pair *pair)
{
    for (size_t at = 0; packed_next(hash, &at, pair);)
        if (kith_slice_equal(pair->field, field))
            return true;
    return false;
}

static size_t pair_bytes(struct kith_slice field, struct kith_slice value)
{
    return kith_varint_size(field.length) + field.length + kith_varint_size(value.length) + value.length;
}

static char *put_slice(char *out, struct kith_slice s)
{
    out += kith_varint_put(out, s.length);
    if (s.length)
        memcpy(out, s.data, s.length);
    return out + s.length;
}

/* Replaces the pair at `offset` of `old_bytes` (0: a new one) by field and value. */
static int packed_put(struct kith_hash *hash, size_t offset, size_t old_bytes, struct kith_slice field,
                      struct kith_slice value)
{
    size_t new_bytes = pair_bytes(field, value), total = hash->packed_bytes - old_bytes + new_bytes;
    size_t behind = hash->packed_bytes - offset - old_bytes;
    if (new_bytes > old_bytes) {
        char *packed = realloc(hash->packed, total);
        if (!packed)
            return KITH_ENOMEM;
        hash->packed = packed;
    }
    if (behind)
        memmove(hash->packed + offset + new_bytes, hash->packed + offset + old_bytes, behind);
    put_slice(put_slice(hash->packed + offset, field), value);
    hash->packed_bytes = (uint32_t)total;
    return KITH_OK;
}

static void packed_cut(struct kith_hash *hash, const struct pair *pair)
{
    size_t behind = hash->packed_bytes - pair->offset - pair->bytes;
    memmove(hash->packed + pair->offset, hash->packed + pair->offset + pair->bytes, behind);
    hash->packed_bytes -= (uint32_t)pair->bytes;
    hash->packed_count--;
    char *smaller = hash->packed_bytes ? realloc(hash->packed, hash->packed_bytes) : NULL;
    if (smaller) {
        hash->packed = smaller;
    } else if (!hash->packed_bytes) {
        free(hash->packed);
        hash->packed = NULL;
    }
}

/* ---- table ---- */

static struct kith_slice entry_value(const void *entry)
{
    const char *payload = kith_entry_payload_const(entry);
    uint64_t length = 0;
    size_t used = kith_varint_get(payload, KITH_VARINT_MAX, &length);
    return kith_slice(payload + used, (size_t)length);
}

static void *open_entry(const struct kith_hash *hash, struct kith_slice field, struct kith_slice value)
{
    void *entry = kith_entry_open(hash->saving.epoch, field, kith_varint_size(value.length) + value.length);
    if (entry)
        put_slice(kith_entry_payload(entry), value);
    return entry;
}

static void write_entry(struct kith_buf *part, const void *entry)
{
    kith_buf_append_slice(part, kith_entry_key(entry));
    kith_buf_append_slice(part, entry_value(entry));
}

static int table_set(struct kith_hash *hash, struct kith_slice field, struct kith_slice value)
{
    uint64_t h = kith_table_hash(hash->table, field);
    void *old = kith_table_find(hash->table, field, h);
    if (old)
        kith_table_save_before(&hash->saving, old, write_entry);
    if (old && entry_value(old).length == value.length) {
        kith_entry_set_meta(old, hash->saving.epoch);
        put_slice(kith_entry_payload(old), value);
        return 0;
    }
    void *entry = open_entry(hash, field, value);
    if (!entry)
        return KITH_ENOMEM;
    if (old) {
        kith_table_replace(hash->table, old, entry, h);
        free(old);
        return 0;
    }
    if (kith_table_insert(hash->table, entry, h) != KITH_OK) {
        free(entry);
        return KITH_ENOMEM;
    }
    return 1;
}

static int convert_to_table(struct kith_hash *hash)
{
    struct kith_hash big = {.seed = hash->seed};
    if (kith_table_open(&big.table, *hash->seed) != KITH_OK)
        return KITH_ENOMEM;
    struct pair pair;
    for (size_t at = 0; packed_next(hash, &at, &pair);) {
        if (table_set(&big, pair.field, pair.value) < 0) {
            kith_table_close(big.table, NULL, NULL);
            return KITH_ENOMEM;
        }
    }
    free(hash->packed);
    *hash = big;
    return KITH_OK;
}

/* ---- both ---- */

bool kith_hash_get(const struct kith_hash *hash, struct kith_slice field, struct kith_slice *value)
{
    if (!hash->table) {
        struct pair pair;
        if (!packed_find(hash, field, &pair))
            return false;
        *value = pair.value;
        return true;
    }
    void *entry = kith_table_find(hash->table, field, kith_table_hash(hash->table, field));
    if (!entry)
        return false;
    *value = entry_value(entry);
    return true;
}

int kith_hash_set(struct kith_hash *hash, struct kith_slice field, struct kith_slice value)
{
    if (hash->table)
        return table_set(hash, field, value);
    struct pair pair;
    bool exists = packed_find(hash, field, &pair);
    bool fits = field.length <= KITH_PACKED_VALUE_MAX && value.length <= KITH_PACKED_VALUE_MAX &&
                (exists || hash->packed_count < KITH_PACKED_ENTRIES_MAX);
    if (!fits) {
        if (convert_to_table(hash) != KITH_OK)
            return KITH_ENOMEM;
        return table_set(hash, field, value);
    }
    if (exists)
        return packed_put(hash, pair.offset, pair.bytes, field, value);
    if (packed_put(hash, hash->packed_bytes, 0, field, value) != KITH_OK)
        return KITH_ENOMEM;
    hash->packed_count++;
    return 1;
}

bool kith_hash_remove(struct kith_hash *hash, struct kith_slice field)
{
    if (!hash->table) {
        struct pair pair;
        bool exists = packed_find(hash, field, &pair);
        if (exists)
            packed_cut(hash, &pair);
        return exists;
    }
    void *entry = kith_table_remove(hash->table, field, kith_table_hash(hash->table, field));
    if (!entry)
        return false;
    kith_table_save_before(&hash->saving, entry, write_entry);
    free(entry);
    return true;
}

struct each {
    kith_hash_fn *report;
    void *arg;
};

static void each_entry(void *arg, void *entry)
{
    struct each *each = arg;
    each->report(each->arg, kith_entry_key(entry), entry_value(entry));
}

static void each_packed(const struct kith_hash *hash, kith_hash_fn *report, void *arg)
{
    struct pair pair;
    for (size_t at = 0; packed_next(hash, &at, &pair);)
        report(arg, pair.field, pair.value);
}

void kith_hash_each(const struct kith_hash *hash, kith_hash_fn *report, void *arg)
{
    if (!hash->table) {
        each_packed(hash, report, arg);
        return;
    }
    uint64_t cursor = 0;
    struct each each = {report, arg};
    do
        cursor = kith_table_scan(hash->table, cursor, each_entry, &each);
    while (cursor);
}

uint64_t kith_hash_scan(const struct kith_hash *hash, uint64_t cursor, kith_hash_fn *report, void *arg)
{
    if (hash->table) {
        struct each each = {report, arg};
        return kith_table_scan(hash->table, cursor, each_entry, &each);
    }
    each_packed(hash, report, arg);
    return 0;
}

void kith_hash_random(const struct kith_hash *hash, struct kith_rng *rng, struct kith_slice *field,
                      struct kith_slice *value)
{
    if (hash->table) {
        void *entry = kith_table_random(hash->table, rng);
        *field = kith_entry_key(entry);
        *value = entry_value(entry);
        return;
    }
    KITH_ASSERT(hash->packed_count > 0);
    uint64_t skip = kith_rng_below(rng, hash->packed_count);
    struct pair pair = {0};
    size_t at = 0;
    do
        packed_next(hash, &at, &pair);
    while (skip--);
    *field = pair.field;
    *value = pair.value;
}

/* ---- as a type of the keyspace ---- */

static void close_object(void *object)
{
    kith_hash_close(object);
}

static size_t object_count(const void *object)
{
    return kith_hash_count(object);
}

static const char *object_encoding(const void *object)
{
    return kith_hash_is_packed(object) ? "listpack" : "hashtable";
}

static void add_entry_bytes(void *arg, struct kith_slice field, struct kith_slice value)
{
    size_t *bytes = arg;
    *bytes += kith_entry_header_bytes(field.length) + kith_varint_size(value.length) + value.length;
}

static size_t object_memory(const void *object)
{
    const struct kith_hash *hash = object;
    size_t bytes = sizeof *hash + hash->packed_bytes;
    if (hash->table) {
        bytes += kith_table_memory_bytes(hash->table);
        kith_hash_each(hash, add_entry_bytes, &bytes);
    }
    return bytes;
}

struct copy {
    struct kith_hash *to;
    bool failed;
};

static void copy_pair(void *arg, struct kith_slice field, struct kith_slice value)
{
    struct copy *copy = arg;
    if (!copy->failed && kith_hash_set(copy->to, field, value) < 0)
        copy->failed = true;
}

static void *copy_object(struct kith_engine *engine, const void *object)
{
    const struct kith_hash *hash = object;
    struct copy copy = {kith_hash_open(hash->seed), false};
    if (!copy.to)
        return NULL;
    copy.failed = hash->table && convert_to_table(copy.to) != KITH_OK; /* a copy keeps the form */
    kith_hash_each(hash, copy_pair, &copy);
    if (!copy.failed)
        return copy.to;
    kith_hash_close(copy.to);
    return NULL;
}

static bool drain_object(void *object, size_t budget)
{
    struct kith_hash *hash = object;
    return hash->table && kith_table_drain(hash->table, budget, NULL, NULL);
}

static void digest_pair(void *arg, struct kith_slice field, struct kith_slice value)
{
    uint64_t *digest = arg;
    *digest += kith_digest_bytes(kith_digest_bytes(0, field), value);
}

static uint64_t digest_object(const void *object)
{
    uint64_t digest = 0;
    kith_hash_each(object, digest_pair, &digest);
    return digest;
}

/* ---- checkpoints: a part is pairs of slices ---- */

static void save_pair(void *arg, struct kith_slice field, struct kith_slice value)
{
    kith_buf_append_slice(arg, field);
    kith_buf_append_slice(arg, value);
}

static int save_object(struct kith_save *save, void *object)
{
    struct kith_hash *hash = object;
    if (hash->table) {
        kith_table_save_begin(&hash->saving, save);
        return 1;
    }
    struct kith_buf *part = kith_save_part_begin(save);
    kith_hash_each(hash, save_pair, part);
    kith_save_part_end(save);
    return 0;
}

static int save_step(struct kith_save *save, void *object, size_t budget_bytes)
{
    struct kith_hash *hash = object;
    return kith_table_save_step(&hash->saving, hash->table, write_entry, budget_bytes);
}

static void save_abort(struct kith_save *save, void *object)
{
    struct kith_hash *hash = object;
    kith_table_save_abort(&hash->saving, hash->table);
}

static struct kith_save *saving(const void *object)
{
    return ((const struct kith_hash *)object)->saving.save;
}

static void *load_object(struct kith_engine *engine, void *object, struct kith_reader *part)
{
    struct kith_hash *hash = object ? object : kith_hash_open(kith_engine_hash_seed(engine));
    if (!hash)
        return NULL;
    while (part->length && !part->failed) {
        struct kith_slice field = kith_reader_slice(part), value = kith_reader_slice(part);
        if (part->failed || kith_hash_set(hash, field, value) < 0)
            goto fail;
    }
    if (!part->failed)
        return hash;
fail:
    if (!object)
        kith_hash_close(hash);
    return NULL;
}

const struct kith_type_ops kith_hash_ops = {
    .name = "hash",
    .close = close_object,
    .memory_bytes = object_memory,
    .count = object_count,
    .encoding = object_encoding,
    .copy = copy_object,
    .drain = drain_object,
    .digest = digest_object,
    .save = save_object,
    .save_step = save_step,
    .save_abort = save_abort,
    .saving = saving,
    .load = load_object,
};
