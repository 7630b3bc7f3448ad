/* Checkpoint files: blocks of zstd frames, each with its sum, between a header and an end that counts them.
 */
#include "store/checkpoint.h"

#include "base/assert.h"
#include "base/varint.h"
#include "store/crc.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <zstd.h>

static const char magic[8] = {'K', 'I', 'T', 'H', 'C', 'K', 'P', '\n'};

enum {
    VERSION = 1,
    CODEC_ZSTD = 1,
    FIXED_BYTES = 64, /* of the header, before the configuration and the sum */
    CONFIGURATION_MAX = 1 << 20,
    BLOCK_HEADER_BYTES = 16,
    KIND_DATA = 1,
    KIND_END = 2,
    END_BYTES = 16,
    SYNC_BYTES = 32 << 20, /* a sync now and then: one of gigabytes would hold up those of the log */
    LEVEL = 1, /* on one core, zstd -1 keeps up with what the keyspace thread can yield beside its clients */
};

void kith_checkpoint_name(char out[KITH_CHECKPOINT_NAME_BYTES], uint64_t index)
{
    snprintf(out, KITH_CHECKPOINT_NAME_BYTES, "checkpoint-%020" PRIu64, index);
}

bool kith_checkpoint_parse_name(const char *name, uint64_t *index)
{
    char again[KITH_CHECKPOINT_NAME_BYTES];
    if (sscanf(name, "checkpoint-%20" SCNu64, index) != 1)
        return false;
    kith_checkpoint_name(again, *index);
    return strcmp(name, again) == 0;
}

static uint32_t block_crc(uint32_t header_crc, uint64_t number, const char block_header[BLOCK_HEADER_BYTES],
                          const void *stored, size_t length)
{
    uint32_t crc = kith_crc32c(header_crc + (uint32_t)number, block_header + 4, BLOCK_HEADER_BYTES - 4);
    return kith_crc32c(crc, stored, length);
}

/* --- writing --- */

struct kith_checkpoint_writer {
    struct kith_fs *fs;
    const char *dir;
    struct kith_file *file;
    ZSTD_CCtx *zstd;
    char *stored; /* room for one compressed block */
    size_t stored_capacity;
    struct kith_buf raw; /* of the block that is not full yet */
    uint64_t index, offset, synced, blocks, raw_bytes;
    uint32_t header_crc;
    int status;
    bool finished;
    char path[4096], temporary[4096];
};

static int put(struct kith_checkpoint_writer *w, const struct kith_slice *pieces, size_t count)
{
    int status = w->fs->write(w->file, pieces, count, w->offset);
    for (size_t i = 0; i < count; i++)
        w->offset += pieces[i].length;
    if (status == KITH_OK && w->offset - w->synced > SYNC_BYTES) {
        status = w->fs->sync(w->file, KITH_FS_SYNC_DATA);
        w->synced = w->offset;
    }
    return status;
}

static int put_header(struct kith_checkpoint_writer *w, const struct kith_checkpoint_info *info)
{
    char fixed[FIXED_BYTES] = {0}, crc[4];
    memcpy(fixed, magic, sizeof magic);
    kith_put_u32(fixed + 8, VERSION);
    kith_put_u32(fixed + 12, (uint32_t)(FIXED_BYTES + info->configuration.length + sizeof crc));
    kith_put_u64(fixed + 16, info->folder_id);
    kith_put_u64(fixed + 24, info->index);
    kith_put_u64(fixed + 32, info->term);
    kith_put_u64(fixed + 40, info->configuration_index);
    kith_put_u64(fixed + 48, (uint64_t)info->created_ms);
    kith_put_u32(fixed + 56, CODEC_ZSTD);
    w->header_crc = kith_crc32c(VERSION, fixed, sizeof fixed);
    w->header_crc = kith_crc32c(w->header_crc, info->configuration.data, info->configuration.length);
    kith_put_u32(crc, w->header_crc);
    struct kith_slice pieces[] = {kith_slice(fixed, sizeof fixed), info->configuration,
                                  kith_slice(crc, sizeof crc)};
    return put(w, pieces, 3);
}

