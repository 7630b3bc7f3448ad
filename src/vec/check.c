/* The walker that proves the graph, and the figures. */
#include "vec/index.h"
#include "vec/spread.h"

#include <stdlib.h>

static int bad(struct kith_error *error, const char *what, uint32_t slot, unsigned level)
{
    return kith_error_set(error, KITH_ECORRUPT, "%s (slot %u, level %u)", what, slot, level);
}

static int check_links(const struct kith_hnsw *h, uint32_t slot, unsigned level, uint32_t *list,
                       struct kith_error *error)
{
    struct links links = links_at(h, slot, level);
    uint32_t count = links_count(links), end = kith_hnsw_slot_end(h);
    for (uint32_t i = 0; i < count; i++)
        list[i] = link_get(links, i);
    for (uint32_t i = count; i < links.room; i++)
        if (link_get(links, i) != KITH_HNSW_NONE)
            return bad(error, "a link behind the end of its list", slot, level);
    for (uint32_t i = 0; i < count; i++) {
        if (list[i] >= end || !slot_has_chunk(h, list[i]))
            return bad(error, "a link to no slot", slot, level);
        uint8_t flags = flags_at(h, list[i]);
        if ((flags & FLAG_STATE) == SLOT_FREE || (flags & FLAG_STATE) == SLOT_TAIL)
            return bad(error, "a link to an element that is not in the graph", slot, level);
        if (flags_level(flags) < level)
            return bad(error, "a link to an element below the level", slot, level);
        if (list[i] == slot)
            return bad(error, "a link to itself", slot, level);
        for (uint32_t k = 0; k < i; k++)
            if (list[k] == list[i])
                return bad(error, "the same link twice", slot, level);
    }
    return KITH_OK;
}

static int check_elements(const struct kith_hnsw *h, uint32_t *list, struct kith_error *error)
{
    uint64_t live = 0, tail = 0, removed = 0;
    for (uint32_t slot = 0; slot < kith_hnsw_slot_end(h); slot++) {
        if (!slot_has_chunk(h, slot))
            continue;
        uint8_t flags = flags_at(h, slot);
        enum slot_state state = (enum slot_state)(flags & FLAG_STATE);
        if (flags & FLAG_LOCK)
            return bad(error, "an element left locked", slot, 0);
        if (state == SLOT_FREE)
            continue;
        live += state_is_live(state);
        tail += state == SLOT_TAIL || state == SLOT_LINKING;
        removed += !state_is_live(state);
        for (unsigned level = 0; level <= flags_level(flags); level++) {
            int rc = check_links(h, slot, level, list, error);
            if (rc != KITH_OK)
                return rc;
        }
    }
    if (live != atomic_load(&h->live) || tail != atomic_load(&h->tail_count) ||
        removed != atomic_load(&h->removed_count))
        return kith_error_set(error, KITH_ECORRUPT, "the counts of elements, tail or removed are wrong");
    return KITH_OK;
}

static void mark(uint8_t *seen, uint32_t *reached, uint32_t *count, uint32_t slot)
{
    if (!seen[slot])
        reached[(*count)++] = slot;
    seen[slot] = 1;
}

/* Level by level, as a search comes down. */
static int check_reachable(const struct kith_hnsw *h, uint32_t *list, uint8_t *seen, uint32_t *reached,
                           struct kith_error *error)
{
    uint32_t entry = atomic_load(&h->entry), count = 0, end = kith_hnsw_slot_end(h);
    if (entry != KITH_HNSW_NONE) {
        if (entry >= end || !slot_has_chunk(h, entry) || state_at(h, entry) == SLOT_FREE)
            return bad(error, "the entry point is not an element", entry, 0);
        mark(seen, reached, &count, entry);
        for (unsigned level = kith_hnsw_max_level(h) + 1; level-- > 0;) {
            for (uint32_t i = 0; i < count; i++) {
                if (flags_level(flags_at(h, reached[i])) < level)
                    continue;
                uint32_t links = hnsw_links_copy(h, reached[i], level, list);
                for (uint32_t k = 0; k < links; k++)
                    mark(seen, reached, &count, list[k]);
            }
        }
    }
    uint32_t lost = 0, which = 0;
    for (uint32_t slot = 0; slot < end; slot++) {
        if (!seen[slot] && slot_has_chunk(h, slot) && state_at(h, slot) == SLOT_LINKED) {
            lost++;
            which = slot;
        }
    }
    if (lost)
        return kith_error_set(error, KITH_ECORRUPT, "%u elements cannot be reached, slot %u among them", lost,
                              which);
    return KITH_OK;
}

int kith_hnsw_check(const struct kith_hnsw *h, struct kith_error *error)
{
    uint32_t end = kith_hnsw_slot_end(h);
    uint32_t *list = malloc(h->links0 * sizeof *list);
    uint32_t *reached = malloc((end + 1) * sizeof *reached);
    uint8_t *seen = calloc(end + 1, 1);
    int rc = KITH_ENOMEM;
    if (list && reached && seen) {
        rc = check_elements(h, list, error);
        if (rc == KITH_OK)
            rc = check_reachable(h, list, seen, reached, error);
        if (rc == KITH_OK && is_spread(h))
            rc = hnsw_spread_check(h, error);
    }
    free(list);
    free(reached);
    free(seen);
    return rc;
}

static double mean_degree(const struct kith_hnsw *h)
{
    uint32_t end = kith_hnsw_slot_end(h), step = end / 1000 + 1, elements = 0;
    uint64_t links = 0;
    for (uint32_t slot = 0; slot < end; slot += step) {
        if (!slot_has_chunk(h, slot) || state_at(h, slot) != SLOT_LINKED)
            continue;
        elements++;
        links += links_count(links_at(h, slot, 0));
    }
    return elements ? (double)links / elements : 0;
}

void kith_hnsw_get_stats(const struct kith_hnsw *h, struct kith_hnsw_stats *stats)
{
    uint64_t slots = hnsw_slots_ever(h);
    *stats = (struct kith_hnsw_stats){
        .elements = kith_hnsw_count(h),
        .tail = atomic_load_explicit(&h->tail_count, memory_order_relaxed),
        .deleted = atomic_load_explicit(&h->removed_count, memory_order_relaxed),
        .slots = slots,
        .code_bytes = slots * (h->code_stride + h->factors.unit_bytes),
        .kept_bytes = slots * h->rest.unit_bytes,
        .link_bytes = hnsw_links_bytes(h, slots),
        .spread_bytes = slots * h->spread.rows.unit_bytes,
        .element_bytes = slots * (h->marks.unit_bytes + h->elements.unit_bytes),
        .search_bytes = atomic_load_explicit(&h->scratch_bytes, memory_order_relaxed),
        .bytes = kith_hnsw_bytes(h),
        .mean_degree = mean_degree(h),
        .kernels = h->kernels->name,
    };
    for (unsigned i = 0; i <= KITH_HNSW_LEVEL_MAX; i++)
        stats->levels[i] = h->level_counts[i];
}
