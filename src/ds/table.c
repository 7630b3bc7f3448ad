/* See ds/table.h. Here is the directory: which segment a hash belongs to, and when segments grow, split,
 * shrink and merge. What an operation may cost at most: rebuilding one segment of 1,024 entries (a split or a
 * step of growth; a removal may merge two that hold 768 together), and with the split that outgrows it a copy
 * of the directory: 16 bytes per 700 keys or so, half a megabyte at 20 M. */
#include "ds/table.h"

#include "base/status.h"
#include "ds/table_private.h"

#define MERGE_COUNT 768 /* two segments with so many entries become one, three quarters full */

/* Writes a segment into its run, which begins at `slot`. */
static void set_segment(struct kith_table *table, uint32_t slot, struct kith_segment segment)
{
    uint32_t run = kith_table_run_of(table, segment.depth);
    table->directory[slot] = segment;
    segment.count = 0;
    for (uint32_t i = 1; i < run; i++)
        table->directory[slot + i] = segment;
}

/* An empty segment with room for `count`; its buckets are NULL when there is no memory. */
static struct kith_segment new_segment(unsigned depth, uint32_t count, uint32_t bucket_count)
{
    struct kith_segment segment = {NULL, count, bucket_count & (KITH_SEGMENT_MAX_BUCKETS - 1), depth};
    if (bucket_count && bucket_count < KITH_SEGMENT_MAX_BUCKETS)
        segment.buckets = kith_segment_buckets_open(bucket_count);
    return segment;
}

int kith_table_open(struct kith_table **out, struct kith_hash_seed seed)
{
    struct kith_table *table = aligned_alloc(64, sizeof *table);
    if (!table)
        return KITH_ENOMEM;
    memset(table, 0, sizeof *table);
    table->seed = seed;
    table->directory = &table->root;
    table->deepest_count = 1;
    *out = table;
    return KITH_OK;
}

void kith_table_close(struct kith_table *table, kith_table_fn *free_entry, void *arg)
{
    if (!table)
        return;
    while (kith_table_drain(table, SIZE_MAX, free_entry, arg))
        ;
    if (table->directory != &table->root)
        free(table->directory);
    free(table);
}

/* Empties a segment from its last bucket on and forgets the buckets that it is done with. Returns the entries
 * let go. */
static size_t drain_segment(struct kith_table *table, struct kith_segment *segment, size_t budget,
                            kith_table_fn *free_entry, void *arg)
{
    size_t done = 0;
    while (segment->bucket_count && done < budget) {
        struct kith_bucket *bucket = &segment->buckets[--segment->bucket_count];
        for (unsigned mask = kith_bucket_used(bucket), slot; kith_bucket_next(&mask, &slot); done++) {
            void *entry = kith_bucket_get(bucket, slot);
            if (free_entry)
                free_entry(arg, entry);
            else
                free(entry);
        }
        table->bucket_count--;
    }
    return done;
}

bool kith_table_drain(struct kith_table *table, size_t budget, kith_table_fn *free_entry, void *arg)
{
    uint32_t slot_count = 1u << table->depth;
    size_t done = 0;
    while (table->drained_count < slot_count && done < budget) {
        uint32_t owner = kith_table_owner_of(table, slot_count - 1 - table->drained_count);
        struct kith_segment *segment = &table->directory[owner];
        size_t step = drain_segment(table, segment, budget - done, free_entry, arg);
        done += step;
        table->count -= step;
        if (!segment->bucket_count) {
            free(segment->buckets);
            segment->buckets = NULL;
            table->drained_count = slot_count - owner;
        }
    }
    return table->drained_count < slot_count;
}

size_t kith_table_count(const struct kith_table *table)
{
    return table->count;
}

size_t kith_table_memory_bytes(const struct kith_table *table)
{
    size_t directory = table->depth ? sizeof *table->directory << table->depth : 0;
    return sizeof *table + directory + (size_t)table->bucket_count * sizeof(struct kith_bucket);
}

uint64_t kith_table_hash(const struct kith_table *table, struct kith_slice key)
{
    return kith_hash(table->seed, key.data, key.length);
}

void *kith_table_find(const struct kith_table *table, struct kith_slice key, uint64_t hash)
{
    struct kith_place place = kith_segment_find(kith_table_segment_of(table, hash), key, hash);
    return place.bucket ? kith_bucket_get(place.bucket, place.slot) : NULL;
}

void kith_table_prefetch(const struct kith_table *table, uint64_t hash)
{
    const struct kith_segment *segment = kith_table_segment_of(table, hash);
    if (segment->bucket_count)
        __builtin_prefetch(kith_segment_bucket(segment, kith_segment_fraction(hash, segment->depth)));
}

