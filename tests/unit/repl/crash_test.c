/* Power cuts. A node works on a recording disk; then every moment of the recording is crashed in several ways, and
 * what the next node finds must hold everything that was acknowledged by then, nothing half applied, and in order. */
#include "repl/node.h"

#include "base/log.h"
#include "crash_fs.h"
#include "failing_malloc.h"
#include "store/store.h"
#include "tiny_machine.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define DIR "/d"

struct world {
    struct crash_fs *disk;
    struct kith_node *node;
    struct tiny machine;
    enum kith_durability durability;
    int submitted, acknowledged, failed;
    int saved, save_status;
};

/* The content of entry i, of any run: sizes from nothing to more than a segment. */
static void entry_text(struct kith_buf *out, int i)
{
    static const size_t sizes[] = {0, 1, 7, 8, 100, 479, 480, 481, 900, 3000, 33000, 50, 20, 5, 12000, 64};
    size_t size = i % 97 == 96 ? 90000 : sizes[(size_t)i * 7 % 16];
    kith_buf_append_format(out, "entry %d:", i);
    for (size_t k = 0; k < size; k++)
        kith_buf_append_char(out, (char)(i + k * 31));
}

static struct kith_node *open_on(struct crash_fs *disk, struct tiny *machine, enum kith_durability durability)
{
    struct kith_node_options options = {.dir = DIR,
                                        .durability = durability,
                                        .fs = crash_fs_table(disk),
                                        .machine = tiny_machine(machine),
                                        .segment_bytes = 48 << 10,
                                        .checkpoint_log_bytes = UINT64_MAX,
                                        .no_final_checkpoint = true};
    struct kith_node *node = NULL;
    struct kith_error error = {""};
    if (kith_node_open(&node, &options, &error) != KITH_OK)
        print_message("open: %s\n", error.text);
    return node;
}

static void acknowledge(void *context, int status)
{
    struct world *w = context;
    if (status != KITH_OK) {
        w->failed++;
        return;
    }
    w->acknowledged++;
    crash_fs_mark(w->disk, (uint64_t)w->acknowledged);
}

static void note_saved(void *context, int status)
{
    struct world *w = context;
    w->saved++;
    w->save_status = status;
}

static int submit_next(struct world *w)
{
    struct kith_buf payload = {0};
    entry_text(&payload, w->submitted);
    int status = kith_node_submit(w->node, &payload, NULL, acknowledge, w);
    if (status == KITH_OK)
        w->submitted++;
    kith_buf_fini(&payload);
    return status;
}

static void pause_shortly(void)
{
    sched_yield();
}

static void settle(struct world *w)
{
    while (w->acknowledged + w->failed < w->submitted) {
        kith_node_poll(w->node);
        pause_shortly();
    }
}

static void save(struct world *w)
{
    int before = w->saved;
    assert_int_equal(kith_node_checkpoint(w->node, note_saved, w), KITH_OK);
    for (int i = 0; w->saved == before; i++) {
        kith_node_poll(w->node);
        if (i % 3 == 0 && w->submitted % 50 != 49)
            submit_next(w);
        pause_shortly();
    }
    assert_int_equal(w->save_status, KITH_OK);
}

static void work(struct world *w, int count)
{
    for (int end = w->submitted + count; w->submitted < end;) {
        for (int burst = 1 + w->submitted % 5; burst > 0 && w->submitted < end; burst--)
            assert_int_equal(submit_next(w), KITH_OK);
        kith_node_poll(w->node);
        if (w->submitted % 3 == 0)
            settle(w);
    }
    settle(w);
}

/* Three runs of a node on one disk, with checkpoints, one of them ended without a close... as far as a process can:
 * its log is only flushed, which is what close does first anyway. */
static void live(struct world *w, enum kith_durability durability)
{
    w->disk = crash_fs_open();
    w->durability = durability;
    for (int run = 0; run < 3; run++) {
        w->node = open_on(w->disk, &w->machine, durability);
        assert_non_null(w->node);
        work(w, 50);
        if (run != 1)
            save(w);
        settle(w);
        work(w, 20);
        assert_int_equal(kith_node_close(w->node), KITH_OK);
        tiny_fini(&w->machine);
    }
}

/* How many entries the machine holds; -1: something that is not a prefix of what was submitted. */
static int prefix_length(const struct tiny *machine)
{
    struct kith_reader r = kith_reader(kith_buf_slice(&machine->all));
    int count = 0;
    while (r.length) {
        struct kith_slice got = kith_reader_slice(&r);
        struct kith_buf want = {0};
        entry_text(&want, count);
        bool same = !r.failed && kith_slice_equal(got, kith_buf_slice(&want));
        kith_buf_fini(&want);
        if (!same)
            return -1;
        count++;
    }
    return count;
}

