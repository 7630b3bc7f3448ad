/* Vector-set commands that read, and the rows of the whole group. Replies are those of Redis 8's vector sets.
 */
#include "engine/commands/vset.h"

#include "base/num.h"
#include "engine/attributes.h"
#include "engine/commands/groups.h"
#include "engine/limits.h"
#include "vec/calibrate.h"

#include <math.h>
#include <stdlib.h>

bool kith_vset_open_read(struct kith_call *call, struct kith_vset **vset)
{
    struct kith_key key;
    int found = kith_key_open_read(call, 1, KITH_VSET, &key);
    *vset = found > 0 ? kith_key_object(&key) : NULL;
    return found >= 0;
}

/* The element argv[2] of the set argv[1]; a null reply when either is missing. False when a reply was
 * written. */
static bool open_element(struct kith_call *call, struct kith_vset **vset, uint32_t *slot)
{
    if (!kith_vset_open_read(call, vset))
        return false;
    *slot = *vset ? kith_vset_find(*vset, call->argv[2]) : KITH_HNSW_NONE;
    if (*slot != KITH_HNSW_NONE)
        return true;
    kith_reply_null(call->reply);
    return false;
}

static void vcard_command(struct kith_call *call)
{
    struct kith_vset *vset;
    if (kith_vset_open_read(call, &vset))
        kith_reply_int(call->reply, vset ? (int64_t)kith_vset_count(vset) : 0);
}

static void vdim_command(struct kith_call *call)
{
    struct kith_vset *vset;
    if (!kith_vset_open_read(call, &vset))
        return;
    if (vset)
        kith_reply_int(call->reply, kith_vset_get_options(vset)->dim);
    else
        kith_reply_error(call->reply, "ERR key does not exist");
}

static void vismember_command(struct kith_call *call)
{
    struct kith_vset *vset;
    if (kith_vset_open_read(call, &vset))
        kith_reply_bool(call->reply, vset && kith_vset_find(vset, call->argv[2]) != KITH_HNSW_NONE);
}

static void vemb_command(struct kith_call *call)
{
    struct kith_vset *vset;
    uint32_t slot;
    bool raw = call->argc == 4 && kith_call_is(call, 3, "raw");
    if (call->argc > 3 && !raw) {
        kith_reply_error(call->reply, "ERR invalid option: VEMB takes RAW or nothing after the element");
        return;
    }
    if (!open_element(call, &vset, &slot))
        return;
    const struct kith_vset_options *options = kith_vset_get_options(vset);
    struct kith_hnsw *index = kith_vset_index(vset);
    if (raw) {
        float range;
        struct kith_slice code = kith_hnsw_code(index, slot, &range);
        bool ranged = options->codes == KITH_HNSW_I8 || options->codes == KITH_HNSW_I4;
        kith_reply_array(call->reply, ranged ? 4 : 3);
        kith_reply_simple(call->reply, kith_set_codes_name(options->codes));
        kith_reply_bulk(call->reply, code);
        kith_reply_double(call->reply, (double)kith_hnsw_norm(index, slot));
        if (ranged)
            kith_reply_double(call->reply, (double)range);
        return;
    }
    float *vector = malloc(options->dim * sizeof *vector);
    if (!vector) {
        kith_call_no_memory(call);
        return;
    }
    kith_hnsw_vector(index, slot, vector);
    kith_reply_array(call->reply, options->dim);
    for (uint32_t i = 0; i < options->dim; i++)
        kith_reply_double(call->reply, (double)vector[i]);
    free(vector);
}

static void vgetattr_command(struct kith_call *call)
{
    struct kith_vset *vset;
    uint32_t slot;
    if (!open_element(call, &vset, &slot))
        return;
    const struct kith_attributes *attributes = kith_vset_attributes(vset, slot);
    if (attributes)
        kith_reply_bulk(call->reply, kith_attributes_text(attributes));
    else
        kith_reply_null(call->reply);
}

