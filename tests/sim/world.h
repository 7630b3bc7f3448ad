/* A group of whole nodes (engine, store, repl) with their disks and network, their clients and their troubles, in one
 * thread under a virtual clock, from one seed.
 *
 *     world.c    the life of nodes: start, events, crash, end
 *     machine.c  the engine behind each node, and what all nodes must agree about
 *     clients.c  operations, their histories, and whether they can be explained
 *     admin.c    who is to be a member, and changes towards it
 *     claims.c   what nodes have told others and their clients, and must keep to
 *     faults.c   what goes wrong, and when it ends */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include "base/random.h"
#include "disk.h"
#include "engine/engine.h"
#include "events.h"
#include "network.h"
#include "repl/node.h"

#include <stdio.h>

/* What may go wrong, each to be switched off to narrow a failure down. */
enum sim_fault {
    SIM_CRASHES,    /* kill -9 and power cuts, also of all at once, at a random write or between events */
    SIM_STOPS,      /* orderly stops and restarts */
    SIM_PARTITIONS, /* of both directions or one */
    SIM_HOLDS,      /* ways that keep what is sent, and deliver it all in the end */
    SIM_WEATHER,    /* messages lost, doubled, late, out of order; connections that break */
    SIM_SLOW_LINKS,
    SIM_PAUSES, /* nothing of a node moves for a while, as with SIGSTOP */
    SIM_CLOCKS, /* the wall clock jumps */
    SIM_SLOW_DISKS,
    SIM_FULL_DISKS,
    SIM_FAILED_SYNCS,
    SIM_MEMBERS, /* nodes join, are removed and come back with an empty disk */
    SIM_MOVES,   /* a node starts again at another address */
    SIM_TRANSFERS,
    SIM_CHECKPOINTS, /* small logs: checkpoints and streams all the time */
    SIM_VECTORS,
    SIM_FAULTS,
};
extern const char *const sim_fault_names[SIM_FAULTS]; /* "crashes", ... */

/* Guards taken out, for the negative controls. */
enum sim_control {
    SIM_CONTROL_NONE,
    SIM_CONTROL_STATE_NOT_SYNCED, /* term and vote are forgotten by a power cut */
    SIM_CONTROL_LOG_NOT_SYNCED,   /* an entry counts as on the disk before it is */
    SIM_CONTROL_READ_AT_ONCE,     /* a leader reads without asking anybody */
    SIM_CONTROL_CORE,             /* guards of core.c: struct sim_options.core_guards says which */
};

struct sim_options {
    uint64_t seed;
    int nodes;        /* 0: 1, 3 or 5, by the seed */
    uint64_t seconds; /* of trouble; 0: 12 */
    bool without[SIM_FAULTS];
    bool often[SIM_FAULTS];
    bool contrast; /* half of the nodes keep their whole log, the others next to nothing */
    int verbose;   /* 1: what happens; 2: each frame too */
    enum sim_control control;
    unsigned core_guards; /* bits of enum core_guard; of the program that is built for it (controls) */
};

struct sim_result {
    uint64_t hash; /* of everything that happened, in order */
    uint64_t virtual_ms, events, operations, reads, unknown, refused, keys, undecided, steps;
    uint64_t near, near_ms, rests, held, parts, ended, moves;
    uint64_t applied, crashes, restarts, partitions, pauses, members, transfers, checkpoints, streams, full,
        failed_syncs, weathers, jumps, slow, elections;
    uint64_t frames, syncs;
    char failure[1024]; /* "": nothing is wrong */
    uint64_t failed_ms;
};

/* Runs one world from its beginning to its end. Returns whether nothing was found. */
bool sim_run(const struct sim_options *options, struct sim_result *result);

/* --- shared by the files of the world --- */

enum sim_part { SIM_POLL, SIM_LOG, SIM_KEEPER, SIM_PARTS };
enum { SIM_CLIENTS = 6, SIM_TERMS = 1 << 14, SIM_TROUBLES = 24, SIM_ARRIVALS = 64, SIM_MARKS = 4096 };

struct world;
struct sim_history;
struct sim_canon;

/* When a message came, and how long it was on its way. */
struct sim_arrival {
    uint64_t at_us, way_us;
};

/* The engine of one life of a node, with the sum of what was applied in front of its checkpoints. */
struct sim_engine {
    struct world *world;
    int machine;
    struct kith_engine *engine;
    struct kith_node_machine inner;
    uint64_t count, chain; /* entries applied since the beginning of time, and the hash of them all */
    uint64_t frozen_count, frozen_chain;
    bool head_yielded;
    unsigned char head[16];
    size_t head_got;
};

struct sim_node {
    struct world *world;
    int machine; /* 1 to SIM_MACHINES */
    struct sim_disk *disk;
    struct kith_node *node; /* NULL: it is down */
    struct sim_engine engine;
    uint64_t id;
    uint32_t life;
    bool dying, founded, unhealthy;
    uint64_t full, failed_syncs; /* of its disk, when it was started */
    uint64_t due_us[SIM_PARTS];  /* UINT64_MAX: nothing is planned */
    uint64_t paused_until_us;
    uint64_t disk_us; /* until the log moves, at most */
    int64_t wall_offset_ms;
    uint64_t term, commit_index, streams;
    enum kith_core_role role;
    /* claims.c */
    uint64_t acked_term, acked_index, led_term, stored;
    uint64_t near_count; /* entries that a near read has seen in this life */
    struct sim_arrival arrivals[SIM_ARRIVALS];
    uint64_t arrival_count;
};

