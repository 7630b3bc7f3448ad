/* The life of the link: ten times a second the state is looked at, and a connection begun, gone on with, or ended. A
 * connection is one attempt; when it ends, whyever, the next one goes on from what the state says then. */
#include "net/follow.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/os.h"
#include "net/follow_internal.h"

#include <inttypes.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* --- a connection's birth and death --- */

static void let_go(struct follow_connection *c)
{
    if (--c->holds)
        return;
    follow_wire_fini(&c->wire);
    kith_rdb_close(c->rdb);
    kith_request_parser_fini(&c->parser);
    kith_buf_fini(&c->commands);
    kith_buf_fini(&c->parts);
    kith_buf_fini(&c->payload);
    kith_buf_fini(&c->in);
    free(c);
}

static void handle_closed(uv_handle_t *handle)
{
    let_go(handle->data);
}

/* Every new reason is told, and an old one again after a while. */
static void tell(struct kith_follow *follow, const char *host)
{
    enum { AGAIN_MS = 60000 };
    uint64_t now_ms = uv_now(follow->loop);
    if (strcmp(follow->error, follow->logged) == 0 && now_ms - follow->logged_ms < AGAIN_MS)
        return;
    KITH_WARN("upstream %s:%u: %s", host, kith_engine_upstream(follow->engine)->port, follow->error);
    memcpy(follow->logged, follow->error, sizeof follow->logged);
    follow->logged_ms = now_ms;
}

static void wait_before_retry(struct kith_follow *follow)
{
    uint64_t delay_ms = FOLLOW_RETRY_FIRST_MS;
    for (unsigned i = 0; i < follow->attempts && delay_ms < FOLLOW_RETRY_MAX_MS; i++)
        delay_ms *= 2;
    if (delay_ms > FOLLOW_RETRY_MAX_MS)
        delay_ms = FOLLOW_RETRY_MAX_MS;
    delay_ms += kith_rng_below(&follow->rng, delay_ms / 4 + 1);
    follow->attempts++;
    follow->retry_at_ms = uv_now(follow->loop) + delay_ms;
}

void follow_connection_end(struct follow_connection *c, const char *format, ...)
{
    struct kith_follow *follow = c->follow;
    char why[sizeof follow->error];
    va_list args;
    if (c->closing)
        return;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    c->closing = true;
    follow->connection = NULL;
    if (*why) {
        memcpy(follow->error, why, sizeof why);
        follow->failures++;
        if (!follow->down_since_ms)
            follow->down_since_ms = uv_now(follow->loop);
        tell(follow, c->host);
    }
    wait_before_retry(follow);
    uv_close((uv_handle_t *)&c->tcp, handle_closed);
    if (c->resolve.data)
        uv_cancel((uv_req_t *)&c->resolve);
}

/* --- writing --- */

struct writing {
    uv_write_t request;
    struct follow_connection *connection;
    char bytes[];
};

static void written(uv_write_t *request, int status)
{
    struct writing *writing = request->data;
    struct follow_connection *c = writing->connection;
    free(writing);
    if (status < 0)
        follow_connection_end(c, "the link broke: %s", uv_strerror(status));
    let_go(c);
}

static void send_bytes(struct follow_connection *c, struct kith_slice bytes)
{
    struct writing *writing = bytes.length ? malloc(sizeof *writing + bytes.length) : NULL;
    if (!bytes.length || c->closing)
        free(writing);
    else if (!writing)
        follow_connection_end(c, "out of memory");
    else {
        uv_buf_t buffer = uv_buf_init(writing->bytes, (unsigned)bytes.length);
        memcpy(writing->bytes, bytes.data, bytes.length);
        writing->connection = c;
        writing->request.data = writing;
        int status = uv_write(&writing->request, (uv_stream_t *)&c->tcp, &buffer, 1, written);
        if (status == 0) {
            c->holds++;
            return;
        }
        free(writing);
        follow_connection_end(c, "the link broke: %s", uv_strerror(status));
    }
}

