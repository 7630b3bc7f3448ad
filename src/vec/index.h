/* The inside of the index: what src/vec's own files share.
 *
 * An element is a row in regions that grow together, so that what a walk reads is packed:
 *
 *     codes     the vector's code, padded to a whole cache line where it is longer than half of one
 *     factors   0, 1 or 2 floats: what makes a product of codes an inner product of vectors (codes.c)
 *     rest      what is kept beside the code to rank by (keep.c); none for KEEP_NONE
 *     links     2m slots of level 0, ended by NONE (links.h)
 *     rows      SPREAD only: small codes of those linked to (spread.h)
 *     marks     2 bytes: state, lock, level, and how many link to it; dense, as scans read all of them
 *     elements  all else: the user's word, generation, norm
 *
 * and, for one element in m, rows of m links for the levels above in the region `upper`.
 *
 * Who writes what: slots, chunks, rows and generations are the writer's. Links are atomics: written under the
 * element's lock bit, read without. State changes by compare-and-swap. What a search may still read is given
 * back only when every search that was running has ended (epoch.h). */
#ifndef KITH_VEC_INDEX_H
#define KITH_VEC_INDEX_H

#include "base/assert.h"
#include "vec/epoch.h"
#include "vec/gather.h"
#include "vec/hnsw.h"
#include "vec/kernels.h"
#include "vec/kernels_spread.h"
#include "vec/links.h"
#include "vec/region.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

#define SLOT_MAX    0x3fffffffu
#define EXPANDED    0x80000000u /* in a candidate's slot */
#define NEAR_ZERO   1e-6f       /* cosine distances up to here are equal vectors: rounding makes as much */
#define EQUAL       (-0x1p126f) /* a candidate's distance from here down: an equal vector (equal_distance) */
#define WALK_BATCH  4           /* nodes expanded together, at most */
#define WALK_EF_MAX 16384       /* a sorted pool gets slow beyond; an exact scan is as fast */

enum slot_state {
    SLOT_FREE,
    SLOT_TAIL,    /* in the tail, unlinked */
    SLOT_LINKING, /* a worker links it; still in the tail for searches */
    SLOT_LINKED,
    SLOT_REMOVED, /* hidden; its links still carry walks */
    SLOT_DYING,   /* in a repair round: nothing links to it any more once the round is over */
};

#define FLAG_STATE 0x07u
#define FLAG_LOCK  0x08u
#define FLAG_LEVEL 0xf0u

struct marks {
    _Atomic uint8_t in_links; /* level-0 links to it; stays at 255 once there */
    _Atomic uint8_t flags;    /* state, lock, level */
};
static_assert(sizeof(struct marks) == 2, "elements are counted in bytes");

struct element {
    _Atomic uint64_t user;  /* generation << 48 | the user's word */
    _Atomic uint32_t upper; /* first row in `upper` (level 1); when free: the next free slot */
    float norm;
};
static_assert(sizeof(struct element) == 16, "elements are counted in bytes");

#define USER_BITS 48
#define USER_MASK (((uint64_t)1 << USER_BITS) - 1)

struct candidate {
    float distance;
    uint32_t slot; /* | EXPANDED */
};

/* Sorted, nearest first, at most `capacity`. */
/* When a walk ends before its pool is expanded: candidates farther than factor * the k-th best (or `least`, when that
 * is nearer) + offset are not looked at (calibrate.h). k 0: never. */
struct stop {
    uint32_t k;
    float factor, offset, least;
};

static inline float stop_bound(struct stop stop, float kth)
{
    return stop.factor * (kth < stop.least ? stop.least : kth) + stop.offset;
}

struct pool {
    struct candidate *items;
    uint32_t count, capacity, room; /* room: allocated */
    uint32_t next;                  /* all before it are expanded */
    float bound;                    /* no candidate is farther; see `stop` */
    struct stop stop;
};

/* A query in full, to rank by what is kept beside the codes (keep.c). */
struct fine {
    const float *vector; /* L2SQ: as given */
    const float *unit;   /* normalised */
    const int8_t *code;  /* the unit vector (rotated where codes are) ~ (code + low / 256) * step */
    const int8_t *low;
    int32_t code_sum, low_sum;
    float step;
    float norm; /* 1 for COSINE */
};

