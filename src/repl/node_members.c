/* The group as this node sees it: its members and what they told about themselves; what this node wants for itself (its
 * true address in the configuration, a vote once it is caught up); and who has left. */
#include "repl/node_members.h"
#include "base/log.h"
#include "repl/node_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    CHANGE_POLL_MS = 20,
    ABOUT_MS = 1000, /* between two tellings to every member */
    CARE_MS = 250,   /* between two tries to get what this node wants for itself */
};

/* --- who there is --- */

static const struct member_about *about_of(const struct node_members *members, uint64_t id)
{
    for (size_t i = 0; i < members->about_count; i++)
        if (members->abouts[i].id == id)
            return &members->abouts[i];
    return NULL;
}

static void describe_peer(const struct kith_node *node, struct kith_node_member *out)
{
    const struct kith_transport *transport = &node->options.transport;
    const struct member_about *about = about_of(node->members, out->id);
    out->heard_ms_ago = out->peer.heard_ms_ago = -1;
    if (transport->status)
        transport->status(transport->context, out->id, &out->peer);
    out->heard_ms_ago = out->peer.heard_ms_ago;
    if (about) {
        memcpy(out->client_address, about->client_address, sizeof out->client_address);
        memcpy(out->version, about->version, sizeof out->version);
    }
}

static void describe_self(const struct kith_node *node, struct kith_node_member *out)
{
    const struct kith_node_options *options = &node->options;
    snprintf(out->client_address, sizeof out->client_address, "%s",
             options->client_address ? options->client_address : "");
    snprintf(out->version, sizeof out->version, "%s", options->version ? options->version : "");
}

/* Bytes that the entries it lacks take: by their mean size since the last checkpoint. */
static uint64_t bytes_behind(const struct kith_node *node, uint64_t match_index)
{
    uint64_t last = kith_core_last_index(node->core);
    uint64_t mean = node->entries_since ? node->log_bytes_since / node->entries_since : 64;
    return match_index < last ? (last - match_index) * mean : 0;
}

static void describe(const struct kith_node *node, size_t i, uint64_t leader, struct kith_node_member *out)
{
    struct kith_core_member member;
    kith_core_get_member(node->core, i, &member);
    *out = (struct kith_node_member){.id = member.id,
                                     .role = member.role,
                                     .self = member.id == node->id,
                                     .leader = member.id == leader,
                                     .behind_ms = -1,
                                     .match_index = member.match_index};
    snprintf(out->address, sizeof out->address, "%s", member.address);
    node_stream_get_progress(node, member.id, &out->stream_done, &out->stream_total);
    if (leader == node->id && member.role != KITH_CORE_SPARE) {
        out->behind_bytes = bytes_behind(node, member.match_index);
        out->behind_ms = node_lag_ms(node, member.match_index);
    }
    if (out->self)
        describe_self(node, out);
    else
        describe_peer(node, out);
}

size_t kith_node_get_members(const struct kith_node *node, struct kith_node_member *out, size_t max)
{
    const char *address;
    size_t count = kith_core_member_count(node->core);
    uint64_t leader = kith_core_leader(node->core, &address);
    for (size_t i = 0; i < count && i < max; i++)
        describe(node, i, leader, &out[i]);
    return count;
}

bool kith_node_is_alone(const struct kith_node *node)
{
    return kith_core_is_alone(node->core);
}

/* --- telling each other --- */

static void tell_about(struct kith_node *node)
{
    struct kith_node_member self = {0};
    struct kith_core_member member;
    describe_self(node, &self);
    struct kith_frame frame = {
        .kind = KITH_FRAME_ABOUT,
        .about = {.client_address = kith_slice(self.client_address, strlen(self.client_address)),
                  .version = kith_slice(self.version, strlen(self.version))}};
    for (size_t i = 0; i < kith_core_member_count(node->core); i++) {
        kith_core_get_member(node->core, i, &member);
        if (member.id != node->id)
            node_send(node, member.id, member.address, KITH_LANE_MESSAGES, &frame);
    }
    node->members->about_next_ms = node->now_ms + ABOUT_MS;
}

static void copy_text(char *to, size_t size, struct kith_slice from)
{
    size_t length = from.length < size ? from.length : size - 1;
    if (length)
        memcpy(to, from.data, length);
    to[length] = '\0';
}

/* Its place in the list, made when it is a member and has none; NULL: neither. */
static struct member_about *take_place(struct kith_node *node, uint64_t peer)
{
    struct node_members *members = node->members;
    struct kith_core_member member;
    struct member_about *about = (struct member_about *)about_of(members, peer);
    if (about || members->about_count == KITH_MEMBERS_MAX ||
        !kith_core_find_member(node->core, peer, &member))
        return about;
    about = &members->abouts[members->about_count++];
    *about = (struct member_about){.id = peer};
    return about;
}

