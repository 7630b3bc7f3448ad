/* libkith: every function of kith.h, in memory and in a folder, its failures and what they leave. */
#include "failing_malloc.h"
#include "kith.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static struct kith *open_memory(void)
{
    struct kith *db = NULL;
    char message[KITH_MESSAGE_BYTES] = "";
    if (kith_open(&db, NULL, NULL, message) != 0)
        fail_msg("%s", message);
    return db;
}

/* A folder of its own for each test; the caller removes it. */
static void make_folder(char path[64])
{
    strcpy(path, "/tmp/kith-embed-XXXXXX");
    assert_non_null(mkdtemp(path));
}

static void remove_folder(const char *path)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", path);
    assert_int_equal(system(command), 0);
}

static const struct kith_answer *ask(struct kith *db, int argc, const char *const *argv)
{
    const struct kith_answer *answer = NULL;
    if (kith_command(db, argc, argv, NULL, &answer) != 0)
        fail_msg("%s: %s", argv[0], kith_message(db));
    return answer;
}

#define ASK(db, ...)                                                                                         \
    ask(db, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *), (const char *[]){__VA_ARGS__})

static void drop(const struct kith_answer *answer)
{
    kith_free((void *)(uintptr_t)answer);
}

static void a_value_of_any_bytes_comes_back_and_goes(void **state)
{
    struct kith *db = open_memory();
    static char large[3000000];
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (char)(i * 7);
    const size_t lengths[] = {0, 1, 100, sizeof large};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        char *value = NULL;
        size_t length = 77;
        assert_int_equal(kith_put(db, "k", large, lengths[i]), 0);
        assert_int_equal(kith_get(db, "k", &value, &length), 0);
        assert_int_equal(length, lengths[i]);
        assert_memory_equal(value, large, length);
        assert_int_equal(value[length], 0);
        kith_free(value);
    }
    assert_int_equal(kith_delete(db, "k"), 1);
    assert_int_equal(kith_delete(db, "k"), 0);
    char *value = large;
    size_t length = 77;
    assert_int_equal(kith_get(db, "k", &value, &length), KITH_FAIL_ABSENT);
    assert_ptr_equal(value, large);
    assert_int_equal(length, 77);
    assert_true(strlen(kith_message(db)) > 5);
    assert_int_equal(kith_close(db), 0);
}

static void a_refused_command_says_why(void **state)
{
    struct kith *db = open_memory();
    char *value;
    size_t length;
    drop(ASK(db, "HSET", "h", "f", "v"));
    assert_int_equal(kith_get(db, "h", &value, &length), KITH_FAIL_COMMAND);
    assert_non_null(strstr(kith_message(db), "WRONGTYPE"));
    assert_int_equal(kith_put(db, "k", "v", 1), 0);
    assert_string_equal(kith_message(db), "");
    const float vector[] = {1, 2, 3, 4};
    assert_int_equal(kith_vector_add(db, "s", "a", vector, 4), 1);
    assert_int_equal(kith_vector_add(db, "s", "a", vector, 4), 0);
    assert_int_equal(kith_vector_add(db, "s", "b", vector, 3), KITH_FAIL_COMMAND);
    assert_true(strlen(kith_message(db)) > 5);
    assert_int_equal(kith_vector_add(db, "k", "b", vector, 3), KITH_FAIL_COMMAND);
    const struct kith_answer *answer;
    assert_int_equal(kith_command(db, 0, NULL, NULL, &answer), KITH_FAIL_ARGUMENT);
    assert_int_equal(kith_close(db), 0);
}