void kith_table_prefetch_entry(const struct kith_table *table, uint64_t hash)
{
    const struct kith_segment *segment = kith_table_segment_of(table, hash);
    if (!segment->bucket_count)
        return;
    uint64_t fraction = kith_segment_fraction(hash, segment->depth);
    const struct kith_bucket *bucket = kith_segment_bucket(segment, fraction);
    for (unsigned mask = kith_bucket_match(bucket, kith_segment_tag(fraction)), slot;
         kith_bucket_next(&mask, &slot);)
        __builtin_prefetch(kith_bucket_get(bucket, slot));
}

/* ---- growth ---- */

/* Moves the segment at `owner` into `bucket_count` buckets, which must hold its entries. */
static bool resize(struct kith_table *table, uint32_t owner, uint32_t bucket_count)
{
    struct kith_segment old = table->directory[owner];
    struct kith_segment new = new_segment(old.depth, old.count, bucket_count);
    if (!new.buckets)
        return false;
    kith_segment_copy(&new, &old, table->seed);
    table->bucket_count += new.bucket_count - old.bucket_count;
    set_segment(table, owner, new);
    free(old.buckets);
    return true;
}

static bool double_directory(struct kith_table *table)
{
    uint32_t slot_count = 1u << table->depth;
    struct kith_segment *wide = malloc(2 * (size_t)slot_count * sizeof *wide);
    if (!wide)
        return false;
    for (uint32_t i = 0; i < slot_count; i++) {
        wide[2 * i] = wide[2 * i + 1] = table->directory[i];
        wide[2 * i + 1].count = 0;
    }
    if (table->directory != &table->root)
        free(table->directory);
    table->directory = wide;
    table->depth++;
    table->deepest_count = 0;
    return true;
}

struct card {
    void *entry;
    uint64_t hash;
};

/* The entries of a segment and their hashes, `count` cards of them; NULL when there is no memory. */
static struct card *gather(const struct kith_table *table, const struct kith_segment *segment)
{
    struct card *cards = malloc(segment->count * sizeof *cards);
    uint32_t n = 0;
    for (uint32_t i = 0; cards && i < segment->bucket_count; i++) {
        kith_segment_prefetch_entries(segment, i + 2);
        const struct kith_bucket *bucket = &segment->buckets[i];
        for (unsigned mask = kith_bucket_used(bucket), slot; kith_bucket_next(&mask, &slot); n++) {
            void *entry = kith_bucket_get(bucket, slot);
            cards[n] = (struct card){entry, kith_segment_rehash(entry, table->seed)};
        }
    }
    KITH_ASSERT(!cards || n == segment->count);
    return cards;
}

/* Deals the entries of `old` out to two halves that have no buckets yet. */
static bool deal(const struct kith_table *table, const struct kith_segment *old, struct kith_segment half[2])
{
    struct card *cards = gather(table, old);
    if (!cards)
        return false;
    uint32_t upper = 0;
    for (uint32_t i = 0; i < old->count; i++)
        upper += cards[i].hash >> (63 - old->depth) & 1;
    for (int i = 0; i < 2; i++) {
        uint32_t count = i ? upper : old->count - upper;
        half[i] = new_segment(old->depth + 1u, count, kith_segment_fit(count));
        if (!half[i].buckets)
            goto fail;
    }
    for (uint32_t i = 0; i < old->count; i++)
        kith_segment_place(&half[cards[i].hash >> (63 - old->depth) & 1], cards[i].entry, cards[i].hash);
    free(cards);
    return true;
fail:
    free(half[0].buckets);
    free(cards);
    return false;
}

/* Splits the segment of `hash` into two with one bit more of prefix. */
static bool split(struct kith_table *table, uint64_t hash)
{
    if (kith_table_segment_of(table, hash)->depth == table->depth && !double_directory(table))
        return false;
    uint32_t owner = kith_table_owner_of(table, kith_table_slot_of(table, hash));
    struct kith_segment old = table->directory[owner], half[2] = {{0}, {0}};
    if (!deal(table, &old, half))
        return false;
    table->bucket_count += half[0].bucket_count + half[1].bucket_count - old.bucket_count;
    table->deepest_count += half[0].depth == table->depth ? 2 : 0;
    set_segment(table, owner, half[0]);
    set_segment(table, owner + kith_table_run_of(table, half[0].depth), half[1]);
    free(old.buckets);
    return true;
}

/* The depth that a table of so many entries may reach: four bits past an even spread. Hashes that differ in
 * no bit that a split could use would otherwise double the directory for ever; their segment grows instead.
 */
static unsigned depth_limit(size_t count)
{
    return count < 1024 ? 4 : 67 - 9 - (unsigned)__builtin_clzll(count);
}

/* One step towards a free slot for `hash`: false when there is no memory. */
static bool make_room(struct kith_table *table, uint64_t hash)
{
    const struct kith_segment *segment = kith_table_segment_of(table, hash);
    if (segment->bucket_count >= KITH_SEGMENT_FULL_BUCKETS && segment->depth < depth_limit(table->count))
        return split(table, hash);
    return resize(table, kith_table_owner_of(table, kith_table_slot_of(table, hash)),
                  kith_segment_larger(segment->bucket_count));
}

