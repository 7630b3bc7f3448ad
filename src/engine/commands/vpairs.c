/* VPAIRS: pairs of elements that are near each other. The join runs on a worker in steps (vec/pairs.h), and makes way
 * for searches between two of them; slots become names when it comes back. */
#include "base/num.h"
#include "engine/attributes.h"
#include "engine/commands/vset.h"
#include "engine/filter.h"
#include "vec/pairs.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

enum {
    COUNT_DEFAULT = 100,
    PAIRS_MAX = 5000, /* of a page, or TOP: their names are looked up and written in one go */
    SAMPLE_MAX = 10000,
    PAGE_BYTES = 1 << 20, /* a page of long names ends sooner */
    INLINE_ELEMENTS = 64, /* fewer are compared sooner than handed over */
    STEPS = 16,           /* then others get a turn */
};

struct vpairs {
    struct kith_deferred deferred; /* first: the driver hands this back */
    struct kith_vset *vset;        /* held from `begun` on */
    struct kith_hnsw_pairs *pairs;
    struct kith_filter *filter;
    bool begun, started; /* kith_vset_search_begin and _start were called */
    bool with_scores, score_given, cursor_given, count_given;
    double least_score;
    uint64_t cursor, seed;
    int64_t count, top, sample; /* the last two 0: not given */
    int status;                 /* of the last step */
};

static void close_pairs(struct kith_deferred *deferred)
{
    struct vpairs *v = (struct vpairs *)deferred;
    kith_hnsw_pairs_close(v->pairs);
    kith_filter_close(v->filter);
    if (v->begun && !v->started) /* the client was gone before its turn came */
        kith_vset_search_start(v->vset);
    if (v->begun)
        kith_vset_search_end(v->vset);
    free(v);
}

static bool match(void *context, uint32_t slot, uint64_t user)
{
    return kith_filter_match(context, (const struct kith_attributes *)(uintptr_t)user);
}

static void run_pairs(struct kith_task *task)
{
    struct vpairs *v = (struct vpairs *)task;
    if (!v->started)
        kith_vset_search_start(v->vset);
    v->started = true;
    for (unsigned steps = 0; (v->status = kith_hnsw_pairs_step(v->pairs)) > 0;) {
        if (++steps < STEPS && !kith_vset_searches_wait(v->vset))
            continue;
        v->deferred.again = true;
        return;
    }
}

/* ---- the reply ---- */

static bool get_name(const struct vpairs *v, uint32_t slot, uint32_t generation, struct kith_slice *name)
{
    const struct kith_hnsw *index = kith_vset_index(v->vset);
    return kith_hnsw_is_live(index, slot) && kith_hnsw_generation(index, slot) == generation &&
           kith_vset_name(v->vset, slot, name);
}

/* What was removed while the join ran is left out; the first name is the smaller one. */
static bool reply_pair(struct kith_reply *reply, const struct vpairs *v, const struct kith_hnsw_pair *pair)
{
    struct kith_slice a, b;
    if (!get_name(v, pair->a, pair->generation_a, &a) || !get_name(v, pair->b, pair->generation_b, &b))
        return false;
    bool in_order = kith_slice_compare(a, b) <= 0;
    kith_reply_array(reply, v->with_scores ? 3 : 2);
    kith_reply_bulk(reply, in_order ? a : b);
    kith_reply_bulk(reply, in_order ? b : a);
    if (v->with_scores)
        kith_reply_double(reply, kith_vset_score(kith_vset_get_options(v->vset)->metric, pair->distance));
    return true;
}

static void reply_top(struct kith_reply *reply, const struct vpairs *v)
{
    struct kith_hnsw_pairs_result result = kith_hnsw_pairs_get(v->pairs);
    struct kith_reply_mark mark = kith_reply_array_begin(reply);
    size_t written = 0;
    for (uint32_t i = 0; i < result.count && written < (size_t)v->top; i++)
        written += reply_pair(reply, v, &result.pairs[i]);
    kith_reply_array_end(reply, mark, written);
}

