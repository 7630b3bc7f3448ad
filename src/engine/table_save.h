/* Saving a large table of elements in steps while it changes: what a hash and a sorted set have in common.
 *
 * The walk goes in the order of the table's positions. Each element carries one bit (the lowest of its meta
 * byte) whose meaning flips with each save: it equals `epoch` once the element is saved or need not be. An
 * element that is about to change or go before the walk has reached it is saved as it was; one that was added
 * since carries the bit from birth. */
#ifndef KITH_ENGINE_TABLE_SAVE_H
#define KITH_ENGINE_TABLE_SAVE_H

#include "base/buf.h"

#include <stddef.h>
#include <stdint.h>

struct kith_table;
struct kith_save;

struct kith_table_save {
    struct kith_save *save; /* NULL: not being saved */
    uint64_t cursor;        /* of the walk */
    uint8_t epoch;          /* 0 or 1: the meta byte of new elements */
};

/* Appends one element's bytes to a part. */
typedef void kith_table_save_fn(struct kith_buf *part, const void *entry);

void kith_table_save_begin(struct kith_table_save *state, struct kith_save *save);
/* About budget_bytes of elements; returns 1 (there is more) or 0 (done, state->save is NULL again). */
int kith_table_save_step(struct kith_table_save *state, struct kith_table *table, kith_table_save_fn *write,
                         size_t budget_bytes);
/* Stops half way. Walks the table once to make all bits alike: only after a failed checkpoint. */
void kith_table_save_abort(struct kith_table_save *state, struct kith_table *table);
/* Before `entry` is changed, replaced or removed. A replacement takes state->epoch as its meta byte. */
void kith_table_save_before(struct kith_table_save *state, const void *entry, kith_table_save_fn *write);

#endif
