/* Reading a copy twice: once to check it and to find where it ends, and once to write the new folder. Both readings go through
 * the same two functions, one for the checkpoint and one for the log. */
#include "repl/restore.h"

#include "base/assert.h"
#include "engine/engine.h"
#include "store/folder.h"
#include "store/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SEGMENT_BYTES ((uint64_t)64 << 20)
#define QUEUE_BYTES   ((uint64_t)16 << 20)

enum { PATH_BYTES = 4096, HEAD_BYTES = 32, TRAILER_BYTES = 16 };

static const int STOP = 1; /* what the log's reader returns where the rest is not wanted */

struct copy {
    const struct kith_restore_options *options;
    struct kith_fs *fs;
    struct kith_restore_found found;
    struct kith_error *error;
    /* the source */
    struct kith_file *lock;
    struct kith_folder folder;
    struct kith_state state;
    bool has_checkpoint, grows; /* grows: it is being written to */
    char checkpoint_path[PATH_BYTES];
    struct kith_buf configuration; /* the last one met with; empty: none yet */
    /* where the reading of the log is */
    uint64_t next_index; /* of the entry to come */
    int64_t time_ms;     /* of the last one */
    uint64_t stop_index; /* of the first that is not wanted; 0: not met */
    int64_t stop_ms;
    uint64_t committed;
    const char *bad; /* what is wrong with an entry */
    /* the target, while it is written */
    struct kith_checkpoint_writer *writer;
    struct kith_log *log;
    struct kith_slice alone; /* the new group's configuration */
};

static int no_memory(struct copy *c)
{
    return kith_error_set(c->error, KITH_ENOMEM, "out of memory");
}

/* "2026-11-20 22:15:03.120 UTC" */
static const char *time_text(char out[64], int64_t ms)
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    char day[40] = "?";
    if (gmtime_r(&seconds, &tm))
        strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out, 64, "%s.%03dZ", day, (int)(ms % 1000));
    return out;
}

/* --- the checkpoint --- */

/* A checkpoint's stream on its way: its time stands at its beginning. */
struct passing {
    struct copy *copy;
    char head[HEAD_BYTES];
    size_t length;
};

static int pass_bytes(void *context, struct kith_slice bytes)
{
    struct passing *p = context;
    size_t n = HEAD_BYTES - p->length < bytes.length ? HEAD_BYTES - p->length : bytes.length;
    memcpy(p->head + p->length, bytes.data, n);
    p->length += n;
    return p->copy->writer ? kith_checkpoint_writer_add(p->copy->writer, bytes) : KITH_OK;
}

static int open_checkpoint(struct copy *c, const char *path, struct kith_file **out)
{
    int status = c->fs->open(c->fs, path, 0, out);
    if (status != KITH_OK)
        kith_error_set(c->error, status, "%s cannot be opened: %s", path, kith_status_text(status));
    return status;
}

static int bad_checkpoint(struct copy *c, const char *path, int status, uint64_t offset, const char *why)
{
    return kith_error_set(c->error, status, "%s, offset %" PRIu64 ": %s. Take another copy", path, offset,
                          why);
}

/* Reads all of it; into c->writer when there is one. *read is to be closed on success. */
static int read_checkpoint(struct copy *c, struct kith_checkpoint_read *read)
{
    struct passing passing = {.copy = c};
    struct kith_error why = {"it cannot be written"};
    struct kith_file *file;
    int status = open_checkpoint(c, c->checkpoint_path, &file);
    if (status != KITH_OK)
        return status;
    status = kith_checkpoint_read_all(read, file, pass_bytes, &passing, &why);
    c->fs->close(file);
    if (status != KITH_OK)
        return c->writer && (status == KITH_ENOSPC || status == KITH_EIO)
                   ? kith_error_set(c->error, status, "the checkpoint cannot be written: %s",
                                    kith_status_text(status))
                   : bad_checkpoint(c, c->checkpoint_path, status, read->damage_offset, why.text);
    memset(passing.head + passing.length, 0, HEAD_BYTES - passing.length);
    status = kith_engine_stream_time(kith_slice(passing.head, HEAD_BYTES), &c->time_ms);
    if (status != KITH_OK) {
        kith_checkpoint_read_close(read);
        return bad_checkpoint(c, c->checkpoint_path, status, 0, "its content is not this version's");
    }
    return KITH_OK;
}

