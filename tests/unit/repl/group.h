/* A few whole nodes in one thread: virtual clock, virtual disks, and a network that delivers after a millisecond what is
 * not cut. What is small and exact is tested with this; chaos is the simulator's. */
#ifndef TESTS_GROUP_H
#define TESTS_GROUP_H

#include "base/random.h"
#include "crash_fs.h"
#include "repl/node_internal.h"
#include "tiny_machine.h"

#include <raft.h>
#include <stdio.h>

enum { GROUP_MAX = 5 };

struct group;

struct group_member {
    struct group *group;
    int place;
    struct crash_fs *disk;
    struct kith_node *node; /* NULL: it is down */
    struct tiny machine;
    uint64_t id;
    char address[16];
    bool disk_stands; /* its log is not moved */
};

struct group_frame {
    struct group_frame *next;
    uint64_t due_ms;
    int from, to;
    struct kith_buf bytes;
};

struct group {
    uint64_t now_ms;
    int count;
    struct group_member member[GROUP_MAX];
    struct group_frame *head, *tail;
    bool cut[GROUP_MAX][GROUP_MAX];                                      /* from, to */
    bool (*drops)(struct group *group, const struct group_frame *frame); /* NULL: nothing */
    uint64_t frames, shared_frames;                                      /* sent */
    struct kith_rng rng;
    struct kith_node_options options; /* what all of them begin with */
};

static inline uint64_t group_clock(void *context)
{
    return ((struct group *)context)->now_ms * 1000000;
}

static inline int64_t group_wall(void *context)
{
    return (int64_t)((struct group *)context)->now_ms;
}

static inline void group_send(void *context, uint64_t peer, const char *address, enum kith_lane lane,
                              struct kith_buf *bytes)
{
    struct group_member *from = context;
    struct group *g = from->group;
    struct group_frame *frame = calloc(1, sizeof *frame);
    int to = 0;
    while (to < g->count && g->member[to].id != peer)
        to++;
    if (!frame || to == g->count) {
        free(frame);
        kith_buf_fini(bytes);
        return;
    }
    *frame = (struct group_frame){.due_ms = g->now_ms + 1, .from = from->place, .to = to, .bytes = *bytes};
    kith_buf_init(bytes);
    *(g->tail ? &g->tail->next : &g->head) = frame;
    g->tail = frame;
    g->frames++;
}

static inline void group_send_shared(void *context, uint64_t peer, const char *address, enum kith_lane lane,
                                     struct kith_buf *head, const struct kith_shared *rest)
{
    struct group_member *from = context;
    kith_buf_append(head, rest->bytes.data, rest->bytes.length);
    rest->release(rest->owner);
    from->group->shared_frames++;
    if (head->failed)
        kith_buf_fini(head);
    else
        group_send(context, peer, address, lane, head);
}

static inline size_t group_room(void *context, uint64_t peer, enum kith_lane lane)
{
    return 16 << 20;
}

/* Starts a member on what its disk holds; join_group 0: a new folder founds a group. */
static inline int group_try_start(struct group *g, int place, uint64_t join_group, struct kith_error *error)
{
    struct group_member *m = &g->member[place];
    struct kith_node_options o = g->options;
    m->group = g;
    m->place = place;
    if (!m->disk)
        m->disk = crash_fs_open();
    snprintf(m->address, sizeof m->address, "n%d:1", place);
    o.dir = "/d";
    o.fs = crash_fs_table(m->disk);
    o.machine = tiny_machine(&m->machine);
    o.address = m->address;
    o.join_group = join_group;
    o.transport = (struct kith_transport){
        .context = m, .send = group_send, .send_shared = group_send_shared, .room = group_room};
    o.clock = (struct kith_clock){group_clock, group_wall, g};
    o.seed = (uint64_t)place + 1;
    o.manual = true;
    o.no_final_checkpoint = true;
    int status = kith_node_open(&m->node, &o, error);
    if (status == KITH_OK)
        m->id = kith_node_id(m->node);
    else {
        m->node = NULL;
        tiny_fini(&m->machine);
    }
    if (g->count <= place)
        g->count = place + 1;
    return status;
}

