/* Checkpoint files: there and back, every damaged byte, every failing call. */
#include "store/checkpoint.h"

#include "base/random.h"
#include "crash_fs.h"
#include "failing_malloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define DIR       "/d"
#define FILE_NAME DIR "/checkpoint-00000000000000000042"

static const struct kith_checkpoint_info info = {
    .folder_id = 7,
    .index = 42,
    .term = 3,
    .configuration_index = 1,
    .configuration = {"a configuration", 15},
    .created_ms = 1234,
};

/* A stream of `length` bytes, half of them hard to compress, written in pieces of growing size. */
static int write_checkpoint(struct crash_fs *disk, size_t length, uint64_t *file_bytes)
{
    struct kith_checkpoint_writer *w;
    struct kith_rng rng;
    int status = kith_checkpoint_writer_open(&w, crash_fs_table(disk), DIR, &info);
    if (status != KITH_OK)
        return status;
    char piece[70000];
    size_t size = 1;
    kith_rng_seed(&rng, 5);
    for (size_t at = 0; at < length && status == KITH_OK; at += size, size = size * 3 % 65537 + 1) {
        if (size > length - at)
            size = length - at;
        for (size_t i = 0; i < size; i++)
            piece[i] = (char)((at + i) % 2 ? (at + i) / 100 : (at + i) * (at + i) >> 9);
        status = kith_checkpoint_writer_add(w, kith_slice(piece, size));
    }
    if (status == KITH_OK)
        status = kith_checkpoint_writer_finish(w, file_bytes);
    kith_checkpoint_writer_close(w);
    return status;
}

struct taken {
    size_t at;
    bool wrong;
};

static int take(void *context, struct kith_slice bytes)
{
    struct taken *t = context;
    for (size_t i = 0; i < bytes.length; i++, t->at++)
        t->wrong |= bytes.data[i] != (char)(t->at % 2 ? t->at / 100 : t->at * t->at >> 9);
    return KITH_OK;
}

static int read_checkpoint(struct crash_fs *disk, struct taken *t, struct kith_checkpoint_read *read,
                           struct kith_error *error)
{
    struct kith_file *file;
    int status = crash_fs_table(disk)->open(crash_fs_table(disk), FILE_NAME, 0, &file);
    if (status != KITH_OK)
        return status;
    status = kith_checkpoint_read_all(read, file, take, t, error);
    kith_file_close(file);
    return status;
}

static void what_is_written_is_read_back(void **state)
{
    static const size_t lengths[] = {0,
                                     1,
                                     1000,
                                     KITH_CHECKPOINT_BLOCK_BYTES - 1,
                                     KITH_CHECKPOINT_BLOCK_BYTES,
                                     KITH_CHECKPOINT_BLOCK_BYTES + 1,
                                     5000000};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct crash_fs *disk = crash_fs_open();
        struct taken t = {0};
        struct kith_checkpoint_read read;
        struct kith_error error = {""};
        uint64_t file_bytes = 0;
        assert_int_equal(write_checkpoint(disk, lengths[i], &file_bytes), KITH_OK);
        assert_null(crash_fs_find(disk, DIR "/checkpoint-00000000000000000042.tmp", 0));
        assert_int_equal(read_checkpoint(disk, &t, &read, &error), KITH_OK);
        assert_int_equal(t.at, lengths[i]);
        assert_false(t.wrong);
        assert_int_equal(read.info.index, 42);
        assert_int_equal(read.info.term, 3);
        assert_int_equal(read.info.folder_id, 7);
        assert_int_equal(read.info.file_bytes, file_bytes);
        assert_int_equal(read.info.raw_bytes, lengths[i]);
        assert_true(kith_slice_equal(read.info.configuration, info.configuration));
        kith_checkpoint_read_close(&read);
        crash_fs_close(disk);
    }
}

