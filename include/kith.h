/* libkith: Kith inside your process, the same engine, log and files as kithd.
 *
 *     struct kith *db;
 *     char message[KITH_MESSAGE_BYTES];
 *     if (kith_open(&db, "data", NULL, message) != 0) ...message says what is wrong and what to do...
 *     kith_put(db, "greeting", "hello", 5);
 *     kith_close(db);
 *
 * Threads: a database belongs to one thread at a time; calls on it must not overlap (hold a lock of your own to
 * share it). Different databases are independent. Threads inside write the log and link vectors; they never call you.
 *
 * Ownership: what you pass in is borrowed for the call. What a function gives out through `**out` is yours, to be freed
 * by the function that its comment names. Texts that come out have a zero byte behind them, which `length` leaves out.
 *
 * Errors: 0 or a count is success, a negative value is an enum kith_failure, and kith_message() holds a sentence about
 * it until the next call on the same database. Outputs are untouched on failure.
 *
 * Clocks and keys: keys expire by the wall clock, exactly. Work in the background (linking vectors, checkpoints) makes
 * progress inside your calls; call kith_idle() where you have time. */
#ifndef KITH_H
#define KITH_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { KITH_MESSAGE_BYTES = 512 };

enum kith_failure {
    KITH_FAIL_MEMORY = -1,   /* an allocation failed; nothing has changed */
    KITH_FAIL_IO = -2,       /* the disk failed: see the message */
    KITH_FAIL_ARGUMENT = -3, /* an argument is out of its documented range */
    KITH_FAIL_CORRUPT =
        -4,                /* the folder is damaged: the message names file and offset; nothing was changed */
    KITH_FAIL_FULL = -5,   /* the disk is full */
    KITH_FAIL_ABSENT = -6, /* no such key, set or element */
    KITH_FAIL_BUSY = -8,   /* another process has the folder open */
    KITH_FAIL_TOO_BIG = -9,  /* past a limit */
    KITH_FAIL_VERSION = -11, /* the folder was written by a newer version */
    KITH_FAIL_PERMISSION = -12,
    KITH_FAIL_COMMAND = -100 /* the command was refused: the message is its error reply */
};

/* When a write returns. ALWAYS: the disk has it. EVERYSEC, NONE: the log thread has it; a crash of the machine loses
 * about the last second, or more. */
enum kith_sync { KITH_SYNC_ALWAYS, KITH_SYNC_EVERYSEC, KITH_SYNC_NONE };

struct kith;

struct kith_options {
    enum kith_sync sync;
    unsigned worker_count;   /* threads that link vectors; 0: one a core */
    unsigned database_count; /* for SELECT; 0: 16 */
};

/* Opens a folder, making it if it is not there, and recovers what it holds; `folder` NULL: in memory only.
 *   options    NULL: all zero
 *   message    NULL, or room for KITH_MESSAGE_BYTES: what went wrong, on failure
 * The database is closed with kith_close. */
int kith_open(struct kith **out, const char *folder, const struct kith_options *options, char *message);
/* Waits for what is in flight, writes a checkpoint, and frees the database. close(NULL) is safe. A negative value says
 * that something may not have reached the disk. */
int kith_close(struct kith *db);

/* The sentence about the last failure; "" after a success. Borrowed until the next call. */
const char *kith_message(const struct kith *db);
/* Background work for up to about `milliseconds`; 1: there is more, 0: all is done. */
int kith_idle(struct kith *db, unsigned milliseconds);

/* --- Keys that hold bytes. `key` is zero-terminated. --- */

int kith_put(struct kith *db, const char *key, const void *value, size_t length);
/* KITH_FAIL_ABSENT when there is no such key. *out is freed with kith_free. */
int kith_get(struct kith *db, const char *key, char **out, size_t *length);
/* 1: deleted, 0: there was none. */
int kith_delete(struct kith *db, const char *key);
void kith_free(void *memory);

/* --- Vectors: sets of named elements, compared by cosine. --- */

/* Adds or replaces an element; the first one fixes the set's dimension. 1: new, 0: replaced. `vector` has `dim_count`
 * float32 elements, any alignment. */
int kith_vector_add(struct kith *db, const char *set, const char *element, const float *vector,
                    size_t dim_count);

struct kith_match {
    const char *element; /* lives as long as the kith_matches it is in */
    size_t length;
    double score; /* 1: the same direction, 0: the opposite one, as VSIM's WITHSCORES */
};

struct kith_matches {
    size_t count;
    struct kith_match match[]; /* nearest first */
};

/* The up to `count` elements nearest to `vector`. Freed with kith_free. A set that is not there has none. */
int kith_vector_search(struct kith *db, const char *set, const float *vector, size_t dim_count, size_t count,
                       struct kith_matches **out);

/* --- Every other command of Kith, as a client would send it. --- */

enum kith_answer_type {
    KITH_ANSWER_NULL,
    KITH_ANSWER_STATUS, /* text: "OK" */
    KITH_ANSWER_ERROR,  /* text: "WRONGTYPE ..." */
    KITH_ANSWER_TEXT,   /* text: bytes */
    KITH_ANSWER_INT,    /* integer */
    KITH_ANSWER_BOOL,   /* integer, 0 or 1 */
    KITH_ANSWER_DOUBLE, /* number */
    KITH_ANSWER_ARRAY,  /* items */
    KITH_ANSWER_SET,    /* items */
    KITH_ANSWER_MAP     /* items: key, value, key, value; count is even */
};

struct kith_answer {
    enum kith_answer_type type;
    int64_t integer;
    double number;
    const char *text;
    size_t length; /* of text */
    const struct kith_answer *items;
    size_t count; /* of items */
};

/* Runs argv[0..argc). `lengths` NULL: the arguments are zero-terminated. *out is the whole reply, in RESP3's types; an
 * error reply is an answer too, and the return value is 0. Freed with kith_free(*out), all of it at once.
 * Commands that need a server (CLIENT, CONFIG, INFO, ...) answer with an error. */
int kith_command(struct kith *db, int argc, const char *const *argv, const size_t *lengths,
                 const struct kith_answer **out);

#ifdef __cplusplus
}
#endif

#endif
