/* Commands on keys whatever they hold. */
#include "base/glob.h"
#include "base/num.h"
#include "base/status.h"
#include "engine/commands/groups.h"
#include "engine/commands/help.h"
#include "engine/commands/scan.h"
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

/* EXISTS and TOUCH: a key that is named twice counts twice. */
static void exists_command(struct kith_call *call)
{
    int64_t found = 0;
    for (size_t i = 1; i < call->argc; i++) {
        struct kith_key key;
        found += kith_key_find(call, call->argv[i], &key);
    }
    kith_reply_int(call->reply, found);
}

static void type_command(struct kith_call *call)
{
    struct kith_key key;
    bool found = kith_key_find(call, call->argv[1], &key);
    kith_reply_simple(call->reply, found ? kith_type_name(kith_key_type(&key)) : "none");
}

/* --- KEYS, SCAN, RANDOMKEY. --- */

struct listing {
    struct kith_slice pattern; /* data NULL: all */
    struct kith_slice type;    /* data NULL: all */
    struct kith_reply *reply;
    size_t count, seen;
};

static void list_key(void *arg, struct kith_slice name, enum kith_type type)
{
    struct listing *listing = arg;
    listing->seen++;
    if (listing->type.data && !kith_slice_is(listing->type, kith_type_name(type)))
        return;
    if (listing->pattern.data && !kith_glob_match(listing->pattern, name, false))
        return;
    kith_reply_bulk(listing->reply, name);
    listing->count++;
}

static struct kith_slice pattern_of(struct kith_slice pattern)
{
    return kith_slice_equal(pattern, KITH_SLICE("*")) ? kith_slice(NULL, 0) : pattern;
}

static void keys_command(struct kith_call *call)
{
    struct listing listing = {.pattern = pattern_of(call->argv[1]), .reply = call->reply};
    struct kith_reply_mark mark = kith_reply_array_begin(call->reply);
    uint64_t cursor = 0;
    do
        cursor = kith_db_scan(call->db, call->now_ms, cursor, list_key, &listing);
    while (cursor);
    kith_reply_array_end(call->reply, mark, listing.count);
}

static void scan_command(struct kith_call *call)
{
    struct kith_scan_options options;
    uint64_t cursor;
    if (!kith_scan_cursor_parse(call, 1, &cursor) ||
        !kith_scan_options_parse(call, 2, KITH_SCAN_TYPE, &options))
        return;
    struct kith_scan_output output;
    kith_scan_output_init(&output, call);
    struct listing listing = {
        .pattern = pattern_of(options.pattern), .type = options.type, .reply = &output.items};
    /* Empty buckets count too, or a scan of a table that was emptied would not come back. */
    for (uint64_t steps = 0; listing.seen < options.count && steps < options.count; steps++) {
        cursor = kith_db_scan(call->db, call->now_ms, cursor, list_key, &listing);
        if (!cursor)
            break;
    }
    output.item_count = listing.count;
    kith_scan_output_reply(&output, call, cursor);
}

static void randomkey_command(struct kith_call *call)
{
    struct kith_slice name;
    if (kith_db_random(call->db, call->now_ms, call->rng, &name))
        kith_reply_bulk(call->reply, name);
    else
        kith_reply_null(call->reply);
}

/* --- RENAME, COPY, MOVE. --- */

/* False after a reply. */
static bool rename_key(struct kith_call *call, bool only_new, bool *renamed)
{
    struct kith_key from, to;
    if (!kith_key_find_for_write(call, call->argv[1], &from)) {
        kith_reply_error(call->reply, "ERR no such key");
        return false;
    }
    *renamed = !only_new;
    if (kith_slice_equal(call->argv[1], call->argv[2]))
        return true;
    bool taken = kith_key_find_for_write(call, call->argv[2], &to);
    *renamed = !(only_new && taken);
    if (!*renamed || kith_key_transfer(&from, &to) == KITH_OK)
        return true;
    kith_call_no_memory(call);
    return false;
}

static void rename_command(struct kith_call *call)
{
    bool renamed;
    if (rename_key(call, false, &renamed))
        kith_reply_ok(call->reply);
}

static void renamenx_command(struct kith_call *call)
{
    bool renamed;
    if (rename_key(call, true, &renamed))
        kith_reply_int(call->reply, renamed);
}

static int copy_value(struct kith_engine *engine, const struct kith_key *from, struct kith_key *to)
{
    int64_t expiry_ms = kith_key_expiry(from);
    enum kith_type type = kith_key_type(from);
    int status;
    if (type == KITH_STRING) {
        status = kith_key_set_string(to, kith_key_string(from), false);
    } else {
        const struct kith_type_ops *ops = kith_type_ops(type);
        void *object = ops->copy(engine, kith_key_object(from));
        status = object ? kith_key_set_object(to, type, object, false) : KITH_ENOMEM;
        if (status && object)
            ops->close(object);
    }
    if (status == KITH_OK && expiry_ms >= 0 && kith_key_set_expiry(to, expiry_ms) != KITH_OK) {
        kith_key_remove(to);
        status = KITH_ENOMEM;
    }
    return status;
}

