/* Frames on their way are events. Each lane has the time of its last arrival, which a frame that must keep its order
 * does not overtake, and an epoch, which a broken connection counts up. */
#include "network.h"

#include "repl/frame.h"

#include <stdlib.h>
#include <string.h>

enum {
    LANE_BYTES = 2 << 20,
    BACK_US = 20000,
    LANES = 2,
    LARGE_BYTES = 8 << 10 /* frames of which a part is heard of first, now and then */
};

struct lane {
    uint64_t epoch, last_arrival_us, back_us; /* back: when the connection is there again */
    size_t queued_bytes;
    bool was_full;
};

struct way {
    struct lane lanes[LANES];
    bool blocked;
    uint64_t held_until_us;
    uint64_t extra_us, sent_bytes, received_bytes, dropped;
    uint64_t heard_us; /* by the receiver; 0: never */
};

struct machine {
    struct sim_network *network;
    int number;
    uint64_t id; /* 0: nobody is there */
    bool moved;  /* it has its other address */
};

struct sim_network {
    struct sim_network_options options;
    struct kith_rng rng;
    struct sim_weather weather;
    struct machine machines[SIM_MACHINES + 1];
    struct way ways[SIM_MACHINES + 1][SIM_MACHINES + 1];
    struct sim_network_figures figures;
};

struct packet {
    struct sim_event event;
    struct sim_network *network;
    int from, to, lane;
    uint64_t from_id, to_id, epoch, sent_us;
    bool counted; /* in queued_bytes */
    size_t length;
    char *bytes;
};

static const char *const addresses[2][SIM_MACHINES + 1] = {
    {"", "n1", "n2", "n3", "n4", "n5", "n6", "n7"},
    {"", "m1", "m2", "m3", "m4", "m5", "m6", "m7"},
};

const char *sim_network_address(const struct sim_network *n, int machine)
{
    return addresses[n->machines[machine].moved][machine];
}

void sim_network_move(struct sim_network *n, int machine)
{
    n->machines[machine].moved = !n->machines[machine].moved;
}

static bool chance(struct sim_network *n, double p)
{
    return p > 0 && kith_rng_unit(&n->rng) < p;
}

/* May be lost, doubled and late. */
static bool is_hardy(unsigned char kind)
{
    return kind <= KITH_CORE_TIMEOUT_NOW || kind == KITH_FRAME_PROBE || kind == KITH_FRAME_PROBE_RESULT;
}

static void packet_free(struct sim_event *event)
{
    struct packet *p = (struct packet *)event;
    free(p->bytes);
    free(p);
}

static void leave_queue(struct packet *p)
{
    struct lane *lane = &p->network->ways[p->from][p->to].lanes[p->lane];
    if (!p->counted || p->epoch != lane->epoch)
        return;
    lane->queued_bytes -= p->length;
    if (lane->was_full && lane->queued_bytes < LANE_BYTES / 2) {
        lane->was_full = false;
        p->network->options.wake(p->network->options.context, p->from);
    }
}

static bool passes(const struct packet *p)
{
    const struct sim_network *n = p->network;
    const struct way *way = &n->ways[p->from][p->to];
    return p->epoch == way->lanes[p->lane].epoch && !way->blocked && n->machines[p->from].id == p->from_id &&
           n->machines[p->to].id == p->to_id;
}

static void arrive(struct sim_event *event)
{
    struct packet *p = (struct packet *)event;
    struct sim_network *n = p->network;
    struct way *way = &n->ways[p->from][p->to];
    if (way->held_until_us > event->at_us) {
        n->figures.held++;
        sim_events_add(n->options.events, event, way->held_until_us - event->at_us);
        return;
    }
    leave_queue(p);
    if (passes(p)) {
        unsigned char kind = p->length ? (unsigned char)p->bytes[0] : 0;
        n->figures.delivered++;
        n->figures.by_kind[kind & 31]++;
        way->received_bytes += p->length;
        way->heard_us = event->at_us;
        n->options.deliver(n->options.context, p->to, p->from_id, sim_network_address(n, p->from), p->sent_us,
                           kith_slice(p->bytes, p->length));
    } else
        n->figures.lost++;
    packet_free(event);
}

