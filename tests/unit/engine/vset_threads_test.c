/* Vector sets with real workers, for ThreadSanitizer: everything at once, and in the end what an engine
 * without threads holds. */
#include "fixture.h"

#include "base/random.h"
#include "base/status.h"
#include "engine/vset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants those first */
#include <cmocka.h>

enum { WORKERS = 3, ROUNDS = 4000, ELEMENTS = 1500 };

/* A search on its way. */
struct pending {
    struct pending *next;
    struct kith_deferred *deferred;
    struct kith_pool *pool;
    bool finished;
};

struct world {
    struct fixture fixture; /* its engine has the pool */
    struct kith_pool *pool;
    struct pending *first;
    size_t found, searches, in_flight;
};

static void wake(void *arg)
{
}

static void search_done(struct kith_task *task)
{
    struct kith_deferred *deferred = (struct kith_deferred *)task;
    struct pending *pending = deferred->owner;
    if (deferred->again) {
        struct kith_executor executor = kith_pool_executor(pending->pool);
        deferred->again = false;
        kith_executor_submit(&executor, task);
        return;
    }
    pending->finished = true;
}

static void open_world(struct world *world)
{
    *world = (struct world){0};
    assert_true(fixture_open(&world->fixture, 1));
    kith_engine_close(world->fixture.engine);
    assert_int_equal(kith_pool_open(&world->pool, WORKERS, wake, NULL), KITH_OK);
    struct kith_engine_options options = {
        .hash_seed = {5, 6}, .executor = kith_pool_executor(world->pool), .worker_count = WORKERS};
    assert_int_equal(kith_engine_open(&world->fixture.engine, &options), KITH_OK);
}

/* Replies of finished searches; one in five is dropped unread, as when its client has gone. */
static void collect(struct world *world)
{
    struct pending **link = &world->first;
    kith_pool_drain(world->pool);
    while (*link) {
        struct pending *pending = *link;
        if (!pending->finished) {
            link = &pending->next;
            continue;
        }
        *link = pending->next;
        if (world->searches++ % 5) {
            struct kith_buf out;
            struct kith_reply reply;
            kith_buf_init(&out);
            kith_reply_init(&reply, &out, 3);
            pending->deferred->finish(pending->deferred, &reply);
            assert_true(out.length > 3 && (out.data[0] == '*' || out.data[0] == '%'));
            world->found += (size_t)strtol(out.data + 1, NULL, 10);
            kith_buf_fini(&out);
        }
        pending->deferred->close(pending->deferred);
        free(pending);
        world->in_flight--;
    }
}

static void search(struct world *world, char *line)
{
    struct kith_slice argv[64];
    size_t argc = 0;
    for (char *word = strtok(line, " "); word; word = strtok(NULL, " "))
        argv[argc++] = kith_slice(word, strlen(word));
    struct kith_buf out;
    struct kith_reply reply;
    struct kith_deferred *deferred;
    kith_buf_init(&out);
    kith_reply_init(&reply, &out, 3);
    struct kith_admitted request = {.session = &world->fixture.session, .argv = argv, .argc = argc};
    request.command = kith_engine_admit(world->fixture.engine, argv, argc, &reply);
    assert_non_null(request.command);
    kith_engine_execute(world->fixture.engine, &request, world->fixture.now_ms, &reply, &deferred);
    kith_buf_fini(&out);
    if (!deferred)
        return;
    struct pending *pending = calloc(1, sizeof *pending);
    assert_non_null(pending);
    pending->deferred = deferred;
    pending->pool = world->pool;
    pending->next = world->first;
    world->first = pending;
    world->in_flight++;
    deferred->owner = pending;
    deferred->task.done = search_done;
    struct kith_executor executor = kith_pool_executor(world->pool);
    kith_executor_submit(&executor, &deferred->task);
}

