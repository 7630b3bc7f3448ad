/* The asking side of a join. It runs before there is a node, a loop or a folder, so it is plain blocking sockets with a
 * limit on each wait; the protocol is peer_wire's. */
#include "net/peer_internal.h"

#include "base/os.h"
#include "base/varint.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <unistd.h>

enum {
    JOIN_LIMIT_MS = 60000,
    JOIN_CONNECT_MS = 3000,
    JOIN_ANSWER_MS = 20000, /* the member asks its leader, which waits for a majority */
    JOIN_PAUSE_MS = 500,
};

struct attempt {
    const struct kith_peer_join_options *options;
    struct peer_self self;
    struct peer_wire wire;
    struct peer_tls tls;
    int fd;
    uint64_t until_ns;
    bool answered;
    int answer;
    char reason[256];
    char answer_text[256];
};

static int fail(struct attempt *a, int status, const char *reason)
{
    snprintf(a->reason, sizeof a->reason, "%s", reason);
    return status;
}

static int wait_for(struct attempt *a, short events)
{
    uint64_t now_ns = kith_os_monotonic_ns();
    struct pollfd wanted = {.fd = a->fd, .events = events};
    int left_ms = now_ns < a->until_ns ? (int)((a->until_ns - now_ns) / 1000000) + 1 : 0;
    int ready = poll(&wanted, 1, left_ms);
    if (ready > 0 || (ready < 0 && errno == EINTR))
        return KITH_OK;
    return fail(a, KITH_EAGAIN, ready < 0 ? strerror(errno) : "no answer in time");
}

