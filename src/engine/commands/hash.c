/* Hash commands. */
#include "engine/hash.h"

#include "base/glob.h"
#include "base/num.h"
#include "base/status.h"
#include "engine/commands/groups.h"
#include "engine/commands/scan.h"
#include "engine/engine.h"
#include "engine/keyspace.h"

#include <math.h>
#include <stdlib.h>

/* The hash at argv[1], NULL when there is none; false when a reply was written. */
static bool open_read(struct kith_call *call, struct kith_hash **hash)
{
    struct kith_key key;
    int found = kith_key_open_read(call, 1, KITH_HASH, &key);
    *hash = found > 0 ? kith_key_object(&key) : NULL;
    return found >= 0;
}

/* The hash at argv[1] for a change, made when there is none; NULL when a reply was written. */
static struct kith_hash *open_or_create(struct kith_call *call, struct kith_key *key)
{
    int found = kith_key_open_write(call, 1, KITH_HASH, key);
    if (found < 0)
        return NULL;
    if (found)
        return kith_key_object(key);
    struct kith_hash *hash = kith_hash_open(kith_engine_hash_seed(call->engine));
    if (hash && kith_key_set_object(key, KITH_HASH, hash, false) == KITH_OK)
        return hash;
    kith_hash_close(hash);
    kith_call_no_memory(call);
    return NULL;
}

/* Sets pairs from argv[2] on; the number of new fields, or -1 after a reply. */
static int64_t set_pairs(struct kith_call *call)
{
    if (call->argc % 2) {
        kith_call_wrong_arity(call);
        return -1;
    }
    struct kith_key key;
    struct kith_hash *hash = open_or_create(call, &key);
    if (!hash)
        return -1;
    int64_t added = 0;
    for (size_t i = 2; i < call->argc; i += 2) {
        int n = kith_hash_set(hash, call->argv[i], call->argv[i + 1]);
        if (n < 0) {
            kith_key_remove_if_empty(&key);
            kith_call_no_memory(call);
            return -1;
        }
        added += n;
    }
    return added;
}

static void hset_command(struct kith_call *call)
{
    int64_t added = set_pairs(call);
    if (added >= 0)
        kith_reply_int(call->reply, added);
}

static void hmset_command(struct kith_call *call)
{
    if (set_pairs(call) >= 0)
        kith_reply_ok(call->reply);
}

static void hsetnx_command(struct kith_call *call)
{
    struct kith_key key;
    struct kith_hash *hash = open_or_create(call, &key);
    if (!hash)
        return;
    struct kith_slice old;
    bool exists = kith_hash_get(hash, call->argv[2], &old);
    if (!exists && kith_hash_set(hash, call->argv[2], call->argv[3]) < 0) {
        kith_key_remove_if_empty(&key);
        kith_call_no_memory(call);
        return;
    }
    kith_reply_int(call->reply, !exists);
}

static void reply_value(struct kith_call *call, const struct kith_hash *hash, struct kith_slice field)
{
    struct kith_slice value;
    if (hash && kith_hash_get(hash, field, &value))
        kith_reply_bulk(call->reply, value);
    else
        kith_reply_null(call->reply);
}

static void hget_command(struct kith_call *call)
{
    struct kith_hash *hash;
    if (open_read(call, &hash))
        reply_value(call, hash, call->argv[2]);
}

static void hmget_command(struct kith_call *call)
{
    struct kith_hash *hash;
    if (!open_read(call, &hash))
        return;
    kith_reply_array(call->reply, call->argc - 2);
    for (size_t i = 2; i < call->argc; i++)
        reply_value(call, hash, call->argv[i]);
}

static void hexists_command(struct kith_call *call)
{
    struct kith_hash *hash;
    struct kith_slice value;
    if (open_read(call, &hash))
        kith_reply_int(call->reply, hash && kith_hash_get(hash, call->argv[2], &value));
}

static void hstrlen_command(struct kith_call *call)
{
    struct kith_hash *hash;
    struct kith_slice value = {0};
    if (!open_read(call, &hash))
        return;
    if (hash)
        kith_hash_get(hash, call->argv[2], &value);
    kith_reply_int(call->reply, (int64_t)value.length);
}

static void hlen_command(struct kith_call *call)
{
    struct kith_hash *hash;
    if (open_read(call, &hash))
        kith_reply_int(call->reply, hash ? (int64_t)kith_hash_count(hash) : 0);
}

