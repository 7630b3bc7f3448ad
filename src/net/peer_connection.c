/* One connection between peers: socket, TLS, handshake, frames. Dialed ones send, accepted ones receive.
 *
 *     socket -> [TLS] -> peer_wire -> frames -> host.receive
 *     link's queue -> header + frame -> [TLS] -> one write of many
 *
 * One write is under way at a time, and what it holds is bounded, so that a peer that does not read costs its queue's bound
 * and nothing else. */
#include "net/peer_internal.h"

#include "base/assert.h"
#include "base/os.h"
#include "base/varint.h"
#include "store/crc.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <stdlib.h>

/* --- birth and death --- */

static void let_go(struct peer_connection *c)
{
    if (--c->holds)
        return;
    struct kith_peers *peers = c->peers;
    peer_wire_fini(&c->wire);
    peer_tls_fini(&c->tls);
    kith_buf_fini(&c->bytes);
    kith_buf_fini(&c->writing_bytes);
    peer_queue_clear(&c->written);
    free(c);
    peers->open_handles--;
    peers_release(peers);
}

static void handle_closed(uv_handle_t *handle)
{
    let_go(handle->data);
}

static struct peer_connection *make(struct kith_peers *peers, struct peer_link *link)
{
    struct peer_connection *c = calloc(1, sizeof *c);
    char nonce[PEER_NONCE_BYTES];
    if (!c)
        return NULL;
    if (peers->tls && peer_tls_init(&c->tls, peers->tls, link != NULL) != KITH_OK) {
        free(c);
        return NULL;
    }
    c->has_tls = peers->tls != NULL;
    c->peers = peers;
    c->link = link;
    uv_tcp_init(peers->loop, &c->tcp);
    uv_timer_init(peers->loop, &c->timer);
    c->tcp.data = c->timer.data = c->connect.data = c->resolve.data = c->write.data = c;
    c->holds = 2;
    c->began_ms = uv_now(peers->loop);
    peers->open_handles++;
    kith_os_random(nonce, sizeof nonce);
    if (link)
        peer_wire_dial(&c->wire, &peers->self, link->lane == KITH_LANE_STREAM ? PEER_STREAM : PEER_MESSAGES,
                       link->peer->id, nonce);
    else
        peer_wire_accept(&c->wire, &peers->self, nonce);
    c->previous = peers->connections_tail;
    if (c->previous)
        c->previous->next = c;
    else
        peers->connections = c;
    peers->connections_tail = c;
    peers->stranger_count += !link;
    return c;
}

static void unlink_connection(struct peer_connection *c)
{
    struct kith_peers *peers = c->peers;
    *(c->previous ? &c->previous->next : &peers->connections) = c->next;
    *(c->next ? &c->next->previous : &peers->connections_tail) = c->previous;
    c->previous = c->next = NULL;
}

static void log_end(struct peer_connection *c, const char *reason)
{
    struct kith_peers *peers = c->peers;
    if (peers->closing || c->link || !*reason || c->last_write)
        return;
    if (c->peer)
        peers_log(peers, &c->peer->limiter, KITH_LOG_WARNING, "peer %016llx at %s: %s",
                  (unsigned long long)c->peer->id, c->remote, reason);
    else
        peers_log(peers, &peers->strangers, KITH_LOG_WARNING, "a peer connection from %s: %s", c->remote,
                  reason);
}

void peer_connection_close(struct peer_connection *c, const char *reason)
{
    struct peer *peer = c->peer;
    if (c->closing)
        return;
    c->closing = true;
    log_end(c, reason);
    unlink_connection(c);
    if (!c->link && !c->ready)
        c->peers->stranger_count--;
    uv_close((uv_handle_t *)&c->tcp, handle_closed);
    uv_close((uv_handle_t *)&c->timer, handle_closed);
    if (c->resolve.loop)
        uv_cancel((uv_req_t *)&c->resolve);
    if (c->join) {
        c->join->connection = NULL;
        c->join = NULL;
    }
    if (c->link) {
        link_ended(c->link, reason);
        c->link = NULL;
    }
    c->peer = NULL;
    if (!peer)
        return;
    for (int lane = 0; lane < PEER_LANES; lane++)
        if (peer->incoming[lane] == c)
            peer->incoming[lane] = NULL;
    peer_incoming_ended(peer);
}

