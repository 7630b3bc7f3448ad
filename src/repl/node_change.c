/* Changes of the group that somebody has asked for, from the question to the answer: here on the leader, else by
 * asking it.
 *
 * A wish is what is to be so in the end, not a step: when the leader is lost on the way it is asked anew of the next
 * one, and a change that is there already is done. So nobody has to know whether the first attempt came through. */
#include "repl/node_internal.h"
#include "repl/node_members.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    WISH_MS = 10000,     /* a client's is answered by then */
    PEER_WISH_MS = 6000, /* one that a member has asked for: its own must not run out before */
    ASK_AGAIN_MS = 1000, /* no answer: the frame may be lost */
    TRY_AGAIN_MS = 20,   /* a member was not caught up, or another change was under way */
    WISHES_MAX = 256,
};

enum wish_step {
    WISH_OPEN,     /* nothing has been done yet, or it is to be done again */
    WISH_APPENDED, /* its entry is in the log; on_appended comes */
    WISH_SENT,     /* the leader was asked */
    WISH_HANDOVER, /* leadership is on its way to another */
};

struct wish {
    struct wish *next;
    struct kith_node *node;
    enum kith_change_kind change;
    uint64_t id;
    char address[KITH_MEMBER_ADDRESS_BYTES];
    /* who waits: a caller, or a peer, or neither */
    void (*done)(void *context, int status, const char *text);
    void *context;
    uint64_t peer, peer_number;
    char peer_address[KITH_MEMBER_ADDRESS_BYTES];

    enum wish_step step;
    uint64_t deadline_ms, next_ms;
    uint64_t number;             /* in the frame to the leader */
    uint64_t leader;             /* that was asked, or that hands over */
    bool tried;                  /* it was asked for before: what is gone now may be so because of it */
    bool handed_over;            /* leadership went on because of this wish */
    bool finished, entry_is_out; /* out: on_appended has not run yet */
    int status;                  /* the answer, or why it did not go on the last time */
    struct kith_error why;
};

static void finish(struct wish *wish, int status, const char *text)
{
    if (wish->finished)
        return;
    wish->finished = true;
    wish->status = status;
    if (text != wish->why.text)
        kith_error_set(&wish->why, status, "%s", text);
}

/* --- on the leader --- */

static void on_appended(void *context, int status)
{
    struct wish *wish = context;
    wish->entry_is_out = false;
    if (status == KITH_OK)
        finish(wish, KITH_OK, "");
    else if (status == KITH_EUNKNOWN)
        wish->step = WISH_OPEN; /* the leader was lost: the next one is asked */
    else
        finish(wish, status, kith_status_text(status));
}

/* `payload` is freed. */
static int append(struct kith_node *node, enum kith_entry_kind kind, struct kith_slice payload,
                  struct wish *wish)
{
    struct kith_core_entry raft_entry = {.kind = kind, .payload = payload};
    struct node_entry *entry = node_entry_new(&raft_entry, 0);
    free((void *)payload.data);
    if (!entry)
        return KITH_ENOMEM;
    if (wish) {
        entry->done = on_appended;
        entry->context = wish;
        wish->entry_is_out = wish->tried = true;
        wish->step = WISH_APPENDED; /* before: a group of one has applied it when this returns */
    }
    int status = node_submit_entry(node, entry);
    if (status == KITH_OK)
        return status;
    kith_log_entry_release(&entry->log);
    if (wish) {
        wish->entry_is_out = false;
        wish->step = WISH_OPEN;
    }
    return status;
}

void node_members_settle(struct kith_node *node)
{
    struct node_members *members = node->members;
    uint64_t term = kith_core_term(node->core);
    if (kith_core_has_committed_own(node->core) || members->barrier_term == term)
        return;
    if (append(node, KITH_ENTRY_BARRIER, kith_slice(NULL, 0), NULL) == KITH_OK)
        members->barrier_term = term;
}

static void later(struct wish *wish, int status)
{
    wish->status = status;
    wish->next_ms = wish->node->now_ms + TRY_AGAIN_MS;
}

