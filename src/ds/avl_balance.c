/* The balanced tree of blocks: links, subtree totals and rotations (Adelson-Velsky & Landis 1962). Each block
 * stores the height of its right side minus that of its left: -1, 0 or +1. A link or unlink walks up from the
 * changed side until a height stays the same; a block that reaches -2 or +2 on the way is rotated. */
#include "ds/avl_private.h"

void kith_avl_add_total(struct kith_avl *tree, uint32_t id, uint32_t change)
{
    while (id != KITH_AVL_NIL) {
        struct kith_avl_block *block = kith_avl_block(tree, id);
        block->total += change;
        id = block->parent;
    }
}

/* --- Order. --- */

static uint32_t leftmost(const struct kith_avl *tree, uint32_t id)
{
    for (uint32_t left; (left = kith_avl_block(tree, id)->left) != KITH_AVL_NIL;)
        id = left;
    return id;
}

static uint32_t rightmost(const struct kith_avl *tree, uint32_t id)
{
    for (uint32_t right; (right = kith_avl_block(tree, id)->right) != KITH_AVL_NIL;)
        id = right;
    return id;
}

uint32_t kith_avl_block_first(const struct kith_avl *tree)
{
    return tree->root == KITH_AVL_NIL ? KITH_AVL_NIL : leftmost(tree, tree->root);
}

uint32_t kith_avl_block_last(const struct kith_avl *tree)
{
    return tree->root == KITH_AVL_NIL ? KITH_AVL_NIL : rightmost(tree, tree->root);
}

uint32_t kith_avl_block_next(const struct kith_avl *tree, uint32_t id)
{
    const struct kith_avl_block *block = kith_avl_block(tree, id);
    if (block->right != KITH_AVL_NIL)
        return leftmost(tree, block->right);
    uint32_t up = block->parent;
    while (up != KITH_AVL_NIL && kith_avl_block(tree, up)->right == id) {
        id = up;
        up = kith_avl_block(tree, id)->parent;
    }
    return up;
}

uint32_t kith_avl_block_prev(const struct kith_avl *tree, uint32_t id)
{
    const struct kith_avl_block *block = kith_avl_block(tree, id);
    if (block->left != KITH_AVL_NIL)
        return rightmost(tree, block->left);
    uint32_t up = block->parent;
    while (up != KITH_AVL_NIL && kith_avl_block(tree, up)->left == id) {
        id = up;
        up = kith_avl_block(tree, id)->parent;
    }
    return up;
}

/* --- Rotations. --- */

/* Where `was` hung, under `parent` or as the root, `now` (which may be nobody) hangs. */
static void replace_child(struct kith_avl *tree, uint32_t parent, uint32_t was, uint32_t now)
{
    if (parent == KITH_AVL_NIL) {
        tree->root = now;
    } else {
        struct kith_avl_block *block = kith_avl_block(tree, parent);
        *(block->left == was ? &block->left : &block->right) = now;
    }
    if (now != KITH_AVL_NIL)
        kith_avl_block(tree, now)->parent = parent;
}

static void sum_total(const struct kith_avl *tree, struct kith_avl_block *block)
{
    block->total = block->count + kith_avl_total(tree, block->left) + kith_avl_total(tree, block->right);
}

/*     x              z
 *    / \            / \
 *   a   z    ->    x   c
 *      / \        / \
 *     b   c      a   b       balances are the caller's */
static void rotate_left(struct kith_avl *tree, uint32_t x)
{
    struct kith_avl_block *upper = kith_avl_block(tree, x);
    uint32_t z = upper->right;
    struct kith_avl_block *lower = kith_avl_block(tree, z);
    replace_child(tree, upper->parent, x, z);
    upper->right = lower->left;
    if (upper->right != KITH_AVL_NIL)
        kith_avl_block(tree, upper->right)->parent = x;
    lower->left = x;
    upper->parent = z;
    lower->total = upper->total;
    sum_total(tree, upper);
}

static void rotate_right(struct kith_avl *tree, uint32_t x)
{
    struct kith_avl_block *upper = kith_avl_block(tree, x);
    uint32_t z = upper->left;
    struct kith_avl_block *lower = kith_avl_block(tree, z);
    replace_child(tree, upper->parent, x, z);
    upper->left = lower->right;
    if (upper->left != KITH_AVL_NIL)
        kith_avl_block(tree, upper->left)->parent = x;
    lower->right = x;
    upper->parent = z;
    lower->total = upper->total;
    sum_total(tree, upper);
}

/* x is two levels deeper on its right. Returns the block that takes its place. */
static uint32_t mend_right_heavy(struct kith_avl *tree, uint32_t x)
{
    struct kith_avl_block *upper = kith_avl_block(tree, x);
    uint32_t z = upper->right;
    struct kith_avl_block *lower = kith_avl_block(tree, z);
    if (lower->balance >= 0) { /* RR */
        rotate_left(tree, x);
        upper->balance = lower->balance == 0 ? 1 : 0;
        lower->balance = (int8_t)-upper->balance;
        return z;
    }
    uint32_t y = lower->left; /* RL */
    struct kith_avl_block *middle = kith_avl_block(tree, y);
    rotate_right(tree, z);
    rotate_left(tree, x);
    upper->balance = middle->balance > 0 ? -1 : 0;
    lower->balance = middle->balance < 0 ? 1 : 0;
    middle->balance = 0;
    return y;
}

