/* Keys and values: one allocation a key. What makes this file careful is that an entry may be reallocated by
 * a change, and then three places must learn its new address: the table, the expiry tree and the kith_key in
 * the caller's hand.
 *
 *     | meta | varint name length | name | [expiry 8] | varint length, bytes     (strings)
 *                                                     | object pointer 8         (other types)
 */
#include "engine/keyspace.h"

#include "base/assert.h"
#include "engine/state.h"

#include <stdlib.h>

/* --- Reading entries. --- */

static const char *value_place(const void *entry)
{
    const char *p = kith_entry_payload_const(entry);
    return kith_entry_meta(entry) & KITH_KEY_EXPIRES ? p + sizeof(int64_t) : p;
}

int64_t kith_keyspace_expiry(const void *entry)
{
    if (!(kith_entry_meta(entry) & KITH_KEY_EXPIRES))
        return -1;
    int64_t when_ms;
    memcpy(&when_ms, kith_entry_payload_const(entry), sizeof when_ms);
    return when_ms;
}

struct kith_slice kith_keyspace_string(const void *entry)
{
    const char *p = value_place(entry);
    uint64_t length = (uint8_t)p[0];
    if (__builtin_expect(length < 0x80, 1))
        return kith_slice(p + 1, (size_t)length);
    size_t used = kith_varint_get(p, KITH_VARINT_MAX, &length);
    return kith_slice(p + used, (size_t)length);
}

void *kith_keyspace_object(const void *entry)
{
    void *object;
    memcpy(&object, value_place(entry), sizeof object);
    return object;
}

size_t kith_keyspace_entry_bytes(const void *entry)
{
    const char *end = value_place(entry) + sizeof(void *);
    if (kith_keyspace_type(entry) == KITH_STRING) {
        struct kith_slice value = kith_keyspace_string(entry);
        end = value.data + value.length;
    }
    return (size_t)(end - (const char *)entry);
}

static bool is_past(const void *entry, int64_t now_ms)
{
    return kith_entry_meta(entry) & KITH_KEY_EXPIRES && kith_keyspace_expiry(entry) <= now_ms;
}

/* --- Finding. --- */

/* For the commands of an upstream that is followed no key is past its time: it says itself when one ends. */
static bool is_gone(const struct kith_db *db, const void *entry, int64_t now_ms)
{
    return is_past(entry, now_ms) && !db->engine->upstream.applying;
}

static void find(struct kith_db *db, struct kith_slice name, uint64_t hash, int64_t now_ms,
                 struct kith_key *key)
{
    *key = (struct kith_key){
        .db = db,
        .name = name,
        .hash = hash,
        .now_ms = now_ms,
        .entry = kith_table_find(db->table, name, hash),
    };
}

static bool find_for_read(struct kith_db *db, struct kith_slice name, uint64_t hash, int64_t now_ms,
                          struct kith_key *key)
{
    find(db, name, hash, now_ms, key);
    if (key->entry && is_gone(db, key->entry, now_ms))
        key->entry = NULL;
    return key->entry != NULL;
}

static bool find_for_write(struct kith_db *db, struct kith_slice name, uint64_t hash, int64_t now_ms,
                           struct kith_key *key)
{
    find(db, name, hash, now_ms, key);
    if (!key->entry)
        return false;
    if ((kith_entry_meta(key->entry) ^ db->engine->saved_bit) & KITH_KEY_SAVED)
        kith_checkpoint_touch(db->engine, db, key->entry);
    if (is_gone(db, key->entry, now_ms)) {
        kith_key_remove(key);
        db->engine->expired_count++;
    }
    return key->entry != NULL;
}

static uint64_t hash_of(const struct kith_call *call, struct kith_slice name)
{
    if (call->hashed && name.data == call->argv[call->command->keys.first].data)
        return call->key_hash;
    return kith_table_hash(call->db->table, name);
}

bool kith_key_find(struct kith_call *call, struct kith_slice name, struct kith_key *key)
{
    bool found = find_for_read(call->db, name, hash_of(call, name), call->now_ms, key);
    call->engine->hit_count += found;
    call->engine->miss_count += !found;
    return found;
}