/* Leadership to `id`, 0: to whoever is ready. */
static void hand_over(struct wish *wish, uint64_t id)
{
    struct kith_node *node = wish->node;
    struct kith_core_update update;
    if (kith_core_is_transferring(node->core)) {
        later(wish, kith_error_set(&wish->why, KITH_EBUSY, "leadership is being handed over already"));
        return;
    }
    int status = kith_core_transfer(node->core, node->now_ms, id, &update);
    if (status != KITH_OK) {
        finish(wish, KITH_EINVAL,
               id ? "leadership can be handed to another voter of the group only"
                  : "the group has no other voter that could lead it");
        return;
    }
    wish->step = WISH_HANDOVER;
    wish->leader = node->id;
    wish->handed_over = wish->tried = true; /* whoever has asked for it here may ask the next leader, too */
    node_carry_out(node, &update);
}

static void transfer(struct wish *wish)
{
    bool was_others =
        wish->leader && wish->leader != wish->node->id; /* who was asked has handed over to us */
    if (wish->id == wish->node->id || (!wish->id && (wish->handed_over || was_others)))
        finish(wish, KITH_OK, "");
    else
        hand_over(wish, wish->id);
}

/* This node leads. */
static void act(struct wish *wish)
{
    struct kith_node *node = wish->node;
    struct kith_slice configuration = {0};
    bool leaves = wish->change == KITH_CHANGE_REMOVE || wish->change == KITH_CHANGE_DEMOTE;
    wish->tried |= wish->step == WISH_SENT; /* of the one who led before this node */
    wish->step = WISH_OPEN;
    if (wish->change == KITH_CHANGE_TRANSFER) {
        transfer(wish);
        return;
    }
    if (leaves && wish->id == node->id) {
        hand_over(wish, 0); /* whoever leads then does it */
        return;
    }
    node_members_settle(node);
    int status =
        kith_core_plan_change(node->core, wish->change, wish->id,
                              kith_slice(wish->address, strlen(wish->address)), &configuration, &wish->why);
    if (status == KITH_OK &&
        (status = node_members_check_majority(node, wish->change, wish->id, &wish->why)) != KITH_OK)
        free((void *)configuration.data);
    if (status > 0 || (status == KITH_ENOENT && wish->change == KITH_CHANGE_REMOVE && wish->tried))
        finish(wish, KITH_OK, "");
    else if (status == KITH_EAGAIN || status == KITH_EBUSY)
        later(wish, status);
    else if (status != KITH_OK)
        finish(wish, status, wish->why.text);
    else if ((status = append(node, KITH_ENTRY_CONFIGURATION, configuration, wish)) != KITH_OK)
        later(wish, kith_error_set(&wish->why, status, "%s", kith_status_text(status)));
}

/* --- elsewhere --- */

static void ask(struct wish *wish, uint64_t leader, const char *address)
{
    struct kith_node *node = wish->node;
    struct kith_frame frame = {.kind = KITH_FRAME_CHANGE,
                               .change = {.number = wish->number,
                                          .change = wish->change,
                                          .id = wish->id,
                                          .address = kith_slice(wish->address, strlen(wish->address))}};
    wish->tried |= wish->step == WISH_SENT;
    wish->step = WISH_SENT;
    wish->leader = leader;
    wish->next_ms = node->now_ms + ASK_AGAIN_MS;
    node_send(node, leader, address, KITH_LANE_MESSAGES, &frame);
}

/* Another node leads, or none is known. */
static void follow(struct wish *wish)
{
    struct kith_node *node = wish->node;
    const char *address;
    uint64_t leader = kith_core_leader(node->core, &address);
    if (wish->change == KITH_CHANGE_TRANSFER && leader &&
        (leader == wish->id || (!wish->id && wish->leader && leader != wish->leader))) {
        finish(wish, KITH_OK, "");
        return;
    }
    if (!leader) {
        kith_error_set(&wish->why, KITH_EAGAIN,
                       "the group has no leader: see whether most of its voters run");
        wish->status = KITH_EAGAIN;
        return;
    }
    if (wish->step == WISH_SENT && leader == wish->leader && node->now_ms < wish->next_ms)
        return;
    ask(wish, leader, address);
}

