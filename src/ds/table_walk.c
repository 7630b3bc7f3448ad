/* The table from end to end: scan, random, and the proof that all of it holds together. See ds/table.h. */
#include "base/status.h"
#include "ds/table_private.h"

#include <stdio.h>

#define POSITION_BITS 48

/* The first position after those of bucket `home` in the segment of `position`. */
static uint64_t bucket_end(const struct kith_segment *segment, uint64_t position, uint32_t home)
{
    unsigned bits = POSITION_BITS - segment->depth;
    uint64_t begin = position >> bits << bits;
    unsigned __int128 end = (unsigned __int128)(home + 1) << bits;
    return begin + (uint64_t)((end + segment->bucket_count - 1) / segment->bucket_count);
}

/* Reports the entries of one home bucket, wherever they overflowed to. Nothing moves meanwhile: `report` may
 * take entries out, which only clears slots. */
static uint64_t scan_bucket(const struct kith_table *table, const struct kith_segment *segment,
                            uint64_t cursor, kith_table_fn *report, void *arg)
{
    uint32_t home = kith_segment_home(kith_segment_fraction(cursor << 16, segment->depth),
                                      segment->bucket_count),
             at = home;
    uint64_t end = bucket_end(segment, cursor, home);
    for (uint32_t n = 0; n < segment->bucket_count; n++) {
        struct kith_bucket *bucket = &segment->buckets[at];
        bool last = !bucket->overflow;
        kith_segment_prefetch_entries(segment, at);
        for (unsigned mask = kith_bucket_used(bucket), slot; kith_bucket_next(&mask, &slot);) {
            if (!bucket->tags[slot])
                continue;
            void *entry = kith_bucket_get(bucket, slot);
            uint64_t position = kith_table_position(kith_segment_rehash(entry, table->seed));
            if (position >= cursor && position < end)
                report(arg, entry);
        }
        if (last)
            break;
        at = kith_segment_after(segment, at);
    }
    return end;
}

uint64_t kith_table_scan(struct kith_table *table, uint64_t cursor, kith_table_fn *report, void *arg)
{
    uint64_t hash = cursor << 16;
    if (cursor >> POSITION_BITS || !table->count)
        return 0;
    KITH_ASSERT(!table->scanning);
    size_t before = table->count;
    table->scanning = true;
    uint64_t next = scan_bucket(table, kith_table_segment_of(table, hash), cursor, report, arg);
    table->scanning = false;
    if (table->count < before)
        kith_table_settle(table, hash);
    return next >> POSITION_BITS ? 0 : next;
}

/* A segment is met with probability 2^-depth, and then one of `choices` buckets is asked for: choosing twice
 * as many in a segment that is met twice as often makes all buckets equal. A bucket that is not there, or an
 * empty slot, is a miss: at eight slots of nine used and no segment below half its size, two or three tries
 * find an entry. */
void *kith_table_random(const struct kith_table *table, struct kith_rng *rng)
{
    if (!table->count)
        return NULL;
    for (;;) {
        const struct kith_segment *segment = kith_table_segment_of(table, kith_rng_next(rng));
        uint64_t choices = segment->bucket_count;
        if (table->depth && choices <= KITH_SEGMENT_FULL_BUCKETS)
            choices = (uint64_t)KITH_SEGMENT_FULL_BUCKETS << (table->depth - segment->depth);
        uint64_t choice = kith_rng_below(rng, choices * KITH_BUCKET_SLOTS);
        uint64_t at = choice / KITH_BUCKET_SLOTS;
        unsigned slot = (unsigned)(choice % KITH_BUCKET_SLOTS);
        if (at < segment->bucket_count && segment->buckets[at].tags[slot])
            return kith_bucket_get(&segment->buckets[at], slot);
    }
}

/* ---- the proof ---- */

/* What the walk has found so far; `overflow` is what the counts of one segment should be. */
struct proof {
    const struct kith_table *table;
    uint64_t count, bucket_count, deepest_count;
    uint32_t *overflow;
};

static bool broken(const char *what, uint32_t slot, uint32_t bucket)
{
    fprintf(stderr, "table: %s (directory slot %u, bucket %u)\n", what, slot, bucket);
    return false;
}

