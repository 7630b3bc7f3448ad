/* Members that are far behind: entries from the log's segments, and checkpoints from node to node. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "failing_malloc.h"
#include "group.h"
#include "outcomes.h"

/* Entries that no compression shortens. */
static void submit_many(struct group *g, int place, int count, size_t bytes)
{
    struct result r = {0};
    for (int i = 0; i < count; i++) {
        struct kith_buf payload = {0};
        for (size_t k = 0; k < bytes; k += 8) {
            uint64_t random = kith_rng_next(&g->rng);
            kith_buf_append(&payload, &random, sizeof random);
        }
        assert_int_equal(kith_node_submit(g->member[place].node, &payload, NULL, note, &r), KITH_OK);
    }
    for (int i = 0; i < 1000 && r.runs < count; i++)
        group_run(g, 10);
    assert_int_equal(r.runs, count);
    assert_int_equal(r.status, KITH_OK);
}

static void checkpoint(struct group *g, int place)
{
    struct result r = {0};
    assert_int_equal(kith_node_checkpoint(g->member[place].node, note, &r), KITH_OK);
    for (int i = 0; i < 1000 && !r.runs; i++)
        group_run(g, 5);
    group_run(g, 5);
    assert_int_equal(r.runs, 1);
    assert_int_equal(r.status, KITH_OK);
}

static struct kith_node_status status_of(const struct group *g, int place)
{
    struct kith_node_status s;
    kith_node_get_status(g->member[place].node, &s);
    return s;
}

static bool is_same_content(struct group *g)
{
    const struct tiny *first = NULL;
    for (int i = 0; i < g->count; i++) {
        const struct tiny *t = &g->member[i].machine;
        if (!g->member[i].node)
            continue;
        if (first && (t->count != first->count || t->all.length != first->all.length ||
                      memcmp(t->all.data, first->all.data, t->all.length) != 0))
            return false;
        first = t;
    }
    return true;
}

/* Milliseconds until all have the same. */
static uint64_t expect_same_content(struct group *g, uint64_t within_ms)
{
    uint64_t begin = g->now_ms;
    while (!is_same_content(g) && g->now_ms < begin + within_ms)
        group_run(g, 1);
    if (!is_same_content(g))
        for (int i = 0; i < g->count; i++)
            if (g->member[i].node)
                print_message("node %d: %zu entries, %s\n", i, g->member[i].machine.count,
                              kith_node_error(g->member[i].node));
    assert_true(is_same_content(g));
    return g->now_ms - begin;
}

static void open_group(struct group *g, int count, uint64_t keep_log_bytes)
{
    kith_rng_seed(&g->rng, 4711);
    if (!g->options.segment_bytes)
        g->options.segment_bytes = 64 << 10;
    g->options.checkpoint_log_bytes = UINT64_MAX;
    g->options.keep_log_bytes = keep_log_bytes;
    group_open(g, count);
    group_run(g, 100);
}

/* A member was away, and the others have forgotten what it lacks. */
static void open_group_with_one_behind(struct group *g, int entries, size_t bytes)
{
    g->options.segment_bytes = bytes > 5000 ? 2 << 20 : 32 << 10;
    open_group(g, 3, 1);
    submit_many(g, 0, 20, 100);
    group_stop(g, 2);
    submit_many(g, 0, entries, bytes);
    for (int i = 0; i < 2; i++)
        checkpoint(g, i);
    submit_many(g, 0, 10, 100);
    for (int i = 0; i < 2; i++) { /* so that it is not in memory either */
        group_stop(g, i);
        group_start(g, i, 0);
    }
    group_run(g, 2000);
    assert_true(group_leader(g) >= 0);
}

static void what_memory_let_go_comes_from_the_log_behind_a_checkpoint(void **state)
{
    struct group g = {0};
    open_group(&g, 3, 0);
    submit_many(&g, 0, 20, 100);
    group_stop(&g, 2);
    submit_many(&g, 0, 3000, 200);
    for (int i = 0; i < 2; i++) {
        checkpoint(&g, i);
        group_stop(&g, i);
        group_start(&g, i, 0);
    }
    group_run(&g, 2000);
    int leader = group_leader(&g);
    assert_true(leader >= 0);
    group_start(&g, 2, 0);
    uint64_t took = expect_same_content(&g, 5000);
    print_message("caught up in %d ms of the clock\n", (int)took);
    assert_int_equal(status_of(&g, leader).streams_sent, 0);
    submit_many(&g, leader, 50, 100);
    expect_same_content(&g, 500);
    group_close(&g);
}

static size_t bytes_to_the_member;