/* The links whose slots have names: all but one that is on its way out. */
static uint32_t name_links(const struct kith_vset *vset, uint32_t *links, struct kith_slice *names,
                           uint32_t count)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++)
        if (kith_vset_name(vset, links[i], &names[kept]))
            links[kept++] = links[i];
    return kept;
}

static void reply_links(struct kith_call *call, const struct kith_vset *vset, uint32_t slot,
                        const uint32_t *links, const struct kith_slice *names, uint32_t count,
                        bool with_scores)
{
    if (with_scores)
        kith_reply_map(call->reply, count);
    else
        kith_reply_array(call->reply, count);
    for (uint32_t i = 0; i < count; i++) {
        kith_reply_bulk(call->reply, names[i]);
        if (with_scores)
            kith_reply_double(call->reply,
                              kith_vset_score(kith_vset_get_options(vset)->metric,
                                              kith_hnsw_distance(kith_vset_index(vset), slot, links[i])));
    }
}

static void vlinks_command(struct kith_call *call)
{
    struct kith_vset *vset;
    uint32_t slot;
    bool with_scores = call->argc == 4 && kith_call_is(call, 3, "withscores");
    if (call->argc > 3 && !with_scores) {
        kith_call_syntax_error(call);
        return;
    }
    if (!open_element(call, &vset, &slot))
        return;
    uint32_t most = 2 * kith_vset_get_options(vset)->m;
    uint32_t *links = malloc(most * sizeof *links);
    struct kith_slice *names = malloc(most * sizeof *names);
    if (!links || !names) {
        kith_call_no_memory(call);
        goto done;
    }
    unsigned top = kith_hnsw_level(kith_vset_index(vset), slot);
    kith_reply_array(call->reply, top + 1);
    for (unsigned level = top + 1; level-- > 0;) {
        uint32_t count = kith_hnsw_links(kith_vset_index(vset), slot, level, links, most);
        count = name_links(vset, links, names, count);
        reply_links(call, vset, slot, links, names, count, with_scores);
    }
done:
    free(links);
    free(names);
}

/* VINFO is a map whose fields are counted as they are written. */
struct info {
    struct kith_reply *reply;
    size_t fields;
};

static void info_name(struct info *info, const char *name)
{
    info->fields++;
    kith_reply_bulk_text(info->reply, name);
}

static void info_text(struct info *info, const char *name, const char *value)
{
    info_name(info, name);
    kith_reply_simple(info->reply, value);
}

static void info_int(struct info *info, const char *name, uint64_t value)
{
    info_name(info, name);
    kith_reply_int(info->reply, (int64_t)value);
}

/* The fields that Redis has, in its order. */
static void info_of_set(struct info *info, const struct kith_vset *vset)
{
    const struct kith_vset_options *options = kith_vset_get_options(vset);
    info_text(info, "quant-type", kith_set_codes_name(options->codes));
    info_int(info, "hnsw-m", options->m);
    info_int(info, "vector-dim", options->dim);
    info_int(info, "projection-input-dim", options->input_dim);
    info_int(info, "size", kith_vset_count(vset));
    info_int(info, "max-level", kith_hnsw_max_level(kith_vset_index(vset)));
    info_int(info, "attributes-count", kith_vset_attribute_count(vset));
    info_int(info, "vset-uid", kith_vset_id(vset));
    info_int(info, "hnsw-max-node-uid", kith_vset_added(vset));
}

static void info_of_choices(struct info *info, const struct kith_vset *vset)
{
    const struct kith_vset_options *options = kith_vset_get_options(vset);
    info_text(info, "metric", kith_set_metric_name(options->metric));
    info_text(info, "keep", kith_set_keep_name(options->keep));
    info_text(info, "layout", kith_set_layout_name(options->layout));
    info_int(info, "ef-construction", kith_hnsw_get_options(kith_vset_index(vset))->ef_construction);
}

