/* Peers with real sockets on loopback, all in one process and on one loop. Past 800 lines, because every test needs the same
 * two ends, loop and certificates. */
#include "base/buf.h"
#include "base/log.h"
#include "base/os.h"
#include "base/random.h"
#include "base/varint.h"
#include "certificates.h"
#include "failing_malloc.h"
#include "net/peer.h"
#include "net/peer_wire.h"
#include "store/crc.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { GROUP = 0x77, LIMIT_MS = 20000, NODES = 3 };

struct node {
    uint64_t id;
    struct kith_peers *peers;
    struct kith_transport transport;
    char address[64];
    struct kith_buf received; /* per frame: u64 from, u32 length, bytes; or only counted */
    size_t received_count, received_bytes, wakes, parts;
    bool only_count;
    int answer;             /* to each frame */
    bool in_order;          /* each frame begins with its u32 number */
    uint32_t next, missing; /* the numbers seen */
    size_t joins, spares;
    int join_answer;
};

struct world {
    uv_loop_t loop;
    struct node nodes[NODES];
};

/* --- the log --- */

static struct {
    char lines[200][1100];
    size_t count;
} logged;

static void keep_line(void *arg, enum kith_log_level level, const char *line)
{
    if (logged.count < 200)
        snprintf(logged.lines[logged.count++], sizeof logged.lines[0], "%s", line);
}

static size_t lines_with(const char *text)
{
    size_t count = 0;
    for (size_t i = 0; i < logged.count; i++)
        count += strstr(logged.lines[i], text) != NULL;
    return count;
}

static void print_log(void)
{
    for (size_t i = 0; i < logged.count; i++)
        print_message("  %s\n", logged.lines[i]);
}

/* --- nodes --- */

static int receive(void *context, uint64_t peer, const char *address, struct kith_slice frame)
{
    struct node *node = context;
    node->received_count++;
    node->received_bytes += frame.length;
    if (node->in_order) {
        uint32_t number = kith_get_u32(frame.data);
        assert_true(number >= node->next);
        node->missing += number - node->next;
        node->next = number + 1;
    }
    if (node->only_count)
        return node->answer;
    kith_buf_append_u64(&node->received, peer);
    kith_buf_append_u32(&node->received, (uint32_t)frame.length);
    kith_buf_append(&node->received, frame.data, frame.length);
    return node->answer;
}

static void heard(void *context, uint64_t peer)
{
    ((struct node *)context)->parts++;
}

static void wake(void *context)
{
    ((struct node *)context)->wakes++;
}

static void join(void *context, uint64_t id, const char *address, bool as_spare,
                 struct kith_peer_join *question)
{
    struct node *node = context;
    node->joins++;
    node->spares += as_spare;
    kith_peer_join_answer(question, node->join_answer, node->join_answer ? "not today" : "");
}

struct setup {
    const char *secret;
    const struct kith_peer_tls *tls;
    uint64_t group, id;
    size_t queue_bytes;
    const char *address; /* NULL: any port */
};

static void start(struct world *w, int index, struct setup setup)
{
    struct node *node = &w->nodes[index];
    struct kith_error error = {""};
    node->id = setup.id ? setup.id : 100u + (unsigned)index;
    struct kith_peers_options options = {
        .loop = &w->loop,
        .address = setup.address ? setup.address : "127.0.0.1:0",
        .secret = kith_slice(setup.secret ? setup.secret : "s", strlen(setup.secret ? setup.secret : "s")),
        .tls = setup.tls,
        .message_queue_bytes = setup.queue_bytes,
        .stream_queue_bytes = setup.queue_bytes};
    struct kith_peers_host host = {.context = node,
                                   .group_id = setup.group ? setup.group : GROUP,
                                   .node_id = node->id,
                                   .receive = receive,
                                   .heard = heard,
                                   .wake = wake,
                                   .join = join};
    assert_int_equal(kith_peers_open(&node->peers, &options, &error), KITH_OK);
    int status = kith_peers_start(node->peers, &host, &error);
    if (status)
        print_message("%s\n", error.text);
    assert_int_equal(status, KITH_OK);
    snprintf(node->address, sizeof node->address, "127.0.0.1:%u", kith_peers_port(node->peers));
    node->transport = kith_peers_transport(node->peers);
}

static void stop(struct world *w, int index)
{
    struct node *node = &w->nodes[index];
    kith_peers_close(node->peers);
    node->peers = NULL;
}

static int open_world(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    uv_loop_init(&w->loop);
    logged.count = 0;
    kith_log_setup(KITH_LOG_INFO, keep_line, NULL);
    *state = w;
    return 0;
}

static int close_world(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < NODES; i++) {
        kith_peers_close(w->nodes[i].peers);
        kith_buf_fini(&w->nodes[i].received);
    }
    while (uv_run(&w->loop, UV_RUN_DEFAULT) != 0)
        continue;
    assert_int_equal(uv_loop_close(&w->loop), 0);
    kith_log_setup(KITH_LOG_INFO, NULL, NULL);
    free(w);
    return 0;
}

static void tick(uv_timer_t *timer)
{
}