/* A part of a frame that is still on its way. */
static void arrive_in_part(struct sim_event *event)
{
    struct packet *p = (struct packet *)event;
    struct sim_network *n = p->network;
    if (passes(p) && n->ways[p->from][p->to].held_until_us <= event->at_us) {
        n->figures.parts++;
        n->options.heard(n->options.context, p->to, p->from_id);
    }
    packet_free(event);
}

static void send_part(struct packet *whole, uint64_t in_us)
{
    struct sim_network *n = whole->network;
    if (whole->length < LARGE_BYTES || whole->lane != KITH_LANE_MESSAGES || !n->options.heard ||
        !chance(n, 0.25))
        return;
    struct packet *p = malloc(sizeof *p);
    if (!p)
        abort();
    *p = *whole;
    p->event = (struct sim_event){.run = arrive_in_part, .drop = packet_free};
    p->bytes = NULL;
    p->counted = false;
    sim_events_add(n->options.events, &p->event, kith_rng_below(&n->rng, in_us + 1));
}

static uint64_t arrival_us(struct sim_network *n, const struct way *way, struct lane *lane, bool hardy)
{
    uint64_t now = n->options.events->now_us, delay = n->weather.delay_us;
    uint64_t at = now + way->extra_us + delay / 2 + kith_rng_below(&n->rng, delay / 2 + 1);
    if (hardy && chance(n, n->weather.late)) {
        n->figures.late++;
        return at + kith_rng_below(&n->rng, n->weather.late_us + 1);
    }
    if (hardy && chance(n, n->weather.late)) /* out of order, but not very late */
        return at;
    if (at < lane->last_arrival_us)
        at = lane->last_arrival_us;
    lane->last_arrival_us = at;
    return at;
}

static void launch(struct sim_network *n, int from, int to, int lane_number, struct kith_slice frame,
                   bool counted)
{
    struct way *way = &n->ways[from][to];
    struct lane *lane = &way->lanes[lane_number];
    struct packet *p = calloc(1, sizeof *p);
    if (!p)
        abort();
    p->bytes = malloc(frame.length ? frame.length : 1);
    if (!p->bytes)
        abort();
    if (frame.length)
        memcpy(p->bytes, frame.data, frame.length);
    *p = (struct packet){{.run = arrive, .drop = packet_free},
                         n,
                         from,
                         to,
                         lane_number,
                         n->machines[from].id,
                         n->machines[to].id,
                         lane->epoch,
                         n->options.events->now_us,
                         counted,
                         frame.length,
                         p->bytes};
    if (counted)
        lane->queued_bytes += frame.length;
    uint64_t at = arrival_us(n, way, lane, is_hardy(frame.length ? (unsigned char)frame.data[0] : 0));
    send_part(p, at - n->options.events->now_us);
    sim_events_add(n->options.events, &p->event, at - n->options.events->now_us);
}

static int find_machine(const struct sim_network *n, int from, uint64_t peer, const char *address)
{
    for (int i = 1; i <= SIM_MACHINES; i++)
        if (peer && n->machines[i].id == peer && n->ways[i][from].heard_us)
            return i;
    for (int i = 1; i <= SIM_MACHINES; i++)
        if (address && strcmp(address, sim_network_address(n, i)) == 0)
            return i;
    return 0;
}

static size_t lane_room(const struct sim_network *n, const struct way *way, int lane)
{
    const struct lane *l = &way->lanes[lane];
    if (l->back_us > n->options.events->now_us || l->queued_bytes >= LANE_BYTES)
        return 0;
    return LANE_BYTES - l->queued_bytes;
}

