/* The unlinked tail: what was added and is not in the graph yet. A ring that the writer fills and grows,
 * workers claim from, and searches scan. Entries are immutable; an entry is over when its element's state
 * says so, and the head moves past entries that are over. A slot that appears twice costs a look, nothing
 * else. */
#include "vec/index.h"

#include <stdlib.h>

enum { RING_FIRST = 16 };

static int ring_grow(struct kith_hnsw *h, uint64_t head, uint64_t end)
{
    struct tail_ring *old = atomic_load_explicit(&h->ring, memory_order_relaxed);
    uint64_t capacity = old ? 2 * (old->mask + 1) : RING_FIRST;
    if (hnsw_retire_reserve(h, 1) != KITH_OK)
        return KITH_ENOMEM;
    struct tail_ring *ring = malloc(sizeof *ring + capacity * sizeof ring->entries[0]);
    if (!ring)
        return KITH_ENOMEM;
    ring->mask = capacity - 1;
    KITH_ASSERT(old || head == end);
    for (uint64_t i = head; i < end; i++) {
        uint64_t entry = atomic_load_explicit(&old->entries[i & old->mask], memory_order_relaxed);
        atomic_init(&ring->entries[i & ring->mask], entry);
    }
    for (uint64_t i = end; i < head + capacity; i++)
        atomic_init(&ring->entries[i & ring->mask], KITH_HNSW_NONE);
    atomic_store_explicit(&h->ring, ring, memory_order_release);
    if (old)
        hnsw_retire(h, old, 0);
    return KITH_OK;
}

/* Room for one more entry: then push cannot fail. */
int hnsw_tail_reserve(struct kith_hnsw *h)
{
    struct tail_ring *ring = atomic_load_explicit(&h->ring, memory_order_relaxed);
    uint64_t end = atomic_load_explicit(&h->tail_end, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&h->tail_head, memory_order_acquire);
    return ring && end - head <= ring->mask ? KITH_OK : ring_grow(h, head, end);
}

void hnsw_tail_push(struct kith_hnsw *h, uint32_t slot, uint32_t ef)
{
    struct tail_ring *ring = atomic_load_explicit(&h->ring, memory_order_relaxed);
    uint64_t end = atomic_load_explicit(&h->tail_end, memory_order_relaxed);
    atomic_store_explicit(&ring->entries[end & ring->mask], (uint64_t)ef << 32 | slot, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->tail_count, 1, memory_order_relaxed);
    atomic_store_explicit(&h->tail_end, end + 1, memory_order_release);
}

/* The pinned reader's entry; the ring is loaded after `end`, so that it is no older. */
static uint64_t entry_at(const struct kith_hnsw *h, uint64_t position)
{
    struct tail_ring *ring = atomic_load_explicit(&h->ring, memory_order_acquire);
    return atomic_load_explicit(&ring->entries[position & ring->mask], memory_order_relaxed);
}

static bool entry_waits(const struct kith_hnsw *h, uint64_t entry)
{
    uint32_t slot = (uint32_t)entry;
    if (!slot_has_chunk(h, slot))
        return false;
    enum slot_state state = state_at(h, slot);
    return state == SLOT_TAIL || state == SLOT_LINKING;
}

uint32_t hnsw_tail_read(const struct kith_hnsw *h, uint64_t *position, uint32_t *slots, uint32_t room)
{
    uint32_t count = 0;
    uint64_t end = atomic_load_explicit(&h->tail_end, memory_order_acquire);
    for (; *position < end && count < room; ++*position) {
        uint64_t entry = entry_at(h, *position);
        if (entry_waits(h, entry))
            slots[count++] = (uint32_t)entry;
    }
    return count;
}

bool hnsw_tail_claim(struct kith_hnsw *h, uint32_t *slot, uint32_t *ef)
{
    uint64_t claim = atomic_load_explicit(&h->tail_claim, memory_order_relaxed);
    for (;;) {
        uint64_t head = atomic_load_explicit(&h->tail_head, memory_order_acquire);
        uint64_t end = atomic_load_explicit(&h->tail_end, memory_order_acquire);
        uint64_t position = claim < head ? head : claim;
        if (position >= end)
            return false;
        if (!atomic_compare_exchange_weak(&h->tail_claim, &claim, position + 1))
            continue;
        claim = position + 1;
        uint64_t entry = entry_at(h, position);
        if (!slot_has_chunk(h, (uint32_t)entry) || !state_move(h, (uint32_t)entry, SLOT_TAIL, SLOT_LINKING))
            continue;
        *slot = (uint32_t)entry;
        *ef = (uint32_t)(entry >> 32);
        return true;
    }
}

void hnsw_tail_rewind(struct kith_hnsw *h)
{
    atomic_store(&h->tail_claim, atomic_load(&h->tail_head));
}

void hnsw_tail_trim(struct kith_hnsw *h)
{
    uint64_t head = atomic_load_explicit(&h->tail_head, memory_order_acquire);
    for (;;) {
        uint64_t end = atomic_load_explicit(&h->tail_end, memory_order_acquire);
        if (head >= end || entry_waits(h, entry_at(h, head)))
            return;
        if (atomic_compare_exchange_weak(&h->tail_head, &head, head + 1))
            head++;
    }
}
