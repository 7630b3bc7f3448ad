/* Vector sets: names and slots, and the tasks that link. */
#include "base/assert.h"
#include "base/random.h"
#include "ds/avl.h"
#include "ds/table.h"
#include "engine/attributes.h"
#include "engine/state.h"
#include "engine/vset_internal.h"

#include <math.h>
#include <stdlib.h>

enum {
    LINK_STEPS =
        16, /* of one task: a few milliseconds, so that searches in the same queue do not wait long */
};

void kith_vset_release_attributes(void *context, uint64_t user)
{
    kith_attributes_close((struct kith_attributes *)(uintptr_t)user);
}

static uint64_t to_user(struct kith_attributes *attributes)
{
    return (uint64_t)(uintptr_t)attributes;
}

static uint32_t entry_slot(const void *entry)
{
    return kith_get_u32(kith_entry_payload_const(entry));
}

/* ---- life ---- */

/* Rows of Gaussian values: random projection keeps angles (Johnson & Lindenstrauss 1984). The matrix follows
 * from the seed, so that only the seed is stored. */
static int open_projection(struct kith_vset *vset)
{
    size_t count = (size_t)vset->options.dim * vset->options.input_dim;
    if (!count)
        return KITH_OK;
    vset->projection = malloc(count * sizeof *vset->projection);
    if (!vset->projection)
        return KITH_ENOMEM;
    struct kith_rng rng;
    kith_rng_seed(&rng, vset->options.seed);
    double scale = 1 / sqrt(vset->options.dim);
    for (size_t i = 0; i < count; i++) { /* Box & Muller 1958 */
        double radius = sqrt(-2 * log(1 - kith_rng_unit(&rng)));
        vset->projection[i] = (float)(scale * radius * cos(6.283185307179586 * kith_rng_unit(&rng)));
    }
    return KITH_OK;
}

void kith_vset_project(const struct kith_vset *vset, const float *in, float *out)
{
    const float *row = vset->projection;
    for (uint32_t i = 0; i < vset->options.dim; i++, row += vset->options.input_dim) {
        float sum = 0;
        for (uint32_t j = 0; j < vset->options.input_dim; j++)
            sum += row[j] * in[j];
        out[i] = sum;
    }
}

static void free_set(struct kith_vset *vset)
{
    kith_avl_close(vset->order);
    kith_table_close(vset->names, NULL, NULL);
    while (vset->limbo) {
        struct kith_attributes *next = kith_attributes_set_next(vset->limbo, NULL);
        kith_attributes_close(vset->limbo);
        vset->limbo = next;
    }
    free(vset->entries);
    free(vset->projection);
    free(vset->saved);
    kith_hnsw_close(vset->index);
    free(vset);
}

int kith_vset_adopt(struct kith_vset **out, struct kith_engine *engine,
                    const struct kith_vset_options *options, struct kith_hnsw *index)
{
    struct kith_vset *vset = calloc(1, sizeof *vset);
    if (!vset)
        return KITH_ENOMEM;
    vset->engine = engine;
    vset->options = *options;
    vset->user_count = 1;
    if (kith_table_open(&vset->names, *kith_engine_hash_seed(engine)) != KITH_OK ||
        open_projection(vset) != KITH_OK) {
        free_set(vset);
        return KITH_ENOMEM;
    }
    vset->index = index;
    vset->id = ++engine->background.last_set_id;
    vset->next = engine->background.sets;
    if (vset->next)
        vset->next->previous = vset;
    engine->background.sets = vset;
    *out = vset;
    return KITH_OK;
}

int kith_vset_open(struct kith_vset **out, struct kith_engine *engine,
                   const struct kith_vset_options *options)
{
    struct kith_hnsw_options index_options = {.dim = options->dim,
                                              .codes = options->codes,
                                              .metric = KITH_HNSW_COSINE,
                                              .m = options->m,
                                              .seed = options->seed,
                                              .release = kith_vset_release_attributes};
    struct kith_hnsw *index;
    int status = kith_hnsw_open(&index, &index_options);
    if (status != KITH_OK)
        return status;
    status = kith_vset_adopt(out, engine, options, index);
    if (status != KITH_OK)
        kith_hnsw_close(index);
    return status;
}

void kith_vset_hold(struct kith_vset *vset)
{
    vset->user_count++;
}

void kith_vset_let_go(struct kith_vset *vset)
{
    if (--vset->user_count == 0)
        free_set(vset);
}

void kith_vset_close(struct kith_vset *vset)
{
    if (!vset)
        return;
    KITH_ASSERT(!vset->save);
    vset->closed = true;
    if (vset->previous)
        vset->previous->next = vset->next;
    else
        vset->engine->background.sets = vset->next;
    if (vset->next)
        vset->next->previous = vset->previous;
    kith_vset_let_go(vset);
}