static void try_send(struct sim_network *n, int from, uint64_t peer, int to, int lane,
                     struct kith_slice frame)
{
    struct way *way = &n->ways[from][to];
    bool hardy = is_hardy(frame.length ? (unsigned char)frame.data[0] : 0);
    n->figures.sent++;
    if (to && n->machines[from].id && chance(n, n->weather.broken))
        sim_network_break(n, from, to);
    if (!to || !n->machines[from].id || n->machines[to].id != peer || lane_room(n, way, lane) == 0 ||
        (hardy && chance(n, n->weather.lost))) {
        n->figures.lost++;
        way->dropped++;
        way->lanes[lane].was_full |= to && lane_room(n, way, lane) == 0;
        return;
    }
    n->figures.bytes += frame.length;
    way->sent_bytes += frame.length;
    launch(n, from, to, lane, frame, true);
    if (hardy && chance(n, n->weather.doubled)) {
        n->figures.doubled++;
        launch(n, from, to, lane, frame, false);
    }
}

/* --- the transport --- */

static void transport_send(void *context, uint64_t peer, const char *address, enum kith_lane lane,
                           struct kith_buf *frame)
{
    struct machine *m = context;
    int to = find_machine(m->network, m->number, peer, address);
    if (!frame->failed && m->network->options.sent)
        m->network->options.sent(m->network->options.context, m->number, kith_buf_slice(frame));
    if (!frame->failed && to != m->number)
        try_send(m->network, m->number, peer, to, (int)lane, kith_buf_slice(frame));
    kith_buf_fini(frame);
}

static struct way *way_to(struct machine *m, uint64_t peer, int *to)
{
    for (int i = 1; i <= SIM_MACHINES; i++)
        if (i != m->number && peer && m->network->machines[i].id == peer) {
            *to = i;
            return &m->network->ways[m->number][i];
        }
    *to = 0;
    return NULL;
}

static size_t transport_room(void *context, uint64_t peer, enum kith_lane lane)
{
    struct machine *m = context;
    int to;
    struct way *way = way_to(m, peer, &to);
    size_t room = way ? lane_room(m->network, way, (int)lane) : 0;
    if (way && !room)
        way->lanes[lane].was_full = true;
    return room;
}

static void transport_forget(void *context, uint64_t peer)
{
}

static void transport_status(void *context, uint64_t peer, struct kith_peer_status *out)
{
    struct machine *m = context;
    struct sim_network *n = m->network;
    int to;
    struct way *way = way_to(m, peer, &to);
    *out = (struct kith_peer_status){.heard_ms_ago = -1};
    if (!way)
        return;
    const struct way *back = &n->ways[to][m->number];
    out->connected = way->lanes[0].back_us <= n->options.events->now_us;
    out->queued_bytes = way->lanes[0].queued_bytes + way->lanes[1].queued_bytes;
    out->sent_bytes = way->sent_bytes;
    out->received_bytes = back->received_bytes;
    out->dropped_frames = way->dropped;
    if (back->heard_us)
        out->heard_ms_ago = (int64_t)((n->options.events->now_us - back->heard_us) / 1000);
}

struct kith_transport sim_network_transport(struct sim_network *n, int machine)
{
    return (struct kith_transport){.context = &n->machines[machine],
                                   .send = transport_send,
                                   .room = transport_room,
                                   .forget = transport_forget,
                                   .status = transport_status};
}

/* --- what befalls it --- */

struct back {
    struct sim_event event;
    struct sim_network *network;
    int a, b;
};

static void back_free(struct sim_event *event)
{
    free(event);
}

static void come_back(struct sim_event *event)
{
    struct back *b = (struct back *)event;
    b->network->options.wake(b->network->options.context, b->a);
    b->network->options.wake(b->network->options.context, b->b);
    free(b);
}

static void break_way(struct sim_network *n, int from, int to, uint64_t back_us)
{
    for (int i = 0; i < LANES; i++) {
        struct lane *lane = &n->ways[from][to].lanes[i];
        *lane = (struct lane){.epoch = lane->epoch + 1, .back_us = back_us};
    }
}

