/* Following a Redis or Valkey: REPLICAOF for users, and the commands that stand in the log alone, in front of what the
 * upstream sent (engine/upstream.h). Who connects, and how, is the server's; here is what becomes of it. */
#include "base/num.h"
#include "base/status.h"
#include "engine/commands/groups.h"
#include "engine/commands/help.h"
#include "engine/keyspace.h"
#include "engine/state.h"

#include <stdio.h>

/* --- REPLICAOF --- */

static void stop_following(struct kith_upstream *upstream)
{
    upstream->phase = KITH_UPSTREAM_OFF;
    upstream->replid[0] = upstream->host[0] = '\0';
    upstream->port = 0;
    upstream->offset = 0;
    upstream->db = 0;
    upstream->link++;
}

static void replicaof_command(struct kith_call *call)
{
    struct kith_upstream *upstream = &call->engine->upstream;
    struct kith_slice host = call->argv[1];
    int64_t port;
    if (kith_call_is(call, 1, "no") && kith_call_is(call, 2, "one")) {
        if (kith_upstream_follows(upstream))
            stop_following(upstream);
        kith_reply_ok(call->reply);
        return;
    }
    if (!kith_call_int_in(call, 2, 1, 65535, &port, "ERR Invalid master port"))
        return;
    if (!host.length || host.length > KITH_UPSTREAM_HOST_MAX || memchr(host.data, '\0', host.length)) {
        kith_reply_error_format(call->reply, "ERR a host's name has 1 to %d characters",
                                KITH_UPSTREAM_HOST_MAX);
        return;
    }
    if (kith_upstream_follows(upstream) && upstream->port == port && kith_slice_is(host, upstream->host)) {
        kith_reply_simple(call->reply, "OK Already connected to specified master");
        return;
    }
    /* What was taken over so far may be a part of the new upstream's history: its PSYNC tells. Half a copy is not. */
    if (!kith_upstream_follows(upstream) || upstream->phase == KITH_UPSTREAM_LOADING)
        upstream->replid[0] = '\0';
    if (!kith_upstream_follows(upstream)) {
        kith_upstream_clear_left_out(upstream);
        upstream->phase = KITH_UPSTREAM_WAITING;
    }
    memcpy(upstream->host, host.data, host.length);
    upstream->host[host.length] = '\0';
    upstream->port = (uint16_t)port;
    upstream->link++;
    kith_reply_ok(call->reply);
}

/* --- in front of an entry's commands --- */

static bool is_number(struct kith_slice text, uint64_t number)
{
    int64_t value;
    return kith_num_parse_int64(text, &value) == KITH_OK && (uint64_t)value == number;
}

static void take_replid(struct kith_upstream *upstream, struct kith_slice replid)
{
    memcpy(upstream->replid, replid.data, replid.length);
    upstream->replid[replid.length] = '\0';
}

/* The numbers in argv[at] (offset) and argv[at + 1] (database), and the replication id behind them. */
struct place {
    int64_t offset, db;
    struct kith_slice replid;
};

static bool parse_place(struct kith_call *call, size_t at, struct place *place)
{
    place->replid = call->argv[at + 2];
    return kith_num_parse_int64(call->argv[at], &place->offset) == KITH_OK && place->offset >= 0 &&
           kith_num_parse_int64(call->argv[at + 1], &place->db) == KITH_OK && place->db >= 0 &&
           place->db <= INT32_MAX && kith_upstream_is_replid(place->replid);
}

static void take_place(struct kith_upstream *upstream, const struct place *place)
{
    upstream->offset = place->offset;
    upstream->db = (uint32_t)place->db;
    take_replid(upstream, place->replid);
}

static void refuse_entry(struct kith_call *call)
{
    call->engine->upstream.stale = true;
    kith_reply_error(call->reply, "ERR not the next part of the upstream's stream");
}

