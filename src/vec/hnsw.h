/* A dynamic HNSW index (Malkov & Yashunin, "Efficient and robust approximate nearest neighbor search using
 * Hierarchical Navigable Small World graphs", 2018): insert, true delete and search at any time, memory given
 * back, no rebuild. An element is a slot (a small number, reused after a delete) and a generation that tells
 * its users apart.
 *
 * Threads. Calls marked [writer] come from one thread at a time (the keyspace's). kith_hnsw_search and
 * kith_hnsw_work may run on any number of threads beside it and beside each other; a search takes no lock.
 * What reads a slot ([slot]) is for the writer, and for a filter about the slot it was asked for. Close when
 * all have returned.
 *
 * Life of an element: add() stores its code and puts it in the unlinked tail, which searches scan exactly;
 * work() links it into the graph. remove() hides it at once; work() takes it out of its neighbours' links;
 * reclaim() frees the slot when no search can hold it any more. */
#ifndef KITH_VEC_HNSW_H
#define KITH_VEC_HNSW_H

#include "base/buf.h"
#include "base/random.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KITH_HNSW_NONE      UINT32_MAX /* no slot */
#define KITH_HNSW_DIM_MAX   65536
#define KITH_HNSW_M_MIN     2
#define KITH_HNSW_M_MAX     4096
#define KITH_HNSW_EF_MAX    1000000
#define KITH_HNSW_LEVEL_MAX 15

/* How an element's vector is kept. The numbers are on disk: never reuse one. */
enum kith_hnsw_codes {
    KITH_HNSW_F32 = 1, /* 4 bytes a dimension */
    KITH_HNSW_I8 = 2,  /* 1 byte a dimension, in steps of one size per vector */
    KITH_HNSW_BIN =
        3, /* 1 bit a dimension: of the rotated vector, set when > 0; 64-bit little-endian words */
    KITH_HNSW_F16 = 4,  /* IEEE half: 2 bytes a dimension */
    KITH_HNSW_BF16 = 5, /* the upper half of a float32: 2 bytes a dimension */
    KITH_HNSW_I4 =
        6, /* 4 bits a dimension, steps as above; of the rotated vector where that helps (codes.c) */
};

/* What is kept beside the code, to rank the nearest of a walk again. On disk, too. */
enum kith_hnsw_keep {
    KITH_HNSW_KEEP_DEFAULT = 0, /* RESIDUAL for I8 and I4, NONE for the others */
    KITH_HNSW_KEEP_NONE = 1,
    KITH_HNSW_KEEP_RESIDUAL = 2, /* the next bits below the code: 2 below I8, 4 below I4; no other codes */
    KITH_HNSW_KEEP_F16 = 3,      /* the vector itself, 2 bytes a dimension */
    KITH_HNSW_KEEP_F32 = 4,      /* 4 bytes a dimension */
};

/* What lies where. On disk, too. */
enum kith_hnsw_layout {
    KITH_HNSW_COMPACT = 0,
    /* Small codes of its neighbours beside each element's links: a walk goes only to those that seem near. With 128
     * dimensions searches are 1.2 to 1.3 times as fast and building takes 1.3 times as long; with 784 nothing is
     * gained. With m = 16 an element takes 128 + 8 * dim bytes more with fewer than 512 dimensions, 128 + 4 * dim
     * from there on; with m = 32 twice that. Walks with a filter go by the codes themselves. Rows are not saved: after
     * a restore work() writes them, and searches do without until then. Not for BIN. */
    KITH_HNSW_SPREAD = 1,
};

/* Smaller is nearer in each. On disk, too. */
enum kith_hnsw_metric {
    KITH_HNSW_COSINE = 1,        /* 1 - cos, in [0, 2]; a zero vector is at 1 from everything */
    KITH_HNSW_INNER_PRODUCT = 2, /* 1 - dot */
    KITH_HNSW_L2SQ =
        3, /* squared Euclidean distance. But with float32 kept, vectors longer than 2^62 count as
                                    that long, here and for INNER_PRODUCT, and no distance is infinite */
};