bool kith_key_find_for_write(struct kith_call *call, struct kith_slice name, struct kith_key *key)
{
    return find_for_write(call->db, name, hash_of(call, name), call->now_ms, key);
}

bool kith_db_find(struct kith_db *db, struct kith_slice name, int64_t now_ms, struct kith_key *key)
{
    return find_for_read(db, name, kith_table_hash(db->table, name), now_ms, key);
}

bool kith_db_find_for_write(struct kith_db *db, struct kith_slice name, int64_t now_ms, struct kith_key *key)
{
    return find_for_write(db, name, kith_table_hash(db->table, name), now_ms, key);
}

static int checked(struct kith_call *call, enum kith_type type, const struct kith_key *key)
{
    if (!key->entry)
        return 0;
    if (kith_key_type(key) == type)
        return 1;
    kith_call_wrong_type(call);
    return -1;
}

int kith_key_open_read(struct kith_call *call, size_t argument, enum kith_type type, struct kith_key *key)
{
    kith_key_find(call, call->argv[argument], key);
    return checked(call, type, key);
}

int kith_key_open_write(struct kith_call *call, size_t argument, enum kith_type type, struct kith_key *key)
{
    kith_key_find_for_write(call, call->argv[argument], key);
    return checked(call, type, key);
}

enum kith_type kith_key_type(const struct kith_key *key)
{
    return kith_keyspace_type(key->entry);
}

struct kith_slice kith_key_string(const struct kith_key *key)
{
    KITH_DEBUG_ASSERT(kith_key_type(key) == KITH_STRING);
    return kith_keyspace_string(key->entry);
}

void *kith_key_object(const struct kith_key *key)
{
    KITH_DEBUG_ASSERT(kith_key_type(key) != KITH_STRING);
    return kith_keyspace_object(key->entry);
}

int64_t kith_key_expiry(const struct kith_key *key)
{
    return key->entry ? kith_keyspace_expiry(key->entry) : -1;
}

/* --- Changing. --- */

enum { SMALL_ENTRY_BYTES = 512 }; /* up to here realloc's copy of bytes that nobody needs is cheap */

/* A change under way: where the new value goes, and what dies once it is there. */
struct change {
    char *value;
    void *stale; /* the old allocation, when the new value may have been borrowed from it */
    enum kith_type old_type;
    void *old_object;
};

static void finish(const struct kith_key *key, const struct change *change)
{
    free(change->stale);
    if (change->old_object)
        kith_lazy_release_object(key->db->engine, kith_type_ops(change->old_type), change->old_object);
}

/* Whether an allocation of `have` bytes serves for `want`: yes while less than half of it is wasted. */
static bool fits(size_t have, size_t want)
{
    return want <= have && (have <= 64 || want >= have / 2);
}

/* The entry under `key` is at `entry` from now on. */
static void moved(struct kith_key *key, void *entry)
{
    if (entry == key->entry)
        return;
    /* The old entry may be freed: only its address is compared. */
    kith_table_replace(key->db->table, key->entry, entry, key->hash); // NOLINT(clang-analyzer-unix.Malloc)
    int64_t expiry_ms = kith_keyspace_expiry(entry);
    if (expiry_ms >= 0) {
        uint64_t tree_key = kith_avl_key_from_int64(expiry_ms);
        int status = kith_avl_replace_ref(key->db->expiries, tree_key, key->entry, entry);
        KITH_ASSERT(status == KITH_OK);
    }
    key->entry = entry;
}

static int grow(struct kith_key *key, size_t want)
{
    void *entry = realloc(key->entry, want);
    if (!entry)
        return KITH_ENOMEM;
    moved(key, entry);
    return KITH_OK;
}

/* A fresh allocation with the old one's first `copy_bytes`; the old one is the caller's to free. */
static int replace(struct kith_key *key, size_t want, size_t copy_bytes, void **stale)
{
    void *entry = malloc(want > copy_bytes ? want : copy_bytes);
    if (!entry)
        return KITH_ENOMEM;
    memcpy(entry, key->entry, copy_bytes);
    *stale = key->entry;
    moved(key, entry);
    return KITH_OK;
}