static void hdel_command(struct kith_call *call)
{
    struct kith_key key;
    int found = kith_key_open_write(call, 1, KITH_HASH, &key);
    if (found < 0)
        return;
    int64_t removed = 0;
    for (size_t i = 2; found && i < call->argc; i++)
        removed += kith_hash_remove(kith_key_object(&key), call->argv[i]);
    kith_reply_int(call->reply, removed);
    if (found)
        kith_key_remove_if_empty(&key);
}

/* ---- whole hashes ---- */

enum part { FIELDS = 1, VALUES = 2 };

struct report {
    struct kith_reply *reply;
    unsigned parts;
};

static void report_pair(void *arg, struct kith_slice field, struct kith_slice value)
{
    struct report *report = arg;
    if (report->parts & FIELDS)
        kith_reply_bulk(report->reply, field);
    if (report->parts & VALUES)
        kith_reply_bulk(report->reply, value);
}

static void reply_all(struct kith_call *call, unsigned parts)
{
    struct kith_hash *hash;
    if (!open_read(call, &hash))
        return;
    size_t count = hash ? kith_hash_count(hash) : 0;
    if (parts == (FIELDS | VALUES))
        kith_reply_map(call->reply, count);
    else
        kith_reply_array(call->reply, count);
    struct report report = {call->reply, parts};
    if (hash)
        kith_hash_each(hash, report_pair, &report);
}

static void hgetall_command(struct kith_call *call)
{
    reply_all(call, FIELDS | VALUES);
}

static void hkeys_command(struct kith_call *call)
{
    reply_all(call, FIELDS);
}

static void hvals_command(struct kith_call *call)
{
    reply_all(call, VALUES);
}

/* ---- numbers ---- */

/* Stores the text of a number that came from the field's old one. */
static bool store_number(struct kith_call *call, struct kith_key *key, const char *text, size_t length)
{
    if (kith_hash_set(kith_key_object(key), call->argv[2], kith_slice(text, length)) >= 0)
        return true;
    kith_key_remove_if_empty(key);
    kith_call_no_memory(call);
    return false;
}

static void hincrby_command(struct kith_call *call)
{
    int64_t delta, value = 0;
    struct kith_key key;
    struct kith_slice old;
    if (!kith_call_int(call, 3, &delta, NULL))
        return;
    struct kith_hash *hash = open_or_create(call, &key);
    if (!hash)
        return;
    if (kith_hash_get(hash, call->argv[2], &old) && kith_num_parse_int64(old, &value) != KITH_OK) {
        kith_reply_error(call->reply, "ERR hash value is not an integer");
        return;
    }
    if (__builtin_add_overflow(value, delta, &value)) {
        kith_reply_error(call->reply, "ERR increment or decrement would overflow");
        return;
    }
    char text[KITH_NUM_INT64_CHARS];
    if (store_number(call, &key, text, kith_num_format_int64(text, value)))
        kith_reply_int(call->reply, value);
}

static void hincrbyfloat_command(struct kith_call *call)
{
    long double delta, value = 0;
    struct kith_key key;
    struct kith_slice old;
    if (kith_num_parse_long_double(call->argv[3], &delta) != KITH_OK) {
        kith_reply_error(call->reply, "ERR value is not a valid float");
        return;
    }
    if (isinf(delta)) {
        kith_reply_error(call->reply, "ERR value is NaN or Infinity");
        return;
    }
    struct kith_hash *hash = open_or_create(call, &key);
    if (!hash)
        return;
    if (kith_hash_get(hash, call->argv[2], &old) && kith_num_parse_long_double(old, &value) != KITH_OK) {
        kith_reply_error(call->reply, "ERR hash value is not a float");
        return;
    }
    value += delta;
    if (!isfinite(value)) {
        kith_reply_error(call->reply, "ERR increment would produce NaN or Infinity");
        kith_key_remove_if_empty(&key);
        return;
    }
    char text[KITH_NUM_LONG_DOUBLE_CHARS];
    size_t length = kith_num_format_long_double(text, value);
    if (store_number(call, &key, text, length))
        kith_reply_bulk(call->reply, kith_slice(text, length));
}

/* ---- random fields ---- */

/* Reservoir-free sampling without repetition: fields already drawn are told by their address. For counts near
 * the whole, everything is collected and shuffled instead. */
