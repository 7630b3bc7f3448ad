/* INFO: one function a section. Field names are Redis's where the meaning is the same, so that dashboards
 * work; what is Kith's own has its own name. */
#include "base/log.h"
#include "base/os.h"
#include "engine/upstream.h"
#include "net/server.h"
#include "prog/app.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

struct info {
    struct app *app;
    struct kith_buf text;
    struct kith_server_stats net;
    struct kith_node_status node;
};

#define LINE(info, ...) kith_buf_append_format(&(info)->text, __VA_ARGS__)
#define ULL(value)      ((unsigned long long)(value))

static void server_section(struct info *info)
{
    const struct app *app = info->app;
    struct utsname system;
    int64_t now_us = kith_os_wall_us(), up_s = (now_us / 1000 - app->started_ms) / 1000;
    uname(&system);
    LINE(info,
         "# "
         "Server\r\nredis_version:%s\r\nredis_git_sha1:00000000\r\nredis_git_dirty:0\r\nredis_mode:standalone"
         "\r\nkith_version:%s\r\n",
         KITHD_REDIS_VERSION, KITHD_VERSION);
    LINE(info,
         "os:%s %s %s\r\narch_bits:%zu\r\nmonotonic_clock:POSIX clock_gettime\r\nmultiplexing_api:libuv "
         "%s\r\n",
         system.sysname, system.release, system.machine, 8 * sizeof(void *), uv_version_string());
    LINE(info, "gcc_version:%s\r\nprocess_id:%d\r\nprocess_supervised:no\r\nrun_id:%s\r\ntcp_port:%lld\r\n",
         __VERSION__, (int)getpid(), app->run_id, (long long)app->config.port);
    LINE(info, "server_time_usec:%lld\r\nuptime_in_seconds:%lld\r\nuptime_in_days:%lld\r\n",
         (long long)now_us, (long long)up_s, (long long)up_s / 86400);
    LINE(info, "hz:10\r\nconfigured_hz:10\r\nworkers:%u\r\nconfig_file:%s\r\n", app->worker_count,
         app->config_file ? app->config_file : "");
}

static void clients_section(struct info *info)
{
    LINE(info, "# Clients\r\nconnected_clients:%u\r\ncluster_connections:0\r\nmaxclients:%lld\r\n",
         info->net.clients, (long long)info->app->config.client_max);
    LINE(info,
         "clients_peak:%u\r\nblocked_clients:%u\r\ntracking_clients:0\r\nclients_in_timeout_table:0\r\n",
         info->net.clients_peak, info->net.clients_blocked);
    LINE(info, "client_query_buffer_bytes:%zu\r\nclient_output_buffer_bytes:%zu\r\n", info->net.query_bytes,
         info->net.output_bytes_waiting);
}

static void human(struct info *info, const char *name, size_t bytes)
{
    static const char units[] = {'B', 'K', 'M', 'G', 'T'};
    double value = (double)bytes;
    size_t unit = 0;
    for (; value >= 1024 && unit < sizeof units - 1; unit++)
        value /= 1024;
    LINE(info, unit ? "%s:%zu\r\n%s_human:%.2f%c\r\n" : "%s:%zu\r\n%s_human:%.0f%c\r\n", name, bytes, name,
         value, units[unit]);
}

struct app_memory app_get_memory(struct app *app)
{
    struct app_memory memory = {.resident = kith_os_resident_bytes(), .vectors = kith_os_pages_bytes()};
    kith_os_allocator_bytes(&memory.allocated, &memory.pages);
    memory.used = memory.allocated ? memory.allocated + memory.vectors : memory.resident;
    if (memory.used > app->memory_peak_bytes)
        app->memory_peak_bytes = memory.used;
    return memory;
}

static void memory_section(struct info *info)
{
    struct app_memory memory = app_get_memory(info->app);
    LINE(info, "# Memory\r\n");
    human(info, "used_memory", memory.used);
    human(info, "used_memory_rss", memory.resident);
    human(info, "used_memory_peak", info->app->memory_peak_bytes);
    LINE(info, "allocator_allocated:%zu\r\nallocator_resident:%zu\r\nvector_pages:%zu\r\n", memory.allocated,
         memory.pages, memory.vectors);
    LINE(info,
         "total_system_memory:%llu\r\nmaxmemory:0\r\nmaxmemory_human:0B\r\nmaxmemory_policy:noeviction\r\n",
         ULL(sysconf(_SC_PHYS_PAGES)) * ULL(sysconf(_SC_PAGESIZE)));
    LINE(info, "mem_fragmentation_ratio:%.2f\r\nmem_allocator:%s\r\n",
         memory.used ? (double)memory.resident / (double)memory.used : 1.0,
         memory.allocated ? "jemalloc" : "libc");
}