int kith_checkpoint_writer_open(struct kith_checkpoint_writer **out, struct kith_fs *fs, const char *dir,
                                const struct kith_checkpoint_info *info)
{
    char name[KITH_CHECKPOINT_NAME_BYTES];
    if (info->configuration.length > CONFIGURATION_MAX)
        return KITH_ETOOBIG;
    struct kith_checkpoint_writer *w = calloc(1, sizeof *w);
    if (!w)
        return KITH_ENOMEM;
    w->fs = fs;
    w->dir = dir;
    w->index = info->index;
    kith_checkpoint_name(name, info->index);
    snprintf(w->path, sizeof w->path, "%s/%s", dir, name);
    snprintf(w->temporary, sizeof w->temporary, "%s/%s.tmp", dir, name);
    w->stored_capacity = ZSTD_compressBound(KITH_CHECKPOINT_BLOCK_BYTES);
    w->stored = malloc(w->stored_capacity);
    w->zstd = ZSTD_createCCtx();
    int status = w->stored && w->zstd ? KITH_OK : KITH_ENOMEM;
    if (status == KITH_OK)
        status = fs->open(fs, w->temporary, KITH_FS_WRITE | KITH_FS_CREATE | KITH_FS_EMPTY, &w->file);
    if (status == KITH_OK)
        status = put_header(w, info);
    if (status != KITH_OK) {
        kith_checkpoint_writer_close(w);
        return status;
    }
    *out = w;
    return KITH_OK;
}

static int put_block(struct kith_checkpoint_writer *w, uint32_t kind, const void *stored, size_t length,
                     size_t raw_length)
{
    char header[BLOCK_HEADER_BYTES];
    kith_put_u32(header + 4, kind);
    kith_put_u32(header + 8, (uint32_t)length);
    kith_put_u32(header + 12, (uint32_t)raw_length);
    kith_put_u32(header, block_crc(w->header_crc, w->blocks++, header, stored, length));
    struct kith_slice pieces[] = {kith_slice(header, sizeof header), kith_slice(stored, length)};
    w->raw_bytes += raw_length;
    return put(w, pieces, 2);
}

static int compress_block(struct kith_checkpoint_writer *w, struct kith_slice raw)
{
    size_t n = ZSTD_compressCCtx(w->zstd, w->stored, w->stored_capacity, raw.data, raw.length, LEVEL);
    if (ZSTD_isError(n))
        return KITH_ENOMEM; /* with room for the bound nothing else is left to fail */
    return put_block(w, KIND_DATA, w->stored, n, raw.length);
}

int kith_checkpoint_writer_add(struct kith_checkpoint_writer *w, struct kith_slice bytes)
{
    while (bytes.length && w->status == KITH_OK) {
        size_t room = KITH_CHECKPOINT_BLOCK_BYTES - w->raw.length;
        size_t n = bytes.length < room ? bytes.length : room;
        if (n == KITH_CHECKPOINT_BLOCK_BYTES) {
            w->status = compress_block(w, kith_slice(bytes.data, n));
        } else {
            kith_buf_append(&w->raw, bytes.data, n);
            if (w->raw.failed)
                w->status = KITH_ENOMEM;
            else if (w->raw.length == KITH_CHECKPOINT_BLOCK_BYTES) {
                w->status = compress_block(w, kith_buf_slice(&w->raw));
                kith_buf_clear(&w->raw);
            }
        }
        bytes = kith_slice(bytes.data + n, bytes.length - n);
    }
    return w->status;
}

/* Reads the synced file back, from the disk as far as the system lets us choose. */
static int verify(struct kith_checkpoint_writer *w)
{
    struct kith_checkpoint_read read;
    struct kith_file *file;
    w->file->fs->drop_cache(w->file);
    int status = w->fs->open(w->fs, w->temporary, 0, &file);
    if (status != KITH_OK)
        return status;
    status = kith_checkpoint_read_all(&read, file, NULL, NULL, NULL);
    if (status == KITH_OK) {
        if (read.info.index != w->index || read.info.raw_bytes != w->raw_bytes)
            status = KITH_ECORRUPT;
        kith_checkpoint_read_close(&read);
    }
    w->fs->close(file);
    return status;
}

int kith_checkpoint_writer_finish(struct kith_checkpoint_writer *w, uint64_t *file_bytes)
{
    if (w->status == KITH_OK && w->raw.length)
        w->status = compress_block(w, kith_buf_slice(&w->raw));
    char totals[END_BYTES];
    kith_put_u64(totals, w->raw_bytes);
    kith_put_u64(totals + 8, w->blocks);
    if (w->status == KITH_OK)
        w->status = put_block(w, KIND_END, totals, sizeof totals, 0);
    if (w->status == KITH_OK)
        w->status = w->fs->sync(w->file, KITH_FS_SYNC_ALL);
    if (w->status == KITH_OK)
        w->status = verify(w);
    if (w->status == KITH_OK)
        w->status = w->fs->rename(w->fs, w->temporary, w->path);
    if (w->status == KITH_OK) {
        w->finished = true;
        w->status = w->fs->sync_folder(w->fs, w->dir);
    }
    if (w->status == KITH_OK)
        *file_bytes = w->offset;
    return w->status;
}

void kith_checkpoint_writer_close(struct kith_checkpoint_writer *w)
{
    if (!w)
        return;
    kith_file_close(w->file);
    if (w->file && !w->finished)
        (void)w->fs->unlink(w->fs, w->temporary); /* the next open removes what this could not */
    kith_buf_fini(&w->raw);
    ZSTD_freeCCtx(w->zstd);
    free(w->stored);
    free(w);
}

