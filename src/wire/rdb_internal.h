/* The reader's state, shared by the machine that carries programs out (rdb.c), what is done with values that are whole
 * (rdb_values.c) and with vector sets (rdb_vectors.c). */
#ifndef KITH_WIRE_RDB_INTERNAL_H
#define KITH_WIRE_RDB_INTERNAL_H

#include "base/buf.h"
#include "wire/rdb.h"
#include "wire/rdb_types.h"

enum {
    RDB_STASH = 24,  /* the longest run of bytes that is read at once: two lengths behind a byte */
    RDB_DEPTH = 3,   /* of repetitions in each other */
    RDB_TEXTS = 3,   /* kept at the same time */
    RDB_NUMBERS = 4, /* the same */
};

struct kith_rdb {
    struct kith_rdb_limits limits;
    const struct kith_rdb_events *events;
    void *arg;
    int status; /* a failure that stays, or 1 after the end */
    struct kith_error error;

    /* Input. What the end of a piece cut off waits in the stash until the rest is there. */
    const uint8_t *at, *end, *sum_from;
    uint8_t stash[RDB_STASH];
    size_t stash_length;
    uint64_t offset; /* behind the last byte that was used */
    uint64_t sum;    /* CRC-64 of the bytes up to the end's mark */
    bool is_summed;

    uint32_t version;
    bool is_valkey;

    /* The program: the next operation, and what is repeated around it. */
    const char *op;
    char detour; /* an operation to be carried out first, 0: none */
    struct {
        const char *body;
        uint64_t left;
    } loops[RDB_DEPTH];
    unsigned depth;
    uint64_t skip_left; /* bytes to be passed over first */

    /* A string that is being read: its bytes go to `filling`. */
    struct kith_buf *filling; /* NULL: none */
    uint64_t fill_left;
    uint64_t expanded; /* it is compressed, and this long when it is not; 0: it is not */
    struct kith_buf packed;

    /* What operations keep for each other. */
    struct kith_buf texts[RDB_TEXTS];
    unsigned text_count;
    uint64_t numbers[RDB_NUMBERS];
    unsigned number_count;
    uint64_t count, last;
    double score;
    bool has_score;

    const struct kith_rdb_type *type; /* of the key that is being read */
    struct kith_rdb_key key;
    struct kith_buf name;
    char module[KITH_RDB_TYPE_NAME];
    uint64_t elements, left_out;
    const char *why;

    struct kith_rdb_vectors vectors;
    struct kith_buf components; /* floats */
};

/* Sets the error's text, with the offset and the key, and returns `status`. */
int kith_rdb_fail(struct kith_rdb *rdb, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int kith_rdb_no_memory(struct kith_rdb *rdb);

static inline struct kith_slice kith_rdb_text(const struct kith_rdb *rdb, unsigned index)
{
    return kith_buf_slice(&rdb->texts[index]);
}

/* Operations on what is whole: each returns KITH_OK or a failure. They may set rdb->op. */
int kith_rdb_do_string(struct kith_rdb *rdb);
int kith_rdb_do_begin(struct kith_rdb *rdb, const struct kith_rdb_vectors *vectors);
int kith_rdb_do_field(struct kith_rdb *rdb);
int kith_rdb_do_member(struct kith_rdb *rdb);
int kith_rdb_do_packed(struct kith_rdb *rdb);
int kith_rdb_do_end(struct kith_rdb *rdb);
int kith_rdb_do_skipped(struct kith_rdb *rdb, const char *why);
int kith_rdb_do_module(struct kith_rdb *rdb);
int kith_rdb_do_other(struct kith_rdb *rdb, const char *what, struct kith_slice name);
int kith_rdb_do_library(struct kith_rdb *rdb);
int kith_rdb_do_module_data(struct kith_rdb *rdb);
int kith_rdb_do_aux(struct kith_rdb *rdb);

/* A vector set's header is in numbers: begins the key, or passes it over. */
int kith_rdb_do_vectors(struct kith_rdb *rdb);
int kith_rdb_do_vector(struct kith_rdb *rdb);

/* Forgets the key: nothing of it is told any more. */
void kith_rdb_key_done(struct kith_rdb *rdb);

#endif