/* Index and time of a checkpoint, from its first block only. */
static int peek_checkpoint(struct copy *c, const char *path, uint64_t *index, int64_t *ms)
{
    struct kith_checkpoint_reader *reader = NULL;
    struct kith_buf block = {0};
    struct kith_error why = {""};
    struct kith_file *file;
    int status = open_checkpoint(c, path, &file);
    if (status != KITH_OK)
        return status;
    status = kith_checkpoint_reader_open(&reader, file, &why);
    if (status == KITH_OK) {
        *index = kith_checkpoint_reader_info(reader)->index;
        status = kith_checkpoint_reader_next(reader, &block, &why);
        if (status >= 0) {
            snprintf(why.text, sizeof why.text, "its content is not this version's");
            status = kith_engine_stream_time(kith_buf_slice(&block), ms);
        }
    }
    kith_checkpoint_reader_close(reader);
    kith_buf_fini(&block);
    c->fs->close(file);
    return status == KITH_OK ? KITH_OK : bad_checkpoint(c, path, status, 0, why.text);
}

/* The newest checkpoint that is not past what is wanted. */
static int choose_checkpoint(struct copy *c)
{
    const struct kith_restore_options *o = c->options;
    char name[KITH_CHECKPOINT_NAME_BYTES], text[64];
    uint64_t index = 0;
    int64_t ms = 0;
    for (size_t i = c->folder.checkpoint_count; i > 0; i--) {
        kith_checkpoint_name(name, c->folder.checkpoints[i - 1]);
        snprintf(c->checkpoint_path, PATH_BYTES, "%s/%s", o->from, name);
        int status = peek_checkpoint(c, c->checkpoint_path, &index, &ms);
        if (status != KITH_OK)
            return status;
        if (index != c->folder.checkpoints[i - 1])
            return bad_checkpoint(c, c->checkpoint_path, KITH_ECORRUPT, 0, "it was given another one's name");
        c->has_checkpoint = o->until == KITH_RESTORE_ALL ||
                            (o->until == KITH_RESTORE_INDEX ? index <= o->until_index : ms <= o->until_ms);
        if (c->has_checkpoint)
            return KITH_OK;
    }
    if (c->folder.checkpoint_count)
        return kith_error_set(c->error, KITH_ENOENT,
                              "%s begins with entry %" PRIu64 " of %s: what was before it is not in it",
                              o->from, index, time_text(text, ms));
    if (o->source == KITH_RESTORE_BACKUP)
        return kith_error_set(c->error, KITH_ENOENT, "%s holds no checkpoint: the backup was never complete",
                              o->from);
    return KITH_OK;
}

static int keep_configuration(struct copy *c, struct kith_slice configuration)
{
    kith_buf_clear(&c->configuration);
    kith_buf_append(&c->configuration, configuration.data, configuration.length);
    return c->configuration.failed ? no_memory(c) : KITH_OK;
}

/* --- the log --- */

static int put_entry(struct copy *c, enum kith_record_kind kind, uint64_t index, uint64_t term,
                     struct kith_slice payload)
{
    struct kith_log_entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return KITH_ENOMEM;
    kith_buf_append(&entry->payload, payload.data, payload.length);
    atomic_init(&entry->references, 1);
    entry->kind = kind;
    entry->index = index;
    entry->term = term;
    if (entry->payload.failed) {
        kith_log_entry_release(entry);
        return KITH_ENOMEM;
    }
    kith_log_append(c->log, entry);
    return kith_log_failure(c->log, NULL);
}

/* All from `index` on is void. */
static int take_back(struct copy *c, const struct kith_record *record)
{
    uint64_t covered = c->found.checkpoint_index, index = record->index;
    if (record->kind == KITH_RECORD_RESET && index > covered + 1) {
        c->bad = "the checkpoint before it is missing";
        return KITH_ECORRUPT;
    }
    if (index <= covered || record->kind == KITH_RECORD_RESET)
        index = covered + 1;
    if (index >= c->next_index)
        return KITH_OK;
    c->next_index = index;
    return c->log ? put_entry(c, KITH_RECORD_TRUNCATE, index, record->term, (struct kith_slice){0}) : KITH_OK;
}

