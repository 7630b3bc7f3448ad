/* The reading half of checkpoints. The stream comes from a disk or from a peer: every number in it is
 * checked, and an object becomes visible under its key only when it is complete. */
#include "base/varint.h"
#include "engine/checkpoint.h"
#include "engine/limits.h"
#include "engine/record.h"
#include "engine/state.h"

#include <stdlib.h>

/* An object under way, or a long string: `ops` is then NULL. */
struct loading {
    struct kith_db *db;
    const struct kith_type_ops *ops;
    void *object;         /* NULL until its first part */
    struct kith_buf text; /* of a string */
    char *name;           /* owned */
    size_t name_length;
    int64_t expiry_ms;
    enum kith_type type;
};

struct kith_loader {
    struct kith_engine *engine;
    struct kith_buf carry;    /* a record that is not whole yet */
    struct loading **objects; /* those with ids from first_id on, in order; NULL where one is done */
    size_t object_capacity;
    uint64_t first_id, next_id;
    uint64_t key_count, offset; /* bytes of the stream consumed */
    bool started, ended;
    int status; /* the first failure, which stays */
    const char *problem;
};

static int corrupt(struct kith_loader *loader, const char *problem)
{
    loader->problem = problem;
    return KITH_ECORRUPT;
}

static void free_loading(struct loading *loading)
{
    if (!loading)
        return;
    if (loading->object)
        loading->ops->close(loading->object);
    kith_buf_fini(&loading->text);
    free(loading->name);
    free(loading);
}

void kith_loader_close(struct kith_engine *engine)
{
    struct kith_loader *loader = engine->loader;
    if (!loader)
        return;
    for (uint64_t id = loader->first_id; id < loader->next_id; id++)
        free_loading(loader->objects[id - loader->first_id]);
    free(loader->objects);
    kith_buf_fini(&loader->carry);
    free(loader);
    engine->loader = NULL;
}

/* --- Objects by id. --- */

static struct loading **object_slot(struct kith_loader *loader, uint64_t id)
{
    if (id < loader->first_id || id >= loader->next_id)
        return NULL;
    struct loading **slot = &loader->objects[id - loader->first_id];
    return *slot ? slot : NULL;
}

static int add_object(struct kith_loader *loader, struct loading *loading)
{
    size_t count = (size_t)(loader->next_id - loader->first_id);
    if (count == loader->object_capacity) {
        size_t capacity = count ? 2 * count : 16;
        struct loading **grown = realloc(loader->objects, capacity * sizeof *grown);
        if (!grown)
            return KITH_ENOMEM;
        loader->objects = grown;
        loader->object_capacity = capacity;
    }
    loader->objects[count] = loading;
    loader->next_id++;
    return KITH_OK;
}

/* Forgets finished ids, once they are at least half of the array. */
static void compact(struct kith_loader *loader)
{
    size_t count = (size_t)(loader->next_id - loader->first_id), done = 0;
    while (done < count && !loader->objects[done])
        done++;
    if (!done || 2 * done < count)
        return;
    memmove(loader->objects, loader->objects + done, (count - done) * sizeof *loader->objects);
    loader->first_id += done;
}

/* --- Records. --- */

static int read_head(struct kith_loader *loader, struct kith_reader *r)
{
    uint8_t version = kith_reader_u8(r);
    int64_t now_ms = (int64_t)kith_reader_u64(r);
    if (loader->started || r->failed || version == 0 || now_ms < 0)
        return corrupt(loader, "bad head");
    if (version != KITH_RECORD_VERSION) {
        loader->problem = "written by a newer version";
        return KITH_EVERSION;
    }
    loader->engine->now_ms = now_ms;
    loader->started = true;
    return KITH_OK;
}

int kith_engine_stream_time(struct kith_slice start, int64_t *time_ms)
{
    struct kith_reader r = kith_reader(start);
    (void)kith_reader_varint(&r); /* its length */
    uint8_t kind = kith_reader_u8(&r), version = kith_reader_u8(&r);
    uint64_t time = kith_reader_u64(&r);
    if (r.failed || kind != KITH_RECORD_HEAD || version == 0 || time > INT64_MAX)
        return KITH_ECORRUPT;
    if (version != KITH_RECORD_VERSION)
        return KITH_EVERSION;
    *time_ms = (int64_t)time;
    return KITH_OK;
}

