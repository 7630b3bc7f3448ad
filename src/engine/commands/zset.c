/* Sorted-set commands that act on single members, and the rows of the whole group. */
#include "engine/commands/zset.h"

#include "base/num.h"
#include "base/status.h"
#include "engine/commands/groups.h"
#include "engine/engine.h"

#include <math.h>

bool kith_zset_open_read(struct kith_call *call, size_t index, struct kith_zset **zset)
{
    struct kith_key key;
    int found = kith_key_open_read(call, index, KITH_ZSET, &key);
    *zset = found > 0 ? kith_key_object(&key) : NULL;
    return found >= 0;
}

void kith_zset_store(struct kith_call *call, size_t index, struct kith_zset *zset)
{
    struct kith_key key;
    bool exists = kith_key_find_for_write(call, call->argv[index], &key);
    size_t count = kith_zset_count(zset);
    if (count == 0) {
        if (exists)
            kith_key_remove(&key);
        kith_zset_close(zset);
    } else if (kith_key_set_object(&key, KITH_ZSET, zset, false) != KITH_OK) {
        kith_zset_close(zset);
        kith_call_no_memory(call);
        return;
    }
    kith_reply_int(call->reply, (int64_t)count);
}

static struct kith_zset *open_or_create(struct kith_call *call, struct kith_key *key, int found)
{
    if (found)
        return kith_key_object(key);
    struct kith_zset *zset = kith_zset_open(kith_engine_hash_seed(call->engine));
    if (zset && kith_key_set_object(key, KITH_ZSET, zset, false) == KITH_OK)
        return zset;
    kith_zset_close(zset);
    kith_call_no_memory(call);
    return NULL;
}

void kith_zset_write_member(void *arg, struct kith_slice member, double score)
{
    const struct kith_zset_writer *writer = arg;
    if (writer->with_scores && writer->reply->protocol >= 3)
        kith_reply_array(writer->reply, 2);
    kith_reply_bulk(writer->reply, member);
    if (writer->with_scores)
        kith_reply_double(writer->reply, score);
}

/* ---- ZADD and ZINCRBY ---- */

enum zadd_flag { NX = 1, XX = 2, GT = 4, LT = 8, CH = 16, INCR = 32 };

struct zadd {
    unsigned flags;
    int64_t added, updated;
    bool done; /* the last member was added or updated, or had that score already */
    double score;
};

/* Returns the index of the first score, 0 after an error reply. */
static size_t parse_zadd_options(struct kith_call *call, struct zadd *zadd)
{
    static const struct {
        const char *word;
        unsigned flag;
    } words[] = {{"nx", NX}, {"xx", XX}, {"gt", GT}, {"lt", LT}, {"ch", CH}, {"incr", INCR}};
    size_t i = 2, n;
    for (; i < call->argc; i++) {
        for (n = 0; n < 6 && !kith_call_is(call, i, words[n].word); n++)
            ;
        if (n == 6)
            break;
        zadd->flags |= words[n].flag;
    }
    unsigned flags = zadd->flags;
    size_t rest = call->argc - i;
    if (rest == 0 || rest % 2) {
        kith_call_syntax_error(call);
    } else if (flags & NX && flags & XX) {
        kith_reply_error(call->reply, "ERR XX and NX options at the same time are not compatible");
    } else if ((flags & GT && flags & (NX | LT)) || (flags & LT && flags & (NX | GT))) {
        kith_reply_error(call->reply, "ERR GT, LT, and/or NX options at the same time are not compatible");
    } else if (flags & INCR && rest > 2) {
        kith_reply_error(call->reply, "ERR INCR option supports a single increment-element pair");
    } else {
        return i;
    }
    return 0;
}

