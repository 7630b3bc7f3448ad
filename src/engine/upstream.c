/* The state of following, and the list of keys that are left out because Kith has not got their type or a command that
 * changed them. Such a key is removed: nothing is served that the upstream has not got, and what is missing is named.
 * What comes of it later is told by the keys of the commands that follow: DEL takes it off the list, a command that
 * makes the key anew does, and what is computed from it (RENAME, COPY, ZUNIONSTORE) is left out with it. */
#include "engine/upstream.h"

#include "base/num.h"
#include "base/varint.h"
#include "engine/keyspec.h"
#include "engine/state.h"

#include <stdio.h>
#include <stdlib.h>

const struct kith_upstream *kith_engine_upstream(const struct kith_engine *engine)
{
    return &engine->upstream;
}

bool kith_upstream_is_replid(struct kith_slice text)
{
    if (text.length != KITH_UPSTREAM_REPLID)
        return false;
    for (size_t i = 0; i < text.length; i++)
        if (!strchr("0123456789abcdef", text.data[i]) || !text.data[i])
            return false;
    return true;
}

void kith_upstream_begin_entry(struct kith_upstream *upstream)
{
    upstream->applying = upstream->stale = false;
}

const char *kith_upstream_refusal(const struct kith_upstream *upstream, const struct kith_command *command)
{
    if (command->flags & KITH_CMD_ANY_ROLE)
        return NULL;
    if (upstream->stale)
        return "ERR this part of the upstream's stream was applied before, or is not next";
    if (kith_upstream_follows(upstream) && !upstream->applying)
        return "READONLY You can't write against a read only replica.";
    return NULL;
}

/* --- the list --- */

static struct kith_slice list_name(struct kith_buf *buf, uint32_t db_index, struct kith_slice key)
{
    kith_buf_clear(buf);
    kith_buf_append_varint(buf, db_index);
    kith_buf_append(buf, key.data, key.length);
    return kith_buf_slice(buf);
}

static void *find(const struct kith_upstream *upstream, struct kith_slice name)
{
    return upstream->left_out
               ? kith_table_find(upstream->left_out, name, kith_table_hash(upstream->left_out, name))
               : NULL;
}

static struct kith_slice why_of(const void *entry)
{
    const char *payload = kith_entry_payload_const(entry);
    return kith_slice(payload + 1, (uint8_t)payload[0]);
}

static size_t bytes_of(const void *entry)
{
    return kith_entry_key(entry).length + why_of(entry).length;
}

static void free_entry(void *arg, void *entry)
{
    free(entry);
}

void kith_upstream_clear_left_out(struct kith_upstream *upstream)
{
    kith_table_close(upstream->left_out, free_entry, NULL);
    upstream->left_out = NULL;
    upstream->left_out_bytes = 0;
    upstream->left_out_unlisted = upstream->left_out_commands = 0;
}

void kith_upstream_fini(struct kith_upstream *upstream)
{
    kith_upstream_clear_left_out(upstream);
    *upstream = (struct kith_upstream){0};
}

uint64_t kith_upstream_left_out_count(const struct kith_upstream *upstream)
{
    return upstream->left_out_unlisted + (upstream->left_out ? kith_table_count(upstream->left_out) : 0);
}

static int insert(struct kith_upstream *upstream, struct kith_slice name, struct kith_slice why)
{
    size_t why_length = why.length < KITH_UPSTREAM_WHY_MAX ? why.length : KITH_UPSTREAM_WHY_MAX;
    if (kith_table_count(upstream->left_out) >= KITH_UPSTREAM_LEFT_OUT_MAX ||
        upstream->left_out_bytes + name.length + why_length > KITH_UPSTREAM_LEFT_OUT_BYTES)
        return KITH_EINVAL;
    void *entry = kith_entry_open(0, name, 1 + why_length);
    if (!entry)
        return KITH_ENOMEM;
    char *payload = kith_entry_payload(entry);
    *payload = (char)why_length;
    if (why_length)
        memcpy(payload + 1, why.data, why_length);
    int status = kith_table_insert(upstream->left_out, entry, kith_table_hash(upstream->left_out, name));
    if (status != KITH_OK)
        free(entry);
    else
        upstream->left_out_bytes += bytes_of(entry);
    return status;
}

