/* The virtual clock: what is to happen, in the order of time, and of planning where the time is the same. */
#ifndef TESTS_SIM_EVENTS_H
#define TESTS_SIM_EVENTS_H

#include <stddef.h>
#include <stdint.h>

/* Embedded in what its owner needs to know then. Owned by the queue until it runs or is dropped. */
struct sim_event {
    uint64_t at_us, order;
    void (*run)(struct sim_event *event);  /* owns the event again */
    void (*drop)(struct sim_event *event); /* it will never run: frees it */
};

struct sim_events {
    uint64_t now_us, order, ran;
    struct sim_event **heap;
    size_t count, capacity;
};

/* After in_us microseconds. */
void sim_events_add(struct sim_events *events, struct sim_event *event, uint64_t in_us);
/* Puts the clock forward and runs what is next. Returns 0 when there is nothing. */
int sim_events_step(struct sim_events *events);
/* Drops all that is left. */
void sim_events_fini(struct sim_events *events);

#endif
