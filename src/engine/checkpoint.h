/* Checkpoints without fork and without a pause.
 *
 * A checkpoint is the keyspace as of one index of the log, written while writes go on. It is a stream of
 * records that the store compresses and frames:
 *
 *     record = varint length, body;  body = kind u8, ...
 *     HEAD   version, time of the last entry                    first
 *     KEY    db, expiry, type, name, string bytes or object id
 *     PART   object id, bytes of kith_type_ops.save             any mix of objects between their KEY and DONE
 *     DONE   object id                                          the object is complete
 *     END    counts                                             last
 *
 * Each entry has one bit that says whether this checkpoint has it already; its meaning flips with each
 * checkpoint, so nothing has to be reset. The walk goes over the tables in steps. A write that is about to
 * change a key whose bit is not set yet saves the old content first (kith_key_find_for_write does). Keys made
 * after the start carry the bit from birth.
 *
 * Objects: the first touch (by the walk or by a write) calls kith_type_ops.save. A small object appends
 * itself whole and returns 0. A large one returns 1: it remembers the `save` it was given, and until
 * save_step has returned 0 (or save_abort was called) every change of one of its elements appends that
 * element's old state to the save first, if the steps have not been there yet; elements added meanwhile are
 * not saved. An object that is removed from the keyspace while it is not fully saved is kept aside until it
 * is.
 *
 * Vector sets save codes and links (vec/hnsw.h), so that a restart never rebuilds a graph. */
#ifndef KITH_ENGINE_CHECKPOINT_H
#define KITH_ENGINE_CHECKPOINT_H

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

struct kith_engine;

/* Where an object's parts go. It lives until save returned 0, save_step returned 0, or save_abort was called;
 * its address does not change. */
struct kith_save;

/* Between begin and end append one part's bytes to the returned buffer (allocation failures stick in it and
 * abort the checkpoint, so save need not check). Keep a part below 256 KiB, and self-contained: the type's
 * `load` gets the parts one by one, in the order in which they were written. Parts do not nest. */
struct kith_buf *kith_save_part_begin(struct kith_save *save);
void kith_save_part_end(struct kith_save *save);

/* Starts a checkpoint of the state as it is now. KITH_EBUSY while one runs, and after an abort until
 * kith_engine_idle_work has cleaned up behind it. */
int kith_engine_checkpoint_begin(struct kith_engine *engine);
/* Appends about budget_bytes to *out (nothing, when a stretch of the keyspace was saved already). 1: there is
 * more, 0: finished, negative: failed and aborted. */
int kith_engine_checkpoint_step(struct kith_engine *engine, struct kith_buf *out, size_t budget_bytes);
/* Safe when none runs. */
void kith_engine_checkpoint_abort(struct kith_engine *engine);

/* Loads a stream into an empty engine: any cut of it into pieces. KITH_ECORRUPT, with what and where in the
 * stream in *error (which may be NULL); the engine is then good for kith_engine_close only. */
int kith_engine_load(struct kith_engine *engine, struct kith_slice bytes, struct kith_error *error);
/* The stream must be complete: KITH_ECORRUPT when it is not. */
int kith_engine_load_finish(struct kith_engine *engine, struct kith_error *error);

#endif
