/* One VSIM on its way: its arguments are read on the keyspace thread (vsim.c), its queries run on workers
 * (vsim_run.c), and its reply is written on the keyspace thread again (vsim_reply.c). */
#ifndef KITH_ENGINE_COMMANDS_VSIM_H
#define KITH_ENGINE_COMMANDS_VSIM_H

#include "engine/commands/vset.h"
#include "engine/filter.h"

#include <pthread.h>
#include <stdatomic.h>

/* What one query has for itself; the options are the same for all of a call. */
struct kith_vsim_query {
    struct kith_vector_argument vector;
    struct kith_slice element; /* ELE's name, while the arguments are read; data NULL: a vector was given */
    uint32_t slot, generation; /* of ELE, whose vector `vector` is; slot KITH_HNSW_NONE: a vector was given */
    struct kith_hnsw_hit *hits;        /* in the search's block */
    int hit_count;                     /* or a status */
    struct kith_hnsw_profile *profile; /* NULL: not asked for; owned */
    uint64_t start_ns, end_ns;         /* with a profile */
};

struct kith_vsim {
    struct kith_deferred deferred; /* first: the driver hands this back */
    struct kith_vset *vset;        /* held from `begun` on */
    bool begun, started;           /* kith_vset_search_begin and _start were called */
    uint64_t removed;              /* from the set, when it began */
    unsigned holders;              /* the driver and the helpers; all on the keyspace thread */

    bool with_scores, with_distances, with_attributes, exact, no_thread, profiled;
    bool prefetched; /* by the driver */
    bool several;    /* QUERIES: the reply is an array of results */
    int64_t count, ef, filter_ef;
    double recall;  /* 0: by EF */
    double epsilon; /* 0: no bound */
    float max_distance;
    int64_t mmr_pool; /* 0: no MMR */
    float mmr_lambda;
    bool pool_given, mmr_given, ef_given;
    struct kith_filter *filter;
    uint64_t given_ns; /* when the call came; with a profile */

    uint32_t room;              /* hits of each query: count, and perhaps some spare ones */
    struct kith_hnsw_hit *hits; /* owned: room for each query */
    uint32_t query_count;
    struct kith_vsim_query *queries; /* owned, or &one */
    struct kith_vsim_query one;

    /* Several workers share the queries: */
    _Atomic uint32_t next; /* the first query that nobody has taken */
    bool shared;           /* there are helpers: lock and all_done are in use */
    pthread_mutex_t lock;
    pthread_cond_t all_done;
    uint32_t done_count; /* under the lock */
};

/* Starts it: on this thread with its reply at once, or handed over to the call's driver. */
void kith_vsim_start(struct kith_call *call, struct kith_vsim *search);
/* Runs query n again, on this thread. */
void kith_vsim_run_query(struct kith_vsim *search, uint32_t n);
/* Drops one holder; the last one frees. */
void kith_vsim_let_go(struct kith_vsim *search);

/* Starts the loads that the reply's names need: stage 0, then 1. */
void kith_vsim_prefetch(const struct kith_vsim *search, int stage);
/* Writes the whole reply. Once. */
void kith_vsim_reply(struct kith_vsim *search, struct kith_reply *reply);
/* The reply where there is no such key. */
void kith_vsim_reply_nothing(const struct kith_vsim *search, struct kith_reply *reply);

#endif