/* Runs the loop until the condition holds; false when it did not in a long time. */
#define UNTIL(w, condition)                                                                                  \
    do {                                                                                                     \
        uv_timer_t timer_;                                                                                   \
        bool met_ = false;                                                                                   \
        uint64_t end_ns_ = kith_os_monotonic_ns() + LIMIT_MS * 1000000ull;                                   \
        uv_timer_init(&(w)->loop, &timer_);                                                                  \
        uv_timer_start(&timer_, tick, 1, 1);                                                                 \
        while (!(met_ = (condition)) && kith_os_monotonic_ns() < end_ns_)                                    \
            uv_run(&(w)->loop, UV_RUN_ONCE);                                                                 \
        uv_close((uv_handle_t *)&timer_, NULL);                                                              \
        uv_run(&(w)->loop, UV_RUN_NOWAIT);                                                                   \
        if (!met_)                                                                                           \
            print_log();                                                                                     \
        if (!met_)                                                                                           \
            fail_msg("not within the limit: %s", #condition);                                                \
    } while (0)

static void rest(struct world *w, unsigned wait_ms)
{
    uint64_t end_ns = kith_os_monotonic_ns() + wait_ms * 1000000ull;
    UNTIL(w, kith_os_monotonic_ns() >= end_ns);
}

static void send_bytes(struct world *w, int from, int to, enum kith_lane lane, const void *bytes,
                       size_t length)
{
    struct kith_buf buf;
    kith_buf_init(&buf);
    kith_buf_append(&buf, bytes, length);
    struct node *node = &w->nodes[from];
    node->transport.send(node->transport.context, w->nodes[to].id, w->nodes[to].address, lane, &buf);
    assert_null(buf.data);
}

struct shared_bytes {
    char *bytes;
    size_t *releases;
};

static void release_shared(void *owner)
{
    struct shared_bytes *shared = owner;
    ++*shared->releases;
    free(shared->bytes); /* a read of it from now on is seen under AddressSanitizer */
    free(shared);
}

/* The last two thirds are not copied. */
static void send_in_two(struct world *w, int from, int to, const char *bytes, size_t length, size_t *releases)
{
    struct kith_buf head;
    struct node *node = &w->nodes[from];
    struct shared_bytes *owner = malloc(sizeof *owner);
    size_t first = length / 3;
    kith_buf_init(&head);
    kith_buf_append(&head, bytes, first);
    *owner = (struct shared_bytes){.bytes = malloc(length - first), .releases = releases};
    memcpy(owner->bytes, bytes + first, length - first);
    node->transport.send_shared(
        node->transport.context, w->nodes[to].id, w->nodes[to].address, KITH_LANE_MESSAGES, &head,
        &(struct kith_shared){
            .bytes = kith_slice(owner->bytes, length - first), .owner = owner, .release = release_shared});
    assert_null(head.data);
}

static size_t room(struct world *w, int from, int to, enum kith_lane lane)
{
    struct node *node = &w->nodes[from];
    return node->transport.room(node->transport.context, w->nodes[to].id, lane);
}

static struct kith_peer_status status(struct world *w, int from, int to)
{
    struct kith_peer_status s;
    struct node *node = &w->nodes[from];
    node->transport.status(node->transport.context, w->nodes[to].id, &s);
    return s;
}

static void connect_nodes(struct world *w, int from, int to)
{
    send_bytes(w, from, to, KITH_LANE_MESSAGES, "x", 1);
    UNTIL(w, room(w, from, to, KITH_LANE_MESSAGES) && room(w, from, to, KITH_LANE_STREAM));
    UNTIL(w, w->nodes[to].received_count == 1);
    w->nodes[to].received_count = w->nodes[to].received_bytes = 0;
    kith_buf_clear(&w->nodes[to].received);
}

/* --- delivery --- */

static void check_delivery(struct world *w)
{
    struct kith_buf wanted;
    struct kith_rng rng;
    size_t count = 0, shared = 0, releases = 0;
    kith_buf_init(&wanted);
    kith_rng_seed(&rng, 41);
    connect_nodes(w, 0, 1);
    for (int i = 0; i < 500; i++) {
        size_t length = i == 107 ? 20000000 : i % 50 == 7 ? 3000000 : 1 + kith_rng_below(&rng, 3000);
        char *bytes = malloc(length);
        for (size_t at = 0; at < length; at++)
            bytes[at] = (char)kith_rng_next(&rng);
        kith_buf_append_u64(&wanted, w->nodes[0].id);
        kith_buf_append_u32(&wanted, (uint32_t)length);
        kith_buf_append(&wanted, bytes, length);
        if (i % 100 == 7 || i % 20 == 3) {
            send_in_two(w, 0, 1, bytes, length, &releases);
            shared++;
        } else {
            send_bytes(w, 0, 1, KITH_LANE_MESSAGES, bytes, length);
        }
        free(bytes);
        count++;
    }
    UNTIL(w, w->nodes[1].received_count == count);
    assert_true(kith_slice_equal(kith_buf_slice(&wanted), kith_buf_slice(&w->nodes[1].received)));
    assert_int_equal(status(w, 0, 1).dropped_frames, 0);
    assert_int_equal(status(w, 0, 1).queued_bytes, 0);
    assert_int_equal(releases, shared);
    assert_true(status(w, 0, 1).connected && status(w, 1, 0).connected);
    assert_true(status(w, 1, 0).heard_ms_ago >= 0);
    assert_int_equal(status(w, 0, 1).heard_ms_ago, -1);
    kith_buf_fini(&wanted);
}

static void frames_arrive_whole_and_in_order(void **state)
{
    struct world *w = *state;
    start(w, 0, (struct setup){0});
    start(w, 1, (struct setup){0});
    check_delivery(w);
}

static void shared_bytes_that_are_dropped_are_released(void **state)
{
    struct world *w = *state;
    size_t releases = 0;
    start(w, 0, (struct setup){0});
    w->nodes[1].id = 101;
    snprintf(w->nodes[1].address, sizeof w->nodes[1].address, "127.0.0.1:1");
    send_in_two(w, 0, 1, "to nobody", 9, &releases); /* waits for a connection that cannot be had */
    UNTIL(w, releases == 1);
    send_in_two(w, 0, 1, "to nobody", 9, &releases);
    assert_int_equal(releases, 2);
    start(w, 2, (struct setup){0});
    connect_nodes(w, 0, 2);
    send_in_two(w, 0, 2, "to nobody", 9, &releases);
    kith_peers_close(w->nodes[0].peers);
    send_in_two(w, 0, 2, "to nobody", 9, &releases);
    w->nodes[0].peers = NULL;
    UNTIL(w, releases == 4);
}

static void the_first_frame_waits_for_the_connection(void **state)
{
    struct world *w = *state;
    start(w, 0, (struct setup){0});
    start(w, 1, (struct setup){0});
    send_bytes(w, 0, 1, KITH_LANE_MESSAGES, "vote", 4);
    UNTIL(w, w->nodes[1].received_count == 1);
    assert_true(w->nodes[0].wakes >= 1);
}

static void both_directions_and_both_lanes_are_apart(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 3; i++)
        start(w, i, (struct setup){0});
    for (int from = 0; from < 3; from++)
        for (int to = 0; to < 3; to++)
            if (from != to)
                for (int lane = 0; lane < 2; lane++)
                    send_bytes(w, from, to, (enum kith_lane)lane, "hello", 5);
    for (int i = 0; i < 3; i++)
        UNTIL(w, w->nodes[i].received_count == 4);
}

