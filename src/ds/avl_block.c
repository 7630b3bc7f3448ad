/* Memory of the ordered index: block headers in chunks, items in allocations of their own that follow the
 * number of items in steps of 8 places. See the drawing in avl_private.h. */
#include "ds/avl_private.h"

#include <stdlib.h>

enum {
    CAPACITY_MIN = 4,
    CAPACITY_STEP = 8,
    CAPACITY_SLACK =
        12, /* unused places before a block is trimmed: more than a step, or one item could swing it */
};

static size_t slot_bytes(size_t slots)
{
    return slots * (sizeof(uint64_t) + sizeof(void *));
}

static unsigned capacity_for(unsigned items)
{
    return items <= CAPACITY_MIN ? CAPACITY_MIN : (items + CAPACITY_STEP - 1) / CAPACITY_STEP * CAPACITY_STEP;
}

/* --- Headers. --- */

/* Up to a full chunk the only chunk doubles, so that small trees stay small; then chunks are added and none
 * moves. */
static int grow_only_chunk(struct kith_avl *tree)
{
    uint32_t room = tree->block_room ? tree->block_room * 2 : 1;
    struct kith_avl_block *chunk = realloc(tree->chunks[0], room * sizeof *chunk);
    if (!chunk)
        return KITH_ENOMEM;
    tree->chunks[0] = chunk;
    tree->chunk_count = 1;
    tree->block_room = room;
    return KITH_OK;
}

static int grow_directory(struct kith_avl *tree)
{
    bool inside = tree->chunks == &tree->single;
    uint32_t room = inside ? 8 : tree->chunk_room * 2;
    struct kith_avl_block **chunks = realloc(inside ? NULL : tree->chunks, room * sizeof *chunks);
    if (!chunks)
        return KITH_ENOMEM;
    if (inside)
        chunks[0] = tree->single;
    tree->chunks = chunks;
    tree->chunk_room = room;
    return KITH_OK;
}

static int add_chunk(struct kith_avl *tree)
{
    if (tree->chunk_count == tree->chunk_room && grow_directory(tree))
        return KITH_ENOMEM;
    struct kith_avl_block *chunk = malloc(KITH_AVL_CHUNK_BLOCKS * sizeof *chunk);
    if (!chunk)
        return KITH_ENOMEM;
    tree->chunks[tree->chunk_count++] = chunk;
    tree->block_room += KITH_AVL_CHUNK_BLOCKS;
    return KITH_OK;
}

static int reserve_header(struct kith_avl *tree)
{
    if (tree->block_count < tree->block_room)
        return KITH_OK;
    return tree->block_room < KITH_AVL_CHUNK_BLOCKS ? grow_only_chunk(tree) : add_chunk(tree);
}

/* Half a chunk stays in hand, so that a tree that swings round a boundary does not allocate each time. */
static void trim_headers(struct kith_avl *tree)
{
    if (tree->chunk_count > 1) {
        if (tree->block_room - tree->block_count >= KITH_AVL_CHUNK_BLOCKS + KITH_AVL_CHUNK_BLOCKS / 2) {
            free(tree->chunks[--tree->chunk_count]);
            tree->block_room -= KITH_AVL_CHUNK_BLOCKS;
        }
        return;
    }
    if (tree->block_room < 8 || tree->block_count > tree->block_room / 4)
        return;
    struct kith_avl_block *chunk = realloc(tree->chunks[0], tree->block_room / 2 * sizeof *chunk);
    if (!chunk)
        return; /* the larger one serves as well */
    tree->chunks[0] = chunk;
    tree->block_room /= 2;
}

void kith_avl_arena_fini(struct kith_avl *tree)
{
    for (uint32_t id = 0; id < tree->block_count; id++)
        free(kith_avl_block(tree, id)->keys);
    for (uint32_t i = 0; i < tree->chunk_count; i++)
        free(tree->chunks[i]);
    if (tree->chunks != &tree->single)
        free(tree->chunks);
}

/* --- Blocks. --- */

int kith_avl_block_open(struct kith_avl *tree, unsigned items, uint32_t *out)
{
    unsigned capacity = capacity_for(items);
    if (reserve_header(tree))
        return KITH_ENOMEM;
    uint64_t *keys = malloc(slot_bytes(capacity));
    if (!keys)
        return KITH_ENOMEM;
    *out = tree->block_count++;
    *kith_avl_block(tree, *out) = (struct kith_avl_block){.keys = keys,
                                                          .left = KITH_AVL_NIL,
                                                          .right = KITH_AVL_NIL,
                                                          .parent = KITH_AVL_NIL,
                                                          .capacity = (uint8_t)capacity};
    tree->slot_count += capacity;
    return KITH_OK;
}

