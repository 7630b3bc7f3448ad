/* One command, one row, one handler.
 *
 * Every command of Kith is a row in a table (commands/<group>.c holds a group's handlers and, at its end, its
 * rows; table.c lists the groups). From the row come dispatch, COMMAND, COMMAND DOCS, redis-cli's hints and
 * the pages in docs/. To add a command: write a handler, add a row. */
#ifndef KITH_ENGINE_COMMAND_H
#define KITH_ENGINE_COMMAND_H

#include "base/slice.h"
#include "base/task.h"
#include "wire/reply.h"

#include <stddef.h>
#include <stdint.h>

struct kith_engine;
struct kith_session;
struct kith_db;
struct kith_call;
struct kith_rng;

enum kith_command_flag {
    KITH_CMD_WRITE = 1 << 0,    /* changes the keyspace: goes through the log */
    KITH_CMD_READONLY = 1 << 1, /* reads the keyspace */
    KITH_CMD_DENYOOM = 1 << 2,  /* may grow memory */
    KITH_CMD_ADMIN = 1 << 3,
    KITH_CMD_FAST = 1 << 4,    /* O(1) or O(log n) */
    KITH_CMD_LOADING = 1 << 5, /* allowed while loading */
    KITH_CMD_STALE = 1 << 6,
    KITH_CMD_NO_AUTH = 1 << 7, /* allowed before AUTH */
    KITH_CMD_SESSION = 1 << 8, /* acts on the connection: waits until nothing of it is in flight */
    KITH_CMD_HOST = 1 << 9,    /* done by the host (server), see kith_host */
    KITH_CMD_DEFERS = 1 << 10, /* a read that may leave its work to a task (VSIM) */
    KITH_CMD_NOSCRIPT = 1 << 11,
    KITH_CMD_MOVABLE_KEYS = 1 << 12,     /* keys are found by `get_keys`, not by first/last/step */
    KITH_CMD_SUBCOMMANDS = 1 << 13,      /* container: argv[1] names a row "name|subcommand" */
    KITH_CMD_NO_ASYNC_LOADING = 1 << 14, /* this one and those below are shown to clients only */
    KITH_CMD_ALLOW_BUSY = 1 << 15,
    KITH_CMD_SKIP_MONITOR = 1 << 16,
    KITH_CMD_SKIP_SLOWLOG = 1 << 17,
    KITH_CMD_NO_MANDATORY_KEYS = 1 << 18,
    KITH_CMD_BLOCKING = 1 << 19,
    KITH_CMD_PUBSUB = 1 << 20,
    KITH_CMD_ANY_ROLE = 1 << 21, /* a write that is also possible while an upstream is followed */
    KITH_CMD_LOG_ONLY = 1 << 22, /* written by the server itself: no client may call it */
};

/* Key positions as in COMMAND INFO: first and last argument index (last negative: from the end), step. 0,0,0:
 * none. */
struct kith_key_range {
    int first, last, step;
};

struct kith_command {
    const char *name; /* lower case; a subcommand's name is "client|list" */
    int arity;        /* with the name itself; negative: at least that many */
    uint32_t flags;   /* enum kith_command_flag */
    struct kith_key_range keys;
    /* Key specifications as COMMAND INFO shows them, separated by ';'. Each is flags, and when it is not just
     * `keys`, where: "RW access update", "RW access delete @1; OW update @2", "OW update @1; RO access @2
     * numkeys" (argument 2 says how many keys follow it), "RO access @1 -1 1" (first, last, step). With
     * KITH_CMD_MOVABLE_KEYS and no get_keys, keys are found from these. NULL: none. */
    const char *key_flags;
    const char *tips;       /* "nondeterministic_output request_policy:all_shards", NULL: none */
    const char *categories; /* ACL categories beyond those that follow from the flags: "string hash" */
    const char *group;      /* COMMAND DOCS group: "string", "generic", "module", ... */
    const char *since;      /* the Redis version that brought it; "kith 0.1" for our own */
    const char *complexity;
    const char *summary; /* one sentence */
    /* The arguments after the name in the notation of the command pages, from which COMMAND DOCS' argument tree is
     * made (syntax.c). "" for none.
     *   UPPER        a token, written as it stands
     *   lower:type   an argument; without a type it is "key" for arguments called key, else "string"; the
     *                others are integer, double, pattern, unix-time
     *   [a]          optional                        a | b        one of
     *   a [a ...]    repeated                        (a | b)      grouping without being optional
     * "key value [NX | XX] [GET] [EX seconds:integer | PX milliseconds:integer]" */
    const char *syntax;
    void (*handler)(struct kith_call *call); /* NULL for KITH_CMD_HOST and containers */
    /* Finds the key positions when KITH_CMD_MOVABLE_KEYS is set: writes at most `max` argument indexes,
     * returns how many there are, or -1 when the arguments do not make sense. */
    int (*get_keys)(const struct kith_slice *argv, size_t argc, size_t *positions, size_t max);
};

