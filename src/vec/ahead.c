/* Memory before it is needed. Who writes to a page for the first time waits until the system has found one and filled it
 * with zeros: a tenth of a millisecond for a huge page, and five where a hypervisor has to find the memory itself; a new
 * chunk begins a page in each region. Adding is done by the one thread that everybody waits for, so the pages behind its
 * last slot are made ready by those who link: one in a step, and as far ahead as it may get before it is held back
 * (tail_max), but not by more than a share of the set, which a trim gives back when nothing comes any more.
 *
 * Where nobody gets to it in time, or the system does not know how, the writer waits as ever. Chunks without huge pages
 * are left alone: a small page costs a microsecond. So are the rows of upper levels, which few elements have. */
#include "vec/index.h"

#include "base/os.h"

enum { AHEAD_SHARE = 8, HUGE_FROM = 2 << 20 };

uint32_t hnsw_ahead_slots(const struct kith_hnsw *h)
{
    uint32_t slots = kith_hnsw_slot_end(h) / AHEAD_SHARE;
    size_t bytes = h->code_stride > h->kept_bytes ? h->code_stride : h->kept_bytes;
    if (kith_hnsw_slot_end(h) * (uint64_t)bytes < HUGE_FROM)
        return 0;
    return slots < h->options.tail_max ? slots : h->options.tail_max;
}

void hnsw_ahead_reset(struct kith_hnsw *h)
{
    for (unsigned i = 0; i < SLOT_REGIONS; i++)
        atomic_store_explicit(&h->ahead.reached[i], 0, memory_order_relaxed);
    atomic_store_explicit(&h->ahead.enough, 0, memory_order_relaxed);
}

/* The memory of the row, up to the end of its page. Returns the first row that begins behind it; `from` when the row's
 * chunk is not open yet. */
static uint32_t prepare_page(const struct kith_hnsw *h, const struct region *region, uint32_t from)
{
    unsigned chunk = region_chunk_of(region->shift, from);
    uint32_t start = region_chunk_start(region->shift, chunk);
    size_t bytes = region_chunk_bytes(region, chunk);
    if (!slot_has_chunk(h, start))
        return from;
    if (bytes < HUGE_FROM)
        return start + region_chunk_units(region->shift, chunk);
    uintptr_t memory = (uintptr_t)region_at(region, start), at = (uintptr_t)region_at(region, from);
    uintptr_t until = kith_os_huge_page_end(at);
    until = until > memory + bytes ? memory + bytes : until;
    (void)kith_os_pages_prepare((void *)at, until - at);
    uint32_t next = start + (uint32_t)((until - memory + region->unit_bytes - 1) / region->unit_bytes);
    uint32_t end = start + region_chunk_units(region->shift, chunk);
    return next < end ? next : end;
}

/* The first region that lacks something gets a page. */
static void prepare_some(struct kith_hnsw *h, uint32_t end, uint32_t until)
{
    struct region *regions[SLOT_REGIONS];
    unsigned count = hnsw_slot_regions(h, regions);
    uint32_t enough = KITH_HNSW_NONE;
    bool done = false;
    for (unsigned i = 0; i < count; i++) {
        uint32_t reached = atomic_load_explicit(&h->ahead.reached[i], memory_order_relaxed);
        reached = reached < end ? end : reached;
        if (!done && reached < until) {
            uint32_t next = prepare_page(h, regions[i], reached);
            done = next != reached;
            reached = next;
            atomic_store_explicit(&h->ahead.reached[i], reached, memory_order_relaxed);
        }
        enough = reached < enough ? reached : enough;
    }
    atomic_store_explicit(&h->ahead.enough, enough, memory_order_relaxed);
}

void hnsw_ahead_prepare(struct kith_hnsw *h)
{
    uint32_t end = kith_hnsw_slot_end(h), until = end + hnsw_ahead_slots(h);
    if (until == end || atomic_load_explicit(&h->ahead.enough, memory_order_relaxed) >= until)
        return;
    if (atomic_exchange_explicit(&h->ahead.busy, true, memory_order_acquire))
        return;
    prepare_some(h, end, until);
    atomic_store_explicit(&h->ahead.busy, false, memory_order_release);
}
