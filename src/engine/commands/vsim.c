/* VSIM: the arguments are read and the names looked up on the keyspace thread; the search between runs as a
 * task on a worker, on what the index publishes without locks. */
#include "base/num.h"
#include "engine/attributes.h"
#include "engine/commands/vset.h"
#include "engine/filter.h"

#include <float.h>
#include <stdlib.h>

enum {
    COUNT_DEFAULT = 10,
    EF_DEFAULT = 100,     /* as in Redis */
    INLINE_ELEMENTS = 64, /* a search among fewer is done sooner than it is handed over */
    SPARE_HITS = 16,      /* asked for beyond COUNT, in the place of what is removed while the search runs */
};

struct search {
    struct kith_deferred deferred; /* first: the driver hands this back */
    struct kith_vset *vset;        /* held from `begun` on */
    struct kith_vector_argument vector;
    uint32_t slot, generation; /* of ELE, whose vector `vector` is; KITH_HNSW_NONE: a vector was given */
    bool begun, started;       /* kith_vset_search_begin and _start were called */
    bool with_scores, with_attributes, exact, no_thread;
    int64_t count, ef, filter_ef;
    uint32_t room; /* of hits: count and some spare ones */
    float max_distance;
    struct kith_filter *filter;
    struct kith_hnsw_hit *hits;
    int hit_count; /* or a status */
};

static void close_search(struct kith_deferred *deferred)
{
    struct search *search = (struct search *)deferred;
    kith_filter_close(search->filter);
    free(search->vector.values);
    free(search->hits);
    if (search->begun && !search->started) /* the client was gone before its turn came */
        kith_vset_search_start(search->vset);
    if (search->begun)
        kith_vset_search_end(search->vset);
    free(search);
}

static bool match(void *context, uint32_t slot, uint64_t user)
{
    return kith_filter_match(context, (const struct kith_attributes *)(uintptr_t)user);
}

static void run_search(struct kith_task *task)
{
    struct search *search = (struct search *)task;
    struct kith_hnsw_query query = {
        .vector = search->vector.values,
        .k = search->room,
        .ef = (uint32_t)search->ef,
        .exact = search->exact,
        .max_distance = search->max_distance,
        .filter = search->filter ? match : NULL,
        .filter_context = search->filter,
        .filter_ef = (uint32_t)search->filter_ef,
    };
    search->started = true;
    kith_vset_search_start(search->vset);
    search->hit_count = kith_hnsw_search(kith_vset_index(search->vset), &query, search->hits, NULL);
}

/* ---- the reply ---- */

static bool is_there(const struct kith_hnsw *index, uint32_t slot, uint32_t generation)
{
    return kith_hnsw_is_live(index, slot) && kith_hnsw_generation(index, slot) == generation;
}

/* Elements that were removed while the search ran are left out. The element that was asked about is like
 * itself, whatever rounding says. */
static int drop_removed(struct search *search)
{
    const struct kith_hnsw *index = kith_vset_index(search->vset);
    struct kith_slice name;
    int kept = 0;
    for (int i = 0; i < search->hit_count && kept < search->count; i++) {
        struct kith_hnsw_hit hit = search->hits[i];
        if (!is_there(index, hit.slot, hit.generation) || !kith_vset_name(search->vset, hit.slot, &name))
            continue;
        if (hit.slot == search->slot && hit.generation == search->generation) {
            hit.distance = 0;
            memmove(search->hits + 1, search->hits, (size_t)kept * sizeof *search->hits);
            search->hits[0] = hit;
            kept++;
        } else {
            search->hits[kept++] = hit;
        }
    }
    return kept;
}

static void reply_attributes(struct kith_reply *reply, const struct kith_attributes *attributes)
{
    if (attributes)
        kith_reply_bulk(reply, kith_attributes_text(attributes));
    else
        kith_reply_null(reply);
}

static void reply_hit(struct kith_reply *reply, const struct search *search, const struct kith_hnsw_hit *hit)
{
    struct kith_slice name = {0};
    kith_vset_name(search->vset, hit->slot, &name);
    kith_reply_bulk(reply, name);
    if (search->with_scores && search->with_attributes && reply->protocol >= 3)
        kith_reply_array(reply, 2);
    if (search->with_scores)
        kith_reply_double(reply, kith_vset_score(kith_vset_get_options(search->vset)->metric, hit->distance));
    if (search->with_attributes)
        reply_attributes(reply, kith_vset_attributes(search->vset, hit->slot));
}

static void finish_search(struct kith_deferred *deferred, struct kith_reply *reply)
{
    struct search *search = (struct search *)deferred;
    if (search->hit_count < 0) {
        kith_reply_error(reply,
                         "OOM not enough memory for the search: ask for fewer elements or a smaller EF");
        return;
    }
    int count = drop_removed(search);
    size_t fields = 1 + search->with_scores + search->with_attributes;
    if (fields > 1 && reply->protocol >= 3)
        kith_reply_map(reply, (size_t)count);
    else
        kith_reply_array(reply, (size_t)count * fields);
    for (int i = 0; i < count; i++)
        reply_hit(reply, search, &search->hits[i]);
}

/* ---- the arguments ---- */

static bool take_number(struct kith_call *call, size_t *index, int64_t most, int64_t *value,
                        const char *error)
{
    return kith_call_int_in(call, ++*index, 1, most, value, error);
}

static bool take_filter(struct kith_call *call, size_t *index, struct search *search)
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

