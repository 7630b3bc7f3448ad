/* The configuration: every source, every type, what is refused and how, and every allocation failure. */
#include "failing_malloc.h"
#include "prog/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct kith_slice text(const char *s)
{
    return kith_slice(s, strlen(s));
}

static int set(struct kith_config *config, const char *name, const char *value, struct kith_error *error)
{
    struct kith_slice word = text(value);
    return kith_config_set(config, text(name), &word, 1, false, error);
}

static void shows(const struct kith_config *config, const char *name, const char *expected)
{
    for (size_t key = 0; key < kith_config_key_count(); key++) {
        if (strcasecmp(kith_config_key_name(key), name) != 0)
            continue;
        struct kith_buf value;
        kith_buf_init(&value);
        kith_config_key_value(config, key, &value);
        kith_buf_append_char(&value, '\0');
        assert_string_equal(value.data, expected);
        kith_buf_fini(&value);
        return;
    }
    fail_msg("no key %s", name);
}

static void a_secret_is_kept_and_not_shown(void **state)
{
    struct kith_config config, copy;
    struct kith_error error;
    assert_int_equal(kith_config_init(&config), KITH_OK);
    shows(&config, "cluster-secret", "");
    assert_int_equal(set(&config, "cluster-secret", "sesame", &error), KITH_OK);
    shows(&config, "cluster-secret", "(set)");
    assert_int_equal(kith_config_copy(&copy, &config), KITH_OK);
    kith_config_fini(&config);
    assert_string_equal(copy.cluster_secret, "sesame");
    kith_config_fini(&copy);
}

