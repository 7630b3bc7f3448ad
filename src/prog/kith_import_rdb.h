/* What the two halves of kith import FILE.rdb share: the events of the reader become commands (kith_import_rdb_send.c),
 * and what came of each key is counted and told (kith_import_rdb.c). */
#ifndef KITH_PROG_KITH_IMPORT_RDB_H
#define KITH_PROG_KITH_IMPORT_RDB_H

#include "prog/kith_options.h"
#include "prog/progress.h"
#include "wire/rdb.h"

/* How many keys of a kind or type; the last place is for all types that found none of their own. */
enum { KITH_TALLY_TYPES = 32 };

struct kith_tally {
    struct {
        char type[24];
        uint64_t count;
    } types[KITH_TALLY_TYPES];
    uint64_t count;
};

void kith_tally_add(struct kith_tally *tally, const char *type);

/* A command whose reply is awaited. */
struct kith_rdb_sent {
    uint64_t number;     /* its key's, from 1 on */
    struct kith_buf key; /* for a message */
    uint32_t db;
    enum kith_rdb_kind kind;
    uint64_t elements;
    bool is_last; /* of its key */
};

struct kith_rdb_job {
    const char *prefix; /* NULL: none */
    size_t pipeline;
    bool is_quiet;
    struct kith_progress progress;

    struct kith_client *client;
    struct kith_rdb_sent *sent; /* owned: of each command in flight, a ring of `pipeline` */
    uint64_t put, answered;     /* commands */
    uint64_t refused_number;    /* the last key of which a command was refused */
    struct kith_error error;

    /* The database that commands go to, and whether the server has it. */
    uint32_t db;
    bool is_db_chosen, has_db;

    /* The key that is being read. */
    uint64_t number;
    struct kith_buf key, arguments; /* the name with its prefix; the arguments of the command that grows */
    size_t argc, batched;           /* in `arguments`; elements of them */
    bool is_begun;                  /* something of it was sent */
    bool is_expired, is_left_out;
    struct kith_rdb_vectors vectors;
    int64_t now_ms;

    struct kith_tally taken, left_out;
    uint64_t elements, expired,
        parts; /* elements taken; keys past their time; keys of which a part was left out */
};

/* One line that says what was left out, and the count of it; is_part: a part of the key. `why` may be NULL; a db of
 * UINT32_MAX: it is in none. */
void kith_rdb_job_left_out(struct kith_rdb_job *job, uint32_t db, const char *type, struct kith_slice key,
                           const char *why, bool is_part);

/* Turns keys into commands; its argument is a job whose client is connected. */
extern const struct kith_rdb_events kith_rdb_job_events;
/* Reads replies until no more than `pending_max` commands are unanswered. A command that is refused leaves its key out;
 * a server that refuses everything (no memory, no leader, no rights) is a failure, with job->error. */
int kith_rdb_job_settle(struct kith_rdb_job *job, size_t pending_max);

#endif
