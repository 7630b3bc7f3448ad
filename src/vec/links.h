/* How links are kept: three bytes each. A row of n links is a plane of their low halves and a plane of the
 * eight bits above; while there are slots of 2^24 and more, a row of a second region has eight bits more.
 *
 *     links      [ low 0 | low 1 | ... | low n-1 ][ high 0 | high 1 | ... | high n-1 ]     3n bytes
 *     links_top  [ top 0 | top 1 | ... | top n-1 ]                                           n bytes
 *
 * No slot is handed out whose low half is all ones: that is no link (NONE), which ends a list, and stands
 * while a link is being changed. Whoever changes one holds the element's lock, puts NONE into the low half,
 * then writes the high part, then the low half. A reader takes the low half, the high part, and the low half
 * once more; when they differ it has caught the change and drops the link.
 *
 * What is left is a place that is changed twice between two neighbouring loads, back to the same low half:
 * then a reader has a slot that nobody linked there. Nothing rests on that not happening:
 *     - links_copy gives only slots whose chunks are there; a walk's visited map covers only such. Their
 *       memory is mapped as long as the reader is pinned.
 *     - A walk takes it as one more candidate. Whether it is an element is seen before it becomes a result, a
 *       link, or a node on an upper level: by its state, and its level.
 *     - links_replace compares under the lock, repair reads under it: these see every link as it is.
 *     - Sweep may link an element again in vain; a record saved with such a link is mended as it is read. */
#ifndef KITH_VEC_LINKS_H
#define KITH_VEC_LINKS_H

#include "vec/hnsw.h"

#include <stdatomic.h>

#define LINK_LOW_NONE  0xffffu
#define LINK_WIDE_FROM (1u << 24) /* slots from here on need the third plane */

/* A row: of an element on one level. */
struct links {
    _Atomic uint16_t *low;
    _Atomic uint8_t *high;
    _Atomic uint8_t *top; /* NULL: no slot is that high yet */
    uint32_t room;
};

static inline bool slot_is_linkable(uint32_t slot)
{
    return (slot & 0xffff) != LINK_LOW_NONE;
}

/* Even, so that each row's low halves are aligned. */
static inline size_t links_row_bytes(uint32_t room)
{
    return (3 * (size_t)room + 1) & ~(size_t)1;
}

/* Under the element's lock, or when nobody changes it: the link as it is, or NONE. */
static inline uint32_t link_get(struct links links, uint32_t at)
{
    uint32_t low = atomic_load_explicit(&links.low[at], memory_order_relaxed);
    if (low == LINK_LOW_NONE)
        return KITH_HNSW_NONE;
    uint32_t high = atomic_load_explicit(&links.high[at], memory_order_relaxed);
    uint32_t top = links.top ? atomic_load_explicit(&links.top[at], memory_order_relaxed) : 0;
    return top << 24 | high << 16 | low;
}

/* As a reader takes it: NONE at the end of the list, and when it is being changed. */
static inline uint32_t link_peek(struct links links, uint32_t at)
{
    uint32_t low = atomic_load_explicit(&links.low[at], memory_order_acquire);
    uint32_t high = atomic_load_explicit(&links.high[at], memory_order_acquire);
    uint32_t top = links.top ? atomic_load_explicit(&links.top[at], memory_order_acquire) : 0;
    uint32_t again = atomic_load_explicit(&links.low[at], memory_order_relaxed);
    return low == again && low != LINK_LOW_NONE ? top << 24 | high << 16 | low : KITH_HNSW_NONE;
}

/* Under the lock, or before anyone can read the row. The element linked to is published before its link. */
static inline void link_set(struct links links, uint32_t at, uint32_t slot)
{
    if (link_get(links, at) == slot)
        return;
    atomic_store_explicit(&links.low[at], LINK_LOW_NONE, memory_order_relaxed);
    if (slot == KITH_HNSW_NONE)
        return;
    atomic_store_explicit(&links.high[at], (uint8_t)(slot >> 16), memory_order_release);
    if (links.top)
        atomic_store_explicit(&links.top[at], (uint8_t)(slot >> 24), memory_order_release);
    atomic_store_explicit(&links.low[at], (uint16_t)slot, memory_order_release);
}

/* Links in the list, as link_get sees them. */
static inline uint32_t links_count(struct links links)
{
    uint32_t count = 0;
    while (count < links.room &&
           atomic_load_explicit(&links.low[count], memory_order_relaxed) != LINK_LOW_NONE)
        count++;
    return count;
}

#endif
