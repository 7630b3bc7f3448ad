/* A checkpoint that comes from a leader, and one that is sent.
 *
 *     incoming-INDEX.tmp   grows by the pieces that arrive
 *     received-INDEX       complete: its sum is the one offered, every block was read back and checked, synced
 *     checkpoint-INDEX     after the log's reset: kith_incoming_take, or the next start
 *
 * It is not this folder's checkpoint before the log has a durable KITH_RECORD_RESET for it: a log that has gone another
 * way than the leader's must not be read behind the leader's checkpoint. With the reset in the log, a start that finds
 * received-INDEX takes it; without, it removes it. */
#ifndef KITH_STORE_INCOMING_H
#define KITH_STORE_INCOMING_H

#include "store/checkpoint.h"

struct kith_incoming;

/* What the leader says of the file. */
struct kith_incoming_offer {
    uint64_t folder_id; /* the group's: what the file must say, too */
    uint64_t index, term;
    uint64_t file_bytes;
    uint32_t file_crc; /* CRC-32C of the whole file */
};

/* Makes incoming-INDEX.tmp, empty. `dir` is borrowed until close. KITH_EINVAL: an offer that no file can answer. */
int kith_incoming_open(struct kith_incoming **out, struct kith_fs *fs, const char *dir,
                       const struct kith_incoming_offer *offer);
/* Removes what is not complete. close(NULL) is safe. */
void kith_incoming_close(struct kith_incoming *incoming);

const struct kith_incoming_offer *kith_incoming_get_offer(const struct kith_incoming *incoming);
/* Where the next piece belongs. */
uint64_t kith_incoming_offset(const struct kith_incoming *incoming);
/* The next piece. KITH_EINVAL: it belongs elsewhere, or is longer than what was offered; nothing has changed. After another
 * failure the object is good for close only. */
int kith_incoming_add(struct kith_incoming *incoming, uint64_t offset, struct kith_slice bytes);
/* All pieces are there: checks the whole file and gives it its name. *out is what it says of itself, to be closed.
 * KITH_ECORRUPT: it is not what was offered, or not a sound checkpoint; *error (may be NULL) says why. */
int kith_incoming_finish(struct kith_incoming *incoming, struct kith_checkpoint_read *out,
                         struct kith_error *error);

void kith_incoming_name(char out[KITH_CHECKPOINT_NAME_BYTES], uint64_t index);
bool kith_incoming_parse_name(const char *name, uint64_t *index);
/* received-INDEX becomes checkpoint-INDEX, durably. 0 also when that was done before. */
int kith_incoming_take(struct kith_fs *fs, const char *dir, uint64_t index);
/* Removes received-INDEX. 0 also when there is none. */
int kith_incoming_drop(struct kith_fs *fs, const char *dir, uint64_t index);

/* --- the other side --- */

/* A checkpoint of this folder, open: it can be read to its end even when trimming removes its name. */
struct kith_outgoing {
    struct kith_file *file;
    struct kith_checkpoint_read read; /* its header */
    uint64_t summed;                  /* bytes that file_crc covers so far */
    uint32_t file_crc;
};

/* KITH_ENOENT: there is none of that index. KITH_ECORRUPT, KITH_EVERSION, KITH_EIO, KITH_ENOMEM. */
int kith_outgoing_open(struct kith_outgoing *out, struct kith_fs *fs, const char *dir, uint64_t index);
/* Safe on a zeroed one. */
void kith_outgoing_close(struct kith_outgoing *outgoing);
/* Sums up about budget_bytes more. 1: more to come, 0: file_crc is that of the whole file. */
int kith_outgoing_sum(struct kith_outgoing *outgoing, size_t budget_bytes);
/* Appends up to `length` bytes at `offset` to `out`; none past the end. */
int kith_outgoing_read(struct kith_outgoing *outgoing, uint64_t offset, size_t length, struct kith_buf *out);

#endif
