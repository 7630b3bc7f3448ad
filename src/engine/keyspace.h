/* Databases, keys and their values.
 *
 * A key is one allocation in the layout of ds/entry.h: the meta byte holds the type and flags, the payload is
 *
 *     [expiry, 8 bytes, when KITH_KEY_EXPIRES] [string: varint length, bytes | others: 8-byte pointer
 *      to the object]
 *
 * so that a small string costs one allocation and no pointer. Handlers see keys only through `struct
 * kith_key`.
 *
 * Expiry: an AVL tree per database ordered by time. A key past its time is absent to every reader; it is
 * removed by the next entry of the log whose time is past it (kith_engine_apply), never by a read. */
#ifndef KITH_ENGINE_KEYSPACE_H
#define KITH_ENGINE_KEYSPACE_H

#include "base/slice.h"
#include "engine/command.h"

#include <stdint.h>

enum kith_type {
    KITH_STRING = 0,
    KITH_LIST = 1,
    KITH_SET = 2,
    KITH_ZSET = 3,
    KITH_HASH = 4,
    KITH_STREAM = 5,
    KITH_VSET = 6
};

struct kith_db;
struct kith_engine;
struct kith_save;
struct kith_reader;

/* What the keyspace must know of a type whose value is an object. One static const instance per type, in the
 * file of that type; listed in types.c. */
struct kith_type_ops {
    const char *name; /* as TYPE answers */
    void (*close)(void *object);
    size_t (*memory_bytes)(const void *object);
    size_t (*count)(const void *object);         /* elements: how much work freeing it is */
    const char *(*encoding)(const void *object); /* as OBJECT ENCODING answers */
    /* A deep copy for COPY; NULL on failure. ops->copy may be NULL: "ERR not supported for this key". */
    void *(*copy)(struct kith_engine *engine, const void *object);
    /* Frees about `budget` elements and returns whether there are more, so that a large object goes in steps;
     * after the first call only drain and close follow. NULL: close does it all at once. */
    bool (*drain)(void *object, size_t budget);
    /* Equal for equal content, whatever the order or layout in memory and whatever the engine's seeds:
     * combine the elements' hashes with +. Built from kith_digest_bytes. */
    uint64_t (*digest)(const void *object);
    /* Checkpoints: see checkpoint.h. `save` appends the object in parts and returns 0, or returns 1 when it
     * is large: then save_step follows (1: more, 0: done), about budget_bytes at a time, and `saving` tells
     * which save the object is in (NULL: none). Types without large objects leave the last three NULL. */
    int (*save)(struct kith_save *save, void *object);
    int (*save_step)(struct kith_save *save, void *object, size_t budget_bytes);
    void (*save_abort)(struct kith_save *save, void *object);
    struct kith_save *(*saving)(const void *object);
    /* `load` takes one part (object is NULL for the first one) and returns the object, or NULL (damaged, or
     * no memory), having freed nothing: the caller closes what the earlier parts made. */
    void *(*load)(struct kith_engine *engine, void *object, struct kith_reader *part);
    /* Called once after all parts were loaded; may be NULL. A status. */
    int (*loaded)(struct kith_engine *engine, void *object);
};

const struct kith_type_ops *kith_type_ops(enum kith_type type); /* NULL for strings and unknown numbers */

/* A hash of bytes for digests: the same in every process. Chain with `seed`. */
uint64_t kith_digest_bytes(uint64_t seed, struct kith_slice bytes);
/* Of all keys, values and expiries; two engines that applied the same entries give the same. Walks
 * everything: for tests, the simulator and DEBUG DIGEST. */
uint64_t kith_engine_digest(struct kith_engine *engine);

/* A key that was looked up; valid until the next change of the keyspace. */
struct kith_key {
    struct kith_db *db;
    struct kith_slice name; /* borrowed from the caller */
    uint64_t hash;
    int64_t now_ms;
    void *entry; /* NULL: there is no such key (or its time has passed) */
};

