/* The malloc family, wrapped by the linker. Only objects linked into the test program are affected, not
 * shared libraries. */
#include "failing_malloc.h"

#include <stdatomic.h>
#include <stddef.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

static atomic_long remaining = -1;
static atomic_bool failed;

static bool fails_now(void)
{
    if (atomic_load_explicit(&remaining, memory_order_relaxed) < 0)
        return false;
    if (atomic_fetch_sub(&remaining, 1) != 0)
        return false;
    atomic_store(&failed, true);
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails_now() ? NULL : __real_realloc(old, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails_now() ? NULL : __real_aligned_alloc(alignment, size);
}

void failing_malloc_arm(long countdown)
{
    atomic_store(&failed, false);
    atomic_store(&remaining, countdown);
}

bool failing_malloc_disarm(void)
{
    atomic_store(&remaining, -1);
    return atomic_load(&failed);
}

bool failing_malloc_sweep(int *n)
{
    bool was_armed = *n > 0;
    if (was_armed && !failing_malloc_disarm())
        return false;
    failing_malloc_arm(*n);
    ++*n;
    return true;
}
