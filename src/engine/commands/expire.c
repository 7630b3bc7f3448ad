/* When keys end. A relative time counts from the time of the log's entry, not from any clock, so that every
 * replica and every replay arrives at the same millisecond. */
#include "base/num.h"
#include "base/status.h"
#include "engine/commands/groups.h"
#include "engine/engine.h"
#include "engine/keyspace.h"
#include "engine/state.h"

enum condition { NX = 1, XX = 2, GT = 4, LT = 8 };

/* False after an error reply. */
static bool parse_conditions(struct kith_call *call, unsigned *conditions)
{
    static const struct {
        const char *word;
        enum condition condition;
    } words[] = {{"nx", NX}, {"xx", XX}, {"gt", GT}, {"lt", LT}};
    *conditions = 0;
    for (size_t i = 3; i < call->argc; i++) {
        size_t w = 0;
        while (w < 4 && !kith_call_is(call, i, words[w].word))
            w++;
        if (w == 4) {
            kith_reply_error_format(call->reply, "ERR Unsupported option %.*s", (int)call->argv[i].length,
                                    call->argv[i].data);
            return false;
        }
        *conditions |= words[w].condition;
    }
    if (*conditions & NX && *conditions & ~(unsigned)NX) {
        kith_reply_error(call->reply, "ERR NX and XX, GT or LT options at the same time are not compatible");
        return false;
    }
    if (*conditions & GT && *conditions & LT) {
        kith_reply_error(call->reply, "ERR GT and LT options at the same time are not compatible");
        return false;
    }
    return true;
}

/* A key without expiry lives for ever: later than any time. */
static bool conditions_hold(unsigned conditions, int64_t current_ms, int64_t when_ms)
{
    if (conditions & NX && current_ms >= 0)
        return false;
    if (conditions & XX && current_ms < 0)
        return false;
    if (conditions & GT && (current_ms < 0 || when_ms <= current_ms))
        return false;
    return !(conditions & LT && current_ms >= 0 && when_ms >= current_ms);
}

/* argv[2] in units of unit_ms, counted from base_ms. False after an error reply. */
static bool parse_time(struct kith_call *call, int64_t base_ms, int64_t unit_ms, int64_t *when_ms)
{
    int64_t value;
    if (!kith_call_int(call, 2, &value, NULL))
        return false;
    if (__builtin_mul_overflow(value, unit_ms, &value) || __builtin_add_overflow(value, base_ms, &value)) {
        kith_reply_error_format(call->reply, "ERR invalid expire time in '%s' command", call->command->name);
        return false;
    }
    *when_ms = value;
    return true;
}

static void expire(struct kith_call *call, int64_t base_ms, int64_t unit_ms)
{
    unsigned conditions;
    int64_t when_ms;
    if (!parse_conditions(call, &conditions) || !parse_time(call, base_ms, unit_ms, &when_ms))
        return;
    struct kith_key key;
    bool set = kith_key_find_for_write(call, call->argv[1], &key) &&
               conditions_hold(conditions, kith_key_expiry(&key), when_ms);
    /* The upstream says itself when the key has gone; until then it may still be changed. */
    if (set && when_ms <= call->now_ms && (when_ms < 0 || !call->engine->upstream.applying)) {
        kith_key_remove(&key);
    } else if (set && kith_key_set_expiry(&key, when_ms) != KITH_OK) {
        kith_call_no_memory(call);
        return;
    }
    kith_reply_int(call->reply, set);
}

static void expire_command(struct kith_call *call)
{
    expire(call, call->now_ms, 1000);
}

static void pexpire_command(struct kith_call *call)
{
    expire(call, call->now_ms, 1);
}

static void expireat_command(struct kith_call *call)
{
    expire(call, 0, 1000);
}

static void pexpireat_command(struct kith_call *call)
{
    expire(call, 0, 1);
}

static void persist_command(struct kith_call *call)
{
    struct kith_key key;
    bool persisted = kith_key_find_for_write(call, call->argv[1], &key) && kith_key_expiry(&key) >= 0;
    if (persisted && kith_key_set_expiry(&key, -1) != KITH_OK)
        kith_call_no_memory(call);
    else
        kith_reply_int(call->reply, persisted);
}