/* Everything that pointed to block `from` points to `to`. */
static void renumber(struct kith_avl *tree, uint32_t from, uint32_t to)
{
    struct kith_avl_block *block = kith_avl_block(tree, to);
    *block = *kith_avl_block(tree, from);
    if (block->parent == KITH_AVL_NIL) {
        tree->root = to;
    } else {
        struct kith_avl_block *parent = kith_avl_block(tree, block->parent);
        *(parent->left == from ? &parent->left : &parent->right) = to;
    }
    if (block->left != KITH_AVL_NIL)
        kith_avl_block(tree, block->left)->parent = to;
    if (block->right != KITH_AVL_NIL)
        kith_avl_block(tree, block->right)->parent = to;
}

void kith_avl_block_close(struct kith_avl *tree, uint32_t id)
{
    struct kith_avl_block *block = kith_avl_block(tree, id);
    free(block->keys);
    tree->slot_count -= block->capacity;
    if (id != tree->block_count - 1)
        renumber(tree, tree->block_count - 1, id);
    tree->block_count--;
    trim_headers(tree);
}

static int resize(struct kith_avl *tree, struct kith_avl_block *block, unsigned capacity)
{
    uint64_t *keys = malloc(slot_bytes(capacity));
    if (!keys)
        return KITH_ENOMEM;
    memcpy(keys, block->keys, block->count * sizeof *keys);
    memcpy(keys + capacity, kith_avl_block_refs(block), block->count * sizeof *kith_avl_block_refs(block));
    free(block->keys);
    tree->slot_count += capacity;
    tree->slot_count -= block->capacity;
    block->keys = keys;
    block->capacity = (uint8_t)capacity;
    return KITH_OK;
}

int kith_avl_block_reserve(struct kith_avl *tree, struct kith_avl_block *block, unsigned items)
{
    KITH_DEBUG_ASSERT(items <= KITH_AVL_BLOCK_ITEMS);
    return items <= block->capacity ? KITH_OK : resize(tree, block, capacity_for(items));
}

void kith_avl_block_trim(struct kith_avl *tree, struct kith_avl_block *block)
{
    if (block->capacity - block->count >= CAPACITY_SLACK &&
        resize(tree, block, capacity_for(block->count + CAPACITY_MIN)))
        tree->starved = true;
}

/* --- Items. --- */

static void copy_first(struct kith_avl_block *block)
{
    block->first_key = block->keys[0];
    block->first_ref = kith_avl_block_refs(block)[0];
}

/* Opens (count > 0) or closes (count < 0) a gap before the item at `slot`. */
static void slide(struct kith_avl_block *block, unsigned slot, int count)
{
    uint64_t *keys = block->keys + slot;
    void **refs = kith_avl_block_refs(block) + slot;
    size_t tail = block->count - slot;
    memmove(keys + count, keys, tail * sizeof *keys);
    memmove(refs + count, refs, tail * sizeof *refs);
    block->count = (uint8_t)(block->count + count);
}

void kith_avl_block_put(struct kith_avl_block *block, unsigned slot, uint64_t key, void *ref)
{
    KITH_DEBUG_ASSERT(block->count < block->capacity && slot <= block->count);
    slide(block, slot, 1);
    block->keys[slot] = key;
    kith_avl_block_refs(block)[slot] = ref;
    if (slot == 0)
        copy_first(block);
}

void kith_avl_block_cut(struct kith_avl_block *block, unsigned slot, unsigned count)
{
    KITH_DEBUG_ASSERT(slot + count <= block->count);
    slide(block, slot + count, -(int)count);
    if (slot == 0 && block->count)
        copy_first(block);
}

static void copy_items(struct kith_avl_block *to, unsigned to_slot, const struct kith_avl_block *from,
                       unsigned from_slot, unsigned count)
{
    memcpy(to->keys + to_slot, from->keys + from_slot, count * sizeof *to->keys);
    memcpy(kith_avl_block_refs(to) + to_slot, kith_avl_block_refs(from) + from_slot, count * sizeof(void *));
}

void kith_avl_block_shift_up(struct kith_avl_block *a, struct kith_avl_block *b, unsigned count)
{
    KITH_DEBUG_ASSERT(count && count <= a->count && b->count + count <= b->capacity);
    slide(b, 0, (int)count);
    copy_items(b, 0, a, a->count - count, count);
    a->count = (uint8_t)(a->count - count);
    copy_first(b);
}

void kith_avl_block_shift_down(struct kith_avl_block *a, struct kith_avl_block *b, unsigned count)
{
    KITH_DEBUG_ASSERT(a->count && count <= b->count && a->count + count <= a->capacity);
    copy_items(a, a->count, b, 0, count);
    a->count = (uint8_t)(a->count + count);
    kith_avl_block_cut(b, 0, count);
}
