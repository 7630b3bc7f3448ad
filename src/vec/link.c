/* Linking an element into the graph (Malkov & Yashunin 2018, algorithms 1 and 4). Planning is a search and
 * shares nothing; a commit locks one element at a time, for the time it takes to write its links: what to
 * keep of a full list is worked out before, and tried again should the list have changed meanwhile.
 *
 * Equal vectors: a link to an equal is worth little, and hundreds of them shut an element in. So few equals
 * are looked at while planning, a quarter of an element's links at most go to equals, and an equal never
 * stands in the way of another candidate.
 *
 * By inner products alone all would link to the longest, which have no room for links back, and nobody to the short. So
 * an element of an INNER_PRODUCT set has two kinds of links: up to a half are by squared Euclidean distance, so that
 * everything can be reached; the others are by product, which lead a query to the long ones (Morozov & Babenko,
 * "Non-metric Similarity Graphs for Maximum Inner Product Search", 2018; Liu et al., "Understanding and Improving
 * Proximity Graph based Maximum Inner Product Search", 2020, has a second, angular graph for the same reason). */
#include "vec/index.h"

#include <stdlib.h>
#include <string.h>

enum { CONNECT_TRIES = 8, SEEDS = 4 };

/* ---- choosing ---- */

/* Whether a chosen element is nearer to the candidate than the centre is. */
bool hnsw_is_shadowed(const struct kith_hnsw *h, const struct candidate *candidate, const uint32_t *chosen,
                      uint32_t count, bool by_product)
{
    struct target target = hnsw_link_target(h, candidate->slot, by_product);
    float distances[4];
    for (uint32_t i = 0; i < count; i += 4) {
        uint32_t batch = count - i < 4 ? count - i : 4;
        hnsw_distances(h, target, chosen + i, batch, distances);
        for (uint32_t k = 0; k < batch; k++)
            if (distances[k] < candidate->distance)
                return true;
    }
    return false;
}

uint32_t hnsw_choose(const struct kith_hnsw *h, const struct candidate *items, uint32_t count, uint32_t max,
                     uint32_t *out, bool by_product)
{
    uint32_t zeros = 0, zeros_max = max / 4 ? max / 4 : 1;
    /* Equals go to the end of out while choosing, where they shadow nobody. */
    uint32_t chosen = 0;
    for (uint32_t i = 0; i < count && chosen + zeros < max; i++) {
        if (is_equal(items[i].distance)) {
            if (zeros < zeros_max)
                out[max - ++zeros] = items[i].slot;
        } else if (!hnsw_is_shadowed(h, &items[i], out, chosen, by_product)) {
            out[chosen++] = items[i].slot;
        }
    }
    memmove(out + chosen, out + max - zeros, zeros * sizeof *out);
    return chosen + zeros;
}

/* Some links are by distance, the others by product. */
static bool has_halves(const struct kith_hnsw *h)
{
    return h->options.metric == KITH_HNSW_INNER_PRODUCT;
}

static int by_distance(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->distance != y->distance)
        return x->distance < y->distance ? -1 : 1;
    return (x->slot > y->slot) - (x->slot < y->slot);
}

void hnsw_sort_candidates(struct candidate *items, uint32_t count)
{
    for (uint32_t i = 1; i < count && count <= 64; i++) {
        struct candidate item = items[i];
        uint32_t at = i;
        for (; at > 0 && by_distance(&item, &items[at - 1]) < 0; at--)
            items[at] = items[at - 1];
        items[at] = item;
    }
    if (count > 64)
        qsort(items, count, sizeof *items, by_distance);
}

/* ---- committing ---- */

static bool contains(const uint32_t *list, uint32_t count, uint32_t slot)
{
    for (uint32_t i = 0; i < count; i++)
        if (list[i] == slot)
            return true;
    return false;
}

/* Of the items those that the list does not have. */
static uint32_t leave_out(struct candidate *items, uint32_t count, const uint32_t *list, uint32_t list_count)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < count; i++)
        if (!contains(list, list_count, items[i].slot))
            items[left++] = items[i];
    return left;
}

/* With SPREAD a long list costs a search nothing, so that it stays full: of s->sorted[0..max + 1), at the distances from
 * one element, the farthest goes that is shadowed, or an equal where there are too many. Those that nobody else links to
 * stay, and a `to` that is forced. */
