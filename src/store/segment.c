/* Segment files: names, headers, records, and the reader that tells an unfinished write from damage. */
#include "store/segment.h"

#include "base/varint.h"
#include "store/crc.h"

#include <inttypes.h>
#include <stdio.h>

static const char magic[8] = {'K', 'I', 'T', 'H', 'L', 'O', 'G', '\n'};

enum { VERSION = 3, HEADER_SEED = 1, HEADER_USED = 64, WINDOW_BYTES = 1 << 20 };

static uint32_t record_seed(uint64_t salt, uint64_t offset)
{
    return (uint32_t)(salt ^ salt >> 32) ^ (uint32_t)(offset >> 3);
}

void kith_record_encode_header(char out[KITH_RECORD_HEADER_BYTES], const struct kith_record *record,
                               uint64_t offset, uint64_t salt)
{
    kith_put_u32(out + 4, (uint32_t)record->payload.length);
    kith_put_u64(out + 8, record->index);
    kith_put_u64(out + 16, record->term);
    kith_put_u32(out + 24, (uint32_t)(record->synced >> 3));
    kith_put_u32(out + 28, (uint32_t)record->kind);
    uint32_t crc = kith_crc32c(record_seed(salt, offset), out + 4, KITH_RECORD_HEADER_BYTES - 4);
    kith_put_u32(out, kith_crc32c(crc, record->payload.data, record->payload.length));
}

void kith_segment_name(char out[KITH_SEGMENT_NAME_BYTES], uint64_t sequence, uint64_t first_index)
{
    snprintf(out, KITH_SEGMENT_NAME_BYTES, "log-%010" PRIu64 "-%020" PRIu64, sequence % 10000000000u,
             first_index);
}

bool kith_segment_parse_name(const char *name, uint64_t *sequence, uint64_t *first_index)
{
    char again[KITH_SEGMENT_NAME_BYTES];
    if (sscanf(name, "log-%10" SCNu64 "-%20" SCNu64, sequence, first_index) != 2)
        return false;
    kith_segment_name(again, *sequence, *first_index);
    return strcmp(name, again) == 0; /* nothing in front, behind or between */
}

void kith_segment_encode_header(char out[KITH_SEGMENT_HEADER_BYTES], const struct kith_segment_header *header)
{
    memset(out, 0, KITH_SEGMENT_HEADER_BYTES);
    memcpy(out, magic, sizeof magic);
    kith_put_u32(out + 8, VERSION);
    kith_put_u64(out + 16, header->folder_id);
    kith_put_u64(out + 24, header->sequence);
    kith_put_u64(out + 32, header->salt);
    kith_put_u64(out + 40, (uint64_t)header->created_ms);
    kith_put_u64(out + 48, header->committed);
    kith_put_u32(out + HEADER_USED - 4, kith_crc32c(HEADER_SEED, out, HEADER_USED - 4));
}

static int decode_header(struct kith_segment_header *header, const char *page, struct kith_error *error)
{
    if (memcmp(page, magic, sizeof magic) != 0)
        return kith_error_set(error, KITH_ECORRUPT, "not a log segment: the first bytes are not Kith's");
    if (kith_get_u32(page + 8) != VERSION)
        return kith_error_set(
            error, KITH_EVERSION, "written by %s version of Kith (log format %u, this one reads %d)",
            kith_get_u32(page + 8) > VERSION ? "a newer" : "an older", kith_get_u32(page + 8), VERSION);
    if (kith_get_u32(page + HEADER_USED - 4) != kith_crc32c(HEADER_SEED, page, HEADER_USED - 4))
        return kith_error_set(error, KITH_ECORRUPT, "the segment's header does not match its checksum");
    header->folder_id = kith_get_u64(page + 16);
    header->sequence = kith_get_u64(page + 24);
    header->salt = kith_get_u64(page + 32);
    header->created_ms = (int64_t)kith_get_u64(page + 40);
    header->committed = kith_get_u64(page + 48);
    return KITH_OK;
}

/* Makes file bytes [offset, offset + length) part of the window and points *out at them; length must lie
 * within the file. Reads ahead, so that small records cost one read a megabyte. */
static int look(struct kith_segment_reader *r, uint64_t offset, size_t length, const char **out)
{
    if (offset < r->window_start || offset + length > r->window_start + r->window.length) {
        size_t want = length > WINDOW_BYTES ? length : WINDOW_BYTES, got;
        if (want > r->size - offset)
            want = (size_t)(r->size - offset);
        kith_buf_clear(&r->window);
        char *room = kith_buf_reserve(&r->window, want);
        if (!room)
            return KITH_ENOMEM;
        int status = r->file->fs->read(r->file, room, want, offset, &got);
        if (status != KITH_OK)
            return status;
        if (got < length)
            return KITH_EIO; /* shorter than its own size said */
        r->window.length = got;
        r->window_start = offset;
    }
    *out = r->window.data + (offset - r->window_start);
    return KITH_OK;
}