static void info_of_work(struct info *info, const struct kith_vset *vset)
{
    struct kith_hnsw_backlog backlog = kith_hnsw_get_backlog(kith_vset_index(vset));
    info_int(info, "unlinked", backlog.tail);
    info_int(info, "unlinked-bound", kith_hnsw_get_options(kith_vset_index(vset))->tail_max);
    info_int(info, "crowded", backlog.crowded);
    info_int(info, "deleted-awaiting-repair", backlog.deleted);
}

static void info_of_bytes(struct info *info, const struct kith_vset *vset,
                          const struct kith_hnsw_stats *stats)
{
    info_int(info, "code-bytes", stats->code_bytes);
    info_int(info, "kept-bytes", stats->kept_bytes);
    info_int(info, "link-bytes", stats->link_bytes + stats->spread_bytes);
    info_int(info, "slot-bytes", stats->element_bytes);
    info_int(info, "search-bytes", stats->search_bytes);
    info_int(info, "index-bytes", stats->bytes);
    info_int(info, "bytes", kith_vset_bytes(vset));
}

static void info_of_graph(struct info *info, const struct kith_hnsw_stats *stats)
{
    size_t levels = KITH_HNSW_LEVEL_MAX + 1;
    while (levels > 0 && !stats->levels[levels - 1])
        levels--;
    info_name(info, "mean-degree");
    kith_reply_double(info->reply, stats->mean_degree);
    info_name(info, "levels");
    kith_reply_array(info->reply, levels);
    for (size_t i = 0; i < levels; i++)
        kith_reply_int(info->reply, (int64_t)stats->levels[i]);
    info_text(info, "kernels", stats->kernels);
}

/* For each k: the recall that a walk can reach, and distances computed a query for five recalls. */
static void info_of_calibration(struct info *info, const struct kith_vset *vset)
{
    struct kith_calibration c;
    if (!kith_hnsw_get_calibration(kith_vset_index(vset), &c))
        return;
    info_int(info, "calibration-elements", c.elements_sampled);
    info_int(info, "calibration-queries", c.queries_sampled);
    info_name(info, "calibration");
    kith_reply_array(info->reply, c.usable ? KITH_CALIBRATION_KS : 0);
    for (unsigned i = 0; i < KITH_CALIBRATION_KS && c.usable; i++) {
        size_t rows = sizeof c.ks[i].rows / sizeof c.ks[i].rows[0];
        kith_reply_map(info->reply, 3);
        kith_reply_bulk_text(info->reply, "count");
        kith_reply_int(info->reply, c.ks[i].k);
        kith_reply_bulk_text(info->reply, "reach");
        kith_reply_double(info->reply, round((double)c.ks[i].reach * 1e4) / 1e4);
        kith_reply_bulk_text(info->reply, "evaluations");
        kith_reply_map(info->reply, rows);
        for (size_t r = 0; r < rows; r++) {
            kith_reply_double(info->reply, round((double)c.ks[i].rows[r].recall * 1e4) / 1e4);
            kith_reply_int(info->reply, (int64_t)c.ks[i].rows[r].evaluations);
        }
    }
}

static void vinfo_command(struct kith_call *call)
{
    struct info info = {.reply = call->reply};
    struct kith_hnsw_stats stats;
    struct kith_vset *vset;
    if (!kith_vset_open_read(call, &vset))
        return;
    if (!vset) {
        kith_reply_null_array(call->reply);
        return;
    }
    kith_hnsw_get_stats(kith_vset_index(vset), &stats);
    struct kith_reply_mark mark = kith_reply_map_begin(call->reply);
    info_of_set(&info, vset);
    info_of_choices(&info, vset); /* from here on Kith's own */
    info_of_work(&info, vset);
    info_of_bytes(&info, vset, &stats);
    info_of_graph(&info, &stats);
    info_of_calibration(&info, vset);
    kith_reply_map_end(call->reply, mark, info.fields);
}

/* ---- VRANDMEMBER ---- */

static void reply_name(struct kith_call *call, const struct kith_vset *vset, uint32_t slot)
{
    struct kith_slice name = {0};
    kith_vset_name(vset, slot, &name);
    kith_reply_bulk(call->reply, name);
}

