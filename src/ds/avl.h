/* The ordered index: a height-balanced tree (Adelson-Velsky & Landis 1962) whose nodes are blocks of up to 64
 * items. It lies under sorted sets, expiry, numeric fields and ordered scans.
 *
 * An item is a 64-bit key and a reference that the tree never looks into. Items are ordered by key, then by
 * the tie callback given at open; no two items are equal under both. Numbers become keys through the inline
 * helpers below. Balance factors are -1, 0 or +1 after every call and each block knows how many items lie
 * under it, so that rank, select, insert and remove are O(log n). No call but close takes time proportional
 * to the tree.
 *
 * One thread at a time may change a tree; any number may read it while nobody changes it. */
#ifndef KITH_DS_AVL_H
#define KITH_DS_AVL_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct kith_avl;

struct kith_avl_item {
    uint64_t key;
    void *ref; /* the caller's; may be any value, NULL too */
};

/* Orders two items of the same key: negative, 0 or positive as `a` is before, equal to or after `b`. Never
 * called with two references that are the same pointer: those are equal. It must not change the tree. */
typedef int kith_avl_order(const void *ref_a, const void *ref_b, void *arg);

/* Where an item with the sought key stands towards a place the caller has in mind: negative when the item is
 * before it, otherwise 0 or positive. Must agree with the tree's order. */
typedef int kith_avl_probe(const void *ref, void *arg);

/* A position: on an item, or at the end (after the last item). Valid until the tree changes. Plain value:
 * copy it. */
struct kith_avl_cursor {
    uint32_t block;
    uint32_t slot;
};

/* Items side by side in memory, ascending; borrowed until the tree changes. */
struct kith_avl_run {
    const uint64_t *keys;
    void *const *refs;
    size_t count;
};

/* Order-preserving keys. A double's -0 becomes +0; infinities keep their place; the caller refuses NaN first.
 */
