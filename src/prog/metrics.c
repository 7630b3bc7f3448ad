/* GET /metrics: what INFO shows and a graph is worth, in Prometheus's text format (version 0.0.4). Names end in their base
 * unit, totals in _total; names and values of keys are in none of it. One function a part, in the order of INFO's
 * sections. */
#include "base/os.h"
#include "prog/watch.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct metrics {
    struct app *app;
    struct kith_buf *out;
    struct kith_server_stats net;
    struct kith_node_status node;
    struct kith_engine_counts engine;
    struct kith_node_member *members;
    size_t member_count;
};

/* --- the format --- */

static void family(struct metrics *m, const char *name, const char *type, const char *help)
{
    kith_buf_append_format(m->out, "# HELP kith_%s %s\n# TYPE kith_%s %s\n", name, help, name, type);
}

static void gauge(struct metrics *m, const char *name, const char *help, uint64_t value)
{
    family(m, name, "gauge", help);
    kith_buf_append_format(m->out, "kith_%s %" PRIu64 "\n", name, value);
}

static void counter(struct metrics *m, const char *name, const char *help, uint64_t value)
{
    family(m, name, "counter", help);
    kith_buf_append_format(m->out, "kith_%s %" PRIu64 "\n", name, value);
}

/* Thousandths of what the name says: milliseconds of a name in seconds. */
static void gauge_milli(struct metrics *m, const char *name, const char *help, int64_t milli)
{
    family(m, name, "gauge", help);
    kith_buf_append_format(m->out, "kith_%s %.3f\n", name, (double)milli / 1e3);
}

/* Within quotes. */
static void label_value(struct metrics *m, const char *text)
{
    for (; *text; text++)
        if (*text == '\n')
            kith_buf_append_text(m->out, "\\n");
        else {
            if (*text == '"' || *text == '\\')
                kith_buf_append_char(m->out, '\\');
            kith_buf_append_char(m->out, *text);
        }
}

static void label(struct metrics *m, const char *before, const char *name, const char *value)
{
    kith_buf_append_format(m->out, "%s%s=\"", before, name);
    label_value(m, value);
    kith_buf_append_char(m->out, '"');
}

/* name{label="value"}, in front of a number. */
static void series(struct metrics *m, const char *name, const char *label_name, const char *value)
{
    kith_buf_append_format(m->out, "kith_%s", name);
    label(m, "{", label_name, value);
    kith_buf_append_text(m->out, "} ");
}

static void labelled(struct metrics *m, const char *name, const char *label_name, const char *value,
                     uint64_t number)
{
    series(m, name, label_name, value);
    kith_buf_append_format(m->out, "%" PRIu64 "\n", number);
}

/* --- the process --- */

static void process_part(struct metrics *m)
{
    double user, system;
    struct app_memory memory = app_get_memory(m->app);
    kith_os_cpu_seconds(&user, &system);
    family(m, "build_info", "gauge", "1, with the version of the program.");
    labelled(m, "build_info", "version", KITHD_VERSION, 1);
    gauge_milli(m, "start_time_seconds", "When the process started, since 1970.", m->app->started_ms);
    family(m, "cpu_seconds_total", "counter", "CPU time used.");
    series(m, "cpu_seconds_total", "mode", "user");
    kith_buf_append_format(m->out, "%.6f\n", user);
    series(m, "cpu_seconds_total", "mode", "system");
    kith_buf_append_format(m->out, "%.6f\n", system);
    gauge(m, "memory_used_bytes", "Memory that the allocator and the vector indexes hold.", memory.used);
    gauge(m, "memory_resident_bytes", "Resident memory of the process.", memory.resident);
    gauge(m, "memory_vector_pages_bytes", "Pages of the vector indexes, part of memory_used_bytes.",
          memory.vectors);
    struct kith_error ignored;
    gauge(m, "healthy", "1 when the log can be written, as GET /health.", app_is_healthy(m->app, &ignored));
    gauge(m, "ready", "1 when reads and writes are served, as GET /ready.", app_is_ready(m->app, &ignored));
}

/* --- clients and commands --- */

