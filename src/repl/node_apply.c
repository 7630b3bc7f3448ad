/* From committed to applied, and what a failure does.
 *
 * A node whose disk or memory failed is dead to its peers: it sends nothing, takes no frame in and lets no timer of
 * the core run, so that the others choose a leader without it, and what it may have lost is never asked of it. That is
 * simpler than a leader that gives up its role, and as safe: raft must survive a node that stops at any point, and to
 * the others this one has. What it still does is to serve what is in its memory: reads that need no leader, and a
 * checkpoint when it was only the log that failed. */
#include "base/log.h"
#include "repl/node_internal.h"

#include <inttypes.h>
#include <stdio.h>

#define CACHE_BYTES ((size_t)64 << 20)
/* And the entry that is being applied then. */
#define APPLY_NS_A_POLL 1000000u

void node_fail(struct kith_node *node, int status, const char *format, ...)
{
    char what[256];
    va_list arguments;
    if (node->failure != KITH_OK)
        return;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    node->failure = status;
    node->poll_now = true; /* for those who wait */
    kith_error_set(&node->failure_text, status,
                   "%s (%s): writes are refused until the server is started again", what,
                   kith_status_text(status));
    KITH_ERROR("%s", node->failure_text.text);
}

int node_apply(struct kith_node *node, enum kith_record_kind kind, uint64_t index, struct kith_slice payload,
               const struct kith_apply_hooks *hooks)
{
    struct kith_core_update update;
    if (kind == KITH_RECORD_COMMAND) {
        if (payload.length < NODE_TRAILER_BYTES)
            return KITH_ECORRUPT;
        payload.length -= NODE_TRAILER_BYTES;
        return node->machine.apply(node->machine.context, payload, hooks);
    }
    if (kind != KITH_RECORD_CONFIGURATION)
        return KITH_OK;
    int status = kith_core_configuration_applied(node->core, node->now_ms, index, payload, &update);
    if (status == KITH_OK)
        node_carry_out(node, &update);
    return status;
}

/* Whoever can reach nobody has no member to keep entries for. */
static void trim_cache(struct kith_node *node)
{
    struct node_window *window = &node->window;
    size_t limit = node->options.transport.send ? CACHE_BYTES : 0;
    while (window->first < window->next && window->first <= node->applied_index &&
           (window->applied_bytes > limit || !limit)) {
        window->applied_bytes -= node_entry_bytes(node_window_get(window, window->first));
        node_window_drop_first(window);
    }
}

/* Empty: it has none. */
static struct kith_slice trailer_of(const struct node_entry *entry)
{
    struct kith_slice payload = kith_buf_slice(&entry->log.payload);
    if (entry->log.kind != KITH_RECORD_COMMAND || payload.length < NODE_TRAILER_BYTES)
        return kith_slice(NULL, 0);
    return kith_slice(payload.data + payload.length - NODE_TRAILER_BYTES, NODE_TRAILER_BYTES);
}

/* Who waits for it: whoever submitted it to this node, be it as the leader or for the leader. */
static void apply_entry(struct kith_node *node, struct node_entry *entry)
{
    uint64_t index = entry->log.index;
    struct kith_slice payload = kith_buf_slice(&entry->log.payload);
    struct node_entry *forward =
        node->forwards.head ? node_forward_claim(node, trailer_of(entry), entry->log.term) : NULL;
    struct node_entry *waiter = forward ? forward : entry;
    int status = node_apply(node, entry->log.kind, index, payload, waiter->hooks);
    if (status < 0) {
        node->failed_in_apply = true;
        node_fail(node, status, "entry %" PRIu64 " could not be applied", index);
    }
    void (*done)(void *, int) = waiter->done;
    void *context = waiter->context;
    if (entry->done)
        node->own_waiting--;
    entry->done = NULL;
    entry->hooks = NULL;
    node->applied_index = index;
    node->applied_term = entry->log.term;
    node->waiting_bytes -= payload.length;
    node->window.applied_bytes += node_entry_bytes(entry);
    trim_cache(node);
    if (forward)
        kith_log_entry_release(&forward->log);
    if (done)
        done(context, status < 0 ? status : KITH_OK);
}

/* What waits will not be applied in this run. */
static void give_up(struct kith_node *node)
{
    struct node_window *window = &node->window;
    while (window->first < window->next) {
        struct node_entry *entry = node_window_get(window, window->first);
        void (*done)(void *, int) = entry->done;
        void *context = entry->context;
        if (window->first > node->applied_index)
            node->waiting_bytes -= entry->log.payload.length;
        node->own_waiting -= done != NULL;
        node_window_drop_first(window);
        if (done)
            done(context, node->failure != KITH_OK ? node->failure : KITH_EUNKNOWN);
    }
    window->applied_bytes = 0;
    if (node->failure != KITH_OK)
        node_forward_decide_all(node, node->failure, node->failure);
    else
        node_forward_decide_all(node, KITH_EUNKNOWN, KITH_ECLOSED);
    while (node_forward_finish_one(node)) {
    }
}

static void finish_orphan(struct kith_node *node)
{
    struct node_entry *entry = node->orphans;
    void (*done)(void *, int) = entry->done;
    void *context = entry->context;
    node->orphans = entry->next;
    node->own_waiting--;
    kith_log_entry_release(&entry->log);
    done(context, KITH_EUNKNOWN);
}

/* One sync, or one message, can commit what many passes brought: the rest is for the next poll. */
static void cut_when_long(struct kith_node *node, uint64_t since_ns)
{
    if (node->bounded && !node->closing &&
        kith_clock_monotonic_ns(&node->options.clock) - since_ns >= APPLY_NS_A_POLL)
        node->cut = node->poll_now = true;
}

void node_advance(struct kith_node *node)
{
    struct node_entry *entry;
    if (node->advancing)
        return;
    node->advancing = true;
    node->cut = node->cut && node->bounded && !node->closing;
    uint64_t since_ns = node->bounded ? kith_clock_monotonic_ns(&node->options.clock) : 0;
    for (;;) {
        if (node->orphans)
            finish_orphan(node);
        else if (node_forward_finish_one(node))
            continue;
        else if (node->failure == KITH_OK && !node->cut &&
                 node->applied_index < kith_core_commit_index(node->core) &&
                 (entry = node_window_get(&node->window, node->applied_index + 1))) {
            apply_entry(node, entry);
            cut_when_long(node, since_ns);
        } else
            break;
    }
    if (node->failure != KITH_OK || node->closing)
        give_up(node);
    node->advancing = false;
}