/* Whether the entry is past what is wanted; *ms is its time. KITH_OK: it is wanted. */
static int judge(struct copy *c, const struct kith_record *record, int64_t *ms)
{
    const struct kith_restore_options *o = c->options;
    *ms = c->time_ms;
    if (record->kind == KITH_RECORD_COMMAND) {
        int64_t own;
        if (record->payload.length < TRAILER_BYTES || kith_entry_time(record->payload, &own) != KITH_OK) {
            c->bad = "it is no entry of this version";
            return KITH_ECORRUPT;
        }
        *ms = own > *ms ? own : *ms;
    }
    bool past = (o->until == KITH_RESTORE_INDEX && record->index > o->until_index) ||
                (o->until == KITH_RESTORE_TIME && *ms > o->until_ms);
    if (c->log && record->index > c->found.last_index)
        past = true; /* it has grown since it was looked at */
    if (!past)
        return KITH_OK;
    c->stop_index = record->index;
    c->stop_ms = *ms;
    return STOP;
}

static int take_record(void *context, const struct kith_record *record)
{
    struct copy *c = context;
    int64_t ms;
    if (record->term > c->found.term)
        c->found.term = record->term;
    if (record->kind == KITH_RECORD_TRUNCATE || record->kind == KITH_RECORD_RESET)
        return take_back(c, record);
    if (record->index < c->next_index)
        return KITH_OK;
    if (record->index > c->next_index) {
        c->bad = "entries before it are missing";
        return KITH_ECORRUPT;
    }
    bool configuration = record->kind == KITH_RECORD_CONFIGURATION;
    if (record->index == 1 && !configuration) {
        c->bad = "a log begins with its group";
        return KITH_ECORRUPT;
    }
    int status = judge(c, record, &ms);
    if (status == KITH_OK && configuration)
        status = keep_configuration(c, record->payload);
    if (status != KITH_OK)
        return status;
    c->next_index++;
    c->time_ms = ms;
    if (!c->log)
        return KITH_OK;
    if (!configuration)
        return put_entry(c, record->kind, record->index, record->term, record->payload);
    if (record->index == 1)
        return put_entry(c, record->kind, 1, record->term, c->alone);
    return put_entry(c, KITH_RECORD_BARRIER, record->index, record->term, (struct kith_slice){0});
}

/* One segment, as a folder of its own: where the next one begins is judged by read_log. */
static int read_segment(struct copy *c, size_t i, uint64_t *next_index)
{
    struct kith_folder one = {.segments = &c->folder.segments[i], .segment_count = 1};
    struct kith_error why = {""};
    struct kith_folder_walk walk = {.fs = c->fs,
                                    .dir = c->options->from,
                                    .folder = &one,
                                    .folder_id = c->found.group_id,
                                    .visit = take_record,
                                    .context = c};
    c->bad = NULL;
    int status = kith_folder_walk(&walk, 0, 0, &why);
    *next_index = walk.next_index;
    if (walk.committed > c->committed)
        c->committed = walk.committed;
    if (status == KITH_OK || status == STOP)
        return status;
    if (c->log && kith_log_failure(c->log, &why) != KITH_OK)
        return kith_error_set(c->error, status, "%s", why.text);
    if (c->bad)
        return kith_error_set(c->error, status, "%s: entry %" PRIu64 ": %s. Take another copy",
                              c->options->from, c->next_index, c->bad);
    return kith_error_set(c->error, status, "%s", why.text);
}

static int gap(struct copy *c, const struct kith_log_segment *next)
{
    char text[64];
    return kith_error_set(c->error, KITH_ENOENT,
                          "%s has a gap: entries %" PRIu64 " to %" PRIu64 " are missing. --until %" PRIu64
                          " restores what is before it, up to %s",
                          c->options->from, c->next_index, next->first_index - 1, c->next_index - 1,
                          time_text(text, c->time_ms));
}

/* From the checkpoint on, as far as it is wanted. */
static int read_log(struct copy *c)
{
    const struct kith_folder *folder = &c->folder;
    uint64_t next_index = 0;
    c->next_index = c->found.checkpoint_index + 1;
    c->time_ms = c->found.checkpoint_ms;
    c->stop_index = 0;
    long start = folder->segment_count ? kith_folder_start(folder, c->next_index) : 0;
    if (start < 0)
        start = 0;
    for (size_t i = (size_t)start; i < folder->segment_count; i++) {
        const struct kith_log_segment *segment = &folder->segments[i];
        bool follows = i == (size_t)start ||
                       (segment->first_index == next_index && segment->sequence == segment[-1].sequence + 1);
        if (!follows || segment->first_index > c->next_index) {
            if (c->options->until == KITH_RESTORE_INDEX && c->options->until_index < c->next_index)
                return KITH_OK;
            return gap(c, segment);
        }
        int status = read_segment(c, i, &next_index);
        if (status != KITH_OK)
            return status == STOP ? KITH_OK : status;
    }
    return KITH_OK;
}

