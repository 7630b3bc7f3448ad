/* The search. A configuration is the set of operations placed so far and the value they leave; values are interned, so
 * that it is compared as a few words. The next operation may be any that was called before the first return among
 * those not yet placed. Operations of unknown outcome come last among the candidates: mostly they are not needed. */
#include "linear.h"

#include "base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { ABSENT = 0 };
#define ILLEGAL UINT32_MAX

static void *room(size_t bytes)
{
    void *memory = calloc(1, bytes ? bytes : 1);
    if (!memory)
        abort();
    return memory;
}

/* --- values --- */

struct values {
    struct kith_slice *at; /* owned bytes; [0] stands for no value */
    uint64_t *hash;
    uint32_t count, capacity;
    uint32_t *slots; /* of ids; 0 free */
    uint32_t slot_count;
};

static const struct kith_hash_seed value_seed = {0x76616c7565, 0x6c696e656172};

static void values_slot(struct values *v, uint32_t id)
{
    uint32_t i = (uint32_t)v->hash[id] & (v->slot_count - 1);
    while (v->slots[i])
        i = (i + 1) & (v->slot_count - 1);
    v->slots[i] = id;
}

static void values_grow(struct values *v)
{
    uint32_t capacity = v->capacity ? v->capacity * 2 : 64;
    v->at = realloc(v->at, capacity * sizeof *v->at);
    v->hash = realloc(v->hash, capacity * sizeof *v->hash);
    if (!v->at || !v->hash)
        abort();
    if (!v->count) {
        v->at[0] = (struct kith_slice){0};
        v->hash[0] = 0;
        v->count = 1;
    }
    v->capacity = capacity;
    free(v->slots);
    v->slot_count = capacity * 2;
    v->slots = room(v->slot_count * sizeof *v->slots);
    for (uint32_t id = 1; id < v->count; id++)
        values_slot(v, id);
}

/* The id of a then b. */
static uint32_t intern(struct values *v, struct kith_slice a, struct kith_slice b)
{
    size_t length = a.length + b.length;
    char *bytes = room(length);
    if (a.length)
        memcpy(bytes, a.data, a.length);
    if (b.length)
        memcpy(bytes + a.length, b.data, b.length);
    if (v->count == v->capacity)
        values_grow(v);
    struct kith_slice value = kith_slice(bytes, length);
    uint64_t hash = kith_hash(value_seed, bytes, length);
    for (uint32_t i = (uint32_t)hash & (v->slot_count - 1); v->slots[i]; i = (i + 1) & (v->slot_count - 1))
        if (v->hash[v->slots[i]] == hash && kith_slice_equal(v->at[v->slots[i]], value)) {
            free(bytes);
            return v->slots[i];
        }
    uint32_t id = v->count++;
    v->at[id] = value;
    v->hash[id] = hash;
    values_slot(v, id);
    return id;
}

static void values_close(struct values *v)
{
    for (uint32_t id = 1; id < v->count; id++)
        free((char *)v->at[id].data);
    free(v->at);
    free(v->hash);
    free(v->slots);
}

/* --- what an operation does --- */

static bool is_value(const struct values *v, uint32_t state, const struct linear_op *op)
{
    if (state == ABSENT || op->nil)
        return state == ABSENT && op->nil;
    return kith_slice_equal(v->at[state], op->result);
}

static int64_t to_number(struct kith_slice value)
{
    char text[32] = "";
    if (value.length && value.length < sizeof text)
        memcpy(text, value.data, value.length);
    return strtoll(text, NULL, 10);
}

/* The value behind `op` on `state`, or ILLEGAL when its result is another. An unknown one has no result to be wrong. */
static uint32_t take_effect(struct values *v, uint32_t state, const struct linear_op *op)
{
    static const struct kith_slice nothing;
    bool known = op->returned != LINEAR_NEVER;
    struct kith_slice before = state == ABSENT ? nothing : v->at[state];
    char text[32];
    switch (op->kind) {
    case LINEAR_GET:
        return known && !is_value(v, state, op) ? ILLEGAL : state;
    case LINEAR_SET:
        return intern(v, op->argument, nothing);
    case LINEAR_SETNX:
        if (known && op->number != (state == ABSENT))
            return ILLEGAL;
        return state == ABSENT ? intern(v, op->argument, nothing) : state;
    case LINEAR_GETSET:
        return known && !is_value(v, state, op) ? ILLEGAL : intern(v, op->argument, nothing);
    case LINEAR_DEL:
        return known && op->number != (state != ABSENT) ? ILLEGAL : ABSENT;
    case LINEAR_APPEND:
        if (known && op->number != (int64_t)(before.length + op->argument.length))
            return ILLEGAL;
        return intern(v, before, op->argument);
    case LINEAR_INCR:
        if (known && op->number != to_number(before) + 1)
            return ILLEGAL;
        snprintf(text, sizeof text, "%" PRId64, to_number(before) + 1);
        return intern(v, kith_slice(text, strlen(text)), nothing);
    }
    abort();
}

