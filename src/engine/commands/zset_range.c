/* Ranges of a sorted set, by rank, score or name. Every bound becomes a rank first; then reading, counting,
 * storing and removing are one step each. */
#include "base/num.h"
#include "base/status.h"
#include "engine/commands/zset.h"
#include "engine/engine.h"

enum kind { BY_ANY, BY_RANK, BY_SCORE, BY_LEX };

struct name_bound {
    struct kith_slice name;
    bool exclusive;
    int infinite; /* -1: before all, +1: after all, 0: the name counts */
};

struct range {
    enum kind kind;
    bool reverse, with_scores, limited;
    int64_t offset, limit; /* LIMIT; a negative limit means all */
    int64_t start, stop;   /* BY_RANK, as given */
    struct kith_score_bound least, most;
    struct name_bound first_name, last_name;
};

/* Ranks [first, first + count), ascending. */
struct ranks {
    size_t first, count;
};

bool kith_score_bound_parse(struct kith_slice text, struct kith_score_bound *bound)
{
    bound->exclusive = text.length > 0 && text.data[0] == '(';
    if (bound->exclusive)
        text = kith_slice(text.data + 1, text.length - 1);
    bound->score = 0; /* what Redis takes an empty bound for */
    return !text.length ||
           kith_num_parse_double(text, KITH_NUM_SPACE_OK | KITH_NUM_RANGE_OK, &bound->score) == KITH_OK;
}

static bool parse_name_bound(struct kith_slice text, struct name_bound *bound)
{
    *bound = (struct name_bound){0};
    if (text.length == 1 && (text.data[0] == '-' || text.data[0] == '+')) {
        bound->infinite = text.data[0] == '-' ? -1 : 1;
        return true;
    }
    if (text.length == 0 || (text.data[0] != '(' && text.data[0] != '['))
        return false;
    bound->exclusive = text.data[0] == '(';
    bound->name = kith_slice(text.data + 1, text.length - 1);
    return true;
}

/* The bounds at argv[index] and argv[index + 1], the greater one first when the range is a reversed one. */
static bool parse_bounds(struct kith_call *call, size_t index, struct range *range)
{
    bool swapped = range->reverse && range->kind != BY_RANK;
    struct kith_slice low = call->argv[swapped ? index + 1 : index];
    struct kith_slice high = call->argv[swapped ? index : index + 1];
    const char *error = NULL;
    if (range->kind == BY_RANK)
        return kith_call_int(call, index, &range->start, NULL) &&
               kith_call_int(call, index + 1, &range->stop, NULL);
    if (range->kind == BY_SCORE &&
        (!kith_score_bound_parse(low, &range->least) || !kith_score_bound_parse(high, &range->most)))
        error = "ERR min or max is not a float";
    if (range->kind == BY_LEX &&
        (!parse_name_bound(low, &range->first_name) || !parse_name_bound(high, &range->last_name)))
        error = "ERR min or max not valid string range item";
    if (error)
        kith_reply_error(call->reply, error);
    return !error;
}

static size_t rank_of_name(const struct kith_zset *zset, const struct name_bound *bound, bool past_equal)
{
    if (bound->infinite)
        return bound->infinite < 0 ? 0 : kith_zset_count(zset);
    return kith_zset_rank_of_member(zset, bound->name, past_equal);
}

static struct ranks ranks_by_rank(const struct kith_zset *zset, const struct range *range)
{
    int64_t count = (int64_t)kith_zset_count(zset), start = range->start, stop = range->stop;
    if (start < 0)
        start = start < -count ? 0 : start + count;
    if (stop < 0)
        stop += count;
    if (stop >= count)
        stop = count - 1;
    if (start > stop || start >= count)
        return (struct ranks){0, 0};
    size_t length = (size_t)(stop - start + 1);
    return (struct ranks){range->reverse ? (size_t)(count - 1 - stop) : (size_t)start, length};
}

static void apply_limit(const struct range *range, struct ranks *ranks)
{
    if (!range->limited)
        return;
    if (range->offset < 0 || (uint64_t)range->offset >= ranks->count) {
        ranks->count = 0;
        return;
    }
    size_t rest = ranks->count - (size_t)range->offset;
    size_t kept = range->limit >= 0 && (uint64_t)range->limit < rest ? (size_t)range->limit : rest;
    ranks->first += range->reverse ? rest - kept : (size_t)range->offset;
    ranks->count = kept;
}

static struct ranks find_ranks(const struct kith_zset *zset, const struct range *range)
{
    if (range->kind == BY_RANK)
        return ranks_by_rank(zset, range);
    size_t first, end;
    if (range->kind == BY_SCORE) {
        first = kith_zset_rank_of_score(zset, range->least.score, range->least.exclusive);
        end = kith_zset_rank_of_score(zset, range->most.score, !range->most.exclusive);
    } else {
        first = rank_of_name(zset, &range->first_name, range->first_name.exclusive);
        end = rank_of_name(zset, &range->last_name, !range->last_name.exclusive);
    }
    struct ranks ranks = {first, end > first ? end - first : 0};
    apply_limit(range, &ranks);
    return ranks;
}

