/* A checkpoint on its way from one folder to another. */
#include "store/incoming.h"

#include "base/log.h"
#include "crash_fs.h"
#include "failing_malloc.h"
#include "store/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define FROM "/from"
#define TO   "/to"
enum { GROUP = 4711 };

/* A disk with a checkpoint of entry `index` in FROM. */
static struct crash_fs *disk_with_checkpoint(uint64_t index, size_t raw_bytes)
{
    struct crash_fs *disk = crash_fs_open();
    struct kith_checkpoint_writer *w;
    struct kith_checkpoint_info info = {
        .folder_id = GROUP, .index = index, .term = 3, .configuration = KITH_SLICE("configuration")};
    struct kith_buf raw = {0};
    struct kith_rng rng;
    uint64_t file_bytes;
    kith_rng_seed(&rng, index);
    while (raw.length < raw_bytes)
        kith_buf_append_char(&raw, (char)kith_rng_below(&rng, 200));
    assert_int_equal(kith_checkpoint_writer_open(&w, crash_fs_table(disk), FROM, &info), KITH_OK);
    assert_int_equal(kith_checkpoint_writer_add(w, kith_buf_slice(&raw)), KITH_OK);
    assert_int_equal(kith_checkpoint_writer_finish(w, &file_bytes), KITH_OK);
    kith_checkpoint_writer_close(w);
    kith_buf_fini(&raw);
    return disk;
}

static struct kith_incoming_offer offer_of(struct kith_outgoing *out)
{
    int more;
    while ((more = kith_outgoing_sum(out, 100000)) == 1) {
    }
    assert_int_equal(more, KITH_OK);
    return (struct kith_incoming_offer){.folder_id = out->read.info.folder_id,
                                        .index = out->read.info.index,
                                        .term = out->read.info.term,
                                        .file_bytes = out->read.info.file_bytes,
                                        .file_crc = out->file_crc};
}

/* Carries all bytes over in pieces. */
static int carry(struct kith_outgoing *out, struct kith_incoming *in, size_t piece_bytes)
{
    int status = KITH_OK;
    while (status == KITH_OK && kith_incoming_offset(in) < out->read.info.file_bytes) {
        struct kith_buf piece = {0};
        status = kith_outgoing_read(out, kith_incoming_offset(in), piece_bytes, &piece);
        if (status == KITH_OK)
            status = kith_incoming_add(in, kith_incoming_offset(in), kith_buf_slice(&piece));
        kith_buf_fini(&piece);
    }
    return status;
}

static void a_checkpoint_arrives_as_it_was_sent(void **state)
{
    struct crash_fs *disk = disk_with_checkpoint(50, 3000000);
    struct kith_fs *fs = crash_fs_table(disk);
    struct kith_outgoing out;
    struct kith_incoming *in;
    struct kith_checkpoint_read read;
    assert_int_equal(kith_outgoing_open(&out, fs, FROM, 51), KITH_ENOENT);
    assert_int_equal(kith_outgoing_open(&out, fs, FROM, 50), KITH_OK);
    assert_int_equal(fs->unlink(fs, FROM "/checkpoint-00000000000000000050"),
                     KITH_OK); /* it stays readable */
    struct kith_incoming_offer offer = offer_of(&out);
    assert_int_equal(kith_incoming_open(&in, fs, TO, &offer), KITH_OK);
    assert_int_equal(kith_incoming_finish(in, &read, NULL), KITH_EINVAL); /* nothing is there yet */
    assert_int_equal(kith_incoming_add(in, 1, KITH_SLICE("x")), KITH_EINVAL);
    assert_int_equal(carry(&out, in, 70000), KITH_OK);
    assert_int_equal(kith_incoming_add(in, kith_incoming_offset(in), KITH_SLICE("x")), KITH_EINVAL);
    assert_int_equal(kith_incoming_finish(in, &read, NULL), KITH_OK);
    assert_true(kith_slice_equal(read.info.configuration, KITH_SLICE("configuration")));
    kith_checkpoint_read_close(&read);
    kith_incoming_close(in);
    kith_outgoing_close(&out);
    assert_non_null(crash_fs_find(disk, TO "/received-00000000000000000050", 0));
    assert_null(crash_fs_find(disk, TO "/incoming-", 0));
    assert_int_equal(kith_incoming_take(fs, TO, 50), KITH_OK);
    assert_int_equal(kith_incoming_take(fs, TO, 50), KITH_OK); /* as after a restart */
    assert_int_equal(kith_incoming_take(fs, TO, 49), KITH_ENOENT);
    assert_non_null(crash_fs_find(disk, TO "/checkpoint-00000000000000000050", 0));
    assert_int_equal(kith_incoming_drop(fs, TO, 50), KITH_OK);
    crash_fs_close(disk);
}

