/* A whole copy of the upstream's data: the reader of RDB files (wire/rdb.h) tells the keys, and they become commands in
 * entries of about a megabyte. Until the last of them is applied the state says that it is loading, and a copy that is
 * broken off, by whatever, is begun anew. */
#include "base/log.h"
#include "base/num.h"
#include "base/varint.h"
#include "engine/keyspace.h"
#include "net/follow_internal.h"

#include <inttypes.h>
#include <stdio.h>

enum { PART_COUNT = 512, PART_BYTES = 64 << 10 };

/* Hands over what there is as a part of the copy. */
static int submit_part(struct follow_connection *c)
{
    char link[24], load[24];
    const char *head[] = {"KITH.UPSTREAM", "LOAD", link, load};
    snprintf(link, sizeof link, "%" PRIu64, c->link);
    snprintf(load, sizeof load, "%" PRIu64, c->load);
    if (!c->commands.length && !c->commands.failed)
        return KITH_OK;
    return follow_submit(c, head, 4, c->commands.length, -1) ? KITH_OK : KITH_ECLOSED;
}

static int submit_if_full(struct follow_connection *c)
{
    if (c->commands.failed || c->parts.failed)
        return KITH_ENOMEM;
    return c->commands.length < FOLLOW_ENTRY_BYTES ? KITH_OK : submit_part(c);
}

static struct kith_slice text_of(const char *text)
{
    return kith_slice(text, strlen(text));
}

/* --- keys --- */

static int leave_out(struct follow_connection *c, const struct kith_rdb_key *key, const char *why)
{
    if (follow_is_new(&c->follow->seen, text_of(key->type)))
        KITH_WARN(
            "upstream: keys of type %s are left out: %s (first %.*s in database %u); KITH.UPSTREAM LEFTOUT "
            "lists them",
            key->type, why, (int)(key->name.length < 128 ? key->name.length : 128), key->name.data, key->db);
    c->copy_left_out++;
    follow_leave(c, key->db, 0, text_of(key->type), &key->name, 1);
    return submit_if_full(c);
}

/* Keys of a database that there is not are counted and told of, but have no place to be listed. */
static bool has_place(struct follow_connection *c, const struct kith_rdb_key *key)
{
    char why[32];
    if (kith_engine_db(c->follow->engine, key->db))
        return true;
    int length = snprintf(why, sizeof why, "database %" PRIu32, key->db);
    if (follow_is_new(&c->follow->seen, kith_slice(why, (size_t)length)))
        KITH_WARN(
            "upstream: %s is left out, there are fewer here: raise `databases` and begin REPLICAOF anew",
            why);
    return false;
}

static int on_string(void *arg, const struct kith_rdb_key *key, struct kith_slice value)
{
    struct follow_connection *c = arg;
    char when[KITH_NUM_INT64_CHARS];
    struct kith_slice argv[5] = {KITH_SLICE("SET"), key->name, value, KITH_SLICE("PXAT")};
    if (!has_place(c, key))
        return KITH_OK;
    if (key->expiry_ms >= 0)
        argv[4] = kith_slice(when, kith_num_format_int64(when, key->expiry_ms > 0 ? key->expiry_ms : 1));
    kith_entry_append(&c->commands, key->db, argv, key->expiry_ms >= 0 ? 5 : 3);
    c->copy_keys++;
    return submit_if_full(c);
}

static int on_begin(void *arg, const struct kith_rdb_key *key, const struct kith_rdb_vectors *vectors)
{
    struct follow_connection *c = arg;
    kith_buf_clear(&c->parts);
    c->part_count = 0;
    c->vectors = vectors ? *vectors : (struct kith_rdb_vectors){0};
    return KITH_OK;
}

/* The arguments that were gathered, as one command. */
static int flush_parts(struct follow_connection *c, const struct kith_rdb_key *key)
{
    const char *name = key->kind == KITH_RDB_HASH ? "HSET" : "ZADD";
    if (c->part_count && has_place(c, key)) {
        kith_buf_append_varint(&c->commands, key->db);
        kith_buf_append_varint(&c->commands, 2 + c->part_count);
        kith_buf_append_slice(&c->commands, text_of(name));
        kith_buf_append_slice(&c->commands, key->name);
        kith_buf_append(&c->commands, c->parts.data, c->parts.length);
    }
    bool failed = c->parts.failed;
    c->part_count = 0;
    kith_buf_clear(&c->parts);
    return failed ? KITH_ENOMEM : submit_if_full(c);
}

static int add_pair(struct follow_connection *c, const struct kith_rdb_key *key, struct kith_slice a,
                    struct kith_slice b)
{
    kith_buf_append_slice(&c->parts, a);
    kith_buf_append_slice(&c->parts, b);
    c->part_count += 2;
    return c->part_count >= PART_COUNT || c->parts.length >= PART_BYTES ? flush_parts(c, key) : KITH_OK;
}

static int on_field(void *arg, const struct kith_rdb_key *key, struct kith_slice field,
                    struct kith_slice value)
{
    return add_pair(arg, key, field, value);
}

static int on_member(void *arg, const struct kith_rdb_key *key, struct kith_slice member, double score)
{
    char text[KITH_NUM_DOUBLE_CHARS];
    return add_pair(arg, key, kith_slice(text, kith_num_format_double(text, score)), member);
}