static uint32_t drop_one(struct kith_hnsw *h, struct scratch *s, uint32_t max, uint32_t to, bool force,
                         bool by_product, uint32_t *out)
{
    uint32_t equals = 0, drop = max, spare = KITH_HNSW_NONE;
    for (uint32_t i = 0; i < max; i++)
        out[i] = s->sorted[i].slot;
    while (equals <= max && is_equal(s->sorted[equals].distance))
        equals++;
    if (equals > (max / 4 ? max / 4 : 1))
        drop = equals - 1;
    for (uint32_t i = max; drop == max && i + 1 > equals; i--) {
        uint32_t slot = s->sorted[i].slot;
        if (slot == to ? force : in_links_at(h, slot) <= 1)
            continue;
        if (spare == KITH_HNSW_NONE)
            spare = i;
        if (hnsw_is_shadowed(h, &s->sorted[i], out + equals, i - equals, by_product)) {
            spare = i;
            break;
        }
    }
    if (drop == max && spare != KITH_HNSW_NONE)
        drop = spare;
    for (uint32_t i = drop; i < max; i++)
        out[i] = s->sorted[i + 1].slot;
    return max;
}

static void sort_links(struct kith_hnsw *h, struct scratch *s, uint32_t from, uint32_t count, bool by_product)
{
    struct target target = hnsw_link_target(h, from, by_product);
    hnsw_distances(h, target, s->gathered, count, s->distances);
    for (uint32_t i = 0; i < count; i++) {
        /* Of equals the latest come first: the others had their time to be linked to by more. */
        float distance = mark_equal(&target, s->distances[i], i);
        s->sorted[i] = (struct candidate){distance, s->gathered[i]};
    }
    hnsw_sort_candidates(s->sorted, count);
}

/* The links of `from` (and `to`) cut down to what fits, `to` and those that nobody else links to kept where
 * there is room, or in any case for `to` when forced. */
static uint32_t choose_again(struct kith_hnsw *h, struct scratch *s, uint32_t from, const uint32_t *links,
                             uint32_t count, uint32_t to, unsigned level, bool force, uint32_t *out)
{
    uint32_t max = links_room(h, level);
    memcpy(s->gathered, links, count * sizeof *links);
    s->gathered[count++] = to;
    bool halves = has_halves(h);
    if (level == 0 && is_spread(h)) { /* one goes: by either rule in turn */
        bool by_product = halves && (to & 1);
        sort_links(h, s, from, count, by_product);
        return drop_one(h, s, max, to, force, by_product, out);
    }
    sort_links(h, s, from, count, false);
    uint32_t kept = hnsw_choose(h, s->sorted, count, halves ? max / 2 : max, out, false);
    if (halves) {
        sort_links(h, s, from, count, true);
        uint32_t others = leave_out(s->sorted, count, out, kept);
        kept += hnsw_choose(h, s->sorted, others, max - kept, out + kept, true);
    }
    for (uint32_t i = 0; level == 0 && i < count && kept < max; i++) {
        uint32_t slot = s->sorted[i].slot;
        if (slot != to && !contains(out, kept, slot) && in_links_at(h, slot) <= 1)
            out[kept++] = slot;
    }
    if (!force || contains(out, kept, to))
        return kept;
    uint32_t at = kept < max ? kept++ : max - 1;
    for (uint32_t i = max; kept == max && i-- > 0;) {
        if (in_links_at(h, out[i]) > 1) {
            at = i; /* the farthest that others link to, too */
            break;
        }
    }
    out[at] = to;
    return kept;
}

/* Whom nobody links to any more, since `to` took its place, is linked from there: what led to it leads on. */
static void rehome(struct kith_hnsw *h, struct scratch *s, const uint32_t *before, uint32_t before_count,
                   const uint32_t *after, uint32_t after_count, uint32_t to)
{
    for (uint32_t i = 0; i < before_count; i++)
        if (!contains(after, after_count, before[i]) && state_at(h, before[i]) == SLOT_LINKED &&
            in_links_at(h, before[i]) == 0)
            hnsw_links_append(h, s, to, before[i]);
}