/* --- looking --- */

static int open_folder(struct copy *c)
{
    const struct kith_restore_options *o = c->options;
    struct kith_error why = {""};
    int status = kith_state_load(&c->state, c->fs, o->from, &why);
    if (status == KITH_ENOENT)
        return kith_error_set(c->error, status, "%s is no folder of Kith's: there is no state-1 in it",
                              o->from);
    if (status != KITH_OK)
        return kith_error_set(c->error, status, "%s", why.text);
    if (c->state.backup && o->source == KITH_RESTORE_NODE)
        return kith_error_set(c->error, KITH_EPERM, "%s is a backup, no node's folder: kith restore takes it",
                              o->from);
    if (!c->state.backup && o->source == KITH_RESTORE_BACKUP)
        return kith_error_set(c->error, KITH_EPERM,
                              "%s is a node's data folder, no backup: a server starts on it as it is; if its "
                              "group has lost its "
                              "majority, kith recover makes a new group of it",
                              o->from);
    if (o->source == KITH_RESTORE_NODE) {
        /* Settles a leader's checkpoint that was on its way, as a start of the server would. */
        struct kith_store *store;
        struct kith_store_options opening = {.fs = c->fs, .dir = o->from};
        status = kith_store_open(&store, &opening, c->error);
        if (status != KITH_OK)
            return status;
        kith_store_close(store);
    }
    status = kith_folder_lock(&c->lock, c->fs, o->from, false, c->error);
    if (status == KITH_EBUSY && o->source == KITH_RESTORE_BACKUP)
        c->grows = true; /* kith backup --follow only adds */
    else if (status != KITH_OK)
        return status;
    status = kith_folder_open(&c->folder, c->fs, o->from);
    if (status != KITH_OK)
        return kith_error_set(c->error, status, "the folder %s cannot be read: %s", o->from,
                              kith_status_text(status));
    c->found.group_id = c->state.folder_id;
    if (o->source == KITH_RESTORE_NODE) {
        c->found.node_id = c->state.node_id;
        c->found.term = c->state.term;
    }
    return choose_checkpoint(c);
}

static int look_at_checkpoint(struct copy *c)
{
    struct kith_checkpoint_read read = {0};
    if (!c->has_checkpoint)
        return KITH_OK;
    int status = read_checkpoint(c, &read);
    if (status != KITH_OK)
        return status;
    if (c->options->source == KITH_RESTORE_FILE)
        c->found.group_id = read.info.folder_id;
    c->found.checkpoint_index = read.info.index;
    c->found.checkpoint_ms = c->time_ms;
    if (read.info.term > c->found.term)
        c->found.term = read.info.term;
    if (read.info.folder_id != c->found.group_id)
        status = bad_checkpoint(c, c->checkpoint_path, KITH_ECORRUPT, 0, "it belongs to another group");
    else if (read.info.index == 0 || read.info.configuration_index > read.info.index)
        status = bad_checkpoint(c, c->checkpoint_path, KITH_ECORRUPT, 0, "its header makes no sense");
    else
        status = keep_configuration(c, read.info.configuration);
    kith_checkpoint_read_close(&read);
    return status;
}

/* What is wanted must be there. */
static int check_reach(struct copy *c)
{
    const struct kith_restore_options *o = c->options;
    char text[64];
    if (c->found.last_index == 0)
        return kith_error_set(c->error, KITH_ENOENT, "%s holds neither a checkpoint nor a log", o->from);
    bool short_of = (o->until == KITH_RESTORE_INDEX && c->found.last_index < o->until_index) ||
                    (o->until == KITH_RESTORE_TIME && !c->stop_index && c->found.last_ms < o->until_ms);
    if (short_of)
        return kith_error_set(c->error, KITH_ENOENT,
                              "%s reaches up to entry %" PRIu64
                              " of %s, and not further; without --until all of it is restored",
                              o->from, c->found.last_index, time_text(text, c->found.last_ms));
    if (o->until == KITH_RESTORE_TIME && c->found.checkpoint_ms > o->until_ms)
        return kith_error_set(c->error, KITH_ENOENT,
                              "%s begins with entry %" PRIu64 " of %s: what was before it is not in it",
                              o->from, c->found.checkpoint_index, time_text(text, c->found.checkpoint_ms));
    if (o->until == KITH_RESTORE_INDEX && c->found.checkpoint_index > o->until_index)
        return kith_error_set(c->error, KITH_ENOENT,
                              "%s begins with entry %" PRIu64 ": what was before it is not in it", o->from,
                              c->found.checkpoint_index);
    return KITH_OK;
}

