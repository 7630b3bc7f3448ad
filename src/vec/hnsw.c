/* The index as its users see it: opening, adding, removing, and questions about one element. The writer's
 * side; the work is in the other files (index.h says which). */
#include "vec/hnsw.h"

#include "vec/calibrate_internal.h"
#include "vec/index.h"
#include "vec/spread.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_M = 16, DEFAULT_EF_CONSTRUCTION = 200, DEFAULT_TAIL_MAX = 4096, FIRST_CHUNK_BYTES = 16384 };

/* ---- opening ---- */

static bool codes_are_valid(const struct kith_hnsw_options *o)
{
    switch (o->codes) {
    case KITH_HNSW_I8:
    case KITH_HNSW_I4:
        return o->keep <= KITH_HNSW_KEEP_F32;
    case KITH_HNSW_F32:
    case KITH_HNSW_F16:
    case KITH_HNSW_BF16:
    case KITH_HNSW_BIN:
        return o->keep <= KITH_HNSW_KEEP_F32 && o->keep != KITH_HNSW_KEEP_RESIDUAL;
    }
    return false;
}

/* Codes of 1 bit are as small as those that rows would hold. */
static bool layout_is_valid(const struct kith_hnsw_options *o)
{
    return o->layout == KITH_HNSW_COMPACT || (o->layout == KITH_HNSW_SPREAD && o->codes != KITH_HNSW_BIN);
}

static bool options_are_valid(const struct kith_hnsw_options *o)
{
    return o->dim >= 1 && o->dim <= KITH_HNSW_DIM_MAX && codes_are_valid(o) &&
           o->metric >= KITH_HNSW_COSINE && o->metric <= KITH_HNSW_L2SQ && layout_is_valid(o) &&
           (o->m == 0 || (o->m >= KITH_HNSW_M_MIN && o->m <= KITH_HNSW_M_MAX)) &&
           o->ef_construction <= KITH_HNSW_EF_MAX;
}

static void init_sizes(struct kith_hnsw *h)
{
    h->links0 = 2 * h->options.m;
    h->links_upper = h->options.m;
    h->level_scale = 1 / log(h->options.m);
    unsigned shift = 4; /* a set of few elements is small */
    while (shift > 0 && h->code_stride << shift > FIRST_CHUNK_BYTES)
        shift--;
    region_init(&h->codes, h->code_stride, shift);
    region_init(&h->factors, h->factor_count * sizeof(float), shift);
    region_init(&h->rest, (h->kept_bytes + 3) & ~(size_t)3, shift);
    region_init(&h->links, links_row_bytes(h->links0), shift);
    region_init(&h->links_top, h->links0, shift);
    region_init(&h->marks, sizeof(struct marks), shift);
    uint32_t blocks = (h->links0 + SPREAD_LANES - 1) / SPREAD_LANES;
    region_init(&h->spread.rows, blocks * h->spread.block_bytes, shift);
    region_init(&h->elements, sizeof(struct element), shift);
    /* The first chunk of rows must hold the longest run. */
    region_init(&h->upper, links_row_bytes(h->links_upper), 4);
    region_init(&h->upper_top, h->links_upper, 4);
}

int kith_hnsw_open(struct kith_hnsw **out, const struct kith_hnsw_options *options)
{
    if (!options_are_valid(options))
        return KITH_EINVAL;
    struct kith_hnsw *h = aligned_alloc(64, (sizeof *h + 63) & ~(size_t)63);
    if (!h)
        return KITH_ENOMEM;
    memset(h, 0, sizeof *h);
    h->options = *options;
    h->options.m = options->m ? options->m : DEFAULT_M;
    h->options.ef_construction =
        options->ef_construction ? options->ef_construction : DEFAULT_EF_CONSTRUCTION;
    h->options.tail_max = options->tail_max ? options->tail_max : DEFAULT_TAIL_MAX;
    h->kernels = kith_kernels_pick((enum kith_kernel_level)options->kernel_max);
    if (hnsw_codes_init(h) != KITH_OK) {
        free(h);
        return KITH_ENOMEM;
    }
    if (is_spread(h) && hnsw_spread_init(h) != KITH_OK) {
        hnsw_codes_fini(h);
        free(h);
        return KITH_ENOMEM;
    }
    h->gather = hnsw_gather_pick(h->kernels->level);
    init_sizes(h);
    epoch_init(&h->epoch);
    atomic_init(&h->entry, KITH_HNSW_NONE);
    for (unsigned i = 0; i <= KITH_HNSW_LEVEL_MAX; i++)
        h->upper_free[i] = KITH_HNSW_NONE;
    pthread_mutex_init(&h->repair.lock, NULL);
    *out = h;
    return KITH_OK;
}

