/* Segments and the log thread: what is written is read; an unfinished end is cut; damage is refused. */
#include "store/log.h"

#include "base/log.h"
#include "base/varint.h"
#include "crash_fs.h"
#include "failing_malloc.h"
#include "store/crc.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define DIR "/d"

static struct kith_log_options options_for(struct crash_fs *disk)
{
    return (struct kith_log_options){.fs = crash_fs_table(disk),
                                     .dir = DIR,
                                     .folder_id = 7,
                                     .next_sequence = 1,
                                     .next_index = 1,
                                     .segment_bytes = 32 << 10,
                                     .queue_bytes = 1 << 20};
}

static struct kith_log_entry *entry_of(uint64_t index, enum kith_record_kind kind, size_t length)
{
    struct kith_log_entry *e = calloc(1, sizeof *e);
    *e = (struct kith_log_entry){.index = index, .term = 3, .kind = kind};
    atomic_init(&e->references, 1);
    for (size_t i = 0; i < length; i++)
        kith_buf_append_char(&e->payload, (char)(index * 7 + i));
    return e;
}

static size_t length_of(uint64_t index)
{
    static const size_t lengths[] = {0, 1, 2, 7, 8, 9, 15, 16, 100, 500, 1000, 31};
    return index == 40 ? 50000 : lengths[index % 12];
}

/* A disk with `count` entries in groups of three, closed (sealed) or as a killed process leaves it. */
static struct crash_fs *written(uint64_t count, bool sealed)
{
    struct crash_fs *disk = crash_fs_open();
    struct kith_log_options options = options_for(disk);
    struct kith_log *log;
    assert_int_equal(kith_log_open(&log, &options, NULL, 0, NULL), KITH_OK);
    for (uint64_t i = 1; i <= count; i++) {
        kith_log_append(log, entry_of(i, KITH_RECORD_COMMAND, length_of(i)));
        if (i % 3 == 0)
            assert_int_equal(kith_log_flush(log), KITH_OK);
    }
    assert_int_equal(kith_log_flush(log), KITH_OK);
    if (sealed) {
        assert_int_equal(kith_log_close(log), KITH_OK);
        return disk;
    }
    /* What close adds must not be there: play the recording up to now. */
    size_t operations = crash_fs_operations(disk);
    struct kith_rng rng;
    kith_rng_seed(&rng, 1);
    assert_int_equal(kith_log_close(log), KITH_OK);
    struct crash_replay *replay = crash_replay_open(disk);
    for (size_t i = 0; i < operations; i++)
        assert_true(crash_replay_step(replay));
    struct crash_fs *killed = crash_replay_crash(replay, CRASH_PREFIX, &rng);
    crash_replay_close(replay);
    crash_fs_close(disk);
    return killed;
}

struct reading {
    uint64_t records, offset;
    enum kith_segment_end end;
    uint64_t torn_bytes;
    int status;
    struct kith_error error;
};

/* Reads the nth segment to its end. Entries must be right and in order. */
static struct reading read_segment(struct crash_fs *disk, size_t nth)
{
    struct reading r = {.error = {""}};
    struct kith_segment_reader reader;
    struct kith_record record;
    struct kith_file *file;
    const char *path = crash_fs_find(disk, DIR "/log-", nth);
    uint64_t sequence, index;
    assert_non_null(path);
    assert_true(kith_segment_parse_name(path + strlen(DIR "/"), &sequence, &index));
    assert_int_equal(crash_fs_table(disk)->open(crash_fs_table(disk), path, 0, &file), KITH_OK);
    r.status = kith_segment_reader_open(&reader, file, &r.error);
    if (r.status == KITH_OK) {
        while ((r.status = kith_segment_next(&reader, &record, &r.error)) == 1) {
            assert_int_equal(record.index, index);
            assert_int_equal(record.payload.length, length_of(index));
            for (size_t i = 0; i < record.payload.length; i++)
                assert_int_equal(record.payload.data[i], (char)(index * 7 + i));
            index++;
            r.records++;
        }
        r.offset = reader.offset;
        r.end = reader.end;
        r.torn_bytes = reader.torn_bytes;
        kith_segment_reader_close(&reader);
    }
    kith_file_close(file);
    return r;
}

static void what_is_written_is_read_back_over_several_segments(void **state)
{
    struct crash_fs *disk = written(200, true);
    uint64_t total = 0;
    size_t n = 0;
    for (; crash_fs_find(disk, DIR "/log-", n); n++) {
        struct reading r = read_segment(disk, n);
        assert_int_equal(r.status, 0);
        assert_int_equal(r.end, KITH_SEGMENT_SEALED);
        total += r.records;
    }
    assert_true(n >= 3);
    assert_int_equal(total, 200);
    crash_fs_close(disk);
}

