/* Reading entries back by index, against a model: with truncations, resets, trimming, restarts, and beside the log's
 * thread. */
#include "store/log_reader.h"

#include "base/log.h"
#include "crash_fs.h"
#include "failing_malloc.h"
#include "store/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define DIR "/d"
enum { MAX_INDEX = 20000 };

/* Which version of each entry counts; 0: none. */
struct model {
    uint64_t first, last; /* entries [first, last] */
    uint64_t covered;     /* by a checkpoint: not taken back any more */
    uint32_t version[MAX_INDEX];
    uint32_t versions;
};

struct world {
    struct crash_fs *disk;
    struct kith_store *store;
    struct kith_log *log;
    struct kith_log_cursor cursor;
    struct kith_log_batch batch;
    struct kith_rng rng;
    struct model *model;
    bool manual;
};

static size_t length_of(uint64_t index, uint32_t version)
{
    return (index * 31 + version * 17) % 7 == 0 ? 5000 + version % 100 : (index + version) % 90;
}

static struct kith_log_entry *entry_of(uint64_t index, enum kith_record_kind kind, uint32_t version)
{
    struct kith_log_entry *e = calloc(1, sizeof *e);
    *e = (struct kith_log_entry){.index = index, .term = version, .kind = kind};
    atomic_init(&e->references, 1);
    for (size_t i = 0; kind == KITH_RECORD_COMMAND && i < length_of(index, version); i++)
        kith_buf_append_char(&e->payload, (char)(index * 7 + version * 3 + i));
    return e;
}

static int ignore_record(void *context, const struct kith_record *record)
{
    return KITH_OK;
}

static void open_log(struct world *w)
{
    struct kith_store_options opening = {.fs = crash_fs_table(w->disk), .dir = DIR, .seed = 5};
    struct kith_log_options options = {
        .segment_bytes = 24 << 10, .queue_bytes = 1 << 20, .manual = w->manual, .seed = 9};
    struct kith_error error = {""};
    if (kith_store_open(&w->store, &opening, &error) != KITH_OK ||
        kith_store_read_log(w->store, ignore_record, NULL, &error) != KITH_OK ||
        kith_store_open_log(w->store, &w->log, &options, &error) != KITH_OK)
        fail_msg("%s", error.text);
}

static void close_log(struct world *w)
{
    kith_log_cursor_close(&w->cursor);
    assert_int_equal(kith_log_close(w->log), KITH_OK);
    kith_store_close(w->store);
}

static void append(struct world *w, uint64_t count)
{
    for (uint64_t i = 0; i < count && w->model->last + 1 < MAX_INDEX; i++) {
        uint64_t index = ++w->model->last;
        w->model->version[index] = ++w->model->versions;
        kith_log_append(w->log, entry_of(index, KITH_RECORD_COMMAND, w->model->versions));
    }
}

static void truncate_from(struct world *w, uint64_t index)
{
    w->model->last = index - 1;
    kith_log_append(w->log, entry_of(index, KITH_RECORD_TRUNCATE, w->model->versions));
}

static void reset_to(struct world *w, uint64_t index)
{
    w->model->first = index;
    w->model->last = w->model->covered = index - 1;
    kith_log_append(w->log, entry_of(index, KITH_RECORD_RESET, w->model->versions));
}

static void flush(struct world *w)
{
    assert_int_equal(kith_log_flush(w->log), KITH_OK);
}

