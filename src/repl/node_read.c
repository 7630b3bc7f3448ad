/* Linearizable reads: ReadIndex (Raft thesis 6.4), and how old a node's state is.
 *
 * A leader cannot know by itself that it still leads. So it remembers the commit index, asks the voters for their term,
 * and once a majority has answered with the leader's own, the reads that came before the question may see the state at
 * that index. One probe answers for all reads gathered since the last. A follower asks the leader, which does just that
 * for it, and then waits until it has applied the index. No clock takes part.
 *
 * A probe or an answer may be lost: the question is asked again under a new number, and an answer to it counts for all
 * earlier ones. When the leader or the term changes, all that was asked goes back to be asked anew. */
#include "base/log.h"
#include "repl/node_internal.h"
#include "repl/node_members.h"

#include <stdlib.h>

enum { LEADER_WAIT_MS = 3000, HEARTBEAT_MS = 50, RETRY_MS = 10 };

static void push(struct node_read_queue *queue, struct node_read *read)
{
    read->next = NULL;
    if (queue->tail)
        queue->tail->next = read;
    else
        queue->head = read;
    queue->tail = read;
}

static struct node_read *pop(struct node_read_queue *queue)
{
    struct node_read *read = queue->head;
    queue->head = read->next;
    if (!queue->head)
        queue->tail = NULL;
    return read;
}

/* Behind what is in `to`. */
static void append_all(struct node_read_queue *to, struct node_read_queue *from)
{
    if (!from->head)
        return;
    if (to->tail)
        to->tail->next = from->head;
    else
        to->head = from->head;
    to->tail = from->tail;
    *from = (struct node_read_queue){0};
}

static bool leads(const struct kith_node *node)
{
    return node->failure == KITH_OK && kith_core_get_role(node->core) == KITH_CORE_LEADER;
}

/* Nobody else could be elected without this node's vote, and a leader gives none. */
static bool is_only_voter(const struct kith_node *node)
{
    struct kith_core_member member;
    for (size_t i = 0; i < kith_core_member_count(node->core); i++) {
        kith_core_get_member(node->core, i, &member);
        if (member.role == KITH_CORE_VOTER && member.id != node->id)
            return false;
    }
    return true;
}

/* A leader knows what was committed before it once it has committed something itself; an only voter always does. */
static bool may_answer(const struct kith_node *node)
{
    return leads(node) && (is_only_voter(node) || kith_core_has_committed_own(node->core));
}

static void end(struct node_read *read, int status)
{
    void (*done)(void *, int) = read->done;
    void *context = read->context;
    free(read);
    if (done)
        done(context, status);
}

/* --- answers --- */

static void tell_peer(struct kith_node *node, const struct node_read *read, uint64_t index)
{
    struct kith_core_member member = {.address = ""};
    kith_core_find_member(node->core, read->peer, &member);
    node_notice_want(node, read->peer, index);
    node_notice_flush(node);
    node_send(node, read->peer, member.address, KITH_LANE_MESSAGES,
              &(struct kith_frame){.kind = KITH_FRAME_READ_RESULT,
                                   .read_result = {.number = read->peer_number, .index = index}});
}

/* Reads up to this number may see the state at their index. */
static void answer_up_to(struct kith_node *node, uint64_t number)
{
    struct node_reads *reads = &node->reads;
    while (reads->asked.head && reads->asked.head->number <= number) {
        struct node_read *read = pop(&reads->asked);
        if (read->done) {
            push(&reads->known, read);
            continue;
        }
        tell_peer(node, read, read->index);
        free(read);
    }
    node->poll_now |= reads->known.head != NULL;
}

static void take_answers(struct kith_node *node)
{
    if (leads(node))
        answer_up_to(node,
                     node_probe_majority(node, offsetof(struct node_voter, answered), node->reads.number));
}

/* --- asking --- */

/* The state is to hold what was committed when the reads came, or later: the index is taken before the probe leaves. */
static void ask_voters(struct kith_node *node)
{
    struct node_reads *reads = &node->reads;
    uint64_t index = kith_core_commit_index(node->core);
    node_probe_send(node);
    for (struct node_read *read = reads->gathered.head; read; read = read->next) {
        read->number = reads->number;
        read->index = index;
    }
    append_all(&reads->asked, &reads->gathered);
    take_answers(node); /* an only voter has a majority already */
}

static void ask_leader(struct kith_node *node, uint64_t leader, const char *address)
{
    struct node_reads *reads = &node->reads;
    reads->number++;
    reads->sent_ms = node->now_ms;
    for (struct node_read *read = reads->gathered.head; read; read = read->next)
        read->number = reads->number;
    append_all(&reads->asked, &reads->gathered);
    node_send(node, leader, address, KITH_LANE_MESSAGES,
              &(struct kith_frame){.kind = KITH_FRAME_READ, .read = {.number = reads->number}});
}