static void a_name_is_looked_up(void **state)
{
    struct world *w = *state;
    start(w, 0, (struct setup){0});
    start(w, 1, (struct setup){.address = "localhost:0"});
    char address[64];
    snprintf(address, sizeof address, "localhost:%u", kith_peers_port(w->nodes[1].peers));
    snprintf(w->nodes[1].address, sizeof w->nodes[1].address, "%s", address);
    for (int tries = 0; !w->nodes[1].received_count && tries < 100; tries++) {
        send_bytes(w, 0, 1, KITH_LANE_MESSAGES, "x", 1);
        rest(w, 20);
    }
    assert_true(w->nodes[1].received_count > 0);
}

/* --- breaking and coming back --- */

static void free_address(char *out, size_t size)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    getsockname(fd, (struct sockaddr *)&address, &length);
    snprintf(out, size, "127.0.0.1:%u", ntohs(address.sin_port));
    close(fd);
}

static void a_peer_that_comes_back_is_reached_again(void **state)
{
    struct world *w = *state;
    start(w, 0, (struct setup){0});
    start(w, 1, (struct setup){0});
    connect_nodes(w, 0, 1);
    char address[64];
    memcpy(address, w->nodes[1].address, sizeof address);
    stop(w, 1);
    UNTIL(w, room(w, 0, 1, KITH_LANE_MESSAGES) == 0);
    send_bytes(w, 0, 1, KITH_LANE_MESSAGES, "lost", 4);
    assert_true(status(w, 0, 1).dropped_frames >= 1);
    assert_int_equal(status(w, 0, 1).queued_bytes, 0);
    rest(w, 300);
    start(w, 1, (struct setup){.address = address});
    UNTIL(w, room(w, 0, 1, KITH_LANE_MESSAGES) > 0);
    send_bytes(w, 0, 1, KITH_LANE_MESSAGES, "back", 4);
    UNTIL(w, w->nodes[1].received_count == 1);
    assert_memory_equal(w->nodes[1].received.data + 12, "back", 4);
    assert_int_equal(lines_with("connection lost"), 1);
    assert_int_equal(lines_with(": connected"), 1);
}

static void who_dials_us_is_dialed_back_at_once(void **state)
{
    struct world *w = *state;
    start(w, 0, (struct setup){0});
    w->nodes[1].id = 101;
    snprintf(w->nodes[1].address, sizeof w->nodes[1].address, "127.0.0.1:1"); /* nobody is there */
    send_bytes(w, 0, 1, KITH_LANE_MESSAGES, "x", 1);
    rest(w, 500);
    assert_true(lines_with("cannot connect") >= 1);
    /* It is at another address than the group knows, and says so itself. */
    char address[64];
    free_address(address, sizeof address);
    start(w, 1, (struct setup){.address = address});
    send_bytes(w, 1, 0, KITH_LANE_MESSAGES, "x", 1);
    UNTIL(w, room(w, 0, 1, KITH_LANE_MESSAGES) > 0);
}

static void a_forgotten_peer_is_left_alone(void **state)
{
    struct world *w = *state;
    start(w, 0, (struct setup){0});
    start(w, 1, (struct setup){0});
    connect_nodes(w, 0, 1);
    struct kith_transport *t = &w->nodes[0].transport;
    t->forget(t->context, w->nodes[1].id);
    assert_int_equal(room(w, 0, 1, KITH_LANE_MESSAGES), 0);
    rest(w, 300);
    assert_false(status(w, 0, 1).connected);
    assert_false(status(w, 1, 0).connected);
    assert_int_equal(lines_with("cannot connect"), 0);
}

static void another_node_at_the_address_is_refused(void **state)
{
    struct world *w = *state;
    start(w, 0, (struct setup){0});
    start(w, 1, (struct setup){0});
    w->nodes[1].id = 555; /* whom we mean */
    send_bytes(w, 0, 1, KITH_LANE_MESSAGES, "x", 1);
    UNTIL(w, lines_with("belongs to another node") >= 2); /* both logs */
    assert_int_equal(room(w, 0, 1, KITH_LANE_MESSAGES), 0);
    assert_int_equal(w->nodes[1].received_count, 0);
}

/* --- secrets, groups, versions, TLS --- */

static void two_that_do_not_fit(struct world *w, struct setup a, struct setup b, const char *dialer_says,
                                const char *acceptor_says)
{
    start(w, 0, a);
    start(w, 1, b);
    send_bytes(w, 0, 1, KITH_LANE_MESSAGES, "x", 1);
    UNTIL(w, lines_with(dialer_says) >= 1 && lines_with(acceptor_says) >= 1);
    assert_int_equal(room(w, 0, 1, KITH_LANE_MESSAGES), 0);
    assert_int_equal(w->nodes[1].received_count, 0);
    rest(w, 1500); /* tried some ten times, told of a few */
    assert_true(logged.count < 16);
}

static void another_secret_is_refused(void **state)
{
    two_that_do_not_fit(*state, (struct setup){.secret = "one"}, (struct setup){.secret = "two"},
                        "cannot connect: refused us: the secrets differ", "a peer connection from 127.0.0.1");
}

static void another_group_is_refused(void **state)
{
    two_that_do_not_fit(*state, (struct setup){.group = 0xa}, (struct setup){.group = 0xb},
                        "refused us: member of group 000000000000000a", "member of group 000000000000000a");
}

static void the_secret_is_not_on_the_wire(void **state)
{
    struct peer_self self = {.group_id = 1,
                             .node_id = 2,
                             .address = "h:1",
                             .secret = KITH_SLICE("open sesame"),
                             .lowest = 1,
                             .highest = 1};
    struct peer_wire a, b;
    char nonces[2][PEER_NONCE_BYTES];
    kith_os_random(nonces, sizeof nonces);
    peer_wire_dial(&a, &self, PEER_MESSAGES, 0, nonces[0]);
    peer_wire_accept(&b, &self, nonces[1]);
    for (int i = 0; i < 2; i++) {
        assert_null(memmem(a.out.data, a.out.length, "open sesame", 11));
        assert_int_equal(peer_wire_receive(&b, kith_buf_slice(&a.out), NULL, NULL), KITH_OK);
        kith_buf_clear(&a.out);
        assert_null(memmem(b.out.data, b.out.length, "open sesame", 11));
        assert_int_equal(peer_wire_receive(&a, kith_buf_slice(&b.out), NULL, NULL), KITH_OK);
        kith_buf_clear(&b.out);
    }
    assert_int_equal(a.state, PEER_READY);
    assert_int_equal(b.state, PEER_READY);
    peer_wire_fini(&a);
    peer_wire_fini(&b);
}

