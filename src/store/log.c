/* The log thread: group commit, and rolling from segment to segment.
 *
 * Each new segment is made under a temporary name, preallocated, given its header, synced and only then
 * renamed, so that a segment with its own name always has a whole header. The old one is sealed and synced
 * before the new one is made: only the last segment of a folder can end in an unfinished write. */
#include "store/log.h"

#include "base/assert.h"
#include "base/log.h"
#include "store/segment_maker.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    STAGING_BYTES = 1 << 20,
    COPY_BELOW = 32 << 10, /* payloads up to this go through the staging buffer */
    GROUP_BYTES =
        16 << 20, /* sync at least this often: the first of a long queue should not wait for its last */
    GATHER_NS = 500 * 1000, /* without a sync per group: how long entries gather before they are written */
    SYNC_INTERVAL_NS = 1000000000,
};

struct kith_log {
    struct kith_log_options options;
    pthread_t thread; /* none with options.manual */
    pthread_mutex_t mutex;
    pthread_cond_t work;  /* for the thread */
    pthread_cond_t moved; /* for those who wait for space or a flush */

    /* under the mutex */
    struct kith_log_entry *head, *tail;
    size_t queued_entries, queued_bytes; /* in the list or being written */
    bool idle, closing, flush_wanted, must_sync;
    enum kith_log_sync sync;
    uint64_t appended;                              /* last index queued */
    uint64_t first_index;                           /* of the entries there are */
    uint64_t asked_truncations, listed_truncations; /* queued so far; of which `segments` knows */
    _Atomic int failure;                            /* written under the mutex */
    struct kith_error failure_text;
    struct kith_log_segment *segments; /* on the disk, oldest first; the last is the current one */
    size_t segment_count, segment_capacity;
    uint64_t groups, bytes;

    _Atomic uint64_t written, synced, truncations, syncs, committed;
    atomic_bool wake_pending;

    /* the thread's own */
    struct kith_segment_maker *maker;
    struct kith_file *file;
    uint64_t sequence, asked_for, salt, file_bytes, offset, synced_offset;
    uint64_t written_index, written_truncations;
    uint64_t reset_index; /* what the last reset has left begins here; 0: not since account() told */
    uint64_t least_index; /* of the current segment: see kith_log_segment */
    bool takes_back;
    uint64_t last_sync_ns;
    int status; /* of its work: after the first failure nothing is written */
    char *staging;
    size_t staged;        /* bytes in staging; they belong at offset - staged */
    uint64_t group_bytes; /* since the last sync */
};

void kith_log_entry_release(struct kith_log_entry *entry)
{
    if (atomic_fetch_sub_explicit(&entry->references, 1, memory_order_acq_rel) != 1)
        return;
    kith_buf_fini(&entry->payload);
    free(entry);
}

static uint64_t now_ns(const struct kith_log *log)
{
    return kith_clock_monotonic_ns(&log->options.clock);
}

static bool takes_back(enum kith_record_kind kind)
{
    return kind == KITH_RECORD_TRUNCATE || kind == KITH_RECORD_RESET;
}

static void path_of(const struct kith_log *log, char out[4096], const char *name)
{
    snprintf(out, 4096, "%s/%s", log->options.dir, name);
}

/* --- segments --- */

/* Begins the next segment; the old file, if any, is closed. */
static int take_segment(struct kith_log *log, uint64_t first_index, uint64_t need)
{
    struct kith_new_segment segment;
    int status = kith_segment_maker_take(log->maker, log->sequence + 1, first_index, need, &segment);
    if (status != KITH_OK)
        return status;
    kith_file_close(log->file);
    log->file = segment.file;
    log->sequence = segment.sequence;
    log->salt = segment.salt;
    log->file_bytes = segment.bytes;
    log->offset = log->synced_offset = KITH_SEGMENT_HEADER_BYTES;
    log->least_index = first_index;
    log->takes_back = false;
    return KITH_OK;
}

