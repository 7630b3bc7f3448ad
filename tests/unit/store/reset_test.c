/* A leader's checkpoint takes the place of a log that has gone another way, and the power fails in the middle of it. At
 * every moment, whatever of the unsynced has reached the disk, a start finds either the old checkpoint with the old log, or
 * the new checkpoint with what was written behind it: never one with the other. */
#include "store/incoming.h"

#include "base/log.h"
#include "crash_fs.h"
#include "failing_malloc.h"
#include "store/log_reader.h"
#include "store/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define DIR    "/d"
#define LEADER "/leader"
enum { OLD_TERM = 3, NEW_TERM = 5, OLD_LAST = 60, BEHIND = 40, RESET_MARK = 1000 };

static struct kith_log_entry *entry_of(uint64_t index, uint64_t term, enum kith_record_kind kind)
{
    struct kith_log_entry *e = calloc(1, sizeof *e);
    *e = (struct kith_log_entry){.index = index, .term = term, .kind = kind};
    atomic_init(&e->references, 1);
    if (kind == KITH_RECORD_COMMAND)
        for (size_t i = 0; i < 300 + index * 7 % 400; i++)
            kith_buf_append_char(&e->payload, (char)(index + term));
    return e;
}

static void save_checkpoint(struct crash_fs *disk, const char *dir, uint64_t group, uint64_t index,
                            uint64_t term)
{
    struct kith_checkpoint_writer *w;
    struct kith_checkpoint_info info = {
        .folder_id = group, .index = index, .term = term, .configuration = KITH_SLICE("configuration")};
    uint64_t file_bytes;
    assert_int_equal(kith_checkpoint_writer_open(&w, crash_fs_table(disk), dir, &info), KITH_OK);
    assert_int_equal(kith_checkpoint_writer_add(w, KITH_SLICE("state")), KITH_OK);
    assert_int_equal(kith_checkpoint_writer_finish(w, &file_bytes), KITH_OK);
    kith_checkpoint_writer_close(w);
}

/* What a start finds: terms of the entries that count. */
struct found {
    uint64_t first, count;
    uint64_t term[500];
};

static int visit(void *context, const struct kith_record *r)
{
    struct found *f = context;
    if (r->kind == KITH_RECORD_RESET || (r->kind == KITH_RECORD_TRUNCATE && r->index <= f->first)) {
        f->first = r->index;
        f->count = 0;
        return KITH_OK;
    }
    if (r->kind == KITH_RECORD_TRUNCATE) {
        f->count = r->index - f->first;
        return KITH_OK;
    }
    if (f->count == 0)
        f->first = r->index;
    assert_int_equal(r->index, f->first + f->count);
    f->term[f->count++] = r->term;
    return KITH_OK;
}

struct scene {
    uint64_t old_checkpoint; /* 0: none */
    uint64_t index;          /* of the one that comes */
};

static struct kith_store *open_store(struct crash_fs *disk, struct kith_error *error)
{
    struct kith_store_options opening = {.fs = crash_fs_table(disk), .dir = DIR, .seed = 5};
    struct kith_store *store = NULL;
    (void)kith_store_open(&store, &opening, error);
    return store;
}

static struct kith_log *open_log(struct kith_store *store, struct found *found)
{
    struct kith_log_options options = {
        .segment_bytes = 12 << 10, .queue_bytes = 1 << 20, .manual = true, .seed = 9};
    struct kith_log *log = NULL;
    struct kith_error error = {""};
    if (kith_store_read_log(store, visit, found, &error) != KITH_OK ||
        kith_store_open_log(store, &log, &options, &error) != KITH_OK)
        fail_msg("%s", error.text);
    return log;
}

static void write_entries(struct kith_log *log, struct crash_fs *disk, uint64_t first, uint64_t last,
                          uint64_t term, uint64_t mark)
{
    for (uint64_t i = first; i <= last; i++) {
        kith_log_append(log, entry_of(i, term, KITH_RECORD_COMMAND));
        if (i % 4 == 0 || i == last) {
            assert_int_equal(kith_log_flush(log), KITH_OK);
            crash_fs_mark(disk, mark + i);
        }
    }
}