static void release_all(struct kith_hnsw *h)
{
    if (!h->options.release)
        return;
    for (size_t i = 0; i < h->users_count; i++)
        h->options.release(h->options.release_context, h->users[h->users_first + i].user);
    uint32_t end = atomic_load(&h->slot_end);
    for (uint32_t slot = 0; slot < end; slot++)
        if (kith_hnsw_is_live(h, slot))
            h->options.release(h->options.release_context, kith_hnsw_user(h, slot));
}

void kith_hnsw_close(struct kith_hnsw *h)
{
    if (!h)
        return;
    release_all(h);
    for (uint32_t i = 0; i < SCRATCH_MAX; i++)
        hnsw_scratch_close(atomic_load(&h->scratches[i]));
    free(atomic_load(&h->ring));
    hnsw_repair_fini(h);
    hnsw_calibration_close(atomic_load(&h->calibration));
    for (size_t i = 0; i < h->retired_count; i++) {
        if (h->retired[i].bytes)
            region_free(h->retired[i].memory, h->retired[i].bytes);
        else
            free(h->retired[i].memory);
    }
    free(h->retired);
    free(h->freeing);
    free(h->users);
    struct region *regions[] = {&h->codes, &h->factors,  &h->rest,  &h->links,     &h->links_top,
                                &h->marks, &h->elements, &h->upper, &h->upper_top, &h->spread.rows};
    for (size_t i = 0; i < sizeof regions / sizeof *regions; i++)
        region_fini(regions[i]);
    pthread_mutex_destroy(&h->repair.lock);
    hnsw_spread_fini(h);
    hnsw_codes_fini(h);
    free(h);
}

const struct kith_hnsw_options *kith_hnsw_get_options(const struct kith_hnsw *h)
{
    return &h->options;
}

/* ---- changes ---- */

/* Not random(): every replica must give this element the same level. */
static unsigned draw_level(const struct kith_hnsw *h)
{
    uint64_t state = h->options.seed ^ (h->added + 1) * 0xd1342543de82ef95ull;
    double unit = (double)((kith_splitmix64(&state) >> 11) + 1) * 0x1.0p-53; /* (0, 1] */
    double level = -log(unit) * h->level_scale;
    return level < KITH_HNSW_LEVEL_MAX ? (unsigned)level : KITH_HNSW_LEVEL_MAX;
}

int kith_hnsw_add(struct kith_hnsw *h, const float *vector, uint32_t ef, uint64_t user, uint32_t *slot)
{
    kith_hnsw_reclaim(h);
    struct scratch *s = hnsw_scratch_take(h);
    if (!s)
        return KITH_ENOMEM;
    uint32_t taken;
    int rc = hnsw_tail_reserve(h);
    if (rc == KITH_OK)
        rc = hnsw_slot_take(h, draw_level(h), &taken);
    if (rc == KITH_OK) {
        hnsw_store(h, s, taken, vector);
        hnsw_user_set(h, taken, user);
        h->added++;
        atomic_fetch_add_explicit(&h->live, 1, memory_order_relaxed);
        state_move(h, taken, SLOT_FREE, SLOT_TAIL);
        hnsw_tail_push(h, taken, ef ? ef : h->options.ef_construction);
        *slot = taken;
    }
    hnsw_scratch_give(h, s);
    return rc;
}

int kith_hnsw_remove(struct kith_hnsw *h, uint32_t slot)
{
    if (!kith_hnsw_is_live(h, slot))
        return KITH_ENOENT;
    if (hnsw_user_reserve(h) != KITH_OK || hnsw_repair_reserve(h) != KITH_OK)
        return KITH_ENOMEM;
    uint64_t user = kith_hnsw_user(h, slot);
    bool unlinked = false;
    while (!state_move(h, slot, SLOT_LINKED, SLOT_REMOVED)) {
        unlinked =
            state_move(h, slot, SLOT_TAIL, SLOT_REMOVED) || state_move(h, slot, SLOT_LINKING, SLOT_REMOVED);
        if (unlinked)
            break;
    }
    if (unlinked)
        atomic_fetch_sub_explicit(&h->tail_count, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&h->live, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->removed_count, 1, memory_order_relaxed);
    hnsw_repair_push(h, slot);
    hnsw_user_retire(h, user);
    kith_hnsw_reclaim(h);
    return KITH_OK;
}

