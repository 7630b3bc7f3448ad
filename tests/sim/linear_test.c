/* The checker of histories: what can be explained is, what cannot is found, and both agree with a search that tries
 * every order. */
#include "linear.h"

#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define NEVER   LINEAR_NEVER
#define S(text) KITH_SLICE(text)

static enum linear_verdict check(const struct linear_op *ops, size_t count)
{
    struct linear_report report;
    linear_check(ops, count, 1000000, &report);
    return report.verdict;
}

#define CHECK(...)                                                                                           \
    check((struct linear_op[]){__VA_ARGS__},                                                                 \
          sizeof((struct linear_op[]){__VA_ARGS__}) / sizeof(struct linear_op))

static struct linear_op set(uint64_t called, uint64_t returned, struct kith_slice value)
{
    return (struct linear_op){.kind = LINEAR_SET, .called = called, .returned = returned, .argument = value};
}

static struct linear_op get(uint64_t called, uint64_t returned, struct kith_slice value)
{
    return (struct linear_op){.kind = LINEAR_GET, .called = called, .returned = returned, .result = value};
}

static struct linear_op get_nil(uint64_t called, uint64_t returned)
{
    return (struct linear_op){.kind = LINEAR_GET, .called = called, .returned = returned, .nil = true};
}

static struct linear_op number(enum linear_kind kind, uint64_t called, uint64_t returned,
                               struct kith_slice argument, int64_t result)
{
    return (struct linear_op){
        .kind = kind, .called = called, .returned = returned, .argument = argument, .number = result};
}

static void what_happens_one_after_the_other_must_fit(void **state)
{
    assert_int_equal(CHECK(set(1, 2, S("a")), get(3, 4, S("a"))), LINEAR_GOOD);
    assert_int_equal(CHECK(set(1, 2, S("a")), set(3, 4, S("b")), get(5, 6, S("a"))), LINEAR_BAD);
    assert_int_equal(CHECK(set(1, 2, S("a")), get_nil(3, 4)), LINEAR_BAD);
    assert_int_equal(CHECK(get_nil(1, 2), set(3, 4, S("a"))), LINEAR_GOOD);
    assert_int_equal(CHECK(get(1, 2, S("a")), set(3, 4, S("a"))),
                     LINEAR_BAD); /* read before it was written */
}

static void what_overlaps_may_have_either_order(void **state)
{
    assert_int_equal(CHECK(set(1, 5, S("a")), get_nil(2, 3), get(4, 6, S("a"))), LINEAR_GOOD);
    assert_int_equal(CHECK(set(1, 9, S("a")), get(2, 3, S("a")), get_nil(4, 5)),
                     LINEAR_BAD); /* back in time */
    assert_int_equal(CHECK(set(1, 9, S("a")), set(2, 8, S("b")), get(10, 11, S("a")), get(12, 13, S("a"))),
                     LINEAR_GOOD);
    assert_int_equal(CHECK(set(1, 9, S("a")), set(2, 8, S("b")), get(10, 11, S("a")), get(12, 13, S("b"))),
                     LINEAR_BAD);
}

static void an_unknown_outcome_may_take_effect_late_or_never(void **state)
{
    assert_int_equal(CHECK(set(1, 2, S("a")), set(3, NEVER, S("b")), get(4, 5, S("a")), get(6, 7, S("b"))),
                     LINEAR_GOOD);
    assert_int_equal(CHECK(set(1, 2, S("a")), set(3, NEVER, S("b")), get(4, 5, S("a")), get(6, 7, S("a"))),
                     LINEAR_GOOD);
    assert_int_equal(CHECK(set(1, 2, S("a")), set(3, NEVER, S("b")), get(4, 5, S("b")), get(6, 7, S("a"))),
                     LINEAR_BAD); /* it took effect and was forgotten */
    assert_int_equal(CHECK(set(1, 2, S("a")), get(3, 4, S("b")), set(5, NEVER, S("b"))), LINEAR_BAD);
    /* the same unknown write twice */
    assert_int_equal(CHECK(number(LINEAR_INCR, 1, NEVER, S(""), 0), number(LINEAR_INCR, 2, 3, S(""), 3)),
                     LINEAR_BAD);
    assert_int_equal(CHECK(number(LINEAR_INCR, 1, NEVER, S(""), 0), number(LINEAR_INCR, 2, 3, S(""), 2)),
                     LINEAR_GOOD);
}