static unsigned heartbeat_ms(const struct kith_node *node)
{
    return node->options.heartbeat_ms ? node->options.heartbeat_ms : HEARTBEAT_MS;
}

/* When what was asked is asked again; UINT64_MAX: nothing was. */
static uint64_t again_ms(const struct kith_node *node)
{
    uint64_t late_ms = leads(node) ? node_probe_late_ms(node) : UINT64_MAX;
    uint64_t lost_ms = node->reads.asked.head ? node->reads.sent_ms + heartbeat_ms(node) : UINT64_MAX;
    return late_ms < lost_ms ? late_ms : lost_ms;
}

static void ask(struct kith_node *node)
{
    struct node_reads *reads = &node->reads;
    const char *address;
    if ((!reads->gathered.head && node->now_ms < again_ms(node)) || node->now_ms < reads->not_before_ms)
        return;
    if (leads(node)) {
        if (may_answer(node))
            ask_voters(node);
        return;
    }
    uint64_t leader = kith_core_leader(node->core, &address);
    if (leader)
        ask_leader(node, leader, address);
}

/* --- frames --- */

static void take_question(struct kith_node *node, uint64_t peer, const char *address, uint64_t number)
{
    struct node_read *read = may_answer(node) ? calloc(1, sizeof *read) : NULL;
    if (!read) {
        node_send(node, peer, address, KITH_LANE_MESSAGES,
                  &(struct kith_frame){.kind = KITH_FRAME_READ_RESULT, .read_result = {.number = number}});
        return;
    }
    read->peer = peer;
    read->peer_number = number;
    read->since_ms = node->now_ms;
    push(&node->reads.gathered, read);
    node->poll_now = true;
}

static void take_index(struct kith_node *node, uint64_t number, uint64_t index)
{
    struct node_reads *reads = &node->reads;
    if (leads(node) || number > reads->number || !reads->asked.head || number < reads->asked.head->number)
        return;
    if (!index) { /* ask again, a little later */
        append_all(&reads->asked, &reads->gathered);
        reads->gathered = reads->asked;
        reads->asked = (struct node_read_queue){0};
        reads->not_before_ms = node->now_ms + RETRY_MS;
        return;
    }
    for (struct node_read *read = reads->asked.head; read && read->number <= number; read = read->next)
        read->index = index;
    answer_up_to(node, number);
}

void node_read_receive(struct kith_node *node, uint64_t peer, const char *address,
                       const struct kith_frame *frame)
{
    uint64_t term = kith_core_term(node->core);
    switch (frame->kind) {
    case KITH_FRAME_PROBE:
        node_send(node, peer, address, KITH_LANE_MESSAGES,
                  &(struct kith_frame){.kind = KITH_FRAME_PROBE_RESULT,
                                       .probe_result = {.term = term, .number = frame->probe.number}});
        return;
    case KITH_FRAME_PROBE_RESULT: {
        struct node_voter *voter = node_probe_voter(node, peer);
        if (!voter || !leads(node) || frame->probe_result.term != term ||
            frame->probe_result.number > node->reads.number)
            return;
        voter->heard_ms = node->now_ms;
        node_probe_take_answer(node, voter, frame->probe_result.number);
        take_answers(node);
        return;
    }
    case KITH_FRAME_READ:
        take_question(node, peer, address, frame->read.number);
        return;
    default:
        take_index(node, frame->read_result.number, frame->read_result.index);
    }
}

/* --- their beginning and end --- */

int kith_node_read(struct kith_node *node, void (*done)(void *context, int status), void *context)
{
    if (node->closing)
        return KITH_ECLOSED;
    node->status.reads++;
    /* Whose disk failed may have been the only voter: then nobody has gone on without it. */
    if (kith_core_get_role(node->core) == KITH_CORE_LEADER && is_only_voter(node))
        return 1;
    if (node->failure != KITH_OK)
        return node->failure;
    struct node_read *read = calloc(1, sizeof *read);
    if (!read)
        return KITH_ENOMEM;
    read->done = done;
    read->context = context;
    read->since_ms = node->now_ms;
    push(&node->reads.gathered, read);
    node->poll_now = true;
    return KITH_OK;
}