static int read_string(struct kith_db *db, struct kith_slice name, int64_t expiry_ms, struct kith_slice value)
{
    struct kith_key key;
    if (kith_db_find(db, name, -1, &key))
        return KITH_EEXIST;
    int status = kith_key_set_string(&key, value, false);
    if (status == KITH_OK && expiry_ms >= 0)
        status = kith_key_set_expiry(&key, expiry_ms);
    return status;
}

static int begin_object(struct kith_loader *loader, const struct loading *described, struct kith_slice name)
{
    struct loading *loading = malloc(sizeof *loading);
    if (!loading)
        return KITH_ENOMEM;
    *loading = *described;
    loading->name = malloc(name.length + 1);
    if (!loading->name)
        goto fail;
    if (name.length)
        memcpy(loading->name, name.data, name.length);
    loading->name_length = name.length;
    if (add_object(loader, loading) == KITH_OK)
        return KITH_OK;
fail:
    free_loading(loading);
    return KITH_ENOMEM;
}

static int read_key(struct kith_loader *loader, struct kith_reader *r)
{
    uint64_t db_index = kith_reader_varint(r);
    uint8_t flags = kith_reader_u8(r);
    int64_t expiry_ms = flags & KITH_RECORD_EXPIRES ? (int64_t)kith_reader_u64(r) : -1;
    struct kith_slice name = kith_reader_slice(r);
    if (r->failed || (flags & KITH_RECORD_EXPIRES && expiry_ms < 0))
        return corrupt(loader, "bad key");
    if (db_index >= loader->engine->db_count) {
        loader->problem = "it has more databases than this server: raise `databases`";
        return KITH_EINVAL;
    }
    struct kith_db *db = &loader->engine->dbs[db_index];
    enum kith_type type = (enum kith_type)(flags & KITH_RECORD_TYPE);
    loader->key_count++;
    bool in_parts = flags & KITH_RECORD_IN_PARTS;
    if (in_parts && type != KITH_STRING)
        return corrupt(loader, "bad key");
    if (type == KITH_STRING && !in_parts) {
        struct kith_slice value = kith_reader_slice(r);
        if (r->failed || r->length)
            return corrupt(loader, "bad string");
        int status = read_string(db, name, expiry_ms, value);
        return status == KITH_EEXIST ? corrupt(loader, "a key stands there twice") : status;
    }
    const struct kith_type_ops *ops = kith_type_ops(type);
    if (!ops && !in_parts) {
        loader->problem = "it has a type that this version does not know";
        return KITH_EVERSION;
    }
    if (kith_reader_varint(r) != loader->next_id || r->failed || r->length)
        return corrupt(loader, "bad object id");
    struct loading described = {.db = db, .ops = ops, .expiry_ms = expiry_ms, .type = type};
    return begin_object(loader, &described, name);
}

static int read_string_part(struct kith_loader *loader, struct loading *loading, struct kith_slice part)
{
    if (part.length > KITH_STRING_BYTES_MAX - loading->text.length)
        return corrupt(loader, "a string longer than any may be");
    kith_buf_append(&loading->text, part.data, part.length);
    return loading->text.failed ? KITH_ENOMEM : KITH_OK;
}

static int read_part(struct kith_loader *loader, struct kith_reader *r)
{
    struct loading **slot = object_slot(loader, kith_reader_varint(r));
    if (!slot || r->failed)
        return corrupt(loader, "a part of no object");
    struct loading *loading = *slot;
    if (!loading->ops)
        return read_string_part(loader, loading, kith_reader_bytes(r, r->length));
    void *object = loading->ops->load(loader->engine, loading->object, r);
    if (!object || r->failed || r->length) {
        if (object)
            loading->object = object;
        return corrupt(loader, "damaged value, or no memory for it");
    }
    loading->object = object;
    return KITH_OK;
}

static int finish_string(struct kith_loader *loader, struct loading *loading)
{
    struct kith_slice name = kith_slice(loading->name, loading->name_length);
    int status = read_string(loading->db, name, loading->expiry_ms, kith_buf_slice(&loading->text));
    return status == KITH_EEXIST ? corrupt(loader, "a key stands there twice") : status;
}