static int on_vector(void *arg, const struct kith_rdb_key *key, const struct kith_rdb_vector *vector)
{
    static const char *const codes[] = {
        [KITH_RDB_NOQUANT] = "NOQUANT", [KITH_RDB_Q8] = "Q8", [KITH_RDB_BIN] = "BIN"};
    struct follow_connection *c = arg;
    char m[KITH_NUM_INT64_CHARS];
    if (!has_place(c, key))
        return KITH_OK;
    struct kith_slice argv[] = {
        KITH_SLICE("VADD"),    key->name,
        KITH_SLICE("FP32"),    kith_slice(vector->components, vector->dim * sizeof *vector->components),
        vector->element,       text_of(codes[c->vectors.codes]),
        KITH_SLICE("M"),       kith_slice(m, kith_num_format_int64(m, c->vectors.m)),
        KITH_SLICE("SETATTR"), vector->attributes};
    kith_entry_append(&c->commands, key->db, argv, vector->attributes.length ? 10 : 8);
    return submit_if_full(c);
}

static int on_end(void *arg, const struct kith_rdb_key *key, uint64_t elements, uint64_t left_out,
                  const char *why)
{
    struct follow_connection *c = arg;
    char when[KITH_NUM_INT64_CHARS];
    int status = flush_parts(c, key);
    if (status != KITH_OK || (!elements && !left_out) || !has_place(c, key))
        return status;
    /* A part of a key would be a wrong answer. */
    if (left_out)
        return leave_out(c, key, why ? why : "not all of them can be kept");
    c->copy_keys++;
    if (key->expiry_ms < 0)
        return KITH_OK;
    struct kith_slice argv[3] = {KITH_SLICE("PEXPIREAT"), key->name,
                                 kith_slice(when, kith_num_format_int64(when, key->expiry_ms))};
    kith_entry_append(&c->commands, key->db, argv, 3);
    return submit_if_full(c);
}

static int on_skipped(void *arg, const struct kith_rdb_key *key, const char *why)
{
    struct follow_connection *c = arg;
    return has_place(c, key) ? leave_out(c, key, why) : KITH_OK;
}

static int on_other(void *arg, const char *what, struct kith_slice name)
{
    struct follow_connection *c = arg;
    if (follow_is_new(&c->follow->seen, text_of(what)))
        KITH_WARN("upstream: left out of the copy: %s %.*s", what,
                  (int)(name.length < 128 ? name.length : 128), name.data);
    return KITH_OK;
}

static int on_aux(void *arg, struct kith_slice name, struct kith_slice value)
{
    struct follow_connection *c = arg;
    int64_t db;
    if (kith_slice_is(name, "repl-stream-db") && kith_num_parse_int64(value, &db) == KITH_OK && db >= 0 &&
        db <= INT32_MAX)
        c->copy_db = (uint32_t)db;
    return KITH_OK;
}

/* --- the copy --- */

int follow_copy_begins(void *arg, const char *replid, int64_t offset, int64_t length)
{
    struct follow_connection *c = arg;
    char link[24], load[24];
    const char *head[] = {"KITH.UPSTREAM", "SYNC", link, load};
    c->load = kith_rng_next(&c->follow->rng) >> 1;
    snprintf(link, sizeof link, "%" PRIu64, c->link);
    snprintf(load, sizeof load, "%" PRIu64, c->load);
    memcpy(c->replid, replid, sizeof c->replid);
    c->copy_offset = offset;
    c->copy_total = length;
    c->copy_db = 0;
    c->rdb_events = (struct kith_rdb_events){.string = on_string,
                                             .begin = on_begin,
                                             .field = on_field,
                                             .member = on_member,
                                             .vector = on_vector,
                                             .end = on_end,
                                             .skipped = on_skipped,
                                             .other = on_other,
                                             .aux = on_aux};
    int status = kith_rdb_open(&c->rdb, NULL, &c->rdb_events, c);
    if (status != KITH_OK) {
        follow_connection_end(c, "out of memory for its copy");
        return status;
    }
    KITH_INFO("upstream %s:%u: a whole copy comes, %s%lld bytes; what was here goes", c->host,
              kith_engine_upstream(c->follow->engine)->port, length < 0 ? "as a stream, " : "",
              (long long)length);
    if (c->follow->forget_link == c->link)
        c->follow->forget_link = 0;
    return follow_submit(c, head, 4, 0, -1) ? KITH_OK : KITH_ECLOSED;
}

int follow_copy_bytes(void *arg, const char *bytes, size_t length, size_t *used)
{
    struct follow_connection *c = arg;
    int status = kith_rdb_feed(c->rdb, bytes, length, used);
    c->copy_done += (int64_t)*used;
    if (status < 0 && !c->closing)
        follow_connection_end(c, "its copy: %s", kith_rdb_error(c->rdb));
    return status;
}

int follow_copy_ends(void *arg)
{
    struct follow_connection *c = arg;
    char link[24], load[24], offset[24], db[24];
    const char *head[] = {"KITH.UPSTREAM", "LOADED", link, load, offset, db, c->replid};
    snprintf(link, sizeof link, "%" PRIu64, c->link);
    snprintf(load, sizeof load, "%" PRIu64, c->load);
    snprintf(offset, sizeof offset, "%" PRId64, c->copy_offset);
    snprintf(db, sizeof db, "%" PRIu32, c->copy_db);
    int status = submit_part(c);
    if (status != KITH_OK)
        return status;
    if (!follow_submit(c, head, 7, 0, c->copy_offset))
        return KITH_ECLOSED;
    c->follow->full_syncs++;
    KITH_INFO("upstream %s: the copy is whole: %llu keys, and %llu that were left out; its stream follows",
              c->host, (unsigned long long)c->copy_keys, (unsigned long long)c->copy_left_out);
    kith_rdb_close(c->rdb);
    c->rdb = NULL;
    follow_stream_begin(c, c->copy_offset, c->copy_db);
    c->ack_wanted = true; /* a copy that came as a stream: the upstream waits for this before it goes on */
    c->ack_offset = c->copy_offset;
    return KITH_OK;
}
