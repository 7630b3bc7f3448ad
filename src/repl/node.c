/* The node's public calls: what comes in from clients, peers and the clock goes to the core, and what the core asks for is
 * carried out in node_update.c. */
#include "repl/node.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/os.h"
#include "base/random.h"
#include "repl/node_internal.h"
#include "repl/node_members.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    TRIM_TERMS_EACH = 1 << 20, /* entries; in memory there is no checkpoint to do it */
    LOST_WAIT_MS = 5,          /* after a sign that the leader is gone: others have seen it, too, by then */
    LOST_TURN_MS = 30,         /* between two nodes that stand for election: longer than one takes */
};

static uint64_t clock_ms(const struct kith_node *node)
{
    return kith_clock_monotonic_ns(&node->options.clock) / 1000000;
}

static size_t waiting_entries(const struct kith_node *node)
{
    uint64_t last = node->window.next ? node->window.next - 1 : 0;
    return last > node->applied_index ? (size_t)(last - node->applied_index) : 0;
}

/* In memory nothing else makes the core forget old terms. */
static void trim_terms(struct kith_node *node)
{
    struct kith_core_update update;
    struct kith_core_snapshot snapshot = {.index = node->applied_index, .term = node->applied_term};
    if (node->log || node->applied_index < kith_core_snapshot_index(node->core) + TRIM_TERMS_EACH)
        return;
    if (kith_core_encode_configuration(node->core, &snapshot.configuration, &snapshot.configuration_index) !=
        KITH_OK)
        return; /* short of memory: later */
    if (kith_core_snapshot_taken(node->core, node->now_ms, &snapshot, 0, &update) ==
        KITH_OK) /* else: the same */
        node_carry_out(node, &update);
    free((void *)snapshot.configuration.data);
}

/* Of an entry that is appended where it was submitted: no origin, no number. */
static bool add_trailer(struct kith_buf *payload)
{
    char *room = kith_buf_reserve(payload, NODE_TRAILER_BYTES);
    if (!room) {
        payload->failed = false;
        return false;
    }
    memset(room, 0, NODE_TRAILER_BYTES);
    payload->length += NODE_TRAILER_BYTES;
    return true;
}

int kith_node_submit(struct kith_node *node, struct kith_buf *payload, const struct kith_apply_hooks *hooks,
                     void (*done)(void *context, int status), void *context)
{
    if (node->log && node->failure == KITH_OK && kith_log_failure(node->log, NULL) != KITH_OK)
        node_take_progress(node); /* what was synced before it failed gets its due */
    if (node->failure != KITH_OK)
        return node->failure;
    if (node->closing)
        return KITH_ECLOSED;
    if (payload->length > KITH_RECORD_PAYLOAD_MAX - NODE_TRAILER_BYTES)
        return KITH_ETOOBIG;
    struct node_entry *entry = malloc(sizeof *entry);
    if (!entry || !add_trailer(payload)) {
        free(entry);
        return KITH_ENOMEM;
    }
    *entry = (struct node_entry){
        .hooks = hooks, .done = done, .context = context, .since_ms = node->now_ms, .state = NODE_SENT};
    atomic_init(&entry->log.references, 1);
    entry->log.kind = KITH_RECORD_COMMAND;
    entry->log.payload = *payload;
    kith_buf_init(payload);
    /* Those that wait for a leader go first. */
    int status = node->forwards.head ? KITH_EAGAIN : node_submit_entry(node, entry);
    if (status == KITH_EAGAIN) {
        node_forward_add(node, entry);
        node_forward_flush(node);
        return KITH_OK;
    }
    if (status != KITH_OK) {
        *payload = entry->log.payload;
        payload->length -= NODE_TRAILER_BYTES;
        free(entry);
        return status;
    }
    if (!node->log || node->durability != KITH_DURABILITY_ALWAYS) {
        node_take_progress(node);
        trim_terms(node);
    }
    return KITH_OK;
}