/* One member; false after an error reply. */
static bool zadd_one(struct kith_call *call, struct kith_zset *zset, struct zadd *zadd,
                     struct kith_slice member, double score)
{
    double old = 0;
    bool exists = kith_zset_score(zset, member, &old);
    zadd->done = false;
    if (exists ? zadd->flags & NX : zadd->flags & XX)
        return true;
    if (exists && zadd->flags & INCR)
        score += old;
    if (isnan(score)) {
        kith_reply_error(call->reply, "ERR resulting score is not a number (NaN)");
        return false;
    }
    if (exists && ((zadd->flags & GT && score <= old) || (zadd->flags & LT && score >= old)))
        return true;
    zadd->done = true;
    zadd->score = score;
    if (exists && score == old)
        return true;
    if (kith_zset_set(zset, member, score) < 0) {
        kith_call_no_memory(call);
        return false;
    }
    if (exists)
        zadd->updated++;
    else
        zadd->added++;
    return true;
}

static void zadd(struct kith_call *call, size_t first, struct zadd *zadd)
{
    double score;
    for (size_t i = first; i < call->argc; i += 2)
        if (!kith_call_double(call, i, &score, NULL))
            return;
    struct kith_key key;
    int found = kith_key_open_write(call, 1, KITH_ZSET, &key);
    if (found < 0)
        return;
    if (!found && zadd->flags & XX) {
        if (zadd->flags & INCR)
            kith_reply_null(call->reply);
        else
            kith_reply_int(call->reply, 0);
        return;
    }
    struct kith_zset *zset = open_or_create(call, &key, found);
    if (!zset)
        return;
    bool fine = true;
    for (size_t i = first; fine && i < call->argc; i += 2) {
        kith_num_parse_double(call->argv[i], 0, &score); /* was checked above */
        fine = zadd_one(call, zset, zadd, call->argv[i + 1], score);
    }
    if (!fine)
        ;
    else if (!(zadd->flags & INCR))
        kith_reply_int(call->reply, zadd->added + (zadd->flags & CH ? zadd->updated : 0));
    else if (zadd->done)
        kith_reply_double(call->reply, zadd->score);
    else
        kith_reply_null(call->reply);
    kith_key_remove_if_empty(&key);
}

static void zadd_command(struct kith_call *call)
{
    struct zadd options = {0};
    size_t first = parse_zadd_options(call, &options);
    if (first)
        zadd(call, first, &options);
}

static void zincrby_command(struct kith_call *call)
{
    struct zadd options = {.flags = INCR};
    zadd(call, 2, &options);
}

/* ---- reading and removing single members ---- */

static void zrem_command(struct kith_call *call)
{
    struct kith_key key;
    int found = kith_key_open_write(call, 1, KITH_ZSET, &key);
    if (found < 0)
        return;
    int64_t removed = 0;
    for (size_t i = 2; found && i < call->argc; i++)
        removed += kith_zset_remove(kith_key_object(&key), call->argv[i]);
    kith_reply_int(call->reply, removed);
    if (found)
        kith_key_remove_if_empty(&key);
}

static void zcard_command(struct kith_call *call)
{
    struct kith_zset *zset;
    if (kith_zset_open_read(call, 1, &zset))
        kith_reply_int(call->reply, zset ? (int64_t)kith_zset_count(zset) : 0);
}

static void reply_score(struct kith_call *call, const struct kith_zset *zset, struct kith_slice member)
{
    double score;
    if (zset && kith_zset_score(zset, member, &score))
        kith_reply_double(call->reply, score);
    else
        kith_reply_null(call->reply);
}

static void zscore_command(struct kith_call *call)
{
    struct kith_zset *zset;
    if (kith_zset_open_read(call, 1, &zset))
        reply_score(call, zset, call->argv[2]);
}

static void zmscore_command(struct kith_call *call)
{
    struct kith_zset *zset;
    if (!kith_zset_open_read(call, 1, &zset))
        return;
    kith_reply_array(call->reply, call->argc - 2);
    for (size_t i = 2; i < call->argc; i++)
        reply_score(call, zset, call->argv[i]);
}

static void reply_rank(struct kith_call *call, bool reverse)
{
    bool with_score = call->argc > 3;
    if (call->argc > 4 || (with_score && !kith_call_is(call, 3, "withscore"))) {
        kith_call_syntax_error(call);
        return;
    }
    struct kith_zset *zset;
    if (!kith_zset_open_read(call, 1, &zset))
        return;
    size_t rank;
    if (!zset || !kith_zset_rank(zset, call->argv[2], &rank)) {
        if (with_score)
            kith_reply_null_array(call->reply);
        else
            kith_reply_null(call->reply);
        return;
    }
    if (with_score)
        kith_reply_array(call->reply, 2);
    kith_reply_int(call->reply, (int64_t)(reverse ? kith_zset_count(zset) - 1 - rank : rank));
    if (with_score)
        reply_score(call, zset, call->argv[2]);
}