/* APPLY link from to db replid */
static void apply_command(struct kith_call *call)
{
    struct kith_upstream *upstream = &call->engine->upstream;
    struct place place;
    if (upstream->phase != KITH_UPSTREAM_LIVE || !is_number(call->argv[2], upstream->link) ||
        !is_number(call->argv[3], (uint64_t)upstream->offset) || !parse_place(call, 4, &place)) {
        refuse_entry(call);
        return;
    }
    take_place(upstream, &place);
    upstream->applying = true;
    kith_reply_ok(call->reply);
}

/* SYNC link load: the old keys go. */
static void sync_command(struct kith_call *call)
{
    struct kith_upstream *upstream = &call->engine->upstream;
    int64_t load;
    struct kith_db *db;
    if (!kith_upstream_follows(upstream) || !is_number(call->argv[2], upstream->link) ||
        kith_num_parse_int64(call->argv[3], &load) != KITH_OK) {
        refuse_entry(call);
        return;
    }
    for (uint32_t i = 0; (db = kith_engine_db(call->engine, i)); i++)
        kith_db_flush(db);
    kith_upstream_clear_left_out(upstream);
    upstream->phase = KITH_UPSTREAM_LOADING;
    upstream->load = (uint64_t)load;
    upstream->replid[0] = '\0';
    upstream->offset = 0;
    kith_reply_ok(call->reply);
}

static bool is_loading(struct kith_call *call)
{
    const struct kith_upstream *upstream = &call->engine->upstream;
    return upstream->phase == KITH_UPSTREAM_LOADING && is_number(call->argv[2], upstream->link) &&
           is_number(call->argv[3], upstream->load);
}

/* LOAD link load: what follows in the entry is of the copy. */
static void load_command(struct kith_call *call)
{
    if (!is_loading(call)) {
        refuse_entry(call);
        return;
    }
    call->engine->upstream.applying = true;
    kith_reply_ok(call->reply);
}

/* LOADED link load offset db replid: the copy is whole. */
static void loaded_command(struct kith_call *call)
{
    struct place place;
    if (!is_loading(call) || !parse_place(call, 4, &place)) {
        refuse_entry(call);
        return;
    }
    take_place(&call->engine->upstream, &place);
    call->engine->upstream.phase = KITH_UPSTREAM_LIVE;
    kith_reply_ok(call->reply);
}

/* LEAVE commands why [key ...] */
static void leave_command(struct kith_call *call)
{
    struct kith_upstream *upstream = &call->engine->upstream;
    if (!upstream->applying) {
        refuse_entry(call);
        return;
    }
    int64_t commands = 0;
    kith_num_parse_int64(call->argv[2], &commands);
    upstream->left_out_commands += (uint64_t)commands;
    for (size_t i = 4; i < call->argc; i++)
        kith_upstream_leave_out(call->engine, kith_db_index(call->db), call->argv[i], call->argv[3]);
    kith_reply_ok(call->reply);
}

/* --- what is missing --- */

struct listing {
    struct kith_reply *reply;
    int64_t left;
    size_t count;
};

static void list_one(void *arg, uint32_t db_index, struct kith_slice key, struct kith_slice why)
{
    struct listing *listing = arg;
    if (listing->left-- <= 0)
        return;
    listing->count++;
    kith_reply_array(listing->reply, 3);
    kith_reply_int(listing->reply, db_index);
    kith_reply_bulk(listing->reply, key);
    kith_reply_bulk(listing->reply, why);
}

static void leftout_command(struct kith_call *call)
{
    struct listing listing = {.reply = call->reply, .left = INT64_MAX};
    if (call->argc != 2 && (call->argc != 4 || !kith_call_is(call, 2, "count"))) {
        kith_call_syntax_error(call);
        return;
    }
    if (call->argc == 4 &&
        !kith_call_int_in(call, 3, 0, INT64_MAX, &listing.left, "ERR COUNT is a number from 0 on"))
        return;
    struct kith_reply_mark mark = kith_reply_array_begin(call->reply);
    kith_upstream_each(&call->engine->upstream, list_one, &listing);
    kith_reply_array_end(call->reply, mark, listing.count);
}

