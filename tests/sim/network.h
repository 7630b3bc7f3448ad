/* The network between simulated nodes, behind struct kith_transport: machines 1 to SIM_MACHINES, two lanes from each to
 * each, addresses "n1" to "n7".
 *
 * A lane keeps its order and delivers once, as transport.h promises, but for raft's messages and the probes (frame.h),
 * which must stand anything: in bad weather they are lost, doubled, late and out of order. A connection that breaks loses
 * what is on its way, and is back a little later. */
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
    /* A frame has come. `peer`, `address`: of the sender. */
    void (*deliver)(void *context, int machine, uint64_t peer, const char *address, struct kith_slice frame);
    /* There is room on some lane again. */
    void (*wake)(void *context, int machine);
};

struct sim_network;

struct sim_network *sim_network_open(const struct sim_network_options *options);
void sim_network_close(struct sim_network *network);

/* The machine's transport; stays the same over restarts. */
struct kith_transport sim_network_transport(struct sim_network *network, int machine);
const char *sim_network_address(int machine); /* static */
/* A node with this id answers there from now on; 0: nobody does. Breaks all connections of the machine. */
void sim_network_set_node(struct sim_network *network, int machine, uint64_t id);

void sim_network_set_weather(struct sim_network *network, const struct sim_weather *weather);
/* Nothing passes from one to the other. */
void sim_network_block(struct sim_network *network, int from, int to, bool blocked);
bool sim_network_is_blocked(const struct sim_network *network, int from, int to);
/* Adds to each frame's delay. */
void sim_network_slow(struct sim_network *network, int from, int to, uint64_t extra_us);
void sim_network_break(struct sim_network *network, int a, int b);
/* No blocks, no slow ways; the weather stays. */
void sim_network_heal(struct sim_network *network);

struct sim_network_figures {
    uint64_t sent, delivered, bytes, lost, doubled, late, broken;
    uint64_t by_kind[32]; /* delivered, by the frame's kind */
};
const struct sim_network_figures *sim_network_get_figures(const struct sim_network *network);

#endif