static void handshake_late(uv_timer_t *timer)
{
    struct peer_connection *c = timer->data;
    peer_connection_close(c, c->seen_bytes ? "stopped in the middle of the handshake" : "no answer");
}

/* The system's own ways to find out that nobody is there any more. */
static void set_options(struct peer_connection *c)
{
    uv_os_fd_t fd;
    unsigned user_timeout_ms = PEER_USER_TIMEOUT_MS;
    int interval_s = 1, probes = PEER_KEEPALIVE_PROBES;
    uv_tcp_nodelay(&c->tcp, 1);
    uv_tcp_keepalive(&c->tcp, 1, PEER_KEEPALIVE_S);
    if (uv_fileno((uv_handle_t *)&c->tcp, &fd) != 0)
        return;
    /* A system without these has its own, longer, patience. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof user_timeout_ms);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

/* --- writing --- */

static void write_done(uv_write_t *request, int status)
{
    struct peer_connection *c = request->data;
    struct peer_link *link = c->link;
    c->writing = false;
    if (!c->has_tls) /* with TLS it holds what is not yet encrypted */
        peer_queue_clear(&c->written);
    kith_buf_clear(&c->writing_bytes);
    if (!c->closing && (status < 0 || c->last_write))
        peer_connection_close(c, status < 0 ? uv_strerror(status) : "");
    if (!c->closing) {
        peer_connection_flush(c);
        if (!c->closing && link && link->was_full && link->queue.bytes <= link->queue_bytes_max / 2) {
            link->was_full = false;
            c->peers->host.wake(c->peers->host.context);
        }
    }
    let_go(c);
}

/* Writes all of the buffers, now or later; what they point to must stay until `writing` is false. */
static int write_buffers(struct peer_connection *c, uv_buf_t *buffers, unsigned count)
{
    size_t total = 0;
    for (unsigned i = 0; i < count; i++)
        total += buffers[i].len;
    int written = uv_try_write((uv_stream_t *)&c->tcp, buffers, count);
    if (written < 0 && written != UV_EAGAIN)
        return written;
    size_t done = written > 0 ? (size_t)written : 0;
    if (done == total)
        return 0;
    while (done && done >= buffers->len) {
        done -= buffers->len;
        buffers++;
        count--;
    }
    buffers->base += done;
    buffers->len -= done;
    int status = uv_write(&c->write, (uv_stream_t *)&c->tcp, buffers, count, write_done);
    if (status)
        return status;
    c->writing = true;
    c->holds++;
    return 0;
}

/* Goes on with the sum of a frame; a large one takes several turns. True: it is there. */
static bool sum_frame(const struct peer_connection *c, struct peer_frame *frame)
{
    size_t budget = PEER_SUM_BYTES;
    if (!frame->summed || frame->salt != c->wire.salt) {
        frame->summed = 0;
        frame->sum = frame->salt = c->wire.salt;
    }
    while (frame->summed < peer_frame_bytes(frame) && budget) {
        struct kith_slice piece = peer_frame_piece(frame, frame->summed);
        piece.length = piece.length < budget ? piece.length : budget;
        frame->sum = kith_crc32c(frame->sum, piece.data, piece.length);
        frame->summed += piece.length;
        budget -= piece.length;
    }
    return frame->summed == peer_frame_bytes(frame);
}

/* Out of the link's queue what one write may hold, into c->written. False: the first has to wait. */
static bool take_frames(struct peer_connection *c)
{
    struct peer_link *link = c->link;
    struct kith_peers *peers = c->peers;
    uint64_t now_ms = uv_now(peers->loop);
    size_t bytes = 0;
    for (unsigned count = 0; count < PEER_WRITE_FRAMES; count++) {
        struct peer_frame *frame = link->queue.first;
        if (!frame || (count && bytes + peer_frame_bytes(frame) > PEER_WRITE_BYTES))
            break;
        if (frame->due_ms > now_ms) {
            peers_start_timer(peers, frame->due_ms - now_ms);
            break;
        }
        if (!sum_frame(c, frame)) {
            peers_start_timer(peers, 0);
            break;
        }
        frame = peer_queue_pop(&link->queue);
        bytes += peer_frame_bytes(frame);
        peer_wire_header_of(&c->wire, peer_frame_bytes(frame), frame->sum, frame->header);
        link->peer->sent_bytes += peer_frame_bytes(frame) + PEER_HEADER_BYTES;
        peer_queue_push(&c->written, frame);
    }
    return c->written.first;
}

static int write_plain(struct peer_connection *c)
{
    uv_buf_t buffers[3 * PEER_WRITE_FRAMES];
    unsigned count = 0;
    for (struct peer_frame *frame = c->written.first; frame; frame = frame->next) {
        buffers[count++] = uv_buf_init(frame->header, PEER_HEADER_BYTES);
        for (size_t at = 0; at < peer_frame_bytes(frame);) {
            struct kith_slice piece = peer_frame_piece(frame, at);
            buffers[count++] = uv_buf_init((char *)(uintptr_t)piece.data, (unsigned)piece.length);
            at += piece.length;
        }
    }
    int status = write_buffers(c, buffers, count);
    if (status == 0 && !c->writing)
        peer_queue_clear(&c->written);
    return status;
}

/* The same through TLS, at most PEER_WRITE_BYTES at a time, also of a large frame. */
static int encrypt_frames(struct peer_connection *c)
{
    struct peer_link *link = c->link;
    size_t budget = PEER_WRITE_BYTES;
    while (c->written.first && budget) {
        struct peer_frame *frame = c->written.first;
        struct kith_slice piece = peer_frame_piece(frame, link->tls_offset);
        piece.length = piece.length < budget ? piece.length : budget;
        if (!link->tls_offset &&
            peer_tls_send(&c->tls, kith_slice(frame->header, PEER_HEADER_BYTES)) != KITH_OK)
            return UV_ENOMEM;
        if (peer_tls_send(&c->tls, piece) != KITH_OK)
            return UV_ENOMEM;
        budget -= piece.length;
        link->tls_offset += piece.length;
        if (link->tls_offset == peer_frame_bytes(frame)) {
            peer_frame_free(peer_queue_pop(&c->written));
            link->tls_offset = 0;
        }
    }
    peer_tls_take(&c->tls, &c->bytes);
    return c->bytes.failed ? UV_ENOMEM : 0;
}

static int write_bytes(struct peer_connection *c)
{
    struct kith_buf swap = c->writing_bytes;
    c->writing_bytes = c->bytes;
    c->bytes = swap;
    kith_buf_clear(&c->bytes);
    uv_buf_t buffer = uv_buf_init(c->writing_bytes.data, (unsigned)c->writing_bytes.length);
    int status = write_buffers(c, &buffer, 1);
    if (!c->writing)
        kith_buf_clear(&c->writing_bytes);
    return status;
}

void peer_connection_flush(struct peer_connection *c)
{
    int status = 0;
    while (!c->closing && !c->writing && status == 0) {
        bool frames = c->ready && c->link;
        if (c->bytes.failed)
            status = UV_ENOMEM;
        else if (c->bytes.length)
            status = write_bytes(c);
        else if (frames && (c->written.first || take_frames(c)))
            status = c->has_tls ? encrypt_frames(c) : write_plain(c);
        else
            break;
    }
    if (status != 0 && !c->closing)
        peer_connection_close(c, uv_strerror(status));
    else if (!c->closing && c->last_write && !c->writing)
        peer_connection_close(c, "");
}

/* What the handshake has to say, through TLS if there is TLS. */
static void send_handshake(struct peer_connection *c)
{
    struct kith_buf *out = &c->wire.out;
    if (c->has_tls && !c->tls_refused) {
        if (out->length && c->tls.established && peer_tls_send(&c->tls, kith_buf_slice(out)) == KITH_OK)
            kith_buf_clear(out);
        peer_tls_take(&c->tls, &c->bytes);
    } else if (out->length) {
        kith_buf_append(&c->bytes, out->data, out->length);
        kith_buf_clear(out);
    }
    if (out->failed)
        c->bytes.failed = true;
    peer_connection_flush(c);
}

/* --- reading --- */

static void begin_join(struct peer_connection *c)
{
    struct kith_peers_host *host = &c->peers->host;
    struct kith_peer_join *join = host->join ? malloc(sizeof *join) : NULL;
    if (!join) {
        peer_connection_answer_join(c, host->join ? KITH_ENOMEM : KITH_EPERM,
                                    host->join ? "out of memory" : "nobody can join here");
        return;
    }
    *join = (struct kith_peer_join){c};
    c->join = join;
    KITH_INFO("node %016llx at %s asks to join the group", (unsigned long long)c->wire.peer_id,
              c->wire.peer_address);
    host->join(host->context, c->wire.peer_id, c->wire.peer_address, c->wire.as_spare, join);
}

static void accepted_ready(struct peer_connection *c)
{
    struct kith_peers *peers = c->peers;
    peers->stranger_count--;
    if (c->wire.purpose == PEER_JOIN) {
        begin_join(c);
        return;
    }
    if (c->wire.purpose == PEER_ASK) {
        c->last_write = true; /* our proof names the group */
        return;
    }
    struct peer *peer = peers_get(peers, c->wire.peer_id);
    if (!peer) {
        peer_connection_close(c, "out of memory");
        return;
    }
    int lane = c->wire.purpose == PEER_STREAM ? KITH_LANE_STREAM : KITH_LANE_MESSAGES;
    struct peer_connection *before = peer->incoming[lane];
    c->peer = peer;
    peer->incoming[lane] = c;
    snprintf(peer->told_address, sizeof peer->told_address, "%s", c->wire.peer_address);
    if (before)
        peer_connection_close(before, ""); /* it has dialed again: it knows that this one is dead */
    /* It is there: no reason to wait for the next try. */
    for (int i = 0; i < PEER_LANES && peer->wanted; i++)
        link_dial_again(&peer->links[i]);
}

static void become_ready(struct peer_connection *c)
{
    c->ready = true;
    uv_timer_stop(&c->timer);
    if (c->link)
        link_ready(c->link);
    else
        accepted_ready(c);
}

/* What the node said to it, in words for the log. */
static int explain(struct peer_connection *c, int status)
{
    if (status == KITH_ECORRUPT || status == KITH_EVERSION) {
        snprintf(c->reason, sizeof c->reason, "sent a frame that %s",
                 status == KITH_ECORRUPT ? "is damaged" : "this version does not know");
        return status;
    }
    return KITH_OK; /* the node's own trouble; it has told of it */
}

static int on_frame(void *context, struct kith_slice frame)
{
    struct peer_connection *c = context;
    if (!c->ready)
        become_ready(c);
    if (c->closing)
        return KITH_ECLOSED;
    if (!c->peer) {
        snprintf(c->reason, sizeof c->reason, "sent a frame on a connection that is not for it");
        return KITH_ECORRUPT;
    }
    struct kith_peers *peers = c->peers;
    struct peer *peer = c->peer;
    peer->received_bytes += frame.length + PEER_HEADER_BYTES;
    if (peers_is_blocked(peers, peer))
        return KITH_OK;
    peer->heard_ms = uv_now(peers->loop);
    int status = explain(c, peers->host.receive(peers->host.context, peer->id, peer->told_address, frame));
    return c->closing ? KITH_ECLOSED : status;
}

static int on_plain(void *context, struct kith_slice bytes)
{
    struct peer_connection *c = context;
    if (c->has_tls && !c->ready)
        c->wire.binding = kith_slice(c->tls.binding, sizeof c->tls.binding);
    int status = peer_wire_receive(&c->wire, bytes, on_frame, c);
    if (c->closing)
        return KITH_ECLOSED;
    if (status != KITH_OK && !*c->reason)
        snprintf(c->reason, sizeof c->reason, "%s", c->wire.reason);
    if (status == KITH_OK && !c->ready && c->wire.state == PEER_READY)
        become_ready(c);
    return c->closing ? KITH_ECLOSED : status;
}

/* The first byte tells whether the other side speaks TLS as we do. If not, it is told so, or has told us. */
static int without_tls(struct peer_connection *c, struct kith_slice bytes)
{
    c->tls_refused = true;
    if (c->link) {
        (void)peer_wire_receive(&c->wire, bytes, on_frame, c); /* a refusal has words of its own */
        kith_buf_clear(&c->wire.out);
        snprintf(c->reason, sizeof c->reason, "%s",
                 c->wire.state == PEER_FAILED ? c->wire.reason : "answered without TLS");
    } else {
        peer_wire_refuse(&c->wire, PEER_REFUSED_TLS, "TLS is required here");
        snprintf(c->reason, sizeof c->reason,
                 "speaks without TLS, and we do not: set cluster-tls-cert, -key and -ca on all nodes");
    }
    return KITH_EPERM;
}

static int receive(struct peer_connection *c, struct kith_slice bytes)
{
    bool first = !c->seen_bytes;
    c->seen_bytes = true;
    if (!c->has_tls)
        return on_plain(c, bytes);
    if (first && bytes.data[0] == 'K')
        return without_tls(c, bytes);
    return peer_tls_receive(&c->tls, bytes, on_plain, c, c->reason, sizeof c->reason);
}

/* A large frame takes its time, and nothing else comes meanwhile. */
static void tell_of_part(struct peer_connection *c)
{
    struct kith_peers *peers = c->peers;
    uint64_t now_ms = uv_now(peers->loop);
    if (!c->peer || c->wire.purpose != PEER_MESSAGES || !c->wire.in.length || !peers->host.heard ||
        now_ms - c->told_ms < PEER_PARTIAL_MS || peers_is_blocked(peers, c->peer))
        return;
    c->told_ms = c->peer->heard_ms = now_ms;
    peers->host.heard(peers->host.context, c->peer->id);
}

/* Its process ended, or its machine said so. One that dialed anew has ended the old connection, too: then it is there. */
static void tell_of_loss(struct peer_connection *c)
{
    struct kith_peers *peers = c->peers;
    if (c->peer && c->peer->incoming[KITH_LANE_MESSAGES] == c && peers->host.lost)
        peers->host.lost(peers->host.context, c->peer->id);
}

static void read_done(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer)
{
    struct peer_connection *c = stream->data;
    if (length == 0 || c->closing)
        return;
    if (length < 0) {
        /* What the other side dialed it may end; our own connection to it tells whether it is gone. */
        const char *reason = !c->link && c->ready ? ""
                             : length != UV_EOF   ? uv_strerror((int)length)
                             : c->ready           ? "it closed the connection"
                                                  : "closed in the middle of the handshake";
        tell_of_loss(c);
        peer_connection_close(c, reason);
        return;
    }
    c->holds++; /* a frame may end the connection */
    int status = receive(c, kith_slice(buffer->base, (size_t)length));
    if (!c->closing && status == KITH_OK)
        tell_of_part(c);
    if (!c->closing) {
        bool ends = status != KITH_OK;
        if (!c->ready || ends || c->wire.out.length)
            send_handshake(c);
        if (ends && !c->closing)
            peer_connection_close(c, status == KITH_ECLOSED ? (c->link ? "it closed the connection" : "")
                                                            : c->reason);
    }
    let_go(c);
}

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct peer_connection *c = handle->data;
    *buffer = uv_buf_init(c->peers->read_buffer, PEER_READ_BYTES);
}

