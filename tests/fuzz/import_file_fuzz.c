/* The loaders' file readers on any bytes: no crash, and every failure has its sentence. The first byte chooses the
 * format, the rest is the file (gzip or not: the bytes decide). */
#include "base/assert.h"
#include "prog/csv.h"
#include "prog/rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROWS_MAX = 2000 };

static void read_rows(const char *path, const char *format)
{
    struct kith_rows *rows;
    struct kith_error error = {""};
    int status = kith_rows_open(&rows, path, format, &error);
    if (status == KITH_OK) {
        size_t dim = kith_rows_dim(rows);
        void *row = malloc(dim * sizeof(float));
        if (!row)
            abort();
        bool as_ints = format[0] == 'i';
        do
            status = as_ints ? kith_rows_next_int(rows, row, &error) : kith_rows_next(rows, row, &error);
        while (status == 1 && kith_rows_done(rows) < ROWS_MAX);
        free(row);
        kith_rows_close(rows);
    }
    KITH_ASSERT(status >= 0 || error.text[0]);
}

static void read_csv(const char *path)
{
    struct kith_source *source;
    struct kith_error error = {""};
    struct kith_csv csv;
    size_t bytes = 0;
    int status = kith_source_open(&source, path, &error);
    if (status == KITH_OK) {
        kith_csv_init(&csv, source);
        while ((status = kith_csv_next(&csv, &error)) == 1 && bytes < 1 << 20) {
            KITH_ASSERT(csv.field_count > 0);
            for (size_t i = 0; i < csv.field_count; i++)
                bytes += csv.fields[i].length + 1;
        }
        kith_csv_fini(&csv);
        kith_source_close(source);
    }
    KITH_ASSERT(status >= 0 || error.text[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const formats[] = {"u8bin", "i8bin", "fbin",  "i32bin",
                                          "fvecs", "bvecs", "ivecs", "npy"};
    enum { FORMATS = sizeof formats / sizeof *formats };
    char path[64];
    if (size < 1)
        return 0;
    int fd = memfd_create("input", 0);
    if (fd < 0 || write(fd, data + 1, size - 1) != (ssize_t)size - 1)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (data[0] % (FORMATS + 1) == FORMATS)
        read_csv(path);
    else
        read_rows(path, formats[data[0] % (FORMATS + 1)]);
    close(fd);
    return 0;
}
