/* Writes of clients that are connected to another node than the leader.
 *
 * Such a write is handed to the leader at most once, and never again unless the leader says that it did not take it. The
 * leader appends it with a trailer that names the node and the write's number; when the entry comes back in the log, the
 * node knows its own, and makes the reply where the client waits for it. Numbers begin at random at each start, so an
 * entry of an earlier life is never taken for one of this.
 *
 * Dones run in the order of the submits. What is overtaken by a later one can no longer come with a good end (frames on
 * one connection keep their order), so it is decided then: as unknown when it was sent, as not taken when it was not.
 * A lost leader is no reason to give up at once: the next one may hold the entry. Once an entry of a newer term was
 * applied, what was sent in an older one and has not come is decided. */
#include "base/varint.h"
#include "repl/node_internal.h"
#include "repl/node_members.h"

#include <stdlib.h>

enum { RETRY_MS = 20, LEADER_WAIT_MS = 3000, WRITE_TIMEOUT_MS = 10000 };
#define QUEUE_BYTES ((size_t)256 << 20)

static size_t bound_of(const struct kith_node *node)
{
    return node->options.queue_bytes ? (size_t)node->options.queue_bytes : QUEUE_BYTES;
}

static struct node_entry *waiting_from(struct node_entry *entry)
{
    while (entry && entry->state != NODE_WAITS)
        entry = entry->next;
    return entry;
}

static void decide(struct kith_node *node, struct node_entry *entry, int status)
{
    if (entry->state == NODE_DECIDED)
        return;
    if (node->forwards.unsent == entry)
        node->forwards.unsent = waiting_from(entry->next);
    entry->state = NODE_DECIDED;
    entry->status = status;
    node->forwards.bytes -= entry->log.payload.length;
    if (atomic_load_explicit(&entry->log.references, memory_order_relaxed) == 1)
        kith_buf_fini(&entry->log.payload); /* a done may be far away; but a frame may be on its way out */
}

static struct node_entry *take_head(struct kith_node *node)
{
    struct node_forwards *f = &node->forwards;
    struct node_entry *entry = f->head;
    f->head = entry->next;
    if (!f->head)
        f->tail = NULL;
    if (f->unsent == entry)
        f->unsent = waiting_from(entry->next);
    f->bytes -= entry->log.payload.length;
    entry->next = NULL;
    return entry;
}

void node_forward_add(struct kith_node *node, struct node_entry *entry)
{
    struct node_forwards *f = &node->forwards;
    entry->number = f->next_number++;
    entry->state = NODE_WAITS;
    if (f->tail)
        f->tail->next = entry;
    else
        f->head = entry;
    f->tail = entry;
    f->bytes += entry->log.payload.length;
    if (!f->unsent)
        f->unsent = entry;
    if (f->bytes > bound_of(node))
        decide(node, entry, KITH_EAGAIN);
    node->poll_now = true;
}

/* --- on their way out --- */

static bool send_forward(struct kith_node *node, struct node_entry *entry, uint64_t leader,
                         const char *address)
{
    struct kith_slice payload = kith_buf_slice(&entry->log.payload);
    if (!node_has_room(node, leader, payload.length))
        return false;
    payload.length -= NODE_TRAILER_BYTES;
    entry->state = NODE_SENT;
    entry->sent_term = kith_core_term(node->core);
    node->forwards.unsent = waiting_from(entry->next);
    node->status.forwarded++;
    node_send_entry(node, leader, address,
                    &(struct kith_frame){.kind = KITH_FRAME_FORWARD,
                                         .forward = {.number = entry->number, .payload = payload}},
                    entry);
    return true;
}

