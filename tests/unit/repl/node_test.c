/* The node over real files: open, submit, checkpoint, restart. */
#include "repl/node.h"

#include "crash_fs.h"
#include "failing_malloc.h"
#include "outcomes.h"
#include "tiny_machine.h"

#include <raft.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];

static void remove_folder(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0)
        fail();
}

static int setup(void **state)
{
    snprintf(folder, sizeof folder, "/tmp/kith-node-test.XXXXXX");
    assert_non_null(mkdtemp(folder));
    return 0;
}

static int teardown(void **state)
{
    remove_folder();
    return 0;
}

static atomic_int wakes;

static void count_wake(void *context)
{
    atomic_fetch_add(&wakes, 1);
}

static struct kith_node_options options_for(struct tiny *t, enum kith_durability durability)
{
    return (struct kith_node_options){.dir = folder,
                                      .durability = durability,
                                      .machine = tiny_machine(t),
                                      .wake = count_wake,
                                      .segment_bytes = 64 << 10};
}

static struct kith_node *open_node(struct tiny *t, const struct kith_node_options *options)
{
    struct kith_node *node;
    struct kith_error error = {""};
    int status = kith_node_open(&node, options, &error);
    if (status != KITH_OK)
        fail_msg("%s", error.text);
    return node;
}

static void submit_text(struct kith_node *node, const char *text, struct result *result)
{
    struct kith_buf payload = {0};
    kith_buf_append_text(&payload, text);
    assert_int_equal(kith_node_submit(node, &payload, NULL, note, result), KITH_OK);
    assert_null(payload.data);
}