static void each_kind_of_operation_is_known(void **state)
{
    struct linear_op swap = {
        .kind = LINEAR_GETSET, .called = 3, .returned = 4, .argument = S("b"), .result = S("a")};
    assert_int_equal(CHECK(set(1, 2, S("a")), swap, get(5, 6, S("b"))), LINEAR_GOOD);
    swap.result = S("x");
    assert_int_equal(CHECK(set(1, 2, S("a")), swap, get(5, 6, S("b"))), LINEAR_BAD);
    assert_int_equal(CHECK(number(LINEAR_SETNX, 1, 2, S("a"), 1), number(LINEAR_SETNX, 3, 4, S("b"), 0),
                           get(5, 6, S("a"))),
                     LINEAR_GOOD);
    assert_int_equal(CHECK(number(LINEAR_SETNX, 1, 9, S("a"), 1), number(LINEAR_SETNX, 2, 8, S("b"), 1)),
                     LINEAR_BAD); /* two won */
    assert_int_equal(CHECK(set(1, 2, S("a")), number(LINEAR_DEL, 3, 4, S(""), 1), get_nil(5, 6)),
                     LINEAR_GOOD);
    assert_int_equal(CHECK(set(1, 2, S("a")), number(LINEAR_DEL, 3, 4, S(""), 0)), LINEAR_BAD);
    assert_int_equal(CHECK(number(LINEAR_APPEND, 1, 9, S("ab"), 2), number(LINEAR_APPEND, 2, 8, S("cd"), 4),
                           get(10, 11, S("abcd"))),
                     LINEAR_GOOD);
    assert_int_equal(CHECK(number(LINEAR_APPEND, 1, 9, S("ab"), 2), number(LINEAR_APPEND, 2, 8, S("cd"), 4),
                           get(10, 11, S("cdab"))),
                     LINEAR_BAD);
    assert_int_equal(CHECK(number(LINEAR_INCR, 1, 2, S(""), 1), number(LINEAR_INCR, 3, 4, S(""), 1)),
                     LINEAR_BAD);
}

static void a_failure_names_what_could_not_be_placed(void **state)
{
    struct linear_op ops[] = {set(1, 2, S("a")), set(3, 4, S("b")), get(5, 6, S("a")), set(7, 8, S("c"))};
    struct linear_report report;
    char line[200];
    linear_check(ops, 4, 1000, &report);
    assert_int_equal(report.verdict, LINEAR_BAD);
    assert_int_equal(report.stuck, 2);
    assert_int_equal(report.deepest, 2);
    linear_print(&ops[2], line, sizeof line);
    assert_string_equal(line, "[5, 6] client 0: GET  -> \"a\"");
}

/* --- beside a search that tries all orders --- */

struct naive {
    const struct linear_op *ops;
    size_t count;
    bool done[8];
};

static bool naive_step(struct naive *n, char value, int64_t number)
{
    bool all = true;
    for (size_t i = 0; i < n->count; i++)
        all &= n->done[i] || n->ops[i].returned == NEVER;
    if (all)
        return true;
    for (size_t i = 0; i < n->count; i++) {
        const struct linear_op *op = &n->ops[i];
        bool known = op->returned != NEVER, fits = !n->done[i];
        for (size_t k = 0; k < n->count; k++)
            fits &= n->done[k] || n->ops[k].returned >= op->called;
        char v = value;
        int64_t x = number;
        if (op->kind == LINEAR_SET)
            v = op->argument.data[0];
        else if (op->kind == LINEAR_GET && known)
            fits &= op->nil ? value == 0 : value && op->result.data[0] == value;
        else if (op->kind == LINEAR_SETNX) {
            fits &= !known || op->number == (value == 0);
            v = value ? value : op->argument.data[0];
        } else if (op->kind == LINEAR_DEL) {
            fits &= !known || op->number == (value != 0);
            v = 0;
        }
        if (!fits)
            continue;
        n->done[i] = true;
        bool good = naive_step(n, v, x);
        n->done[i] = false;
        if (good)
            return true;
    }
    return false;
}

