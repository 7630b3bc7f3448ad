/* The simulated disk: what it promises, and what it may do to what it did not promise. */
#include "disk.h"

#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { BYTES = 40000 };

static struct kith_file *open_file(struct sim_disk *disk, const char *path, unsigned flags)
{
    struct kith_file *file = NULL;
    assert_int_equal(sim_disk_table(disk)->open(sim_disk_table(disk), path, flags, &file), KITH_OK);
    return file;
}

static int put(struct kith_file *file, uint64_t offset, const void *bytes, size_t length)
{
    struct kith_slice pieces[2] = {kith_slice(bytes, length / 2),
                                   kith_slice((const char *)bytes + length / 2, length - length / 2)};
    return file->fs->write(file, pieces, 2, offset);
}

static void expect(struct sim_disk *disk, const char *path, const char *content)
{
    struct kith_file *file = open_file(disk, path, 0);
    char bytes[100];
    size_t got;
    assert_int_equal(file->fs->read(file, bytes, sizeof bytes, 0, &got), KITH_OK);
    assert_int_equal(got, strlen(content));
    assert_memory_equal(bytes, content, got);
    kith_file_close(file);
}

static void restart(struct sim_disk *disk, enum sim_disk_crash how)
{
    sim_disk_kill(disk);
    sim_disk_restart(disk, how);
}

static void what_was_synced_survives_and_the_rest_may_not(void **state)
{
    struct sim_disk *disk = sim_disk_open(1);
    struct kith_fs *fs = sim_disk_table(disk);
    struct kith_file *file = open_file(disk, "/d/a", KITH_FS_WRITE | KITH_FS_CREATE);
    assert_int_equal(put(file, 0, "safe", 4), KITH_OK);
    assert_int_equal(fs->sync(file, KITH_FS_SYNC_DATA), KITH_OK);
    assert_int_equal(fs->sync_folder(fs, "/d"), KITH_OK);
    assert_int_equal(put(file, 0, "lost!", 5), KITH_OK);
    kith_file_close(file);
    expect(disk, "/d/a", "lost!");
    restart(disk, SIM_DISK_FORGETS);
    expect(disk, "/d/a", "safe");
    file = open_file(disk, "/d/a", KITH_FS_WRITE);
    assert_int_equal(put(file, 4, " and sound", 10), KITH_OK);
    kith_file_close(file);
    restart(disk, SIM_DISK_KEEPS);
    expect(disk, "/d/a", "safe and sound");
    assert_int_equal(fs->rename(fs, "/d/a", "/d/b"), KITH_OK);
    restart(disk, SIM_DISK_FORGETS);
    expect(disk, "/d/a", "safe and sound");
    assert_int_equal(fs->rename(fs, "/d/a", "/d/b"), KITH_OK);
    assert_int_equal(fs->sync_folder(fs, "/d"), KITH_OK);
    restart(disk, SIM_DISK_FORGETS);
    expect(disk, "/d/b", "safe and sound");
    assert_int_equal(fs->unlink(fs, "/d/b"), KITH_OK);
    assert_int_equal(fs->sync_folder(fs, "/d"), KITH_OK);
    restart(disk, SIM_DISK_KEEPS);
    assert_int_equal(fs->open(fs, "/d/b", 0, &file), KITH_ENOENT);
    assert_int_equal(sim_disk_used(disk), 0);
    sim_disk_close(disk);
}

static void a_dead_disk_answers_nothing(void **state)
{
    struct sim_disk *disk = sim_disk_open(1);
    struct kith_fs *fs = sim_disk_table(disk);
    struct kith_file *file = open_file(disk, "/d/a", KITH_FS_WRITE | KITH_FS_CREATE), *other;
    uint64_t size;
    size_t got;
    char byte;
    assert_int_equal(fs->lock(file), KITH_OK);
    sim_disk_kill_in(disk, 2);
    assert_int_equal(put(file, 0, "x", 1), KITH_OK);
    assert_int_equal(put(file, 1, "y", 1), KITH_EIO); /* and yet it may be found */
    assert_true(sim_disk_is_dead(disk));
    assert_int_equal(put(file, 2, "z", 1), KITH_EIO);
    assert_int_equal(fs->sync(file, KITH_FS_SYNC_ALL), KITH_EIO);
    assert_int_equal(fs->read(file, &byte, 1, 0, &got), KITH_EIO);
    assert_int_equal(fs->size(file, &size), KITH_EIO);
    assert_int_equal(fs->truncate(file, 0), KITH_EIO);
    assert_int_equal(fs->preallocate(file, 10), KITH_EIO);
    assert_int_equal(fs->open(fs, "/d/a", 0, &other), KITH_EIO);
    assert_int_equal(fs->rename(fs, "/d/a", "/d/b"), KITH_EIO);
    assert_int_equal(fs->unlink(fs, "/d/a"), KITH_EIO);
    assert_int_equal(fs->sync_folder(fs, "/d"), KITH_EIO);
    kith_file_close(file);
    sim_disk_restart(disk, SIM_DISK_KEEPS);
    expect(disk, "/d/a", "xy");
    file = open_file(disk, "/d/a", 0);
    assert_int_equal(fs->lock(file), KITH_OK); /* the dead one's is gone */
    kith_file_close(file);
    sim_disk_close(disk);
}

