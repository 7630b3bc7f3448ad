/* What happens to a command: admitted, then run at once, put into the pass's batch, handed to the pool, or
 * left in the input until what is in flight of its connection has its replies. A connection's replies are
 * always in the order of its requests:
 *
 *     in flight        write      read                search        session, server
 *     nothing          batch      at once             at once/pool  at once
 *     batch            batch      behind the write    waits         waits
 *     searches         waits      waits               pool          waits
 *
 * In a group of several nodes a read of the keyspace goes into the batch, whatever is in flight, and waits there for
 * the group's word (batch.c); a search then goes on to the pool. What a connection has in flight is in one batch, and
 * what is to follow that waits. READONLY makes a connection's reads as in a group of one. */
#include "net/internal.h"

#include "base/log.h"
#include "engine/upstream.h"

#include <stdlib.h>

enum outcome { DONE, WAITS };

enum {
    IN_FLIGHT_MAX = 1 << 16, /* commands of one connection that wait for the log */
    LOG_BEHIND_WAIT_MS = 5,
};

static bool is_finished(const struct kith_connection *connection)
{
    return connection->flags & (CONNECTION_CLOSING | CONNECTION_LAST_REPLY);
}

void dispatch_after_reply(struct kith_connection *connection, const struct kith_command *command,
                          const struct kith_reply *reply, size_t start, bool silent)
{
    struct stats *stats = &connection->server->stats;
    stats->total.commands_processed++;
    struct command_stats *row = stats_of_command(stats, command);
    row->calls++;
    if (reply->error_count) {
        row->failed++;
        if (start < reply->out->length)
            stats_count_error(stats, kith_slice(reply->out->data + start, reply->out->length - start));
    }
    if (silent)
        reply->out->length = start;
}

/* CLIENT REPLY OFF and SKIP: whether this command's reply is dropped. */
static bool take_silence(struct kith_session *session)
{
    bool silent = session->reply_mode != 0;
    if (session->reply_mode == 's')
        session->reply_mode = 0;
    return silent;
}

static void run_now(struct kith_connection *connection, const struct kith_admitted *request, bool silent)
{
    const struct kith_command *command = request->command;
    struct kith_server *server = connection->server;
    struct kith_buf *out = connection_out(connection);
    struct kith_reply reply;
    size_t start = out->length;
    uint64_t since_ns = turn_watch_read(command);
    kith_reply_init(&reply, out, connection->session.protocol);
    kith_engine_execute(server->engine, request, server_now(server), &reply, NULL);
    turn_spend_read(connection, since_ns);
    if (command->flags & KITH_CMD_SESSION && strcmp(command->name, "client|reply") == 0)
        silent = connection->session.reply_mode != 0;
    dispatch_after_reply(connection, command, &reply, start, silent);
    if (out->length >= FLUSH_EARLY_BYTES && !(connection->flags & CONNECTION_CLOSING)) {
        connection_send(connection);
        connection_over_output_limit(connection);
    }
}

static enum outcome refuse(struct kith_connection *connection, const struct kith_command *command,
                           struct kith_slice text)
{
    struct kith_server *server = connection->server;
    if (connection->in_flight || connection->deferred)
        return WAITS;
    if (command)
        stats_of_command(&server->stats, command)->rejected++;
    stats_count_error(&server->stats, text);
    if (!take_silence(&connection->session))
        kith_buf_append(connection_out(connection), text.data, text.length);
    return DONE;
}

/* Writers of vectors wait a little while the linkers are behind. */
static void hold_back_if_behind(struct kith_connection *connection, const struct kith_command *command)
{
    if (command->name[0] != 'v' && command->name[0] != 'k') /* kith.request: perhaps one of them */
        return;
    unsigned delay_ms = kith_engine_back_pressure_ms(connection->server->engine);
    if (delay_ms && !(connection->flags & CONNECTION_HELD))
        server_hold_back(connection, delay_ms);
}

/* The disk does not keep up: the writer waits in its socket, so that the log's queue never fills and readers are
 * served meanwhile. */
static bool waits_for_log(struct kith_connection *connection)
{
    struct kith_server *server = connection->server;
    if (!server->log_behind || !(server->log_behind = kith_node_is_behind(server->node)))
        return false;
    server_hold_back(connection, LOG_BEHIND_WAIT_MS);
    return true;
}

static const char read_only[] = "-READONLY You can't write against a read only replica.\r\n";

/* While a Redis is followed its clients write there. The engine says the same of what gets past this. */
static bool is_for_the_upstream(const struct kith_server *server, const struct kith_command *command)
{
    return kith_upstream_follows(kith_engine_upstream(server->engine)) &&
           !(command->flags & KITH_CMD_ANY_ROLE);
}

