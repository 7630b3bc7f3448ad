/* The table's directory, shared by what changes it (table.c) and what walks it (table_walk.c).
 *
 * A segment whose prefix is shorter than the directory's depth fills a run of equal slots; the first of them,
 * its owner, holds the count. */
#ifndef KITH_DS_TABLE_PRIVATE_H
#define KITH_DS_TABLE_PRIVATE_H

#include "ds/segment.h"
#include "ds/table.h"

struct kith_table {
    struct kith_segment *directory; /* 1 << depth slots; &root when depth is 0 */
    size_t count;
    struct kith_hash_seed seed;
    struct kith_segment root;
    uint32_t
        deepest_count;     /* segments with the directory's own depth; when there are none it can be halved */
    uint32_t bucket_count; /* of all segments */
    uint32_t drained_count; /* slots of the directory that kith_table_drain is done with, from the end */
    uint8_t depth;
    bool scanning; /* inside kith_table_scan: segments stay as they are */
};

_Static_assert(sizeof(struct kith_table) == 64, "the header of a small table is one cache line");

static inline uint32_t kith_table_slot_of(const struct kith_table *table, uint64_t hash)
{
    return (uint32_t)(hash >> 32 >> (32 - table->depth));
}

static inline const struct kith_segment *kith_table_segment_of(const struct kith_table *table, uint64_t hash)
{
    return &table->directory[kith_table_slot_of(table, hash)];
}

/* Slots that a segment of this depth fills. */
static inline uint32_t kith_table_run_of(const struct kith_table *table, unsigned depth)
{
    return 1u << (table->depth - depth);
}

/* The first slot of the run that `slot` is in. */
static inline uint32_t kith_table_owner_of(const struct kith_table *table, uint32_t slot)
{
    return slot & ~(kith_table_run_of(table, table->directory[slot].depth) - 1);
}

/* Gives memory back after removals from the segment of `hash`: merges and shrinks it where that is due. */
void kith_table_settle(struct kith_table *table, uint64_t hash);

#endif