/* Leadership was given away by this node: has it gone where it should? */
static void watch_handover(struct wish *wish)
{
    struct kith_node *node = wish->node;
    const char *address;
    uint64_t leader = kith_core_leader(node->core, &address);
    if (leader == node->id && kith_core_is_transferring(node->core))
        return;
    if (leader == node->id) {
        wish->step = WISH_OPEN;
        wish->handed_over = false;
        later(wish, kith_error_set(&wish->why, KITH_EAGAIN,
                                   "no other voter took leadership over in time: this node still leads"));
    } else if (leader && wish->change == KITH_CHANGE_TRANSFER) {
        bool wanted = !wish->id || leader == wish->id;
        finish(wish, wanted ? KITH_OK : KITH_EAGAIN, wanted ? "" : "another member became the leader");
    } else if (leader) {
        wish->step = WISH_OPEN;
    }
}

static void time_out(struct wish *wish)
{
    if (wish->step == WISH_SENT || wish->step == WISH_APPENDED)
        finish(wish, KITH_EUNKNOWN,
               "no answer in time: the change may still come about; see KITH.CLUSTER NODES");
    else if (wish->why.text[0])
        finish(wish, wish->status ? wish->status : KITH_EAGAIN, wish->why.text);
    else
        finish(wish, KITH_EAGAIN, "no leader in time");
}

static void advance_wish(struct wish *wish)
{
    struct kith_node *node = wish->node;
    if (wish->step == WISH_HANDOVER)
        watch_handover(wish);
    if (wish->finished || wish->step == WISH_HANDOVER || wish->step == WISH_APPENDED) {
        /* nothing to do but wait */
    } else if (kith_core_get_role(node->core) == KITH_CORE_LEADER) {
        if (wish->step == WISH_SENT || node->now_ms >= wish->next_ms)
            act(wish);
    } else {
        follow(wish);
    }
    if (!wish->finished && node->now_ms >= wish->deadline_ms)
        time_out(wish);
}

/* --- beginning and end of a wish --- */

static void answer_peer(struct wish *wish)
{
    struct kith_frame frame = {.kind = KITH_FRAME_CHANGE_RESULT,
                               .change_result = {.number = wish->peer_number,
                                                 .status = wish->status,
                                                 .text = kith_slice(wish->why.text, strlen(wish->why.text))}};
    node_send(wish->node, wish->peer, wish->peer_address, KITH_LANE_MESSAGES, &frame);
}

static void answer(struct wish *wish)
{
    void (*done)(void *, int, const char *) = wish->done;
    wish->done = NULL;
    if (wish->status == KITH_OK)
        wish->why.text[0] = '\0';
    if (wish->peer)
        answer_peer(wish);
    wish->peer = 0;
    if (done)
        done(wish->context, wish->status, wish->why.text);
}

/* Answers what has ended; a wish whose entry is still in the window stays until that is gone too. */
static void sweep(struct node_members *members)
{
    for (struct wish **at = &members->wishes; *at;) {
        struct wish *wish = *at;
        if (!wish->finished) {
            at = &wish->next;
            continue;
        }
        if (wish->entry_is_out) {
            answer(wish);
            at = &wish->next;
            continue;
        }
        *at = wish->next;
        members->wish_count--;
        answer(wish); /* it may add one, at the end of the list */
        free(wish);
    }
}

static struct wish *new_wish(struct kith_node *node, enum kith_change_kind change, uint64_t id,
                             struct kith_slice address)
{
    struct node_members *members = node->members;
    if (members->wish_count >= WISHES_MAX || address.length >= KITH_MEMBER_ADDRESS_BYTES)
        return NULL;
    struct wish *wish = calloc(1, sizeof *wish);
    if (!wish)
        return NULL;
    *wish = (struct wish){.node = node,
                          .change = change,
                          .id = id,
                          .number = ++members->last_number,
                          .deadline_ms = node->now_ms + WISH_MS};
    if (address.length)
        memcpy(wish->address, address.data, address.length);
    struct wish **end = &members->wishes;
    while (*end)
        end = &(*end)->next;
    *end = wish;
    members->wish_count++;
    node->poll_now = true;
    return wish;
}