/* ---- figures ---- */

const struct kith_vset_options *kith_vset_get_options(const struct kith_vset *vset)
{
    return &vset->options;
}

struct kith_hnsw *kith_vset_index(const struct kith_vset *vset)
{
    return vset->index;
}

size_t kith_vset_count(const struct kith_vset *vset)
{
    return kith_table_count(vset->names);
}

size_t kith_vset_attribute_count(const struct kith_vset *vset)
{
    return vset->attribute_count;
}

uint64_t kith_vset_id(const struct kith_vset *vset)
{
    return vset->id;
}

uint64_t kith_vset_added(const struct kith_vset *vset)
{
    return vset->added;
}

uint32_t kith_vset_find(const struct kith_vset *vset, struct kith_slice name)
{
    const void *entry = kith_table_find(vset->names, name, kith_table_hash(vset->names, name));
    return entry ? entry_slot(entry) : KITH_HNSW_NONE;
}

struct kith_slice kith_vset_name(const struct kith_vset *vset, uint32_t slot)
{
    return kith_entry_key(vset->entries[slot]);
}

const struct kith_attributes *kith_vset_attributes(const struct kith_vset *vset, uint32_t slot)
{
    return (const struct kith_attributes *)(uintptr_t)kith_hnsw_user(vset->index, slot);
}

size_t kith_vset_bytes(const struct kith_vset *vset)
{
    size_t bytes = sizeof *vset + kith_table_memory_bytes(vset->names) + kith_hnsw_bytes(vset->index) +
                   vset->entry_capacity * sizeof *vset->entries +
                   (size_t)vset->options.dim * vset->options.input_dim * sizeof *vset->projection;
    if (vset->order)
        bytes += kith_avl_memory_bytes(vset->order);
    for (uint32_t slot = 0; slot < vset->entry_capacity; slot++) {
        if (!vset->entries[slot])
            continue;
        bytes += kith_entry_header_bytes(kith_entry_key(vset->entries[slot]).length) + sizeof slot;
        if (vset->attribute_count)
            bytes += kith_attributes_bytes(kith_vset_attributes(vset, slot));
    }
    return bytes;
}

void kith_vset_get_totals(const struct kith_engine *engine, struct kith_vset_totals *totals)
{
    *totals = (struct kith_vset_totals){0};
    for (const struct kith_vset *vset = engine->background.sets; vset; vset = vset->next) {
        struct kith_hnsw_backlog backlog = kith_hnsw_get_backlog(vset->index);
        totals->sets++;
        totals->elements += kith_vset_count(vset);
        totals->unlinked += backlog.tail;
        totals->deleted += backlog.deleted;
        totals->bytes += kith_hnsw_bytes(vset->index);
        totals->work_pending |= backlog.work_pending || vset->task_count;
        totals->crowded += backlog.crowded;
    }
}

/* ---- names ---- */

static int order_names(const void *a, const void *b, void *arg)
{
    return kith_slice_compare(kith_entry_key(a), kith_entry_key(b));
}

/* The first eight bytes decide most comparisons without touching the entry. */
static uint64_t name_key(struct kith_slice name)
{
    uint64_t key = 0;
    for (size_t i = 0; i < 8; i++)
        key = key << 8 | (i < name.length ? (uint8_t)name.data[i] : 0);
    return key;
}

static int reserve_slot(struct kith_vset *vset, uint32_t slot)
{
    if (slot < vset->entry_capacity)
        return KITH_OK;
    size_t capacity = (size_t)slot + slot / 4 + 16;
    void **entries = realloc(vset->entries, capacity * sizeof *entries);
    if (!entries)
        return KITH_ENOMEM;
    memset(entries + vset->entry_capacity, 0, (capacity - vset->entry_capacity) * sizeof *entries);
    vset->entries = entries;
    vset->entry_capacity = (uint32_t)capacity;
    return KITH_OK;
}

int kith_vset_put_name(struct kith_vset *vset, struct kith_slice name, uint32_t slot)
{
    uint64_t hash = kith_table_hash(vset->names, name);
    if (kith_table_find(vset->names, name, hash))
        return KITH_EEXIST;
    if (reserve_slot(vset, slot) != KITH_OK)
        return KITH_ENOMEM;
    void *entry = kith_entry_open(0, name, sizeof slot);
    if (!entry)
        return KITH_ENOMEM;
    kith_put_u32(kith_entry_payload(entry), slot);
    if (vset->order && kith_avl_insert(vset->order, name_key(name), entry) != KITH_OK)
        goto fail;
    if (kith_table_insert(vset->names, entry, hash) != KITH_OK) {
        if (vset->order)
            kith_avl_remove(vset->order, name_key(name), entry);
        goto fail;
    }
    vset->entries[slot] = entry;
    return KITH_OK;
fail:
    free(entry);
    return KITH_ENOMEM;
}