static void count_voter(void *context, uint64_t id, const char *address, enum kith_core_member_role role)
{
    *(size_t *)context += role == KITH_CORE_VOTER;
}

static int look(struct copy *c)
{
    const struct kith_restore_options *o = c->options;
    int status = KITH_OK;
    if (strlen(o->from) > PATH_BYTES - 100)
        return kith_error_set(c->error, KITH_ETOOBIG, "the path is too long");
    if (o->source == KITH_RESTORE_FILE) {
        snprintf(c->checkpoint_path, PATH_BYTES, "%s", o->from);
        c->has_checkpoint = true;
    } else {
        status = open_folder(c);
    }
    if (status == KITH_OK)
        status = look_at_checkpoint(c);
    if (status == KITH_OK)
        status = read_log(c);
    if (status == KITH_ECORRUPT && c->grows) /* an entry that was half written when it was read */
        status = read_log(c);
    if (status != KITH_OK)
        return status;
    c->found.last_index = c->next_index - 1;
    c->found.last_ms = c->time_ms;
    c->found.ends_early = c->stop_index > 0;
    c->found.committed = c->committed > c->found.checkpoint_index ? c->committed : c->found.checkpoint_index;
    if (c->found.committed > c->found.last_index)
        c->found.committed = c->found.last_index;
    if (kith_core_visit_configuration(kith_buf_slice(&c->configuration), count_voter, &c->found.voters) !=
            KITH_OK &&
        c->found.last_index)
        return kith_error_set(c->error, KITH_ECORRUPT, "%s: the group's members cannot be read", o->from);
    return check_reach(c);
}

static void begin(struct copy *c, const struct kith_restore_options *options, struct kith_error *error)
{
    *c = (struct copy){.options = options, .fs = options->fs ? options->fs : kith_fs_posix(), .error = error};
}

static void end(struct copy *c)
{
    kith_folder_close(&c->folder);
    kith_file_close(c->lock);
    kith_buf_fini(&c->configuration);
    free((void *)c->alone.data);
}

int kith_restore_look(const struct kith_restore_options *options, struct kith_restore_found *found,
                      void (*member)(void *context, uint64_t id, const char *address,
                                     enum kith_core_member_role role),
                      void *context, struct kith_error *error)
{
    struct copy c;
    begin(&c, options, error);
    int status = look(&c);
    if (status == KITH_OK && member)
        (void)kith_core_visit_configuration(kith_buf_slice(&c.configuration), member, context);
    if (status == KITH_OK)
        *found = c.found;
    end(&c);
    return status;
}

/* --- making --- */

static int is_ours(void *context, const char *name)
{
    return strcmp(name, "lost+found") != 0;
}

/* A file system of its own may have its lost+found. */
static int check_empty(struct copy *c, const char *to)
{
    int status = c->fs->list(c->fs, to, is_ours, NULL);
    if (status == KITH_ENOENT || status == KITH_OK)
        return KITH_OK;
    if (status > 0)
        return kith_error_set(c->error, KITH_EEXIST,
                              "%s is not empty: give a new folder, or remove what is in it", to);
    return kith_error_set(c->error, status, "the folder %s cannot be read: %s", to, kith_status_text(status));
}