/* Options from argv[index] on. Those that the command's name fixes already are not accepted again. */
static bool parse_options(struct kith_call *call, size_t index, struct range *range, bool scores_allowed)
{
    bool direction_free = range->kind == BY_ANY;
    enum kind kind = range->kind;
    for (size_t i = index; i < call->argc; i++) {
        if (scores_allowed && kith_call_is(call, i, "withscores")) {
            range->with_scores = true;
        } else if (kith_call_is(call, i, "limit") && i + 2 < call->argc) {
            if (!kith_call_int(call, i + 1, &range->offset, NULL) ||
                !kith_call_int(call, i + 2, &range->limit, NULL))
                return false;
            range->limited = true;
            i += 2;
        } else if (direction_free && kith_call_is(call, i, "rev")) {
            range->reverse = true;
        } else if (kind == BY_ANY && kith_call_is(call, i, "bylex")) {
            range->kind = BY_LEX;
        } else if (kind == BY_ANY && kith_call_is(call, i, "byscore")) {
            range->kind = BY_SCORE;
        } else {
            kith_call_syntax_error(call);
            return false;
        }
    }
    if (range->kind == BY_ANY)
        range->kind = BY_RANK;
    const char *error = NULL;
    if (range->kind == BY_RANK && range->limited && range->limit != -1)
        error = "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX";
    if (range->kind == BY_LEX && range->with_scores)
        error = "ERR syntax error, WITHSCORES not supported in combination with BYLEX";
    if (error)
        kith_reply_error(call->reply, error);
    return !error;
}

static void reply_range(struct kith_call *call, struct range range)
{
    if (!parse_options(call, 4, &range, true) || !parse_bounds(call, 2, &range))
        return;
    struct kith_zset *zset;
    if (!kith_zset_open_read(call, 1, &zset))
        return;
    struct ranks ranks = zset ? find_ranks(zset, &range) : (struct ranks){0, 0};
    bool flat_pairs = range.with_scores && call->reply->protocol < 3;
    kith_reply_array(call->reply, flat_pairs ? 2 * ranks.count : ranks.count);
    struct kith_zset_writer writer = {call->reply, range.with_scores};
    if (ranks.count)
        kith_zset_range(zset, ranks.first, ranks.count, range.reverse, kith_zset_write_member, &writer);
}

void kith_zrange_command(struct kith_call *call)
{
    reply_range(call, (struct range){.kind = BY_ANY});
}

void kith_zrevrange_command(struct kith_call *call)
{
    reply_range(call, (struct range){.kind = BY_RANK, .reverse = true});
}

void kith_zrangebyscore_command(struct kith_call *call)
{
    reply_range(call, (struct range){.kind = BY_SCORE});
}

void kith_zrevrangebyscore_command(struct kith_call *call)
{
    reply_range(call, (struct range){.kind = BY_SCORE, .reverse = true});
}

void kith_zrangebylex_command(struct kith_call *call)
{
    reply_range(call, (struct range){.kind = BY_LEX});
}

void kith_zrevrangebylex_command(struct kith_call *call)
{
    reply_range(call, (struct range){.kind = BY_LEX, .reverse = true});
}

struct copy {
    struct kith_zset *to;
    bool failed;
};

static void copy_member(void *arg, struct kith_slice member, double score)
{
    struct copy *copy = arg;
    if (!copy->failed && kith_zset_set(copy->to, member, score) < 0)
        copy->failed = true;
}

void kith_zrangestore_command(struct kith_call *call)
{
    struct range range = {.kind = BY_ANY};
    if (!parse_options(call, 5, &range, false) || !parse_bounds(call, 3, &range))
        return;
    struct kith_zset *from;
    if (!kith_zset_open_read(call, 2, &from))
        return;
    struct copy copy = {kith_zset_open(kith_engine_hash_seed(call->engine)), false};
    if (copy.to && from) {
        struct ranks ranks = find_ranks(from, &range);
        kith_zset_range(from, ranks.first, ranks.count, false, copy_member, &copy);
    }
    if (!copy.to || copy.failed) {
        kith_zset_close(copy.to);
        kith_call_no_memory(call);
        return;
    }
    kith_zset_store(call, 1, copy.to);
}

static void reply_count(struct kith_call *call, enum kind kind)
{
    struct range range = {.kind = kind};
    struct kith_zset *zset;
    if (parse_bounds(call, 2, &range) && kith_zset_open_read(call, 1, &zset))
        kith_reply_int(call->reply, zset ? (int64_t)find_ranks(zset, &range).count : 0);
}

void kith_zcount_command(struct kith_call *call)
{
    reply_count(call, BY_SCORE);
}

void kith_zlexcount_command(struct kith_call *call)
{
    reply_count(call, BY_LEX);
}

static void remove_range(struct kith_call *call, enum kind kind)
{
    struct range range = {.kind = kind};
    struct kith_key key;
    if (!parse_bounds(call, 2, &range))
        return;
    int found = kith_key_open_write(call, 1, KITH_ZSET, &key);
    if (found < 0)
        return;
    size_t removed = 0;
    if (found) {
        struct kith_zset *zset = kith_key_object(&key);
        struct ranks ranks = find_ranks(zset, &range);
        removed = kith_zset_remove_range(zset, ranks.first, ranks.count);
        kith_key_remove_if_empty(&key);
    }
    kith_reply_int(call->reply, (int64_t)removed);
}

void kith_zremrangebyrank_command(struct kith_call *call)
{
    remove_range(call, BY_RANK);
}

void kith_zremrangebyscore_command(struct kith_call *call)
{
    remove_range(call, BY_SCORE);
}

void kith_zremrangebylex_command(struct kith_call *call)
{
    remove_range(call, BY_LEX);
}