static void persistence_section(struct info *info)
{
    static const char *const durabilities[] = {"always", "everysec", "none"};
    const struct kith_node_status *node = &info->node;
    int64_t now_ms = kith_os_wall_ms();
    LINE(info,
         "# "
         "Persistence\r\nloading:0\r\nasync_loading:0\r\nrdb_bgsave_in_progress:%d\r\nrdb_last_save_time:%lld"
         "\r\nrdb_last_bgsave_status:%s\r\nrdb_last_bgsave_time_sec:%lld\r\n",
         node->checkpoint_running, (long long)(node->last_save_ms / 1000),
         node->last_checkpoint_status ? "err" : "ok",
         (long long)(node->checkpoint_took_ms < 0 ? -1 : node->checkpoint_took_ms / 1000));
    LINE(info, "aof_enabled:%d\r\naof_last_write_status:%s\r\n", !node->in_memory,
         *node->error ? "err" : "ok");
    LINE(info, "kith_memory_only:%d\r\nkith_durability:%s\r\n", node->in_memory,
         durabilities[node->durability]);
    LINE(info,
         "log_bytes_since_checkpoint:%llu\r\nlog_bytes_written:%llu\r\nlog_groups_written:%llu\r\nlog_syncs:%"
         "llu"
         "\r\nlog_waiting_entries:%zu\r\nlog_waiting_bytes:%zu\r\nlog_error:%s\r\n",
         ULL(node->log_bytes), ULL(node->bytes_written), ULL(node->groups_written), ULL(node->syncs),
         node->waiting_entries, node->waiting_bytes, node->error);
    LINE(info, "checkpoint_running:%d\r\ncheckpoint_running_bytes:%llu\r\ncheckpoint_running_ms:%lld\r\n",
         node->checkpoint_running, ULL(node->checkpoint_running_bytes),
         (long long)(node->checkpoint_running ? now_ms - node->checkpoint_started_ms : 0));
    LINE(info,
         "checkpoints_done:%llu\r\ncheckpoints_after_linking:%llu\r\ncheckpoint_last_index:%llu"
         "\r\ncheckpoint_last_bytes:%llu\r\ncheckpoint_last_ms:%lld\r\n",
         ULL(node->checkpoints_done), ULL(info->net.checkpoints_after_linking), ULL(node->checkpoint_index),
         ULL(node->checkpoint_file_bytes), (long long)node->checkpoint_took_ms);
    LINE(info,
         "recovery_checkpoint_bytes:%llu\r\nrecovery_entries:%llu\r\nrecovery_log_bytes:%llu"
         "\r\nrecovery_cut_bytes:%llu\r\nrecovery_ms:%lld\r\n",
         ULL(node->recovery.checkpoint_bytes), ULL(node->recovery.entries), ULL(node->recovery.log_bytes),
         ULL(node->recovery.cut_bytes), (long long)node->recovery.took_ms);
}

static void stats_section(struct info *info)
{
    const struct kith_server_stats *net = &info->net;
    LINE(info,
         "# Stats\r\ntotal_connections_received:%llu\r\ntotal_commands_processed:%llu\r\n"
         "instantaneous_ops_per_sec:%llu\r\n",
         ULL(net->connections_received), ULL(net->commands_processed), ULL(net->ops_per_s));
    LINE(info,
         "total_net_input_bytes:%llu\r\ntotal_net_output_bytes:%llu\r\ninstantaneous_input_kbps:%.2f\r\n"
         "instantaneous_output_kbps:%.2f\r\n",
         ULL(net->input_bytes), ULL(net->output_bytes), (double)net->input_bytes_per_s / 1024,
         (double)net->output_bytes_per_s / 1024);
    LINE(info,
         "rejected_connections:%llu\r\ndenied_connections:%llu\r\nclient_query_buffer_limit_disconnections:%"
         "llu"
         "\r\nclient_output_buffer_limit_disconnections:%llu\r\nclient_timeout_disconnections:%llu\r\n"
         "protocol_errors:%llu\r\nauth_failures:%llu\r\n",
         ULL(net->connections_rejected), ULL(net->connections_denied), ULL(net->query_limit_closed),
         ULL(net->output_limit_closed), ULL(net->timeout_closed), ULL(net->protocol_errors),
         ULL(net->auth_failed));
    LINE(
        info,
        "total_error_replies:%llu\r\nentries_submitted:%llu\r\nexpiry_ticks:%llu\r\nwrites_submitted:%llu\r\n"
        "reads_on_workers:%llu\r\nsearches_at_once:%llu\r\nwriters_held_back:%llu\r\nturns_ended:%llu\r\n",
        ULL(net->error_replies), ULL(net->entries_submitted), ULL(net->ticks_submitted),
        ULL(net->writes_submitted), ULL(net->reads_deferred), ULL(net->searches_at_once), ULL(net->held_back),
        ULL(net->turns_ended));
    LINE(info, "loop_passes:%llu\r\nloop_busy_us:%llu\r\nloop_longest_pass_us:%llu\r\n", ULL(net->passes),
         ULL(net->busy_us), ULL(net->longest_pass_us));
    kith_engine_info(info->app->engine, "stats", &info->text);
}