static void reply_random(struct kith_call *call, const struct kith_vset *vset)
{
    reply_name(call, vset, kith_vset_random(vset, call->rng));
}

/* A bit a slot: true when it was not set before. */
static bool mark(uint64_t *seen, uint32_t slot)
{
    bool is_new = !(seen[slot / 64] >> slot % 64 & 1);
    seen[slot / 64] |= UINT64_C(1) << slot % 64;
    return is_new;
}

/* Few of many: drawn until there are enough different ones, twice as often as there are at most. */
static void reply_drawn(struct kith_call *call, const struct kith_vset *vset, size_t count, uint64_t *seen)
{
    kith_reply_array(call->reply, count);
    while (count > 0) {
        uint32_t slot = kith_vset_random(vset, call->rng);
        if (!mark(seen, slot))
            continue;
        reply_name(call, vset, slot);
        count--;
    }
}

/* Most of them: one pass that takes each element with the probability that is due (Knuth, volume 2, 3.4.2,
 * algorithm S). */
static void reply_selected(struct kith_call *call, const struct kith_vset *vset, size_t count)
{
    size_t left = kith_vset_count(vset);
    struct kith_slice name;
    kith_reply_array(call->reply, count);
    for (uint32_t slot = 0; count > 0; slot++) {
        if (!kith_vset_name(vset, slot, &name) || kith_rng_below(call->rng, left--) >= count)
            continue;
        kith_reply_bulk(call->reply, name);
        count--;
    }
}

static void reply_distinct(struct kith_call *call, const struct kith_vset *vset, size_t count)
{
    if (count >= kith_vset_count(vset) / 2) {
        reply_selected(call, vset, count < kith_vset_count(vset) ? count : kith_vset_count(vset));
        return;
    }
    uint64_t *seen = calloc(kith_hnsw_slot_end(kith_vset_index(vset)) / 64 + 1, sizeof *seen);
    if (seen)
        reply_drawn(call, vset, count, seen);
    else
        kith_call_no_memory(call);
    free(seen);
}

static void vrandmember_command(struct kith_call *call)
{
    int64_t count = 1;
    struct kith_vset *vset;
    if (call->argc > 3) {
        kith_call_wrong_arity(call);
        return;
    }
    if (call->argc == 3 && !kith_call_int_in(call, 2, -KITH_RANDOM_REPEATS_MAX, INT64_MAX, &count,
                                             "ERR COUNT value is not an integer"))
        return;
    if (!kith_vset_open_read(call, &vset))
        return;
    if (call->argc == 2 && vset) {
        reply_random(call, vset);
    } else if (call->argc == 2) {
        kith_reply_null(call->reply);
    } else if (!vset || count == 0) {
        kith_reply_array(call->reply, 0);
    } else if (count > 0) {
        reply_distinct(call, vset, (size_t)count);
    } else {
        kith_reply_array(call->reply, (size_t)-count);
        for (; count < 0 && !call->reply->out->failed; count++)
            reply_random(call, vset);
    }
}

/* ---- VRANGE ---- */

struct range_bound {
    struct kith_slice name;
    bool exclusive;
    int infinite; /* -1: before all, +1: after all */
};

struct range {
    struct kith_reply *reply;
    struct range_bound end;
    uint64_t left;
    size_t written;
};

static bool parse_bound(struct kith_call *call, size_t index, struct range_bound *bound)
{
    struct kith_slice text = call->argv[index];
    *bound = (struct range_bound){0};
    if (text.length == 1 && (text.data[0] == '-' || text.data[0] == '+')) {
        bound->infinite = text.data[0] == '-' ? -1 : 1;
        return true;
    }
    if (text.length == 0 || (text.data[0] != '(' && text.data[0] != '[')) {
        kith_reply_error(call->reply,
                         "ERR invalid range: a bound is -, +, [name (with it) or (name (without it)");
        return false;
    }
    bound->exclusive = text.data[0] == '(';
    bound->name = kith_slice(text.data + 1, text.length - 1);
    return true;
}