/* Where the group's writes are to go to the leader directly: what a client is told elsewhere. */
static enum outcome redirect(struct kith_connection *connection, const struct kith_command *command)
{
    struct kith_server *server = connection->server;
    struct kith_buf text = {0};
    char address[128];
    if (server->options.forward == KITH_FORWARD_MOVED &&
        server_leader_address(server, address, sizeof address))
        kith_buf_append_format(&text, "-REDIRECT %s\r\n", address);
    enum outcome outcome = refuse(connection, command,
                                  text.length && !text.failed ? kith_buf_slice(&text)
                                                              : kith_slice(read_only, sizeof read_only - 1));
    kith_buf_fini(&text);
    return outcome;
}

static bool is_for_the_leader(const struct kith_server *server)
{
    return server->options.forward != KITH_FORWARD_YES && kith_node_role(server->node) != KITH_CORE_LEADER;
}

static enum outcome run_write(struct kith_connection *connection, const struct kith_admitted *request)
{
    if (connection->deferred || connection->searches_waiting || connection->in_flight >= IN_FLIGHT_MAX ||
        waits_for_log(connection))
        return WAITS;
    if (connection->in_flight && batch_is_grouped(connection->server) && !batch_may_join(connection))
        return WAITS;
    if (is_for_the_leader(connection->server))
        return redirect(connection, request->command);
    if (is_for_the_upstream(connection->server, request->command))
        return refuse(connection, request->command, kith_slice(read_only, sizeof read_only - 1));
    bool silent = take_silence(&connection->session);
    if (batch_add_write(connection, request, silent) != KITH_OK) {
        KITH_WARN("client %llu: no memory for its write: closed", (unsigned long long)connection->session.id);
        connection_close(connection);
        return DONE;
    }
    hold_back_if_behind(connection, request->command);
    return DONE;
}

/* Into the batch, whose barrier it waits for. */
static enum outcome run_read_in_batch(struct kith_connection *connection, const struct kith_admitted *request)
{
    struct kith_server *server = connection->server;
    bool search = request->command->flags & KITH_CMD_DEFERS;
    if (!search && (connection->deferred || connection->searches_waiting))
        return WAITS;
    if (search && deferred_count(connection) + connection->searches_waiting >= DEFERRED_MAX)
        return WAITS;
    if (connection->in_flight >= IN_FLIGHT_MAX || !batch_may_join(connection))
        return WAITS;
    if (batch_is_full_for_reads(server)) {
        if (connection->in_flight)
            return WAITS;
        batch_submit(server);
    }
    if (batch_add_read(connection, request, take_silence(&connection->session)) != KITH_OK)
        connection_close(connection);
    return DONE;
}

static enum outcome refuse_lag(struct kith_connection *connection, const struct kith_command *command,
                               int64_t lag_ms)
{
    struct kith_buf text = {0};
    kith_buf_append_text(&text, "-STALE this node's data may be ");
    if (lag_ms < 0)
        kith_buf_append_text(&text, "of any age: it has not heard a leader yet");
    else
        kith_buf_append_format(&text, "%lld ms old", (long long)lag_ms);
    kith_buf_append_format(
        &text,
        ", and READONLY MAXLAG allows %lld: read elsewhere, raise MAXLAG, or READWRITE to ask "
        "the group\r\n",
        (long long)connection->lag_max_ms);
    if (text.failed)
        connection_close(connection);
    enum outcome outcome = text.failed ? DONE : refuse(connection, command, kith_buf_slice(&text));
    kith_buf_fini(&text);
    return outcome;
}

/* READONLY MAXLAG. */
static bool is_stale(const struct kith_connection *connection)
{
    int64_t lag_ms = connection->lag_max_ms ? kith_node_lag_ms(connection->server->node) : 0;
    return lag_ms < 0 || lag_ms > connection->lag_max_ms;
}

/* The upstream's copy is not whole yet. */
static bool is_copying(const struct kith_server *server)
{
    return kith_engine_upstream(server->engine)->phase == KITH_UPSTREAM_LOADING;
}