static int write_checkpoint(struct copy *c, const char *to, uint64_t group_id)
{
    struct kith_checkpoint_read read = {0};
    struct kith_file *file;
    uint64_t file_bytes;
    if (!c->has_checkpoint)
        return KITH_OK;
    int status = open_checkpoint(c, c->checkpoint_path, &file);
    if (status != KITH_OK)
        return status;
    status = kith_checkpoint_read_header(&read, file, c->error);
    c->fs->close(file);
    if (status != KITH_OK)
        return status;
    struct kith_checkpoint_info info = read.info;
    info.folder_id = group_id;
    info.configuration = c->alone;
    status = kith_checkpoint_writer_open(&c->writer, c->fs, to, &info);
    kith_checkpoint_read_close(&read);
    if (status != KITH_OK)
        return kith_error_set(c->error, status, "%s cannot be written: %s", to, kith_status_text(status));
    status = read_checkpoint(c, &read);
    if (status == KITH_OK) {
        kith_checkpoint_read_close(&read);
        status = kith_checkpoint_writer_finish(c->writer, &file_bytes);
        if (status != KITH_OK)
            kith_error_set(c->error, status, "the checkpoint in %s cannot be written: %s", to,
                           kith_status_text(status));
    }
    kith_checkpoint_writer_close(c->writer);
    c->writer = NULL;
    return status;
}

static int write_log(struct copy *c, const char *to, uint64_t group_id)
{
    struct kith_log_options options = {.fs = c->fs,
                                       .dir = to,
                                       .folder_id = group_id,
                                       .next_sequence = 1,
                                       .next_index = c->found.checkpoint_index + 1,
                                       .first_index = c->found.checkpoint_index + 1,
                                       .segment_bytes = c->options->segment_bytes ? c->options->segment_bytes
                                                                                  : SEGMENT_BYTES,
                                       .queue_bytes = QUEUE_BYTES,
                                       .sync = KITH_LOG_SYNC_SELDOM,
                                       .seed = c->options->seed};
    int status = kith_log_open(&c->log, &options, NULL, 0, c->error);
    if (status != KITH_OK)
        return status;
    status = read_log(c);
    int closed = kith_log_close(c->log);
    c->log = NULL;
    if (status == KITH_OK && closed != KITH_OK)
        status = kith_error_set(c->error, closed, "the log in %s cannot be written: %s", to,
                                kith_status_text(closed));
    if (status == KITH_OK && c->next_index - 1 != c->found.last_index)
        status = kith_error_set(c->error, KITH_EAGAIN, "%s has changed meanwhile", c->options->from);
    return status;
}

/* The last step makes it a folder that a server starts on. */
static int fill(struct copy *c, struct kith_store *store, const char *to, struct kith_restore_made *made)
{
    struct kith_state state = kith_store_get_found(store)->state;
    made->group_id = state.folder_id;
    made->node_id = state.node_id;
    int status = kith_core_encode_single(&c->alone, state.node_id, "local");
    if (status != KITH_OK)
        return kith_error_set(c->error, status, "%s", kith_status_text(status));
    status = write_checkpoint(c, to, state.folder_id);
    if (status == KITH_OK)
        status = write_log(c, to, state.folder_id);
    if (status != KITH_OK)
        return status;
    state.term = c->found.term;
    state.bootstrapped = true;
    state.backup = false;
    return kith_store_save_state(store, &state, c->error);
}

struct removing {
    struct kith_fs *fs;
    const char *dir;
    char path[PATH_BYTES];
};

static int remember_name(void *context, const char *name)
{
    struct removing *r = context;
    if (!is_ours(NULL, name))
        return 0;
    snprintf(r->path, sizeof r->path, "%s/%s", r->dir, name);
    return 1;
}

/* What a failure has left; the folder was empty before. */
static void remove_all(struct kith_fs *fs, const char *dir)
{
    struct removing r = {.fs = fs, .dir = dir};
    while (fs->list(fs, dir, remember_name, &r) == 1 && fs->unlink(fs, r.path) == KITH_OK)
        ;
}

int kith_restore(const struct kith_restore_options *options, const char *to, struct kith_restore_found *found,
                 struct kith_restore_made *made, struct kith_error *error)
{
    struct copy c;
    struct kith_store *store = NULL;
    begin(&c, options, error);
    int status = strlen(to) > PATH_BYTES - 100 ? kith_error_set(error, KITH_ETOOBIG, "the path is too long")
                                               : check_empty(&c, to);
    if (status == KITH_OK)
        status = look(&c);
    struct kith_store_options opening = {.fs = c.fs, .dir = to, .seed = options->seed, .backup = true};
    if (status == KITH_OK)
        status = kith_store_open(&store, &opening, error);
    if (status == KITH_OK) {
        status = fill(&c, store, to, made);
        kith_store_close(store);
        if (status != KITH_OK)
            remove_all(c.fs, to);
    }
    if (status == KITH_OK)
        *found = c.found;
    end(&c);
    return status;
}
