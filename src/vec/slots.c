/* Slots, rows for upper levels, and memory on its way back. All of it is the writer's: other threads only
 * read what it publishes. Lower chunks are filled first, so that the last and largest empties when the index
 * shrinks. */
#include "vec/index.h"
#include "vec/spread.h"

#include <stdlib.h>
#include <string.h>

/* Of each kind in one call of reclaim: about 0.1 ms. */
enum { RECLAIM_MOST = 1024 };

/* ---- memory that searches may still read ---- */

int hnsw_retire_reserve(struct kith_hnsw *h, size_t extra)
{
    if (h->retired_count + extra <= h->retired_room)
        return KITH_OK;
    size_t room = 2 * h->retired_room + extra + 8;
    struct retired_memory *retired = realloc(h->retired, room * sizeof *retired);
    if (!retired)
        return KITH_ENOMEM;
    h->retired = retired;
    h->retired_room = room;
    return KITH_OK;
}

void hnsw_retire(struct kith_hnsw *h, void *memory, size_t bytes)
{
    KITH_ASSERT(h->retired_count < h->retired_room);
    h->retired[h->retired_count++] = (struct retired_memory){epoch_advance(&h->epoch), memory, bytes};
}

static void retired_free(struct kith_hnsw *h, uint64_t oldest)
{
    size_t kept = 0;
    for (size_t i = 0; i < h->retired_count; i++) {
        struct retired_memory *r = &h->retired[i];
        if (r->epoch >= oldest)
            h->retired[kept++] = *r;
        else if (r->bytes)
            region_free(r->memory, r->bytes);
        else
            free(r->memory);
    }
    h->retired_count = kept;
}

/* ---- chunks ---- */

static bool chunk_is_open(const struct kith_hnsw *h, unsigned chunk)
{
    return atomic_load_explicit(&h->chunks, memory_order_relaxed) >> chunk & 1;
}

unsigned hnsw_slot_regions(struct kith_hnsw *h, struct region *out[SLOT_REGIONS])
{
    out[0] = &h->codes;
    out[1] = &h->links;
    out[2] = &h->elements;
    out[3] = &h->marks;
    unsigned count = 4;
    if (h->factors.unit_bytes)
        out[count++] = &h->factors;
    if (h->rest.unit_bytes)
        out[count++] = &h->rest;
    if (is_spread(h))
        out[count++] = &h->spread.rows;
    if (atomic_load_explicit(&h->wide, memory_order_acquire))
        out[count++] = &h->links_top;
    return count;
}

/* Of each chunk of `region`, in the region beside it. What cannot be had leaves the others open: no harm. */
static int open_beside(struct region *beside, const struct region *region)
{
    for (unsigned chunk = 0; chunk < REGION_CHUNKS; chunk++)
        if (region->memory[chunk] && !beside->memory[chunk] && region_open_chunk(beside, chunk) != KITH_OK)
            return KITH_ENOMEM;
    return KITH_OK;
}

/* Zeros are right for all that is linked already; they take memory as they are written to. */
int hnsw_links_widen(struct kith_hnsw *h)
{
    if (atomic_load_explicit(&h->wide, memory_order_relaxed))
        return KITH_OK;
    if (open_beside(&h->links_top, &h->links) != KITH_OK || open_beside(&h->upper_top, &h->upper) != KITH_OK)
        return KITH_ENOMEM;
    atomic_store_explicit(&h->wide, true, memory_order_release);
    return KITH_OK;
}

static int chunk_open(struct kith_hnsw *h, unsigned chunk)
{
    struct region *regions[SLOT_REGIONS];
    unsigned count;
    if (hnsw_retire_reserve(h, 8) != KITH_OK)
        return KITH_ENOMEM;
    bool high = region_chunk_start(h->elements.shift, chunk) >= LINK_WIDE_FROM;
    if (high && hnsw_links_widen(h) != KITH_OK)
        return KITH_ENOMEM;
    count = hnsw_slot_regions(h, regions);
    for (unsigned i = 0; i < count; i++) {
        if (region_open_chunk(regions[i], chunk) == KITH_OK)
            continue;
        for (size_t bytes; i-- > 0;) {
            void *memory = region_take_chunk(regions[i], chunk, &bytes);
            region_free(memory, bytes);
        }
        return KITH_ENOMEM;
    }
    h->free_head[chunk] = KITH_HNSW_NONE;
    h->bump[chunk] = h->used[chunk] = 0;
    atomic_fetch_or_explicit(&h->chunks, 1u << chunk, memory_order_release);
    return KITH_OK;
}