static struct linear_op random_op(struct kith_rng *rng)
{
    static const char letters[] = "abc";
    static const enum linear_kind kinds[] = {LINEAR_GET, LINEAR_GET, LINEAR_SET, LINEAR_SETNX, LINEAR_DEL};
    struct linear_op op = {.kind = kinds[kith_rng_below(rng, 5)], .called = 1 + kith_rng_below(rng, 12)};
    op.returned = kith_rng_below(rng, 4) == 0 ? NEVER : op.called + 1 + kith_rng_below(rng, 6);
    op.argument = kith_slice(&letters[kith_rng_below(rng, 3)], 1);
    op.result = kith_slice(&letters[kith_rng_below(rng, 3)], 1);
    op.nil = op.kind == LINEAR_GET && kith_rng_below(rng, 4) == 0;
    op.number = (int64_t)kith_rng_below(rng, 2);
    return op;
}

static void random_histories_get_the_verdict_of_a_search_that_tries_everything(void **state)
{
    struct kith_rng rng;
    size_t good = 0, runs = 40000;
    kith_rng_seed(&rng, 20);
    for (size_t i = 0; i < runs; i++) {
        struct linear_op ops[6];
        size_t count = 1 + kith_rng_below(&rng, 6);
        for (size_t k = 0; k < count; k++)
            ops[k] = random_op(&rng);
        struct naive naive = {.ops = ops, .count = count};
        bool expected = naive_step(&naive, 0, 0);
        good += expected;
        if (check(ops, count) != (expected ? LINEAR_GOOD : LINEAR_BAD))
            fail_msg("history %zu: expected %s", i, expected ? "good" : "bad");
    }
    print_message("%zu of %zu histories are linearizable\n", good, runs);
    assert_in_range(good, runs / 10, runs * 9 / 10);
}

/* A long history of many clients that a real register made; then one read is changed to something old. */
static void long_histories_with_many_unknown_outcomes_are_decided(void **state)
{
    enum { CLIENTS = 8, OPS = 600 };
    static char values[OPS][8];
    static struct linear_op ops[OPS];
    struct kith_rng rng;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        kith_rng_seed(&rng, seed);
        struct kith_slice value = {0}, old = {0};
        uint64_t clock = 1, busy_until[CLIENTS] = {0};
        size_t last_read = 0;
        for (size_t i = 0; i < OPS; i++) {
            uint32_t client = (uint32_t)(i % CLIENTS);
            uint64_t effect = clock += 10;
            snprintf(values[i], sizeof values[i], "v%zu", i);
            bool read = kith_rng_below(&rng, 2), lost = kith_rng_below(&rng, 12) == 0;
            uint64_t called = effect - kith_rng_below(&rng, 40 < effect ? 40 : effect);
            if (called <= busy_until[client])
                called = busy_until[client] + 1;
            if (called > effect)
                called = effect;
            ops[i] = (struct linear_op){.kind = read ? LINEAR_GET : LINEAR_SET,
                                        .client = client,
                                        .called = called,
                                        .returned = lost ? NEVER : effect + kith_rng_below(&rng, 40),
                                        .argument = kith_slice(values[i], strlen(values[i])),
                                        .result = value,
                                        .nil = !value.data};
            if (!read && (!lost || kith_rng_below(&rng, 2))) {
                value = ops[i].argument;
                if (i > OPS / 3 && !lost && !old.data)
                    old = value;
            }
            if (read && !lost)
                last_read = i;
            busy_until[client] = lost ? effect : ops[i].returned;
        }
        assert_int_equal(check(ops, OPS), LINEAR_GOOD);
        ops[last_read].result = old;
        ops[last_read].nil = false;
        assert_int_equal(check(ops, OPS), LINEAR_BAD);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_happens_one_after_the_other_must_fit),
        cmocka_unit_test(what_overlaps_may_have_either_order),
        cmocka_unit_test(an_unknown_outcome_may_take_effect_late_or_never),
        cmocka_unit_test(each_kind_of_operation_is_known),
        cmocka_unit_test(a_failure_names_what_could_not_be_placed),
        cmocka_unit_test(random_histories_get_the_verdict_of_a_search_that_tries_everything),
        cmocka_unit_test(long_histories_with_many_unknown_outcomes_are_decided),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