/* Cuts the file behind `keep` bytes, or zeroes the rest. */
static void cut(struct crash_fs *disk, const char *path, uint64_t keep, bool zero)
{
    size_t length;
    const unsigned char *bytes = crash_fs_bytes(disk, path, &length);
    if (zero) {
        for (size_t i = (size_t)keep; i < length; i++)
            if (bytes[i])
                crash_fs_flip(disk, path, i, bytes[i]);
        return;
    }
    struct kith_file *file;
    assert_int_equal(crash_fs_table(disk)->open(crash_fs_table(disk), path, KITH_FS_WRITE, &file), KITH_OK);
    assert_int_equal(crash_fs_table(disk)->truncate(file, keep), KITH_OK);
    kith_file_close(file);
}

static void a_tail_torn_at_any_byte_gives_the_whole_records_before_it(void **state)
{
    for (int zero = 0; zero < 2; zero++) {
        struct crash_fs *disk = written(12, false);
        const char *path = crash_fs_find(disk, DIR "/log-", 0);
        struct reading whole = read_segment(disk, 0);
        assert_int_equal(whole.records, 12);
        assert_int_equal(whole.end, KITH_SEGMENT_ZEROS);
        uint64_t records = 12;
        for (uint64_t keep = whole.offset; keep >= KITH_SEGMENT_HEADER_BYTES; keep--) {
            cut(disk, path, keep, zero);
            struct reading r = read_segment(disk, 0);
            assert_int_equal(r.status, 0);
            assert_true(r.records <= records && r.records + 1 >= records);
            /* A cut within padding leaves the record whole. */
            assert_true(r.offset <= keep + (zero ? 7 : 0));
            records = r.records;
            if (keep == r.offset)
                assert_int_equal(r.end, zero ? KITH_SEGMENT_ZEROS : KITH_SEGMENT_EXACT);
        }
        assert_int_equal(records, 0);
        crash_fs_close(disk);
    }
}

static void damage_that_later_records_vouch_for_is_refused_at_any_byte(void **state)
{
    struct crash_fs *disk = written(30, false);
    const char *path = crash_fs_find(disk, DIR "/log-", 0);
    struct reading whole = read_segment(disk, 0);
    assert_int_equal(whole.records, 30);
    /* The last group's three entries (28 to 30) may have nobody to vouch for them; what lies before them has. */
    uint64_t last_group = whole.offset;
    for (uint64_t i = 28; i <= 30; i++)
        last_group -= kith_record_bytes(length_of(i));
    uint64_t refused = 0;
    for (uint64_t at = KITH_SEGMENT_HEADER_BYTES; at < whole.offset; at++) {
        assert_true(crash_fs_flip(disk, path, at, 0x10));
        struct reading r = read_segment(disk, 0);
        assert_true(crash_fs_flip(disk, path, at, 0x10));
        if (r.status == 0 && r.records == 30)
            continue; /* padding: nothing was lost */
        if (at < last_group) {
            assert_int_equal(r.status, KITH_ECORRUPT);
            assert_non_null(strstr(r.error.text, "safely on the disk"));
            assert_true(r.offset <= at);
            refused++;
        } else if (r.status == 0) { /* or the thread was so fast that it synced between two of the three */
            assert_int_equal(r.end, KITH_SEGMENT_TORN);
            assert_true(r.torn_bytes > 0 && r.offset + r.torn_bytes <= whole.offset + 8);
        }
    }
    assert_true(refused > 3000);
    crash_fs_close(disk);
}

static void a_seal_vouches_for_everything_before_it(void **state)
{
    struct crash_fs *disk = written(12, true);
    const char *path = crash_fs_find(disk, DIR "/log-", 0);
    struct reading whole = read_segment(disk, 0);
    for (uint64_t at = KITH_SEGMENT_HEADER_BYTES; at < whole.offset; at++) {
        assert_true(crash_fs_flip(disk, path, at, 0x01));
        struct reading r = read_segment(disk, 0);
        assert_true(crash_fs_flip(disk, path, at, 0x01));
        assert_true(r.status == KITH_ECORRUPT || r.records == 12);
    }
    crash_fs_close(disk);
}

