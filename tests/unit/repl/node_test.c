/* The node over real files: open, submit, checkpoint, restart. */
#include "repl/node.h"

#include "base/log.h"
#include "failing_malloc.h"
#include "tiny_machine.h"

#include <pthread.h>
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

struct result {
    int runs, status;
};

static void note(void *context, int status)
{
    struct result *r = context;
    r->runs++;
    r->status = status;
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

static void silent(void *arg, enum kith_log_level level, const char *line)
{
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
    };
    kith_log_setup(KITH_LOG_INFO, silent, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
