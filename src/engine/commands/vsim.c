/* VSIM: its arguments. They are read and the names looked up on the keyspace thread; the searches run as tasks on
 * workers (vsim_run.c), on what the index publishes without locks. */
#include "engine/commands/vsim.h"

#include "base/num.h"
#include "base/os.h"
#include "engine/vset_calibrate.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

enum {
    COUNT_DEFAULT = 10,
    EF_DEFAULT = 100, /* as in Redis */
    SPARE_HITS = 16,  /* of an exact search, in the place of what is removed while it runs */
    QUERIES_MAX = 1024,
    HITS_MAX = 1000000, /* over all queries of a call */
    MMR_POOL_LEAST = 50,
    MMR_POOL_MAX = 10000,
    MMR_DISTANCES_MAX = 4000000, /* POOL times COUNT: a second or so */
};

/* ---- options ---- */

static bool take_number(struct kith_call *call, size_t *index, int64_t most, int64_t *value,
                        const char *error)
{
    return kith_call_int_in(call, ++*index, 1, most, value, error);
}

static bool take_filter(struct kith_call *call, size_t *index, struct kith_vsim *search)
{
    struct kith_error error;
    kith_filter_close(search->filter);
    search->filter = NULL;
    int status = kith_filter_open(&search->filter, call->argv[++*index], &error);
    if (status == KITH_EINVAL)
        kith_reply_error_format(call->reply, "ERR %s", error.text);
    else if (status != KITH_OK)
        kith_call_no_memory(call);
    return status == KITH_OK;
}

static bool take_epsilon(struct kith_call *call, size_t *index, struct kith_vsim *search)
{
    if (kith_num_parse_double(call->argv[++*index], 0, &search->epsilon) == KITH_OK && search->epsilon > 0)
        return true;
    kith_reply_error(call->reply, "ERR invalid EPSILON: how far a score may be from 1, above 0");
    return false;
}

static bool take_recall(struct kith_call *call, size_t *index, struct kith_vsim *search)
{
    if (kith_num_parse_double(call->argv[++*index], 0, &search->recall) == KITH_OK && search->recall > 0 &&
        search->recall < 1)
        return true;
    kith_reply_error(call->reply,
                     "ERR invalid RECALL: a number between 0 and 1, such as 0.95; for all of them use TRUTH");
    return false;
}

static bool take_ef(struct kith_call *call, size_t *index, struct kith_vsim *search)
{
    search->ef_given = true;
    return take_number(call, index, INT64_MAX, &search->ef, "ERR invalid EF: a number above 0");
}

static bool take_lambda(struct kith_call *call, size_t *index, struct kith_vsim *search)
{
    double lambda;
    if (kith_num_parse_double(call->argv[++*index], 0, &lambda) != KITH_OK || !(lambda >= 0 && lambda <= 1)) {
        kith_reply_error(call->reply, "ERR invalid MMR: a number from 0 (unlike each other) to 1 (nearest)");
        return false;
    }
    search->mmr_lambda = (float)lambda;
    search->mmr_given = true;
    return true;
}

static bool take_pool(struct kith_call *call, size_t *index, struct kith_vsim *search)
{
    search->pool_given = true;
    return take_number(call, index, MMR_POOL_MAX, &search->mmr_pool,
                       "ERR invalid POOL: a number from 1 to 10000");
}

static bool take_flag(struct kith_call *call, size_t index, struct kith_vsim *search)
{
    static const struct {
        const char *word;
        size_t offset;
    } flags[] = {{"withscores", offsetof(struct kith_vsim, with_scores)},
                 {"withdistances", offsetof(struct kith_vsim, with_distances)},
                 {"withattribs", offsetof(struct kith_vsim, with_attributes)},
                 {"truth", offsetof(struct kith_vsim, exact)},
                 {"profile", offsetof(struct kith_vsim, profiled)},
                 {"nothread", offsetof(struct kith_vsim, no_thread)}};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (!kith_call_is(call, index, flags[i].word))
            continue;
        *(bool *)((char *)search + flags[i].offset) = true;
        return true;
    }
    return false;
}

enum valued {
    OPTION_COUNT,
    OPTION_EF,
    OPTION_FILTER,
    OPTION_FILTER_EF,
    OPTION_EPSILON,
    OPTION_MMR,
    OPTION_POOL,
    OPTION_RECALL,
    NO_OPTION
};

static enum valued find_valued(const struct kith_call *call, size_t index)
{
    static const char *const words[] = {"count",   "ef",  "filter", "filter-ef",
                                        "epsilon", "mmr", "pool",   "recall"};
    unsigned i = 0;
    while (i < NO_OPTION && !kith_call_is(call, index, words[i]))
        i++;
    return (enum valued)i;
}

