/* What vector sets do behind the keyspace thread: links and repairs, in tasks of a few steps. Sets with work
 * stand in one line, so that each gets its turn and there are never more tasks than workers: a search waits
 * for one step at most. A set whose task found nothing that it could do (a grace period waits for searches,
 * or another worker has the rest) stands aside until one of its searches ends or the driver idles. */
#include "base/assert.h"
#include "engine/state.h"
#include "engine/vset_internal.h"

#include <stdlib.h>

enum {
    LINK_STEPS = 16,     /* of one task: enough to make handing it over cheap */
    AT_ONCE_COUNT = 256, /* elements that are freed faster than a task is handed over */
    IDLE_SETS = 16,
    BYTES_EVERY = 64, /* changes: how often the sum of bytes is brought up to date */
};

/* ---- sums ---- */

static void add_figures(struct kith_vset_totals *sum, const struct kith_vset_totals *old,
                        const struct kith_vset_totals *new)
{
    sum->sets += new->sets - old->sets;
    sum->elements += new->elements - old->elements;
    sum->unlinked += new->unlinked - old->unlinked;
    sum->deleted += new->deleted - old->deleted;
    sum->bytes += new->bytes - old->bytes;
    sum->crowded += new->crowded - old->crowded;
    sum->excess += new->excess - old->excess;
    sum->pending += new->pending - old->pending;
}

static void account(struct kith_vset *vset, const struct kith_hnsw_backlog *backlog)
{
    uint32_t tail_max = kith_hnsw_get_options(vset->index)->tail_max;
    bool measure = vset->added % BYTES_EVERY == 0 || !vset->counted.bytes;
    struct kith_vset_totals now = {
        .sets = 1,
        .elements = kith_vset_count(vset),
        .unlinked = backlog->tail,
        .deleted = backlog->deleted,
        .bytes = measure ? kith_vset_bytes(vset) : vset->counted.bytes,
        .crowded = backlog->crowded,
        .excess = backlog->crowded ? backlog->tail - tail_max + 1 : 0,
        .pending = backlog->work_pending || vset->task_count,
    };
    add_figures(&vset->engine->background.totals, &vset->counted, &now);
    vset->counted = now;
}

const struct kith_vset_totals *kith_vset_get_totals(const struct kith_engine *engine)
{
    return &engine->background.totals;
}

void kith_vset_append_lines(const struct kith_engine *engine, size_t most, struct kith_buf *out)
{
    for (struct kith_vset *vset = engine->background.sets; vset && most; vset = vset->next, most--) {
        struct kith_hnsw_backlog backlog = kith_hnsw_get_backlog(vset->index);
        kith_buf_append_format(
            out, "vset_%llu:elements=%zu,dim=%u,unlinked=%llu,deleted=%llu,crowded=%d,bytes=%zu\r\n",
            (unsigned long long)vset->id, kith_vset_count(vset), vset->options.dim,
            (unsigned long long)backlog.tail, (unsigned long long)backlog.deleted, backlog.crowded,
            kith_vset_bytes(vset));
    }
}

/* ---- lines ---- */

static void leave_line(struct kith_vset *vset)
{
    struct kith_vset_line *line = vset->line;
    if (!line)
        return;
    if (vset->line_previous)
        vset->line_previous->line_next = vset->line_next;
    else
        line->first = vset->line_next;
    if (vset->line_next)
        vset->line_next->line_previous = vset->line_previous;
    else
        line->last = vset->line_previous;
    vset->line = NULL;
    vset->line_next = vset->line_previous = NULL;
}

static void join_line(struct kith_vset *vset, struct kith_vset_line *line)
{
    if (vset->line == line)
        return;
    leave_line(vset);
    vset->line = line;
    vset->line_previous = line->last;
    if (line->last)
        line->last->line_next = vset;
    else
        line->first = vset;
    line->last = vset;
}

void kith_vset_forget_work(struct kith_vset *vset)
{
    static const struct kith_vset_totals nothing = {0};
    add_figures(&vset->engine->background.totals, &vset->counted, &nothing);
    vset->counted = nothing;
    leave_line(vset);
}

/* ---- tasks ---- */

struct link_task {
    struct kith_task task;
    struct kith_engine *engine;
    struct kith_vset *vset;
    unsigned done_steps;
};

static void run_links(struct kith_task *task)
{
    struct link_task *link = (struct link_task *)task;
    struct kith_background *background = &link->engine->background;
    while (link->done_steps < LINK_STEPS && kith_hnsw_work(link->vset->index, 1, 0) > 0) {
        link->done_steps++;
        if (atomic_load_explicit(&background->searches_waiting, memory_order_relaxed) ||
            atomic_load_explicit(&background->stopping, memory_order_relaxed))
            break;
    }
}

static unsigned worker_count(const struct kith_engine *engine)
{
    return engine->options.worker_count ? engine->options.worker_count : 1;
}

/* How many tasks may work on the set at once. */
static unsigned tasks_wanted(const struct kith_vset *vset, const struct kith_hnsw_backlog *backlog)
{
    uint64_t tasks = (backlog->tail + backlog->deleted) / LINK_STEPS + 1;
    unsigned most = worker_count(vset->engine);
    if (!backlog->work_pending)
        return 0;
    return tasks < most ? (unsigned)tasks : most;
}

static void dispatch(struct kith_engine *engine);

/* The set's place after anything has changed: in line for a task, aside until something that holds up its
 * work has ended, or nowhere. */
