/* The writing half of checkpoints: a walk that may be overtaken. Whoever is about to change something that
 * the walk has not reached yet appends its old state first, to the step's output or between steps to
 * `pending`; so the records come in no particular order, but each key exactly once. After an abort the walk
 * goes on without writing, because all entries must carry the same bit before the next checkpoint may flip
 * its meaning. */
#include "engine/checkpoint.h"

#include "base/assert.h"
#include "base/varint.h"
#include "engine/record.h"
#include "engine/state.h"

#include <stdlib.h>

enum {
    LENGTH_BYTES = 5,        /* of a part's length, written before the part is known: a padded varint */
    BUCKETS_PER_STEP = 2048, /* about a tenth of a millisecond when all of them are saved already */
};

/* A string longer than this goes in parts, step by step, as large objects do. Under test nearly every string does. */
#ifdef KITH_DEBUG
enum { WHOLE_STRING_BYTES = 2, STRING_PART_BYTES = 3 };
#else
enum { WHOLE_STRING_BYTES = 1 << 20, STRING_PART_BYTES = 128 << 10 };
#endif

/* An object under way, or a long string: `ops` is then NULL and `object` the key's entry, which keeps the bit of what is
 * not saved until it is, so that a change finds it (save_entry) and the entry cannot go away unseen. */
struct kith_save {
    struct kith_checkpoint *checkpoint;
    struct kith_save *next;
    const struct kith_type_ops *ops;
    void *object;
    size_t offset; /* of a string: how much of it is written */
    uint64_t object_id;
    size_t part_start; /* in the sink */
    bool orphan;       /* its key is gone: the object is ours to release */
};

/* A flushed table that the walk has still to go through. */
struct flushed {
    struct flushed *next;
    struct kith_table *table;
    struct kith_avl *expiries;
    uint64_t cursor;
    uint32_t db_index;
    bool walked; /* to be released once no string of it is under way */
};

struct kith_checkpoint {
    struct kith_engine *engine;
    struct kith_buf pending;        /* what changes saved between two steps */
    struct kith_buf *sink;          /* `pending`, or the output of the step under way */
    struct kith_save *first, *last; /* objects under way, oldest first */
    struct kith_save *spare;
    struct flushed *flushed;
    uint32_t db_index; /* of the walk */
    uint64_t cursor;
    uint64_t key_count, object_count;
    bool failed;   /* out of memory: the next step aborts */
    bool cleaning; /* aborted: nothing is written any more */
};

/* --- Records. --- */

static char *put_record_start(char *p, size_t body_bytes, enum kith_record_kind kind)
{
    p += kith_varint_put(p, body_bytes);
    *p++ = (char)kind;
    return p;
}

static void append_short_record(struct kith_buf *out, enum kith_record_kind kind, const char *body,
                                size_t length)
{
    char start[KITH_VARINT_MAX + 1];
    kith_buf_append(out, start, (size_t)(put_record_start(start, length + 1, kind) - start));
    kith_buf_append(out, body, length);
}

static void append_head(struct kith_checkpoint *checkpoint)
{
    char body[9] = {KITH_RECORD_VERSION};
    kith_put_u64(body + 1, (uint64_t)checkpoint->engine->now_ms);
    append_short_record(checkpoint->sink, KITH_RECORD_HEAD, body, sizeof body);
}

/* All at once, since they change with every entry: they are bounded. */
static void append_requests(struct kith_checkpoint *checkpoint)
{
    const struct kith_requests *requests = &checkpoint->engine->requests;
    for (size_t i = 0; i < requests->count; i++) {
        const struct kith_request_entry *entry = kith_requests_at(requests, i);
        struct kith_slice id = kith_request_id(entry), reply = kith_request_reply(entry);
        size_t body =
            1 + kith_varint_size(id.length) + id.length + 1 + kith_varint_size(reply.length) + reply.length;
        char start[KITH_VARINT_MAX + 1];
        kith_buf_append(checkpoint->sink, start,
                        (size_t)(put_record_start(start, body, KITH_RECORD_REQUEST) - start));
        kith_buf_append_slice(checkpoint->sink, id);
        kith_buf_append_char(checkpoint->sink, entry->kept);
        kith_buf_append_slice(checkpoint->sink, reply);
    }
}

static void append_record(struct kith_checkpoint *checkpoint, enum kith_record_kind kind,
                          const struct kith_buf *body)
{
    char start[KITH_VARINT_MAX + 1];
    kith_buf_append(checkpoint->sink, start,
                    (size_t)(put_record_start(start, body->length + 1, kind) - start));
    kith_buf_append(checkpoint->sink, body->data, body->length);
    checkpoint->failed |= body->failed;
}