int kith_table_insert(struct kith_table *table, void *entry, uint64_t hash)
{
    KITH_ASSERT(!table->scanning);
    KITH_DEBUG_ASSERT(!kith_table_find(table, kith_entry_key(entry), hash));
    struct kith_segment *owner;
    for (;;) {
        owner = &table->directory[kith_table_owner_of(table, kith_table_slot_of(table, hash))];
        if (owner->bucket_count && owner->count < kith_segment_capacity(owner->bucket_count))
            break;
        if (make_room(table, hash))
            continue;
        /* Without memory the slots that are kept free for speed will do. */
        owner = &table->directory[kith_table_owner_of(table, kith_table_slot_of(table, hash))];
        if (owner->count == owner->bucket_count * KITH_BUCKET_SLOTS)
            return KITH_ENOMEM;
        break;
    }
    kith_segment_place(owner, entry, hash);
    owner->count++;
    table->count++;
    return KITH_OK;
}

void kith_table_replace(struct kith_table *table, const void *old, void *entry, uint64_t hash)
{
    struct kith_place place = kith_segment_locate(kith_table_segment_of(table, hash), old, hash);
    KITH_ASSERT(place.bucket);
    bool displaced = kith_bucket_displaced(place.bucket, place.slot);
    kith_bucket_put(place.bucket, place.slot, place.bucket->tags[place.slot], entry, displaced);
}

/* ---- shrinking: all of it may fail for want of memory, and is then done by a later removal ---- */

static bool halve_directory(struct kith_table *table)
{
    uint32_t slot_count = 1u << (table->depth - 1);
    struct kith_segment *wide = table->directory;
    KITH_ASSERT(wide != &table->root);
    struct kith_segment *narrow = slot_count > 1 ? malloc(slot_count * sizeof *narrow) : &table->root;
    if (!narrow)
        return false;
    table->depth--;
    table->deepest_count = 0;
    for (uint32_t i = 0; i < slot_count; i++) {
        narrow[i] = wide[2 * i];
        table->deepest_count += narrow[i].depth == table->depth;
    }
    table->directory = narrow;
    free(wide);
    return true;
}

/* Joins the segment at `owner` with its buddy when both are half empty or less; returns whether it did. */
static bool merge(struct kith_table *table, uint32_t owner)
{
    struct kith_segment one = table->directory[owner];
    if (!one.depth || one.count > MERGE_COUNT)
        return false;
    uint32_t buddy = owner ^ kith_table_run_of(table, one.depth);
    struct kith_segment other = table->directory[buddy];
    if (other.depth != one.depth || one.count + other.count > MERGE_COUNT)
        return false;
    uint32_t count = one.count + other.count;
    struct kith_segment both = new_segment(one.depth - 1u, count, kith_segment_fit(count));
    if (!both.buckets)
        return false;
    kith_segment_copy(&both, &one, table->seed);
    kith_segment_copy(&both, &other, table->seed);
    table->bucket_count += both.bucket_count - one.bucket_count - other.bucket_count;
    table->deepest_count -= one.depth == table->depth ? 2 : 0;
    set_segment(table, owner < buddy ? owner : buddy, both);
    free(one.buckets);
    free(other.buckets);
    while (table->depth && !table->deepest_count && halve_directory(table))
        ;
    return true;
}

void kith_table_settle(struct kith_table *table, uint64_t hash)
{
    uint32_t owner = kith_table_owner_of(table, kith_table_slot_of(table, hash));
    while (merge(table, owner))
        owner = kith_table_owner_of(table, kith_table_slot_of(table, hash));
    struct kith_segment *segment = &table->directory[owner];
    if (!table->count && !table->depth) {
        table->bucket_count = 0;
        free(segment->buckets);
        segment->buckets = NULL;
        segment->bucket_count = 0;
        return;
    }
    uint32_t bucket_count = kith_segment_shrunk(segment->count, segment->bucket_count);
    if (bucket_count < segment->bucket_count)
        (void)resize(table, owner, bucket_count); /* tried again at the next removal */
}

static void take_out(struct kith_table *table, struct kith_place place, uint64_t hash)
{
    struct kith_segment *owner =
        &table->directory[kith_table_owner_of(table, kith_table_slot_of(table, hash))];
    kith_segment_displace(owner, place, hash);
    owner->count--;
    table->count--;
    if (!table->scanning)
        kith_table_settle(table, hash);
}

void *kith_table_remove(struct kith_table *table, struct kith_slice key, uint64_t hash)
{
    struct kith_place place = kith_segment_find(kith_table_segment_of(table, hash), key, hash);
    if (!place.bucket)
        return NULL;
    void *entry = kith_bucket_get(place.bucket, place.slot);
    take_out(table, place, hash);
    return entry;
}

void kith_table_remove_entry(struct kith_table *table, const void *entry, uint64_t hash)
{
    struct kith_place place = kith_segment_locate(kith_table_segment_of(table, hash), entry, hash);
    KITH_ASSERT(place.bucket);
    take_out(table, place, hash);
}
