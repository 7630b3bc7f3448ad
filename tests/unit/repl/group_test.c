/* Groups of several nodes: what one entry, one loss, one restart does. */
#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "group.h"

struct result {
    int runs, status;
};

static void note(void *context, int status)
{
    struct result *r = context;
    r->runs++;
    r->status = status;
}

static int submit(struct group *g, int place, const char *text, struct result *r)
{
    struct kith_buf payload = {0};
    kith_buf_append_text(&payload, text);
    int status = kith_node_submit(g->member[place].node, &payload, NULL, note, r);
    kith_buf_fini(&payload);
    return status;
}

static void submit_many(struct group *g, int place, int from, int to, struct result *r)
{
    for (int i = from; i < to; i++) {
        char text[64];
        snprintf(text, sizeof text, "entry %d of a test", i);
        assert_int_equal(submit(g, place, text, r), KITH_OK);
    }
}

static void expect_same_content(struct group *g, size_t count)
{
    const struct tiny *first = NULL;
    for (int i = 0; i < g->count; i++) {
        const struct tiny *t = &g->member[i].machine;
        if (!g->member[i].node)
            continue;
        assert_int_equal(t->count, count);
        if (first)
            assert_true(t->all.length == first->all.length &&
                        !memcmp(t->all.data, first->all.data, t->all.length));
        first = t;
    }
}

static void what_the_leader_takes_is_applied_by_all(void **state)
{
    struct group g = {0};
    struct result r = {0};
    group_open(&g, 3);
    assert_int_equal(group_leader(&g), 0);
    submit_many(&g, 0, 0, 500, &r);
    assert_int_equal(r.runs, 0); /* not before a majority has it on its disks */
    group_run(&g, 100);
    assert_int_equal(r.runs, 500);
    assert_int_equal(r.status, KITH_OK);
    expect_same_content(&g, 500);
    const char *address;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(kith_node_leader(g.member[i].node, &address), g.member[0].id);
        assert_string_equal(address, "n0:1");
    }
    group_close(&g);
}

static void a_minority_acknowledges_nothing(void **state)
{
    struct group g = {0};
    struct result r = {0};
    group_open(&g, 3);
    g.member[1].disk_stands = g.member[2].disk_stands = true;
    submit_many(&g, 0, 0, 1, &r);
    group_run(&g, 100);
    assert_int_equal(r.runs, 0); /* two have it, none of them on the disk */
    g.member[2].disk_stands = false;
    group_run(&g, 100);
    assert_int_equal(r.runs, 1);
    assert_int_equal(r.status, KITH_OK);
    group_close(&g);
}

static void a_lost_leader_is_followed_by_another_with_all_that_was_acknowledged(void **state)
{
    struct group g = {0};
    struct result r = {0};
    group_open(&g, 3);
    submit_many(&g, 0, 0, 100, &r);
    group_run(&g, 100);
    assert_int_equal(r.runs, 100);
    group_stop(&g, 0);
    group_run(&g, 3000);
    int leader = group_leader(&g);
    assert_true(leader > 0);
    submit_many(&g, leader, 100, 200, &r);
    group_run(&g, 200);
    assert_int_equal(r.runs, 200);
    expect_same_content(&g, 200);
    group_start(&g, 0, 0); /* comes back as a follower, and catches up */
    group_run(&g, 1000);
    expect_same_content(&g, 200);
    assert_true(group_leader(&g) > 0);
    group_close(&g);
}

static void what_a_cut_off_leader_took_is_taken_back_and_its_outcome_reported_as_unknown(void **state)
{
    struct group g = {0};
    struct result lost = {0}, r = {0};
    group_open(&g, 3);
    for (int i = 1; i < 3; i++)
        g.cut[0][i] = g.cut[i][0] = true;
    submit_many(&g, 0, 0, 20, &lost);
    group_run(&g, 3000);
    int leader = group_leader(&g);
    assert_true(leader > 0);
    /* without a majority for too long */
    assert_int_not_equal(kith_node_role(g.member[0].node), KITH_CORE_LEADER);
    submit_many(&g, leader, 100, 110, &r);
    group_run(&g, 500);
    assert_int_equal(r.runs, 10);
    memset(g.cut, 0, sizeof g.cut);
    group_run(&g, 2000);
    assert_int_equal(lost.runs, 20);
    assert_int_equal(lost.status, KITH_EUNKNOWN);
    expect_same_content(&g, 10);
    for (int i = 0; i < 3; i++) { /* the truncation holds over a restart too */
        group_stop(&g, i);
        group_start(&g, i, 0);
        group_run(&g, 2000);
        expect_same_content(&g, 10);
    }
    group_close(&g);
}

static void all_at_once_may_stop_and_start(void **state)
{
    struct group g = {0};
    struct result r = {0};
    group_open(&g, 3);
    submit_many(&g, 0, 0, 300, &r);
    group_run(&g, 100);
    assert_int_equal(r.runs, 300);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 3; i++)
            group_stop(&g, i);
        for (int i = 0; i < 3; i++) {
            group_start(&g, i, 0);
            assert_int_equal(g.member[i].machine.count, 0); /* what is committed is for a leader to say */
        }
        group_run(&g, 3000);
        assert_true(group_leader(&g) >= 0);
        expect_same_content(&g, 300);
    }
    group_close(&g);
}

static void a_leader_whose_disk_fails_is_dead_to_the_others(void **state)
{
    struct group g = {0};
    struct result r = {0}, bad = {0};
    group_open(&g, 3);
    submit_many(&g, 0, 0, 10, &r);
    group_run(&g, 100);
    crash_fs_fail_syncs(g.member[0].disk, KITH_EIO);
    submit_many(&g, 0, 10, 11, &bad);
    group_run(&g, 3000);
    assert_int_equal(bad.runs, 1);
    assert_int_equal(kith_node_role(g.member[0].node), KITH_CORE_FOLLOWER);
    assert_int_equal(kith_node_timeout_ms(g.member[0].node), -1);
    int leader = group_leader(&g);
    assert_true(leader > 0);
    submit_many(&g, leader, 11, 20, &r);
    group_run(&g, 200);
    assert_int_equal(r.runs, 19);
    group_close(&g);
}

static void silent(void *arg, enum kith_log_level level, const char *line)
{
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_leader_takes_is_applied_by_all),
        cmocka_unit_test(a_minority_acknowledges_nothing),
        cmocka_unit_test(a_lost_leader_is_followed_by_another_with_all_that_was_acknowledged),
        cmocka_unit_test(what_a_cut_off_leader_took_is_taken_back_and_its_outcome_reported_as_unknown),
        cmocka_unit_test(all_at_once_may_stop_and_start),
        cmocka_unit_test(a_leader_whose_disk_fails_is_dead_to_the_others),
    };
    kith_log_setup(KITH_LOG_INFO, silent, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