/* Slots in use and free ones below the highest ever used in an open chunk. */
static void publish_slot_end(struct kith_hnsw *h)
{
    uint32_t end = 0;
    for (unsigned chunk = 0; chunk < REGION_CHUNKS; chunk++)
        if (chunk_is_open(h, chunk) && h->bump[chunk])
            end = region_chunk_start(h->elements.shift, chunk) + h->bump[chunk];
    atomic_store_explicit(&h->slot_end, end, memory_order_release);
}

/* The chunk is empty: out of sight at once, its memory after a grace period. */
static void chunk_close(struct kith_hnsw *h, unsigned chunk)
{
    struct region *regions[SLOT_REGIONS];
    unsigned count = hnsw_slot_regions(h, regions);
    if (hnsw_retire_reserve(h, count) != KITH_OK)
        return; /* kept for the next elements */
    atomic_fetch_and_explicit(&h->chunks, ~(1u << chunk), memory_order_release);
    h->bump[chunk] = 0;
    publish_slot_end(h);
    for (unsigned i = 0; i < count; i++) {
        size_t bytes;
        void *memory = region_take_chunk(regions[i], chunk, &bytes);
        hnsw_retire(h, memory, bytes);
    }
}

/* Those with nothing in them; one may have been opened for elements that never came. */
static void empty_chunks_close(struct kith_hnsw *h)
{
    for (unsigned chunk = 0; chunk < REGION_CHUNKS; chunk++)
        if (chunk_is_open(h, chunk) && h->used[chunk] == 0)
            chunk_close(h, chunk);
    hnsw_ahead_reset(h);
}

/* ---- rows for the levels above 0 ---- */

/* A free run keeps the number of the next in its first row's low halves. */
static uint32_t row_next(struct kith_hnsw *h, uint32_t row)
{
    _Atomic uint16_t *low = region_at(&h->upper, row);
    return atomic_load_explicit(&low[0], memory_order_relaxed) |
           (uint32_t)atomic_load_explicit(&low[1], memory_order_relaxed) << 16;
}

static int rows_open_chunk(struct kith_hnsw *h, unsigned chunk)
{
    if (h->upper.memory[chunk])
        return KITH_OK;
    if (atomic_load_explicit(&h->wide, memory_order_relaxed) && !h->upper_top.memory[chunk] &&
        region_open_chunk(&h->upper_top, chunk) != KITH_OK)
        return KITH_ENOMEM;
    if (region_open_chunk(&h->upper, chunk) != KITH_OK)
        return KITH_ENOMEM;
    atomic_fetch_or_explicit(&h->upper_chunks, 1u << chunk, memory_order_release);
    return KITH_OK;
}

static uint32_t rows_take(struct kith_hnsw *h, unsigned length)
{
    uint32_t row = h->upper_free[length];
    if (row != KITH_HNSW_NONE) {
        h->upper_free[length] = row_next(h, row);
        return row;
    }
    row = h->upper_bump;
    unsigned chunk = region_chunk_of(h->upper.shift, row + length - 1);
    if (chunk != region_chunk_of(h->upper.shift, row))
        row = region_chunk_start(h->upper.shift, chunk); /* a run does not span chunks */
    if (rows_open_chunk(h, chunk) != KITH_OK)
        return KITH_HNSW_NONE;
    h->upper_bump = row + length;
    return row;
}

static void rows_give(struct kith_hnsw *h, uint32_t row, unsigned length)
{
    _Atomic uint16_t *low = region_at(&h->upper, row);
    atomic_store_explicit(&low[0], (uint16_t)h->upper_free[length], memory_order_relaxed);
    atomic_store_explicit(&low[1], (uint16_t)(h->upper_free[length] >> 16), memory_order_relaxed);
    h->upper_free[length] = row;
}