static void receive(struct crash_fs *disk, uint64_t index)
{
    struct kith_outgoing out;
    struct kith_incoming *in;
    struct kith_checkpoint_read read;
    struct kith_buf bytes = {0};
    assert_int_equal(kith_outgoing_open(&out, crash_fs_table(disk), LEADER, index), KITH_OK);
    assert_int_equal(kith_outgoing_sum(&out, 1 << 20), 0);
    struct kith_incoming_offer offer = {.folder_id = out.read.info.folder_id,
                                        .index = index,
                                        .term = NEW_TERM,
                                        .file_bytes = out.read.info.file_bytes,
                                        .file_crc = out.file_crc};
    assert_int_equal(kith_outgoing_read(&out, 0, 1 << 20, &bytes), KITH_OK);
    assert_int_equal(kith_incoming_open(&in, crash_fs_table(disk), DIR, &offer), KITH_OK);
    assert_int_equal(kith_incoming_add(in, 0, kith_buf_slice(&bytes)), KITH_OK);
    assert_int_equal(kith_incoming_finish(in, &read, NULL), KITH_OK);
    kith_checkpoint_read_close(&read);
    kith_incoming_close(in);
    kith_outgoing_close(&out);
    kith_buf_fini(&bytes);
}

static struct crash_fs *live(const struct scene *scene)
{
    struct crash_fs *disk = crash_fs_open();
    struct found found = {0};
    struct kith_store *store = open_store(disk, NULL);
    struct kith_state state = kith_store_get_found(store)->state;
    save_checkpoint(disk, LEADER, state.folder_id, scene->index, NEW_TERM);
    struct kith_log *log = open_log(store, &found);
    state.bootstrapped = true;
    assert_int_equal(kith_store_save_state(store, &state, NULL), KITH_OK);
    write_entries(log, disk, 1, OLD_LAST, OLD_TERM, 0);
    if (scene->old_checkpoint)
        save_checkpoint(disk, DIR, state.folder_id, scene->old_checkpoint, OLD_TERM);
    receive(disk, scene->index);
    kith_log_append(log, entry_of(scene->index + 1, NEW_TERM, KITH_RECORD_RESET));
    write_entries(log, disk, scene->index + 1, scene->index + 3, NEW_TERM,
                  RESET_MARK); /* before the new name */
    assert_int_equal(kith_incoming_take(crash_fs_table(disk), DIR, scene->index), KITH_OK);
    assert_int_equal(kith_store_trim_checkpoints(crash_fs_table(disk), DIR, scene->index), KITH_OK);
    assert_int_equal(kith_log_trim(log, scene->index), KITH_OK);
    write_entries(log, disk, scene->index + 4, scene->index + BEHIND, NEW_TERM, RESET_MARK);
    assert_int_equal(kith_log_first_index(log), scene->index + 1);
    assert_int_equal(kith_log_close(log), KITH_OK);
    kith_store_close(store);
    return disk;
}

static void expect_entries(const struct found *f, uint64_t first, uint64_t least_last, uint64_t term)
{
    uint64_t last = f->first + f->count - 1;
    assert_true(least_last < first || (f->first <= first && last >= least_last));
    for (uint64_t i = 0; i < f->count; i++)
        assert_int_equal(f->term[i], term);
}

static bool is_taken(struct crash_fs *disk, const struct scene *scene, uint64_t mark)
{
    struct kith_error error = {""};
    struct found found = {0};
    struct kith_store *store = open_store(disk, &error);
    if (!store)
        fail_msg("%s", error.text);
    struct kith_log *log = open_log(store, &found);
    const struct kith_store_found *f = kith_store_get_found(store);
    uint64_t index = f->has_checkpoint ? f->checkpoint.index : 0;
    bool taken = index == scene->index;
    if (taken) {
        assert_int_equal(kith_store_read_checkpoint(store, NULL, NULL, NULL), KITH_OK);
        expect_entries(&found, index + 1, mark > RESET_MARK ? mark - RESET_MARK : 0, NEW_TERM);
        assert_true(found.count == 0 || found.first == index + 1);
        assert_int_equal(f->last_index, index + found.count);
    } else {
        assert_true(mark < RESET_MARK && index <= scene->old_checkpoint);
        expect_entries(&found, index + 1, mark, OLD_TERM);
    }
    assert_null(crash_fs_find(disk, DIR "/received-", 0));
    assert_null(crash_fs_find(disk, DIR "/incoming-", 0));
    write_entries(log, disk, f->last_index + 1, f->last_index + 2, taken ? NEW_TERM : OLD_TERM, mark);
    assert_int_equal(kith_log_close(log), KITH_OK);
    kith_store_close(store);
    return taken;
}