static void follower_lines(struct info *info, const struct kith_node_member *members, size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        const struct kith_node_member *m = &members[i];
        char host[256];
        if (m->self || m->role == KITH_CORE_SPARE)
            continue;
        unsigned port =
            app_split_address(m->client_address[0] ? m->client_address : m->address, host, sizeof host);
        bool online = m->peer.connected && m->stream_total == 0;
        LINE(info,
             "slave%zu:ip=%s,port=%u,state=%s,offset=%llu,lag=%lld,lag_entries=%llu,lag_bytes=%llu,lag_ms=%"
             "lld,heard_ms=%lld,stream_bytes=%llu,stream_total=%llu,role=%s,id=%016llx\r\n",
             n++, host, port, online ? "online" : "wait_bgsave", ULL(m->match_index),
             (long long)(m->heard_ms_ago < 0 ? -1 : m->heard_ms_ago / 1000),
             ULL(info->node.last_index > m->match_index ? info->node.last_index - m->match_index : 0),
             ULL(m->behind_bytes), (long long)m->behind_ms, (long long)m->heard_ms_ago, ULL(m->stream_done),
             ULL(m->stream_total), m->role == KITH_CORE_VOTER ? "voter" : "standby", ULL(m->id));
    }
}

static void leader_lines(struct info *info, const struct kith_node_member *members, size_t count)
{
    const struct kith_node_member *leader = NULL;
    char host[256] = "";
    unsigned port = 0;
    for (size_t i = 0; i < count; i++)
        if (members[i].leader)
            leader = &members[i];
    if (leader)
        port = app_split_address(leader->client_address[0] ? leader->client_address : leader->address, host,
                                 sizeof host);
    int64_t lag_ms = kith_node_lag_ms(info->app->node);
    LINE(info,
         "master_host:%s\r\nmaster_port:%u\r\nmaster_link_status:%s\r\nmaster_last_io_seconds_ago:%lld\r\n"
         "master_sync_in_progress:0\r\nslave_read_repl_offset:%llu\r\nslave_repl_offset:%llu\r\nslave_read_"
         "only:%d\r\n"
         "lag_entries:%llu\r\nlag_ms:%lld\r\n",
         host, port, leader ? "up" : "down", (long long)(lag_ms < 0 ? -1 : lag_ms / 1000),
         ULL(info->node.last_index), ULL(info->node.applied_index),
         info->app->config.cluster_forward != KITH_FORWARD_YES,
         ULL(info->node.commit_index > info->node.applied_index
                 ? info->node.commit_index - info->node.applied_index
                 : 0),
         (long long)lag_ms);
}

/* The history that the data is of, and the place in it: the upstream's while one is followed. */
static void history_lines(struct info *info, bool follows)
{
    const struct kith_upstream *upstream = kith_engine_upstream(info->app->engine);
    unsigned long long group = ULL(kith_node_group_id(info->app->node));
    if (follows && *upstream->replid)
        LINE(info, "master_replid:%s\r\nmaster_repl_offset:%llu\r\n", upstream->replid,
             ULL(upstream->offset));
    else
        LINE(info, "master_replid:%016llx%016llx00000000\r\nmaster_repl_offset:%llu\r\n", group, group,
             ULL(info->node.applied_index));
    app_upstream_info(info->app, &info->text);
}