/* What distances are taken from: an element's code, or a query. */
struct target {
    const void *code;
    bool wide;         /* code is in a query's own form, finer than an element's */
    bool euclidean;    /* INNER_PRODUCT: distances to it are not products (hnsw_link_target) */
    int32_t offset;    /* wide: to be taken from an integer product; I4, else: 8 dim where it is unsigned */
    int32_t sum;       /* I4, not wide: 8 times the sum of its values */
    float scale;       /* times a product of codes and an element's factor: the inner product */
    float square;      /* L2SQ: squared length */
    float least, most; /* distances in here are those of equal vectors */
    const struct fine *fine; /* NULL: its code is all there is */
};

/* A thread's working memory, lent for one search or one step of work. The epoch's pin is in it. */
struct scratch {
    struct epoch_pin pin; /* first: on its own cache line */
    _Atomic bool busy;
    uint64_t *visited;                   /* a bit a slot */
    uint32_t visited_words, visited_end; /* slots from the end on, and those of no chunk, count as visited */
    struct pool pool, found, tail;       /* tail: what a search found among the unlinked */
    struct pool open;                    /* a heap: what a walk with a filter has met and not expanded */
    uint32_t *gathered;                  /* unseen slots of one hop */
    float *distances;                    /* theirs */
    uint32_t gathered_room;
    struct candidate *sorted; /* for choosing links: 2m + 1 or ef, whichever is more */
    uint32_t sorted_room;
    uint32_t *chosen;     /* (levels + 1) * 2m */
    void *query_code;     /* of the query, padded with zeros; hnsw_query_bytes() of them */
    float *query_unit;    /* normalised */
    float *query_rotated; /* and rotated, where codes are */
    float *query_vector;  /* of an element that is the query */
    float *spread_centre, *spread_other, *spread_query; /* SPREAD: one allocation, the first its owner */
    uint8_t *spread_tables;
    struct fine fine;
    struct target target;
    struct kith_hnsw_profile profile;
};

#define SCRATCH_MAX 256

/* The unlinked tail: a ring of what was added, oldest first. Entries are never changed; whether one is still
 * unlinked is in the element's state. */
struct tail_ring {
    uint64_t mask;
    _Atomic uint64_t entries[]; /* ef << 32 | slot */
};

struct removed_user {
    uint64_t epoch, user;
};

/* Slots out of the graph that wait for a grace period. */
struct dead_batch {
    struct dead_batch *next;
    uint64_t epoch;
    uint32_t count;
    uint32_t slots[];
};

struct retired_memory {
    uint64_t epoch;
    void *memory;
    size_t bytes; /* for region_free; 0: free() */
};

enum repair_phase {
    REPAIR_IDLE,
    REPAIR_MARK,    /* one worker sets the batch's states */
    REPAIR_GRACE,   /* until those that saw the elements live have ended */
    REPAIR_SCAN,    /* over all elements: links to the dying are replaced */
    REPAIR_ORPHANS, /* over the dying: whom only they linked to is linked again */
};

/* See repair.c and sweep.c. */
struct repair {
    pthread_mutex_t lock; /* all but the atomics; held for short */
    enum repair_phase phase;
    uint32_t *removed; /* waiting for a round */
    uint32_t removed_count, removed_room;
    _Atomic uint32_t waiting; /* removed_count, to be read without the lock */
    _Atomic bool in_round;    /* phase != REPAIR_IDLE, likewise */
    struct dead_batch *batch; /* in the round */
    struct dead_batch *dead;  /* out of it: the writer frees them after their epoch */
    uint64_t epoch;           /* when the round began */
    uint32_t next, end, busy; /* what is handed out of the phase's work, and to how many */
    bool failed;              /* memory ran out: the phase starts over */
    uint32_t best;            /* the highest element seen, should the entry point die */
    unsigned best_level;
    _Atomic uint64_t changes; /* links and removals since the last sweep */
    _Atomic bool sweeping;    /* sweep.active, to be read by all */
    _Atomic bool sweep_again; /* there is reason to think that something cannot be reached */
    unsigned sweeps_in_vain;  /* in a row that found something */
    struct sweep {
        bool busy, active;
        uint64_t *seen;
        uint32_t seen_words;
        uint32_t *reached;
        uint32_t reached_count, reached_room, next;
        unsigned level;
        uint32_t check_next, found;
    } sweep;
};

struct kith_hnsw;