static bool range_name(void *arg, struct kith_slice name)
{
    struct range *range = arg;
    int order = range->end.infinite ? -range->end.infinite : kith_slice_compare(name, range->end.name);
    if (!range->left || order > 0 || (order == 0 && range->end.exclusive))
        return false;
    kith_reply_bulk(range->reply, name);
    range->written++;
    range->left--;
    return true;
}

static void vrange_command(struct kith_call *call)
{
    struct range_bound start;
    struct range range = {.reply = call->reply};
    struct kith_vset *vset;
    int64_t count = -1;
    if (call->argc > 5) {
        kith_call_wrong_arity(call);
        return;
    }
    if (!parse_bound(call, 2, &start) || !parse_bound(call, 3, &range.end) ||
        (call->argc == 5 && !kith_call_int(call, 4, &count, "ERR invalid count")) ||
        !kith_vset_open_read(call, &vset))
        return;
    range.left = count < 0 ? UINT64_MAX : (uint64_t)count;
    struct kith_reply_mark mark = kith_reply_array_begin(call->reply);
    if (vset && start.infinite <= 0)
        kith_vset_names(vset, start.name, start.exclusive, range_name, &range);
    kith_reply_array_end(call->reply, mark, range.written);
}

/* clang-format off */
#define ROW(command_name, command_arity, command_flags, access) \
    .name = command_name, .arity = command_arity, .flags = command_flags, .keys = {1, 1, 1}, .key_flags = access, \
    .categories = "vectorset", .group = "module"
#define WRITES (KITH_CMD_WRITE | KITH_CMD_DENYOOM)
#define READS  (KITH_CMD_READONLY | KITH_CMD_FAST)
#define SET_OPTIONS \
    "[NOQUANT | Q8 | BIN | F16 | BF16 | Q4] [KEEP (F32 | F16 | RESIDUAL | NONE)] [METRIC (COSINE | IP | L2)] " \
    "[LAYOUT (COMPACT | SPREAD)]"