/* Feeds all of `from` to `to`. */
static int pass(struct peer_wire *from, struct peer_wire *to)
{
    int result = peer_wire_receive(to, kith_buf_slice(&from->out), NULL, NULL);
    kith_buf_clear(&from->out);
    return result;
}

static void versions_that_do_not_meet_part_and_others_agree(void **state)
{
    char nonce[PEER_NONCE_BYTES] = "n";
    for (uint16_t low = 1; low < 6; low++)
        for (uint16_t high = low; high < 6; high++) {
            struct peer_self ours = {.group_id = 1, .node_id = 2, .address = "", .lowest = 2, .highest = 3};
            struct peer_self theirs = ours;
            struct peer_wire a, b;
            theirs.lowest = low;
            theirs.highest = high;
            peer_wire_dial(&a, &theirs, PEER_MESSAGES, 0, nonce);
            peer_wire_accept(&b, &ours, nonce);
            bool meet = low <= 3 && high >= 2;
            assert_int_equal(pass(&a, &b), meet ? KITH_OK : KITH_EVERSION);
            assert_int_equal(pass(&b, &a), meet ? KITH_OK : KITH_EVERSION);
            if (meet)
                assert_int_equal(a.version, high < 3 ? high : 3);
            else
                assert_non_null(strstr(a.reason, "versions 2 to 3"));
            peer_wire_fini(&a);
            peer_wire_fini(&b);
        }
}

static void a_changed_bit_in_the_handshake_is_noticed(void **state)
{
    struct peer_self self = {.group_id = 1, .node_id = 2, .address = "host:1", .secret = KITH_SLICE("s")};
    self.lowest = self.highest = 1;
    char nonce[PEER_NONCE_BYTES] = "n";
    size_t ready = 0, tried = 0;
    for (int message = 0; message < 4; message++) {
        for (size_t bit = 0;; bit++) {
            struct peer_wire ends[2];
            peer_wire_dial(&ends[0], &self, PEER_MESSAGES, 2, nonce);
            peer_wire_accept(&ends[1], &self, nonce);
            int result = KITH_OK;
            bool past = false;
            for (int i = 0; i < 4 && result == KITH_OK; i++) {
                struct kith_buf *out = &ends[i % 2].out;
                if (i == message && bit / 8 >= out->length)
                    past = true;
                else if (i == message)
                    out->data[bit / 8] ^= (char)(1 << (bit % 8));
                result = pass(&ends[i % 2], &ends[1 - i % 2]);
            }
            bool both = ends[0].state == PEER_READY && ends[1].state == PEER_READY;
            peer_wire_fini(&ends[0]);
            peer_wire_fini(&ends[1]);
            if (past)
                break;
            tried++;
            ready += both;
        }
    }
    assert_true(tried > 1000);
    assert_int_equal(ready, 0);
}

static char certificate_dir[] = "/tmp/kith-peer-test-XXXXXX";

static struct kith_peer_tls *tls_of(const char *name, const char *ca_name)
{
    char paths[3][256];
    struct kith_peer_tls *tls = NULL;
    struct kith_error error = {""};
    snprintf(paths[0], sizeof paths[0], "%s/%s-cert.pem", certificate_dir, name);
    snprintf(paths[1], sizeof paths[1], "%s/%s-key.pem", certificate_dir, name);
    snprintf(paths[2], sizeof paths[2], "%s/%s-ca.pem", certificate_dir, ca_name);
    int result = kith_peer_tls_open(&tls, paths[0], paths[1], paths[2], &error);
    if (result)
        print_message("%s\n", error.text);
    assert_int_equal(result, KITH_OK);
    return tls;
}

static void frames_arrive_through_tls(void **state)
{
    struct world *w = *state;
    struct kith_peer_tls *tls = tls_of("ours", "ours");
    start(w, 0, (struct setup){.tls = tls});
    start(w, 1, (struct setup){.tls = tls});
    check_delivery(w);
    stop(w, 0);
    stop(w, 1);
    rest(w, 10);
    kith_peer_tls_close(tls);
}

static void tls_on_one_side_only_is_said_on_both(void **state)
{
    struct world *w = *state;
    struct kith_peer_tls *tls = tls_of("ours", "ours");
    start(w, 0, (struct setup){.tls = tls});
    start(w, 1, (struct setup){0});
    send_bytes(w, 0, 1, KITH_LANE_MESSAGES, "x", 1);
    UNTIL(w, lines_with("refused us: TLS is not configured here") >= 1 &&
                 lines_with("speaks TLS, and we do not") >= 1);
    send_bytes(w, 1, 0, KITH_LANE_MESSAGES, "x", 1);
    UNTIL(w, lines_with("refused us: TLS is required here") >= 1 && lines_with("speaks without TLS") >= 1);
    assert_int_equal(w->nodes[0].received_count + w->nodes[1].received_count, 0);
    stop(w, 0);
    stop(w, 1);
    rest(w, 10);
    kith_peer_tls_close(tls);
}

static void a_certificate_of_another_ca_is_refused(void **state)
{
    struct world *w = *state;
    /* One that trusts everybody's CA but has a foreign certificate, against one of the group: each way round. */
    struct kith_peer_tls *ours = tls_of("ours", "ours"), *foreign = tls_of("foreign", "ours");
    start(w, 0, (struct setup){.tls = foreign});
    start(w, 1, (struct setup){.tls = ours});
    send_bytes(w, 0, 1, KITH_LANE_MESSAGES, "x", 1);
    send_bytes(w, 1, 0, KITH_LANE_MESSAGES, "x", 1);
    UNTIL(w, lines_with("cannot connect: showed a certificate that cluster-tls-ca does not vouch for") >= 1 &&
                 lines_with("a peer connection from 127.0.0.1") >= 1);
    rest(w, 200);
    assert_int_equal(w->nodes[0].received_count + w->nodes[1].received_count, 0);
    stop(w, 0);
    stop(w, 1);
    rest(w, 10);
    kith_peer_tls_close(ours);
    kith_peer_tls_close(foreign);
}