int kith_upstream_list(struct kith_engine *engine, uint32_t db_index, struct kith_slice key,
                       struct kith_slice why)
{
    struct kith_upstream *upstream = &engine->upstream;
    struct kith_buf buf = {0};
    struct kith_slice name = list_name(&buf, db_index, key);
    int status = buf.failed ? KITH_ENOMEM : KITH_OK;
    if (status == KITH_OK && !upstream->left_out)
        status = kith_table_open(&upstream->left_out, engine->options.hash_seed);
    if (status == KITH_OK)
        status = find(upstream, name) ? KITH_EINVAL : insert(upstream, name, why);
    kith_buf_fini(&buf);
    return status;
}

static bool is_listed(const struct kith_upstream *upstream, uint32_t db_index, struct kith_slice key)
{
    struct kith_buf buf = {0};
    struct kith_slice name = list_name(&buf, db_index, key);
    bool listed = !buf.failed && find(upstream, name);
    kith_buf_fini(&buf);
    return listed;
}

static void unlist(struct kith_upstream *upstream, uint32_t db_index, struct kith_slice key)
{
    struct kith_buf buf = {0};
    struct kith_slice name = list_name(&buf, db_index, key);
    void *entry = upstream->left_out && !buf.failed
                      ? kith_table_remove(upstream->left_out, name, kith_table_hash(upstream->left_out, name))
                      : NULL;
    if (entry)
        upstream->left_out_bytes -= bytes_of(entry);
    free(entry);
    kith_buf_fini(&buf);
}

void kith_upstream_leave_out(struct kith_engine *engine, uint32_t db_index, struct kith_slice key,
                             struct kith_slice why)
{
    struct kith_db *db = kith_engine_db(engine, db_index);
    struct kith_key found;
    if (db && kith_db_find_for_write(db, key, engine->now_ms, &found))
        kith_key_remove(&found);
    if (!is_listed(&engine->upstream, db_index, key) &&
        kith_upstream_list(engine, db_index, key, why) != KITH_OK)
        engine->upstream.left_out_unlisted++;
}

struct each {
    void (*report)(void *arg, uint32_t db_index, struct kith_slice key, struct kith_slice why);
    void *arg;
};

static void report_entry(void *arg, void *entry)
{
    const struct each *each = arg;
    struct kith_slice name = kith_entry_key(entry);
    uint64_t db_index = 0;
    size_t prefix = kith_varint_get(name.data, name.length, &db_index);
    each->report(each->arg, (uint32_t)db_index, kith_slice(name.data + prefix, name.length - prefix),
                 why_of(entry));
}

void kith_upstream_each(const struct kith_upstream *upstream,
                        void (*report)(void *arg, uint32_t db_index, struct kith_slice key,
                                       struct kith_slice why),
                        void *arg)
{
    struct each each = {report, arg};
    uint64_t cursor = 0;
    if (!upstream->left_out)
        return;
    do
        cursor = kith_table_scan(upstream->left_out, cursor, report_entry, &each);
    while (cursor);
}

/* --- what a command of the stream did to the list --- */

struct after {
    struct kith_engine *engine;
    const struct kith_command *command;
    const struct kith_slice *argv;
    size_t argc;
    uint32_t db_index, target_index; /* where it reads, and where it writes */
    bool failed;
    bool tainted; /* it has read a key that is left out */
};

static bool is_command(const struct after *after, const char *name)
{
    return strcmp(after->command->name, name) == 0;
}

static bool begins(struct kith_slice flags, const char *mode)
{
    return flags.length >= 2 && memcmp(flags.data, mode, 2) == 0;
}

/* BITOP and ZRANGESTORE give one specification for where they write and where they read, as they do in Redis. */
static bool only_reads(const struct after *after, size_t argument, struct kith_slice flags)
{
    return begins(flags, "RO") || (argument > 2 && is_command(after, "bitop")) ||
           (argument == 2 && is_command(after, "zrangestore"));
}

/* The key is gone afterwards, whatever it was. */
static bool removes(const struct after *after, size_t argument, struct kith_slice flags)
{
    return begins(flags, "RM") || is_command(after, "getdel") ||
           (argument == 1 && (is_command(after, "rename") || is_command(after, "renamenx")));
}

/* What the key holds afterwards does not depend on what it was. */
static bool replaces(const struct after *after, struct kith_slice flags)
{
    if (!is_command(after, "set"))
        return begins(flags, "OW") || is_command(after, "getset");
    for (size_t i = 3; i < after->argc; i++)
        if (kith_slice_is(after->argv[i], "KEEPTTL"))
            return false;
    return true;
}

static void look_for_taint(void *arg, size_t argument, struct kith_slice flags)
{
    struct after *after = arg;
    if (only_reads(after, argument, flags))
        after->tainted |= is_listed(&after->engine->upstream, after->db_index, after->argv[argument]);
}

