/* A hash: fields and their values, both bytes.
 *
 * Small ones (limits.h) are one packed run of bytes, [varint length, field, varint length, value] after one
 * another, searched from the front: a cache line or two beat a table there and cost a few bytes a pair.
 * Larger ones are a table of entries whose payload is [varint length, value]. A hash that grew stays a table.
 */
#ifndef KITH_ENGINE_HASH_H
#define KITH_ENGINE_HASH_H

#include "base/hash.h"
#include "base/random.h"
#include "base/slice.h"

#include <stdint.h>

struct kith_hash;
struct kith_type_ops;

extern const struct kith_type_ops kith_hash_ops;

/* An empty hash; NULL when there is no memory. `seed` keys the table that it may become: borrowed, and must
 * outlive the hash. */
struct kith_hash *kith_hash_open(const struct kith_hash_seed *seed);
void kith_hash_close(struct kith_hash *hash); /* NULL is safe */

size_t kith_hash_count(const struct kith_hash *hash);
bool kith_hash_is_packed(const struct kith_hash *hash);

/* The value of a field: borrowed until the next change. False when there is no such field. */
bool kith_hash_get(const struct kith_hash *hash, struct kith_slice field, struct kith_slice *value);

/* 1: the field is new, 0: it was overwritten, KITH_ENOMEM: nothing has changed. */
int kith_hash_set(struct kith_hash *hash, struct kith_slice field, struct kith_slice value);

/* Whether the field was there. */
bool kith_hash_remove(struct kith_hash *hash, struct kith_slice field);

/* Calls `report` for each pair, in no promised order; report must not change the hash. */
typedef void kith_hash_fn(void *arg, struct kith_slice field, struct kith_slice value);
void kith_hash_each(const struct kith_hash *hash, kith_hash_fn *report, void *arg);

/* One step of HSCAN with the promise of kith_table_scan; a packed hash is reported whole. Returns the next
 * cursor. */
uint64_t kith_hash_scan(const struct kith_hash *hash, uint64_t cursor, kith_hash_fn *report, void *arg);

/* A random pair of a hash that is not empty: every pair as likely as any other. */
void kith_hash_random(const struct kith_hash *hash, struct kith_rng *rng, struct kith_slice *field,
                      struct kith_slice *value);

#endif
