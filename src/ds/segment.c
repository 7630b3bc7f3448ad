/* See ds/segment.h. What moves entries is here; what only looks at them is inline there. */
#include "ds/segment.h"

static unsigned log2_floor(uint32_t n)
{
    return 31u - (unsigned)__builtin_clz(n);
}

uint32_t kith_segment_larger(uint32_t bucket_count)
{
    return bucket_count < 8 ? bucket_count + 1 : bucket_count + (1u << (log2_floor(bucket_count) - 2));
}

uint32_t kith_segment_smaller(uint32_t bucket_count)
{
    return bucket_count <= 8 ? bucket_count - 1 : bucket_count - (1u << (log2_floor(bucket_count - 1) - 2));
}

uint32_t kith_segment_fit(uint32_t count)
{
    uint32_t n = 1;
    while (kith_segment_capacity(n) < count)
        n = kith_segment_larger(n);
    return n <= KITH_SEGMENT_MAX_BUCKETS ? n : 0;
}

uint32_t kith_segment_shrunk(uint32_t count, uint32_t bucket_count)
{
    while (bucket_count > 2 &&
           count <= kith_segment_capacity(kith_segment_smaller(kith_segment_smaller(bucket_count))))
        bucket_count = kith_segment_smaller(bucket_count);
    return bucket_count == 2 && count <= KITH_BUCKET_SLOTS / 2 ? 1 : bucket_count;
}

struct kith_bucket *kith_segment_buckets_open(uint32_t bucket_count)
{
    struct kith_bucket *buckets = aligned_alloc(sizeof *buckets, bucket_count * sizeof *buckets);
    if (buckets)
        memset(buckets, 0, bucket_count * sizeof *buckets);
    return buckets;
}

/* Puts an entry into the first free slot from `home` on. */
static void place_from(struct kith_segment *segment, void *entry, uint32_t home, uint8_t tag)
{
    uint32_t at = home;
    unsigned empty;
    while (!(empty = kith_bucket_empty(&segment->buckets[at]))) {
        struct kith_bucket *full = &segment->buckets[at];
        full->overflow += full->overflow != KITH_BUCKET_STUCK;
        at = kith_segment_after(segment, at);
    }
    kith_bucket_put(&segment->buckets[at], (unsigned)__builtin_ctz(empty), tag, entry, at != home);
}

void kith_segment_place(struct kith_segment *segment, void *entry, uint64_t hash)
{
    uint64_t fraction = kith_segment_fraction(hash, segment->depth);
    place_from(segment, entry, kith_segment_home(fraction, segment->bucket_count),
               kith_segment_tag(fraction));
}

void kith_segment_displace(struct kith_segment *segment, struct kith_place place, uint64_t hash)
{
    kith_bucket_clear(place.bucket, place.slot);
    uint32_t at = kith_segment_home(kith_segment_fraction(hash, segment->depth), segment->bucket_count);
    while (&segment->buckets[at] != place.bucket) {
        struct kith_bucket *passed = &segment->buckets[at];
        passed->overflow -= passed->overflow != KITH_BUCKET_STUCK;
        at = kith_segment_after(segment, at);
    }
}

struct kith_place kith_segment_locate(const struct kith_segment *segment, const void *entry, uint64_t hash)
{
    uint64_t fraction = kith_segment_fraction(hash, segment->depth);
    uint8_t tag = kith_segment_tag(fraction);
    uint32_t at = kith_segment_home(fraction, segment->bucket_count);
    for (uint32_t n = 0; n < segment->bucket_count; n++) {
        struct kith_bucket *bucket = &segment->buckets[at];
        for (unsigned mask = kith_bucket_match(bucket, tag), slot; kith_bucket_next(&mask, &slot);) {
            if (kith_bucket_get(bucket, slot) == entry)
                return (struct kith_place){bucket, slot};
        }
        if (!bucket->overflow)
            break;
        at = kith_segment_after(segment, at);
    }
    return (struct kith_place){NULL, 0};
}

static void copy_by_hash(struct kith_segment *to, const struct kith_segment *from, struct kith_hash_seed seed)
{
    for (uint32_t i = 0; i < from->bucket_count; i++) {
        kith_segment_prefetch_entries(from, i + 2);
        const struct kith_bucket *bucket = &from->buckets[i];
        for (unsigned mask = kith_bucket_used(bucket), slot; kith_bucket_next(&mask, &slot);) {
            void *entry = kith_bucket_get(bucket, slot);
            kith_segment_place(to, entry, kith_segment_rehash(entry, seed));
        }
    }
}

/* The slots of a bucket whose entries do not tell their fraction: the displaced ones, and those with tag 1,
 * which may stand for 0. */
static unsigned vague_slots(const struct kith_bucket *bucket)
{
    unsigned vague = kith_bucket_match(bucket, 1);
    for (unsigned mask = kith_bucket_used(bucket), slot; kith_bucket_next(&mask, &slot);)
        vague |= (unsigned)kith_bucket_displaced(bucket, slot) << slot;
    return vague;
}

/* A fraction's cell is its first 14 bits. The tag holds the last eight of them; the home bucket is at most as
 * wide as 256 cells, so only one cell with this tag meets it. */
static uint32_t cell_of(uint32_t home, uint32_t bucket_count, uint8_t tag)
{
    uint32_t first = (home << KITH_SEGMENT_CELL_BITS) / bucket_count; /* the cell that the bucket begins in */
    return first + ((tag - first) & 0xff);
}

static void copy_by_tag(struct kith_segment *to, const struct kith_segment *from, struct kith_hash_seed seed)
{
    unsigned vague, next_vague = vague_slots(&from->buckets[0]);
    for (uint32_t i = 0; i < from->bucket_count; i++) {
        const struct kith_bucket *bucket = &from->buckets[i];
        vague = next_vague;
        next_vague = i + 1 < from->bucket_count ? vague_slots(bucket + 1) : 0;
        for (unsigned mask = next_vague, slot; kith_bucket_next(&mask, &slot);)
            __builtin_prefetch(kith_bucket_get(bucket + 1, slot));
        for (unsigned mask = kith_bucket_used(bucket), slot; kith_bucket_next(&mask, &slot);) {
            void *entry = kith_bucket_get(bucket, slot);
            uint32_t cell = cell_of(i, from->bucket_count, bucket->tags[slot]);
            uint32_t home = cell * to->bucket_count >> KITH_SEGMENT_CELL_BITS;
            uint32_t last = ((cell + 1) * to->bucket_count - 1) >> KITH_SEGMENT_CELL_BITS;
            if (vague >> slot & 1 || home != last) /* or the cell lies across an edge */
                kith_segment_place(to, entry, kith_segment_rehash(entry, seed));
            else
                place_from(to, entry, home, bucket->tags[slot]);
        }
    }
}

void kith_segment_copy(struct kith_segment *to, const struct kith_segment *from, struct kith_hash_seed seed)
{
    if (to->depth == from->depth && from->bucket_count >= 64 &&
        from->bucket_count <= KITH_SEGMENT_FULL_BUCKETS)
        copy_by_tag(to, from, seed);
    else
        copy_by_hash(to, from, seed);
}
