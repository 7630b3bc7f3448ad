/* `kith check`: the same readers as recovery, over every file, going on after a problem where that makes
 * sense. */
#include "store/folder.h"
#include "store/store.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

struct check {
    struct kith_fs *fs;
    const char *dir;
    void (*report)(void *context, enum kith_store_finding finding, const char *line);
    void *context;
    struct kith_store_check_result *result;
    struct kith_folder folder;
    struct kith_state state;
    bool has_state;
    uint64_t covered; /* by the newest good checkpoint */
};

__attribute__((format(printf, 3, 4))) static void say(struct check *c, enum kith_store_finding finding,
                                                      const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    c->result->problems += finding == KITH_STORE_PROBLEM;
    if (c->report)
        c->report(c->context, finding, line);
}

static void check_state(struct check *c)
{
    struct kith_error why;
    uint64_t newest = 0;
    for (int i = 0; i < 2; i++) {
        struct kith_state state;
        int status = kith_state_read_copy(&state, c->fs, c->dir, i, &why);
        if (status != KITH_OK) {
            say(c, KITH_STORE_PROBLEM, "%s", why.text);
            continue;
        }
        say(c, KITH_STORE_FINE, "%s/state-%d: term %" PRIu64 ", vote for %" PRIx64 ", write %" PRIu64, c->dir,
            i + 1, state.term, state.voted_for, state.counter);
        if (!c->has_state || state.counter > newest)
            c->state = state;
        newest = c->state.counter;
        c->has_state = true;
    }
}

static void check_checkpoint(struct check *c, uint64_t index)
{
    char name[KITH_CHECKPOINT_NAME_BYTES], path[4096];
    struct kith_checkpoint_read read = {0};
    struct kith_error why;
    struct kith_file *file;
    kith_checkpoint_name(name, index);
    snprintf(path, sizeof path, "%s/%s", c->dir, name);
    int status = c->fs->open(c->fs, path, 0, &file);
    if (status != KITH_OK) {
        say(c, KITH_STORE_PROBLEM, "%s cannot be opened: %s", path, kith_status_text(status));
        return;
    }
    status = kith_checkpoint_read_all(&read, file, NULL, NULL, &why);
    c->fs->close(file);
    if (status != KITH_OK) {
        say(c, KITH_STORE_PROBLEM, "%s, offset %" PRIu64 ": %s", path, read.damage_offset, why.text);
        return;
    }
    c->result->checkpoints++;
    c->result->blocks += read.blocks;
    c->result->checkpoint_bytes += read.info.file_bytes;
    if (read.info.index != index)
        say(c, KITH_STORE_PROBLEM,
            "%s: this checkpoint was given another one's name (it is of entry %" PRIu64 ")", path,
            read.info.index);
    else if (c->has_state && read.info.folder_id != c->state.folder_id)
        say(c, KITH_STORE_PROBLEM, "%s: this checkpoint belongs to another folder", path);
    else {
        say(c, KITH_STORE_FINE,
            "%s: entry %" PRIu64 ", term %" PRIu64 ", %" PRIu64 " blocks, %" PRIu64 " bytes (%" PRIu64
            " uncompressed)",
            path, read.info.index, read.info.term, read.blocks, read.info.file_bytes, read.info.raw_bytes);
        c->covered = index;
    }
    kith_checkpoint_read_close(&read);
}

static void check_log(struct check *c)
{
    if (!c->folder.segment_count) {
        if (c->state.bootstrapped)
            say(c, KITH_STORE_PROBLEM, "%s: the log is missing (files log-...)", c->dir);
        return;
    }
    long start = kith_folder_start(&c->folder, c->covered + 1);
    if (start < 0) {
        say(c, KITH_STORE_PROBLEM,
            "%s: the log begins with entry %" PRIu64 ", but entry %" PRIu64 " is needed", c->dir,
            c->folder.segments[0].first_index, c->covered + 1);
        start = 0;
    }
    size_t first = kith_folder_kept(&c->folder, (size_t)start);
    if (first > 0)
        say(c, KITH_STORE_NOTE,
            "%s: %zu log segments that the checkpoint covers are left over; recovery skips them", c->dir,
            first);
    struct kith_error why;
    struct kith_folder_walk walk = {
        .fs = c->fs, .dir = c->dir, .folder = &c->folder, .folder_id = c->state.folder_id};
    int status = kith_folder_walk(&walk, first, (size_t)start, &why);
    c->result->segments = c->folder.segment_count - first;
    c->result->records = walk.records;
    c->result->log_bytes = walk.bytes;
    c->result->last_index = walk.next_index - 1;
    if (status != KITH_OK) {
        say(c, KITH_STORE_PROBLEM, "%s", why.text);
        return;
    }
    say(c, KITH_STORE_FINE,
        "%s: %" PRIu64 " log segments, %" PRIu64 " records, %" PRIu64 " bytes, last entry %" PRIu64, c->dir,
        c->result->segments, walk.records, walk.bytes, walk.next_index - 1);
    if (walk.base_index > c->covered + 1)
        say(c, KITH_STORE_PROBLEM, "%s: the log begins behind entry %" PRIu64 ", whose checkpoint is missing",
            c->dir, walk.base_index - 1);
    c->result->cut_bytes = walk.cut_bytes;
    if (walk.cut_bytes)
        say(c, KITH_STORE_NOTE,
            "%s: an unfinished write of %" PRIu64 " bytes is at the log's end; the next start cuts it off",
            c->dir, walk.cut_bytes);
}

int kith_store_check(struct kith_fs *fs, const char *dir,
                     void (*report)(void *context, enum kith_store_finding finding, const char *line),
                     void *context, struct kith_store_check_result *result)
{
    struct check c = {.fs = fs, .dir = dir, .report = report, .context = context, .result = result};
    struct kith_file *lock = NULL;
    struct kith_error why;
    *result = (struct kith_store_check_result){0};
    if (strlen(dir) > 3000)
        return KITH_ETOOBIG;
    int status = kith_folder_open(&c.folder, fs, dir);
    if (status != KITH_OK) {
        say(&c, KITH_STORE_PROBLEM, "%s cannot be read: %s", dir, kith_status_text(status));
        return status;
    }
    status = kith_folder_lock(&lock, fs, dir, false, &why);
    if (status != KITH_OK) {
        say(&c, KITH_STORE_PROBLEM, "%s", why.text);
        kith_folder_close(&c.folder);
        return status;
    }
    check_state(&c);
    if (!c.has_state && !c.folder.segment_count && !c.folder.checkpoint_count)
        say(&c, KITH_STORE_NOTE, "%s is not a data folder of Kith, or was never used", dir);
    for (size_t i = 0; i < c.folder.checkpoint_count; i++)
        check_checkpoint(&c, c.folder.checkpoints[i]);
    if (c.has_state)
        check_log(&c);
    if (c.folder.received_count)
        say(&c, KITH_STORE_NOTE,
            "%s: a checkpoint of the leader (received-...) waits; the next start takes or removes it", dir);
    if (c.folder.temporary_count)
        say(&c, KITH_STORE_NOTE, "%s: %zu unfinished files (*.tmp); the next start removes them", dir,
            c.folder.temporary_count);
    if (c.folder.unknown_count)
        say(&c, KITH_STORE_NOTE, "%s: %zu files that are not Kith's, such as %s", dir, c.folder.unknown_count,
            c.folder.unknown);
    kith_folder_close(&c.folder);
    kith_file_close(lock);
    return result->problems ? KITH_ECORRUPT : KITH_OK;
}
