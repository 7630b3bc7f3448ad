/* Where new segments come from. A segment is made under a temporary name: preallocated, given its header, synced; and
 * gets its own name when the log takes it. The making takes milliseconds of disk work in which entries would wait, so
 * a helper can do it ahead of time; what it has not begun when the log needs it, the log does itself. */
#ifndef KITH_STORE_SEGMENT_MAKER_H
#define KITH_STORE_SEGMENT_MAKER_H

#include "base/clock.h"
#include "base/task.h"
#include "store/segment.h"

#include <stdatomic.h>

struct kith_segment_maker;

struct kith_segment_maker_options {
    struct kith_fs *fs;
    const char *dir; /* borrowed until close, like fs */
    uint64_t folder_id;
    uint64_t segment_bytes;
    struct kith_executor
        helper; /* submit NULL: nothing is made ahead. May run what it was given even after close */
    struct kith_clock clock;           /* zero: the system's */
    uint64_t seed;                     /* of salts; 0: drawn */
    const _Atomic uint64_t *committed; /* for the headers; NULL: not known. Lives until close */
};

/* A segment with its own name, durable. The taker closes the file. */
struct kith_new_segment {
    struct kith_file *file;
    uint64_t sequence, salt, bytes;
};

int kith_segment_maker_open(struct kith_segment_maker **out,
                            const struct kith_segment_maker_options *options);
/* Waits for what runs and removes what was not taken. close(NULL) is safe. */
void kith_segment_maker_close(struct kith_segment_maker *maker);

/* Has the helper begin with segment number `sequence`, unless it already has. Never blocks; a failure shows when the
 * segment is taken. */
void kith_segment_maker_prepare(struct kith_segment_maker *maker, uint64_t sequence);

/* The segment number `sequence`, with room for `need` bytes of records, named for `first_index`. From one thread at a
 * time, the one of prepare. */
int kith_segment_maker_take(struct kith_segment_maker *maker, uint64_t sequence, uint64_t first_index,
                            uint64_t need, struct kith_new_segment *out);

#endif