/* Whether 4-bit codes are of the vector as it is: the first vector decides. Where it has no negative component, as
 * histograms and images, 16 steps from 0 on are finer than 16 on both sides of it, and many components are 0. Else they
 * are of the rotated vector. Saved. */
enum plain {
    PLAIN_UNKNOWN,
    PLAIN_NO,
    PLAIN_YES,
};

/* See spread.h. */
struct spread {
    struct region rows;
    const struct spread_kernels *kernels;
    struct kith_rotation *rotation;
    uint32_t dim, groups; /* dim: padded */
    unsigned planes;
    size_t block_bytes;
    _Atomic uint32_t end;        /* rows are being written anew up to here; 0: they are all right */
    _Atomic uint32_t next, done; /* slots handed out for that, and done */
};

/* Regions with a row for each slot, at most. */
#define SLOT_REGIONS 8

/* See ahead.c. */
struct ahead {
    _Atomic bool busy; /* somebody prepares */
    _Atomic uint32_t
        reached[SLOT_REGIONS]; /* of each region: rows below have their memory, or are none of ours */
    _Atomic uint32_t enough;   /* no more than any of them */
};

/* Distances from the target to each slot. */
typedef void hnsw_distances_fn(const struct kith_hnsw *h, const struct target *target, const uint32_t *slots,
                               uint32_t count, float *out);

struct hnsw_calibration;

struct kith_hnsw {
    struct kith_hnsw_options options; /* keep: never the default */
    const struct kith_kernels *kernels;
    hnsw_gather *gather;
    hnsw_distances_fn *distances;
    int8_t *ones;                   /* I4: dim of them */
    _Atomic uint8_t plain;          /* I4: enum plain */
    struct kith_rotation *rotation; /* NULL where codes are of the vector as it is */
    size_t code_bytes;              /* as saved */
    size_t code_stride;             /* as stored */
    size_t kept_bytes;              /* of a row of `rest`, and as saved */
    unsigned factor_count;
    uint32_t links0, links_upper;
    double level_scale;
    struct spread spread; /* zeros with COMPACT */
    struct region codes, factors, rest, links, links_top, marks, elements, upper, upper_top;
    _Atomic uint32_t chunks; /* bit k: chunk k of all but `upper` is there */
    _Atomic uint32_t upper_chunks;
    _Atomic bool wide; /* links_top and upper_top are there: slots may be 2^24 and more */
    _Atomic uint32_t slot_end;
    _Atomic uint32_t entry;
    _Atomic uint64_t live, tail_count, removed_count, bytes;
    struct epoch epoch;
    _Atomic(struct scratch *) scratches[SCRATCH_MAX];
    _Atomic(struct hnsw_calibration *) calibration; /* NULL: no search has named a recall */
    _Atomic uint32_t scratch_count;
    _Atomic uint64_t scratch_bytes;
    _Atomic(struct tail_ring *) ring;
    _Atomic uint64_t tail_head, tail_end, tail_claim;
    struct repair repair;
    struct ahead ahead;

    /* The writer's own. */
    uint64_t added;      /* ever: numbers the elements for their levels */
    uint32_t slot_limit; /* restored slots are below */
    uint32_t free_head[REGION_CHUNKS], bump[REGION_CHUNKS], used[REGION_CHUNKS];
    uint32_t upper_bump, upper_free[KITH_HNSW_LEVEL_MAX + 1]; /* free runs by length */
    uint64_t level_counts[KITH_HNSW_LEVEL_MAX + 1];
    struct removed_user *users; /* a queue: the epochs do not fall */
    size_t users_first, users_count, users_room;
    struct dead_batch *freeing; /* its slots go free bit by bit */
    struct retired_memory *retired;
    size_t retired_count, retired_room;
};

/* ---- addresses ---- */

static inline struct element *element_at(const struct kith_hnsw *h, uint32_t slot)
{
    return region_at(&h->elements, slot);
}

static inline const void *code_at(const struct kith_hnsw *h, uint32_t slot)
{
    return region_at(&h->codes, slot);
}

/* [0] times a product of codes: the inner product with a unit vector; [1] for L2SQ the squared length, for
 * INNER_PRODUCT the length. */
static inline const float *factors_at(const struct kith_hnsw *h, uint32_t slot)
{
    return region_at(&h->factors, slot);
}

/* I4: code n stands for n, not for n - 8. */
static inline bool code_is_unsigned(const struct kith_hnsw *h, uint32_t slot)
{
    return signbit(factors_at(h, slot)[0]);
}