static uint32_t mend_left_heavy(struct kith_avl *tree, uint32_t x)
{
    struct kith_avl_block *upper = kith_avl_block(tree, x);
    uint32_t z = upper->left;
    struct kith_avl_block *lower = kith_avl_block(tree, z);
    if (lower->balance <= 0) { /* LL */
        rotate_right(tree, x);
        upper->balance = lower->balance == 0 ? -1 : 0;
        lower->balance = (int8_t)-upper->balance;
        return z;
    }
    uint32_t y = lower->right; /* LR */
    struct kith_avl_block *middle = kith_avl_block(tree, y);
    rotate_left(tree, z);
    rotate_right(tree, x);
    upper->balance = middle->balance < 0 ? 1 : 0;
    lower->balance = middle->balance > 0 ? -1 : 0;
    middle->balance = 0;
    return y;
}

static uint32_t mend(struct kith_avl *tree, uint32_t x)
{
    return kith_avl_block(tree, x)->balance > 0 ? mend_right_heavy(tree, x) : mend_left_heavy(tree, x);
}

/* --- Changes. --- */

/* The subtree `id` has become one level deeper. */
static void retrace_growth(struct kith_avl *tree, uint32_t id)
{
    for (uint32_t up; (up = kith_avl_block(tree, id)->parent) != KITH_AVL_NIL; id = up) {
        struct kith_avl_block *block = kith_avl_block(tree, up);
        block->balance = (int8_t)(block->balance + (block->right == id ? 1 : -1));
        if (block->balance == 0)
            return; /* the shallower side caught up */
        if (block->balance == 2 || block->balance == -2) {
            mend(tree, up); /* after growth a rotation always gives the old height back */
            return;
        }
    }
}

/* One side of `up` has become one level shallower. */
static void retrace_shrink(struct kith_avl *tree, uint32_t up, bool right_side)
{
    while (up != KITH_AVL_NIL) {
        struct kith_avl_block *block = kith_avl_block(tree, up);
        block->balance = (int8_t)(block->balance + (right_side ? -1 : 1));
        if (block->balance == 1 || block->balance == -1)
            return; /* the other side keeps the height */
        if (block->balance != 0) {
            up = mend(tree, up);
            block = kith_avl_block(tree, up);
            if (block->balance != 0)
                return; /* the child was even: the rotation kept the height */
        }
        uint32_t id = up;
        up = block->parent;
        right_side = up != KITH_AVL_NIL && kith_avl_block(tree, up)->right == id;
    }
}

static void hang(struct kith_avl *tree, uint32_t parent, bool right_side, uint32_t id)
{
    struct kith_avl_block *block = kith_avl_block(tree, id), *above = kith_avl_block(tree, parent);
    block->parent = parent;
    block->total = block->count;
    *(right_side ? &above->right : &above->left) = id;
    kith_avl_add_total(tree, parent, block->count);
    retrace_growth(tree, id);
}

static bool hang_as_root(struct kith_avl *tree, uint32_t id)
{
    struct kith_avl_block *block = kith_avl_block(tree, id);
    if (tree->root != KITH_AVL_NIL)
        return false;
    block->total = block->count;
    tree->root = id;
    return true;
}

void kith_avl_link_after(struct kith_avl *tree, uint32_t at, uint32_t id)
{
    if (hang_as_root(tree, id))
        return;
    uint32_t right = kith_avl_block(tree, at)->right;
    if (right == KITH_AVL_NIL)
        hang(tree, at, true, id);
    else
        hang(tree, leftmost(tree, right), false, id);
}

void kith_avl_link_before(struct kith_avl *tree, uint32_t at, uint32_t id)
{
    if (hang_as_root(tree, id))
        return;
    uint32_t left = kith_avl_block(tree, at)->left;
    if (left == KITH_AVL_NIL)
        hang(tree, at, false, id);
    else
        hang(tree, rightmost(tree, left), true, id);
}

/* A block with at most one child: the child moves up. */
static void unlink_simple(struct kith_avl *tree, uint32_t id)
{
    struct kith_avl_block *block = kith_avl_block(tree, id);
    uint32_t parent = block->parent;
    bool right_side = parent != KITH_AVL_NIL && kith_avl_block(tree, parent)->right == id;
    replace_child(tree, parent, id, block->left != KITH_AVL_NIL ? block->left : block->right);
    retrace_shrink(tree, parent, right_side);
}

/* A block with two children: the next block in order, which has no left child, takes its place. */
static void unlink_inner(struct kith_avl *tree, uint32_t id)
{
    struct kith_avl_block *block = kith_avl_block(tree, id);
    uint32_t heir = leftmost(tree, block->right);
    struct kith_avl_block *taking = kith_avl_block(tree, heir);
    uint32_t shrunk = taking->parent;
    bool right_side = shrunk == id;
    if (right_side) {
        shrunk = heir;
    } else {
        for (uint32_t up = shrunk; up != id; up = kith_avl_block(tree, up)->parent)
            kith_avl_block(tree, up)->total -= taking->count;
        replace_child(tree, shrunk, heir, taking->right);
        taking->right = block->right;
        kith_avl_block(tree, taking->right)->parent = heir;
    }
    taking->left = block->left;
    kith_avl_block(tree, taking->left)->parent = heir;
    taking->balance = block->balance;
    taking->total = block->total;
    replace_child(tree, block->parent, id, heir);
    retrace_shrink(tree, shrunk, right_side);
}

void kith_avl_unlink(struct kith_avl *tree, uint32_t id)
{
    struct kith_avl_block *block = kith_avl_block(tree, id);
    KITH_ASSERT(block->count == 0);
    if (block->left == KITH_AVL_NIL || block->right == KITH_AVL_NIL)
        unlink_simple(tree, id);
    else
        unlink_inner(tree, id);
    block->left = block->right = block->parent = KITH_AVL_NIL;
}