static void collect_name(void *arg, void *entry)
{
    struct kith_vset *vset = arg;
    if (vset->order && kith_avl_insert(vset->order, name_key(kith_entry_key(entry)), entry) != KITH_OK) {
        kith_avl_close(vset->order);
        vset->order = NULL;
    }
}

static int build_order(struct kith_vset *vset)
{
    if (kith_avl_open(&vset->order, order_names, NULL) != KITH_OK)
        return KITH_ENOMEM;
    uint64_t cursor = 0;
    do
        cursor = kith_table_scan(vset->names, cursor, collect_name, vset);
    while (cursor && vset->order);
    return vset->order ? KITH_OK : KITH_ENOMEM;
}

struct bound {
    struct kith_slice name;
    bool after;
};

static int probe_name(const void *ref, void *arg)
{
    const struct bound *bound = arg;
    int order = kith_slice_compare(kith_entry_key(ref), bound->name);
    return order < 0 || (order == 0 && bound->after) ? -1 : 1;
}

int kith_vset_names(struct kith_vset *vset, struct kith_slice start, bool after, kith_vset_name_fn *report,
                    void *arg)
{
    if (!vset->order && build_order(vset) != KITH_OK)
        return KITH_ENOMEM;
    struct bound bound = {start, after};
    struct kith_avl_cursor cursor = start.data
                                        ? kith_avl_seek(vset->order, name_key(start), probe_name, &bound)
                                        : kith_avl_first(vset->order);
    for (bool more = !kith_avl_at_end(cursor); more; more = kith_avl_next(vset->order, &cursor))
        if (!report(arg, kith_entry_key(kith_avl_item(vset->order, cursor).ref)))
            break;
    return KITH_OK;
}

/* ---- changes ---- */

/* A new vector for an element that is there: a new slot under the old name. */
static int replace_vector(struct kith_vset *vset, void *entry, const float *vector, uint32_t ef,
                          struct kith_attributes *attributes)
{
    uint32_t old = entry_slot(entry), slot;
    struct kith_attributes *kept = NULL;
    const struct kith_attributes *before = kith_vset_attributes(vset, old);
    if (!attributes && before) {
        kept = kith_attributes_open(
            kith_attributes_text(before)); /* the old slot's are read by searches still */
        if (!kept)
            return KITH_ENOMEM;
    }
    if (kith_hnsw_add(vset->index, vector, ef, to_user(attributes ? attributes : kept), &slot) != KITH_OK) {
        kith_attributes_close(kept);
        return KITH_ENOMEM;
    }
    if (reserve_slot(vset, slot) != KITH_OK || kith_hnsw_remove(vset->index, old) != KITH_OK) {
        if (!kept)
            kith_hnsw_set_user(vset->index, slot, 0); /* the caller's again */
        kith_hnsw_remove(vset->index, slot);
        return KITH_ENOMEM;
    }
    vset->attribute_count += attributes && !before;
    vset->entries[old] = NULL;
    vset->entries[slot] = entry;
    kith_put_u32(kith_entry_payload(entry), slot);
    kith_vset_save_skip(vset, slot);
    return 0;
}

static int add_element(struct kith_vset *vset, struct kith_slice name, const float *vector, uint32_t ef,
                       struct kith_attributes *attributes)
{
    uint32_t slot;
    if (kith_hnsw_add(vset->index, vector, ef, to_user(attributes), &slot) != KITH_OK)
        return KITH_ENOMEM;
    if (kith_vset_put_name(vset, name, slot) != KITH_OK) {
        kith_hnsw_set_user(vset->index, slot, 0); /* the caller's again */
        kith_hnsw_remove(vset->index, slot);
        return KITH_ENOMEM;
    }
    vset->attribute_count += attributes != NULL;
    kith_vset_save_skip(vset, slot);
    return 1;
}

int kith_vset_add(struct kith_vset *vset, struct kith_slice name, const float *vector, uint32_t ef,
                  struct kith_attributes *attributes)
{
    void *entry = kith_table_find(vset->names, name, kith_table_hash(vset->names, name));
    if (entry)
        kith_vset_save_before(vset, entry_slot(entry));
    int status = entry ? replace_vector(vset, entry, vector, ef, attributes)
                       : add_element(vset, name, vector, ef, attributes);
    if (status >= 0) {
        vset->added++;
        vset->stalled = false;
    }
    return status;
}