static void a_wrong_tls_file_is_named(void **state)
{
    struct kith_peer_tls *tls;
    struct kith_error error = {""};
    char cert[256], key[256];
    snprintf(cert, sizeof cert, "%s/ours-cert.pem", certificate_dir);
    snprintf(key, sizeof key, "%s/foreign-key.pem", certificate_dir);
    assert_int_equal(kith_peer_tls_open(&tls, "/nowhere", key, cert, &error), KITH_EINVAL);
    assert_non_null(strstr(error.text, "cluster-tls-cert /nowhere"));
    assert_int_equal(kith_peer_tls_open(&tls, cert, key, cert, &error), KITH_EINVAL);
    assert_non_null(strstr(error.text, "cluster-tls-key"));
    snprintf(key, sizeof key, "%s/ours-key.pem", certificate_dir);
    assert_int_equal(kith_peer_tls_open(&tls, cert, key, key, &error), KITH_EINVAL);
    assert_non_null(strstr(error.text, "cluster-tls-ca"));
}

/* --- strangers --- */

static int dial_raw(struct world *w, int to)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(kith_peers_port(w->nodes[to].peers)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static bool is_closed(int fd)
{
    char bytes[1024];
    ssize_t got;
    while ((got = recv(fd, bytes, sizeof bytes, 0)) > 0)
        continue;
    return got == 0 || (errno != EAGAIN && errno != EINTR);
}

static void garbage_closes_the_connection_with_few_words(void **state)
{
    struct world *w = *state;
    static const char *const inputs[] = {"GET / HTTP/1.1\r\n\r\n", "*1\r\n$4\r\nPING\r\n", "KITHPEER\x07",
                                         "KITHPEER\x03zzzzzzzzzzzzzzzzzzzzzzzz", "\x16\x03\x01\x02"};
    start(w, 0, (struct setup){0});
    for (int round = 0; round < 4; round++)
        for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++) {
            int fd = dial_raw(w, 0);
            size_t length = strlen(inputs[i]) + (i == 2 ? 20 : 0);
            char bytes[64] = "";
            memcpy(bytes, inputs[i], strlen(inputs[i]));
            assert_int_equal(send(fd, bytes, length, MSG_NOSIGNAL), (ssize_t)length);
            UNTIL(w, is_closed(fd));
            close(fd);
        }
    assert_int_equal(w->nodes[0].received_count, 0);
    assert_true(lines_with("a peer connection from 127.0.0.1") >= 1);
    assert_true(logged.count <= 5); /* twenty connections */
}

static void many_who_say_nothing_do_not_keep_others_out(void **state)
{
    struct world *w = *state;
    int fds[100];
    start(w, 0, (struct setup){0});
    start(w, 1, (struct setup){0});
    for (int i = 0; i < 100; i++) {
        fds[i] = dial_raw(w, 1);
        rest(w, 1);
    }
    connect_nodes(w, 0, 1);
    for (int i = 0; i < 100; i++)
        close(fds[i]);
}

/* A member in all but its frames: does the handshake by hand on a raw socket. */
static int dial_member(struct world *w, int to, struct peer_wire *wire, const struct peer_self *self)
{
    int fd = dial_raw(w, to);
    char nonce[PEER_NONCE_BYTES] = "nonce", bytes[2048];
    peer_wire_dial(wire, self, PEER_STREAM, 0, nonce);
    while (wire->state != PEER_READY) {
        if (wire->out.length)
            assert_true(send(fd, wire->out.data, wire->out.length, MSG_NOSIGNAL) ==
                        (ssize_t)wire->out.length);
        kith_buf_clear(&wire->out);
        ssize_t got;
        UNTIL(w, (got = recv(fd, bytes, sizeof bytes, 0)) > 0);
        assert_int_equal(peer_wire_receive(wire, kith_slice(bytes, (size_t)got), NULL, NULL), KITH_OK);
    }
    return fd;
}

static void a_frame_damaged_too_long_or_out_of_turn_closes(void **state)
{
    struct world *w = *state;
    static const char *const said[] = {"with a damaged header", "in the place of frame 0", "are allowed",
                                       "with damaged content", NULL};
    struct peer_self self = {.group_id = GROUP,
                             .node_id = 900,
                             .address = "127.0.0.1:1",
                             .secret = KITH_SLICE("s"),
                             .lowest = 1,
                             .highest = 1};
    start(w, 0, (struct setup){0});
    for (int kind = 0; kind < 5; kind++) {
        struct peer_wire wire;
        char bytes[PEER_HEADER_BYTES + 5] = "";
        int fd = dial_member(w, 0, &wire, &self);
        memcpy(bytes + PEER_HEADER_BYTES, "frame", 5);
        wire.sent = kind == 1 ? 7 : 0;
        peer_wire_header(&wire, kith_slice(bytes + PEER_HEADER_BYTES, 5), bytes);
        if (kind == 0)
            bytes[1] ^= 1;
        if (kind == 2) {
            kith_put_u32(bytes, PEER_STREAM_FRAME_MAX + 1);
            kith_put_u32(bytes + 12, kith_crc32c(wire.salt, bytes, 12));
        }
        if (kind == 3)
            bytes[PEER_HEADER_BYTES] ^= 1;
        logged.count = 0;
        assert_int_equal(send(fd, bytes, sizeof bytes, MSG_NOSIGNAL), sizeof bytes);
        if (said[kind]) {
            UNTIL(w, is_closed(fd));
            if (kind < 4)
                assert_int_equal(lines_with(said[kind]), 1);
            assert_int_equal(lines_with("peer 0000000000000384"), 1);
            assert_int_equal(w->nodes[0].received_count, 0);
        } else {
            UNTIL(w, w->nodes[0].received_count == 1);
        }
        close(fd);
        peer_wire_fini(&wire);
        rest(w, 10);
    }
}