/* A database by its number in argv[index]; NULL after an error reply. */
static struct kith_db *db_argument(struct kith_call *call, size_t index)
{
    int64_t number;
    if (!kith_call_int(call, index, &number, NULL))
        return NULL;
    struct kith_db *db =
        number < 0 || number > UINT32_MAX ? NULL : kith_engine_db(call->engine, (uint32_t)number);
    if (!db)
        kith_reply_error(call->reply, "ERR DB index is out of range");
    return db;
}

static void copy_command(struct kith_call *call)
{
    struct kith_db *db = call->db;
    bool overwrite = false;
    for (size_t i = 3; i < call->argc; i++) {
        if (kith_call_is(call, i, "replace")) {
            overwrite = true;
        } else if (kith_call_is(call, i, "db") && i + 1 < call->argc) {
            if (!(db = db_argument(call, ++i)))
                return;
        } else {
            kith_call_syntax_error(call);
            return;
        }
    }
    if (db == call->db && kith_slice_equal(call->argv[1], call->argv[2])) {
        kith_reply_error(call->reply, "ERR source and destination objects are the same");
        return;
    }
    struct kith_key from, to;
    if (!kith_key_find(call, call->argv[1], &from)) {
        kith_reply_int(call->reply, 0);
        return;
    }
    if (kith_db_find_for_write(db, call->argv[2], call->now_ms, &to) && !overwrite) {
        kith_reply_int(call->reply, 0);
        return;
    }
    if (kith_key_type(&from) != KITH_STRING && !kith_type_ops(kith_key_type(&from))->copy)
        kith_reply_error(call->reply, "ERR not supported for this key");
    else if (copy_value(call->engine, &from, &to) != KITH_OK)
        kith_call_no_memory(call);
    else
        kith_reply_int(call->reply, 1);
}

static void move_command(struct kith_call *call)
{
    struct kith_db *db = db_argument(call, 2);
    if (!db)
        return;
    if (db == call->db) {
        kith_reply_error(call->reply, "ERR source and destination objects are the same");
        return;
    }
    struct kith_key from, to;
    if (!kith_key_find_for_write(call, call->argv[1], &from) ||
        kith_db_find_for_write(db, call->argv[1], call->now_ms, &to))
        kith_reply_int(call->reply, 0);
    else if (kith_key_transfer(&from, &to) != KITH_OK)
        kith_call_no_memory(call);
    else
        kith_reply_int(call->reply, 1);
}

/* --- OBJECT. --- */

/* The key of argv[2]; false after a null reply. */
static bool object_key(struct kith_call *call, struct kith_key *key)
{
    if (kith_key_find(call, call->argv[2], key))
        return true;
    kith_reply_null(call->reply);
    return false;
}

static void object_encoding_command(struct kith_call *call)
{
    struct kith_key key;
    if (object_key(call, &key))
        kith_reply_bulk_text(call->reply, kith_key_encoding(&key));
}

static void object_refcount_command(struct kith_call *call)
{
    struct kith_key key;
    if (object_key(call, &key))
        kith_reply_int(call->reply, 1);
}

/* Reads leave no trace here, so no key has been idle for any time that we know of. */
static void object_idletime_command(struct kith_call *call)
{
    struct kith_key key;
    if (object_key(call, &key))
        kith_reply_int(call->reply, 0);
}

static void object_freq_command(struct kith_call *call)
{
    struct kith_key key;
    if (object_key(call, &key))
        kith_reply_error(
            call->reply,
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note "
            "that when switching between policies at runtime LRU and LFU data will take some time to "
            "adjust.");
}

/* clang-format off */
#define ROW(command_name, command_arity, command_flags) \
    .name = command_name, .arity = command_arity, .flags = (command_flags), .group = "generic", .categories = "keyspace"
#define KEY  .keys = {1, 1, 1}
#define KEYS .keys = {1, -1, 1}

