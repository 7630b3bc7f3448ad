/* The ordered index: finding a place, and what happens to blocks around it. A search goes down the block
 * headers to the last block whose first item is not after the sought place, then inside that block. A full
 * block pours into a neighbour before it splits, and a thin one melts into a neighbour, so that blocks stay
 * well filled. */
#include "ds/avl_private.h"

#include <stdlib.h>

enum {
    SHARE_ROOM = 4,  /* a neighbour with this many free places takes items instead of a split */
    MELT_ITEMS = 48, /* two neighbours with no more items than this become one */
    MELT_PERIOD = 8, /* a shrinking block looks at its neighbours each time it passes a multiple of this */
};

/* A place in the order: every item is before it (negative), on it (0) or after it, see compare(). */
struct place {
    uint64_t key;
    enum { BEFORE_TIES, AFTER_TIES, AT_ITEM, AFTER_ITEM, AT_PROBE } kind;
    const void *ref;   /* AT_ITEM, AFTER_ITEM */
    const void *alias; /* a reference that stands for `ref` and must not be looked into */
    kith_avl_probe *probe;
    void *arg;
};

static struct place at_item(uint64_t key, const void *ref)
{
    return (struct place){.key = key, .kind = AT_ITEM, .ref = ref, .alias = ref};
}

/* --- Searching. --- */

static int order_refs(const struct kith_avl *tree, const void *a, const void *b)
{
    if (a == b)
        return 0;
    return tree->order ? tree->order(a, b, tree->arg) : (uintptr_t)a < (uintptr_t)b ? -1 : 1;
}

/* Where an item that has the place's key stands towards the place. */
static int compare_tie(const struct kith_avl *tree, const void *ref, const struct place *place)
{
    switch (place->kind) {
    case BEFORE_TIES:
        return 1;
    case AFTER_TIES:
        return -1;
    case AT_PROBE:
        return place->probe(ref, place->arg) < 0 ? -1 : 1;
    case AT_ITEM:
        return ref == place->alias ? 0 : order_refs(tree, ref, place->ref);
    case AFTER_ITEM:
        return order_refs(tree, ref, place->ref) <= 0 ? -1 : 1;
    }
    return 1;
}

/* The last block whose first item is before or on the place, else the first block. The tree is not empty. */
static uint32_t descend(const struct kith_avl *tree, const struct place *place)
{
    uint32_t id = tree->root, best = KITH_AVL_NIL, first = id;
    while (id != KITH_AVL_NIL) {
        const struct kith_avl_block *block = kith_avl_block(tree, id);
        bool after = block->first_key > place->key;
        if (block->first_key == place->key)
            after = compare_tie(tree, block->first_ref, place) > 0;
        first = id;
        best = after ? best : id;
        id = after ? block->left : block->right;
    }
    return best != KITH_AVL_NIL ? best : first;
}

/* How many of the ascending keys are below `key`. */
static unsigned count_below(const uint64_t *keys, unsigned count, uint64_t key)
{
    const uint64_t *base = keys;
    while (count > 1) {
        unsigned half = count / 2;
        base = base[half - 1] < key ? base + half : base;
        count -= half;
    }
    return (unsigned)(base - keys) + (count && *base < key);
}

