/* The server's loop. A pass is one round of libuv's loop: socket callbacks parse and run commands, then,
 * before the loop sleeps again, `pass_end` submits the writes of all connections as one entry, lets
 * connections go on that waited for it, and sends every reply with one write a connection. */
#include "net/internal.h"

#include "base/log.h"
#include "base/os.h"
#include "net/listen.h"
#include "repl/members.h"

#include <stdlib.h>

enum {
    CRON_MS = 100,
    PASS_ROUNDS = 8,         /* of submit and resume before sockets get their turn */
    LINKS_SETTLED_MS = 1000, /* without a new link, before the links are saved */
    HELD_CHECK_MS = 2,
};

int64_t server_now(struct kith_server *server)
{
    if (!server->now_valid) {
        int64_t now = kith_os_wall_ms();
        if (now > server->now_ms)
            server->now_ms = now;
        server->now_valid = true;
    }
    return server->now_ms;
}

bool server_leader_address(const struct kith_server *server, char *text, size_t size)
{
    struct kith_node_member *members = malloc(KITH_MEMBERS_MAX * sizeof *members);
    size_t count = members ? kith_node_get_members(server->node, members, KITH_MEMBERS_MAX) : 0;
    bool found = false;
    for (size_t i = 0; i < count && !found; i++)
        if (members[i].leader && members[i].client_address[0]) {
            snprintf(text, size, "%s", members[i].client_address);
            found = true;
        }
    free(members);
    return found;
}

static bool is_drained(const struct kith_server *server)
{
    if (server->batch || server->submitted_head)
        return false;
    for (const struct kith_connection *c = server->connections; c; c = c->next)
        if (!(c->flags & CONNECTION_CLOSING) && (c->in_flight || c->deferred || connection_output_bytes(c)))
            return false;
    return true;
}

void server_may_stop(struct kith_server *server)
{
    if (server->stopping && !server->stopped && is_drained(server)) {
        server->stopped = true;
        uv_stop(&server->loop);
    }
}

static struct kith_connection *take_list(struct kith_connection **list)
{
    struct kith_connection *first = *list;
    *list = NULL;
    return first;
}

static void resume_connections(struct kith_server *server)
{
    struct kith_connection *connection = take_list(&server->resumed);
    while (connection) {
        struct kith_connection *next = connection->next_resumed;
        connection->flags &= ~CONNECTION_RESUMED;
        connection_resume(connection);
        connection = next;
    }
}

static void flush_connections(struct kith_server *server)
{
    struct kith_connection *connection = take_list(&server->dirty);
    while (connection) {
        struct kith_connection *next = connection->next_dirty;
        connection->flags &= ~CONNECTION_DIRTY;
        connection_flush(connection);
        connection = next;
    }
}

static void idle_run(uv_idle_t *idle);

static void set_idle(struct kith_server *server, bool on)
{
    if (on == server->idle_on)
        return;
    server->idle_on = on;
    if (on)
        uv_idle_start(&server->idle, idle_run);
    else
        uv_idle_stop(&server->idle);
}

/* Starts a handle's work only so that the loop does not sleep; the work is done here. */
static void idle_run(uv_idle_t *idle)
{
    struct kith_server *server = idle->data;
    if (!kith_engine_idle_work(server->engine))
        set_idle(server, false);
}

static void node_timer_fired(uv_timer_t *timer)
{
    struct kith_server *server = timer->data;
    kith_node_poll(server->node);
}

static void schedule_node(struct kith_server *server)
{
    int64_t timeout_ms = kith_node_timeout_ms(server->node);
    if (timeout_ms == 0)
        set_idle(server, true);
    else if (timeout_ms > 0 && (!uv_is_active((uv_handle_t *)&server->node_timer) ||
                                uv_timer_get_due_in(&server->node_timer) > (uint64_t)timeout_ms))
        uv_timer_start(&server->node_timer, node_timer_fired, (uint64_t)timeout_ms, 0);
}

/* One entry removes a few hundred keys. As long as more are due there is one in every pass: many keys of one
 * moment give their memory back soon, and no pass is long for it. A log that has failed ends the chase. */
