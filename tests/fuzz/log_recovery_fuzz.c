/* A folder whose log was written by a program that the input spells out, rightly or wrongly, and then damaged. Recovery
 * must end, refuse or cut; and what it accepts once it must accept again with the same entries. */
#include "base/log.h"
#include "base/varint.h"
#include "store/crc.h"
#include "store/store.h"

#include "../unit/crash_fs.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define DIR "/d"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FOLDER_ID = 7, SALT = 99, FILE_BYTES = 64 << 10 };

struct image {
    struct kith_buf bytes;
    uint64_t sequence, first_index, next_index;
};

static void begin_segment(struct image *image)
{
    struct kith_segment_header header = {.folder_id = FOLDER_ID, .sequence = ++image->sequence, .salt = SALT};
    char *room = kith_buf_reserve(&image->bytes, KITH_SEGMENT_HEADER_BYTES);
    kith_segment_encode_header(room, &header);
    image->bytes.length = KITH_SEGMENT_HEADER_BYTES;
    image->first_index = image->next_index;
}

static void put_record(struct image *image, enum kith_record_kind kind, uint64_t index, uint64_t synced,
                       size_t length)
{
    char payload[256] = {0}, header[KITH_RECORD_HEADER_BYTES];
    struct kith_record record = {.kind = kind,
                                 .index = index,
                                 .term = 1,
                                 .synced = synced & ~7ull,
                                 .payload = kith_slice(payload, length)};
    kith_record_encode_header(header, &record, image->bytes.length, SALT);
    kith_buf_append(&image->bytes, header, sizeof header);
    kith_buf_append(&image->bytes, payload, (length + 7) & ~(size_t)7);
}

static void end_segment(struct crash_fs *disk, struct image *image, size_t padding)
{
    char name[KITH_SEGMENT_NAME_BYTES], path[256];
    struct kith_fs *fs = crash_fs_table(disk);
    struct kith_file *file;
    kith_segment_name(name, image->sequence, image->first_index);
    snprintf(path, sizeof path, DIR "/%s", name);
    struct kith_slice piece = kith_buf_slice(&image->bytes);
    if (fs->open(fs, path, KITH_FS_WRITE | KITH_FS_CREATE, &file) != KITH_OK)
        abort();
    fs->write(file, &piece, 1, 0);
    if (padding)
        fs->preallocate(file, piece.length + padding);
    fs->close(file);
    kith_buf_clear(&image->bytes);
}

static void write_log(struct crash_fs *disk, struct kith_reader *r)
{
    struct image image = {.next_index = 1};
    begin_segment(&image);
    for (int ops = kith_reader_u8(r) % 64; ops > 0 && !r->failed && image.bytes.length < FILE_BYTES; ops--) {
        uint8_t op = kith_reader_u8(r), value = kith_reader_u8(r);
        uint64_t synced = value & 1 ? image.bytes.length : KITH_SEGMENT_HEADER_BYTES;
        switch (op % 8) {
        default:
            put_record(&image, KITH_RECORD_COMMAND, image.next_index++, synced, value);
            break;
        case 4:
            if (image.next_index > (uint64_t)value % 4 + 1)
                image.next_index -= value % 4;
            put_record(&image, KITH_RECORD_TRUNCATE, image.next_index, synced, 0);
            break;
        case 5:
            put_record(&image, KITH_RECORD_SEAL, image.next_index, synced, 0);
            end_segment(disk, &image, value);
            begin_segment(&image);
            break;
        case 6:
            put_record(&image, (enum kith_record_kind)(value % 8), image.next_index + value, synced, 0);
            break;
        case 7: {
            struct kith_slice raw = kith_reader_bytes(r, value % (r->length + 1));
            kith_buf_append(&image.bytes, raw.data, raw.length);
            break;
        }
        }
    }
    end_segment(disk, &image, kith_reader_u8(r) * 16u);
    kith_buf_fini(&image.bytes);
}

static void damage(struct crash_fs *disk, struct kith_reader *r)
{
    while (r->length >= 4) {
        const char *path = crash_fs_find(disk, DIR "/log-", kith_reader_u8(r) % 2);
        uint64_t offset = kith_reader_u8(r);
        offset |= (uint64_t)kith_reader_u8(r) << 8;
        uint8_t mask = kith_reader_u8(r);
        if (path)
            crash_fs_flip(disk, path, offset, mask);
    }
}

/* The entries that stand in the end: (first, last]. */
struct digest {
    uint32_t sums[1024];
    uint64_t first, last;
};

static int add(void *context, const struct kith_record *record)
{
    struct digest *d = context;
    if (record->kind == KITH_RECORD_TRUNCATE || record->kind == KITH_RECORD_RESET) {
        d->last = record->index - 1;
        if (record->kind == KITH_RECORD_RESET || d->first > d->last)
            d->first = d->last;
        return KITH_OK;
    }
    d->last = record->index;
    if (record->index < 1024)
        d->sums[record->index] = kith_crc32c(record->kind, record->payload.data, record->payload.length);
    return KITH_OK;
}

/* What is only kept for members that are behind may be found unfit by one start and not by the other. */
static bool same(const struct digest *a, const struct digest *b)
{
    uint64_t end = a->last < 1024 ? a->last + 1 : 1024;
    for (uint64_t i = (a->first > b->first ? a->first : b->first) + 1; i < end; i++)
        if (a->sums[i] != b->sums[i])
            return false;
    return a->last == b->last;
}

/* One start of a server, up to the open log. */
static int recover(struct crash_fs *disk, struct digest *digest, uint64_t *last_index)
{
    struct kith_store *store;
    struct kith_log *log;
    struct kith_error error;
    struct kith_log_options options = {.segment_bytes = 8192, .queue_bytes = 1 << 20};
    *digest = (struct digest){0};
    struct kith_store_options opening = {.fs = crash_fs_table(disk), .dir = DIR};
    int status = kith_store_open(&store, &opening, &error);
    if (status != KITH_OK)
        return status;
    status = kith_store_read_log(store, add, digest, &error);
    if (status == KITH_OK)
        status = kith_store_open_log(store, &log, &options, &error);
    if (status == KITH_OK) {
        *last_index = kith_store_get_found(store)->last_index;
        status = kith_log_close(log);
    }
    kith_store_close(store);
    return status;
}

static void silent(void *arg, enum kith_log_level level, const char *line)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kith_reader r = kith_reader(kith_slice(data, size));
    struct crash_fs *disk = crash_fs_open();
    struct kith_state state = {.folder_id = FOLDER_ID, .node_id = 1, .term = 1, .bootstrapped = true};
    struct digest first, second;
    uint64_t last = 0, last_again = 0;
    struct kith_store_check_result result;
    kith_log_setup(KITH_LOG_ERROR, silent, NULL);
    if (kith_state_save(&state, crash_fs_table(disk), DIR, NULL) != KITH_OK)
        abort();
    write_log(disk, &r);
    damage(disk, &r);
    int checked = kith_store_check(crash_fs_table(disk), DIR, NULL, NULL, &result);
    int status = recover(disk, &first, &last);
    if ((status == KITH_OK) != (checked == KITH_OK))
        abort(); /* check and recovery must agree */
    if (status == KITH_OK &&
        (recover(disk, &second, &last_again) != KITH_OK || !same(&first, &second) || last != last_again ||
         kith_store_check(crash_fs_table(disk), DIR, NULL, NULL, &result) != KITH_OK))
        abort();
    crash_fs_close(disk);
    return 0;
}
