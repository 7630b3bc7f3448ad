/* Inside the core: its state, and what its files share. */
#ifndef KITH_REPL_CORE_INTERNAL_H
#define KITH_REPL_CORE_INTERNAL_H

#include "repl/core.h"

#include <raft.h>

/* Each guard against a fault of libraft can be taken out in the simulator's negative controls (tests/sim), and nowhere
 * else: what does not define KITH_CORE_CONTROLS always has them. */
enum core_guard {
    CORE_GUARD_OLD_TERM,        /* a stale append or installation is not libraft's to answer */
    CORE_GUARD_OLD_TERM_ANSWER, /* and is answered all the same */
    CORE_GUARD_LATE_REJECTION,  /* of what its sender has confirmed since */
    CORE_GUARD_CHANGE_FIRST,    /* in its batch */
    CORE_GUARD_COVERED,         /* entries at or below our snapshot */
    CORE_GUARD_PRE_VOTE_TERM,   /* ours in the rejection */
    CORE_GUARD_PERSISTED,       /* what a truncation or an installation has overtaken */
    CORE_GUARD_STANDBY_VOTES,   /* whatever it knows of its role */
    CORE_GUARD_SECOND_CHANGE,   /* while one is under way */
    CORE_GUARD_EARLY_OFFER,     /* of leadership, to a member whose disk has not got all */
};
#ifdef KITH_CORE_CONTROLS
extern unsigned kith_core_guards_off; /* bits */
#define CORE_GUARDED(guard) (!(kith_core_guards_off >> (guard)&1))
#else
#define CORE_GUARDED(guard) true
#endif

struct payload {
    struct payload *next;
    char bytes[];
};

struct kith_core {
    struct raft raft;
    struct raft_entry *loaded; /* before start */
    struct payload *payloads;  /* of the configurations among them */
    uint64_t loaded_count, loaded_capacity;

    struct raft_entry *raft_entries; /* of the running submit or receive */
    struct kith_core_entry *entries; /* of the last update */
    size_t entries_capacity;
    struct kith_core_message *messages;
    size_t messages_capacity;
    struct kith_core_message rejection; /* of an append that came too late */
    void *batch;                        /* payload copies of the last receive */

    uint64_t truncations;     /* issued in updates of this run */
    uint64_t last_index;      /* of the log as the driver knows it */
    uint64_t own_first_index; /* a leader's: entries from here on are of its own term */
    bool snapshot_held;       /* an installation runs; metadata below */
    struct raft_snapshot_metadata held;
    struct kith_core_snapshot install;
    void *install_configuration;

    const struct kith_core_message *receiving; /* with `more`: what is left of it */
    uint32_t received;
    uint64_t now;
    enum kith_core_role role;
};

/* --- core_convert.c: libraft's types and ours --- */

int core_status(int rv);
bool core_is_configuration(struct kith_slice encoded);
/* *out is to be closed, after a failure too. */
int core_decode_configuration(struct raft_configuration *out, struct kith_slice encoded);
/* *out is malloc'ed. */
int core_encode_configuration(struct kith_slice *out, const struct raft_configuration *configuration);
/* A message that goes out; `term` is our own. */
void core_convert_outgoing(struct kith_core_message *out, const struct raft_message *m, uint64_t term);
/* One that comes in, of the kinds that carry neither entries nor a snapshot. */
void core_convert_incoming(struct raft_message *out, const struct kith_core_message *m);

/* --- core.c --- */

/* Frees what the last event's update borrowed, and sets the clock. */
void core_begin_event(struct kith_core *core, uint64_t now_ms);
int core_step(struct kith_core *core, struct raft_event *event, struct kith_core_update *update);
/* An update that asks for nothing. */
void core_no_update(const struct kith_core *core, struct kith_core_update *update);
int core_reserve_entries(struct kith_core *core, size_t count);

#endif
