/* The writes of one pass become one entry of the log. What a connection reads behind a write of its own waits
 * in the same list and runs right after the write was applied, so that a mixed pipeline costs one commit.
 *
 * In a group of several every read of the pass waits in that list: the entry's own place in the log makes what follows
 * it linearizable, and a list without a write asks the node for a barrier instead (kith_node_read). Batches may then
 * end in another order than they were submitted in (a forwarded one can be refused and sent again), so a connection
 * has what is in flight of it in one batch only. */
#include "net/internal.h"

#include "base/log.h"
#include "base/os.h"

#include <stdlib.h>

enum {
    BATCH_BYTES_MAX = 16 * 1024 * 1024,
    READS_KEPT = 64 * 1024,
    PAYLOAD_LEAST = 512,
    GATHER_NS = 200000,
};

static void on_begin(void *context, size_t n, struct kith_session **session, struct kith_reply **reply);
static void on_end(void *context, size_t n);

static struct batch *open_batch(struct kith_server *server)
{
    struct batch *batch = server->spare_batches;
    if (batch)
        server->spare_batches = batch->next;
    else if (!(batch = calloc(1, sizeof *batch)))
        return NULL;
    batch->next = batch->previous = NULL;
    batch->tick = batch->grouped = false;
    batch->server = server;
    batch->hooks = (struct kith_apply_hooks){batch, on_begin, on_end};
    batch->op_count = batch->done_count = batch->write_count = batch->run_count = batch->seen_count = 0;
    kith_buf_init(&batch->payload);
    kith_buf_clear(&batch->reads);
    kith_buf_reserve(&batch->payload,
                     server->payload_hint > PAYLOAD_LEAST ? server->payload_hint : PAYLOAD_LEAST);
    kith_entry_begin(&batch->payload, server_now(server), kith_rng_next(&server->rng));
    return batch;
}

static void free_batch(struct batch *batch)
{
    kith_buf_fini(&batch->payload);
    kith_buf_fini(&batch->reads);
    free(batch->ops);
    free(batch);
}

static void recycle(struct batch *batch)
{
    struct kith_server *server = batch->server;
    kith_buf_fini(&batch->payload);
    if (batch->reads.capacity > READS_KEPT)
        kith_buf_fini(&batch->reads);
    batch->next = server->spare_batches;
    server->spare_batches = batch;
}

void batch_free_spares(struct kith_server *server)
{
    while (server->spare_batches) {
        struct batch *batch = server->spare_batches;
        server->spare_batches = batch->next;
        free_batch(batch);
    }
}

static struct op *new_op(struct batch *batch)
{
    if (batch->op_count == batch->op_capacity) {
        size_t capacity = batch->op_capacity ? 2 * batch->op_capacity : 64;
        struct op *moved = realloc(batch->ops, capacity * sizeof *moved);
        if (!moved)
            return NULL;
        batch->ops = moved;
        batch->op_capacity = capacity;
    }
    return &batch->ops[batch->op_count];
}

/* It runs on the pool when its turn comes, and what follows it in its connection waits for its reply. */
static bool is_search(const struct op *op)
{
    return op->command->flags & KITH_CMD_DEFERS;
}

int batch_add_write(struct kith_connection *connection, const struct kith_admitted *request, bool silent)
{
    struct kith_server *server = connection->server;
    if (!server->batch && !(server->batch = open_batch(server)))
        return KITH_ENOMEM;
    struct batch *batch = server->batch;
    struct op *op = new_op(batch);
    size_t length = batch->payload.length;
    if (op && !batch->payload.failed)
        kith_entry_append(&batch->payload, connection->session.db_index, request->argv, request->argc);
    if (!op || batch->payload.failed) {
        batch->payload.length = length; /* the writes before this one go on */
        batch->payload.failed = false;
        if (!batch->op_count) {
            server->batch = NULL;
            recycle(batch);
        }
        return KITH_ENOMEM;
    }
    *op = (struct op){connection, SIZE_MAX, request->argc, request->command, silent};
    turn_spend_write(connection);
    batch->op_count++;
    batch->write_count++;
    connection->in_flight++;
    connection->batch = batch;
    if (batch->payload.length >= BATCH_BYTES_MAX)
        batch_submit(server);
    return KITH_OK;
}