static void a_damaged_header_is_refused_at_any_byte_that_counts(void **state)
{
    struct crash_fs *disk = written(3, true);
    const char *path = crash_fs_find(disk, DIR "/log-", 0);
    for (uint64_t at = 0; at < 56; at++) {
        assert_true(crash_fs_flip(disk, path, at, 0x80));
        struct reading r = read_segment(disk, 0);
        assert_true(crash_fs_flip(disk, path, at, 0x80));
        assert_true(r.status == KITH_ECORRUPT || (r.status == KITH_EVERSION && at >= 8 && at < 12));
    }
    crash_fs_close(disk);
}

static void zeros_and_records_of_another_place_never_validate(void **state)
{
    /* The sum of a record of zeros is not zero, whatever the salt and the place. */
    for (uint64_t salt = 0; salt < 1000; salt++) {
        char header[KITH_RECORD_HEADER_BYTES], zeros[KITH_RECORD_HEADER_BYTES] = {0};
        struct kith_record record = {.kind = KITH_RECORD_COMMAND};
        kith_record_encode_header(header, &record, 4096 + salt * 8, salt * 0x9e3779b97f4a7c15ull);
        assert_memory_not_equal(header, zeros, sizeof header);
    }
    /* A whole record, copied to the place behind the last, does not count there. */
    struct crash_fs *disk = written(3, false);
    const char *path = crash_fs_find(disk, DIR "/log-", 0);
    struct reading whole = read_segment(disk, 0);
    size_t length;
    const unsigned char *bytes = crash_fs_bytes(disk, path, &length);
    for (uint64_t i = 0; i < kith_record_bytes(length_of(1)); i++)
        crash_fs_flip(disk, path, whole.offset + i, bytes[KITH_SEGMENT_HEADER_BYTES + i]);
    struct reading r = read_segment(disk, 0);
    assert_int_equal(r.records, 3);
    assert_int_equal(r.end, KITH_SEGMENT_TORN);
    crash_fs_close(disk);
}

static void truncations_are_records_and_are_counted(void **state)
{
    struct crash_fs *disk = crash_fs_open();
    struct kith_log_options options = options_for(disk);
    struct kith_log *log;
    uint64_t truncations;
    assert_int_equal(kith_log_open(&log, &options, NULL, 0, NULL), KITH_OK);
    for (uint64_t i = 1; i <= 5; i++)
        kith_log_append(log, entry_of(i, KITH_RECORD_COMMAND, 10));
    assert_int_equal(kith_log_flush(log), KITH_OK);
    assert_int_equal(kith_log_synced(log, &truncations), 5);
    assert_int_equal(truncations, 0);
    kith_log_append(log, entry_of(3, KITH_RECORD_TRUNCATE, 0));
    kith_log_append(log, entry_of(3, KITH_RECORD_COMMAND, 10));
    assert_int_equal(kith_log_flush(log), KITH_OK);
    assert_int_equal(kith_log_synced(log, &truncations), 3);
    assert_int_equal(truncations, 1);
    assert_int_equal(kith_log_close(log), KITH_OK);
    crash_fs_close(disk);
}

static void trimming_keeps_what_recovery_needs(void **state)
{
    struct crash_fs *disk = crash_fs_open();
    struct kith_log_options options = options_for(disk);
    struct kith_log *log;
    uint64_t sequence, first[2];
    assert_int_equal(kith_log_open(&log, &options, NULL, 0, NULL), KITH_OK);
    for (uint64_t i = 1; i <= 300; i++)
        kith_log_append(log, entry_of(i, KITH_RECORD_COMMAND, 1000));
    assert_int_equal(kith_log_flush(log), KITH_OK);
    for (uint64_t index = 0; index <= 300; index += 10) {
        assert_int_equal(kith_log_trim(log, index), KITH_OK);
        for (size_t n = 0; n < 2; n++) {
            const char *path = crash_fs_find(disk, DIR "/log-", n);
            first[n] = UINT64_MAX;
            if (path)
                assert_true(kith_segment_parse_name(path + strlen(DIR "/"), &sequence, &first[n]));
        }
        assert_true(first[0] <= index + 1); /* entry index + 1 is still there */
        assert_true(first[1] > index + 1);  /* and nothing that is not needed */
    }
    assert_int_equal(kith_log_close(log), KITH_OK);
    crash_fs_close(disk);
}

