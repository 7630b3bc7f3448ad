/* Vector files: every format's rows, and every way a file can be wrong. */
#include "failing_malloc.h"
#include "prog/rows.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

static char folder[] = "/tmp/kith-rows-XXXXXX";
static char path[100];

static int make_folder(void **state)
{
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    return rmdir(folder);
}

static void write_file(const char *name, const void *bytes, size_t length)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    bool gzip = strstr(name, ".gz") != NULL;
    gzFile f = gzopen(path, gzip ? "wb" : "wbT");
    assert_int_equal(gzwrite(f, bytes, (unsigned)length), length);
    gzclose(f);
}

/* An npy file of version 1: the header padded to 0x56 bytes as its length says, then the data. */
static size_t make_npy(char *out, const char *type, const char *order, const char *shape, const void *data,
                       size_t length)
{
    char header[0x56 + 1];
    int used = snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }", type,
                        order, shape);
    assert_true(used < 0x56);
    memset(header + used, ' ', sizeof header - (size_t)used);
    header[0x55] = '\n';
    memcpy(out, "\x93NUMPY\x01\x00\x56\x00", 10);
    memcpy(out + 10, header, 0x56);
    memcpy(out + 10 + 0x56, data, length);
    return 10 + 0x56 + length;
}

static void expect_rows(const char *name, const void *bytes, size_t length, uint64_t total)
{
    static const float expected[2][3] = {{1, 2, 3}, {4, 5, 255}};
    struct kith_rows *rows;
    struct kith_error error;
    float row[3];
    write_file(name, bytes, length);
    if (kith_rows_open(&rows, path, NULL, &error))
        fail_msg("%s: %s", name, error.text);
    assert_int_equal(kith_rows_dim(rows), 3);
    assert_int_equal(kith_rows_total(rows), total);
    for (int r = 0; r < 2; r++) {
        assert_int_equal(kith_rows_next(rows, row, &error), 1);
        assert_memory_equal(row, expected[r], sizeof row);
    }
    assert_int_equal(kith_rows_next(rows, row, &error), 0);
    assert_int_equal(kith_rows_done(rows), 2);
    kith_rows_close(rows);
    unlink(path);
}

static const unsigned char u8bin[] = {2, 0, 0, 0, 3, 0, 0, 0, 1, 2, 3, 4, 5, 255};
static const float floats[] = {1, 2, 3, 4, 5, 255};

static void every_format_gives_its_rows(void **state)
{
    char bytes[400];
    const uint32_t counts[] = {2, 3};
    const int32_t ints[] = {1, 2, 3, 4, 5, 255};
    const double doubles[] = {1, 2, 3, 4, 5, 255};
    const uint8_t small[] = {1, 2, 3, 4, 5, 255};
    expect_rows("a.u8bin", u8bin, sizeof u8bin, 2);
    expect_rows("a.u8bin.gz", u8bin, sizeof u8bin, 2);
    memcpy(bytes, counts, 8);
    memcpy(bytes + 8, floats, 24);
    expect_rows("a.fbin", bytes, 32, 2);
    memcpy(bytes + 8, ints, 24);
    expect_rows("a.i32bin", bytes, 32, 2);
    for (int r = 0; r < 2; r++) {
        memcpy(bytes + 16 * r, &counts[1], 4);
        memcpy(bytes + 16 * r + 4, floats + 3 * r, 12);
    }
    expect_rows("a.fvecs", bytes, 32, 2);
    expect_rows("a.fvecs.gz", bytes, 32, 0);
    for (int r = 0; r < 2; r++) {
        memcpy(bytes + 7 * r, &counts[1], 4);
        memcpy(bytes + 7 * r + 4, small + 3 * r, 3);
    }
    expect_rows("a.bvecs", bytes, 14, 2);
    expect_rows("f4.npy", bytes, make_npy(bytes, "<f4", "False", "(2, 3)", floats, 24), 2);
    expect_rows("f8.npy", bytes, make_npy(bytes, "<f8", "False", "(2, 3)", doubles, 48), 2);
    expect_rows("u1.npy", bytes, make_npy(bytes, "|u1", "False", "(2, 3)", small, 6), 2);
    expect_rows("i4.npy.gz", bytes, make_npy(bytes, "<i4", "False", "(2, 3)", ints, 24), 2);
}

static void int8_rows_are_signed(void **state)
{
    const unsigned char bytes[] = {1, 0, 0, 0, 2, 0, 0, 0, 0xff, 0x80};
    struct kith_rows *rows;
    float row[2];
    int32_t ints[2];
    write_file("a.i8bin", bytes, sizeof bytes);
    assert_int_equal(kith_rows_open(&rows, path, NULL, NULL), KITH_OK);
    assert_int_equal(kith_rows_next(rows, row, NULL), 1);
    assert_true(row[0] == -1 && row[1] == -128);
    kith_rows_close(rows);
    assert_int_equal(kith_rows_open(&rows, path, NULL, NULL), KITH_OK);
    assert_int_equal(kith_rows_next_int(rows, ints, NULL), 1);
    assert_true(ints[0] == -1 && ints[1] == -128);
    kith_rows_close(rows);
    unlink(path);
}