static void clients_part(struct metrics *m)
{
    const struct kith_server_stats *net = &m->net;
    gauge(m, "clients", "Connections of clients.", net->clients);
    gauge(m, "clients_max", "Connections that are served at once.", (uint64_t)m->app->config.client_max);
    gauge(m, "clients_blocked", "Connections that wait for what they sent before.", net->clients_blocked);
    gauge(m, "client_query_buffer_bytes", "Unfinished requests.", net->query_bytes);
    gauge(m, "client_output_buffer_bytes", "Replies that clients have not read.", net->output_bytes_waiting);
    counter(m, "connections_received_total", "Connections accepted.", net->connections_received);
    family(m, "connections_refused_total", "counter", "Connections closed at once.");
    labelled(m, "connections_refused_total", "reason", "maxclients", net->connections_rejected);
    labelled(m, "connections_refused_total", "reason", "protected-mode", net->connections_denied);
    family(m, "clients_ended_total", "counter", "Connections that a limit ended.");
    labelled(m, "clients_ended_total", "limit", "client-query-buffer-limit", net->query_limit_closed);
    labelled(m, "clients_ended_total", "limit", "client-output-buffer-limit", net->output_limit_closed);
    labelled(m, "clients_ended_total", "limit", "timeout", net->timeout_closed);
    counter(m, "protocol_errors_total", "Requests that were none.", net->protocol_errors);
    counter(m, "auth_failures_total", "Wrong passwords.", net->auth_failed);
    counter(m, "net_input_bytes_total", "Received from clients.", net->input_bytes);
    counter(m, "net_output_bytes_total", "Sent to clients.", net->output_bytes);
}

static void one_calls(void *context, const char *name, uint64_t calls, uint64_t rejected, uint64_t failed)
{
    labelled(context, "commands_total", "command", name, calls);
}

static void one_rejected(void *context, const char *name, uint64_t calls, uint64_t rejected, uint64_t failed)
{
    labelled(context, "commands_rejected_total", "command", name, rejected);
}

static void one_failed(void *context, const char *name, uint64_t calls, uint64_t rejected, uint64_t failed)
{
    labelled(context, "commands_failed_total", "command", name, failed);
}

static void one_error(void *context, const char *code, uint64_t count)
{
    labelled(context, "errors_total", "code", code, count);
}

static void commands_part(struct metrics *m)
{
    const struct kith_server_stats *net = &m->net;
    counter(m, "commands_processed_total", "Commands, all together.", net->commands_processed);
    family(m, "commands_total", "counter", "Calls of each command.");
    kith_server_each_command(m->app->server, one_calls, m);
    family(m, "commands_rejected_total", "counter", "Commands refused before they ran.");
    kith_server_each_command(m->app->server, one_rejected, m);
    family(m, "commands_failed_total", "counter", "Commands that ended in an error.");
    kith_server_each_command(m->app->server, one_failed, m);
    counter(m, "error_replies_total", "Error replies, all together.", net->error_replies);
    family(m, "errors_total", "counter", "Error replies by their first word.");
    kith_server_each_error(m->app->server, one_error, m);
    counter(m, "entries_submitted_total", "Entries given to the log.", net->entries_submitted);
    counter(m, "writes_submitted_total", "Writes in those entries.", net->writes_submitted);
    counter(m, "expiry_ticks_total", "Entries that only let keys expire.", net->ticks_submitted);
    counter(m, "reads_on_workers_total", "Searches handed to worker threads.", net->reads_deferred);
    counter(m, "searches_at_once_total", "Short searches run on the keyspace thread.", net->searches_at_once);
    counter(m, "writers_held_back_total", "Reads of a client delayed because linking was behind.",
            net->held_back);
    counter(m, "turns_ended_total", "Times that a client had sent more than one pass takes of it.",
            net->turns_ended);
    counter(m, "loop_passes_total", "Rounds of the loop that serves everything.", net->passes);
    family(m, "loop_busy_seconds_total", "counter", "Time that the loop did not sleep.");
    kith_buf_append_format(m->out, "kith_loop_busy_seconds_total %.6f\n", (double)net->busy_us / 1e6);
    family(m, "loop_longest_pass_seconds", "gauge", "The longest pause that clients have seen.");
    kith_buf_append_format(m->out, "kith_loop_longest_pass_seconds %.6f\n",
                           (double)net->longest_pass_us / 1e6);
}

