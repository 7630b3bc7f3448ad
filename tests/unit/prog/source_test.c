/* Files through zlib: plain and gzip read the same, and a cut or damaged one is told with its place. */
#include "failing_malloc.h"
#include "prog/source.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

static char folder[] = "/tmp/kith-source-XXXXXX";
static char path[100];

static int make_folder(void **state)
{
    snprintf(path, sizeof path, "%s/file", mkdtemp(folder));
    return 0;
}

static int remove_folder(void **state)
{
    unlink(path);
    return rmdir(folder);
}

static void write_file(const char *bytes, size_t length)
{
    FILE *f = fopen(path, "wb");
    assert_int_equal(fwrite(bytes, 1, length, f), length);
    fclose(f);
}

static size_t write_gzip(const char *bytes, size_t length)
{
    gzFile f = gzopen(path, "wb");
    assert_int_equal(gzwrite(f, bytes, (unsigned)length), length);
    gzclose(f);
    FILE *raw = fopen(path, "rb");
    fseek(raw, 0, SEEK_END);
    long size = ftell(raw);
    fclose(raw);
    return (size_t)size;
}

static void plain_and_gzip_read_the_same(void **state)
{
    static char bytes[300000], back[300001];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 2654435761u >> 13);
    for (int gzip = 0; gzip <= 1; gzip++) {
        struct kith_source *source;
        struct kith_error error;
        size_t got;
        if (gzip)
            write_gzip(bytes, sizeof bytes);
        else
            write_file(bytes, sizeof bytes);
        assert_int_equal(kith_source_open(&source, path, &error), KITH_OK);
        assert_int_equal(kith_source_is_compressed(source), gzip);
        assert_int_equal(kith_source_size(source), gzip ? 0 : sizeof bytes);
        assert_int_equal(kith_source_read_all(source, back, 1000, "the start", &error), KITH_OK);
        assert_true(kith_source_fraction(source) > 0);
        assert_int_equal(kith_source_read(source, back + 1000, sizeof back - 1000, &got, &error), KITH_OK);
        assert_int_equal(got, sizeof bytes - 1000);
        assert_memory_equal(back, bytes, sizeof bytes);
        assert_int_equal(kith_source_offset(source), sizeof bytes);
        assert_true(kith_source_fraction(source) == 1);
        assert_int_equal(kith_source_read_all(source, back, 4, "row 7", &error), KITH_ECORRUPT);
        assert_non_null(strstr(error.text, "ends at byte 300000, 4 bytes before the end of row 7"));
        kith_source_close(source);
    }
}

static void a_gzip_file_cut_anywhere_is_told(void **state)
{
    static char bytes[20000], back[sizeof bytes];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 2654435761u >> 17);
    size_t size = write_gzip(bytes, sizeof bytes);
    for (size_t cut = 20; cut < size; cut += 997) {
        struct kith_source *source;
        struct kith_error error = {""};
        size_t got = 0;
        write_gzip(bytes, sizeof bytes);
        assert_int_equal(truncate(path, (off_t)cut), 0);
        assert_int_equal(kith_source_open(&source, path, &error), KITH_OK);
        int status = kith_source_read(source, back, sizeof back, &got, &error);
        char byte;
        if (!status) /* all content came, only the checksum is missing: the end tells */
            status = kith_source_read(source, &byte, 1, &got, &error);
        assert_int_equal(status, KITH_ECORRUPT);
        assert_non_null(strstr(error.text, "cut off after"));
        kith_source_close(source);
    }
}

static void a_damaged_gzip_file_is_told(void **state)
{
    static char bytes[20000], back[sizeof bytes + 1];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 2654435761u >> 17);
    size_t size = write_gzip(bytes, sizeof bytes);
    FILE *f = fopen(path, "r+b");
    fseek(f, (long)size / 2, SEEK_SET);
    fwrite("damage", 1, 6, f);
    fclose(f);
    struct kith_source *source;
    struct kith_error error;
    size_t got;
    assert_int_equal(kith_source_open(&source, path, &error), KITH_OK);
    assert_int_equal(kith_source_read(source, back, sizeof back, &got, &error), KITH_ECORRUPT);
    assert_non_null(strstr(error.text, "damaged after"));
    kith_source_close(source);
}

static void lines_come_without_their_ends(void **state)
{
    static const char text[] = "one\r\ntwo\n\n four\nlast";
    static const char *const expected[] = {"one", "two", "", " four", "last"};
    struct kith_source *source;
    struct kith_error error;
    struct kith_buf line;
    kith_buf_init(&line);
    write_file(text, sizeof text - 1);
    assert_int_equal(kith_source_open(&source, path, &error), KITH_OK);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(kith_source_read_line(source, &line, 100, &error), 1);
        assert_true(kith_slice_equal(kith_buf_slice(&line), kith_slice(expected[i], strlen(expected[i]))));
    }
    assert_int_equal(kith_source_read_line(source, &line, 100, &error), 0);
    kith_source_close(source);
    assert_int_equal(kith_source_open(&source, path, &error), KITH_OK);
    assert_int_equal(kith_source_read_line(source, &line, 2, &error), KITH_ETOOBIG);
    kith_source_close(source);
    kith_buf_fini(&line);
}

static void what_cannot_be_opened_says_why(void **state)
{
    struct kith_source *source;
    struct kith_error error;
    assert_int_equal(kith_source_open(&source, "/nowhere/file", &error), KITH_ENOENT);
    assert_non_null(strstr(error.text, "/nowhere/file: No such file"));
    assert_int_equal(kith_source_open(&source, folder, &error), KITH_EINVAL);
    assert_non_null(strstr(error.text, "folder"));
}

static void a_failed_allocation_leaks_nothing(void **state)
{
    static char text[10000];
    memset(text, 'a', sizeof text);
    write_file(text, sizeof text);
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct kith_source *source = NULL;
        struct kith_buf line;
        kith_buf_init(&line);
        int status = kith_source_open(&source, path, NULL);
        if (!status)
            status = kith_source_read_line(source, &line, 20000, NULL);
        assert_true(status == 1 || status == KITH_ENOMEM);
        kith_source_close(source);
        kith_buf_fini(&line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_and_gzip_read_the_same),   cmocka_unit_test(a_gzip_file_cut_anywhere_is_told),
        cmocka_unit_test(a_damaged_gzip_file_is_told),    cmocka_unit_test(lines_come_without_their_ends),
        cmocka_unit_test(what_cannot_be_opened_says_why), cmocka_unit_test(a_failed_allocation_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
