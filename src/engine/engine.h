/* The engine: the data and the commands, with no clock, no randomness, no threads of its own and no I/O.
 *
 * Writes come as entries of the log through kith_engine_apply, on one machine as in a group, live as in
 * recovery; reads through kith_engine_execute never change state. Two engines that applied the same entries
 * hold the same keys, values, vectors, attributes and expiries. All functions are for one thread, the
 * keyspace thread. */
#ifndef KITH_ENGINE_ENGINE_H
#define KITH_ENGINE_ENGINE_H

#include "base/buf.h"
#include "base/hash.h"
#include "base/task.h"
#include "engine/command.h"

#include <stdint.h>

struct kith_engine;

/* What the engine asks of whoever runs it. Every member may be NULL. */
struct kith_host {
    void *context;
    /* Runs a KITH_CMD_HOST command (INFO, CONFIG, CLIENT, SHUTDOWN, SAVE, ...). NULL: such commands answer
     * that they need a server. */
    void (*command)(void *context, struct kith_call *call);
};

struct kith_engine_options {
    uint32_t database_count;         /* 0: 16 */
    struct kith_hash_seed hash_seed; /* secret; drawn by the caller */
    uint64_t read_seed;              /* seeds the random of reads (RANDOMKEY, VRANDMEMBER) */
    struct kith_executor executor;   /* where graph links and searches run; zero: inline */
    unsigned worker_count; /* threads behind the executor, for how many link tasks run at once; 0: 1 */
    struct kith_host host;
};

int kith_engine_open(struct kith_engine **out, const struct kith_engine_options *options);
/* The executor must be idle or drained by the caller until kith_engine_busy is 0. close(NULL) is safe. */
void kith_engine_close(struct kith_engine *engine);
/* Empties the engine: another state is to be loaded in its place. A running checkpoint is aborted, a load forgotten; time
 * begins anew with what is loaded. Bounded work: what is large is freed by kith_engine_idle_work. KITH_ENOMEM: nothing
 * has changed. */
int kith_engine_reset(struct kith_engine *engine);
/* The seed of the tables that the engine's values are made of: borrowed, lives as long as the engine. */
const struct kith_hash_seed *kith_engine_hash_seed(const struct kith_engine *engine);
/* Tasks submitted and not done yet. */
size_t kith_engine_busy(const struct kith_engine *engine);
/* Asks background tasks to end soon (before close). */
void kith_engine_stop_background(struct kith_engine *engine);

/* A client, as far as commands see it. Embedded in the connection of the driver. */
struct kith_session {
    uint64_t id;
    uint32_t db_index;
    uint8_t protocol; /* 2 or 3 */
    bool authenticated;
    bool no_evict;
    char reply_mode;                             /* 0 on, 'o' off, 's' skip the next, 'S' skipping this one */
    char *name, *library_name, *library_version; /* owned, may be NULL */
    const struct kith_command *last_command;
    void *owner; /* the driver's connection */
};

void kith_session_init(struct kith_session *session, uint64_t id);
void kith_session_fini(struct kith_session *session);

/* The command of argv[0] (and argv[1] of a container): NULL when unknown. */
const struct kith_command *kith_engine_lookup(const struct kith_engine *engine, const struct kith_slice *argv,
                                              size_t argc);

/* Whether such a command of a client's may stand in an entry. */
bool kith_engine_is_entry_command(const struct kith_command *command, size_t argc);

/* Checks name, arity and subcommand and writes the error into `reply`. Returns the row, or NULL after an
 * error. What the driver does before it decides between log and execution. */
const struct kith_command *kith_engine_admit(const struct kith_engine *engine, const struct kith_slice *argv,
                                             size_t argc, struct kith_reply *reply);

/* An admitted command on its way. The driver fills the first four fields and zeroes the rest. */
struct kith_admitted {
    struct kith_session *session;
    const struct kith_command *command;
    const struct kith_slice *argv; /* borrowed until it has been executed */
    size_t argc;
    uint64_t key_hash; /* the engine's: what kith_engine_prefetch found out */
    bool hashed;
};