/* --- accepting --- */

static void evict_stranger(struct kith_peers *peers)
{
    for (struct peer_connection *c = peers->connections; c; c = c->next)
        if (!c->link && !c->ready) {
            peer_connection_close(c, "too many connections that do not say who they are");
            return;
        }
}

void peers_accept(uv_stream_t *listener, int status)
{
    struct kith_peers *peers = listener->data;
    struct sockaddr_storage address;
    int length = sizeof address;
    char host[64] = "?";
    if (status < 0 || peers->closing)
        return;
    if (peers->stranger_count >= PEER_STRANGERS_MAX)
        evict_stranger(peers);
    struct peer_connection *c = make(peers, NULL);
    if (!c) {
        peers->stalled = true;
        peers_start_timer(peers, PEER_STALL_MS);
        return;
    }
    if (uv_accept(listener, (uv_stream_t *)&c->tcp) != 0) {
        peer_connection_close(c, "");
        return;
    }
    if (uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&address, &length) == 0)
        uv_ip_name((struct sockaddr *)&address, host, sizeof host);
    snprintf(c->remote, sizeof c->remote, address.ss_family == AF_INET6 ? "[%s]:%u" : "%s:%u", host,
             ntohs(((struct sockaddr_in *)&address)->sin_port));
    set_options(c);
    uv_timer_start(&c->timer, handshake_late, PEER_HANDSHAKE_MS, 0);
    uv_read_start((uv_stream_t *)&c->tcp, give_buffer, read_done);
}