enum {
    FOLLOW = KITH_CMD_WRITE | KITH_CMD_ADMIN | KITH_CMD_NOSCRIPT | KITH_CMD_STALE |
             KITH_CMD_NO_ASYNC_LOADING | KITH_CMD_ANY_ROLE,
    LOG_ONLY = KITH_CMD_WRITE | KITH_CMD_ADMIN | KITH_CMD_NOSCRIPT | KITH_CMD_ANY_ROLE | KITH_CMD_LOG_ONLY,
};

/* clang-format off */
#define ROW(command_name, command_arity, command_flags) \
    .name = command_name, .arity = command_arity, .flags = (command_flags), .group = "server"
#define INTERNAL(command_name, command_arity) ROW(command_name, command_arity, LOG_ONLY), .since = "kith 0.1"

const struct kith_command kith_upstream_commands[] = {
    {ROW("replicaof", 3, FOLLOW), .since = "5.0.0", .complexity = "O(1), the copy goes on behind it",
     .summary = "Makes this node, or its group, follow a running Redis or Valkey, whose data takes the place of its own; NO ONE ends that.",
     .syntax = "(host port:integer | NO ONE)", .handler = replicaof_command},
    {ROW("slaveof", 3, FOLLOW), .since = "1.0.0", .complexity = "O(1), the copy goes on behind it",
     .summary = "REPLICAOF by its old name.",
     .syntax = "(host port:integer | NO ONE)", .handler = replicaof_command},
    {ROW("kith.upstream", -2, KITH_CMD_SUBCOMMANDS), .since = "kith 0.1", .complexity = "Depends on subcommand.",
     .summary = "A container for commands about the Redis or Valkey that is followed.", .syntax = ""},
    {INTERNAL("kith.upstream|apply", 7), .complexity = "O(1)",
     .summary = "In the log alone: the commands behind it are the next part of the upstream's stream.",
     .syntax = "link:integer from:integer to:integer db:integer replid", .handler = apply_command},
    {ROW("kith.upstream|help", 2, KITH_CMD_LOADING | KITH_CMD_STALE), .since = "kith 0.1", .complexity = "O(1)",
     .summary = "Returns helpful text about the subcommands.", .syntax = "", .handler = kith_help_command},
    {INTERNAL("kith.upstream|leave", -4), .complexity = "O(N) where N is the number of keys",
     .summary = "In the log alone: the upstream wrote these keys in a way that Kith cannot follow.",
     .syntax = "commands:integer why [key [key ...]]", .handler = leave_command},
    {ROW("kith.upstream|leftout", -2, KITH_CMD_LOADING | KITH_CMD_STALE), .since = "kith 0.1",
     .complexity = "O(N) where N is the number of keys listed", .tips = "nondeterministic_output_order",
     .summary = "Returns the keys of the upstream that are not here, with their databases and why: a type or a command that Kith has not got.",
     .syntax = "[COUNT count:integer]", .handler = leftout_command},
    {INTERNAL("kith.upstream|load", 4), .complexity = "O(1)",
     .summary = "In the log alone: the commands behind it are a part of the upstream's copy.",
     .syntax = "link:integer load:integer", .handler = load_command},
    {INTERNAL("kith.upstream|loaded", 7), .complexity = "O(1)",
     .summary = "In the log alone: the upstream's copy is whole.",
     .syntax = "link:integer load:integer offset:integer db:integer replid", .handler = loaded_command},
    {INTERNAL("kith.upstream|sync", 4), .complexity = "O(1), freeing goes on behind it",
     .summary = "In the log alone: the upstream's copy comes, and what was here goes.",
     .syntax = "link:integer load:integer", .handler = sync_command},
    {0},
};
/* clang-format on */