static void what_the_node_does_not_understand_closes(void **state)
{
    struct world *w = *state;
    start(w, 0, (struct setup){0});
    start(w, 1, (struct setup){0});
    connect_nodes(w, 0, 1);
    w->nodes[1].answer = KITH_EVERSION;
    send_bytes(w, 0, 1, KITH_LANE_MESSAGES, "new", 3);
    UNTIL(w, lines_with("sent a frame that this version does not know") == 1);
    w->nodes[1].answer = KITH_ENOSPC; /* its own trouble */
    UNTIL(w, room(w, 0, 1, KITH_LANE_MESSAGES) > 0);
    size_t before = w->nodes[1].received_count;
    send_bytes(w, 0, 1, KITH_LANE_MESSAGES, "a", 1);
    send_bytes(w, 0, 1, KITH_LANE_MESSAGES, "b", 1);
    UNTIL(w, w->nodes[1].received_count == before + 2);
}

/* --- bounds --- */

/* A peer that accepts, proves itself and then never reads. */
struct sleeper {
    int listener, fd;
    uint16_t port;
    struct peer_wire wire;
    struct peer_self self;
};

static void open_sleeper(struct sleeper *s)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int small = 4096;
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(s->listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    assert_int_equal(bind(s->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(s->listener, 8), 0);
    getsockname(s->listener, (struct sockaddr *)&address, &length);
    s->port = ntohs(address.sin_port);
    s->fd = -1;
    s->self = (struct peer_self){.group_id = GROUP,
                                 .node_id = 101,
                                 .address = "x:1",
                                 .secret = KITH_SLICE("s"),
                                 .lowest = 1,
                                 .highest = 1};
}

/* One step of the sleeper's handshake; true when the lane of messages is ready. */
static bool sleeper_shakes_hands(struct sleeper *s)
{
    char bytes[4096], nonce[PEER_NONCE_BYTES] = "z";
    if (s->fd < 0) {
        s->fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK);
        if (s->fd < 0)
            return false;
        peer_wire_accept(&s->wire, &s->self, nonce);
    }
    ssize_t got = s->wire.state == PEER_READY ? -1 : recv(s->fd, bytes, sizeof bytes, 0);
    if (got > 0) {
        peer_wire_receive(&s->wire, kith_slice(bytes, (size_t)got), NULL, NULL);
        send(s->fd, s->wire.out.data, s->wire.out.length, MSG_NOSIGNAL);
        kith_buf_clear(&s->wire.out);
    }
    if (s->wire.state == PEER_READY && s->wire.purpose == PEER_STREAM) { /* the other lane: never mind */
        peer_wire_fini(&s->wire);
        s->fd = -1;
        return false;
    }
    return s->wire.state == PEER_READY;
}

static void a_peer_that_does_not_read_costs_its_bound_and_no_more(void **state)
{
    enum { BOUND = 1 << 20, FRAME = 10000 };
    struct world *w = *state;
    struct sleeper s;
    static char bytes[FRAME];
    start(w, 0, (struct setup){.queue_bytes = BOUND});
    open_sleeper(&s);
    w->nodes[1].id = 101;
    snprintf(w->nodes[1].address, sizeof w->nodes[1].address, "127.0.0.1:%u", s.port);
    send_bytes(w, 0, 1, KITH_LANE_MESSAGES, "x", 1);
    UNTIL(w, sleeper_shakes_hands(&s) && room(w, 0, 1, KITH_LANE_MESSAGES) > 0);
    for (int i = 0; i < 5000; i++) {
        send_bytes(w, 0, 1, KITH_LANE_MESSAGES, bytes, FRAME);
        if (i % 16 == 0)
            uv_run(&w->loop, UV_RUN_NOWAIT);
        assert_true(status(w, 0, 1).queued_bytes <= BOUND + FRAME);
    }
    assert_true(status(w, 0, 1).dropped_frames > 500);
    assert_true(room(w, 0, 1, KITH_LANE_MESSAGES) < FRAME);
    /* A look that says "full" is followed by a wake once it is not. */
    size_t wakes = w->nodes[0].wakes;
    char sink[65536];
    UNTIL(w, (recv(s.fd, sink, sizeof sink, 0), w->nodes[0].wakes > wakes));
    assert_true(room(w, 0, 1, KITH_LANE_MESSAGES) >= BOUND / 2);
    close(s.fd);
    close(s.listener);
    peer_wire_fini(&s.wire);
}

/* A wire that was cut eats the first packet, and the system sends the next one only seconds later. */
static void an_attempt_without_an_answer_ends_when_the_peer_calls(void **state)
{
    struct world *w = *state;
    struct sleeper s;
    char address[64];
    start(w, 0, (struct setup){0});
    open_sleeper(&s);
    w->nodes[1].id = 101;
    snprintf(w->nodes[1].address, sizeof w->nodes[1].address, "127.0.0.1:%u", s.port);
    send_bytes(w, 0, 1, KITH_LANE_MESSAGES, "x", 1);
    rest(w, 300);
    free_address(address, sizeof address);
    start(w, 1, (struct setup){.address = address});
    send_bytes(w, 1, 0, KITH_LANE_MESSAGES, "x", 1);
    UNTIL(w, room(w, 0, 1, KITH_LANE_MESSAGES) > 0 && room(w, 0, 1, KITH_LANE_STREAM) > 0);
    assert_int_equal(lines_with("cannot connect: no answer yet, but it has called"), 1);
    close(s.listener);
}

static void a_frame_above_the_bound_goes_alone(void **state)
{
    struct world *w = *state;
    start(w, 0, (struct setup){.queue_bytes = 1000});
    start(w, 1, (struct setup){.queue_bytes = 1000});
    connect_nodes(w, 0, 1);
    char *large = calloc(1, 5000000);
    send_bytes(w, 0, 1, KITH_LANE_MESSAGES, large, 5000000);
    assert_int_equal(room(w, 0, 1, KITH_LANE_MESSAGES), 0);
    send_bytes(w, 0, 1, KITH_LANE_MESSAGES, large, 10);
    free(large);
    UNTIL(w, w->nodes[1].received_count == 1);
    assert_int_equal(w->nodes[1].received_bytes, 5000000);
    assert_true(w->nodes[1].parts >= 1); /* it came in pieces, and that was told */
    assert_int_equal(status(w, 0, 1).dropped_frames, 1);
    UNTIL(w, room(w, 0, 1, KITH_LANE_MESSAGES) == 1000);
}