int kith_node_change(struct kith_node *node, enum kith_change_kind change, uint64_t id, const char *address,
                     void (*done)(void *context, int status, const char *text), void *context)
{
    struct kith_slice text = kith_slice(address, address ? strlen(address) : 0);
    if (change < KITH_CHANGE_ADD_STANDBY || change > KITH_CHANGE_MOVE)
        return KITH_EINVAL;
    if (text.length >= KITH_MEMBER_ADDRESS_BYTES)
        return KITH_ETOOBIG;
    if (node->members->wish_count >= WISHES_MAX)
        return KITH_EBUSY;
    struct wish *wish = new_wish(node, change, id, text);
    if (!wish)
        return KITH_ENOMEM;
    wish->done = done;
    wish->context = context;
    return KITH_OK;
}

/* --- frames --- */

static struct wish *find_of_peer(const struct node_members *members, uint64_t peer, uint64_t number)
{
    struct wish *wish = members->wishes;
    while (wish && (wish->peer != peer || wish->peer_number != number))
        wish = wish->next;
    return wish;
}

/* A member knows the leader by itself, and may be wrong about it; who is to become one knows only us. */
void node_change_receive(struct kith_node *node, uint64_t peer, const char *address,
                         const struct kith_frame *frame)
{
    struct kith_core_member member;
    struct wish refused = {.node = node, .peer = peer, .peer_number = frame->change.number};
    bool leads = kith_core_get_role(node->core) == KITH_CORE_LEADER;
    snprintf(refused.peer_address, sizeof refused.peer_address, "%s", address ? address : "");
    if (!peer || find_of_peer(node->members, peer, frame->change.number))
        return; /* asked before: the answer comes */
    if (!leads && kith_core_find_member(node->core, peer, &member)) {
        refused.status = kith_error_set(&refused.why, KITH_EPERM, "this node does not lead the group");
        answer(&refused);
        return;
    }
    struct wish *wish = new_wish(node, frame->change.change, frame->change.id, frame->change.address);
    if (!wish) {
        refused.status = kith_error_set(&refused.why, KITH_EAGAIN, "too many changes are waiting");
        answer(&refused);
        return;
    }
    wish->deadline_ms = node->now_ms + PEER_WISH_MS;
    wish->peer = peer;
    wish->peer_number = frame->change.number;
    memcpy(wish->peer_address, refused.peer_address, sizeof wish->peer_address);
}

void node_change_receive_result(struct kith_node *node, uint64_t peer, const struct kith_frame *frame)
{
    const struct kith_slice text = frame->change_result.text;
    struct wish *wish = node->members->wishes;
    while (wish &&
           (wish->number != frame->change_result.number || wish->step != WISH_SENT || wish->leader != peer))
        wish = wish->next;
    if (!wish || wish->finished)
        return;
    int64_t status = frame->change_result.status;
    kith_error_set(&wish->why, KITH_OK, "%.*s", (int)text.length, text.data ? text.data : "");
    if (status == KITH_ENOENT && wish->change == KITH_CHANGE_REMOVE && wish->tried)
        status = KITH_OK;
    if (status == KITH_EPERM) { /* it does not lead any more: ask again, somebody soon does */
        wish->step = WISH_SENT;
        wish->next_ms = node->now_ms + TRY_AGAIN_MS;
        wish->status = KITH_EAGAIN;
        return;
    }
    finish(wish, status > 0 || status < INT16_MIN ? KITH_EINVAL : (int)status, wish->why.text);
    node->poll_now = true;
}

/* --- from poll --- */

void node_change_poll(struct kith_node *node)
{
    if (!node->members->wishes)
        return;
    for (struct wish *wish = node->members->wishes; wish; wish = wish->next)
        if (!wish->finished)
            advance_wish(wish);
    sweep(node->members);
}

void node_change_close(struct kith_node *node)
{
    struct node_members *members = node->members;
    for (struct wish *wish = members->wishes; wish; wish = wish->next) {
        finish(wish, KITH_ECLOSED, kith_status_text(KITH_ECLOSED));
        wish->entry_is_out = false; /* the log has been given up by now */
    }
    sweep(members);
}
