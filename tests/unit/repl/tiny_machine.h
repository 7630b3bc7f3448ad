/* A state machine for tests: the list of all payloads it was given. */
#ifndef TESTS_TINY_MACHINE_H
#define TESTS_TINY_MACHINE_H

#include "base/varint.h"
#include "repl/node.h"

#include <stdlib.h>

struct tiny {
    struct kith_buf all; /* payloads, each with its length in front */
    size_t count;
    size_t frozen, at;    /* checkpoint: bytes of `all` at begin, yielded so far */
    struct kith_buf rest; /* load: a payload cut in two */
    int fail_apply, fail_step;
    int aborts;
};

static inline int tiny_apply(void *context, struct kith_slice payload, const struct kith_apply_hooks *hooks)
{
    struct tiny *t = context;
    if (t->fail_apply)
        return t->fail_apply;
    size_t before = t->all.length;
    kith_buf_append_slice(&t->all, payload);
    if (t->all.failed) {
        t->all.length = before;
        t->all.failed = false;
        return KITH_ENOMEM;
    }
    t->count++;
    return KITH_OK;
}

static inline int tiny_begin(void *context)
{
    struct tiny *t = context;
    t->frozen = t->all.length;
    t->at = 0;
    return KITH_OK;
}

static inline int tiny_step(void *context, struct kith_buf *out, size_t budget)
{
    struct tiny *t = context;
    if (t->fail_step)
        return t->fail_step;
    size_t n = t->frozen - t->at < budget ? t->frozen - t->at : budget;
    if (n)
        kith_buf_append(out, t->all.data + t->at, n);
    t->at += n;
    return t->at < t->frozen;
}

static inline void tiny_abort(void *context)
{
    ((struct tiny *)context)->aborts++;
}

static inline int tiny_load(void *context, struct kith_slice bytes)
{
    struct tiny *t = context;
    kith_buf_append(&t->rest, bytes.data, bytes.length);
    return t->rest.failed ? KITH_ENOMEM : KITH_OK;
}

static inline int tiny_load_finish(void *context)
{
    struct tiny *t = context;
    struct kith_reader r = kith_reader(kith_buf_slice(&t->rest));
    while (r.length && !r.failed) {
        struct kith_slice payload = kith_reader_slice(&r);
        if (!r.failed) {
            kith_buf_append_slice(&t->all, payload);
            t->count++;
        }
    }
    kith_buf_fini(&t->rest);
    return t->all.failed ? KITH_ENOMEM : r.failed ? KITH_ECORRUPT : KITH_OK;
}

static inline int tiny_reset(void *context)
{
    struct tiny *t = context;
    kith_buf_clear(&t->all);
    kith_buf_clear(&t->rest);
    t->count = 0;
    return KITH_OK;
}

static inline struct kith_node_machine tiny_machine(struct tiny *t)
{
    return (struct kith_node_machine){t,          tiny_apply, tiny_begin,       tiny_step,
                                      tiny_abort, tiny_load,  tiny_load_finish, tiny_reset};
}

static inline void tiny_fini(struct tiny *t)
{
    kith_buf_fini(&t->all);
    kith_buf_fini(&t->rest);
    *t = (struct tiny){0};
}

#endif