static void expect_sound(struct crash_fs *disk)
{
    struct kith_store_check_result result;
    int status = kith_store_check(crash_fs_table(disk), DIR, NULL, NULL, &result);
    assert_true(status == KITH_OK);
}

static void a_start_finds_the_old_or_the_new_after_every_crash(void **state)
{
    static const struct scene scenes[] = {{0, 40},   {20, 40},       {20, OLD_LAST},
                                          {20, 200}, {OLD_LAST, 61}, {0, 300}};
    for (size_t s = 0; s < sizeof scenes / sizeof *scenes; s++) {
        struct crash_fs *disk = live(&scenes[s]);
        struct crash_replay *replay = crash_replay_open(disk);
        struct kith_rng rng;
        size_t old = 0, new = 0;
        for (uint64_t at = 1; crash_replay_step(replay); at++) {
            uint64_t mark = crash_replay_mark(replay);
            kith_rng_seed(&rng, at);
            if (mark == 0)
                continue;
            for (int kind = CRASH_PREFIX; kind <= CRASH_BARE; kind++) {
                struct crash_fs *crashed = crash_replay_crash(replay, (enum crash_kind)kind, &rng);
                bool taken = is_taken(crashed, &scenes[s], mark);
                *(taken ? &new : &old) += 1;
                assert_true(is_taken(crashed, &scenes[s], mark) == taken); /* and again */
                expect_sound(crashed);
                crash_fs_close(crashed);
            }
        }
        print_message("scene %zu: %zu times the old, %zu times the new\n", s, old, new);
        assert_true(old > 20 && new > 20);
        crash_replay_close(replay);
        crash_fs_close(disk);
    }
}

static void a_log_behind_a_checkpoint_that_is_gone_is_refused(void **state)
{
    struct scene scene = {0, 100};
    struct crash_fs *disk = live(&scene);
    struct kith_fs *fs = crash_fs_table(disk);
    struct kith_error error = {""};
    struct found found = {0};
    struct kith_store_check_result result;
    assert_int_equal(fs->unlink(fs, DIR "/checkpoint-00000000000000000100"), KITH_OK);
    struct kith_store *store = open_store(disk, &error);
    assert_non_null(store);
    assert_int_equal(kith_store_read_log(store, visit, &found, &error), KITH_ECORRUPT);
    assert_non_null(strstr(error.text, "Nothing was changed"));
    kith_store_close(store);
    assert_int_equal(kith_store_check(fs, DIR, NULL, NULL, &result), KITH_ECORRUPT);
    crash_fs_close(disk);
}

static void damage_in_what_is_only_kept_is_no_reason_to_refuse_the_folder(void **state)
{
    for (size_t nth = 0; nth < 2; nth++) {
        struct crash_fs *disk = crash_fs_open();
        struct found found = {0};
        struct kith_store *store = open_store(disk, NULL);
        struct kith_state s = kith_store_get_found(store)->state;
        struct kith_log *log = open_log(store, &found);
        write_entries(log, disk, 1, 200, OLD_TERM, 0);
        s.bootstrapped = true;
        assert_int_equal(kith_store_save_state(store, &s, NULL), KITH_OK);
        save_checkpoint(disk, DIR, s.folder_id, 150, OLD_TERM);
        assert_int_equal(kith_log_close(log), KITH_OK);
        kith_store_close(store);
        assert_true(crash_fs_flip(disk, crash_fs_find(disk, DIR "/log-", nth), 5000, 1));
        store = open_store(disk, NULL);
        found = (struct found){0};
        log = open_log(store, &found);
        assert_in_range(found.first, 2, 151);
        assert_int_equal(found.first + found.count, 201);
        assert_int_equal(kith_log_first_index(log), found.first);
        assert_int_equal(kith_log_close(log), KITH_OK);
        kith_store_close(store);
        crash_fs_close(disk);
    }
}

static void silent(void *arg, enum kith_log_level level, const char *line)
{
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_start_finds_the_old_or_the_new_after_every_crash),
        cmocka_unit_test(a_log_behind_a_checkpoint_that_is_gone_is_refused),
        cmocka_unit_test(damage_in_what_is_only_kept_is_no_reason_to_refuse_the_folder),
    };
    kith_log_setup(KITH_LOG_INFO, silent, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
