/* Searches of one connection that run on the pool side by side. A ring of slots keeps their replies in the
 * order of the requests; a command that is answered at once while searches are in flight puts its reply into
 * a slot too.
 *
 * A short search takes less time than it takes to hand it to another thread and to be woken by its end. So the
 * searches of a pass are gathered, and go to the workers some at a time; a few of a client that is alone run here. */
#include "net/internal.h"

#include <stdlib.h>

enum {
    SEARCHED_HERE_NS = 700000, /* in one pass, at most: whoever comes now is not served meanwhile */
    HANDED_OVER_NS = 50000,    /* and woken by the end */
};

/* Some searches that one worker runs one after the other. */
struct search_group {
    struct kith_task task;
    struct kith_server *server;
    unsigned count;
    struct kith_deferred *items[SEARCHES_AT_ONCE];
};

bool deferred_is_full(const struct kith_connection *connection)
{
    return connection->deferred && connection->deferred->count == DEFERRED_MAX;
}

unsigned deferred_count(const struct kith_connection *connection)
{
    return connection->deferred ? connection->deferred->count : 0;
}

static struct deferred_queue *take_queue(struct kith_server *server)
{
    if (server->spare_queue_count)
        return server->spare_queues[--server->spare_queue_count];
    return calloc(1, sizeof(struct deferred_queue));
}

static void give_queue(struct kith_connection *connection)
{
    struct kith_server *server = connection->server;
    struct deferred_queue *queue = connection->deferred;
    connection->deferred = NULL;
    if (server->spare_queue_count < SPARE_MAX)
        server->spare_queues[server->spare_queue_count++] = queue;
    else
        free(queue);
}

static void close_slot(struct deferred_slot *slot)
{
    if (slot->deferred)
        slot->deferred->close(slot->deferred);
    kith_buf_fini(&slot->reply);
    *slot = (struct deferred_slot){0};
}

static void write_slot(struct kith_connection *connection, struct deferred_slot *slot)
{
    struct kith_buf *out = connection_out(connection);
    size_t start = out->length;
    struct kith_reply reply;
    kith_reply_init(&reply, out, connection->session.protocol);
    if (slot->deferred)
        slot->deferred->finish(slot->deferred, &reply);
    else
        kith_buf_append(out, slot->reply.data, slot->reply.length);
    out->failed |= slot->reply.failed;
    if (reply.error_count && start < out->length)
        stats_count_error(&connection->server->stats, kith_slice(out->data + start, out->length - start));
    if (slot->silent)
        out->length = start;
}

/* Writes the replies that are ready at the front. */
static void deliver(struct kith_connection *connection)
{
    struct deferred_queue *queue = connection->deferred;
    while (queue->count && queue->slots[queue->head].finished) {
        struct deferred_slot *slot = &queue->slots[queue->head];
        write_slot(connection, slot);
        close_slot(slot);
        queue->head = (queue->head + 1) % DEFERRED_MAX;
        queue->count--;
        if (connection_over_output_limit(connection))
            return; /* closed: the queue is gone, or goes with its last task */
    }
    if (connection->flags & CONNECTION_BLOCKED && (queue->count == 0 || queue->count == DEFERRED_MAX / 2))
        connection_mark_resumed(connection);
    if (!queue->count)
        give_queue(connection);
}

void deferred_abandon(struct kith_connection *connection)
{
    struct deferred_queue *queue = connection->deferred;
    if (!queue)
        return;
    for (unsigned i = 0; i < queue->count; i++) {
        struct deferred_slot *slot = &queue->slots[(queue->head + i) % DEFERRED_MAX];
        if (slot->finished)
            close_slot(slot);
    }
    queue->head = queue->count = 0;
    if (!queue->running)
        give_queue(connection);
}

/* Its search has run. Returns whose it was. */
static struct kith_connection *mark_finished(struct kith_deferred *deferred)
{
    struct deferred_slot *slot = deferred->owner;
    struct kith_connection *connection = slot->connection;
    slot->finished = true;
    connection->deferred->running--;
    if (connection->flags & CONNECTION_CLOSING)
        close_slot(slot);
    return connection;
}

/* After mark_finished, once for each connection. */
static void after_finished(struct kith_connection *connection)
{
    if (!(connection->flags & CONNECTION_CLOSING)) {
        deliver(connection);
    } else if (!connection->deferred->running) {
        give_queue(connection);
        connection_release(connection);
    }
}

static void submit(struct kith_server *server, struct kith_task *task)
{
    server->searches_running++;
    kith_executor_submit(&server->executor, task);
}

static void on_task_done(struct kith_task *task)
{
    struct kith_deferred *deferred = (struct kith_deferred *)task;
    const struct deferred_slot *slot = deferred->owner;
    if (deferred->again && !(slot->connection->flags & CONNECTION_CLOSING)) {
        deferred->again = false;
        kith_executor_submit(&slot->connection->server->executor, task);
        return;
    }
    slot->connection->server->searches_running--;
    after_finished(mark_finished(deferred));
}

static void run_group(struct kith_task *task)
{
    struct search_group *group = (struct search_group *)task;
    for (unsigned i = 0; i < group->count; i++)
        group->items[i]->task.run(&group->items[i]->task);
}

static void prefetch_group(const struct search_group *group)
{
    for (int stage = 0; stage < 2; stage++)
        for (unsigned i = 0; i < group->count; i++)
            if (group->items[i]->prefetch)
                group->items[i]->prefetch(group->items[i], stage);
}