/* Reads from `from` on and compares. */
static size_t expect_entries(struct world *w, uint64_t from, size_t max_count, size_t max_bytes)
{
    const struct model *m = w->model;
    int status = kith_log_read(w->log, &w->cursor, from, max_count, max_bytes, &w->batch);
    if (from < kith_log_first_index(w->log) || from > m->last) {
        assert_int_equal(status, KITH_ENOENT);
        return 0;
    }
    assert_int_equal(status, KITH_OK);
    assert_in_range(w->batch.count, 1, max_count);
    size_t bytes = 0;
    for (size_t i = 0; i < w->batch.count; i++) {
        const struct kith_record *r = &w->batch.records[i];
        assert_int_equal(r->index, from + i);
        assert_true(r->index <= m->last);
        assert_int_equal(r->term, m->version[r->index]);
        assert_int_equal(r->payload.length, length_of(r->index, m->version[r->index]));
        for (size_t k = 0; k < r->payload.length; k++)
            assert_int_equal(r->payload.data[k], (char)(r->index * 7 + r->term * 3 + k));
        bytes += r->payload.length;
    }
    assert_true(bytes <= max_bytes || w->batch.count == 1);
    return w->batch.count;
}

static void expect_everything(struct world *w)
{
    for (uint64_t at = kith_log_first_index(w->log); at <= w->model->last;)
        at += expect_entries(w, at, 50, 20000);
}

static void random_step(struct world *w)
{
    struct model *m = w->model;
    uint64_t dice = kith_rng_below(&w->rng, 100), length = m->last - m->covered;
    if (dice < 50) {
        append(w, kith_rng_below(&w->rng, 40));
    } else if (dice < 56 && length) {
        truncate_from(w, m->last + 1 - kith_rng_below(&w->rng, length > 60 ? 60 : length));
        append(w, kith_rng_below(&w->rng, 5));
    } else if (dice < 57) {
        uint64_t by = kith_rng_below(&w->rng, 100);
        flush(w);
        reset_to(w, by % 2 ? m->covered + length / 2 + 1 : m->last + by + 1);
        flush(w);
        assert_int_equal(kith_log_trim(w->log, m->first - 1), KITH_OK);
    } else if (dice < 62 && length) {
        flush(w);
        m->covered += kith_rng_below(&w->rng, length);
        uint64_t from = kith_log_keep_from(w->log, m->covered, kith_rng_below(&w->rng, 3) * 30000);
        assert_in_range(from, m->first, m->covered + 1);
        assert_int_equal(kith_log_trim(w->log, from - 1), KITH_OK);
        assert_true(kith_log_first_index(w->log) <= from);
    }
}

static void what_counts_is_read_back_whatever_was_taken_back(void **state)
{
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct world w = {.disk = crash_fs_open(), .model = calloc(1, sizeof *w.model), .manual = true};
        print_message("seed %d\n", (int)seed);
        kith_rng_seed(&w.rng, seed);
        w.model->first = 1;
        open_log(&w);
        for (int step = 0; step < 300 && w.model->last + 500 < MAX_INDEX; step++) {
            random_step(&w);
            if (kith_rng_below(&w.rng, 3) == 0)
                continue; /* some of it still waits */
            flush(&w);
            for (int i = 0; i < 4 && w.model->last; i++)
                expect_entries(&w, 1 + kith_rng_below(&w.rng, w.model->last + 5),
                               1 + kith_rng_below(&w.rng, 100), kith_rng_below(&w.rng, 20000));
            if (step % 40 == 0)
                expect_everything(&w);
        }
        flush(&w);
        expect_everything(&w);
        close_log(&w);
        kith_log_batch_close(&w.batch);
        crash_fs_close(w.disk);
        free(w.model);
    }
}

static void a_restart_reads_the_same(void **state)
{
    struct world w = {.disk = crash_fs_open(), .model = calloc(1, sizeof *w.model), .manual = true};
    w.model->first = 1;
    kith_rng_seed(&w.rng, 77);
    for (int run = 0; run < 8; run++) {
        open_log(&w);
        expect_everything(&w);
        append(&w, 300);
        flush(&w);
        truncate_from(&w, w.model->last - 120);
        append(&w, 60);
        truncate_from(&w, w.model->last - 70);
        append(&w, 200);
        flush(&w);
        expect_everything(&w);
        close_log(&w);
    }
    kith_log_batch_close(&w.batch);
    crash_fs_close(w.disk);
    free(w.model);
}