/* --- reading --- */

void kith_checkpoint_read_close(struct kith_checkpoint_read *read)
{
    kith_buf_fini(&read->header);
}

static int cannot_read(struct kith_error *error, int status)
{
    return kith_error_set(error, status, "cannot be read: %s", kith_status_text(status));
}

/* Reads exactly `length` bytes at `offset` to buf (cleared first). KITH_ECORRUPT when the file is shorter. */
static int read_exactly(struct kith_buf *buf, struct kith_file *file, uint64_t offset, size_t length,
                        struct kith_error *error)
{
    size_t got = 0;
    kith_buf_clear(buf);
    char *room = kith_buf_reserve(buf, length);
    if (!room)
        return cannot_read(error, KITH_ENOMEM);
    int status = file->fs->read(file, room, length, offset, &got);
    if (status != KITH_OK)
        return cannot_read(error, status);
    if (got < length)
        return kith_error_set(error, KITH_ECORRUPT, "damaged: the file ends too early");
    buf->length = length;
    return KITH_OK;
}

static int decode_header(struct kith_checkpoint_read *r, struct kith_file *file, struct kith_error *error)
{
    int status = read_exactly(&r->header, file, 0, FIXED_BYTES, error);
    if (status != KITH_OK)
        return status;
    const char *h = r->header.data;
    if (memcmp(h, magic, sizeof magic) != 0)
        return kith_error_set(error, KITH_ECORRUPT, "not a checkpoint: the first bytes are not Kith's");
    if (kith_get_u32(h + 8) > VERSION)
        return kith_error_set(error, KITH_EVERSION,
                              "written by a newer version of Kith (format %u, this one reads %d)",
                              kith_get_u32(h + 8), VERSION);
    uint32_t length = kith_get_u32(h + 12);
    if (length < FIXED_BYTES + 4 || length > FIXED_BYTES + CONFIGURATION_MAX + 4)
        return kith_error_set(error, KITH_ECORRUPT, "damaged: the header's length is impossible");
    status = read_exactly(&r->header, file, 0, length, error);
    if (status != KITH_OK)
        return status;
    h = r->header.data;
    if (kith_get_u32(h + length - 4) != kith_crc32c(VERSION, h, length - 4))
        return kith_error_set(error, KITH_ECORRUPT, "damaged: the header does not match its checksum");
    if (kith_get_u32(h + 56) != CODEC_ZSTD)
        return kith_error_set(error, KITH_EVERSION,
                              "written by a newer version of Kith (unknown compression %u)",
                              kith_get_u32(h + 56));
    r->info = (struct kith_checkpoint_info){
        .folder_id = kith_get_u64(h + 16),
        .index = kith_get_u64(h + 24),
        .term = kith_get_u64(h + 32),
        .configuration_index = kith_get_u64(h + 40),
        .created_ms = (int64_t)kith_get_u64(h + 48),
        .configuration = kith_slice(h + FIXED_BYTES, length - FIXED_BYTES - 4),
    };
    return KITH_OK;
}

int kith_checkpoint_read_header(struct kith_checkpoint_read *out, struct kith_file *file,
                                struct kith_error *error)
{
    struct kith_checkpoint_read r = {0};
    int status = decode_header(&r, file, error);
    if (status == KITH_OK)
        status = file->fs->size(file, &r.info.file_bytes);
    if (status != KITH_OK) {
        out->damage_offset = 0;
        kith_checkpoint_read_close(&r);
        return status;
    }
    *out = r;
    return KITH_OK;
}

struct block {
    uint32_t kind, raw_length;
    struct kith_slice stored;
};

/* The block at `offset`, checked; its bytes live in `buf`. */
static int read_block(struct block *out, struct kith_buf *buf, const struct kith_checkpoint_read *r,
                      struct kith_file *file, uint64_t offset, struct kith_error *error)
{
    char header[BLOCK_HEADER_BYTES];
    int status = read_exactly(buf, file, offset, BLOCK_HEADER_BYTES, error);
    if (status != KITH_OK)
        return status;
    memcpy(header, buf->data, sizeof header);
    uint32_t kind = kith_get_u32(header + 4), stored = kith_get_u32(header + 8),
             raw = kith_get_u32(header + 12);
    if ((kind != KIND_DATA && kind != KIND_END) || raw > KITH_CHECKPOINT_BLOCK_BYTES ||
        stored > ZSTD_COMPRESSBOUND(KITH_CHECKPOINT_BLOCK_BYTES) ||
        (kind == KIND_END && (stored != END_BYTES || raw)))
        return kith_error_set(error, KITH_ECORRUPT, "damaged: no block begins here");
    status = read_exactly(buf, file, offset + BLOCK_HEADER_BYTES, stored, error);
    if (status != KITH_OK)
        return status;
    uint32_t header_crc = kith_get_u32(r->header.data + r->header.length - 4);
    if (kith_get_u32(header) != block_crc(header_crc, r->blocks, header, buf->data, stored))
        return kith_error_set(error, KITH_ECORRUPT, "damaged: block %" PRIu64 " does not match its checksum",
                              r->blocks);
    *out = (struct block){kind, raw, kith_buf_slice(buf)};
    return KITH_OK;
}