/* What the group is to look like. */
struct sim_admin {
    bool wanted[SIM_MACHINES + 1];
    bool stayed[SIM_MACHINES + 1]; /* where all found it when all was at rest last */
    bool busy;
    uint64_t changing_until_us;
};

struct world {
    struct sim_options options;
    struct sim_result *result;
    struct sim_events events;
    struct kith_rng rng; /* of the world's own dice; disk and network have theirs */
    struct sim_network *network;
    struct sim_node nodes[SIM_MACHINES + 1];
    struct sim_canon *canon;
    struct sim_history *history;
    struct sim_admin admin;
    struct sim_weather calm;
    int count; /* nodes that are to be voters when all is calm */
    uint64_t group_id;
    uint64_t leader_of[SIM_TERMS];
    uint64_t segment_bytes;
    uint64_t think_us;                /* of a client between two questions, at most */
    uint64_t pace_us;                 /* between two troubles, at most */
    unsigned weights[SIM_TROUBLES];   /* of troubles, in this world */
    uint64_t round;                   /* of troubles */
    uint64_t rest_count, rest_due_us; /* entries that all are to have; when to look next */
    uint64_t marks[SIM_MARKS];        /* entries applied anywhere, each MARK_US */
    struct kith_frame_room room;
    bool trouble; /* faults may happen */
    bool healed;  /* all is well again, for good */
    bool stopped; /* clients and checks of progress have ended */
};

/* The first finding counts; the run ends after the event. */
void world_fail(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool world_has_failed(const struct world *w);
void world_trace(struct world *w, int level, const char *format, ...) __attribute__((format(printf, 3, 4)));
void world_mix(struct world *w, uint64_t value);
uint64_t world_below(struct world *w, uint64_t bound);
bool world_chance(struct world *w, double p);
/* Calls run(w, argument) later. */
void world_later(struct world *w, uint64_t in_us, void (*run)(struct world *w, uint64_t argument),
                 uint64_t argument);

bool node_is_up(const struct sim_node *n); /* and moves */
/* After anything was asked of a node: plans what it wants, and looks whether it has died. */
void node_settle(struct sim_node *n);
/* Starts what is down; false: not now (a disk that is full), or it failed. */
bool node_start(struct sim_node *n);
void node_crash(struct sim_node *n, enum sim_disk_crash how);
void node_stop(struct sim_node *n);                  /* in order */
void node_wipe(struct sim_node *n);                  /* a new disk; the node is down */
struct sim_node *world_leader(struct world *w);      /* of the highest term; NULL: none */
struct sim_node *world_random_node(struct world *w); /* of those that are up; NULL: none */

/* machine.c */
struct sim_canon *canon_open(void);
void canon_close(struct sim_canon *canon);
uint64_t canon_count(const struct sim_canon *canon);
/* To what was applied then: the rest was seen by nobody. */
void canon_take_back(struct sim_canon *canon, uint64_t count);
bool canon_has(const struct sim_canon *canon, uint64_t operation);
void canon_refuse(struct world *w, uint64_t operation); /* it was certainly not taken */
bool engine_open(struct sim_engine *e, struct world *w, int machine, uint64_t seed,
                 struct kith_node_machine *out);
void engine_close(struct sim_engine *e);

/* claims.c */
void claims_start(struct world *w);
/* A frame that the node has received. */
void claims_note(struct sim_node *n, uint64_t peer, uint64_t sent_us, struct kith_slice frame);
/* A frame that it gives away. */
void claims_check_sent(struct sim_node *n, struct kith_slice frame);
/* After any event. */
void claims_check_stored(struct sim_node *n);
/* It was opened: does it still have what it acknowledged? */
void claims_check_start(struct sim_node *n);
/* A read of the node's own state, as READONLY MAXLAG has it: is it as old as the node says, or younger? */
void claims_read_near(struct sim_node *n);

/* clients.c */
void clients_start(struct world *w);
bool clients_are_idle(struct world *w);     /* none of them waits for an answer */
void clients_node_gone(struct sim_node *n); /* it was closed: nothing may wait for it any more */
void clients_check(struct world *w);        /* at the end */
void clients_free(struct world *w);

/* admin.c */
void admin_start(struct world *w);
bool admin_is_done(struct world *w); /* the members are those wanted */
void admin_shuffle(struct world *w); /* wants another member, or one less */
void admin_note_rest(struct world *w);
/* Another member is where all know it to be. When all have moved at once nobody can find anybody. */
bool admin_can_do_without(const struct world *w, int machine);

/* faults.c */
void faults_choose(struct world *w); /* what goes wrong in this world, and how much of it */
void faults_start(struct world *w);  /* once */
void faults_begin(struct world *w);  /* a round of troubles */
void faults_end(struct world *w);
void faults_cut_soon(struct world *w, struct sim_node *n); /* while something is done with it */

#endif