/* This node leads now: what waits is appended like any submit. What an older leader was handed comes first. */
static bool append_here(struct kith_node *node, struct node_entry *entry)
{
    if (node->forwards.head != entry)
        return false;
    take_head(node);
    int status = node_submit_entry(node, entry);
    if (status == KITH_OK)
        return true;
    struct node_forwards *f = &node->forwards; /* back to its place */
    entry->next = f->head;
    f->head = f->unsent = entry;
    if (!f->tail)
        f->tail = entry;
    f->bytes += entry->log.payload.length;
    return false;
}

/* After a refusal nothing is sent before all that was sent behind it is settled. */
static bool is_held(struct kith_node *node)
{
    struct node_forwards *f = &node->forwards;
    if (!f->held)
        return false;
    for (struct node_entry *entry = f->head; entry; entry = entry->next)
        if (entry->state == NODE_SENT)
            return true;
    f->held = false;
    return false;
}

void node_forward_flush(struct kith_node *node)
{
    struct node_forwards *f = &node->forwards;
    const char *address;
    bool more = true;
    if (!f->unsent || node->failure != KITH_OK || node->now_ms < f->not_before_ms || is_held(node))
        return;
    while (more && f->unsent && node->failure == KITH_OK) {
        uint64_t leader = kith_core_leader(node->core, &address);
        more = leader == node->id ? append_here(node, f->unsent)
                                  : leader && send_forward(node, f->unsent, leader, address);
    }
}

/* --- from a peer --- */

static int append_for(struct kith_node *node, uint64_t origin, uint64_t number, struct kith_slice payload)
{
    if (kith_core_get_role(node->core) != KITH_CORE_LEADER || node->waiting_bytes > bound_of(node) ||
        payload.length > KITH_RECORD_PAYLOAD_MAX - NODE_TRAILER_BYTES)
        return KITH_EAGAIN;
    struct node_entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return KITH_ENOMEM;
    struct kith_buf *to = &entry->log.payload;
    if (kith_buf_reserve(to, payload.length + NODE_TRAILER_BYTES)) {
        kith_buf_append(to, payload.data, payload.length);
        kith_buf_append_u64(to, origin);
        kith_buf_append_u64(to, number);
    }
    entry->log.kind = KITH_RECORD_COMMAND;
    atomic_init(&entry->log.references, 1);
    int status = to->failed ? KITH_ENOMEM : node_submit_entry(node, entry);
    if (status != KITH_OK)
        kith_log_entry_release(&entry->log);
    else
        node_notice_want(node, origin, kith_core_last_index(node->core));
    return status;
}

static void take_refusal(struct kith_node *node, uint64_t number)
{
    struct node_forwards *f = &node->forwards;
    struct node_entry *entry = f->head;
    while (entry && entry->number != number)
        entry = entry->next;
    if (!entry || entry->state != NODE_SENT)
        return;
    entry->state = NODE_WAITS;
    f->unsent = waiting_from(f->head);
    f->held = true;
    f->not_before_ms = node->now_ms + RETRY_MS;
}

void node_forward_receive(struct kith_node *node, uint64_t peer, const char *address,
                          const struct kith_frame *frame)
{
    if (frame->kind == KITH_FRAME_FORWARD_REFUSED) {
        take_refusal(node, frame->forward_refused.number);
        return;
    }
    uint64_t number = frame->forward.number;
    if (append_for(node, peer, number, frame->forward.payload) != KITH_OK && node->failure == KITH_OK)
        node_send(
            node, peer, address, KITH_LANE_MESSAGES,
            &(struct kith_frame){.kind = KITH_FRAME_FORWARD_REFUSED, .forward_refused = {.number = number}});
}

/* --- their end --- */

static void finish_head(struct kith_node *node)
{
    struct node_entry *entry = take_head(node);
    void (*done)(void *, int) = entry->done;
    void *context = entry->context;
    int status = entry->status;
    node->status.forwarded_unknown += status == KITH_EUNKNOWN;
    kith_log_entry_release(&entry->log);
    if (done)
        done(context, status);
}