/* A change for both engines, or a search for the one with threads. */
static void random_step(struct world *world, struct fixture *plain, struct kith_rng *rng)
{
    char line[256];
    unsigned element = (unsigned)kith_rng_below(rng, ELEMENTS), key = (unsigned)kith_rng_below(rng, 2);
    int v[4];
    for (int i = 0; i < 4; i++)
        v[i] = (int)kith_rng_below(rng, 200) - 100;
    switch (kith_rng_below(rng, 11)) {
    case 0:
        snprintf(line, sizeof line, "VREM k%u e%u", key, element);
        break;
    case 1:
    case 2:
        snprintf(line, sizeof line, "VSETATTR k%u e%u {\"n\":%u}", key, element, element);
        break;
    case 3:
        snprintf(line, sizeof line, "VSIM k%u VALUES 4 %d %d %d %d WITHSCORES FILTER .n>%u", key, v[0], v[1],
                 v[2], v[3], element);
        search(world, line);
        return;
    case 4:
        snprintf(line, sizeof line, "VSIM k%u ELE e%u WITHATTRIBS COUNT 20%s", key, element,
                 element % 4 ? "" : " TRUTH");
        search(world, line);
        return;
    case 10:
        snprintf(line, sizeof line,
                 "VSIM k%u QUERIES 4 VALUES 4 %d %d %d %d ELE e%u VALUES 4 %d 1 2 3 VALUES 4 9 %d 1 2 "
                 "WITHDISTANCES%s",
                 key, v[0], v[1], v[2], v[3], element, v[1], v[2], element % 2 ? " MMR 0.5 PROFILE" : "");
        search(world, line);
        return;
    case 5:
        if (element % 300 == 0)
            snprintf(line, sizeof line, "DEL k%u", key);
        else
            snprintf(line, sizeof line, "VADD k%u VALUES 4 %d %d %d %d e%u", key, v[0], v[1], v[2], v[3],
                     element);
        break;
    case 6:
        if (element % 10 == 0) {
            static const char *const kinds[] = {"TOP 20 WITHSCORES", "MINSCORE 0.99 COUNT 20",
                                                "MINSCORE 0.999 SAMPLE 10", "TOP 5 FILTER .n>100"};
            snprintf(line, sizeof line, "VPAIRS k%u %s", key, kinds[element / 10 % 4]);
            search(world, line);
            return;
        }
        /* fallthrough */
    default:
        snprintf(line, sizeof line, "VADD k%u VALUES 4 %d %d %d %d e%u SETATTR {\"n\":%d}", key, v[0], v[1],
                 v[2], v[3], element, v[0]);
    }
    assert_non_null(fixture_do(&world->fixture, line));
    assert_non_null(fixture_do(plain, line));
}

/* Until nothing is under way and nothing is due: repairs that had to wait for searches are done, too. */
static void finish(struct world *world, bool all)
{
    while (world->in_flight || kith_engine_busy(world->fixture.engine) ||
           (all && kith_vset_get_totals(world->fixture.engine)->pending)) {
        kith_pool_wait(world->pool);
        collect(world);
        kith_engine_idle_work(world->fixture.engine);
    }
}

static struct kith_vset *get_set(struct fixture *fixture, const char *name)
{
    struct kith_key key;
    bool found = kith_db_find(kith_engine_db(fixture->engine, 0), kith_slice(name, strlen(name)), -1, &key);
    return found ? kith_key_object(&key) : NULL;
}

static void close_world(struct world *world)
{
    kith_engine_stop_background(world->fixture.engine);
    finish(world, false);
    fixture_close(&world->fixture);
    kith_pool_close(world->pool);
}

/* The reply of a search, whether it is handed over or not; the caller's to free. */
static struct kith_buf reply_of(struct world *world, const char *command)
{
    char line[1024];
    struct kith_buf out;
    struct kith_reply reply;
    kith_buf_init(&out);
    kith_reply_init(&reply, &out, 3);
    snprintf(line, sizeof line, "%s", command);
    search(world, line);
    assert_non_null(world->first);
    while (!world->first->finished)
        kith_pool_wait(world->pool);
    world->first->deferred->finish(world->first->deferred, &reply);
    world->searches = 0; /* collect() drops it */
    collect(world);
    return out;
}

static void several_queries_answer_like_one_after_the_other(void **state)
{
    enum { QUERIES = 9 };
    struct world world;
    struct kith_rng rng;
    kith_rng_seed(&rng, 4);
    open_world(&world);
    for (unsigned i = 0; i < 800; i++) {
        char line[128];
        snprintf(line, sizeof line, "VADD k VALUES 3 %d %d %d e%u", (int)kith_rng_below(&rng, 200) - 100,
                 (int)kith_rng_below(&rng, 200) - 100, (int)kith_rng_below(&rng, 200) - 100, i);
        assert_string_equal(fixture_do(&world.fixture, line), ":1\r\n");
    }
    finish(&world, true);
    char all[1024] = "VSIM k QUERIES 9";
    struct kith_buf expected;
    kith_buf_init(&expected);
    kith_buf_append_text(&expected, "*9\r\n");
    for (unsigned i = 0; i < QUERIES; i++) {
        char query[64], one[128];
        snprintf(query, sizeof query, i % 2 ? " ELE e%u" : " VALUES 3 1 -2 %u", i);
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s", query);
        snprintf(one, sizeof one, "VSIM k%s COUNT 7 WITHSCORES WITHDISTANCES TRUTH", query);
        struct kith_buf reply = reply_of(&world, one);
        kith_buf_append(&expected, reply.data, reply.length);
        kith_buf_fini(&reply);
    }
    snprintf(all + strlen(all), sizeof all - strlen(all), " COUNT 7 WITHSCORES WITHDISTANCES TRUTH");
    for (int round = 0; round < 50; round++) {
        struct kith_buf reply = reply_of(&world, all);
        assert_int_equal(reply.length, expected.length);
        assert_memory_equal(reply.data, expected.data, expected.length);
        kith_buf_fini(&reply);
    }
    kith_buf_fini(&expected);
    close_world(&world);
}