static int take_frame(struct kith_node *node, uint64_t peer, const char *address, struct kith_frame *frame)
{
    if (node_members_receive(node, peer, address, frame))
        return KITH_OK;
    switch (frame->kind) {
    case KITH_CORE_APPEND:
    case KITH_CORE_APPEND_RESULT:
    case KITH_CORE_VOTE:
    case KITH_CORE_VOTE_RESULT:
    case KITH_CORE_TIMEOUT_NOW:
        frame->raft.peer = peer;
        frame->raft.peer_address = address;
        node_take_message(node, &frame->raft);
        return KITH_OK;
    case KITH_FRAME_FORWARD:
    case KITH_FRAME_FORWARD_REFUSED:
        node_forward_receive(node, peer, address, frame);
        return KITH_OK;
    case KITH_FRAME_PROBE:
    case KITH_FRAME_PROBE_RESULT:
    case KITH_FRAME_READ:
    case KITH_FRAME_READ_RESULT:
        node_read_receive(node, peer, address, frame);
        return KITH_OK;
    case KITH_CORE_INSTALL:
    case KITH_FRAME_STREAM_OFFER:
    case KITH_FRAME_STREAM_WANT:
    case KITH_FRAME_STREAM_DATA:
    case KITH_FRAME_STREAM_END:
        return node_stream_receive(node, peer, address, frame);
    default:
        return KITH_OK;
    }
}

int kith_node_receive(struct kith_node *node, uint64_t peer, const char *address, struct kith_slice bytes)
{
    struct kith_frame frame;
    if (node->failure != KITH_OK || node->closing)
        return KITH_OK;
    int status = kith_frame_decode(&frame, &node->room, bytes);
    if (status == KITH_ENOMEM)
        return KITH_OK; /* lost on its way */
    if (status != KITH_OK)
        return status;
    node->now_ms = clock_ms(node);
    node->bounded = true;
    status = take_frame(node, peer, address, &frame);
    node->bounded = false;
    node->poll_now |= node->forwards.unsent || node->reads.gathered.head || node->reads.known.head ||
                      node_stream_is_behind(node, peer);
    return status;
}

/* What is said again was true when it was said, and is for as long as this leader's term: as if the network had doubled
 * it. */
void kith_node_heard(struct kith_node *node, uint64_t peer)
{
    const char *address;
    if (node->failure != KITH_OK || node->closing || kith_core_get_role(node->core) != KITH_CORE_FOLLOWER ||
        kith_core_leader(node->core, &address) != peer)
        return;
    node->now_ms = clock_ms(node);
    kith_core_heard_leader(node->core, node->now_ms);
    if (node->agreed.kind && node->agreed.peer == peer && node->agreed.term == kith_core_term(node->core))
        node_send(node, peer, address, KITH_LANE_MESSAGES,
                  &(struct kith_frame){.kind = KITH_CORE_APPEND_RESULT, .raft = node->agreed});
}

/* Its place among the voters that stay, another one in each term. */
static unsigned turn_of(const struct kith_node *node, uint64_t gone)
{
    struct kith_core_member member;
    unsigned before = 0, count = 0;
    for (size_t i = 0; i < kith_core_member_count(node->core); i++) {
        kith_core_get_member(node->core, i, &member);
        if (member.role != KITH_CORE_VOTER || member.id == gone)
            continue;
        count++;
        before += member.id < node->id;
    }
    return count ? (unsigned)((before + kith_core_term(node->core)) % count) : 0;
}

/* One after the other: two that stand at one moment take each other's votes. Who still believes in the leader says no, so
 * it is the first with a majority of disbelievers behind it who leads: the second of two, the third of four. */
void kith_node_lost(struct kith_node *node, uint64_t peer)
{
    const char *address;
    if (node->failure != KITH_OK || node->closing || kith_core_leader(node->core, &address) != peer)
        return;
    node->now_ms = clock_ms(node);
    kith_core_lost_leader(node->core, node->now_ms, LOST_WAIT_MS + turn_of(node, peer) * LOST_TURN_MS);
}

void kith_node_poll(struct kith_node *node)
{
    node->now_ms = clock_ms(node);
    node->poll_now = node->cut = false;
    node->bounded = true;
    node_take_progress(node);
    node_take_time(node);
    node_members_poll(node);
    node_stream_poll(node);
    node_backup_poll(node);
    node_forward_take_time(node);
    node_forward_flush(node);
    node_read_poll(node);
    node_lag_note(node);
    node->bounded = false;
    trim_terms(node);
    if (node->log) {
        node_checkpoint_advance(node);
        node_checkpoint_start_when_due(node);
    }
}