static void segments_made_ahead_are_taken_and_none_is_left_behind(void **state)
{
    struct kith_pool *pool;
    assert_int_equal(kith_pool_open(&pool, 1, NULL, NULL), KITH_OK);
    for (int round = 0; round < 20; round++) {
        struct crash_fs *disk = crash_fs_open();
        struct kith_log_options options = options_for(disk);
        struct kith_log *log;
        options.helper = kith_pool_executor(pool);
        assert_int_equal(kith_log_open(&log, &options, NULL, 0, NULL), KITH_OK);
        for (uint64_t i = 1; i <= 100; i++) {
            kith_log_append(log, entry_of(i, KITH_RECORD_COMMAND, i == 77 ? 100000 : 1000));
            if (i % 8 == (uint64_t)round % 8)
                assert_int_equal(kith_log_flush(log), KITH_OK);
        }
        assert_int_equal(kith_log_close(log), KITH_OK);
        assert_null(crash_fs_find(disk, DIR "/log-next.tmp", 0));
        uint64_t total = 0;
        for (size_t n = 0; crash_fs_find(disk, DIR "/log-", n); n++)
            total++;
        assert_true(total >= 4);
        crash_fs_close(disk);
    }
    kith_pool_close(pool);
}

static uint64_t manual_now_ns;

static uint64_t manual_clock(void *context)
{
    return manual_now_ns;
}

static int64_t manual_wall(void *context)
{
    return (int64_t)(manual_now_ns / 1000000);
}

static void a_log_without_a_thread_moves_only_when_it_is_run(void **state)
{
    struct crash_fs *disk = crash_fs_open();
    struct kith_log_options options = options_for(disk);
    struct kith_pool *pool;
    struct kith_log *log;
    assert_int_equal(kith_pool_open(&pool, 0, NULL, NULL), KITH_OK);
    manual_now_ns = 5000000000;
    options.manual = true;
    options.seed = 7;
    options.clock = (struct kith_clock){manual_clock, manual_wall, NULL};
    options.helper = kith_pool_executor(pool);
    options.queue_bytes = 1000; /* append does not block all the same */
    assert_int_equal(kith_log_open(&log, &options, NULL, 0, NULL), KITH_OK);
    assert_false(kith_log_run(log));
    for (uint64_t i = 1; i <= 5; i++)
        kith_log_append(log, entry_of(i, KITH_RECORD_COMMAND, 1000));
    size_t operations = crash_fs_operations(disk);
    assert_int_equal(kith_log_synced(log, NULL), 0);
    assert_true(kith_log_run(log));
    assert_int_equal(kith_log_synced(log, NULL), 5);
    assert_int_equal(crash_fs_operations(disk), operations + 2); /* a write and a sync */
    assert_false(kith_log_run(log));

    kith_log_set_sync(log, KITH_LOG_SYNC_EACH_SECOND);
    assert_true(kith_log_run(log));
    kith_log_append(log, entry_of(6, KITH_RECORD_COMMAND, 1000));
    assert_true(kith_log_run(log));
    assert_int_equal(kith_log_synced(log, NULL), 5);
    assert_false(kith_log_run(log));
    manual_now_ns += 1000000000;
    assert_true(kith_log_run(log)); /* the second is over */
    assert_int_equal(kith_log_synced(log, NULL), 6);

    kith_log_append(log, entry_of(7, KITH_RECORD_COMMAND, 1000));
    assert_int_equal(kith_log_flush(log), KITH_OK);
    assert_int_equal(kith_log_synced(log, NULL), 7);
    for (uint64_t i = 8; i <= 100; i++)
        kith_log_append(
            log, entry_of(i, KITH_RECORD_COMMAND, 1000)); /* several segments; nobody makes them ahead */
    assert_int_equal(kith_log_close(log), KITH_OK);
    kith_pool_close(pool); /* what the log asked of it has nothing to do any more */
    assert_null(crash_fs_find(disk, DIR "/log-next.tmp", 0));
    crash_fs_close(disk);
}

static void after_a_failed_sync_nothing_is_written_any_more(void **state)
{
    struct crash_fs *disk = crash_fs_open();
    struct kith_log_options options = options_for(disk);
    struct kith_log *log;
    struct kith_error error = {""};
    assert_int_equal(kith_log_open(&log, &options, NULL, 0, NULL), KITH_OK);
    kith_log_append(log, entry_of(1, KITH_RECORD_COMMAND, 10));
    assert_int_equal(kith_log_flush(log), KITH_OK);
    crash_fs_fail_syncs(disk, KITH_EIO);
    kith_log_append(log, entry_of(2, KITH_RECORD_COMMAND, 10));
    assert_int_equal(kith_log_flush(log), KITH_EIO);
    crash_fs_fail_syncs(disk, KITH_OK);
    size_t operations = crash_fs_operations(disk);
    kith_log_append(log, entry_of(3, KITH_RECORD_COMMAND, 10));
    assert_int_equal(kith_log_flush(log), KITH_EIO);
    assert_int_equal(kith_log_failure(log, &error), KITH_EIO);
    assert_non_null(strstr(error.text, "writes are refused"));
    assert_int_equal(kith_log_synced(log, NULL), 1);
    assert_int_equal(kith_log_close(log), KITH_EIO);
    assert_int_equal(crash_fs_operations(disk), operations); /* not one more sync either */
    crash_fs_close(disk);
}

