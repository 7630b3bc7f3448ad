/* Checkpoints without fork and without a pause.
 *
 * A checkpoint is the keyspace as of one index of the log, written while writes go on. It is a stream of
 * records that the store compresses and frames:
 *
 *     record = varint length, body;  body = kind u8, ...
 *     KEY    db, expiry, name, type, string bytes or object id
 *     PART   object id, bytes of kith_type_ops.save
 *     END    counts
 *
 * Each entry has one bit that says whether this checkpoint has it already; its meaning flips with each
 * checkpoint, so nothing has to be reset. The walk goes over the tables in steps. A write that is about to
 * change a key whose bit is not set yet saves the old content first (kith_key_find_for_write does). A large
 * object that is about to change is saved in parts: its own elements carry the same bit; an object that is
 * removed while it is not fully saved yet is kept aside until it is. Keys made after the start carry the bit
 * from birth.
 *
 * Vector sets save codes and links (vec/hnsw.h), so that a restart never rebuilds a graph. */
#ifndef KITH_ENGINE_CHECKPOINT_H
#define KITH_ENGINE_CHECKPOINT_H

#include "base/buf.h"
#include "base/slice.h"

struct kith_engine;

/* The sink of kith_type_ops.save. A part is one call of part_begin .. part_end; keep parts below 256 KiB. */
struct kith_save {
    struct kith_buf *out;
    uint64_t object_id;
    size_t part_start;
};

struct kith_buf *kith_save_part_begin(struct kith_save *save); /* append the part's bytes to it */
void kith_save_part_end(struct kith_save *save);

/* Starts a checkpoint of the state as it is now. KITH_EBUSY while one runs. */
int kith_engine_checkpoint_begin(struct kith_engine *engine);
/* Appends about budget_bytes (and at least one record) to *out. 1: there is more, 0: finished, negative:
 * failed and aborted. */
int kith_engine_checkpoint_step(struct kith_engine *engine, struct kith_buf *out, size_t budget_bytes);
void kith_engine_checkpoint_abort(struct kith_engine *engine);

/* Loads a stream into an empty engine: any cut of it into pieces. KITH_ECORRUPT names the record in the log.
 */
int kith_engine_load(struct kith_engine *engine, struct kith_slice bytes);
/* The stream must be complete: KITH_ECORRUPT when it is not. */
int kith_engine_load_finish(struct kith_engine *engine);

#endif