/* --- dialing --- */

static void connected(uv_connect_t *request, int status)
{
    struct peer_connection *c = request->data;
    if (!c->closing && status < 0)
        peer_connection_close(c, uv_strerror(status));
    if (!c->closing) {
        set_options(c);
        uv_read_start((uv_stream_t *)&c->tcp, give_buffer, read_done);
        if (c->has_tls)
            (void)peer_tls_handshake(&c->tls, c->reason, sizeof c->reason); /* its first message only */
        send_handshake(c);
    }
    let_go(c);
}

static void connect_to(struct peer_connection *c, const struct sockaddr *address)
{
    int status = uv_tcp_connect(&c->connect, &c->tcp, address, connected);
    if (status)
        peer_connection_close(c, uv_strerror(status));
    else
        c->holds++;
}

static const struct addrinfo *choose(const struct addrinfo *found, unsigned turn)
{
    unsigned count = 0;
    for (const struct addrinfo *each = found; each; each = each->ai_next)
        count++;
    for (turn %= count; turn; turn--)
        found = found->ai_next;
    return found;
}

static void resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct peer_connection *c = request->data;
    struct peer_link *link = c->link;
    request->loop = NULL;
    if (!c->closing && (status < 0 || !found))
        peer_connection_close(c, status < 0 ? uv_strerror(status) : "its name has no address");
    else if (!c->closing && link) /* another one at the next try */
        connect_to(c, choose(found, link->failures / 2)->ai_addr);
    uv_freeaddrinfo(found);
    let_go(c);
}

