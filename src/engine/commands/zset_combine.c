/* ZUNION, ZINTER, ZDIFF and what stores or counts their results. */
#include "base/num.h"
#include "base/status.h"
#include "engine/commands/zset.h"
#include "engine/engine.h"

#include <math.h>
#include <stdlib.h>

enum operation { UNION, INTER, DIFF };
enum aggregate { SUM, MIN, MAX };

struct source {
    struct kith_zset *zset; /* NULL: empty */
    double weight;
};

struct combine {
    enum operation operation;
    enum aggregate aggregate;
    bool store, count_only, with_scores;
    uint64_t limit; /* ZINTERCARD; 0: none */
    size_t count;
    struct source *sources; /* owned */
    struct kith_zset *result;
    size_t matches;
    bool failed;
};

/* The sources from `numkeys` at argv[index]; the index behind them, or 0 after an error reply. */
static size_t open_sources(struct kith_call *call, size_t index, struct combine *combine)
{
    int64_t count;
    if (!kith_call_int(call, index, &count, NULL))
        return 0;
    if (count < 1) {
        kith_reply_error_format(call->reply, "ERR at least 1 input key is needed for '%s' command",
                                call->command->name);
        return 0;
    }
    if ((uint64_t)count > call->argc - index - 1) {
        kith_call_syntax_error(call);
        return 0;
    }
    combine->count = (size_t)count;
    combine->sources = calloc(combine->count, sizeof *combine->sources);
    if (!combine->sources) {
        kith_call_no_memory(call);
        return 0;
    }
    for (size_t i = 0; i < combine->count; i++) {
        combine->sources[i].weight = 1;
        if (!kith_zset_open_read(call, index + 1 + i, &combine->sources[i].zset))
            return 0;
    }
    return index + 1 + combine->count;
}

static bool parse_aggregate(struct kith_call *call, size_t index, enum aggregate *aggregate)
{
    static const char *const names[] = {"sum", "min", "max"};
    for (int i = 0; i < 3; i++) {
        if (!kith_call_is(call, index, names[i]))
            continue;
        *aggregate = (enum aggregate)i;
        return true;
    }
    kith_call_syntax_error(call);
    return false;
}

static bool parse_options(struct kith_call *call, size_t index, struct combine *combine)
{
    bool weighs = combine->operation != DIFF && !combine->count_only;
    for (size_t i = index; i < call->argc; i++) {
        size_t rest = call->argc - i - 1;
        if (weighs && rest >= combine->count && kith_call_is(call, i, "weights")) {
            for (size_t k = 0; k < combine->count; k++)
                if (!kith_call_double(call, ++i, &combine->sources[k].weight,
                                      "ERR weight value is not a float"))
                    return false;
        } else if (weighs && rest >= 1 && kith_call_is(call, i, "aggregate")) {
            if (!parse_aggregate(call, ++i, &combine->aggregate))
                return false;
        } else if (!combine->store && !combine->count_only && kith_call_is(call, i, "withscores")) {
            combine->with_scores = true;
        } else if (combine->count_only && rest >= 1 && kith_call_is(call, i, "limit")) {
            int64_t limit;
            if (!kith_call_int_in(call, ++i, 0, INT64_MAX, &limit, "ERR LIMIT can't be negative"))
                return false;
            combine->limit = (uint64_t)limit;
        } else {
            kith_call_syntax_error(call);
            return false;
        }
    }
    return true;
}

static double weighed(double score, double weight)
{
    double value = score * weight;
    return isnan(value) ? 0 : value; /* 0 times infinity */
}

static double merge(enum aggregate aggregate, double a, double b)
{
    if (aggregate == MIN)
        return a < b ? a : b;
    if (aggregate == MAX)
        return a > b ? a : b;
    return isnan(a + b) ? 0 : a + b; /* infinity minus infinity */
}

static void put(struct combine *combine, struct kith_slice member, double score)
{
    combine->matches++;
    if (!combine->count_only && kith_zset_set(combine->result, member, score) < 0)
        combine->failed = true;
}

struct visit {
    struct combine *combine;
    const struct source *source;
};