bool kith_vset_remove(struct kith_vset *vset, struct kith_slice name)
{
    uint64_t hash = kith_table_hash(vset->names, name);
    void *entry = kith_table_find(vset->names, name, hash);
    if (!entry)
        return false;
    uint32_t slot = entry_slot(entry);
    kith_vset_save_before(vset, slot);
    bool had_attributes = kith_vset_attributes(vset, slot) != NULL;
    if (kith_hnsw_remove(vset->index, slot) != KITH_OK)
        return false;
    vset->attribute_count -= had_attributes;
    kith_table_remove_entry(vset->names, entry, hash);
    if (vset->order)
        kith_avl_remove(vset->order, name_key(name), entry);
    vset->entries[slot] = NULL;
    free(entry);
    vset->stalled = false;
    return true;
}

/* Searches may be reading `old` still. When there is no memory to remember it for later, it waits in the set.
 */
static void retire_attributes(struct kith_vset *vset, struct kith_attributes *old)
{
    while (vset->limbo && kith_hnsw_defer(vset->index, to_user(vset->limbo)) == KITH_OK)
        vset->limbo = kith_attributes_set_next(vset->limbo, NULL);
    if (old && kith_hnsw_defer(vset->index, to_user(old)) != KITH_OK) {
        kith_attributes_set_next(old, vset->limbo);
        vset->limbo = old;
    }
}

int kith_vset_set_attributes(struct kith_vset *vset, struct kith_slice name,
                             struct kith_attributes *attributes)
{
    uint32_t slot = kith_vset_find(vset, name);
    if (slot == KITH_HNSW_NONE)
        return KITH_ENOENT;
    kith_vset_save_before(vset, slot);
    uint64_t old = kith_hnsw_set_user(vset->index, slot, to_user(attributes));
    vset->attribute_count += (size_t)(attributes != NULL) - (size_t)(old != 0);
    retire_attributes(vset, (struct kith_attributes *)(uintptr_t)old);
    return KITH_OK;
}

/* ---- linking ---- */

struct link_task {
    struct kith_task task;
    struct kith_vset *vset;
    int done_steps;
};

static void run_links(struct kith_task *task)
{
    struct link_task *link = (struct link_task *)task;
    link->done_steps = kith_hnsw_work(link->vset->index, LINK_STEPS, 0);
}

static void links_done(struct kith_task *task)
{
    struct link_task *link = (struct link_task *)task;
    struct kith_vset *vset = link->vset;
    struct kith_background *background = &vset->engine->background;
    bool progress = link->done_steps > 0;
    background->busy_count--;
    if (progress)
        background->links_unsaved += (uint64_t)link->done_steps;
    free(link);
    vset->task_count--;
    vset->stalled = !progress;
    kith_hnsw_reclaim(vset->index);
    if (!vset->scheduling) /* else an inline executor called us from the loop below, which goes on by itself
                            */
        kith_vset_schedule(vset);
    kith_vset_let_go(vset);
}

static bool wants_task(const struct kith_vset *vset)
{
    const struct kith_engine *engine = vset->engine;
    unsigned most = engine->options.worker_count ? engine->options.worker_count : 1;
    return !engine->background.stopping && !vset->closed && !vset->stalled && vset->task_count < most &&
           kith_hnsw_get_backlog(vset->index).work_pending;
}

static void submit_tasks(struct kith_vset *vset)
{
    while (wants_task(vset)) {
        struct link_task *link = calloc(1, sizeof *link);
        if (!link)
            return; /* the next change tries again; until then the tail is scanned */
        link->task = (struct kith_task){.run = run_links, .done = links_done};
        link->vset = vset;
        kith_vset_hold(vset);
        vset->task_count++;
        vset->engine->background.busy_count++;
        kith_executor_submit(&vset->engine->options.executor, &link->task);
    }
}

void kith_vset_schedule(struct kith_vset *vset)
{
    vset->scheduling = true;
    submit_tasks(vset);
    vset->scheduling = false;
}

int kith_vset_check(const struct kith_vset *vset, struct kith_error *error)
{
    int status = kith_hnsw_check(vset->index, error);
    if (status != KITH_OK)
        return status;
    size_t named = 0;
    for (uint32_t slot = 0; slot < vset->entry_capacity; slot++) {
        if (!vset->entries[slot])
            continue;
        named++;
        if (entry_slot(vset->entries[slot]) != slot || !kith_hnsw_is_live(vset->index, slot))
            return kith_error_set(error, KITH_ECORRUPT, "slot %u and its name disagree", slot);
    }
    if (named != kith_table_count(vset->names) || named != kith_hnsw_count(vset->index))
        return kith_error_set(error, KITH_ECORRUPT, "%zu named slots, %zu names, %llu elements", named,
                              kith_table_count(vset->names),
                              (unsigned long long)kith_hnsw_count(vset->index));
    return kith_table_check(vset->names);
}
