/* The raft core: libraft's raft_step() behind our own events and updates, without any I/O.
 *
 *     event (start, submit, persisted, message, timeout, snapshot) -> core -> update (what the driver must
 * now do)
 *
 * The driver owns disk and network: it carries out each update before it brings the next event, in this
 * order: save term and vote (synced), truncate, append, send, apply up to commit_index. What libraft 0.22.1
 * gets wrong is caught here; each guard names the fault that simulation found without it. Ready for any
 * number of nodes. */
#ifndef KITH_REPL_CORE_H
#define KITH_REPL_CORE_H

#include "base/slice.h"
#include "base/status.h"

#include <stdint.h>

struct kith_core;

/* On disk and on the wire: never renumber. */
enum kith_entry_kind { KITH_ENTRY_COMMAND = 1, KITH_ENTRY_BARRIER = 2, KITH_ENTRY_CONFIGURATION = 3 };

struct kith_core_entry {
    uint64_t term;
    enum kith_entry_kind kind;
    struct kith_slice payload; /* borrowed */
};

enum kith_core_role { KITH_CORE_FOLLOWER, KITH_CORE_CANDIDATE, KITH_CORE_LEADER };
enum kith_core_member_role { KITH_CORE_STANDBY, KITH_CORE_VOTER, KITH_CORE_SPARE };

/* The state machine up to an index, as raft sees it. */
struct kith_core_snapshot {
    uint64_t index, term, configuration_index;
    struct kith_slice configuration; /* encoded; borrowed */
};

enum kith_core_message_kind {
    KITH_CORE_APPEND = 1,
    KITH_CORE_APPEND_RESULT,
    KITH_CORE_VOTE,
    KITH_CORE_VOTE_RESULT,
    KITH_CORE_INSTALL,
    KITH_CORE_TIMEOUT_NOW,
};

struct kith_core_message {
    enum kith_core_message_kind kind;
    uint8_t version;
    uint64_t peer;            /* to whom, or from whom */
    const char *peer_address; /* borrowed */
    uint64_t term;
    union {
        struct {
            uint64_t previous_index, previous_term, commit_index;
            uint32_t count;
            /* Coming in: the entries. Going out: NULL; the driver reads entries previous_index + 1 and
             * following from its log. */
            const struct kith_core_entry *entries;
        } append;
        struct {
            uint64_t rejected, last_index;
            uint16_t features, capacity;
        } append_result;
        struct {
            uint64_t candidate, last_index, last_term;
            bool disrupt_leader, pre_vote;
        } vote;
        struct {
            bool granted, pre_vote;
            uint16_t features, capacity;
        } vote_result;
        /* Going out: only index and term count; the driver sends the newest checkpoint it has (at least that
         * one) and says so here. Coming in: handed to the core once the checkpoint's files are complete and
         * checked. */
        struct kith_core_snapshot install;
        struct {
            uint64_t last_index, last_term;
        } timeout_now;
    };
};

/* What an event asks of the driver. All pointers are borrowed and live until the next event. */
struct kith_core_update {
    bool save_state; /* term and voted_for changed: on the disk before any message leaves */
    uint64_t term, voted_for;
    uint64_t
        truncate_from; /* entries from here on are void; 0: none. Counts towards `truncations` of persisted */
    uint64_t first_index; /* of entries[0], to be appended; the payloads of a submit are the caller's own */
    const struct kith_core_entry *entries;
    size_t entry_count;
    const struct kith_core_message *messages;
    size_t message_count;
    const struct kith_core_snapshot *install; /* drop the log and take this state; then kith_core_installed */
    uint64_t commit_index;
    enum kith_core_role role;
    bool role_changed;
    bool
        more; /* the event is not used up: carry this update out but for applying, then kith_core_continue, before any
                  other event */
};

struct kith_core_options {
    uint64_t node_id;
    const char *address;                            /* copied */
    unsigned seed;                                  /* of election timeouts */
    unsigned election_ms, heartbeat_ms, install_ms; /* 0: 300, 50, 10000 */
    unsigned inflight_entries;                      /* 0: 1,024 */
};

int kith_core_open(struct kith_core **out, const struct kith_core_options *options);
void kith_core_close(struct kith_core *core);

/* A configuration of one voter, encoded to a malloc'ed slice. */
int kith_core_encode_single(struct kith_slice *out, uint64_t node_id, const char *address);

/* Calls visit for each member of an encoded configuration. KITH_ECORRUPT, KITH_ENOMEM. */
int kith_core_visit_configuration(struct kith_slice encoded,
                                  void (*visit)(void *context, uint64_t id, const char *address,
                                                enum kith_core_member_role role),
                                  void *context);

