/* Opening a folder, reading it back, and handing its end to the log thread. */
#include "store/store.h"

#include "base/log.h"
#include "base/os.h"
#include "base/random.h"
#include "store/folder.h"
#include "store/incoming.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct kith_store {
    struct kith_fs *fs;
    char *dir;
    struct kith_file *lock;
    struct kith_folder folder;
    struct kith_store_found found;
    struct kith_checkpoint_read checkpoint; /* its header, when found.has_checkpoint */
    struct kith_folder_walk walk;           /* the last one; says where to cut */
};

static int make_folder(struct kith_store *store, struct kith_error *error)
{
    int status = store->fs->make_folder(store->fs, store->dir);
    if (status == KITH_EEXIST)
        return KITH_OK;
    char parent[4096];
    snprintf(parent, sizeof parent, "%s", store->dir);
    char *slash = strrchr(parent, '/');
    if (slash)
        slash[slash == parent] = 0;
    if (status == KITH_OK)
        status = store->fs->sync_folder(store->fs, slash ? parent : ".");
    if (status != KITH_OK)
        return kith_error_set(error, status, "the folder %s cannot be made: %s", store->dir,
                              kith_status_text(status));
    return KITH_OK;
}

/* A folder that was never used: who it is. */
static int found_new(struct kith_store *store, const struct kith_store_options *options,
                     struct kith_error *error)
{
    struct kith_state *state = &store->found.state;
    if (store->folder.segment_count || store->folder.checkpoint_count)
        return kith_error_set(
            error, KITH_ECORRUPT,
            "%s holds a log or a checkpoint, but state-1 and state-2 are missing. Nothing was changed. "
            "Put one of them back, or restore the folder from a copy",
            store->dir);
    *state = (struct kith_state){.term = 1};
    uint64_t seed = options->seed;
    if (!seed)
        kith_os_random(&seed, sizeof seed);
    state->backup = options->backup;
    state->folder_id = options->join_group ? options->join_group : kith_splitmix64(&seed) | 1;
    state->node_id = kith_splitmix64(&seed);
    state->node_id = state->node_id >> 1 | 1; /* never 0, and fits a signed number */
    if (options->node_id)
        state->node_id = options->node_id;
    return kith_state_save(state, store->fs, store->dir, error);
}

/* A checkpoint of the leader that was complete before the last end: it counts when the log says that it begins behind
 * it, else the leader sends it again. A log that cannot be read is for read_log to tell of: nothing is changed then. */
static int settle_received(struct kith_store *store, struct kith_error *error)
{
    struct kith_folder *folder = &store->folder;
    struct kith_folder_walk walk = {
        .fs = store->fs, .dir = store->dir, .folder = folder, .folder_id = store->found.state.folder_id};
    int status = KITH_OK;
    if (!folder->received_count)
        return KITH_OK;
    if (folder->segment_count) {
        size_t first = kith_folder_kept(folder, folder->segment_count - 1);
        if (kith_folder_walk(&walk, first, first, NULL) != KITH_OK)
            return KITH_OK;
    }
    for (size_t i = 0; i < folder->received_count && status == KITH_OK; i++)
        status = walk.base_index == folder->received[i] + 1
                     ? kith_incoming_take(store->fs, store->dir, folder->received[i])
                     : kith_incoming_drop(store->fs, store->dir, folder->received[i]);
    kith_folder_close(folder);
    if (status == KITH_OK)
        status = kith_folder_open(folder, store->fs, store->dir);
    if (status != KITH_OK)
        return kith_error_set(error, status, "the folder %s cannot be tidied: %s", store->dir,
                              kith_status_text(status));
    return KITH_OK;
}

static int read_state(struct kith_store *store, const struct kith_store_options *options,
                      struct kith_error *error)
{
    int status = kith_state_load(&store->found.state, store->fs, store->dir, error);
    if (status == KITH_ENOENT)
        return found_new(store, options, error);
    if (status == KITH_OK && store->found.state.backup && !options->backup)
        return kith_error_set(
            error, KITH_EPERM,
            "%s is a backup, or a restore that was not finished: `kith restore %s NEW-FOLDER` "
            "makes a folder of a backup that a server can use",
            store->dir, store->dir);
    if (status == KITH_OK && !store->found.state.backup && options->backup)
        return kith_error_set(error, KITH_EPERM, "%s is a server's data folder, not a backup", store->dir);
    if (status == KITH_OK && store->found.state.bootstrapped && !store->folder.segment_count)
        return kith_error_set(
            error, KITH_ECORRUPT,
            "%s: the log is missing (files log-...). Nothing was changed. Put it back, or restore the "
            "folder from a copy",
            store->dir);
    return status;
}