static void take_place(struct kith_vset *vset, bool progress)
{
    struct kith_background *background = &vset->engine->background;
    struct kith_hnsw_backlog backlog = kith_hnsw_get_backlog(vset->index);
    account(vset, &backlog);
    if (progress && tasks_wanted(vset, &backlog) > vset->task_count)
        join_line(vset, &background->due);
    else if (vset->task_count == 0 && (backlog.deleted || backlog.work_pending))
        join_line(vset, &background->stalled);
    else
        leave_line(vset);
}

static void links_done(struct kith_task *task)
{
    struct link_task *link = (struct link_task *)task;
    struct kith_vset *vset = link->vset;
    struct kith_engine *engine = link->engine;
    bool progress = link->done_steps > 0;
    engine->background.busy_count--;
    engine->background.link_count--;
    engine->background.links_unsaved += link->done_steps;
    free(link);
    vset->task_count--;
    if (!vset->closed) {
        kith_hnsw_reclaim(vset->index);
        take_place(vset, progress);
    }
    kith_vset_let_go(vset);
    dispatch(engine);
}

static bool submit_links(struct kith_engine *engine, struct kith_vset *vset)
{
    struct link_task *link = calloc(1, sizeof *link);
    if (!link)
        return false;
    link->task = (struct kith_task){.run = run_links, .done = links_done};
    link->engine = engine;
    link->vset = vset;
    kith_vset_hold(vset);
    vset->task_count++;
    engine->background.busy_count++;
    engine->background.link_count++;
    kith_executor_submit(&engine->options.executor, &link->task);
    return true;
}

/* Hands out tasks down the line. An inline executor comes back here from each; only the outermost works. */
static void dispatch(struct kith_engine *engine)
{
    struct kith_background *background = &engine->background;
    if (background->dispatching || atomic_load(&background->stopping))
        return;
    background->dispatching = true;
    while (background->due.first && background->link_count < worker_count(engine)) {
        struct kith_vset *vset = background->due.first;
        struct kith_hnsw_backlog backlog = kith_hnsw_get_backlog(vset->index);
        unsigned wanted = tasks_wanted(vset, &backlog);
        KITH_ASSERT(vset->line == &background->due);
        leave_line(vset);
        if (vset->task_count + 1 < wanted)
            join_line(vset, &background->due);
        if (vset->task_count >= wanted) {
            take_place(vset, false);
        } else if (!submit_links(engine, vset)) {
            join_line(vset, &background->stalled); /* for want of memory: the tail is scanned until then */
            break;
        }
    }
    background->dispatching = false;
}

void kith_vset_schedule(struct kith_vset *vset)
{
    if (vset->closed)
        return;
    take_place(vset, true);
    dispatch(vset->engine);
}

static void try_again(struct kith_vset *vset)
{
    leave_line(vset);
    kith_hnsw_reclaim(vset->index);
    take_place(vset, true);
}

void kith_vset_idle(struct kith_engine *engine)
{
    struct kith_background *background = &engine->background;
    struct kith_vset *last = background->stalled.last;
    for (unsigned i = 0; i < IDLE_SETS && background->stalled.first; i++) {
        struct kith_vset *vset = background->stalled.first;
        try_again(vset);
        if (vset == last)
            break;
    }
    dispatch(engine);
}

/* ---- searches ---- */

void kith_vset_search_begin(struct kith_vset *vset)
{
    kith_vset_hold(vset);
    atomic_fetch_add_explicit(&vset->engine->background.searches_waiting, 1, memory_order_relaxed);
}

void kith_vset_search_start(struct kith_vset *vset)
{
    atomic_fetch_sub_explicit(&vset->engine->background.searches_waiting, 1, memory_order_relaxed);
}

bool kith_vset_searches_wait(const struct kith_vset *vset)
{
    const struct kith_background *background = &vset->engine->background;
    return atomic_load_explicit(&background->searches_waiting, memory_order_relaxed) > 0;
}

void kith_vset_search_end(struct kith_vset *vset)
{
    struct kith_engine *engine = vset->engine;
    if (!vset->closed && vset->line == &engine->background.stalled) {
        try_again(vset);
        dispatch(engine);
    }
    kith_vset_let_go(vset);
}

unsigned kith_vset_worker_count(const struct kith_vset *vset)
{
    return vset->engine->options.executor.submit ? worker_count(vset->engine) : 1;
}

void kith_vset_submit(struct kith_vset *vset, struct kith_task *task)
{
    vset->engine->background.busy_count++;
    kith_executor_submit(&vset->engine->options.executor, task);
}

void kith_vset_task_done(struct kith_vset *vset)
{
    vset->engine->background.busy_count--;
}

/* ---- the end ---- */

static void run_closing(struct kith_task *task)
{
    kith_vset_fini((struct kith_vset *)((char *)task - offsetof(struct kith_vset, closing)));
}

static void closing_done(struct kith_task *task)
{
    struct kith_vset *vset = (struct kith_vset *)((char *)task - offsetof(struct kith_vset, closing));
    vset->engine->background.busy_count--;
    free(vset);
}

void kith_vset_free_soon(struct kith_vset *vset)
{
    struct kith_engine *engine = vset->engine;
    vset->closing = (struct kith_task){.run = run_closing, .done = closing_done};
    engine->background.busy_count++;
    if (kith_vset_count(vset) > AT_ONCE_COUNT && !atomic_load(&engine->background.stopping)) {
        kith_executor_submit(&engine->options.executor, &vset->closing);
    } else {
        run_closing(&vset->closing);
        closing_done(&vset->closing);
    }
}
