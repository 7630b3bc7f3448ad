/* The table of peers, and struct kith_transport on top of it: queues with a bound, when to dial, what is told to whom.
 *
 * A frame is queued only for a connection that is ready, or that is being tried for the first time: what is said to a peer
 * that is gone is of no use when it comes back. While a connection cannot be had it is tried again, later and later. */
#include "net/peer_internal.h"

#include "base/assert.h"
#include "base/os.h"

#include <netdb.h>
#include <stdarg.h>
#include <stdlib.h>

/* --- queues --- */

void peer_frame_free(struct peer_frame *frame)
{
    kith_buf_fini(&frame->bytes);
    if (frame->rest.release)
        frame->rest.release(frame->rest.owner);
    free(frame);
}

struct kith_slice peer_frame_piece(const struct peer_frame *frame, size_t offset)
{
    const struct kith_slice head = kith_buf_slice(&frame->bytes), rest = frame->rest.bytes;
    if (offset < head.length)
        return kith_slice(head.data + offset, head.length - offset);
    offset -= head.length;
    return kith_slice(rest.data + offset, rest.length - offset);
}

void peer_queue_push(struct peer_queue *queue, struct peer_frame *frame)
{
    frame->next = NULL;
    if (queue->last)
        queue->last->next = frame;
    else
        queue->first = frame;
    queue->last = frame;
    queue->bytes += peer_frame_bytes(frame);
}

struct peer_frame *peer_queue_pop(struct peer_queue *queue)
{
    struct peer_frame *frame = queue->first;
    if (!frame)
        return NULL;
    queue->first = frame->next;
    if (!queue->first)
        queue->last = NULL;
    KITH_ASSERT(queue->bytes >= peer_frame_bytes(frame));
    queue->bytes -= peer_frame_bytes(frame);
    return frame;
}

void peer_queue_clear(struct peer_queue *queue)
{
    struct peer_frame *frame;
    while ((frame = peer_queue_pop(queue)))
        peer_frame_free(frame);
}

/* --- the log --- */

