/* A hash table of entries (ds/entry.h): extendible hashing (Fagin, Nievergelt, Pippenger, Strong 1979) over
 * segments of cache-line buckets, so that no operation ever moves more than one segment (about a thousand
 * entries).
 *
 * The top 48 bits of an entry's hash are its position. Everything is in the order of positions: the
 * directory's slots, the segments, the buckets of a segment. So a scan's cursor is a position, and growing,
 * shrinking, splitting and merging do not disturb it.
 *
 *     directory, by the          segment: 1 to 128 buckets, any      bucket: 64 bytes
 *     first `depth` bits         number, by multiply-shift
 *     +---+---+---+---+          +---+---+---+---+---+---+---+       +--------+----------+------------+
 *     | . | . | . | . | -------> |   |   |   |   |   |   |   | ----> | 9 tags | overflow | 9 pointers |
 *     +---+---+---+---+          +---+---+---+---+---+---+---+       +--------+----------+------------+
 *
 * A pointer takes 6 bytes there, a tag (8 more bits of the hash) one: nine slots in a line where plain
 * pointers leave room for seven, which is why find gives the entry and not the address of a slot:
 * kith_table_replace() changes it. (Leak checkers cannot see such pointers: close the table before the
 * process ends.) A full bucket overflows into the next one and counts what passed it, so that a search knows
 * where to stop and nothing is left behind by a removal.
 *
 * Segments hold up to 8 entries a bucket on average and grow by a quarter before they split: with both, a key
 * costs 8 to 10.5 bytes beside its entry, 8.7 on average. A table of up to nine entries is one bucket and 64
 * bytes of header.
 *
 * The caller hashes (kith_table_hash), because it needs the hash early: for a batch of pipelined keys it
 * hashes all, calls kith_table_prefetch for all, kith_table_prefetch_entry for all, and then works through
 * them with their cache misses overlapped. `hash` must always be kith_table_hash of the key.
 *
 * Not thread-safe, but functions that take a const table only read, and may run at once with each other. */
#ifndef KITH_DS_TABLE_H
#define KITH_DS_TABLE_H

#include "base/hash.h"
#include "base/random.h"
#include "base/slice.h"
#include "ds/entry.h"

#include <stdbool.h>
#include <stdint.h>

struct kith_table;

/* What to do with an entry that a table lets go of or reports. */
typedef void kith_table_fn(void *arg, void *entry);

/* An empty table, one allocation until the first insert. KITH_OK or KITH_ENOMEM. */
int kith_table_open(struct kith_table **out, struct kith_hash_seed seed);

/* Frees the table, and every entry by free_entry(arg, entry), or by free() when free_entry is NULL. NULL is
 * safe. Takes as long as there are entries: see kith_table_drain. */
void kith_table_close(struct kith_table *table, kith_table_fn *free_entry, void *arg);

/* Lets go of about `budget` entries as kith_table_close does; returns whether more are left. After the first
 * call only drain, count, memory_bytes and close may follow: to flush a large table without a pause, put a
 * new one in its place and drain the old one step by step. */
bool kith_table_drain(struct kith_table *table, size_t budget, kith_table_fn *free_entry, void *arg);

size_t kith_table_count(const struct kith_table *table);

/* Bytes of the table itself, entries not included. */
size_t kith_table_memory_bytes(const struct kith_table *table);

uint64_t kith_table_hash(const struct kith_table *table, struct kith_slice key);

/* The entry with this key, or NULL. It stays the table's. */
void *kith_table_find(const struct kith_table *table, struct kith_slice key, uint64_t hash);

/* Gives `entry` to the table. Its key must not be there. KITH_OK; KITH_ENOMEM leaves the table as it was and
 * the entry the caller's. May move one segment, which at 20 M keys takes
 * 0.1 ms, and 0.3 ms with the copy of the directory that doubles: entries keep their addresses. */
int kith_table_insert(struct kith_table *table, void *entry, uint64_t hash);

/* Puts `entry` where `old` is: the same key, usually `old` reallocated (so `old` itself is not read, and may
 * be freed already). Aborts if `old` is not in the table. Ownership of `old` goes back to the caller. */
void kith_table_replace(struct kith_table *table, const void *old, void *entry, uint64_t hash);

/* Takes the entry with this key out; the caller's from now on. NULL when there is none. Memory comes back as
 * the table empties. */
void *kith_table_remove(struct kith_table *table, struct kith_slice key, uint64_t hash);

/* The same for an entry that is known to be there (aborts if it is not): saves reading keys. */
void kith_table_remove_entry(struct kith_table *table, const void *entry, uint64_t hash);

/* Reports one bucket's worth of entries (about seven; possibly none) and returns the next cursor; 0 begins,
 * and 0 is returned at the end. Cursors are below 2^48, so they survive clients that keep numbers as doubles.
 *
 * The promise is stronger than that of SCAN in Redis: a call reports exactly the entries with
 * cursor <= kith_table_position(hash) < next cursor. So an entry that is there from the first to the last
 * call is reported exactly once, whatever was inserted and removed in between, and a cursor tells of any key
 * whether it has been passed (a checkpoint needs that).
 *
 * `report` may find, replace and remove entries of this table, the reported one included, but not insert. */
uint64_t kith_table_scan(struct kith_table *table, uint64_t cursor, kith_table_fn *report, void *arg);

static inline uint64_t kith_table_position(uint64_t hash)
{
    return hash >> 16;
}

/* A random entry, NULL when the table is empty. Every entry is as likely as any other; takes two or three
 * cache misses. */
void *kith_table_random(const struct kith_table *table, struct kith_rng *rng);

/* Stage one of a batch: fetches the bucket where the hash belongs. */
void kith_table_prefetch(const struct kith_table *table, uint64_t hash);
/* Stage two, once the buckets are there: fetches the entry that the bucket's tags point to. */
void kith_table_prefetch_entry(const struct kith_table *table, uint64_t hash);

/* Proves counts, tags, homes, overflow counts and the directory, reading every entry. For tests and fuzzers.
 * KITH_OK, or KITH_ECORRUPT after a line on standard error that says what is wrong. */
int kith_table_check(const struct kith_table *table);

#endif