/* The cursor stands before the pairs, and is known after them. */
static void reply_page(struct kith_reply *reply, const struct vpairs *v)
{
    struct kith_hnsw_pairs_result result = kith_hnsw_pairs_get(v->pairs);
    struct kith_buf buf;
    struct kith_reply pairs;
    size_t written = 0;
    kith_buf_init(&buf);
    kith_reply_init(&pairs, &buf, reply->protocol);
    for (uint32_t i = 0; i < result.count && !buf.failed; i++) {
        written += reply_pair(&pairs, v, &result.pairs[i]);
        if (buf.length < PAGE_BYTES || i + 1 == result.count)
            continue;
        result.cursor = kith_hnsw_pairs_cursor(&result.pairs[i]);
        break;
    }
    kith_reply_array(reply, 2);
    kith_reply_bulk_format(reply, "%llu", (unsigned long long)result.cursor);
    kith_reply_array(reply, written);
    kith_reply_raw(reply, buf.data, buf.length);
    reply->out->failed |= buf.failed;
    kith_buf_fini(&buf);
}

/* Wilson's interval for a part p seen in n trials, at 95 %. side: -1 or 1. */
static double interval_end(double p, double n, int side)
{
    double z = 1.96, middle = p + z * z / (2 * n);
    double half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n));
    return fmin(fmax((middle + side * half) / (1 + z * z / n), 0), 1);
}

static void reply_part(struct kith_reply *reply, const char *name, bool known, double value)
{
    kith_reply_bulk_text(reply, name);
    if (known)
        kith_reply_double(reply, value);
    else
        kith_reply_null(reply);
}

static void reply_sample(struct kith_reply *reply, const struct kith_hnsw_pairs_result *result)
{
    double n = result->effective_count;
    double recall = result->near ? (double)result->found / (double)result->near : 0;
    kith_reply_map(reply, 6);
    kith_reply_bulk_text(reply, "elements");
    kith_reply_int(reply, (int64_t)result->sampled);
    kith_reply_bulk_text(reply, "pairs");
    kith_reply_int(reply, (int64_t)result->near);
    kith_reply_bulk_text(reply, "found");
    kith_reply_int(reply, (int64_t)result->found);
    reply_part(reply, "recall", result->near, recall);
    reply_part(reply, "low", result->near, result->near ? interval_end(recall, n, -1) : 0);
    reply_part(reply, "high", result->near, result->near ? interval_end(recall, n, 1) : 0);
}

static void finish_pairs(struct kith_deferred *deferred, struct kith_reply *reply)
{
    const struct vpairs *v = (const struct vpairs *)deferred;
    if (v->status < 0) {
        kith_reply_error(reply,
                         "OOM not enough memory for the pairs: ask for fewer, or for a higher MINSCORE");
    } else if (v->sample) {
        struct kith_hnsw_pairs_result result = kith_hnsw_pairs_get(v->pairs);
        reply_sample(reply, &result);
    } else if (v->top) {
        reply_top(reply, v);
    } else {
        reply_page(reply, v);
    }
}

static void reply_nothing(struct kith_reply *reply, const struct vpairs *v)
{
    static const struct kith_hnsw_pairs_result nothing = {0};
    if (v->sample) {
        reply_sample(reply, &nothing);
        return;
    }
    if (!v->top) {
        kith_reply_array(reply, 2);
        kith_reply_bulk_text(reply, "0");
    }
    kith_reply_array(reply, 0);
}

/* ---- the arguments ---- */

static bool take_score(struct kith_call *call, size_t index, struct vpairs *v)
{
    v->score_given = true;
    if (kith_num_parse_double(call->argv[index], 0, &v->least_score) == KITH_OK && !isnan(v->least_score))
        return true;
    kith_reply_error(call->reply, "ERR invalid MINSCORE: a score as VSIM gives it, for cosine from 0 to 1");
    return false;
}

static bool take_cursor(struct kith_call *call, size_t index, struct vpairs *v)
{
    v->cursor_given = true;
    if (kith_num_parse_uint64(call->argv[index], &v->cursor) == KITH_OK)
        return true;
    kith_reply_error(call->reply, "ERR invalid cursor: 0, or what the page before gave");
    return false;
}

static bool take_filter(struct kith_call *call, size_t index, struct vpairs *v)
{
    struct kith_error error;
    kith_filter_close(v->filter);
    v->filter = NULL;
    int status = kith_filter_open(&v->filter, call->argv[index], &error);
    if (status == KITH_EINVAL)
        kith_reply_error_format(call->reply, "ERR %s", error.text);
    else if (status != KITH_OK)
        kith_call_no_memory(call);
    return status == KITH_OK;
}

