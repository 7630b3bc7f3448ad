/* Reading a running node's checkpoints and log for a backup: what is asked for becomes a job of the thread that reads, and
 * the job's answer is given when it is drained. The thread does one job after the other, so that what a job touches (a held
 * file, the cursor) needs no lock. */
#include "repl/backup.h"

#include "repl/node_stream.h"

#include <stdlib.h>

enum {
    HELD_MAX = 4,
    JOBS_MAX = 64,
    HOLD_MS = 60000,      /* after the last read */
    SUM_BYTES = 16 << 20, /* of one turn of the thread */
    LOG_ENTRIES = 4096,   /* in one answer */
};

/* A checkpoint that is open for somebody. */
struct held {
    struct held *next;
    struct kith_outgoing file; /* the thread's while there are jobs */
    uint64_t index;
    uint64_t used_ms;
    size_t jobs;
    bool ready; /* summed up */
};

struct node_backups {
    struct held *held;
    size_t held_count, jobs;
    struct kith_log_cursor cursor;  /* the thread's, like the next two */
    uint64_t last_index, last_term; /* of the last entry that was read: the cursor is behind it */
};

struct job {
    struct kith_task task;
    struct kith_node *node;
    struct held *held;
    int status;
    uint64_t index, offset; /* of the checkpoint; or the entry that is asked for */
    size_t length;
    struct kith_buf bytes;
    struct kith_backup_log log;
    struct kith_log_batch batch;
    void (*opened)(void *context, int status, const struct kith_backup_file *file);
    void (*read)(void *context, int status, struct kith_slice bytes);
    void (*logged)(void *context, int status, const struct kith_backup_log *log);
    void *context;
};

static struct node_backups *need(struct kith_node *node)
{
    if (!node_streams_need(node))
        return NULL;
    if (!node->backups)
        node->backups = calloc(1, sizeof *node->backups);
    return node->backups;
}

/* KITH_OK: *out is a zeroed job, to be submitted or freed. */
static int new_job(struct kith_node *node, struct job **out)
{
    if (!node->log)
        return KITH_EPERM;
    if (node->closing)
        return KITH_ECLOSED;
    struct node_backups *backups = need(node);
    if (!backups)
        return KITH_ENOMEM;
    if (backups->jobs >= JOBS_MAX)
        return KITH_EBUSY;
    struct job *job = calloc(1, sizeof *job);
    if (!job)
        return KITH_ENOMEM;
    job->node = node;
    backups->jobs++;
    *out = job;
    return KITH_OK;
}

static void free_job(struct job *job)
{
    job->node->backups->jobs--;
    kith_buf_fini(&job->bytes);
    kith_log_batch_close(&job->batch);
    free(job);
}

static void submit(struct job *job, void (*run)(struct kith_task *), void (*done)(struct kith_task *))
{
    if (job->held)
        job->held->jobs++;
    node_stream_submit(job->node, &job->task, run, done);
}

static void job_ran(struct job *job)
{
    node_stream_task_done(job->node);
    if (job->held) {
        job->held->jobs--;
        job->held->used_ms = job->node->now_ms;
    }
}

/* --- what is held --- */

static struct held *find_held(const struct node_backups *backups, uint64_t index)
{
    struct held *held = backups->held;
    while (held && held->index != index)
        held = held->next;
    return held;
}

static void unlink_held(struct node_backups *backups, struct held *held)
{
    struct held **at = &backups->held;
    while (*at != held)
        at = &(*at)->next;
    *at = held->next;
    backups->held_count--;
}

static void close_file(struct kith_task *task)
{
    kith_outgoing_close(&((struct job *)task)->held->file);
}

static void file_closed(struct kith_task *task)
{
    struct job *job = (struct job *)task;
    node_stream_task_done(job->node);
    free(job->held);
    free_job(job);
}

/* The last close of a file without a name gives its space back, which takes long: that is the thread's, too. */
static bool let_go(struct kith_node *node, struct held *held)
{
    struct job *job;
    if (new_job(node, &job) != KITH_OK)
        return false;
    unlink_held(node->backups, held);
    job->held = held;
    node_stream_submit(node, &job->task, close_file, file_closed);
    return true;
}

static bool is_idle(const struct kith_node *node, const struct held *held, uint64_t for_ms)
{
    return held->jobs == 0 && node->now_ms >= held->used_ms && node->now_ms - held->used_ms >= for_ms;
}