void follow_send_ack(struct follow_connection *c)
{
    enum { UNSENT_MAX = 64 << 10 };
    const struct kith_upstream *state = kith_engine_upstream(c->follow->engine);
    if (state->phase != KITH_UPSTREAM_LIVE || state->link != c->link || c->wire.state != FOLLOW_STREAM ||
        uv_stream_get_write_queue_size((uv_stream_t *)&c->tcp) > UNSENT_MAX)
        return;
    char offset[24];
    const char *words[] = {"REPLCONF", "ACK", offset};
    struct kith_buf bytes = {0};
    snprintf(offset, sizeof offset, "%" PRId64, state->offset);
    follow_wire_request(&bytes, words, 3);
    c->ack_wanted = false;
    c->last_ack_ms = uv_now(c->follow->loop);
    if (!bytes.failed)
        send_bytes(c, kith_buf_slice(&bytes));
    kith_buf_fini(&bytes);
}

/* --- reading --- */

static void allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct follow_connection *c = handle->data;
    *buffer = uv_buf_init(c->follow->read_buffer, FOLLOW_READ_BYTES);
}

static void take_bytes(struct follow_connection *c, const char *bytes, size_t length)
{
    size_t used = 0;
    if (c->wire.state != FOLLOW_STREAM) {
        int status = follow_wire_feed(&c->wire, bytes, length, &used);
        if (status < 0) {
            follow_connection_end(c, "%s", *c->wire.error ? c->wire.error : kith_status_text(status));
            return;
        }
        send_bytes(c, kith_buf_slice(&c->wire.out));
        kith_buf_clear(&c->wire.out);
    }
    if (!c->closing && c->wire.state == FOLLOW_STREAM && used < length)
        follow_stream_feed(c, bytes + used, length - used);
}

/* What was read and is not applied yet has a bound, and vectors are not linked as fast as they come. */
static bool has_room(const struct follow_connection *c)
{
    return c->follow->flying_bytes < FOLLOW_FLYING_BYTES && !kith_node_is_behind(c->follow->node) &&
           !kith_engine_back_pressure_ms(c->follow->engine);
}

static void on_read(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer)
{
    struct follow_connection *c = stream->data;
    if (c->closing || length == 0)
        return;
    if (length < 0) {
        follow_connection_end(c, length == UV_EOF ? "it has closed the link%s" : "the link broke: %s",
                              length == UV_EOF ? "" : uv_strerror((int)length));
        return;
    }
    c->last_io_ms = uv_now(c->follow->loop);
    take_bytes(c, buffer->base, (size_t)length);
    if (!c->closing && !has_room(c)) {
        uv_read_stop(stream);
        c->reading = false;
    }
}

static void go_on_reading(struct follow_connection *c)
{
    if (c->reading || !c->connected || !has_room(c))
        return;
    c->last_io_ms = uv_now(c->follow->loop);
    c->reading = uv_read_start((uv_stream_t *)&c->tcp, allocate, on_read) == 0;
}

void follow_room(struct follow_connection *c)
{
    go_on_reading(c);
}

/* --- connecting --- */

static int on_resumed(void *arg, const char *replid)
{
    struct follow_connection *c = arg;
    const struct kith_upstream *state = kith_engine_upstream(c->follow->engine);
    c->follow->partial_syncs++;
    KITH_INFO("upstream %s: its stream goes on behind byte %" PRId64 "%s", c->host, c->wire.options.offset,
              strcmp(replid, c->replid) == 0 ? "" : ", as the history of another master");
    memcpy(c->replid, replid, sizeof c->replid);
    follow_stream_begin(c, c->wire.options.offset, state->db);
    return KITH_OK;
}

static void greet(struct follow_connection *c)
{
    static const struct follow_wire_events events = {.resumed = on_resumed,
                                                     .copy_begins = follow_copy_begins,
                                                     .copy_bytes = follow_copy_bytes,
                                                     .copy_ends = follow_copy_ends};
    struct kith_follow *follow = c->follow;
    const struct kith_upstream *state = kith_engine_upstream(follow->engine);
    struct follow_wire_options options = {.user = follow->options.user,
                                          .password = follow->options.password,
                                          .port = follow->options.port,
                                          .announce = follow->options.announce,
                                          .replid = c->replid,
                                          .offset = state->offset};
    if (follow->forget_link != c->link)
        memcpy(c->replid, state->replid, sizeof c->replid);
    if (state->link != c->link) {
        follow_connection_end(c, "%s", "");
        return;
    }
    follow_wire_init(&c->wire, &options, &events, c);
    send_bytes(c, kith_buf_slice(&c->wire.out));
    kith_buf_clear(&c->wire.out);
}

