/* One cache line of the hash table: nine tagged pointers. Private to ds/table and ds/segment.
 *
 *     byte  0        9        10       16       22              58      64
 *           | tag x9 | overfl | ptr 0  | ptr 1  | ...           | ptr 8 |
 *
 * A tag is eight bits of the hash, never 0; 0 says that the slot is empty. A pointer is kept in 48 bits: user
 * addresses of Linux and the BSDs fit on x86-64 and AArch64 unless a process asks for more. malloc aligns to
 * 8 at least, so its lowest bit is free: it says that the entry is displaced, that its home is an earlier
 * bucket. kith_bucket_put asserts both.
 *
 * `overflow` counts the entries that belong here or earlier and were put into a later bucket because this one
 * was full (as F14 does it: Bronson & Shi 2019): at 0 a search ends here. At 255 it sticks until the segment
 * is rebuilt.
 *
 * The nine tags are compared at once: by SSE2, or in a 64-bit word, which is as fast where there is no
 * movemask. */
#ifndef KITH_DS_BUCKET_H
#define KITH_DS_BUCKET_H

#include "base/assert.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define KITH_BUCKET_SLOTS 9
#define KITH_BUCKET_STUCK 255 /* overflow has lost count */

struct kith_bucket {
    _Alignas(64) uint8_t tags[KITH_BUCKET_SLOTS];
    uint8_t overflow;
    uint8_t pointers[KITH_BUCKET_SLOTS][6];
};

_Static_assert(sizeof(struct kith_bucket) == 64, "one bucket is one cache line");
_Static_assert(offsetof(struct kith_bucket, pointers) == 10,
               "a pointer is read as a word that starts two bytes early");

/* Bit i is set where tags[i] == tag: the reference. */
static inline unsigned kith_bucket_match_scalar(const struct kith_bucket *bucket, uint8_t tag)
{
    unsigned mask = 0;
    for (unsigned i = 0; i < KITH_BUCKET_SLOTS; i++)
        mask |= bucket->tags[i] == tag ? 1u << i : 0;
    return mask;
}

/* The same in a word, for any little-endian machine: no multiplication carries, no byte is mistaken for
 * another. */
static inline unsigned kith_bucket_match_word(const struct kith_bucket *bucket, uint8_t tag)
{
    const uint64_t low7 = 0x7f7f7f7f7f7f7f7full;
    uint64_t tags;
    memcpy(&tags, bucket->tags, 8);
    tags ^= tag * 0x0101010101010101ull;
    tags = ~(((tags & low7) + low7) | tags | low7) >> 7; /* 1 in each byte that was 0 */
    return (unsigned)(tags * 0x0102040810204080ull >> 56) | (bucket->tags[8] == tag ? 1u << 8 : 0);
}

static inline unsigned kith_bucket_match(const struct kith_bucket *bucket, uint8_t tag)
{
#ifdef __SSE2__
    __m128i tags = _mm_load_si128((const __m128i *)(const void *)bucket);
    __m128i equal = _mm_cmpeq_epi8(tags, _mm_set1_epi8((char)tag));
    return (unsigned)_mm_movemask_epi8(equal) & ((1u << KITH_BUCKET_SLOTS) - 1);
#elif __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return kith_bucket_match_word(bucket, tag);
#else
    return kith_bucket_match_scalar(bucket, tag);
#endif
}

static inline unsigned kith_bucket_empty(const struct kith_bucket *bucket)
{
    return kith_bucket_match(bucket, 0);
}

static inline unsigned kith_bucket_used(const struct kith_bucket *bucket)
{
    return kith_bucket_match(bucket, 0) ^ ((1u << KITH_BUCKET_SLOTS) - 1);
}

/* The six bytes of a slot: the pointer and, in its lowest bit, whether the entry is displaced. */
static inline uint64_t kith_bucket_word(const struct kith_bucket *bucket, unsigned slot)
{
    uint64_t word = 0;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    memcpy(&word, (const char *)bucket + 8 + 6 * slot, 8);
    word >>= 16;
#else
    memcpy((char *)&word + 2, bucket->pointers[slot], 6);
#endif
    return word;
}

static inline void *kith_bucket_get(const struct kith_bucket *bucket, unsigned slot)
{
    return (void *)(uintptr_t)(kith_bucket_word(bucket, slot) & ~(uint64_t)7);
}

static inline bool kith_bucket_displaced(const struct kith_bucket *bucket, unsigned slot)
{
    return bucket->pointers[slot][__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 0 : 5] & 1;
}

static inline void kith_bucket_put(struct kith_bucket *bucket, unsigned slot, uint8_t tag,
                                   const void *pointer, bool displaced)
{
    uint64_t word = (uintptr_t)pointer;
    KITH_ASSERT((word & 0xffff000000000007) == 0);
    word |= displaced;
    bucket->tags[slot] = tag;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    memcpy(bucket->pointers[slot], &word, 6);
#else
    memcpy(bucket->pointers[slot], (char *)&word + 2, 6);
#endif
}

static inline void kith_bucket_clear(struct kith_bucket *bucket, unsigned slot)
{
    bucket->tags[slot] = 0;
}

/* for (unsigned mask = ..., slot; kith_bucket_next(&mask, &slot);) */
static inline bool kith_bucket_next(unsigned *mask, unsigned *slot)
{
    if (!*mask)
        return false;
    *slot = (unsigned)__builtin_ctz(*mask);
    *mask &= *mask - 1;
    return true;
}

#endif
