/* Proof of the ordered index's shape, for tests, fuzzers and DEBUG: one walk that recomputes what blocks
 * claim. */
#include "ds/avl_private.h"

struct walk {
    const struct kith_avl *tree;
    struct kith_error *error;
    bool any;                  /* `last` is set */
    struct kith_avl_item last; /* the item before, in order */
    size_t items, blocks, slots;
};

static int breach(const struct walk *walk, uint32_t id, const char *what)
{
    return kith_error_set(walk->error, KITH_ECORRUPT, "ordered index: block %u %s", id, what);
}

static bool in_order(const struct kith_avl *tree, struct kith_avl_item a, struct kith_avl_item b)
{
    if (a.key != b.key)
        return a.key < b.key;
    if (a.ref == b.ref)
        return false;
    return tree->order ? tree->order(a.ref, b.ref, tree->arg) < 0 : (uintptr_t)a.ref < (uintptr_t)b.ref;
}

static int check_items(struct walk *walk, uint32_t id)
{
    const struct kith_avl_block *block = kith_avl_block(walk->tree, id);
    void **refs = kith_avl_block_refs(block);
    if (block->count == 0 || block->count > block->capacity || block->capacity > KITH_AVL_BLOCK_ITEMS)
        return breach(walk, id, "has a count that its memory cannot have");
    if (block->first_key != block->keys[0] || block->first_ref != refs[0])
        return breach(walk, id, "has a wrong copy of its first item");
    for (unsigned i = 0; i < block->count; i++) {
        struct kith_avl_item item = {block->keys[i], refs[i]};
        if (walk->any && !in_order(walk->tree, walk->last, item))
            return breach(walk, id, "is out of order");
        walk->last = item;
        walk->any = true;
    }
    if (!walk->tree->starved && block->capacity - block->count >= 12)
        return breach(walk, id, "holds more memory than its items need");
    walk->items += block->count;
    walk->slots += block->capacity;
    walk->blocks++;
    return KITH_OK;
}

/* Returns the height of the subtree, or a negative status. Recursion is at most 1.44 log2(blocks) deep. */
static int check_subtree(struct walk *walk, uint32_t id, uint32_t parent, unsigned depth)
{
    if (id == KITH_AVL_NIL)
        return 0;
    if (id >= walk->tree->block_count)
        return breach(walk, id, "does not exist");
    const struct kith_avl_block *block = kith_avl_block(walk->tree, id);
    if (block->parent != parent || depth > 64)
        return breach(walk, id, "is not linked to its parent");
    int left = check_subtree(walk, block->left, id, depth + 1);
    if (left < 0)
        return left;
    int status = check_items(walk, id);
    if (status)
        return status;
    int right = check_subtree(walk, block->right, id, depth + 1);
    if (right < 0)
        return right;
    if (right - left != block->balance || block->balance < -1 || block->balance > 1)
        return breach(walk, id, "is out of balance");
    uint32_t below = kith_avl_total(walk->tree, block->left) + kith_avl_total(walk->tree, block->right);
    if (block->total != block->count + below)
        return breach(walk, id, "has a wrong total");
    return (left > right ? left : right) + 1;
}

int kith_avl_check(const struct kith_avl *tree, struct kith_error *error)
{
    struct walk walk = {.tree = tree, .error = error};
    int height = check_subtree(&walk, tree->root, KITH_AVL_NIL, 0);
    if (height < 0)
        return height;
    if (walk.blocks != tree->block_count)
        return kith_error_set(error, KITH_ECORRUPT, "ordered index: %zu blocks are linked, %u are open",
                              walk.blocks, tree->block_count);
    if (walk.slots != tree->slot_count || walk.items != kith_avl_count(tree))
        return kith_error_set(error, KITH_ECORRUPT, "ordered index: memory or items are counted wrongly");
    return KITH_OK;
}

static unsigned height_of(const struct kith_avl *tree, uint32_t id)
{
    unsigned height = 0;
    while (id != KITH_AVL_NIL) {
        const struct kith_avl_block *block = kith_avl_block(tree, id);
        id = block->balance < 0 ? block->left : block->right;
        height++;
    }
    return height;
}

void kith_avl_get_stats(const struct kith_avl *tree, struct kith_avl_stats *out)
{
    *out = (struct kith_avl_stats){.item_count = kith_avl_count(tree),
                                   .block_count = tree->block_count,
                                   .slot_count = tree->slot_count,
                                   .height = height_of(tree, tree->root)};
}