/* Finds a key for reading. Returns whether it exists. */
bool kith_key_find(struct kith_call *call, struct kith_slice name, struct kith_key *key);
/* The same by database, for SCAN-like walks, COPY and MOVE. */
bool kith_db_find(struct kith_db *db, struct kith_slice name, int64_t now_ms, struct kith_key *key);
bool kith_db_find_for_write(struct kith_db *db, struct kith_slice name, int64_t now_ms, struct kith_key *key);
/* Finds a key for a change: a key past its time is removed first, and a running checkpoint saves its old
 * content first. Every handler that changes a value in place goes through here. */
bool kith_key_find_for_write(struct kith_call *call, struct kith_slice name, struct kith_key *key);

static inline bool kith_key_exists(const struct kith_key *key)
{
    return key->entry != NULL;
}

enum kith_type kith_key_type(const struct kith_key *key); /* exists */
struct kith_slice
kith_key_string(const struct kith_key *key);       /* exists, KITH_STRING; borrowed until a change */
void *kith_key_object(const struct kith_key *key); /* exists, not KITH_STRING; borrowed */
/* As OBJECT ENCODING answers; a string's is by its content: "int", "embstr" (up to 44 bytes) or "raw". */
const char *kith_key_encoding(const struct kith_key *key);
const char *kith_type_name(enum kith_type type); /* as TYPE answers */

/* Finds, checks the type and writes WRONGTYPE itself. Returns 1 (found), 0 (no such key), -1 (replied). */
int kith_key_open_read(struct kith_call *call, size_t argument, enum kith_type type, struct kith_key *key);
int kith_key_open_write(struct kith_call *call, size_t argument, enum kith_type type, struct kith_key *key);

/* Creates or overwrites. The expiry is dropped unless keep_expiry. KITH_ENOMEM leaves the old value. */
int kith_key_set_string(struct kith_key *key, struct kith_slice value, bool keep_expiry);
/* A string of `length` bytes whose old content up to min(old, length) is kept and whose new part is zero;
 * *out is where the bytes are (valid until the next change). For APPEND, SETRANGE, SETBIT. Keeps the expiry.
 */
int kith_key_resize_string(struct kith_key *key, size_t length, char **out);
/* Takes ownership of `object` on success. Overwrites whatever the key held. */
int kith_key_set_object(struct kith_key *key, enum kith_type type, void *object, bool keep_expiry);
/* Removes the key and frees its value (large values in the background or in steps). */
void kith_key_remove(struct kith_key *key);
/* Removes the key if its object has no elements left: what every removing handler calls last. */
void kith_key_remove_if_empty(struct kith_key *key);

/* `to` gets the value and the expiry of `from` and whatever it held is gone; `from` is removed. They are
 * different keys, both found for write. KITH_ENOMEM: `from` is as it was. For RENAME and MOVE. */
int kith_key_transfer(struct kith_key *from, struct kith_key *to);

/* Absolute time in ms, or -1 when the key does not expire. */
int64_t kith_key_expiry(const struct kith_key *key);
int kith_key_set_expiry(struct kith_key *key,
                        int64_t when_ms); /* KITH_ENOMEM leaves the old one; -1 removes it */

/* Databases. */
uint32_t kith_db_index(const struct kith_db *db);
size_t kith_db_count(const struct kith_db *db); /* keys, those past their time included until removed */
size_t kith_db_expiry_count(const struct kith_db *db);
struct kith_db *kith_engine_db(struct kith_engine *engine, uint32_t index); /* NULL out of range */
void kith_db_flush(struct kith_db *db); /* freeing goes on in steps afterwards */
/* A random live key (borrowed until a change); false when there is none. */
bool kith_db_random(struct kith_db *db, int64_t now_ms, struct kith_rng *rng, struct kith_slice *name);
/* One step of SCAN: reports live keys; returns the next cursor, 0 at the end. */
uint64_t kith_db_scan(struct kith_db *db, int64_t now_ms, uint64_t cursor,
                      void (*report)(void *arg, struct kith_slice name, enum kith_type type), void *arg);

#endif