static void on_connected(uv_connect_t *request, int status)
{
    struct follow_connection *c = request->data;
    if (!c->closing && status < 0) {
        c->follow->address_index++;
        follow_connection_end(c, "cannot connect: %s", uv_strerror(status));
    } else if (!c->closing) {
        c->connected = true;
        c->last_io_ms = uv_now(c->follow->loop);
        uv_tcp_nodelay(&c->tcp, 1);
        uv_tcp_keepalive(&c->tcp, 1, 60);
        greet(c);
        if (!c->closing)
            go_on_reading(c);
    }
    let_go(c);
}

/* A name has several addresses; each attempt takes the next one. */
static const struct addrinfo *pick(const struct addrinfo *found, size_t index)
{
    size_t count = 0;
    for (const struct addrinfo *each = found; each; each = each->ai_next)
        count++;
    for (index %= count ? count : 1; found && index; index--)
        found = found->ai_next;
    return found;
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct follow_connection *c = request->data;
    c->resolve.data = NULL;
    const struct addrinfo *address = status == 0 ? pick(found, c->follow->address_index) : NULL;
    if (!c->closing && !address) {
        follow_connection_end(c, "cannot find its host: %s", uv_strerror(status));
    } else if (!c->closing) {
        status = uv_tcp_connect(&c->connect, &c->tcp, address->ai_addr, on_connected);
        if (status == 0)
            c->holds++;
        else
            follow_connection_end(c, "cannot connect: %s", uv_strerror(status));
    }
    uv_freeaddrinfo(found);
    let_go(c);
}

static void connect_now(struct kith_follow *follow)
{
    const struct kith_upstream *state = kith_engine_upstream(follow->engine);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct follow_connection *c = calloc(1, sizeof *c);
    char service[8];
    if (!c) {
        wait_before_retry(follow);
        return;
    }
    c->follow = follow;
    c->link = state->link;
    c->last_io_ms = uv_now(follow->loop);
    snprintf(c->host, sizeof c->host, "%s", state->host);
    snprintf(service, sizeof service, "%u", state->port);
    uv_tcp_init(follow->loop, &c->tcp);
    c->tcp.data = c->connect.data = c;
    c->holds = 1;
    follow->connection = c;
    if (!follow->down_since_ms)
        follow->down_since_ms = uv_now(follow->loop);
    int status = uv_getaddrinfo(follow->loop, &c->resolve, on_resolved, c->host, service, &hints);
    if (status != 0) {
        follow_connection_end(c, "cannot find its host: %s", uv_strerror(status));
        return;
    }
    c->resolve.data = c;
    c->holds++;
}

/* --- what the state asks for --- */

static bool is_wanted(const struct kith_follow *follow)
{
    return !follow->stopped && kith_upstream_follows(kith_engine_upstream(follow->engine)) &&
           kith_node_role(follow->node) == KITH_CORE_LEADER && !*kith_node_error(follow->node) &&
           !kith_node_is_loading(follow->node);
}

/* A new leader has entries of the old one to apply before it knows where the stream goes on. */
static void on_barrier(void *context, int status)
{
    struct kith_follow *follow = context;
    follow->asking = false;
    if (status >= 0 && !follow->connection && is_wanted(follow))
        connect_now(follow);
}

static void begin(struct kith_follow *follow)
{
    follow->asking = true;
    int status = kith_node_read(follow->node, on_barrier, follow);
    if (status != 0)
        on_barrier(follow, status);
    if (status < 0)
        wait_before_retry(follow);
}

static void check_silence(struct follow_connection *c)
{
    struct kith_follow *follow = c->follow;
    uint64_t now_ms = uv_now(follow->loop);
    if (c->connected && !c->reading) /* it is us who do not listen */
        c->last_io_ms = now_ms;
    if (follow->options.timeout_s && now_ms - c->last_io_ms > follow->options.timeout_s * 1000ull)
        follow_connection_end(c, "nothing was heard for %u seconds (repl-timeout)",
                              follow->options.timeout_s);
}

static void note_success(struct kith_follow *follow)
{
    if (!follow->down_since_ms)
        return;
    follow->down_since_ms = 0;
    follow->attempts = 0;
    follow->error[0] = follow->logged[0] = '\0';
}