/* No element is left: the rows go back, too. */
static void rows_close(struct kith_hnsw *h)
{
    if (hnsw_retire_reserve(h, 2 * REGION_CHUNKS) != KITH_OK)
        return;
    atomic_store_explicit(&h->upper_chunks, 0, memory_order_release);
    struct region *regions[] = {&h->upper, &h->upper_top};
    for (unsigned i = 0; i < 2 * REGION_CHUNKS; i++) {
        size_t bytes;
        void *memory = region_take_chunk(regions[i % 2], i / 2, &bytes);
        if (memory)
            hnsw_retire(h, memory, bytes);
    }
    h->upper_bump = 0;
    for (unsigned i = 0; i <= KITH_HNSW_LEVEL_MAX; i++)
        h->upper_free[i] = KITH_HNSW_NONE;
}

/* ---- slots ---- */

/* Empty links and a level; the state stays FREE until the caller publishes it. */
static int slot_begin(struct kith_hnsw *h, uint32_t slot, unsigned level)
{
    struct element *e = element_at(h, slot);
    uint32_t row = KITH_HNSW_NONE;
    if (level && (row = rows_take(h, level)) == KITH_HNSW_NONE)
        return KITH_ENOMEM;
    atomic_store_explicit(&e->upper, row, memory_order_relaxed);
    /* Not the slot's old one plus one: that is gone when its chunk went back meanwhile. */
    atomic_store_explicit(&e->user, h->added << USER_BITS, memory_order_relaxed);
    struct marks *marks = marks_at(h, slot);
    atomic_store_explicit(&marks->in_links, 0, memory_order_relaxed);
    atomic_store_explicit(&marks->flags, (uint8_t)(level << 4 | SLOT_FREE), memory_order_relaxed);
    for (unsigned l = 0; l <= level; l++) {
        struct links links = links_at(h, slot, l);
        for (uint32_t i = 0; i < links.room; i++)
            atomic_store_explicit(&links.low[i], LINK_LOW_NONE, memory_order_relaxed);
    }
    if (is_spread(h))
        hnsw_spread_reset(h, slot);
    h->level_counts[level]++;
    return KITH_OK;
}

/* The chunk that comes when this one is full: its memory is made ready before (ahead.c). Without memory it is opened
 * when it is needed, or not. */
static void open_next_ahead(struct kith_hnsw *h, unsigned chunk)
{
    uint32_t left = region_chunk_units(h->elements.shift, chunk) - h->bump[chunk];
    unsigned next = chunk + 1;
    if (left > hnsw_ahead_slots(h) || h->elements.shift + next > 30 || chunk_is_open(h, next))
        return;
    (void)chunk_open(h, next);
}

/* The next that was never used: of each 65,536 slots one can be nobody's (links.h). */
static uint32_t bump_of(const struct kith_hnsw *h, unsigned chunk)
{
    uint32_t bump = h->bump[chunk];
    return bump + !slot_is_linkable(region_chunk_start(h->elements.shift, chunk) + bump);
}

static int slot_take_in(struct kith_hnsw *h, unsigned chunk, unsigned level, uint32_t *slot)
{
    uint32_t start = region_chunk_start(h->elements.shift, chunk);
    bool reuse = h->free_head[chunk] != KITH_HNSW_NONE;
    uint32_t bump = bump_of(h, chunk), taken = reuse ? h->free_head[chunk] : start + bump;
    uint32_t next = reuse ? atomic_load_explicit(&element_at(h, taken)->upper, memory_order_relaxed) : 0;
    int rc = slot_begin(h, taken, level);
    if (rc != KITH_OK)
        return rc;
    if (reuse)
        h->free_head[chunk] = next;
    else
        h->bump[chunk] = bump + 1;
    h->used[chunk]++;
    if (!reuse) {
        publish_slot_end(h);
        open_next_ahead(h, chunk);
    }
    *slot = taken;
    return KITH_OK;
}

int hnsw_slot_take(struct kith_hnsw *h, unsigned level, uint32_t *slot)
{
    unsigned chunk = 0;
    for (; chunk < REGION_CHUNKS; chunk++) {
        if (!chunk_is_open(h, chunk))
            break;
        if (h->free_head[chunk] != KITH_HNSW_NONE ||
            bump_of(h, chunk) < region_chunk_units(h->elements.shift, chunk))
            return slot_take_in(h, chunk, level, slot);
    }
    if (h->elements.shift + chunk > 30)
        return KITH_ETOOBIG;
    int rc = chunk_open(h, chunk);
    if (rc == KITH_OK)
        rc = slot_take_in(h, chunk, level, slot);
    return rc;
}

