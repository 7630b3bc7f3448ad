/* Between libraft's types and ours: statuses, configurations, messages. */
#include "base/varint.h"
#include "repl/core_internal.h"

int core_status(int rv)
{
    switch (rv) {
    case 0:
        return KITH_OK;
    case RAFT_NOMEM:
        return KITH_ENOMEM;
    case RAFT_NOTLEADER:
    case RAFT_LEADERSHIPLOST:
        return KITH_EAGAIN;
    case RAFT_CANTCHANGE:
    case RAFT_BUSY:
        return KITH_EBUSY;
    case RAFT_MALFORMED:
    case RAFT_CORRUPT:
    case RAFT_SHUTDOWN: /* a committed entry conflicts: never apply anything again */
        return KITH_ECORRUPT;
    case RAFT_NOSPACE:
        return KITH_ENOSPC;
    default:
        return KITH_EINVAL;
    }
}

/* libraft's decoder believes every length, and walks past the end. Its encoding: u8 1, u64 count, then for each member
 * u64 id, the address with its NUL, u8 role. */
bool core_is_configuration(struct kith_slice encoded)
{
    struct kith_reader r = kith_reader(encoded);
    bool good = kith_reader_u8(&r) == 1;
    uint64_t count = kith_reader_u64(&r);
    for (uint64_t i = 0; i < count && good && !r.failed; i++) {
        good = kith_reader_u64(&r) != 0;
        const char *end = r.length ? memchr(r.data, 0, r.length) : NULL;
        good = good && end;
        if (good)
            kith_reader_bytes(&r, (uint64_t)(end - r.data) + 1);
        good = good && kith_reader_u8(&r) <= KITH_CORE_SPARE;
    }
    return good && !r.failed;
}

int core_decode_configuration(struct raft_configuration *out, struct kith_slice encoded)
{
    struct raft_buffer buffer = {(void *)encoded.data, encoded.length};
    int rv = core_is_configuration(encoded) ? raft_configuration_decode(&buffer, out) : RAFT_MALFORMED;
    if (rv != 0)
        raft_configuration_init(out);
    return core_status(rv);
}

int kith_core_visit_configuration(struct kith_slice encoded,
                                  void (*visit)(void *context, uint64_t id, const char *address,
                                                enum kith_core_member_role role),
                                  void *context)
{
    struct raft_configuration configuration;
    int status = core_decode_configuration(&configuration, encoded);
    for (unsigned i = 0; i < configuration.n && status == KITH_OK; i++)
        visit(context, configuration.servers[i].id, configuration.servers[i].address,
              (enum kith_core_member_role)configuration.servers[i].role);
    raft_configuration_close(&configuration);
    return status;
}

int core_encode_configuration(struct kith_slice *out, const struct raft_configuration *configuration)
{
    struct raft_buffer buffer;
    int rv = raft_configuration_encode(configuration, &buffer);
    if (rv == 0)
        *out = kith_slice(buffer.base, buffer.len);
    return core_status(rv);
}

void core_convert_outgoing(struct kith_core_message *out, const struct raft_message *m, uint64_t term)
{
    *out = (struct kith_core_message){.kind = (enum kith_core_message_kind)m->type,
                                      .peer = m->server_id,
                                      .peer_address = m->server_address};
    switch (m->type) {
    case RAFT_APPEND_ENTRIES:
        out->version = m->append_entries.version;
        out->term = m->append_entries.term;
        out->append.previous_index = m->append_entries.prev_log_index;
        out->append.previous_term = m->append_entries.prev_log_term;
        out->append.commit_index = m->append_entries.leader_commit;
        out->append.count = m->append_entries.n_entries;
        break;
    case RAFT_APPEND_ENTRIES_RESULT:
        out->version = m->append_entries_result.version;
        out->term = m->append_entries_result.term;
        out->append_result.rejected = m->append_entries_result.rejected;
        out->append_result.last_index = m->append_entries_result.last_log_index;
        out->append_result.features = m->append_entries_result.features;
        out->append_result.capacity = m->append_entries_result.capacity;
        break;
    case RAFT_REQUEST_VOTE:
        out->version = m->request_vote.version;
        out->term = m->request_vote.term;
        out->vote.candidate = m->request_vote.candidate_id;
        out->vote.last_index = m->request_vote.last_log_index;
        out->vote.last_term = m->request_vote.last_log_term;
        out->vote.disrupt_leader = m->request_vote.disrupt_leader;
        out->vote.pre_vote = m->request_vote.pre_vote;
        break;
    case RAFT_REQUEST_VOTE_RESULT:
        out->version = m->request_vote_result.version;
        out->term = m->request_vote_result.term;
        out->vote_result.granted = m->request_vote_result.vote_granted;
        out->vote_result.pre_vote = m->request_vote_result.pre_vote;
        out->vote_result.features = m->request_vote_result.features;
        out->vote_result.capacity = m->request_vote_result.capacity;
        /* Guard: the core rejects a pre-vote with the asker's own term, so that after a leadership transfer
         * an old leader asks for ever and never learns the new term. */
        if (CORE_GUARDED(CORE_GUARD_PRE_VOTE_TERM) && out->vote_result.pre_vote &&
            !out->vote_result.granted && term > out->term)
            out->term = term;
        break;
    case RAFT_INSTALL_SNAPSHOT:
        out->version = m->install_snapshot.version;
        out->term = m->install_snapshot.term;
        out->install.index = m->install_snapshot.last_index;
        out->install.term = m->install_snapshot.last_term;
        out->install.configuration_index = m->install_snapshot.conf_index;
        break;
    case RAFT_TIMEOUT_NOW:
        out->version = m->timeout_now.version;
        out->term = m->timeout_now.term;
        out->timeout_now.last_index = m->timeout_now.last_log_index;
        out->timeout_now.last_term = m->timeout_now.last_log_term;
        break;
    }
}

void core_convert_incoming(struct raft_message *out, const struct kith_core_message *m)
{
    switch (m->kind) {
    case KITH_CORE_APPEND_RESULT:
        out->append_entries_result =
            (struct raft_append_entries_result){.version = m->version,
                                                .term = m->term,
                                                .rejected = m->append_result.rejected,
                                                .last_log_index = m->append_result.last_index,
                                                .features = m->append_result.features,
                                                .capacity = m->append_result.capacity};
        break;
    case KITH_CORE_VOTE:
        out->request_vote = (struct raft_request_vote){.version = m->version,
                                                       .term = m->term,
                                                       .candidate_id = m->vote.candidate,
                                                       .last_log_index = m->vote.last_index,
                                                       .last_log_term = m->vote.last_term,
                                                       .disrupt_leader = m->vote.disrupt_leader,
                                                       .pre_vote = m->vote.pre_vote};
        break;
    case KITH_CORE_VOTE_RESULT:
        out->request_vote_result = (struct raft_request_vote_result){.version = m->version,
                                                                     .term = m->term,
                                                                     .vote_granted = m->vote_result.granted,
                                                                     .pre_vote = m->vote_result.pre_vote,
                                                                     .features = m->vote_result.features,
                                                                     .capacity = m->vote_result.capacity};
        break;
    default:
        out->timeout_now = (struct raft_timeout_now){.version = m->version,
                                                     .term = m->term,
                                                     .last_log_index = m->timeout_now.last_index,
                                                     .last_log_term = m->timeout_now.last_term};
        break;
    }
}