struct kith_hnsw_options {
    uint32_t dim; /* 1 to KITH_HNSW_DIM_MAX */
    enum kith_hnsw_codes codes;
    enum kith_hnsw_keep keep;
    enum kith_hnsw_layout layout;
    enum kith_hnsw_metric metric;
    uint32_t m;               /* links a level, 2m on level 0; 0: 16 */
    uint32_t ef_construction; /* candidates looked at when linking; 0: 200 */
    uint64_t seed;            /* levels are drawn from it and the element's number */
    uint32_t tail_max;        /* kith_hnsw_backlog.crowded from here on; 0: 4,096 */
    int kernel_max;           /* 0: the best this machine has; else an enum kith_kernel_level (for tests) */
    /* Called by the writer (add, remove, reclaim, close) when nobody can read a removed element's user word
     * any more. May be NULL. */
    void (*release)(void *context, uint64_t user);
    void *release_context;
};

struct kith_hnsw;

/* KITH_EINVAL when an option is out of range, KITH_ENOMEM. */
int kith_hnsw_open(struct kith_hnsw **out, const struct kith_hnsw_options *options);
/* Calls release for every element still there. close(NULL) is safe. May run on any thread, once nobody else is inside. */
void kith_hnsw_close(struct kith_hnsw *h);
/* The options with the defaults filled in; lives as long as h. */
const struct kith_hnsw_options *kith_hnsw_get_options(const struct kith_hnsw *h);

/* ---- changes [writer] ---- */

/* Stores vector[0..dim) (finite; the caller refuses NaN and infinity) and makes it searchable.
 *   ef     candidates to look at when linking this element; 0: ef_construction
 *   user   the caller's word for the element, readable from filters: a pointer, or a number below 2^48
 *   slot   out: where it is until removed
 *   KITH_ENOMEM, or KITH_ETOOBIG past 2^30 slots; nothing has changed then. */
int kith_hnsw_add(struct kith_hnsw *h, const float *vector, uint32_t ef, uint64_t user, uint32_t *slot);
/* Hides the element at once: a search that starts later does not return it. KITH_ENOENT when the slot is not
 * in use, KITH_ENOMEM (nothing has changed). */
int kith_hnsw_remove(struct kith_hnsw *h, uint32_t slot);
/* Frees what removals and growth left behind and no search can hold any more, about 0.1 ms of it at a time; call it
 * when a batch of work came back (add and remove call it, too). Returns whether there is more to free now. */
bool kith_hnsw_reclaim(struct kith_hnsw *h);

/* [writer] Gives back what huge pages hold beyond the last slot: a few hundred kilobytes for each kind of data. Call it when a
 * set has come to rest: what is added next goes to small pages for a while. settle() and restore_finish() do. */
void kith_hnsw_trim(struct kith_hnsw *h);

/* ---- background work [any thread] ---- */

enum kith_hnsw_work_flags {
    KITH_HNSW_WORK_ALL = 1, /* repair however few were removed, and sweep for unreachable elements; without it
                               these wait until they pay: about 1.5 % of the elements removed, 3 % changed */
};

struct kith_hnsw_backlog {
    uint64_t tail;     /* added, not linked yet: each search looks at all of these */
    uint64_t deleted;  /* removed, still in the graph or awaiting reclaim() */
    bool crowded;      /* tail >= tail_max: slow the writers, or work() */
    bool work_pending; /* work() without flags has something to do */
};

struct kith_hnsw_backlog kith_hnsw_get_backlog(const struct kith_hnsw *h);
/* Does at most `steps` steps; one links an element or repairs a stretch of slots, well under a millisecond
 * each as a rule. Returns the steps done; 0: nothing to do, or what is left waits for searches or for other
 * workers to end. KITH_ENOMEM: what was begun is put back and will be tried again. */
int kith_hnsw_work(struct kith_hnsw *h, unsigned steps, unsigned flags);
/* [writer] Works and reclaims on this thread until the backlog is empty, as long as no other thread searches
 * or works (else what these hold remains). */
int kith_hnsw_settle(struct kith_hnsw *h);

/* ---- search [any thread] ---- */

/* Whether the element may be a result. Runs on the searching thread; must not call the index but for [slot].
 */
typedef bool kith_hnsw_filter(void *context, uint32_t slot, uint64_t user);

/* How a search with a filter goes about it. */
enum kith_hnsw_way {
    KITH_HNSW_WAY_CHOSEN, /* what costs least, as far as can be told; the others are for tests and benchmarks */
    KITH_HNSW_WAY_GRAPH,
    KITH_HNSW_WAY_TWO_HOP,
    KITH_HNSW_WAY_SCAN,
};

