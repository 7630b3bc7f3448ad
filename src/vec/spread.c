/* Rows of the SPREAD layout: what a lane holds, and who writes it when. See spread.h. */
#include "vec/spread.h"
#include "vec/rotation.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ONE_PLANE_FROM: from here on 1 bit a dimension says as much as 2 do of a quarter of the dimensions. */
enum { ONE_PLANE_FROM = 512, PAD_DIMS = 16, REBUILD_BLOCK = 64 };

#define NO_LINK 0x7f80u /* infinity */

/* ---- sizes ---- */

int hnsw_spread_init(struct kith_hnsw *h)
{
    struct spread *spread = &h->spread;
    uint32_t dim = h->options.dim;
    spread->dim = (dim + PAD_DIMS - 1) / PAD_DIMS * PAD_DIMS;
    spread->planes = dim < ONE_PLANE_FROM ? 2 : 1;
    spread->groups = spread->dim / SPREAD_GROUP_DIMS;
    spread->block_bytes = SPREAD_FACTOR_BYTES + spread->planes * spread->groups * (size_t)SPREAD_GROUP_BYTES;
    spread->kernels = spread_kernels_pick(h->kernels->level);
    return kith_rotation_open(&spread->rotation, dim, h->options.seed, h->kernels);
}

void hnsw_spread_fini(struct kith_hnsw *h)
{
    kith_rotation_close(h->spread.rotation);
}

/* Four vectors of floats: the centre, the other end, the query, its tables. */
size_t hnsw_spread_scratch_bytes(const struct kith_hnsw *h)
{
    return 4 * (size_t)h->spread.dim * sizeof(float);
}

int hnsw_spread_scratch_open(const struct kith_hnsw *h, struct scratch *s)
{
    uint32_t dim = h->spread.dim;
    size_t bytes = hnsw_spread_scratch_bytes(h);
    float *floats = aligned_alloc(64, bytes);
    if (!floats)
        return KITH_ENOMEM;
    memset(floats, 0, bytes);
    s->spread_centre = floats;
    s->spread_other = floats + dim;
    s->spread_query = floats + 2 * (size_t)dim;
    s->spread_tables = (uint8_t *)(floats + 3 * (size_t)dim);
    return KITH_OK;
}

/* ---- what a lane holds ---- */

/* Of one link: two numbers, and the bits of w's values, a byte a dimension. */
struct lane {
    uint16_t a, b;
    const uint8_t *levels;
};

static uint16_t to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return NO_LINK; /* NaN: nothing to estimate from */
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* The vector of the slot's code, rotated, and zeros behind it. */
static void load(const struct kith_hnsw *h, uint32_t slot, float *out)
{
    hnsw_decode(h, slot, out);
    kith_rotation_apply(h->spread.rotation, out, out);
    memset(out + h->options.dim, 0, (h->spread.dim - h->options.dim) * sizeof *out);
}

/* Sums of eight, so that compilers turn them into vectors. */
struct sums {
    float ww[8], yw[8], yc[8], cw[8];
};

static float sum8(const float x[8])
{
    return ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7]));
}

/* w to 0 .. 2^planes - 1: by its sign, and by whether it is larger than is usual. */
static void quantise(const float *w, uint32_t dim, unsigned planes, float step, uint8_t *levels)
{
    if (planes == 1) {
        for (uint32_t i = 0; i < dim; i++)
            levels[i] = w[i] > 0;
    } else {
        for (uint32_t i = 0; i < dim; i++)
            levels[i] = (uint8_t)((w[i] > -step) + (w[i] > 0) + (w[i] > step));
    }
}

