/* Commands on keys whatever they hold. */
#include "engine/commands/groups.h"
#include "engine/engine.h"
#include "engine/keyspace.h"

static void del_command(struct kith_call *call)
{
    int64_t removed = 0;
    for (size_t i = 1; i < call->argc; i++) {
        struct kith_key key;
        if (!kith_key_find_for_write(call, call->argv[i], &key))
            continue;
        kith_key_remove(&key);
        removed++;
    }
    kith_reply_int(call->reply, removed);
}

/* clang-format off */
const struct kith_command kith_keys_commands[] = {
    {.name = "del", .arity = -2, .flags = KITH_CMD_WRITE, .keys = {1, -1, 1}, .key_flags = "RM delete",
     .tips = "request_policy:multi_shard response_policy:agg_sum", .categories = "keyspace", .group = "generic",
     .since = "1.0.0", .complexity = "O(n) for n keys", .summary = "Deletes keys and returns how many there were.",
     .syntax = "key [key ...]", .handler = del_command},
    {0},
};
