/* What zset.c (the structure) and zset_type.c (its part in the keyspace and in checkpoints) share. */
#ifndef KITH_ENGINE_ZSET_INTERNAL_H
#define KITH_ENGINE_ZSET_INTERNAL_H

#include "engine/table_save.h"
#include "engine/zset.h"

struct kith_zset {
    const struct kith_hash_seed *seed;
    struct kith_table *table; /* NULL while packed */
    struct kith_avl *tree;    /* with the table */
    char *packed;             /* `packed_bytes` of items; NULL while empty, or in a table */
    uint32_t packed_bytes;
    uint32_t packed_count;
    struct kith_table_save saving; /* tables only */
};

/* Turns a packed set into a table and a tree. KITH_OK, or KITH_ENOMEM and nothing has changed. */
int kith_zset_make_table(struct kith_zset *zset);
double kith_zset_entry_score(const void *entry);
/* Appends [score, member] as a checkpoint's part has it. */
void kith_zset_write_entry(struct kith_buf *part, const void *entry);

#endif