const struct kith_command kith_keys_commands[] = {
    {ROW("copy", -3, KITH_CMD_WRITE | KITH_CMD_DENYOOM), .keys = {1, 2, 1}, .key_flags = "RO access @1; OW update @2",
     .since = "6.2.0", .complexity = "O(n) for n elements", .summary = "Copies a value to another key.",
     .syntax = "source:key destination:key [DB destination-db:integer] [REPLACE]", .handler = copy_command},
    {ROW("del", -2, KITH_CMD_WRITE), KEYS, .key_flags = "RM delete",
     .tips = "request_policy:multi_shard response_policy:agg_sum", .since = "1.0.0", .complexity = "O(n) for n keys",
     .summary = "Deletes keys and returns how many there were.", .syntax = "key [key ...]", .handler = del_command},
    {ROW("exists", -2, KITH_CMD_READONLY | KITH_CMD_FAST), KEYS, .key_flags = "RO",
     .tips = "request_policy:multi_shard response_policy:agg_sum", .since = "1.0.0", .complexity = "O(n) for n keys",
     .summary = "Returns how many of the keys exist.", .syntax = "key [key ...]", .handler = exists_command},
    {.name = "keys", .arity = 2, .flags = KITH_CMD_READONLY, .group = "generic", .categories = "keyspace dangerous",
     .tips = "request_policy:all_shards nondeterministic_output_order", .since = "1.0.0", .complexity = "O(n) for n keys in the database",
     .summary = "Returns all names that match a pattern.", .syntax = "pattern:pattern", .handler = keys_command},
    {ROW("move", 3, KITH_CMD_WRITE | KITH_CMD_FAST), KEY, .key_flags = "RW access update", .since = "1.0.0",
     .complexity = "O(1)", .summary = "Moves a key to another database.", .syntax = "key db:integer",
     .handler = move_command},
    {ROW("object", -2, KITH_CMD_SUBCOMMANDS), .since = "2.2.3", .complexity = "Depends on subcommand.",
     .summary = "A container for commands on how values are kept.", .syntax = ""},
    {ROW("object|encoding", 3, KITH_CMD_READONLY), .keys = {2, 2, 1}, .key_flags = "RO",
     .tips = "nondeterministic_output", .since = "2.2.3", .complexity = "O(1)",
     .summary = "Returns the form in which a value is kept.", .syntax = "key", .handler = object_encoding_command},
    {ROW("object|freq", 3, KITH_CMD_READONLY), .keys = {2, 2, 1}, .key_flags = "RO", .tips = "nondeterministic_output",
     .since = "4.0.0", .complexity = "O(1)", .summary = "Returns how often a key is used, which is not tracked.",
     .syntax = "key", .handler = object_freq_command},
    {ROW("object|help", 2, KITH_CMD_LOADING | KITH_CMD_STALE), .since = "6.2.0", .complexity = "O(1)",
     .summary = "Returns what the subcommands are for.", .syntax = "", .handler = kith_help_command},
    {ROW("object|idletime", 3, KITH_CMD_READONLY), .keys = {2, 2, 1}, .key_flags = "RO",
     .tips = "nondeterministic_output", .since = "2.2.3", .complexity = "O(1)",
     .summary = "Returns 0: when a key was used last is not tracked.", .syntax = "key",
     .handler = object_idletime_command},
    {ROW("object|refcount", 3, KITH_CMD_READONLY), .keys = {2, 2, 1}, .key_flags = "RO",
     .tips = "nondeterministic_output", .since = "2.2.3", .complexity = "O(1)",
     .summary = "Returns 1: no value is shared.", .syntax = "key", .handler = object_refcount_command},
    {ROW("randomkey", 1, KITH_CMD_READONLY), .tips = "request_policy:all_shards response_policy:special "
     "nondeterministic_output", .since = "1.0.0", .complexity = "O(1)",
     .summary = "Returns a random name; every key is as likely as any other.", .syntax = "", .handler = randomkey_command},
    {ROW("rename", 3, KITH_CMD_WRITE), .keys = {1, 2, 1}, .key_flags = "RW access delete @1; OW update @2",
     .since = "1.0.0", .complexity = "O(1)", .summary = "Gives a key another name; what had that name is gone.",
     .syntax = "key newkey:key", .handler = rename_command},
    {ROW("renamenx", 3, KITH_CMD_WRITE | KITH_CMD_FAST), .keys = {1, 2, 1},
     .key_flags = "RW access delete @1; OW insert @2", .since = "1.0.0", .complexity = "O(1)",
     .summary = "Gives a key another name if nothing has it yet.", .syntax = "key newkey:key",
     .handler = renamenx_command},
    {ROW("scan", -2, KITH_CMD_READONLY), .tips = "nondeterministic_output request_policy:special response_policy:special",
     .since = "2.8.0", .complexity = "O(1) a call, O(n) for a whole iteration",
     .summary = "Iterates over the names of the database.",
     .syntax = "cursor:integer [MATCH pattern:pattern] [COUNT count:integer] [TYPE type]", .handler = scan_command},
    {ROW("touch", -2, KITH_CMD_READONLY | KITH_CMD_FAST), KEYS, .key_flags = "RO",
     .tips = "request_policy:multi_shard response_policy:agg_sum", .since = "3.2.1", .complexity = "O(n) for n keys",
     .summary = "Returns how many of the keys exist. When a key was used last is not tracked.",
     .syntax = "key [key ...]", .handler = exists_command},
    {ROW("type", 2, KITH_CMD_READONLY | KITH_CMD_FAST), KEY, .key_flags = "RO", .since = "1.0.0", .complexity = "O(1)",
     .summary = "Returns the type of the value at a key.", .syntax = "key", .handler = type_command},
    {ROW("unlink", -2, KITH_CMD_WRITE | KITH_CMD_FAST), KEYS, .key_flags = "RM delete",
     .tips = "request_policy:multi_shard response_policy:agg_sum", .since = "4.0.0", .complexity = "O(n) for n keys",
     .summary = "Deletes keys and returns how many there were. DEL does the same: large values are freed in steps.",
     .syntax = "key [key ...]", .handler = del_command},
    {0},
};