/* The expiry of argv[1]; false after a reply of -2 (no key) or -1 (no expiry). */
static bool expiry_of(struct kith_call *call, int64_t *when_ms)
{
    struct kith_key key;
    bool found = kith_key_find(call, call->argv[1], &key);
    *when_ms = kith_key_expiry(&key);
    if (*when_ms >= 0)
        return true;
    kith_reply_int(call->reply, found ? -1 : -2);
    return false;
}

static void ttl_command(struct kith_call *call)
{
    int64_t when_ms;
    if (expiry_of(call, &when_ms))
        kith_reply_int(call->reply, (when_ms - call->now_ms + 500) / 1000);
}

static void pttl_command(struct kith_call *call)
{
    int64_t when_ms;
    if (expiry_of(call, &when_ms))
        kith_reply_int(call->reply, when_ms - call->now_ms);
}

static void expiretime_command(struct kith_call *call)
{
    int64_t when_ms;
    if (expiry_of(call, &when_ms))
        kith_reply_int(call->reply, (when_ms + 500) / 1000);
}

static void pexpiretime_command(struct kith_call *call)
{
    int64_t when_ms;
    if (expiry_of(call, &when_ms))
        kith_reply_int(call->reply, when_ms);
}

/* clang-format off */
#define ROW(command_name, command_arity, command_flags) \
    .name = command_name, .arity = command_arity, .flags = (command_flags), .group = "generic", \
    .categories = "keyspace", .keys = {1, 1, 1}, .complexity = "O(1), O(log n) for n keys with an expiry"
#define WRITES (KITH_CMD_WRITE | KITH_CMD_FAST)
#define READS  (KITH_CMD_READONLY | KITH_CMD_FAST)

const struct kith_command kith_expire_commands[] = {
    {ROW("expire", -3, WRITES), .key_flags = "RW update", .since = "1.0.0",
     .summary = "Sets a key's end in seconds from now.", .syntax = "key seconds:integer [NX | XX | GT | LT]",
     .handler = expire_command},
    {ROW("expireat", -3, WRITES), .key_flags = "RW update", .since = "1.2.0",
     .summary = "Sets a key's end in seconds since 1970.", .syntax = "key unix-time-seconds:unix-time [NX | XX | GT | LT]",
     .handler = expireat_command},
    {ROW("expiretime", 2, READS), .key_flags = "RO access", .since = "7.0.0",
     .summary = "Returns a key's end in seconds since 1970.", .syntax = "key", .handler = expiretime_command},
    {ROW("persist", 2, WRITES), .key_flags = "RW update", .since = "2.2.0",
     .summary = "Makes a key live for ever.", .syntax = "key", .handler = persist_command},
    {ROW("pexpire", -3, WRITES), .key_flags = "RW update", .since = "2.6.0",
     .summary = "Sets a key's end in milliseconds from now.", .syntax = "key milliseconds:integer [NX | XX | GT | LT]",
     .handler = pexpire_command},
    {ROW("pexpireat", -3, WRITES), .key_flags = "RW update", .since = "2.6.0",
     .summary = "Sets a key's end in milliseconds since 1970.",
     .syntax = "key unix-time-milliseconds:unix-time [NX | XX | GT | LT]", .handler = pexpireat_command},
    {ROW("pexpiretime", 2, READS), .key_flags = "RO access", .since = "7.0.0",
     .summary = "Returns a key's end in milliseconds since 1970.", .syntax = "key", .handler = pexpiretime_command},
    {ROW("pttl", 2, READS), .key_flags = "RO access", .since = "2.6.0", .tips = "nondeterministic_output",
     .summary = "Returns the milliseconds that a key has left.", .syntax = "key", .handler = pttl_command},
    {ROW("ttl", 2, READS), .key_flags = "RO access", .since = "1.0.0", .tips = "nondeterministic_output",
     .summary = "Returns the seconds that a key has left.", .syntax = "key", .handler = ttl_command},
    {0},
};