static enum outcome run_read(struct kith_connection *connection, const struct kith_admitted *request)
{
    static const char copying[] =
        "-LOADING this node takes over the data of the upstream that it follows: try again in a moment\r\n";
    static const char loading[] =
        "-LOADING this node loads a checkpoint of its group: read elsewhere, or in a moment\r\n";
    uint32_t flags = request->command->flags;
    bool defers = flags & KITH_CMD_DEFERS, alone = flags & (KITH_CMD_SESSION | KITH_CMD_HOST);
    bool grouped = batch_is_grouped(connection->server);
    if (flags & KITH_CMD_READONLY && is_copying(connection->server))
        return refuse(connection, request->command, kith_slice(copying, sizeof copying - 1));
    if (grouped && flags & KITH_CMD_READONLY && !(connection->flags & CONNECTION_READONLY) &&
        !kith_node_is_alone(connection->server->node))
        return run_read_in_batch(connection, request);
    if (connection->deferred && (!defers || deferred_is_full(connection)))
        return WAITS;
    if (connection->in_flight && (defers || alone || connection->searches_waiting))
        return WAITS;
    if (connection->in_flight >= IN_FLIGHT_MAX ||
        (connection->in_flight && batch_is_full_for_reads(connection->server)))
        return WAITS;
    if (grouped && !batch_may_join(connection))
        return WAITS;
    if (flags & KITH_CMD_READONLY && kith_node_is_loading(connection->server->node))
        return refuse(connection, request->command, kith_slice(loading, sizeof loading - 1));
    if (flags & KITH_CMD_READONLY && connection->flags & CONNECTION_READONLY && is_stale(connection))
        return refuse_lag(connection, request->command, kith_node_lag_ms(connection->server->node));
    bool silent = take_silence(&connection->session);
    if (defers) {
        deferred_run(connection, request, silent);
    } else if (connection->in_flight) {
        if (batch_add_read(connection, request, silent) != KITH_OK)
            connection_close(connection);
    } else {
        run_now(connection, request, silent);
    }
    return DONE;
}

static enum outcome run_one(struct kith_connection *connection, const struct kith_admitted *request)
{
    static const struct kith_slice no_auth = {"-NOAUTH Authentication required.\r\n", 34};
    const struct kith_command *command = request->command;
    if (connection->flags & CONNECTION_LATE_REPLY)
        return WAITS;
    if (!connection->session.authenticated && !(command->flags & KITH_CMD_NO_AUTH) &&
        session_needs_password(connection->server))
        return refuse(connection, command, no_auth);
    return command->flags & KITH_CMD_WRITE ? run_write(connection, request) : run_read(connection, request);
}

/* What admission said about each request: how many bytes of server->refusals, 0 for an admitted one. */
struct admission {
    size_t refusal_bytes[REQUESTS_AT_ONCE];
};

/* Looks all requests up, the admitted ones go to server->admitted in order, and starts the loads of the reads
 * among them (the engine does so for the writes when their entry is applied). */
static void admit_requests(struct kith_connection *connection, const struct kith_request *requests,
                           size_t count, struct admission *admission)
{
    struct kith_server *server = connection->server;
    struct kith_admitted *admitted = server->admitted;
    struct kith_reply refusal;
    size_t admitted_count = 0;
    bool writes = false;
    kith_buf_clear(&server->refusals);
    kith_reply_init(&refusal, &server->refusals, connection->session.protocol);
    for (size_t i = 0; i < count; i++) {
        size_t before = server->refusals.length;
        const struct kith_command *command =
            kith_engine_admit(server->engine, requests[i].argv, requests[i].argc, &refusal);
        admission->refusal_bytes[i] = server->refusals.length - before;
        if (!command)
            continue;
        writes |= command->flags & KITH_CMD_WRITE;
        admitted[admitted_count++] = (struct kith_admitted){.session = &connection->session,
                                                            .command = command,
                                                            .argv = requests[i].argv,
                                                            .argc = requests[i].argc};
    }
    if (admitted_count > 1 && !writes)
        kith_engine_prefetch(server->engine, admitted, admitted_count);
}

/* A web page can make its reader's browser send bytes to any port of the machine. What gives such a request away are
 * words of HTTP where a command should be; the commands that the page put behind them must not run. */
static bool is_of_a_browser(const struct kith_request *request)
{
    return kith_slice_is(request->argv[0], "POST") || kith_slice_is(request->argv[0], "Host:");
}

static void close_browser(struct kith_connection *connection)
{
    enum { WARN_EVERY_MS = 60000 };
    struct kith_server *server = connection->server;
    uint64_t now_ms = uv_now(&server->loop);
    char address[128];
    server->stats.total.protocol_errors++;
    if (!server->browser_warned_ms || now_ms - server->browser_warned_ms >= WARN_EVERY_MS) {
        connection_address(connection, true, address, sizeof address);
        KITH_WARN("client %llu (%s) sends HTTP, as a web page in a browser does that tries to give commands: "
                  "closed",
                  (unsigned long long)connection->session.id, address);
        server->browser_warned_ms = now_ms;
    }
    connection_close(connection);
}