static void finish_group(const struct search_group *group)
{
    struct kith_connection *connections[SEARCHES_AT_ONCE];
    unsigned count = 0;
    prefetch_group(group);
    for (unsigned i = 0; i < group->count; i++) {
        struct kith_connection *connection = mark_finished(group->items[i]);
        unsigned at = 0;
        while (at < count && connections[at] != connection)
            at++;
        connections[at] = connection;
        count += at == count;
    }
    for (unsigned i = 0; i < count; i++)
        after_finished(connections[i]);
}

static void on_group_done(struct kith_task *task)
{
    struct search_group *group = (struct search_group *)task;
    group->server->searches_running--;
    finish_group(group);
    free(group);
}

/* Without memory for a group each goes by itself. */
static void submit_group(struct kith_server *server, struct kith_deferred *const *items, unsigned count)
{
    struct search_group *group = count > 1 ? malloc(sizeof *group) : NULL;
    if (group) {
        group->task = (struct kith_task){.run = run_group, .done = on_group_done};
        group->server = server;
        group->count = count;
        memcpy(group->items, items, count * sizeof *items);
        submit(server, &group->task);
        return;
    }
    for (unsigned i = 0; i < count; i++)
        submit(server, &items[i]->task);
}

static unsigned shares_of(const struct kith_server *server, unsigned count)
{
    unsigned shares = count / SEARCHES_LEAST;
    shares = shares < server->worker_count ? shares : server->worker_count;
    return shares ? shares : 1;
}

void deferred_submit(struct kith_server *server)
{
    struct kith_deferred *items[SEARCHES_AT_ONCE];
    unsigned count = server->search_count, shares = shares_of(server, count);
    /* An inline executor may come back here. */
    memcpy(items, server->searches, count * sizeof *items);
    server->search_count = 0;
    server->stats.total.reads_deferred += count;
    for (unsigned i = 0, first = 0; i < shares; i++) {
        unsigned next = count * (i + 1) / shares;
        submit_group(server, items + first, next - first);
        first = next;
    }
}

/* Whether this thread has the answers sooner than the workers, and nobody waits for it meanwhile: all searches of the
 * pass are one client's, the only one that was served in the last passes, they are short for certain, and none is at
 * work elsewhere. */
static bool is_sooner_here(const struct kith_server *server)
{
    const struct deferred_slot *first = server->searches[0]->owner;
    uint64_t sum_ns = 0;
    if (server->searches_running || !turn_is_lone(first->connection))
        return false;
    for (unsigned i = 0; i < server->search_count; i++) {
        const struct deferred_slot *slot = server->searches[i]->owner;
        if (slot->connection != first->connection || !server->searches[i]->cost_ns)
            return false;
        sum_ns += server->searches[i]->cost_ns;
    }
    return sum_ns <= SEARCHED_HERE_NS &&
           sum_ns <= sum_ns / shares_of(server, server->search_count) + HANDED_OVER_NS;
}

void deferred_run_or_submit(struct kith_server *server)
{
    struct search_group group = {.server = server, .count = server->search_count};
    if (!is_sooner_here(server)) {
        deferred_submit(server);
        return;
    }
    memcpy(group.items, server->searches, group.count * sizeof *group.items);
    server->search_count = 0;
    server->stats.total.searches_at_once += group.count;
    run_group(&group.task);
    finish_group(&group);
}

static struct deferred_slot *new_slot(struct kith_connection *connection, bool silent)
{
    struct deferred_queue *queue = connection->deferred;
    struct deferred_slot *slot = &queue->slots[(queue->head + queue->count++) % DEFERRED_MAX];
    *slot = (struct deferred_slot){.connection = connection, .silent = silent};
    return slot;
}

/* Runs the command with its reply going to `out`; the rest of it, if any, is returned. */
static struct kith_deferred *execute(struct kith_connection *connection, const struct kith_admitted *request,
                                     struct kith_buf *out, bool silent)
{
    struct kith_server *server = connection->server;
    struct kith_deferred *deferred = NULL;
    struct kith_reply reply;
    size_t start = out->length;
    kith_reply_init(&reply, out, connection->session.protocol);
    kith_engine_execute(server->engine, request, server_now(server), &reply, &deferred);
    dispatch_after_reply(connection, request->command, &reply, start, silent && !deferred);
    return deferred;
}

void deferred_run(struct kith_connection *connection, const struct kith_admitted *request, bool silent)
{
    struct kith_server *server = connection->server;
    struct kith_buf reply;
    kith_buf_init(&reply);
    bool first = !connection->deferred;
    if (first && !(connection->deferred = take_queue(server))) {
        connection_close(connection);
        return;
    }
    struct kith_deferred *deferred =
        execute(connection, request, first ? connection_out(connection) : &reply, silent);
    if (!deferred && first) {
        give_queue(connection);
        return;
    }
    struct deferred_slot *slot = new_slot(connection, silent);
    slot->reply = reply;
    slot->deferred = deferred;
    if (!deferred) {
        slot->finished = true;
        return;
    }
    deferred->owner = slot;
    deferred->task.done = on_task_done;
    connection->deferred->running++;
    if (deferred->alone) {
        server->stats.total.reads_deferred++;
        submit(server, &deferred->task);
        return;
    }
    server->searches[server->search_count++] = deferred;
    if (server->search_count == SEARCHES_AT_ONCE)
        deferred_submit(server);
}
