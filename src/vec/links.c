/* Reading and changing rows of links: see links.h. */
#include "vec/index.h"
#include "vec/spread.h"

#include <sched.h>

enum { SPINS_BEFORE_YIELD = 64 };

void hnsw_element_lock(const struct kith_hnsw *h, uint32_t slot)
{
    _Atomic uint8_t *flags = &marks_at(h, slot)->flags;
    for (unsigned spins = 0; atomic_fetch_or_explicit(flags, FLAG_LOCK, memory_order_acquire) & FLAG_LOCK;)
        if (++spins % SPINS_BEFORE_YIELD == 0)
            sched_yield();
}

void hnsw_in_links_add(struct kith_hnsw *h, uint32_t slot, int change)
{
    _Atomic uint8_t *in_links = &marks_at(h, slot)->in_links;
    uint8_t count = atomic_load_explicit(in_links, memory_order_relaxed);
    do {
        if (count == UINT8_MAX || (change < 0 && count == 0))
            return;
    } while (!atomic_compare_exchange_weak_explicit(in_links, &count, (uint8_t)(count + change),
                                                    memory_order_relaxed, memory_order_relaxed));
}

/* ---- reading ---- */

bool hnsw_links_find(const struct kith_hnsw *h, uint32_t slot, unsigned level, struct links *links)
{
    if (!slot_has_chunk(h, slot))
        return false;
    if (level) {
        uint8_t flags = flags_at(h, slot);
        if ((flags & FLAG_STATE) == SLOT_FREE || flags_level(flags) < level)
            return false;
        /* The slot may be given back, and its row number be another's, meanwhile. */
        uint32_t row = atomic_load_explicit(&element_at(h, slot)->upper, memory_order_relaxed) + level - 1;
        uint32_t open = atomic_load_explicit(&h->upper_chunks, memory_order_acquire);
        if (!(open >> region_chunk_of(h->upper.shift, row) & 1))
            return false;
        *links = links_row(h, &h->upper, &h->upper_top, row, h->links_upper);
    } else {
        *links = links_row(h, &h->links, &h->links_top, slot, h->links0);
    }
    return true;
}

uint32_t hnsw_links_copy(const struct kith_hnsw *h, uint32_t slot, unsigned level, uint32_t *out)
{
    struct links links;
    uint32_t count = 0;
    if (!hnsw_links_find(h, slot, level, &links))
        return 0;
    for (uint32_t i = 0; i < links.room; i++) {
        uint32_t link = link_peek(links, i);
        if (link == KITH_HNSW_NONE)
            break;
        if (slot_has_chunk(h, link))
            out[count++] = link;
    }
    return count;
}

uint32_t hnsw_links_copy_locked(const struct kith_hnsw *h, uint32_t slot, unsigned level, uint32_t *out)
{
    struct links links = links_at(h, slot, level);
    uint32_t count = 0;
    hnsw_element_lock(h, slot);
    for (; count < links.room && (out[count] = link_get(links, count)) != KITH_HNSW_NONE; count++)
        ;
    hnsw_element_unlock(h, slot);
    return count;
}

/* ---- changing ---- */

static bool contains(const uint32_t *list, uint32_t count, uint32_t slot)
{
    for (uint32_t i = 0; i < count; i++)
        if (list[i] == slot)
            return true;
    return false;
}

static bool links_are(struct links links, const uint32_t *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (link_get(links, i) != list[i])
            return false;
    return count == links.room || link_get(links, count) == KITH_HNSW_NONE;
}

/* What stays keeps its place, and with it its lane in the element's row; the others fill the places that are left. */
static void links_write_spread(struct kith_hnsw *h, struct scratch *s, uint32_t slot, const uint32_t *before,
                               uint32_t before_count, const uint32_t *after, uint32_t after_count)
{
    struct links links = links_at(h, slot, 0);
    uint32_t stay = before_count < after_count ? before_count : after_count, next = 0;
    bool begun = false;
    for (uint32_t i = 0; i < after_count; i++) {
        if (i < stay && contains(after, after_count, before[i]))
            continue;
        while (contains(before, stay, after[next]))
            next++;
        if (!begun)
            hnsw_spread_begin(h, s, slot);
        begun = true;
        hnsw_spread_write(h, s, slot, i, after[next]);
        link_set(links, i, after[next++]);
    }
    for (uint32_t i = after_count; i < before_count; i++) {
        link_set(links, i, KITH_HNSW_NONE);
        hnsw_spread_clear(h, slot, i);
    }
}

bool hnsw_links_replace(struct kith_hnsw *h, struct scratch *s, uint32_t slot, unsigned level,
                        const uint32_t *before, uint32_t before_count, const uint32_t *after,
                        uint32_t after_count)
{
    struct links links = links_at(h, slot, level);
    hnsw_element_lock(h, slot);
    bool same = links_are(links, before, before_count);
    if (same && level == 0 && is_spread(h)) {
        links_write_spread(h, s, slot, before, before_count, after, after_count);
    } else if (same) {
        for (uint32_t i = 0; i < after_count; i++)
            link_set(links, i, after[i]);
        for (uint32_t i = after_count; i < before_count; i++)
            link_set(links, i, KITH_HNSW_NONE);
    }
    hnsw_element_unlock(h, slot);
    if (!same || level)
        return same;
    for (uint32_t i = 0; i < after_count; i++)
        if (!contains(before, before_count, after[i]))
            hnsw_in_links_add(h, after[i], 1);
    for (uint32_t i = 0; i < before_count; i++)
        if (!contains(after, after_count, before[i]))
            hnsw_in_links_add(h, before[i], -1);
    return true;
}

void hnsw_links_append(struct kith_hnsw *h, struct scratch *s, uint32_t from, uint32_t to)
{
    struct links links = links_at(h, from, 0);
    uint32_t at = 0, link = 0;
    hnsw_element_lock(h, from);
    for (; at < links.room; at++) {
        link = link_get(links, at);
        if (link == KITH_HNSW_NONE || link == to)
            break;
    }
    bool added = at < links.room && from != to && link == KITH_HNSW_NONE;
    if (added && is_spread(h)) {
        hnsw_spread_begin(h, s, from);
        hnsw_spread_write(h, s, from, at, to);
    }
    if (added)
        link_set(links, at, to);
    hnsw_element_unlock(h, from);
    if (added)
        hnsw_in_links_add(h, to, 1);
}
