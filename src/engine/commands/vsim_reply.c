/* What VSIM answers. Slots become names here, on the keyspace thread; all of a reply's names are looked for at once,
 * so that their cache misses overlap. */
#include "engine/attributes.h"
#include "engine/commands/vsim.h"

#include <math.h>

enum { RERUN_EF = 1000 /* a search that is done again on this thread must be short */ };

/* ---- which hits are left ---- */

static bool is_there(const struct kith_hnsw *index, uint32_t slot, uint32_t generation)
{
    return kith_hnsw_is_live(index, slot) && kith_hnsw_generation(index, slot) == generation;
}

/* The element that was asked about is like itself, whatever rounding says; by inner product it need not be. */
static bool is_own(const struct kith_vsim *search, const struct kith_vsim_query *query,
                   const struct kith_hnsw_hit *hit)
{
    return hit->slot == query->slot && hit->generation == query->generation &&
           kith_vset_get_options(search->vset)->metric != KITH_HNSW_INNER_PRODUCT;
}

/* Elements that were removed while the search ran, if any were, are left out. Returns how many are left, COUNT at most. */
static int drop_removed(struct kith_vsim *search, struct kith_vsim_query *query)
{
    const struct kith_hnsw *index = kith_vset_index(search->vset);
    bool all_there = kith_vset_removed(search->vset) == search->removed;
    struct kith_slice name;
    int kept = 0;
    for (int i = 0; i < query->hit_count && kept < search->count; i++) {
        struct kith_hnsw_hit hit = query->hits[i];
        if (!kith_vset_name(search->vset, hit.slot, &name) ||
            (!all_there && !is_there(index, hit.slot, hit.generation)))
            continue;
        if (is_own(search, query, &hit)) {
            hit.distance = 0;
            memmove(query->hits + 1, query->hits, (size_t)kept * sizeof *query->hits);
            query->hits[0] = hit;
            kept++;
        } else {
            query->hits[kept++] = hit;
        }
    }
    return kept;
}

static int count_hits(struct kith_vsim *search, struct kith_vsim_query *query)
{
    bool full = query->hit_count == (int)search->room;
    int count = drop_removed(search, query);
    if (!full || count >= search->count || count >= (int)search->room || search->exact ||
        search->ef > RERUN_EF)
        return count;
    /* Some were removed while it ran, and there are others: nothing is removed while it runs again. */
    kith_vsim_run_query(search, (uint32_t)(query - search->queries));
    return drop_removed(search, query);
}

void kith_vsim_prefetch(const struct kith_vsim *search, int stage)
{
    for (uint32_t n = 0; n < search->query_count; n++) {
        const struct kith_vsim_query *query = &search->queries[n];
        for (int i = 0; i < query->hit_count && i < search->count; i++) {
            if (stage == 0)
                kith_vset_prefetch_entry(search->vset, query->hits[i].slot);
            else
                kith_vset_prefetch_name(search->vset, query->hits[i].slot);
        }
    }
}

/* ---- results ---- */

static size_t field_count(const struct kith_vsim *search)
{
    return (size_t)search->with_scores + search->with_distances + search->with_attributes;
}

static void reply_attributes(struct kith_reply *reply, const struct kith_attributes *attributes)
{
    if (attributes)
        kith_reply_bulk(reply, kith_attributes_text(attributes));
    else
        kith_reply_null(reply);
}

static void reply_hit(struct kith_reply *reply, const struct kith_vsim *search,
                      const struct kith_hnsw_hit *hit)
{
    enum kith_hnsw_metric metric = kith_vset_get_options(search->vset)->metric;
    size_t fields = field_count(search);
    struct kith_slice name = {0};
    kith_vset_name(search->vset, hit->slot, &name);
    kith_reply_bulk(reply, name);
    if (fields > 1 && reply->protocol >= 3)
        kith_reply_array(reply, fields);
    if (search->with_scores)
        kith_reply_double(reply, kith_vset_score(metric, hit->distance));
    if (search->with_distances)
        kith_reply_double(reply, (double)hit->distance);
    if (search->with_attributes)
        reply_attributes(reply, kith_vset_attributes(search->vset, hit->slot));
}

static void reply_hits(struct kith_vsim *search, struct kith_vsim_query *query, struct kith_reply *reply)
{
    int count = count_hits(search, query);
    size_t fields = field_count(search);
    if (fields && reply->protocol >= 3)
        kith_reply_map(reply, (size_t)count);
    else
        kith_reply_array(reply, (size_t)count * (1 + fields));
    for (int i = 0; i < count; i++)
        reply_hit(reply, search, &query->hits[i]);
}

/* ---- the profile ---- */

struct profile_map {
    struct kith_reply *reply;
    size_t fields;
};

static void profile_name(struct profile_map *map, const char *name)
{
    map->fields++;
    kith_reply_bulk_text(map->reply, name);
}

static void profile_int(struct profile_map *map, const char *name, uint64_t value)
{
    profile_name(map, name);
    kith_reply_int(map->reply, (int64_t)value);
}