/* KITH_ENOMEM, or it is up. */
static int try_start(struct world *w, int index, const struct kith_peer_tls *tls)
{
    struct node *node = &w->nodes[index];
    struct kith_peers_options options = {
        .loop = &w->loop, .address = "127.0.0.1:0", .secret = KITH_SLICE("s"), .tls = tls};
    node->id = 100u + (unsigned)index;
    struct kith_peers_host host = {
        .context = node, .group_id = GROUP, .node_id = node->id, .receive = receive, .wake = wake};
    int result = kith_peers_open(&node->peers, &options, NULL);
    if (result == KITH_OK)
        result = kith_peers_start(node->peers, &host, NULL);
    if (result != KITH_OK)
        return result;
    snprintf(node->address, sizeof node->address, "127.0.0.1:%u", kith_peers_port(node->peers));
    node->transport = kith_peers_transport(node->peers);
    return KITH_OK;
}

static void what_no_memory_was_there_for_is_done_later(void **state)
{
    struct world *w = *state;
    struct kith_peer_tls *tls = tls_of("ours", "ours");
    for (int through_tls = 0; through_tls < 2; through_tls++)
        for (int n = 0; failing_malloc_sweep(&n);) {
            bool up = true;
            for (int i = 0; i < 2 && up; i++) {
                int result = try_start(w, i, through_tls ? tls : NULL);
                assert_true(result == KITH_OK || result == KITH_ENOMEM);
                up = result == KITH_OK;
                w->nodes[i].only_count = true;
                w->nodes[i].received_count = 0;
            }
            if (up)
                UNTIL(w, (send_bytes(w, 0, 1, KITH_LANE_MESSAGES, "x", 1), w->nodes[1].received_count >= 3));
            stop(w, 0);
            stop(w, 1);
            while (uv_run(&w->loop, UV_RUN_DEFAULT) != 0)
                continue;
        }
    kith_peer_tls_close(tls);
}

/* --- faults --- */

static void faults_delay_drop_and_block(void **state)
{
    struct world *w = *state;
    start(w, 0, (struct setup){0});
    start(w, 1, (struct setup){0});
    connect_nodes(w, 0, 1);
    connect_nodes(w, 1, 0);
    struct kith_peers *from = w->nodes[0].peers;
    assert_int_equal(kith_peers_set_faults(from, &(struct kith_peers_faults){.delay_ms = 200}), KITH_OK);
    uint64_t start_ns = kith_os_monotonic_ns();
    send_bytes(w, 0, 1, KITH_LANE_MESSAGES, "late", 4);
    UNTIL(w, w->nodes[1].received_count == 1);
    assert_true(kith_os_monotonic_ns() - start_ns >= 190 * 1000000ull);

    assert_int_equal(kith_peers_set_faults(from, &(struct kith_peers_faults){.drop_percent = 50}), KITH_OK);
    w->nodes[1].in_order = w->nodes[1].only_count = true;
    for (uint32_t i = 0; i < 1000; i++) {
        char number[4];
        kith_put_u32(number, i);
        send_bytes(w, 0, 1, KITH_LANE_MESSAGES, number, 4);
    }
    UNTIL(w, w->nodes[1].next > 900 && status(w, 0, 1).queued_bytes == 0);
    rest(w, 50);
    assert_in_range(w->nodes[1].received_count, 350, 651);
    w->nodes[1].in_order = false;

    struct kith_peers_faults blocked = {.blocked = w->nodes[1].address};
    assert_int_equal(kith_peers_set_faults(from, &blocked), KITH_OK);
    size_t counts[2] = {w->nodes[0].received_count, w->nodes[1].received_count};
    send_bytes(w, 0, 1, KITH_LANE_MESSAGES, "x", 1);
    send_bytes(w, 1, 0, KITH_LANE_MESSAGES, "x", 1);
    rest(w, 100);
    assert_int_equal(w->nodes[1].received_count, counts[1]);
    assert_int_equal(w->nodes[0].received_count, counts[0]);
    kith_peers_set_faults(from, &(struct kith_peers_faults){0});
    send_bytes(w, 0, 1, KITH_LANE_MESSAGES, "x", 1);
    UNTIL(w, w->nodes[1].received_count == counts[1] + 1);
}

/* --- joining --- */

struct joiner {
    struct kith_peer_join_options options;
    pthread_t thread;
    bool asks, finished;
    int result;
    uint64_t group;
    struct kith_error error;
};

static void *run_joiner(void *context)
{
    struct joiner *j = context;
    j->result = (j->asks ? kith_peer_ask_group : kith_peer_join_group)(&j->options, &j->group, &j->error);
    __atomic_store_n(&j->finished, true, __ATOMIC_RELEASE);
    return NULL;
}

static void run_join(struct world *w, struct joiner *j)
{
    char target[64];
    snprintf(target, sizeof target, "%s", w->nodes[0].address);
    j->options.target = target;
    j->options.address = "127.0.0.1:9";
    j->options.node_id = 77;
    if (!j->options.secret.data)
        j->options.secret = KITH_SLICE("s");
    assert_int_equal(pthread_create(&j->thread, NULL, run_joiner, j), 0);
    UNTIL(w, __atomic_load_n(&j->finished, __ATOMIC_ACQUIRE));
    pthread_join(j->thread, NULL);
}

static void who_knows_the_secret_may_join(void **state)
{
    struct world *w = *state;
    start(w, 0, (struct setup){0});
    struct joiner j = {0};
    run_join(w, &j);
    assert_int_equal(j.result, KITH_OK);
    assert_int_equal(j.group, GROUP);
    assert_int_equal(w->nodes[0].joins, 1);

    struct joiner asks = {.asks = true};
    run_join(w, &asks);
    assert_int_equal(asks.result, KITH_OK);
    assert_int_equal(asks.group, GROUP);
    assert_int_equal(w->nodes[0].joins, 1);

    w->nodes[0].join_answer = KITH_EEXIST; /* it is one already: an answer got lost */
    struct joiner again = {.options.as_spare = true};
    run_join(w, &again);
    assert_int_equal(again.result, KITH_OK);
    assert_int_equal(w->nodes[0].spares, 1);
}

