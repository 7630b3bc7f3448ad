/* The network between simulated nodes, behind struct kith_transport: machines 1 to SIM_MACHINES, two lanes from each to
 * each, addresses "n1" to "n7", or "m1" to "m7" after a move.
 *
 * A lane keeps its order and delivers once, as transport.h promises, but for raft's messages and the probes (frame.h),
 * which must stand anything: in bad weather they are lost, doubled, late and out of order. A connection that breaks loses
 * what is on its way, and is back a little later. A way that is held keeps its frames and delivers them all in the end, as
 * TCP does once the network is whole again.
 *
 * Who a frame is for is found by its address, or, once it has called itself since it started, by its id: a node that has
 * moved calls from where it is now. */
#ifndef TESTS_SIM_NETWORK_H
#define TESTS_SIM_NETWORK_H

#include "base/random.h"
#include "events.h"
#include "repl/transport.h"

enum { SIM_MACHINES = 7 };

/* What befalls frames on all ways. Probabilities from 0 to 1. */
struct sim_weather {
    double lost, doubled, late; /* of raft's messages; late: up to late_us, past others */
    double broken;              /* the connection breaks when something is sent */
    uint64_t late_us;
    uint64_t delay_us; /* of every frame: half of it and a random rest */
};

struct sim_network_options {
    struct sim_events *events;
    uint64_t seed;
    void *context;
    /* A frame has come. `peer`, `address`: of the sender, who gave it away at sent_us. */
    void (*deliver)(void *context, int machine, uint64_t peer, const char *address, uint64_t sent_us,
                    struct kith_slice frame);
    /* There is room on some lane again. */
    void (*wake)(void *context, int machine);
    /* A node gives a frame away, wherever it goes. May be NULL. */
    void (*sent)(void *context, int machine, struct kith_slice frame);
    /* A part of a large frame has come; a connection has ended by itself, or its program has. May be NULL. */
    void (*heard)(void *context, int machine, uint64_t peer);
    void (*lost)(void *context, int machine, uint64_t peer);
};

struct sim_network;

struct sim_network *sim_network_open(const struct sim_network_options *options);
void sim_network_close(struct sim_network *network);

/* The machine's transport; stays the same over restarts. */
struct kith_transport sim_network_transport(struct sim_network *network, int machine);
const char *sim_network_address(const struct sim_network *network, int machine); /* static */
/* From the next start on the machine has its other address. */
void sim_network_move(struct sim_network *network, int machine);
/* A node with this id answers there from now on. Breaks all connections of the machine. */
void sim_network_set_node(struct sim_network *network, int machine, uint64_t id);
/* Nobody does. `told`: its system is there still, and ends the connections. */
void sim_network_end_node(struct sim_network *network, int machine, bool told);

void sim_network_set_weather(struct sim_network *network, const struct sim_weather *weather);
/* Nothing passes from one to the other. */
void sim_network_block(struct sim_network *network, int from, int to, bool blocked);
bool sim_network_is_blocked(const struct sim_network *network, int from, int to);
/* What would arrive before then arrives then, in its order. */
void sim_network_hold(struct sim_network *network, int from, int to, uint64_t until_us);
/* Adds to each frame's delay. */
void sim_network_slow(struct sim_network *network, int from, int to, uint64_t extra_us);
void sim_network_break(struct sim_network *network, int a, int b);
/* No blocks, no slow ways; the weather stays, and what is held comes when it was to come. */
void sim_network_heal(struct sim_network *network);

struct sim_network_figures {
    uint64_t sent, delivered, bytes, lost, doubled, late, broken, ended, parts, held;
    uint64_t by_kind[32]; /* delivered, by the frame's kind */
};
const struct sim_network_figures *sim_network_get_figures(const struct sim_network *network);

#endif