struct pairs {
    struct kith_slice *fields, *values;
    size_t count;
};

static void collect(void *arg, struct kith_slice field, struct kith_slice value)
{
    struct pairs *pairs = arg;
    pairs->fields[pairs->count] = field;
    pairs->values[pairs->count++] = value;
}

static void reply_drawn(struct kith_call *call, struct kith_slice field, struct kith_slice value,
                        bool with_values)
{
    if (with_values && call->reply->protocol >= 3)
        kith_reply_array(call->reply, 2);
    kith_reply_bulk(call->reply, field);
    if (with_values)
        kith_reply_bulk(call->reply, value);
}

static void reply_drawn_header(struct kith_call *call, size_t count, bool with_values)
{
    kith_reply_array(call->reply, with_values && call->reply->protocol < 3 ? 2 * count : count);
}

static void reply_distinct(struct kith_call *call, const struct kith_hash *hash, size_t count,
                           bool with_values)
{
    size_t total = kith_hash_count(hash);
    struct pairs pairs = {.fields = malloc(2 * total * sizeof(struct kith_slice))};
    if (!pairs.fields) {
        kith_call_no_memory(call);
        return;
    }
    pairs.values = pairs.fields + total;
    kith_hash_each(hash, collect, &pairs);
    if (count > total)
        count = total;
    reply_drawn_header(call, count, with_values);
    for (size_t i = 0; i < count; i++) {
        size_t j = i + kith_rng_below(call->rng, total - i); /* Fisher & Yates, from the front */
        reply_drawn(call, pairs.fields[j], pairs.values[j], with_values);
        pairs.fields[j] = pairs.fields[i];
        pairs.values[j] = pairs.values[i];
    }
    free(pairs.fields);
}

static void hrandfield_command(struct kith_call *call)
{
    int64_t count = 1;
    bool with_values = call->argc == 4;
    if (call->argc > 4 || (with_values && !kith_call_is(call, 3, "withvalues"))) {
        kith_call_syntax_error(call);
        return;
    }
    if (call->argc > 2 && !kith_random_count_parse(call, 2, with_values, &count))
        return;
    struct kith_hash *hash;
    if (!open_read(call, &hash))
        return;
    struct kith_slice field, value;
    if (call->argc == 2) {
        if (!hash) {
            kith_reply_null(call->reply);
            return;
        }
        kith_hash_random(hash, call->rng, &field, &value);
        kith_reply_bulk(call->reply, field);
    } else if (!hash || count == 0) {
        kith_reply_array(call->reply, 0);
    } else if (count > 0) {
        reply_distinct(call, hash, (size_t)count, with_values);
    } else {
        reply_drawn_header(call, (size_t)-count, with_values);
        for (; count < 0 && !call->reply->out->failed; count++) {
            kith_hash_random(hash, call->rng, &field, &value);
            reply_drawn(call, field, value, with_values);
        }
    }
}

/* ---- HSCAN ---- */

struct hscan {
    struct kith_scan_output output;
    const struct kith_scan_options *options;
};

static void hscan_pair(void *arg, struct kith_slice field, struct kith_slice value)
{
    struct hscan *scan = arg;
    scan->output.seen++;
    if (scan->options->pattern.data && !kith_glob_match(scan->options->pattern, field, false))
        return;
    kith_reply_bulk(&scan->output.items, field);
    kith_reply_bulk(&scan->output.items, value);
    scan->output.item_count += 2;
}

static void hscan_command(struct kith_call *call)
{
    struct kith_scan_options options;
    struct kith_hash *hash;
    uint64_t cursor;
    if (!kith_scan_cursor_parse(call, 2, &cursor) || !open_read(call, &hash) ||
        (hash && !kith_scan_options_parse(call, 3, 0, &options)))
        return;
    struct hscan scan = {.options = &options};
    kith_scan_output_init(&scan.output, call);
    do
        cursor = hash ? kith_hash_scan(hash, cursor, hscan_pair, &scan) : 0;
    while (cursor && scan.output.seen < options.count);
    kith_scan_output_reply(&scan.output, call, cursor);
}

/* clang-format off */
#define ROW(command_name, command_arity, command_flags, access) \
    .name = command_name, .arity = command_arity, .flags = command_flags, .keys = {1, 1, 1}, .key_flags = access, \
    .categories = "hash", .group = "hash"
