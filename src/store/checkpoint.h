/* A checkpoint: the state machine's bytes up to one log index, in one file.
 *
 *     header: "KITHCKP\n" version length folder-id index term configuration... crc
 *     block:  crc kind stored-length raw-length | a zstd frame of at most 1 MiB raw
 *     ...
 *     end:    a block without data whose lengths give nothing, and the totals behind it
 *
 * Each block's sum is seeded with the header's and the block's number: a block from elsewhere does not pass.
 * A file with the final name is complete: it was synced under a temporary name, read back and checked, and
 * then renamed. */
#ifndef KITH_STORE_CHECKPOINT_H
#define KITH_STORE_CHECKPOINT_H

#include "base/buf.h"
#include "base/fs.h"
#include "base/status.h"

#define KITH_CHECKPOINT_BLOCK_BYTES (1u << 20) /* of raw data in a block */
#define KITH_CHECKPOINT_NAME_BYTES  40

/* What a checkpoint says about itself: what raft calls a snapshot's metadata. */
struct kith_checkpoint_info {
    uint64_t folder_id;
    uint64_t index, term; /* the last entry it holds */
    uint64_t configuration_index;
    struct kith_slice configuration; /* raft_configuration_encode, at most 1 MiB; borrowed */
    int64_t created_ms;
    uint64_t raw_bytes, file_bytes; /* of the stream, of the file; known at its end */
};

void kith_checkpoint_name(char out[KITH_CHECKPOINT_NAME_BYTES], uint64_t index);
bool kith_checkpoint_parse_name(const char *name, uint64_t *index);

/* --- writing: all calls from one thread at a time --- */

struct kith_checkpoint_writer;

/* Starts "<name>.tmp" in `dir` (borrowed until close). `info` is copied. */
int kith_checkpoint_writer_open(struct kith_checkpoint_writer **out, struct kith_fs *fs, const char *dir,
                                const struct kith_checkpoint_info *info);
/* Adds bytes of the stream. After a failure this and finish return it again. */
int kith_checkpoint_writer_add(struct kith_checkpoint_writer *writer, struct kith_slice bytes);
/* Completes, syncs, reads back, renames, syncs the folder. 0: the checkpoint is there, *file_bytes is its
 * size. */
int kith_checkpoint_writer_finish(struct kith_checkpoint_writer *writer, uint64_t *file_bytes);
/* Frees; without a successful finish the temporary file is removed. close(NULL) is safe. */
void kith_checkpoint_writer_close(struct kith_checkpoint_writer *writer);

/* --- reading --- */

/* What a reader of an open file gives back; kith_checkpoint_read_close() frees it. */
struct kith_checkpoint_read {
    struct kith_checkpoint_info info; /* configuration points into `header` */
    struct kith_buf header;
    uint64_t blocks;
    uint64_t damage_offset; /* where the damage begins, when KITH_ECORRUPT was returned */
};
void kith_checkpoint_read_close(struct kith_checkpoint_read *read);

/* Reads the header only. KITH_ECORRUPT, KITH_EVERSION, KITH_EIO, KITH_ENOMEM; the text names no file. */
int kith_checkpoint_read_header(struct kith_checkpoint_read *out, struct kith_file *file,
                                struct kith_error *error);

/* Reading block by block. `file` is borrowed until close. */
struct kith_checkpoint_reader;
int kith_checkpoint_reader_open(struct kith_checkpoint_reader **out, struct kith_file *file,
                                struct kith_error *error);
/* close(NULL) is safe. */
void kith_checkpoint_reader_close(struct kith_checkpoint_reader *reader);
/* Appends the next block's content, checked, to `out`. 1: there may be more; 0: that was the end, nothing was appended,
 * and the whole file was sound; negative as kith_checkpoint_read_all. */
int kith_checkpoint_reader_next(struct kith_checkpoint_reader *reader, struct kith_buf *out,
                                struct kith_error *error);
/* Borrowed; raw_bytes: so far. */
const struct kith_checkpoint_info *kith_checkpoint_reader_info(const struct kith_checkpoint_reader *reader);

/* Reads and checks everything; calls take(context, bytes) for each piece of the stream in order (NULL: only
 * check). A non-zero result of take ends it and is returned. Fills out->info; the caller closes `out` on
 * success only. */
int kith_checkpoint_read_all(struct kith_checkpoint_read *out, struct kith_file *file,
                             int (*take)(void *context, struct kith_slice bytes), void *context,
                             struct kith_error *error);

#endif