/* Room for one more; KITH_EBUSY when all are being read. */
static int make_room(struct kith_node *node)
{
    struct held *oldest = NULL;
    if (node->backups->held_count < HELD_MAX)
        return KITH_OK;
    for (struct held *held = node->backups->held; held; held = held->next)
        if (is_idle(node, held, HOLD_MS / 6) && (!oldest || held->used_ms < oldest->used_ms))
            oldest = held;
    return oldest && let_go(node, oldest) ? KITH_OK : KITH_EBUSY;
}

void node_backup_poll(struct kith_node *node)
{
    struct held *next;
    for (struct held *held = node->backups ? node->backups->held : NULL; held; held = next) {
        next = held->next;
        if (is_idle(node, held, HOLD_MS))
            (void)let_go(node, held);
    }
}

uint64_t node_backup_due_ms(const struct kith_node *node)
{
    uint64_t at = UINT64_MAX;
    for (const struct held *held = node->backups ? node->backups->held : NULL; held; held = held->next)
        if (held->jobs == 0 && held->used_ms + HOLD_MS < at)
            at = held->used_ms + HOLD_MS;
    return at;
}

void node_backup_close(struct kith_node *node)
{
    struct node_backups *backups = node->backups;
    if (!backups)
        return;
    while (backups->held) {
        struct held *held = backups->held;
        backups->held = held->next;
        kith_outgoing_close(&held->file);
        free(held);
    }
    kith_log_cursor_close(&backups->cursor);
    free(backups);
    node->backups = NULL;
}

/* --- open --- */

static void open_and_sum(struct kith_task *task)
{
    struct job *job = (struct job *)task;
    const struct kith_node_options *options = &job->node->options;
    struct kith_outgoing *file = &job->held->file;
    job->status = KITH_OK;
    if (!file->file)
        job->status = kith_outgoing_open(file, options->fs, options->dir, job->index);
    if (job->status == KITH_OK)
        job->status = kith_outgoing_sum(file, SUM_BYTES);
}

static void opened(struct kith_task *task)
{
    struct job *job = (struct job *)task;
    struct held *held = job->held;
    job_ran(job);
    if (job->status > 0 && !job->node->closing) {
        submit(job, open_and_sum, opened);
        return;
    }
    if (job->status > 0)
        job->status = KITH_ECLOSED;
    struct kith_backup_file file = {0};
    if (job->status == KITH_OK) {
        const struct kith_checkpoint_info *info = &held->file.read.info;
        held->ready = true;
        file = (struct kith_backup_file){.index = info->index,
                                         .term = info->term,
                                         .bytes = info->file_bytes,
                                         .crc = held->file.file_crc,
                                         .created_ms = info->created_ms};
    } else if (held->jobs == 0 && !held->ready) {
        unlink_held(job->node->backups, held);
        kith_outgoing_close(&held->file);
        free(held);
    }
    job->opened(job->context, job->status, job->status == KITH_OK ? &file : NULL);
    free_job(job);
}

static int open_index(struct job *job, uint64_t index)
{
    struct node_backups *backups = job->node->backups;
    struct held *held = find_held(backups, index);
    int status = held ? KITH_OK : make_room(job->node);
    if (status != KITH_OK)
        return status;
    if (!held) {
        held = calloc(1, sizeof *held);
        if (!held)
            return KITH_ENOMEM;
        held->index = index;
        held->next = backups->held;
        backups->held = held;
        backups->held_count++;
    }
    job->held = held;
    job->index = index;
    submit(job, open_and_sum, opened);
    return KITH_OK;
}

static void checkpoint_made(void *context, int status)
{
    struct job *job = context;
    struct kith_node *node = job->node;
    if (status == KITH_OK && node->closing)
        status = KITH_ECLOSED;
    if (status == KITH_OK)
        status = open_index(job, node->status.checkpoint_index);
    if (status == KITH_OK)
        return;
    job->opened(job->context, status, NULL);
    free_job(job);
}