static void zrank_command(struct kith_call *call)
{
    reply_rank(call, false);
}

static void zrevrank_command(struct kith_call *call)
{
    reply_rank(call, true);
}

/* clang-format off */
#define ROW(command_name, command_arity, command_flags, access) \
    .name = command_name, .arity = command_arity, .flags = command_flags, .keys = {1, 1, 1}, .key_flags = access, \
    .categories = "sortedset", .group = "sorted-set"
#define MANY_ROW(command_name, command_arity, command_flags, specifications) \
    .name = command_name, .arity = command_arity, .flags = (command_flags) | KITH_CMD_MOVABLE_KEYS, .key_flags = specifications, \
    .categories = "sortedset", .group = "sorted-set"
#define POPS_MANY   "RW access delete @1 numkeys"
#define READS_MANY  "RO access @1 numkeys"
#define STORES_MANY "OW update @1; RO access @2 numkeys"
#define WRITES (KITH_CMD_WRITE | KITH_CMD_DENYOOM | KITH_CMD_FAST)
#define REMOVES (KITH_CMD_WRITE | KITH_CMD_FAST)
#define READS  (KITH_CMD_READONLY | KITH_CMD_FAST)
#define LOG_N  "O(log n)"
#define RANGE_COST "O(log n + m) for m members returned"