static void append_left_out(void *arg, uint32_t db_index, struct kith_slice key, struct kith_slice why)
{
    struct kith_buf body = {0};
    kith_buf_append_varint(&body, db_index);
    kith_buf_append_slice(&body, key);
    kith_buf_append_slice(&body, why);
    append_record(arg, KITH_RECORD_LEFT_OUT, &body);
    kith_buf_fini(&body);
}

/* All at once, too. What never followed anybody says nothing. */
static void append_upstream(struct kith_checkpoint *checkpoint)
{
    const struct kith_upstream *upstream = &checkpoint->engine->upstream;
    struct kith_buf body = {0};
    if (!upstream->link)
        return;
    kith_buf_append_char(&body, (char)upstream->phase);
    kith_buf_append_slice(&body, kith_slice(upstream->host, strlen(upstream->host)));
    kith_buf_append_varint(&body, upstream->port);
    kith_buf_append_varint(&body, upstream->link);
    kith_buf_append_varint(&body, upstream->load);
    kith_buf_append_slice(&body, kith_slice(upstream->replid, strlen(upstream->replid)));
    kith_buf_append_varint(&body, (uint64_t)upstream->offset);
    kith_buf_append_varint(&body, upstream->db);
    kith_buf_append_varint(&body, upstream->left_out_commands);
    kith_buf_append_varint(&body, upstream->left_out_unlisted);
    append_record(checkpoint, KITH_RECORD_UPSTREAM, &body);
    kith_buf_fini(&body);
    kith_upstream_each(upstream, append_left_out, checkpoint);
}

static void append_end(struct kith_checkpoint *checkpoint)
{
    char body[2 * KITH_VARINT_MAX];
    size_t length = kith_varint_put(body, checkpoint->key_count);
    length += kith_varint_put(body + length, checkpoint->object_count);
    append_short_record(checkpoint->sink, KITH_RECORD_END, body, length);
}

static void append_done(struct kith_save *save)
{
    char body[KITH_VARINT_MAX];
    append_short_record(save->checkpoint->sink, KITH_RECORD_DONE, body,
                        kith_varint_put(body, save->object_id));
}

/* With `whole` a string's bytes follow its name, otherwise the id under which they or an object's parts come. */
static void append_key(struct kith_checkpoint *checkpoint, uint32_t db_index, const void *entry, bool whole,
                       uint64_t object_id)
{
    struct kith_slice name = kith_entry_key(entry), value = {0};
    enum kith_type type = kith_keyspace_type(entry);
    int64_t expiry_ms = kith_keyspace_expiry(entry);
    size_t value_bytes = kith_varint_size(object_id);
    if (whole) {
        value = kith_keyspace_string(entry);
        value_bytes = kith_varint_size(value.length) + value.length;
    }
    size_t body = 1 + kith_varint_size(db_index) + 1 + (expiry_ms >= 0 ? 8 : 0) +
                  kith_varint_size(name.length) + name.length + value_bytes;
    char *room = kith_buf_reserve(checkpoint->sink, body + KITH_VARINT_MAX), *p = room;
    if (!room)
        return;
    p = put_record_start(p, body, KITH_RECORD_KEY);
    p += kith_varint_put(p, db_index);
    *p++ = (char)(type | (expiry_ms >= 0 ? KITH_RECORD_EXPIRES : 0) |
                  (type == KITH_STRING && !whole ? KITH_RECORD_IN_PARTS : 0));
    if (expiry_ms >= 0) {
        kith_put_u64(p, (uint64_t)expiry_ms);
        p += 8;
    }
    p += kith_varint_put(p, name.length);
    memcpy(p, name.data, name.length);
    p += name.length;
    p += kith_varint_put(p, whole ? value.length : object_id);
    if (value.length)
        memcpy(p, value.data, value.length);
    p += value.length;
    checkpoint->sink->length += (size_t)(p - room);
    checkpoint->key_count++;
}

struct kith_buf *kith_save_part_begin(struct kith_save *save)
{
    struct kith_buf *sink = save->checkpoint->sink;
    save->part_start = sink->length;
    char *room = kith_buf_reserve(sink, LENGTH_BYTES + 1 + KITH_VARINT_MAX);
    if (room) {
        room[LENGTH_BYTES] = KITH_RECORD_PART;
        sink->length += LENGTH_BYTES + 1 + kith_varint_put(room + LENGTH_BYTES + 1, save->object_id);
    }
    return sink;
}