/* --- data --- */

static void keys_part(struct metrics *m)
{
    size_t keys, expiring;
    char number[16];
    counter(m, "keyspace_hits_total", "Keys looked for and found.", m->engine.hits);
    counter(m, "keyspace_misses_total", "Keys looked for and not found.", m->engine.misses);
    counter(m, "keys_expired_total", "Keys removed because their time was over.", m->engine.expired);
    for (int pass = 0; pass < 2; pass++) {
        const char *name = pass ? "keys_expiring" : "keys";
        family(m, name, "gauge",
               pass ? "Keys with a time to live, by database."
                    : "Keys, by database: of those that have any.");
        for (uint32_t db = 0; kith_engine_get_keys(m->app->engine, db, &keys, &expiring); db++) {
            snprintf(number, sizeof number, "%" PRIu32, db);
            if (keys || !db)
                labelled(m, name, "db", number, pass ? expiring : keys);
        }
    }
}

static void vectors_part(struct metrics *m)
{
    const struct kith_engine_counts *engine = &m->engine;
    gauge(m, "vector_sets", "Vector sets.", engine->vector_sets);
    gauge(m, "vector_elements", "Elements of all vector sets.", engine->vector_elements);
    gauge(m, "vector_bytes", "Memory of all vector sets.", engine->vector_bytes);
    gauge(m, "vectors_unlinked", "Elements that wait to be linked into their graph.",
          engine->vectors_unlinked);
    gauge(m, "vectors_deleted_awaiting_repair", "Removed elements that the graph still leads through.",
          engine->vectors_deleted);
    gauge(m, "vector_sets_with_work", "Sets with links or repairs that are due.",
          engine->vector_sets_pending);
    gauge(m, "vector_sets_crowded", "Sets with so many unlinked elements that writers wait.",
          engine->vector_sets_crowded);
    gauge(m, "vector_tasks_running", "Tasks of worker threads that link.", engine->vector_tasks);
    gauge(m, "vectors_linked_since_checkpoint", "Links that a restart would have to make again.",
          engine->links_unsaved);
    gauge_milli(m, "vector_writers_held_seconds", "How long a writer is held back now.",
                (int64_t)engine->writers_held_ms);
}

/* --- the log --- */

static void durability_part(struct metrics *m)
{
    static const char *const durabilities[] = {"always", "everysec", "none"};
    family(m, "durability", "gauge", "1 for what is set.");
    for (size_t i = 0; i < sizeof durabilities / sizeof durabilities[0]; i++)
        labelled(m, "durability", "mode", durabilities[i],
                 !m->node.in_memory && (size_t)m->node.durability == i);
    labelled(m, "durability", "mode", "memory-only", m->node.in_memory);
}

static void log_part(struct metrics *m)
{
    const struct kith_node_status *node = &m->node;
    durability_part(m);
    gauge(m, "log_last_index", "The newest entry of the log.", node->last_index);
    gauge(m, "log_commit_index", "The newest entry that is committed, as known here.", node->commit_index);
    gauge(m, "log_applied_index", "The newest entry that is in the data.", node->applied_index);
    gauge(m, "log_synced_index", "The newest entry that is on the disk.", node->synced_index);
    gauge(m, "log_waiting_entries", "Entries that wait for the disk.", node->waiting_entries);
    gauge(m, "log_waiting_bytes", "Bytes that wait for the disk.", node->waiting_bytes);
    gauge(m, "log_bytes_since_checkpoint", "Log that a start would replay.", node->log_bytes);
    counter(m, "log_written_bytes_total", "Written to the log.", node->bytes_written);
    counter(m, "log_groups_written_total", "Groups of entries that were written together.",
            node->groups_written);
    counter(m, "log_syncs_total", "Syncs of the log.", node->syncs);
}

