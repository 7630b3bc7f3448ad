/* The names in a data folder, its lock, and the walk over its segments. */
#include "store/folder.h"

#include "base/log.h"
#include "store/checkpoint.h"
#include "store/incoming.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool is_temporary(const char *name)
{
    size_t length = strlen(name);
    return length > 4 && strcmp(name + length - 4, ".tmp") == 0 &&
           (strncmp(name, "log-", 4) == 0 || strncmp(name, "checkpoint-", 11) == 0 ||
            strncmp(name, "state-", 6) == 0 || strncmp(name, "incoming-", 9) == 0);
}

static bool is_known(const char *name)
{
    return strcmp(name, "lock") == 0 || strcmp(name, "state-1") == 0 || strcmp(name, "state-2") == 0;
}

/* One more element at the end of an array whose capacity doubles at each power of two. */
static void *grow(void *array, size_t count, size_t element_bytes)
{
    if (count & (count - 1))
        return array;
    return realloc(array, (count ? count * 2 : 1) * element_bytes);
}

static int note_index(uint64_t **list, size_t *count, uint64_t index)
{
    void *larger = grow(*list, *count, sizeof **list);
    if (!larger)
        return KITH_ENOMEM;
    *list = larger;
    (*list)[(*count)++] = index;
    return KITH_OK;
}

static int note_name(void *context, const char *name)
{
    struct kith_folder *f = context;
    uint64_t a, b;
    if (kith_segment_parse_name(name, &a, &b)) {
        void *larger = grow(f->segments, f->segment_count, sizeof *f->segments);
        if (!larger)
            return KITH_ENOMEM;
        f->segments = larger;
        f->segments[f->segment_count++] = (struct kith_log_segment){.sequence = a, .first_index = b};
    } else if (kith_checkpoint_parse_name(name, &a)) {
        return note_index(&f->checkpoints, &f->checkpoint_count, a);
    } else if (kith_incoming_parse_name(name, &a)) {
        return note_index(&f->received, &f->received_count, a);
    } else if (is_temporary(name)) {
        f->temporary_count++;
    } else if (!is_known(name)) {
        f->unknown_count++;
        snprintf(f->unknown, sizeof f->unknown, "%s", name);
    }
    return KITH_OK;
}