/* A new key without expiry. */
static int create(struct kith_key *key, enum kith_type type, size_t value_bytes, struct change *change)
{
    struct kith_db *db = key->db;
    void *entry = kith_entry_open((uint8_t)(type | db->engine->saved_bit), key->name, value_bytes);
    if (!entry)
        return KITH_ENOMEM;
    int status = kith_table_insert(db->table, entry, key->hash);
    if (status) {
        free(entry);
        return status;
    }
    key->entry = entry;
    change->value = kith_entry_payload(entry);
    return KITH_OK;
}

static void drop_expiry(struct kith_key *key)
{
    uint8_t meta = kith_entry_meta(key->entry);
    if (!(meta & KITH_KEY_EXPIRES))
        return;
    kith_expiry_drop(key->db, kith_keyspace_expiry(key->entry), key->entry);
    kith_entry_set_meta(key->entry, (uint8_t)(meta & ~KITH_KEY_EXPIRES));
}

static void check_saved(const struct kith_key *key)
{
    /* A change in place that did not go through find_for_write would tear a running checkpoint. */
    KITH_ASSERT(((kith_entry_meta(key->entry) ^ key->db->engine->saved_bit) & KITH_KEY_SAVED) == 0);
}

/* Makes room for a value of `value_bytes` of `type`, nothing of the old one being kept. `source` is where the
 * caller will copy from. Follow with the copy, then finish(). */
static int overwrite(struct kith_key *key, enum kith_type type, size_t value_bytes, bool keep_expiry,
                     struct kith_slice source, struct change *change)
{
    *change = (struct change){0};
    if (!key->entry)
        return create(key, type, value_bytes, change);
    check_saved(key);
    char *old = key->entry;
    bool keep = keep_expiry && kith_entry_meta(old) & KITH_KEY_EXPIRES;
    size_t have = kith_keyspace_entry_bytes(old), header = (size_t)(kith_entry_payload(old) - old);
    size_t with_expiry = (size_t)(value_place(old) - old);
    size_t want = (keep ? with_expiry : header) + value_bytes;
    if (kith_keyspace_type(old) != KITH_STRING) {
        change->old_type = kith_keyspace_type(old);
        change->old_object = kith_keyspace_object(old);
    }
    if (!fits(have, want)) {
        bool borrowed = source.data >= old && source.data < old + have;
        /* The expiry comes along even when it goes: the tree finds the entry by it. */
        size_t least = want > with_expiry ? want : with_expiry;
        int status = borrowed || have > SMALL_ENTRY_BYTES ? replace(key, least, with_expiry, &change->stale)
                                                          : grow(key, least);
        if (status)
            return status;
    }
    if (!keep)
        drop_expiry(key);
    uint8_t meta = kith_entry_meta(key->entry);
    kith_entry_set_meta(key->entry, (uint8_t)((meta & ~KITH_KEY_TYPE) | type));
    change->value = (char *)value_place(key->entry);
    return KITH_OK;
}

int kith_key_set_string(struct kith_key *key, struct kith_slice value, bool keep_expiry)
{
    struct change change;
    size_t prefix = kith_varint_size(value.length);
    int status = overwrite(key, KITH_STRING, prefix + value.length, keep_expiry, value, &change);
    if (status)
        return status;
    /* The bytes first: they may lie where the length goes. */
    if (value.length)
        memmove(change.value + prefix, value.data, value.length);
    kith_varint_put(change.value, value.length);
    finish(key, &change);
    return KITH_OK;
}

int kith_key_set_object(struct kith_key *key, enum kith_type type, void *object, bool keep_expiry)
{
    struct change change;
    int status = overwrite(key, type, sizeof object, keep_expiry, kith_slice(NULL, 0), &change);
    if (status)
        return status;
    memcpy(change.value, &object, sizeof object);
    finish(key, &change);
    return KITH_OK;
}