/* Distances of candidates while links are chosen. Equal vectors are told apart by rank, the higher first. */
static inline float equal_distance(uint32_t rank)
{
    return EQUAL - (float)rank * 0x1p103f;
}

static inline bool is_equal(float distance)
{
    return distance <= EQUAL;
}

static inline float mark_equal(const struct target *target, float distance, uint32_t rank)
{
    return distance >= target->least && distance <= target->most ? equal_distance(rank) : distance;
}

static inline bool slot_has_chunk(const struct kith_hnsw *h, uint32_t slot)
{
    return slot <= SLOT_MAX && atomic_load_explicit(&h->chunks, memory_order_acquire) >>
                                       region_chunk_of(h->elements.shift, slot) &
                                   1;
}

static inline unsigned flags_level(uint8_t flags)
{
    return flags >> 4;
}

static inline struct marks *marks_at(const struct kith_hnsw *h, uint32_t slot)
{
    return region_at(&h->marks, slot);
}

static inline uint8_t flags_at(const struct kith_hnsw *h, uint32_t slot)
{
    return atomic_load_explicit(&marks_at(h, slot)->flags, memory_order_acquire);
}

static inline uint8_t in_links_at(const struct kith_hnsw *h, uint32_t slot)
{
    return atomic_load_explicit(&marks_at(h, slot)->in_links, memory_order_relaxed);
}

static inline enum slot_state state_at(const struct kith_hnsw *h, uint32_t slot)
{
    return (enum slot_state)(flags_at(h, slot) & FLAG_STATE);
}

static inline bool state_is_live(enum slot_state state)
{
    return state == SLOT_TAIL || state == SLOT_LINKING || state == SLOT_LINKED;
}

static inline struct links links_row(const struct kith_hnsw *h, const struct region *region,
                                     const struct region *top, uint32_t row, uint32_t room)
{
    char *bytes = region_at(region, row);
    bool wide = atomic_load_explicit(&h->wide, memory_order_acquire);
    return (struct links){.low = (_Atomic uint16_t *)(void *)bytes,
                          .high = (_Atomic uint8_t *)bytes + 2 * (size_t)room,
                          .top = wide ? region_at(top, row) : NULL,
                          .room = room};
}

static inline uint32_t links_room(const struct kith_hnsw *h, unsigned level)
{
    return level ? h->links_upper : h->links0;
}

/* The links of an element at a level that it has. */
static inline struct links links_at(const struct kith_hnsw *h, uint32_t slot, unsigned level)
{
    if (level == 0)
        return links_row(h, &h->links, &h->links_top, slot, h->links0);
    uint32_t row = atomic_load_explicit(&element_at(h, slot)->upper, memory_order_relaxed);
    return links_row(h, &h->upper, &h->upper_top, row + level - 1, h->links_upper);
}

/* Changes the state if it is `from`; the other flags may change beside. */
static inline bool state_move(const struct kith_hnsw *h, uint32_t slot, enum slot_state from,
                              enum slot_state to)
{
    _Atomic uint8_t *flags_of = &marks_at(h, slot)->flags;
    uint8_t flags = atomic_load_explicit(flags_of, memory_order_relaxed);
    do {
        if ((flags & FLAG_STATE) != from)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(flags_of, &flags, (uint8_t)((flags & ~FLAG_STATE) | to),
                                                    memory_order_acq_rel, memory_order_relaxed));
    return true;
}

static inline bool is_spread(const struct kith_hnsw *h)
{
    return h->options.layout == KITH_HNSW_SPREAD;
}

static inline void hnsw_element_unlock(const struct kith_hnsw *h, uint32_t slot)
{
    atomic_fetch_and_explicit(&marks_at(h, slot)->flags, (uint8_t)~FLAG_LOCK, memory_order_release);
}

/* ---- codes.c ---- */

/* Fills in sizes and the kernels' side of h; options are valid. KITH_ENOMEM. */
int hnsw_codes_init(struct kith_hnsw *h);
void hnsw_codes_fini(struct kith_hnsw *h);
/* For a query's form. */
size_t hnsw_query_bytes(const struct kith_hnsw *h);
/* Writes a vector to the slot's rows: code, factors, norm, what is kept. */
void hnsw_store(struct kith_hnsw *h, struct scratch *s, uint32_t slot, const float *vector);
/* The same from saved bytes. */
void hnsw_store_saved(struct kith_hnsw *h, uint32_t slot, float norm, float form, struct kith_slice code,
                      struct kith_slice kept);
