/* One file of the log: a header page, then records, each at a multiple of eight bytes.
 *
 *     0     "KITHLOG\n" version folder-id sequence salt created crc, zeros up to 4,096
 *     4096  record record record ... (zeros, or seal)
 *
 *     record: crc length index term synced kind flags zero | payload | 0-7 bytes to the next multiple of 8
 *             u32 u32    u64   u64  u32    u8   u8    u16
 *
 * A record's sum is seeded with the segment's random salt and with the record's own place, so that neither
 * zeros, nor what another file left on the disk, nor a record that was written elsewhere can pass for one.
 *
 * `synced` is how a torn write is told from damage. It says up to where the segment was on the disk, synced,
 * when this record was written. A crash can tear or lose anything written after the last sync, in any order,
 * but nothing before it. So a bad record at X with a good one behind it that says "synced beyond X" is
 * damage, and is refused; where no record says so, everything from X on was one unfinished write, nobody was
 * told that it is safe, and it is cut. */
#ifndef KITH_STORE_SEGMENT_H
#define KITH_STORE_SEGMENT_H

#include "base/buf.h"
#include "base/fs.h"
#include "base/status.h"

#define KITH_SEGMENT_HEADER_BYTES 4096u
#define KITH_RECORD_HEADER_BYTES  32u
#define KITH_RECORD_PAYLOAD_MAX   (1u << 30)
#define KITH_SEGMENT_NAME_BYTES   48 /* of a file name, with its end */

/* On disk: never renumber. */
enum kith_record_kind {
    KITH_RECORD_COMMAND = 1,
    KITH_RECORD_BARRIER = 2,
    KITH_RECORD_CONFIGURATION = 3, /* payload: raft_configuration_encode */
    KITH_RECORD_TRUNCATE = 4,      /* entries from `index` on are void; the next entry is `index` */
    KITH_RECORD_SEAL = 5, /* the segment is complete; `index` is the next entry's, in the next segment */
    KITH_RECORD_RESET =
        6, /* everything before is void, also what lies in earlier segments; the next entry is `index`,
                              behind the checkpoint of entry index - 1, whose term is `term` */
};

struct kith_record {
    enum kith_record_kind kind;
    uint64_t index, term;
    uint64_t synced;           /* offset; see above */
    struct kith_slice payload; /* borrowed */
    uint64_t offset, end;      /* where it begins, where the next one begins; filled by the reader */
};

/* Bytes that a record with such a payload takes. */
static inline uint64_t kith_record_bytes(size_t payload_bytes)
{
    return KITH_RECORD_HEADER_BYTES + ((payload_bytes + 7) & ~(uint64_t)7);
}

/* Writes the header for `record` (payload, kind, index, term, synced) at `offset` of a segment with that
 * salt. */
void kith_record_encode_header(char out[KITH_RECORD_HEADER_BYTES], const struct kith_record *record,
                               uint64_t offset, uint64_t salt);

/* "log-<sequence>-<first index>": the sequence counts the segments of a folder without a gap. */
void kith_segment_name(char out[KITH_SEGMENT_NAME_BYTES], uint64_t sequence, uint64_t first_index);
bool kith_segment_parse_name(const char *name, uint64_t *sequence, uint64_t *first_index);

struct kith_segment_header {
    uint64_t folder_id, sequence, salt;
    int64_t created_ms;
    uint64_t committed; /* entries up to here were committed when it was made, and synced; 0: not known */
};
void kith_segment_encode_header(char out[KITH_SEGMENT_HEADER_BYTES],
                                const struct kith_segment_header *header);

/* How a segment ends, once kith_segment_next has returned 0. */
enum kith_segment_end {
    KITH_SEGMENT_SEALED, /* by a seal */
    KITH_SEGMENT_EXACT,  /* the file ends behind the last record */
    KITH_SEGMENT_ZEROS,  /* preallocated bytes follow */
    KITH_SEGMENT_TORN,   /* an unfinished write follows */
};

struct kith_segment_reader {
    struct kith_file *file; /* borrowed */
    uint64_t size, offset;  /* of the file; of the next record */
    struct kith_segment_header header;
    enum kith_segment_end end;
    uint64_t torn_bytes;    /* with KITH_SEGMENT_TORN: up to the last byte that is not zero */
    struct kith_buf window; /* file bytes [window_start, window_start + window.length) */
    uint64_t window_start;
};

/* Reads and checks the header page. `error` tells what is wrong without naming the file: KITH_ECORRUPT,
 * KITH_EVERSION, KITH_EIO, KITH_ENOMEM. */
int kith_segment_reader_open(struct kith_segment_reader *reader, struct kith_file *file,
                             struct kith_error *error);
void kith_segment_reader_close(struct kith_segment_reader *reader);

/* 1: *record is the next one; its payload lives until the next call. 0: the end, reader->end says which and
 * reader->offset where. KITH_ECORRUPT: damage at reader->offset; the text says of what kind. */
int kith_segment_next(struct kith_segment_reader *reader, struct kith_record *record,
                      struct kith_error *error);

#endif