static int list_segment(struct kith_log *log, struct kith_log_segment segment)
{
    if (log->segment_count == log->segment_capacity) {
        size_t capacity = log->segment_capacity ? log->segment_capacity * 2 : 8;
        void *larger = realloc(log->segments, capacity * sizeof *log->segments);
        if (!larger)
            return KITH_ENOMEM;
        log->segments = larger;
        log->segment_capacity = capacity;
    }
    log->segments[log->segment_count++] = segment;
    return KITH_OK;
}

static struct kith_log_segment fresh_segment(const struct kith_log *log, uint64_t first_index)
{
    return (struct kith_log_segment){.sequence = log->sequence,
                                     .first_index = first_index,
                                     .bytes = KITH_SEGMENT_HEADER_BYTES,
                                     .least_index = first_index};
}

/* With the mutex held: what readers may know of the current segment, up to `bytes` of it. */
static void tell_segment(struct kith_log *log, uint64_t bytes)
{
    struct kith_log_segment *current = &log->segments[log->segment_count - 1];
    current->bytes = bytes;
    current->least_index = log->least_index;
    current->takes_back = log->takes_back;
    log->listed_truncations = log->written_truncations;
    if (log->reset_index)
        log->first_index = log->reset_index;
    else if (log->first_index > log->least_index)
        log->first_index = log->least_index;
    log->reset_index = 0;
}

/* --- writing (log thread) --- */

static int write_staged(struct kith_log *log)
{
    if (!log->staged)
        return KITH_OK;
    struct kith_slice piece = kith_slice(log->staging, log->staged);
    int status = log->options.fs->write(log->file, &piece, 1, log->offset - log->staged);
    log->staged = 0;
    return status;
}

static int sync_segment(struct kith_log *log)
{
    int status = write_staged(log);
    if (status == KITH_OK && log->synced_offset < log->offset) {
        status = log->options.fs->sync(log->file, KITH_FS_SYNC_DATA);
        atomic_fetch_add_explicit(&log->syncs, 1, memory_order_relaxed);
    }
    if (status != KITH_OK)
        return status;
    log->synced_offset = log->offset;
    log->last_sync_ns = now_ns(log);
    log->group_bytes = 0;
    atomic_store(&log->synced, log->written_index); /* before the look at wake_pending: see kith_log_synced */
    atomic_store(&log->truncations, log->written_truncations);
    return KITH_OK;
}

/* Puts one record behind the last; room for it in the segment was seen to. */
static int put_record(struct kith_log *log, const struct kith_record *record)
{
    static const char zeros[8];
    char header[KITH_RECORD_HEADER_BYTES];
    size_t padding = -record->payload.length & 7;
    uint64_t bytes = kith_record_bytes(record->payload.length);
    kith_record_encode_header(header, record, log->offset, log->salt);
    int status = KITH_OK;
    if (record->payload.length > COPY_BELOW) {
        status = write_staged(log);
        struct kith_slice pieces[3] = {kith_slice(header, sizeof header), record->payload,
                                       kith_slice(zeros, padding)};
        if (status == KITH_OK)
            status = log->options.fs->write(log->file, pieces, 3, log->offset);
    } else {
        if (log->staged + bytes > STAGING_BYTES)
            status = write_staged(log);
        char *to = log->staging + log->staged;
        memcpy(to, header, sizeof header);
        if (record->payload.length)
            memcpy(to + sizeof header, record->payload.data, record->payload.length);
        memcpy(to + sizeof header + record->payload.length, zeros, padding);
        log->staged += bytes;
    }
    log->offset += bytes;
    log->group_bytes += bytes;
    return status;
}

