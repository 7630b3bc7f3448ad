/* Sorted sets as a type of the keyspace: sizes, copies, digests, checkpoints. A part of a checkpoint is a run
 * of [score, 8 bytes little-endian; varint length, member]. */
#include "base/status.h"
#include "base/varint.h"
#include "ds/avl.h"
#include "ds/table.h"
#include "engine/checkpoint.h"
#include "engine/engine.h"
#include "engine/keyspace.h"
#include "engine/zset_internal.h"

#include <math.h>

static void close_object(void *object)
{
    kith_zset_close(object);
}

static size_t object_count(const void *object)
{
    return kith_zset_count(object);
}

static const char *object_encoding(const void *object)
{
    /* The name that clients know for the large form. */
    return kith_zset_is_packed(object) ? "listpack" : "skiplist";
}

static void add_entry_bytes(void *arg, struct kith_slice member, double score)
{
    size_t *bytes = arg;
    *bytes += kith_entry_header_bytes(member.length) + sizeof score;
}

static size_t object_memory(const void *object)
{
    const struct kith_zset *zset = object;
    size_t bytes = sizeof *zset + zset->packed_bytes;
    if (!zset->table)
        return bytes;
    bytes += kith_table_memory_bytes(zset->table) + kith_avl_memory_bytes(zset->tree);
    kith_zset_range(zset, 0, SIZE_MAX, false, add_entry_bytes, &bytes);
    return bytes;
}

struct copy {
    struct kith_zset *to;
    bool failed;
};

static void copy_member(void *arg, struct kith_slice member, double score)
{
    struct copy *copy = arg;
    if (!copy->failed && kith_zset_set(copy->to, member, score) < 0)
        copy->failed = true;
}

static void *copy_object(struct kith_engine *engine, const void *object)
{
    const struct kith_zset *zset = object;
    struct copy copy = {kith_zset_open(zset->seed), false};
    if (!copy.to)
        return NULL;
    copy.failed = zset->table && kith_zset_make_table(copy.to) != KITH_OK; /* a copy keeps the form */
    kith_zset_range(zset, 0, SIZE_MAX, false, copy_member, &copy);
    if (!copy.failed)
        return copy.to;
    kith_zset_close(copy.to);
    return NULL;
}

static bool drain_object(void *object, size_t budget)
{
    struct kith_zset *zset = object;
    if (!zset->table)
        return false;
    /* The tree's items refer to entries that the table frees: the tree goes first, and its items are not
     * read. */
    kith_avl_remove_range(zset->tree, 0, budget, NULL, NULL);
    if (kith_avl_count(zset->tree))
        return true;
    return kith_table_drain(zset->table, budget, NULL, NULL);
}

static void digest_member(void *arg, struct kith_slice member, double score)
{
    uint64_t *digest = arg, bits;
    memcpy(&bits, &score, sizeof bits);
    *digest += kith_digest_bytes(bits, member);
}

static uint64_t digest_object(const void *object)
{
    uint64_t digest = 0;
    kith_zset_range(object, 0, SIZE_MAX, false, digest_member, &digest);
    return digest;
}

static void save_member(void *arg, struct kith_slice member, double score)
{
    uint64_t bits;
    memcpy(&bits, &score, sizeof bits);
    kith_buf_append_u64(arg, bits);
    kith_buf_append_slice(arg, member);
}

static int save_object(struct kith_save *save, void *object)
{
    struct kith_zset *zset = object;
    if (zset->table) {
        kith_table_save_begin(&zset->saving, save);
        return 1;
    }
    struct kith_buf *part = kith_save_part_begin(save);
    kith_zset_range(zset, 0, SIZE_MAX, false, save_member, part);
    kith_save_part_end(save);
    return 0;
}

static int save_step(struct kith_save *save, void *object, size_t budget_bytes)
{
    struct kith_zset *zset = object;
    return kith_table_save_step(&zset->saving, zset->table, kith_zset_write_entry, budget_bytes);
}

static void save_abort(struct kith_save *save, void *object)
{
    struct kith_zset *zset = object;
    kith_table_save_abort(&zset->saving, zset->table);
}

static struct kith_save *saving(const void *object)
{
    return ((const struct kith_zset *)object)->saving.save;
}

static void *load_object(struct kith_engine *engine, void *object, struct kith_reader *part)
{
    struct kith_zset *zset = object ? object : kith_zset_open(kith_engine_hash_seed(engine));
    if (!zset)
        return NULL;
    while (part->length && !part->failed) {
        uint64_t bits = kith_reader_u64(part);
        struct kith_slice member = kith_reader_slice(part);
        double score;
        memcpy(&score, &bits, sizeof score);
        if (part->failed || isnan(score) || kith_zset_set(zset, member, score) < 0)
            goto fail;
    }
    if (!part->failed)
        return zset;
fail:
    if (!object)
        kith_zset_close(zset);
    return NULL;
}

const struct kith_type_ops kith_zset_ops = {
    .name = "zset",
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