static void settle_key(void *arg, size_t argument, struct kith_slice flags)
{
    struct after *after = arg;
    struct kith_upstream *upstream = &after->engine->upstream;
    struct kith_slice name = after->argv[argument];
    struct kith_slice why = kith_slice(after->command->name, strlen(after->command->name));
    if (only_reads(after, argument, flags))
        return;
    if (removes(after, argument, flags))
        unlist(upstream, after->db_index, name);
    else if (after->failed || after->tainted)
        kith_upstream_leave_out(after->engine, after->target_index, name, why);
    else if (replaces(after, flags))
        unlist(upstream, after->target_index, name);
    else if (is_listed(upstream, after->target_index, name)) /* a part of what it is: made here of nothing */
        kith_upstream_leave_out(after->engine, after->target_index, name, why);
}

/* A flushed database has no keys that could be missing. */
static void unlist_flushed(void *arg, void *entry)
{
    const struct after *after = arg;
    struct kith_upstream *upstream = &after->engine->upstream;
    struct kith_slice name = kith_entry_key(entry);
    uint64_t db_index = 0;
    kith_varint_get(name.data, name.length, &db_index);
    if (db_index != after->db_index && !is_command(after, "flushall"))
        return;
    upstream->left_out_bytes -= bytes_of(entry);
    kith_table_remove_entry(upstream->left_out, entry, kith_table_hash(upstream->left_out, name));
    free(entry);
}

static void settle_flush(struct after *after)
{
    struct kith_upstream *upstream = &after->engine->upstream;
    uint64_t cursor = 0;
    do
        cursor = kith_table_scan(upstream->left_out, cursor, unlist_flushed, after);
    while (cursor);
    if (is_command(after, "flushall"))
        upstream->left_out_unlisted = 0;
}

static void settle_move(struct after *after)
{
    struct kith_slice key = after->argv[1];
    int64_t number;
    if (kith_num_parse_int64(after->argv[2], &number) != KITH_OK)
        return;
    if (!is_listed(&after->engine->upstream, after->db_index, key)) {
        unlist(&after->engine->upstream, (uint32_t)number, key);
        return;
    }
    unlist(&after->engine->upstream, after->db_index, key);
    kith_upstream_leave_out(after->engine, (uint32_t)number, key, KITH_SLICE("move"));
}

/* COPY's DB names another database. */
static uint32_t target_of_copy(const struct after *after)
{
    int64_t number;
    for (size_t i = 3; i + 1 < after->argc; i++)
        if (kith_slice_is(after->argv[i], "DB") &&
            kith_num_parse_int64(after->argv[i + 1], &number) == KITH_OK)
            return (uint32_t)number;
    return after->db_index;
}

void kith_upstream_after(struct kith_engine *engine, uint32_t db_index, const struct kith_command *command,
                         const struct kith_slice *argv, size_t argc, bool failed)
{
    struct after after = {engine, command, argv, argc, db_index, db_index, failed, false};
    bool listed = engine->upstream.left_out && kith_table_count(engine->upstream.left_out) > 0;
    if (!listed && !failed)
        return;
    if (listed && !failed && (is_command(&after, "flushall") || is_command(&after, "flushdb"))) {
        settle_flush(&after);
        return;
    }
    if (listed && is_command(&after, "move")) {
        settle_move(&after);
        return;
    }
    if (is_command(&after, "copy"))
        after.target_index = target_of_copy(&after);
    if (listed)
        kith_command_keys(command, argv, argc, look_for_taint, &after);
    kith_command_keys(command, argv, argc, settle_key, &after);
}

/* --- the digest --- */

static void add_left_out(void *arg, uint32_t db_index, struct kith_slice key, struct kith_slice why)
{
    uint64_t *sum = arg;
    *sum += kith_digest_bytes(kith_digest_bytes(db_index, key), why);
}

uint64_t kith_upstream_digest(const struct kith_upstream *upstream)
{
    uint64_t sum = 0;
    char text[512];
    if (!upstream->link)
        return 0; /* never followed anybody: without data, too, the digest of nothing is 0 */
    kith_upstream_each(upstream, add_left_out, &sum);
    int length = snprintf(text, sizeof text, "%d %s %u %llu %llu %s %lld %u %llu %llu", (int)upstream->phase,
                          upstream->host, upstream->port, (unsigned long long)upstream->link,
                          (unsigned long long)upstream->load, upstream->replid, (long long)upstream->offset,
                          upstream->db, (unsigned long long)upstream->left_out_unlisted,
                          (unsigned long long)upstream->left_out_commands);
    return sum + kith_digest_bytes(3, kith_slice(text, (size_t)length));
}