/* Whether saved bytes can be a code. */
bool hnsw_code_is_sound(const struct kith_hnsw *h, struct kith_slice code);
/* A query's target; it lives in s. */
struct target hnsw_query_target(const struct kith_hnsw *h, struct scratch *s, const float *vector);
/* The target of an element, from the finest that is kept of it. */
struct target hnsw_element_target(const struct kith_hnsw *h, struct scratch *s, uint32_t slot);
/* The target of an element's code. */
struct target hnsw_target(const struct kith_hnsw *h, uint32_t slot);
/* The same, for choosing links (link.c). INNER_PRODUCT: unless by_product, distances are squared Euclidean ones. */
struct target hnsw_link_target(const struct kith_hnsw *h, uint32_t slot, bool by_product);
bool hnsw_floats_are_sound(const char *bytes, size_t dim, float most);
bool hnsw_halves_are_sound(const char *bytes, size_t dim, uint16_t most);
/* Unpacks small numbers to floats. */
typedef void hnsw_unpack_fn(const uint8_t *packed, size_t dim, uint8_t *out);
void hnsw_unpack(hnsw_unpack_fn *unpack, const void *packed, uint32_t dim, float *out);
bool hnsw_form_is_sound(const struct kith_hnsw *h, float form);
/* Norms in factors are cut here, so that products of two do not overflow: then vectors only differ in direction. */
static inline float norm_for_products(const struct kith_hnsw *h, float norm)
{
    return h->options.metric == KITH_HNSW_COSINE ? 1 : norm < 0x1p62f ? norm : 0x1p62f;
}

/* The vector that its code stands for, as distances see it (but BIN). */
void hnsw_decode(const struct kith_hnsw *h, uint32_t slot, float *out);

/* ---- distances.c ---- */

hnsw_distances_fn *hnsw_distances_pick(const struct kith_hnsw_options *options);
static inline void hnsw_distances(const struct kith_hnsw *h, struct target target, const uint32_t *slots,
                                  uint32_t count, float *out)
{
    h->distances(h, &target, slots, count, out);
}
/* Within the metric's bounds, in spite of rounding. */
float hnsw_clamp(const struct kith_hnsw *h, float distance);

/* ---- keep.c ---- */

/* What is kept of a vector, as saved. */
size_t hnsw_kept_bytes(const struct kith_hnsw_options *options);
/* Writes the slot's row, after its code and factors.
 *   unit       normalised; rotated: and rotated, where codes are
 *   code       its values (I8, I4), each `step` long
 *   values     room for dim bytes */
void hnsw_keep(struct kith_hnsw *h, uint32_t slot, const float *vector, const float *unit,
               const float *rotated, const int8_t *code, float step, uint8_t *values);
void hnsw_keep_saved(struct kith_hnsw *h, uint32_t slot, struct kith_slice kept);
bool hnsw_kept_is_sound(const struct kith_hnsw *h, struct kith_slice kept, float norm);
/* What is kept, at length 1 (float32 with L2SQ: as given). RESIDUAL: rotated, where codes are. */
void hnsw_kept_vector(const struct kith_hnsw *h, uint32_t slot, float *out);
/* Whether fine distances are other than those by code. */
static inline bool hnsw_is_refinable(const struct kith_hnsw *h, const struct target *target)
{
    return target->fine && (h->options.keep != KITH_HNSW_KEEP_NONE || h->options.codes == KITH_HNSW_I8);
}
void hnsw_prefetch_kept(const struct kith_hnsw *h, uint32_t slot);
/* Distances by the finest that is kept. */
void hnsw_fine_distances(const struct kith_hnsw *h, struct target target, const uint32_t *slots,
                         uint32_t count, float *out);

/* ---- scratch.c ---- */

/* Lends a scratch with the epoch pinned: nothing read from here on is freed until it is given back. NULL: no
 * memory. */
struct scratch *hnsw_scratch_take(struct kith_hnsw *h);
void hnsw_scratch_give(struct kith_hnsw *h, struct scratch *s);
void hnsw_scratch_close(struct scratch *s);
/* What was tagged below this can be held by nobody. */
uint64_t hnsw_epoch_oldest(const struct kith_hnsw *h);
/* Room for a pool of ef, and no slot visited. KITH_ENOMEM. */
int hnsw_scratch_prepare(struct kith_hnsw *h, struct scratch *s, uint32_t ef);
/* Bytes more, for the statistics. */
void hnsw_scratch_count(struct kith_hnsw *h, size_t bytes);
int hnsw_pool_reserve(struct kith_hnsw *h, struct pool *pool, uint32_t capacity);