/* Before start: the entries read back from the log, in order, from start.first_index on. Only a
 * configuration's payload is kept (copied). truncate keeps the first `count`. */
int kith_core_load_entry(struct kith_core *core, uint64_t term, enum kith_entry_kind kind,
                         struct kith_slice payload);
void kith_core_load_truncate(struct kith_core *core, uint64_t count);
/* The term of the i-th loaded entry; valid until start. */
uint64_t kith_core_loaded_term(const struct kith_core *core, uint64_t i);
uint64_t kith_core_loaded_count(const struct kith_core *core);

struct kith_core_start {
    uint64_t term, voted_for;
    uint64_t committed;                        /* entries up to here are known to be; 0: none is */
    const struct kith_core_snapshot *snapshot; /* NULL: none */
    uint64_t first_index;                      /* of the loaded entries; snapshot->index + 1, or 1 */
};

/* All events: now_ms is any clock that does not go back. 0, or KITH_ENOMEM, KITH_ECORRUPT (an entry's
 * content), KITH_EAGAIN (not the leader: submit, transfer), KITH_EBUSY (a configuration change is under way),
 * KITH_EINVAL; *update is to be carried out only on 0.
 *
 * A group of one voter elects itself in start; its term counts up at each start, so that an entry which the
 * last run lost is never taken for one of this run. */
int kith_core_start(struct kith_core *core, uint64_t now_ms, const struct kith_core_start *start,
                    struct kith_core_update *update);
/* The entries' terms are filled in. `entries` is borrowed until the update was carried out. */
int kith_core_submit(struct kith_core *core, uint64_t now_ms, struct kith_core_entry *entries, size_t count,
                     struct kith_core_update *update);
/* All entries up to `index` are on the disk, in the log after `truncations` truncations of this run. What a
 * later truncation or installation has overtaken is ignored. */
int kith_core_persisted(struct kith_core *core, uint64_t now_ms, uint64_t index, uint64_t truncations,
                        struct kith_core_update *update);
int kith_core_receive(struct kith_core *core, uint64_t now_ms, const struct kith_core_message *message,
                      struct kith_core_update *update);
/* The leader is there, by other signs than a message: an election is as far away as after a heartbeat. Not between an
 * event and the end of its update. */
void kith_core_heard_leader(struct kith_core *core, uint64_t now_ms);
/* There is a sign that the leader is gone: stand for election after wait_ms, unless it is heard again. A wrong sign costs a
 * question: whoever still hears the leader says no (pre-vote). Not between an event and the end of its update. */
void kith_core_lost_leader(struct kith_core *core, uint64_t now_ms, unsigned wait_ms);
/* After an update with `more`; the message handed to receive must still be there. */
int kith_core_continue(struct kith_core *core, struct kith_core_update *update);
int kith_core_timeout(struct kith_core *core, uint64_t now_ms, struct kith_core_update *update);
/* A checkpoint of our own is complete; the log may drop entries up to index - trailing. */
int kith_core_snapshot_taken(struct kith_core *core, uint64_t now_ms,
                             const struct kith_core_snapshot *snapshot, unsigned trailing,
                             struct kith_core_update *update);
/* The snapshot of update.install is in place. */
int kith_core_installed(struct kith_core *core, uint64_t now_ms, struct kith_core_update *update);
/* The driver has applied the configuration entry at `index`. */
int kith_core_configuration_applied(struct kith_core *core, uint64_t now_ms, uint64_t index,
                                    struct kith_slice configuration, struct kith_core_update *update);
/* Hands leadership to `node_id`, or with 0 to whoever is ready. */
int kith_core_transfer(struct kith_core *core, uint64_t now_ms, uint64_t node_id,
                       struct kith_core_update *update);

uint64_t kith_core_term(const struct kith_core *core);
uint64_t kith_core_last_index(const struct kith_core *core);
uint64_t kith_core_commit_index(const struct kith_core *core);
uint64_t kith_core_snapshot_index(const struct kith_core *core);
enum kith_core_role kith_core_get_role(const struct kith_core *core);
/* When kith_core_timeout is due next, on the events' clock; UINT64_MAX: never (the only voter waits for
 * nobody). */
uint64_t kith_core_timeout_at(const struct kith_core *core);
/* The index of the committed configuration. After a start it may be beyond what is applied: of two changes in the log
 * the first is known to be committed. */
uint64_t kith_core_committed_configuration(const struct kith_core *core);
/* The committed configuration and its index, encoded anew; *out is malloc'ed. */
int kith_core_encode_configuration(const struct kith_core *core, struct kith_slice *out, uint64_t *index);

#endif