static void everything_at_once_ends_like_one_thing_after_another(void **state)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct world world;
        struct fixture plain;
        struct kith_rng rng;
        struct kith_buf stream;
        struct kith_error error = {""};
        kith_buf_init(&stream);
        kith_rng_seed(&rng, seed);
        open_world(&world);
        assert_true(fixture_open(&plain, 2));
        bool saving = false;
        uint64_t digest = 0;
        for (int i = 0; i < ROUNDS; i++) {
            random_step(&world, &plain, &rng);
            if (i % 7 == 0 || world.in_flight > 30)
                collect(&world);
            if (i == ROUNDS / 2) {
                digest = kith_engine_digest(world.fixture.engine);
                saving = kith_engine_checkpoint_begin(world.fixture.engine) == KITH_OK;
            }
            if (saving)
                saving = kith_engine_checkpoint_step(world.fixture.engine, &stream, 500) > 0;
        }
        while (saving)
            saving = kith_engine_checkpoint_step(world.fixture.engine, &stream, 500) > 0;
        finish(&world, true);
        assert_true(kith_engine_digest(world.fixture.engine) == kith_engine_digest(plain.engine));
        assert_int_equal(kith_vset_get_totals(world.fixture.engine)->unlinked, 0);
        print_message("seed %llu: %zu searches found %zu\n", (unsigned long long)seed, world.searches,
                      world.found);
        for (const char *name = "k0"; name; name = name[1] == '0' ? "k1" : NULL) {
            struct kith_vset *vset = get_set(&world.fixture, name);
            assert_int_equal(kith_hnsw_settle(kith_vset_index(vset)), KITH_OK);
            int status = kith_vset_check(vset, &error);
            assert_string_equal(error.text, "");
            assert_int_equal(status, KITH_OK);
        }
        struct fixture loaded;
        assert_true(fixture_open(&loaded, 3));
        assert_int_equal(fixture_load(loaded.engine, kith_buf_slice(&stream), 999, &error), KITH_OK);
        assert_true(kith_engine_digest(loaded.engine) == digest);
        fixture_close(&loaded);
        close_world(&world);
        fixture_close(&plain);
        kith_buf_fini(&stream);
    }
}

static void a_set_may_go_while_it_is_searched_and_linked(void **state)
{
    struct world world;
    struct fixture plain;
    struct kith_rng rng;
    kith_rng_seed(&rng, 9);
    open_world(&world);
    assert_true(fixture_open(&plain, 2));
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 400; i++)
            random_step(&world, &plain, &rng);
        assert_non_null(fixture_do(&world.fixture, round % 2 ? "FLUSHALL" : "DEL k0 k1"));
        assert_non_null(fixture_do(&plain, "FLUSHALL"));
        if (round % 3 == 0)
            collect(&world);
        while (kith_engine_idle_work(world.fixture.engine))
            continue;
    }
    finish(&world, true);
    assert_int_equal(kith_vset_get_totals(world.fixture.engine)->sets, 0);
    close_world(&world);
    fixture_close(&plain);
}

static void many_sets_share_the_workers(void **state)
{
    struct world world;
    char line[128];
    open_world(&world);
    for (int i = 0; i < 4000; i++) {
        snprintf(line, sizeof line, "VADD k%d VALUES 4 %d %d %d 1 e%d", i % 100, i % 17, i % 31, i % 7, i);
        assert_non_null(fixture_do(&world.fixture, line));
        assert_true(kith_engine_busy(world.fixture.engine) <= WORKERS);
    }
    finish(&world, true);
    assert_int_equal(kith_vset_get_totals(world.fixture.engine)->sets, 100);
    assert_int_equal(kith_vset_get_totals(world.fixture.engine)->elements, 4000);
    assert_int_equal(kith_vset_get_totals(world.fixture.engine)->unlinked, 0);
    assert_int_equal(kith_vset_get_totals(world.fixture.engine)->pending, 0);
    close_world(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_queries_answer_like_one_after_the_other),
        cmocka_unit_test(everything_at_once_ends_like_one_thing_after_another),
        cmocka_unit_test(a_set_may_go_while_it_is_searched_and_linked),
        cmocka_unit_test(many_sets_share_the_workers),
    };
    return cmocka_run_group_tests_name("vector sets with workers", tests, NULL, NULL);
}