static int bad_checkpoint(struct kith_store *store, const char *name, int status, uint64_t offset,
                          const char *what, struct kith_error *error)
{
    return kith_error_set(
        error, status, "%s/%s, offset %" PRIu64 ": %s. Nothing was changed. %s", store->dir, name, offset,
        what,
        status == KITH_ECORRUPT
            ? "Restore the folder from a copy; if an older checkpoint lies beside it, moving this one "
              "away makes the server start from that one and the log"
            : "");
}

static int open_checkpoint(struct kith_store *store, char name[KITH_CHECKPOINT_NAME_BYTES],
                           struct kith_file **out, struct kith_error *error)
{
    char path[4096];
    kith_checkpoint_name(name, store->folder.checkpoints[store->folder.checkpoint_count - 1]);
    snprintf(path, sizeof path, "%s/%s", store->dir, name);
    int status = store->fs->open(store->fs, path, 0, out);
    return status == KITH_OK ? KITH_OK
                             : bad_checkpoint(store, name, status, 0, kith_status_text(status), error);
}

static int read_checkpoint_header(struct kith_store *store, struct kith_error *error)
{
    char name[KITH_CHECKPOINT_NAME_BYTES];
    struct kith_file *file;
    struct kith_error why;
    if (!store->folder.checkpoint_count)
        return KITH_OK;
    int status = open_checkpoint(store, name, &file, error);
    if (status != KITH_OK)
        return status;
    status = kith_checkpoint_read_header(&store->checkpoint, file, &why);
    store->fs->close(file);
    if (status != KITH_OK)
        return bad_checkpoint(store, name, status, 0, why.text, error);
    store->found.has_checkpoint = true;
    store->found.checkpoint = store->checkpoint.info;
    if (store->checkpoint.info.folder_id != store->found.state.folder_id)
        return bad_checkpoint(store, name, KITH_ECORRUPT, 0, "this checkpoint belongs to another folder",
                              error);
    if (store->checkpoint.info.index != store->folder.checkpoints[store->folder.checkpoint_count - 1])
        return bad_checkpoint(store, name, KITH_ECORRUPT, 0, "this checkpoint was given another one's name",
                              error);
    return KITH_OK;
}

int kith_store_open(struct kith_store **out, const struct kith_store_options *options,
                    struct kith_error *error)
{
    struct kith_fs *fs = options->fs;
    const char *dir = options->dir;
    struct kith_store *store = calloc(1, sizeof *store);
    if (!store || !(store->dir = strdup(dir))) {
        free(store);
        return kith_error_set(error, KITH_ENOMEM, "out of memory");
    }
    int status = KITH_OK;
    store->fs = fs;
    if (strlen(dir) > 3000)
        status = kith_error_set(error, KITH_ETOOBIG, "the folder's path is too long");
    if (status == KITH_OK)
        status = make_folder(store, error);
    if (status == KITH_OK)
        status = kith_folder_lock(&store->lock, fs, dir, true, error);
    if (status == KITH_OK) {
        status = kith_folder_remove_temporary(fs, dir);
        if (status == KITH_OK)
            status = kith_folder_open(&store->folder, fs, dir);
        if (status == KITH_OK)
            status = fs->sync_folder(
                fs, dir); /* what a killed process renamed last is durable before we build on it */
        if (status != KITH_OK)
            kith_error_set(error, status, "the folder %s cannot be read: %s", dir, kith_status_text(status));
    }
    if (status == KITH_OK)
        status = read_state(store, options, error);
    if (status == KITH_OK)
        status = settle_received(store, error);
    if (status == KITH_OK)
        status = read_checkpoint_header(store, error);
    if (status != KITH_OK) {
        kith_store_close(store);
        return status;
    }
    store->found.segment_count = store->folder.segment_count;
    store->found.last_index = store->found.has_checkpoint ? store->found.checkpoint.index : 0;
    *out = store;
    return KITH_OK;
}