/* Marks it; returns whether it was marked already. Slots past the map (added since) count as visited, and those
 * whose chunk was not there: any number is safe, and what is unvisited is mapped. */
static inline bool visit(struct scratch *s, uint32_t slot)
{
    if (slot >= s->visited_end)
        return true;
    uint64_t bit = (uint64_t)1 << slot % 64, word = s->visited[slot / 64];
    s->visited[slot / 64] = word | bit;
    return word & bit;
}
void hnsw_forget_visited(const struct kith_hnsw *h, struct scratch *s);

/* ---- walk.c ---- */

/* Inserts in order; returns false when it is full of nearer ones. */
bool hnsw_pool_insert(struct pool *pool, float distance, uint32_t slot);
/* Goes down from the entry point to `level` + 1 greedily; returns the nearest slot met, NONE when the graph
 * is empty. *top: the entry point's level. */
uint32_t hnsw_descend(struct kith_hnsw *h, struct scratch *s, struct target target, unsigned level,
                      float *distance, unsigned *top);
/* The same to level 0 with the `width` nearest of each level in view, as many as s->pool has room for at most: what is
 * far from all elements may be led by one way down into a cluster that has no way out to its nearest. Leaves the nearest
 * of level 1 in s->pool, which was reserved, not expanded, and these alone visited. `without`: a slot to pass by, or
 * NONE. */
void hnsw_descend_wide(struct kith_hnsw *h, struct scratch *s, struct target target, uint32_t width,
                       uint32_t without);
/* Best-first walk at a level from what is in s->pool until nothing in it is left to expand. zero_max:
 * candidates equal to the target that are let in. */
void hnsw_walk(struct kith_hnsw *h, struct scratch *s, struct target target, unsigned level,
               uint32_t zero_max);

/* ---- links.c ---- */

void hnsw_element_lock(const struct kith_hnsw *h, uint32_t slot);
/* The row of any slot; false when there is none: no such chunk, or level. */
bool hnsw_links_find(const struct kith_hnsw *h, uint32_t slot, unsigned level, struct links *links);
/* Copies the links to out[0..links_room) and returns how many; none for a slot that has no such level. Each is
 * a slot whose chunk is there. A list that is being changed may look shorter than it is. */
uint32_t hnsw_links_copy(const struct kith_hnsw *h, uint32_t slot, unsigned level, uint32_t *out);
/* All of them as they are, for an element that has the level. */
uint32_t hnsw_links_copy_locked(const struct kith_hnsw *h, uint32_t slot, unsigned level, uint32_t *out);
/* Writes the links of a level if they still are `before`, and keeps count of the links to each. */
bool hnsw_links_replace(struct kith_hnsw *h, struct scratch *s, uint32_t slot, unsigned level,
                        const uint32_t *before, uint32_t before_count, const uint32_t *after,
                        uint32_t after_count);
/* Adds the link on level 0 where there is room for it. */
void hnsw_links_append(struct kith_hnsw *h, struct scratch *s, uint32_t from, uint32_t to);
void hnsw_in_links_add(struct kith_hnsw *h, uint32_t slot, int change);

/* ---- link.c ---- */

/* Links a slot in state LINKING; the caller moves its state. KITH_ENOMEM, or KITH_EAGAIN when all that is in
 * the graph is on its way out: nothing has changed. */
int hnsw_link(struct kith_hnsw *h, struct scratch *s, uint32_t slot, uint32_t ef);
/* Gives a linked element links, and links to it, on level 0 anew. KITH_ENOMEM. */
int hnsw_relink(struct kith_hnsw *h, struct scratch *s, uint32_t slot);
void hnsw_sort_candidates(struct candidate *items, uint32_t count);
/* by_product, here and below: of hnsw_link_target, what the candidate's and the items' distances are by. */
bool hnsw_is_shadowed(const struct kith_hnsw *h, const struct candidate *candidate, const uint32_t *chosen,
                      uint32_t count, bool by_product);
/* Keeps of items[0..count), sorted by distance to one element, at most `max` that are not nearer to each
 * other than to it. Returns how many; their slots go to out. */
