/* The smaller tools: csv, the progress line, exact neighbours. */
#include "base/random.h"
#include "failing_malloc.h"
#include "prog/csv.h"
#include "prog/exact.h"
#include "prog/progress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/kith-tools-XXXXXX";
static char path[100];

static int make_folder(void **state)
{
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    unlink(path);
    return rmdir(folder);
}

static void write_file(const char *name, const void *bytes, size_t length)
{
    unlink(path);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_int_equal(fwrite(bytes, 1, length, f), length);
    fclose(f);
}

/* All records as text: fields in brackets, the line number in front; then the error. */
static void expect_csv(const char *text, const char *expected)
{
    struct kith_source *source;
    struct kith_csv csv;
    struct kith_buf got;
    struct kith_error error;
    int status;
    write_file("a.csv", text, strlen(text));
    assert_int_equal(kith_source_open(&source, path, &error), KITH_OK);
    kith_csv_init(&csv, source);
    kith_buf_init(&got);
    while ((status = kith_csv_next(&csv, &error)) == 1) {
        kith_buf_append_format(&got, "%d:", (int)csv.line);
        for (size_t i = 0; i < csv.field_count; i++)
            kith_buf_append_format(&got, "[%.*s]", (int)csv.fields[i].length, csv.fields[i].data);
    }
    if (status)
        kith_buf_append_text(&got, strstr(error.text, "line "));
    kith_buf_append_char(&got, '\0');
    assert_string_equal(got.data, expected);
    kith_buf_fini(&got);
    kith_csv_fini(&csv);
    kith_source_close(source);
}

static void csv_is_read_as_rfc_4180_has_it(void **state)
{
    expect_csv("", "");
    expect_csv("a,b\nc,d\n", "1:[a][b]2:[c][d]");
    expect_csv("a,b\r\n\r\nc,d", "1:[a][b]3:[c][d]");
    expect_csv("a,,\n,\n", "1:[a][][]2:[][]");
    expect_csv("\"a,b\",\"c\"\"d\"\n\"\",\"x\ny\",z\nq\n", "1:[a,b][c\"d]2:[][x\ny][z]4:[q]");
    expect_csv("a\n\"b\n", "1:[a]line 2: a quote is opened and never closed");
    expect_csv("a\n\"b\"c\n", "1:[a]line 2: a field goes on behind its closing quote");
    expect_csv("a\nb\"c\"\n", "1:[a]line 2: a quote inside a field that is not quoted");
}

static void csv_leaks_nothing_when_memory_is_out(void **state)
{
    write_file("a.csv", "a,b,c\n\"d\ne\",f,g\n", 16);
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct kith_source *source = NULL;
        struct kith_csv csv;
        int status = kith_source_open(&source, path, NULL);
        kith_csv_init(&csv, source);
        while (status >= 0 && (status = kith_csv_next(&csv, NULL)) == 1)
            assert_int_equal(csv.field_count, 3);
        assert_true(status == 0 || status == KITH_ENOMEM);
        kith_csv_fini(&csv);
        kith_source_close(source);
    }
}

static void the_progress_line_says_what_is_known(void **state)
{
    char line[200];
    kith_progress_format(line, sizeof line, 120, "rows", 1500, 6000, 0, 500);
    assert_string_equal(line, " 25% [======                  ] 1,500 of 6,000 rows, 500/s, 9 s left");
    kith_progress_format(line, sizeof line, 120, "rows", 1500, 0, 0.5, 1);
    assert_string_equal(line, " 50% [============            ] 1,500 rows, 1/s, 25 min 00 s left");
    kith_progress_format(line, sizeof line, 120, "rows", 1234567, 0, 0, 10);
    assert_string_equal(line, "1,234,567 rows, 10/s");
    kith_progress_format(line, sizeof line, 120, "rows", 7, 5, 0, 0);
    assert_string_equal(line, "100% [========================] 7 of 5 rows");
    kith_progress_format(line, sizeof line, 10, "rows", 1500, 6000, 0, 500);
    assert_int_equal(strlen(line), 10);
}

enum { BASE = 3001, QUERIES = 7, DIM = 5, K = 4 };

