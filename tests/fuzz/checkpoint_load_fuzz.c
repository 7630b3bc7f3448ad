/* Checkpoint files. The first byte chooses: a sound file whose content is the input and whose bytes are then flipped;
 * or the input itself as a file, as it is or with the right checksums put in, so that what lies behind them is
 * reached. */
#include "base/varint.h"
#include "store/checkpoint.h"
#include "store/crc.h"

#include "../unit/crash_fs.h"

#include <stdint.h>
#include <stdlib.h>

#define DIR  "/d"
#define PATH DIR "/checkpoint-00000000000000000009"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int count(void *context, struct kith_slice bytes)
{
    *(uint64_t *)context += bytes.length;
    return KITH_OK;
}

/* KITH_OK only for a whole file; *bytes are what it gave. */
static int read_back(struct crash_fs *disk, uint64_t *bytes)
{
    struct kith_checkpoint_read read;
    struct kith_error error;
    struct kith_file *file;
    *bytes = 0;
    if (crash_fs_table(disk)->open(crash_fs_table(disk), PATH, 0, &file) != KITH_OK)
        abort();
    int status = kith_checkpoint_read_all(&read, file, count, bytes, &error);
    if (status == KITH_OK) {
        if (read.info.raw_bytes != *bytes)
            abort();
        kith_checkpoint_read_close(&read);
    }
    kith_file_close(file);
    return status;
}

static void sound_then_flipped(struct crash_fs *disk, struct kith_reader *r)
{
    struct kith_checkpoint_writer *w;
    struct kith_checkpoint_info info = {.index = 9, .configuration = KITH_SLICE("configuration")};
    uint64_t file_bytes, bytes, content;
    uint8_t flips = kith_reader_u8(r) % 4;
    struct kith_slice places = kith_reader_bytes(r, flips * 3u);
    if (r->failed)
        return;
    content = r->length;
    if (kith_checkpoint_writer_open(&w, crash_fs_table(disk), DIR, &info) != KITH_OK ||
        kith_checkpoint_writer_add(w, kith_slice(r->data, r->length)) != KITH_OK ||
        kith_checkpoint_writer_finish(w, &file_bytes) != KITH_OK)
        abort();
    kith_checkpoint_writer_close(w);
    if (read_back(disk, &bytes) != KITH_OK || bytes != content)
        abort();
    bool flipped = false;
    for (size_t i = 0; i < flips && !flipped; i++) {
        const unsigned char *p = (const unsigned char *)places.data + i * 3;
        flipped = p[2] != 0 && crash_fs_flip(disk, PATH, (uint64_t)p[0] | (uint64_t)p[1] << 8, p[2]);
    }
    if (flipped && read_back(disk, &bytes) == KITH_OK)
        abort(); /* a single changed byte is never missed */
}

/* Puts the sums in where they belong, as far as the lengths make sense. */
static void mend_sums(char *p, size_t size)
{
    if (size < 68)
        return;
    memcpy(p, "KITHCKP\n", 8);
    kith_put_u32(p + 8, 1);
    kith_put_u32(p + 56, 1);
    size_t header = kith_get_u32(p + 12);
    if (header < 68 || header > size)
        kith_put_u32(p + 12, (uint32_t)(header = 68));
    uint32_t seed = kith_crc32c(1, p, header - 4);
    kith_put_u32(p + header - 4, seed);
    uint32_t number = 0;
    for (size_t at = header; at + 16 <= size; number++) {
        size_t stored = kith_get_u32(p + at + 8);
        if (stored > size - at - 16)
            kith_put_u32(p + at + 8, (uint32_t)(stored = size - at - 16));
        kith_put_u32(p + at + 4, 1 + kith_get_u32(p + at + 4) % 2);
        uint32_t crc = kith_crc32c(seed + number, p + at + 4, 12);
        kith_put_u32(p + at, kith_crc32c(crc, p + at + 16, stored));
        at += 16 + stored;
    }
}

static void any_bytes(struct crash_fs *disk, struct kith_reader *r, bool mend)
{
    struct kith_buf bytes = {0};
    struct kith_file *file;
    uint64_t got;
    kith_buf_append(&bytes, r->data, r->length);
    if (mend)
        mend_sums(bytes.data, bytes.length);
    if (crash_fs_table(disk)->open(crash_fs_table(disk), PATH, KITH_FS_WRITE | KITH_FS_CREATE, &file) !=
        KITH_OK)
        abort();
    struct kith_slice piece = kith_buf_slice(&bytes);
    crash_fs_table(disk)->write(file, &piece, 1, 0);
    kith_file_close(file);
    (void)read_back(disk, &got); /* must only end */
    kith_buf_fini(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kith_reader r = kith_reader(kith_slice(data, size));
    struct crash_fs *disk = crash_fs_open();
    uint8_t kind = kith_reader_u8(&r) % 3;
    if (r.failed)
        kind = 3;
    if (kind == 0)
        sound_then_flipped(disk, &r);
    else if (kind < 3 && r.length)
        any_bytes(disk, &r, kind == 2);
    crash_fs_close(disk);
    return 0;
}
