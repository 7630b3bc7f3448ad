/* Background work, one step at a time: link what waits in the tail, then write rows (SPREAD, after a
 * restart), then mend after removals, then sweep. */
#include "vec/index.h"
#include "vec/spread.h"

static int link_step(struct kith_hnsw *h, struct scratch *s)
{
    uint32_t slot, ef;
    if (!hnsw_tail_claim(h, &slot, &ef))
        return 0;
    int rc = hnsw_link(h, s, slot, ef);
    if (rc != KITH_OK) {
        if (state_move(h, slot, SLOT_LINKING, SLOT_TAIL))
            hnsw_tail_rewind(h);
        return rc == KITH_EAGAIN ? 0 : rc;
    }
    if (state_move(h, slot, SLOT_LINKING, SLOT_LINKED))
        atomic_fetch_sub_explicit(&h->tail_count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->repair.changes, 1, memory_order_relaxed);
    hnsw_tail_trim(h);
    return 1;
}

int kith_hnsw_work(struct kith_hnsw *h, unsigned steps, unsigned flags)
{
    bool all = flags & KITH_HNSW_WORK_ALL;
    unsigned done = 0;
    struct scratch *s = hnsw_scratch_take(h);
    if (!s)
        return KITH_ENOMEM;
    int rc = 1;
    while (done < steps && rc > 0) {
        rc = link_step(h, s);
        if (rc > 0)
            hnsw_ahead_prepare(h); /* where some is linked, more is added */
        if (rc == 0 && is_spread(h))
            rc = hnsw_spread_step(h, s);
        if (rc == 0)
            rc = hnsw_repair_step(h, s, all);
        if (rc == 0)
            rc = hnsw_sweep_step(h, s, all);
        done += rc > 0;
        /* A new pin for each step, so that no step holds up a grace period for long. */
        epoch_leave(&s->pin);
        epoch_enter(&h->epoch, &s->pin);
    }
    hnsw_scratch_give(h, s);
    return rc < 0 ? rc : (int)done;
}

int kith_hnsw_settle(struct kith_hnsw *h)
{
    int rc;
    do {
        rc = kith_hnsw_work(h, 256, KITH_HNSW_WORK_ALL);
        while (kith_hnsw_reclaim(h))
            ;
    } while (rc > 0);
    kith_hnsw_trim(h);
    return rc;
}
