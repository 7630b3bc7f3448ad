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

void kith_segment_place(struct kith_segment *segment, void *entry, uint64_t hash)
{
    uint32_t at = kith_segment_home(hash, segment->depth, segment->bucket_count);
    unsigned empty;
    while (!(empty = kith_bucket_empty(&segment->buckets[at]))) {
        struct kith_bucket *full = &segment->buckets[at];
        full->overflow += full->overflow != KITH_BUCKET_STUCK;
        at = kith_segment_after(segment, at);
    }
    kith_bucket_put(&segment->buckets[at], (unsigned)__builtin_ctz(empty), kith_bucket_tag(hash), entry);
}

void kith_segment_displace(struct kith_segment *segment, struct kith_place place, uint64_t hash)
{
    kith_bucket_clear(place.bucket, place.slot);
    uint32_t at = kith_segment_home(hash, segment->depth, segment->bucket_count);
    while (&segment->buckets[at] != place.bucket) {
        struct kith_bucket *passed = &segment->buckets[at];
        passed->overflow -= passed->overflow != KITH_BUCKET_STUCK;
        at = kith_segment_after(segment, at);
    }
}

struct kith_place kith_segment_locate(const struct kith_segment *segment, const void *entry, uint64_t hash)
{
    uint8_t tag = kith_bucket_tag(hash);
    uint32_t at = segment->bucket_count ? kith_segment_home(hash, segment->depth, segment->bucket_count) : 0;
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

void kith_segment_copy(struct kith_segment *to, const struct kith_segment *from, struct kith_hash_seed seed)
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