static float squared(const float *a, const float *b)
{
    float sum = 0;
    for (int i = 0; i < DIM; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

/* Rows are small integers, so that every sum is exact and ties happen: the smaller number must win. */
static void exact_neighbours_are_those_of_a_plain_scan(void **state)
{
    static struct {
        uint32_t rows, columns;
        float values[BASE][DIM];
    } file = {BASE, DIM, {{0}}};
    static float queries[QUERIES][DIM];
    struct kith_rng rng;
    const uint64_t seed = 5;
    kith_rng_seed(&rng, seed);
    for (int i = 0; i < BASE * DIM; i++)
        (&file.values[0][0])[i] = (float)kith_rng_below(&rng, 20);
    for (int i = 0; i < QUERIES * DIM; i++)
        (&queries[0][0])[i] = (float)kith_rng_below(&rng, 20);
    write_file("a.fbin", &file, sizeof file);
    for (unsigned threads = 1; threads <= 3; threads++) {
        struct kith_rows *rows;
        struct kith_error error;
        int32_t truth[QUERIES][K];
        const struct kith_exact_options options = {.metric = KITH_EXACT_L2, .k = K, .thread_count = threads};
        assert_int_equal(kith_rows_open(&rows, path, NULL, &error), KITH_OK);
        assert_int_equal(kith_exact_nearest(rows, &queries[0][0], QUERIES, &options, &truth[0][0], &error),
                         KITH_OK);
        for (int q = 0; q < QUERIES; q++) {
            for (int k = 0; k < K; k++) {
                /* Exactly k rows come before the k-th: nearer ones, and equal ones with a smaller number. */
                float distance = squared(queries[q], file.values[truth[q][k]]);
                int before = 0;
                for (int r = 0; r < BASE; r++) {
                    float d = squared(queries[q], file.values[r]);
                    before += d < distance || (d == distance && r < truth[q][k]);
                }
                assert_int_equal(before, k);
            }
        }
        kith_rows_close(rows);
    }
}

static void cosine_does_not_see_length(void **state)
{
    static const struct {
        uint32_t rows, columns;
        float values[4][2];
    } file = {4, 2, {{0, 100}, {50, 49}, {0, 0}, {-1, 0}}};
    const float query[2] = {1, 1};
    int32_t truth[4];
    struct kith_rows *rows;
    struct kith_error error;
    struct kith_exact_options options = {.metric = KITH_EXACT_COSINE, .k = 4, .thread_count = 2};
    write_file("a.fbin", &file, sizeof file);
    assert_int_equal(kith_rows_open(&rows, path, NULL, &error), KITH_OK);
    assert_int_equal(kith_exact_nearest(rows, query, 1, &options, truth, &error), KITH_OK);
    assert_memory_equal(truth, ((int32_t[]){1, 0, 2, 3}), sizeof truth);
    kith_rows_close(rows);
    options.k = 5;
    int32_t five[5];
    assert_int_equal(kith_rows_open(&rows, path, NULL, &error), KITH_OK);
    assert_int_equal(kith_exact_nearest(rows, query, 1, &options, five, &error), KITH_EINVAL);
    kith_rows_close(rows);
}

static void the_exact_scan_leaks_nothing_when_memory_is_out(void **state)
{
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct kith_rows *rows = NULL;
        const float query[2] = {1, 1};
        int32_t truth[2];
        const struct kith_exact_options options = {.metric = KITH_EXACT_COSINE, .k = 2, .thread_count = 1};
        int status = kith_rows_open(&rows, path, NULL, NULL);
        if (!status)
            status = kith_exact_nearest(rows, query, 1, &options, truth, NULL);
        assert_true(status == KITH_OK || status == KITH_ENOMEM || status == KITH_EAGAIN);
        kith_rows_close(rows);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(csv_is_read_as_rfc_4180_has_it),
        cmocka_unit_test(csv_leaks_nothing_when_memory_is_out),
        cmocka_unit_test(the_progress_line_says_what_is_known),
        cmocka_unit_test(exact_neighbours_are_those_of_a_plain_scan),
        cmocka_unit_test(cosine_does_not_see_length),
        cmocka_unit_test(the_exact_scan_leaks_nothing_when_memory_is_out),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