/* Whatever came of it: the next look at the configuration shows. */
static void care_done(void *context, int status, const char *text)
{
    struct kith_node *node = context;
    node->members->caring = false;
    node->members->care_next_ms = node->now_ms + CARE_MS;
}

static void want(struct kith_node *node, enum kith_change_kind change, uint64_t id, const char *address)
{
    node->members->caring = kith_node_change(node, change, id, address, care_done, node) == KITH_OK;
}

/* It has moved. It asks for that itself; but when the leader has moved too, neither finds the other, and only a third one
 * that both have called can tell. */
static void note_address(struct kith_node *node, uint64_t peer, const char *address)
{
    struct kith_core_member member;
    const char *unused;
    if (node->members->caring || node->removed || !address || !*address ||
        !kith_core_leader(node->core, &unused) || !kith_core_find_member(node->core, peer, &member) ||
        strcmp(member.address, address) == 0)
        return;
    want(node, KITH_CHANGE_MOVE, peer, address);
}

static void take_about(struct kith_node *node, uint64_t peer, const char *address,
                       const struct kith_frame *frame)
{
    struct member_about *about = take_place(node, peer);
    if (!about)
        return;
    note_address(node, peer, address);
    copy_text(about->client_address, sizeof about->client_address, frame->about.client_address);
    copy_text(about->version, sizeof about->version, frame->about.version);
}

/* --- who has left --- */

static bool is_listed(const uint64_t *ids, size_t count, uint64_t id)
{
    for (size_t i = 0; i < count; i++)
        if (ids[i] == id)
            return true;
    return false;
}

static void forget(struct kith_node *node, uint64_t id)
{
    struct node_members *members = node->members;
    const struct kith_transport *transport = &node->options.transport;
    for (size_t i = 0; i < members->about_count; i++)
        if (members->abouts[i].id == id)
            members->abouts[i--] = members->abouts[--members->about_count];
    if (id == node->id)
        return;
    KITH_INFO("member %016" PRIx64 " has left the group", id);
    if (transport->forget)
        transport->forget(transport->context, id);
}

static void set_removed(struct kith_node *node)
{
    if (node->removed)
        return;
    node->removed = true;
    KITH_WARN("this node, %016" PRIx64
              ", was removed from its group: it takes no part any more. Stop it; to come "
              "back it is added again, best with an empty folder",
              node->id);
}

/* Compares the committed configuration with the one before it. */
static void note_configuration(struct kith_node *node)
{
    struct node_members *members = node->members;
    struct kith_core_member member;
    bool committed;
    uint64_t ids[KITH_MEMBERS_MAX], index = kith_core_configuration_index(node->core, &committed);
    size_t count = 0;
    if (!committed || index == members->known_index)
        return;
    for (size_t i = 0; i < kith_core_member_count(node->core) && count < KITH_MEMBERS_MAX; i++) {
        kith_core_get_member(node->core, i, &member);
        ids[count++] = member.id;
    }
    for (size_t i = 0; i < members->known_count; i++)
        if (!is_listed(ids, count, members->known[i]))
            forget(node, members->known[i]);
    memcpy(members->known, ids, count * sizeof *ids);
    members->known_count = count;
    members->known_index = index;
    members->about_next_ms = members->care_next_ms = 0;
    if (is_listed(ids, count, node->id))
        members->was_member = true;
    else if (members->was_member)
        set_removed(node);
}

static void take_removed(struct kith_node *node, const struct kith_frame *frame)
{
    bool committed;
    if (kith_core_get_role(node->core) != KITH_CORE_LEADER &&
        frame->removed.configuration_index > kith_core_configuration_index(node->core, &committed))
        set_removed(node);
}

/* Its log does not reach the configuration that removed it, so that nobody who has that one could vote for it: telling
 * it so is as good as the refusal, and it stops asking. */
static bool asks_in_vain(const struct kith_node *node, uint64_t peer, const struct kith_core_message *message)
{
    struct kith_core_member member;
    bool committed;
    uint64_t index = kith_core_configuration_index(node->core, &committed);
    return committed && index > message->vote.last_index && !kith_core_find_member(node->core, peer, &member);
}

static bool refuse_removed(struct kith_node *node, uint64_t peer, const char *address,
                           const struct kith_core_message *message)
{
    bool committed;
    if (!asks_in_vain(node, peer, message))
        return false;
    struct kith_frame frame = {
        .kind = KITH_FRAME_REMOVED,
        .removed = {.configuration_index = kith_core_configuration_index(node->core, &committed)}};
    node_send(node, peer, address, KITH_LANE_MESSAGES, &frame);
    return true;
}