uint32_t hnsw_choose(const struct kith_hnsw *h, const struct candidate *items, uint32_t count, uint32_t max,
                     uint32_t *out, bool by_product);
/* Adds the link from -> to, making room where there is none. force: room is made in any case. */
void hnsw_connect(struct kith_hnsw *h, struct scratch *s, uint32_t from, uint32_t to, unsigned level,
                  bool force);

/* ---- tail.c ---- */

/* [writer] Room for one more; then push cannot fail. */
int hnsw_tail_reserve(struct kith_hnsw *h);
void hnsw_tail_push(struct kith_hnsw *h, uint32_t slot, uint32_t ef);
/* Copies slots that are still unlinked from *position on (start at tail_head) and moves it; 0 at the end. */
uint32_t hnsw_tail_read(const struct kith_hnsw *h, uint64_t *position, uint32_t *slots, uint32_t room);
/* Takes the next unlinked slot and sets it LINKING. */
bool hnsw_tail_claim(struct kith_hnsw *h, uint32_t *slot, uint32_t *ef);
/* A claimed slot was put back: claims start over. */
void hnsw_tail_rewind(struct kith_hnsw *h);
/* Moves the head past what is over. Pinned, or the writer. */
void hnsw_tail_trim(struct kith_hnsw *h);

/* ---- slots.c [writer] ---- */

/* Links take four bytes from here on: opens the third plane. KITH_ENOMEM. */
int hnsw_links_widen(struct kith_hnsw *h);
/* Slots that were ever used and not given back; the links of so many, with those of the levels above. */
uint64_t hnsw_slots_ever(const struct kith_hnsw *h);
uint64_t hnsw_links_bytes(const struct kith_hnsw *h, uint64_t slots);

/* Empty links, that level, state FREE until the caller publishes it. */
int hnsw_slot_take(struct kith_hnsw *h, unsigned level, uint32_t *slot);
/* Takes that very slot, for restore; hnsw_slots_index when all are there. */
int hnsw_slot_take_at(struct kith_hnsw *h, unsigned level, uint32_t slot);
void hnsw_slots_index(struct kith_hnsw *h);
/* The regions that have a row for each slot; returns how many. Their order stays, the last may come later. Any thread. */
unsigned hnsw_slot_regions(struct kith_hnsw *h, struct region *out[SLOT_REGIONS]);
/* Returns the old word. */
uint64_t hnsw_user_set(struct kith_hnsw *h, uint32_t slot, uint64_t user);
void hnsw_slot_give(struct kith_hnsw *h, uint32_t slot);
/* Room to retire one more; then retire cannot fail. */
int hnsw_retire_reserve(struct kith_hnsw *h, size_t extra);
void hnsw_retire(struct kith_hnsw *h, void *memory, size_t bytes);
/* The same for a removed element's user word. */
int hnsw_user_reserve(struct kith_hnsw *h);
void hnsw_user_retire(struct kith_hnsw *h, uint64_t user);

/* ---- ahead.c ---- */

/* How many slots behind the last used one are to have their memory; 0 while a set is small. */
uint32_t hnsw_ahead_slots(const struct kith_hnsw *h);
/* A page of that, if some is missing. Pinned. */
void hnsw_ahead_prepare(struct kith_hnsw *h);
/* [writer] Memory was given back. */
void hnsw_ahead_reset(struct kith_hnsw *h);

/* ---- repair.c, sweep.c ---- */

/* [writer] Room for one more removed slot: then push cannot fail. */
int hnsw_repair_reserve(struct kith_hnsw *h);
void hnsw_repair_push(struct kith_hnsw *h, uint32_t slot);
/* [writer] Gives unused room back. */
void hnsw_repair_trim(struct kith_hnsw *h);
void hnsw_repair_fini(struct kith_hnsw *h);
/* Whether a step without `all` would have something to do. */
bool hnsw_repair_pending(const struct kith_hnsw *h);
/* One step of a round; 1 when done, 0 when there is nothing to do now, or KITH_ENOMEM. */
int hnsw_repair_step(struct kith_hnsw *h, struct scratch *s, bool all);
/* One step of a sweep; as above. */
int hnsw_sweep_step(struct kith_hnsw *h, struct scratch *s, bool all);
bool hnsw_sweep_pending(const struct kith_hnsw *h, bool all);

#endif
