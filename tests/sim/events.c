/* A binary heap. */
#include "events.h"

#include <stdlib.h>

static int is_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_us < b->at_us || (a->at_us == b->at_us && a->order < b->order);
}

void sim_events_add(struct sim_events *events, struct sim_event *event, uint64_t in_us)
{
    if (events->count == events->capacity) {
        events->capacity = events->capacity ? events->capacity * 2 : 256;
        events->heap = realloc(events->heap, events->capacity * sizeof(struct sim_event *));
        if (!events->heap)
            abort();
    }
    event->at_us = events->now_us + in_us;
    event->order = events->order++;
    size_t i = events->count++;
    for (; i > 0 && is_before(event, events->heap[(i - 1) / 2]); i = (i - 1) / 2)
        events->heap[i] = events->heap[(i - 1) / 2];
    events->heap[i] = event;
}

static struct sim_event *take_first(struct sim_events *events)
{
    struct sim_event *first = events->heap[0], *last = events->heap[--events->count];
    size_t i = 0, child;
    for (; (child = 2 * i + 1) < events->count; i = child) {
        if (child + 1 < events->count && is_before(events->heap[child + 1], events->heap[child]))
            child++;
        if (!is_before(events->heap[child], last))
            break;
        events->heap[i] = events->heap[child];
    }
    events->heap[i] = last;
    return first;
}

int sim_events_step(struct sim_events *events)
{
    if (!events->count)
        return 0;
    struct sim_event *event = take_first(events);
    events->now_us = event->at_us;
    events->ran++;
    event->run(event);
    return 1;
}

void sim_events_fini(struct sim_events *events)
{
    while (events->count) {
        struct sim_event *event = events->heap[--events->count];
        event->drop(event);
    }
    free(events->heap);
    *events = (struct sim_events){0};
}