static void break_both(struct sim_network *n, int a, int b)
{
    uint64_t in_us = 1000 + kith_rng_below(&n->rng, BACK_US), back_us = n->options.events->now_us + in_us;
    break_way(n, a, b, back_us);
    break_way(n, b, a, back_us);
    n->figures.broken++;
    struct back *back = calloc(1, sizeof *back);
    if (!back)
        abort();
    *back = (struct back){{.run = come_back, .drop = back_free}, n, a, b};
    sim_events_add(n->options.events, &back->event, in_us);
}

/* The end of a connection is on its way like any frame. */
struct ending {
    struct sim_event event;
    struct sim_network *network;
    int from, to;
    uint64_t peer;
};

static void ending_free(struct sim_event *event)
{
    free(event);
}

static void ending_arrive(struct sim_event *event)
{
    struct ending *e = (struct ending *)event;
    struct sim_network *n = e->network;
    const struct way *way = &n->ways[e->from][e->to];
    if (!way->blocked && way->held_until_us <= event->at_us && n->machines[e->to].id) {
        n->figures.ended++;
        n->options.lost(n->options.context, e->to, e->peer);
    }
    free(event);
}

static void tell_end(struct sim_network *n, int from, int to, uint64_t peer)
{
    if (!n->options.lost || !peer || !n->machines[to].id)
        return;
    struct ending *e = calloc(1, sizeof *e);
    if (!e)
        abort();
    *e = (struct ending){{.run = ending_arrive, .drop = ending_free}, n, from, to, peer};
    sim_events_add(n->options.events, &e->event,
                   n->ways[from][to].extra_us + kith_rng_below(&n->rng, n->weather.delay_us + 1));
}

void sim_network_break(struct sim_network *n, int a, int b)
{
    tell_end(n, a, b, n->machines[a].id);
    tell_end(n, b, a, n->machines[b].id);
    break_both(n, a, b);
}

static void forget_ways(struct sim_network *n, int machine)
{
    for (int i = 1; i <= SIM_MACHINES; i++) {
        n->ways[i][machine].heard_us = n->ways[machine][i].heard_us = 0;
        if (i != machine && n->machines[i].id)
            break_both(n, machine, i);
    }
}

void sim_network_set_node(struct sim_network *n, int machine, uint64_t id)
{
    n->machines[machine].id = id;
    forget_ways(n, machine);
}

void sim_network_end_node(struct sim_network *n, int machine, bool told)
{
    uint64_t id = n->machines[machine].id;
    for (int i = 1; i <= SIM_MACHINES && told; i++)
        if (i != machine)
            tell_end(n, machine, i, id);
    sim_network_set_node(n, machine, 0);
}

void sim_network_set_weather(struct sim_network *n, const struct sim_weather *weather)
{
    n->weather = *weather;
}

void sim_network_block(struct sim_network *n, int from, int to, bool blocked)
{
    n->ways[from][to].blocked = blocked;
}

bool sim_network_is_blocked(const struct sim_network *n, int from, int to)
{
    return n->ways[from][to].blocked;
}

void sim_network_hold(struct sim_network *n, int from, int to, uint64_t until_us)
{
    if (n->ways[from][to].held_until_us < until_us)
        n->ways[from][to].held_until_us = until_us;
}

void sim_network_slow(struct sim_network *n, int from, int to, uint64_t extra_us)
{
    n->ways[from][to].extra_us = extra_us;
}

void sim_network_heal(struct sim_network *n)
{
    for (int i = 1; i <= SIM_MACHINES; i++)
        for (int k = 1; k <= SIM_MACHINES; k++) {
            n->ways[i][k].blocked = false;
            n->ways[i][k].extra_us = 0;
        }
}

const struct sim_network_figures *sim_network_get_figures(const struct sim_network *n)
{
    return &n->figures;
}

struct sim_network *sim_network_open(const struct sim_network_options *options)
{
    struct sim_network *n = calloc(1, sizeof *n);
    if (!n)
        abort();
    n->options = *options;
    n->weather.delay_us = 400;
    kith_rng_seed(&n->rng, options->seed);
    for (int i = 1; i <= SIM_MACHINES; i++)
        n->machines[i] = (struct machine){n, i, 0};
    return n;
}

void sim_network_close(struct sim_network *n)
{
    free(n);
}