int64_t kith_node_timeout_ms(const struct kith_node *node)
{
    if (node->poll_now || node_checkpoint_is_ready(node) || node_checkpoint_is_due(node))
        return 0;
    if (node->failure != KITH_OK)
        return -1;
    uint64_t at = node->removed ? UINT64_MAX : kith_core_timeout_at(node->core);
    if (at < node->core_not_before_ms)
        at = node->core_not_before_ms;
    uint64_t members_at = node_members_due_ms(node), forward_at = node_forward_due_ms(node);
    uint64_t streams_at = node_stream_due_ms(node), backup_at = node_backup_due_ms(node);
    if (at > streams_at)
        at = streams_at;
    if (at > backup_at)
        at = backup_at;
    if (at > members_at)
        at = members_at;
    if (at > forward_at)
        at = forward_at;
    if (at > node_read_due_ms(node))
        at = node_read_due_ms(node);
    if (at == UINT64_MAX)
        return -1;
    uint64_t now = clock_ms(node);
    return at > now ? (int64_t)(at - now) : 0;
}

enum kith_core_role kith_node_role(const struct kith_node *node)
{
    return node->failure == KITH_OK ? kith_core_get_role(node->core) : KITH_CORE_FOLLOWER;
}

uint64_t kith_node_leader(const struct kith_node *node, const char **address)
{
    *address = "";
    return node->failure == KITH_OK ? kith_core_leader(node->core, address) : 0;
}

uint64_t kith_node_id(const struct kith_node *node)
{
    return node->id;
}

uint64_t kith_node_group_id(const struct kith_node *node)
{
    return node->store ? kith_store_get_found(node->store)->state.folder_id : 0;
}

/* --- opening and closing --- */

static void node_free(struct kith_node *node)
{
    while (node->forwards.head) {
        struct node_entry *entry = node->forwards.head;
        node->forwards.head = entry->next;
        kith_log_entry_release(&entry->log);
    }
    node_window_close(&node->window);
    node_stream_close(node);
    node_backup_close(node);
    node_members_close(node);
    free(node->prepared.at);
    free(node->append_entries);
    kith_frame_room_close(&node->room);
    (void)kith_log_close(node->log); /* after a failed open, or already closed: nothing was promised */
    kith_pool_close(node->keeper);
    kith_core_close(node->core);
    kith_store_close(node->store);
    free((char *)node->options.dir);
    free(node);
}

/* Another one at each start, also of a simulated node. */
static uint64_t random_number(const struct kith_node *node)
{
    struct kith_rng rng;
    uint64_t seed = node->options.seed;
    if (!seed)
        kith_os_random(&seed, sizeof seed);
    kith_rng_seed(&rng, seed ^ kith_clock_monotonic_ns(&node->options.clock));
    return kith_rng_next(&rng);
}

int kith_node_open(struct kith_node **out, const struct kith_node_options *options, struct kith_error *error)
{
    struct kith_node *node = calloc(1, sizeof *node);
    if (!node)
        return kith_error_set(error, KITH_ENOMEM, "out of memory");
    bool in_memory = !options->dir || !*options->dir;
    uint64_t began_ns = kith_clock_monotonic_ns(&options->clock);
    node->options = *options;
    node->options.dir = in_memory ? NULL : strdup(options->dir);
    if (!node->options.fs)
        node->options.fs = kith_fs_posix();
    node->machine = options->machine;
    node->durability = options->durability;
    node->forwards.next_number = random_number(node);
    node->status.in_memory = in_memory;
    node->status.last_save_ms = kith_clock_wall_ms(&options->clock);
    node->status.checkpoint_took_ms = -1;
    node->now_ms = clock_ms(node);
    int status =
        in_memory || node->options.dir ? KITH_OK : kith_error_set(error, KITH_ENOMEM, "out of memory");
    if (status == KITH_OK && !in_memory) {
        status = kith_pool_open(&node->keeper, !options->manual, options->wake, options->wake_context);
        if (status != KITH_OK)
            kith_error_set(error, status, "no thread for checkpoints: %s", kith_status_text(status));
    }
    if (status == KITH_OK)
        status = in_memory ? node_open_in_memory(node, error) : node_open_folder(node, error);
    if (status == KITH_OK && (status = node_members_open(node)) != KITH_OK)
        kith_error_set(error, status, "out of memory");
    if (status != KITH_OK) {
        node_free(node);
        return status;
    }
    node->status.recovery.took_ms =
        (int64_t)((kith_clock_monotonic_ns(&options->clock) - began_ns) / 1000000);
    *out = node;
    return KITH_OK;
}