static bool take_valued(struct kith_call *call, size_t *index, enum valued option, struct kith_vsim *search)
{
    switch (option) {
    case OPTION_COUNT:
        return take_number(call, index, HITS_MAX, &search->count,
                           "ERR invalid COUNT: a number from 1 to 1000000");
    case OPTION_EF: /* more is more than any set needs: the bound, not an error */
        return take_ef(call, index, search);
    case OPTION_FILTER:
        return take_filter(call, index, search);
    case OPTION_FILTER_EF:
        return take_number(call, index, INT64_MAX, &search->filter_ef,
                           "ERR invalid FILTER-EF: a number above 0");
    case OPTION_EPSILON:
        return take_epsilon(call, index, search);
    case OPTION_MMR:
        return take_lambda(call, index, search);
    case OPTION_POOL:
        return take_pool(call, index, search);
    case OPTION_RECALL:
        return take_recall(call, index, search);
    case NO_OPTION:
        break;
    }
    return false;
}

/* The words of argv[index], cut to what an error can show. */
static int shown_length(const struct kith_call *call, size_t index)
{
    return (int)(call->argv[index].length < 64 ? call->argv[index].length : 64);
}

static bool take_option(struct kith_call *call, size_t *index, struct kith_vsim *search)
{
    if (take_flag(call, *index, search))
        return true;
    enum valued option = find_valued(call, *index);
    if (option != NO_OPTION && *index + 1 < call->argc)
        return take_valued(call, index, option, search);
    kith_reply_error_format(call->reply,
                            option == NO_OPTION ? "ERR syntax error: VSIM has no option '%.*s'"
                                                : "ERR syntax error: %.*s needs a value",
                            shown_length(call, *index), call->argv[*index].data);
    return false;
}

/* ---- queries ---- */

/* An element's name is kept for later: the set is not looked up yet. */
static bool parse_query(struct kith_call *call, size_t *index, struct kith_vsim_query *query)
{
    if (!kith_call_is(call, *index, "ele"))
        return kith_vector_argument_parse(call, index, &query->vector);
    if (*index + 1 >= call->argc)
        return kith_vector_refuse(call, "ELE takes the name of an element");
    query->element = call->argv[*index + 1];
    *index += 2;
    return true;
}

static bool parse_several(struct kith_call *call, size_t *index, struct kith_vsim *search)
{
    int64_t count;
    if (!kith_call_int_in(call, ++*index, 1, QUERIES_MAX, &count,
                          "ERR invalid QUERIES: a number from 1 to 1024"))
        return false;
    search->several = true;
    struct kith_vsim_query *queries = calloc((size_t)count, sizeof *queries);
    if (!queries) {
        kith_call_no_memory(call);
        return false;
    }
    search->queries = queries;
    for (++*index; search->query_count < (uint32_t)count; search->query_count++)
        if (!parse_query(call, index, &queries[search->query_count]))
            return false;
    return true;
}

static bool parse_queries(struct kith_call *call, size_t *index, struct kith_vsim *search)
{
    if (kith_call_is(call, *index, "queries"))
        return parse_several(call, index, search);
    search->query_count = 1;
    return parse_query(call, index, &search->one);
}

static int64_t at_most(int64_t value, int64_t most)
{
    return value < most ? value : most;
}

/* How many candidates the results are chosen from. False after a reply. */
static bool choose_pool(struct kith_call *call, struct kith_vsim *search)
{
    int64_t most = MMR_DISTANCES_MAX / search->count, wanted = 4 * search->count;
    if (search->pool_given && !search->mmr_given) {
        kith_reply_error(call->reply, "ERR syntax error: POOL is how many candidates MMR chooses from");
        return false;
    }
    if (!search->mmr_given)
        return true;
    if (!search->pool_given)
        search->mmr_pool =
            at_most(at_most(wanted > MMR_POOL_LEAST ? wanted : MMR_POOL_LEAST, most), MMR_POOL_MAX);
    if (search->mmr_pool <= most && (search->pool_given || search->mmr_pool >= search->count))
        return true;
    kith_reply_error(call->reply, "ERR MMR would take too long: POOL times COUNT may be 4000000 at most");
    return false;
}