bool batch_is_grouped(const struct kith_server *server)
{
    return server->grouped_count || !kith_node_is_alone(server->node);
}

bool batch_may_join(const struct kith_connection *connection)
{
    return !connection->in_flight || connection->batch == connection->server->batch;
}

/* Behind everything of this connection: in the open batch, or else in the last submitted one. */
static struct batch *batch_for_read(const struct kith_server *server)
{
    return server->batch || batch_is_grouped(server) ? server->batch : server->submitted_tail;
}

bool batch_is_full_for_reads(const struct kith_server *server)
{
    const struct batch *batch = batch_for_read(server);
    return batch && batch->reads.length > BATCH_BYTES_MAX;
}

int batch_add_read(struct kith_connection *connection, const struct kith_admitted *request, bool silent)
{
    struct kith_server *server = connection->server;
    struct batch *batch = batch_for_read(server);
    if (!batch && !(batch = server->batch = open_batch(server)))
        return KITH_ENOMEM;
    struct op *op = new_op(batch);
    if (!op)
        return KITH_ENOMEM;
    size_t offset = batch->reads.length;
    for (size_t i = 0; i < request->argc; i++) {
        kith_buf_append(&batch->reads, &request->argv[i].length, sizeof request->argv[i].length);
        kith_buf_append(&batch->reads, request->argv[i].data, request->argv[i].length);
    }
    if (batch->reads.failed) {
        batch->reads.length = offset;
        batch->reads.failed = false;
        return KITH_ENOMEM;
    }
    *op = (struct op){connection, offset, request->argc, request->command, silent};
    turn_spend_write(connection);
    batch->op_count++;
    connection->in_flight++;
    connection->searches_waiting += is_search(op);
    connection->batch = batch;
    return KITH_OK;
}

static bool take_arguments(struct batch *batch, const struct op *op)
{
    struct kith_server *server = batch->server;
    if (op->argc > server->argument_capacity) {
        struct kith_slice *moved = realloc(server->arguments, op->argc * sizeof *moved);
        if (!moved)
            return false;
        server->arguments = moved;
        server->argument_capacity = op->argc;
    }
    const char *at = batch->reads.data + op->read_offset;
    for (size_t i = 0; i < op->argc; i++) {
        memcpy(&server->arguments[i].length, at, sizeof server->arguments[i].length);
        server->arguments[i].data = at + sizeof server->arguments[i].length;
        at = server->arguments[i].data + server->arguments[i].length;
    }
    return true;
}

/* Where the op's reply goes: the connection, or nowhere when it has gone. */
static void begin_reply(struct batch *batch, const struct op *op)
{
    struct kith_connection *connection = op->connection;
    struct kith_buf *out = &batch->server->discard;
    if (connection->flags & CONNECTION_CLOSING)
        kith_buf_clear(out);
    else
        out = connection_out(connection);
    kith_reply_init(&batch->reply, out, connection->session.protocol);
    batch->reply_start = out->length;
}

static void land(struct kith_connection *connection)
{
    if (--connection->in_flight == 0) {
        if (connection->flags & CONNECTION_BLOCKED)
            connection_mark_resumed(connection);
        connection_release(connection);
    }
}

static void end_op(struct batch *batch)
{
    const struct op *op = &batch->ops[batch->done_count++];
    struct kith_connection *connection = op->connection;
    connection->searches_waiting -= is_search(op);
    dispatch_after_reply(connection, op->command, &batch->reply, batch->reply_start, op->silent);
    if (batch->reply.out != &batch->server->discard && batch->reply.out->length >= FLUSH_EARLY_BYTES)
        connection_over_output_limit(connection);
    land(connection);
}

