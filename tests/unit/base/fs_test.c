/* The file table of the real system. */
#include "base/fs.h"

#include "base/status.h"
#include "failing_malloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];
static char path[128], other[128];

static int setup(void **state)
{
    snprintf(folder, sizeof folder, "/tmp/kith-fs-test.XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/file", folder);
    snprintf(other, sizeof other, "%s/other", folder);
    return 0;
}

static int teardown(void **state)
{
    unlink(path);
    unlink(other);
    return rmdir(folder);
}

static void pieces_are_written_one_behind_the_other_however_many(void **state)
{
    struct kith_fs *fs = kith_fs_posix();
    struct kith_file *file;
    enum { COUNT = 3000 };
    static struct kith_slice pieces[COUNT];
    static char bytes[COUNT * 7], back[COUNT * 7 + 10];
    size_t total = 0, got;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 31);
    for (size_t i = 0; i < COUNT; i++) {
        pieces[i] = kith_slice(bytes + total, i % 8);
        total += i % 8;
    }
    assert_int_equal(fs->open(fs, path, KITH_FS_WRITE | KITH_FS_CREATE, &file), KITH_OK);
    assert_int_equal(fs->write(file, pieces, COUNT, 100), KITH_OK);
    uint64_t size;
    assert_int_equal(fs->size(file, &size), KITH_OK);
    assert_int_equal(size, 100 + total);
    assert_int_equal(fs->read(file, back, sizeof back, 100, &got), KITH_OK);
    assert_int_equal(got, total);
    assert_memory_equal(back, bytes, total);
    assert_int_equal(fs->read(file, back, 10, size + 5, &got), KITH_OK);
    assert_int_equal(got, 0);
    assert_int_equal(fs->sync(file, KITH_FS_SYNC_DATA), KITH_OK);
    assert_int_equal(fs->sync(file, KITH_FS_SYNC_ALL), KITH_OK);
    fs->drop_cache(file);
    kith_file_close(file);
    kith_file_close(NULL);
}

static void open_keeps_its_flags(void **state)
{
    struct kith_fs *fs = kith_fs_posix();
    struct kith_file *file;
    struct kith_slice piece = KITH_SLICE("content");
    struct stat info;
    uint64_t size;
    assert_int_equal(fs->open(fs, path, 0, &file), KITH_ENOENT);
    assert_int_equal(fs->open(fs, path, KITH_FS_WRITE, &file), KITH_ENOENT);
    assert_int_equal(fs->open(fs, path, KITH_FS_WRITE | KITH_FS_CREATE | KITH_FS_EXCLUSIVE, &file), KITH_OK);
    assert_int_equal(fs->write(file, &piece, 1, 0), KITH_OK);
    kith_file_close(file);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(fs->open(fs, path, KITH_FS_WRITE | KITH_FS_CREATE | KITH_FS_EXCLUSIVE, &file),
                     KITH_EEXIST);
    assert_int_equal(fs->open(fs, path, 0, &file), KITH_OK);
    assert_int_not_equal(fs->write(file, &piece, 1, 0), KITH_OK);
    kith_file_close(file);
    assert_int_equal(fs->open(fs, path, KITH_FS_WRITE | KITH_FS_EMPTY, &file), KITH_OK);
    assert_int_equal(fs->size(file, &size), KITH_OK);
    assert_int_equal(size, 0);
    kith_file_close(file);
}

static void preallocated_bytes_are_zeros_and_truncate_cuts(void **state)
{
    struct kith_fs *fs = kith_fs_posix();
    struct kith_file *file;
    struct kith_slice piece = KITH_SLICE("content");
    char back[4096];
    uint64_t size;
    size_t got;
    assert_int_equal(fs->open(fs, path, KITH_FS_WRITE | KITH_FS_CREATE, &file), KITH_OK);
    assert_int_equal(fs->write(file, &piece, 1, 0), KITH_OK);
    assert_int_equal(fs->preallocate(file, 100000), KITH_OK);
    assert_int_equal(fs->size(file, &size), KITH_OK);
    assert_int_equal(size, 100000);
    assert_int_equal(fs->read(file, back, sizeof back, 0, &got), KITH_OK);
    assert_memory_equal(back, "content", 7);
    for (size_t i = 7; i < got; i++)
        assert_int_equal(back[i], 0);
    assert_int_equal(fs->truncate(file, 3), KITH_OK);
    assert_int_equal(fs->read(file, back, sizeof back, 0, &got), KITH_OK);
    assert_int_equal(got, 3);
    kith_file_close(file);
}

static void a_lock_keeps_others_out_until_it_is_closed(void **state)
{
    struct kith_fs *fs = kith_fs_posix();
    struct kith_file *a, *b;
    assert_int_equal(fs->open(fs, path, KITH_FS_WRITE | KITH_FS_CREATE, &a), KITH_OK);
    assert_int_equal(fs->open(fs, path, KITH_FS_WRITE, &b), KITH_OK);
    assert_int_equal(fs->lock(a), KITH_OK);
    assert_int_equal(fs->lock(b), KITH_EBUSY);
    kith_file_close(a);
    assert_int_equal(fs->lock(b), KITH_OK);
    kith_file_close(b);
}

static int count_name(void *context, const char *name)
{
    int *count = context;
    assert_true(strcmp(name, "file") == 0 || strcmp(name, "other") == 0);
    return ++*count == 3 ? 77 : KITH_OK;
}

static void names_are_listed_renamed_and_removed(void **state)
{
    struct kith_fs *fs = kith_fs_posix();
    struct kith_file *file;
    int count = 0;
    assert_int_equal(fs->make_folder(fs, folder), KITH_EEXIST);
    assert_int_equal(fs->open(fs, path, KITH_FS_WRITE | KITH_FS_CREATE, &file), KITH_OK);
    kith_file_close(file);
    assert_int_equal(fs->list(fs, folder, count_name, &count), KITH_OK);
    assert_int_equal(count, 1);
    assert_int_equal(fs->rename(fs, path, other), KITH_OK);
    assert_int_equal(fs->rename(fs, path, other), KITH_ENOENT);
    assert_int_equal(fs->sync_folder(fs, folder), KITH_OK);
    count = 2;
    assert_int_equal(fs->list(fs, folder, count_name, &count), 77); /* what visit says ends it */
    assert_int_equal(fs->unlink(fs, other), KITH_OK);
    assert_int_equal(fs->unlink(fs, other), KITH_ENOENT);
    assert_int_equal(fs->list(fs, other, count_name, &count), KITH_ENOENT);
    assert_int_equal(fs->sync_folder(fs, other), KITH_ENOENT);
}

static void a_failed_allocation_leaves_no_open_file(void **state)
{
    struct kith_fs *fs = kith_fs_posix();
    struct kith_file *file = NULL;
    failing_malloc_arm(0);
    int status = fs->open(fs, path, KITH_FS_WRITE | KITH_FS_CREATE, &file);
    failing_malloc_disarm();
    assert_int_equal(status, KITH_ENOMEM);
    assert_null(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pieces_are_written_one_behind_the_other_however_many, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(open_keeps_its_flags, setup, teardown),
        cmocka_unit_test_setup_teardown(preallocated_bytes_are_zeros_and_truncate_cuts, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lock_keeps_others_out_until_it_is_closed, setup, teardown),
        cmocka_unit_test_setup_teardown(names_are_listed_renamed_and_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_allocation_leaves_no_open_file, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
