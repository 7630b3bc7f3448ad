/* The stream of commands that a master sends once a replica has its data: requests as clients send them, and their bytes
 * counted, since the count is the place in the history that both sides speak of. What stands between MULTI and EXEC goes
 * into one entry. */
#include "base/log.h"
#include "engine/keyspace.h"
#include "net/follow_internal.h"

#include <inttypes.h>
#include <stdio.h>

void follow_stream_begin(struct follow_connection *c, int64_t offset, uint32_t db)
{
    c->limits =
        (struct kith_request_limits){.arguments_max = 1u << 28, .bulk_max = 1u << 30, .line_max = 64u << 10};
    kith_request_parser_init(&c->parser, &c->limits);
    c->offset = c->sent_offset = c->safe_offset = offset;
    c->db = c->safe_db = db;
    c->in_multi = false;
    kith_buf_clear(&c->commands);
    c->safe_length = 0;
}

/* Applies what was read up to the last place outside a MULTI. */
static bool submit(struct follow_connection *c)
{
    char link[24], from[24], to[24], db[24];
    const char *head[] = {"KITH.UPSTREAM", "APPLY", link, from, to, db, c->replid};
    if (c->safe_offset == c->sent_offset)
        return true;
    snprintf(link, sizeof link, "%" PRIu64, c->link);
    snprintf(from, sizeof from, "%" PRId64, c->sent_offset);
    snprintf(to, sizeof to, "%" PRId64, c->safe_offset);
    snprintf(db, sizeof db, "%" PRIu32, c->safe_db);
    size_t length = c->safe_length;
    c->safe_length = 0;
    c->sent_offset = c->safe_offset;
    return follow_submit(c, head, sizeof head / sizeof head[0], length, c->sent_offset);
}

static void log_left_out(struct follow_connection *c, const struct kith_slice *argv, const size_t *keys,
                         size_t count)
{
    if (!follow_is_new(&c->follow->seen, argv[0]))
        return;
    struct kith_slice key = count ? argv[keys[0]] : KITH_SLICE("no key");
    KITH_WARN(
        "upstream: '%.*s' is left out, Kith has not got it (first for %.*s in database %u): keys that it "
        "writes are removed here; KITH.UPSTREAM LEFTOUT lists them",
        (int)(argv[0].length < 64 ? argv[0].length : 64), argv[0].data,
        (int)(key.length < 128 ? key.length : 128), key.data, c->db);
}

static void leave_out(struct follow_connection *c, const struct kith_slice *argv, size_t argc)
{
    size_t places[FOLLOW_KEYS_MAX];
    struct kith_slice keys[FOLLOW_KEYS_MAX];
    size_t count = follow_foreign_keys(argv, argc, places);
    for (size_t i = 0; i < count; i++)
        keys[i] = argv[places[i]];
    log_left_out(c, argv, places, count);
    follow_leave(c, c->db, 1, argv[0], keys, count);
}

/* A database that is not here has no keys to name. */
static void leave_out_database(struct follow_connection *c)
{
    char why[32];
    int length = snprintf(why, sizeof why, "database %" PRIu32, c->db);
    struct kith_slice name = kith_slice(why, (size_t)length);
    if (follow_is_new(&c->follow->seen, name))
        KITH_WARN(
            "upstream: %s is left out, there are fewer here: raise `databases` and begin REPLICAOF anew",
            why);
    follow_leave(c, 0, 1, name, NULL, 0);
}

static void write_command(struct follow_connection *c, const struct kith_slice *argv, size_t argc)
{
    const struct kith_command *command = kith_engine_lookup(c->follow->engine, argv, argc);
    if (!kith_engine_db(c->follow->engine, c->db))
        leave_out_database(c);
    else if (kith_engine_is_entry_command(command, argc))
        kith_entry_append(&c->commands, c->db, argv, argc);
    else
        leave_out(c, argv, argc);
}

static bool parse_number(struct kith_slice text, uint32_t *number)
{
    uint64_t value = 0;
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || value > INT32_MAX / 10)
            return false;
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    *number = (uint32_t)value;
    return text.length > 0;
}

/* False: nothing behind it is to be taken. */
static bool take(struct follow_connection *c, const struct kith_slice *argv, size_t argc, int64_t begin)
{
    if (kith_slice_is(argv[0], "PING"))
        return true;
    if (kith_slice_is(argv[0], "SELECT")) {
        if (argc == 2 && parse_number(argv[1], &c->db))
            return true;
        follow_connection_end(c, "its stream selects a database that is no number");
        return false;
    }
    if (kith_slice_is(argv[0], "MULTI") || kith_slice_is(argv[0], "EXEC")) {
        c->in_multi = kith_slice_is(argv[0], "MULTI");
    } else if (kith_slice_is(argv[0], "REPLCONF")) {
        if (argc > 1 && kith_slice_is(argv[1], "GETACK")) {
            c->ack_wanted = true;
            c->ack_offset = begin;
        }
    } else if (kith_slice_is(argv[0], "SWAPDB")) {
        /* All keys of two databases change places: a copy says it best. The place in the stream stays before this. */
        c->follow->forget_link = c->link;
        c->resync = true;
        c->in_multi = false;
        return false;
    } else {
        write_command(c, argv, argc);
    }
    return true;
}

static bool take_requests(struct follow_connection *c, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct kith_request *request = &c->requests[i];
        if (!take(c, request->argv, request->argc, c->offset + (int64_t)request->offset))
            return false;
        if (c->in_multi)
            continue;
        c->safe_length = c->commands.length;
        c->safe_offset = c->offset + (int64_t)(request->offset + request->bytes);
        c->safe_db = c->db;
        if (c->safe_length >= FOLLOW_ENTRY_BYTES && !submit(c))
            return false;
    }
    return true;
}

int follow_stream_feed(struct follow_connection *c, const char *bytes, size_t length)
{
    size_t used = 0, consumed;
    int count;
    kith_buf_append(&c->in, bytes, length);
    if (c->in.failed) {
        follow_connection_end(c, "out of memory for what it sends");
        return KITH_ENOMEM;
    }
    do {
        count = kith_request_parse(&c->parser, c->in.data + used, c->in.length - used, c->requests,
                                   FOLLOW_REQUESTS, &consumed);
        if (count > 0 && !take_requests(c, (size_t)count))
            break;
        used += consumed;
        c->offset += (int64_t)consumed;
    } while (count > 0);
    if (c->closing)
        return KITH_ECLOSED;
    if (c->resync) {
        if (submit(c))
            follow_connection_end(c, "SWAPDB: the whole data comes anew");
        return KITH_ECLOSED;
    }
    kith_buf_consume(&c->in, used);
    if (count < 0) {
        follow_connection_end(c, "its stream is damaged: %s", c->parser.error);
        return KITH_ECORRUPT;
    }
    return submit(c) ? KITH_OK : KITH_ECLOSED;
}