static void profile_us(struct profile_map *map, const char *name, uint64_t ns)
{
    profile_name(map, name);
    kith_reply_double(map->reply, (double)ns / 1000);
}

/* The recall to be expected: less than what was asked for when the set cannot give it, null when it is not calibrated
 * yet. */
static void profile_recall(struct profile_map *map, const struct kith_hnsw_profile *profile)
{
    profile_name(map, "recall-expected");
    if (profile->recall > 0)
        kith_reply_double(map->reply, round((double)profile->recall * 1e6) / 1e6);
    else
        kith_reply_null(map->reply);
    profile_name(map, "slack");
    kith_reply_double(map->reply, round((double)profile->slack * 1e6) / 1e6);
}

/* The way down as pairs of level and element; null: it is not there any more, or never had a name. */
static void profile_path(struct profile_map *map, const struct kith_vset *vset,
                         const struct kith_hnsw_profile *profile)
{
    profile_name(map, "path");
    kith_reply_array(map->reply, profile->path_count);
    for (uint32_t i = 0; i < profile->path_count; i++) {
        struct kith_slice name;
        kith_reply_array(map->reply, 2);
        kith_reply_int(map->reply, (int64_t)profile->path_count - 1 - i);
        if (kith_vset_name(vset, profile->path[i], &name))
            kith_reply_bulk(map->reply, name);
        else
            kith_reply_null(map->reply);
    }
}

static void profile_times(struct profile_map *map, const struct kith_vsim *search,
                          const struct kith_vsim_query *query)
{
    const struct kith_hnsw_profile *p = query->profile;
    struct profile_map times = {.reply = map->reply};
    profile_name(map, "time-us");
    struct kith_reply_mark mark = kith_reply_map_begin(map->reply);
    profile_us(&times, "queue", query->start_ns - search->given_ns);
    profile_us(&times, "prepare", p->prepare_ns);
    profile_us(&times, "unlinked", p->tail_ns);
    profile_us(&times, "descend", p->descend_ns);
    profile_us(&times, "walk", p->walk_ns);
    profile_us(&times, "refine", p->refine_ns);
    profile_us(&times, "mmr", p->mmr_ns);
    profile_us(&times, "search", query->end_ns - query->start_ns);
    kith_reply_map_end(map->reply, mark, times.fields);
}

static void reply_profile(const struct kith_vsim *search, const struct kith_vsim_query *query,
                          struct kith_reply *reply)
{
    static const char *const strategies[] = {
        [KITH_HNSW_GRAPH] = "graph", [KITH_HNSW_SCAN] = "scan", [KITH_HNSW_TWO_HOP] = "two-hop"};
    const struct kith_hnsw_profile *p = query->profile;
    struct profile_map map = {.reply = reply};
    struct kith_reply_mark mark = kith_reply_map_begin(reply);
    profile_name(&map, "strategy");
    kith_reply_bulk_text(reply, strategies[p->strategy]);
    profile_int(&map, "ef", p->ef);
    if (search->recall > 0)
        profile_recall(&map, p);
    profile_path(&map, search->vset, p);
    profile_int(&map, "hops", p->hops);
    profile_int(&map, "hops-above-level-0", p->descend_hops);
    profile_int(&map, "seeds", p->seeds);
    profile_int(&map, "evaluations", p->evaluations);
    profile_int(&map, "evaluations-unlinked", p->tail);
    profile_int(&map, "evaluations-mmr", p->mmr_evaluations);
    profile_int(&map, "refined", p->refined);
    profile_int(&map, "bytes-read", p->bytes_read);
    profile_int(&map, "filter-calls", p->filter_calls);
    profile_int(&map, "filter-hits", p->filter_passes);
    profile_times(&map, search, query);
    kith_reply_map_end(reply, mark, map.fields);
}

/* ---- the whole ---- */

static bool any_failed(const struct kith_vsim *search)
{
    for (uint32_t i = 0; i < search->query_count; i++)
        if (search->queries[i].hit_count < 0)
            return true;
    return false;
}

void kith_vsim_reply(struct kith_vsim *search, struct kith_reply *reply)
{
    if (any_failed(search)) {
        kith_reply_error(reply,
                         "OOM not enough memory for the search: ask for fewer elements or a smaller EF");
        return;
    }
    if (search->several)
        kith_reply_array(reply, search->query_count);
    if (!search->prefetched)
        for (int stage = 0; stage < 2; stage++)
            kith_vsim_prefetch(search, stage);
    for (uint32_t i = 0; i < search->query_count; i++) {
        struct kith_vsim_query *query = &search->queries[i];
        if (query->profile)
            kith_reply_array(reply, 2);
        reply_hits(search, query, reply);
        if (query->profile)
            reply_profile(search, query, reply);
    }
}

void kith_vsim_reply_nothing(const struct kith_vsim *search, struct kith_reply *reply)
{
    if (search->several)
        kith_reply_array(reply, search->query_count);
    for (uint32_t i = 0; i < search->query_count; i++) {
        if (search->profiled)
            kith_reply_array(reply, 2);
        kith_reply_array(reply, 0);
        if (search->profiled)
            kith_reply_map(reply, 0);
    }
}