struct kith_hnsw_query {
    const float *vector; /* dim finite values, need not be normalised; NULL: the code of `slot` */
    uint32_t slot;       /* where vector is NULL: an element in use (its caller must keep it so) */
    uint32_t k;          /* results wanted; 0 gives none */
    uint32_t ef;         /* effort: candidates kept; 0: as much as k needs, 100 at least */
    float recall;        /* > 0: the effort that gives this recall (calibrate.h), `ef` being the most then */
    uint32_t recall_k;   /* of so many nearest; 0: of k */
    bool of_element;     /* the vector is an element's: not one to calibrate by */
    bool exact;          /* look at every element, by the finest that is kept of it */
    bool by_codes;       /* with exact: keep the ef nearest by code, then rank these as a walk's: what a
                                 graph without faults would find */
    bool timed;          /* fill the profile's times and path */
    float
        max_distance; /* leave out what is farther; 0, or less where the metric has no such distances: no bound (an exact match
                               only: FLT_MIN) */
    kith_hnsw_filter *filter; /* NULL: all */
    void *filter_context;
    enum kith_hnsw_way way;
    uint32_t filter_ef; /* bound on elements offered to the filter; 0: none, then k results if k match */
    /* Diverse results: the k are chosen among the mmr_pool nearest by maximal marginal relevance, and are in the
     * order of that choice. mmr_lambda in [0, 1]; 1: the nearest, 0: the nearest, then the most unlike. */
    uint32_t mmr_pool; /* 0: plain results; less than k counts as k */
    float mmr_lambda;
};

struct kith_hnsw_hit {
    uint32_t slot;
    uint32_t generation; /* of kith_hnsw_generation(slot) when found */
    float distance;
};

/* What a search did. */
struct kith_hnsw_profile {
    enum { KITH_HNSW_GRAPH, KITH_HNSW_SCAN, KITH_HNSW_TWO_HOP } strategy;
    uint32_t hops;                /* nodes whose links were read */
    uint32_t evaluations;         /* distances computed by code */
    uint32_t estimates;           /* SPREAD: distances estimated from rows of neighbours */
    uint32_t refined;             /* distances computed again by what is kept beside the code */
    uint32_t tail;                /* of the evaluations, in the unlinked tail */
    uint32_t descend_hops;        /* of the hops, above level 0 */
    uint32_t descend_evaluations; /* of the evaluations, likewise */
    uint32_t seeds;               /* nodes where the walk on level 0 began */
    uint32_t ef;                  /* candidates kept, as it turned out */
    float slack;  /* by the query's recall (calibrate.h); 0 by ef, or when a scan was chosen */
    float recall; /* expected: what was asked for or, when that is out of reach, less; 0: by ef, or the set
                              is not calibrated yet */
    uint32_t filter_calls, filter_passes;
    uint32_t mmr_evaluations; /* distances between candidates */
    /* The way down: path[i] is the node where the search began on level path_count - 1 - i, path[0] the entry
     * point. No nodes: the graph was not entered. */
    uint32_t path[KITH_HNSW_LEVEL_MAX + 1];
    uint32_t path_count;
    /* Only when the query is timed: */
    uint64_t bytes_read;                                                  /* codes, links and kept vectors */
    uint64_t prepare_ns, tail_ns, descend_ns, walk_ns, refine_ns, mmr_ns; /* a scan's time is in walk_ns */
};

/* Fills hits[0..k) nearest first (equal distances by slot; see mmr_pool) and returns how many; profile may be NULL.
 * KITH_EINVAL (a slot not in use), KITH_ENOMEM. */
int kith_hnsw_search(struct kith_hnsw *h, const struct kith_hnsw_query *query, struct kith_hnsw_hit *hits,
                     struct kith_hnsw_profile *profile);

/* ---- one element [slot]; the slot must be in use where nothing else is said ---- */

bool kith_hnsw_is_live(const struct kith_hnsw *h, uint32_t slot);        /* any number is safe */
uint32_t kith_hnsw_generation(const struct kith_hnsw *h, uint32_t slot); /* changes when the slot is reused */
uint64_t kith_hnsw_user(const struct kith_hnsw *h, uint32_t slot);
/* [writer] Returns the old word. A filter may still be reading what it points to: hand it to defer(). */
uint64_t kith_hnsw_set_user(struct kith_hnsw *h, uint32_t slot, uint64_t user);
/* [writer] Calls release(user) once no filter that runs now can see it. KITH_ENOMEM: not taken. */
int kith_hnsw_defer(struct kith_hnsw *h, uint64_t user);
/* The vector from the finest that is kept of it, times its norm: out[0..dim). */
void kith_hnsw_vector(const struct kith_hnsw *h, uint32_t slot, float *out);
float kith_hnsw_norm(const struct kith_hnsw *h, uint32_t slot); /* Euclidean, of the vector as added */
/* The raw code of the normalised vector, borrowed until the element is removed. *range (may be NULL): for I8,
 * what 127 stands for when the code is scaled to length 1; else 0. */