bool kith_node_run(struct kith_node *node, enum kith_node_part part)
{
    if (!node->log)
        return false;
    return part == KITH_NODE_LOG ? kith_log_run(node->log)
                                 : kith_pool_run(node->keeper) || node_stream_run(node);
}

/* --- closing and the small rest --- */

void kith_node_skip_final_checkpoint(struct kith_node *node)
{
    node->options.no_final_checkpoint = true;
}

/* Alone, everything will be committed once it is on the disk. Otherwise only what already is: nobody can be waited for. */
static void finish_waiting(struct kith_node *node)
{
    do { /* a done may submit more */
        if (node->log)
            (void)kith_log_flush(node->log); /* its failure is found by the poll */
        kith_node_poll(node);
    } while (waiting_entries(node) && !node->in_group && node->failure == KITH_OK);
    node->closing = true;
    node_advance(node);
    node_read_close(node);
}

int kith_node_close(struct kith_node *node)
{
    if (!node)
        return KITH_OK;
    int status = KITH_OK;
    finish_waiting(node);
    if (node->log) {
        node_checkpoint_complete(node);
        bool news = node->applied_index > node->status.checkpoint_index && node->entries_since > 0 &&
                    !node_stream_is_loading(node);
        node_stream_close(node);
        if (news && !node->options.no_final_checkpoint && node_checkpoint_start(node, NULL, NULL) == KITH_OK)
            node_checkpoint_complete(node);
        while (node->keeper_tasks)
            kith_pool_wait(node->keeper);
        status = kith_log_close(node->log);
        node->log = NULL;
    }
    if (node->failure != KITH_OK)
        status = node->failure;
    node_free(node);
    return status;
}

int kith_node_checkpoint(struct kith_node *node, void (*done)(void *context, int status), void *context)
{
    int status = node_checkpoint_start(node, done, context);
    node->poll_now |= status == KITH_OK;
    return status;
}

void kith_node_set_durability(struct kith_node *node, enum kith_durability durability)
{
    if (node->log && durability != node->durability)
        kith_log_set_sync(node->log, node_sync_of(durability));
    node->durability = durability;
    node->poll_now = true;
}

const char *kith_node_error(const struct kith_node *node)
{
    return node->failure == KITH_OK ? "" : node->failure_text.text;
}

bool kith_node_is_behind(const struct kith_node *node)
{
    return node->log && kith_log_is_behind(node->log);
}

void kith_node_get_status(const struct kith_node *node, struct kith_node_status *out)
{
    *out = node->status;
    out->durability = node->durability;
    out->term = kith_core_term(node->core);
    out->last_index = out->synced_index = kith_core_last_index(node->core);
    out->commit_index = kith_core_commit_index(node->core);
    out->applied_index = node->applied_index;
    out->waiting_entries = waiting_entries(node);
    out->waiting_bytes = node->waiting_bytes;
    out->log_bytes = node->log_bytes_since;
    out->error = kith_node_error(node);
    out->role = kith_node_role(node);
    out->leader_id = node->failure == KITH_OK ? node->leader : 0;
    if (node->log) {
        struct kith_log_progress progress;
        kith_log_progress(node->log, &progress);
        out->synced_index = progress.synced;
        out->waiting_entries = progress.waiting_entries;
        out->waiting_bytes = progress.waiting_bytes;
        out->groups_written = progress.groups;
        out->syncs = progress.syncs;
        out->bytes_written = progress.bytes;
    }
}