static bool take_epsilon(struct kith_call *call, size_t *index, struct search *search)
{
    double epsilon;
    if (kith_num_parse_double(call->argv[++*index], 0, &epsilon) != KITH_OK || !(epsilon > 0)) {
        kith_reply_error(call->reply, "ERR invalid EPSILON: how far a score may be from 1, above 0");
        return false;
    }
    search->max_distance = epsilon >= 1 ? 2.0f : (float)(2 * epsilon);
    return true;
}

/* 1: an option was taken, 0: there is none of that name, -1: an error was replied. */
static int take_option(struct kith_call *call, size_t *index, struct search *search)
{
    static const struct {
        const char *word;
        size_t offset;
    } flags[] = {{"withscores", offsetof(struct search, with_scores)},
                 {"withattribs", offsetof(struct search, with_attributes)},
                 {"truth", offsetof(struct search, exact)},
                 {"nothread", offsetof(struct search, no_thread)}};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (!kith_call_is(call, *index, flags[i].word))
            continue;
        *(bool *)((char *)search + flags[i].offset) = true;
        return 1;
    }
    if (*index + 1 >= call->argc)
        return 0;
    bool fine;
    if (kith_call_is(call, *index, "count"))
        fine = take_number(call, index, KITH_HNSW_EF_MAX, &search->count,
                           "ERR invalid COUNT: a number from 1 to 1000000");
    else if (kith_call_is(call, *index, "ef")) /* more is more than any set needs: the bound, not an error */
        fine = take_number(call, index, INT64_MAX, &search->ef, "ERR invalid EF: a number above 0");
    else if (kith_call_is(call, *index, "filter-ef"))
        fine = take_number(call, index, INT64_MAX, &search->filter_ef,
                           "ERR invalid FILTER-EF: a number above 0");
    else if (kith_call_is(call, *index, "filter"))
        fine = take_filter(call, index, search);
    else if (kith_call_is(call, *index, "epsilon"))
        fine = take_epsilon(call, index, search);
    else
        return 0;
    return fine ? 1 : -1;
}

static int64_t at_most(int64_t value, int64_t most)
{
    return value < most ? value : most;
}

/* The query itself; an element's name is returned for later, because the set is not looked up yet. */
static bool parse_query(struct kith_call *call, size_t *index, struct search *search,
                        struct kith_slice *element)
{
    if (!kith_call_is(call, 2, "ele"))
        return kith_vector_argument_parse(call, index, &search->vector);
    *element = call->argv[3];
    *index = 4;
    return true;
}

static bool parse(struct kith_call *call, struct search *search, struct kith_slice *element)
{
    size_t i = 2;
    search->count = COUNT_DEFAULT;
    search->ef = EF_DEFAULT;
    if (!parse_query(call, &i, search, element))
        return false;
    for (; i < call->argc; i++) {
        int taken = take_option(call, &i, search);
        if (taken == 0)
            kith_call_syntax_error(call);
        if (taken <= 0)
            return false;
    }
    search->ef = at_most(search->ef, KITH_HNSW_EF_MAX);
    search->filter_ef = at_most(search->filter_ef, UINT32_MAX);
    return true;
}

/* The vector of ELE is copied: the element may be gone by the time the search runs. False after a reply. */
static bool take_element(struct kith_call *call, struct search *search, struct kith_slice element)
{
    const struct kith_hnsw *index = kith_vset_index(search->vset);
    uint32_t dim = kith_vset_get_options(search->vset)->dim;
    search->slot = kith_vset_find(search->vset, element);
    if (search->slot == KITH_HNSW_NONE) {
        kith_reply_error(call->reply, "ERR element not found in set");
        return false;
    }
    search->generation = kith_hnsw_generation(index, search->slot);
    search->vector = (struct kith_vector_argument){malloc(dim * sizeof *search->vector.values), dim};
    if (search->vector.values)
        kith_hnsw_vector(index, search->slot, search->vector.values);
    else
        kith_call_no_memory(call);
    return search->vector.values != NULL;
}

/* Spare hits must cost nothing: within EF, and where no filter would have to look for them. */
static uint32_t room_for_hits(const struct search *search)
{
    int64_t count = at_most(search->count, (int64_t)kith_vset_count(search->vset));
    int64_t room = at_most(count + SPARE_HITS, search->ef);
    return (uint32_t)(search->filter || room < count ? count : room);
}

/* Looks up set and element, makes room for the hits. False when a reply was written. */
static bool prepare(struct kith_call *call, struct search *search, struct kith_slice element)
{
    if (!kith_vset_open_read(call, &search->vset))
        return false;
    if (!search->vset) {
        kith_reply_array(call->reply, 0);
        return false;
    }
    search->slot = KITH_HNSW_NONE;
    if (element.data ? !take_element(call, search, element)
                     : !kith_vector_argument_fit(call, search->vset, &search->vector))
        return false;
    search->room = room_for_hits(search);
    search->hits = malloc(search->room * sizeof *search->hits);
    if (!search->hits)
        kith_call_no_memory(call);
    return search->hits != NULL;
}

void kith_vsim_command(struct kith_call *call)
{
    struct kith_slice element = {0};
    struct search *search = calloc(1, sizeof *search);
    if (!search) {
        kith_call_no_memory(call);
        return;
    }
    if (!parse(call, search, &element) || !prepare(call, search, element)) {
        close_search(&search->deferred);
        return;
    }
    search->begun = true;
    kith_vset_search_begin(search->vset);
    search->deferred =
        (struct kith_deferred){.task = {.run = run_search}, .finish = finish_search, .close = close_search};
    if (!search->no_thread && kith_vset_count(search->vset) > INLINE_ELEMENTS) {
        kith_call_defer(call, &search->deferred);
        return;
    }
    run_search(&search->deferred.task);
    finish_search(&search->deferred, call->reply);
    close_search(&search->deferred);
}
