/* The folder: its state files, its lock, what is refused, and what `kith check` says of it. */
#include "store/store.h"

#include "base/log.h"
#include "crash_fs.h"
#include "failing_malloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define DIR "/d"

static void append(struct kith_log *log, uint64_t index)
{
    struct kith_log_entry *e = calloc(1, sizeof *e);
    *e = (struct kith_log_entry){.index = index, .term = 1, .kind = KITH_RECORD_COMMAND};
    atomic_init(&e->references, 1);
    for (int i = 0; i < 700; i++)
        kith_buf_append_char(&e->payload, (char)index);
    kith_log_append(log, e);
}

static int ignore_record(void *context, const struct kith_record *record)
{
    return KITH_OK;
}

static int open_store(struct kith_store **out, struct crash_fs *disk, struct kith_error *error)
{
    struct kith_store_options options = {.fs = crash_fs_table(disk), .dir = DIR};
    return kith_store_open(out, &options, error);
}

/* Opens, reads, adds `count` entries, closes. */
static int use(struct crash_fs *disk, uint64_t count, struct kith_error *error)
{
    struct kith_store *store;
    struct kith_log *log;
    struct kith_log_options options = {.segment_bytes = 16 << 10, .queue_bytes = 1 << 20};
    int status = open_store(&store, disk, error);
    if (status != KITH_OK)
        return status;
    status = kith_store_read_log(store, ignore_record, NULL, error);
    if (status == KITH_OK)
        status = kith_store_open_log(store, &log, &options, error);
    if (status == KITH_OK) {
        uint64_t last = kith_store_get_found(store)->last_index;
        struct kith_state state = kith_store_get_found(store)->state;
        for (uint64_t i = 1; i <= count; i++)
            append(log, last + i);
        state.bootstrapped = true;
        status = kith_log_close(log);
        if (status == KITH_OK)
            status = kith_store_save_state(store, &state, error);
    }
    kith_store_close(store);
    return status;
}

static void save_checkpoint(struct crash_fs *disk, uint64_t index)
{
    struct kith_store *store;
    struct kith_checkpoint_writer *w;
    uint64_t file_bytes;
    assert_int_equal(open_store(&store, disk, NULL), KITH_OK);
    struct kith_checkpoint_info info = {.folder_id = kith_store_get_found(store)->state.folder_id,
                                        .index = index,
                                        .term = 1,
                                        .configuration = KITH_SLICE("configuration")};
    assert_int_equal(kith_checkpoint_writer_open(&w, crash_fs_table(disk), DIR, &info), KITH_OK);
    assert_int_equal(kith_checkpoint_writer_add(w, KITH_SLICE("state")), KITH_OK);
    assert_int_equal(kith_checkpoint_writer_finish(w, &file_bytes), KITH_OK);
    kith_checkpoint_writer_close(w);
    kith_store_close(store);
}

struct said {
    int problems, lines;
    char last_problem[1024];
};

static void hear(void *context, enum kith_store_finding finding, const char *line)
{
    struct said *s = context;
    s->lines++;
    if (finding == KITH_STORE_PROBLEM) {
        s->problems++;
        snprintf(s->last_problem, sizeof s->last_problem, "%s", line);
    }
}

static int check(struct crash_fs *disk, struct said *said, struct kith_store_check_result *result)
{
    *said = (struct said){0};
    size_t before = crash_fs_operations(disk);
    int status = kith_store_check(crash_fs_table(disk), DIR, hear, said, result);
    assert_int_equal(crash_fs_operations(disk), before); /* it changes nothing */
    assert_int_equal(said->problems, result->problems);
    return status;
}

static void remove_file(struct crash_fs *disk, const char *prefix, size_t nth)
{
    char path[256];
    snprintf(path, sizeof path, "%s", crash_fs_find(disk, prefix, nth));
    assert_int_equal(crash_fs_table(disk)->unlink(crash_fs_table(disk), path), KITH_OK);
}

static void a_sound_folder_checks_as_sound(void **state)
{
    struct crash_fs *disk = crash_fs_open();
    struct said said;
    struct kith_store_check_result result;
    for (int i = 0; i < 3; i++)
        assert_int_equal(use(disk, 50, NULL), KITH_OK);
    save_checkpoint(disk, 20);
    assert_int_equal(check(disk, &said, &result), KITH_OK);
    assert_int_equal(result.last_index, 150);
    assert_int_equal(result.checkpoints, 1);
    assert_true(result.records >= 130 && result.segments > 5);
    crash_fs_close(disk);
}