void node_read_begin_term(struct kith_node *node)
{
    struct node_reads *reads = &node->reads;
    struct node_read_queue all = reads->asked, kept = {0};
    append_all(&all, &reads->gathered);
    while (all.head) {
        struct node_read *read = pop(&all);
        if (read->done)
            push(&kept, read);
        else {
            tell_peer(node, read, 0);
            free(read);
        }
    }
    reads->gathered = kept;
    reads->asked = (struct node_read_queue){0};
    reads->voter_count = 0;
    reads->wide_number = 0;
    reads->not_before_ms = 0;
    node->poll_now |= reads->gathered.head != NULL;
}

/* Those whose index is applied; the indexes do not fall from one to the next. */
static void end_applied(struct kith_node *node)
{
    while (node->reads.known.head && node->reads.known.head->index <= node->applied_index &&
           !node_stream_is_loading(node))
        end(pop(&node->reads.known), KITH_OK);
}

static uint64_t limit_ms(const struct kith_node *node)
{
    return node->options.leader_wait_ms ? node->options.leader_wait_ms : LEADER_WAIT_MS;
}

static void end_old(struct kith_node *node, struct node_read_queue *queue)
{
    while (queue->head && queue->head->since_ms + limit_ms(node) <= node->now_ms)
        end(pop(queue), KITH_EAGAIN);
}

static void end_all(struct kith_node *node, int status)
{
    struct node_reads *reads = &node->reads;
    append_all(&reads->known, &reads->asked);
    append_all(&reads->known, &reads->gathered);
    while (reads->known.head)
        end(pop(&reads->known), status);
}

/* A new leader does not know at once what the last one has committed: until an entry of its own term is applied here, its
 * word says nothing about age. */
static bool has_applied_own(const struct kith_node *node)
{
    return node->applied_term == kith_core_term(node->core);
}

/* What the leader had committed at next_ms is applied, and more. */
static void take_next(struct kith_node *node)
{
    struct node_reads *reads = &node->reads;
    if (!reads->next_index || reads->next_index > node->applied_index)
        return;
    if (has_applied_own(node))
        reads->fresh_ms = reads->next_ms;
    reads->next_index = 0;
}

void node_read_poll(struct kith_node *node)
{
    struct node_reads *reads = &node->reads;
    if (node->failure != KITH_OK) {
        end_all(node, node->failure);
        return;
    }
    take_next(node);
    ask(node);
    end_applied(node);
    end_old(node, &reads->known);
    end_old(node, &reads->asked);
    end_old(node, &reads->gathered);
}

void node_read_close(struct kith_node *node)
{
    end_all(node, KITH_ECLOSED);
}

uint64_t node_read_due_ms(const struct kith_node *node)
{
    const struct node_reads *reads = &node->reads;
    uint64_t due = UINT64_MAX;
    const struct node_read_queue *queues[] = {&reads->gathered, &reads->asked, &reads->known};
    for (size_t i = 0; i < 3; i++)
        if (queues[i]->head && queues[i]->head->since_ms + limit_ms(node) < due)
            due = queues[i]->head->since_ms + limit_ms(node);
    if (again_ms(node) < due)
        due = again_ms(node);
    if (reads->gathered.head && reads->not_before_ms > node->now_ms && reads->not_before_ms < due)
        due = reads->not_before_ms;
    return due;
}

/* --- age --- */

void node_read_note(struct kith_node *node, const struct kith_core_message *message)
{
    struct node_reads *reads = &node->reads;
    if (message->term != kith_core_term(node->core))
        return;
    if (message->kind == KITH_CORE_APPEND_RESULT && leads(node)) {
        struct node_voter *voter = node_probe_voter(node, message->peer);
        if (voter)
            voter->heard_ms = node->now_ms;
    }
    if (message->kind != KITH_CORE_APPEND)
        return;
    take_next(node);
    if (message->append.commit_index <= node->applied_index) {
        if (has_applied_own(node))
            reads->fresh_ms = node->now_ms;
        reads->next_index = 0;
    } else if (!reads->next_index) {
        reads->next_index = message->append.commit_index;
        reads->next_ms = node->now_ms;
    }
}

bool kith_node_is_loading(const struct kith_node *node)
{
    return node_stream_is_loading(node);
}

int64_t kith_node_lag_ms(const struct kith_node *node)
{
    if (node_stream_is_loading(node))
        return -1;
    uint64_t since = node->reads.fresh_ms, now = kith_clock_monotonic_ns(&node->options.clock) / 1000000;
    if (leads(node) && is_only_voter(node))
        return 0;
    if (leads(node) && has_applied_own(node))
        since = node_probe_majority(node, offsetof(struct node_voter, heard_ms), now);
    else if (node->reads.next_index && node->reads.next_index <= node->applied_index && has_applied_own(node))
        since = node->reads.next_ms;
    return since && !node_stream_is_loading(node) ? (int64_t)(now - since) : -1;
}
