/* Calibration of vector sets in the background (vec/calibrate.h): one task at a time over all sets, begun from the
 * driver's idle calls, a bounded time each. It gives way to searches at once and stands behind links: as long as any
 * wait, it does not begin. */
#include "engine/vset_calibrate.h"

#include "base/os.h"
#include "engine/state.h"
#include "engine/vset_internal.h"
#include "vec/calibrate.h"

#include <stdlib.h>

enum {
    STEP_CODES = 8192, /* looked at between two looks at the clock */
    TASK_NS = 20 * 1000 *
              1000, /* of one task; idle calls come ten times a second, so that this is a fifth of a worker */
    INLINE_NS = 500 * 1000, /* where there are no workers, of the keyspace thread */
    SETS_LOOKED_AT = 16,
};

struct calibrate_task {
    struct kith_task task;
    struct kith_engine *engine;
    struct kith_vset *vset;
    uint64_t budget_ns;
};

void kith_vset_calibrate_begin(struct kith_vset *vset)
{
    if (vset->calibrates)
        return;
    vset->calibrates = kith_hnsw_calibrate_begin(vset->index) == KITH_OK; /* else with the next search */
}

static void run_task(struct kith_task *task)
{
    struct calibrate_task *calibrate = (struct calibrate_task *)task;
    struct kith_background *background = &calibrate->engine->background;
    uint64_t end_ns = kith_os_monotonic_ns() + calibrate->budget_ns;
    do {
        /* 0: a sample is done; whether there is another to make only the keyspace thread can tell. */
        if (kith_hnsw_calibrate(calibrate->vset->index, STEP_CODES, &background->searches_waiting) < 0)
            break;
    } while (!atomic_load_explicit(&background->searches_waiting, memory_order_relaxed) &&
             !atomic_load_explicit(&background->stopping, memory_order_relaxed) &&
             kith_os_monotonic_ns() < end_ns);
}

static void task_done(struct kith_task *task)
{
    struct calibrate_task *calibrate = (struct calibrate_task *)task;
    struct kith_background *background = &calibrate->engine->background;
    background->busy_count--;
    background->calibrating = false;
    kith_vset_let_go(calibrate->vset);
    free(calibrate);
}

static bool submit(struct kith_engine *engine, struct kith_vset *vset)
{
    struct calibrate_task *calibrate = calloc(1, sizeof *calibrate);
    if (!calibrate)
        return false;
    *calibrate = (struct calibrate_task){.task = {.run = run_task, .done = task_done},
                                         .engine = engine,
                                         .vset = vset,
                                         .budget_ns = engine->options.executor.submit ? TASK_NS : INLINE_NS};
    kith_vset_hold(vset);
    engine->background.busy_count++;
    engine->background.calibrating = true;
    kith_executor_submit(&engine->options.executor, &calibrate->task);
    return true;
}

void kith_vset_calibrate_idle(struct kith_engine *engine)
{
    struct kith_background *background = &engine->background;
    if (background->calibrating || background->due.first || background->link_count ||
        atomic_load(&background->stopping))
        return;
    /* Round the sets, a few of them at a time. */
    struct kith_vset *vset = background->sets;
    for (uint64_t skip = background->calibrate_next; vset && skip; skip--)
        vset = vset->next;
    for (unsigned i = 0; i < SETS_LOOKED_AT && vset; i++, vset = vset->next) {
        background->calibrate_next++;
        if (vset->calibrates && kith_hnsw_calibrate_due(vset->index)) {
            submit(engine, vset);
            return;
        }
    }
    if (!vset)
        background->calibrate_next = 0;
}
