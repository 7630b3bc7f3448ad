/* String commands: a value is a run of bytes, and a number is a string that reads as one. Nothing is kept in
 * a second form, so that INCR is parse, add, format, overwrite in place. */
#include "base/num.h"
#include "base/status.h"
#include "engine/commands/expiry_options.h"
#include "engine/commands/groups.h"
#include "engine/keyspace.h"
#include "engine/limits.h"
#include "engine/state.h"

#include <math.h>
#include <stdlib.h>

static bool length_allowed(struct kith_call *call, uint64_t length)
{
    if (length <= KITH_STRING_BYTES_MAX)
        return true;
    kith_reply_error(call->reply, "ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    return false;
}

/* The string at argv[index], or a null reply; false when the reply is written. */
static bool open_string(struct kith_call *call, size_t index, struct kith_slice *value)
{
    struct kith_key key;
    int found = kith_key_open_read(call, index, KITH_STRING, &key);
    if (found == 0)
        kith_reply_null(call->reply);
    if (found <= 0)
        return false;
    *value = kith_key_string(&key);
    return true;
}

/* Stores argv's value without expiry and answers nothing; false after an out-of-memory reply. */
static bool store(struct kith_call *call, struct kith_key *key, struct kith_slice value, bool keep_expiry)
{
    if (kith_key_set_string(key, value, keep_expiry) == KITH_OK)
        return true;
    kith_call_no_memory(call);
    return false;
}

static void get_command(struct kith_call *call)
{
    struct kith_slice value;
    if (open_string(call, 1, &value))
        kith_reply_bulk(call->reply, value);
}

enum set_flag { SET_NX = 1, SET_XX = 2, SET_GET = 4 };

/* Options after the value: false after an error reply. */
static bool parse_set_options(struct kith_call *call, unsigned *flags, struct kith_expiry_option *expiry)
{
    for (size_t i = 3; i < call->argc; i++) {
        if (kith_call_is(call, i, "nx") && !(*flags & SET_XX))
            *flags |= SET_NX;
        else if (kith_call_is(call, i, "xx") && !(*flags & SET_NX))
            *flags |= SET_XX;
        else if (kith_call_is(call, i, "get"))
            *flags |= SET_GET;
        else if (kith_call_is(call, i, "keepttl") && expiry->kind == KITH_EXPIRY_NONE)
            expiry->kind = KITH_EXPIRY_KEEP;
        else if (!kith_expiry_option_take(call, &i, expiry)) {
            kith_call_syntax_error(call);
            return false;
        }
    }
    return true;
}

static void set_command(struct kith_call *call)
{
    unsigned flags = 0;
    struct kith_expiry_option expiry = {0};
    int64_t when_ms = -1;
    if (call->argc > 3 &&
        (!parse_set_options(call, &flags, &expiry) || !kith_expiry_option_resolve(call, &expiry, &when_ms)))
        return;

    struct kith_key key;
    bool exists = kith_key_find_for_write(call, call->argv[1], &key);
    if (flags & SET_GET) {
        if (exists && kith_key_type(&key) != KITH_STRING) {
            kith_call_wrong_type(call);
            return;
        }
        if (exists)
            kith_reply_bulk(call->reply, kith_key_string(&key));
        else
            kith_reply_null(call->reply);
    }
    if ((flags & SET_NX && exists) || (flags & SET_XX && !exists)) {
        if (!(flags & SET_GET))
            kith_reply_null(call->reply);
        return;
    }
    struct kith_reply_mark mark = kith_reply_array_begin(call->reply);
    /* With a new expiry the old one is kept until it is moved: cheaper than to drop it and add one. */
    if (!store(call, &key, call->argv[2], expiry.kind == KITH_EXPIRY_KEEP || when_ms >= 0))
        return;
    if (when_ms >= 0 && kith_key_set_expiry(&key, when_ms) != KITH_OK) {
        kith_key_remove(&key); /* a value that was meant to go away must not stay for ever */
        kith_reply_rewind(call->reply, mark);
        kith_call_no_memory(call);
        return;
    }
    if (!(flags & SET_GET))
        kith_reply_ok(call->reply);
}

static void setnx_command(struct kith_call *call)
{
    struct kith_key key;
    bool exists = kith_key_find_for_write(call, call->argv[1], &key);
    if (exists || store(call, &key, call->argv[2], false))
        kith_reply_int(call->reply, !exists);
}

/* SETEX and PSETEX: the time stands before the value. */
static void set_for(struct kith_call *call, enum kith_expiry_kind kind)
{
    struct kith_expiry_option expiry = {.kind = kind, .argument = 2};
    int64_t when_ms;
    if (!kith_expiry_option_resolve(call, &expiry, &when_ms))
        return;
    struct kith_key key;
    kith_key_find_for_write(call, call->argv[1], &key);
    if (!store(call, &key, call->argv[3], true))
        return;
    if (kith_key_set_expiry(&key, when_ms) != KITH_OK) {
        kith_key_remove(&key);
        kith_call_no_memory(call);
        return;
    }
    kith_reply_ok(call->reply);
}

static void setex_command(struct kith_call *call)
{
    set_for(call, KITH_EXPIRY_EX);
}

static void psetex_command(struct kith_call *call)
{
    set_for(call, KITH_EXPIRY_PX);
}

static void getset_command(struct kith_call *call)
{
    struct kith_key key;
    int found = kith_key_open_write(call, 1, KITH_STRING, &key);
    if (found < 0)
        return;
    struct kith_reply_mark mark = kith_reply_array_begin(call->reply);
    if (found)
        kith_reply_bulk(call->reply, kith_key_string(&key));
    else
        kith_reply_null(call->reply);
    if (kith_key_set_string(&key, call->argv[2], false) != KITH_OK) {
        kith_reply_rewind(call->reply, mark);
        kith_call_no_memory(call);
    }
}

static void getdel_command(struct kith_call *call)
{
    struct kith_key key;
    int found = kith_key_open_write(call, 1, KITH_STRING, &key);
    if (found < 0)
        return;
    if (!found) {
        kith_reply_null(call->reply);
        return;
    }
    kith_reply_bulk(call->reply, kith_key_string(&key));
    kith_key_remove(&key);
}

static void getex_command(struct kith_call *call)
{
    struct kith_expiry_option expiry = {0};
    for (size_t i = 2; i < call->argc; i++) {
        if (kith_call_is(call, i, "persist") && expiry.kind == KITH_EXPIRY_NONE) {
            expiry.kind = KITH_EXPIRY_PERSIST;
        } else if (!kith_expiry_option_take(call, &i, &expiry)) {
            kith_call_syntax_error(call);
            return;
        }
    }
    struct kith_key key;
    int found = kith_key_open_write(call, 1, KITH_STRING, &key);
    if (found < 0)
        return;
    if (!found) {
        kith_reply_null(call->reply);
        return;
    }
    int64_t when_ms;
    if (!kith_expiry_option_resolve(call, &expiry, &when_ms))
        return;
    struct kith_reply_mark mark = kith_reply_array_begin(call->reply);
    kith_reply_bulk(call->reply, kith_key_string(&key));
    if (expiry.kind == KITH_EXPIRY_NONE)
        return;
    if (when_ms >= 0 && when_ms <= call->now_ms && !call->engine->upstream.applying) {
        kith_key_remove(&key);
    } else if (kith_key_set_expiry(&key, when_ms) != KITH_OK) {
        kith_reply_rewind(call->reply, mark);
        kith_call_no_memory(call);
    }
}

static void mget_command(struct kith_call *call)
{
    kith_reply_array(call->reply, call->argc - 1);
    for (size_t i = 1; i < call->argc; i++) {
        struct kith_key key;
        if (kith_key_find(call, call->argv[i], &key) && kith_key_type(&key) == KITH_STRING)
            kith_reply_bulk(call->reply, kith_key_string(&key));
        else
            kith_reply_null(call->reply);
    }
}

static bool store_pairs(struct kith_call *call)
{
    for (size_t i = 1; i < call->argc; i += 2) {
        struct kith_key key;
        kith_key_find_for_write(call, call->argv[i], &key);
        if (!store(call, &key, call->argv[i + 1], false))
            return false;
    }
    return true;
}

static void mset_command(struct kith_call *call)
{
    if (call->argc % 2 == 0)
        kith_call_wrong_arity(call);
    else if (store_pairs(call))
        kith_reply_ok(call->reply);
}

static void msetnx_command(struct kith_call *call)
{
    if (call->argc % 2 == 0) {
        kith_call_wrong_arity(call);
        return;
    }
    for (size_t i = 1; i < call->argc; i += 2) {
        struct kith_key key;
        if (kith_key_find_for_write(call, call->argv[i], &key)) {
            kith_reply_int(call->reply, 0);
            return;
        }
    }
    if (store_pairs(call))
        kith_reply_int(call->reply, 1);
}

static void strlen_command(struct kith_call *call)
{
    struct kith_key key;
    int found = kith_key_open_read(call, 1, KITH_STRING, &key);
    if (found >= 0)
        kith_reply_int(call->reply, found ? (int64_t)kith_key_string(&key).length : 0);
}

static void append_command(struct kith_call *call)
{
    struct kith_key key;
    int found = kith_key_open_write(call, 1, KITH_STRING, &key);
    if (found < 0)
        return;
    size_t old = found ? kith_key_string(&key).length : 0, extra = call->argv[2].length;
    if (!length_allowed(call, (uint64_t)old + extra))
        return;
    char *bytes;
    if (kith_key_resize_string(&key, old + extra, &bytes) != KITH_OK) {
        kith_call_no_memory(call);
        return;
    }
    if (extra)
        memcpy(bytes + old, call->argv[2].data, extra);
    kith_reply_int(call->reply, (int64_t)(old + extra));
}

static void setrange_command(struct kith_call *call)
{
    int64_t offset;
    if (!kith_call_int(call, 2, &offset, NULL))
        return;
    if (offset < 0) {
        kith_reply_error(call->reply, "ERR offset is out of range");
        return;
    }
    struct kith_slice piece = call->argv[3];
    struct kith_key key;
    int found = kith_key_open_write(call, 1, KITH_STRING, &key);
    if (found < 0)
        return;
    size_t old = found ? kith_key_string(&key).length : 0;
    if (piece.length == 0) {
        kith_reply_int(call->reply, (int64_t)old);
        return;
    }
    if ((uint64_t)offset > KITH_STRING_BYTES_MAX || !length_allowed(call, (uint64_t)offset + piece.length)) {
        if ((uint64_t)offset > KITH_STRING_BYTES_MAX)
            length_allowed(call, UINT64_MAX);
        return;
    }
    size_t end = (size_t)offset + piece.length;
    char *bytes;
    if (kith_key_resize_string(&key, end > old ? end : old, &bytes) != KITH_OK) {
        kith_call_no_memory(call);
        return;
    }
    memcpy(bytes + offset, piece.data, piece.length);
    kith_reply_int(call->reply, (int64_t)(end > old ? end : old));
}

static void getrange_command(struct kith_call *call)
{
    int64_t start, end;
    if (!kith_call_int(call, 2, &start, NULL) || !kith_call_int(call, 3, &end, NULL))
        return;
    struct kith_key key;
    int found = kith_key_open_read(call, 1, KITH_STRING, &key);
    if (found < 0)
        return;
    struct kith_slice value = found ? kith_key_string(&key) : kith_slice("", 0);
    int64_t length = (int64_t)value.length;
    if (start < 0 && end < 0 && start > end) {
        kith_reply_bulk(call->reply, kith_slice("", 0));
        return;
    }
    start = start < 0 ? (start + length < 0 ? 0 : start + length) : start;
    end = end < 0 ? (end + length < 0 ? 0 : end + length) : end;
    if (end >= length)
        end = length - 1;
    if (start > end || length == 0)
        kith_reply_bulk(call->reply, kith_slice("", 0));
    else
        kith_reply_bulk(call->reply, kith_slice(value.data + start, (size_t)(end - start + 1)));
}

/* Reads the number at argv[1] (a missing key counts as 0), adds, stores, answers. */
static void add(struct kith_call *call, int64_t delta)
{
    struct kith_key key;
    int found = kith_key_open_write(call, 1, KITH_STRING, &key);
    if (found < 0)
        return;
    int64_t value = 0;
    if (found && kith_num_parse_int64(kith_key_string(&key), &value) != KITH_OK) {
        kith_reply_error(call->reply, "ERR value is not an integer or out of range");
        return;
    }
    if (__builtin_add_overflow(value, delta, &value)) {
        kith_reply_error(call->reply, "ERR increment or decrement would overflow");
        return;
    }
    char text[KITH_NUM_INT64_CHARS];
    size_t length = kith_num_format_int64(text, value);
    if (store(call, &key, kith_slice(text, length), true))
        kith_reply_int(call->reply, value);
}

static void incr_command(struct kith_call *call)
{
    add(call, 1);
}

static void decr_command(struct kith_call *call)
{
    add(call, -1);
}

static void incrby_command(struct kith_call *call)
{
    int64_t delta;
    if (kith_call_int(call, 2, &delta, NULL))
        add(call, delta);
}

static void decrby_command(struct kith_call *call)
{
    int64_t delta;
    if (!kith_call_int(call, 2, &delta, NULL))
        return;
    if (delta == INT64_MIN)
        kith_reply_error(call->reply, "ERR decrement would overflow");
    else
        add(call, -delta);
}

static void incrbyfloat_command(struct kith_call *call)
{
    struct kith_key key;
    int found = kith_key_open_write(call, 1, KITH_STRING, &key);
    if (found < 0)
        return;
    long double value = 0, delta;
    if ((found && kith_num_parse_long_double(kith_key_string(&key), &value) != KITH_OK) ||
        kith_num_parse_long_double(call->argv[2], &delta) != KITH_OK) {
        kith_reply_error(call->reply, "ERR value is not a valid float");
        return;
    }
    value += delta;
    if (!isfinite(value)) {
        kith_reply_error(call->reply, "ERR increment would produce NaN or Infinity");
        return;
    }
    char text[KITH_NUM_LONG_DOUBLE_CHARS];
    struct kith_slice written = kith_slice(text, kith_num_format_long_double(text, value));
    if (store(call, &key, written, true))
        kith_reply_bulk(call->reply, written);
}

/* clang-format off */
const struct kith_command kith_string_commands[] = {
    {.name = "append", .arity = 3, .flags = KITH_CMD_WRITE | KITH_CMD_DENYOOM | KITH_CMD_FAST, .keys = {1, 1, 1},
     .key_flags = "RW insert", .categories = "string", .group = "string", .since = "2.0.0", .complexity = "O(1)",
     .summary = "Appends bytes to the value of a key; creates the key if there is none.",
     .syntax = "key value", .handler = append_command},
    {.name = "decr", .arity = 2, .flags = KITH_CMD_WRITE | KITH_CMD_DENYOOM | KITH_CMD_FAST, .keys = {1, 1, 1},
     .key_flags = "RW access update", .categories = "string", .group = "string", .since = "1.0.0", .complexity = "O(1)",
     .summary = "Takes one from the integer at a key; a missing key counts as 0.", .syntax = "key", .handler = decr_command},
    {.name = "decrby", .arity = 3, .flags = KITH_CMD_WRITE | KITH_CMD_DENYOOM | KITH_CMD_FAST, .keys = {1, 1, 1},
     .key_flags = "RW access update", .categories = "string", .group = "string", .since = "1.0.0", .complexity = "O(1)",
     .summary = "Takes a number from the integer at a key; a missing key counts as 0.",
     .syntax = "key decrement:integer", .handler = decrby_command},
    {.name = "get", .arity = 2, .flags = KITH_CMD_READONLY | KITH_CMD_FAST, .keys = {1, 1, 1},
     .key_flags = "RO access", .categories = "string", .group = "string", .since = "1.0.0", .complexity = "O(1)",
     .summary = "Returns the string at a key.", .syntax = "key", .handler = get_command},
    {.name = "getdel", .arity = 2, .flags = KITH_CMD_WRITE | KITH_CMD_FAST, .keys = {1, 1, 1},
     .key_flags = "RW access delete", .categories = "string", .group = "string", .since = "6.2.0", .complexity = "O(1)",
     .summary = "Returns the string at a key and deletes the key.", .syntax = "key", .handler = getdel_command},
    {.name = "getex", .arity = -2, .flags = KITH_CMD_WRITE | KITH_CMD_FAST, .keys = {1, 1, 1},
     .key_flags = "RW access update", .categories = "string", .group = "string", .since = "6.2.0", .complexity = "O(1)",
     .summary = "Returns the string at a key and sets or removes the key's expiry.",
     .syntax = "key [EX seconds:integer | PX milliseconds:integer | EXAT unix-time-seconds:unix-time | PXAT "
               "unix-time-milliseconds:unix-time | PERSIST]",
     .handler = getex_command},
    {.name = "getrange", .arity = 4, .flags = KITH_CMD_READONLY, .keys = {1, 1, 1},
     .key_flags = "RO access", .categories = "string", .group = "string", .since = "2.4.0",
     .complexity = "O(n) for n bytes returned", .summary = "Returns a part of the string at a key.",
     .syntax = "key start:integer end:integer", .handler = getrange_command},
    {.name = "getset", .arity = 3, .flags = KITH_CMD_WRITE | KITH_CMD_DENYOOM | KITH_CMD_FAST, .keys = {1, 1, 1},
     .key_flags = "RW access update", .categories = "string", .group = "string", .since = "1.0.0", .complexity = "O(1)",
     .summary = "Stores a string and returns the one that was there. SET with GET does the same.",
     .syntax = "key value", .handler = getset_command},
    {.name = "incr", .arity = 2, .flags = KITH_CMD_WRITE | KITH_CMD_DENYOOM | KITH_CMD_FAST, .keys = {1, 1, 1},
     .key_flags = "RW access update", .categories = "string", .group = "string", .since = "1.0.0", .complexity = "O(1)",
     .summary = "Adds one to the integer at a key; a missing key counts as 0.", .syntax = "key", .handler = incr_command},
    {.name = "incrby", .arity = 3, .flags = KITH_CMD_WRITE | KITH_CMD_DENYOOM | KITH_CMD_FAST, .keys = {1, 1, 1},
     .key_flags = "RW access update", .categories = "string", .group = "string", .since = "1.0.0", .complexity = "O(1)",
     .summary = "Adds a number to the integer at a key; a missing key counts as 0.",
     .syntax = "key increment:integer", .handler = incrby_command},
    {.name = "incrbyfloat", .arity = 3, .flags = KITH_CMD_WRITE | KITH_CMD_DENYOOM | KITH_CMD_FAST, .keys = {1, 1, 1},
     .key_flags = "RW access update", .categories = "string", .group = "string", .since = "2.6.0", .complexity = "O(1)",
     .summary = "Adds a number to the decimal number at a key; a missing key counts as 0.",
     .syntax = "key increment:double", .handler = incrbyfloat_command},
    {.name = "lcs", .arity = -3, .flags = KITH_CMD_READONLY, .keys = {1, 2, 1},
     .key_flags = "RO access", .categories = "string", .group = "string", .since = "7.0.0",
     .complexity = "O(n*m) for strings of n and m bytes", .summary = "Finds the longest common subsequence of two strings.",
     .syntax = "key1:key key2:key [LEN] [IDX] [MINMATCHLEN min-match-len:integer] [WITHMATCHLEN]", .handler = kith_lcs_command},
    {.name = "mget", .arity = -2, .flags = KITH_CMD_READONLY | KITH_CMD_FAST, .keys = {1, -1, 1},
     .key_flags = "RO access", .categories = "string", .group = "string", .since = "1.0.0", .complexity = "O(n) for n keys",
     .summary = "Returns the strings at several keys.", .syntax = "key [key ...]", .handler = mget_command},
    {.name = "mset", .arity = -3, .flags = KITH_CMD_WRITE | KITH_CMD_DENYOOM, .keys = {1, -1, 2},
     .key_flags = "OW update", .categories = "string", .group = "string", .since = "1.0.1", .complexity = "O(n) for n keys",
     .summary = "Stores strings at several keys.", .syntax = "key value [key value ...]", .handler = mset_command},
    {.name = "msetnx", .arity = -3, .flags = KITH_CMD_WRITE | KITH_CMD_DENYOOM, .keys = {1, -1, 2},
     .key_flags = "OW insert", .categories = "string", .group = "string", .since = "1.0.1", .complexity = "O(n) for n keys",
     .summary = "Stores strings at several keys if none of the keys exists.",
     .syntax = "key value [key value ...]", .handler = msetnx_command},
    {.name = "psetex", .arity = 4, .flags = KITH_CMD_WRITE | KITH_CMD_DENYOOM, .keys = {1, 1, 1},
     .key_flags = "OW update", .categories = "string", .group = "string", .since = "2.6.0", .complexity = "O(1)",
     .summary = "Stores a string with an expiry in milliseconds. SET with PX does the same.",
     .syntax = "key milliseconds:integer value", .handler = psetex_command},
    {.name = "set", .arity = -3, .flags = KITH_CMD_WRITE | KITH_CMD_DENYOOM, .keys = {1, 1, 1},
     .key_flags = "RW access update variable_flags", .categories = "string", .group = "string", .since = "1.0.0", .complexity = "O(1)",
     .summary = "Stores a string at a key, whatever was there before, and drops the key's expiry unless told otherwise.",
     .syntax = "key value [NX | XX] [GET] [EX seconds:integer | PX milliseconds:integer | EXAT "
               "unix-time-seconds:unix-time | PXAT unix-time-milliseconds:unix-time | KEEPTTL]",
     .handler = set_command},
    {.name = "setex", .arity = 4, .flags = KITH_CMD_WRITE | KITH_CMD_DENYOOM, .keys = {1, 1, 1},
     .key_flags = "OW update", .categories = "string", .group = "string", .since = "2.0.0", .complexity = "O(1)",
     .summary = "Stores a string with an expiry in seconds. SET with EX does the same.",
     .syntax = "key seconds:integer value", .handler = setex_command},
    {.name = "setnx", .arity = 3, .flags = KITH_CMD_WRITE | KITH_CMD_DENYOOM | KITH_CMD_FAST, .keys = {1, 1, 1},
     .key_flags = "OW insert", .categories = "string", .group = "string", .since = "1.0.0", .complexity = "O(1)",
     .summary = "Stores a string if the key does not exist. SET with NX does the same.",
     .syntax = "key value", .handler = setnx_command},
    {.name = "setrange", .arity = 4, .flags = KITH_CMD_WRITE | KITH_CMD_DENYOOM, .keys = {1, 1, 1},
     .key_flags = "RW update", .categories = "string", .group = "string", .since = "2.2.0",
     .complexity = "O(n) for n bytes written", .summary = "Overwrites a part of the string at a key; a gap is filled with zero bytes.",
     .syntax = "key offset:integer value", .handler = setrange_command},
    {.name = "strlen", .arity = 2, .flags = KITH_CMD_READONLY | KITH_CMD_FAST, .keys = {1, 1, 1},
     .key_flags = "RO", .categories = "string", .group = "string", .since = "2.2.0", .complexity = "O(1)",
     .summary = "Returns the length of the string at a key.", .syntax = "key", .handler = strlen_command},
    {.name = "substr", .arity = 4, .flags = KITH_CMD_READONLY, .keys = {1, 1, 1},
     .key_flags = "RO access", .categories = "string", .group = "string", .since = "1.0.0",
     .complexity = "O(n) for n bytes returned", .summary = "The old name of GETRANGE.",
     .syntax = "key start:integer end:integer", .handler = getrange_command},
    {0},
};