const struct kith_command kith_zset_commands[] = {
    {ROW("zadd", -4, WRITES, "RW update"), .since = "1.2.0", .complexity = "O(log n) a member",
     .summary = "Adds members to a sorted set, or gives them new scores.",
     .syntax = "key [NX | XX] [GT | LT] [CH] [INCR] score:double member [score:double member ...]", .handler = zadd_command},
    {ROW("zcard", 2, READS, "RO"), .since = "1.2.0", .complexity = "O(1)",
     .summary = "Returns how many members a sorted set has.", .syntax = "key", .handler = zcard_command},
    {ROW("zcount", 4, READS, "RO access"), .since = "2.0.0", .complexity = LOG_N,
     .summary = "Counts the members with a score in a range.", .syntax = "key min:double max:double", .handler = kith_zcount_command},
    {MANY_ROW("zdiff", -3, KITH_CMD_READONLY, READS_MANY), .since = "6.2.0", .complexity = "O(n) for n members in all",
     .summary = "Returns the members of the first sorted set that are in none of the others.",
     .syntax = "numkeys:integer key [key ...] [WITHSCORES]", .handler = kith_zdiff_command},
    {MANY_ROW("zdiffstore", -4, KITH_CMD_WRITE | KITH_CMD_DENYOOM, STORES_MANY), .keys = {1, 1, 1}, .since = "6.2.0",
     .complexity = "O(n) for n members in all", .summary = "Stores what ZDIFF returns.",
     .syntax = "destination:key numkeys:integer key [key ...]", .handler = kith_zdiffstore_command},
    {ROW("zincrby", 4, WRITES, "RW access update"), .since = "1.2.0", .complexity = LOG_N,
     .summary = "Adds a number to a member's score; a missing member counts as 0.",
     .syntax = "key increment:double member", .handler = zincrby_command},
    {MANY_ROW("zinter", -3, KITH_CMD_READONLY, READS_MANY), .since = "6.2.0",
     .complexity = "O(n*k) for the smallest of k sets having n members", .summary = "Returns the members that are in all of several sorted sets.",
     .syntax = "numkeys:integer key [key ...] [WEIGHTS weight:double [weight:double ...]] [AGGREGATE (SUM | MIN | MAX)] [WITHSCORES]",
     .handler = kith_zinter_command},
    {MANY_ROW("zintercard", -3, KITH_CMD_READONLY, READS_MANY), .since = "7.0.0",
     .complexity = "O(n*k) for the smallest of k sets having n members", .summary = "Counts the members that are in all of several sorted sets.",
     .syntax = "numkeys:integer key [key ...] [LIMIT limit:integer]", .handler = kith_zintercard_command},
    {MANY_ROW("zinterstore", -4, KITH_CMD_WRITE | KITH_CMD_DENYOOM, STORES_MANY), .keys = {1, 1, 1}, .since = "2.0.0",
     .complexity = "O(n*k + m*log m) for the smallest of k sets having n members and m results", .summary = "Stores what ZINTER returns.",
     .syntax = "destination:key numkeys:integer key [key ...] [WEIGHTS weight:double [weight:double ...]] [AGGREGATE (SUM | MIN | MAX)]",
     .handler = kith_zinterstore_command},
    {ROW("zlexcount", 4, READS, "RO access"), .since = "2.8.9", .complexity = LOG_N,
     .summary = "Counts the members between two names, in a set where all scores are equal.", .syntax = "key min max",
     .handler = kith_zlexcount_command},
    {MANY_ROW("zmpop", -4, KITH_CMD_WRITE, POPS_MANY), .since = "7.0.0", .complexity = "O(k + m*log n) for k keys and m members",
     .summary = "Removes and returns the lowest or highest members of the first sorted set that is not empty.",
     .syntax = "numkeys:integer key [key ...] (MIN | MAX) [COUNT count:integer]", .handler = kith_zmpop_command},
    {ROW("zmscore", -3, READS, "RO access"), .since = "6.2.0", .complexity = "O(m) for m members",
     .summary = "Returns the scores of several members.", .syntax = "key member [member ...]", .handler = zmscore_command},
    {ROW("zpopmax", -2, REMOVES, "RW access delete"), .since = "5.0.0", .complexity = "O(m*log n) for m members",
     .summary = "Removes and returns the members with the highest scores.", .syntax = "key [count:integer]", .handler = kith_zpopmax_command},
    {ROW("zpopmin", -2, REMOVES, "RW access delete"), .since = "5.0.0", .complexity = "O(m*log n) for m members",
     .summary = "Removes and returns the members with the lowest scores.", .syntax = "key [count:integer]", .handler = kith_zpopmin_command},
    {ROW("zrandmember", -2, KITH_CMD_READONLY, "RO access"), .since = "6.2.0", .complexity = "O(m*log n) for m members",
     .summary = "Returns random members: distinct ones for a positive count, with repetition for a negative.",
     .syntax = "key [count:integer [WITHSCORES]]", .handler = kith_zrandmember_command},
    {ROW("zrange", -4, KITH_CMD_READONLY, "RO access"), .since = "1.2.0", .complexity = RANGE_COST,
     .summary = "Returns members by rank, score or name.",
     .syntax = "key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset:integer count:integer] [WITHSCORES]", .handler = kith_zrange_command},
    {ROW("zrangebylex", -4, KITH_CMD_READONLY, "RO access"), .since = "2.8.9", .complexity = RANGE_COST,
     .summary = "Returns the members between two names. ZRANGE with BYLEX does the same.",
     .syntax = "key min max [LIMIT offset:integer count:integer]", .handler = kith_zrangebylex_command},
    {ROW("zrangebyscore", -4, KITH_CMD_READONLY, "RO access"), .since = "1.0.5", .complexity = RANGE_COST,
     .summary = "Returns the members with a score in a range. ZRANGE with BYSCORE does the same.",
     .syntax = "key min:double max:double [WITHSCORES] [LIMIT offset:integer count:integer]", .handler = kith_zrangebyscore_command},
    {.name = "zrangestore", .arity = -5, .flags = KITH_CMD_WRITE | KITH_CMD_DENYOOM, .keys = {1, 2, 1}, .key_flags = "OW update",
     .categories = "sortedset", .group = "sorted-set", .since = "6.2.0", .complexity = RANGE_COST,
     .summary = "Stores what ZRANGE returns.",
     .syntax = "dst:key src:key min max [BYSCORE | BYLEX] [REV] [LIMIT offset:integer count:integer]", .handler = kith_zrangestore_command},
    {ROW("zrank", -3, READS, "RO access"), .since = "2.0.0", .complexity = LOG_N,
     .summary = "Returns how many members stand before one, by ascending score.", .syntax = "key member [WITHSCORE]", .handler = zrank_command},
    {ROW("zrem", -3, REMOVES, "RW delete"), .since = "1.2.0", .complexity = "O(m*log n) for m members",
     .summary = "Removes members; the last one takes the key with it.", .syntax = "key member [member ...]", .handler = zrem_command},
    {ROW("zremrangebylex", 4, KITH_CMD_WRITE, "RW delete"), .since = "2.8.9", .complexity = RANGE_COST,
     .summary = "Removes the members between two names, in a set where all scores are equal.", .syntax = "key min max",
     .handler = kith_zremrangebylex_command},
    {ROW("zremrangebyrank", 4, KITH_CMD_WRITE, "RW delete"), .since = "2.0.0", .complexity = RANGE_COST,
     .summary = "Removes the members in a range of ranks.", .syntax = "key start:integer stop:integer", .handler = kith_zremrangebyrank_command},
    {ROW("zremrangebyscore", 4, KITH_CMD_WRITE, "RW delete"), .since = "1.2.0", .complexity = RANGE_COST,
     .summary = "Removes the members with a score in a range.", .syntax = "key min:double max:double", .handler = kith_zremrangebyscore_command},
    {ROW("zrevrange", -4, KITH_CMD_READONLY, "RO access"), .since = "1.2.0", .complexity = RANGE_COST,
     .summary = "Returns members by descending rank. ZRANGE with REV does the same.",
     .syntax = "key start:integer stop:integer [WITHSCORES]", .handler = kith_zrevrange_command},
    {ROW("zrevrangebylex", -4, KITH_CMD_READONLY, "RO access"), .since = "2.8.9", .complexity = RANGE_COST,
     .summary = "Returns the members between two names, descending.", .syntax = "key max min [LIMIT offset:integer count:integer]",
     .handler = kith_zrevrangebylex_command},
    {ROW("zrevrangebyscore", -4, KITH_CMD_READONLY, "RO access"), .since = "2.2.0", .complexity = RANGE_COST,
     .summary = "Returns the members with a score in a range, descending.",
     .syntax = "key max:double min:double [WITHSCORES] [LIMIT offset:integer count:integer]", .handler = kith_zrevrangebyscore_command},
    {ROW("zrevrank", -3, READS, "RO access"), .since = "2.0.0", .complexity = LOG_N,
     .summary = "Returns how many members stand before one, by descending score.", .syntax = "key member [WITHSCORE]",
     .handler = zrevrank_command},
    {ROW("zscan", -3, KITH_CMD_READONLY, "RO access"), .since = "2.8.0", .complexity = "O(1) a call, O(n) for a whole iteration",
     .summary = "Iterates over the members of a sorted set.",
     .syntax = "key cursor:integer [MATCH pattern:pattern] [COUNT count:integer]", .handler = kith_zscan_command},
    {ROW("zscore", 3, READS, "RO access"), .since = "1.2.0", .complexity = "O(1)",
     .summary = "Returns the score of a member.", .syntax = "key member", .handler = zscore_command},
    {MANY_ROW("zunion", -3, KITH_CMD_READONLY, READS_MANY), .since = "6.2.0", .complexity = "O(n + m*log m) for n members in all and m results",
     .summary = "Returns the members of several sorted sets.",
     .syntax = "numkeys:integer key [key ...] [WEIGHTS weight:double [weight:double ...]] [AGGREGATE (SUM | MIN | MAX)] [WITHSCORES]",
     .handler = kith_zunion_command},
    {MANY_ROW("zunionstore", -4, KITH_CMD_WRITE | KITH_CMD_DENYOOM, STORES_MANY), .keys = {1, 1, 1}, .since = "2.0.0",
     .complexity = "O(n + m*log m) for n members in all and m results", .summary = "Stores what ZUNION returns.",
     .syntax = "destination:key numkeys:integer key [key ...] [WEIGHTS weight:double [weight:double ...]] [AGGREGATE (SUM | MIN | MAX)]",
     .handler = kith_zunionstore_command},
    {0},
};