/* The other end, rotated, is in s->spread_other; its memory takes the levels. */
static struct lane encode(const struct kith_hnsw *h, struct scratch *s)
{
    const struct spread *spread = &h->spread;
    uint32_t dim = spread->dim;
    float *w = s->spread_other, *c = s->spread_centre;
    uint8_t *levels = (uint8_t *)w;
    struct sums sums = {0};
    for (uint32_t i = 0; i < dim; i++)
        w[i] -= c[i];
    for (uint32_t i = 0; i < dim; i += 8)
        for (uint32_t k = 0; k < 8; k++)
            sums.ww[k] += w[i + k] * w[i + k];
    float square = sum8(sums.ww), step = sqrtf(square / (float)h->options.dim);
    uint8_t four[PAD_DIMS];
    float middle = spread->planes == 1 ? 0.5f : 1.5f;
    for (uint32_t i = 0; i < dim; i += PAD_DIMS) { /* levels are written behind what is still to be read */
        quantise(w + i, PAD_DIMS, spread->planes, step, four);
        for (uint32_t j = 0; j < PAD_DIMS; j += 8) {
            for (uint32_t k = 0; k < 8; k++) {
                float y = (float)four[j + k] - middle;
                sums.yw[k] += y * w[i + j + k];
                sums.yc[k] += y * c[i + j + k];
                sums.cw[k] += c[i + j + k] * w[i + j + k];
            }
        }
        memcpy(levels + i, four, sizeof four);
    }
    float yw = sum8(sums.yw), r = yw > 0 ? square / yw : 0;
    bool l2 = h->options.metric == KITH_HNSW_L2SQ;
    float b = l2 ? -2 * r : -r, a = (l2 ? square : -sum8(sums.cw)) - b * sum8(sums.yc);
    return (struct lane){to_bf16(a), to_bf16(b), levels};
}

static uint8_t *block_of(const struct kith_hnsw *h, uint32_t slot, uint32_t i)
{
    uint8_t *row = region_at(&h->spread.rows, slot);
    return row + i / SPREAD_LANES * h->spread.block_bytes;
}

/* The four bits of a group. */
static inline uint8_t nibble_of(const struct lane *lane, size_t group, unsigned plane)
{
    const uint8_t *levels = lane->levels + SPREAD_GROUP_DIMS * group;
    return (uint8_t)((levels[0] >> plane & 1) | (levels[1] >> plane & 1) << 1 |
                     (levels[2] >> plane & 1) << 2 | (levels[3] >> plane & 1) << 3);
}

static inline uint8_t in_its_half(uint32_t i, uint8_t nibble)
{
    return (uint8_t)(i % SPREAD_LANES < 16 ? nibble : nibble << 4);
}

static inline _Atomic uint8_t *byte_of(const struct kith_hnsw *h, uint8_t *block, uint32_t i, unsigned plane,
                                       size_t group)
{
    return (_Atomic uint8_t *)(block + SPREAD_FACTOR_BYTES +
                               (plane * h->spread.groups + group) * SPREAD_GROUP_BYTES + i % 16);
}

static inline _Atomic uint16_t *factor_of(uint8_t *block, uint32_t i)
{
    return (_Atomic uint16_t *)(void *)block + i % SPREAD_LANES;
}

/* ---- writing ---- */

void hnsw_spread_begin(const struct kith_hnsw *h, struct scratch *s, uint32_t slot)
{
    load(h, slot, s->spread_centre);
}

void hnsw_spread_write(struct kith_hnsw *h, struct scratch *s, uint32_t slot, uint32_t i, uint32_t link)
{
    uint8_t *block = block_of(h, slot, i);
    load(h, link, s->spread_other);
    struct lane lane = encode(h, s);
    uint8_t others = in_its_half(i, 0xf) ^ 0xff;
    for (unsigned plane = 0; plane < h->spread.planes; plane++) {
        for (size_t group = 0; group < h->spread.groups; group++) {
            _Atomic uint8_t *byte = byte_of(h, block, i, plane, group);
            uint8_t old = atomic_load_explicit(byte, memory_order_relaxed);
            uint8_t bits = in_its_half(i, nibble_of(&lane, group, plane));
            atomic_store_explicit(byte, (uint8_t)((old & others) | bits), memory_order_relaxed);
        }
    }
    atomic_store_explicit(factor_of(block, i) + SPREAD_LANES, lane.b, memory_order_relaxed);
    atomic_store_explicit(factor_of(block, i), lane.a, memory_order_relaxed);
}

void hnsw_spread_clear(struct kith_hnsw *h, uint32_t slot, uint32_t i)
{
    atomic_store_explicit(factor_of(block_of(h, slot, i), i), NO_LINK, memory_order_relaxed);
}

void hnsw_spread_reset(struct kith_hnsw *h, uint32_t slot)
{
    uint32_t lanes = (uint32_t)(h->spread.rows.unit_bytes / h->spread.block_bytes) * SPREAD_LANES;
    for (uint32_t i = 0; i < lanes; i++)
        hnsw_spread_clear(h, slot, i);
}

