/* What vset.c (the structure), vset_link.c (its work in the background) and vset_type.c (its part in the
 * keyspace and in checkpoints) share. */
#ifndef KITH_ENGINE_VSET_INTERNAL_H
#define KITH_ENGINE_VSET_INTERNAL_H

#include "engine/vset.h"

#include "base/task.h"

struct kith_save;
struct kith_projection;
struct kith_vset_line;

/* Entries by slot come in chunks of 16, 16, 32, 64, ... slots, so that growth copies nothing. */
enum { KITH_VSET_FIRST_CHUNK = 16, KITH_VSET_CHUNKS = 28 };

struct kith_vset {
    struct kith_engine *engine;
    struct kith_vset *next, *previous; /* all sets of the engine */
    struct kith_vset_options options;
    struct kith_hnsw *index;
    struct kith_table *names;
    struct kith_avl *order;          /* the same entries, by name */
    void **chunks[KITH_VSET_CHUNKS]; /* entries by slot: NULL where there is none */
    uint32_t stray; /* a slot of the index that could not be removed for want of memory; no entry leads to it
                     */
    struct kith_projection *projection; /* NULL: none */
    uint64_t id, added, removed;
    size_t attribute_count, attribute_bytes, name_bytes;
    size_t user_count; /* holds, one of them the keyspace's */
    bool closed;       /* no longer in the keyspace */
    bool calibrates;   /* vset_calibrate.c has it in its rounds */
    struct kith_attributes
        *limbo; /* replaced ones that could not be handed to the index for want of memory */

    /* vset_link.c: */
    struct kith_vset_line *line; /* where it waits; NULL: nowhere */
    struct kith_vset *line_next, *line_previous;
    unsigned task_count;             /* link tasks under way */
    struct kith_vset_totals counted; /* what the engine's sums have of it */
    struct kith_task closing;        /* frees a large set on a worker */

    /* A running save: slots below `save_next` are done; `saved` has a bit for slots beyond that are done
     * early, because they were about to change, or need not be saved, because they are newer than the save.
     */
    struct kith_save *save;
    uint32_t save_next, save_end;
    uint64_t *saved;
};

static inline unsigned kith_vset_chunk(uint32_t slot)
{
    return slot < KITH_VSET_FIRST_CHUNK ? 0 : 28u - (unsigned)__builtin_clz(slot);
}

/* The first slot of a chunk; the next one's is where it ends. */
static inline uint32_t kith_vset_chunk_start(unsigned chunk)
{
    return chunk ? (uint32_t)(KITH_VSET_FIRST_CHUNK / 2) << chunk : 0;
}

/* NULL: none. Any slot is safe. */
static inline void *kith_vset_entry(const struct kith_vset *vset, uint32_t slot)
{
    unsigned chunk = kith_vset_chunk(slot);
    return chunk < KITH_VSET_CHUNKS && vset->chunks[chunk]
               ? vset->chunks[chunk][slot - kith_vset_chunk_start(chunk)]
               : NULL;
}

/* Before the element at `slot` changes or goes. */
void kith_vset_save_before(struct kith_vset *vset, uint32_t slot);
/* The element at `slot` is new. */
void kith_vset_save_skip(struct kith_vset *vset, uint32_t slot);

/* Puts a name to a slot that the index has already, with its attributes; for loading. KITH_ENOMEM,
 * KITH_EEXIST. */
int kith_vset_put_name(struct kith_vset *vset, struct kith_slice name, uint32_t slot);
/* A set around an index that is being restored; takes `index` on success. */
int kith_vset_adopt(struct kith_vset **out, struct kith_engine *engine,
                    const struct kith_vset_options *options, struct kith_hnsw *index);
/* What the index calls when nobody reads an element's attributes any more. */
void kith_vset_release_attributes(void *context, uint64_t user);

/* Frees everything but the struct itself; nobody uses the set any more. */
void kith_vset_fini(struct kith_vset *vset);
/* Frees the set, on a worker when it is large. */
void kith_vset_free_soon(struct kith_vset *vset);
/* The set leaves the engine's sums and lines. */
void kith_vset_forget_work(struct kith_vset *vset);

#endif