/* Moves the value's bytes to where a value of the new length has them, and writes the length. */
static char *set_length(void *entry, struct kith_slice old, size_t length)
{
    char *p = (char *)value_place(entry);
    size_t prefix = kith_varint_size(length), kept = old.length < length ? old.length : length;
    memmove(p + prefix, old.data, kept);
    kith_varint_put(p, length);
    return p + prefix;
}

int kith_key_resize_string(struct kith_key *key, size_t length, char **out)
{
    struct change change;
    if (!key->entry) {
        size_t prefix = kith_varint_size(length);
        int status = create(key, KITH_STRING, prefix + length, &change);
        if (status)
            return status;
        kith_varint_put(change.value, length);
        *out = memset(change.value + prefix, 0, length);
        return KITH_OK;
    }
    check_saved(key);
    KITH_ASSERT(kith_key_type(key) == KITH_STRING);
    struct kith_slice old = kith_keyspace_string(key->entry);
    size_t have = kith_keyspace_entry_bytes(key->entry);
    size_t at = (size_t)(value_place(key->entry) - (char *)key->entry);
    size_t want = at + kith_varint_size(length) + length;
    if (want > have) {
        size_t offset = (size_t)(old.data - (char *)key->entry);
        int status = grow(key, want);
        if (status)
            return status;
        old.data = (char *)key->entry + offset;
    }
    *out = set_length(key->entry, old, length);
    if (length > old.length)
        memset(*out + old.length, 0, length - old.length);
    if (!fits(have, want) && want < have && grow(key, want) == KITH_OK)
        *out = (char *)kith_keyspace_string(key->entry).data;
    return KITH_OK;
}

/* Takes the entry out of its table and expiry tree and frees it, not the object that it points to. */
static void detach(struct kith_key *key)
{
    struct kith_db *db = key->db;
    void *entry = key->entry;
    if (kith_entry_meta(entry) & KITH_KEY_EXPIRES)
        kith_expiry_drop(db, kith_keyspace_expiry(entry), entry);
    kith_table_remove_entry(db->table, entry, key->hash);
    free(entry);
    key->entry = NULL;
}

void kith_key_remove(struct kith_key *key)
{
    check_saved(key);
    enum kith_type type = kith_key_type(key);
    void *object = type == KITH_STRING ? NULL : kith_keyspace_object(key->entry);
    detach(key);
    if (object)
        kith_lazy_release_object(key->db->engine, kith_type_ops(type), object);
}

void kith_key_remove_if_empty(struct kith_key *key)
{
    if (key->entry && kith_key_type(key) != KITH_STRING &&
        kith_type_ops(kith_key_type(key))->count(kith_key_object(key)) == 0)
        kith_key_remove(key);
}

int kith_key_set_expiry(struct kith_key *key, int64_t when_ms)
{
    check_saved(key);
    int64_t old_ms = kith_keyspace_expiry(key->entry);
    if (when_ms < 0) {
        if (old_ms < 0)
            return KITH_OK;
        size_t value_bytes =
            kith_keyspace_entry_bytes(key->entry) - (size_t)(value_place(key->entry) - (char *)key->entry);
        drop_expiry(key);
        char *p = kith_entry_payload(key->entry);
        memmove(p, p + sizeof when_ms, value_bytes);
        return KITH_OK;
    }
    int status = KITH_OK;
    if (old_ms >= 0) {
        if (old_ms != when_ms)
            status = kith_avl_rekey(key->db->expiries, kith_avl_key_from_int64(old_ms),
                                    kith_avl_key_from_int64(when_ms), key->entry);
        if (status == KITH_OK)
            memcpy(kith_entry_payload(key->entry), &when_ms, sizeof when_ms);
        return status;
    }
    size_t have = kith_keyspace_entry_bytes(key->entry);
    status = grow(key, have + sizeof when_ms);
    if (status)
        return status;
    status = kith_expiry_add(key->db, when_ms, key->entry);
    if (status)
        return status;
    char *p = kith_entry_payload(key->entry);
    memmove(p + sizeof when_ms, p, have - (size_t)(p - (char *)key->entry));
    memcpy(p, &when_ms, sizeof when_ms);
    kith_entry_set_meta(key->entry, kith_entry_meta(key->entry) | KITH_KEY_EXPIRES);
    return KITH_OK;
}