static int send_all(struct attempt *a, struct kith_slice bytes)
{
    while (bytes.length) {
        ssize_t sent = send(a->fd, bytes.data, bytes.length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return fail(a, KITH_EIO, strerror(errno));
        if (sent > 0)
            bytes = kith_slice(bytes.data + sent, bytes.length - (size_t)sent);
        else if (wait_for(a, POLLOUT) != KITH_OK)
            return KITH_EAGAIN;
    }
    return KITH_OK;
}

static int send_wire(struct attempt *a)
{
    struct kith_buf bytes, *out = &a->wire.out;
    int status = out->failed ? KITH_ENOMEM : KITH_OK;
    kith_buf_init(&bytes);
    if (a->options->tls) {
        if (status == KITH_OK && out->length && a->tls.established) {
            status = peer_tls_send(&a->tls, kith_buf_slice(out));
            kith_buf_clear(out);
        }
        peer_tls_take(&a->tls, &bytes);
    } else {
        kith_buf_append(&bytes, out->data, out->length);
        kith_buf_clear(out);
    }
    if (status == KITH_OK && bytes.failed)
        status = KITH_ENOMEM;
    if (status == KITH_OK)
        status = send_all(a, kith_buf_slice(&bytes));
    else
        fail(a, status, "out of memory");
    kith_buf_fini(&bytes);
    return status;
}

/* The answer to a join: status, text. */
static int on_frame(void *context, struct kith_slice frame)
{
    struct attempt *a = context;
    struct kith_reader r = kith_reader(frame);
    a->answer = (int)(int64_t)kith_reader_u64(&r);
    struct kith_slice text = kith_reader_slice(&r);
    if (r.failed)
        return fail(a, KITH_ECORRUPT, "answered something damaged");
    a->answered = true;
    size_t length = text.length < sizeof a->answer_text - 1 ? text.length : sizeof a->answer_text - 1;
    for (size_t i = 0; i < length; i++)
        a->answer_text[i] = text.data[i] < ' ' || text.data[i] > '~' ? '?' : text.data[i];
    a->answer_text[length] = '\0';
    return KITH_OK;
}

static int on_plain(void *context, struct kith_slice bytes)
{
    struct attempt *a = context;
    if (a->options->tls)
        a->wire.binding = kith_slice(a->tls.binding, sizeof a->tls.binding);
    int status = peer_wire_receive(&a->wire, bytes, on_frame, a);
    if (status != KITH_OK && !*a->reason)
        fail(a, status, a->wire.reason);
    return status;
}

static int take(struct attempt *a, struct kith_slice bytes, bool first)
{
    if (!a->options->tls)
        return on_plain(a, bytes);
    if (first && bytes.data[0] == 'K') { /* without TLS: at most a refusal */
        int status = peer_wire_receive(&a->wire, bytes, on_frame, a);
        return fail(a, status == KITH_OK ? KITH_EPERM : status,
                    status == KITH_OK ? "answered without TLS" : a->wire.reason);
    }
    return peer_tls_receive(&a->tls, bytes, on_plain, a, a->reason, sizeof a->reason);
}

static int receive_some(struct attempt *a, bool *first)
{
    char bytes[4096];
    int status = wait_for(a, POLLIN);
    if (status != KITH_OK)
        return status;
    ssize_t length = recv(a->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (length < 0)
        return errno == EAGAIN || errno == EINTR ? KITH_OK : fail(a, KITH_EIO, strerror(errno));
    if (length == 0)
        return fail(a, KITH_EIO, "closed the connection without an answer");
    status = take(a, kith_slice(bytes, (size_t)length), *first);
    *first = false;
    return status;
}

static int connect_one(struct attempt *a, const struct addrinfo *address)
{
    int error = 0;
    socklen_t length = sizeof error;
    a->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (a->fd < 0)
        return fail(a, KITH_EIO, strerror(errno));
    if (connect(a->fd, address->ai_addr, address->ai_addrlen) == 0)
        return KITH_OK;
    if (errno != EINPROGRESS)
        return fail(a, KITH_EIO, strerror(errno));
    int status = wait_for(a, POLLOUT);
    if (status != KITH_OK)
        return status;
    if (getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0 || error)
        return fail(a, KITH_EIO, strerror(error ? error : errno));
    return KITH_OK;
}

static int connect_any(struct attempt *a)
{
    struct kith_error error = {""};
    struct addrinfo *found = NULL;
    int status = peer_resolve(a->options->target, false, &found, &error);
    if (status != KITH_OK)
        return fail(a, status, error.text);
    for (const struct addrinfo *each = found; each; each = each->ai_next) {
        a->until_ns = kith_os_monotonic_ns() + JOIN_CONNECT_MS * 1000000ull;
        status = connect_one(a, each);
        if (status == KITH_OK)
            break;
        if (a->fd >= 0)
            close(a->fd);
        a->fd = -1;
    }
    freeaddrinfo(found);
    return status;
}

static int exchange(struct attempt *a, enum peer_purpose purpose)
{
    bool first = true;
    a->until_ns = kith_os_monotonic_ns() + JOIN_CONNECT_MS * 1000000ull;
    if (a->options->tls)
        (void)peer_tls_handshake(&a->tls, a->reason, sizeof a->reason); /* its first message only */
    int status = send_wire(a);
    while (status == KITH_OK) {
        bool was_ready = a->wire.state == PEER_READY;
        status = receive_some(a, &first);
        if (a->wire.out.length || !was_ready) {
            int sent = send_wire(a); /* an alert or a proof */
            status = status == KITH_OK ? sent : status;
        }
        if (status == KITH_OK && a->wire.state == PEER_READY && (purpose == PEER_ASK || a->answered))
            return KITH_OK;
        if (a->wire.state == PEER_READY && !was_ready)
            a->until_ns = kith_os_monotonic_ns() + JOIN_ANSWER_MS * 1000000ull;
    }
    return status;
}

static int attempt(struct attempt *a, const struct kith_peer_join_options *options, enum peer_purpose purpose)
{
    char nonce[PEER_NONCE_BYTES];
    *a = (struct attempt){.options = options,
                          .self = {.group_id = purpose == PEER_ASK ? 0 : options->group_id,
                                   .node_id = options->node_id,
                                   .address = options->address,
                                   .secret = options->secret,
                                   .as_spare = options->as_spare,
                                   .lowest = PEER_VERSION_LOWEST,
                                   .highest = PEER_VERSION_HIGHEST},
                          .fd = -1};
    if (options->tls && peer_tls_init(&a->tls, options->tls, true) != KITH_OK)
        return fail(a, KITH_ENOMEM, "out of memory");
    kith_os_random(nonce, sizeof nonce);
    peer_wire_dial(&a->wire, &a->self, purpose, 0, nonce);
    int status = connect_any(a);
    if (status == KITH_OK)
        status = exchange(a, purpose);
    if (a->fd >= 0)
        close(a->fd);
    peer_wire_fini(&a->wire);
    peer_tls_fini(&a->tls);
    return status;
}

/* What another try cannot mend. */
static bool is_final(int status)
{
    return status == KITH_EPERM || status == KITH_EVERSION || status == KITH_EINVAL ||
           status == KITH_ECORRUPT;
}

int kith_peer_ask_group(const struct kith_peer_join_options *options, uint64_t *group_id,
                        struct kith_error *error)
{
    struct attempt a;
    int status = attempt(&a, options, PEER_ASK);
    if (status != KITH_OK)
        return kith_error_set(error, status, "%s: %s", options->target, a.reason);
    *group_id = a.wire.peer_group;
    return KITH_OK;
}

int kith_peer_join_group(const struct kith_peer_join_options *options, uint64_t *group_id,
                         struct kith_error *error)
{
    uint64_t limit_ns = (options->limit_ms ? options->limit_ms : JOIN_LIMIT_MS) * 1000000ull;
    uint64_t start_ns = kith_os_monotonic_ns();
    char told[256] = "";
    for (;;) {
        struct attempt a;
        int status = attempt(&a, options, PEER_JOIN);
        const char *why = a.reason;
        if (status == KITH_OK) {
            status = a.answer;
            why = *a.answer_text ? a.answer_text : kith_status_text(status);
        }
        if (status == KITH_OK || (a.answered && status == KITH_EEXIST)) {
            *group_id = a.wire.peer_group;
            return KITH_OK;
        }
        bool late = kith_os_monotonic_ns() - start_ns + JOIN_PAUSE_MS * 1000000ull >= limit_ns;
        if (is_final(status) || late)
            return kith_error_set(error, status, "cannot join the group of %s: %s%s", options->target, why,
                                  late && !is_final(status) ? " (gave up)" : "");
        if (strcmp(told, why) != 0)
            KITH_WARN("cannot join the group of %s yet: %s", options->target, why);
        snprintf(told, sizeof told, "%s", why);
        poll(NULL, 0, JOIN_PAUSE_MS);
    }
}