int kith_node_backup_open(struct kith_node *node, uint64_t index,
                          void (*done)(void *context, int status, const struct kith_backup_file *file),
                          void *context)
{
    struct job *job;
    int status = new_job(node, &job);
    if (status != KITH_OK)
        return status;
    job->opened = done;
    job->context = context;
    if (index == 0 && node->status.checkpoint_index == node->applied_index)
        index = node->applied_index;
    status = index ? open_index(job, index) : kith_node_checkpoint(node, checkpoint_made, job);
    if (status != KITH_OK)
        free_job(job);
    return status;
}

/* --- read --- */

static void read_piece(struct kith_task *task)
{
    struct job *job = (struct job *)task;
    job->status = kith_outgoing_read(&job->held->file, job->offset, job->length, &job->bytes);
}

static void piece_read(struct kith_task *task)
{
    struct job *job = (struct job *)task;
    job_ran(job);
    job->read(job->context, job->status, kith_buf_slice(&job->bytes));
    free_job(job);
}

int kith_node_backup_read(struct kith_node *node, uint64_t index, uint64_t offset, size_t length,
                          void (*done)(void *context, int status, struct kith_slice bytes), void *context)
{
    struct job *job;
    int status = new_job(node, &job);
    if (status != KITH_OK)
        return status;
    job->held = find_held(node->backups, index);
    if (!job->held || !job->held->ready) {
        free_job(job);
        return KITH_ENOENT;
    }
    job->offset = offset;
    job->length = length < KITH_BACKUP_PIECE_MAX ? length : KITH_BACKUP_PIECE_MAX;
    job->read = done;
    job->context = context;
    submit(job, read_piece, piece_read);
    return KITH_OK;
}

/* --- log --- */

static int read_entries(struct job *job, uint64_t from, size_t max_count, size_t max_bytes)
{
    struct node_backups *backups = job->node->backups;
    int status = kith_log_read(job->node->log, &backups->cursor, from, max_count, max_bytes, &job->batch);
    if (status == KITH_OK) {
        const struct kith_record *last = &job->batch.records[job->batch.count - 1];
        backups->last_index = last->index;
        backups->last_term = last->term;
    }
    return status;
}

/* The term of the entry before the first that is asked for says whether the reader's log and this one are the same. What was
 * committed stays as it was, so that it is known from the last time when the reader goes on where it was. */
static void read_log(struct kith_task *task)
{
    struct job *job = (struct job *)task;
    struct node_backups *backups = job->node->backups;
    uint64_t from = job->index;
    job->log.first_index = kith_log_first_index(job->node->log);
    if (from - 1 == backups->last_index && backups->last_index)
        job->log.previous_term = backups->last_term;
    else if (from > 1 && read_entries(job, from - 1, 1, 0) == KITH_OK)
        job->log.previous_term = job->batch.records[0].term;
    job->status = KITH_OK;
    if (from > job->log.last_index)
        return;
    uint64_t left = job->log.last_index - from + 1;
    job->status =
        read_entries(job, from, left < LOG_ENTRIES ? (size_t)left : LOG_ENTRIES, KITH_BACKUP_LOG_BYTES);
    if (job->status == KITH_OK) {
        job->log.records = job->batch.records;
        job->log.count = job->batch.count;
    }
}

static void log_read(struct kith_task *task)
{
    struct job *job = (struct job *)task;
    job_ran(job);
    job->logged(job->context, job->status, &job->log);
    free_job(job);
}

int kith_node_backup_log(struct kith_node *node, uint64_t from,
                         void (*done)(void *context, int status, const struct kith_backup_log *log),
                         void *context)
{
    struct kith_log_progress progress;
    struct job *job;
    if (from == 0)
        return KITH_EINVAL;
    int status = new_job(node, &job);
    if (status != KITH_OK)
        return status;
    kith_log_progress(node->log, &progress);
    job->index = from;
    job->log.last_index = progress.written < node->applied_index ? progress.written : node->applied_index;
    if (node->status.checkpoint_index == from - 1)
        job->log.previous_term = node->checkpoint_term;
    job->logged = done;
    job->context = context;
    submit(job, read_log, log_read);
    return KITH_OK;
}

/* --- limits --- */

void kith_node_set_limits(struct kith_node *node, const struct kith_node_limits *limits)
{
    node->options.keep_log_bytes = limits->keep_log_bytes;
    node->options.keep_always_bytes = limits->keep_always_bytes;
    node->options.stream_bytes_per_s = limits->stream_bytes_per_s;
    node->poll_now = true; /* a stream may go on at once */
}
