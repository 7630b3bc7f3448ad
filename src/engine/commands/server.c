/* Commands about the server and its databases, as far as the engine itself can answer (host.c has the
 * others). */
#include "engine/commands/groups.h"
#include "engine/commands/help.h"
#include "engine/engine.h"
#include "engine/keyspace.h"
#include "engine/state.h"

#include <stdio.h>

static void dbsize_command(struct kith_call *call)
{
    kith_reply_int(call->reply, (int64_t)kith_db_count(call->db));
}

/* Both ways of flushing give the memory back in steps, so SYNC and ASYNC mean the same. */
static bool flush_option_allowed(struct kith_call *call)
{
    if (call->argc == 1 ||
        (call->argc == 2 && (kith_call_is(call, 1, "async") || kith_call_is(call, 1, "sync"))))
        return true;
    kith_call_syntax_error(call);
    return false;
}

static void flushdb_command(struct kith_call *call)
{
    if (!flush_option_allowed(call))
        return;
    kith_db_flush(call->db);
    kith_reply_ok(call->reply);
}

static void flushall_command(struct kith_call *call)
{
    if (!flush_option_allowed(call))
        return;
    struct kith_db *db;
    for (uint32_t i = 0; (db = kith_engine_db(call->engine, i)); i++)
        kith_db_flush(db);
    kith_reply_ok(call->reply);
}

static void time_command(struct kith_call *call)
{
    kith_reply_array(call->reply, 2);
    kith_reply_bulk_int(call->reply, call->now_ms / 1000);
    kith_reply_bulk_int(call->reply, call->now_ms % 1000 * 1000);
}

/* --- MEMORY. --- */

enum { TABLE_BYTES_PER_KEY = 9 }; /* of the keyspace's table, on average */

static void memory_usage_command(struct kith_call *call)
{
    struct kith_key key;
    int64_t samples;
    if (call->argc == 5 && kith_call_is(call, 3, "samples")) {
        if (!kith_call_int(call, 4, &samples, NULL))
            return;
        if (samples < 0) {
            kith_call_syntax_error(call);
            return;
        }
    } else if (call->argc != 3) {
        kith_call_syntax_error(call);
        return;
    }
    if (!kith_key_find(call, call->argv[2], &key)) {
        kith_reply_null(call->reply);
        return;
    }
    size_t bytes = kith_keyspace_entry_bytes(key.entry) + TABLE_BYTES_PER_KEY;
    if (kith_key_type(&key) != KITH_STRING)
        bytes += kith_type_ops(kith_key_type(&key))->memory_bytes(kith_key_object(&key));
    kith_reply_int(call->reply, (int64_t)bytes);
}

/* --- DEBUG, as far as tests need it and the engine can answer. --- */

static void debug_digest_command(struct kith_call *call)
{
    char text[41];
    uint64_t digest = kith_engine_digest(call->engine);
    /* Forty digits are what callers expect, and all zeros for an empty server. */
    snprintf(text, sizeof text, "%016llx%016llx%08x", (unsigned long long)digest,
             (unsigned long long)(digest * 0x9e3779b97f4a7c15ull), (unsigned)(digest >> 32));
    kith_reply_simple(call->reply, text);
}

static void debug_object_command(struct kith_call *call)
{
    struct kith_key key;
    if (!kith_key_find(call, call->argv[2], &key)) {
        kith_reply_error(call->reply, "ERR no such key");
        return;
    }
    char text[256];
    snprintf(text, sizeof text,
             "Value at:%p refcount:1 encoding:%s serializedlength:%zu lru:0 lru_seconds_idle:0", key.entry,
             kith_key_encoding(&key), kith_keyspace_entry_bytes(key.entry));
    kith_reply_simple(call->reply, text);
}

static void debug_jmap_command(struct kith_call *call)
{
    kith_reply_ok(call->reply);
}

/* clang-format off */
#define ROW(command_name, command_arity, command_flags) \
    .name = command_name, .arity = command_arity, .flags = (command_flags), .group = "server"

const struct kith_command kith_server_commands[] = {
    {ROW("dbsize", 1, KITH_CMD_READONLY | KITH_CMD_FAST), .since = "1.0.0", .complexity = "O(1)",
     .tips = "request_policy:all_shards response_policy:agg_sum", .categories = "keyspace",
     .summary = "Returns how many keys the database has.", .syntax = "", .handler = dbsize_command},
    {ROW("debug|digest", 2, KITH_CMD_ADMIN | KITH_CMD_NOSCRIPT | KITH_CMD_READONLY), .since = "1.0.0",
     .complexity = "O(n) for n keys and their elements", .summary = "Returns a hash of the whole content.", .syntax = "",
     .handler = debug_digest_command},
    {ROW("debug|jmap", 2, KITH_CMD_ADMIN | KITH_CMD_NOSCRIPT), .since = "kith 0.1", .complexity = "O(1)",
     .summary = "Does nothing, successfully.", .syntax = "", .handler = debug_jmap_command},
    {ROW("debug|object", 3, KITH_CMD_ADMIN | KITH_CMD_NOSCRIPT | KITH_CMD_READONLY), .keys = {2, 2, 1}, .key_flags = "RO",
     .since = "1.0.0", .complexity = "O(1)", .summary = "Tells how a value is kept.", .syntax = "key",
     .handler = debug_object_command},
    {ROW("flushall", -1, KITH_CMD_WRITE), .since = "1.0.0", .complexity = "O(1), freeing goes on behind it",
     .categories = "keyspace dangerous", .tips = "request_policy:all_shards response_policy:all_succeeded",
     .summary = "Removes all keys of all databases.", .syntax = "[ASYNC | SYNC]", .handler = flushall_command},
    {ROW("flushdb", -1, KITH_CMD_WRITE), .since = "1.0.0", .complexity = "O(1), freeing goes on behind it",
     .categories = "keyspace dangerous", .tips = "request_policy:all_shards response_policy:all_succeeded",
     .summary = "Removes all keys of the database.", .syntax = "[ASYNC | SYNC]", .handler = flushdb_command},
    {ROW("memory", -2, KITH_CMD_SUBCOMMANDS), .since = "4.0.0", .complexity = "Depends on subcommand.",
     .summary = "A container for commands on memory.", .syntax = ""},
    {ROW("memory|help", 2, KITH_CMD_LOADING | KITH_CMD_STALE), .since = "4.0.0", .complexity = "O(1)",
     .summary = "Returns what the subcommands are for.", .syntax = "", .handler = kith_help_command},
    {ROW("memory|usage", -3, KITH_CMD_READONLY), .keys = {2, 2, 1}, .key_flags = "RO", .since = "4.0.0",
     .complexity = "O(n) for n elements", .summary = "Returns how many bytes a key and its value take.",
     .syntax = "key [SAMPLES count:integer]", .handler = memory_usage_command},
    {ROW("time", 1, KITH_CMD_LOADING | KITH_CMD_STALE | KITH_CMD_FAST), .since = "2.6.0", .complexity = "O(1)",
     .tips = "nondeterministic_output", .summary = "Returns the server's clock: seconds and microseconds.", .syntax = "",
     .handler = time_command},
    {0},
};
