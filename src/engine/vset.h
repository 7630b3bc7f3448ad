/* A vector set: named elements, each with a vector and attributes, and an HNSW index over them (vec/hnsw.h).
 *
 *     name --table--> entry [slot u32] <--by slot-- entries[]        slot --index--> code, links, attributes
 *
 * The names live here, on the keyspace thread; a search on a worker sees slots and attributes alone, and
 * slots become names when it comes back. Links are made by tasks in the background (engine.h,
 * kith_engine_options.executor); an element can be found from the moment it was added. The set counts those
 * who use it off the thread: it may be removed from the keyspace while they run, and is freed when the last
 * one has come back. All functions are for the keyspace thread but where it says otherwise. */
#ifndef KITH_ENGINE_VSET_H
#define KITH_ENGINE_VSET_H

#include "base/slice.h"
#include "vec/hnsw.h"

#include <stdint.h>

struct kith_vset;
struct kith_engine;
struct kith_attributes;
struct kith_task;
struct kith_type_ops;

extern const struct kith_type_ops kith_vset_ops;

struct kith_vset_options {
    uint32_t dim;       /* of the vectors as kept: after the projection, if there is one */
    uint32_t input_dim; /* of the vectors as given, when they are projected; 0: no projection */
    enum kith_hnsw_codes codes;
    enum kith_hnsw_keep keep;
    enum kith_hnsw_layout layout;
    enum kith_hnsw_metric metric; /* 0: cosine */
    uint32_t m;
    uint64_t seed; /* levels and projection are drawn from it */
};

/* An empty set. KITH_ENOMEM, KITH_EINVAL (an option out of range, or options that do not go together). */
int kith_vset_open(struct kith_vset **out, struct kith_engine *engine,
                   const struct kith_vset_options *options);
/* Frees it now, or when the last user has let go. NULL is safe. */
void kith_vset_close(struct kith_vset *vset);
void kith_vset_hold(struct kith_vset *vset);
void kith_vset_let_go(struct kith_vset *vset);

/* As opened, what was left to the index filled in. */
const struct kith_vset_options *kith_vset_get_options(const struct kith_vset *vset);
/* The index, for searches and figures; changes go through the calls below. */
struct kith_hnsw *kith_vset_index(const struct kith_vset *vset);
size_t kith_vset_count(const struct kith_vset *vset);
size_t kith_vset_attribute_count(const struct kith_vset *vset);
uint64_t kith_vset_id(const struct kith_vset *vset);    /* a number of its own within the engine */
uint64_t kith_vset_added(const struct kith_vset *vset); /* elements ever added */
uint64_t kith_vset_removed(
    const struct kith_vset *vset); /* slots given up since it was opened: while that stays, what a
                                                            search found is there */

/* Projects in[0..input_dim) to out[0..dim), see projection.h. Only with input_dim. KITH_ENOMEM. */
int kith_vset_project(const struct kith_vset *vset, const float *in, float *out);

/* KITH_HNSW_NONE when there is no such element. */
uint32_t kith_vset_find(const struct kith_vset *vset, struct kith_slice name);
/* Whose slot it is; false: nobody's (the index may still find a slot for a moment that the set has given up).
 * Borrowed until the element is removed. */
bool kith_vset_name(const struct kith_vset *vset, uint32_t slot, struct kith_slice *name);
/* Start the loads that kith_vset_name will wait for: the first for all slots of a reply, then the second for all.
 */
void kith_vset_prefetch_entry(const struct kith_vset *vset, uint32_t slot);
void kith_vset_prefetch_name(const struct kith_vset *vset, uint32_t slot);
/* NULL: none. Borrowed until the next change. */
const struct kith_attributes *kith_vset_attributes(const struct kith_vset *vset, uint32_t slot);

/* Adds an element, or gives it a new vector. vector[0..dim) is finite. `attributes` (may be NULL) is taken on
 * success; with NULL an element that is there keeps what it has. ef: effort of linking, 0 for the default. 1:
 * new, 0: replaced, KITH_ENOMEM: nothing has changed. */
int kith_vset_add(struct kith_vset *vset, struct kith_slice name, const float *vector, uint32_t ef,
                  struct kith_attributes *attributes);
/* KITH_ENOENT, KITH_ENOMEM: nothing has changed. */
int kith_vset_remove(struct kith_vset *vset, struct kith_slice name);
/* Takes `attributes` on success; NULL removes them. KITH_ENOENT. */
int kith_vset_set_attributes(struct kith_vset *vset, struct kith_slice name,
                             struct kith_attributes *attributes);

/* Names in memcmp order from `start` on (data NULL: from the first; `after`: excluding start itself): calls
 * report while it returns true. */
typedef bool kith_vset_name_fn(void *arg, struct kith_slice name);
void kith_vset_names(const struct kith_vset *vset, struct kith_slice start, bool after,
                     kith_vset_name_fn *report, void *arg);
/* An element's slot, each equally likely. The set is not empty. */
uint32_t kith_vset_random(const struct kith_vset *vset, struct kith_rng *rng);

/* Sees to it that links are made. Call after changes. */
void kith_vset_schedule(struct kith_vset *vset);
/* Around a search that a worker will run: `begin` holds the set, and links give way to the search until
 * `start` was called, by the worker. `end` lets go. */
void kith_vset_search_begin(struct kith_vset *vset);
void kith_vset_search_start(struct kith_vset *vset);
void kith_vset_search_end(struct kith_vset *vset);
/* Others wait for a worker: what is long makes way. Any thread. */
bool kith_vset_searches_wait(const struct kith_vset *vset);
/* Tasks of a search beside the driver's own: at most worker_count are of use at once. Whoever submits one calls task_done
 * from its `done`. */
unsigned kith_vset_worker_count(const struct kith_vset *vset);
void kith_vset_submit(struct kith_vset *vset, struct kith_task *task);
void kith_vset_task_done(struct kith_vset *vset);
/* Sets whose work had to wait try again. Short. */
void kith_vset_idle(struct kith_engine *engine);

size_t kith_vset_bytes(const struct kith_vset *vset);
/* Names, slots, attributes and the graph agree: KITH_OK, KITH_ENOMEM, KITH_ECORRUPT. For tests; no tasks
 * running. */
int kith_vset_check(const struct kith_vset *vset, struct kith_error *error);

/* Over all sets of an engine, as of their last change. */
struct kith_vset_totals {
    uint64_t sets, elements, unlinked, deleted, bytes;
    uint64_t crowded; /* sets past the bound of their unlinked elements: writers wait */
    uint64_t excess;  /* unlinked elements past the bounds of their sets */
    uint64_t pending; /* sets with links or repairs that are due or under way */
};
const struct kith_vset_totals *kith_vset_get_totals(const struct kith_engine *engine);
/* One line for each of the newest `most` sets, for INFO. */
void kith_vset_append_lines(const struct kith_engine *engine, size_t most, struct kith_buf *out);

#endif