/* Decompresses the block to the end of `out`. */
static int unpack_block(const struct block *block, struct kith_buf *out, ZSTD_DCtx *zstd,
                        struct kith_error *error)
{
    char *room = kith_buf_reserve(out, block->raw_length ? block->raw_length : 1);
    if (!room)
        return cannot_read(error, KITH_ENOMEM);
    size_t n = ZSTD_decompressDCtx(zstd, room, block->raw_length, block->stored.data, block->stored.length);
    if (n != block->raw_length)
        return kith_error_set(error, KITH_ECORRUPT, "damaged: a block does not decompress to its length");
    out->length += n;
    return KITH_OK;
}

static int check_end(const struct kith_checkpoint_read *r, const struct block *end, uint64_t offset,
                     struct kith_error *error)
{
    KITH_ASSERT(end->stored.data);
    if (kith_get_u64(end->stored.data) != r->info.raw_bytes ||
        kith_get_u64(end->stored.data + 8) != r->blocks)
        return kith_error_set(error, KITH_ECORRUPT, "damaged: blocks are missing");
    if (offset != r->info.file_bytes)
        return kith_error_set(error, KITH_ECORRUPT, "damaged: bytes follow the end");
    return KITH_OK;
}

struct kith_checkpoint_reader {
    struct kith_checkpoint_read read;
    struct kith_file *file;
    ZSTD_DCtx *zstd;
    struct kith_buf stored;
    uint64_t offset;
    bool ended;
};

int kith_checkpoint_reader_open(struct kith_checkpoint_reader **out, struct kith_file *file,
                                struct kith_error *error)
{
    struct kith_checkpoint_reader *r = calloc(1, sizeof *r);
    if (!r) {
        cannot_read(error, KITH_ENOMEM);
        return KITH_ENOMEM;
    }
    r->file = file;
    r->zstd = ZSTD_createDCtx();
    int status =
        r->zstd ? kith_checkpoint_read_header(&r->read, file, error) : cannot_read(error, KITH_ENOMEM);
    if (status != KITH_OK) {
        kith_checkpoint_reader_close(r);
        return status;
    }
    r->offset = r->read.header.length;
    *out = r;
    return KITH_OK;
}

void kith_checkpoint_reader_close(struct kith_checkpoint_reader *r)
{
    if (!r)
        return;
    kith_checkpoint_read_close(&r->read);
    kith_buf_fini(&r->stored);
    ZSTD_freeDCtx(r->zstd);
    free(r);
}

int kith_checkpoint_reader_next(struct kith_checkpoint_reader *r, struct kith_buf *out,
                                struct kith_error *error)
{
    struct block block = {0};
    if (r->ended)
        return 0;
    int status = read_block(&block, &r->stored, &r->read, r->file, r->offset, error);
    if (status != KITH_OK)
        return status;
    uint64_t next = r->offset + BLOCK_HEADER_BYTES + block.stored.length;
    bool data = block.kind == KIND_DATA;
    status = data ? unpack_block(&block, out, r->zstd, error) : check_end(&r->read, &block, next, error);
    if (status != KITH_OK)
        return status;
    r->offset = next;
    r->read.blocks += data;
    r->read.info.raw_bytes += block.raw_length;
    r->ended = !data;
    return data;
}

const struct kith_checkpoint_info *kith_checkpoint_reader_info(const struct kith_checkpoint_reader *reader)
{
    return &reader->read.info;
}

int kith_checkpoint_read_all(struct kith_checkpoint_read *out, struct kith_file *file,
                             int (*take)(void *context, struct kith_slice bytes), void *context,
                             struct kith_error *error)
{
    struct kith_checkpoint_reader *r = NULL;
    struct kith_buf raw = {0};
    int status = kith_checkpoint_reader_open(&r, file, error);
    out->damage_offset = 0;
    while (status == KITH_OK) {
        kith_buf_clear(&raw);
        int more = kith_checkpoint_reader_next(r, &raw, error);
        if (more <= 0) {
            status = more;
            break;
        }
        status = take ? take(context, kith_buf_slice(&raw)) : KITH_OK;
    }
    if (status == KITH_OK) {
        *out = r->read;
        r->read.header = (struct kith_buf){0};
    } else if (r) {
        out->damage_offset = r->offset;
    }
    kith_checkpoint_reader_close(r);
    kith_buf_fini(&raw);
    return status;
}