static void what_does_not_go_together_in_a_group_is_refused(void **state)
{
    static const struct {
        const char *keys[3][2];
        const char *says;
    } cases[] = {
        {{{"cluster-secret", "a"}, {"cluster-secret-file", "b"}}, "both set"},
        {{{"cluster-tls-cert", "a"}, {"cluster-tls-ca", "b"}}, "all three or none"},
        {{{"join", "h:1"}}, "join needs cluster-address"},
        {{{"cluster-address", "h:1"}, {"memory-only", "yes"}}, "does not go with memory-only"},
        {{{"cluster-address", "h:1"}, {"dir", ""}}, "does not go with memory-only"},
        {{{"cluster-election-ms", "100"}}, "three times"},
        {{{"cluster-address", "h:1"}, {"join", "h:2"}, {"cluster-secret", "s"}}, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kith_config config;
        struct kith_error error = {""};
        assert_int_equal(kith_config_init(&config), KITH_OK);
        for (int k = 0; k < 3 && cases[i].keys[k][0]; k++)
            assert_int_equal(set(&config, cases[i].keys[k][0], cases[i].keys[k][1], &error), KITH_OK);
        assert_int_equal(kith_config_check(&config, &error), cases[i].says ? KITH_EINVAL : KITH_OK);
        if (cases[i].says && !strstr(error.text, cases[i].says))
            fail_msg("%s", error.text);
        kith_config_fini(&config);
    }
}

static void every_default_is_valid_and_shown_as_it_may_be_written(void **state)
{
    struct kith_config config;
    assert_int_equal(kith_config_init(&config), KITH_OK);
    assert_int_equal(kith_config_check(&config, NULL), KITH_OK);
    for (size_t key = 0; key < kith_config_key_count(); key++) {
        struct kith_buf value;
        struct kith_error error;
        kith_buf_init(&value);
        assert_true(kith_config_key_is_default(&config, key));
        kith_config_key_value(&config, key, &value);
        struct kith_slice word = kith_slice(value.length ? value.data : "", value.length);
        int status = kith_config_set(&config, text(kith_config_key_name(key)), &word, 1, false, &error);
        if (status)
            fail_msg("%s: %s", kith_config_key_name(key), error.text);
        assert_true(kith_config_key_is_default(&config, key));
        kith_buf_fini(&value);
    }
    kith_config_fini(&config);
}

static void values_are_taken_with_their_units_and_refused_outside_their_range(void **state)
{
    static const struct {
        const char *name, *value, *shown; /* shown NULL: refused */
    } cases[] = {
        {"port", "7000", "7000"},
        {"PORT", "7001", "7001"},
        {"port", "65536", NULL},
        {"port", "-1", NULL},
        {"port", "70 ", NULL},
        {"port", "", NULL},
        {"port", "99999999999999999999", NULL},
        {"protected-mode", "NO", "no"},
        {"protected-mode", "maybe", NULL},
        {"log-segment-size", "1mb", "1048576"},
        {"log-segment-size", "2m", "2000000"},
        {"log-segment-size", "4194304b", "4194304"},
        {"log-segment-size", "1gb", "1073741824"},
        {"log-segment-size", "1g", "1000000000"},
        {"log-segment-size", "1tb", NULL},
        {"log-segment-size", "1.5mb", NULL},
        {"log-segment-size", "1kb", NULL},
        {"log-segment-size", "9223372036854775807gb", NULL},
        {"unixsocketperm", "755", "755"},
        {"unixsocketperm", "788", NULL},
        {"durability", "everysec", "everysec"},
        {"durability", "sometimes", NULL},
        {"bind", "10.0.0.1 ::1", "10.0.0.1 ::1"},
        {"dir", "", ""},
        {"client-output-buffer-limit", "normal 64mb 1mb 10 pubsub 1 2 3", "normal 67108864 1048576 10"},
        {"client-output-buffer-limit", "normal 64mb 1mb", NULL},
        {"client-output-buffer-limit", "everyone 64mb 1mb 1", NULL},
        {"client-output-buffer-limit", "normal 64mb 1mb -1", NULL},
        {"client-output-buffer-limit", "", NULL},
        {"maxmemory", "0", "0"},
        {"maxmemory", "100mb", NULL},
        {"appendonly", "no", "no"},
        {"hash-max-listpack-entries", "7", "7"},
    };
    struct kith_config config;
    assert_int_equal(kith_config_init(&config), KITH_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kith_error error = {""};
        int status = set(&config, cases[i].name, cases[i].value, &error);
        if ((status == KITH_OK) != (cases[i].shown != NULL))
            fail_msg("%s '%s': %d %s", cases[i].name, cases[i].value, status, error.text);
        if (cases[i].shown)
            shows(&config, cases[i].name, cases[i].shown);
        else
            assert_true(strlen(error.text) > 10);
    }
    struct kith_slice zero = kith_slice("a\0b", 3);
    assert_int_equal(kith_config_set(&config, text("dir"), &zero, 1, false, NULL), KITH_EINVAL);
    kith_config_fini(&config);
}

static void an_unknown_key_is_refused_with_the_nearest_name(void **state)
{
    static const char *const cases[][2] = {{"prot", "'port'"},
                                           {"max-clients", "'maxclients'"},
                                           {"requirepas", "'requirepass'"},
                                           {"proto-max-bulklen", "'proto-max-bulk-len'"},
                                           {"TIMEOUTS", "'timeout'"}};
    struct kith_config config;
    assert_int_equal(kith_config_init(&config), KITH_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kith_error error = {""};
        assert_int_equal(set(&config, cases[i][0], "1", &error), KITH_ENOENT);
        if (!strstr(error.text, cases[i][1]))
            fail_msg("%s: %s", cases[i][0], error.text);
    }
    kith_config_fini(&config);
}

static void a_running_server_refuses_what_it_reads_only_at_the_start(void **state)
{
    struct kith_config config;
    struct kith_slice word = text("1234");
    assert_int_equal(kith_config_init(&config), KITH_OK);
    assert_int_equal(kith_config_set(&config, text("port"), &word, 1, true, NULL), KITH_EPERM);
    assert_int_equal(kith_config_set(&config, text("maxclients"), &word, 1, true, NULL), KITH_OK);
    shows(&config, "port", "6379");
    shows(&config, "maxclients", "1234");
    kith_config_fini(&config);
}

static void a_file_is_read_as_redis_reads_it(void **state)
{
    static const char good[] = "# a comment\n"
                               "\n"
                               "  port 7000  \r\n"
                               "requirepass \"a \\\"secret\\\" \\x41\"\n"
                               "bind 127.0.0.1 -::1\n"
                               "unixsocket '/tmp/a b'\n"
                               "save 900 1\n"
                               "save \"\"\n"
                               "client-output-buffer-limit replica 256mb 64mb 60\n"
                               "dir \"\"";
    struct kith_config config;
    struct kith_error error = {""};
    assert_int_equal(kith_config_init(&config), KITH_OK);
    if (kith_config_read_text(&config, "test.conf", text(good), &error) != KITH_OK)
        fail_msg("%s", error.text);
    shows(&config, "port", "7000");
    shows(&config, "requirepass", "a \"secret\" A");
    shows(&config, "unixsocket", "/tmp/a b");
    shows(&config, "client-output-buffer-limit", "normal 1073741824 0 0");
    shows(&config, "dir", "");
    static const char *const bad[][2] = {
        {"port 1\nport\n", "test.conf:2: 'port' has no value"},
        {"\n\nport \"1\n", "test.conf:3: unbalanced quotes"},
        {"prot 1", "test.conf:1: no key 'prot': did you mean 'port'?"},
        {"port 1 2", "test.conf:1: port: wrong number of arguments"},
        {"durability maybe", "test.conf:1: durability: argument must be one of"},
        {"completely-else 1", "test.conf:1: no key 'completely-else': kithd --help"},
        {"a\033b\377 1", "test.conf:1: no key 'a?b?': kithd --help"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_not_equal(kith_config_read_text(&config, "test.conf", text(bad[i][0]), &error), KITH_OK);
        if (strncmp(error.text, bad[i][1], strlen(bad[i][1])) != 0)
            fail_msg("%s", error.text);
    }
    assert_int_equal(kith_config_read_file(&config, "/nosuch/file", &error), KITH_ENOENT);
    kith_config_fini(&config);
}

static void a_flag_counts_over_the_environment_and_that_over_the_file(void **state)
{
    const char *environment[] = {"HOME=/",        "KITH_PORT=2", "KITH_TIMEOUT=2",       "KITH_DIR=",
                                 "KITH_NOSUCH=1", "KITH_",       "KITH_BIND=0.0.0.0 ::", NULL};
    const char *flags[] = {"--port", "3", "--memory-only", "--bind", "127.0.0.1", "::1", "--loglevel=debug"};
    struct kith_config config;
    struct kith_error error = {""};
    assert_int_equal(kith_config_init(&config), KITH_OK);
    assert_int_equal(kith_config_read_text(&config, "f", text("port 1\ntimeout 1\nmaxclients 1"), &error),
                     KITH_OK);
    assert_int_equal(kith_config_read_environment(&config, environment, &error), KITH_OK);
    shows(&config, "bind", "0.0.0.0 ::");
    assert_int_equal(kith_config_read_flags(&config, flags, sizeof flags / sizeof flags[0], &error), KITH_OK);
    shows(&config, "maxclients", "1");
    shows(&config, "timeout", "2");
    shows(&config, "dir", "");
    shows(&config, "port", "3");
    shows(&config, "memory-only", "yes");
    shows(&config, "bind", "127.0.0.1 ::1");
    shows(&config, "loglevel", "debug");
    const char *wrong_environment[] = {"KITH_PORT=many", NULL};
    assert_int_equal(kith_config_read_environment(&config, wrong_environment, &error), KITH_EINVAL);
    assert_non_null(strstr(error.text, "KITH_PORT"));
    const char *no_flag[] = {"port"}, *unknown[] = {"--prot=1"}, *dashes[] = {"--"};
    assert_int_equal(kith_config_read_flags(&config, no_flag, 1, &error), KITH_EINVAL);
    assert_int_equal(kith_config_read_flags(&config, unknown, 1, &error), KITH_ENOENT);
    assert_int_equal(kith_config_read_flags(&config, dashes, 1, &error), KITH_EINVAL);
    kith_config_fini(&config);
}

static void keys_that_contradict_each_other_are_refused(void **state)
{
    struct kith_config config;
    struct kith_error error = {""};
    assert_int_equal(kith_config_init(&config), KITH_OK);
    assert_int_equal(set(&config, "port", "0", NULL), KITH_OK);
    assert_int_equal(kith_config_check(&config, &error), KITH_EINVAL);
    assert_int_equal(set(&config, "unixsocket", "/tmp/x", NULL), KITH_OK);
    assert_int_equal(kith_config_check(&config, &error), KITH_OK);
    assert_int_equal(set(&config, "client-query-buffer-limit", "1mb", NULL), KITH_OK);
    assert_int_equal(kith_config_check(&config, &error), KITH_EINVAL);
    kith_config_fini(&config);
}

static void every_allocation_failure_leaves_the_old_value_and_leaks_nothing(void **state)
{
    static const char lines[] = "requirepass \"other\"\nbind 1.2.3.4\nport 7\nsave 900 1\n";
    int failures = 0;
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct kith_config config, copy;
        if (kith_config_init(&config) != KITH_OK) {
            failures++;
            continue;
        }
        if (kith_config_copy(&copy, &config) == KITH_OK)
            kith_config_fini(&copy);
        else
            failures++;
        if (kith_config_read_text(&config, "f", text(lines), NULL) != KITH_OK) {
            failures++;
            assert_true(strcmp(config.requirepass, "") == 0 || strcmp(config.requirepass, "other") == 0);
        }
        struct kith_buf value;
        kith_buf_init(&value);
        for (size_t key = 0; key < kith_config_key_count(); key++)
            kith_config_key_value(&config, key, &value);
        kith_buf_fini(&value);
        kith_config_fini(&config);
    }
    assert_true(failures > 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_secret_is_kept_and_not_shown),
        cmocka_unit_test(what_does_not_go_together_in_a_group_is_refused),
        cmocka_unit_test(every_default_is_valid_and_shown_as_it_may_be_written),
        cmocka_unit_test(values_are_taken_with_their_units_and_refused_outside_their_range),
        cmocka_unit_test(an_unknown_key_is_refused_with_the_nearest_name),
        cmocka_unit_test(a_running_server_refuses_what_it_reads_only_at_the_start),
        cmocka_unit_test(a_file_is_read_as_redis_reads_it),
        cmocka_unit_test(a_flag_counts_over_the_environment_and_that_over_the_file),
        cmocka_unit_test(keys_that_contradict_each_other_are_refused),
        cmocka_unit_test(every_allocation_failure_leaves_the_old_value_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