void peers_log(struct kith_peers *peers, struct peer_limiter *limiter, enum kith_log_level level,
               const char *format, ...)
{
    uint64_t now_ms = uv_now(peers->loop);
    char line[640];
    if (!limiter->lines || now_ms - limiter->since_ms > PEER_LOG_WINDOW_MS) {
        limiter->since_ms = now_ms;
        limiter->lines = 0;
    }
    if (limiter->lines++ >= PEER_LOG_LINES) {
        limiter->hidden++;
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (limiter->hidden)
        kith_log(level, "%s (and %u lines like it)", line, limiter->hidden);
    else
        kith_log(level, "%s", line);
    limiter->hidden = 0;
}

/* --- peers --- */

struct peer *peers_find(struct kith_peers *peers, uint64_t id)
{
    for (struct peer *peer = peers->first; peer; peer = peer->next)
        if (peer->id == id)
            return peer;
    return NULL;
}

static void retry(uv_timer_t *timer)
{
    struct peer_link *link = timer->data;
    link_dial(link);
}

struct peer *peers_get(struct kith_peers *peers, uint64_t id)
{
    struct peer *peer = peers_find(peers, id);
    if (peer)
        return peer;
    peer = calloc(1, sizeof *peer);
    if (!peer)
        return NULL;
    peer->peers = peers;
    peer->id = id;
    for (int lane = 0; lane < PEER_LANES; lane++) {
        struct peer_link *link = &peer->links[lane];
        link->peer = peer;
        link->lane = (enum kith_lane)lane;
        link->queue_bytes_max = peers->queue_bytes_max[lane];
        uv_timer_init(peers->loop, &link->timer);
        link->timer.data = link;
        peers->open_handles++;
    }
    peer->open_timers = PEER_LANES;
    peer->next = peers->first;
    peers->first = peer;
    return peer;
}

static void timer_closed(uv_handle_t *handle)
{
    struct peer_link *link = handle->data;
    struct peer *peer = link->peer;
    struct kith_peers *peers = peer->peers;
    peers->open_handles--;
    if (--peer->open_timers == 0)
        free(peer);
    peers_release(peers);
}

/* Closes its connections and frees it, once libuv has let go. */
static void peer_close(struct peer *peer, const char *reason)
{
    struct peer **at = &peer->peers->first;
    while (*at != peer)
        at = &(*at)->next;
    *at = peer->next;
    peer->wanted = false;
    for (int lane = 0; lane < PEER_LANES; lane++) {
        struct peer_link *link = &peer->links[lane];
        if (link->connection)
            peer_connection_close(link->connection, reason);
        if (peer->incoming[lane]) {
            struct peer_connection *incoming = peer->incoming[lane];
            peer->incoming[lane] = NULL;
            incoming->peer = NULL;
            peer_connection_close(incoming, reason);
        }
        peer_queue_clear(&link->queue);
    }
    for (int lane = 0; lane < PEER_LANES; lane++)
        uv_close((uv_handle_t *)&peer->links[lane].timer, timer_closed);
}

/* One that nothing was ever sent to lives as long as its connections. */
void peer_incoming_ended(struct peer *peer)
{
    if (!peer->wanted && !peer->incoming[0] && !peer->incoming[1])
        peer_close(peer, "");
}

bool peers_is_blocked(const struct kith_peers *peers, const struct peer *peer)
{
    if (!peers->blocked)
        return false;
    for (const char *at = peers->blocked; *at;) {
        size_t length = strcspn(at, " ");
        if (length && ((strncmp(at, peer->address, length) == 0 && !peer->address[length]) ||
                       (strncmp(at, peer->told_address, length) == 0 && !peer->told_address[length])))
            return true;
        at += length + (at[length] == ' ');
    }
    return false;
}

/* --- links --- */

/* The address the group knows and the one it told itself may differ while it moves: each is tried in turn. */
static const char *link_address(const struct peer_link *link)
{
    const struct peer *peer = link->peer;
    if (!*peer->address || (*peer->told_address && link->failures % 2))
        return peer->told_address;
    return peer->address;
}

static void schedule_retry(struct peer_link *link)
{
    unsigned shift = link->failures < 6 ? link->failures : 6;
    uint64_t wait_ms = (uint64_t)PEER_RETRY_MIN_MS << shift;
    if (wait_ms > PEER_RETRY_MAX_MS)
        wait_ms = PEER_RETRY_MAX_MS;
    /* Half of it by chance: nodes that lost each other at one moment do not come back at one moment. */
    wait_ms = wait_ms / 2 + kith_rng_below(&link->peer->peers->rng, wait_ms / 2 + 1);
    uv_timer_start(&link->timer, retry, wait_ms, 0);
}

void link_dial(struct peer_link *link)
{
    struct kith_peers *peers = link->peer->peers;
    const char *address = link_address(link);
    if (link->connection || !peers->started || peers->closing || !*address)
        return;
    uv_timer_stop(&link->timer);
    if (!connection_dial(link, address)) {
        link->failures++;
        schedule_retry(link);
    }
}

void link_dial_again(struct peer_link *link)
{
    struct peer_connection *c = link->connection;
    if (c && !c->seen_bytes && uv_now(c->peers->loop) - c->began_ms > PEER_PATIENCE_MS)
        peer_connection_close(c, "no answer yet, but it has called");
    if (link->failures || link->lost)
        link_dial(link);
}

void link_ready(struct peer_link *link)
{
    struct peer *peer = link->peer;
    if (link->lane == KITH_LANE_MESSAGES && (link->failures || link->lost))
        peers_log(peer->peers, &peer->limiter, KITH_LOG_INFO, "peer %016llx at %s: connected",
                  (unsigned long long)peer->id, link->connection->remote);
    link->failures = 0;
    link->lost = false;
    link->was_full = false;
    peer->peers->host.wake(peer->peers->host.context);
}

void link_ended(struct peer_link *link, const char *reason)
{
    struct peer *peer = link->peer;
    struct kith_peers *peers = peer->peers;
    bool was_ready = link->connection->ready;
    /* When it is lost, and then at the first, second, fourth ... failure to get it back. The stream's fails with it. */
    bool is_news = was_ready || (link->failures & (link->failures + 1)) == 0;
    if (!peers->closing && peer->wanted && link->lane == KITH_LANE_MESSAGES && is_news)
        peers_log(peers, &peer->limiter, KITH_LOG_WARNING, "peer %016llx at %s: %s: %s",
                  (unsigned long long)peer->id, link->connection->remote,
                  was_ready ? "connection lost" : "cannot connect", reason);
    link->connection = NULL;
    link->tls_offset = 0;
    for (const struct peer_frame *frame = link->queue.first; frame; frame = frame->next)
        peer->dropped_frames++;
    peer_queue_clear(&link->queue);
    link->lost = link->lost || was_ready;
    link->failures = was_ready ? 0 : link->failures + 1;
    if (!peers->closing && peer->wanted)
        schedule_retry(link);
}

/* --- struct kith_transport --- */

static bool is_lost(struct kith_peers *peers, const struct peer *peer)
{
    return peers_is_blocked(peers, peer) ||
           (peers->drop_percent && kith_rng_below(&peers->rng, 100) < peers->drop_percent);
}

static bool takes_frames(const struct peer_link *link)
{
    return link->connection && (link->connection->ready || (!link->failures && !link->lost));
}

/* A frame larger than the bound goes when nothing else waits. */
static bool is_full(const struct peer_link *link, size_t more)
{
    size_t waiting = link->queue.bytes + (link->connection ? link->connection->written.bytes : 0);
    return waiting && waiting + more > link->queue_bytes_max;
}

/* NULL: no memory. */
static struct peer *want(struct kith_peers *peers, uint64_t id, const char *address)
{
    struct peer *peer = peers_get(peers, id);
    if (!peer)
        return NULL;
    if (address && *address && strcmp(address, peer->address) != 0)
        snprintf(peer->address, sizeof peer->address, "%s", address);
    if (!peer->wanted) {
        peer->wanted = true;
        for (int lane = 0; lane < PEER_LANES; lane++)
            link_dial(&peer->links[lane]);
    }
    return peer;
}

/* The frame, when it may go; else what it is made of is freed. */
static void queue_frame(struct kith_peers *peers, struct peer *peer, enum kith_lane lane,
                        struct peer_frame *frame)
{
    struct peer_link *link = peer ? &peer->links[lane] : NULL;
    bool takes = link && takes_frames(link), full = takes && is_full(link, peer_frame_bytes(frame));
    if (full)
        link->was_full = true;
    if (takes && !full && !is_lost(peers, peer)) {
        peer_queue_push(&link->queue, frame);
        return;
    }
    if (peer)
        peer->dropped_frames++;
    peer_frame_free(frame);
}

static void send_shared(void *context, uint64_t id, const char *address, enum kith_lane lane,
                        struct kith_buf *head, const struct kith_shared *rest)
{
    struct kith_peers *peers = context;
    struct peer_frame *frame = NULL;
    struct peer *peer = NULL;
    if (peers->started && !peers->closing && !head->failed && head->length) {
        peer = want(peers, id, address);
        frame = malloc(sizeof *frame);
    }
    if (!frame) {
        if (peer)
            peer->dropped_frames++;
        kith_buf_fini(head);
        if (rest->release)
            rest->release(rest->owner);
        return;
    }
    *frame = (struct peer_frame){
        .bytes = *head, .rest = *rest, .due_ms = peers->delay_ms ? uv_now(peers->loop) + peers->delay_ms : 0};
    kith_buf_init(head);
    queue_frame(peers, peer, lane, frame);
}

static void send_frame(void *context, uint64_t id, const char *address, enum kith_lane lane,
                       struct kith_buf *bytes)
{
    send_shared(context, id, address, lane, bytes, &(struct kith_shared){.release = NULL});
}

static size_t get_room(void *context, uint64_t id, enum kith_lane lane)
{
    struct kith_peers *peers = context;
    struct peer *peer = peers_find(peers, id);
    struct peer_link *link = peer ? &peer->links[lane] : NULL;
    if (!link || !link->connection || !link->connection->ready || peers->closing)
        return 0;
    size_t waiting = link->queue.bytes + link->connection->written.bytes;
    if (waiting < link->queue_bytes_max)
        return link->queue_bytes_max - waiting;
    link->was_full = true;
    return 0;
}

static void forget(void *context, uint64_t id)
{
    struct kith_peers *peers = context;
    struct peer *peer = peers_find(peers, id);
    if (peer)
        peer_close(peer, "it has left the group");
}

static void get_status(void *context, uint64_t id, struct kith_peer_status *out)
{
    struct kith_peers *peers = context;
    const struct peer *peer = peers_find(peers, id);
    *out = (struct kith_peer_status){.heard_ms_ago = -1};
    if (!peer)
        return;
    for (int lane = 0; lane < PEER_LANES; lane++) {
        const struct peer_connection *connection = peer->links[lane].connection;
        out->queued_bytes += peer->links[lane].queue.bytes + (connection ? connection->written.bytes : 0);
        if (lane == KITH_LANE_MESSAGES)
            out->connected = (connection && connection->ready) || peer->incoming[lane];
    }
    out->sent_bytes = peer->sent_bytes;
    out->received_bytes = peer->received_bytes;
    out->dropped_frames = peer->dropped_frames;
    if (peer->heard_ms)
        out->heard_ms_ago = (int64_t)(uv_now(peers->loop) - peer->heard_ms);
}

struct kith_transport kith_peers_transport(struct kith_peers *peers)
{
    return (struct kith_transport){.context = peers,
                                   .send = send_frame,
                                   .send_shared = send_shared,
                                   .room = get_room,
                                   .forget = forget,
                                   .status = get_status};
}

/* --- the whole --- */

void kith_peers_flush(struct kith_peers *peers)
{
    if (!peers || peers->closing)
        return;
    for (struct peer *peer = peers->first, *next; peer; peer = next) {
        next = peer->next;
        for (int lane = 0; lane < PEER_LANES; lane++)
            if (peer->links[lane].queue.first && peer->links[lane].connection)
                peer_connection_flush(peer->links[lane].connection);
    }
}

static void prepare_run(uv_prepare_t *prepare)
{
    kith_peers_flush(prepare->data);
}

static void timer_run(uv_timer_t *timer)
{
    struct kith_peers *peers = timer->data;
    if (peers->stalled) {
        peers->stalled = false;
        for (unsigned i = 0; i < peers->listener_count; i++)
            peers_accept((uv_stream_t *)&peers->listeners[i], 0);
    }
    kith_peers_flush(peers);
}

void peers_start_timer(struct kith_peers *peers, uint64_t wait_ms)
{
    if (!uv_is_active((uv_handle_t *)&peers->timer))
        uv_timer_start(&peers->timer, timer_run, wait_ms, 0);
}

int kith_peers_open(struct kith_peers **out, const struct kith_peers_options *options,
                    struct kith_error *error)
{
    char host[KITH_PEER_HOST_BYTES];
    uint16_t port;
    const char *bind = options->bind && *options->bind ? options->bind : options->address;
    const char *texts[] = {options->address, bind};
    for (int i = 0; i < 2; i++)
        if (strlen(texts[i]) > PEER_ADDRESS_MAX || kith_peer_parse_address(texts[i], host, &port) != KITH_OK)
            return kith_error_set(error, KITH_EINVAL,
                                  "'%s' is no address: it should be host:port, or [::1]:port for IPv6",
                                  texts[i]);
    struct kith_peers *peers = calloc(1, sizeof *peers);
    char *read_buffer = peers ? malloc(PEER_READ_BYTES) : NULL;
    if (read_buffer)
        kith_buf_append(&peers->secret, options->secret.data, options->secret.length);
    if (!read_buffer || peers->secret.failed) {
        free(read_buffer);
        free(peers);
        return kith_error_set(error, KITH_ENOMEM, "out of memory");
    }
    peers->read_buffer = read_buffer;
    peers->loop = options->loop;
    peers->tls = options->tls;
    snprintf(peers->address, sizeof peers->address, "%s", options->address);
    snprintf(peers->bind, sizeof peers->bind, "%s", bind);
    peers->queue_bytes_max[KITH_LANE_MESSAGES] =
        options->message_queue_bytes ? options->message_queue_bytes : PEER_MESSAGE_QUEUE_BYTES;
    peers->queue_bytes_max[KITH_LANE_STREAM] =
        options->stream_queue_bytes ? options->stream_queue_bytes : PEER_STREAM_QUEUE_BYTES;
    uint64_t seed;
    kith_os_random(&seed, sizeof seed);
    kith_rng_seed(&peers->rng, seed);
    uv_prepare_init(peers->loop, &peers->prepare);
    uv_timer_init(peers->loop, &peers->timer);
    peers->prepare.data = peers->timer.data = peers;
    peers->open_handles = 2;
    uv_prepare_start(&peers->prepare, prepare_run);
    uv_unref((uv_handle_t *)&peers->prepare);
    *out = peers;
    return KITH_OK;
}

static void handle_closed(uv_handle_t *handle)
{
    struct kith_peers *peers = handle->data;
    peers->open_handles--;
    peers_release(peers);
}

static int listen_one(struct kith_peers *peers, const struct sockaddr *address)
{
    uv_tcp_t *tcp = &peers->listeners[peers->listener_count];
    struct sockaddr_storage bound;
    int length = sizeof bound;
    int status = uv_tcp_init(peers->loop, tcp);
    if (status)
        return status;
    peers->listener_count++;
    peers->open_handles++;
    tcp->data = peers;
    status = uv_tcp_bind(tcp, address, address->sa_family == AF_INET6 ? UV_TCP_IPV6ONLY : 0);
    if (!status)
        status = uv_listen((uv_stream_t *)tcp, PEER_BACKLOG, peers_accept);
    if (!status)
        status = uv_tcp_getsockname(tcp, (struct sockaddr *)&bound, &length);
    if (!status) /* the port lies at one place in both families */
        peers->port = ntohs(((struct sockaddr_in *)&bound)->sin_port);
    return status;
}

int kith_peers_start(struct kith_peers *peers, const struct kith_peers_host *host, struct kith_error *error)
{
    struct addrinfo *found = NULL;
    int status = peer_resolve(peers->bind, true, &found, error);
    if (status != KITH_OK)
        return status;
    peers->host = *host;
    peers->self = (struct peer_self){.group_id = host->group_id,
                                     .node_id = host->node_id,
                                     .address = peers->address,
                                     .secret = kith_buf_slice(&peers->secret),
                                     .lowest = PEER_VERSION_LOWEST,
                                     .highest = PEER_VERSION_HIGHEST};
    int result = 0;
    for (struct addrinfo *each = found; each && !result && peers->listener_count < PEER_LISTENERS_MAX;
         each = each->ai_next)
        result = listen_one(peers, each->ai_addr);
    freeaddrinfo(found);
    if (result)
        return kith_error_set(
            error, KITH_EIO, "cannot listen for peers on %s: %s%s", peers->bind, uv_strerror(result),
            result == UV_EADDRINUSE ? ": stop what uses it, or choose another port"
                                    : ": see the keys 'cluster-address' and 'cluster-bind'");
    peers->started = true;
    return KITH_OK;
}

uint16_t kith_peers_port(const struct kith_peers *peers)
{
    return peers->port;
}

void peers_release(struct kith_peers *peers)
{
    if (!peers->closing || peers->open_handles)
        return;
    KITH_ASSERT(!peers->first && !peers->connections);
    if (peers->secret.data)
        OPENSSL_cleanse(peers->secret.data, peers->secret.length);
    kith_buf_fini(&peers->secret);
    free(peers->read_buffer);
    free(peers->blocked);
    free(peers);
}

void kith_peers_close(struct kith_peers *peers)
{
    if (!peers || peers->closing)
        return;
    peers->closing = true;
    while (peers->first)
        peer_close(peers->first, "this node stops");
    for (struct peer_connection *each = peers->connections, *next; each; each = next) {
        next = each->next;
        peer_connection_close(each, "this node stops");
    }
    for (unsigned i = 0; i < peers->listener_count; i++)
        uv_close((uv_handle_t *)&peers->listeners[i], handle_closed);
    uv_close((uv_handle_t *)&peers->prepare, handle_closed);
    uv_close((uv_handle_t *)&peers->timer, handle_closed);
}

int kith_peers_set_faults(struct kith_peers *peers, const struct kith_peers_faults *faults)
{
    char *blocked = NULL;
    if (faults->blocked && *faults->blocked && !(blocked = strdup(faults->blocked)))
        return KITH_ENOMEM;
    free(peers->blocked);
    peers->blocked = blocked;
    peers->delay_ms = faults->delay_ms;
    peers->drop_percent = faults->drop_percent;
    return KITH_OK;
}

void kith_peer_join_answer(struct kith_peer_join *join, int status, const char *text)
{
    if (join->connection) {
        join->connection->join = NULL;
        peer_connection_answer_join(join->connection, status, text);
    }
    free(join);
}