static void look(uv_timer_t *timer)
{
    struct kith_follow *follow = timer->data;
    const struct kith_upstream *state = kith_engine_upstream(follow->engine);
    uint64_t now_ms = uv_now(follow->loop);
    struct follow_connection *c = follow->connection;
    bool wanted = is_wanted(follow);
    if (c && (!wanted || c->link != state->link)) {
        if (!kith_upstream_follows(state))
            KITH_INFO("upstream %s: followed no more, as of byte %" PRId64 "; writes are taken", c->host,
                      c->sent_offset);
        follow_connection_end(c, "%s", "");
        follow->attempts = 0;
        follow->retry_at_ms = now_ms;
        c = NULL;
    }
    if (!wanted) {
        follow->down_since_ms = 0;
        follow->error[0] = '\0';
        return;
    }
    /* What an earlier connection has submitted is applied first: it says where to go on. */
    if (!c && !follow->asking && !follow->flying_bytes && now_ms >= follow->retry_at_ms)
        begin(follow);
    if (!(c = follow->connection))
        return;
    check_silence(c);
    if (c->closing)
        return;
    go_on_reading(c);
    if (c->wire.state == FOLLOW_STREAM) {
        note_success(follow);
        if (now_ms - c->last_ack_ms >= FOLLOW_ACK_MS || (c->ack_wanted && state->offset >= c->ack_offset))
            follow_send_ack(c);
    }
}

/* --- the whole --- */

int kith_follow_open(struct kith_follow **out, uv_loop_t *loop, struct kith_engine *engine,
                     struct kith_node *node, const struct kith_follow_options *options)
{
    struct kith_follow *follow = calloc(1, sizeof *follow);
    uint64_t seed;
    if (!follow || !(follow->read_buffer = malloc(FOLLOW_READ_BYTES))) {
        free(follow);
        return KITH_ENOMEM;
    }
    follow->loop = loop;
    follow->engine = engine;
    follow->node = node;
    follow->options = *options;
    kith_os_random(&seed, sizeof seed);
    kith_rng_seed(&follow->rng, seed);
    uv_timer_init(loop, &follow->timer);
    follow->timer.data = follow;
    uv_timer_start(&follow->timer, look, FOLLOW_LOOK_MS, FOLLOW_LOOK_MS);
    *out = follow;
    return KITH_OK;
}

void kith_follow_configure(struct kith_follow *follow, const struct kith_follow_options *options)
{
    struct follow_connection *c = follow->connection;
    follow->options = *options;
    follow->attempts = 0;
    follow->retry_at_ms = uv_now(follow->loop);
    if (c && c->wire.state <= FOLLOW_PSYNC) /* it uses the old texts */
        follow_connection_end(c, "%s", "");
}

void kith_follow_stop(struct kith_follow *follow)
{
    if (!follow || follow->stopped)
        return;
    follow->stopped = true;
    if (follow->connection)
        follow_connection_end(follow->connection, "%s", "");
    uv_close((uv_handle_t *)&follow->timer, NULL);
}

void kith_follow_close(struct kith_follow *follow)
{
    if (!follow)
        return;
    KITH_ASSERT(follow->stopped && !follow->connection);
    free(follow->read_buffer);
    free(follow);
}

static enum kith_follow_state state_of(const struct kith_follow *follow)
{
    const struct follow_connection *c = follow->connection;
    if (!is_wanted(follow))
        return KITH_FOLLOW_NONE;
    if (!c)
        return KITH_FOLLOW_CONNECT;
    if (c->wire.state == FOLLOW_COPY || c->wire.state == FOLLOW_MARK || c->wire.state == FOLLOW_HEADER)
        return KITH_FOLLOW_SYNC;
    if (c->wire.state == FOLLOW_STREAM)
        return kith_engine_upstream(follow->engine)->phase == KITH_UPSTREAM_LIVE ? KITH_FOLLOW_CONNECTED
                                                                                 : KITH_FOLLOW_SYNC;
    return KITH_FOLLOW_CONNECTING;
}

void kith_follow_get_status(const struct kith_follow *follow, struct kith_follow_status *status)
{
    const struct follow_connection *c = follow->connection;
    uint64_t now_ms = uv_now(follow->loop);
    *status = (struct kith_follow_status){
        .state = state_of(follow),
        .io_ms_ago = c && c->connected ? (int64_t)(now_ms - c->last_io_ms) : -1,
        .down_ms = follow->down_since_ms ? (int64_t)(now_ms - follow->down_since_ms) : 0,
        .copy_done = c ? c->copy_done : 0,
        .copy_total = c ? c->copy_total : 0,
        .full_syncs = follow->full_syncs,
        .partial_syncs = follow->partial_syncs,
        .failures = follow->failures,
        .error = follow->error};
}