/* The option at argv[*index] with its value; *index stands at its last word then. */
static bool take_option(struct kith_call *call, size_t *index, struct vpairs *v)
{
    size_t at = *index, value = at + 1;
    if (kith_call_is(call, at, "withscores")) {
        v->with_scores = true;
        return true;
    }
    if (value >= call->argc) {
        kith_call_syntax_error(call);
        return false;
    }
    *index = value;
    if (kith_call_is(call, at, "minscore"))
        return take_score(call, value, v);
    if (kith_call_is(call, at, "top"))
        return kith_call_int_in(call, value, 1, PAIRS_MAX, &v->top,
                                "ERR invalid TOP: a number from 1 to 5000");
    if (kith_call_is(call, at, "cursor"))
        return take_cursor(call, value, v);
    if (kith_call_is(call, at, "sample"))
        return kith_call_int_in(call, value, 1, SAMPLE_MAX, &v->sample,
                                "ERR invalid SAMPLE: a number from 1 to 10000");
    if (kith_call_is(call, at, "filter"))
        return take_filter(call, value, v);
    if (!kith_call_is(call, at, "count")) {
        kith_call_syntax_error(call);
        return false;
    }
    v->count_given = true;
    return kith_call_int_in(call, value, 1, PAIRS_MAX, &v->count,
                            "ERR invalid COUNT: a number from 1 to 5000");
}

static bool parse(struct kith_call *call, struct vpairs *v)
{
    const char *error = NULL;
    for (size_t i = 2; i < call->argc; i++)
        if (!take_option(call, &i, v))
            return false;
    bool paged = v->cursor_given || v->count_given;
    if (!v->score_given == !v->top)
        error = "ERR syntax error: VPAIRS takes MINSCORE score or TOP number, and not both";
    else if (v->top && (paged || v->sample))
        error = "ERR syntax error: CURSOR, COUNT and SAMPLE go with MINSCORE";
    else if (v->sample && (paged || v->with_scores))
        error = "ERR syntax error: SAMPLE measures and returns no pairs";
    if (error)
        kith_reply_error(call->reply, error);
    return !error;
}

/* The distance of the lowest score wanted: see kith_vset_score. */
static float max_distance(enum kith_hnsw_metric metric, double score)
{
    double distance = 2 * (1 - score);
    if (metric == KITH_HNSW_INNER_PRODUCT)
        distance = 1 - score;
    else if (metric == KITH_HNSW_L2SQ)
        distance = score > 0 ? 1 / score - 1 : (double)FLT_MAX;
    return (float)fmin(fmax(distance, -(double)FLT_MAX), (double)FLT_MAX);
}

static int open_pairs(struct vpairs *v)
{
    struct kith_hnsw_pairs_options options = {
        .max_distance = max_distance(kith_vset_get_options(v->vset)->metric, v->least_score),
        .count = (uint32_t)v->count,
        .cursor = v->cursor,
        .top = (uint32_t)v->top,
        .sample = (uint32_t)v->sample,
        .seed = v->seed,
        .filter = v->filter ? match : NULL,
        .filter_context = v->filter,
    };
    return kith_hnsw_pairs_open(&v->pairs, kith_vset_index(v->vset), &options);
}

/* False when a reply was written. */
static bool prepare(struct kith_call *call, struct vpairs *v)
{
    if (!kith_vset_open_read(call, &v->vset))
        return false;
    if (!v->vset) {
        reply_nothing(call->reply, v);
        return false;
    }
    v->seed = kith_rng_next(call->rng);
    if (open_pairs(v) == KITH_OK)
        return true;
    kith_call_no_memory(call);
    return false;
}

void kith_vpairs_command(struct kith_call *call)
{
    struct vpairs *v = calloc(1, sizeof *v);
    if (!v) {
        kith_call_no_memory(call);
        return;
    }
    v->count = COUNT_DEFAULT;
    v->deferred = (struct kith_deferred){
        .task = {.run = run_pairs}, .finish = finish_pairs, .close = close_pairs, .alone = true};
    if (!parse(call, v) || !prepare(call, v)) {
        close_pairs(&v->deferred);
        return;
    }
    v->begun = true;
    kith_vset_search_begin(v->vset);
    if (kith_vset_count(v->vset) > INLINE_ELEMENTS) {
        kith_call_defer(call, &v->deferred);
        return;
    }
    do {
        v->deferred.again = false;
        run_pairs(&v->deferred.task);
    } while (v->deferred.again);
    finish_pairs(&v->deferred, call->reply);
    close_pairs(&v->deferred);
}