int kith_key_transfer(struct kith_key *from, struct kith_key *to)
{
    check_saved(from);
    int64_t expiry_ms = kith_key_expiry(from);
    enum kith_type type = kith_key_type(from);
    int status = type == KITH_STRING ? kith_key_set_string(to, kith_key_string(from), false)
                                     : kith_key_set_object(to, type, kith_key_object(from), false);
    if (status)
        return status;
    if (expiry_ms >= 0)
        status = kith_key_set_expiry(to, expiry_ms);
    if (status && type != KITH_STRING) {
        detach(to); /* the object stays where it was */
        return status;
    }
    if (status) {
        kith_key_remove(to);
        return status;
    }
    detach(from);
    return KITH_OK;
}

/* --- Databases. --- */

uint32_t kith_db_index(const struct kith_db *db)
{
    return db->index;
}

size_t kith_db_count(const struct kith_db *db)
{
    return kith_table_count(db->table);
}

size_t kith_db_expiry_count(const struct kith_db *db)
{
    return db->expiries ? kith_avl_count(db->expiries) : 0;
}

struct kith_db *kith_engine_db(struct kith_engine *engine, uint32_t index)
{
    return index < engine->db_count ? &engine->dbs[index] : NULL;
}

void kith_keyspace_free_entry(void *engine, void *entry)
{
    enum kith_type type = kith_keyspace_type(entry);
    if (type != KITH_STRING)
        kith_lazy_release_object(engine, kith_type_ops(type), kith_keyspace_object(entry));
    free(entry);
}

static void flush_entry(void *arg, void *entry)
{
    struct kith_db *db = arg;
    struct kith_key key;
    struct kith_slice name = kith_entry_key(entry);
    find(db, name, kith_table_hash(db->table, name), 0, &key);
    if ((kith_entry_meta(entry) ^ db->engine->saved_bit) & KITH_KEY_SAVED)
        kith_checkpoint_touch(db->engine, db, entry);
    kith_key_remove(&key);
}

/* Without memory for a second table: one key after the other, at once. */
static void flush_in_place(struct kith_db *db)
{
    uint64_t cursor = 0;
    do
        cursor = kith_table_scan(db->table, cursor, flush_entry, db);
    while (cursor);
}

void kith_db_flush(struct kith_db *db)
{
    struct kith_table *fresh, *old = db->table;
    struct kith_avl *expiries = db->expiries;
    if (kith_table_count(old) == 0)
        return;
    if (kith_table_open(&fresh, db->engine->options.hash_seed) != KITH_OK) {
        flush_in_place(db);
        return;
    }
    db->table = fresh;
    db->expiries = NULL;
    if (!kith_checkpoint_take_table(db->engine, db, old, expiries))
        kith_lazy_release_table(db->engine, old, expiries);
}

struct scan {
    struct kith_db *db;
    int64_t now_ms;
    void (*report)(void *arg, struct kith_slice name, enum kith_type type);
    void *arg;
};

static void scan_entry(void *arg, void *entry)
{
    struct scan *scan = arg;
    if (!is_past(entry, scan->now_ms))
        scan->report(scan->arg, kith_entry_key(entry), kith_keyspace_type(entry));
}

uint64_t kith_db_scan(struct kith_db *db, int64_t now_ms, uint64_t cursor,
                      void (*report)(void *arg, struct kith_slice name, enum kith_type type), void *arg)
{
    struct scan scan = {.db = db, .now_ms = now_ms, .report = report, .arg = arg};
    return kith_table_scan(db->table, cursor, scan_entry, &scan);
}

bool kith_db_random(struct kith_db *db, int64_t now_ms, struct kith_rng *rng, struct kith_slice *name)
{
    /* Keys past their time are few, since every entry of the log removes some. */
    for (int attempt = 0; attempt < 100; attempt++) {
        void *entry = kith_table_random(db->table, rng);
        if (!entry)
            return false;
        if (is_past(entry, now_ms))
            continue;
        *name = kith_entry_key(entry);
        return true;
    }
    return false;
}