/* ---- writing all of them, after a restart ---- */

void hnsw_spread_rebuild(struct kith_hnsw *h)
{
    atomic_store(&h->spread.next, 0);
    atomic_store(&h->spread.done, 0);
    atomic_store_explicit(&h->spread.end, kith_hnsw_slot_end(h), memory_order_release);
}

bool hnsw_spread_is_ready(const struct kith_hnsw *h)
{
    return atomic_load_explicit(&h->spread.end, memory_order_acquire) == 0;
}

/* Under the element's lock: its links do not change meanwhile. */
static void write_row(struct kith_hnsw *h, struct scratch *s, uint32_t slot)
{
    struct links links = links_at(h, slot, 0);
    hnsw_element_lock(h, slot);
    hnsw_spread_begin(h, s, slot);
    for (uint32_t i = 0; i < links.room; i++) {
        uint32_t link = link_get(links, i);
        if (link == KITH_HNSW_NONE)
            break;
        hnsw_spread_write(h, s, slot, i, link);
    }
    hnsw_element_unlock(h, slot);
}

int hnsw_spread_step(struct kith_hnsw *h, struct scratch *s)
{
    struct spread *spread = &h->spread;
    uint32_t end = atomic_load_explicit(&spread->end, memory_order_acquire);
    uint32_t from = atomic_load_explicit(&spread->next, memory_order_relaxed), to;
    do {
        if (from >= end)
            return 0; /* others are at the last blocks, or nothing is to be done */
        to = end - from < REBUILD_BLOCK ? end : from + REBUILD_BLOCK;
    } while (!atomic_compare_exchange_weak(&spread->next, &from, to));
    for (uint32_t slot = from; slot < to; slot++) {
        if (!slot_has_chunk(h, slot))
            continue;
        enum slot_state state = state_at(h, slot);
        if (state == SLOT_LINKED || state == SLOT_REMOVED || state == SLOT_DYING)
            write_row(h, s, slot);
    }
    if (atomic_fetch_add(&spread->done, to - from) + (to - from) == end)
        atomic_store_explicit(&spread->end, 0, memory_order_release);
    return 1;
}

/* ---- checking ---- */

static bool lane_is(const struct kith_hnsw *h, uint8_t *block, uint32_t i, const struct lane *lane)
{
    uint8_t half = in_its_half(i, 0xf);
    bool same = atomic_load_explicit(factor_of(block, i), memory_order_relaxed) == lane->a &&
                atomic_load_explicit(factor_of(block, i) + SPREAD_LANES, memory_order_relaxed) == lane->b;
    for (unsigned plane = 0; same && plane < h->spread.planes; plane++)
        for (size_t group = 0; same && group < h->spread.groups; group++)
            same = (atomic_load_explicit(byte_of(h, block, i, plane, group), memory_order_relaxed) & half) ==
                   in_its_half(i, nibble_of(lane, group, plane));
    return same;
}

static bool row_is_right(const struct kith_hnsw *h, struct scratch *s, uint32_t slot)
{
    struct links links = links_at(h, slot, 0);
    uint32_t count = links_count(links);
    bool right = true;
    hnsw_spread_begin(h, s, slot);
    for (uint32_t i = 0; right && i < count; i++) {
        load(h, link_get(links, i), s->spread_other);
        struct lane lane = encode(h, s);
        right = lane_is(h, block_of(h, slot, i), i, &lane);
    }
    for (uint32_t i = count; right && i < links.room; i++)
        right = atomic_load_explicit(factor_of(block_of(h, slot, i), i), memory_order_relaxed) == NO_LINK;
    return right;
}

int hnsw_spread_check(const struct kith_hnsw *h, struct kith_error *error)
{
    struct scratch s = {0};
    if (!hnsw_spread_is_ready(h))
        return KITH_OK;
    if (hnsw_spread_scratch_open(h, &s) != KITH_OK)
        return KITH_ENOMEM;
    int rc = KITH_OK;
    for (uint32_t slot = 0; rc == KITH_OK && slot < kith_hnsw_slot_end(h); slot++)
        if (slot_has_chunk(h, slot) && state_at(h, slot) != SLOT_FREE && !row_is_right(h, &s, slot))
            rc = kith_error_set(error, KITH_ECORRUPT, "the row of slot %u is not that of its links", slot);
    free(s.spread_centre);
    return rc;
}