struct kith_slice kith_hnsw_code(const struct kith_hnsw *h, uint32_t slot, float *range);
/* What a code does not tell: BIN: 1 / the sum of magnitudes; I4: -1 where it is unsigned, else 1; others: not defined. */
float kith_hnsw_form(const struct kith_hnsw *h, uint32_t slot);
/* What is kept beside the code, as saved; borrowed as above. */
struct kith_slice kith_hnsw_kept(const struct kith_hnsw *h, uint32_t slot);
float kith_hnsw_distance(const struct kith_hnsw *h, uint32_t a, uint32_t b);
/* Its top level, 0 to KITH_HNSW_LEVEL_MAX. */
unsigned kith_hnsw_level(const struct kith_hnsw *h, uint32_t slot);
/* Copies at most `max` live neighbours at `level` to out; returns how many. */
uint32_t kith_hnsw_links(const struct kith_hnsw *h, uint32_t slot, unsigned level, uint32_t *out,
                         uint32_t max);

/* ---- the whole ---- */

uint64_t kith_hnsw_count(const struct kith_hnsw *h);     /* elements in use */
uint32_t kith_hnsw_slot_end(const struct kith_hnsw *h);  /* slots in use are below */
unsigned kith_hnsw_max_level(const struct kith_hnsw *h); /* of the entry point; 0 when empty */
/* [writer] A live slot, each equally likely; KITH_HNSW_NONE when empty. */
uint32_t kith_hnsw_random(const struct kith_hnsw *h, struct kith_rng *rng);

struct kith_hnsw_stats {
    uint64_t elements, tail, deleted;
    uint64_t slots;                              /* ever used and not given back */
    uint64_t code_bytes, kept_bytes, link_bytes; /* codes; what is kept beside them; links */
    uint64_t spread_bytes;                       /* SPREAD: codes beside the links */
    uint64_t element_bytes, search_bytes;        /* the rest of a slot; scratch */
    uint64_t bytes;                              /* all of it */
    double mean_degree;                          /* level 0, of a sample */
    uint64_t levels[KITH_HNSW_LEVEL_MAX + 1];    /* elements whose top level this is */
    const char *kernels;                         /* "avx512-bf16", "avx512", "avx2-vnni", ... */
};
/* [writer] Reads up to 1,000 elements for the degree; the rest is counted all along. */
void kith_hnsw_get_stats(const struct kith_hnsw *h, struct kith_hnsw_stats *stats);
/* Bytes alone: cheap. */
uint64_t kith_hnsw_bytes(const struct kith_hnsw *h);

/* Proves the graph: links valid, none to itself or twice, degrees, levels, counts, entry point, every linked
 * element reachable from it. [writer], with no work() running. KITH_OK, KITH_ENOMEM, or KITH_ECORRUPT and
 * what is wrong. */
int kith_hnsw_check(const struct kith_hnsw *h, struct kith_error *error);

/* ---- save and restore [writer]; workers and searches may run on while it saves ---- */

/* Appends the options and the numbering: open an index from it with restore_open. */
void kith_hnsw_save_header(const struct kith_hnsw *h, struct kith_buf *out);
/* Appends code, norm, level and links of one live element. A failed buf is the caller's to see. */
void kith_hnsw_save_element(const struct kith_hnsw *h, uint32_t slot, struct kith_buf *out);

/* Opens an empty index with the saved options; tail_max, kernel_max and release are taken from `options`.
 * KITH_ECORRUPT, KITH_EVERSION, KITH_ENOMEM. */
int kith_hnsw_restore_open(struct kith_hnsw **out, struct kith_slice header,
                           const struct kith_hnsw_options *options);
/* Puts an element back at `slot`. The bytes are not trusted: KITH_ECORRUPT. KITH_EEXIST when the slot is in
 * use. Slots may come in any order; before restore_finish no search, work, add or remove. */
int kith_hnsw_restore_element(struct kith_hnsw *h, uint32_t slot, struct kith_slice record, uint64_t user);
/* Drops links that lead nowhere, chooses the entry point; what is not linked goes to the tail. KITH_ENOMEM.
 */
int kith_hnsw_restore_finish(struct kith_hnsw *h);

#endif
