/* Epoch-based grace periods (Fraser, "Practical lock-freedom", 2004, in its simplest form). A reader pins the
 * epoch it sees before it reads shared structure and unpins afterwards. Whoever takes something out of the
 * structure tags it with epoch_advance(); it may be freed when the tag is below epoch_oldest(): every reader
 * that could hold it has gone. The two seq_cst fences are Dekker's: either the reader sees the removal, or
 * the remover sees the pin. */
#ifndef KITH_VEC_EPOCH_H
#define KITH_VEC_EPOCH_H

#include <stdatomic.h>
#include <stdint.h>

struct epoch {
    _Alignas(64) _Atomic uint64_t now; /* from 1 */
};

struct epoch_pin {
    _Alignas(64) _Atomic uint64_t epoch; /* 0: not reading */
};

static inline void epoch_init(struct epoch *epoch)
{
    atomic_init(&epoch->now, 1);
}

static inline void epoch_fence(void)
{
    /* ThreadSanitizer does not know fences; the read-modify-writes beside them are full barriers where it
     * runs. */
#if !defined(__SANITIZE_THREAD__)
#if defined(__has_feature)
#if !__has_feature(thread_sanitizer)
    atomic_thread_fence(memory_order_seq_cst);
#endif
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
#endif
}

static inline void epoch_enter(struct epoch *epoch, struct epoch_pin *pin)
{
    atomic_exchange(&pin->epoch, atomic_load(&epoch->now));
    epoch_fence();
}

static inline void epoch_leave(struct epoch_pin *pin)
{
    atomic_store_explicit(&pin->epoch, 0, memory_order_release);
}

/* The tag of what was taken out before this call. */
static inline uint64_t epoch_advance(struct epoch *epoch)
{
    epoch_fence();
    return atomic_fetch_add(&epoch->now, 1);
}

#endif