/* Slots skipped on the way are put on the free list by hnsw_slots_index. */
int hnsw_slot_take_at(struct kith_hnsw *h, unsigned level, uint32_t slot)
{
    unsigned chunk = region_chunk_of(h->elements.shift, slot);
    int rc = chunk_is_open(h, chunk) ? KITH_OK : chunk_open(h, chunk);
    if (rc == KITH_OK)
        rc = slot_begin(h, slot, level);
    if (rc != KITH_OK)
        return rc;
    uint32_t offset = slot - region_chunk_start(h->elements.shift, chunk);
    if (offset >= h->bump[chunk])
        h->bump[chunk] = offset + 1;
    h->used[chunk]++;
    /* At once, so that closing an index whose restoring broke off finds every element. */
    if (slot >= kith_hnsw_slot_end(h))
        atomic_store_explicit(&h->slot_end, slot + 1, memory_order_release);
    return KITH_OK;
}

void hnsw_slots_index(struct kith_hnsw *h)
{
    for (unsigned chunk = 0; chunk < REGION_CHUNKS; chunk++) {
        if (!chunk_is_open(h, chunk))
            continue;
        uint32_t start = region_chunk_start(h->elements.shift, chunk);
        for (uint32_t i = h->bump[chunk]; i-- > 0;) {
            struct element *e = element_at(h, start + i);
            if (state_at(h, start + i) != SLOT_FREE || !slot_is_linkable(start + i))
                continue;
            atomic_store_explicit(&e->upper, h->free_head[chunk], memory_order_relaxed);
            h->free_head[chunk] = start + i;
        }
    }
    publish_slot_end(h);
}

uint64_t hnsw_user_set(struct kith_hnsw *h, uint32_t slot, uint64_t user)
{
    KITH_ASSERT(user <= USER_MASK);
    _Atomic uint64_t *word = &element_at(h, slot)->user;
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
    atomic_store_explicit(word, (old & ~USER_MASK) | user, memory_order_release);
    return old & USER_MASK;
}

void hnsw_slot_give(struct kith_hnsw *h, uint32_t slot)
{
    struct element *e = element_at(h, slot);
    unsigned chunk = region_chunk_of(h->elements.shift, slot);
    unsigned level = flags_level(flags_at(h, slot));
    if (level)
        rows_give(h, atomic_load_explicit(&e->upper, memory_order_relaxed), level);
    h->level_counts[level]--;
    atomic_store_explicit(&marks_at(h, slot)->flags, SLOT_FREE, memory_order_release);
    atomic_store_explicit(&e->upper, h->free_head[chunk], memory_order_relaxed);
    h->free_head[chunk] = slot;
    if (--h->used[chunk] == 0)
        empty_chunks_close(h);
    if (atomic_load_explicit(&h->chunks, memory_order_relaxed) == 0)
        rows_close(h);
}

/* ---- giving back ---- */

/* Returns how many of `most` it did. */
static uint32_t users_release(struct kith_hnsw *h, uint64_t oldest, uint32_t most)
{
    uint32_t done = 0;
    for (; done < most && h->users_count && h->users[h->users_first].epoch < oldest; done++) {
        uint64_t user = h->users[h->users_first].user;
        h->users_first++;
        h->users_count--;
        if (h->options.release)
            h->options.release(h->options.release_context, user);
    }
    if (!h->users_count) {
        free(h->users);
        h->users = NULL;
        h->users_first = h->users_room = 0;
    }
    return done;
}

int hnsw_user_reserve(struct kith_hnsw *h)
{
    if (h->users_first + h->users_count < h->users_room)
        return KITH_OK;
    if (h->users_first > h->users_count) {
        memmove(h->users, h->users + h->users_first, h->users_count * sizeof *h->users);
        h->users_first = 0;
        return KITH_OK;
    }
    size_t room = 2 * h->users_room + 16;
    struct removed_user *users = realloc(h->users, room * sizeof *users);
    if (!users)
        return KITH_ENOMEM;
    h->users = users;
    h->users_room = room;
    return KITH_OK;
}