static void a_failed_sync_is_not_healed_by_the_next(void **state)
{
    struct sim_disk *disk = sim_disk_open(1);
    struct kith_fs *fs = sim_disk_table(disk);
    struct kith_file *file = open_file(disk, "/d/a", KITH_FS_WRITE | KITH_FS_CREATE);
    assert_int_equal(put(file, 0, "old", 3), KITH_OK);
    assert_int_equal(fs->sync(file, KITH_FS_SYNC_ALL), KITH_OK);
    assert_int_equal(fs->sync_folder(fs, "/d"), KITH_OK);
    sim_disk_fail_syncs(disk, 1);
    assert_int_equal(put(file, 0, "new", 3), KITH_OK);
    assert_int_equal(fs->sync(file, KITH_FS_SYNC_ALL), KITH_EIO);
    sim_disk_fail_syncs(disk, 0);
    assert_int_equal(fs->sync(file, KITH_FS_SYNC_ALL), KITH_OK);
    kith_file_close(file);
    expect(disk, "/d/a", "new");
    restart(disk, SIM_DISK_SCATTERS);
    expect(disk, "/d/a", "old");
    sim_disk_close(disk);
}

static void a_full_disk_takes_no_more(void **state)
{
    struct sim_disk *disk = sim_disk_open(1);
    struct kith_fs *fs = sim_disk_table(disk);
    struct kith_file *file = open_file(disk, "/d/a", KITH_FS_WRITE | KITH_FS_CREATE);
    assert_int_equal(fs->preallocate(file, 900), KITH_OK);
    sim_disk_set_capacity(disk, 1000);
    assert_int_equal(fs->preallocate(file, 1001), KITH_ENOSPC);
    assert_int_equal(put(file, 895, "0123456789", 10), KITH_OK);
    assert_int_equal(put(file, 995, "0123456789", 10), KITH_ENOSPC);
    assert_int_equal(put(file, 0, "there is room already", 21), KITH_OK);
    assert_int_equal(fs->truncate(file, 10), KITH_OK);
    assert_int_equal(put(file, 500, "again", 5), KITH_OK);
    assert_int_equal(sim_disk_used(disk), 505);
    kith_file_close(file);
    sim_disk_close(disk);
}

/* Random writes, syncs and crashes beside two plain arrays. */
static void every_sector_is_the_old_one_the_new_one_or_torn(void **state)
{
    static unsigned char seen[BYTES], safe[BYTES], found[BYTES], chunk[5000];
    struct kith_rng rng;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct sim_disk *disk = sim_disk_open(seed);
        struct kith_fs *fs = sim_disk_table(disk);
        struct kith_file *file = open_file(disk, "/d/a", KITH_FS_WRITE | KITH_FS_CREATE);
        size_t got, new_ones = 0, old_ones = 0;
        kith_rng_seed(&rng, seed);
        assert_int_equal(fs->preallocate(file, BYTES), KITH_OK);
        assert_int_equal(fs->sync(file, KITH_FS_SYNC_ALL), KITH_OK);
        assert_int_equal(fs->sync_folder(fs, "/d"), KITH_OK);
        memset(seen, 0, sizeof seen);
        memset(safe, 0, sizeof safe);
        for (int i = 0; i < 30; i++) {
            size_t length = 1 + (size_t)kith_rng_below(&rng, sizeof chunk);
            size_t offset = (size_t)kith_rng_below(&rng, BYTES - length);
            memset(chunk, (int)(1 + kith_rng_below(&rng, 255)), length);
            assert_int_equal(put(file, offset, chunk, length), KITH_OK);
            memcpy(seen + offset, chunk, length);
            if (kith_rng_below(&rng, 8) == 0) {
                assert_int_equal(fs->sync(file, KITH_FS_SYNC_DATA), KITH_OK);
                memcpy(safe, seen, BYTES);
            }
        }
        assert_int_equal(fs->read(file, found, BYTES, 0, &got), KITH_OK);
        assert_memory_equal(found, seen, BYTES);
        kith_file_close(file);
        restart(disk, SIM_DISK_SCATTERS);
        file = open_file(disk, "/d/a", 0);
        assert_int_equal(fs->read(file, found, BYTES, 0, &got), KITH_OK);
        assert_int_equal(got, BYTES);
        for (size_t from = 0; from < BYTES; from += 512) {
            size_t n = BYTES - from < 512 ? BYTES - from : 512, torn = 0;
            bool is_new = memcmp(found + from, seen + from, n) == 0;
            bool is_old = memcmp(found + from, safe + from, n) == 0;
            new_ones += is_new && !is_old;
            old_ones += is_old && !is_new;
            while (torn < n && found[from + torn] == seen[from + torn])
                torn++;
            assert_memory_equal(found + from + torn, safe + from + torn, n - torn);
        }
        if (seed == 1)
            print_message("%zu sectors are new, %zu old\n", new_ones, old_ones);
        kith_file_close(file);
        sim_disk_close(disk);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_synced_survives_and_the_rest_may_not),
        cmocka_unit_test(a_dead_disk_answers_nothing),
        cmocka_unit_test(a_failed_sync_is_not_healed_by_the_next),
        cmocka_unit_test(a_full_disk_takes_no_more),
        cmocka_unit_test(every_sector_is_the_old_one_the_new_one_or_torn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