void kith_save_part_end(struct kith_save *save)
{
    struct kith_buf *sink = save->checkpoint->sink;
    if (sink->failed)
        return;
    uint64_t body = sink->length - save->part_start - LENGTH_BYTES;
    KITH_ASSERT(body < UINT64_C(1) << (7 * LENGTH_BYTES));
    uint8_t *p = (uint8_t *)sink->data + save->part_start;
    for (int i = 0; i < LENGTH_BYTES; i++)
        p[i] = (uint8_t)((body >> (7 * i) & 0x7f) | (i + 1 < LENGTH_BYTES ? 0x80 : 0));
}

/* --- Objects under way. --- */

static struct kith_save *new_save(struct kith_checkpoint *checkpoint, const struct kith_type_ops *ops,
                                  void *object)
{
    struct kith_save *save = checkpoint->spare;
    checkpoint->spare = NULL;
    if (!save)
        save = malloc(sizeof *save);
    if (!save)
        return NULL;
    *save = (struct kith_save){
        .checkpoint = checkpoint,
        .ops = ops,
        .object = object,
        .object_id = checkpoint->object_count,
    };
    return save;
}

static void free_save(struct kith_checkpoint *checkpoint, struct kith_save *save)
{
    free(checkpoint->spare);
    checkpoint->spare = save;
}

static void enqueue(struct kith_checkpoint *checkpoint, struct kith_save *save)
{
    if (checkpoint->last)
        checkpoint->last->next = save;
    else
        checkpoint->first = save;
    checkpoint->last = save;
}

static void dequeue(struct kith_checkpoint *checkpoint)
{
    struct kith_save *save = checkpoint->first;
    checkpoint->first = save->next;
    if (!checkpoint->first)
        checkpoint->last = NULL;
}

static void save_object(struct kith_checkpoint *checkpoint, uint32_t db_index, const void *entry)
{
    const struct kith_type_ops *ops = kith_type_ops(kith_keyspace_type(entry));
    void *object = kith_keyspace_object(entry);
    struct kith_save *save = new_save(checkpoint, ops, object);
    if (!save) {
        checkpoint->failed = true;
        return;
    }
    append_key(checkpoint, db_index, entry, false, checkpoint->object_count++);
    int more = ops->save(save, object);
    if (more > 0) {
        enqueue(checkpoint, save);
        return;
    }
    checkpoint->failed |= more < 0;
    append_done(save);
    free_save(checkpoint, save);
}

/* --- Long strings under way. --- */

static struct kith_save *find_string(const struct kith_checkpoint *checkpoint, const void *entry)
{
    struct kith_save *save = checkpoint->first;
    while (save && (save->ops || save->object != entry))
        save = save->next;
    return save;
}

static void unlink_save(struct kith_checkpoint *checkpoint, struct kith_save *save)
{
    struct kith_save *before = NULL, *at = checkpoint->first;
    for (; at != save; at = at->next)
        before = at;
    if (before)
        before->next = save->next;
    else
        checkpoint->first = save->next;
    if (checkpoint->last == save)
        checkpoint->last = before;
}

static void mark_saved(void *entry)
{
    kith_entry_set_meta(entry, kith_entry_meta(entry) ^ KITH_KEY_SAVED);
}

/* False when there is no memory for it: the checkpoint has failed then. */
static bool begin_string(struct kith_checkpoint *checkpoint, uint32_t db_index, void *entry)
{
    struct kith_save *save = new_save(checkpoint, NULL, entry);
    if (!save) {
        checkpoint->failed = true;
        return false;
    }
    append_key(checkpoint, db_index, entry, false, checkpoint->object_count++);
    enqueue(checkpoint, save);
    return true;
}

/* Writes about budget_bytes of a string; returns whether there is more. */
static bool write_string(struct kith_save *save, size_t budget_bytes)
{
    struct kith_slice value = kith_keyspace_string(save->object);
    for (size_t written = 0; written < budget_bytes && save->offset < value.length;) {
        size_t rest = value.length - save->offset;
        size_t length = rest < STRING_PART_BYTES ? rest : STRING_PART_BYTES;
        kith_buf_append(kith_save_part_begin(save), value.data + save->offset, length);
        kith_save_part_end(save);
        save->offset += length;
        written += length;
    }
    return save->offset < value.length;
}

/* Forgets the strings under way, because the checkpoint has failed; their entries look saved, as all will. */
static void drop_strings(struct kith_checkpoint *checkpoint)
{
    struct kith_save *save = checkpoint->first, *next;
    for (; save; save = next) {
        next = save->next;
        if (save->ops)
            continue;
        mark_saved(save->object);
        unlink_save(checkpoint, save);
        free_save(checkpoint, save);
    }
}

