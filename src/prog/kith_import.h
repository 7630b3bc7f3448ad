/* What the importers share: a window of commands in flight, and its accounts. */
#ifndef KITH_PROG_KITH_IMPORT_H
#define KITH_PROG_KITH_IMPORT_H

#include "prog/kith_options.h"
#include "prog/progress.h"

/* What one command in flight carries. */
struct kith_import_unit {
    uint64_t first; /* its row or line */
    uint32_t count; /* how many of them; 0: it only completes the one before */
};

struct kith_import {
    struct kith_client *client;
    const char *unit;               /* "row", "line": what numbers in messages count */
    size_t pipeline;                /* commands in flight at most */
    struct kith_import_unit *units; /* owned: of each command in flight, a ring of `pipeline` */
    uint64_t sent, answered;        /* commands */
    uint64_t done;                  /* rows or lines that were answered without an error */
    uint64_t sum;                   /* of integer replies, true being 1 */
};

/* Connects. close works on a zeroed one. */
int kith_import_open(struct kith_import *import, const struct kith_options *options, const char *unit,
                     size_t pipeline, struct kith_error *error);
void kith_import_close(struct kith_import *import);
/* Queues one command, and reads replies when the window is full. */
int kith_import_put(struct kith_import *import, const struct kith_slice *argv, size_t argc,
                    struct kith_import_unit unit, struct kith_error *error);
/* The same for a command that is written already: `argc` arguments as kith_request_put_argument makes them. */
int kith_import_put_written(struct kith_import *import, size_t argc, struct kith_slice arguments,
                            struct kith_import_unit unit, struct kith_error *error);

int kith_import_vectors(int argc, char **argv, struct kith_options *options);
int kith_import_keys(int argc, char **argv, struct kith_options *options);
int kith_import_rdb(int argc, char **argv, struct kith_options *options);

/* Reads replies until no more than pending_max commands are unanswered. An error reply is KITH_EPERM, and the text says
 * which row it was. */
int kith_import_settle(struct kith_import *import, size_t pending_max, struct kith_error *error);
/* "60,000 vectors in 12.30 s, 4,878/s" to standard output. */
void kith_import_summary(const struct kith_progress *progress, uint64_t rows, const char *what);
/* A whole number in [min, max], digits only. */
bool kith_import_parse_count(const char *text, unsigned long long min, unsigned long long max,
                             unsigned long long *out);

#endif
