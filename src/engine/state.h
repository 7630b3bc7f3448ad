/* What the files of src/engine share about the engine itself. Private to the folder: everyone else sees the
 * functions of engine.h and keyspace.h. */
#ifndef KITH_ENGINE_STATE_H
#define KITH_ENGINE_STATE_H

#include "base/random.h"
#include "ds/avl.h"
#include "ds/table.h"
#include "engine/checkpoint.h"
#include "engine/engine.h"
#include "engine/keyspace.h"
#include "engine/requests.h"
#include "engine/upstream.h"
#include "engine/vset.h"

#include <stdatomic.h>

/* The meta byte of a key's entry. */
enum {
    KITH_KEY_TYPE = 0x0f,    /* enum kith_type */
    KITH_KEY_EXPIRES = 0x10, /* the payload begins with the expiry */
    KITH_KEY_SAVED = 0x20,   /* equal to engine->saved_bit: the checkpoint has this key, or none runs */
};

struct kith_db {
    struct kith_engine *engine;
    struct kith_table *table;
    struct kith_avl *expiries; /* key: ms as kith_avl_key_from_int64, ref: entry; NULL until the first one */
    uint32_t index;
};

struct kith_command_slot {
    const struct kith_command *row; /* NULL: empty */
    uint64_t hash;
};

/* Names to rows, ASCII case ignored: open addressing, at most half full. */
struct kith_command_index {
    struct kith_command_slot *slots;
    size_t slot_count; /* a power of two */
    size_t command_count;
};

int kith_command_index_open(struct kith_command_index *index);
void kith_command_index_close(struct kith_command_index *index);
const struct kith_command *kith_command_find(const struct kith_command_index *index, struct kith_slice name);
/* The row "parent|name". */
const struct kith_command *kith_command_find_sub(const struct kith_command_index *index,
                                                 const struct kith_command *parent, struct kith_slice name);
/* All rows in the order of their groups; NULL past the end. */
const struct kith_command *kith_command_at(size_t n);

static inline bool kith_command_arity_fits(const struct kith_command *command, size_t argc)
{
    return command->arity >= 0 ? argc == (size_t)command->arity : argc >= (size_t) - (int64_t)command->arity;
}

/* A decoded entry; the arrays are reused from entry to entry. */
struct kith_planned {
    const struct kith_command *command;
    size_t first_argument; /* in `argv` */
    size_t argc;
    uint64_t key_hash;
    uint32_t db_index;
    bool hashed;
};

struct kith_plan {
    int64_t time_ms;
    uint64_t seed;
    struct kith_planned *commands;
    size_t command_count, command_capacity;
    struct kith_slice *argv;
    size_t argument_count, argument_capacity;
};

/* The command inside a KITH.REQUEST, or NULL after an error (commands/request.c). */
const struct kith_command *kith_request_inner(const struct kith_engine *engine, const struct kith_slice *argv,
                                              size_t argc, struct kith_reply *reply);

/* Reads and checks a whole payload. KITH_OK, KITH_ECORRUPT, KITH_EVERSION, KITH_ENOMEM. */
int kith_plan_decode(struct kith_plan *plan, const struct kith_engine *engine, struct kith_slice payload);
void kith_plan_fini(struct kith_plan *plan);

/* Dead objects and tables on their way back to the allocator, see lazy.c. */
struct kith_grave;

/* A running checkpoint, see checkpoint.c. NULL: none runs and none has to be cleaned up after. */
struct kith_checkpoint;
struct kith_loader;

/* Vector sets that wait for something, first come first served. */
struct kith_vset_line {
    struct kith_vset *first, *last;
};

/* What runs behind the keyspace thread: the links of vector sets (vset_link.c). */
struct kith_background {
    struct kith_vset *sets; /* all of them, the newest first */
    uint64_t last_set_id;
    size_t busy_count;      /* tasks submitted and not done yet */
    unsigned link_count;    /* link tasks among them */
    uint64_t links_unsaved; /* elements linked since the last checkpoint began */
    struct kith_vset_totals totals;
    struct kith_vset_line due;     /* for a link task to be free */
    struct kith_vset_line stalled; /* for searches or other workers to end */
    bool dispatching;
    bool calibrating;                  /* a task of vset_calibrate.c is under way */
    uint64_t calibrate_next;           /* sets before it in the list had their turn */
    _Atomic unsigned searches_waiting; /* link tasks give way to them */
    _Atomic bool stopping;             /* tasks end soon */
};

struct kith_engine {
    struct kith_engine_options options;
    struct kith_db *dbs;
    uint32_t db_count;
    uint8_t saved_bit; /* KITH_KEY_SAVED or 0: what a saved entry's bit looks like */
    int64_t now_ms;    /* of the last applied entry */
    struct kith_rng read_rng, apply_rng;
    struct kith_command_index commands;
    struct kith_plan plan;
    struct kith_session replay; /* whose commands run when nobody waits for replies */
    struct kith_buf discarded;  /* where its replies go */
    struct kith_grave *graves;
    struct kith_checkpoint *checkpoint;
    struct kith_loader *loader;
    struct kith_requests requests;
    struct kith_upstream upstream;
    struct kith_background background;
    uint64_t expired_count, hit_count, miss_count, command_count, error_count;
};

/* Entries. */
int64_t kith_keyspace_expiry(const void *entry); /* -1: none */
size_t kith_keyspace_entry_bytes(const void *entry);
struct kith_slice kith_keyspace_string(const void *entry); /* a string's bytes */
void *kith_keyspace_object(const void *entry);             /* not a string's */
/* Releases an entry that has left its table, with its value. arg: the engine. */
void kith_keyspace_free_entry(void *engine, void *entry);

static inline enum kith_type kith_keyspace_type(const void *entry)
{
    return (enum kith_type)(kith_entry_meta(entry) & KITH_KEY_TYPE);
}

/* Expiry trees (expiry.c). `when_ms` is what the entry carries. */
int kith_expiry_add(struct kith_db *db, int64_t when_ms, void *entry);
void kith_expiry_drop(struct kith_db *db, int64_t when_ms, void *entry);
/* Removes keys past `now_ms`, at most `budget`, oldest first in each database. */
size_t kith_expiry_run(struct kith_engine *engine, int64_t now_ms, size_t budget);

/* Lazy release (lazy.c). Never fail: without memory for a grave the work is done at once. */
void kith_lazy_release_object(struct kith_engine *engine, const struct kith_type_ops *ops, void *object);
void kith_lazy_release_table(struct kith_engine *engine, struct kith_table *table, struct kith_avl *expiries);
bool kith_lazy_step(struct kith_engine *engine, size_t budget);
void kith_lazy_finish(struct kith_engine *engine);

/* Checkpoints (checkpoint.c). The first two are for changes, see kith_db_find_for_write and kith_db_flush. */
void kith_checkpoint_touch(struct kith_engine *engine, struct kith_db *db, void *entry);
/* Takes a flushed table that is not saved yet; false: nothing to save in it, it stays the caller's. */
bool kith_checkpoint_take_table(struct kith_engine *engine, struct kith_db *db, struct kith_table *table,
                                struct kith_avl *expiries);
/* The same for an object that is not fully saved yet. */
bool kith_checkpoint_take_object(struct kith_engine *engine, const struct kith_type_ops *ops, void *object);
bool kith_checkpoint_idle(struct kith_engine *engine, size_t budget);
void kith_checkpoint_close(struct kith_engine *engine);
void kith_loader_close(struct kith_engine *engine);

#endif