static bool counts_bytes(struct group *g, const struct group_frame *frame)
{
    bytes_to_the_member += frame->to == 2 ? frame->bytes.length : 0;
    return false;
}

static void entries_go_to_who_is_far_behind_in_rounds_with_rests(void **state)
{
    struct group g = {0};
    unsigned busy = 0, quiet = 0;
    g.options.segment_bytes = 2 << 20;
    open_group(&g, 3, UINT64_MAX);
    group_stop(&g, 2);
    submit_many(&g, 0, 100, 100000); /* 10 MB */
    for (int i = 0; i < 2; i++) {    /* so that it is not in memory */
        checkpoint(&g, i);
        group_stop(&g, i);
        group_start(&g, i, 0);
    }
    group_run(&g, 2000);
    g.drops = counts_bytes;
    group_start(&g, 2, 0);
    while (!is_same_content(&g) && busy + quiet < 2000) {
        bytes_to_the_member = 0;
        group_step(&g);
        assert_true(bytes_to_the_member < 1200000); /* half a megabyte, and what one read brought beyond it */
        busy += bytes_to_the_member > 10000;
        quiet += bytes_to_the_member <= 10000;
    }
    assert_true(is_same_content(&g));
    assert_true(busy >= 10 && quiet >= busy);
    group_close(&g);
}

static void writes_go_on_while_a_member_catches_up(void **state)
{
    struct group g = {0};
    open_group(&g, 3, 0);
    group_stop(&g, 2);
    submit_many(&g, 0, 3000, 300);
    for (int i = 0; i < 2; i++) {
        checkpoint(&g, i);
        group_stop(&g, i);
        group_start(&g, i, 0);
    }
    group_run(&g, 2000);
    int leader = group_leader(&g);
    group_start(&g, 2, 0);
    for (int i = 0; i < 200; i++)
        submit_many(&g, leader, 3, 300);
    expect_same_content(&g, 5000);
    assert_int_equal(group_leader(&g), leader);
    group_close(&g);
}

static void a_checkpoint_is_sent_when_the_log_has_forgotten(void **state)
{
    struct group g = {0};
    open_group_with_one_behind(&g, 500, 1000);
    int leader = group_leader(&g);
    group_start(&g, 2, 0);
    expect_same_content(&g, 8000);
    assert_int_equal(status_of(&g, leader).streams_sent, 1);
    assert_int_equal(status_of(&g, 2).streams_received, 1);
    assert_true(status_of(&g, 2).checkpoint_index > 500);
    submit_many(&g, leader, 50, 100);
    expect_same_content(&g, 500);
    for (int i = 0; i < 2; i++) { /* and it stays */
        group_stop(&g, 2);
        group_start(&g, 2, 0);
        assert_true(g.member[2].machine.count >= 520);
        group_run(&g, 1000);
        expect_same_content(&g, 1000);
    }
    assert_int_equal(group_leader(&g), leader);
    group_close(&g);
}

static void a_new_member_gets_what_the_group_has(void **state)
{
    struct group g = {0};
    open_group(&g, 1, 1);
    submit_many(&g, 0, 2000, 1000);
    checkpoint(&g, 0);
    submit_many(&g, 0, 30, 100);
    for (int i = 1; i < 3; i++) {
        group_start(&g, i, kith_node_group_id(g.member[0].node));
        group_configure(&g, i + 1);
        expect_same_content(&g, 15000);
    }
    assert_int_equal(status_of(&g, 0).streams_sent, 2);
    submit_many(&g, 0, 50, 100);
    expect_same_content(&g, 500);
    group_close(&g);
}

static void a_broken_connection_goes_on_where_it_ended(void **state)
{
    struct group g = {0};
    open_group_with_one_behind(&g, 300, 40000); /* 12 MB */
    int leader = group_leader(&g);
    g.options.stream_bytes_per_s = 0;
    group_start(&g, 2, 0);
    uint64_t received = 0;
    for (int breaks = 0; breaks < 4 && !is_same_content(&g); breaks++) {
        while (status_of(&g, 2).stream_bytes_received < received + 2000000 && g.now_ms < 100000)
            group_run(&g, 1);
        g.cut[leader][2] = g.cut[2][leader] = true;
        group_run(&g, 40); /* shorter than an election */
        memset(g.cut, 0, sizeof g.cut);
        received = status_of(&g, 2).stream_bytes_received;
    }
    expect_same_content(&g, 30000);
    struct kith_node_status s = status_of(&g, leader);
    print_message("%llu bytes sent, %llu received, of a file of %llu\n",
                  (unsigned long long)s.stream_bytes_sent,
                  (unsigned long long)status_of(&g, 2).stream_bytes_received,
                  (unsigned long long)s.checkpoint_file_bytes);
    assert_int_equal(status_of(&g, 2).stream_bytes_received, s.checkpoint_file_bytes);
    assert_int_equal(s.streams_sent, 1);
    group_close(&g);
}