static bool parse(struct kith_call *call, struct kith_vsim *search)
{
    size_t i = 2;
    if (!parse_queries(call, &i, search))
        return false;
    for (; i < call->argc; i++)
        if (!take_option(call, &i, search))
            return false;
    if (search->recall > 0 && !search->ef_given)
        search->ef = 0; /* no bound */
    search->ef = at_most(search->ef, KITH_HNSW_EF_MAX);
    search->filter_ef = at_most(search->filter_ef, UINT32_MAX);
    return choose_pool(call, search);
}

/* ---- the set ---- */

/* The vector of ELE is copied: the element may be gone by the time the search runs. False after a reply. */
static bool take_element(struct kith_call *call, struct kith_vsim *search, struct kith_vsim_query *query)
{
    const struct kith_hnsw *index = kith_vset_index(search->vset);
    uint32_t dim = kith_vset_get_options(search->vset)->dim;
    query->slot = kith_vset_find(search->vset, query->element);
    if (query->slot == KITH_HNSW_NONE) {
        kith_reply_error(call->reply, "ERR element not found in set");
        return false;
    }
    query->generation = kith_hnsw_generation(index, query->slot);
    query->vector = (struct kith_vector_argument){malloc(dim * sizeof *query->vector.values), dim};
    if (query->vector.values)
        kith_hnsw_vector(index, query->slot, query->vector.values);
    else
        kith_call_no_memory(call);
    return query->vector.values != NULL;
}

/* EPSILON leaves what has a score of 1 - epsilon and more: see kith_vset_score. */
static float bound_of(enum kith_hnsw_metric metric, double epsilon)
{
    double bound = epsilon;
    if (epsilon <= 0)
        return 0;
    if (metric == KITH_HNSW_L2SQ)
        bound = epsilon < 1 ? epsilon / (1 - epsilon) : (double)FLT_MAX;
    else if (metric == KITH_HNSW_COSINE)
        bound = epsilon < 1 ? 2 * epsilon : 2;
    return (float)fmin(fmax(bound, (double)FLT_MIN), (double)FLT_MAX);
}

/* A search on codes is done again when something was removed meanwhile; a scan is too long for that. Where a filter
 * would have to look for them, spare hits cost too much. */
static uint32_t room_for_hits(const struct kith_vsim *search, int64_t count)
{
    int64_t spare = search->exact && !search->filter && !search->mmr_given ? SPARE_HITS : 0;
    return (uint32_t)(count + spare);
}

static bool make_room(struct kith_call *call, struct kith_vsim *search)
{
    int64_t count = at_most(search->count, (int64_t)kith_vset_count(search->vset));
    search->room = room_for_hits(search, count);
    if (count * search->query_count > HITS_MAX) {
        kith_reply_error(call->reply, "ERR too many results: QUERIES times COUNT may be 1000000 at most");
        return false;
    }
    search->hits = malloc((size_t)search->room * search->query_count * sizeof *search->hits);
    bool fine = search->hits;
    for (uint32_t i = 0; fine && i < search->query_count; i++) {
        struct kith_vsim_query *query = &search->queries[i];
        query->hits = search->hits + (size_t)i * search->room;
        if (search->profiled)
            fine = (query->profile = calloc(1, sizeof *query->profile)) != NULL;
    }
    if (!fine)
        kith_call_no_memory(call);
    return fine;
}

/* Looks up set and elements, makes room for the hits. False when a reply was written. */
static bool prepare(struct kith_call *call, struct kith_vsim *search)
{
    if (!kith_vset_open_read(call, &search->vset))
        return false;
    if (!search->vset) {
        kith_vsim_reply_nothing(search, call->reply);
        return false;
    }
    if (search->recall > 0)
        kith_vset_calibrate_begin(search->vset);
    for (uint32_t i = 0; i < search->query_count; i++) {
        struct kith_vsim_query *query = &search->queries[i];
        query->slot = KITH_HNSW_NONE;
        if (query->element.data ? !take_element(call, search, query)
                                : !kith_vector_argument_fit(call, search->vset, &query->vector))
            return false;
    }
    search->max_distance = bound_of(kith_vset_get_options(search->vset)->metric, search->epsilon);
    return make_room(call, search);
}

void kith_vsim_command(struct kith_call *call)
{
    struct kith_vsim *search = calloc(1, sizeof *search);
    if (!search) {
        kith_call_no_memory(call);
        return;
    }
    search->holders = 1;
    search->queries = &search->one;
    search->count = COUNT_DEFAULT;
    search->ef = EF_DEFAULT;
    if (!parse(call, search) || !prepare(call, search)) {
        kith_vsim_let_go(search);
        return;
    }
    if (search->profiled)
        search->given_ns = kith_os_monotonic_ns();
    kith_vsim_start(call, search);
}