static void a_join_that_cannot_be_ends_with_a_sentence(void **state)
{
    struct world *w = *state;
    start(w, 0, (struct setup){0});
    struct joiner stranger = {.options = {.secret = KITH_SLICE("wrong")}};
    run_join(w, &stranger);
    assert_int_equal(stranger.result, KITH_EPERM);
    assert_non_null(strstr(stranger.error.text, "the secrets differ"));

    struct joiner foreign = {.options = {.group_id = 0x1234}};
    run_join(w, &foreign);
    assert_int_equal(foreign.result, KITH_EPERM);
    assert_non_null(strstr(foreign.error.text, "0000000000001234"));
    assert_int_equal(w->nodes[0].joins, 0);

    w->nodes[0].join_answer = KITH_EAGAIN;
    struct joiner patient = {.options = {.limit_ms = 1200}};
    run_join(w, &patient);
    assert_int_equal(patient.result, KITH_EAGAIN);
    assert_non_null(strstr(patient.error.text, "not today (gave up)"));
    assert_true(w->nodes[0].joins >= 2);

    stop(w, 0);
    rest(w, 10);
    struct joiner alone = {.options = {.limit_ms = 600}};
    run_join(w, &alone);
    assert_int_equal(alone.result, KITH_EIO);
    assert_non_null(strstr(alone.error.text, "refused"));
}

static void joining_through_tls(void **state)
{
    struct world *w = *state;
    struct kith_peer_tls *tls = tls_of("ours", "ours"), *foreign = tls_of("foreign", "ours");
    start(w, 0, (struct setup){.tls = tls});
    struct joiner j = {.options = {.tls = tls}}, plain = {0}, other = {.options = {.tls = foreign}};
    run_join(w, &j);
    assert_int_equal(j.result, KITH_OK);
    assert_int_equal(j.group, GROUP);
    run_join(w, &plain);
    assert_int_equal(plain.result, KITH_EPERM);
    assert_non_null(strstr(plain.error.text, "TLS is required"));
    other.options.limit_ms = 600;
    run_join(w, &other);
    assert_true(other.result < 0);
    assert_int_equal(w->nodes[0].joins, 1);
    stop(w, 0);
    rest(w, 10);
    kith_peer_tls_close(tls);
    kith_peer_tls_close(foreign);
}

/* --- addresses --- */

static void addresses_are_parsed(void **state)
{
    static const struct {
        const char *text, *host;
        uint16_t port;
    } good[] = {{"127.0.0.1:7001", "127.0.0.1", 7001},
                {"[::1]:7001", "::1", 7001},
                {"db-1.example:1", "db-1.example", 1}};
    static const char *const bad[] = {"",         "host",     "host:", ":7001", "::1:7001", "h:x",  "h:70000",
                                      "h:123456", "a b:7001", "[]:1",  "h:-1",  "h:1 ",     "local"};
    char host[KITH_PEER_HOST_BYTES];
    uint16_t port;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(kith_peer_parse_address(good[i].text, host, &port), KITH_OK);
        assert_string_equal(host, good[i].host);
        assert_int_equal(port, good[i].port);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(kith_peer_parse_address(bad[i], host, &port), KITH_EINVAL);
    assert_true(kith_peer_is_loopback("127.0.0.1") && kith_peer_is_loopback("127.9.9.9"));
    assert_true(kith_peer_is_loopback("::1"));
    assert_false(kith_peer_is_loopback("0.0.0.0") || kith_peer_is_loopback("10.0.0.1"));
    assert_false(kith_peer_is_loopback("::"));
}

static int make_files(void **state)
{
    if (!mkdtemp(certificate_dir))
        return -1;
    make_certificates(certificate_dir, "ours");
    make_certificates(certificate_dir, "foreign");
    return 0;
}

static int remove_files(void **state)
{
    static const char *const kinds[] = {"ca", "cert", "key"};
    for (int i = 0; i < 6; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s-%s.pem", certificate_dir, i < 3 ? "ours" : "foreign",
                 kinds[i % 3]);
        unlink(path);
    }
    return rmdir(certificate_dir);
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD(frames_arrive_whole_and_in_order),
        WORLD(shared_bytes_that_are_dropped_are_released),
        WORLD(the_first_frame_waits_for_the_connection),
        WORLD(both_directions_and_both_lanes_are_apart),
        WORLD(a_name_is_looked_up),
        WORLD(a_peer_that_comes_back_is_reached_again),
        WORLD(who_dials_us_is_dialed_back_at_once),
        WORLD(a_forgotten_peer_is_left_alone),
        WORLD(another_node_at_the_address_is_refused),
        WORLD(another_secret_is_refused),
        WORLD(another_group_is_refused),
        cmocka_unit_test(the_secret_is_not_on_the_wire),
        cmocka_unit_test(versions_that_do_not_meet_part_and_others_agree),
        cmocka_unit_test(a_changed_bit_in_the_handshake_is_noticed),
        WORLD(frames_arrive_through_tls),
        WORLD(tls_on_one_side_only_is_said_on_both),
        WORLD(a_certificate_of_another_ca_is_refused),
        cmocka_unit_test(a_wrong_tls_file_is_named),
        WORLD(garbage_closes_the_connection_with_few_words),
        WORLD(many_who_say_nothing_do_not_keep_others_out),
        WORLD(a_frame_damaged_too_long_or_out_of_turn_closes),
        WORLD(what_the_node_does_not_understand_closes),
        WORLD(a_peer_that_does_not_read_costs_its_bound_and_no_more),
        WORLD(an_attempt_without_an_answer_ends_when_the_peer_calls),
        WORLD(a_frame_above_the_bound_goes_alone),
        WORLD(what_no_memory_was_there_for_is_done_later),
        WORLD(faults_delay_drop_and_block),
        WORLD(who_knows_the_secret_may_join),
        WORLD(a_join_that_cannot_be_ends_with_a_sentence),
        WORLD(joining_through_tls),
        cmocka_unit_test(addresses_are_parsed),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