static void wait_for(struct kith_node *node, const struct result *r, int runs)
{
    for (int i = 0; i < 20000 && r->runs < runs; i++) {
        kith_node_poll(node);
        if (r->runs < runs)
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    assert_int_equal(r->runs, runs);
}

static void submit_many(struct kith_node *node, int from, int to, struct result *r)
{
    for (int i = from; i < to; i++) {
        char text[64];
        snprintf(text, sizeof text, "entry %d of a test", i);
        submit_text(node, text, r);
    }
}

static void expect_content(const struct tiny *t, int count)
{
    struct kith_reader r = kith_reader(kith_buf_slice(&t->all));
    assert_int_equal(t->count, count);
    for (int i = 0; i < count; i++) {
        char text[64];
        int n = snprintf(text, sizeof text, "entry %d of a test", i);
        struct kith_slice s = kith_reader_slice(&r);
        assert_int_equal(s.length, n);
        assert_memory_equal(s.data, text, n);
    }
    assert_int_equal(r.length, 0);
}

static void what_was_acknowledged_is_there_after_a_restart(void **state)
{
    static const enum kith_durability modes[] = {KITH_DURABILITY_ALWAYS, KITH_DURABILITY_EVERYSEC,
                                                 KITH_DURABILITY_NONE};
    for (size_t m = 0; m < 3; m++) {
        for (int final_checkpoint = 0; final_checkpoint < 2; final_checkpoint++) {
            for (int restart = 0; restart < 4; restart++) {
                struct tiny t = {0};
                struct result r = {0};
                struct kith_node_options o = options_for(&t, modes[m]);
                o.no_final_checkpoint = !final_checkpoint;
                struct kith_node *node = open_node(&t, &o);
                expect_content(&t, restart * 3000);
                submit_many(node, restart * 3000, restart * 3000 + 3000, &r);
                if (modes[m] == KITH_DURABILITY_ALWAYS)
                    wait_for(node, &r, 3000);
                assert_int_equal(r.runs, 3000);
                assert_int_equal(r.status, 0);
                assert_int_equal(kith_node_close(node), KITH_OK);
                tiny_fini(&t);
            }
            remove_folder();
        }
    }
}

static void a_node_in_memory_takes_the_same_way_and_no_file(void **state)
{
    struct tiny t = {0};
    struct result r = {0};
    struct kith_node_options o = options_for(&t, KITH_DURABILITY_ALWAYS);
    o.dir = "";
    struct kith_node *node = open_node(&t, &o);
    submit_many(node, 0, 1000, &r);
    assert_int_equal(r.runs, 1000);
    expect_content(&t, 1000);
    assert_int_equal(kith_node_checkpoint(node, NULL, NULL), KITH_EPERM);
    kith_node_poll(node);
    assert_int_equal(kith_node_timeout_ms(node), -1);
    assert_int_equal(kith_node_close(node), KITH_OK);
    tiny_fini(&t);
}

static void a_checkpoint_lets_go_of_the_log_and_is_loaded_back(void **state)
{
    struct tiny t = {0};
    struct result r = {0}, saved = {0};
    struct kith_node_options o = options_for(&t, KITH_DURABILITY_NONE);
    o.no_final_checkpoint = true;
    struct kith_node *node = open_node(&t, &o);
    struct kith_node_status s;
    submit_many(node, 0, 50000, &r);
    assert_int_equal(kith_node_checkpoint(node, note, &saved), KITH_OK);
    assert_int_equal(kith_node_checkpoint(node, NULL, NULL), KITH_EBUSY);
    assert_true(kith_node_wants_poll(node));
    submit_many(node, 50000, 50100, &r); /* after the freeze */
    wait_for(node, &saved, 1);
    assert_int_equal(saved.status, KITH_OK);
    kith_node_get_status(node, &s);
    assert_int_equal(s.checkpoint_index, 50001);
    assert_true(s.log_bytes > 0 && s.log_bytes < 10000);
    assert_int_equal(kith_node_close(node), KITH_OK);
    tiny_fini(&t);

    node = open_node(&t, &o);
    expect_content(&t, 50100);
    kith_node_get_status(node, &s);
    assert_int_equal(s.recovery.entries, 100);
    assert_true(s.recovery.checkpoint_bytes > 50000);
    assert_int_equal(kith_node_close(node), KITH_OK);
    tiny_fini(&t);
}

static void a_long_log_makes_a_checkpoint_by_itself(void **state)
{
    struct tiny t = {0};
    struct result r = {0};
    struct kith_node_options o = options_for(&t, KITH_DURABILITY_NONE);
    o.checkpoint_log_bytes = 1 << 20;
    struct kith_node *node = open_node(&t, &o);
    struct kith_node_status s;
    submit_many(node, 0, 30000, &r);
    for (int i = 0; i < 20000; i++) {
        kith_node_poll(node);
        kith_node_get_status(node, &s);
        if (s.checkpoints_done)
            break;
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    assert_int_equal(s.checkpoints_done, 1);
    assert_int_equal(kith_node_close(node), KITH_OK);
    tiny_fini(&t);
}

static void a_second_server_is_kept_out(void **state)
{
    struct tiny t = {0}, u = {0};
    struct kith_node_options o = options_for(&t, KITH_DURABILITY_ALWAYS),
                             p = options_for(&u, KITH_DURABILITY_ALWAYS);
    struct kith_node *node = open_node(&t, &o), *second;
    struct kith_error error;
    assert_int_equal(kith_node_open(&second, &p, &error), KITH_EBUSY);
    assert_non_null(strstr(error.text, "another server"));
    assert_int_equal(kith_node_close(node), KITH_OK);
    tiny_fini(&t);
}

static void a_failing_machine_makes_the_node_read_only(void **state)
{
    struct tiny t = {0};
    struct result r = {0}, saved = {0};
    struct kith_node_options o = options_for(&t, KITH_DURABILITY_NONE);
    struct kith_node *node = open_node(&t, &o);
    struct kith_buf payload = {0};
    submit_text(node, "entry 0 of a test", &r);
    t.fail_step = KITH_EIO;
    assert_int_equal(kith_node_checkpoint(node, note, &saved), KITH_OK);
    wait_for(node, &saved, 1);
    assert_int_equal(saved.status, KITH_EIO);
    assert_int_equal(t.aborts, 1);
    assert_string_equal(kith_node_error(node), "");
    t.fail_apply = KITH_ENOMEM;
    submit_text(node, "entry 1 of a test", &r);
    assert_int_equal(r.status, KITH_ENOMEM);
    assert_string_not_equal(kith_node_error(node), "");
    assert_int_equal(kith_node_submit(node, &payload, NULL, note, &r), KITH_ENOMEM);
    assert_int_equal(kith_node_close(node), KITH_ENOMEM);
    tiny_fini(&t);
    node = open_node(&t, &o); /* it was in the log, and memory has room again */
    expect_content(&t, 2);
    assert_int_equal(kith_node_close(node), KITH_OK);
    tiny_fini(&t);
}

/* --- a disk that fails --- */

static struct kith_node_options options_on(struct crash_fs *disk, struct tiny *t,
                                           enum kith_durability durability)
{
    struct kith_node_options o = options_for(t, durability);
    o.dir = "/d";
    o.fs = crash_fs_table(disk);
    return o;
}

static void a_failed_sync_fails_what_waits_for_it_and_all_later_writes(void **state)
{
    struct crash_fs *disk = crash_fs_open();
    struct tiny t = {0};
    struct result good = {0}, bad = {0};
    struct kith_node_options o = options_on(disk, &t, KITH_DURABILITY_ALWAYS);
    o.no_final_checkpoint = true;
    struct kith_node *node = open_node(&t, &o);
    submit_many(node, 0, 5, &good);
    wait_for(node, &good, 5);
    crash_fs_fail_syncs(disk, KITH_EIO);
    submit_many(node, 5, 6, &bad);
    wait_for(node, &bad, 1);
    crash_fs_fail_syncs(disk, KITH_OK);
    assert_int_equal(bad.status, KITH_EIO);
    expect_content(&t, 5); /* what is not safe is not shown */
    assert_non_null(strstr(kith_node_error(node), "writes are refused until the server is started again"));
    struct kith_buf payload = {0};
    kith_buf_append_text(&payload, "x");
    assert_int_equal(kith_node_submit(node, &payload, NULL, note, &bad), KITH_EIO);
    assert_int_equal(payload.length, 1); /* still the caller's */
    kith_buf_fini(&payload);
    assert_int_equal(kith_node_close(node), KITH_EIO);
    tiny_fini(&t);
    node = open_node(&t, &o);
    assert_true(t.count >= 5 && t.count <= 6); /* of the last it is not known */
    assert_int_equal(kith_node_close(node), KITH_OK);
    tiny_fini(&t);
    crash_fs_close(disk);
}

static void a_full_disk_refuses_writes_with_a_cure_and_serves_on(void **state)
{
    for (int mode = KITH_DURABILITY_ALWAYS; mode <= KITH_DURABILITY_NONE; mode++) {
        struct crash_fs *disk = crash_fs_open();
        struct tiny t = {0};
        struct result r = {0};
        int accepted = 0, status = KITH_OK;
        struct kith_node_options o = options_on(disk, &t, (enum kith_durability)mode);
        o.no_final_checkpoint = true;
        crash_fs_set_capacity(disk, 300 << 10);
        struct kith_node *node = open_node(&t, &o);
        for (int i = 0; i < 100000 && status == KITH_OK; i++) {
            struct kith_buf payload = {0};
            kith_buf_append_format(&payload, "%1000d", i);
            status = kith_node_submit(node, &payload, NULL, note, &r);
            accepted += status == KITH_OK;
            kith_buf_fini(&payload);
            kith_node_poll(node);
        }
        assert_int_equal(status, KITH_ENOSPC);
        assert_int_equal(r.runs, accepted);
        assert_non_null(strstr(kith_node_error(node), "free some disk space"));
        crash_fs_set_capacity(disk, 0);
        if (mode != KITH_DURABILITY_ALWAYS) { /* what was acknowledged and not written can be saved */
            struct result saved = {0};
            assert_non_null(strstr(kith_node_error(node), "SAVE"));
            assert_int_equal(kith_node_checkpoint(node, note, &saved), KITH_OK);
            wait_for(node, &saved, 1);
            assert_int_equal(saved.status, KITH_OK);
        }
        assert_int_equal(kith_node_close(node), KITH_ENOSPC);
        size_t applied = t.count;
        tiny_fini(&t);
        node = open_node(&t, &o);
        assert_true(t.count >= applied);
        assert_int_equal(kith_node_close(node), KITH_OK);
        tiny_fini(&t);
        crash_fs_close(disk);
    }
}

/* With these modes nothing wakes the node after a submit: it must ask for the poll that starts a checkpoint. */
static void a_due_checkpoint_is_asked_for_when_nothing_else_wakes_the_node(void **state)
{
    for (int mode = KITH_DURABILITY_EVERYSEC; mode <= KITH_DURABILITY_NONE; mode++) {
        struct crash_fs *disk = crash_fs_open();
        struct tiny t = {0};
        struct result r = {0};
        struct kith_node_options o = options_on(disk, &t, (enum kith_durability)mode);
        struct kith_node_status status;
        o.checkpoint_log_bytes = 1 << 16;
        struct kith_node *node = open_node(&t, &o);
        for (int i = 0; i < 100; i++) {
            struct kith_buf payload = {0};
            kith_buf_append_format(&payload, "%1000d", i);
            assert_int_equal(kith_node_submit(node, &payload, NULL, note, &r), KITH_OK);
        }
        assert_true(kith_node_wants_poll(node));
        kith_node_poll(node);
        kith_node_get_status(node, &status);
        assert_true(status.checkpoint_running || status.checkpoints_done > 0);
        assert_int_equal(kith_node_close(node), KITH_OK);
        tiny_fini(&t);
        crash_fs_close(disk);
    }
}

static void a_checkpoint_that_fails_is_reported_and_the_log_goes_on(void **state)
{
    struct crash_fs *disk = crash_fs_open();
    struct tiny t = {0};
    struct kith_node_options o = options_on(disk, &t, KITH_DURABILITY_NONE);
    o.segment_bytes = 8 << 20; /* the log itself needs no further call that could fail */
    o.no_final_checkpoint = true;
    struct kith_node *node = open_node(&t, &o);
    struct result r = {0};
    struct kith_node_status s;
    submit_many(node, 0, 1000, &r);
    for (int failing = 0; failing < 3; failing++) {
        struct result saved = {0};
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        crash_fs_fail(disk, failing, KITH_ENOSPC, 1);
        assert_int_equal(kith_node_checkpoint(node, note, &saved), KITH_OK);
        wait_for(node, &saved, 1);
        assert_int_equal(saved.status, KITH_ENOSPC);
        kith_node_get_status(node, &s);
        assert_int_equal(s.last_checkpoint_status, KITH_ENOSPC);
        assert_false(s.checkpoint_running);
    }
    submit_many(node, 1000, 1010, &r);
    struct result saved = {0};
    assert_int_equal(kith_node_checkpoint(node, note, &saved), KITH_OK);
    wait_for(node, &saved, 1);
    assert_int_equal(saved.status, KITH_OK);
    assert_int_equal(kith_node_close(node), KITH_OK);
    tiny_fini(&t);
    node = open_node(&t, &o);
    expect_content(&t, 1010);
    assert_int_equal(kith_node_close(node), KITH_OK);
    tiny_fini(&t);
    crash_fs_close(disk);
}

static void durability_can_be_changed_while_entries_are_on_their_way(void **state)
{
    struct crash_fs *disk = crash_fs_open();
    struct tiny t = {0};
    struct result r = {0};
    struct kith_node_options o = options_on(disk, &t, KITH_DURABILITY_ALWAYS);
    struct kith_node *node = open_node(&t, &o);
    int count = 0;
    for (int i = 0; i < 60; i++) {
        kith_node_set_durability(node, (enum kith_durability)(i * 7 % 3));
        submit_many(node, count, count + 10, &r);
        count += 10;
        if (i % 4 == 0)
            kith_node_poll(node);
    }
    kith_node_set_durability(node, KITH_DURABILITY_NONE);
    do
        kith_node_poll(node);
    while (kith_node_wants_poll(node));
    assert_int_equal(r.runs, count);
    assert_int_equal(kith_node_close(node), KITH_OK);
    tiny_fini(&t);
    node = open_node(&t, &o);
    expect_content(&t, count);
    assert_int_equal(kith_node_close(node), KITH_OK);
    tiny_fini(&t);
    crash_fs_close(disk);
}

struct chain {
    struct kith_node *node;
    int left;
};

static void submit_again(void *context, int status)
{
    struct chain *c = context;
    struct kith_buf payload = {0};
    assert_int_equal(status, KITH_OK);
    if (c->left-- == 0)
        return;
    kith_buf_append_text(&payload, "again");
    assert_int_equal(kith_node_submit(c->node, &payload, NULL, submit_again, c), KITH_OK);
}

static void a_done_may_submit_without_end_of_stack(void **state)
{
    struct tiny t = {0};
    struct kith_node_options o = options_for(&t, KITH_DURABILITY_NONE);
    o.dir = NULL;
    struct chain c = {.node = open_node(&t, &o), .left = 200000};
    submit_again(&c, KITH_OK);
    assert_int_equal(t.count, 200000);
    assert_int_equal(kith_node_close(c.node), KITH_OK);
    tiny_fini(&t);
}

/* --- memory that fails --- */

/* Opens, submits, checkpoints, closes, twice; each step may say KITH_ENOMEM, and then the rest is left out. */
static void work_with_little_memory(const char *dir)
{
    struct crash_fs *disk = crash_fs_open();
    for (int run = 0; run < 2; run++) {
        struct tiny t = {0};
        struct result r = {0}, saved = {0};
        struct kith_node_options o = options_on(disk, &t, KITH_DURABILITY_EVERYSEC);
        struct kith_node *node = NULL;
        o.dir = dir;
        o.no_final_checkpoint = true;
        int status = kith_node_open(&node, &o, NULL);
        assert_true(status == KITH_OK || status == KITH_ENOMEM);
        if (status == KITH_OK) {
            struct kith_buf payload = {0};
            kith_buf_append_text(&payload, "something");
            if (!payload.failed)
                status = kith_node_submit(node, &payload, NULL, note, &r);
            assert_true(status == KITH_OK || status == KITH_ENOMEM);
            assert_int_equal(r.runs, status == KITH_OK && !payload.failed);
            kith_buf_fini(&payload);
            if (*dir && kith_node_checkpoint(node, note, &saved) == KITH_OK)
                wait_for(node, &saved, 1);
            status = kith_node_close(node);
            assert_true(status == KITH_OK || status == KITH_ENOMEM);
        }
        tiny_fini(&t);
    }
    crash_fs_close(disk);
}

static void a_manual_node_moves_only_when_it_is_run(void **state)
{
    struct crash_fs *disk = crash_fs_open();
    struct tiny t = {0};
    struct result r = {0}, saved = {0};
    struct kith_node_options o = options_on(disk, &t, KITH_DURABILITY_ALWAYS);
    o.manual = true;
    o.seed = 3;
    struct kith_node *node = open_node(&t, &o);
    submit_many(node, 0, 10, &r);
    kith_node_poll(node);
    assert_int_equal(r.runs, 0);
    assert_true(kith_node_run(node, KITH_NODE_LOG));
    assert_false(kith_node_run(node, KITH_NODE_LOG));
    kith_node_poll(node);
    assert_int_equal(r.runs, 10);
    assert_int_equal(kith_node_checkpoint(node, note, &saved), KITH_OK);
    for (int i = 0; i < 10; i++)
        kith_node_poll(node);
    assert_int_equal(saved.runs, 0);
    while (kith_node_run(node, KITH_NODE_KEEPER))
        kith_node_poll(node);
    assert_int_equal(saved.runs, 1);
    submit_many(node, 10, 20, &r);
    assert_int_equal(kith_node_close(node), KITH_OK);
    assert_int_equal(r.runs, 20);
    tiny_fini(&t);
    node = open_node(&t, &o);
    expect_content(&t, 20);
    assert_int_equal(kith_node_close(node), KITH_OK);
    tiny_fini(&t);
    crash_fs_close(disk);
}

static void each_failed_allocation_is_reported_and_leaks_nothing(void **state)
{
    struct raft_heap heap = wrapped_heap();
    raft_heap_set(&heap);
    for (int n = 0; failing_malloc_sweep(&n);)
        work_with_little_memory("");
    for (int n = 0; failing_malloc_sweep(&n);)
        work_with_little_memory("/d");
    raft_heap_set_default();
}

struct slow_machine {
    struct tiny tiny; /* first: its functions get the same context */
    uint64_t now_ns;
};

static uint64_t slow_now(void *context)
{
    return ((struct slow_machine *)context)->now_ns;
}

static int slow_apply(void *context, struct kith_slice payload, const struct kith_apply_hooks *hooks)
{
    ((struct slow_machine *)context)->now_ns += 400000;
    return tiny_apply(context, payload, hooks);
}

/* One sync commits what was submitted in many passes. */
static void a_poll_applies_for_a_millisecond_and_asks_for_the_next(void **state)
{
    struct crash_fs *disk = crash_fs_open();
    struct slow_machine slow = {.now_ns = 1000000000};
    struct result r = {0};
    struct kith_node_options o = options_on(disk, &slow.tiny, KITH_DURABILITY_ALWAYS);
    o.clock = (struct kith_clock){.monotonic_ns = slow_now, .context = &slow};
    o.manual = true;
    o.machine.apply = slow_apply;
    struct kith_node *node = open_node(&slow.tiny, &o);
    submit_many(node, 0, 8, &r);
    while (kith_node_run(node, KITH_NODE_LOG))
        continue;
    kith_node_poll(node);
    assert_int_equal(r.runs, 3);
    assert_true(kith_node_wants_poll(node));
    kith_node_poll(node);
    assert_int_equal(r.runs, 6);
    kith_node_poll(node);
    assert_int_equal(r.runs, 8);
    assert_false(kith_node_wants_poll(node));
    expect_content(&slow.tiny, 8);
    assert_int_equal(kith_node_close(node), KITH_OK);
    tiny_fini(&slow.tiny);
    crash_fs_close(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_acknowledged_is_there_after_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(a_node_in_memory_takes_the_same_way_and_no_file, setup, teardown),
        cmocka_unit_test_setup_teardown(a_checkpoint_lets_go_of_the_log_and_is_loaded_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_long_log_makes_a_checkpoint_by_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(a_second_server_is_kept_out, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failing_machine_makes_the_node_read_only, setup, teardown),
        cmocka_unit_test(a_failed_sync_fails_what_waits_for_it_and_all_later_writes),
        cmocka_unit_test(a_full_disk_refuses_writes_with_a_cure_and_serves_on),
        cmocka_unit_test(a_due_checkpoint_is_asked_for_when_nothing_else_wakes_the_node),
        cmocka_unit_test(a_checkpoint_that_fails_is_reported_and_the_log_goes_on),
        cmocka_unit_test(durability_can_be_changed_while_entries_are_on_their_way),
        cmocka_unit_test(a_done_may_submit_without_end_of_stack),
        cmocka_unit_test(a_manual_node_moves_only_when_it_is_run),
        cmocka_unit_test(a_poll_applies_for_a_millisecond_and_asks_for_the_next),
        cmocka_unit_test(each_failed_allocation_is_reported_and_leaks_nothing),
    };
    kith_log_setup(KITH_LOG_INFO, silent, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
