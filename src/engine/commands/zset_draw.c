/* Popping from the ends of a sorted set, drawing at random, and ZSCAN. */
#include "base/glob.h"
#include "base/num.h"
#include "base/random.h"
#include "base/status.h"
#include "engine/commands/scan.h"
#include "engine/commands/zset.h"

#include <stdlib.h>

/* ---- ZPOPMIN, ZPOPMAX, ZMPOP ---- */

struct writer {
    struct kith_reply *reply;
    bool pairs; /* each member and score in an array of their own */
};

static void write_scored(void *arg, struct kith_slice member, double score)
{
    const struct writer *writer = arg;
    if (writer->pairs)
        kith_reply_array(writer->reply, 2);
    kith_reply_bulk(writer->reply, member);
    kith_reply_double(writer->reply, score);
}

/* Writes and removes up to `count` members from one end. */
static void pop(struct kith_call *call, struct kith_key *key, size_t count, bool highest, bool pairs)
{
    struct kith_zset *zset = kith_key_object(key);
    size_t total = kith_zset_count(zset);
    if (count > total)
        count = total;
    size_t first = highest ? total - count : 0;
    struct writer writer = {call->reply, pairs};
    kith_reply_array(call->reply, pairs ? count : 2 * count);
    kith_zset_range(zset, first, count, highest, write_scored, &writer);
    kith_zset_remove_range(zset, first, count);
    kith_key_remove_if_empty(key);
}

static void pop_command(struct kith_call *call, bool highest)
{
    int64_t count = 1;
    if (call->argc > 3) {
        kith_call_syntax_error(call);
        return;
    }
    if (call->argc == 3 &&
        !kith_call_int_in(call, 2, 0, INT64_MAX, &count, "ERR value is out of range, must be positive"))
        return;
    struct kith_key key;
    int found = kith_key_open_write(call, 1, KITH_ZSET, &key);
    if (found < 0)
        return;
    if (!found || count == 0)
        kith_reply_array(call->reply, 0);
    else
        pop(call, &key, (size_t)count, highest, call->argc == 3 && call->reply->protocol >= 3);
}

void kith_zpopmin_command(struct kith_call *call)
{
    pop_command(call, false);
}

void kith_zpopmax_command(struct kith_call *call)
{
    pop_command(call, true);
}

void kith_zmpop_command(struct kith_call *call)
{
    int64_t numkeys, count = 1;
    if (!kith_call_int_in(call, 1, 1, INT64_MAX, &numkeys, "ERR numkeys should be greater than 0"))
        return;
    size_t where = (uint64_t)numkeys < call->argc - 2 ? 2 + (size_t)numkeys : call->argc;
    bool highest = kith_call_is(call, where, "max"), counted = false;
    if (!highest && !kith_call_is(call, where, "min")) {
        kith_call_syntax_error(call);
        return;
    }
    for (size_t i = where + 1; i < call->argc; i += 2) {
        if (counted || !kith_call_is(call, i, "count") || i + 1 >= call->argc) {
            kith_call_syntax_error(call);
            return;
        }
        if (!kith_call_int_in(call, i + 1, 1, INT64_MAX, &count, "ERR count should be greater than 0"))
            return;
        counted = true;
    }
    for (size_t i = 2; i < where; i++) {
        struct kith_key key;
        int found = kith_key_open_write(call, i, KITH_ZSET, &key);
        if (found < 0)
            return;
        if (!found)
            continue;
        kith_reply_array(call->reply, 2);
        kith_reply_bulk(call->reply, call->argv[i]);
        pop(call, &key, (size_t)count, highest, true);
        return;
    }
    kith_reply_null_array(call->reply);
}

/* ---- ZRANDMEMBER ---- */

static void reply_at(struct kith_call *call, const struct kith_zset *zset, size_t rank, bool with_scores)
{
    struct kith_slice member;
    double score;
    kith_zset_at(zset, rank, &member, &score);
    if (with_scores && call->reply->protocol >= 3)
        kith_reply_array(call->reply, 2);
    kith_reply_bulk(call->reply, member);
    if (with_scores)
        kith_reply_double(call->reply, score);
}

static void reply_header(struct kith_call *call, size_t count, bool with_scores)
{
    kith_reply_array(call->reply, with_scores && call->reply->protocol < 3 ? 2 * count : count);
}

/* `count` different ranks: Fisher & Yates over an array of all ranks, from the front. */
static void reply_distinct(struct kith_call *call, const struct kith_zset *zset, size_t count,
                           bool with_scores)
{
    size_t total = kith_zset_count(zset);
    if (count > total)
        count = total;
    uint32_t *ranks = malloc(total * sizeof *ranks);
    if (!ranks) {
        kith_call_no_memory(call);
        return;
    }
    for (size_t i = 0; i < total; i++)
        ranks[i] = (uint32_t)i;
    reply_header(call, count, with_scores);
    for (size_t i = 0; i < count; i++) {
        size_t j = i + kith_rng_below(call->rng, total - i);
        reply_at(call, zset, ranks[j], with_scores);
        ranks[j] = ranks[i];
    }
    free(ranks);
}

void kith_zrandmember_command(struct kith_call *call)
{
    int64_t count = 1;
    bool with_scores = call->argc == 4;
    if (call->argc > 4 || (with_scores && !kith_call_is(call, 3, "withscores"))) {
        kith_call_syntax_error(call);
        return;
    }
    if (call->argc > 2 && !kith_random_count_parse(call, 2, with_scores, &count))
        return;
    struct kith_zset *zset;
    if (!kith_zset_open_read(call, 1, &zset))
        return;
    size_t total = zset ? kith_zset_count(zset) : 0;
    if (call->argc == 2) {
        if (zset)
            reply_at(call, zset, kith_rng_below(call->rng, total), false);
        else
            kith_reply_null(call->reply);
    } else if (!zset || count == 0) {
        kith_reply_array(call->reply, 0);
    } else if (count > 0) {
        reply_distinct(call, zset, (size_t)count, with_scores);
    } else {
        reply_header(call, (size_t)-count, with_scores);
        for (; count < 0 && !call->reply->out->failed; count++)
            reply_at(call, zset, kith_rng_below(call->rng, total), with_scores);
    }
}

/* ---- ZSCAN ---- */

struct zscan {
    struct kith_scan_output output;
    const struct kith_scan_options *options;
};

static void scan_member(void *arg, struct kith_slice member, double score)
{
    struct zscan *scan = arg;
    scan->output.seen++;
    if (scan->options->pattern.data && !kith_glob_match(scan->options->pattern, member, false))
        return;
    char text[KITH_NUM_DOUBLE_CHARS];
    kith_reply_bulk(&scan->output.items, member);
    kith_reply_bulk(&scan->output.items, kith_slice(text, kith_num_format_double(text, score)));
    scan->output.item_count += 2;
}

void kith_zscan_command(struct kith_call *call)
{
    struct kith_scan_options options;
    struct kith_zset *zset;
    uint64_t cursor;
    if (!kith_scan_cursor_parse(call, 2, &cursor) || !kith_zset_open_read(call, 1, &zset) ||
        (zset && !kith_scan_options_parse(call, 3, 0, &options)))
        return;
    struct zscan scan = {.options = &options};
    kith_scan_output_init(&scan.output, call);
    do
        cursor = zset ? kith_zset_scan(zset, cursor, scan_member, &scan) : 0;
    while (cursor && scan.output.seen < options.count);
    kith_scan_output_reply(&scan.output, call, cursor);
}