static void a_damaged_middle_is_refused_with_file_offset_and_cure_and_nothing_is_deleted(void **state)
{
    struct crash_fs *disk = crash_fs_open();
    struct said said;
    struct kith_store_check_result result;
    struct kith_error error = {""};
    assert_int_equal(use(disk, 100, NULL), KITH_OK);
    const char *second = crash_fs_find(disk, DIR "/log-", 1);
    size_t length, files = 0;
    crash_fs_bytes(disk, second, &length);
    for (uint64_t at = KITH_SEGMENT_HEADER_BYTES + 3; at < length; at += 997) {
        assert_true(crash_fs_flip(disk, second, at, 0x20));
        assert_int_equal(use(disk, 1, &error), KITH_ECORRUPT);
        assert_non_null(strstr(error.text, second));
        assert_non_null(strstr(error.text, "offset"));
        assert_non_null(strstr(error.text, "Restore the folder from a copy"));
        assert_int_equal(check(disk, &said, &result), KITH_ECORRUPT);
        assert_int_equal(said.problems, 1);
        assert_non_null(strstr(said.last_problem, second));
        assert_true(crash_fs_flip(disk, second, at, 0x20));
    }
    while (crash_fs_find(disk, DIR "/log-", files))
        files++;
    assert_int_equal(use(disk, 1, &error), KITH_OK); /* mended: all is there */
    assert_int_equal(check(disk, &said, &result), KITH_OK);
    assert_int_equal(result.last_index, 101);
    assert_non_null(crash_fs_find(disk, DIR "/log-", files));
    crash_fs_close(disk);
}

static void missing_files_are_missed(void **state)
{
    static const struct {
        const char *prefix;
        size_t nth;
        const char *says;
    } cases[] = {
        {DIR "/log-", 0, "begins with entry"},
        {DIR "/log-", 2, "is missing"},
    };
    struct said said;
    struct kith_store_check_result result;
    struct kith_error error;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct crash_fs *disk = crash_fs_open();
        assert_int_equal(use(disk, 100, NULL), KITH_OK);
        remove_file(disk, cases[i].prefix, cases[i].nth);
        assert_int_equal(use(disk, 1, &error), KITH_ECORRUPT);
        assert_non_null(strstr(error.text, cases[i].says));
        assert_int_equal(check(disk, &said, &result), KITH_ECORRUPT);
        crash_fs_close(disk);
    }
    struct crash_fs *disk = crash_fs_open();
    assert_int_equal(use(disk, 100, NULL), KITH_OK);
    while (crash_fs_find(disk, DIR "/log-", 0))
        remove_file(disk, DIR "/log-", 0);
    assert_int_equal(use(disk, 1, &error), KITH_ECORRUPT);
    assert_non_null(strstr(error.text, "log is missing"));
    assert_int_equal(check(disk, &said, &result), KITH_ECORRUPT);
    crash_fs_close(disk);

    disk = crash_fs_open();
    assert_int_equal(use(disk, 10, NULL), KITH_OK);
    remove_file(disk, DIR "/state-", 0);
    remove_file(disk, DIR "/state-", 0);
    assert_int_equal(use(disk, 1, &error), KITH_ECORRUPT);
    assert_non_null(strstr(error.text, "state-1 and state-2 are missing"));
    crash_fs_close(disk);
}

static void segments_and_checkpoints_of_another_folder_are_refused(void **state)
{
    struct crash_fs *disk = crash_fs_open();
    struct kith_error error;
    assert_int_equal(use(disk, 10, NULL), KITH_OK);
    remove_file(disk, DIR "/state-", 0);
    remove_file(disk, DIR "/state-", 0);
    struct kith_state stranger = {.folder_id = 12345, .node_id = 1, .term = 1, .bootstrapped = true};
    assert_int_equal(kith_state_save(&stranger, crash_fs_table(disk), DIR, NULL), KITH_OK);
    assert_int_equal(use(disk, 1, &error), KITH_ECORRUPT);
    assert_non_null(strstr(error.text, "belongs to another folder"));
    crash_fs_close(disk);
}

static void a_damaged_checkpoint_is_refused_and_an_older_one_is_the_cure(void **state)
{
    struct crash_fs *disk = crash_fs_open();
    struct said said;
    struct kith_store_check_result result;
    struct kith_error error;
    struct kith_store *store;
    assert_int_equal(use(disk, 100, NULL), KITH_OK);
    save_checkpoint(disk, 30);
    save_checkpoint(disk, 60);
    const char *newest = crash_fs_find(disk, DIR "/checkpoint-", 1);
    assert_true(crash_fs_flip(disk, newest, 100, 1));
    assert_int_equal(check(disk, &said, &result), KITH_ECORRUPT);
    assert_non_null(strstr(said.last_problem, newest));
    assert_int_equal(open_store(&store, disk, &error), KITH_OK);
    assert_int_equal(kith_store_get_found(store)->checkpoint.index, 60);
    assert_int_equal(kith_store_read_checkpoint(store, NULL, NULL, &error), KITH_ECORRUPT);
    assert_non_null(strstr(error.text, newest));
    assert_non_null(strstr(error.text, "offset"));
    kith_store_close(store);
    remove_file(disk, DIR "/checkpoint-", 1);
    assert_int_equal(open_store(&store, disk, &error), KITH_OK);
    assert_int_equal(kith_store_get_found(store)->checkpoint.index, 30);
    assert_int_equal(kith_store_read_checkpoint(store, NULL, NULL, &error), KITH_OK);
    assert_int_equal(kith_store_read_log(store, ignore_record, NULL, &error), KITH_OK);
    assert_int_equal(kith_store_get_found(store)->last_index, 100);
    kith_store_close(store);
    crash_fs_close(disk);
}