/* Opens a node on a crashed disk and checks; for some also writes one entry more and opens again. */
static void expect_recovery(struct crash_fs *crashed, int at_least, int at_most, const char *what,
                            uint64_t seed)
{
    int rounds = seed % 4 == 0 ? 2 : 1;
    for (int round = 0; round < rounds; round++) {
        struct world w = {.disk = crashed};
        w.node = open_on(crashed, &w.machine, KITH_DURABILITY_ALWAYS);
        int found = w.node ? prefix_length(&w.machine) : -2;
        if (found < at_least || found > at_most)
            fail_msg("%s, seed %llu, round %d: %d entries found, %d to %d expected", what,
                     (unsigned long long)seed, round, found, at_least, at_most);
        w.submitted = w.acknowledged = found;
        if (rounds == 1) {
            assert_int_equal(kith_node_close(w.node), KITH_OK);
            tiny_fini(&w.machine);
            break;
        }
        assert_int_equal(submit_next(&w), KITH_OK);
        settle(&w);
        assert_int_equal(w.acknowledged, found + 1);
        assert_int_equal(kith_node_close(w.node), KITH_OK);
        tiny_fini(&w.machine);
        at_least = found + 1;
        at_most = found + 1;
    }
}

/* A crash, a recovery that itself is cut short anywhere, and another recovery. `safe` are there after the first, and
 * the node writes a few more before its end. */
static void crash_again(struct crash_fs *crashed, int safe, int at_most, uint64_t seed)
{
    struct world w = {.disk = crashed};
    struct kith_rng rng;
    kith_rng_seed(&rng, seed);
    w.node = open_on(crashed, &w.machine, KITH_DURABILITY_ALWAYS);
    int found = w.node ? prefix_length(&w.machine) : -2;
    if (found < safe)
        fail_msg("seed %llu: %d entries found, %d expected", (unsigned long long)seed, found, safe);
    w.submitted = w.acknowledged = found;
    submit_next(&w);
    settle(&w);
    assert_int_equal(kith_node_close(w.node), KITH_OK);
    tiny_fini(&w.machine);
    struct crash_replay *replay = crash_replay_open(crashed);
    while (crash_replay_step(replay)) {
        int now_safe = (int)crash_replay_mark(replay) > safe ? (int)crash_replay_mark(replay) : safe;
        struct crash_fs *twice = crash_replay_crash(replay, (enum crash_kind)kith_rng_below(&rng, 4), &rng);
        expect_recovery(twice, now_safe, at_most > found ? at_most : found + 1, "twice", seed);
        crash_fs_close(twice);
    }
    crash_replay_close(replay);
}

static void crash_everywhere(const struct world *w, int step, bool acknowledged_is_safe)
{
    static const char *const names[] = {"prefix", "torn", "reordered", "bare"};
    struct crash_replay *replay = crash_replay_open(w->disk);
    struct kith_rng rng;
    for (uint64_t at = 1; crash_replay_step(replay); at++) {
        kith_rng_seed(&rng, at);
        if (step > 1 && kith_rng_below(&rng, (uint64_t)step))
            continue;
        for (int kind = CRASH_PREFIX; kind <= CRASH_BARE; kind++) {
            struct crash_fs *crashed = crash_replay_crash(replay, (enum crash_kind)kind, &rng);
            int safe = acknowledged_is_safe ? (int)crash_replay_mark(replay) : 0;
            expect_recovery(crashed, safe, w->submitted, names[kind], at);
            crash_fs_close(crashed);
        }
    }
    crash_replay_close(replay);
}

/* ThreadSanitizer, which is slow, looks at the threads; that every single crash point is good, the other builds show. */
#ifdef __SANITIZE_THREAD__
enum { EVERY = 10 };
#else
enum { EVERY = 1 };
#endif

static void every_acknowledged_entry_survives_every_crash(void **state)
{
    struct world w = {0};
    live(&w, KITH_DURABILITY_ALWAYS);
    print_message("%zu operations recorded\n", crash_fs_operations(w.disk));
    crash_everywhere(&w, EVERY, true);
    crash_fs_close(w.disk);
}

static void a_recovery_that_crashes_is_recovered_from(void **state)
{
    struct world w = {0};
    struct kith_rng rng;
    live(&w, KITH_DURABILITY_ALWAYS);
    kith_rng_seed(&rng, 4711);
    struct crash_replay *replay = crash_replay_open(w.disk);
    for (uint64_t at = 1; crash_replay_step(replay); at++) {
        if (kith_rng_below(&rng, 40 * EVERY))
            continue;
        struct crash_fs *crashed = crash_replay_crash(replay, CRASH_TORN + at % 2, &rng);
        crash_again(crashed, (int)crash_replay_mark(replay), w.submitted, at);
        crash_fs_close(crashed);
    }
    crash_replay_close(replay);
    crash_fs_close(w.disk);
}

static void without_a_sync_per_group_a_crash_leaves_a_prefix(void **state)
{
    struct world w = {0};
    live(&w, KITH_DURABILITY_NONE);
    crash_everywhere(&w, 6 * EVERY, false);
    crash_fs_close(w.disk);
    w = (struct world){0};
    live(&w, KITH_DURABILITY_EVERYSEC);
    crash_everywhere(&w, 6 * EVERY, false);
    crash_fs_close(w.disk);
}

static void silent(void *arg, enum kith_log_level level, const char *line)
{
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_acknowledged_entry_survives_every_crash),
        cmocka_unit_test(a_recovery_that_crashes_is_recovered_from),
        cmocka_unit_test(without_a_sync_per_group_a_crash_leaves_a_prefix),
    };
    kith_log_setup(KITH_LOG_INFO, silent, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