static int finish_object(struct kith_loader *loader, struct loading *loading)
{
    if (!loading->ops)
        return finish_string(loader, loading);
    if (!loading->object)
        return corrupt(loader, "an object without parts");
    int status = loading->ops->loaded ? loading->ops->loaded(loader->engine, loading->object) : KITH_OK;
    if (status)
        return status == KITH_ECORRUPT ? corrupt(loader, "damaged value") : status;
    if (loading->ops->count(loading->object) == 0)
        return corrupt(loader, "an object without elements");
    struct kith_key key;
    if (kith_db_find(loading->db, kith_slice(loading->name, loading->name_length), -1, &key))
        return corrupt(loader, "a key stands there twice");
    status = kith_key_set_object(&key, loading->type, loading->object, false);
    if (status)
        return status;
    loading->object = NULL;
    return loading->expiry_ms >= 0 ? kith_key_set_expiry(&key, loading->expiry_ms) : KITH_OK;
}

static int read_done(struct kith_loader *loader, struct kith_reader *r)
{
    struct loading **slot = object_slot(loader, kith_reader_varint(r));
    if (!slot || r->failed || r->length)
        return corrupt(loader, "an end of no object");
    struct loading *loading = *slot;
    int status = finish_object(loader, loading);
    if (status)
        return status;
    *slot = NULL;
    free_loading(loading);
    compact(loader);
    return KITH_OK;
}

static int read_request(struct kith_loader *loader, struct kith_reader *r)
{
    struct kith_requests *requests = &loader->engine->requests;
    struct kith_request_entry *room;
    struct kith_slice id = kith_reader_slice(r);
    uint8_t kept = kith_reader_u8(r);
    struct kith_slice reply = kith_reader_slice(r);
    if (r->failed || r->length || !id.length || id.length > KITH_REQUEST_ID_MAX || kept > 1 ||
        reply.length > KITH_REQUEST_REPLY_MAX || (!kept && reply.length) || kith_requests_find(requests, id))
        return corrupt(loader, "a damaged request");
    if (kith_requests_reserve(requests, id, &room) != KITH_OK)
        return KITH_ENOMEM;
    kith_requests_add(requests, room, reply, kept);
    return KITH_OK;
}

static int read_upstream(struct kith_loader *loader, struct kith_reader *r)
{
    struct kith_upstream read = {.phase = (enum kith_upstream_phase)kith_reader_u8(r)};
    struct kith_slice host = kith_reader_slice(r);
    uint64_t port = kith_reader_varint(r);
    read.link = kith_reader_varint(r);
    read.load = kith_reader_varint(r);
    struct kith_slice replid = kith_reader_slice(r);
    read.offset = (int64_t)kith_reader_varint(r);
    uint64_t db = kith_reader_varint(r);
    read.left_out_commands = kith_reader_varint(r);
    read.left_out_unlisted = kith_reader_varint(r);
    if (r->failed || r->length || loader->engine->upstream.link || !read.link ||
        read.phase > KITH_UPSTREAM_LIVE || host.length > KITH_UPSTREAM_HOST_MAX ||
        (host.length && memchr(host.data, '\0', host.length)) || port > UINT16_MAX || read.offset < 0 ||
        db > INT32_MAX || (replid.length && !kith_upstream_is_replid(replid)) ||
        (read.phase == KITH_UPSTREAM_OFF) != !port || (read.phase == KITH_UPSTREAM_LIVE && !replid.length))
        return corrupt(loader, "a damaged record of the upstream");
    memcpy(read.host, host.data ? host.data : "", host.length);
    memcpy(read.replid, replid.data ? replid.data : "", replid.length);
    read.port = (uint16_t)port;
    read.db = (uint32_t)db;
    loader->engine->upstream = read;
    return KITH_OK;
}

static int read_left_out(struct kith_loader *loader, struct kith_reader *r)
{
    uint64_t db = kith_reader_varint(r);
    struct kith_slice key = kith_reader_slice(r), why = kith_reader_slice(r);
    if (r->failed || r->length || db > INT32_MAX || !loader->engine->upstream.link ||
        why.length > KITH_UPSTREAM_WHY_MAX)
        return corrupt(loader, "a damaged record of a key that was left out");
    int status = kith_upstream_list(loader->engine, (uint32_t)db, key, why);
    return status == KITH_EINVAL ? corrupt(loader, "a key that was left out comes twice, or too many do")
                                 : status;
}

static int read_end(struct kith_loader *loader, struct kith_reader *r)
{
    uint64_t keys = kith_reader_varint(r), objects = kith_reader_varint(r);
    compact(loader);
    if (r->failed || r->length || keys != loader->key_count || objects != loader->next_id ||
        loader->first_id != loader->next_id)
        return corrupt(loader, "the counts at the end do not fit what came before");
    loader->ended = true;
    return KITH_OK;
}

