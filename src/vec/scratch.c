/* Working memory for searches and links, lent from a list that only grows to the number of threads that were
 * ever inside at once. Taking one pins the epoch; that and one compare-and-swap are all that a search shares
 * with others. */
#include "vec/index.h"
#include "vec/spread.h"

#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

static size_t align64(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

void hnsw_scratch_count(struct kith_hnsw *h, size_t bytes)
{
    atomic_fetch_add_explicit(&h->scratch_bytes, bytes, memory_order_relaxed);
}

static struct scratch *scratch_open(struct kith_hnsw *h)
{
    struct scratch *s = aligned_alloc(64, align64(sizeof *s));
    if (!s)
        return NULL;
    memset(s, 0, sizeof *s);
    size_t unit_bytes = h->options.dim * sizeof(float);
    uint32_t chosen = (KITH_HNSW_LEVEL_MAX + 2) * h->links0;
    s->query_code = aligned_alloc(64, align64(hnsw_query_bytes(h)));
    /* The unit vector, the rotated one, and one that an element's code was made into. */
    s->query_unit = aligned_alloc(64, 3 * align64(unit_bytes));
    s->chosen = malloc(chosen * sizeof *s->chosen);
    s->gathered_room = WALK_BATCH * h->links0 + 64; /* more than GATHER_SPARE to spare */
    s->gathered = malloc(s->gathered_room * sizeof *s->gathered);
    s->distances = malloc(s->gathered_room * sizeof *s->distances);
    s->sorted_room = h->links0 + 1;
    s->sorted = malloc(s->sorted_room * sizeof *s->sorted);
    if (!s->query_code || !s->query_unit || !s->chosen || !s->gathered || !s->distances || !s->sorted ||
        (is_spread(h) && hnsw_spread_scratch_open(h, s) != KITH_OK)) {
        hnsw_scratch_close(s);
        return NULL;
    }
    s->query_rotated = s->query_unit + align64(unit_bytes) / sizeof(float);
    s->query_vector = s->query_rotated + align64(unit_bytes) / sizeof(float);
    hnsw_scratch_count(h, sizeof *s + align64(hnsw_query_bytes(h)) + 3 * align64(unit_bytes) +
                              chosen * sizeof *s->chosen + s->gathered_room * 8 +
                              s->sorted_room * sizeof *s->sorted + hnsw_spread_scratch_bytes(h));
    return s;
}

void hnsw_scratch_close(struct scratch *s)
{
    if (!s)
        return;
    free(s->visited);
    free(s->pool.items);
    free(s->found.items);
    free(s->tail.items);
    free(s->open.items);
    free(s->gathered);
    free(s->distances);
    free(s->sorted);
    free(s->chosen);
    free(s->query_code);
    free(s->query_unit);
    free(s->spread_centre);
    free(s);
}

static struct scratch *take_idle(struct kith_hnsw *h)
{
    uint32_t count = atomic_load_explicit(&h->scratch_count, memory_order_acquire);
    for (uint32_t i = 0; i < count && i < SCRATCH_MAX; i++) {
        struct scratch *s = atomic_load_explicit(&h->scratches[i], memory_order_acquire);
        bool idle = false;
        if (s && !atomic_load_explicit(&s->busy, memory_order_relaxed) &&
            atomic_compare_exchange_strong_explicit(&s->busy, &idle, true, memory_order_acq_rel,
                                                    memory_order_relaxed))
            return s;
    }
    return NULL;
}

/* Adds a new one to the list; NULL when the list is full. */
static struct scratch *take_new(struct kith_hnsw *h, bool *no_memory)
{
    if (atomic_load(&h->scratch_count) >= SCRATCH_MAX)
        return NULL;
    struct scratch *s = scratch_open(h);
    if (!s) {
        *no_memory = true;
        return NULL;
    }
    atomic_store_explicit(&s->busy, true, memory_order_relaxed);
    uint32_t index = atomic_load(&h->scratch_count);
    do {
        if (index >= SCRATCH_MAX) {
            hnsw_scratch_close(s);
            return NULL;
        }
    } while (!atomic_compare_exchange_weak(&h->scratch_count, &index, index + 1));
    atomic_store(&h->scratches[index], s);
    return s;
}

struct scratch *hnsw_scratch_take(struct kith_hnsw *h)
{
    bool no_memory = false;
    struct scratch *s;
    while (!(s = take_idle(h)) && !(s = take_new(h, &no_memory))) {
        if (no_memory)
            return NULL;
        sched_yield(); /* more threads than SCRATCH_MAX */
    }
    epoch_enter(&h->epoch, &s->pin);
    return s;
}

void hnsw_scratch_give(struct kith_hnsw *h, struct scratch *s)
{
    (void)h;
    epoch_leave(&s->pin);
    atomic_store_explicit(&s->busy, false, memory_order_release);
}

uint64_t hnsw_epoch_oldest(const struct kith_hnsw *h)
{
    uint64_t oldest = UINT64_MAX;
    epoch_fence();
    uint32_t count = atomic_load(&h->scratch_count);
    for (uint32_t i = 0; i < count; i++) {
        struct scratch *s = atomic_load(&h->scratches[i]);
        uint64_t pinned = s ? atomic_load(&s->pin.epoch) : 0;
        if (pinned && pinned < oldest)
            oldest = pinned;
    }
    return oldest;
}

int hnsw_pool_reserve(struct kith_hnsw *h, struct pool *pool, uint32_t capacity)
{
    if (capacity > pool->room) {
        struct candidate *items = realloc(pool->items, capacity * sizeof *items);
        if (!items)
            return KITH_ENOMEM;
        hnsw_scratch_count(h, (capacity - pool->room) * sizeof *items);
        pool->items = items;
        pool->room = capacity;
    }
    pool->capacity = capacity;
    pool->count = pool->next = 0;
    pool->bound = INFINITY;
    pool->stop = (struct stop){0};
    return KITH_OK;
}

static int visited_reserve(struct kith_hnsw *h, struct scratch *s)
{
    s->visited_end = atomic_load_explicit(&h->slot_end, memory_order_acquire);
    uint32_t words = s->visited_end / 64 + 1;
    if (words <= s->visited_words)
        return KITH_OK;
    uint32_t room = words + words / 4;
    uint64_t *visited = calloc(room, sizeof *visited);
    if (!visited)
        return KITH_ENOMEM;
    free(s->visited);
    hnsw_scratch_count(h, (room - s->visited_words) * sizeof *visited);
    s->visited = visited;
    s->visited_words = room;
    return KITH_OK;
}

static void visit_range(struct scratch *s, uint32_t from, uint32_t to)
{
    for (; from < to && from % 64; from++)
        visit(s, from);
    memset(s->visited + from / 64, 0xff, (to - from) / 64 * sizeof *s->visited);
    for (from += (to - from) & ~63u; from < to; from++)
        visit(s, from);
}

void hnsw_forget_visited(const struct kith_hnsw *h, struct scratch *s)
{
    if (!s->visited)
        return;
    memset(s->visited, 0, (s->visited_end / 64 + 1) * sizeof *s->visited);
    uint32_t open = atomic_load_explicit(&h->chunks, memory_order_acquire);
    for (unsigned chunk = 0; chunk < REGION_CHUNKS; chunk++) {
        uint32_t start = region_chunk_start(h->elements.shift, chunk);
        if (start >= s->visited_end)
            break;
        uint32_t units = region_chunk_units(h->elements.shift, chunk), left = s->visited_end - start;
        if (!(open >> chunk & 1))
            visit_range(s, start, start + (units < left ? units : left));
    }
}

int hnsw_scratch_prepare(struct kith_hnsw *h, struct scratch *s, uint32_t ef)
{
    if (visited_reserve(h, s) != KITH_OK || hnsw_pool_reserve(h, &s->pool, ef) != KITH_OK)
        return KITH_ENOMEM;
    if (ef > s->sorted_room) {
        struct candidate *sorted = realloc(s->sorted, ef * sizeof *sorted);
        if (!sorted)
            return KITH_ENOMEM;
        hnsw_scratch_count(h, (ef - s->sorted_room) * sizeof *sorted);
        s->sorted = sorted;
        s->sorted_room = ef;
    }
    hnsw_forget_visited(h, s);
    return KITH_OK;
}