static void an_answer_is_a_tree_of_the_types_that_were_meant(void **state)
{
    struct kith *db = open_memory();
    const struct kith_answer *answer = ASK(db, "SET", "k", "v");
    assert_int_equal(answer->type, KITH_ANSWER_STATUS);
    assert_string_equal(answer->text, "OK");
    drop(answer);
    drop(ASK(db, "HSET", "h", "one", "1", "two", "2"));
    answer = ASK(db, "HGETALL", "h");
    assert_int_equal(answer->type, KITH_ANSWER_MAP);
    assert_int_equal(answer->count, 4);
    assert_string_equal(answer->items[0].text, "one");
    assert_string_equal(answer->items[3].text, "2");
    drop(answer);
    drop(ASK(db, "ZADD", "z", "1.5", "a", "2.5", "b"));
    answer = ASK(db, "ZRANGE", "z", "0", "-1", "WITHSCORES");
    assert_int_equal(answer->type, KITH_ANSWER_ARRAY);
    assert_int_equal(answer->count, 2);
    assert_int_equal(answer->items[1].type, KITH_ANSWER_ARRAY);
    assert_string_equal(answer->items[1].items[0].text, "b");
    assert_int_equal(answer->items[1].items[1].type, KITH_ANSWER_DOUBLE);
    assert_true(answer->items[1].items[1].number == 2.5);
    drop(answer);
    answer = ASK(db, "GET", "nothing");
    assert_int_equal(answer->type, KITH_ANSWER_NULL);
    drop(answer);
    answer = ASK(db, "NOSUCH");
    assert_int_equal(answer->type, KITH_ANSWER_ERROR);
    assert_non_null(strstr(answer->text, "unknown command"));
    drop(answer);
    answer = ASK(db, "CLIENT", "LIST");
    assert_int_equal(answer->type, KITH_ANSWER_ERROR);
    drop(answer);
    const char *argv[40] = {"MGET"};
    for (int i = 1; i < 40; i++)
        argv[i] = "k";
    answer = ask(db, 40, argv);
    assert_int_equal(answer->count, 39);
    assert_string_equal(answer->items[38].text, "v");
    drop(answer);
    const char *binary[] = {"ECHO", "a\0b"};
    const size_t lengths[] = {4, 3};
    assert_int_equal(kith_command(db, 2, binary, lengths, &answer), 0);
    assert_int_equal(answer->length, 3);
    assert_memory_equal(answer->text, "a\0b", 4);
    drop(answer);
    assert_int_equal(kith_close(db), 0);
}

static void SELECT_stays_for_the_calls_after_it(void **state)
{
    struct kith *db = open_memory();
    char *value;
    size_t length;
    assert_int_equal(kith_put(db, "k", "zero", 4), 0);
    drop(ASK(db, "SELECT", "3"));
    assert_int_equal(kith_get(db, "k", &value, &length), KITH_FAIL_ABSENT);
    drop(ASK(db, "SELECT", "0"));
    assert_int_equal(kith_get(db, "k", &value, &length), 0);
    kith_free(value);
    assert_int_equal(kith_close(db), 0);
}

static void fill_vector(float vector[16], unsigned seed)
{
    for (unsigned i = 0; i < 16; i++) {
        seed = seed * 1664525u + 1013904223u;
        vector[i] = (float)(seed >> 8) / (1 << 23) - 1;
    }
}

static void vectors_are_found_while_and_after_they_are_linked(void **state)
{
    struct kith *db = open_memory();
    float vector[16];
    char name[16];
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "e%u", i);
        fill_vector(vector, i);
        assert_int_equal(kith_vector_add(db, "s", name, vector, 16), 1);
    }
    while (kith_idle(db, 1000) > 0)
        continue;
    for (unsigned i = 0; i < 2000; i += 13) {
        struct kith_matches *found = NULL;
        fill_vector(vector, i);
        snprintf(name, sizeof name, "e%u", i);
        assert_int_equal(kith_vector_search(db, "s", vector, 16, 3, &found), 0);
        assert_int_equal(found->count, 3);
        assert_string_equal(found->match[0].element, name);
        assert_int_equal(found->match[0].length, strlen(name));
        assert_true(found->match[0].score > 0.99 && found->match[0].score >= found->match[1].score);
        kith_free(found);
    }
    struct kith_matches *none = NULL;
    assert_int_equal(kith_vector_search(db, "nosuch", vector, 16, 3, &none), 0);
    assert_int_equal(none->count, 0);
    kith_free(none);
    assert_int_equal(kith_close(db), 0);
}

static void a_folder_gives_back_what_was_put_into_it(void **state)
{
    char folder[64], message[KITH_MESSAGE_BYTES];
    make_folder(folder);
    for (int sync = KITH_SYNC_ALWAYS; sync <= KITH_SYNC_NONE; sync++) {
        const struct kith_options options = {.sync = (enum kith_sync)sync, .worker_count = 1};
        struct kith *db, *second = NULL;
        if (kith_open(&db, folder, &options, message) != 0)
            fail_msg("%s", message);
        char key[16], *value;
        size_t length;
        for (int i = 0; i < sync; i++) {
            snprintf(key, sizeof key, "k%d", i);
            assert_int_equal(kith_get(db, key, &value, &length), 0);
            assert_int_equal(length, 5);
            kith_free(value);
        }
        snprintf(key, sizeof key, "k%d", sync);
        assert_int_equal(kith_put(db, key, "value", 5), 0);
        assert_int_equal(kith_open(&second, folder, &options, message), KITH_FAIL_BUSY);
        assert_non_null(strstr(message, folder));
        assert_null(second);
        assert_int_equal(kith_close(db), 0);
    }
    remove_folder(folder);
}