static void a_full_disk_stops_the_log_with_a_cure(void **state)
{
    struct crash_fs *disk = crash_fs_open();
    struct kith_log_options options = options_for(disk);
    struct kith_log *log;
    struct kith_error error = {""};
    crash_fs_set_capacity(disk, 80 << 10);
    assert_int_equal(kith_log_open(&log, &options, NULL, 0, NULL), KITH_OK);
    for (uint64_t i = 1; i <= 200; i++)
        kith_log_append(log, entry_of(i, KITH_RECORD_COMMAND, 1000));
    assert_int_equal(kith_log_flush(log), KITH_ENOSPC);
    assert_int_equal(kith_log_failure(log, &error), KITH_ENOSPC);
    assert_non_null(strstr(error.text, "free some disk space"));
    assert_int_equal(kith_log_close(log), KITH_ENOSPC);
    crash_fs_close(disk);
}

static void a_full_queue_makes_the_caller_wait(void **state)
{
    struct crash_fs *disk = crash_fs_open();
    struct kith_log_options options = options_for(disk);
    struct kith_log *log;
    options.queue_bytes = 4096;
    options.sync = KITH_LOG_SYNC_SELDOM;
    assert_int_equal(kith_log_open(&log, &options, NULL, 0, NULL), KITH_OK);
    for (uint64_t i = 1; i <= 500; i++) {
        struct kith_log_progress p;
        kith_log_append(log, entry_of(i, KITH_RECORD_COMMAND, 1000));
        kith_log_progress(log, &p);
        assert_true(p.waiting_bytes <= 4096 + 2 * kith_record_bytes(1000));
    }
    assert_int_equal(kith_log_close(log), KITH_OK);
    crash_fs_close(disk);
}

static void each_failed_allocation_of_open_is_reported_and_leaks_nothing(void **state)
{
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct crash_fs *disk = crash_fs_open();
        struct kith_log_options options = options_for(disk);
        struct kith_log *log = NULL;
        int status = kith_log_open(&log, &options, NULL, 0, NULL);
        assert_true(status == KITH_OK || status == KITH_ENOMEM);
        if (status == KITH_OK)
            assert_int_equal(kith_log_close(log), KITH_OK);
        crash_fs_close(disk);
    }
}

static void names_are_parsed_only_as_they_are_written(void **state)
{
    uint64_t a, b;
    char name[KITH_SEGMENT_NAME_BYTES];
    kith_segment_name(name, 12, 345);
    assert_string_equal(name, "log-0000000012-00000000000000000345");
    assert_true(kith_segment_parse_name(name, &a, &b) && a == 12 && b == 345);
    static const char *const wrong[] = {"log-12-345",
                                        "log-next.tmp",
                                        "log-0000000012-00000000000000000345x",
                                        "log-",
                                        "",
                                        "xlog-0000000012-00000000000000000345"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(kith_segment_parse_name(wrong[i], &a, &b));
}

static void silent(void *arg, enum kith_log_level level, const char *line)
{
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back_over_several_segments),
        cmocka_unit_test(a_tail_torn_at_any_byte_gives_the_whole_records_before_it),
        cmocka_unit_test(damage_that_later_records_vouch_for_is_refused_at_any_byte),
        cmocka_unit_test(a_seal_vouches_for_everything_before_it),
        cmocka_unit_test(a_damaged_header_is_refused_at_any_byte_that_counts),
        cmocka_unit_test(zeros_and_records_of_another_place_never_validate),
        cmocka_unit_test(truncations_are_records_and_are_counted),
        cmocka_unit_test(trimming_keeps_what_recovery_needs),
        cmocka_unit_test(segments_made_ahead_are_taken_and_none_is_left_behind),
        cmocka_unit_test(a_log_without_a_thread_moves_only_when_it_is_run),
        cmocka_unit_test(after_a_failed_sync_nothing_is_written_any_more),
        cmocka_unit_test(a_full_disk_stops_the_log_with_a_cure),
        cmocka_unit_test(a_full_queue_makes_the_caller_wait),
        cmocka_unit_test(each_failed_allocation_of_open_is_reported_and_leaks_nothing),
        cmocka_unit_test(names_are_parsed_only_as_they_are_written),
    };
    kith_log_setup(KITH_LOG_INFO, silent, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
