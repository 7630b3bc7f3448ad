/* The writes of one pass become one entry of the log. What a connection reads behind a write of its own waits
 * in the same list and runs right after the write was applied, so that a mixed pipeline costs one commit. */
#include "net/internal.h"

#include "base/log.h"

#include <stdlib.h>

enum { BATCH_BYTES_MAX = 16 * 1024 * 1024, READS_KEPT = 64 * 1024, PAYLOAD_LEAST = 512 };

static void on_begin(void *context, size_t n, struct kith_session **session, struct kith_reply **reply);
static void on_end(void *context, size_t n);

static struct batch *open_batch(struct kith_server *server)
{
    struct batch *batch = server->spare_batches;
    if (batch)
        server->spare_batches = batch->next;
    else if (!(batch = calloc(1, sizeof *batch)))
        return NULL;
    batch->next = NULL;
    batch->server = server;
    batch->hooks = (struct kith_apply_hooks){batch, on_begin, on_end};
    batch->op_count = batch->done_count = batch->write_count = 0;
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
    batch->op_count++;
    batch->write_count++;
    connection->in_flight++;
    if (batch->payload.length >= BATCH_BYTES_MAX)
        batch_submit(server);
    return KITH_OK;
}

/* Behind everything of this connection: in the open batch, or else in the last submitted one. */
static struct batch *batch_for_read(const struct kith_server *server)
{
    return server->batch ? server->batch : server->submitted_tail;
}

bool batch_is_full_for_reads(const struct kith_server *server)
{
    const struct batch *batch = batch_for_read(server);
    return batch && batch->reads.length > BATCH_BYTES_MAX;
}

int batch_add_read(struct kith_connection *connection, const struct kith_admitted *request, bool silent)
{
    struct batch *batch = batch_for_read(connection->server);
    KITH_ASSERT(batch);
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
    batch->op_count++;
    connection->in_flight++;
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

static void end_op(struct batch *batch)
{
    const struct op *op = &batch->ops[batch->done_count++];
    struct kith_connection *connection = op->connection;
    dispatch_after_reply(connection, op->command, &batch->reply, batch->reply_start, op->silent);
    if (batch->reply.out != &batch->server->discard && batch->reply.out->length >= FLUSH_EARLY_BYTES)
        connection_over_output_limit(connection);
    if (--connection->in_flight == 0) {
        if (connection->flags & CONNECTION_BLOCKED)
            connection_mark_resumed(connection);
        connection_release(connection);
    }
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

static void run_reads(struct batch *batch)
{
    while (batch->done_count < batch->op_count && batch->ops[batch->done_count].read_offset != SIZE_MAX) {
        const struct op *op = &batch->ops[batch->done_count];
        begin_reply(batch, op);
        if (!take_arguments(batch, op))
            kith_reply_error(&batch->reply, "ERR out of memory while reading a request");
        else if (!(op->connection->flags & CONNECTION_CLOSING))
            execute_read(batch, op);
        end_op(batch);
    }
}

static void on_begin(void *context, size_t n, struct kith_session **session, struct kith_reply **reply)
{
    struct batch *batch = context;
    run_reads(batch);
    KITH_ASSERT(batch->done_count < batch->op_count);
    const struct op *op = &batch->ops[batch->done_count];
    begin_reply(batch, op);
    *session = &op->connection->session;
    *reply = &batch->reply;
}

static void on_end(void *context, size_t n)
{
    struct batch *batch = context;
    end_op(batch);
    run_reads(batch);
}

/* What was not applied gets an error; the reads between still run. */
static void fail_rest(struct batch *batch, int status, bool is_refused)
{
    const char *reason = kith_node_error(batch->server->node);
    while (batch->done_count < batch->op_count) {
        run_reads(batch);
        if (batch->done_count == batch->op_count)
            break;
        begin_reply(batch, &batch->ops[batch->done_count]);
        kith_reply_error_format(&batch->reply, "MISCONF %s: %s",
                                is_refused
                                    ? "this write was not taken"
                                    : "the outcome of this write is unknown, it may be there after a restart",
                                *reason ? reason : kith_status_text(status));
        end_op(batch);
    }
}

static void on_done(void *context, int status)
{
    struct batch *batch = context;
    struct kith_server *server = batch->server;
    KITH_ASSERT(server->submitted_head == batch);
    if (!batch->write_count)
        server->tick_in_flight = false;
    if (status < 0)
        fail_rest(batch, status, false);
    run_reads(batch);
    KITH_ASSERT(batch->done_count == batch->op_count);
    server->submitted_head = batch->next;
    if (!server->submitted_head)
        server->submitted_tail = NULL;
    recycle(batch);
}

void batch_submit(struct kith_server *server)
{
    struct batch *batch = server->batch;
    server->batch = NULL;
    if (server->submitted_tail)
        server->submitted_tail->next = batch;
    else
        server->submitted_head = batch;
    server->submitted_tail = batch;
    server->payload_hint = batch->payload.length + batch->payload.length / 4;
    server->stats.total.entries_submitted++;
    server->stats.total.writes_submitted += batch->write_count;
    int status = kith_node_submit(server->node, &batch->payload, &batch->hooks, on_done, batch);
    server->log_behind = kith_node_is_behind(server->node);
    if (status == KITH_OK)
        return;
    /* Those before it in the list are not done yet: its connections may have writes there. */
    while (server->submitted_head != batch)
        kith_node_poll(server->node);
    fail_rest(batch, status, true);
    on_done(batch, KITH_OK);
}

void batch_submit_tick(struct kith_server *server)
{
    if (!(server->batch = open_batch(server)))
        return;
    server->tick_in_flight = true;
    server->stats.total.ticks_submitted++;
    batch_submit(server);
}