void kith_store_close(struct kith_store *store)
{
    if (!store)
        return;
    kith_checkpoint_read_close(&store->checkpoint);
    kith_folder_close(&store->folder);
    kith_file_close(store->lock);
    free(store->dir);
    free(store);
}

const struct kith_store_found *kith_store_get_found(const struct kith_store *store)
{
    return &store->found;
}

const char *kith_store_get_dir(const struct kith_store *store)
{
    return store->dir;
}

int kith_store_read_checkpoint(struct kith_store *store, int (*take)(void *context, struct kith_slice bytes),
                               void *context, struct kith_error *error)
{
    char name[KITH_CHECKPOINT_NAME_BYTES];
    struct kith_checkpoint_read read = {0};
    struct kith_file *file;
    struct kith_error why = {"the state machine refuses its content"};
    int status = open_checkpoint(store, name, &file, error);
    if (status != KITH_OK)
        return status;
    status = kith_checkpoint_read_all(&read, file, take, context, &why);
    store->fs->close(file);
    if (status != KITH_OK)
        return bad_checkpoint(store, name, status, read.damage_offset, why.text, error);
    store->found.checkpoint.raw_bytes = read.info.raw_bytes;
    kith_checkpoint_read_close(&read);
    return KITH_OK;
}

/* Ready to read the log. Returns what the checkpoint covers. */
static uint64_t begin_walk(struct kith_store *store,
                           int (*visit)(void *context, const struct kith_record *record), void *context)
{
    uint64_t covered = store->found.has_checkpoint ? store->found.checkpoint.index : 0;
    store->walk = (struct kith_folder_walk){.fs = store->fs,
                                            .dir = store->dir,
                                            .folder = &store->folder,
                                            .folder_id = store->found.state.folder_id,
                                            .visit = visit,
                                            .context = context};
    store->found.last_index = covered;
    store->found.first_index = covered + 1;
    return covered;
}

/* What was read, as far as it goes on behind the checkpoint. */
static void end_walk(struct kith_store *store, uint64_t covered)
{
    if (store->walk.next_index - 1 > covered)
        store->found.last_index = store->walk.next_index - 1;
    store->found.first_index = store->walk.next_index == store->found.last_index + 1
                                   ? store->walk.first_index
                                   : store->found.last_index + 1;
    store->found.log_bytes = store->walk.bytes;
    store->found.committed = store->walk.committed;
    store->found.cut_bytes = store->walk.cut_bytes;
}

int kith_store_read_tail(struct kith_store *store,
                         int (*visit)(void *context, const struct kith_record *record), void *context,
                         struct kith_error *error)
{
    uint64_t covered = begin_walk(store, visit, context);
    for (size_t first = store->folder.segment_count; first > 0; first--) {
        int status = kith_folder_walk(&store->walk, first - 1, first - 1, error);
        if (status != KITH_OK)
            return status;
        end_walk(store, covered);
        if (store->walk.records)
            break;
    }
    return KITH_OK;
}

int kith_store_read_log(struct kith_store *store,
                        int (*visit)(void *context, const struct kith_record *record), void *context,
                        struct kith_error *error)
{
    uint64_t covered = begin_walk(store, visit, context);
    if (!store->folder.segment_count)
        return KITH_OK;
    long start = kith_folder_start(&store->folder, covered + 1);
    if (start < 0)
        return kith_error_set(
            error, KITH_ECORRUPT,
            "%s: the log begins with entry %" PRIu64 ", but entry %" PRIu64
            " and those behind it are needed. Nothing was changed. Put the missing log segments back, "
            "or restore the folder from a copy",
            store->dir, store->folder.segments[0].first_index, covered + 1);
    int status =
        kith_folder_walk(&store->walk, kith_folder_kept(&store->folder, (size_t)start), (size_t)start, error);
    if (status != KITH_OK)
        return status;
    if (store->walk.base_index > covered + 1)
        return kith_error_set(
            error, KITH_ECORRUPT,
            "%s: the log begins behind entry %" PRIu64
            ", whose checkpoint is missing. Nothing was changed. Put it back, or restore the "
            "folder from a copy",
            store->dir, store->walk.base_index - 1);
    end_walk(store, covered);
    return KITH_OK;
}