static void replication_section(struct info *info)
{
    const struct kith_node_status *node = &info->node;
    size_t count, followers = 0;
    struct kith_node_member *members = app_members(info->app, &count);
    bool leads = node->role == KITH_CORE_LEADER;
    for (size_t i = 0; i < count; i++)
        followers += !members[i].self && members[i].role != KITH_CORE_SPARE;
    bool follows = app_is_replica(info->app);
    LINE(info, "# Replication\r\nrole:%s\r\n", leads && !follows ? "master" : "slave");
    if (follows)
        app_follow_info(info->app, &info->text);
    else if (!leads)
        leader_lines(info, members, count);
    LINE(info, "connected_slaves:%zu\r\n", leads ? followers : 0);
    if (leads)
        follower_lines(info, members, count);
    history_lines(info, follows);
    LINE(info,
         "raft_term:%llu\r\nraft_last_index:%llu\r\nraft_commit_index:%llu\r\nraft_applied_index:%llu\r\n"
         "raft_synced_index:%llu\r\n",
         ULL(node->term), ULL(node->last_index), ULL(node->commit_index), ULL(node->applied_index),
         ULL(node->synced_index));
    LINE(info,
         "group_members:%zu\r\nelections:%llu\r\nleader_changes:%llu\r\nforwarded_writes:%llu\r\n"
         "forwarded_unknown:%llu\r\nlinearizable_reads:%llu\r\nread_probes:%llu\r\n",
         count, ULL(node->elections), ULL(node->leader_changes), ULL(node->forwarded),
         ULL(node->forwarded_unknown), ULL(node->reads), ULL(node->probes));
    LINE(info,
         "streams_sent:%llu\r\nstreams_received:%llu\r\nstream_bytes_sent:%llu\r\nstream_bytes_received:%"
         "llu\r\n",
         ULL(node->streams_sent), ULL(node->streams_received), ULL(node->stream_bytes_sent),
         ULL(node->stream_bytes_received));
    free(members);
}

static void cpu_section(struct info *info)
{
    struct rusage own;
    getrusage(RUSAGE_SELF, &own);
    LINE(info, "# CPU\r\nused_cpu_sys:%ld.%06ld\r\nused_cpu_user:%ld.%06ld\r\n", (long)own.ru_stime.tv_sec,
         (long)own.ru_stime.tv_usec, (long)own.ru_utime.tv_sec, (long)own.ru_utime.tv_usec);
    struct rusage thread;
    getrusage(RUSAGE_THREAD, &thread);
    LINE(info,
         "used_cpu_sys_children:0.000000\r\nused_cpu_user_children:0.000000\r\nused_cpu_sys_main_thread:%ld.%"
         "06ld"
         "\r\nused_cpu_user_main_thread:%ld.%06ld\r\n",
         (long)thread.ru_stime.tv_sec, (long)thread.ru_stime.tv_usec, (long)thread.ru_utime.tv_sec,
         (long)thread.ru_utime.tv_usec);
}

static void modules_section(struct info *info)
{
    LINE(info, "# Modules\r\n");
}

static void commandstats_section(struct info *info)
{
    LINE(info, "# Commandstats\r\n");
    kith_server_command_stats(info->app->server, &info->text);
}

static void errorstats_section(struct info *info)
{
    LINE(info, "# Errorstats\r\n");
    kith_server_error_stats(info->app->server, &info->text);
}

static void cluster_section(struct info *info)
{
    LINE(info, "# Cluster\r\ncluster_enabled:0\r\n");
}

static void keyspace_section(struct info *info)
{
    kith_engine_info(info->app->engine, "keyspace", &info->text);
}

static void vectors_section(struct info *info)
{
    kith_engine_info(info->app->engine, "vectors", &info->text);
}

static const struct {
    const char *name;
    bool by_default;
    void (*write)(struct info *info);
} sections[] = {
    {"server", true, server_section},
    {"clients", true, clients_section},
    {"memory", true, memory_section},
    {"persistence", true, persistence_section},
    {"stats", true, stats_section},
    {"replication", true, replication_section},
    {"cpu", true, cpu_section},
    {"modules", true, modules_section},
    {"commandstats", false, commandstats_section},
    {"errorstats", true, errorstats_section},
    {"cluster", true, cluster_section},
    {"keyspace", true, keyspace_section},
    {"vectors", true, vectors_section},
};

static bool is_wanted(const struct kith_call *call, size_t section)
{
    if (call->argc == 1)
        return sections[section].by_default;
    for (size_t i = 1; i < call->argc; i++)
        if (kith_call_is(call, i, sections[section].name) || kith_call_is(call, i, "all") ||
            kith_call_is(call, i, "everything") ||
            (kith_call_is(call, i, "default") && sections[section].by_default))
            return true;
    return false;
}

void app_info(struct app *app, struct kith_call *call)
{
    struct info info = {.app = app};
    kith_server_get_stats(app->server, &info.net);
    kith_node_get_status(app->node, &info.node);
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        if (!is_wanted(call, i))
            continue;
        if (info.text.length)
            LINE(&info, "\r\n");
        sections[i].write(&info);
    }
    if (info.text.failed)
        kith_call_no_memory(call);
    else
        kith_reply_verbatim(call->reply, "txt", kith_buf_slice(&info.text));
    kith_buf_fini(&info.text);
}
