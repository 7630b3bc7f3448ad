/* Inside of the ordered index, shared by src/ds/avl*.c and their tests alone.
 *
 *     tree --> chunks[] --> 1,024 blocks of 48 bytes each: links, counts, copy of the first item
 *                                 | keys
 *                                 v
 *                           [ key 0 .. key n-1, room | ref 0 .. ref n-1, room ]    one allocation, 4 to 64
 * places
 *
 * A descent reads block headers only (1 M items have about 1 MB of them); the search inside a block reads
 * keys only. The allocation behind a block grows in steps of 8 places, so that memory is nearly full even
 * where blocks are not.
 *
 * Block numbers are dense: freeing one moves the last block into the hole. There is no free list, memory goes
 * back as soon as a chunk's worth is unused, and a block number, like a block pointer, is good until the next
 * block is opened or closed. */
#ifndef KITH_DS_AVL_PRIVATE_H
#define KITH_DS_AVL_PRIVATE_H

#include "base/assert.h"
#include "ds/avl.h"

#define KITH_AVL_NIL UINT32_MAX

enum {
    KITH_AVL_BLOCK_ITEMS = 64,
    KITH_AVL_CHUNK_SHIFT = 10,
    KITH_AVL_CHUNK_BLOCKS = 1 << KITH_AVL_CHUNK_SHIFT,
};

struct kith_avl_block {
    uint64_t first_key; /* copies of item 0: what a descent compares with */
    void *first_ref;
    uint64_t *keys; /* owned; the references follow the `capacity` keys */
    uint32_t left, right, parent;
    uint32_t total; /* items in this block and all below it */
    uint8_t count, capacity;
    int8_t balance; /* height of right minus height of left */
};
static_assert(sizeof(void *) != 8 || sizeof(struct kith_avl_block) == 48,
              "a header is three quarters of a line");

struct kith_avl {
    kith_avl_order *order;
    void *arg;
    struct kith_avl_block **chunks; /* &single as long as one chunk is enough */
    struct kith_avl_block *single;
    uint32_t chunk_count, chunk_room;
    uint32_t block_count, block_room;
    uint32_t root;
    bool starved; /* an allocation that would only have saved memory failed: fill is no longer promised */
    uint64_t slot_count; /* sum of all capacities */
};

static inline struct kith_avl_block *kith_avl_block(const struct kith_avl *tree, uint32_t id)
{
    KITH_DEBUG_ASSERT(id < tree->block_count);
    return &tree->chunks[id >> KITH_AVL_CHUNK_SHIFT][id & (KITH_AVL_CHUNK_BLOCKS - 1)];
}

static inline void **kith_avl_block_refs(const struct kith_avl_block *block)
{
    return (void **)(block->keys + block->capacity);
}

static inline uint32_t kith_avl_total(const struct kith_avl *tree, uint32_t id)
{
    return id == KITH_AVL_NIL ? 0 : kith_avl_block(tree, id)->total;
}

/* --- avl_block.c: memory of blocks, items within and between them. --- */

void kith_avl_arena_fini(struct kith_avl *tree);

/* A block without items and links, with room for `items`. Fails with KITH_ENOMEM. Ends block pointers. */
int kith_avl_block_open(struct kith_avl *tree, unsigned items, uint32_t *out);
/* Frees an unlinked block. The last block takes over its number. Ends block pointers and numbers. */
void kith_avl_block_close(struct kith_avl *tree, uint32_t id);

/* Room for `items` in all (at most 64). Fails with KITH_ENOMEM. */
int kith_avl_block_reserve(struct kith_avl *tree, struct kith_avl_block *block, unsigned items);
/* Gives back memory when much of it is unused. */
void kith_avl_block_trim(struct kith_avl *tree, struct kith_avl_block *block);

/* These change the block's own count, not the totals. */
void kith_avl_block_put(struct kith_avl_block *block, unsigned slot, uint64_t key, void *ref);
void kith_avl_block_cut(struct kith_avl_block *block, unsigned slot, unsigned count);
/* The last `count` items of a to the front of b, or the first of b to the end of a, which has
 * some; room is there. */
void kith_avl_block_shift_up(struct kith_avl_block *a, struct kith_avl_block *b, unsigned count);
void kith_avl_block_shift_down(struct kith_avl_block *a, struct kith_avl_block *b, unsigned count);

/* --- avl_balance.c: links between blocks. --- */

/* Adds to the totals of the block and everything above it; a negative change wraps round. */
void kith_avl_add_total(struct kith_avl *tree, uint32_t id, uint32_t change);

/* Hangs an unlinked block into the tree right after (before) the block `at`, or as the root when the tree is
 * empty; its items join the totals, and the tree is balanced again. */
void kith_avl_link_after(struct kith_avl *tree, uint32_t at, uint32_t id);
void kith_avl_link_before(struct kith_avl *tree, uint32_t at, uint32_t id);
/* Takes a block out that holds no item any more, and balances. */
void kith_avl_unlink(struct kith_avl *tree, uint32_t id);

/* In order; KITH_AVL_NIL past either end, or in an empty tree. */
uint32_t kith_avl_block_first(const struct kith_avl *tree);
uint32_t kith_avl_block_last(const struct kith_avl *tree);
uint32_t kith_avl_block_next(const struct kith_avl *tree, uint32_t id);
uint32_t kith_avl_block_prev(const struct kith_avl *tree, uint32_t id);

#endif