static void a_damaged_state_file_is_replaced_by_the_other_and_two_are_refused(void **state)
{
    struct said said;
    struct kith_store_check_result result;
    for (int copy = 0; copy < 2; copy++) {
        for (uint64_t at = 0; at < 64; at++) {
            struct crash_fs *disk = crash_fs_open();
            struct kith_error error = {""};
            struct kith_state s = {.folder_id = 1,
                                   .node_id = 2,
                                   .term = 5,
                                   .voted_for = 2,
                                   .bootstrapped = true},
                              got;
            assert_int_equal(kith_state_save(&s, crash_fs_table(disk), DIR, NULL), KITH_OK);
            assert_true(crash_fs_flip(disk, copy ? DIR "/state-2" : DIR "/state-1", at, 0x40));
            int status = kith_state_load(&got, crash_fs_table(disk), DIR, &error);
            if (at >= 8 && at < 12) { /* a newer version is not damage */
                assert_int_equal(status, KITH_EVERSION);
            } else {
                assert_int_equal(status, KITH_OK);
                assert_int_equal(got.term, 5);
                assert_true(got.bootstrapped);
                assert_true(crash_fs_flip(disk, copy ? DIR "/state-1" : DIR "/state-2", 20, 0x40));
                assert_int_equal(kith_state_load(&got, crash_fs_table(disk), DIR, &error), KITH_ECORRUPT);
                assert_int_equal(check(disk, &said, &result), KITH_ECORRUPT);
            }
            crash_fs_close(disk);
        }
    }
}

static void a_folder_is_locked_and_its_holder_is_named(void **state)
{
    struct crash_fs *disk = crash_fs_open();
    struct kith_store *store, *second;
    struct kith_error error = {""};
    struct said said;
    struct kith_store_check_result result;
    assert_int_equal(open_store(&store, disk, NULL), KITH_OK);
    assert_int_equal(open_store(&second, disk, &error), KITH_EBUSY);
    assert_non_null(strstr(error.text, "stop it first"));
    assert_int_equal(check(disk, &said, &result), KITH_EBUSY);
    kith_store_close(store);
    assert_int_equal(open_store(&second, disk, &error), KITH_OK);
    kith_store_close(second);
    crash_fs_close(disk);
}

static void each_failing_call_fails_the_open_and_loses_nothing(void **state)
{
    struct crash_fs *disk = crash_fs_open();
    assert_int_equal(use(disk, 30, NULL), KITH_OK);
    long failures = 0;
    for (long n = 0;; n++) {
        struct kith_error error = {""};
        crash_fs_fail(disk, n, KITH_EIO, 0);
        int status = use(disk, 0, &error);
        crash_fs_fail(disk, -1, KITH_OK, 0);
        if (status == KITH_OK)
            break;
        failures++;
        assert_int_equal(status, KITH_EIO);
    }
    assert_true(failures > 5);
    struct said said;
    struct kith_store_check_result result;
    assert_int_equal(check(disk, &said, &result), KITH_OK);
    assert_int_equal(result.last_index, 30);
    crash_fs_close(disk);
}

static void each_failed_allocation_is_reported_and_leaks_nothing(void **state)
{
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct crash_fs *disk = crash_fs_open();
        struct kith_store_check_result result;
        for (int i = 0; i < 2; i++) {
            int status = use(disk, 0, NULL);
            assert_true(status == KITH_OK || status == KITH_ENOMEM);
        }
        int status = kith_store_check(crash_fs_table(disk), DIR, NULL, NULL, &result);
        assert_true(status == KITH_OK || status == KITH_ENOMEM || status == KITH_ECORRUPT);
        crash_fs_close(disk);
    }
}

static void silent(void *arg, enum kith_log_level level, const char *line)
{
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sound_folder_checks_as_sound),
        cmocka_unit_test(a_damaged_middle_is_refused_with_file_offset_and_cure_and_nothing_is_deleted),
        cmocka_unit_test(missing_files_are_missed),
        cmocka_unit_test(segments_and_checkpoints_of_another_folder_are_refused),
        cmocka_unit_test(a_damaged_checkpoint_is_refused_and_an_older_one_is_the_cure),
        cmocka_unit_test(a_damaged_state_file_is_replaced_by_the_other_and_two_are_refused),
        cmocka_unit_test(a_folder_is_locked_and_its_holder_is_named),
        cmocka_unit_test(each_failing_call_fails_the_open_and_loses_nothing),
        cmocka_unit_test(each_failed_allocation_is_reported_and_leaks_nothing),
    };
    kith_log_setup(KITH_LOG_INFO, silent, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