/* Seals and syncs the current segment; the preallocated rest is given back. */
static int seal_segment(struct kith_log *log, uint64_t next_index, uint64_t term)
{
    int status = sync_segment(log);
    if (status != KITH_OK)
        return status;
    struct kith_record seal = {
        .kind = KITH_RECORD_SEAL, .index = next_index, .term = term, .synced = log->synced_offset};
    status = put_record(log, &seal);
    if (status == KITH_OK)
        status = sync_segment(log);
    if (status == KITH_OK)
        status = log->options.fs->truncate(log->file, log->offset);
    return status;
}

static int roll(struct kith_log *log, uint64_t next_index, uint64_t term, uint64_t need)
{
    int status = seal_segment(log, next_index, term);
    if (status != KITH_OK)
        return status;
    pthread_mutex_lock(&log->mutex);
    tell_segment(log, log->offset);
    pthread_mutex_unlock(&log->mutex);
    status = take_segment(log, next_index, need);
    if (status != KITH_OK)
        return status;
    pthread_mutex_lock(&log->mutex);
    status = list_segment(log, fresh_segment(log, next_index));
    pthread_mutex_unlock(&log->mutex);
    return status;
}

/* A record that makes others void was written. A reset's segment ends here, so that all that it made void can go. */
static int note_taken_back(struct kith_log *log, const struct kith_log_entry *entry)
{
    log->written_index = entry->index - 1;
    log->written_truncations++;
    log->takes_back = true;
    if (log->least_index > entry->index)
        log->least_index = entry->index;
    if (entry->kind != KITH_RECORD_RESET)
        return KITH_OK;
    log->reset_index = entry->index;
    return roll(log, entry->index, entry->term, 0);
}

static int write_entry(struct kith_log *log, const struct kith_log_entry *entry)
{
    uint64_t need = kith_record_bytes(entry->payload.length) + KITH_RECORD_HEADER_BYTES; /* and the seal */
    if (log->offset + need > log->file_bytes) {
        int status = roll(log, log->written_index + 1, entry->term, need);
        if (status != KITH_OK)
            return status;
    }
    struct kith_record record = {.kind = entry->kind,
                                 .index = entry->index,
                                 .term = entry->term,
                                 .synced = log->synced_offset,
                                 .payload = kith_buf_slice(&entry->payload)};
    int status = put_record(log, &record);
    if (log->offset > log->file_bytes / 2 && log->asked_for <= log->sequence) {
        log->asked_for = log->sequence + 1; /* once: when it fails, the roll tries again and tells */
        kith_segment_maker_prepare(log->maker, log->asked_for);
    }
    if (status != KITH_OK)
        return status;
    if (takes_back(entry->kind))
        return note_taken_back(log, entry);
    log->written_index = entry->index;
    return KITH_OK;
}

static void fail(struct kith_log *log, int status)
{
    pthread_mutex_lock(&log->mutex);
    if (log->failure == KITH_OK) {
        kith_error_set(
            &log->failure_text, status,
            "the log in %s cannot be written (%s): writes are refused until the server is started again; %s",
            log->options.dir, kith_status_text(status),
            status == KITH_ENOSPC ? "free some disk space first"
                                  : "look into the system's log for the disk's error first");
        log->failure = status; /* after the text: the keyspace thread looks without the mutex */
        KITH_ERROR("%s", log->failure_text.text);
    }
    pthread_cond_broadcast(&log->moved);
    pthread_mutex_unlock(&log->mutex);
}

static void wake(struct kith_log *log)
{
    if (log->options.wake && !atomic_exchange(&log->wake_pending, true))
        log->options.wake(log->options.wake_context);
}

/* What is known to be queued is gone from the queue: tell those who wait for space. */
static void account(struct kith_log *log, size_t entries, size_t bytes)
{
    atomic_store_explicit(&log->written, log->written_index, memory_order_release);
    pthread_mutex_lock(&log->mutex);
    log->queued_entries -= entries;
    log->queued_bytes -= bytes;
    log->groups++;
    log->bytes += bytes;
    tell_segment(log, log->offset - log->staged);
    pthread_cond_broadcast(&log->moved);
    pthread_mutex_unlock(&log->mutex);
}

