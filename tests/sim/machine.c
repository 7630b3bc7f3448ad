/* The state machine of a simulated node: the engine, and a sum over all entries it has applied, which travels in its
 * checkpoints. From it follows what all nodes must agree about: the n-th entry is the same everywhere, whatever way it
 * came; no operation is applied twice; none that was refused is applied at all; and the same entries give the same state. */
#include "engine/keyspace.h"
#include "repl/engine_machine.h"
#include "world.h"

#include "base/varint.h"

#include <inttypes.h>
#include <stdlib.h>

enum { DIGEST_EACH = 64, TIME_AT = 1, OPERATION_AT = 9, HEAD = 17 };

enum { TAKEN = 1, REFUSED = 2 };

struct sim_canon {
    uint64_t *chain;  /* after entry n + 1 */
    uint64_t *names;  /* of operations; 0: an entry without */
    uint64_t *digest; /* of the engine after entry (n + 1) * DIGEST_EACH; 0: nobody was there yet */
    uint64_t count, capacity;
    unsigned char *operations; /* TAKEN, REFUSED; by number */
    uint64_t operation_capacity;
};

struct sim_canon *canon_open(void)
{
    struct sim_canon *c = calloc(1, sizeof *c);
    if (!c)
        abort();
    return c;
}

void canon_close(struct sim_canon *c)
{
    if (!c)
        return;
    free(c->chain);
    free(c->names);
    free(c->digest);
    free(c->operations);
    free(c);
}

uint64_t canon_count(const struct sim_canon *c)
{
    return c->count;
}

static void *grown(void *memory, uint64_t from, uint64_t to, size_t each)
{
    char *more = realloc(memory, to * each);
    if (!more)
        abort();
    memset(more + from * each, 0, (to - from) * each);
    return more;
}

static unsigned char *operation_slot(struct sim_canon *c, uint64_t operation)
{
    if (operation >= c->operation_capacity) {
        uint64_t to = operation * 2 + 1024;
        c->operations = grown(c->operations, c->operation_capacity, to, 1);
        c->operation_capacity = to;
    }
    return &c->operations[operation];
}

bool canon_has(const struct sim_canon *c, uint64_t operation)
{
    return operation < c->operation_capacity && (c->operations[operation] & TAKEN);
}

void canon_refuse(struct world *w, uint64_t operation)
{
    unsigned char *slot = operation_slot(w->canon, operation);
    *slot |= REFUSED;
    if (*slot & TAKEN)
        world_fail(w, "operation %" PRIu64 " was refused for certain, and yet applied", operation);
}

void canon_take_back(struct sim_canon *c, uint64_t count)
{
    for (; c->count > count; c->count--) {
        if (c->names[c->count - 1])
            c->operations[c->names[c->count - 1]] &= (unsigned char)~TAKEN;
        if (c->count % DIGEST_EACH == 0)
            c->digest[c->count / DIGEST_EACH - 1] = 0;
    }
}

static void extend(struct world *w, uint64_t chain, uint64_t operation)
{
    struct sim_canon *c = w->canon;
    if (c->count == c->capacity) {
        uint64_t to = c->capacity ? c->capacity * 2 : 4096;
        c->chain = grown(c->chain, c->capacity, to, sizeof *c->chain);
        c->names = grown(c->names, c->capacity, to, sizeof *c->names);
        c->digest = grown(c->digest, c->capacity / DIGEST_EACH, to / DIGEST_EACH, sizeof *c->digest);
        c->capacity = to;
    }
    c->names[c->count] = operation;
    c->chain[c->count++] = chain;
    if (!operation)
        return;
    unsigned char *slot = operation_slot(c, operation);
    if (*slot & TAKEN)
        world_fail(w, "operation %" PRIu64 " is applied twice", operation);
    if (*slot & REFUSED)
        world_fail(w, "operation %" PRIu64 " was refused for certain, and is applied now", operation);
    *slot |= TAKEN;
}

static void check_digest(struct sim_engine *e)
{
    struct sim_canon *c = e->world->canon;
    if (e->count == 0 || e->count % DIGEST_EACH)
        return;
    uint64_t digest = kith_engine_digest(e->engine), *slot = &c->digest[e->count / DIGEST_EACH - 1];
    digest += digest == 0;
    if (*slot && *slot != digest)
        world_fail(e->world, "node %d: after %" PRIu64 " entries its state is another than on other nodes",
                   e->machine, e->count);
    *slot = digest;
}

