/* What a client says about its own connection. The engine answers what needs the session alone; the rest is
 * the host's. */
#include "base/num.h"
#include "base/status.h"
#include "engine/commands/groups.h"
#include "engine/engine.h"
#include "engine/keyspace.h"

static void ping_command(struct kith_call *call)
{
    if (call->argc > 2)
        kith_call_wrong_arity(call);
    else if (call->argc == 2)
        kith_reply_bulk(call->reply, call->argv[1]);
    else
        kith_reply_simple(call->reply, "PONG");
}

static void echo_command(struct kith_call *call)
{
    kith_reply_bulk(call->reply, call->argv[1]);
}

static void select_command(struct kith_call *call)
{
    int64_t index;
    if (kith_num_parse_int64(call->argv[1], &index) != KITH_OK) {
        kith_reply_error(call->reply, "ERR value is not an integer or out of range");
        return;
    }
    if (index < 0 || index > UINT32_MAX || !kith_engine_db(call->engine, (uint32_t)index)) {
        kith_reply_error(call->reply, "ERR DB index is out of range");
        return;
    }
    call->session->db_index = (uint32_t)index;
    kith_reply_ok(call->reply);
}

/* clang-format off */
#define ROW(command_name, command_arity, command_flags) \
    .name = command_name, .arity = command_arity, .flags = (command_flags), .group = "connection", \
    .categories = "connection"

const struct kith_command kith_connection_commands[] = {
    {ROW("echo", 2, KITH_CMD_LOADING | KITH_CMD_STALE | KITH_CMD_FAST), .since = "1.0.0", .complexity = "O(1)",
     .summary = "Returns its argument.", .syntax = "message", .handler = echo_command},
    {ROW("ping", -1, KITH_CMD_FAST), .since = "1.0.0", .complexity = "O(1)",
     .tips = "request_policy:all_shards response_policy:all_succeeded",
     .summary = "Answers PONG, or the message.", .syntax = "[message]", .handler = ping_command},
    {ROW("select", 2, KITH_CMD_LOADING | KITH_CMD_STALE | KITH_CMD_FAST | KITH_CMD_SESSION), .since = "1.0.0",
     .complexity = "O(1)", .summary = "Chooses the database of this connection.", .syntax = "index:integer",
     .handler = select_command},
    {0},
};
