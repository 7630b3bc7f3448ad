/* Receiving a checkpoint file piece by piece, and reading one for sending. */
#include "store/incoming.h"

#include "store/crc.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    SYNC_BYTES = 4 << 20, /* a sync now and then: one of gigabytes would hold up those of the log */
    LEAST_BYTES = 64,     /* no checkpoint is shorter */
    SUM_BYTES = 1 << 20,  /* read at once */
};

struct kith_incoming {
    struct kith_fs *fs;
    const char *dir;
    struct kith_file *file;
    struct kith_incoming_offer offer;
    uint64_t offset, synced;
    uint32_t crc;
    bool finished;
    char temporary[4096], path[4096];
};

void kith_incoming_name(char out[KITH_CHECKPOINT_NAME_BYTES], uint64_t index)
{
    snprintf(out, KITH_CHECKPOINT_NAME_BYTES, "received-%020" PRIu64, index);
}

bool kith_incoming_parse_name(const char *name, uint64_t *index)
{
    char again[KITH_CHECKPOINT_NAME_BYTES];
    if (sscanf(name, "received-%20" SCNu64, index) != 1)
        return false;
    kith_incoming_name(again, *index);
    return strcmp(name, again) == 0;
}

static void path_of(char out[4096], const char *dir, const char *name)
{
    snprintf(out, 4096, "%s/%s", dir, name);
}

int kith_incoming_open(struct kith_incoming **out, struct kith_fs *fs, const char *dir,
                       const struct kith_incoming_offer *offer)
{
    char name[KITH_CHECKPOINT_NAME_BYTES];
    if (offer->file_bytes < LEAST_BYTES || offer->file_bytes > INT64_MAX || offer->index == 0 ||
        offer->index == UINT64_MAX)
        return KITH_EINVAL;
    struct kith_incoming *in = calloc(1, sizeof *in);
    if (!in)
        return KITH_ENOMEM;
    in->fs = fs;
    in->dir = dir;
    in->offer = *offer;
    snprintf(in->temporary, sizeof in->temporary, "%s/incoming-%020" PRIu64 ".tmp", dir, offer->index);
    kith_incoming_name(name, offer->index);
    path_of(in->path, dir, name);
    int status = fs->open(fs, in->temporary, KITH_FS_WRITE | KITH_FS_CREATE | KITH_FS_EMPTY, &in->file);
    if (status != KITH_OK) {
        free(in);
        return status;
    }
    *out = in;
    return KITH_OK;
}

void kith_incoming_close(struct kith_incoming *in)
{
    if (!in)
        return;
    kith_file_close(in->file);
    if (!in->finished)
        (void)in->fs->unlink(in->fs, in->temporary); /* the next open removes what this could not */
    free(in);
}

const struct kith_incoming_offer *kith_incoming_get_offer(const struct kith_incoming *in)
{
    return &in->offer;
}

uint64_t kith_incoming_offset(const struct kith_incoming *in)
{
    return in->offset;
}

int kith_incoming_add(struct kith_incoming *in, uint64_t offset, struct kith_slice bytes)
{
    if (offset != in->offset || bytes.length > in->offer.file_bytes - in->offset)
        return KITH_EINVAL;
    int status = in->fs->write(in->file, &bytes, 1, offset);
    if (status != KITH_OK)
        return status;
    in->crc = kith_crc32c(in->crc, bytes.data, bytes.length);
    in->offset += bytes.length;
    if (in->offset - in->synced <= SYNC_BYTES)
        return KITH_OK;
    in->synced = in->offset;
    return in->fs->sync(in->file, KITH_FS_SYNC_DATA);
}

static int check_header(const struct kith_incoming *in, const struct kith_checkpoint_info *info,
                        struct kith_error *error)
{
    if (info->folder_id != in->offer.folder_id)
        return kith_error_set(error, KITH_ECORRUPT, "it belongs to another group");
    if (info->index != in->offer.index || info->term != in->offer.term ||
        info->configuration_index > info->index)
        return kith_error_set(error, KITH_ECORRUPT, "it is not the one that was offered");
    return KITH_OK;
}

/* From the disk, as far as the system lets us choose. */
static int check_file(struct kith_incoming *in, struct kith_checkpoint_read *out, struct kith_error *error)
{
    struct kith_file *file;
    in->fs->drop_cache(in->file);
    int status = in->fs->open(in->fs, in->temporary, 0, &file);
    if (status != KITH_OK)
        return kith_error_set(error, status, "cannot be read: %s", kith_status_text(status));
    status = kith_checkpoint_read_all(out, file, NULL, NULL, error);
    in->fs->close(file);
    if (status != KITH_OK)
        return status;
    status = check_header(in, &out->info, error);
    if (status != KITH_OK)
        kith_checkpoint_read_close(out);
    return status;
}

