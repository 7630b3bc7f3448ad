/* A run of buckets for one prefix of the hash: a small open-addressing table that is rebuilt as a whole when
 * it grows, shrinks, splits or merges. Private to ds/table: the directory's slots are these structs, by
 * value.
 *
 * The bits of the position behind the prefix are read as a fraction in [0, 1); a segment of n buckets puts it
 * into bucket floor(fraction * n), so n need not be a power of two and buckets are in the order of positions.
 * A full bucket overflows into the next one, from the last into the first: with nine slots a bucket and eight
 * used on average, a search that hits reads 1.1 buckets (Knuth, TAOCP 3, 6.4, table 4). */
#ifndef KITH_DS_SEGMENT_H
#define KITH_DS_SEGMENT_H

#include "base/hash.h"
#include "ds/bucket.h"
#include "ds/entry.h"

#define KITH_SEGMENT_FULL_BUCKETS 128        /* a segment of this size splits rather than grows */
#define KITH_SEGMENT_CELL_BITS    14         /* of a fraction, known from home and tag */
#define KITH_SEGMENT_MAX_BUCKETS  (1u << 24) /* only with equal hashes: see kith_table's make_room */

struct kith_segment {
    struct kith_bucket *buckets; /* NULL when bucket_count is 0 */
    uint32_t count; /* entries; kept in the first of the directory's slots for a segment, else 0 */
    uint32_t bucket_count : 24;
    uint32_t depth : 8; /* bits of the prefix */
};

_Static_assert(sizeof(struct kith_segment) == 16 || sizeof(void *) != 8,
               "four directory slots are one cache line");

/* Where an entry is. */
struct kith_place {
    struct kith_bucket *bucket;
    unsigned slot;
};

/* The position behind the prefix, as a fraction of 2^64. */
static inline uint64_t kith_segment_fraction(uint64_t hash, unsigned depth)
{
    return (hash & ~(uint64_t)0xffff) << depth;
}

static inline uint32_t kith_segment_home(uint64_t fraction, uint32_t bucket_count)
{
    return (uint32_t)((unsigned __int128)fraction * bucket_count >> 64);
}

static inline struct kith_bucket *kith_segment_bucket(const struct kith_segment *segment, uint64_t fraction)
{
    return &segment->buckets[kith_segment_home(fraction, segment->bucket_count)];
}

/* The eight bits behind the first six of the fraction: in a segment of 64 buckets or more, home and tag
 * together give its first 14 bits (see kith_segment_copy), and still tell the nine entries of a bucket apart.
 */
static inline uint8_t kith_segment_tag(uint64_t fraction)
{
    uint8_t tag = (uint8_t)(fraction >> (64 - KITH_SEGMENT_CELL_BITS));
    return tag ? tag : 1;
}

static inline uint32_t kith_segment_after(const struct kith_segment *segment, uint32_t bucket)
{
    return ++bucket == segment->bucket_count ? 0 : bucket;
}

/* Entries that a segment of so many buckets takes before it grows. */
static inline uint32_t kith_segment_capacity(uint32_t bucket_count)
{
    return bucket_count == 1 ? KITH_BUCKET_SLOTS : bucket_count * (KITH_BUCKET_SLOTS - 1);
}

/* The sizes of a segment: 1, 2, ... 8, 10, 12, 14, 16, 20, ... 112, 128, 160, ...: four to a doubling, which
 * are also jemalloc's size classes, so that nothing is lost to rounding. */
uint32_t kith_segment_larger(uint32_t bucket_count);
uint32_t kith_segment_smaller(uint32_t bucket_count);
/* The smallest of these sizes whose capacity is `count` or more; 0 when there is none. */
uint32_t kith_segment_fit(uint32_t count);
/* The size to shrink to, or bucket_count itself: leaves a margin of a step, against growing again at once. */
uint32_t kith_segment_shrunk(uint32_t count, uint32_t bucket_count);

/* Zeroed buckets, NULL when there is no memory. */
struct kith_bucket *kith_segment_buckets_open(uint32_t bucket_count);

/* Puts the entry into the first free slot from its home on. There must be one. Does not count. */
void kith_segment_place(struct kith_segment *segment, void *entry, uint64_t hash);

/* Undoes kith_segment_place. Does not count. */
void kith_segment_displace(struct kith_segment *segment, struct kith_place place, uint64_t hash);

/* Finds `entry` by its address; bucket is NULL in the result when it is not there. */
struct kith_place kith_segment_locate(const struct kith_segment *segment, const void *entry, uint64_t hash);

/* Copies every entry of `from` into `to`, which has room. Keys are hashed anew, a cache miss each, only when
 * the prefix changes or the segment is small: from 64 to 128 buckets, home and tag tell the new home of nine
 * entries in ten. */
void kith_segment_copy(struct kith_segment *to, const struct kith_segment *from, struct kith_hash_seed seed);

static inline uint64_t kith_segment_rehash(const void *entry, struct kith_hash_seed seed)
{
    struct kith_slice key = kith_entry_key(entry);
    return kith_hash(seed, key.data, key.length);
}

/* Fetches what bucket `at` points to, if there is such a bucket: one cache miss for nine entries, not nine.
 */
static inline void kith_segment_prefetch_entries(const struct kith_segment *segment, uint32_t at)
{
    if (at >= segment->bucket_count)
        return;
    const struct kith_bucket *bucket = &segment->buckets[at];
    for (unsigned mask = kith_bucket_used(bucket), slot; kith_bucket_next(&mask, &slot);)
        __builtin_prefetch(kith_bucket_get(bucket, slot));
}

/* Finds a key; bucket is NULL in the result when it is not there. Inline: it is the GET. */
static inline struct kith_place kith_segment_find(const struct kith_segment *segment, struct kith_slice key,
                                                  uint64_t hash)
{
    if (!segment->bucket_count)
        return (struct kith_place){NULL, 0};
    uint64_t fraction = kith_segment_fraction(hash, segment->depth);
    uint8_t tag = kith_segment_tag(fraction);
    uint32_t at = kith_segment_home(fraction, segment->bucket_count);
    for (uint32_t n = 0; n < segment->bucket_count; n++) {
        struct kith_bucket *bucket = &segment->buckets[at];
        for (unsigned mask = kith_bucket_match(bucket, tag), slot; kith_bucket_next(&mask, &slot);) {
            if (kith_entry_key_is(kith_bucket_get(bucket, slot), key))
                return (struct kith_place){bucket, slot};
        }
        if (!bucket->overflow)
            break;
        at = kith_segment_after(segment, at);
    }
    return (struct kith_place){NULL, 0};
}

#endif