/* The file must be refused, at opening or at a row, with `text` in the error. */
static void expect_refusal(const char *name, const void *bytes, size_t length, const char *text)
{
    struct kith_rows *rows = NULL;
    struct kith_error error = {""};
    write_file(name, bytes, length);
    int status = kith_rows_open(&rows, path, NULL, &error);
    float *row = status ? NULL : malloc(kith_rows_dim(rows) * sizeof *row);
    while (status >= 0) {
        status = kith_rows_next(rows, row, &error);
        if (status == 0)
            fail_msg("%s was not refused", name);
    }
    if (!strstr(error.text, text) || !strstr(error.text, path))
        fail_msg("%s: %s", name, error.text);
    kith_rows_close(rows);
    free(row);
    unlink(path);
}

static void every_bad_file_is_refused_with_its_reason(void **state)
{
    char bytes[400];
    unsigned char more[sizeof u8bin + 1] = {0};
    memcpy(more, u8bin, sizeof u8bin);
    expect_refusal("a.u8bin", u8bin, 5, "ends at byte 5, 3 bytes before the end of the header");
    expect_refusal(
        "a.u8bin", u8bin, sizeof u8bin - 1,
        "its header says 2 rows of 3 x uint8, which makes 14 bytes, but the file has 13: it is cut off");
    expect_refusal("a.u8bin", more, sizeof more, "too long");
    expect_refusal("a.u8bin.gz", u8bin, sizeof u8bin - 1, "ends at byte 13, 1 bytes before the end of row 1");
    expect_refusal("a.u8bin.gz", more, sizeof more, "goes on behind its last row");
    expect_refusal("a.u8bin", "\1\0\0\0\0\0\0\0", 8, "a row of 0 columns");
    expect_refusal("a.u8bin", "\1\0\0\0\1\0\1\0", 8, "a row of 65537 columns");
    expect_refusal("a.fvecs", "", 0, "empty");
    expect_refusal("a.fvecs", "\1\0\0\0abcd\1\0", 10, "not a multiple");
    expect_refusal("a.fvecs.gz", "\1\0\0\0abcd\1\0", 10, "ends inside a row's column count");
    expect_refusal("a.fvecs.gz", "\1\0\0\0abcd\2\0\0\0abcdabcd", 20,
                   "row 1 has 2 columns, the rows before it 1");
    expect_refusal("a.fvecs", "\1\0\0\0\0\0\xc0\x7f", 8, "row 0, column 0 is not a number");
    expect_refusal("a.fvecs", "\1\0\0\0\0\0\x80\xff", 8, "infinite");
    expect_refusal("a.npy", "\x93NUMPX\1\0\0\0", 10, "not a .npy file");
    expect_refusal("a.npy", bytes, make_npy(bytes, "<f4", "True", "(2, 3)", floats, 24), "ascontiguousarray");
    expect_refusal("a.npy", bytes, make_npy(bytes, "<f4", "False", "(6,)", floats, 24),
                   "not two-dimensional");
    expect_refusal("a.npy", bytes, make_npy(bytes, "<f4", "False", "(1, 2, 3)", floats, 24),
                   "not two-dimensional");
    expect_refusal("a.npy", bytes, make_npy(bytes, ">f4", "False", "(2, 3)", floats, 24),
                   "elements of type '>f4'");
    expect_refusal("a.npy", bytes, make_npy(bytes, "<f4", "False", "(2, 4)", floats, 24), "cut off");
    expect_refusal("a.npy", bytes, make_npy(bytes, "<f4", "False", "(99999999999999999, 3)", floats, 24),
                   "cut off");
    expect_refusal("a.txt", "1 2 3", 5, "not a known kind");
}

static void integers_are_not_read_from_floats(void **state)
{
    struct kith_rows *rows;
    struct kith_error error;
    int32_t row[1];
    write_file("a.fvecs", "\1\0\0\0abcd", 8);
    assert_int_equal(kith_rows_open(&rows, path, NULL, &error), KITH_OK);
    assert_int_equal(kith_rows_next_int(rows, row, &error), KITH_EINVAL);
    kith_rows_close(rows);
    unlink(path);
}

static void a_failed_allocation_leaks_nothing(void **state)
{
    char bytes[400];
    size_t length = make_npy(bytes, "<f4", "False", "(2, 3)", floats, 24);
    write_file("a.npy", bytes, length);
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct kith_rows *rows = NULL;
        int status = kith_rows_open(&rows, path, NULL, NULL);
        assert_true(status == KITH_OK || status == KITH_ENOMEM);
        if (!status) {
            float row[3];
            status = kith_rows_next(rows, row, NULL);
            assert_true(status == 1 || status == KITH_ENOMEM);
        }
        kith_rows_close(rows);
    }
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format_gives_its_rows),
        cmocka_unit_test(int8_rows_are_signed),
        cmocka_unit_test(every_bad_file_is_refused_with_its_reason),
        cmocka_unit_test(integers_are_not_read_from_floats),
        cmocka_unit_test(a_failed_allocation_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