const struct kith_command kith_vset_commands[] = {
    {ROW("vadd", -5, WRITES, "RW access update"), .since = "8.0.0", .complexity = "O(d) for d dimensions; links are made in the background in O(log n)",
     .summary = "Adds an element with its vector to a vector set, or gives it a new vector.",
     .syntax = "key [REDUCE dim:integer] (FP32 vector | VALUES num:integer value:double [value:double ...]) element [CAS] "
               SET_OPTIONS " [EF build-exploration-factor:integer] [SETATTR attributes] [M numlinks:integer]",
     .handler = kith_vadd_command},
    {ROW("vcard", 2, READS, "RO"), .since = "8.0.0", .complexity = "O(1)",
     .summary = "Returns how many elements a vector set has.", .syntax = "key", .handler = vcard_command},
    {ROW("vdim", 2, READS, "RO"), .since = "8.0.0", .complexity = "O(1)",
     .summary = "Returns the dimension of a vector set's vectors.", .syntax = "key", .handler = vdim_command},
    {ROW("vemb", -3, READS, "RO access"), .since = "8.0.0", .complexity = "O(d) for d dimensions",
     .summary = "Returns an element's vector as it is kept, or with RAW its code.", .syntax = "key element [RAW]",
     .handler = vemb_command},
    {ROW("vgetattr", 3, READS, "RO access"), .since = "8.0.0", .complexity = "O(1)",
     .summary = "Returns an element's attributes.", .syntax = "key element", .handler = vgetattr_command},
    {ROW("vinfo", 2, READS, "RO"), .since = "8.0.0", .complexity = "O(1)",
     .summary = "Returns figures of a vector set and its graph.", .syntax = "key", .handler = vinfo_command},
    {ROW("vismember", 3, READS, "RO"), .since = "8.0.0", .complexity = "O(1)",
     .summary = "Tells whether a vector set has an element.", .syntax = "key element", .handler = vismember_command},
    {ROW("vlinks", -3, READS, "RO access"), .since = "8.0.0", .complexity = "O(m) for m links",
     .summary = "Returns an element's neighbours in the graph, level by level from the top.",
     .syntax = "key element [WITHSCORES]", .handler = vlinks_command},
    {ROW("vmadd", -7, WRITES, "RW access update"), .since = "kith 0.1", .complexity = "O(d) an element for d dimensions",
     .summary = "Adds many elements to a vector set in one call and returns how many are new; all or none.",
     .syntax = "key [REDUCE dim:integer] " SET_OPTIONS " [EF build-exploration-factor:integer] [M numlinks:integer] "
               "ELEMENTS count:integer (FP32 vector | VALUES num:integer value:double [value:double ...]) element [SETATTR attributes]",
     .handler = kith_vmadd_command},
    {ROW("vpairs", -4, KITH_CMD_READONLY | KITH_CMD_DEFERS, "RO access"), .since = "kith 0.1",
     .complexity = "O(n) for n elements, and for each near pair about as much as for an element; with SAMPLE O(n) a sampled element",
     .summary = "Returns the pairs of elements that are at least so similar, page by page, or the most similar pairs.",
     .syntax = "key (MINSCORE score:double [CURSOR cursor:integer] [COUNT num:integer] [SAMPLE elements:integer] | TOP num:integer) "
               "[FILTER expression] [WITHSCORES]",
     .handler = kith_vpairs_command},
    {ROW("vrandmember", -2, KITH_CMD_READONLY, "RO access"), .since = "8.0.0", .complexity = "O(m) for m elements returned, O(n) when they must differ",
     .summary = "Returns random elements: distinct ones for a positive count, with repetition for a negative.",
     .syntax = "key [count:integer]", .handler = vrandmember_command},
    {ROW("vrange", -4, KITH_CMD_READONLY, "RO access"), .since = "8.4.0", .complexity = "O(log n + m) for m elements returned",
     .summary = "Returns elements between two names, in the order of their bytes.", .syntax = "key start end [count:integer]",
     .handler = vrange_command},
    {ROW("vrecall", -2, KITH_CMD_READONLY | KITH_CMD_DEFERS, "RO access"), .since = "kith 0.1", .complexity = "O(s * n) for s samples of n elements, on a worker",
     .summary = "Measures the recall of a vector set's searches on a sample of its elements, against exact scans.",
     .syntax = "key [COUNT num:integer] [SAMPLE num:integer] [EF search-exploration-factor:integer | RECALL recall:double]",
     .handler = kith_vrecall_command},
    {ROW("vrem", 3, KITH_CMD_WRITE, "RW delete"), .since = "8.0.0", .complexity = "O(1); the graph is mended in the background",
     .summary = "Removes an element from a vector set; the last one takes the key with it.", .syntax = "key element",
     .handler = kith_vrem_command},
    {ROW("vsetattr", 4, WRITES | KITH_CMD_FAST, "RW update"), .since = "8.0.0", .complexity = "O(b) for b bytes of attributes",
     .summary = "Sets an element's attributes, a JSON object that filters can test; an empty text removes them.",
     .syntax = "key element attributes", .handler = kith_vsetattr_command},
    {ROW("vsim", -4, KITH_CMD_READONLY | KITH_CMD_DEFERS, "RO access"), .since = "8.0.0", .complexity = "O(log n)",
     .summary = "Returns the elements whose vectors are most similar to a vector or to an element's.",
     .syntax = "key (ELE element | FP32 vector | VALUES num:integer value:double [value:double ...] | "
               "QUERIES count:integer (ELE element | FP32 vector | VALUES num:integer value:double [value:double ...])) "
               "[WITHSCORES] [WITHDISTANCES] [WITHATTRIBS] "
               "[COUNT num:integer] [EPSILON delta:double] [EF search-exploration-factor:integer] [RECALL recall:double] [FILTER expression] "
               "[FILTER-EF max-filtering-effort:integer] [MMR lambda:double [POOL candidates:integer]] [TRUTH] [PROFILE] [NOTHREAD]",
     .handler = kith_vsim_command},
    {0},
};