/* --- what was tried --- */

struct memory {
    uint64_t *slots; /* `width` words each: the set, then the value + 1 (0: free) */
    size_t width, count, capacity;
};

static uint64_t memory_hash(const uint64_t *words, size_t width)
{
    return kith_hash(value_seed, words, width * sizeof *words);
}

static void memory_grow(struct memory *m)
{
    struct memory old = *m;
    m->capacity = old.capacity ? old.capacity * 2 : 256;
    m->slots = room(m->capacity * m->width * sizeof *m->slots);
    for (size_t i = 0; i < old.capacity; i++) {
        const uint64_t *words = old.slots + i * m->width;
        if (!words[m->width - 1])
            continue;
        size_t at = memory_hash(words, m->width) & (m->capacity - 1);
        while (m->slots[at * m->width + m->width - 1])
            at = (at + 1) & (m->capacity - 1);
        memcpy(m->slots + at * m->width, words, m->width * sizeof *words);
    }
    free(old.slots);
}

/* Whether it is new; `words` has the set, and room for the value behind it. */
static bool remember(struct memory *m, uint64_t *words, uint32_t state)
{
    if (m->count * 2 >= m->capacity)
        memory_grow(m);
    words[m->width - 1] = (uint64_t)state + 1;
    size_t at = memory_hash(words, m->width) & (m->capacity - 1);
    for (; m->slots[at * m->width + m->width - 1]; at = (at + 1) & (m->capacity - 1))
        if (memcmp(m->slots + at * m->width, words, m->width * sizeof *words) == 0)
            return false;
    memcpy(m->slots + at * m->width, words, m->width * sizeof *words);
    m->count++;
    return true;
}

/* --- the search --- */

struct sorted {
    struct linear_op op;
    size_t origin;
};

struct frame {
    uint32_t state;
    size_t next;           /* candidate to be tried next */
    size_t placed;         /* what led here; meaningless in the first frame */
    size_t first;          /* no known operation before it is open */
    uint64_t first_return; /* among the open known ones */
};

struct search {
    struct sorted *ops; /* the known ones by call, then the others by call */
    size_t count, known, known_open;
    uint64_t *done; /* bits; one word more for remember */
    struct values values;
    struct memory memory;
    struct frame *stack;
    size_t depth;
};

static int compare_ops(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;
    bool xn = x->op.returned == LINEAR_NEVER, yn = y->op.returned == LINEAR_NEVER;
    if (xn != yn)
        return xn - yn;
    if (x->op.called != y->op.called)
        return x->op.called < y->op.called ? -1 : 1;
    return x->origin < y->origin ? -1 : x->origin > y->origin;
}

static bool is_done(const struct search *s, size_t i)
{
    return s->done[i / 64] >> (i % 64) & 1;
}

static void enter(struct search *s, uint32_t state, size_t placed, size_t first)
{
    struct frame *f = &s->stack[s->depth++];
    while (first < s->known && is_done(s, first))
        first++;
    *f = (struct frame){state, first, placed, first, UINT64_MAX};
    for (size_t i = first; i < s->known && s->ops[i].op.called <= f->first_return; i++)
        if (!is_done(s, i) && s->ops[i].op.returned < f->first_return)
            f->first_return = s->ops[i].op.returned;
}

/* Places one more operation if any fits. */
static bool step(struct search *s)
{
    struct frame *f = &s->stack[s->depth - 1];
    while (f->next < s->count) {
        size_t i = f->next++;
        if (is_done(s, i))
            continue;
        if (s->ops[i].op.called > f->first_return) {
            if (i >= s->known)
                return false;
            f->next = s->known;
            continue;
        }
        uint32_t state = take_effect(&s->values, f->state, &s->ops[i].op);
        if (state == ILLEGAL || (i >= s->known && state == f->state))
            continue; /* an unknown one that changes nothing is as good as none */
        s->done[i / 64] |= (uint64_t)1 << (i % 64);
        if (remember(&s->memory, s->done, state)) {
            s->known_open -= i < s->known;
            enter(s, state, i, f->first);
            return true;
        }
        s->done[i / 64] &= ~((uint64_t)1 << (i % 64));
    }
    return false;
}

