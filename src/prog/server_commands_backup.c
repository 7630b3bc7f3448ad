/* KITH.BACKUP: what `kith backup` is served with. Each answer is one piece, read on another thread while its client waits,
 * so that neither the keyspace nor the server's memory feels how much is copied. */
#include "net/server.h"
#include "prog/app.h"

#include <string.h>

struct answer {
    int status;
    const struct kith_backup_file *file;
    const struct kith_backup_log *log;
    struct kith_slice bytes;
};

static void int_field(struct kith_reply *reply, const char *name, uint64_t value)
{
    kith_reply_bulk_text(reply, name);
    kith_reply_int(reply, (int64_t)value);
}

static void write_failure(int status, struct kith_reply *reply)
{
    if (status == KITH_EPERM)
        kith_reply_error(reply,
                         "ERR this server keeps nothing on disk: there is nothing that could be copied");
    else if (status == KITH_EBUSY)
        kith_reply_error(reply,
                         "TRYAGAIN a checkpoint is under way, or other backups are: again in a moment");
    else if (status == KITH_EAGAIN)
        kith_reply_error(reply, "TRYAGAIN the group's log is being changed: again in a moment");
    else if (status == KITH_ENOENT)
        kith_reply_error(reply, "GONE there is no such checkpoint (any more): open one, and begin anew");
    else
        kith_reply_error_format(reply, "ERR the backup cannot be read: %s. See the server's log lines",
                                kith_status_text(status));
}

/* --- open --- */

static void write_file(void *context, struct kith_reply *reply)
{
    const struct answer *answer = context;
    if (answer->status != KITH_OK) {
        write_failure(answer->status, reply);
        return;
    }
    kith_reply_map(reply, 5);
    int_field(reply, "index", answer->file->index);
    int_field(reply, "term", answer->file->term);
    int_field(reply, "bytes", answer->file->bytes);
    int_field(reply, "crc", answer->file->crc);
    int_field(reply, "created-ms", (uint64_t)answer->file->created_ms);
}

static void on_opened(void *context, int status, const struct kith_backup_file *file)
{
    struct answer answer = {.status = status, .file = file};
    kith_server_release(context, write_file, &answer);
}

static void refuse(struct kith_call *call, struct kith_connection *connection, int status)
{
    kith_server_unhold(connection);
    write_failure(status, call->reply);
}

static void backup_open(struct app *app, struct kith_call *call)
{
    int64_t index = 0;
    if (call->argc > 3) {
        kith_call_syntax_error(call);
        return;
    }
    if (call->argc == 3 && !kith_call_int_in(call, 2, 1, INT64_MAX, &index, NULL))
        return;
    struct kith_connection *connection = kith_server_hold(call);
    int status = kith_node_backup_open(app->node, (uint64_t)index, on_opened, connection);
    if (status != KITH_OK)
        refuse(call, connection, status);
}

/* --- read --- */

static void write_bytes(void *context, struct kith_reply *reply)
{
    const struct answer *answer = context;
    if (answer->status == KITH_OK)
        kith_reply_bulk(reply, answer->bytes);
    else
        write_failure(answer->status, reply);
}

static void on_read(void *context, int status, struct kith_slice bytes)
{
    struct answer answer = {.status = status, .bytes = bytes};
    kith_server_release(context, write_bytes, &answer);
}

static void backup_read(struct app *app, struct kith_call *call)
{
    int64_t index, offset, length;
    if (!kith_call_int_in(call, 2, 1, INT64_MAX, &index, NULL) ||
        !kith_call_int_in(call, 3, 0, INT64_MAX, &offset, NULL) ||
        !kith_call_int_in(call, 4, 1, KITH_BACKUP_PIECE_MAX, &length, NULL))
        return;
    struct kith_connection *connection = kith_server_hold(call);
    int status = kith_node_backup_read(app->node, (uint64_t)index, (uint64_t)offset, (size_t)length, on_read,
                                       connection);
    if (status != KITH_OK)
        refuse(call, connection, status);
}

/* --- log --- */

static void write_entry(struct kith_reply *reply, const struct kith_record *record)
{
    kith_reply_array(reply, 4);
    kith_reply_int(reply, (int64_t)record->index);
    kith_reply_int(reply, (int64_t)record->term);
    kith_reply_int(reply, record->kind);
    kith_reply_bulk(reply, record->payload);
}

static void write_log(void *context, struct kith_reply *reply)
{
    const struct answer *answer = context;
    const struct kith_backup_log *log = answer->log;
    if (answer->status == KITH_ENOENT) {
        kith_reply_error_format(
            reply,
            "GONE the log of this server begins with entry %llu: what was before it is in "
            "its checkpoint only (backup-keep-log says how much is kept)",
            (unsigned long long)log->first_index);
        return;
    }
    if (answer->status != KITH_OK) {
        write_failure(answer->status, reply);
        return;
    }
    kith_reply_map(reply, 4);
    int_field(reply, "first-index", log->first_index);
    int_field(reply, "last-index", log->last_index);
    int_field(reply, "previous-term", log->previous_term);
    kith_reply_bulk_text(reply, "entries");
    kith_reply_array(reply, log->count);
    for (size_t i = 0; i < log->count; i++)
        write_entry(reply, &log->records[i]);
}

static void on_log(void *context, int status, const struct kith_backup_log *log)
{
    struct answer answer = {.status = status, .log = log};
    kith_server_release(context, write_log, &answer);
}

static void backup_log(struct app *app, struct kith_call *call)
{
    int64_t index;
    if (!kith_call_int_in(call, 2, 1, INT64_MAX, &index, NULL))
        return;
    struct kith_connection *connection = kith_server_hold(call);
    int status = kith_node_backup_log(app->node, (uint64_t)index, on_log, connection);
    if (status != KITH_OK)
        refuse(call, connection, status);
}

struct kith_node_limits app_node_limits(const struct app *app)
{
    const struct kith_config *config = &app->config;
    return (struct kith_node_limits){.keep_log_bytes = (uint64_t)config->cluster_keep_log_bytes,
                                     .keep_always_bytes = (uint64_t)config->backup_keep_log_bytes,
                                     .stream_bytes_per_s = (uint64_t)config->cluster_stream_rate_bytes};
}

app_command_function app_backup_command(const char *name)
{
    static const struct {
        const char *name;
        app_command_function run;
    } commands[] = {{"kith.backup|open", backup_open},
                    {"kith.backup|read", backup_read},
                    {"kith.backup|log", backup_log}};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run;
    return NULL;
}
