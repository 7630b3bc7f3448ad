/* What the engine knows of a Redis or Valkey that it follows (REPLICAOF): whom, how far, and what had to be left out.
 *
 * It is state like any key: written by entries only, in checkpoints and in the digest, the same on every member. An
 * entry made from the upstream's stream begins with KITH.UPSTREAM APPLY, which says from which offset to which the
 * commands behind it take the data; when the state stands at another offset (the entry is of an older link, or came
 * twice) the whole entry is skipped. So no command of the upstream is applied twice or skipped, whoever leads the group
 * and however often processes end. While a node follows, entries of anybody else change nothing but this. */
#ifndef KITH_ENGINE_UPSTREAM_H
#define KITH_ENGINE_UPSTREAM_H

#include "base/slice.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kith_engine;
struct kith_command;
struct kith_table;

enum {
    KITH_UPSTREAM_HOST_MAX = 255,
    KITH_UPSTREAM_REPLID = 40, /* hexadecimal digits */
    /* Of names of left-out keys; past either bound keys are only counted. Part of the format. */
    KITH_UPSTREAM_LEFT_OUT_MAX = 16384,
    KITH_UPSTREAM_LEFT_OUT_BYTES = 2 << 20,
    KITH_UPSTREAM_WHY_MAX = 64,
};

enum kith_upstream_phase {
    KITH_UPSTREAM_OFF,     /* nobody is followed */
    KITH_UPSTREAM_WAITING, /* nothing was taken over yet: the keys are what was here before */
    KITH_UPSTREAM_LOADING, /* the old keys are gone, the new ones are not all here */
    KITH_UPSTREAM_LIVE,    /* the data is the upstream's as of `offset` */
};

struct kith_upstream {
    enum kith_upstream_phase phase;
    char host[KITH_UPSTREAM_HOST_MAX + 1];
    uint16_t port;
    uint64_t link;                         /* counts the REPLICAOFs; entries carry it */
    uint64_t load;                         /* names the load that is under way */
    char replid[KITH_UPSTREAM_REPLID + 1]; /* "": none, only a whole copy can begin */
    int64_t offset;                        /* bytes of the upstream's stream that are in the data */
    uint32_t db;                           /* that the stream has selected at that place; may be past ours */
    struct kith_table *left_out;           /* names behind a varint of their db, payload: u8 length, why */
    size_t left_out_bytes;
    uint64_t left_out_unlisted; /* keys that were not put into the list any more */
    uint64_t left_out_commands;

    /* Of the entry that is being applied. */
    bool applying; /* it is of the stream: nothing expires by itself */
    bool stale;    /* it does not fit the state: skipped */
};

/* Borrowed, of the last applied entry. */
const struct kith_upstream *kith_engine_upstream(const struct kith_engine *engine);
static inline bool kith_upstream_follows(const struct kith_upstream *upstream)
{
    return upstream->phase != KITH_UPSTREAM_OFF;
}
/* How many keys the list has, and those that are only counted. */
uint64_t kith_upstream_left_out_count(const struct kith_upstream *upstream);
/* "<replid, 40 hexadecimal digits>" */
bool kith_upstream_is_replid(struct kith_slice text);

/* For the engine's apply. */
void kith_upstream_begin_entry(struct kith_upstream *upstream);
/* The text of the error that the command gets instead of being run; NULL: it is run. */
const char *kith_upstream_refusal(const struct kith_upstream *upstream, const struct kith_command *command);
/* After a command of the stream: what it did to keys that are left out; when it failed, its keys are. */
void kith_upstream_after(struct kith_engine *engine, uint32_t db_index, const struct kith_command *command,
                         const struct kith_slice *argv, size_t argc, bool failed);
void kith_upstream_fini(struct kith_upstream *upstream);

/* The key is not what the upstream has, so it goes, and is listed. Without memory it is counted only. */
void kith_upstream_leave_out(struct kith_engine *engine, uint32_t db_index, struct kith_slice key,
                             struct kith_slice why);
void kith_upstream_clear_left_out(struct kith_upstream *upstream);
/* Adds to the list, for loading a checkpoint. KITH_EINVAL: it is there, or the list is full. */
int kith_upstream_list(struct kith_engine *engine, uint32_t db_index, struct kith_slice key,
                       struct kith_slice why);
/* Reports all of the list in no particular order. */
void kith_upstream_each(const struct kith_upstream *upstream,
                        void (*report)(void *arg, uint32_t db_index, struct kith_slice key,
                                       struct kith_slice why),
                        void *arg);
uint64_t kith_upstream_digest(const struct kith_upstream *upstream);

#endif