static void execute_read(struct batch *batch, const struct op *op)
{
    struct kith_server *server = batch->server;
    struct kith_admitted request = {.session = &op->connection->session,
                                    .command = op->command,
                                    .argv = server->arguments,
                                    .argc = op->argc};
    kith_engine_execute(server->engine, &request, server_now(server), &batch->reply, NULL);
}

/* Its arguments are in server->arguments. */
static void start_search(struct batch *batch)
{
    const struct op op = batch->ops[batch->done_count++];
    struct kith_admitted request = {.session = &op.connection->session,
                                    .command = op.command,
                                    .argv = batch->server->arguments,
                                    .argc = op.argc};
    op.connection->searches_waiting--;
    if (!(op.connection->flags & CONNECTION_CLOSING))
        deferred_run(op.connection, &request, op.silent);
    land(op.connection);
}

static void run_reads(struct batch *batch)
{
    while (batch->done_count < batch->op_count && batch->ops[batch->done_count].read_offset != SIZE_MAX) {
        const struct op *op = &batch->ops[batch->done_count];
        if (is_search(op) && take_arguments(batch, op)) {
            start_search(batch);
            continue;
        }
        begin_reply(batch, op);
        if (!take_arguments(batch, op))
            kith_reply_error(&batch->reply, "ERR out of memory while reading a request");
        else if (!(op->connection->flags & CONNECTION_CLOSING))
            execute_read(batch, op);
        end_op(batch);
    }
}

/* Around a write. Those of one connection lie together mostly: what they took is measured for all, as the clock is not
 * free. */
static void watch_begin(struct batch *batch)
{
    if (batch->run_count++ == 0)
        batch->run_ns = kith_os_monotonic_ns();
}

static void watch_end(struct batch *batch)
{
    const struct op *op = &batch->ops[batch->done_count], *next = op + 1;
    if (next < batch->ops + batch->op_count && next->read_offset == SIZE_MAX &&
        next->connection == op->connection)
        return;
    turn_set_price(op->connection, kith_os_monotonic_ns() - batch->run_ns, batch->run_count);
    batch->run_count = 0;
}

static void on_begin(void *context, size_t n, struct kith_session **session, struct kith_reply **reply)
{
    struct batch *batch = context;
    run_reads(batch);
    KITH_ASSERT(batch->done_count < batch->op_count);
    const struct op *op = &batch->ops[batch->done_count];
    watch_begin(batch);
    begin_reply(batch, op);
    *session = &op->connection->session;
    *reply = &batch->reply;
}

static void on_end(void *context, size_t n)
{
    struct batch *batch = context;
    watch_end(batch);
    end_op(batch);
    run_reads(batch);
}

/* Why nothing came of an operation, with what the client can do. */
static void describe_failure(struct batch *batch, int status, bool is_refused, bool is_read)
{
    struct kith_reply *reply = &batch->reply;
    const char *reason = kith_node_error(batch->server->node);
    if (!*reason)
        reason = kith_status_text(status);
    if (status == KITH_EUNKNOWN && !is_read)
        kith_reply_error(reply, "UNKNOWN the outcome of this write is unknown: the leader was lost before it "
                                "answered; read the key, or repeat with the same request id");
    else if (status == KITH_EAGAIN || status == KITH_EUNKNOWN)
        kith_reply_error_format(
            reply,
            is_read ? "CLUSTERDOWN no leader in %llu ms: this read was not served; try again, or READONLY to "
                      "read what this node has"
                    : "CLUSTERDOWN no leader in %llu ms: this write was not taken; try again, and see "
                      "KITH.CLUSTER "
                      "NODES whether most of the voters run",
            (unsigned long long)(uv_now(&batch->server->loop) - batch->begun_ms));
    else if (is_read)
        kith_reply_error_format(
            reply, "MISCONF this read was not served: %s. READONLY reads what this node has", reason);
    else
        kith_reply_error_format(reply, "MISCONF %s: %s",
                                is_refused
                                    ? "this write was not taken"
                                    : "the outcome of this write is unknown, it may be there after a restart",
                                reason);
}