static void remove_expired(struct kith_server *server)
{
    /* Time passes in the log: only the leader lets keys go. */
    bool is_off = server->ticks_off || kith_node_role(server->node) != KITH_CORE_LEADER;
    int64_t first_ms = is_off ? -1 : kith_engine_next_expiry_ms(server->engine);
    if (first_ms < 0 || first_ms >= server_now(server) || server->stopping ||
        *kith_node_error(server->node)) {
        server->expiry_due = false;
        return;
    }
    if (server->tick_in_flight || (server->batch && server->batch->write_count))
        return; /* entries with writes remove keys too; either comes back here when it is done */
    batch_submit_tick(server);
    set_idle(server, true);
}

static void pass_end(struct kith_server *server)
{
    turn_next_pass(server);
    if (server->expiry_due)
        remove_expired(server);
    bool gathers = batch_gathers(server);
    for (int round = 0; round < PASS_ROUNDS; round++) {
        if (server->batch && !gathers)
            batch_submit(server);
        if (round == 0 && kith_node_wants_poll(server->node))
            kith_node_poll(server->node);
        if (!server->resumed)
            break;
        resume_connections(server);
    }
    if (server->batch && !gathers)
        batch_submit(server);
    if (server->search_count)
        deferred_run_or_submit(server);
    flush_connections(server);
    schedule_node(server);
    if (gathers || server->resumed || server->dirty || server->later)
        set_idle(server, true);
    server->pass++;
    server->now_valid = false;
    server_may_stop(server);
}

/* What the pass has taken but for the sleep in it: a long one is a pause that everybody noticed. */
static void note_pass(struct kith_server *server)
{
    struct kith_server_stats *total = &server->stats.total;
    uint64_t now_ns = uv_hrtime(), idle_ns = uv_metrics_idle_time(&server->loop);
    uint64_t elapsed_ns = now_ns - server->pass_ns, slept_ns = idle_ns - server->pass_idle_ns;
    uint64_t busy_us = elapsed_ns > slept_ns ? (elapsed_ns - slept_ns) / 1000 : 0;
    if (server->pass_ns) {
        total->passes++;
        total->busy_us += busy_us;
        if (busy_us > total->longest_pass_us)
            total->longest_pass_us = busy_us;
    }
    server->pass_ns = now_ns;
    server->pass_idle_ns = idle_ns;
}

static void prepare_run(uv_prepare_t *prepare)
{
    struct kith_server *server = prepare->data;
    if (!server->node)
        return;
    pass_end(server);
    note_pass(server);
}

void kith_server_wake(void *server)
{
    uv_async_send(&((struct kith_server *)server)->wake);
}

static void wake_run(uv_async_t *wake)
{
    struct kith_server *server = wake->data;
    if (!server->node)
        return;
    if (server->pool)
        kith_pool_drain(server->pool);
    kith_node_poll(server->node);
}

/* Links made since the last checkpoint are saved once linking has been quiet for a while: a restart would
 * have to make them again. */
static void save_links(struct kith_server *server, uint64_t now_ms)
{
    bool pending = false;
    uint64_t links = kith_engine_links_unsaved(server->engine, &pending);
    if (!links || pending || links != server->links_seen) {
        server->links_seen = links;
        server->links_settled_ms = now_ms;
        return;
    }
    if (now_ms - server->links_settled_ms < LINKS_SETTLED_MS)
        return;
    server->links_settled_ms = now_ms;
    if (kith_node_checkpoint(server->node, NULL, NULL) == KITH_OK)
        server->stats.total.checkpoints_after_linking++;
}

static void check_connection(struct kith_connection *connection, uint64_t now_ms)
{
    struct kith_server *server = connection->server;
    uint64_t timeout_ms = server->options.limits.timeout_s * 1000ull;
    bool quiet = !connection->in_flight && !connection->deferred;
    if (connection->flags & CONNECTION_CLOSING)
        return;
    if (timeout_ms && quiet && now_ms - connection->active_ms > timeout_ms) {
        server->stats.total.timeout_closed++;
        connection_close(connection);
    } else if (connection->sending.data || connection->out.length) {
        connection_over_output_limit(connection);
    }
}

static void cron_run(uv_timer_t *timer)
{
    struct kith_server *server = timer->data;
    uint64_t now_ms = uv_now(&server->loop);
    stats_sample(&server->stats, now_ms);
    if (server->options.limits.timeout_s || server->options.limits.output_soft_bytes)
        for (struct kith_connection *c = server->connections, *next; c; c = next) {
            next = c->next;
            check_connection(c, now_ms);
        }
    if (server->stopping)
        return;
    if (server->stalled_listener) {
        uv_stream_t *listener = server->stalled_listener;
        server->stalled_listener = NULL;
        connection_accept(listener, 0);
    }
    server->expiry_due = true;
    save_links(server, now_ms);
    if (kith_engine_idle_work(server->engine))
        set_idle(server, true);
}

