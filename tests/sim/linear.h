/* Whether a history of one key can be explained: is there an order of its operations that respects real time (what
 * returned before another was called comes first) and in which each result is the right one?
 *
 * An operation that never returned may take effect at any time after its call, or never. Search of Wing & Gong (1993)
 * with the memory of configurations of Lowe (2017): what was tried once, the same set of operations done and the same
 * value, is not tried again. */
#ifndef TESTS_SIM_LINEAR_H
#define TESTS_SIM_LINEAR_H

#include "base/slice.h"

#include <stdint.h>

enum linear_kind {
    LINEAR_GET,    /* result: the value */
    LINEAR_SET,    /* no result */
    LINEAR_SETNX,  /* number: 1 set, 0 there was a value */
    LINEAR_GETSET, /* result: the value before */
    LINEAR_DEL,    /* number: values removed */
    LINEAR_APPEND, /* number: the length after */
    LINEAR_INCR,   /* by 1; number: the value after. The values of such a key are numbers */
};

#define LINEAR_NEVER UINT64_MAX

struct linear_op {
    enum linear_kind kind;
    uint32_t client;                    /* for people */
    uint64_t called, returned;          /* on one clock; LINEAR_NEVER: the outcome is not known */
    struct kith_slice argument, result; /* borrowed */
    bool nil;                           /* the result is no value */
    int64_t number;
};

enum linear_verdict { LINEAR_GOOD, LINEAR_BAD, LINEAR_UNDECIDED };

struct linear_report {
    enum linear_verdict verdict;
    size_t steps;   /* configurations looked at */
    size_t deepest; /* the longest explained run */
    size_t stuck;   /* BAD: the operation (an index into ops) that could not be placed behind it */
};

/* `ops` in any order; the key has no value at first. Gives up (UNDECIDED) after `budget` configurations. Aborts when
 * memory is short: it is a test. */
void linear_check(const struct linear_op *ops, size_t count, size_t budget, struct linear_report *report);

/* One line about an operation, for people, into out[0..size). */
void linear_print(const struct linear_op *op, char *out, size_t size);

#endif