static void a_truncation_that_waits_is_waited_for(void **state)
{
    struct world w = {.disk = crash_fs_open(), .model = calloc(1, sizeof *w.model), .manual = true};
    w.model->first = 1;
    open_log(&w);
    append(&w, 20);
    assert_int_equal(kith_log_read(w.log, &w.cursor, 5, 10, 1000, &w.batch), KITH_ENOENT);
    flush(&w);
    expect_entries(&w, 5, 10, 1000);
    truncate_from(&w, 8);
    assert_int_equal(kith_log_read(w.log, &w.cursor, 5, 10, 1000, &w.batch), KITH_EAGAIN);
    flush(&w);
    assert_int_equal(expect_entries(&w, 5, 10, 100000), 3);
    close_log(&w);
    kith_log_batch_close(&w.batch);
    crash_fs_close(w.disk);
    free(w.model);
}

static void a_segment_that_is_read_survives_its_name(void **state)
{
    struct world w = {.disk = crash_fs_open(), .model = calloc(1, sizeof *w.model), .manual = true};
    w.model->first = 1;
    open_log(&w);
    append(&w, 300);
    flush(&w);
    uint64_t at = 1;
    at += expect_entries(&w, at, 3, 20000);
    assert_int_equal(kith_log_trim(w.log, 250), KITH_OK);
    assert_int_equal(kith_log_read(w.log, &w.cursor, at, 3, 20000, &w.batch),
                     KITH_ENOENT); /* it is not asked for any more */
    expect_everything(&w);
    close_log(&w);
    kith_log_batch_close(&w.batch);
    crash_fs_close(w.disk);
    free(w.model);
}

static void each_failed_allocation_is_reported_and_leaks_nothing(void **state)
{
    struct world w = {.disk = crash_fs_open(), .model = calloc(1, sizeof *w.model), .manual = true};
    w.model->first = 1;
    open_log(&w);
    append(&w, 200);
    flush(&w);
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct kith_log_cursor cursor = {0};
        struct kith_log_batch batch = {0};
        for (uint64_t at = 1; at < 150; at += batch.count ? batch.count : 1000) {
            int status = kith_log_read(w.log, &cursor, at, 100, 100000, &batch);
            assert_true(status == KITH_OK || (status == KITH_ENOMEM && batch.count == 0));
        }
        kith_log_cursor_close(&cursor);
        kith_log_batch_close(&batch);
    }
    close_log(&w);
    crash_fs_close(w.disk);
    free(w.model);
}

/* A follower's reader beside the writing thread and trimming: the thread sanitizer looks at it. */
static void reading_beside_writing_and_trimming_finds_each_entry_once(void **state)
{
    struct world w = {.disk = crash_fs_open(), .model = calloc(1, sizeof *w.model)};
    w.model->first = 1;
    open_log(&w);
    uint64_t at = 1;
    while (w.model->last < 5000) {
        append(&w, 37);
        while (at + 60 < w.model->last) {
            int status = kith_log_read(w.log, &w.cursor, at, 20, 100000, &w.batch);
            assert_true(status == KITH_OK || status == KITH_ENOENT); /* not written yet */
            for (size_t i = 0; i < w.batch.count; i++)
                assert_int_equal(w.batch.records[i].term, w.model->version[at + i]);
            at += w.batch.count;
        }
        assert_int_equal(kith_log_trim(w.log, at - 1), KITH_OK);
    }
    close_log(&w);
    kith_log_batch_close(&w.batch);
    crash_fs_close(w.disk);
    free(w.model);
}

static void silent(void *arg, enum kith_log_level level, const char *line)
{
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_counts_is_read_back_whatever_was_taken_back),
        cmocka_unit_test(a_restart_reads_the_same),
        cmocka_unit_test(a_truncation_that_waits_is_waited_for),
        cmocka_unit_test(a_segment_that_is_read_survives_its_name),
        cmocka_unit_test(each_failed_allocation_is_reported_and_leaks_nothing),
        cmocka_unit_test(reading_beside_writing_and_trimming_finds_each_entry_once),
    };
    kith_log_setup(KITH_LOG_INFO, silent, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