/* The entry in bucket `at` must be reachable: each bucket from its home on passes it along. */
static bool prove_entry(struct proof *proof, uint32_t owner, uint32_t at, unsigned slot)
{
    const struct kith_segment *segment = &proof->table->directory[owner];
    const struct kith_bucket *bucket = &segment->buckets[at];
    uint64_t hash = kith_segment_rehash(kith_bucket_get(bucket, slot), proof->table->seed);
    uint32_t slot_of_hash = kith_table_slot_of(proof->table, hash);
    uint64_t fraction = kith_segment_fraction(hash, segment->depth);
    uint32_t home = kith_segment_home(fraction, segment->bucket_count);
    if (bucket->tags[slot] != kith_segment_tag(fraction))
        return broken("a tag is not its entry's", owner, at);
    if (slot_of_hash < owner || slot_of_hash - owner >= kith_table_run_of(proof->table, segment->depth))
        return broken("an entry is in a segment of another prefix", owner, at);
    if (kith_bucket_displaced(bucket, slot) != (home != at))
        return broken("an entry's displaced bit is wrong", owner, at);
    for (uint32_t i = home; i != at; i = kith_segment_after(segment, i)) {
        if (!segment->buckets[i].overflow)
            return broken("an entry cannot be reached from its home", owner, at);
        proof->overflow[i]++;
    }
    return true;
}

static bool prove_segment(struct proof *proof, uint32_t owner)
{
    const struct kith_segment *segment = &proof->table->directory[owner];
    uint32_t count = 0;
    for (uint32_t at = 0; at < segment->bucket_count; at++) {
        unsigned mask = kith_bucket_used(&segment->buckets[at]);
        if (mask != (kith_bucket_match_scalar(&segment->buckets[at], 0) ^ ((1u << KITH_BUCKET_SLOTS) - 1)))
            return broken("the vector and the scalar comparison differ", owner, at);
        for (unsigned slot; kith_bucket_next(&mask, &slot); count++) {
            if (!prove_entry(proof, owner, at, slot))
                return false;
        }
    }
    for (uint32_t at = 0; at < segment->bucket_count; at++) {
        if (segment->buckets[at].overflow != KITH_BUCKET_STUCK &&
            segment->buckets[at].overflow != proof->overflow[at])
            return broken("an overflow count is wrong", owner, at);
    }
    proof->count += count;
    proof->bucket_count += segment->bucket_count;
    proof->deepest_count += segment->depth == proof->table->depth;
    return count == segment->count || broken("a segment's count is wrong", owner, 0);
}

/* All slots of the run tell the same, and only the first of them counts. */
static bool prove_run(const struct kith_table *table, uint32_t owner)
{
    const struct kith_segment *first = &table->directory[owner];
    if (first->depth > table->depth || owner % kith_table_run_of(table, first->depth))
        return broken("a segment's run is not aligned to its depth", owner, 0);
    for (uint32_t i = 1; i < kith_table_run_of(table, first->depth); i++) {
        const struct kith_segment *copy = first + i;
        if (copy->buckets != first->buckets || copy->bucket_count != first->bucket_count ||
            copy->depth != first->depth || copy->count)
            return broken("a copy in the directory differs from its owner", owner + i, 0);
    }
    return true;
}

int kith_table_check(const struct kith_table *table)
{
    struct proof proof = {table, 0, 0, 0, NULL};
    bool good = true;
    for (uint32_t slot = 0; good && slot < 1u << table->depth;) {
        good = prove_run(table, slot);
        if (!good)
            break;
        proof.overflow = calloc(table->directory[slot].bucket_count + 1u, sizeof *proof.overflow);
        if (!proof.overflow)
            return KITH_ENOMEM;
        good = prove_segment(&proof, slot);
        free(proof.overflow);
        slot += kith_table_run_of(table, table->directory[slot].depth);
    }
    if (good && proof.count != table->count)
        good = broken("the table's count is wrong", 0, 0);
    if (good && proof.bucket_count != table->bucket_count)
        good = broken("the table's bucket count is wrong", 0, 0);
    if (good && proof.deepest_count != table->deepest_count)
        good = broken("the count of deepest segments is wrong", 0, 0);
    return good ? KITH_OK : KITH_ECORRUPT;
}