void hnsw_connect(struct kith_hnsw *h, struct scratch *s, uint32_t from, uint32_t to, unsigned level,
                  bool force)
{
    uint32_t room = links_room(h, level);
    uint32_t *before = s->chosen + (KITH_HNSW_LEVEL_MAX + 1) * h->links0,
             *after = s->gathered + h->links0 + 1;
    for (int tries = 0; tries < CONNECT_TRIES; tries++) {
        uint32_t count = hnsw_links_copy(h, from, level, before), after_count;
        if (contains(before, count, to))
            return;
        if (count < room) {
            memcpy(after, before, count * sizeof *after);
            after[count] = to;
            after_count = count + 1;
        } else {
            after_count = choose_again(h, s, from, before, count, to, level, force, after);
        }
        if (hnsw_links_replace(h, s, from, level, before, count, after, after_count)) {
            if (level == 0 && count == room && contains(after, after_count, to))
                rehome(h, s, before, count, after, after_count, to);
            return;
        }
    }
}

/* ---- one element ---- */

/* Of equals, those come first that the fewest link to: they have room, and need it. */
static void prefer_lonely_equals(const struct kith_hnsw *h, struct candidate *items, uint32_t count)
{
    uint32_t equals = 0;
    for (; equals < count && is_equal(items[equals].distance); equals++) {
        uint8_t in_links = in_links_at(h, items[equals].slot);
        items[equals].distance = equal_distance((uint32_t)(UINT8_MAX - in_links));
    }
    hnsw_sort_candidates(items, equals);
}

/* Plans the links of one level from what s->pool holds; to the `have` of out come those chosen, up to `max` in all.
 * Returns how many there are. */
static uint32_t plan_level(struct kith_hnsw *h, struct scratch *s, struct target target, unsigned level,
                           uint32_t ef, uint32_t max, uint32_t *out, uint32_t have)
{
    hnsw_walk(h, s, target, level, ef / 4 + 1);
    uint32_t count = 0, removed = 0;
    for (uint32_t i = 0; i < s->pool.count; i++) {
        struct candidate item = {s->pool.items[i].distance, s->pool.items[i].slot & ~EXPANDED};
        uint8_t flags = flags_at(h, item.slot);
        enum slot_state state = (enum slot_state)(flags & FLAG_STATE);
        if (flags_level(flags) < level)
            continue;
        if (state == SLOT_LINKED || state == SLOT_LINKING)
            s->sorted[count++] = item;
        else if (state == SLOT_REMOVED && count == 0)
            s->sorted[removed++] = item; /* overwritten by the first that is live */
    }
    if (count == 0 && have == 0)
        count = removed;
    count = leave_out(s->sorted, count, out, have);
    prefer_lonely_equals(h, s->sorted, count);
    return have + hnsw_choose(h, s->sorted, count, max - have, out + have, !target.euclidean);
}

/* The next level's walk starts from the nearest that this one found. */
static void seed_next_level(const struct kith_hnsw *h, struct scratch *s, uint32_t slot)
{
    hnsw_forget_visited(h, s);
    visit(s, slot);
    s->pool.next = 0;
    if (s->pool.count > SEEDS)
        s->pool.count = SEEDS;
    for (uint32_t i = 0; i < s->pool.count; i++) {
        s->pool.items[i].slot &= ~EXPANDED;
        visit(s, s->pool.items[i].slot);
    }
}

/* Makes the slot the entry point where there is none. */
static bool become_entry(struct kith_hnsw *h, uint32_t slot)
{
    uint32_t none = KITH_HNSW_NONE;
    return atomic_compare_exchange_strong(&h->entry, &none, slot);
}

/* Makes the slot the entry point where that is lower. */
static void raise_entry(struct kith_hnsw *h, uint32_t slot, unsigned level)
{
    uint32_t entry = atomic_load(&h->entry);
    while (entry != KITH_HNSW_NONE && flags_level(flags_at(h, entry)) < level &&
           !atomic_compare_exchange_weak(&h->entry, &entry, slot))
        ;
}