/* Writes a list of entries and releases them; syncs as the mode asks. */
static int write_list(struct kith_log *log, struct kith_log_entry *list, enum kith_log_sync mode, int status)
{
    size_t entries = 0, bytes = 0;
    while (list) {
        struct kith_log_entry *next = list->next;
        if (status == KITH_OK)
            status = write_entry(log, list);
        entries++;
        bytes += kith_record_bytes(list->payload.length);
        kith_log_entry_release(list);
        list = next;
        bool last = !list;
        if (last && status == KITH_OK)
            status = write_staged(log);
        if (mode == KITH_LOG_SYNC_EACH_GROUP && status == KITH_OK &&
            (last || log->group_bytes > GROUP_BYTES)) {
            status = sync_segment(log);
            wake(log);
        }
        if (last || bytes > GROUP_BYTES) {
            if (status != KITH_OK)
                fail(log, status);
            account(log, entries, bytes);
            entries = bytes = 0;
        }
    }
    return status;
}

static bool has_work(const struct kith_log *log)
{
    return log->head || log->closing || log->flush_wanted || log->must_sync;
}

/* A second is over since the last sync, and there is something to sync. */
static bool sync_is_due(const struct kith_log *log)
{
    return log->sync == KITH_LOG_SYNC_EACH_SECOND && log->synced_offset < log->offset &&
           log->failure == KITH_OK && now_ns(log) - log->last_sync_ns >= SYNC_INTERVAL_NS;
}

/* Waits, with the mutex held, until there is something to do or, with unsynced bytes, the second is over. */
static void wait_for_work(struct kith_log *log)
{
    while (!has_work(log)) {
        log->idle = true;
        bool dirty = log->synced_offset < log->offset && log->failure == KITH_OK;
        if (dirty && log->sync == KITH_LOG_SYNC_EACH_SECOND) {
            uint64_t due = log->last_sync_ns + SYNC_INTERVAL_NS;
            struct timespec until = {.tv_sec = (time_t)(due / 1000000000),
                                     .tv_nsec = (long)(due % 1000000000)};
            if (pthread_cond_timedwait(&log->work, &log->mutex, &until) != 0)
                break;
        } else
            pthread_cond_wait(&log->work, &log->mutex);
    }
    log->idle = false;
}

/* Without a sync per group nobody waits for the write, so it can wait for company: one write and one wake-up
 * of this thread for all that arrives within half a millisecond. */
static void gather(struct kith_log *log)
{
    if (log->sync == KITH_LOG_SYNC_EACH_GROUP || log->closing || log->flush_wanted ||
        log->queued_bytes > STAGING_BYTES)
        return;
    pthread_mutex_unlock(&log->mutex);
    nanosleep(&(struct timespec){.tv_nsec = GATHER_NS}, NULL);
    pthread_mutex_lock(&log->mutex);
}

/* One round, entered and left with the mutex held: writes what is queued and syncs. False: closing, and all done. */
static bool work_once(struct kith_log *log)
{
    struct kith_log_entry *list = log->head;
    log->head = log->tail = NULL;
    bool flush = log->flush_wanted || log->must_sync, closing = log->closing;
    enum kith_log_sync mode = log->sync;
    log->must_sync = false;
    pthread_mutex_unlock(&log->mutex);

    if (list)
        log->status = write_list(log, list, mode, log->status);
    bool due = mode == KITH_LOG_SYNC_EACH_SECOND && now_ns(log) - log->last_sync_ns >= SYNC_INTERVAL_NS;
    if (log->status == KITH_OK && (flush || due)) {
        log->status = sync_segment(log);
        if (log->status != KITH_OK)
            fail(log, log->status);
    }
    if (mode == KITH_LOG_SYNC_EACH_GROUP || flush || log->status != KITH_OK)
        wake(log);

    pthread_mutex_lock(&log->mutex);
    if (flush && !log->head) {
        log->flush_wanted = false;
        pthread_cond_broadcast(&log->moved);
    }
    return !closing || log->head;
}