static void leave(struct search *s)
{
    size_t i = s->stack[--s->depth].placed;
    if (s->depth == 0)
        return;
    s->done[i / 64] &= ~((uint64_t)1 << (i % 64));
    s->known_open += i < s->known;
}

/* The open operation that returned first: it cannot be placed, and all others must wait for it. */
static size_t find_stuck(const struct search *s)
{
    const struct frame *f = &s->stack[s->depth - 1];
    for (size_t i = f->first; i < s->known; i++)
        if (!is_done(s, i) && s->ops[i].op.returned == f->first_return)
            return s->ops[i].origin;
    return 0;
}

static void run(struct search *s, size_t budget, struct linear_report *report)
{
    enter(s, ABSENT, 0, 0);
    while (s->depth && s->known_open && report->steps < budget) {
        if (step(s)) {
            report->steps++;
            continue;
        }
        size_t explained = s->known - s->known_open;
        if (explained >= report->deepest) {
            report->deepest = explained;
            report->stuck = find_stuck(s);
        }
        leave(s);
    }
    report->verdict = s->known_open == 0 ? LINEAR_GOOD : s->depth ? LINEAR_UNDECIDED : LINEAR_BAD;
}

/* A plain write whose value nobody saw, on a key that has only plain reads and writes: if it took effect, then something
 * else was written before anybody looked, and all is explained without it as well. */
static bool is_unseen(const struct linear_op *ops, size_t count, const struct linear_op *write)
{
    if (write->kind != LINEAR_SET)
        return false;
    for (size_t i = 0; i < count; i++) {
        bool sees = ops[i].kind == LINEAR_GET || ops[i].kind == LINEAR_GETSET;
        if (!sees && ops[i].kind != LINEAR_SET)
            return false;
        if (sees && ops[i].returned != LINEAR_NEVER && !ops[i].nil &&
            kith_slice_equal(ops[i].result, write->argument))
            return false;
    }
    return true;
}

void linear_check(const struct linear_op *ops, size_t count, size_t budget, struct linear_report *report)
{
    struct search s = {0};
    *report = (struct linear_report){0};
    s.ops = room(count * sizeof *s.ops);
    for (size_t i = 0; i < count; i++) {
        if (ops[i].returned == LINEAR_NEVER && (ops[i].kind == LINEAR_GET || is_unseen(ops, count, &ops[i])))
            continue;
        s.ops[s.count++] = (struct sorted){ops[i], i};
        s.known += ops[i].returned != LINEAR_NEVER;
    }
    qsort(s.ops, s.count, sizeof *s.ops, compare_ops);
    s.known_open = s.known;
    s.memory.width = s.count / 64 + 2;
    s.done = room(s.memory.width * sizeof *s.done);
    s.stack = room((s.count + 1) * sizeof *s.stack);
    values_grow(&s.values);
    run(&s, budget, report);
    values_close(&s.values);
    free(s.memory.slots);
    free(s.stack);
    free(s.done);
    free(s.ops);
}

void linear_print(const struct linear_op *op, char *out, size_t size)
{
    static const char *const names[] = {"GET", "SET", "SETNX", "GETSET", "DEL", "APPEND", "INCR"};
    char returned[24] = "never", result[80] = "";
    if (op->returned != LINEAR_NEVER) {
        snprintf(returned, sizeof returned, "%" PRIu64, op->returned);
        if (op->nil)
            snprintf(result, sizeof result, " -> nil");
        else if (op->kind == LINEAR_GET || op->kind == LINEAR_GETSET)
            snprintf(result, sizeof result, " -> \"%.*s\"", (int)op->result.length, op->result.data);
        else if (op->kind != LINEAR_SET)
            snprintf(result, sizeof result, " -> %" PRId64, op->number);
    }
    snprintf(out, size, "[%" PRIu64 ", %s] client %u: %s %.*s%s", op->called, returned, op->client,
             names[op->kind], (int)op->argument.length, op->argument.data ? op->argument.data : "", result);
}
