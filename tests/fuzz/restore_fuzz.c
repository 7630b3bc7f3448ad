/* A folder, of a backup or of a node, whose checkpoints and log were written by a program that the input spells out, rightly or
 * wrongly, and then damaged; and a time or an entry up to which it is wanted. A restore must end: refuse, or make a folder that is
 * sound and ends where the look said, with the same answer the second time. What is refused leaves no file behind. */
#include "base/log.h"
#include "base/varint.h"
#include "engine/engine.h"
#include "repl/restore.h"
#include "store/store.h"

#include "../unit/crash_fs.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define FROM "/from"
#define TO   "/to"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { GROUP_ID = 7, SALT = 99, FILE_BYTES = 64 << 10 };

struct image {
    struct crash_fs *disk;
    struct kith_buf bytes;
    struct kith_slice configuration;
    uint64_t sequence, first_index, next_index;
};

static void begin_segment(struct image *image)
{
    struct kith_segment_header header = {.folder_id = GROUP_ID, .sequence = ++image->sequence, .salt = SALT};
    char *room = kith_buf_reserve(&image->bytes, KITH_SEGMENT_HEADER_BYTES);
    kith_segment_encode_header(room, &header);
    image->bytes.length = KITH_SEGMENT_HEADER_BYTES;
    image->first_index = image->next_index;
}

static void put_record(struct image *image, enum kith_record_kind kind, uint64_t index,
                       struct kith_slice payload)
{
    char header[KITH_RECORD_HEADER_BYTES], zeros[8] = {0};
    struct kith_record record = {
        .kind = kind, .index = index, .term = 1, .synced = KITH_SEGMENT_HEADER_BYTES, .payload = payload};
    kith_record_encode_header(header, &record, image->bytes.length, SALT);
    kith_buf_append(&image->bytes, header, sizeof header);
    kith_buf_append(&image->bytes, payload.data, payload.length);
    kith_buf_append(&image->bytes, zeros, (8 - payload.length % 8) % 8);
}

static void put_command(struct image *image, uint8_t time)
{
    struct kith_buf payload = {0};
    kith_entry_begin(&payload, time, 1);
    kith_buf_append(&payload, (char[16]){0}, 16);
    put_record(image, KITH_RECORD_COMMAND, image->next_index++, kith_buf_slice(&payload));
    kith_buf_fini(&payload);
}

static void end_segment(struct image *image)
{
    char name[KITH_SEGMENT_NAME_BYTES], path[256];
    struct kith_fs *fs = crash_fs_table(image->disk);
    struct kith_file *file;
    kith_segment_name(name, image->sequence, image->first_index);
    snprintf(path, sizeof path, FROM "/%s", name);
    struct kith_slice piece = kith_buf_slice(&image->bytes);
    if (fs->open(fs, path, KITH_FS_WRITE | KITH_FS_CREATE, &file) != KITH_OK)
        abort();
    fs->write(file, &piece, 1, 0);
    fs->close(file);
    kith_buf_clear(&image->bytes);
}

/* Of the entry before the next one. */
static void put_checkpoint(struct image *image, uint8_t time)
{
    struct kith_checkpoint_info info = {.folder_id = GROUP_ID,
                                        .index = image->next_index - 1,
                                        .term = 1,
                                        .configuration_index = 1,
                                        .configuration = image->configuration};
    struct kith_checkpoint_writer *writer;
    char head[11] = {10, 1, 2}; /* a record of ten bytes: its kind, the version, the time */
    uint64_t bytes;
    kith_put_u64(head + 3, time);
    if (!info.index ||
        kith_checkpoint_writer_open(&writer, crash_fs_table(image->disk), FROM, &info) != KITH_OK)
        return;
    (void)kith_checkpoint_writer_add(writer, kith_slice(head, sizeof head));
    (void)kith_checkpoint_writer_finish(writer, &bytes);
    kith_checkpoint_writer_close(writer);
}

