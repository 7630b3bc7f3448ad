/* Entries of the log out of what the upstream sent: the head says which part of its history they are (so that none is
 * applied twice, engine/upstream.h), the commands follow. */
#include "base/assert.h"
#include "base/log.h"
#include "base/os.h"
#include "net/follow_internal.h"

#include <stdio.h>
#include <stdlib.h>

/* An entry that is under way. It outlives its connection. */
struct flight {
    struct kith_follow *follow;
    uint64_t link, load;
    int64_t to; /* -1: of a copy */
    size_t bytes;
};

static void go_on(struct kith_follow *follow, struct follow_connection *c)
{
    follow_room(c);
    if (c->ack_wanted && kith_engine_upstream(follow->engine)->offset >= c->ack_offset)
        follow_send_ack(c);
}

/* Whether the state is what this entry was to make of it, or what a later one has made of it already. */
static bool has_taken(const struct flight *flight)
{
    const struct kith_upstream *state = kith_engine_upstream(flight->follow->engine);
    if (flight->to >= 0)
        return state->phase == KITH_UPSTREAM_LIVE && state->offset >= flight->to;
    return state->load == flight->load &&
           (state->phase == KITH_UPSTREAM_LOADING || state->phase == KITH_UPSTREAM_LIVE);
}

static void on_done(void *context, int status)
{
    struct flight *flight = context;
    struct kith_follow *follow = flight->follow;
    struct follow_connection *c = follow->connection;
    follow->flying_bytes -= flight->bytes;
    if (c && !c->closing && c->link == flight->link && !follow->stopped) {
        if (status < 0)
            follow_connection_end(c, "what it sent was not taken here: %s",
                                  *kith_node_error(follow->node) ? kith_node_error(follow->node)
                                                                 : kith_status_text(status));
        else if (kith_engine_upstream(follow->engine)->link == c->link && !has_taken(flight))
            follow_connection_end(c, "the group's state is not where this link is: it begins anew");
        else
            go_on(follow, c);
    }
    free(flight);
}

static void begin_payload(struct follow_connection *c, const char *const *head, size_t head_count,
                          size_t length)
{
    struct kith_slice argv[8];
    KITH_ASSERT(head_count <= 8);
    kith_buf_fini(&c->payload);
    kith_buf_reserve(&c->payload, length + 256);
    kith_entry_begin(&c->payload, kith_os_wall_ms(), kith_rng_next(&c->follow->rng));
    for (size_t i = 0; i < head_count; i++)
        argv[i] = kith_slice(head[i], strlen(head[i]));
    kith_entry_append(&c->payload, 0, argv, head_count);
    kith_buf_append(&c->payload, c->commands.data, length);
}

bool follow_submit(struct follow_connection *c, const char *const *head, size_t head_count, size_t length,
                   int64_t to)
{
    struct kith_follow *follow = c->follow;
    struct flight *flight = c->commands.failed ? NULL : malloc(sizeof *flight);
    /* Another node leads: it goes on from the state that it has. */
    if (kith_node_role(follow->node) != KITH_CORE_LEADER) {
        free(flight);
        follow_connection_end(c, "%s", "");
        return false;
    }
    begin_payload(c, head, head_count, length);
    if (!flight || c->payload.failed) {
        free(flight);
        follow_connection_end(c, "out of memory for what it sends");
        return false;
    }
    *flight = (struct flight){follow, c->link, c->load, to, c->payload.length};
    follow->flying_bytes += flight->bytes;
    kith_buf_consume(&c->commands, length);
    int status = kith_node_submit(follow->node, &c->payload, NULL, on_done, flight);
    if (status == KITH_OK)
        return !c->closing;
    follow->flying_bytes -= flight->bytes;
    free(flight);
    follow_connection_end(c, "what it sent was not taken here: %s",
                          *kith_node_error(follow->node) ? kith_node_error(follow->node)
                                                         : kith_status_text(status));
    return false;
}

void follow_leave(struct follow_connection *c, uint32_t db, unsigned commands, struct kith_slice why,
                  const struct kith_slice *keys, size_t count)
{
    struct kith_slice argv[4 + FOLLOW_KEYS_MAX] = {KITH_SLICE("KITH.UPSTREAM"), KITH_SLICE("LEAVE"),
                                                   commands ? KITH_SLICE("1") : KITH_SLICE("0"), why};
    KITH_ASSERT(count <= FOLLOW_KEYS_MAX);
    for (size_t i = 0; i < count; i++)
        argv[4 + i] = keys[i];
    kith_entry_append(&c->commands, db, argv, 4 + count);
}

bool follow_is_new(struct follow_seen *seen, struct kith_slice name)
{
    char text[FOLLOW_SEEN_NAME];
    snprintf(text, sizeof text, "%.*s",
             (int)(name.length < FOLLOW_SEEN_NAME ? name.length : FOLLOW_SEEN_NAME), name.data);
    for (size_t i = 0; i < seen->count; i++)
        if (strcasecmp(seen->names[i], text) == 0)
            return false;
    if (seen->count == FOLLOW_SEEN_MAX)
        return false;
    snprintf(seen->names[seen->count++], FOLLOW_SEEN_NAME, "%s", text);
    return true;
}