/* Starts the loads that a batch of commands will wait for (pipelined ones of one client or of many), so that
 * their cache misses overlap. Worth it from two on; 8 to 64 at a time. Optional. */
void kith_engine_prefetch(const struct kith_engine *engine, struct kith_admitted *requests, size_t count);

/* Runs an admitted command that is not KITH_CMD_WRITE. `deferred` receives the rest of a KITH_CMD_DEFERS
 * read (or NULL when there is none, and the reply is written); with deferred == NULL the rest runs at once.
 */
void kith_engine_execute(struct kith_engine *engine, const struct kith_admitted *request, int64_t now_ms,
                         struct kith_reply *reply, struct kith_deferred **deferred);

/* Entries. payload = version u8, time_ms u64, seed u64, then for each command: db varint, argc varint, argc
 * slices. An entry without commands is a tick of the clock, which removes keys past their time. */
void kith_entry_begin(struct kith_buf *payload, int64_t time_ms, uint64_t seed);
void kith_entry_append(struct kith_buf *payload, uint32_t db_index, const struct kith_slice *argv,
                       size_t argc);

/* The entry's own time, in ms since 1970; what counts is never less than the last one's. KITH_ECORRUPT, KITH_EVERSION. */
int kith_entry_time(struct kith_slice payload, int64_t *time_ms);
/* The time of the last entry before a checkpoint was made; `start` is the beginning of its stream, 32 bytes at least.
 * KITH_ECORRUPT, KITH_EVERSION. */
int kith_engine_stream_time(struct kith_slice start, int64_t *time_ms);

/* Who gets the replies of an entry that was made here. `begin` is called before command number n with
 * where its reply goes (it may set *reply to NULL: discarded) and whose session it is; `end` after it. */
struct kith_apply_hooks {
    void *context;
    void (*begin)(void *context, size_t n, struct kith_session **session, struct kith_reply **reply);
    void (*end)(void *context, size_t n);
};

/* Applies one committed entry. Time never runs backwards: the larger of the entry's and the last applied
 * one's counts. KITH_ECORRUPT: the payload is damaged; KITH_EVERSION: it has a command or a database that
 * this server does not know (or no longer, `databases` being lowered). Nothing of it was applied then. */
int kith_engine_apply(struct kith_engine *engine, struct kith_slice payload,
                      const struct kith_apply_hooks *hooks);

/* The earliest expiry over all databases, or -1: when the driver should submit a tick. */
int64_t kith_engine_next_expiry_ms(const struct kith_engine *engine);
/* Bounded background work on the keyspace thread: frees large values. Returns whether there is more. */
bool kith_engine_idle_work(struct kith_engine *engine);
/* Elements linked since the last checkpoint began, and whether links are still pending: the host checkpoints
 * when linking has settled, so that a restart need not link again. */
uint64_t kith_engine_links_unsaved(const struct kith_engine *engine, bool *pending);
/* How long (ms) writers should be held back because an unlinked tail is past its bound; 0: not at all. */
unsigned kith_engine_back_pressure_ms(const struct kith_engine *engine);

/* Figures for graphs. */
struct kith_engine_counts {
    uint64_t hits, misses, expired; /* keys, since the open */
    uint64_t vector_sets, vector_elements, vector_bytes;
    uint64_t vectors_unlinked, vectors_deleted; /* deleted: not yet repaired around */
    uint64_t vector_sets_pending, vector_sets_crowded;
    uint64_t vector_tasks;  /* running */
    uint64_t links_unsaved; /* since the last checkpoint began */
    unsigned writers_held_ms;
};
void kith_engine_get_counts(const struct kith_engine *engine, struct kith_engine_counts *out);
/* Of database `db`; false: there is none of this number. */
bool kith_engine_get_keys(const struct kith_engine *engine, uint32_t db, size_t *keys, size_t *expiring);

/* Figures for INFO: appends "# Keyspace", "# Vectors" and the engine's lines of "# Stats". */
void kith_engine_info(struct kith_engine *engine, const char *section, struct kith_buf *out);

#endif