/* What was not applied gets an error. The reads between still run where this node alone is the truth. */
static void fail_rest(struct batch *batch, int status, bool is_refused)
{
    while (batch->done_count < batch->op_count) {
        if (!batch->grouped)
            run_reads(batch);
        if (batch->done_count == batch->op_count)
            break;
        const struct op *op = &batch->ops[batch->done_count];
        begin_reply(batch, op);
        describe_failure(batch, status, is_refused, op->read_offset != SIZE_MAX);
        end_op(batch);
    }
}

static void link_submitted(struct batch *batch)
{
    struct kith_server *server = batch->server;
    batch->previous = server->submitted_tail;
    if (server->submitted_tail)
        server->submitted_tail->next = batch;
    else
        server->submitted_head = batch;
    server->submitted_tail = batch;
    server->grouped_count += batch->grouped;
}

static void unlink_submitted(struct batch *batch)
{
    struct kith_server *server = batch->server;
    *(batch->previous ? &batch->previous->next : &server->submitted_head) = batch->next;
    *(batch->next ? &batch->next->previous : &server->submitted_tail) = batch->previous;
    server->grouped_count -= batch->grouped;
}

static void finish_batch(struct batch *batch, int status, bool is_refused)
{
    struct kith_server *server = batch->server;
    KITH_ASSERT(batch->grouped || server->submitted_head == batch);
    if (batch->tick)
        server->tick_in_flight = false;
    if (status < 0)
        fail_rest(batch, status, is_refused);
    run_reads(batch);
    KITH_ASSERT(batch->done_count == batch->op_count);
    unlink_submitted(batch);
    recycle(batch);
}

static void on_done(void *context, int status)
{
    finish_batch(context, status, false);
}

/* Reads only. */
static void submit_reads(struct batch *batch)
{
    int status = kith_node_read(batch->server->node, on_done, batch);
    if (status != 0)
        finish_batch(batch, status < 0 ? status : KITH_OK, true);
}

static void submit_writes(struct batch *batch)
{
    struct kith_server *server = batch->server;
    server->payload_hint = batch->payload.length + batch->payload.length / 4;
    server->stats.total.entries_submitted++;
    server->stats.total.writes_submitted += batch->write_count;
    int status = kith_node_submit(server->node, &batch->payload, &batch->hooks, on_done, batch);
    server->log_behind = kith_node_is_behind(server->node);
    if (status == KITH_OK)
        return;
    /* Those before it in the list are not done yet: its connections may have writes there, unless in a group. */
    while (!batch->grouped && server->submitted_head != batch)
        kith_node_poll(server->node);
    finish_batch(batch, status, true);
}

void batch_submit(struct kith_server *server)
{
    struct batch *batch = server->batch;
    server->batch = NULL;
    batch->grouped = batch_is_grouped(server);
    batch->begun_ms = uv_now(&server->loop);
    link_submitted(batch);
    if (batch->write_count || batch->tick)
        submit_writes(batch);
    else
        submit_reads(batch);
}

/* In a group each batch costs the other voters a wake-up, and this node two. Where requests come in without a break, some
 * passes share one; a pass that brought nothing ends the waiting. */
bool batch_gathers(struct kith_server *server)
{
    struct batch *batch = server->batch;
    if (!batch || !batch_is_grouped(server) || server->stopping || batch->op_count == batch->seen_count)
        return false;
    uint64_t now_ns = kith_os_monotonic_ns();
    if (!batch->seen_count)
        batch->began_gathering_ns = now_ns;
    batch->seen_count = batch->op_count;
    return now_ns - batch->began_gathering_ns < GATHER_NS;
}

void batch_submit_tick(struct kith_server *server)
{
    if (!server->batch && !(server->batch = open_batch(server)))
        return;
    server->batch->tick = server->tick_in_flight = true;
    server->stats.total.ticks_submitted++;
    batch_submit(server);
}
