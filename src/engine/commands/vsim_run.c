/* VSIM's queries on workers. A call with one query is one task. One with several is as many tasks as there are
 * workers, at most: each takes the next query that nobody has until there is none, and the task that the driver
 * waits for waits for the last query that another one has. */
#include "base/os.h"
#include "engine/attributes.h"
#include "engine/commands/vsim.h"

#include <stdlib.h>

enum {
    INLINE_ELEMENTS = 64, /* a search among fewer is done sooner than it is handed over */
    LONG_EF = 1000,       /* from here on a search is not put into one task with others */
};

/* A task beside the driver's. */
struct helper {
    struct kith_task task;
    struct kith_vsim *search;
};

void kith_vsim_let_go(struct kith_vsim *search)
{
    if (--search->holders > 0)
        return;
    kith_filter_close(search->filter);
    for (uint32_t i = 0; i < search->query_count; i++) {
        free(search->queries[i].vector.values);
        free(search->queries[i].profile);
    }
    if (search->queries != &search->one)
        free(search->queries);
    free(search->hits);
    if (search->shared) {
        pthread_mutex_destroy(&search->lock);
        pthread_cond_destroy(&search->all_done);
    }
    if (search->begun && !search->started) /* the client was gone before its turn came */
        kith_vset_search_start(search->vset);
    if (search->begun)
        kith_vset_search_end(search->vset);
    free(search);
}

static void close_search(struct kith_deferred *deferred)
{
    kith_vsim_let_go((struct kith_vsim *)deferred);
}

static void finish_search(struct kith_deferred *deferred, struct kith_reply *reply)
{
    kith_vsim_reply((struct kith_vsim *)deferred, reply);
}

static void prefetch_search(struct kith_deferred *deferred, int stage)
{
    struct kith_vsim *search = (struct kith_vsim *)deferred;
    search->prefetched = true;
    kith_vsim_prefetch(search, stage);
}

/* ---- running ---- */

static bool match(void *context, uint32_t slot, uint64_t user)
{
    return kith_filter_match(context, (const struct kith_attributes *)(uintptr_t)user);
}

void kith_vsim_run_query(struct kith_vsim *search, uint32_t n)
{
    struct kith_vsim_query *one = &search->queries[n];
    struct kith_hnsw_query query = {
        .vector = one->vector.values,
        .k = search->room,
        .ef = (uint32_t)search->ef,
        .recall = (float)search->recall,
        .recall_k = (uint32_t)search->count,
        .of_element = one->slot != KITH_HNSW_NONE,
        .exact = search->exact,
        .timed = search->profiled,
        .max_distance = search->max_distance,
        .filter = search->filter ? match : NULL,
        .filter_context = search->filter,
        .filter_ef = (uint32_t)search->filter_ef,
        .mmr_pool = (uint32_t)search->mmr_pool,
        .mmr_lambda = search->mmr_lambda,
    };
    if (one->profile)
        one->start_ns = kith_os_monotonic_ns();
    one->hit_count = kith_hnsw_search(kith_vset_index(search->vset), &query, one->hits, one->profile);
    if (one->profile)
        one->end_ns = kith_os_monotonic_ns();
}

/* Takes queries until there is none left. */
static void run_queries(struct kith_vsim *search)
{
    uint32_t ran = 0, n;
    while ((n = atomic_fetch_add_explicit(&search->next, 1, memory_order_relaxed)) < search->query_count) {
        kith_vsim_run_query(search, n);
        ran++;
    }
    if (!search->shared)
        return;
    pthread_mutex_lock(&search->lock);
    search->done_count += ran;
    if (search->done_count == search->query_count)
        pthread_cond_broadcast(&search->all_done);
    pthread_mutex_unlock(&search->lock);
}

static void run_helper(struct kith_task *task)
{
    run_queries(((struct helper *)task)->search);
}

static void helper_done(struct kith_task *task)
{
    struct helper *helper = (struct helper *)task;
    kith_vset_task_done(helper->search->vset);
    kith_vsim_let_go(helper->search);
    free(helper);
}

static void run_search(struct kith_task *task)
{
    struct kith_vsim *search = (struct kith_vsim *)task;
    search->started = true;
    kith_vset_search_start(search->vset);
    run_queries(search);
    if (!search->shared)
        return;
    pthread_mutex_lock(&search->lock);
    while (search->done_count < search->query_count) /* others have them, and are at work */
        pthread_cond_wait(&search->all_done, &search->lock);
    pthread_mutex_unlock(&search->lock);
}

/* ---- starting ---- */

/* Without memory, or without workers, the driver's task does it all. */
static void call_helpers(struct kith_vsim *search)
{
    unsigned workers = kith_vset_worker_count(search->vset);
    unsigned wanted = workers < search->query_count ? workers : search->query_count;
    for (unsigned i = 1; i < wanted; i++) {
        struct helper *helper = malloc(sizeof *helper);
        if (!helper)
            return;
        if (!search->shared) {
            pthread_mutex_init(&search->lock, NULL);
            pthread_cond_init(&search->all_done, NULL);
            search->shared = true;
        }
        *helper = (struct helper){.task = {.run = run_helper, .done = helper_done}, .search = search};
        search->holders++;
        kith_vset_submit(search->vset, &helper->task);
    }
}

/* A walk looks at about half of the links of as many elements as EF says, and at those that are not linked yet: a cache
 * miss or two for each, and its code's bytes; and it clears a bit for every element. Everything else may look at any
 * number, and so may a walk that finds fewer than COUNT among elements that were removed: it is bounded only where
 * there are not so many of these. */
static uint64_t cost_ns(const struct kith_vsim *search)
{
    enum { EACH_NS = 40, BYTES_A_NS = 16 };
    static const unsigned bits[] = {[KITH_HNSW_I8] = 8,   [KITH_HNSW_I4] = 4,    [KITH_HNSW_F32] = 32,
                                    [KITH_HNSW_F16] = 16, [KITH_HNSW_BF16] = 16, [KITH_HNSW_BIN] = 1};
    const struct kith_hnsw *index = kith_vset_index(search->vset);
    const struct kith_hnsw_options *o = kith_hnsw_get_options(index);
    struct kith_hnsw_backlog backlog = kith_hnsw_get_backlog(index);
    uint64_t ef = search->ef > search->room ? (uint64_t)search->ef : search->room;
    if (search->deferred.alone || search->recall > 0 || search->mmr_pool ||
        backlog.deleted + search->room > ef)
        return 0;
    uint64_t elements = ef * o->m + backlog.tail;
    return elements * (EACH_NS + (uint64_t)o->dim * bits[o->codes] / 8 / BYTES_A_NS) +
           kith_hnsw_slot_end(index) / 8 / BYTES_A_NS;
}

void kith_vsim_start(struct kith_call *call, struct kith_vsim *search)
{
    search->begun = true;
    search->removed = kith_vset_removed(search->vset);
    kith_vset_search_begin(search->vset);
    search->deferred =
        (struct kith_deferred){.task = {.run = run_search},
                               .finish = finish_search,
                               .close = close_search,
                               .prefetch = prefetch_search,
                               .alone = search->query_count > 1 || search->exact || search->filter ||
                                        search->ef >= LONG_EF || search->mmr_pool >= LONG_EF};
    search->deferred.cost_ns = cost_ns(search);
    if (!search->no_thread && kith_vset_count(search->vset) > INLINE_ELEMENTS) {
        call_helpers(search);
        kith_call_defer(call, &search->deferred);
        return;
    }
    run_search(&search->deferred.task);
    kith_vsim_reply(search, call->reply);
    kith_vsim_let_go(search);
}