/* Runs requests in order; returns how many were, fewer than `count` when one has to wait. */
static size_t run_requests(struct kith_connection *connection, const struct kith_request *requests,
                           size_t count)
{
    struct kith_server *server = connection->server;
    const struct kith_admitted *next = server->admitted;
    struct admission admission;
    size_t refused = 0;
    admit_requests(connection, requests, count, &admission);
    if (server->refusals.failed) {
        connection_close(connection);
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        size_t bytes = admission.refusal_bytes[i];
        enum outcome outcome;
        if (is_finished(connection) || connection->flags & CONNECTION_HELD)
            return i;
        if (turn_is_over(connection)) {
            turn_end(connection);
            return i;
        }
        if (bytes && is_of_a_browser(&requests[i])) {
            close_browser(connection);
            return i;
        }
        if (bytes)
            outcome = refuse(connection, NULL, kith_slice(server->refusals.data + refused, bytes));
        else
            outcome = run_one(connection, next++);
        if (outcome == WAITS) {
            connection->flags |= CONNECTION_BLOCKED;
            return i;
        }
        refused += bytes;
    }
    return count;
}

/* --- parsing
 * ------------------------------------------------------------------------------------------------- */

/* The parser of the connection's unfinished request, or a spare one. NULL: no memory. */
static struct kith_request_parser *take_parser(struct kith_connection *connection)
{
    struct kith_server *server = connection->server;
    struct kith_request_parser *parser = connection->parser;
    if (!parser && server->spare_parser_count)
        parser = server->spare_parsers[--server->spare_parser_count];
    if (!parser && (parser = malloc(sizeof *parser)))
        kith_request_parser_init(parser, &server->limits);
    if (parser)
        parser->limits = connection->session.authenticated ? &server->limits : &server->limits_before_auth;
    connection->parser = NULL;
    return parser;
}

static void give_parser(struct kith_connection *connection, struct kith_request_parser *parser)
{
    struct kith_server *server = connection->server;
    if (kith_request_is_partial(parser)) {
        connection->parser = parser;
    } else if (server->spare_parser_count < SPARE_MAX) {
        kith_request_parser_trim(parser);
        server->spare_parsers[server->spare_parser_count++] = parser;
    } else {
        kith_request_parser_fini(parser);
        free(parser);
    }
}

/* Forgets an unfinished request, whose bytes will be parsed again. */
static void restart_parser(struct kith_request_parser *parser)
{
    const struct kith_request_limits *limits = parser->limits;
    kith_request_parser_fini(parser);
    kith_request_parser_init(parser, limits);
}

static void protocol_error(struct kith_connection *connection, const struct kith_request_parser *parser,
                           int status)
{
    struct kith_server *server = connection->server;
    struct kith_reply reply;
    if (connection->in_flight || connection->deferred) {
        connection->flags |= CONNECTION_BLOCKED;
        return;
    }
    struct kith_buf *out = connection_out(connection);
    size_t start = out->length;
    kith_reply_init(&reply, out, connection->session.protocol);
    kith_reply_error(&reply,
                     status == KITH_ECORRUPT ? parser->error : "ERR out of memory while reading a request");
    if (start < out->length)
        stats_count_error(&server->stats, kith_slice(out->data + start, out->length - start));
    server->stats.total.protocol_errors++;
    connection->flags |= CONNECTION_LAST_REPLY;
    connection_stop_reading(connection);
}

size_t dispatch_input(struct kith_connection *connection, const char *data, size_t length)
{
    struct kith_server *server = connection->server;
    struct kith_request_parser *parser = take_parser(connection);
    size_t used = 0;
    if (!parser) {
        connection_close(connection);
        return length;
    }
    while (!is_finished(connection)) {
        size_t consumed = 0;
        int count = kith_request_parse(parser, data + used, length - used, server->requests, REQUESTS_AT_ONCE,
                                       &consumed);
        if (count < 0) {
            protocol_error(connection, parser, count);
            restart_parser(parser);
            break;
        }
        if (count == 0) {
            used += consumed;
            break;
        }
        size_t ran = run_requests(connection, server->requests, (size_t)count);
        if (ran < (size_t)count) {
            used += server->requests[ran].offset;
            turn_spend(connection, server->requests[ran].offset);
            restart_parser(parser);
            break;
        }
        used += consumed;
        turn_spend(connection, consumed);
    }
    give_parser(connection, parser);
    return is_finished(connection) ? length : used;
}