#define WRITES (KITH_CMD_WRITE | KITH_CMD_DENYOOM | KITH_CMD_FAST)
#define READS  (KITH_CMD_READONLY | KITH_CMD_FAST)

const struct kith_command kith_hash_commands[] = {
    {ROW("hdel", -3, KITH_CMD_WRITE | KITH_CMD_FAST, "RW delete"), .since = "2.0.0", .complexity = "O(n) for n fields",
     .summary = "Deletes fields of a hash; the last one takes the key with it.", .syntax = "key field [field ...]",
     .handler = hdel_command},
    {ROW("hexists", 3, READS, "RO"), .since = "2.0.0", .complexity = "O(1)",
     .summary = "Tells whether a hash has a field.", .syntax = "key field", .handler = hexists_command},
    {ROW("hget", 3, READS, "RO access"), .since = "2.0.0", .complexity = "O(1)",
     .summary = "Returns the value of a field.", .syntax = "key field", .handler = hget_command},
    {ROW("hgetall", 2, KITH_CMD_READONLY, "RO access"), .since = "2.0.0", .complexity = "O(n) for n fields",
     .summary = "Returns all fields and values of a hash.", .syntax = "key", .handler = hgetall_command},
    {ROW("hincrby", 4, WRITES, "RW access update"), .since = "2.0.0", .complexity = "O(1)",
     .summary = "Adds a number to the integer in a field; a missing field counts as 0.",
     .syntax = "key field increment:integer", .handler = hincrby_command},
    {ROW("hincrbyfloat", 4, WRITES, "RW access update"), .since = "2.6.0", .complexity = "O(1)",
     .summary = "Adds a number to the decimal number in a field; a missing field counts as 0.",
     .syntax = "key field increment:double", .handler = hincrbyfloat_command},
    {ROW("hkeys", 2, KITH_CMD_READONLY, "RO access"), .since = "2.0.0", .complexity = "O(n) for n fields",
     .summary = "Returns all fields of a hash.", .syntax = "key", .handler = hkeys_command},
    {ROW("hlen", 2, READS, "RO"), .since = "2.0.0", .complexity = "O(1)",
     .summary = "Returns how many fields a hash has.", .syntax = "key", .handler = hlen_command},
    {ROW("hmget", -3, READS, "RO access"), .since = "2.0.0", .complexity = "O(n) for n fields",
     .summary = "Returns the values of several fields.", .syntax = "key field [field ...]", .handler = hmget_command},
    {ROW("hmset", -4, WRITES, "RW update"), .since = "2.0.0", .complexity = "O(n) for n fields",
     .summary = "Sets several fields. HSET does the same.", .syntax = "key field value [field value ...]",
     .handler = hmset_command},
    {ROW("hrandfield", -2, KITH_CMD_READONLY, "RO access"), .since = "6.2.0", .complexity = "O(n) for n fields of the hash",
     .summary = "Returns random fields of a hash: distinct ones for a positive count, with repetition for a negative.",
     .syntax = "key [count:integer [WITHVALUES]]", .handler = hrandfield_command},
    {ROW("hscan", -3, KITH_CMD_READONLY, "RO access"), .since = "2.8.0", .complexity = "O(1) a call, O(n) for a whole iteration",
     .summary = "Iterates over the fields of a hash.", .syntax = "key cursor:integer [MATCH pattern:pattern] [COUNT count:integer]",
     .handler = hscan_command},
    {ROW("hset", -4, WRITES, "RW update"), .since = "2.0.0", .complexity = "O(n) for n fields",
     .summary = "Sets fields of a hash and returns how many are new.", .syntax = "key field value [field value ...]",
     .handler = hset_command},
    {ROW("hsetnx", 4, WRITES, "RW insert"), .since = "2.0.0", .complexity = "O(1)",
     .summary = "Sets a field if the hash does not have it.", .syntax = "key field value", .handler = hsetnx_command},
    {ROW("hstrlen", 3, READS, "RO"), .since = "3.2.0", .complexity = "O(1)",
     .summary = "Returns the length of a field's value.", .syntax = "key field", .handler = hstrlen_command},
    {ROW("hvals", 2, KITH_CMD_READONLY, "RO access"), .since = "2.0.0", .complexity = "O(n) for n fields",
     .summary = "Returns all values of a hash.", .syntax = "key", .handler = hvals_command},
    {0},
};