static void write_folder(struct image *image, struct kith_reader *r)
{
    image->next_index = 1;
    begin_segment(image);
    put_record(image, KITH_RECORD_CONFIGURATION, image->next_index++, image->configuration);
    for (int ops = kith_reader_u8(r) % 64; ops > 0 && !r->failed && image->bytes.length < FILE_BYTES; ops--) {
        uint8_t op = kith_reader_u8(r), value = kith_reader_u8(r);
        switch (op % 10) {
        default:
            put_command(image, value);
            break;
        case 4:
            if (image->next_index > (uint64_t)value % 4 + 1)
                image->next_index -= value % 4;
            put_record(image, KITH_RECORD_TRUNCATE, image->next_index, (struct kith_slice){0});
            break;
        case 5:
            put_record(image, KITH_RECORD_SEAL, image->next_index, (struct kith_slice){0});
            end_segment(image);
            if (value % 8 == 0)
                image->next_index += value / 8; /* a gap */
            begin_segment(image);
            break;
        case 6:
            put_record(image, (enum kith_record_kind)(value % 8), image->next_index, (struct kith_slice){0});
            break;
        case 7:
            put_checkpoint(image, value);
            break;
        case 8:
            put_record(image, KITH_RECORD_CONFIGURATION, image->next_index++, image->configuration);
            break;
        case 9: {
            struct kith_slice raw = kith_reader_bytes(r, value % (r->length + 1));
            put_record(image, KITH_RECORD_COMMAND, image->next_index++, raw);
            break;
        }
        }
    }
    end_segment(image);
}

static void damage(struct crash_fs *disk, struct kith_reader *r)
{
    while (r->length >= 4) {
        const char *path = crash_fs_find(disk, FROM "/", kith_reader_u8(r) % 8);
        uint64_t offset = kith_reader_u8(r);
        offset |= (uint64_t)kith_reader_u8(r) << 8;
        uint8_t mask = kith_reader_u8(r);
        if (path)
            crash_fs_flip(disk, path, offset, mask);
    }
}

static void silent(void *arg, enum kith_log_level level, const char *line)
{
}

static void restore(struct crash_fs *disk, const struct kith_restore_options *options)
{
    struct kith_restore_found looked, found;
    struct kith_restore_made made;
    struct kith_error error = {""};
    struct kith_store_check_result result;
    int look = kith_restore_look(options, &looked, NULL, NULL, &error);
    int status = kith_restore(options, TO, &found, &made, &error);
    if (look != status || (status != KITH_OK && (!error.text[0] || crash_fs_find(disk, TO "/", 0))))
        abort();
    if (status != KITH_OK)
        return;
    if (kith_store_check(options->fs, TO, NULL, NULL, &result) != KITH_OK ||
        result.last_index != looked.last_index || found.last_index != looked.last_index ||
        made.group_id == GROUP_ID)
        abort();
    if (kith_restore(options, TO, &found, &made, &error) != KITH_EEXIST)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kith_reader r = kith_reader(kith_slice(data, size));
    struct image image = {.disk = crash_fs_open()};
    struct kith_restore_options options = {
        .fs = crash_fs_table(image.disk), .from = FROM, .seed = 5, .segment_bytes = 64 << 10};
    kith_log_setup(KITH_LOG_ERROR, silent, NULL);
    uint8_t kind = kith_reader_u8(&r), until = kith_reader_u8(&r);
    options.source = kind & 1 ? KITH_RESTORE_NODE : KITH_RESTORE_BACKUP;
    options.until = (enum kith_restore_until)(kind / 2 % 3);
    options.until_index = options.until == KITH_RESTORE_INDEX ? until : 0;
    options.until_ms = until;
    struct kith_state state = {
        .folder_id = GROUP_ID, .node_id = 1, .term = 1, .bootstrapped = true, .backup = !(kind & 1)};
    if (kith_core_encode_single(&image.configuration, 1, "a:1") != KITH_OK ||
        kith_state_save(&state, options.fs, FROM, NULL) != KITH_OK)
        abort();
    write_folder(&image, &r);
    damage(image.disk, &r);
    restore(image.disk, &options);
    kith_buf_fini(&image.bytes);
    free((void *)image.configuration.data);
    crash_fs_close(image.disk);
    return 0;
}