void hnsw_user_retire(struct kith_hnsw *h, uint64_t user)
{
    KITH_ASSERT(h->users_first + h->users_count < h->users_room);
    h->users[h->users_first + h->users_count++] = (struct removed_user){epoch_advance(&h->epoch), user};
}

/* A batch that nobody can hold any more: the one begun, or the next. */
static struct dead_batch *dead_get(struct kith_hnsw *h, uint64_t oldest)
{
    if (h->freeing)
        return h->freeing;
    pthread_mutex_lock(&h->repair.lock);
    struct dead_batch **link = &h->repair.dead;
    while (*link && (*link)->epoch >= oldest)
        link = &(*link)->next;
    h->freeing = *link;
    if (h->freeing)
        *link = h->freeing->next;
    pthread_mutex_unlock(&h->repair.lock);
    return h->freeing;
}

static uint32_t dead_free(struct kith_hnsw *h, uint64_t oldest, uint32_t most)
{
    uint32_t done = 0;
    for (struct dead_batch *batch; done < most && (batch = dead_get(h, oldest)) != NULL;) {
        for (; done < most && batch->count; done++)
            hnsw_slot_give(h, batch->slots[--batch->count]);
        if (batch->count == 0) {
            free(batch);
            h->freeing = NULL;
        }
    }
    atomic_fetch_sub_explicit(&h->removed_count, done, memory_order_relaxed);
    return done;
}

bool kith_hnsw_reclaim(struct kith_hnsw *h)
{
    uint64_t oldest = hnsw_epoch_oldest(h);
    uint32_t users = users_release(h, oldest, RECLAIM_MOST);
    uint32_t slots = dead_free(h, oldest, RECLAIM_MOST);
    hnsw_tail_trim(h);
    hnsw_repair_trim(h);
    retired_free(h, oldest);
    return users == RECLAIM_MOST || slots == RECLAIM_MOST;
}

void kith_hnsw_trim(struct kith_hnsw *h)
{
    struct region *regions[SLOT_REGIONS];
    unsigned count = hnsw_slot_regions(h, regions);
    hnsw_ahead_reset(h);
    for (unsigned chunk = 0; chunk < REGION_CHUNKS; chunk++) {
        for (unsigned i = 0; i < count && chunk_is_open(h, chunk); i++)
            region_trim(regions[i], chunk, h->bump[chunk]);
        if (!h->upper.memory[chunk]) /* and no chunk begins behind what 32 bits can number */
            continue;
        uint32_t start = region_chunk_start(h->upper.shift, chunk);
        uint32_t rows = h->upper_bump > start ? h->upper_bump - start : 0;
        if (rows < region_chunk_units(h->upper.shift, chunk)) {
            region_trim(&h->upper, chunk, rows);
            region_trim(&h->upper_top, chunk, rows);
        }
    }
}

/* Pages that were never written are not there. */
uint64_t hnsw_slots_ever(const struct kith_hnsw *h)
{
    uint64_t slots = 0;
    for (unsigned chunk = 0; chunk < REGION_CHUNKS; chunk++)
        slots += chunk_is_open(h, chunk) ? h->bump[chunk] : 0;
    return slots;
}

uint64_t hnsw_links_bytes(const struct kith_hnsw *h, uint64_t slots)
{
    bool wide = atomic_load_explicit(&h->wide, memory_order_relaxed);
    return slots * (h->links.unit_bytes + (wide ? h->links_top.unit_bytes : 0)) +
           h->upper_bump * (uint64_t)(h->upper.unit_bytes + (wide ? h->upper_top.unit_bytes : 0));
}

uint64_t kith_hnsw_bytes(const struct kith_hnsw *h)
{
    uint64_t slots = hnsw_slots_ever(h);
    size_t vector = h->codes.unit_bytes + h->factors.unit_bytes + h->rest.unit_bytes;
    return sizeof *h + atomic_load_explicit(&h->scratch_bytes, memory_order_relaxed) +
           slots * (vector + h->spread.rows.unit_bytes + h->marks.unit_bytes + h->elements.unit_bytes) +
           hnsw_links_bytes(h, slots);
}