static int read_record(struct kith_loader *loader, struct kith_slice body)
{
    struct kith_reader r = kith_reader(body);
    uint8_t kind = kith_reader_u8(&r);
    if (loader->ended)
        return corrupt(loader, "records after the end");
    if (!loader->started && kind != KITH_RECORD_HEAD)
        return corrupt(loader, "it does not begin with a head");
    switch (kind) {
    case KITH_RECORD_HEAD:
        return read_head(loader, &r);
    case KITH_RECORD_KEY:
        return read_key(loader, &r);
    case KITH_RECORD_PART:
        return read_part(loader, &r);
    case KITH_RECORD_REQUEST:
        return read_request(loader, &r);
    case KITH_RECORD_UPSTREAM:
        return read_upstream(loader, &r);
    case KITH_RECORD_LEFT_OUT:
        return read_left_out(loader, &r);
    case KITH_RECORD_DONE:
        return read_done(loader, &r);
    case KITH_RECORD_END:
        return read_end(loader, &r);
    default:
        return corrupt(loader, "unknown kind of record");
    }
}

/* Reads the whole records at bytes[0..length); *used receives how far they go. */
static int read_records(struct kith_loader *loader, struct kith_slice bytes, size_t *used)
{
    size_t at = 0;
    int status = KITH_OK;
    while (status == KITH_OK && at < bytes.length) {
        uint64_t length;
        size_t prefix = kith_varint_get(bytes.data + at, bytes.length - at, &length);
        if (!prefix && bytes.length - at >= KITH_VARINT_MAX)
            status = corrupt(loader, "bad record length");
        if (!prefix || length > bytes.length - at - prefix)
            break;
        status = read_record(loader, kith_slice(bytes.data + at + prefix, (size_t)length));
        if (status == KITH_OK)
            at += prefix + (size_t)length;
    }
    loader->offset += at;
    *used = at;
    return status;
}

static int feed(struct kith_loader *loader, struct kith_slice bytes)
{
    size_t used;
    int status;
    if (loader->carry.length == 0) {
        status = read_records(loader, bytes, &used);
        if (status == KITH_OK)
            kith_buf_append(&loader->carry, bytes.data + used, bytes.length - used);
    } else {
        kith_buf_append(&loader->carry, bytes.data, bytes.length);
        if (loader->carry.failed)
            return KITH_ENOMEM;
        status = read_records(loader, kith_buf_slice(&loader->carry), &used);
        kith_buf_consume(&loader->carry, used);
    }
    return status == KITH_OK && loader->carry.failed ? KITH_ENOMEM : status;
}

static int report(struct kith_loader *loader, int status, struct kith_error *error)
{
    loader->status = status;
    return kith_error_set(error, status, "checkpoint stream, record at byte %llu: %s",
                          (unsigned long long)loader->offset,
                          loader->problem ? loader->problem : kith_status_text(status));
}

static int open_loader(struct kith_engine *engine)
{
    for (uint32_t i = 0; i < engine->db_count; i++)
        if (kith_db_count(&engine->dbs[i]) > 0)
            return KITH_EINVAL;
    if (engine->checkpoint)
        return KITH_EBUSY;
    engine->loader = calloc(1, sizeof *engine->loader);
    if (!engine->loader)
        return KITH_ENOMEM;
    engine->loader->engine = engine;
    kith_buf_init(&engine->loader->carry);
    return KITH_OK;
}

int kith_engine_load(struct kith_engine *engine, struct kith_slice bytes, struct kith_error *error)
{
    if (!engine->loader) {
        int status = open_loader(engine);
        if (status)
            return kith_error_set(error, status, "checkpoint: %s", kith_status_text(status));
    }
    struct kith_loader *loader = engine->loader;
    int status = loader->status ? loader->status : feed(loader, bytes);
    return status ? report(loader, status, error) : KITH_OK;
}

int kith_engine_load_finish(struct kith_engine *engine, struct kith_error *error)
{
    struct kith_loader *loader = engine->loader;
    if (!loader)
        return kith_error_set(error, KITH_ECORRUPT, "checkpoint stream: empty");
    int status = loader->status;
    if (status == KITH_OK && (!loader->ended || loader->carry.length > 0))
        status = corrupt(loader, "the stream is cut short");
    if (status)
        return report(loader, status, error);
    kith_loader_close(engine);
    return KITH_OK;
}
