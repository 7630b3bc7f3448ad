/* Releasing what is large without a pause: a dead object or table becomes a grave, and graves are emptied a
 * few hundred elements at a time, between entries and when the driver idles. */
#include "engine/state.h"

#include <stdlib.h>

enum { AT_ONCE_COUNT = 64 }; /* elements that are freed faster than a grave is dug */

struct kith_grave {
    struct kith_grave *next;
    const struct kith_type_ops *ops; /* of `object`; NULL: a table */
    void *object;
    struct kith_table *table;
    struct kith_avl *expiries;
};

static bool dig(struct kith_engine *engine, const struct kith_grave *content)
{
    struct kith_grave *grave = malloc(sizeof *grave);
    if (!grave)
        return false;
    *grave = *content;
    grave->next = engine->graves;
    engine->graves = grave;
    return true;
}

void kith_lazy_release_object(struct kith_engine *engine, const struct kith_type_ops *ops, void *object)
{
    if (kith_checkpoint_take_object(engine, ops, object))
        return;
    struct kith_grave grave = {.ops = ops, .object = object};
    if (ops->drain && ops->count(object) > AT_ONCE_COUNT && dig(engine, &grave))
        return;
    ops->close(object);
}

void kith_lazy_release_table(struct kith_engine *engine, struct kith_table *table, struct kith_avl *expiries)
{
    struct kith_grave grave = {.table = table, .expiries = expiries};
    if (dig(engine, &grave))
        return;
    kith_avl_close(expiries);
    kith_table_close(table, kith_keyspace_free_entry, engine);
}

/* The expiry tree's references dangle by then: it is only ever cut, never searched. */
static bool step_table(struct kith_engine *engine, struct kith_grave *grave, size_t budget)
{
    if (grave->expiries && kith_avl_count(grave->expiries) > budget) {
        kith_avl_remove_range(grave->expiries, 0, budget, NULL, NULL);
        return true;
    }
    kith_avl_close(grave->expiries);
    grave->expiries = NULL;
    if (kith_table_drain(grave->table, budget, kith_keyspace_free_entry, engine))
        return true;
    kith_table_close(grave->table, NULL, NULL);
    return false;
}

static bool step_object(struct kith_grave *grave, size_t budget)
{
    if (grave->ops->drain(grave->object, budget))
        return true;
    grave->ops->close(grave->object);
    return false;
}

bool kith_lazy_step(struct kith_engine *engine, size_t budget)
{
    struct kith_grave *grave = engine->graves;
    if (!grave)
        return false;
    /* Taken out first: releasing a table's entries digs new graves in front. */
    engine->graves = grave->next;
    bool more = grave->ops ? step_object(grave, budget) : step_table(engine, grave, budget);
    if (more) {
        grave->next = engine->graves;
        engine->graves = grave;
    } else {
        free(grave);
    }
    return engine->graves != NULL;
}

void kith_lazy_finish(struct kith_engine *engine)
{
    while (kith_lazy_step(engine, SIZE_MAX / 2))
        ;
}