static void *log_thread(void *arg)
{
    struct kith_log *log = arg;
    pthread_mutex_lock(&log->mutex);
    do {
        wait_for_work(log);
        gather(log);
    } while (work_once(log));
    pthread_mutex_unlock(&log->mutex);
    return NULL;
}

bool kith_log_run(struct kith_log *log)
{
    KITH_ASSERT(log->options.manual);
    pthread_mutex_lock(&log->mutex);
    bool any = has_work(log) || sync_is_due(log);
    if (any)
        (void)work_once(log);
    pthread_mutex_unlock(&log->mutex);
    return any;
}

/* --- the keyspace thread's side --- */

static void conditions_init(struct kith_log *log)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&log->mutex, NULL);
    pthread_cond_init(&log->work, &attributes);
    pthread_cond_init(&log->moved, &attributes);
    pthread_condattr_destroy(&attributes);
}

static void log_free(struct kith_log *log)
{
    kith_segment_maker_close(log->maker);
    kith_file_close(log->file);
    pthread_cond_destroy(&log->work);
    pthread_cond_destroy(&log->moved);
    pthread_mutex_destroy(&log->mutex);
    free(log->segments);
    free(log->staging);
    free(log);
}

int kith_log_open(struct kith_log **out, const struct kith_log_options *options,
                  const struct kith_log_segment *old, size_t old_count, struct kith_error *error)
{
    struct kith_log *log = calloc(1, sizeof *log);
    if (!log)
        return kith_error_set(error, KITH_ENOMEM, "out of memory");
    log->options = *options;
    log->sync = options->sync;
    log->sequence = options->next_sequence - 1;
    log->appended = log->written_index = options->next_index - 1;
    log->first_index = options->first_index ? options->first_index : 1;
    atomic_init(&log->written, options->next_index - 1);
    atomic_init(&log->synced, options->next_index - 1);
    atomic_init(&log->committed, options->committed);
    log->last_sync_ns = now_ns(log);
    conditions_init(log);
    int status = KITH_OK;
    log->staging = malloc(STAGING_BYTES);
    if (!log->staging)
        status = KITH_ENOMEM;
    struct kith_segment_maker_options making = {.fs = options->fs,
                                                .dir = options->dir,
                                                .folder_id = options->folder_id,
                                                .segment_bytes = options->segment_bytes,
                                                .helper = options->helper,
                                                .clock = options->clock,
                                                .seed = options->seed,
                                                .committed = &log->committed};
    if (status == KITH_OK)
        status = kith_segment_maker_open(&log->maker, &making);
    for (size_t i = 0; i < old_count && status == KITH_OK; i++)
        status = list_segment(log, old[i]);
    if (status == KITH_OK)
        status = take_segment(log, options->next_index, 0);
    if (status == KITH_OK)
        status = list_segment(log, fresh_segment(log, options->next_index));
    if (status == KITH_OK && !options->manual && pthread_create(&log->thread, NULL, log_thread, log) != 0)
        status = KITH_EAGAIN;
    if (status != KITH_OK) {
        kith_error_set(error, status, "cannot make a new log segment in %s: %s%s", options->dir,
                       kith_status_text(status),
                       status == KITH_ENOSPC ? "; free some disk space and start again" : "");
        log_free(log);
        return status;
    }
    *out = log;
    return KITH_OK;
}

int kith_log_close(struct kith_log *log)
{
    if (!log)
        return KITH_OK;
    int status = kith_log_flush(log);
    pthread_mutex_lock(&log->mutex);
    log->closing = true;
    pthread_cond_signal(&log->work);
    pthread_mutex_unlock(&log->mutex);
    if (!log->options.manual)
        pthread_join(log->thread, NULL);
    if (status == KITH_OK)
        status = seal_segment(log, log->appended + 1, 0);
    if (status == KITH_OK)
        status = log->options.fs->sync(log->file, KITH_FS_SYNC_ALL);
    log_free(log);
    return status;
}