static void held_run(uv_timer_t *timer)
{
    struct kith_server *server = timer->data;
    uint64_t now_ms = uv_now(&server->loop);
    for (struct kith_connection *c = server->connections; c; c = c->next) {
        if (!(c->flags & CONNECTION_HELD) || c->held_until_ms > now_ms)
            continue;
        c->flags &= ~CONNECTION_HELD;
        server->held_count--;
        connection_mark_resumed(c);
    }
    if (server->held_count)
        uv_timer_start(&server->held_timer, held_run, HELD_CHECK_MS, 0);
}

void server_hold_back(struct kith_connection *connection, unsigned delay_ms)
{
    struct kith_server *server = connection->server;
    connection->held_until_ms = uv_now(&server->loop) + delay_ms;
    connection->flags |= CONNECTION_HELD;
    server->stats.total.held_back++;
    if (server->held_count++ == 0)
        uv_timer_start(&server->held_timer, held_run, HELD_CHECK_MS, 0);
}

static void take_limits(struct kith_server *server, const struct kith_server_options *options)
{
    server->options = *options;
    server->limits = (struct kith_request_limits){.arguments_max = options->limits.argument_max,
                                                  .bulk_max = options->limits.bulk_bytes,
                                                  .line_max = 64u << 10};
    server->limits_before_auth = (struct kith_request_limits)KITH_REQUEST_LIMITS_UNAUTHENTICATED;
}

void kith_server_configure(struct kith_server *server, const struct kith_server_options *options)
{
    take_limits(server, options);
}

void kith_server_set_ticks(struct kith_server *server, bool on)
{
    server->ticks_off = !on;
}

int kith_server_open(struct kith_server **out, const struct kith_server_options *options)
{
    struct kith_server *server = calloc(1, sizeof *server);
    if (!server)
        return KITH_ENOMEM;
    server->read_buffer = malloc(READ_BUFFER_BYTES);
    if (!server->read_buffer || uv_loop_init(&server->loop) != 0) {
        free(server->read_buffer);
        free(server);
        return KITH_ENOMEM;
    }
    uv_loop_configure(&server->loop, UV_METRICS_IDLE_TIME); /* without it passes seem to never sleep */
    take_limits(server, options);
    uint64_t seed;
    kith_os_random(&seed, sizeof seed);
    kith_rng_seed(&server->rng, seed);
    uv_prepare_init(&server->loop, &server->prepare);
    uv_idle_init(&server->loop, &server->idle);
    uv_timer_init(&server->loop, &server->cron);
    uv_timer_init(&server->loop, &server->node_timer);
    uv_timer_init(&server->loop, &server->held_timer);
    uv_timer_init(&server->loop, &server->stop_timer);
    server->prepare.data = server->idle.data = server->cron.data = server;
    server->node_timer.data = server->held_timer.data = server->stop_timer.data = server->wake.data = server;
    if (uv_async_init(&server->loop, &server->wake, wake_run) != 0) {
        kith_server_close(server);
        return KITH_EIO;
    }
    *out = server;
    return KITH_OK;
}

uv_loop_t *kith_server_loop(struct kith_server *server)
{
    return &server->loop;
}

int kith_server_start(struct kith_server *server, struct kith_engine *engine, struct kith_node *node,
                      struct kith_pool *pool, struct kith_error *error)
{
    server->engine = engine;
    server->node = node;
    server->pool = pool;
    if (pool)
        server->executor = kith_pool_executor(pool);
    server->worker_count = pool ? kith_pool_thread_count(pool) : 1;
    int status = listen_open(server, error);
    if (status)
        return status;
    uv_prepare_start(&server->prepare, prepare_run);
    uv_timer_start(&server->cron, cron_run, CRON_MS, CRON_MS);
    kith_server_wake(server); /* what finished before the loop ran */
    return KITH_OK;
}

void kith_server_run(struct kith_server *server)
{
    while (!server->stopped)
        uv_run(&server->loop, UV_RUN_DEFAULT);
}

bool kith_server_is_stopping(const struct kith_server *server)
{
    return server->stopping;
}

static void stop_timer_fired(uv_timer_t *timer)
{
    struct kith_server *server = timer->data;
    KITH_WARN("stopping although some clients have not read their replies within shutdown-timeout");
    server->stopped = true;
    uv_stop(&server->loop);
}