/* Items of the block before the place; *on tells whether the next one is on it. */
static unsigned search(const struct kith_avl *tree, const struct kith_avl_block *block,
                       const struct place *place, bool *on)
{
    *on = false;
    unsigned low = count_below(block->keys, block->count, place->key);
    if (low == block->count || block->keys[low] != place->key)
        return low;
    unsigned high = block->count;
    if (place->key != UINT64_MAX)
        high = low + count_below(block->keys + low, block->count - low, place->key + 1);
    void **refs = kith_avl_block_refs(block);
    while (low < high) {
        unsigned middle = (low + high) / 2;
        int side = compare_tie(tree, refs[middle], place);
        if (side == 0) {
            *on = true;
            return middle;
        }
        if (side < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* A search inside a block that is not in the cache waits once instead of at each step. */
static void prefetch_keys(const struct kith_avl_block *block)
{
    for (unsigned i = 0; i < block->count; i += 8)
        __builtin_prefetch(block->keys + i);
}

/* The first item that is not before the place. */
static struct kith_avl_cursor locate(const struct kith_avl *tree, const struct place *place, bool *on)
{
    *on = false;
    if (tree->root == KITH_AVL_NIL)
        return kith_avl_end(tree);
    uint32_t id = descend(tree, place);
    const struct kith_avl_block *block = kith_avl_block(tree, id);
    prefetch_keys(block);
    unsigned slot = search(tree, block, place, on);
    if (slot < block->count)
        return (struct kith_avl_cursor){id, slot};
    return (struct kith_avl_cursor){kith_avl_block_next(tree, id), 0};
}

static struct kith_avl_cursor locate_any(const struct kith_avl *tree, struct place place)
{
    bool on;
    return locate(tree, &place, &on);
}

struct kith_avl_cursor kith_avl_lower_bound(const struct kith_avl *tree, uint64_t key, const void *ref)
{
    return locate_any(tree, at_item(key, ref));
}

struct kith_avl_cursor kith_avl_upper_bound(const struct kith_avl *tree, uint64_t key, const void *ref)
{
    return locate_any(tree, (struct place){.key = key, .kind = AFTER_ITEM, .ref = ref});
}

struct kith_avl_cursor kith_avl_find(const struct kith_avl *tree, uint64_t key, const void *ref)
{
    struct place place = at_item(key, ref);
    bool on;
    struct kith_avl_cursor cursor = locate(tree, &place, &on);
    return on ? cursor : kith_avl_end(tree);
}

struct kith_avl_cursor kith_avl_lower_bound_key(const struct kith_avl *tree, uint64_t key)
{
    return locate_any(tree, (struct place){.key = key, .kind = BEFORE_TIES});
}

struct kith_avl_cursor kith_avl_upper_bound_key(const struct kith_avl *tree, uint64_t key)
{
    return locate_any(tree, (struct place){.key = key, .kind = AFTER_TIES});
}

struct kith_avl_cursor kith_avl_seek(const struct kith_avl *tree, uint64_t key, kith_avl_probe *probe,
                                     void *arg)
{
    return locate_any(tree, (struct place){.key = key, .kind = AT_PROBE, .probe = probe, .arg = arg});
}

/* --- Ranks and steps. --- */

struct kith_avl_cursor kith_avl_select(const struct kith_avl *tree, size_t rank)
{
    if (rank >= kith_avl_count(tree))
        return kith_avl_end(tree);
    uint32_t id = tree->root;
    for (;;) {
        const struct kith_avl_block *block = kith_avl_block(tree, id);
        size_t left = kith_avl_total(tree, block->left);
        if (rank < left) {
            id = block->left;
        } else if (rank - left < block->count) {
            return (struct kith_avl_cursor){id, (uint32_t)(rank - left)};
        } else {
            rank -= left + block->count;
            id = block->right;
        }
    }
}

size_t kith_avl_rank(const struct kith_avl *tree, struct kith_avl_cursor cursor)
{
    if (kith_avl_at_end(cursor))
        return kith_avl_count(tree);
    uint32_t id = cursor.block;
    const struct kith_avl_block *block = kith_avl_block(tree, id);
    size_t rank = cursor.slot + (size_t)kith_avl_total(tree, block->left);
    for (uint32_t up = block->parent; up != KITH_AVL_NIL; id = up, up = block->parent) {
        block = kith_avl_block(tree, up);
        if (block->right == id)
            rank += block->count + (size_t)kith_avl_total(tree, block->left);
    }
    return rank;
}

struct kith_avl_cursor kith_avl_first(const struct kith_avl *tree)
{
    return (struct kith_avl_cursor){kith_avl_block_first(tree), 0};
}

struct kith_avl_cursor kith_avl_end(const struct kith_avl *tree)
{
    (void)tree;
    return (struct kith_avl_cursor){KITH_AVL_NIL, 0};
}

bool kith_avl_next(const struct kith_avl *tree, struct kith_avl_cursor *cursor)
{
    if (kith_avl_at_end(*cursor))
        return false;
    if (++cursor->slot < kith_avl_block(tree, cursor->block)->count)
        return true;
    *cursor = (struct kith_avl_cursor){kith_avl_block_next(tree, cursor->block), 0};
    return !kith_avl_at_end(*cursor);
}

/* To the end of the block before the cursor's block (or of the last block); false when there is none. */
static bool step_back_a_block(const struct kith_avl *tree, struct kith_avl_cursor *cursor)
{
    uint32_t id =
        kith_avl_at_end(*cursor) ? kith_avl_block_last(tree) : kith_avl_block_prev(tree, cursor->block);
    *cursor = (struct kith_avl_cursor){id, id == KITH_AVL_NIL ? 0 : kith_avl_block(tree, id)->count};
    return id != KITH_AVL_NIL;
}

bool kith_avl_prev(const struct kith_avl *tree, struct kith_avl_cursor *cursor)
{
    if (cursor->slot == 0 && !step_back_a_block(tree, cursor))
        return false;
    cursor->slot--;
    return true;
}

struct kith_avl_item kith_avl_item(const struct kith_avl *tree, struct kith_avl_cursor cursor)
{
    KITH_ASSERT(!kith_avl_at_end(cursor));
    const struct kith_avl_block *block = kith_avl_block(tree, cursor.block);
    return (struct kith_avl_item){block->keys[cursor.slot], kith_avl_block_refs(block)[cursor.slot]};
}

static struct kith_avl_run run_of(const struct kith_avl_block *block, unsigned slot, unsigned count)
{
    return (struct kith_avl_run){block->keys + slot, kith_avl_block_refs(block) + slot, count};
}

bool kith_avl_next_run(const struct kith_avl *tree, struct kith_avl_cursor *cursor, struct kith_avl_run *out)
{
    if (kith_avl_at_end(*cursor))
        return false;
    const struct kith_avl_block *block = kith_avl_block(tree, cursor->block);
    *out = run_of(block, cursor->slot, block->count - cursor->slot);
    *cursor = (struct kith_avl_cursor){kith_avl_block_next(tree, cursor->block), 0};
    return true;
}

bool kith_avl_prev_run(const struct kith_avl *tree, struct kith_avl_cursor *cursor, struct kith_avl_run *out)
{
    struct kith_avl_cursor back = *cursor;
    if (back.slot == 0 && !step_back_a_block(tree, &back))
        return false;
    *out = run_of(kith_avl_block(tree, back.block), 0, back.slot);
    *cursor = (struct kith_avl_cursor){back.block, 0};
    return true;
}

/* --- Adding. --- */

/* A new block that holds only this item, beside block `at` or as the root. */
static int add_block(struct kith_avl *tree, uint32_t at, bool after, uint64_t key, void *ref)
{
    uint32_t id;
    if (kith_avl_block_open(tree, 1, &id))
        return KITH_ENOMEM;
    kith_avl_block_put(kith_avl_block(tree, id), 0, key, ref);
    if (after)
        kith_avl_link_after(tree, at, id);
    else
        kith_avl_link_before(tree, at, id);
    return KITH_OK;
}

static unsigned free_places(const struct kith_avl *tree, uint32_t id)
{
    return id == KITH_AVL_NIL ? 0 : KITH_AVL_BLOCK_ITEMS - kith_avl_block(tree, id)->count;
}

/* Half of the room in the next block is filled from the end of the full block. */
static int pour_up(struct kith_avl *tree, uint32_t id, uint32_t next, struct kith_avl_cursor *at)
{
    struct kith_avl_block *full = kith_avl_block(tree, id), *into = kith_avl_block(tree, next);
    unsigned count = free_places(tree, next) / 2;
    if (kith_avl_block_reserve(tree, into, into->count + count + 1))
        return KITH_ENOMEM;
    kith_avl_block_shift_up(full, into, count);
    kith_avl_add_total(tree, id, -count);
    kith_avl_add_total(tree, next, count);
    if (at->slot > full->count)
        *at = (struct kith_avl_cursor){next, at->slot - full->count};
    kith_avl_block_trim(tree, full);
    return KITH_OK;
}

/* Half of the room in the block before is filled from the front of the full block. */
static int pour_down(struct kith_avl *tree, uint32_t id, uint32_t prev, struct kith_avl_cursor *at)
{
    struct kith_avl_block *full = kith_avl_block(tree, id), *into = kith_avl_block(tree, prev);
    unsigned count = free_places(tree, prev) / 2;
    if (kith_avl_block_reserve(tree, into, into->count + count + 1))
        return KITH_ENOMEM;
    kith_avl_block_shift_down(into, full, count);
    kith_avl_add_total(tree, id, -count);
    kith_avl_add_total(tree, prev, count);
    if (at->slot <= count)
        *at = (struct kith_avl_cursor){prev, into->count - count + at->slot};
    else
        at->slot -= count;
    kith_avl_block_trim(tree, full);
    return KITH_OK;
}

/* The upper half of the full block becomes a block of its own. */
static int split(struct kith_avl *tree, uint32_t id, struct kith_avl_cursor *at)
{
    enum { HALF = KITH_AVL_BLOCK_ITEMS / 2 };
    uint32_t upper;
    if (kith_avl_block_open(tree, HALF + 1, &upper))
        return KITH_ENOMEM;
    struct kith_avl_block *full = kith_avl_block(tree, id);
    kith_avl_block_shift_up(full, kith_avl_block(tree, upper), HALF);
    kith_avl_add_total(tree, id, -(uint32_t)HALF);
    kith_avl_link_after(tree, id, upper);
    if (at->slot > HALF)
        *at = (struct kith_avl_cursor){upper, at->slot - HALF};
    kith_avl_block_trim(tree, full);
    return KITH_OK;
}

/* The block under *at is full: moves items out of it, and *at to where the new item goes now. */
static int make_room(struct kith_avl *tree, struct kith_avl_cursor *at)
{
    uint32_t id = at->block;
    uint32_t next = kith_avl_block_next(tree, id), prev = kith_avl_block_prev(tree, id);
    unsigned room_up = free_places(tree, next), room_down = free_places(tree, prev);
    if (room_up >= SHARE_ROOM && room_up >= room_down)
        return pour_up(tree, id, next, at);
    if (room_down >= SHARE_ROOM)
        return pour_down(tree, id, prev, at);
    return split(tree, id, at);
}

/* Puts an item where a search said that it belongs. */
static int add_at(struct kith_avl *tree, struct kith_avl_cursor at, uint64_t key, void *ref)
{
    if (kith_avl_block(tree, at.block)->count == KITH_AVL_BLOCK_ITEMS) {
        /* Ascending and descending input leaves full blocks behind. */
        if (at.slot == KITH_AVL_BLOCK_ITEMS && kith_avl_block_next(tree, at.block) == KITH_AVL_NIL)
            return add_block(tree, at.block, true, key, ref);
        if (at.slot == 0 && kith_avl_block_prev(tree, at.block) == KITH_AVL_NIL)
            return add_block(tree, at.block, false, key, ref);
        if (make_room(tree, &at))
            return KITH_ENOMEM;
    }
    struct kith_avl_block *block = kith_avl_block(tree, at.block);
    if (kith_avl_block_reserve(tree, block, block->count + 1))
        return KITH_ENOMEM;
    kith_avl_block_put(block, at.slot, key, ref);
    kith_avl_add_total(tree, at.block, 1);
    return KITH_OK;
}

int kith_avl_insert(struct kith_avl *tree, uint64_t key, void *ref)
{
    if (tree->root == KITH_AVL_NIL)
        return add_block(tree, KITH_AVL_NIL, true, key, ref);
    struct place place = at_item(key, ref);
    uint32_t id = descend(tree, &place);
    const struct kith_avl_block *block = kith_avl_block(tree, id);
    prefetch_keys(block);
    bool on;
    unsigned slot = search(tree, block, &place, &on);
    if (on)
        return KITH_EEXIST;
    if (kith_avl_count(tree) == UINT32_MAX)
        return KITH_ETOOBIG;
    return add_at(tree, (struct kith_avl_cursor){id, slot}, key, ref);
}

int kith_avl_append(struct kith_avl *tree, uint64_t key, void *ref)
{
    uint32_t id = kith_avl_block_last(tree);
    if (id == KITH_AVL_NIL)
        return add_block(tree, KITH_AVL_NIL, true, key, ref);
    const struct kith_avl_block *block = kith_avl_block(tree, id);
    uint64_t last_key = block->keys[block->count - 1];
    if (last_key > key ||
        (last_key == key && order_refs(tree, kith_avl_block_refs(block)[block->count - 1], ref) >= 0))
        return KITH_EINVAL;
    if (kith_avl_count(tree) == UINT32_MAX)
        return KITH_ETOOBIG;
    return add_at(tree, (struct kith_avl_cursor){id, block->count}, key, ref);
}

/* --- Removing. --- */

/* Block `right`, the next after `left`, ends; its items go to the end of `left`. True when that was worth
 * while, and then block numbers have changed. */
static bool melt(struct kith_avl *tree, uint32_t left, uint32_t right)
{
    if (left == KITH_AVL_NIL || right == KITH_AVL_NIL)
        return false;
    struct kith_avl_block *into = kith_avl_block(tree, left), *from = kith_avl_block(tree, right);
    unsigned count = from->count;
    if (into->count + count > MELT_ITEMS)
        return false;
    if (kith_avl_block_reserve(tree, into, into->count + count)) {
        tree->starved = true;
        return false;
    }
    kith_avl_block_shift_down(into, from, count);
    kith_avl_add_total(tree, right, -count);
    kith_avl_add_total(tree, left, count);
    kith_avl_unlink(tree, right);
    kith_avl_block_close(tree, right);
    return true;
}

/* Takes items out of a block. Block numbers may change. */
static void take_out(struct kith_avl *tree, uint32_t id, unsigned slot, unsigned count)
{
    struct kith_avl_block *block = kith_avl_block(tree, id);
    unsigned before = block->count;
    kith_avl_block_cut(block, slot, count);
    kith_avl_add_total(tree, id, -count);
    if (block->count == 0) {
        kith_avl_unlink(tree, id);
        kith_avl_block_close(tree, id);
        return;
    }
    kith_avl_block_trim(tree, block);
    if (before / MELT_PERIOD == block->count / MELT_PERIOD || block->count >= MELT_ITEMS)
        return;
    if (!melt(tree, kith_avl_block_prev(tree, id), id))
        melt(tree, id, kith_avl_block_next(tree, id));
}

int kith_avl_remove(struct kith_avl *tree, uint64_t key, const void *ref)
{
    struct kith_avl_cursor cursor = kith_avl_find(tree, key, ref);
    if (kith_avl_at_end(cursor))
        return KITH_ENOENT;
    take_out(tree, cursor.block, cursor.slot, 1);
    return KITH_OK;
}

void kith_avl_remove_at(struct kith_avl *tree, struct kith_avl_cursor *cursor)
{
    KITH_ASSERT(!kith_avl_at_end(*cursor));
    size_t rank = kith_avl_rank(tree, *cursor);
    take_out(tree, cursor->block, cursor->slot, 1);
    *cursor = kith_avl_select(tree, rank);
}

size_t kith_avl_remove_range(struct kith_avl *tree, size_t first, size_t count,
                             void (*release)(uint64_t key, void *ref, void *arg), void *arg)
{
    size_t removed = 0;
    while (removed < count) {
        struct kith_avl_cursor cursor = kith_avl_select(tree, first);
        if (kith_avl_at_end(cursor))
            break;
        const struct kith_avl_block *block = kith_avl_block(tree, cursor.block);
        unsigned here = block->count - cursor.slot;
        if (here > count - removed)
            here = (unsigned)(count - removed);
        uint64_t keys[KITH_AVL_BLOCK_ITEMS];
        void *refs[KITH_AVL_BLOCK_ITEMS];
        memcpy(keys, block->keys + cursor.slot, here * sizeof *keys);
        memcpy(refs, kith_avl_block_refs(block) + cursor.slot, here * sizeof *refs);
        take_out(tree, cursor.block, cursor.slot, here);
        for (unsigned i = 0; release && i < here; i++)
            release(keys[i], refs[i], arg);
        removed += here;
    }
    return removed;
}

/* --- Changing an item. --- */

/* The item becomes (key, ref) in the same place. */
static void rewrite(struct kith_avl *tree, struct kith_avl_cursor at, uint64_t key, void *ref)
{
    struct kith_avl_block *block = kith_avl_block(tree, at.block);
    block->keys[at.slot] = key;
    kith_avl_block_refs(block)[at.slot] = ref;
    if (at.slot == 0) {
        block->first_key = key;
        block->first_ref = ref;
    }
}

/* Whether (key, ref) may stand between the two neighbours of the item under the cursor. */
static bool fits(const struct kith_avl *tree, struct kith_avl_cursor at, uint64_t key, const void *ref)
{
    struct kith_avl_cursor next = at, prev = at;
    if (kith_avl_prev(tree, &prev)) {
        struct kith_avl_item item = kith_avl_item(tree, prev);
        if (item.key > key || (item.key == key && order_refs(tree, item.ref, ref) >= 0))
            return false;
    }
    if (kith_avl_next(tree, &next)) {
        struct kith_avl_item item = kith_avl_item(tree, next);
        if (item.key < key || (item.key == key && order_refs(tree, item.ref, ref) <= 0))
            return false;
    }
    return true;
}

int kith_avl_rekey(struct kith_avl *tree, uint64_t old_key, uint64_t new_key, void *ref)
{
    struct kith_avl_cursor cursor = kith_avl_find(tree, old_key, ref);
    if (kith_avl_at_end(cursor))
        return KITH_ENOENT;
    if (old_key == new_key)
        return KITH_OK;
    if (fits(tree, cursor, new_key, ref)) {
        rewrite(tree, cursor, new_key, ref);
        return KITH_OK;
    }
    int status = kith_avl_insert(tree, new_key, ref);
    if (status)
        return status;
    status = kith_avl_remove(tree, old_key, ref);
    KITH_ASSERT(status == KITH_OK);
    return KITH_OK;
}

int kith_avl_replace_ref(struct kith_avl *tree, uint64_t key, const void *old_ref, void *new_ref)
{
    if (!tree->order)
        return KITH_EINVAL;
    struct place place = {.key = key, .kind = AT_ITEM, .ref = new_ref, .alias = old_ref};
    bool on;
    struct kith_avl_cursor cursor = locate(tree, &place, &on);
    if (!on || kith_avl_item(tree, cursor).ref != old_ref)
        return KITH_ENOENT;
    rewrite(tree, cursor, key, new_ref);
    return KITH_OK;
}

/* --- The tree itself. --- */

int kith_avl_open(struct kith_avl **out, kith_avl_order *order, void *arg)
{
    struct kith_avl *tree = calloc(1, sizeof *tree);
    if (!tree)
        return KITH_ENOMEM;
    tree->order = order;
    tree->arg = arg;
    tree->chunks = &tree->single;
    tree->chunk_room = 1;
    tree->root = KITH_AVL_NIL;
    *out = tree;
    return KITH_OK;
}

void kith_avl_close(struct kith_avl *tree)
{
    if (!tree)
        return;
    kith_avl_arena_fini(tree);
    free(tree);
}

size_t kith_avl_count(const struct kith_avl *tree)
{
    return kith_avl_total(tree, tree->root);
}

size_t kith_avl_memory_bytes(const struct kith_avl *tree)
{
    size_t directory = tree->chunks == &tree->single ? 0 : tree->chunk_room * sizeof *tree->chunks;
    return sizeof *tree + directory + tree->block_room * sizeof(struct kith_avl_block) +
           tree->slot_count * (sizeof(uint64_t) + sizeof(void *));
}