static int by_sequence(const void *a, const void *b)
{
    const struct kith_log_segment *x = a, *y = b;
    return (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int kith_folder_open(struct kith_folder *out, struct kith_fs *fs, const char *dir)
{
    struct kith_folder f = {0};
    int status = fs->list(fs, dir, note_name, &f);
    if (status != KITH_OK) {
        kith_folder_close(&f);
        return status;
    }
    if (f.segment_count)
        qsort(f.segments, f.segment_count, sizeof *f.segments, by_sequence);
    if (f.checkpoint_count)
        qsort(f.checkpoints, f.checkpoint_count, sizeof *f.checkpoints, by_number);
    if (f.received_count)
        qsort(f.received, f.received_count, sizeof *f.received, by_number);
    *out = f;
    return KITH_OK;
}

void kith_folder_close(struct kith_folder *folder)
{
    free(folder->segments);
    free(folder->checkpoints);
    free(folder->received);
    *folder = (struct kith_folder){0};
}

struct removal {
    char name[256];
};

static int find_temporary(void *context, const char *name)
{
    struct removal *removal = context;
    if (!is_temporary(name))
        return KITH_OK;
    snprintf(removal->name, sizeof removal->name, "%s", name);
    return 1;
}

int kith_folder_remove_temporary(struct kith_fs *fs, const char *dir)
{
    /* One name a walk: not every file system likes a folder that shrinks while it is listed. */
    for (;;) {
        struct removal removal;
        char path[4096];
        int found = fs->list(fs, dir, find_temporary, &removal);
        if (found <= 0)
            return found;
        snprintf(path, sizeof path, "%s/%s", dir, removal.name);
        int status = fs->unlink(fs, path);
        if (status != KITH_OK)
            return status;
    }
}

long kith_folder_start(const struct kith_folder *folder, uint64_t next_index)
{
    for (size_t i = folder->segment_count; i > 0; i--)
        if (folder->segments[i - 1].first_index <= next_index)
            return (long)(i - 1);
    return -1;
}

size_t kith_folder_kept(const struct kith_folder *folder, size_t start)
{
    while (start > 0 && folder->segments[start - 1].sequence + 1 == folder->segments[start].sequence)
        start--;
    return start;
}

/* Who wrote the lock file: a number of a process, for the message only. */
static long holder(struct kith_file *file)
{
    char text[32] = {0};
    size_t got = 0;
    if (file->fs->read(file, text, sizeof text - 1, 0, &got) != KITH_OK)
        return 0;
    return strtol(text, NULL, 10);
}

int kith_folder_lock(struct kith_file **out, struct kith_fs *fs, const char *dir, bool create,
                     struct kith_error *error)
{
    char path[4096], text[32];
    struct kith_file *file;
    snprintf(path, sizeof path, "%s/lock", dir);
    int status = fs->open(fs, path, create ? KITH_FS_WRITE | KITH_FS_CREATE : 0, &file);
    if (status == KITH_ENOENT && !create)
        return KITH_OK;
    if (status != KITH_OK)
        return kith_error_set(error, status, "%s cannot be opened: %s", path, kith_status_text(status));
    status = fs->lock(file);
    if (status == KITH_EBUSY) {
        kith_error_set(
            error, status,
            "another server (process %ld) is using the folder %s: stop it first, or choose another folder",
            holder(file), dir);
    } else if (status != KITH_OK) {
        kith_error_set(error, status, "%s cannot be locked: %s", path, kith_status_text(status));
    } else if (create) {
        int length = snprintf(text, sizeof text, "%-20ld\n", (long)getpid());
        struct kith_slice piece = kith_slice(text, (size_t)length);
        (void)fs->write(file, &piece, 1, 0); /* only a courtesy to whoever finds it locked */
    }
    if (status != KITH_OK) {
        fs->close(file);
        return status;
    }
    *out = file;
    return KITH_OK;
}

/* --- the walk --- */

#define CURE                                                                                                 \
    "Nothing was changed. Restore the folder from a copy; or, to go on with what lies before this place "    \
    "and lose "                                                                                              \
    "all that lies behind it, move this segment and the later ones away"

static int bad_segment(struct kith_error *error, int status, const char *dir, const char *name,
                       uint64_t offset, const char *what)
{
    return kith_error_set(error, status, "%s/%s, offset %" PRIu64 ": %s. %s", dir, name, offset, what,
                          status == KITH_ECORRUPT ? CURE : "Nothing was changed");
}

/* Checks that the record is the next one, and moves walk->next_index. */
static bool is_next(struct kith_folder_walk *walk, struct kith_log_segment *segment,
                    const struct kith_record *record)
{
    if (record->kind != KITH_RECORD_TRUNCATE && record->kind != KITH_RECORD_RESET)
        return record->index == walk->next_index++;
    bool reset = record->kind == KITH_RECORD_RESET;
    if (record->index == 0 || (!reset && record->index > walk->next_index))
        return false;
    segment->takes_back = true;
    if (record->index < segment->least_index)
        segment->least_index = record->index;
    if (reset || record->index < walk->first_index)
        walk->first_index = record->index;
    if (reset)
        walk->base_index = record->index;
    walk->next_index = record->index;
    return true;
}

static int cannot_apply(struct kith_folder_walk *walk, const char *name, const struct kith_record *record,
                        int status, struct kith_error *error)
{
    walk->refused = true;
    return kith_error_set(error, status, "%s/%s, offset %" PRIu64 ": entry %" PRIu64 " cannot be applied: %s",
                          walk->dir, name, record->offset, record->index, kith_status_text(status));
}

static int walk_records(struct kith_folder_walk *walk, struct kith_segment_reader *reader,
                        struct kith_log_segment *segment, const char *name, struct kith_error *error)
{
    struct kith_record record;
    struct kith_error why;
    char text[160];
    int status;
    for (;;) {
        uint64_t offset = reader->offset, expected = walk->next_index;
        status = kith_segment_next(reader, &record, &why);
        if (status < 0)
            return bad_segment(error, status, walk->dir, name, reader->offset, why.text);
        if (status == 0)
            break;
        if (!is_next(walk, segment, &record)) {
            snprintf(text, sizeof text, "damaged: entry %" PRIu64 " where %" PRIu64 " belongs", record.index,
                     expected);
            return bad_segment(error, KITH_ECORRUPT, walk->dir, name, offset, text);
        }
        walk->records++;
        status = walk->visit ? walk->visit(walk->context, &record) : KITH_OK;
        if (status != KITH_OK)
            return cannot_apply(walk, name, &record, status, error);
    }
    walk->bytes += reader->offset;
    if (reader->header.committed > walk->committed)
        walk->committed = reader->header.committed;
    return KITH_OK;
}

static int walk_segment(struct kith_folder_walk *walk, size_t i, struct kith_error *error)
{
    struct kith_log_segment *segment = &walk->folder->segments[i];
    struct kith_segment_reader reader;
    struct kith_file *file;
    struct kith_error why;
    char name[KITH_SEGMENT_NAME_BYTES], path[4096];
    bool last = i + 1 == walk->folder->segment_count;
    kith_segment_name(name, segment->sequence, segment->first_index);
    snprintf(path, sizeof path, "%s/%s", walk->dir, name);
    int status = walk->fs->open(walk->fs, path, 0, &file);
    if (status != KITH_OK)
        return bad_segment(error, status, walk->dir, name, 0, kith_status_text(status));
    status = kith_segment_reader_open(&reader, file, &why);
    if (status != KITH_OK) {
        walk->fs->close(file);
        return bad_segment(error, status, walk->dir, name, 0, why.text);
    }
    if (reader.header.folder_id != walk->folder_id)
        status =
            bad_segment(error, KITH_ECORRUPT, walk->dir, name, 0, "this segment belongs to another folder");
    else if (reader.header.sequence != segment->sequence)
        status = bad_segment(error, KITH_ECORRUPT, walk->dir, name, 0,
                             "this segment was given another one's name");
    else
        status = walk_records(walk, &reader, segment, name, error);
    if (status == KITH_OK && !last && reader.end != KITH_SEGMENT_SEALED && reader.end != KITH_SEGMENT_EXACT)
        status = bad_segment(error, KITH_ECORRUPT, walk->dir, name, reader.offset,
                             "damaged: the segment ends here, but it is not the last one");
    segment->bytes = reader.offset;
    walk->cut_offset = reader.offset + (reader.end == KITH_SEGMENT_SEALED ? KITH_RECORD_HEADER_BYTES : 0);
    walk->cut_bytes = reader.end == KITH_SEGMENT_TORN ? reader.torn_bytes : 0;
    kith_segment_reader_close(&reader);
    walk->fs->close(file);
    return status;
}

/* Whether segment i goes on where the one before it ended. */
static int check_chain(struct kith_folder_walk *walk, size_t i, struct kith_error *error)
{
    const struct kith_log_segment *segments = walk->folder->segments;
    if (segments[i].sequence != segments[i - 1].sequence + 1)
        return kith_error_set(error, KITH_ECORRUPT,
                              "%s: log segment number %" PRIu64
                              " is missing. Nothing was changed. Put it back, or "
                              "restore the folder from a copy",
                              walk->dir, segments[i - 1].sequence + 1);
    if (segments[i].first_index != walk->next_index)
        return kith_error_set(error, KITH_ECORRUPT,
                              "%s: the log segment before number %" PRIu64 " ends with entry %" PRIu64
                              ", this one begins with %" PRIu64
                              ". Nothing was changed. Restore the folder from a "
                              "copy",
                              walk->dir, segments[i].sequence, walk->next_index - 1, segments[i].first_index);
    return KITH_OK;
}

/* The walk begins anew with segment i; whoever listens is told. */
static int begin_at(struct kith_folder_walk *walk, size_t i, bool anew, struct kith_error *error)
{
    struct kith_record reset = {.kind = KITH_RECORD_RESET, .index = walk->folder->segments[i].first_index};
    walk->next_index = walk->first_index = reset.index;
    int status = anew && walk->visit ? walk->visit(walk->context, &reset) : KITH_OK;
    return status == KITH_OK ? KITH_OK : cannot_apply(walk, "log", &reset, status, error);
}

int kith_folder_walk(struct kith_folder_walk *walk, size_t first, size_t start, struct kith_error *error)
{
    struct kith_log_segment *segments = walk->folder->segments;
    struct kith_error why = {""};
    int status = begin_at(walk, first, false, error);
    walk->records = walk->bytes = walk->cut_bytes = walk->base_index = 0;
    walk->refused = false;
    for (size_t i = first; i < walk->folder->segment_count && status == KITH_OK; i++) {
        bool needed = i >= start;
        segments[i].least_index = segments[i].first_index;
        segments[i].takes_back = false;
        status = i > first ? check_chain(walk, i, &why) : KITH_OK;
        if (status != KITH_OK && i == start) /* what was kept before it does not lead up to it */
            status = begin_at(walk, i, true, &why);
        if (status == KITH_OK)
            status = walk_segment(walk, i, &why);
        if (status == KITH_OK || needed || walk->refused || status == KITH_ENOMEM) {
            if (status != KITH_OK && error)
                *error = why;
            continue;
        }
        KITH_WARN("%s. It is not needed here: the checkpoint covers it", why.text);
        i = start - 1;
        walk->next_index = 0; /* so that the chain breaks there */
        status = KITH_OK;
    }
    return status;
}
