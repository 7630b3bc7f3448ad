/* Entries of the log by index, beside the log's thread and beside trimming: for members of the group that lack what is
 * no longer in memory. A segment that is being read stays readable when its name goes. */
#ifndef KITH_STORE_LOG_READER_H
#define KITH_STORE_LOG_READER_H

#include "store/log.h"

/* Where the last read ended, so that the next one need not search; zeroed at first. One thread at a time. */
struct kith_log_cursor {
    struct kith_file *file; /* NULL: nowhere */
    struct kith_segment_reader reader;
    uint64_t sequence;
    uint64_t next_index; /* of the record at reader.offset */
};
/* Safe on a zeroed one, which it is afterwards. */
void kith_log_cursor_close(struct kith_log_cursor *cursor);

/* What was read: payloads point into `bytes`. Zeroed at first, kept between reads. */
struct kith_log_batch {
    struct kith_record *records;
    size_t count, capacity;
    struct kith_buf bytes;
};
/* Safe on a zeroed one, which it is afterwards. */
void kith_log_batch_close(struct kith_log_batch *batch);

/* Entries from `from` on: at least one, at most `max_count`, and no more than `max_bytes` of payload unless the first is
 * larger; fewer where a segment ends. What is found is what counts: not what was taken back.
 *
 * KITH_ENOENT: no such entry (trimmed, made void by a reset, not written yet). KITH_EAGAIN: a truncation is under way;
 * ask again later. KITH_ECORRUPT, KITH_EVERSION, KITH_EIO, KITH_EPERM, KITH_ENOMEM. batch->count is 0 on failure. */
int kith_log_read(struct kith_log *log, struct kith_log_cursor *cursor, uint64_t from, size_t max_count,
                  size_t max_bytes, struct kith_log_batch *batch);

#endif
