/* What the tests of nodes share: how an operation ended, a log that says nothing, and libraft on an allocator whose
 * failures can be ordered. */
#ifndef TESTS_OUTCOMES_H
#define TESTS_OUTCOMES_H

#include "base/log.h"

#include <raft.h>
#include <stdlib.h>

struct result {
    int runs, status;
};

/* A done callback; context: struct result. */
static inline void note(void *context, int status)
{
    struct result *r = context;
    r->runs++;
    r->status = status;
}

static inline void silent(void *arg, enum kith_log_level level, const char *line)
{
}

static inline void *outcomes_malloc(void *data, size_t size)
{
    return malloc(size);
}

static inline void outcomes_free(void *data, void *p)
{
    free(p);
}

static inline void *outcomes_calloc(void *data, size_t n, size_t size)
{
    return calloc(n, size);
}

static inline void *outcomes_realloc(void *data, void *p, size_t size)
{
    return realloc(p, size);
}

/* libraft's own calls of malloc are not those that failing_malloc.h wraps: these are. raft_heap_set_default() ends it. */
static inline struct raft_heap wrapped_heap(void)
{
    return (struct raft_heap){.malloc = outcomes_malloc,
                              .free = outcomes_free,
                              .calloc = outcomes_calloc,
                              .realloc = outcomes_realloc};
}

#endif
