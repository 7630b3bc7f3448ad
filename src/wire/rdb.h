/* A reader of what SAVE writes and a master sends to its replica: Redis' and Valkey's RDB files, Redis' versions 1 to
 * 12 and Valkey's 80. It is fed bytes in pieces of any size, as they come from a file or a socket, and calls back with
 * the keys of the types that there are here; a key of another type is passed over exactly and told by its name.
 *
 *     kith_rdb_open(&rdb, NULL, &events, arg);
 *     while ((status = kith_rdb_feed(rdb, bytes, length, &used)) == 0)
 *         ...the next bytes...
 *     status == 1: the end was read and its checksum is right; < 0: kith_rdb_error tells what and where
 *
 * What is held: one string at a time (its compressed form too, while it is expanded), or the parts of one element; it
 * grows with the bytes that have come, not with the lengths that they claim. Packed values (small hashes and sorted
 * sets) are one string. */
#ifndef KITH_WIRE_RDB_H
#define KITH_WIRE_RDB_H

#include "base/slice.h"
#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

enum {
    KITH_RDB_VERSION_MAX = 12,    /* of files that begin with REDIS */
    KITH_RDB_VERSION_VALKEY = 80, /* of files that begin with VALKEY */
    KITH_RDB_DIM_MAX = 65536,     /* components of a vector */
    KITH_RDB_TYPE_NAME = 10,      /* of a module's type: nine characters and a zero */
};

struct kith_rdb_limits {
    uint64_t value_max; /* bytes of one string: a key, a value, a field, a packed value */
};

/* As proto-max-bulk-len. */
#define KITH_RDB_LIMITS_DEFAULT                                                                              \
    {                                                                                                        \
        .value_max = 512u << 20                                                                              \
    }

enum kith_rdb_kind {
    KITH_RDB_STRING,
    KITH_RDB_HASH,
    KITH_RDB_ZSET,
    KITH_RDB_VECTORS, /* a vector set of Redis 8 */
    KITH_RDB_OTHER,   /* passed over */
};

/* Valid, as the bytes it points to, until the callback that got it returns. */
struct kith_rdb_key {
    uint32_t db;
    struct kith_slice name;
    int64_t expiry_ms; /* absolute, since 1970; -1: none. It may be in the past: the reader has no clock */
    enum kith_rdb_kind kind;
    const char *
        type; /* "string", "hash", "zset", "vectorset", "list", "set", "stream", or a module type's own name */
};

/* How a vector set keeps its vectors, in VADD's words. */
enum kith_rdb_codes { KITH_RDB_NOQUANT, KITH_RDB_Q8, KITH_RDB_BIN };

struct kith_rdb_vectors {
    uint32_t dim;
    uint32_t m;
    enum kith_rdb_codes codes;
    uint64_t count; /* as the file says: elements to come */
};

/* One element. Its vector as VEMB would give it: at its length before normalizing, and as near as the codes tell it
 * (BIN: 1 and -1). All components are finite. */
struct kith_rdb_vector {
    struct kith_slice element;
    const float *components; /* dim of them */
    uint32_t dim;
    struct kith_slice attributes; /* JSON as the user gave it; length 0: none */
};

/* Any may be NULL; all slices are borrowed for the call. A negative status ends the reading, and feed returns it.
 * For each key, in the file's order, one of
 *     string
 *     begin (vectors: with its form), any number of field, member or vector, end
 *     skipped
 * A key is told at most once in a sound file; whether fields are told twice in a damaged one is not checked. */
struct kith_rdb_events {
    int (*string)(void *arg, const struct kith_rdb_key *key, struct kith_slice value);
    /* vectors: NULL unless key->kind is KITH_RDB_VECTORS */
    int (*begin)(void *arg, const struct kith_rdb_key *key, const struct kith_rdb_vectors *vectors);
    int (*field)(void *arg, const struct kith_rdb_key *key, struct kith_slice field, struct kith_slice value);
    int (*member)(void *arg, const struct kith_rdb_key *key, struct kith_slice member, double score);
    int (*vector)(void *arg, const struct kith_rdb_key *key, const struct kith_rdb_vector *vector);
    /* elements: fields, members or vectors that were told. left_out: how many were not, and why (a phrase such as
     * "fields with a time to live"; NULL when left_out is 0). Both may be 0: Redis drops such a key. */
    int (*end)(void *arg, const struct kith_rdb_key *key, uint64_t elements, uint64_t left_out,
               const char *why);
    /* A key that is left out whole; `why` is a phrase for people: "lists are not there yet". */
    int (*skipped)(void *arg, const struct kith_rdb_key *key, const char *why);
    /* What is no key and was left out: "function library" (name empty), "module data" (name: the module type's). */
    int (*other)(void *arg, const char *what, struct kith_slice name);
    /* Fields about the file itself: "redis-ver" 7.0.15, "repl-stream-db" 0, "ctime" ... */
    int (*aux)(void *arg, struct kith_slice name, struct kith_slice value);
};

struct kith_rdb;

/* limits: copied; NULL: the default. events: borrowed for the reader's life. KITH_ENOMEM. */
int kith_rdb_open(struct kith_rdb **out, const struct kith_rdb_limits *limits,
                  const struct kith_rdb_events *events, void *arg);
/* close(NULL) is safe; at any time, also in the middle of a file. */
void kith_rdb_close(struct kith_rdb *rdb);

/* Reads on. *used is how many of the bytes belonged to the file: all of them unless the end was among them.
 * Returns 0: there must be more; 1: the end was read, what follows in `data` is not the file's; it stays 1.
 * KITH_ECORRUPT: the bytes are not what they should be, or their checksum is wrong; KITH_EVERSION: of a version, or
 * with a type, that is not known here; KITH_ETOOBIG: past a limit; KITH_ENOMEM; or what an event returned. A failure
 * is final: the same comes from every further call. Events may have been called before it. */
int kith_rdb_feed(struct kith_rdb *rdb, const void *data, size_t length, size_t *used);

/* A sentence with the offset, after a failure: "byte 1234: ...". Never NULL. Borrowed. */
const char *kith_rdb_error(const struct kith_rdb *rdb);
/* For a file that ended while feed still returned 0: the same kind of sentence. Returns KITH_ECORRUPT, or the failure
 * there was before. */
int kith_rdb_cut_short(struct kith_rdb *rdb);

uint64_t kith_rdb_offset(const struct kith_rdb *rdb);  /* bytes read so far */
uint32_t kith_rdb_version(const struct kith_rdb *rdb); /* 0 before the header was read */

#endif