static void commit(struct kith_hnsw *h, struct scratch *s, uint32_t slot, unsigned top,
                   const uint32_t *counts)
{
    /* Its own links on every level first: whoever finds it can go on from it. */
    for (unsigned level = 0; level <= top; level++)
        hnsw_links_replace(h, s, slot, level, NULL, 0, s->chosen + level * h->links0, counts[level]);
    for (unsigned level = 0; level <= top; level++)
        for (uint32_t i = 0; i < counts[level]; i++)
            hnsw_connect(h, s, s->chosen[level * h->links0 + i], slot, level, false);
    if (in_links_at(h, slot) == 0)
        hnsw_connect(h, s, s->chosen[0], slot, 0, true);
}

/* Plans the links of all levels that the element and the graph have, by one rule: to those in s->chosen, of which there
 * are counts[level], up to `max` in all of each. KITH_ENOENT: the graph is empty. */
static int plan(struct kith_hnsw *h, struct scratch *s, uint32_t slot, bool by_product, uint32_t ef,
                uint32_t max, unsigned *top, uint32_t *counts)
{
    if (hnsw_scratch_prepare(h, s, ef) != KITH_OK)
        return KITH_ENOMEM;
    unsigned own_level = flags_level(flags_at(h, slot));
    struct target target = hnsw_link_target(h, slot, by_product);
    float distance;
    uint32_t start = hnsw_descend(h, s, target, own_level, &distance, top);
    if (start == KITH_HNSW_NONE)
        return KITH_ENOENT;
    if (own_level < *top)
        *top = own_level;
    visit(s, start);
    visit(s, slot);
    hnsw_pool_insert(&s->pool, mark_equal(&target, distance, 0), start);
    for (unsigned level = *top + 1; level-- > 0;) {
        uint32_t *out = s->chosen + level * h->links0;
        counts[level] = plan_level(h, s, target, level, ef, max, out, counts[level]);
        seed_next_level(h, s, slot);
    }
    return KITH_OK;
}

int hnsw_link(struct kith_hnsw *h, struct scratch *s, uint32_t slot, uint32_t ef)
{
    unsigned top = 0;
    uint32_t counts[KITH_HNSW_LEVEL_MAX + 1] = {0}, m = h->options.m;
    ef = ef < m ? m : ef > WALK_EF_MAX ? WALK_EF_MAX : ef;
    int rc = plan(h, s, slot, false, ef, has_halves(h) ? m / 2 : m, &top, counts);
    if (rc == KITH_OK && has_halves(h))
        rc = plan(h, s, slot, true, ef, m, &top, counts);
    if (rc == KITH_ENOENT)
        return become_entry(h, slot) ? KITH_OK : KITH_EAGAIN;
    if (rc != KITH_OK)
        return rc;
    if (counts[0] == 0)
        return KITH_EAGAIN;
    commit(h, s, slot, top, counts);
    raise_entry(h, slot, flags_level(flags_at(h, slot)));
    return KITH_OK;
}

int hnsw_relink(struct kith_hnsw *h, struct scratch *s, uint32_t slot)
{
    uint32_t ef = h->options.ef_construction, *chosen = s->chosen, *merged = s->chosen + h->links0;
    if (hnsw_scratch_prepare(h, s, ef) != KITH_OK)
        return KITH_ENOMEM;
    struct target target = hnsw_link_target(h, slot, false);
    float distance;
    unsigned top;
    uint32_t start = hnsw_descend(h, s, target, 0, &distance, &top);
    if (start == KITH_HNSW_NONE || start == slot)
        return KITH_OK;
    visit(s, start);
    visit(s, slot);
    hnsw_pool_insert(&s->pool, mark_equal(&target, distance, 0), start);
    uint32_t count = plan_level(h, s, target, 0, ef, h->options.m, chosen, 0), tries = 0;
    for (bool done = !count; !done && tries < CONNECT_TRIES; tries++) {
        uint32_t before = hnsw_links_copy(h, slot, 0, merged), after = before;
        uint32_t *list = s->gathered;
        memcpy(list, merged, before * sizeof *list);
        for (uint32_t i = 0; i < count && after < h->links0; i++)
            if (!contains(list, after, chosen[i]))
                list[after++] = chosen[i];
        done = hnsw_links_replace(h, s, slot, 0, merged, before, list, after);
    }
    for (uint32_t i = 0; i < count; i++)
        hnsw_connect(h, s, chosen[i], slot, 0, i == 0);
    return KITH_OK;
}