static void every_flipped_byte_and_every_cut_is_noticed(void **state)
{
    struct crash_fs *disk = crash_fs_open();
    uint64_t file_bytes;
    assert_int_equal(write_checkpoint(disk, 3000, &file_bytes), KITH_OK);
    for (uint64_t at = 0; at < file_bytes; at++) {
        struct taken t = {0};
        struct kith_checkpoint_read read;
        struct kith_error error = {""};
        assert_true(crash_fs_flip(disk, FILE_NAME, at, 0x04));
        int status = read_checkpoint(disk, &t, &read, &error);
        assert_true(status == KITH_ECORRUPT || status == KITH_EVERSION);
        assert_true(read.damage_offset <= at);
        assert_string_not_equal(error.text, "");
        assert_true(crash_fs_flip(disk, FILE_NAME, at, 0x04));
    }
    for (uint64_t keep = file_bytes; keep-- > 0;) {
        struct taken t = {0};
        struct kith_checkpoint_read read;
        struct kith_file *file;
        assert_int_equal(crash_fs_table(disk)->open(crash_fs_table(disk), FILE_NAME, KITH_FS_WRITE, &file),
                         KITH_OK);
        assert_int_equal(crash_fs_table(disk)->truncate(file, keep), KITH_OK);
        kith_file_close(file);
        assert_int_equal(read_checkpoint(disk, &t, &read, NULL), KITH_ECORRUPT);
    }
    crash_fs_close(disk);
}

static void a_block_of_another_place_or_bytes_behind_the_end_are_noticed(void **state)
{
    struct crash_fs *disk = crash_fs_open();
    struct taken t = {0};
    struct kith_checkpoint_read read;
    struct kith_file *file;
    uint64_t file_bytes;
    assert_int_equal(write_checkpoint(disk, 3000, &file_bytes), KITH_OK);
    assert_int_equal(crash_fs_table(disk)->open(crash_fs_table(disk), FILE_NAME, KITH_FS_WRITE, &file),
                     KITH_OK);
    struct kith_slice more = KITH_SLICE("x");
    assert_int_equal(crash_fs_table(disk)->write(file, &more, 1, file_bytes), KITH_OK);
    kith_file_close(file);
    assert_int_equal(read_checkpoint(disk, &t, &read, NULL), KITH_ECORRUPT);
    crash_fs_close(disk);
}

static void each_failing_call_leaves_no_file_that_could_be_taken_for_a_checkpoint(void **state)
{
    for (long n = 0;; n++) {
        struct crash_fs *disk = crash_fs_open();
        uint64_t file_bytes = 0;
        crash_fs_fail(disk, n, KITH_ENOSPC, 1);
        int status = write_checkpoint(disk, 2500000, &file_bytes);
        if (status == KITH_OK) {
            assert_true(n > 8);
            crash_fs_close(disk);
            break;
        }
        assert_int_equal(status, KITH_ENOSPC);
        struct taken t = {0};
        struct kith_checkpoint_read read;
        int found = read_checkpoint(disk, &t, &read, NULL);
        if (found == KITH_OK) { /* only the folder's sync failed: it is whole */
            assert_int_equal(t.at, 2500000);
            kith_checkpoint_read_close(&read);
        } else
            assert_int_equal(found, KITH_ENOENT);
        assert_null(crash_fs_find(disk, FILE_NAME ".tmp", 0));
        crash_fs_close(disk);
    }
}

static void each_failed_allocation_is_reported_and_leaks_nothing(void **state)
{
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct crash_fs *disk = crash_fs_open();
        struct taken t = {0};
        struct kith_checkpoint_read read;
        uint64_t file_bytes;
        int status = write_checkpoint(disk, 50000, &file_bytes);
        assert_true(status == KITH_OK || status == KITH_ENOMEM);
        if (status == KITH_OK) {
            status = read_checkpoint(disk, &t, &read, NULL);
            assert_true(status == KITH_OK || status == KITH_ENOMEM);
            if (status == KITH_OK)
                kith_checkpoint_read_close(&read);
        }
        crash_fs_close(disk);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(every_flipped_byte_and_every_cut_is_noticed),
        cmocka_unit_test(a_block_of_another_place_or_bytes_behind_the_end_are_noticed),
        cmocka_unit_test(each_failing_call_leaves_no_file_that_could_be_taken_for_a_checkpoint),
        cmocka_unit_test(each_failed_allocation_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
