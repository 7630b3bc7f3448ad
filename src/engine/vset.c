/* Vector sets: elements between their names and the slots of the index. What can fail is done before the
 * index changes, so that a change is whole or not there. */
#include "base/assert.h"
#include "base/varint.h"
#include "ds/avl.h"
#include "ds/entry.h"
#include "ds/table.h"
#include "engine/attributes.h"
#include "engine/projection.h"
#include "engine/state.h"
#include "engine/vset_internal.h"

#include <stdlib.h>

void kith_vset_release_attributes(void *context, uint64_t user)
{
    kith_attributes_close((struct kith_attributes *)(uintptr_t)user);
}

static uint64_t to_user(struct kith_attributes *attributes)
{
    return (uint64_t)(uintptr_t)attributes;
}

static struct kith_attributes *attributes_at(const struct kith_vset *vset, uint32_t slot)
{
    return (struct kith_attributes *)(uintptr_t)kith_hnsw_user(vset->index, slot);
}

static uint32_t entry_slot(const void *entry)
{
    return kith_get_u32(kith_entry_payload_const(entry));
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

static size_t entry_bytes(struct kith_slice name)
{
    return kith_entry_header_bytes(name.length) + sizeof(uint32_t);
}

/* A new name, without a slot yet; NULL: no memory. */
static void *add_name(struct kith_vset *vset, struct kith_slice name, uint64_t hash)
{
    void *entry = kith_entry_open(0, name, sizeof(uint32_t));
    if (!entry)
        return NULL;
    if (kith_avl_insert(vset->order, name_key(name), entry) != KITH_OK)
        goto fail;
    if (kith_table_insert(vset->names, entry, hash) != KITH_OK) {
        kith_avl_remove(vset->order, name_key(name), entry);
        goto fail;
    }
    vset->name_bytes += entry_bytes(name);
    return entry;
fail:
    free(entry);
    return NULL;
}

static void drop_name(struct kith_vset *vset, void *entry, uint64_t hash)
{
    struct kith_slice name = kith_entry_key(entry);
    vset->name_bytes -= entry_bytes(name);
    kith_avl_remove(vset->order, name_key(name), entry);
    kith_table_remove_entry(vset->names, entry, hash);
    free(entry);
}

/* Room for an entry at `slot`. */
static int reserve_slot(struct kith_vset *vset, uint32_t slot)
{
    unsigned chunk = kith_vset_chunk(slot);
    if (chunk >= KITH_VSET_CHUNKS)
        return KITH_ENOMEM;
    if (!vset->chunks[chunk])
        vset->chunks[chunk] = calloc(kith_vset_chunk_start(chunk + 1) - kith_vset_chunk_start(chunk),
                                     sizeof *vset->chunks[chunk]);
    return vset->chunks[chunk] ? KITH_OK : KITH_ENOMEM;
}

/* Room for whichever slot the index will choose: a hole, its end, or one behind that (it leaves some out). */
static int reserve_next_slot(struct kith_vset *vset)
{
    uint32_t end = kith_hnsw_slot_end(vset->index);
    unsigned last = kith_vset_chunk(end);
    for (unsigned chunk = 0; chunk < last; chunk++)
        if (!vset->chunks[chunk] && reserve_slot(vset, kith_vset_chunk_start(chunk)) != KITH_OK)
            return KITH_ENOMEM;
    return reserve_slot(vset, end) == KITH_OK ? reserve_slot(vset, end + 1) : KITH_ENOMEM;
}

static void put_entry(struct kith_vset *vset, uint32_t slot, void *entry)
{
    unsigned chunk = kith_vset_chunk(slot);
    KITH_ASSERT(chunk < KITH_VSET_CHUNKS && vset->chunks[chunk]);
    vset->chunks[chunk][slot - kith_vset_chunk_start(chunk)] = entry;
}

/* `entry` is the one at `slot` from now on; the room is there. */
static void set_slot(struct kith_vset *vset, void *entry, uint32_t slot)
{
    put_entry(vset, slot, entry);
    kith_put_u32(kith_entry_payload(entry), slot);
}

static void count_attributes(struct kith_vset *vset, const struct kith_attributes *attributes, bool more)
{
    size_t bytes = kith_attributes_bytes(attributes);
    if (!attributes)
        return;
    vset->attribute_count += more ? 1 : (size_t)-1;
    vset->attribute_bytes += more ? bytes : -bytes;
}

int kith_vset_put_name(struct kith_vset *vset, struct kith_slice name, uint32_t slot)
{
    uint64_t hash = kith_table_hash(vset->names, name);
    if (kith_table_find(vset->names, name, hash))
        return KITH_EEXIST;
    void *entry = reserve_slot(vset, slot) == KITH_OK ? add_name(vset, name, hash) : NULL;
    if (!entry)
        return KITH_ENOMEM;
    set_slot(vset, entry, slot);
    count_attributes(vset, attributes_at(vset, slot), true);
    return KITH_OK;
}

/* ---- life ---- */

void kith_vset_fini(struct kith_vset *vset)
{
    kith_avl_close(vset->order);
    kith_table_close(vset->names, NULL, NULL);
    while (vset->limbo) {
        struct kith_attributes *next = kith_attributes_set_next(vset->limbo, NULL);
        kith_attributes_close(vset->limbo);
        vset->limbo = next;
    }
    for (unsigned i = 0; i < KITH_VSET_CHUNKS; i++)
        free(vset->chunks[i]);
    kith_projection_close(vset->projection);
    free(vset->saved);
    kith_hnsw_close(vset->index);
}

static int open_parts(struct kith_vset *vset)
{
    const struct kith_vset_options *o = &vset->options;
    if (kith_table_open(&vset->names, *kith_engine_hash_seed(vset->engine)) != KITH_OK ||
        kith_avl_open(&vset->order, order_names, NULL) != KITH_OK)
        return KITH_ENOMEM;
    return o->input_dim ? kith_projection_open(&vset->projection, o->input_dim, o->dim, o->seed) : KITH_OK;
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
    vset->stray = KITH_HNSW_NONE;
    if (open_parts(vset) != KITH_OK) {
        kith_vset_fini(vset);
        free(vset);
        return KITH_ENOMEM;
    }
    const struct kith_hnsw_options *filled = kith_hnsw_get_options(index);
    vset->options.keep = filled->keep;
    vset->options.layout = filled->layout;
    vset->options.metric = filled->metric;
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
                                              .keep = options->keep,
                                              .layout = options->layout,
                                              .metric = options->metric ? options->metric : KITH_HNSW_COSINE,
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
        kith_vset_free_soon(vset);
}

void kith_vset_close(struct kith_vset *vset)
{
    if (!vset)
        return;
    KITH_ASSERT(!vset->save && !vset->closed);
    kith_vset_forget_work(vset);
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

uint64_t kith_vset_removed(const struct kith_vset *vset)
{
    return vset->removed;
}

int kith_vset_project(const struct kith_vset *vset, const float *in, float *out)
{
    return kith_projection_apply(vset->projection, in, out);
}

size_t kith_vset_bytes(const struct kith_vset *vset)
{
    return sizeof *vset + kith_table_memory_bytes(vset->names) + kith_avl_memory_bytes(vset->order) +
           kith_hnsw_bytes(vset->index) + (size_t)kith_hnsw_slot_end(vset->index) * sizeof(void *) +
           kith_projection_bytes(vset->projection) + vset->name_bytes + vset->attribute_bytes;
}

/* ---- elements ---- */

uint32_t kith_vset_find(const struct kith_vset *vset, struct kith_slice name)
{
    const void *entry = kith_table_find(vset->names, name, kith_table_hash(vset->names, name));
    return entry ? entry_slot(entry) : KITH_HNSW_NONE;
}

bool kith_vset_name(const struct kith_vset *vset, uint32_t slot, struct kith_slice *name)
{
    const void *entry = kith_vset_entry(vset, slot);
    if (entry)
        *name = kith_entry_key(entry);
    return entry != NULL;
}

void kith_vset_prefetch_entry(const struct kith_vset *vset, uint32_t slot)
{
    unsigned chunk = kith_vset_chunk(slot);
    if (chunk < KITH_VSET_CHUNKS && vset->chunks[chunk])
        __builtin_prefetch(&vset->chunks[chunk][slot - kith_vset_chunk_start(chunk)]);
}

void kith_vset_prefetch_name(const struct kith_vset *vset, uint32_t slot)
{
    const void *entry = kith_vset_entry(vset, slot);
    if (entry)
        __builtin_prefetch(entry);
}

const struct kith_attributes *kith_vset_attributes(const struct kith_vset *vset, uint32_t slot)
{
    return attributes_at(vset, slot);
}

uint32_t kith_vset_random(const struct kith_vset *vset, struct kith_rng *rng)
{
    return entry_slot(kith_table_random(vset->names, rng));
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

void kith_vset_names(const struct kith_vset *vset, struct kith_slice start, bool after,
                     kith_vset_name_fn *report, void *arg)
{
    struct bound bound = {start, after};
    struct kith_avl_cursor cursor = start.data
                                        ? kith_avl_seek(vset->order, name_key(start), probe_name, &bound)
                                        : kith_avl_first(vset->order);
    for (bool more = !kith_avl_at_end(cursor); more; more = kith_avl_next(vset->order, &cursor))
        if (!report(arg, kith_entry_key(kith_avl_item(vset->order, cursor).ref)))
            break;
}

/* ---- changes ---- */

/* A slot whose removal failed for want of memory: nobody shows it, and the next change tries again. */
static int remove_stray(struct kith_vset *vset)
{
    if (vset->stray == KITH_HNSW_NONE)
        return KITH_OK;
    if (kith_hnsw_remove(vset->index, vset->stray) != KITH_OK)
        return KITH_ENOMEM;
    vset->stray = KITH_HNSW_NONE;
    return KITH_OK;
}

/* A new vector for an element that is there: a new slot under the old name. */
static int replace_vector(struct kith_vset *vset, void *entry, const float *vector, uint32_t ef,
                          struct kith_attributes *attributes)
{
    uint32_t old = entry_slot(entry), slot;
    struct kith_attributes *before = attributes_at(vset, old);
    struct kith_attributes *after = attributes ? attributes : before;
    if (kith_hnsw_add(vset->index, vector, ef, to_user(after), &slot) != KITH_OK)
        return KITH_ENOMEM;
    if (!attributes)
        kith_attributes_hold(before); /* the old slot keeps its own until it is given back */
    count_attributes(vset, before, false);
    count_attributes(vset, after, true);
    put_entry(vset, old, NULL);
    vset->removed++;
    set_slot(vset, entry, slot);
    kith_vset_save_skip(vset, slot);
    vset->stray = old;
    remove_stray(vset);
    return 0;
}

static int add_element(struct kith_vset *vset, struct kith_slice name, uint64_t hash, const float *vector,
                       uint32_t ef, struct kith_attributes *attributes)
{
    uint32_t slot;
    void *entry = add_name(vset, name, hash);
    if (!entry)
        return KITH_ENOMEM;
    if (kith_hnsw_add(vset->index, vector, ef, to_user(attributes), &slot) != KITH_OK) {
        drop_name(vset, entry, hash);
        return KITH_ENOMEM;
    }
    set_slot(vset, entry, slot);
    count_attributes(vset, attributes, true);
    kith_vset_save_skip(vset, slot);
    return 1;
}

int kith_vset_add(struct kith_vset *vset, struct kith_slice name, const float *vector, uint32_t ef,
                  struct kith_attributes *attributes)
{
    uint64_t hash = kith_table_hash(vset->names, name);
    void *entry = kith_table_find(vset->names, name, hash);
    if (remove_stray(vset) != KITH_OK || reserve_next_slot(vset) != KITH_OK)
        return KITH_ENOMEM;
    if (entry)
        kith_vset_save_before(vset, entry_slot(entry));
    int status = entry ? replace_vector(vset, entry, vector, ef, attributes)
                       : add_element(vset, name, hash, vector, ef, attributes);
    vset->added += status >= 0;
    return status;
}

int kith_vset_remove(struct kith_vset *vset, struct kith_slice name)
{
    uint64_t hash = kith_table_hash(vset->names, name);
    void *entry = kith_table_find(vset->names, name, hash);
    if (!entry)
        return KITH_ENOENT;
    uint32_t slot = entry_slot(entry);
    kith_vset_save_before(vset, slot);
    struct kith_attributes *attributes = kith_attributes_hold(attributes_at(vset, slot));
    int status = remove_stray(vset) == KITH_OK ? kith_hnsw_remove(vset->index, slot) : KITH_ENOMEM;
    if (status == KITH_OK) {
        count_attributes(vset, attributes, false);
        put_entry(vset, slot, NULL);
        vset->removed++;
        drop_name(vset, entry, hash);
    }
    kith_attributes_close(attributes);
    return status;
}

/* Searches may be reading `old` still. When there is no memory to remember it for later, it waits in the set.
 */
static void retire_attributes(struct kith_vset *vset, struct kith_attributes *old)
{
    while (vset->limbo) {
        struct kith_attributes *first = vset->limbo;
        struct kith_attributes *next = kith_attributes_set_next(first, NULL);
        if (kith_hnsw_defer(vset->index, to_user(first)) != KITH_OK) {
            kith_attributes_set_next(first, next);
            break;
        }
        vset->limbo = next;
    }
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
    struct kith_attributes *old = attributes_at(vset, slot);
    count_attributes(vset, old, false);
    count_attributes(vset, attributes, true);
    kith_hnsw_set_user(vset->index, slot, to_user(attributes));
    retire_attributes(vset, old);
    return KITH_OK;
}

int kith_vset_check(const struct kith_vset *vset, struct kith_error *error)
{
    int status = kith_hnsw_check(vset->index, error);
    if (status == KITH_OK)
        status = kith_avl_check(vset->order, error);
    if (status != KITH_OK)
        return status;
    size_t named = 0, attributes = 0, bytes = 0, strays = vset->stray != KITH_HNSW_NONE;
    uint32_t end = kith_hnsw_slot_end(vset->index);
    for (uint32_t slot = 0; slot < end; slot++) {
        const void *entry = kith_vset_entry(vset, slot);
        if (!entry)
            continue;
        named++;
        if (entry_slot(entry) != slot || slot == vset->stray || !kith_hnsw_is_live(vset->index, slot))
            return kith_error_set(error, KITH_ECORRUPT, "slot %u and its name disagree", slot);
        attributes += attributes_at(vset, slot) != NULL;
        bytes += kith_attributes_bytes(attributes_at(vset, slot));
    }
    if (named != kith_table_count(vset->names) || named != kith_avl_count(vset->order) ||
        named + strays != kith_hnsw_count(vset->index))
        return kith_error_set(error, KITH_ECORRUPT, "%zu named slots, %zu names, %llu elements", named,
                              kith_table_count(vset->names),
                              (unsigned long long)kith_hnsw_count(vset->index));
    if (attributes != vset->attribute_count || bytes != vset->attribute_bytes)
        return kith_error_set(error, KITH_ECORRUPT, "%zu attributes of %zu bytes, counted %zu of %zu",
                              attributes, bytes, vset->attribute_count, vset->attribute_bytes);
    return kith_table_check(vset->names);
}