static void unite_member(void *arg, struct kith_slice member, double score)
{
    struct visit *visit = arg;
    double sum = weighed(score, visit->source->weight), old;
    if (kith_zset_score(visit->combine->result, member, &old))
        sum = merge(visit->combine->aggregate, old, sum);
    put(visit->combine, member, sum);
}

static void intersect_member(void *arg, struct kith_slice member, double score)
{
    struct combine *combine = ((struct visit *)arg)->combine;
    if (combine->limit && combine->matches >= combine->limit)
        return;
    double sum = weighed(score, combine->sources[0].weight), other;
    for (size_t i = 1; i < combine->count; i++) {
        if (!kith_zset_score(combine->sources[i].zset, member, &other))
            return;
        sum = merge(combine->aggregate, sum, weighed(other, combine->sources[i].weight));
    }
    put(combine, member, sum);
}

static void subtract_member(void *arg, struct kith_slice member, double score)
{
    struct combine *combine = ((struct visit *)arg)->combine;
    double other;
    for (size_t i = 1; i < combine->count; i++)
        if (combine->sources[i].zset && kith_zset_score(combine->sources[i].zset, member, &other))
            return;
    put(combine, member, score);
}

static size_t source_count(const struct source *source)
{
    return source->zset ? kith_zset_count(source->zset) : 0;
}

static int by_count(const void *a, const void *b)
{
    size_t x = source_count(a), y = source_count(b);
    return (x > y) - (x < y);
}

static void run(struct combine *combine)
{
    if (combine->operation != DIFF) /* the smallest first: fewest look-ups, and sums in one defined order */
        qsort(combine->sources, combine->count, sizeof *combine->sources, by_count);
    size_t walked = combine->operation == UNION ? combine->count : 1;
    if (combine->operation == INTER && !combine->sources[0].zset)
        return;
    kith_zset_fn *const visitors[] = {unite_member, intersect_member, subtract_member};
    for (size_t i = 0; i < walked; i++) {
        struct visit visit = {combine, &combine->sources[i]};
        if (visit.source->zset)
            kith_zset_range(visit.source->zset, 0, SIZE_MAX, false, visitors[combine->operation], &visit);
    }
}

static void reply_result(struct kith_call *call, struct combine *combine)
{
    if (combine->failed) {
        kith_call_no_memory(call);
    } else if (combine->count_only) {
        kith_reply_int(call->reply, (int64_t)combine->matches);
    } else if (combine->store) {
        kith_zset_store(call, 1, combine->result);
        combine->result = NULL;
    } else {
        size_t count = kith_zset_count(combine->result);
        struct kith_zset_writer writer = {call->reply, combine->with_scores};
        kith_reply_array(call->reply, combine->with_scores && call->reply->protocol < 3 ? 2 * count : count);
        kith_zset_range(combine->result, 0, count, false, kith_zset_write_member, &writer);
    }
}

static void combine_sets(struct kith_call *call, struct combine combine)
{
    size_t options = open_sources(call, combine.store ? 2 : 1, &combine);
    if (options && parse_options(call, options, &combine)) {
        combine.result = kith_zset_open(kith_engine_hash_seed(call->engine));
        combine.failed = !combine.result;
        if (!combine.failed)
            run(&combine);
        reply_result(call, &combine);
    }
    kith_zset_close(combine.result);
    free(combine.sources);
}

void kith_zunion_command(struct kith_call *call)
{
    combine_sets(call, (struct combine){.operation = UNION});
}

void kith_zinter_command(struct kith_call *call)
{
    combine_sets(call, (struct combine){.operation = INTER});
}

void kith_zdiff_command(struct kith_call *call)
{
    combine_sets(call, (struct combine){.operation = DIFF});
}

void kith_zunionstore_command(struct kith_call *call)
{
    combine_sets(call, (struct combine){.operation = UNION, .store = true});
}

void kith_zinterstore_command(struct kith_call *call)
{
    combine_sets(call, (struct combine){.operation = INTER, .store = true});
}

void kith_zdiffstore_command(struct kith_call *call)
{
    combine_sets(call, (struct combine){.operation = DIFF, .store = true});
}

void kith_zintercard_command(struct kith_call *call)
{
    combine_sets(call, (struct combine){.operation = INTER, .count_only = true});
}
