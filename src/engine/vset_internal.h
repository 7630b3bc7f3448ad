/* What vset.c (the structure) and vset_type.c (its part in the keyspace and in checkpoints) share. */
#ifndef KITH_ENGINE_VSET_INTERNAL_H
#define KITH_ENGINE_VSET_INTERNAL_H

#include "engine/vset.h"

struct kith_save;

struct kith_vset {
    struct kith_engine *engine;
    struct kith_vset *next, *previous; /* all sets of the engine */
    struct kith_vset_options options;
    struct kith_hnsw *index;
    struct kith_table *names;
    void **entries; /* by slot; NULL where there is none */
    uint32_t entry_capacity;
    struct kith_avl *order; /* by name; NULL until somebody asked for it */
    float *projection;      /* dim rows of input_dim; NULL: none */
    uint64_t id, added;
    size_t attribute_count;
    size_t user_count;   /* holds, one of them the keyspace's */
    unsigned task_count; /* link tasks under way */
    bool closed;         /* no longer in the keyspace */
    bool scheduling;     /* inside kith_vset_schedule */
    bool stalled;        /* the last task found nothing that it could do */
    struct kith_attributes
        *limbo; /* replaced ones that could not be handed to the index for want of memory */

    /* A running save: slots below `save_next` are done; `saved` has a bit for slots beyond that are done
     * early, because they were about to change, or need not be saved, because they are newer than the save.
     */
    struct kith_save *save;
    uint32_t save_next, save_end;
    uint64_t *saved;
};

/* Before the element at `slot` changes or goes. */
void kith_vset_save_before(struct kith_vset *vset, uint32_t slot);
/* The element at `slot` is new. */
void kith_vset_save_skip(struct kith_vset *vset, uint32_t slot);

/* Puts a name to a slot that the index has already; for loading. KITH_ENOMEM, KITH_EEXIST. */
int kith_vset_put_name(struct kith_vset *vset, struct kith_slice name, uint32_t slot);
/* A set around an index that is being restored; takes `index` on success. */
int kith_vset_adopt(struct kith_vset **out, struct kith_engine *engine,
                    const struct kith_vset_options *options, struct kith_hnsw *index);
/* What the index calls when nobody reads an element's attributes any more. */
void kith_vset_release_attributes(void *context, uint64_t user);

#endif