/* What a leader sends shows that this node is wanted. */
static void note_leader(struct kith_node *node, const struct kith_core_message *message)
{
    if (!node->removed || message->term < kith_core_term(node->core))
        return;
    KITH_INFO("a leader counts this node in again");
    node->removed = false;
    node->members->was_member = false;
}

/* --- who is there --- */

static bool was_heard_lately(const struct kith_node *node, uint64_t id)
{
    unsigned election_ms = node->options.election_ms ? node->options.election_ms : 300;
    const struct member_about *about = about_of(node->members, id);
    return id == node->id || (about && about->heard_ms + 2 * election_ms >= node->now_ms);
}

int node_members_check_majority(const struct kith_node *node, enum kith_change_kind change, uint64_t id,
                                struct kith_error *why)
{
    size_t voters = 0, heard = 0;
    for (size_t i = 0; i < kith_core_member_count(node->core); i++) {
        struct kith_core_member member;
        kith_core_get_member(node->core, i, &member);
        bool votes = member.role == KITH_CORE_VOTER;
        if (member.id == id && change == KITH_CHANGE_PROMOTE)
            votes = true;
        if (member.id == id && (change == KITH_CHANGE_DEMOTE || change == KITH_CHANGE_REMOVE))
            votes = false;
        voters += votes;
        heard += votes && was_heard_lately(node, member.id);
    }
    if (heard > voters / 2)
        return KITH_OK;
    return kith_error_set(
        why, KITH_EAGAIN,
        "only %zu of the %zu voters that there would be were heard of lately, no majority: start "
        "what is down, or remove that first",
        heard, voters);
}

/* --- what this node wants for itself --- */

static void care(struct kith_node *node)
{
    struct node_members *members = node->members;
    struct kith_core_member self;
    bool committed;
    if (members->caring || node->now_ms < members->care_next_ms || node->removed)
        return;
    members->care_next_ms = UINT64_MAX; /* until the configuration changes */
    if (!kith_core_configuration_index(node->core, &committed) || !committed ||
        !kith_core_find_member(node->core, node->id, &self))
        return;
    members->was_voter |= self.role == KITH_CORE_VOTER;
    if (node->options.address && strcmp(self.address, node->options.address) != 0)
        want(node, KITH_CHANGE_MOVE, node->id, node->options.address);
    else if (node->options.wants_vote && self.role == KITH_CORE_STANDBY && !members->was_voter)
        want(node, KITH_CHANGE_PROMOTE, node->id, NULL);
}

/* --- what the driver calls --- */

int node_members_open(struct kith_node *node)
{
    node->members = calloc(1, sizeof *node->members);
    return node->members ? KITH_OK : KITH_ENOMEM;
}

void node_members_close(struct kith_node *node)
{
    if (!node->members)
        return;
    node_change_close(node);
    free(node->members);
    node->members = NULL;
}

static bool has_others(const struct kith_node *node)
{
    return kith_core_member_count(node->core) > 1;
}

void node_members_poll(struct kith_node *node)
{
    if (node->failure != KITH_OK)
        return;
    note_configuration(node);
    care(node);
    if (has_others(node) && node->now_ms >= node->members->about_next_ms)
        tell_about(node);
    node_change_poll(node);
}

uint64_t node_members_due_ms(const struct kith_node *node)
{
    const struct node_members *members = node->members;
    uint64_t at = members->caring || node->removed ? UINT64_MAX : members->care_next_ms;
    if (node->failure != KITH_OK)
        return UINT64_MAX;
    if (has_others(node) && members->about_next_ms < at)
        at = members->about_next_ms;
    if (members->wishes && node->now_ms + CHANGE_POLL_MS < at)
        at = node->now_ms + CHANGE_POLL_MS;
    return at;
}

bool node_members_receive(struct kith_node *node, uint64_t peer, const char *address,
                          const struct kith_frame *frame)
{
    struct member_about *about = take_place(node, peer);
    if (about)
        about->heard_ms = node->now_ms;
    switch (frame->kind) {
    case KITH_FRAME_CHANGE:
        node_change_receive(node, peer, address, frame);
        return true;
    case KITH_FRAME_CHANGE_RESULT:
        node_change_receive_result(node, peer, frame);
        return true;
    case KITH_FRAME_REMOVED:
        take_removed(node, frame);
        return true;
    case KITH_FRAME_ABOUT:
        take_about(node, peer, address, frame);
        return true;
    case KITH_CORE_VOTE:
        return refuse_removed(node, peer, address, &frame->raft);
    case KITH_CORE_APPEND:
    case KITH_CORE_INSTALL:
        note_leader(node, &frame->raft);
        return false;
    default:
        return false;
    }
}