int kith_incoming_finish(struct kith_incoming *in, struct kith_checkpoint_read *out, struct kith_error *error)
{
    struct kith_checkpoint_read read = {0};
    if (in->offset != in->offer.file_bytes)
        return kith_error_set(error, KITH_EINVAL, "pieces are missing");
    if (in->crc != in->offer.file_crc)
        return kith_error_set(error, KITH_ECORRUPT, "it does not match the checksum that was offered");
    int status = in->fs->sync(in->file, KITH_FS_SYNC_ALL);
    if (status == KITH_OK)
        status = check_file(in, &read, error);
    else
        kith_error_set(error, status, "cannot be written: %s", kith_status_text(status));
    if (status != KITH_OK)
        return status;
    status = in->fs->rename(in->fs, in->temporary, in->path);
    if (status == KITH_OK) {
        in->finished = true;
        status = in->fs->sync_folder(in->fs, in->dir);
    }
    if (status != KITH_OK) {
        kith_checkpoint_read_close(&read);
        return kith_error_set(error, status, "cannot be renamed: %s", kith_status_text(status));
    }
    *out = read;
    return KITH_OK;
}

int kith_incoming_take(struct kith_fs *fs, const char *dir, uint64_t index)
{
    char name[KITH_CHECKPOINT_NAME_BYTES], from[4096], to[4096];
    struct kith_file *file;
    kith_incoming_name(name, index);
    path_of(from, dir, name);
    kith_checkpoint_name(name, index);
    path_of(to, dir, name);
    int status = fs->rename(fs, from, to);
    if (status == KITH_ENOENT && (status = fs->open(fs, to, 0, &file)) == KITH_OK)
        fs->close(file);
    return status == KITH_OK ? fs->sync_folder(fs, dir) : status;
}

int kith_incoming_drop(struct kith_fs *fs, const char *dir, uint64_t index)
{
    char name[KITH_CHECKPOINT_NAME_BYTES], path[4096];
    kith_incoming_name(name, index);
    path_of(path, dir, name);
    int status = fs->unlink(fs, path);
    return status == KITH_ENOENT ? KITH_OK : status;
}

/* --- sending --- */

int kith_outgoing_open(struct kith_outgoing *out, struct kith_fs *fs, const char *dir, uint64_t index)
{
    struct kith_outgoing o = {0};
    char name[KITH_CHECKPOINT_NAME_BYTES], path[4096];
    kith_checkpoint_name(name, index);
    path_of(path, dir, name);
    int status = fs->open(fs, path, 0, &o.file);
    if (status != KITH_OK)
        return status;
    status = kith_checkpoint_read_header(&o.read, o.file, NULL);
    if (status == KITH_OK && o.read.info.index != index) {
        kith_checkpoint_read_close(&o.read);
        status = KITH_ECORRUPT;
    }
    if (status != KITH_OK) {
        fs->close(o.file);
        return status;
    }
    *out = o;
    return KITH_OK;
}

void kith_outgoing_close(struct kith_outgoing *o)
{
    kith_file_close(o->file);
    kith_checkpoint_read_close(&o->read);
    *o = (struct kith_outgoing){0};
}

int kith_outgoing_read(struct kith_outgoing *o, uint64_t offset, size_t length, struct kith_buf *out)
{
    uint64_t end = o->read.info.file_bytes;
    size_t got = 0;
    if (offset >= end)
        return KITH_OK;
    if (length > end - offset)
        length = (size_t)(end - offset);
    char *room = kith_buf_reserve(out, length);
    if (!room)
        return KITH_ENOMEM;
    int status = o->file->fs->read(o->file, room, length, offset, &got);
    if (status != KITH_OK)
        return status;
    if (got < length)
        return KITH_EIO; /* shorter than its own size said */
    out->length += length;
    return KITH_OK;
}

int kith_outgoing_sum(struct kith_outgoing *o, size_t budget_bytes)
{
    struct kith_buf piece = {0};
    int status = KITH_OK;
    uint64_t end = o->summed + budget_bytes;
    while (status == KITH_OK && o->summed < end && o->summed < o->read.info.file_bytes) {
        kith_buf_clear(&piece);
        status = kith_outgoing_read(o, o->summed, SUM_BYTES, &piece);
        if (status != KITH_OK)
            break;
        o->file_crc = kith_crc32c(o->file_crc, piece.data, piece.length);
        o->summed += piece.length;
    }
    kith_buf_fini(&piece);
    return status == KITH_OK ? o->summed < o->read.info.file_bytes : status;
}