static void the_rate_is_kept(void **state)
{
    struct group g = {0};
    g.options.stream_bytes_per_s = 2 << 20;
    open_group_with_one_behind(&g, 200, 40000); /* 8 MB */
    group_start(&g, 2, 0);
    uint64_t took = expect_same_content(&g, 30000);
    print_message("%d ms\n", (int)took);
    assert_in_range(took, 3000, 8000);
    group_close(&g);
}

static void the_leader_stays_while_a_large_checkpoint_is_loaded(void **state)
{
    struct group g = {0};
    open_group_with_one_behind(&g, 300, 40000); /* 12 MB: many polls */
    int leader = group_leader(&g);
    uint64_t term = status_of(&g, leader).term;
    group_start(&g, 2, 0);
    bool loading = false;
    for (uint64_t end = g.now_ms + 30000; !is_same_content(&g) && g.now_ms < end;) {
        group_run(&g, 1);
        loading |= node_stream_is_loading(g.member[2].node);
    }
    assert_true(loading);
    expect_same_content(&g, 1);
    assert_int_equal(status_of(&g, leader).term, term);
    assert_int_equal(status_of(&g, 2).elections, 0);
    group_close(&g);
}

static void nothing_is_read_while_a_checkpoint_is_loaded(void **state)
{
    struct group g = {0};
    struct result r = {0};
    open_group_with_one_behind(&g, 300, 20000);
    group_start(&g, 2, 0);
    for (int ms = 0; ms < 20000 && !kith_node_is_loading(g.member[2].node); ms++)
        group_step(&g);
    assert_true(kith_node_is_loading(g.member[2].node));
    assert_int_equal(kith_node_lag_ms(g.member[2].node), -1);
    assert_int_equal(kith_node_read(g.member[2].node, note, &r), KITH_OK);
    int steps = 0;
    for (; kith_node_is_loading(g.member[2].node); steps++) {
        assert_int_equal(r.runs, 0);
        group_step(&g);
    }
    assert_true(steps > 5);
    group_run(&g, 200);
    assert_int_equal(r.runs, 1);
    assert_int_equal(r.status, KITH_OK);
    expect_same_content(&g, 1000);
    group_close(&g);
}

static void another_leader_goes_on_with_a_stream_of_its_own(void **state)
{
    struct group g = {0};
    open_group_with_one_behind(&g, 400, 40000);
    int leader = group_leader(&g);
    group_start(&g, 2, 0);
    while (status_of(&g, 2).stream_bytes_received < 3000000 && g.now_ms < 100000)
        group_run(&g, 1);
    group_stop(&g, leader);
    group_run(&g, 5000); /* the third may vote while it receives */
    int next = group_leader(&g);
    assert_int_equal(next, 1 - leader);
    expect_same_content(&g, 30000);
    group_start(&g, leader, 0);
    group_run(&g, 1000);
    submit_many(&g, group_leader(&g), 10, 100);
    expect_same_content(&g, 2000);
    group_close(&g);
}

/* The file of the leader is damaged, before it is summed or behind that: the member takes nothing of it. */
static void a_damaged_checkpoint_is_not_taken(void **state)
{
    struct group g = {0};
    open_group_with_one_behind(&g, 300, 1000);
    int leader = group_leader(&g);
    const char *path = crash_fs_find(g.member[leader].disk, "/d/checkpoint-", 0);
    assert_true(crash_fs_flip(g.member[leader].disk, path, 100000, 1));
    group_start(&g, 2, 0);
    size_t before = g.member[2].machine.count;
    group_run(&g, 5000);
    assert_int_equal(g.member[2].machine.count, before);
    assert_int_equal(status_of(&g, 2).streams_received, 0);
    assert_string_equal(kith_node_error(g.member[2].node), "");
    assert_null(crash_fs_find(g.member[2].disk, "/d/received-", 0));
    assert_null(crash_fs_find(g.member[2].disk, "/d/incoming-", 0));
    checkpoint(&g, leader); /* a sound one */
    expect_same_content(&g, 30000);
    group_close(&g);
}