bool connection_dial(struct peer_link *link, const char *address)
{
    struct kith_peers *peers = link->peer->peers;
    char host[KITH_PEER_HOST_BYTES], service[8];
    uint16_t port;
    struct peer_connection *c = make(peers, link);
    if (!c)
        return false;
    link->connection = c;
    snprintf(c->remote, sizeof c->remote, "%s", address);
    uv_timer_start(&c->timer, handshake_late, PEER_HANDSHAKE_MS, 0);
    if (kith_peer_parse_address(address, host, &port) != KITH_OK) {
        peer_connection_close(c, "that is no address");
        return true;
    }
    struct sockaddr_storage numeric;
    if (uv_ip4_addr(host, port, (struct sockaddr_in *)&numeric) == 0 ||
        uv_ip6_addr(host, port, (struct sockaddr_in6 *)&numeric) == 0) {
        connect_to(c, (struct sockaddr *)&numeric);
        return true;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    snprintf(service, sizeof service, "%u", port);
    int status = uv_getaddrinfo(peers->loop, &c->resolve, resolved, host, service, &hints);
    if (status) {
        c->resolve.loop = NULL;
        peer_connection_close(c, uv_strerror(status));
    } else {
        c->holds++;
    }
    return true;
}

/* --- joins --- */

void peer_connection_answer_join(struct peer_connection *c, int status, const char *text)
{
    struct kith_buf frame;
    char header[PEER_HEADER_BYTES];
    size_t length = strlen(text);
    if (c->closing)
        return;
    kith_buf_init(&frame);
    kith_buf_append_u64(&frame, (uint64_t)(int64_t)status);
    kith_buf_append_slice(&frame, kith_slice(text, length < 1024 ? length : 1024));
    if (frame.failed) {
        peer_connection_close(c, "out of memory");
        return;
    }
    send_handshake(c); /* our proof goes first */
    if (!c->closing) {
        peer_wire_header(&c->wire, kith_buf_slice(&frame), header);
        kith_buf_append(&c->wire.out, header, sizeof header);
        kith_buf_append(&c->wire.out, frame.data, frame.length);
        c->last_write = true;
        send_handshake(c);
    }
    kith_buf_fini(&frame);
}
