/* Redis' packed values: a small hash or sorted set as one run of bytes, whose items are read one after another. Three
 * forms, by age: zipmap (before 2.6), ziplist (before 7.0), listpack. */
#ifndef KITH_WIRE_RDB_PACKED_H
#define KITH_WIRE_RDB_PACKED_H

#include "base/num.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum kith_rdb_form { KITH_RDB_ZIPMAP, KITH_RDB_ZIPLIST, KITH_RDB_LISTPACK };

struct kith_rdb_packed {
    enum kith_rdb_form form;
    const uint8_t *at, *end; /* at end: nothing is left; the end mark is behind it */
    bool is_value;           /* zipmap: the next item is a value */
};

/* `text` points into the packed bytes, or into `digits` when the item is kept as an integer: an item must not move. */
struct kith_rdb_item {
    struct kith_slice text;
    char digits[KITH_NUM_INT64_CHARS];
};

/* Checks what stands around the items. KITH_ECORRUPT. `bytes` is borrowed as long as it is read. */
int kith_rdb_packed_init(struct kith_rdb_packed *packed, enum kith_rdb_form form, struct kith_slice bytes);
/* 1: *item is the next one, 0: there is none, KITH_ECORRUPT. */
int kith_rdb_packed_next(struct kith_rdb_packed *packed, struct kith_rdb_item *item);

/* Expands what LZF (Marc Lehmann's liblzf) compressed, into exactly `length` bytes. KITH_ECORRUPT. */
int kith_rdb_expand(struct kith_slice packed, char *out, size_t length);
/* The most bytes that `length` bytes of LZF can be expanded to. */
uint64_t kith_rdb_expanded_max(uint64_t length);

#endif
