/* A sorted set: members, each with a score, ordered by score and then by member (memcmp order).
 *
 * Small ones (limits.h) are one packed run of bytes in that order, [score, 8 bytes; varint length, member].
 * Larger ones are a table from member to entry (payload: the score) and an AVL tree (ds/avl.h) whose items
 * are (score, entry). Everything that a range command asks for is a pair of ranks: bounds by score and by
 * member become ranks first. */
#ifndef KITH_ENGINE_ZSET_H
#define KITH_ENGINE_ZSET_H

#include "base/hash.h"
#include "base/random.h"
#include "base/slice.h"

#include <stdint.h>

struct kith_zset;
struct kith_type_ops;

extern const struct kith_type_ops kith_zset_ops;

/* An empty set; NULL when there is no memory. `seed` keys the table that it may become: borrowed, and must
 * outlive the set. */
struct kith_zset *kith_zset_open(const struct kith_hash_seed *seed);
void kith_zset_close(struct kith_zset *zset); /* NULL is safe */

size_t kith_zset_count(const struct kith_zset *zset);
bool kith_zset_is_packed(const struct kith_zset *zset);

/* False when there is no such member. */
bool kith_zset_score(const struct kith_zset *zset, struct kith_slice member, double *score);

/* 1: the member is new, 0: its score was replaced, KITH_ENOMEM: nothing has changed. `score` is not NaN. */
int kith_zset_set(struct kith_zset *zset, struct kith_slice member, double score);

/* Whether the member was there. */
bool kith_zset_remove(struct kith_zset *zset, struct kith_slice member);

/* Removes ranks [first, first + count), cut at the end; returns how many. */
size_t kith_zset_remove_range(struct kith_zset *zset, size_t first, size_t count);

/* The number of members before this one; false when it is not there. */
bool kith_zset_rank(const struct kith_zset *zset, struct kith_slice member, size_t *rank);

/* Members whose score is < score (or <= score when `inclusive`): the rank of the first one beyond. */
size_t kith_zset_rank_of_score(const struct kith_zset *zset, double score, bool inclusive);

/* Among members of one common score (that of the first): how many are < bound (or <= bound when `inclusive`).
 * With mixed scores the answer is some rank, as in Redis. */
size_t kith_zset_rank_of_member(const struct kith_zset *zset, struct kith_slice bound, bool inclusive);

/* Calls `report` for ranks [first, first + count), cut at the end, ascending, or from the last of them down
 * when `reverse`. It must not change the set. */
typedef void kith_zset_fn(void *arg, struct kith_slice member, double score);
void kith_zset_range(const struct kith_zset *zset, size_t first, size_t count, bool reverse,
                     kith_zset_fn *report, void *arg);

/* The member at a rank < count: borrowed until the next change. */
void kith_zset_at(const struct kith_zset *zset, size_t rank, struct kith_slice *member, double *score);

/* One step of ZSCAN with the promise of kith_table_scan; a packed set is reported whole. Returns the next
 * cursor. */
uint64_t kith_zset_scan(const struct kith_zset *zset, uint64_t cursor, kith_zset_fn *report, void *arg);

/* Proves that table, tree and scores agree: KITH_OK or KITH_ECORRUPT. For tests. */
int kith_zset_check(const struct kith_zset *zset);

#endif
