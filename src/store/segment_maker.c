/* Making segments, ahead of time where there is a helper. */
#include "store/segment_maker.h"

#include "base/random.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* ASKED -> MAKING -> READY are the helper's steps; the log takes back what is only ASKED, waits for MAKING. */
enum state { NOTHING, ASKED, MAKING, READY };

struct kith_segment_maker {
    struct kith_segment_maker_options options;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    enum state state;
    unsigned references;          /* the log's, and one for each task that has not run yet */
    uint64_t round;               /* of asking: a task of an earlier round has nothing to do */
    struct kith_new_segment next; /* asked for, or ready */
    char temporary[4096];
};

/* Freed by its `done`, since the helper may hold it for longer than the maker lives. */
struct make_task {
    struct kith_task task;
    struct kith_segment_maker *maker;
    uint64_t round;
};

int kith_segment_maker_open(struct kith_segment_maker **out, const struct kith_segment_maker_options *options)
{
    struct kith_segment_maker *maker = calloc(1, sizeof *maker);
    if (!maker)
        return KITH_ENOMEM;
    maker->options = *options;
    maker->references = 1;
    snprintf(maker->temporary, sizeof maker->temporary, "%s/log-next.tmp", options->dir);
    pthread_mutex_init(&maker->mutex, NULL);
    pthread_cond_init(&maker->changed, NULL);
    *out = maker;
    return KITH_OK;
}

static void drop_ready(struct kith_segment_maker *maker)
{
    kith_file_close(maker->next.file);
    (void)maker->options.fs->unlink(maker->options.fs, maker->temporary); /* the next open would */
    maker->state = NOTHING;
}

/* With the mutex held, which it gives up. */
static void release(struct kith_segment_maker *maker)
{
    bool last = --maker->references == 0;
    pthread_cond_broadcast(&maker->changed);
    pthread_mutex_unlock(&maker->mutex);
    if (!last)
        return;
    pthread_cond_destroy(&maker->changed);
    pthread_mutex_destroy(&maker->mutex);
    free(maker);
}

void kith_segment_maker_close(struct kith_segment_maker *maker)
{
    if (!maker)
        return;
    pthread_mutex_lock(&maker->mutex);
    maker->round++;
    while (maker->state == MAKING)
        pthread_cond_wait(&maker->changed, &maker->mutex);
    if (maker->state == READY)
        drop_ready(maker);
    maker->state = NOTHING;
    release(maker);
}

static uint64_t draw_salt(const struct kith_segment_maker *maker, uint64_t sequence)
{
    uint64_t salt, state = maker->options.seed + sequence;
    if (maker->options.seed)
        return kith_splitmix64(&state);
    kith_os_random(&salt, sizeof salt);
    return salt;
}

/* The file under its temporary name, synced. segment->sequence and bytes say which and how long. */
static int make(struct kith_segment_maker *maker, struct kith_new_segment *segment)
{
    struct kith_fs *fs = maker->options.fs;
    struct kith_file *file = NULL;
    struct kith_segment_header header = {.folder_id = maker->options.folder_id,
                                         .sequence = segment->sequence,
                                         .salt = draw_salt(maker, segment->sequence),
                                         .created_ms = kith_clock_wall_ms(&maker->options.clock)};
    if (maker->options.committed)
        header.committed = atomic_load_explicit(maker->options.committed, memory_order_relaxed);
    char *page = malloc(KITH_SEGMENT_HEADER_BYTES);
    if (!page)
        return KITH_ENOMEM;
    kith_segment_encode_header(page, &header);
    struct kith_slice piece = kith_slice(page, KITH_SEGMENT_HEADER_BYTES);
    int status = fs->open(fs, maker->temporary, KITH_FS_WRITE | KITH_FS_CREATE | KITH_FS_EMPTY, &file);
    if (status == KITH_OK)
        status = fs->preallocate(file, segment->bytes);
    if (status == KITH_OK)
        status = fs->write(file, &piece, 1, 0);
    if (status == KITH_OK)
        status = fs->sync(file, KITH_FS_SYNC_ALL);
    free(page);
    if (status != KITH_OK) {
        kith_file_close(file);
        return status;
    }
    segment->file = file;
    segment->salt = header.salt;
    return KITH_OK;
}

static void run_make(struct kith_task *t)
{
    struct make_task *task = (struct make_task *)t;
    struct kith_segment_maker *maker = task->maker;
    pthread_mutex_lock(&maker->mutex);
    if (maker->state == ASKED && task->round == maker->round) {
        struct kith_new_segment segment = maker->next;
        maker->state = MAKING;
        pthread_mutex_unlock(&maker->mutex);
        int status = make(maker, &segment);
        pthread_mutex_lock(&maker->mutex);
        maker->next = segment;
        maker->state = status == KITH_OK ? READY : NOTHING;
    }
    release(maker);
}

static void free_make(struct kith_task *task)
{
    free(task);
}

void kith_segment_maker_prepare(struct kith_segment_maker *maker, uint64_t sequence)
{
    if (!maker->options.helper.submit)
        return;
    pthread_mutex_lock(&maker->mutex);
    struct make_task *task = maker->state == NOTHING ? malloc(sizeof *task) : NULL;
    if (task) {
        *task = (struct make_task){.maker = maker, .round = ++maker->round};
        maker->next = (struct kith_new_segment){.sequence = sequence, .bytes = maker->options.segment_bytes};
        maker->state = ASKED;
        maker->references++;
        task->task.run = run_make;
        task->task.done = free_make;
    }
    pthread_mutex_unlock(&maker->mutex);
    if (task)
        kith_executor_submit(&maker->options.helper, &task->task);
}

/* Takes what the helper has, or tells it to leave it be. True: *out is the right one. */
static bool take_ready(struct kith_segment_maker *maker, uint64_t sequence, uint64_t bytes,
                       struct kith_new_segment *out)
{
    pthread_mutex_lock(&maker->mutex);
    while (maker->state == MAKING)
        pthread_cond_wait(&maker->changed, &maker->mutex);
    bool fits = maker->state == READY && maker->next.sequence == sequence && maker->next.bytes >= bytes;
    if (fits) {
        *out = maker->next;
        maker->state = NOTHING;
    } else if (maker->state == READY) {
        drop_ready(maker);
    } else {
        maker->state = NOTHING;
        maker->round++;
    }
    pthread_mutex_unlock(&maker->mutex);
    return fits;
}

int kith_segment_maker_take(struct kith_segment_maker *maker, uint64_t sequence, uint64_t first_index,
                            uint64_t need, struct kith_new_segment *out)
{
    struct kith_fs *fs = maker->options.fs;
    char name[KITH_SEGMENT_NAME_BYTES], path[4096];
    uint64_t bytes = KITH_SEGMENT_HEADER_BYTES + need;
    if (bytes < maker->options.segment_bytes)
        bytes = maker->options.segment_bytes;
    struct kith_new_segment segment = {.sequence = sequence, .bytes = bytes};
    int status = take_ready(maker, sequence, bytes, &segment) ? KITH_OK : make(maker, &segment);
    if (status != KITH_OK)
        return status;
    kith_segment_name(name, sequence, first_index);
    snprintf(path, sizeof path, "%s/%s", maker->options.dir, name);
    status = fs->rename(fs, maker->temporary, path);
    if (status == KITH_OK)
        status = fs->sync_folder(fs, maker->options.dir);
    if (status != KITH_OK) {
        fs->close(segment.file);
        return status;
    }
    *out = segment;
    return KITH_OK;
}