static inline void group_start(struct group *g, int place, uint64_t join_group)
{
    struct kith_error error = {""};
    if (group_try_start(g, place, join_group, &error) != KITH_OK)
        fail_msg("%s", error.text);
}

static inline void group_stop(struct group *g, int place)
{
    struct group_member *m = &g->member[place];
    if (m->node)
        (void)kith_node_close(m->node);
    m->node = NULL;
    tiny_fini(&m->machine);
}

static inline void group_deliver(struct group *g)
{
    while (g->head && g->head->due_ms <= g->now_ms) {
        struct group_frame *frame = g->head;
        struct group_member *to = &g->member[frame->to];
        g->head = frame->next;
        if (!g->head)
            g->tail = NULL;
        if (to->node && !g->cut[frame->from][frame->to] && !(g->drops && g->drops(g, frame))) {
            struct group_member *from = &g->member[frame->from];
            assert_int_equal(
                kith_node_receive(to->node, from->id, from->address, kith_buf_slice(&frame->bytes)), KITH_OK);
        }
        kith_buf_fini(&frame->bytes);
        free(frame);
    }
}

/* One millisecond. */
static inline void group_step(struct group *g)
{
    g->now_ms++;
    group_deliver(g);
    for (int i = 0; i < g->count; i++) {
        struct group_member *m = &g->member[i];
        if (!m->node)
            continue;
        while (!m->disk_stands && kith_node_run(m->node, KITH_NODE_LOG)) {
        }
        while (kith_node_run(m->node, KITH_NODE_KEEPER)) {
        }
        kith_node_poll(m->node);
    }
}

static inline void group_run(struct group *g, uint64_t ms)
{
    for (uint64_t end = g->now_ms + ms; g->now_ms < end;)
        group_step(g);
}

/* The place of the one that leads and is not cut off; -1: none. */
static inline int group_leader(const struct group *g)
{
    int found = -1;
    for (int i = 0; i < g->count; i++)
        if (g->member[i].node && kith_node_role(g->member[i].node) == KITH_CORE_LEADER &&
            (found < 0 ||
             kith_core_term(g->member[i].node->core) > kith_core_term(g->member[found].node->core)))
            found = i;
    return found;
}

/* Makes the first `voters` the voters, through an entry like any other. */
static inline void group_configure(struct group *g, int voters)
{
    struct raft_configuration c;
    struct raft_buffer b;
    raft_configuration_init(&c);
    for (int i = 0; i < voters; i++)
        assert_int_equal(raft_configuration_add(&c, g->member[i].id, g->member[i].address, RAFT_VOTER), 0);
    assert_int_equal(raft_configuration_encode(&c, &b), 0);
    raft_configuration_close(&c);
    struct kith_core_entry from = {.kind = KITH_ENTRY_CONFIGURATION, .payload = kith_slice(b.base, b.len)};
    struct node_entry *entry = node_entry_new(&from, 0);
    assert_non_null(entry);
    assert_int_equal(node_submit_entry(g->member[group_leader(g)].node, entry), KITH_OK);
    raft_free(b.base);
    group_run(g, 200);
}

/* `count` nodes: the first founds the group, the others join it one by one. */
static inline void group_open(struct group *g, int count)
{
    g->now_ms = 1000;
    group_start(g, 0, 0);
    for (int i = 1; i < count; i++) {
        group_start(g, i, kith_node_group_id(g->member[0].node));
        group_configure(g, i + 1);
    }
}

static inline void group_close(struct group *g)
{
    for (int i = 0; i < g->count; i++)
        group_stop(g, i);
    for (int i = 0; i < g->count; i++)
        crash_fs_close(g->member[i].disk);
    while (g->head) {
        struct group_frame *frame = g->head;
        g->head = frame->next;
        kith_buf_fini(&frame->bytes);
        free(frame);
    }
    *g = (struct group){0};
}

#endif