/* `now`: the entry is about to change, so it must be saved when this returns. */
static void save_entry(struct kith_checkpoint *checkpoint, uint32_t db_index, void *entry, bool now)
{
    if (((kith_entry_meta(entry) ^ checkpoint->engine->saved_bit) & KITH_KEY_SAVED) == 0)
        return;
    bool writing = !checkpoint->cleaning && !checkpoint->failed;
    bool is_string = kith_keyspace_type(entry) == KITH_STRING;
    struct kith_save *under_way = is_string ? find_string(checkpoint, entry) : NULL;
    if (!now &&
        (under_way || (writing && is_string && kith_keyspace_string(entry).length > WHOLE_STRING_BYTES &&
                       begin_string(checkpoint, db_index, entry))))
        return;
    mark_saved(entry);
    writing = writing && !checkpoint->failed;
    if (under_way) {
        if (writing) {
            write_string(under_way, SIZE_MAX);
            append_done(under_way);
        }
        unlink_save(checkpoint, under_way);
        free_save(checkpoint, under_way);
    } else if (writing && is_string) {
        append_key(checkpoint, db_index, entry, true, 0);
    } else if (writing) {
        save_object(checkpoint, db_index, entry);
    }
}

static void step_string(struct kith_checkpoint *checkpoint, size_t budget_bytes)
{
    struct kith_save *save = checkpoint->first;
    if (write_string(save, budget_bytes))
        return;
    append_done(save);
    mark_saved(save->object);
    dequeue(checkpoint);
    free_save(checkpoint, save);
}

static void step_object(struct kith_checkpoint *checkpoint, size_t budget_bytes)
{
    struct kith_save *save = checkpoint->first;
    int more = save->ops->save_step(save, save->object, budget_bytes);
    if (more > 0)
        return;
    checkpoint->failed |= more < 0;
    dequeue(checkpoint);
    append_done(save);
    if (save->orphan)
        kith_lazy_release_object(checkpoint->engine, save->ops, save->object);
    free_save(checkpoint, save);
}

/* --- What changes ask for. --- */

void kith_checkpoint_touch(struct kith_engine *engine, struct kith_db *db, void *entry)
{
    KITH_ASSERT(engine->checkpoint);
    save_entry(engine->checkpoint, db->index, entry, true);
}

bool kith_checkpoint_take_object(struct kith_engine *engine, const struct kith_type_ops *ops, void *object)
{
    if (!engine->checkpoint || !ops->saving)
        return false;
    struct kith_save *save = ops->saving(object);
    if (!save)
        return false;
    save->orphan = true;
    return true;
}

bool kith_checkpoint_take_table(struct kith_engine *engine, struct kith_db *db, struct kith_table *table,
                                struct kith_avl *expiries)
{
    struct kith_checkpoint *checkpoint = engine->checkpoint;
    if (!checkpoint)
        return false;
    bool passed = checkpoint->db_index > db->index && !checkpoint->first;
    if (checkpoint->cleaning || checkpoint->failed || passed) {
        drop_strings(checkpoint); /* there are some only when it has failed */
        return false;
    }
    struct flushed *flushed = malloc(sizeof *flushed);
    if (!flushed) {
        checkpoint->failed = true;
        drop_strings(checkpoint);
        return false;
    }
    *flushed = (struct flushed){
        .next = checkpoint->flushed,
        .table = table,
        .expiries = expiries,
        .cursor = checkpoint->db_index == db->index ? checkpoint->cursor : 0,
        .db_index = db->index,
    };
    checkpoint->flushed = flushed;
    return true;
}

/* --- The walk. --- */

struct walk {
    struct kith_checkpoint *checkpoint;
    uint32_t db_index;
};

static void walk_entry(void *arg, void *entry)
{
    const struct walk *walk = arg;
    save_entry(walk->checkpoint, walk->db_index, entry, false);
}

static void walk_flushed(struct kith_checkpoint *checkpoint)
{
    struct flushed *flushed = checkpoint->flushed;
    struct walk walk = {checkpoint, flushed->db_index};
    if (!flushed->walked) {
        flushed->cursor = kith_table_scan(flushed->table, flushed->cursor, walk_entry, &walk);
        flushed->walked = !flushed->cursor;
    }
    if (!flushed->walked || checkpoint->first)
        return;
    checkpoint->flushed = flushed->next;
    kith_lazy_release_table(checkpoint->engine, flushed->table, flushed->expiries);
    free(flushed);
}