static void checkpoint_part(struct metrics *m)
{
    const struct kith_node_status *node = &m->node;
    gauge(m, "checkpoint_running", "1 while a checkpoint is made.", node->checkpoint_running);
    gauge(m, "checkpoint_failed", "1 when the last checkpoint failed.", node->last_checkpoint_status != 0);
    counter(m, "checkpoints_total", "Checkpoints made.", node->checkpoints_done);
    counter(m, "checkpoints_after_linking_total", "Checkpoints made because links were worth saving.",
            m->net.checkpoints_after_linking);
    gauge(m, "checkpoint_last_index", "The last entry that the newest checkpoint covers.",
          node->checkpoint_index);
    gauge(m, "checkpoint_last_bytes", "Size of the newest checkpoint.", node->checkpoint_file_bytes);
    gauge_milli(m, "checkpoint_last_duration_seconds", "How long the last one took; 0: none yet.",
                node->checkpoint_took_ms < 0 ? 0 : node->checkpoint_took_ms);
    gauge_milli(m, "checkpoint_last_time_seconds", "When the newest was made, since 1970.",
                node->last_save_ms);
    gauge_milli(m, "recovery_seconds", "How long the start took to read the folder.", node->recovery.took_ms);
    gauge(m, "recovery_entries", "Entries of the log that the start replayed.", node->recovery.entries);
}

/* --- the group --- */

static void raft_part(struct metrics *m)
{
    const struct kith_node_status *node = &m->node;
    static const struct {
        enum kith_core_role role;
        const char *name;
    } roles[] = {
        {KITH_CORE_FOLLOWER, "follower"}, {KITH_CORE_CANDIDATE, "candidate"}, {KITH_CORE_LEADER, "leader"}};
    int64_t lag_ms = kith_node_lag_ms(m->app->node);
    family(m, "raft_role", "gauge", "1 for the role that this node has.");
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        labelled(m, "raft_role", "role", roles[i].name, node->role == roles[i].role);
    gauge(m, "raft_term", "The term.", node->term);
    gauge(m, "raft_leader_known", "1 when there is a leader, as far as this node knows.",
          node->leader_id != 0);
    gauge(m, "group_members", "Members of the group.", m->member_count);
    counter(m, "elections_total", "Elections that this node began.", node->elections);
    counter(m, "leader_changes_total", "New leaders that this node saw.", node->leader_changes);
    family(m, "lag_seconds", "gauge", "How old this node's data may be; NaN: not known.");
    if (lag_ms < 0)
        kith_buf_append_text(m->out, "kith_lag_seconds NaN\n");
    else
        kith_buf_append_format(m->out, "kith_lag_seconds %.3f\n", (double)lag_ms / 1e3);
    counter(m, "forwarded_writes_total", "Writes handed to the leader.", node->forwarded);
    counter(m, "forwarded_unknown_total", "Of them, those whose outcome was never learned.",
            node->forwarded_unknown);
    counter(m, "linearizable_reads_total", "Reads that asked the group.", node->reads);
    counter(m, "read_probes_total", "Questions that were sent for them.", node->probes);
    counter(m, "streams_sent_total", "Whole checkpoints sent to members.", node->streams_sent);
    counter(m, "streams_received_total", "Whole checkpoints received.", node->streams_received);
    counter(m, "stream_sent_bytes_total", "Bytes of checkpoints sent.", node->stream_bytes_sent);
    counter(m, "stream_received_bytes_total", "Bytes of checkpoints received.", node->stream_bytes_received);
}

/* --- members: one family a figure, one series a member --- */

enum whom { ALL, OTHERS, FOLLOWERS };

static bool is_meant(const struct metrics *m, const struct kith_node_member *member, enum whom whom)
{
    if (whom == FOLLOWERS)
        return m->node.role == KITH_CORE_LEADER && !member->self && member->role != KITH_CORE_SPARE;
    return whom == ALL || !member->self;
}

/* NaN: not known. */
static void of_members(struct metrics *m, const char *name, const char *type, const char *help,
                       enum whom whom,
                       double (*value)(const struct metrics *, const struct kith_node_member *))
{
    family(m, name, type, help);
    for (size_t i = 0; i < m->member_count; i++) {
        const struct kith_node_member *member = &m->members[i];
        char id[24];
        if (!is_meant(m, member, whom))
            continue;
        snprintf(id, sizeof id, "%016" PRIx64, member->id);
        kith_buf_append_format(m->out, "kith_%s", name);
        label(m, "{", "member", id);
        label(m, ",", "address", member->address);
        double number = value(m, member);
        if (number != number)
            kith_buf_append_text(m->out, "} NaN\n");
        else
            kith_buf_append_format(m->out, "} %.16g\n", number);
    }
}