void kith_log_append(struct kith_log *log, struct kith_log_entry *entry)
{
    size_t bytes = kith_record_bytes(entry->payload.length);
    entry->next = NULL;
    pthread_mutex_lock(&log->mutex);
    while (log->queued_bytes > log->options.queue_bytes && log->failure == KITH_OK && !log->options.manual)
        pthread_cond_wait(&log->moved, &log->mutex);
    bool back = takes_back(entry->kind);
    KITH_ASSERT(entry->kind == KITH_RECORD_RESET
                    ? entry->index > 0
                    : entry->index == log->appended + 1 || (back && entry->index <= log->appended));
    log->appended = back ? entry->index - 1 : entry->index;
    log->asked_truncations += back;
    if (log->tail)
        log->tail->next = entry;
    else
        log->head = entry;
    log->tail = entry;
    log->queued_entries++;
    log->queued_bytes += bytes;
    if (log->idle)
        pthread_cond_signal(&log->work);
    pthread_mutex_unlock(&log->mutex);
}

void kith_log_set_committed(struct kith_log *log, uint64_t index)
{
    atomic_store_explicit(&log->committed, index, memory_order_relaxed);
}

bool kith_log_is_behind(struct kith_log *log)
{
    pthread_mutex_lock(&log->mutex);
    bool behind = log->queued_bytes > log->options.queue_bytes / 4 && log->failure == KITH_OK;
    pthread_mutex_unlock(&log->mutex);
    return behind;
}

void kith_log_progress(struct kith_log *log, struct kith_log_progress *out)
{
    atomic_store(&log->wake_pending, false);
    pthread_mutex_lock(&log->mutex);
    *out = (struct kith_log_progress){.written = atomic_load(&log->written),
                                      .synced = atomic_load(&log->synced),
                                      .committed = atomic_load(&log->committed),
                                      .failure = log->failure,
                                      .waiting_entries = log->queued_entries,
                                      .waiting_bytes = log->queued_bytes,
                                      .groups = log->groups,
                                      .syncs = atomic_load(&log->syncs),
                                      .bytes = log->bytes};
    for (size_t i = 0; i < log->segment_count; i++)
        out->live_bytes += log->segments[i].bytes;
    pthread_mutex_unlock(&log->mutex);
}

uint64_t kith_log_synced(struct kith_log *log, uint64_t *truncations)
{
    /* Either this load sees what the thread published last, or the thread sees the wake rearmed. */
    atomic_store(&log->wake_pending, false);
    uint64_t count = atomic_load(&log->truncations); /* first: the index read next is then no older */
    if (truncations)
        *truncations = count;
    return atomic_load(&log->synced);
}

int kith_log_failure(struct kith_log *log, struct kith_error *error)
{
    int status = log->failure;
    if (status != KITH_OK && error) {
        pthread_mutex_lock(&log->mutex);
        *error = log->failure_text;
        pthread_mutex_unlock(&log->mutex);
    }
    return status;
}

void kith_log_set_sync(struct kith_log *log, enum kith_log_sync sync)
{
    pthread_mutex_lock(&log->mutex);
    log->sync = sync;
    log->must_sync = true;
    pthread_cond_signal(&log->work);
    pthread_mutex_unlock(&log->mutex);
}

int kith_log_flush(struct kith_log *log)
{
    pthread_mutex_lock(&log->mutex);
    log->flush_wanted = true;
    pthread_cond_signal(&log->work);
    while (log->flush_wanted) {
        if (log->options.manual)
            (void)work_once(log);
        else
            pthread_cond_wait(&log->moved, &log->mutex);
    }
    int status = log->failure;
    pthread_mutex_unlock(&log->mutex);
    return status;
}