uint64_t kith_hnsw_set_user(struct kith_hnsw *h, uint32_t slot, uint64_t user)
{
    return hnsw_user_set(h, slot, user);
}

int kith_hnsw_defer(struct kith_hnsw *h, uint64_t user)
{
    if (hnsw_user_reserve(h) != KITH_OK)
        return KITH_ENOMEM;
    hnsw_user_retire(h, user);
    return KITH_OK;
}

/* ---- one element ---- */

bool kith_hnsw_is_live(const struct kith_hnsw *h, uint32_t slot)
{
    return slot < atomic_load_explicit(&h->slot_end, memory_order_acquire) && slot_has_chunk(h, slot) &&
           state_is_live(state_at(h, slot));
}

uint32_t kith_hnsw_generation(const struct kith_hnsw *h, uint32_t slot)
{
    return (uint32_t)(atomic_load_explicit(&element_at(h, slot)->user, memory_order_relaxed) >> USER_BITS);
}

uint64_t kith_hnsw_user(const struct kith_hnsw *h, uint32_t slot)
{
    return atomic_load_explicit(&element_at(h, slot)->user, memory_order_acquire) & USER_MASK;
}

unsigned kith_hnsw_level(const struct kith_hnsw *h, uint32_t slot)
{
    return flags_level(flags_at(h, slot));
}

uint32_t kith_hnsw_links(const struct kith_hnsw *h, uint32_t slot, unsigned level, uint32_t *out,
                         uint32_t max)
{
    if (level > kith_hnsw_level(h, slot))
        return 0;
    struct links links = links_at(h, slot, level);
    uint32_t count = 0;
    for (uint32_t i = 0; i < links.room && count < max; i++) {
        uint32_t link = link_peek(links, i);
        if (link == KITH_HNSW_NONE)
            break;
        if (slot_has_chunk(h, link) && state_is_live(state_at(h, link)))
            out[count++] = link;
    }
    return count;
}

/* ---- the whole ---- */

uint64_t kith_hnsw_count(const struct kith_hnsw *h)
{
    return atomic_load_explicit(&h->live, memory_order_relaxed);
}

uint32_t kith_hnsw_slot_end(const struct kith_hnsw *h)
{
    return atomic_load_explicit(&h->slot_end, memory_order_acquire);
}

unsigned kith_hnsw_max_level(const struct kith_hnsw *h)
{
    uint32_t entry = atomic_load_explicit(&h->entry, memory_order_acquire);
    return entry == KITH_HNSW_NONE ? 0 : flags_level(flags_at(h, entry));
}

uint32_t kith_hnsw_random(const struct kith_hnsw *h, struct kith_rng *rng)
{
    uint32_t end = kith_hnsw_slot_end(h);
    if (!kith_hnsw_count(h))
        return KITH_HNSW_NONE;
    for (unsigned tries = 0; tries < 1000; tries++) {
        uint32_t slot = (uint32_t)kith_rng_below(rng, end);
        if (kith_hnsw_is_live(h, slot))
            return slot;
    }
    /* Few are left among many: the n-th live one. */
    uint64_t skip = kith_rng_below(rng, kith_hnsw_count(h));
    for (uint32_t slot = 0; slot < end; slot++)
        if (kith_hnsw_is_live(h, slot) && skip-- == 0)
            return slot;
    return KITH_HNSW_NONE;
}

struct kith_hnsw_backlog kith_hnsw_get_backlog(const struct kith_hnsw *h)
{
    uint64_t tail = atomic_load_explicit(&h->tail_count, memory_order_relaxed);
    return (struct kith_hnsw_backlog){
        .tail = tail,
        .deleted = atomic_load_explicit(&h->removed_count, memory_order_relaxed),
        .crowded = tail >= h->options.tail_max,
        .work_pending = tail > 0 || hnsw_repair_pending(h) || !hnsw_spread_is_ready(h),
    };
}
