/* How far behind a member is in time: the age of the first entry that it lacks. A leader notes now and then how long its
 * log was; when the notes are full every second one goes, so that a few of them reach from milliseconds to days, each
 * about as exact as it is old. */
#include "repl/node_internal.h"

enum { NOTE_MS = 10 };

static void thin(struct node_lag *lag)
{
    for (size_t i = 1; 2 * i < lag->count; i++) {
        lag->index[i] = lag->index[2 * i];
        lag->at_ms[i] = lag->at_ms[2 * i];
    }
    lag->count = (lag->count + 1) / 2;
}

void node_lag_note(struct kith_node *node)
{
    struct node_lag *lag = &node->lag;
    uint64_t last = kith_core_last_index(node->core);
    if (kith_core_get_role(node->core) != KITH_CORE_LEADER) {
        lag->count = 0;
        return;
    }
    if (lag->count &&
        (lag->index[lag->count - 1] == last || node->now_ms < lag->at_ms[lag->count - 1] + NOTE_MS))
        return;
    if (lag->count == NODE_LAG_NOTES)
        thin(lag);
    lag->index[lag->count] = last;
    lag->at_ms[lag->count++] = node->now_ms;
}

int64_t node_lag_ms(const struct kith_node *node, uint64_t match_index)
{
    const struct node_lag *lag = &node->lag;
    uint64_t now_ms = kith_clock_monotonic_ns(&node->options.clock) / 1000000;
    for (size_t i = 0; i < lag->count; i++)
        if (lag->index[i] > match_index)
            return (int64_t)(now_ms - lag->at_ms[i]);
    return 0;
}