/* With the mutex held. The oldest segment need not have the least entry: a later one may have taken back more. */
static void note_trimmed(struct kith_log *log)
{
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < log->segment_count; i++)
        if (log->segments[i].least_index < least)
            least = log->segments[i].least_index;
    if (log->first_index < least)
        log->first_index = least;
}

int kith_log_trim(struct kith_log *log, uint64_t index)
{
    int status = KITH_OK;
    for (;;) {
        struct kith_log_segment oldest;
        char name[KITH_SEGMENT_NAME_BYTES], path[4096];
        pthread_mutex_lock(&log->mutex);
        /* The start of recovery is the last segment whose first index is at most index + 1; those before it
         * may go. */
        bool covered = false;
        for (size_t i = 1; i < log->segment_count && !covered; i++)
            covered = log->segments[i].first_index <= index + 1;
        if (covered)
            oldest = log->segments[0];
        pthread_mutex_unlock(&log->mutex);
        if (!covered)
            break;
        kith_segment_name(name, oldest.sequence, oldest.first_index);
        path_of(log, path, name);
        status = log->options.fs->unlink(log->options.fs, path);
        if (status != KITH_OK && status != KITH_ENOENT)
            break;
        status = KITH_OK;
        pthread_mutex_lock(&log->mutex);
        log->segment_count--;
        memmove(log->segments, log->segments + 1, log->segment_count * sizeof *log->segments);
        note_trimmed(log);
        pthread_mutex_unlock(&log->mutex);
    }
    return status;
}

/* --- what is kept, and where it lies --- */

uint64_t kith_log_keep_from(struct kith_log *log, uint64_t index, uint64_t bytes)
{
    pthread_mutex_lock(&log->mutex);
    size_t i = log->segment_count;
    while (i > 1 && log->segments[i - 1].first_index > index + 1)
        i--;
    uint64_t from = index + 1;
    if (i) { /* the segment that recovery begins with stays in any case */
        from = log->segments[--i].first_index;
        for (; i > 0 && from > log->first_index && log->segments[i - 1].bytes <= bytes; i--) {
            bytes -= log->segments[i - 1].bytes;
            if (log->segments[i - 1].least_index < from)
                from = log->segments[i - 1].least_index;
        }
    }
    if (from < log->first_index)
        from = log->first_index;
    pthread_mutex_unlock(&log->mutex);
    return from < index + 1 ? from : index + 1;
}

uint64_t kith_log_first_index(struct kith_log *log)
{
    pthread_mutex_lock(&log->mutex);
    uint64_t first = log->first_index;
    pthread_mutex_unlock(&log->mutex);
    return first;
}

/* An entry lies in the last segment that begins with it or before it, or takes back entries from there on. */
static int find(const struct kith_log *log, uint64_t index, struct kith_log_place *out)
{
    uint64_t below = UINT64_MAX;
    if (log->asked_truncations != log->listed_truncations)
        return KITH_EAGAIN;
    if (index < log->first_index || index > log->written)
        return KITH_ENOENT;
    for (size_t i = log->segment_count; i > 0; i--) {
        const struct kith_log_segment *segment = &log->segments[i - 1];
        if (segment->least_index <= index) {
            *out = (struct kith_log_place){.fs = log->options.fs,
                                           .dir = log->options.dir,
                                           .segment = *segment,
                                           .below = below,
                                           .truncations = log->asked_truncations};
            return KITH_OK;
        }
        if (segment->least_index < below)
            below = segment->least_index;
    }
    return KITH_ENOENT;
}

int kith_log_find(struct kith_log *log, uint64_t index, struct kith_log_place *out)
{
    pthread_mutex_lock(&log->mutex);
    int status = find(log, index, out);
    pthread_mutex_unlock(&log->mutex);
    return status;
}

bool kith_log_is_place(struct kith_log *log, const struct kith_log_place *place)
{
    pthread_mutex_lock(&log->mutex);
    bool is = log->asked_truncations == place->truncations;
    pthread_mutex_unlock(&log->mutex);
    return is;
}