bool node_forward_finish_one(struct kith_node *node)
{
    struct node_entry *head = node->forwards.head;
    if (!head || head->state != NODE_DECIDED || node->own_waiting)
        return false;
    finish_head(node);
    return true;
}

struct node_entry *node_forward_claim(struct kith_node *node, struct kith_slice trailer, uint64_t term)
{
    struct node_forwards *f = &node->forwards;
    if (!f->head)
        return NULL;
    uint64_t number = trailer.length ? kith_get_u64(trailer.data + 8) : 0;
    bool ours = trailer.length && kith_get_u64(trailer.data) == node->id &&
                number - f->head->number < f->next_number - f->head->number;
    for (struct node_entry *entry = f->head; entry && !(ours && entry->number == number);
         entry = entry->next) {
        bool lost = entry->state == NODE_SENT && entry->sent_term < term;
        if (ours || lost)
            decide(node, entry, entry->state == NODE_SENT ? KITH_EUNKNOWN : KITH_EAGAIN);
        else if (entry->state != NODE_DECIDED)
            break; /* those behind it were sent no earlier */
    }
    node->poll_now |= f->unsent != NULL;
    while (ours && f->head && f->head->number != number)
        finish_head(node);
    /* One that was decided meanwhile (its time was over) has had its answer, or waits for its turn to get it. */
    if (!ours || !f->head || f->head->number != number || f->head->state == NODE_DECIDED)
        return NULL;
    return take_head(node);
}

void node_forward_decide_all(struct kith_node *node, int sent, int waiting)
{
    for (struct node_entry *entry = node->forwards.head; entry; entry = entry->next)
        if (entry->state == NODE_SENT || waiting != KITH_OK)
            decide(node, entry, entry->state == NODE_SENT ? sent : waiting);
}

/* --- time --- */

static uint64_t due_of(const struct kith_node *node, const struct node_entry *entry)
{
    unsigned leader_wait = node->options.leader_wait_ms ? node->options.leader_wait_ms : LEADER_WAIT_MS;
    unsigned timeout = node->options.write_timeout_ms ? node->options.write_timeout_ms : WRITE_TIMEOUT_MS;
    return entry->since_ms + (entry->state == NODE_WAITS ? leader_wait : timeout);
}

/* The first entry of the log that was submitted here and is undecided. Alone, only the own disk is waited for, and its
 * failure is told. */
static struct node_entry *first_own(const struct kith_node *node, uint64_t *index)
{
    struct node_entry *entry = NULL;
    if (!node->own_waiting || !node->in_group)
        return NULL;
    if (*index <= node->applied_index)
        *index = node->applied_index + 1;
    while ((entry = node_window_get(&node->window, *index)) && !entry->done)
        ++*index;
    return entry;
}

void node_forward_take_time(struct kith_node *node)
{
    struct node_forwards *f = &node->forwards;
    struct node_entry *entry;
    while ((entry = first_own(node, &node->own_first)) && due_of(node, entry) <= node->now_ms) {
        void (*done)(void *, int) = entry->done;
        entry->done = NULL;
        entry->hooks = NULL;
        node->own_waiting--;
        done(entry->context, KITH_EUNKNOWN);
    }
    while (f->head && f->head->state != NODE_DECIDED && due_of(node, f->head) <= node->now_ms) {
        decide(node, f->head, f->head->state == NODE_SENT ? KITH_EUNKNOWN : KITH_EAGAIN);
        node_forward_finish_one(node);
    }
}

uint64_t node_forward_due_ms(const struct kith_node *node)
{
    const struct node_forwards *f = &node->forwards;
    uint64_t due = UINT64_MAX, index = node->own_first;
    const struct node_entry *own = first_own(node, &index);
    if (own)
        due = due_of(node, own);
    else if (f->head && f->head->state != NODE_DECIDED)
        due = due_of(node, f->head);
    if (f->unsent && node->leader && f->not_before_ms > node->now_ms && f->not_before_ms < due)
        due = f->not_before_ms;
    return due;
}