static double in_seconds(int64_t ms)
{
    return ms < 0 ? __builtin_nan("") : (double)ms / 1e3;
}

#define VALUE(name, expression)                                                                              \
    static double name(const struct metrics *m, const struct kith_node_member *member)                       \
    {                                                                                                        \
        return (double)(expression);                                                                         \
    }
VALUE(connected, member->peer.connected)
VALUE(heard_seconds, in_seconds(member->heard_ms_ago))
VALUE(lag_entries, m->node.last_index > member->match_index ? m->node.last_index - member->match_index : 0)
VALUE(lag_bytes, member->behind_bytes)
VALUE(lag_seconds, in_seconds(member->behind_ms))
VALUE(match_index, member->match_index)
VALUE(queued_bytes, member->peer.queued_bytes)
VALUE(sent_bytes, member->peer.sent_bytes)
VALUE(received_bytes, member->peer.received_bytes)
VALUE(dropped_frames, member->peer.dropped_frames)
VALUE(stream_done, member->stream_done)
VALUE(stream_total, member->stream_total)

static void member_info(struct metrics *m)
{
    family(m, "member_info", "gauge", "1 for each member, with what it is.");
    for (size_t i = 0; i < m->member_count; i++) {
        const struct kith_node_member *member = &m->members[i];
        char id[24];
        snprintf(id, sizeof id, "%016" PRIx64, member->id);
        kith_buf_append_text(m->out, "kith_member_info");
        label(m, "{", "member", id);
        label(m, ",", "address", member->address);
        label(m, ",", "client_address", member->client_address);
        label(m, ",", "role", app_role_name(member->role));
        label(m, ",", "leader", member->leader ? "yes" : "no");
        label(m, ",", "self", member->self ? "yes" : "no");
        label(m, ",", "version", member->version);
        kith_buf_append_text(m->out, "} 1\n");
    }
}

static void members_part(struct metrics *m)
{
    member_info(m);
    of_members(m, "member_connected", "gauge", "1 when this node reaches it.", OTHERS, connected);
    of_members(m, "member_heard_seconds", "gauge", "Since a message of it came; NaN: never.", OTHERS,
               heard_seconds);
    of_members(m, "member_queued_bytes", "gauge", "Waiting to be sent to it.", OTHERS, queued_bytes);
    of_members(m, "member_sent_bytes_total", "counter", "Sent to it.", OTHERS, sent_bytes);
    of_members(m, "member_received_bytes_total", "counter", "Received from it.", OTHERS, received_bytes);
    of_members(m, "member_dropped_frames_total", "counter", "Messages to it that were dropped.", OTHERS,
               dropped_frames);
    of_members(m, "member_match_index", "gauge", "On the leader: the newest entry that it has.", FOLLOWERS,
               match_index);
    of_members(m, "member_lag_entries", "gauge", "On the leader: entries that it lacks.", FOLLOWERS,
               lag_entries);
    of_members(m, "member_lag_bytes", "gauge", "On the leader: the size of what it lacks, about.", FOLLOWERS,
               lag_bytes);
    of_members(m, "member_lag_seconds", "gauge", "On the leader: the age of the first entry that it lacks.",
               FOLLOWERS, lag_seconds);
    of_members(m, "member_stream_done_bytes", "gauge", "On the leader: of a checkpoint on its way to it.",
               FOLLOWERS, stream_done);
    of_members(m, "member_stream_size_bytes", "gauge", "On the leader: the size of that; 0: none.", FOLLOWERS,
               stream_total);
}

void app_metrics(struct app *app, struct kith_buf *out)
{
    struct metrics m = {.app = app, .out = out};
    kith_server_get_stats(app->server, &m.net);
    kith_node_get_status(app->node, &m.node);
    kith_engine_get_counts(app->engine, &m.engine);
    m.members = app_members(app, &m.member_count);
    process_part(&m);
    clients_part(&m);
    commands_part(&m);
    keys_part(&m);
    vectors_part(&m);
    log_part(&m);
    checkpoint_part(&m);
    raft_part(&m);
    members_part(&m);
    out->failed |= !m.members;
    free(m.members);
}