static int apply(void *context, struct kith_slice payload, const struct kith_apply_hooks *hooks)
{
    struct sim_engine *e = context;
    struct world *w = e->world;
    const struct kith_hash_seed seed = {e->chain, 1};
    uint64_t operation = payload.length >= HEAD ? kith_get_u64(payload.data + OPERATION_AT) : 0;
    e->chain = kith_hash(seed, payload.data, payload.length);
    if (e->count == w->canon->count)
        extend(w, e->chain, operation);
    else if (w->canon->chain[e->count] != e->chain)
        world_fail(w,
                   "node %d applies operation %" PRIu64 " as entry %" PRIu64 ", where others applied another",
                   e->machine, operation, e->count + 1);
    e->count++;
    world_mix(w, e->chain + (uint64_t)e->machine);
    int status = e->inner.apply(e->inner.context, payload, hooks);
    if (status != KITH_OK)
        world_fail(w, "node %d: an entry could not be applied: %s", e->machine, kith_status_text(status));
    check_digest(e);
    return status;
}

/* --- checkpoints: the sum first, then the engine's bytes --- */

static int checkpoint_begin(void *context)
{
    struct sim_engine *e = context;
    e->frozen_count = e->count;
    e->frozen_chain = e->chain;
    e->head_yielded = false;
    return e->inner.checkpoint_begin(e->inner.context);
}

static int checkpoint_step(void *context, struct kith_buf *out, size_t budget)
{
    struct sim_engine *e = context;
    if (!e->head_yielded) {
        char head[16];
        kith_put_u64(head, e->frozen_count);
        kith_put_u64(head + 8, e->frozen_chain);
        kith_buf_append(out, head, sizeof head);
        e->head_yielded = true;
    }
    return e->inner.checkpoint_step(e->inner.context, out, budget);
}

static void checkpoint_abort(void *context)
{
    struct sim_engine *e = context;
    e->inner.checkpoint_abort(e->inner.context);
}

static int load(void *context, struct kith_slice bytes)
{
    struct sim_engine *e = context;
    while (e->head_got < sizeof e->head && bytes.length) {
        e->head[e->head_got++] = (unsigned char)*bytes.data;
        bytes = kith_slice(bytes.data + 1, bytes.length - 1);
    }
    return bytes.length ? e->inner.load(e->inner.context, bytes) : KITH_OK;
}

static int load_finish(void *context)
{
    struct sim_engine *e = context;
    struct sim_canon *c = e->world->canon;
    int status = e->inner.load_finish(e->inner.context);
    if (status != KITH_OK)
        return status;
    e->count = kith_get_u64((const char *)e->head);
    e->chain = kith_get_u64((const char *)e->head + 8);
    e->head_got = 0;
    if (e->count > c->count || (e->count && c->chain[e->count - 1] != e->chain))
        world_fail(e->world,
                   "node %d: its checkpoint holds something else than the first %" PRIu64 " entries",
                   e->machine, e->count);
    else
        check_digest(e);
    return KITH_OK;
}

static int reset(void *context)
{
    struct sim_engine *e = context;
    int status = e->inner.reset(e->inner.context);
    if (status == KITH_OK)
        e->count = e->chain = e->head_got = 0;
    return status;
}

bool engine_open(struct sim_engine *e, struct world *w, int machine, uint64_t seed,
                 struct kith_node_machine *out)
{
    struct kith_engine_options options = {.hash_seed = {seed, ~seed}, .read_seed = seed};
    *e = (struct sim_engine){.world = w, .machine = machine};
    if (kith_engine_open(&e->engine, &options) != KITH_OK)
        return false;
    e->inner = kith_engine_machine(e->engine);
    *out = (struct kith_node_machine){.context = e,
                                      .apply = apply,
                                      .checkpoint_begin = checkpoint_begin,
                                      .checkpoint_step = checkpoint_step,
                                      .checkpoint_abort = checkpoint_abort,
                                      .load = load,
                                      .load_finish = load_finish,
                                      .reset = e->inner.reset ? reset : NULL};
    return true;
}

void engine_close(struct sim_engine *e)
{
    kith_engine_close(e->engine);
    e->engine = NULL;
}