/* One bucket; false at the end of the last database. */
static bool walk_bucket(struct kith_checkpoint *checkpoint)
{
    if (checkpoint->flushed) {
        walk_flushed(checkpoint);
        return true;
    }
    if (checkpoint->db_index == checkpoint->engine->db_count)
        return false;
    struct walk walk = {checkpoint, checkpoint->db_index};
    struct kith_table *table = checkpoint->engine->dbs[checkpoint->db_index].table;
    checkpoint->cursor = kith_table_scan(table, checkpoint->cursor, walk_entry, &walk);
    if (!checkpoint->cursor)
        checkpoint->db_index++;
    return true;
}

static void close_checkpoint(struct kith_checkpoint *checkpoint)
{
    checkpoint->engine->checkpoint = NULL;
    kith_buf_fini(&checkpoint->pending);
    free(checkpoint->spare);
    free(checkpoint);
}

int kith_engine_checkpoint_begin(struct kith_engine *engine)
{
    if (engine->checkpoint || engine->loader)
        return KITH_EBUSY;
    struct kith_checkpoint *checkpoint = calloc(1, sizeof *checkpoint);
    if (!checkpoint)
        return KITH_ENOMEM;
    checkpoint->engine = engine;
    kith_buf_init(&checkpoint->pending);
    checkpoint->sink = &checkpoint->pending;
    append_head(checkpoint);
    append_requests(checkpoint);
    append_upstream(checkpoint);
    engine->checkpoint = checkpoint;
    engine->saved_bit ^= KITH_KEY_SAVED;
    engine->background.links_unsaved = 0;
    return KITH_OK;
}

/* Returns whether there is more. */
static bool run_step(struct kith_checkpoint *checkpoint, size_t budget_bytes)
{
    size_t start = checkpoint->sink->length, used = 0;
    for (int buckets = 0; buckets < BUCKETS_PER_STEP && used < budget_bytes;) {
        if (checkpoint->failed || checkpoint->sink->failed)
            return true;
        if (checkpoint->first) {
            if (checkpoint->first->ops)
                step_object(checkpoint, budget_bytes - used);
            else
                step_string(checkpoint, budget_bytes - used);
            buckets += 64;
        } else if (!walk_bucket(checkpoint)) {
            append_end(checkpoint);
            return false;
        }
        buckets++;
        used = checkpoint->sink->length - start;
    }
    return true;
}

int kith_engine_checkpoint_step(struct kith_engine *engine, struct kith_buf *out, size_t budget_bytes)
{
    struct kith_checkpoint *checkpoint = engine->checkpoint;
    if (!checkpoint || checkpoint->cleaning)
        return KITH_EINVAL;
    checkpoint->failed |= checkpoint->pending.failed;
    kith_buf_append(out, checkpoint->pending.data, checkpoint->pending.length);
    kith_buf_clear(&checkpoint->pending);
    checkpoint->sink = out;
    bool more = run_step(checkpoint, budget_bytes);
    checkpoint->sink = &checkpoint->pending;
    if (checkpoint->failed || out->failed) {
        kith_engine_checkpoint_abort(engine);
        return KITH_ENOMEM;
    }
    if (more)
        return 1;
    close_checkpoint(checkpoint);
    return 0;
}

void kith_engine_checkpoint_abort(struct kith_engine *engine)
{
    struct kith_checkpoint *checkpoint = engine->checkpoint;
    if (!checkpoint || checkpoint->cleaning)
        return;
    checkpoint->cleaning = true;
    kith_buf_fini(&checkpoint->pending);
    drop_strings(checkpoint);
    while (checkpoint->first) {
        struct kith_save *save = checkpoint->first;
        dequeue(checkpoint);
        save->ops->save_abort(save, save->object);
        if (save->orphan)
            kith_lazy_release_object(engine, save->ops, save->object);
        free_save(checkpoint, save);
    }
    while (checkpoint->flushed) {
        struct flushed *flushed = checkpoint->flushed;
        checkpoint->flushed = flushed->next;
        kith_lazy_release_table(engine, flushed->table, flushed->expiries);
        free(flushed);
    }
}

bool kith_checkpoint_idle(struct kith_engine *engine, size_t budget)
{
    struct kith_checkpoint *checkpoint = engine->checkpoint;
    if (!checkpoint || !checkpoint->cleaning)
        return false;
    for (size_t buckets = 0; buckets < budget; buckets++) {
        if (!walk_bucket(checkpoint)) {
            close_checkpoint(checkpoint);
            return false;
        }
    }
    return true;
}

void kith_checkpoint_close(struct kith_engine *engine)
{
    kith_engine_checkpoint_abort(engine);
    if (engine->checkpoint)
        close_checkpoint(engine->checkpoint);
}
