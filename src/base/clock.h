/* The time, as far as it must be a simulator's: a monotonic one for intervals, the wall's for what people read. */
#ifndef KITH_BASE_CLOCK_H
#define KITH_BASE_CLOCK_H

#include "base/os.h"

struct kith_clock {
    uint64_t (*monotonic_ns)(void *context); /* NULL: the system's, both */
    int64_t (*wall_ms)(void *context);
    void *context;
};

static inline uint64_t kith_clock_monotonic_ns(const struct kith_clock *clock)
{
    return clock->monotonic_ns ? clock->monotonic_ns(clock->context) : kith_os_monotonic_ns();
}

static inline int64_t kith_clock_wall_ms(const struct kith_clock *clock)
{
    return clock->wall_ms ? clock->wall_ms(clock->context) : kith_os_wall_ms();
}

#endif
