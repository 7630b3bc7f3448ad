/* The two state files. */
#include "store/state.h"

#include "base/log.h"
#include "base/varint.h"
#include "store/crc.h"

#include <stdio.h>

static const char magic[8] = {'K', 'I', 'T', 'H', 'S', 'T', 'A', '\n'};

enum { VERSION = 1, STATE_BYTES = 64, FLAG_BOOTSTRAPPED = 1, FLAG_BACKUP = 2 };

static const char *const copy_names[2] = {"state-1", "state-2"};

static void encode(char out[STATE_BYTES], const struct kith_state *state)
{
    memset(out, 0, STATE_BYTES);
    memcpy(out, magic, sizeof magic);
    kith_put_u32(out + 8, VERSION);
    kith_put_u32(out + 12,
                 (state->bootstrapped ? FLAG_BOOTSTRAPPED : 0u) | (state->backup ? FLAG_BACKUP : 0u));
    kith_put_u64(out + 16, state->folder_id);
    kith_put_u64(out + 24, state->counter);
    kith_put_u64(out + 32, state->term);
    kith_put_u64(out + 40, state->voted_for);
    kith_put_u64(out + 48, state->node_id);
    kith_put_u32(out + STATE_BYTES - 4, kith_crc32c(VERSION, out, STATE_BYTES - 4));
}

static int decode(struct kith_state *state, const char in[STATE_BYTES], const char *path,
                  struct kith_error *error)
{
    if (memcmp(in, magic, sizeof magic) == 0 && kith_get_u32(in + 8) > VERSION)
        return kith_error_set(error, KITH_EVERSION,
                              "%s was written by a newer version of Kith: start that one", path);
    if (memcmp(in, magic, sizeof magic) != 0 ||
        kith_get_u32(in + STATE_BYTES - 4) != kith_crc32c(VERSION, in, STATE_BYTES - 4))
        return kith_error_set(error, KITH_ECORRUPT, "%s is damaged: its checksum does not match", path);
    state->bootstrapped = kith_get_u32(in + 12) & FLAG_BOOTSTRAPPED;
    state->backup = kith_get_u32(in + 12) & FLAG_BACKUP;
    state->folder_id = kith_get_u64(in + 16);
    state->counter = kith_get_u64(in + 24);
    state->term = kith_get_u64(in + 32);
    state->voted_for = kith_get_u64(in + 40);
    state->node_id = kith_get_u64(in + 48);
    return KITH_OK;
}

int kith_state_read_copy(struct kith_state *out, struct kith_fs *fs, const char *dir, int copy,
                         struct kith_error *error)
{
    char path[4096], bytes[STATE_BYTES];
    struct kith_file *file;
    size_t got = 0;
    snprintf(path, sizeof path, "%s/%s", dir, copy_names[copy]);
    int status = fs->open(fs, path, 0, &file);
    if (status == KITH_OK) {
        status = fs->read(file, bytes, sizeof bytes, 0, &got);
        fs->close(file);
    }
    if (status != KITH_OK)
        return kith_error_set(error, status, "%s cannot be read: %s", path, kith_status_text(status));
    if (got < sizeof bytes)
        return kith_error_set(error, KITH_ECORRUPT, "%s is damaged: %zu bytes long instead of %d", path, got,
                              STATE_BYTES);
    return decode(out, bytes, path, error);
}

int kith_state_load(struct kith_state *out, struct kith_fs *fs, const char *dir, struct kith_error *error)
{
    struct kith_state copies[2] = {{0}};
    struct kith_error errors[2];
    int status[2];
    for (int i = 0; i < 2; i++) {
        status[i] = kith_state_read_copy(&copies[i], fs, dir, i, &errors[i]);
        if (status[i] != KITH_OK && status[i] != KITH_ENOENT && status[i] != KITH_ECORRUPT) {
            kith_error_set(error, status[i], "%s", errors[i].text);
            return status[i];
        }
    }
    if (status[0] == KITH_ENOENT && status[1] == KITH_ENOENT)
        return KITH_ENOENT;
    if (status[0] != KITH_OK && status[1] != KITH_OK)
        return kith_error_set(
            error, KITH_ECORRUPT,
            "%s, and %s is not usable either: restore the folder from a copy; nothing was changed",
            errors[status[0] == KITH_ECORRUPT ? 0 : 1].text, copy_names[status[0] == KITH_ECORRUPT ? 1 : 0]);
    int best = status[0] != KITH_OK || (status[1] == KITH_OK && copies[1].counter > copies[0].counter);
    if (status[!best] != KITH_OK)
        KITH_WARN("%s; the other copy is good and is used", errors[!best].text);
    *out = copies[best];
    return KITH_OK;
}

static int write_copy(struct kith_fs *fs, const char *dir, const char *name, const char bytes[STATE_BYTES])
{
    char path[4096], temporary[4096];
    struct kith_file *file;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    snprintf(temporary, sizeof temporary, "%s/%s.tmp", dir, name);
    int status = fs->open(fs, temporary, KITH_FS_WRITE | KITH_FS_CREATE | KITH_FS_EMPTY, &file);
    if (status != KITH_OK)
        return status;
    struct kith_slice piece = kith_slice(bytes, STATE_BYTES);
    status = fs->write(file, &piece, 1, 0);
    if (status == KITH_OK)
        status = fs->sync(file, KITH_FS_SYNC_ALL);
    fs->close(file);
    if (status == KITH_OK)
        status = fs->rename(fs, temporary, path);
    if (status == KITH_OK)
        status = fs->sync_folder(fs, dir);
    return status;
}

int kith_state_save(struct kith_state *state, struct kith_fs *fs, const char *dir, struct kith_error *error)
{
    char bytes[STATE_BYTES];
    state->counter++;
    encode(bytes, state);
    for (int i = 0; i < 2; i++) {
        int status = write_copy(fs, dir, copy_names[i], bytes);
        if (status != KITH_OK)
            return kith_error_set(error, status, "%s/%s cannot be written: %s", dir, copy_names[i],
                                  kith_status_text(status));
    }
    return KITH_OK;
}