/* What a start finds on the member's disk at any moment of it all: the old state or the new one. */
static void the_power_may_fail_at_any_moment_of_an_installation(void **state)
{
    struct group g = {0};
    open_group_with_one_behind(&g, 200, 400);
    struct group_member *m = &g.member[2];
    group_start(&g, 2, 0);
    expect_same_content(&g, 8000);
    submit_many(&g, group_leader(&g), 20, 100);
    expect_same_content(&g, 500);
    uint64_t id = m->id;
    struct kith_buf all = {0};
    kith_buf_append(&all, m->machine.all.data, m->machine.all.length);
    group_stop(&g, 2);
    struct crash_replay *replay = crash_replay_open(m->disk);
    size_t starts = 0, installed = 0;
    for (uint64_t at = 1; crash_replay_step(replay); at++) {
        struct kith_rng rng;
        kith_rng_seed(&rng, at);
        for (int kind = CRASH_PREFIX; kind <= CRASH_BARE; kind++) {
            struct group lone = {.now_ms = 1000, .options = g.options};
            struct kith_error error = {""};
            lone.member[0].disk = crash_replay_crash(replay, (enum crash_kind)kind, &rng);
            int status = group_try_start(&lone, 0, kith_node_group_id(g.member[0].node), &error);
            if (status != KITH_OK)
                fail_msg("operation %d, kind %d: %s", (int)at, kind, error.text);
            struct tiny *t = &lone.member[0].machine;
            group_run(&lone, 20);
            assert_true(t->all.length <= all.length &&
                        (!t->all.length || !memcmp(t->all.data, all.data, t->all.length)));
            starts += lone.member[0].id == id;
            installed += status_of(&lone, 0).checkpoint_index > 0;
            group_close(&lone);
        }
    }
    print_message("%zu starts, %zu of them with the leader's checkpoint\n", starts, installed);
    assert_true(installed > 50 && starts > installed + 50);
    crash_replay_close(replay);
    kith_buf_fini(&all);
    group_close(&g);
}

/* Stops the member at random moments of it all, and starts it again; likewise the leader. */
static void stops_at_any_moment_do_no_harm(void **state)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct group g = {0};
        struct kith_rng rng;
        kith_rng_seed(&rng, seed);
        open_group_with_one_behind(&g, 200, 8000);
        for (int i = 0; i < 12; i++) {
            int victim = (int)kith_rng_below(&rng, 3);
            if (!g.member[2].node)
                victim = 2;
            group_stop(&g, victim);
            group_run(&g, kith_rng_below(&rng, 100));
            group_start(&g, victim, 0);
            group_run(&g, kith_rng_below(&rng, i % 2 ? 2000 : 100));
        }
        expect_same_content(&g, 40000);
        group_close(&g);
    }
}

static void each_failed_allocation_costs_no_more_than_time(void **state)
{
    struct raft_heap heap = wrapped_heap();
    bool failed = true;
    raft_heap_set(&heap);
    for (int n = 0; failed; n += 7) {
        struct group g = {0};
        open_group_with_one_behind(&g, 30, 1000);
        group_start(&g, 2, 0);
        failing_malloc_arm(n);
        group_run(&g, 400);
        failed = failing_malloc_disarm();
        for (int i = 0; i < 3; i++)
            if (*kith_node_error(g.member[i].node)) {
                group_stop(&g, i);
                group_start(&g, i, 0);
            }
        expect_same_content(&g, 40000);
        group_close(&g);
    }
    raft_heap_set_default();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_memory_let_go_comes_from_the_log_behind_a_checkpoint),
        cmocka_unit_test(entries_go_to_who_is_far_behind_in_rounds_with_rests),
        cmocka_unit_test(writes_go_on_while_a_member_catches_up),
        cmocka_unit_test(a_checkpoint_is_sent_when_the_log_has_forgotten),
        cmocka_unit_test(a_new_member_gets_what_the_group_has),
        cmocka_unit_test(a_broken_connection_goes_on_where_it_ended),
        cmocka_unit_test(the_rate_is_kept),
        cmocka_unit_test(the_leader_stays_while_a_large_checkpoint_is_loaded),
        cmocka_unit_test(nothing_is_read_while_a_checkpoint_is_loaded),
        cmocka_unit_test(another_leader_goes_on_with_a_stream_of_its_own),
        cmocka_unit_test(a_damaged_checkpoint_is_not_taken),
        cmocka_unit_test(the_power_may_fail_at_any_moment_of_an_installation),
        cmocka_unit_test(stops_at_any_moment_do_no_harm),
        cmocka_unit_test(each_failed_allocation_costs_no_more_than_time),
    };
    kith_log_setup(KITH_LOG_INFO, silent, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