static inline uint64_t kith_avl_key_from_double(double value)
{
    uint64_t bits;
    value += 0.0; /* -0 + 0 is +0 */
    memcpy(&bits, &value, sizeof bits);
    return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

static inline double kith_avl_key_to_double(uint64_t key)
{
    uint64_t bits = key >> 63 ? key & ~(UINT64_C(1) << 63) : ~key;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint64_t kith_avl_key_from_int64(int64_t value)
{
    return (uint64_t)value ^ UINT64_C(1) << 63;
}

static inline int64_t kith_avl_key_to_int64(uint64_t key)
{
    return (int64_t)(key ^ UINT64_C(1) << 63);
}

/* An empty tree of about 150 bytes; memory follows the items in small steps.
 *   order   breaks ties between equal keys, called with `arg`; NULL orders ties by the reference's own value
 *   fails   KITH_ENOMEM */
int kith_avl_open(struct kith_avl **out, kith_avl_order *order, void *arg);

/* Frees the tree, not what references point to; NULL is safe. Takes about 1 ms per million items: empty a
 * large tree with kith_avl_remove_range in portions first where that matters. */
void kith_avl_close(struct kith_avl *tree);

/* Items in the tree, at most 2^32 - 1. */
size_t kith_avl_count(const struct kith_avl *tree);

/* Bytes the tree has allocated, itself included. */
size_t kith_avl_memory_bytes(const struct kith_avl *tree);

/* --- Changes. Each leaves the tree as it was when it fails, and ends every cursor and run when it succeeds.
 * --- */

/* Fails with KITH_EEXIST when an equal item is there, KITH_ENOMEM, KITH_ETOOBIG (2^32 - 1 items). */
int kith_avl_insert(struct kith_avl *tree, uint64_t key, void *ref);

/* Insert as the new last item, in about constant time: builds a full tree from sorted input, as recovery
 * does. Fails with KITH_EINVAL when the item is not after the last one, otherwise as insert. */
int kith_avl_append(struct kith_avl *tree, uint64_t key, void *ref);

/* Removes the item equal to (key, ref). Fails with KITH_ENOENT only: it needs no memory. */
int kith_avl_remove(struct kith_avl *tree, uint64_t key, const void *ref);

/* Removes the item under the cursor and sets the cursor to the item after it (or the end). The cursor is not
 * at the end. */
void kith_avl_remove_at(struct kith_avl *tree, struct kith_avl_cursor *cursor);

/* Removes the items of rank [first, first + count), cut at the end of the tree, in O(log n) a block.
 * `release`, when given, is called once for each, in order, after the item has left its block; it must not
 * touch the tree. returns the number removed */
size_t kith_avl_remove_range(struct kith_avl *tree, size_t first, size_t count,
                             void (*release)(uint64_t key, void *ref, void *arg), void *arg);

/* Changes the key of the item (old_key, ref): at once where it stays between its neighbours.
 * Fails with KITH_ENOENT, KITH_EEXIST (an equal item of the new key), KITH_ENOMEM. */
int kith_avl_rekey(struct kith_avl *tree, uint64_t old_key, uint64_t new_key, void *ref);

/* The entry that (key, old_ref) refers to moved in memory: from now on the item is (key, new_ref), in the
 * same place. old_ref is compared as a pointer and never handed to the tie callback: it may be freed already.
 * Fails with KITH_ENOENT; KITH_EINVAL when the tree orders ties by the reference's own value. */
int kith_avl_replace_ref(struct kith_avl *tree, uint64_t key, const void *old_ref, void *new_ref);

/* --- Positions. --- */

/* The first item that is not before (key, ref); the first after it; the item equal to it, or the end. */
struct kith_avl_cursor kith_avl_lower_bound(const struct kith_avl *tree, uint64_t key, const void *ref);
struct kith_avl_cursor kith_avl_upper_bound(const struct kith_avl *tree, uint64_t key, const void *ref);
struct kith_avl_cursor kith_avl_find(const struct kith_avl *tree, uint64_t key, const void *ref);

/* By key alone: the first item whose key is >= key (before all ties); the first whose key is > key (after
 * them). */
struct kith_avl_cursor kith_avl_lower_bound_key(const struct kith_avl *tree, uint64_t key);
struct kith_avl_cursor kith_avl_upper_bound_key(const struct kith_avl *tree, uint64_t key);

/* The first item of this key for which probe(ref, arg) >= 0, or else the first of a greater key: a bound that
 * is not itself an entry, such as a ZRANGEBYLEX limit. */
struct kith_avl_cursor kith_avl_seek(const struct kith_avl *tree, uint64_t key, kith_avl_probe *probe,
                                     void *arg);

/* The item with `rank` items before it; the end when rank >= count. */
struct kith_avl_cursor kith_avl_select(const struct kith_avl *tree, size_t rank);
/* Items before the cursor; count at the end. */
size_t kith_avl_rank(const struct kith_avl *tree, struct kith_avl_cursor cursor);

/* The first item, or the end of an empty tree; the end. */
struct kith_avl_cursor kith_avl_first(const struct kith_avl *tree);
struct kith_avl_cursor kith_avl_end(const struct kith_avl *tree);

static inline bool kith_avl_at_end(struct kith_avl_cursor cursor)
{
    return cursor.block == UINT32_MAX;
}

/* One item on; true when the cursor then stands on an item. At the end it stays there. */
bool kith_avl_next(const struct kith_avl *tree, struct kith_avl_cursor *cursor);
/* One item back, from the end to the last item; true when the cursor then stands on an item. From the first
 * item it goes to the end and returns false, so that `while (kith_avl_prev(...))` stops. */
bool kith_avl_prev(const struct kith_avl *tree, struct kith_avl_cursor *cursor);

/* The item under the cursor, which is not at the end. */
struct kith_avl_item kith_avl_item(const struct kith_avl *tree, struct kith_avl_cursor cursor);

/* Whole stretches at a time, for scans that prefetch what references point to.
 * next_run: the items from the cursor to the end of its block; the cursor moves past them. False at the end.
 * prev_run: the items before the cursor in its block or else in the one before; the cursor moves to the first
 * of them. False when nothing is before the cursor. */
bool kith_avl_next_run(const struct kith_avl *tree, struct kith_avl_cursor *cursor, struct kith_avl_run *out);
bool kith_avl_prev_run(const struct kith_avl *tree, struct kith_avl_cursor *cursor, struct kith_avl_run *out);

/* --- For tests, fuzzers and DEBUG. --- */

struct kith_avl_stats {
    size_t item_count, block_count;
    size_t slot_count; /* item places allocated; item_count / slot_count is the fill of memory */
    unsigned height;   /* levels of blocks */
};

/* Both walk the whole tree. check returns KITH_OK, or KITH_ECORRUPT after the first breach of order, height,
 * balance, counts, links or fill, with a sentence in error (which may be NULL). */
void kith_avl_get_stats(const struct kith_avl *tree, struct kith_avl_stats *out);
int kith_avl_check(const struct kith_avl *tree, struct kith_error *error);

#endif
