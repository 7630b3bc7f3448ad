/* Reading entries back from the segments.
 *
 * Which segment has an entry is for the log to say (kith_log_find). In a segment in which nothing was taken back, records
 * follow on each other, and a cursor goes on where it was. In one with truncations an entry counts only if no later
 * record takes it back, so it is read to its end each time: that is rare, and costs one pass over one file. */
#include "store/log_reader.h"

#include <stdio.h>
#include <stdlib.h>

void kith_log_cursor_close(struct kith_log_cursor *cursor)
{
    if (cursor->file) {
        kith_segment_reader_close(&cursor->reader);
        cursor->file->fs->close(cursor->file);
    }
    *cursor = (struct kith_log_cursor){0};
}

void kith_log_batch_close(struct kith_log_batch *batch)
{
    free(batch->records);
    kith_buf_fini(&batch->bytes);
    *batch = (struct kith_log_batch){0};
}

static void clear(struct kith_log_batch *batch, size_t count)
{
    while (batch->count > count)
        batch->bytes.length -= batch->records[--batch->count].payload.length;
    batch->bytes.failed = false;
}

static int open_segment(struct kith_log_cursor *cursor, const struct kith_log_place *place)
{
    char name[KITH_SEGMENT_NAME_BYTES], path[4096];
    kith_log_cursor_close(cursor);
    kith_segment_name(name, place->segment.sequence, place->segment.first_index);
    snprintf(path, sizeof path, "%s/%s", place->dir, name);
    int status = place->fs->open(place->fs, path, 0, &cursor->file);
    if (status == KITH_OK) {
        status = kith_segment_reader_open(&cursor->reader, cursor->file, NULL);
        if (status != KITH_OK)
            cursor->file->fs->close(cursor->file);
    }
    if (status != KITH_OK) {
        cursor->file = NULL;
        return status;
    }
    cursor->reader.window.length = 0; /* it may have looked at what is still being written */
    cursor->sequence = place->segment.sequence;
    cursor->next_index = place->segment.first_index;
    return KITH_OK;
}

/* The payload's place in `bytes` is found once all are there: it may move. */
static int keep(struct kith_log_batch *batch, const struct kith_record *record)
{
    if (batch->count == batch->capacity) {
        size_t capacity = batch->capacity ? batch->capacity * 2 : 64;
        void *larger = realloc(batch->records, capacity * sizeof *batch->records);
        if (!larger)
            return KITH_ENOMEM;
        batch->records = larger;
        batch->capacity = capacity;
    }
    kith_buf_append(&batch->bytes, record->payload.data, record->payload.length);
    if (batch->bytes.failed)
        return KITH_ENOMEM;
    batch->records[batch->count++] = *record;
    return KITH_OK;
}

static void place_payloads(struct kith_log_batch *batch)
{
    size_t at = 0;
    for (size_t i = 0; i < batch->count; i++) {
        struct kith_slice *payload = &batch->records[i].payload;
        *payload = kith_slice(payload->length ? batch->bytes.data + at : "", payload->length);
        at += payload->length;
    }
}

struct reading {
    uint64_t from, end; /* entries [from, end) are wanted */
    size_t max_bytes;
    bool to_the_end; /* of the segment: something may still be taken back */
};

/* A record that makes others void. */
static void take_back(struct kith_log_cursor *cursor, const struct reading *r, struct kith_log_batch *batch,
                      const struct kith_record *record)
{
    if (record->kind == KITH_RECORD_RESET || record->index <= r->from)
        clear(batch, 0);
    else if (record->index - r->from < batch->count)
        clear(batch, (size_t)(record->index - r->from));
    cursor->next_index = record->index;
}

static bool is_full(const struct reading *r, const struct kith_log_batch *batch, size_t more_bytes)
{
    return r->from + batch->count >= r->end ||
           (batch->count && batch->bytes.length + more_bytes > r->max_bytes);
}

static int read_segment(struct kith_log_cursor *cursor, const struct reading *r, struct kith_log_batch *batch)
{
    struct kith_record record;
    int found = 1;
    while ((found = kith_segment_next(&cursor->reader, &record, NULL)) == 1) {
        if (record.kind == KITH_RECORD_TRUNCATE || record.kind == KITH_RECORD_RESET) {
            take_back(cursor, r, batch, &record);
            continue;
        }
        if (record.index != cursor->next_index)
            return KITH_ECORRUPT;
        bool wanted =
            record.index == r->from + batch->count; /* behind it only after one that found no room */
        if (wanted && !is_full(r, batch, record.payload.length) && keep(batch, &record) != KITH_OK)
            return KITH_ENOMEM;
        if (wanted && is_full(r, batch, 0) && !r->to_the_end) {
            cursor->next_index++;
            return KITH_OK;
        }
        if (wanted && r->from + batch->count != record.index + 1 && !r->to_the_end) {
            cursor->reader.offset = record.offset; /* found no room: the next read begins with it */
            return KITH_OK;
        }
        cursor->next_index++;
    }
    return found;
}

int kith_log_read(struct kith_log *log, struct kith_log_cursor *cursor, uint64_t from, size_t max_count,
                  size_t max_bytes, struct kith_log_batch *batch)
{
    struct kith_log_place place;
    clear(batch, 0);
    if (max_count == 0)
        return KITH_EINVAL;
    int status = kith_log_find(log, from, &place);
    if (status != KITH_OK)
        return status;
    bool goes_on = cursor->file && cursor->sequence == place.segment.sequence && cursor->next_index <= from &&
                   !place.segment.takes_back;
    if (!goes_on)
        status = open_segment(cursor, &place);
    if (status != KITH_OK)
        return status;
    cursor->reader.size = place.segment.bytes; /* what lies behind is being written */
    struct reading r = {.from = from,
                        .end = place.below - from > max_count ? from + max_count : place.below,
                        .max_bytes = max_bytes,
                        .to_the_end = place.segment.takes_back};
    status = read_segment(cursor, &r, batch);
    if (status == KITH_OK && !kith_log_is_place(log, &place))
        status = KITH_EAGAIN;
    if (status != KITH_OK || place.segment.takes_back)
        kith_log_cursor_close(cursor);
    if (status == KITH_OK && batch->count == 0)
        status = KITH_ENOENT;
    if (status != KITH_OK)
        clear(batch, 0);
    place_payloads(batch);
    return status;
}