/* Writes what was read once more, where it lies. After a sync that failed the system may show bytes that it holds for
 * written and that the disk has never seen; another sync would say nothing of them, and a later power cut takes them
 * away, acknowledged entries among them. (LWN, PostgreSQL's fsync() surprise, 2018.) */
static int write_again(struct kith_file *file, uint64_t size)
{
    enum { CHUNK = 1 << 18 };
    char *bytes = malloc(CHUNK);
    int status = bytes ? KITH_OK : KITH_ENOMEM;
    for (uint64_t at = 0; status == KITH_OK && at < size;) {
        size_t want = size - at < CHUNK ? (size_t)(size - at) : CHUNK, got = 0;
        status = file->fs->read(file, bytes, want, at, &got);
        if (status == KITH_OK && got < want)
            status = KITH_EIO;
        struct kith_slice piece = kith_slice(bytes, want);
        if (status == KITH_OK)
            status = file->fs->write(file, &piece, 1, at);
        at += want;
    }
    free(bytes);
    return status;
}

/* The last segment as it will stay: without the unfinished write and the preallocated rest, and synced. */
static int finish_last_segment(struct kith_store *store, struct kith_error *error)
{
    const struct kith_log_segment *last = &store->folder.segments[store->folder.segment_count - 1];
    char name[KITH_SEGMENT_NAME_BYTES], path[4096];
    struct kith_file *file;
    uint64_t size;
    kith_segment_name(name, last->sequence, last->first_index);
    snprintf(path, sizeof path, "%s/%s", store->dir, name);
    if (store->found.cut_bytes)
        KITH_WARN("%s, offset %" PRIu64 ": an unfinished write of %" PRIu64
                  " bytes was cut; nobody was told that it is safe",
                  path, store->walk.cut_offset, store->found.cut_bytes);
    int status = store->fs->open(store->fs, path, KITH_FS_WRITE, &file);
    if (status == KITH_OK) {
        status = store->fs->size(file, &size);
        if (status == KITH_OK && size > store->walk.cut_offset)
            status = store->fs->truncate(file, store->walk.cut_offset);
        if (status == KITH_OK)
            status = write_again(file, store->walk.cut_offset);
        if (status == KITH_OK)
            status = store->fs->sync(file, KITH_FS_SYNC_ALL);
        store->fs->close(file);
    }
    if (status != KITH_OK)
        return kith_error_set(error, status, "%s cannot be written: %s", path, kith_status_text(status));
    return KITH_OK;
}

int kith_store_open_log(struct kith_store *store, struct kith_log **out, struct kith_log_options *options,
                        struct kith_error *error)
{
    struct kith_folder *folder = &store->folder;
    options->fs = store->fs;
    options->dir = store->dir;
    options->folder_id = store->found.state.folder_id;
    options->next_index = store->found.last_index + 1;
    options->first_index = store->found.first_index;
    options->next_sequence =
        folder->segment_count ? folder->segments[folder->segment_count - 1].sequence + 1 : 1;
    if (folder->segment_count) {
        int status = finish_last_segment(store, error);
        if (status != KITH_OK)
            return status;
        folder->segments[folder->segment_count - 1].bytes = store->walk.cut_offset;
    }
    return kith_log_open(out, options, folder->segments, folder->segment_count, error);
}

int kith_store_save_state(struct kith_store *store, const struct kith_state *state, struct kith_error *error)
{
    struct kith_state next = *state;
    next.counter = store->found.state.counter;
    int status = kith_state_save(&next, store->fs, store->dir, error);
    if (status == KITH_OK)
        store->found.state = next;
    return status;
}

int kith_store_trim_checkpoints(struct kith_fs *fs, const char *dir, uint64_t index)
{
    struct kith_folder folder = {0};
    int status = kith_folder_open(&folder, fs, dir);
    for (size_t i = 0; i < folder.checkpoint_count && status == KITH_OK; i++) {
        char name[KITH_CHECKPOINT_NAME_BYTES], path[4096];
        if (folder.checkpoints[i] >= index)
            continue;
        kith_checkpoint_name(name, folder.checkpoints[i]);
        snprintf(path, sizeof path, "%s/%s", dir, name);
        status = fs->unlink(fs, path);
        if (status == KITH_ENOENT)
            status = KITH_OK;
    }
    kith_folder_close(&folder);
    return status;
}