static void keys_past_their_time_are_absent_and_their_memory_comes_back(void **state)
{
    struct kith *db = open_memory();
    char *value;
    size_t length;
    drop(ASK(db, "SET", "k", "v", "PX", "20"));
    assert_int_equal(kith_get(db, "k", &value, &length), 0);
    kith_free(value);
    nanosleep(&(struct timespec){.tv_nsec = 60000000}, NULL);
    assert_int_equal(kith_get(db, "k", &value, &length), KITH_FAIL_ABSENT);
    const struct kith_answer *answer = ASK(db, "DBSIZE");
    assert_int_equal(answer->integer, 0);
    drop(answer);
    assert_int_equal(kith_close(db), 0);
}

static void wrong_options_and_folders_are_refused(void **state)
{
    struct kith *db = NULL;
    char message[KITH_MESSAGE_BYTES] = "";
    const struct kith_options wrong = {.sync = (enum kith_sync)9};
    assert_int_equal(kith_open(&db, NULL, &wrong, message), KITH_FAIL_ARGUMENT);
    assert_true(strlen(message) > 3);
    assert_true(kith_open(&db, "/proc/nosuch/folder", NULL, message) < 0);
    assert_non_null(strstr(message, "/proc/nosuch"));
    assert_true(kith_open(&db, "/proc/nosuch/folder", NULL, NULL) < 0);
    assert_null(db);
    assert_int_equal(kith_close(NULL), 0);
}

/* Uses a bit of everything; whatever fails must say so, and leave the database usable and whole. */
static bool use(struct kith *db)
{
    const float east[] = {1, 0}, north[] = {0, 1};
    bool good = kith_put(db, "k", "value", 5) == 0;
    good &= kith_vector_add(db, "s", "east", east, 2) >= 0;
    good &= kith_vector_add(db, "s", "north", north, 2) >= 0;
    char *value;
    size_t length;
    if (kith_get(db, "k", &value, &length) == 0) {
        assert_int_equal(length, 5);
        kith_free(value);
    } else {
        good = false;
    }
    struct kith_matches *found;
    if (kith_vector_search(db, "s", east, 2, 2, &found) == 0)
        kith_free(found);
    else
        good = false;
    const char *argv[20] = {"MGET"};
    for (int i = 1; i < 20; i++)
        argv[i] = "k";
    const struct kith_answer *answer;
    if (kith_command(db, 20, argv, NULL, &answer) == 0)
        drop(answer);
    else
        good = false;
    good &= kith_idle(db, 20) >= 0;
    return good;
}

static void every_allocation_failure_is_told_and_leaks_nothing(void **state)
{
    const struct kith_options options = {.worker_count = 1, .sync = KITH_SYNC_NONE};
    int refused = 0, disturbed = 0;
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct kith *db = NULL;
        char message[KITH_MESSAGE_BYTES] = "";
        if (kith_open(&db, NULL, &options, message) != 0) {
            assert_true(failing_malloc_disarm());
            assert_null(db);
            assert_true(strlen(message) > 3);
            refused++;
            continue;
        }
        if (!use(db)) {
            assert_true(failing_malloc_disarm());
            disturbed++;
        }
        /* An entry that could not be applied makes the log refuse more, and the close say so. */
        if (kith_close(db) != 0)
            assert_true(failing_malloc_disarm());
    }
    print_message("%d opens refused, %d runs disturbed\n", refused, disturbed);
    assert_true(refused > 10 && disturbed > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_of_any_bytes_comes_back_and_goes),
        cmocka_unit_test(a_refused_command_says_why),
        cmocka_unit_test(an_answer_is_a_tree_of_the_types_that_were_meant),
        cmocka_unit_test(SELECT_stays_for_the_calls_after_it),
        cmocka_unit_test(vectors_are_found_while_and_after_they_are_linked),
        cmocka_unit_test(a_folder_gives_back_what_was_put_into_it),
        cmocka_unit_test(keys_past_their_time_are_absent_and_their_memory_comes_back),
        cmocka_unit_test(wrong_options_and_folders_are_refused),
        cmocka_unit_test(every_allocation_failure_is_told_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