int kith_segment_reader_open(struct kith_segment_reader *reader, struct kith_file *file,
                             struct kith_error *error)
{
    struct kith_segment_reader r = {.file = file};
    const char *page;
    int status = file->fs->size(file, &r.size);
    if (status == KITH_OK && r.size < KITH_SEGMENT_HEADER_BYTES)
        return kith_error_set(error, KITH_ECORRUPT, "shorter than a segment's header page");
    if (status == KITH_OK)
        status = look(&r, 0, KITH_SEGMENT_HEADER_BYTES, &page);
    if (status != KITH_OK)
        kith_error_set(error, status, "cannot be read: %s", kith_status_text(status));
    else
        status = decode_header(&r.header, page, error);
    if (status != KITH_OK) {
        kith_buf_fini(&r.window);
        return status;
    }
    r.offset = KITH_SEGMENT_HEADER_BYTES;
    *reader = r;
    return KITH_OK;
}

void kith_segment_reader_close(struct kith_segment_reader *reader)
{
    kith_buf_fini(&reader->window);
}

/* 1: there is a valid record at `offset`; 0: there is not. Cheap for most bytes: only what looks like a
 * header is summed. */
static int read_record(struct kith_segment_reader *r, uint64_t offset, struct kith_record *record)
{
    const char *h;
    if (r->size - offset < KITH_RECORD_HEADER_BYTES)
        return 0;
    int status = look(r, offset, KITH_RECORD_HEADER_BYTES, &h);
    if (status != KITH_OK)
        return status;
    uint32_t length = kith_get_u32(h + 4), kind = kith_get_u32(h + 28);
    if (kind < KITH_RECORD_COMMAND || kind > KITH_RECORD_RESET || length > KITH_RECORD_PAYLOAD_MAX ||
        length > r->size - offset - KITH_RECORD_HEADER_BYTES)
        return 0;
    status = look(r, offset, KITH_RECORD_HEADER_BYTES + (size_t)length, &h);
    if (status != KITH_OK)
        return status;
    uint32_t crc = kith_crc32c(record_seed(r->header.salt, offset), h + 4,
                               KITH_RECORD_HEADER_BYTES - 4 + (size_t)length);
    if (crc != kith_get_u32(h))
        return 0;
    record->kind = (enum kith_record_kind)kind;
    record->index = kith_get_u64(h + 8);
    record->term = kith_get_u64(h + 16);
    record->synced = (uint64_t)kith_get_u32(h + 24) << 3;
    record->payload = kith_slice(h + KITH_RECORD_HEADER_BYTES, length);
    record->offset = offset;
    record->end = offset + kith_record_bytes(length);
    if (record->end > r->size)
        record->end = r->size; /* cut within the padding */
    return 1;
}

static bool all_zero(const char *bytes, size_t length)
{
    return length == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0);
}

/* 1: nothing but zeros from reader->offset to the end of the file. */
static int only_zeros(struct kith_segment_reader *r)
{
    for (uint64_t at = r->offset; at < r->size;) {
        const char *bytes;
        size_t n = r->size - at < WINDOW_BYTES ? (size_t)(r->size - at) : WINDOW_BYTES;
        int status = look(r, at, n, &bytes);
        if (status != KITH_OK)
            return status;
        if (!all_zero(bytes, n))
            return 0;
        at += n;
    }
    return 1;
}

/* There is no valid record at reader->offset. Decides why; see the header file for the rule. */
static int judge_end(struct kith_segment_reader *r, struct kith_error *error)
{
    if (r->offset >= r->size) {
        r->end = KITH_SEGMENT_EXACT;
        return 0;
    }
    int zeros = only_zeros(r);
    if (zeros < 0)
        return zeros;
    if (zeros) {
        r->end = KITH_SEGMENT_ZEROS;
        return 0;
    }
    struct kith_record later = {0};
    r->torn_bytes = 8;
    for (uint64_t at = r->offset + 8; at < r->size; at += 8) {
        const char *bytes;
        int found = look(r, at, r->size - at < 8 ? (size_t)(r->size - at) : 8, &bytes);
        if (found == KITH_OK && !all_zero(bytes, r->size - at < 8 ? (size_t)(r->size - at) : 8))
            r->torn_bytes = at + 8 - r->offset;
        if (found == KITH_OK)
            found = read_record(r, at, &later);
        if (found < 0)
            return found;
        if (found && later.synced > r->offset)
            return kith_error_set(
                error, KITH_ECORRUPT,
                "damaged: this was safely on the disk once, as a good record at offset %" PRIu64
                " (entry %" PRIu64 ") tells",
                at, later.index);
    }
    r->end = KITH_SEGMENT_TORN;
    return 0;
}

int kith_segment_next(struct kith_segment_reader *reader, struct kith_record *record,
                      struct kith_error *error)
{
    int found = reader->offset < reader->size ? read_record(reader, reader->offset, record) : 0;
    if (found == 0)
        found = judge_end(reader, error);
    else if (found == 1 && record->kind == KITH_RECORD_SEAL) {
        reader->end = KITH_SEGMENT_SEALED;
        return 0; /* the offset stays at the seal: what counts ends here */
    } else if (found == 1)
        reader->offset = record->end;
    if (found < 0 && found != KITH_ECORRUPT)
        kith_error_set(error, found, "cannot be read: %s", kith_status_text(found));
    return found;
}