/* One execution of one command. Everything that a handler needs; it lives on the stack of the caller. */
struct kith_call {
    struct kith_engine *engine;
    struct kith_session *session; /* never NULL; replay has a session of its own */
    const struct kith_command *command;
    const struct kith_slice
        *argv; /* argv[0] is the name as the client wrote it; borrowed until the handler returns */
    size_t argc;
    struct kith_db *db;             /* the selected database */
    int64_t now_ms;                 /* the entry's time for a write; the caller's clock for a read */
    struct kith_rng *rng;           /* seeded from the entry for a write: the same on every replica */
    struct kith_reply *reply;       /* where the reply goes; never NULL (replay discards) */
    struct kith_deferred *deferred; /* set by a handler through kith_call_defer */
    uint64_t key_hash;              /* of argv[command->keys.first], when `hashed` (kith_engine_prefetch) */
    bool hashed;
};

/* The rest of a KITH_CMD_DEFERS read: `task.run` on any thread, then `finish` on the keyspace thread writes
 * the reply. The handler allocates it; `close` frees it in every case, after finish or without it (the client
 * is gone). */
struct kith_deferred {
    struct kith_task task; /* task.run is the handler's; task.done belongs to whoever drives the call */
    void (*finish)(struct kith_deferred *deferred, struct kith_reply *reply);
    void (*close)(struct kith_deferred *deferred);
    /* May be NULL. Starts loads that `finish` will wait for: worth it when several are to be finished, with stage 0 for
     * all of them, then 1 for all. */
    void (*prefetch)(struct kith_deferred *deferred, int stage);
    bool alone;       /* may take long: not to be put into one task with others */
    bool again;       /* set by task.run of what is alone: it made way, and is to run once more */
    uint64_t cost_ns; /* about what task.run takes at most; 0: that is not bounded */
    void *owner;      /* the driver's, free for its use */
};

/* A handler hands over the rest of its work and returns without having written a reply. */
static inline void kith_call_defer(struct kith_call *call, struct kith_deferred *deferred)
{
    call->deferred = deferred;
}

/* Frequent errors, with Redis's exact texts. */
void kith_call_wrong_type(struct kith_call *call);   /* WRONGTYPE Operation against a key holding ... */
void kith_call_syntax_error(struct kith_call *call); /* ERR syntax error */
void kith_call_no_memory(struct kith_call *call);    /* OOM ... */
void kith_call_wrong_arity(struct kith_call *call);  /* ERR wrong number of arguments for 'x' command */
/* Parse argv[index] strictly; false after having written "ERR value is not an integer or out of range" (or
 * `error` when it is not NULL). */
bool kith_call_int(struct kith_call *call, size_t index, int64_t *value, const char *error);
bool kith_call_int_in(struct kith_call *call, size_t index, int64_t least, int64_t most, int64_t *value,
                      const char *error);
/* "ERR value is not a valid float" likewise; NaN is refused. */
bool kith_call_double(struct kith_call *call, size_t index, double *value, const char *error);
/* argv[index] is `word`, ASCII case ignored; false past the end. */
bool kith_call_is(const struct kith_call *call, size_t index, const char *word);

#endif