void kith_server_stop(struct kith_server *server)
{
    if (server->stopping)
        return;
    server->stopping = true;
    listen_close(server);
    for (struct kith_connection *c = server->connections; c; c = c->next)
        connection_stop_reading(c);
    uv_timer_start(&server->stop_timer, stop_timer_fired, server->options.shutdown_timeout_ms, 0);
}

static void close_handle(uv_handle_t *handle, void *server)
{
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void free_spares(struct kith_server *server)
{
    batch_free_spares(server);
    for (size_t i = 0; i < server->spare_parser_count; i++) {
        kith_request_parser_fini(server->spare_parsers[i]);
        free(server->spare_parsers[i]);
    }
    for (size_t i = 0; i < server->spare_buffer_count; i++)
        kith_buf_fini(&server->spare_buffers[i]);
    for (size_t i = 0; i < server->spare_queue_count; i++)
        free(server->spare_queues[i]);
}

void kith_server_close(struct kith_server *server)
{
    if (!server)
        return;
    /* The node is gone already: what still fires in the last rounds of the loop must leave it alone. */
    server->node = NULL;
    server->stopping = true;
    uv_timer_stop(&server->cron);
    uv_timer_stop(&server->node_timer);
    uv_timer_stop(&server->held_timer);
    uv_timer_stop(&server->stop_timer);
    set_idle(server, false);
    listen_close(server);
    for (struct kith_connection *c = server->connections, *next; c; c = next) {
        next = c->next;
        connection_close(c);
    }
    uv_prepare_stop(&server->prepare);
    uv_run(&server->loop, UV_RUN_NOWAIT);
    turn_next_pass(server);
    resume_connections(server); /* the lists hold closed connections only: their memory */
    flush_connections(server);
    uv_walk(&server->loop, close_handle, server);
    while (uv_run(&server->loop, UV_RUN_DEFAULT) != 0)
        continue;
    int status = uv_loop_close(&server->loop);
    KITH_ASSERT(status == 0);
    free_spares(server);
    free(server->arguments);
    kith_buf_fini(&server->refusals);
    kith_buf_fini(&server->discard);
    free(server->read_buffer);
    free(server);
}

void kith_server_get_stats(struct kith_server *server, struct kith_server_stats *stats)
{
    *stats = server->stats.total;
    stats->clients = server->client_count;
    stats->clients_blocked = 0;
    stats->query_bytes = stats->output_bytes_waiting = 0;
    for (const struct kith_connection *c = server->connections; c; c = c->next) {
        stats->clients_blocked += (c->flags & (CONNECTION_BLOCKED | CONNECTION_HELD)) != 0;
        stats->query_bytes += c->query.capacity;
        stats->output_bytes_waiting += connection_output_bytes(c);
    }
}

void kith_server_reset_stats(struct kith_server *server)
{
    stats_reset(&server->stats);
    server->stats.total.clients_peak = server->client_count;
}

void kith_server_each_command(const struct kith_server *server, kith_server_command_fn *each, void *context)
{
    for (size_t i = 0; i < STATS_COMMANDS; i++) {
        const struct command_stats *entry = &server->stats.commands[i];
        if (entry->command && (entry->calls || entry->rejected))
            each(context, entry->command->name, entry->calls, entry->rejected, entry->failed);
    }
}

void kith_server_each_error(const struct kith_server *server, kith_server_error_fn *each, void *context)
{
    for (size_t i = 0; i < STATS_ERRORS; i++)
        if (server->stats.errors[i].count)
            each(context, i == STATS_ERRORS - 1 ? "other" : server->stats.errors[i].code,
                 server->stats.errors[i].count);
}

static void command_line(void *out, const char *name, uint64_t calls, uint64_t rejected, uint64_t failed)
{
    kith_buf_append_format(out, "cmdstat_%s:calls=%llu,rejected_calls=%llu,failed_calls=%llu\r\n", name,
                           (unsigned long long)calls, (unsigned long long)rejected,
                           (unsigned long long)failed);
}

void kith_server_command_stats(const struct kith_server *server, struct kith_buf *out)
{
    kith_server_each_command(server, command_line, out);
}

static void error_line(void *out, const char *code, uint64_t count)
{
    kith_buf_append_format(out, "errorstat_%s:count=%llu\r\n", code, (unsigned long long)count);
}

void kith_server_error_stats(const struct kith_server *server, struct kith_buf *out)
{
    kith_server_each_error(server, error_line, out);
}