static void what_is_not_what_was_offered_is_refused_and_leaves_nothing(void **state)
{
    for (int wrong = 0; wrong < 7; wrong++) {
        struct crash_fs *disk = disk_with_checkpoint(50, 300000);
        struct kith_fs *fs = crash_fs_table(disk);
        struct kith_outgoing out;
        struct kith_incoming *in;
        struct kith_checkpoint_read read;
        struct kith_error error = {""};
        assert_int_equal(kith_outgoing_open(&out, fs, FROM, 50), KITH_OK);
        struct kith_incoming_offer offer = offer_of(&out);
        offer.file_crc += wrong == 0;
        offer.folder_id += wrong == 1;
        offer.index += wrong == 2;
        offer.term += wrong == 3;
        if (wrong == 4 || wrong == 5) { /* damaged before it was summed, so that the offer's sum is right */
            kith_outgoing_close(&out);
            crash_fs_flip(disk, FROM "/checkpoint-00000000000000000050", wrong == 4 ? 100 : 5000, 1);
            assert_int_equal(kith_outgoing_open(&out, fs, FROM, 50), wrong == 4 ? KITH_OK : KITH_OK);
            offer = offer_of(&out);
        }
        assert_int_equal(kith_incoming_open(&in, fs, TO, &offer), KITH_OK);
        assert_int_equal(carry(&out, in, 70000), KITH_OK);
        if (wrong == 6) /* the disk turns a bit over behind our back */
            crash_fs_flip(disk, TO "/incoming-00000000000000000050.tmp", 7000, 4);
        assert_int_equal(kith_incoming_finish(in, &read, &error), KITH_ECORRUPT);
        assert_string_not_equal(error.text, "");
        kith_incoming_close(in);
        kith_outgoing_close(&out);
        assert_null(crash_fs_find(disk, TO "/", 0));
        crash_fs_close(disk);
    }
}

static void impossible_offers_are_refused(void **state)
{
    struct crash_fs *disk = crash_fs_open();
    struct kith_incoming *in;
    struct kith_incoming_offer offers[] = {{.index = 5, .file_bytes = 3},
                                           {.index = 0, .file_bytes = 3000},
                                           {.index = UINT64_MAX, .file_bytes = 3000},
                                           {.index = 5, .file_bytes = UINT64_MAX}};
    for (size_t i = 0; i < sizeof offers / sizeof *offers; i++)
        assert_int_equal(kith_incoming_open(&in, crash_fs_table(disk), TO, &offers[i]), KITH_EINVAL);
    crash_fs_close(disk);
}

static void a_full_disk_is_reported(void **state)
{
    struct crash_fs *disk = disk_with_checkpoint(50, 300000);
    struct kith_outgoing out;
    struct kith_incoming *in;
    assert_int_equal(kith_outgoing_open(&out, crash_fs_table(disk), FROM, 50), KITH_OK);
    struct kith_incoming_offer offer = offer_of(&out);
    crash_fs_set_capacity(disk, offer.file_bytes + 100000);
    assert_int_equal(kith_incoming_open(&in, crash_fs_table(disk), TO, &offer), KITH_OK);
    assert_int_equal(carry(&out, in, 70000), KITH_ENOSPC);
    kith_incoming_close(in);
    assert_null(crash_fs_find(disk, TO "/", 0));
    kith_outgoing_close(&out);
    crash_fs_close(disk);
}

static void each_failed_allocation_is_reported_and_leaks_nothing(void **state)
{
    struct crash_fs *disk = disk_with_checkpoint(50, 30000);
    struct kith_fs *fs = crash_fs_table(disk);
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct kith_outgoing out = {0};
        struct kith_incoming *in = NULL;
        struct kith_checkpoint_read read = {0};
        int status = kith_outgoing_open(&out, fs, FROM, 50);
        if (status == KITH_OK && (status = kith_outgoing_sum(&out, SIZE_MAX / 4)) == KITH_OK) {
            struct kith_incoming_offer offer = {
                .folder_id = GROUP, .index = 50, .term = 3, out.read.info.file_bytes, out.file_crc};
            status = kith_incoming_open(&in, fs, TO, &offer);
        }
        if (status == KITH_OK)
            status = carry(&out, in, 7000);
        if (status == KITH_OK)
            status = kith_incoming_finish(in, &read, NULL);
        assert_true(status == KITH_OK || status == KITH_ENOMEM);
        kith_checkpoint_read_close(&read);
        kith_incoming_close(in);
        kith_outgoing_close(&out);
    }
    crash_fs_close(disk);
}

static void silent(void *arg, enum kith_log_level level, const char *line)
{
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_arrives_as_it_was_sent),
        cmocka_unit_test(what_is_not_what_was_offered_is_refused_and_leaves_nothing),
        cmocka_unit_test(impossible_offers_are_refused),
        cmocka_unit_test(a_full_disk_is_reported),
        cmocka_unit_test(each_failed_allocation_is_reported_and_leaks_nothing),
    };
    kith_log_setup(KITH_LOG_INFO, silent, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
