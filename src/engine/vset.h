/* A vector set: named elements, each with a vector and attributes, and an HNSW index over them (vec/hnsw.h).
 *
 *     name --table--> entry [slot u32] <--by slot-- entries[]        slot --index--> code, links, attributes
 *
 * The names live here, on the keyspace thread; a search on a worker sees slots and attributes alone, and
 * slots become names when it comes back. Links are made by tasks in the background (engine.h,
 * kith_engine_options.executor); an element can be found from the moment it was added. The set counts those
 * who use it off the thread: it may be removed from the keyspace while they run, and is freed when the last
 * one has come back. */
#ifndef KITH_ENGINE_VSET_H
#define KITH_ENGINE_VSET_H

#include "base/slice.h"
#include "vec/hnsw.h"

#include <stdint.h>

struct kith_vset;
struct kith_engine;
struct kith_attributes;
struct kith_type_ops;

extern const struct kith_type_ops kith_vset_ops;

struct kith_vset_options {
    uint32_t dim;       /* of the vectors as kept: after the projection, if there is one */
    uint32_t input_dim; /* of the vectors as given, when they are projected; 0: no projection */
    enum kith_hnsw_codes codes;
    uint32_t m;
    uint64_t seed; /* levels and projection are drawn from it */
};

/* An empty set. KITH_ENOMEM, KITH_EINVAL (an option out of range). */
int kith_vset_open(struct kith_vset **out, struct kith_engine *engine,
                   const struct kith_vset_options *options);
/* Frees it now, or when the last user has let go. NULL is safe. */
void kith_vset_close(struct kith_vset *vset);
void kith_vset_hold(struct kith_vset *vset);
void kith_vset_let_go(struct kith_vset *vset);

const struct kith_vset_options *kith_vset_get_options(const struct kith_vset *vset);
/* The index, for searches and figures; changes go through the calls below. */
struct kith_hnsw *kith_vset_index(const struct kith_vset *vset);
size_t kith_vset_count(const struct kith_vset *vset);
size_t kith_vset_attribute_count(const struct kith_vset *vset);
uint64_t kith_vset_id(const struct kith_vset *vset);    /* a number of its own within the engine */
uint64_t kith_vset_added(const struct kith_vset *vset); /* elements ever added */

/* Multiplies by the projection: in[0..input_dim) to out[0..dim). Only with input_dim. */
void kith_vset_project(const struct kith_vset *vset, const float *in, float *out);

/* KITH_HNSW_NONE when there is no such element. */
uint32_t kith_vset_find(const struct kith_vset *vset, struct kith_slice name);
/* Borrowed until the element is removed. */
struct kith_slice kith_vset_name(const struct kith_vset *vset, uint32_t slot);
/* NULL: none. Borrowed until the next change. */
const struct kith_attributes *kith_vset_attributes(const struct kith_vset *vset, uint32_t slot);

/* Adds an element, or gives it a new vector. vector[0..dim) is finite. `attributes` (may be NULL) is taken on
 * success; with NULL an element that is there keeps what it has. ef: effort of linking, 0 for the default. 1:
 * new, 0: replaced, KITH_ENOMEM: nothing has changed. */
int kith_vset_add(struct kith_vset *vset, struct kith_slice name, const float *vector, uint32_t ef,
                  struct kith_attributes *attributes);
bool kith_vset_remove(struct kith_vset *vset, struct kith_slice name);
/* Takes `attributes`; NULL removes them. KITH_ENOENT, KITH_ENOMEM. */
int kith_vset_set_attributes(struct kith_vset *vset, struct kith_slice name,
                             struct kith_attributes *attributes);

/* Names in memcmp order from `start` on (data NULL: from the first; `after`: excluding start itself): calls
 * report while it returns true. The order is kept from the first call on. KITH_ENOMEM. */
typedef bool kith_vset_name_fn(void *arg, struct kith_slice name);
int kith_vset_names(struct kith_vset *vset, struct kith_slice start, bool after, kith_vset_name_fn *report,
                    void *arg);

/* Submits link tasks while there is work for more of them. Call after changes. */
void kith_vset_schedule(struct kith_vset *vset);

size_t kith_vset_bytes(const struct kith_vset *vset);
/* Names, slots, attributes and the graph agree: KITH_OK, KITH_ENOMEM, KITH_ECORRUPT. For tests; no tasks
 * running. */
int kith_vset_check(const struct kith_vset *vset, struct kith_error *error);

/* Over all sets of an engine. */
struct kith_vset_totals {
    uint64_t sets, elements, unlinked, deleted, bytes;
    bool work_pending; /* links or repairs are due */
    unsigned crowded;  /* sets whose unlinked tail is past its bound */
};
void kith_vset_get_totals(const struct kith_engine *engine, struct kith_vset_totals *totals);

#endif
