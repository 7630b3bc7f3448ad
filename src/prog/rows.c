/* Vector files. A format is a row of the table below: how its header is read and what its elements are; the rest is
 * common. */
#include "prog/rows.h"

#include "base/assert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum element { U8, I8, I32, F32, F64 };
enum layout { BIN, VECS, NPY };

static const uint8_t element_bytes[] = {[U8] = 1, [I8] = 1, [I32] = 4, [F32] = 4, [F64] = 8};
static const char *const element_names[] = {
    [U8] = "uint8", [I8] = "int8", [I32] = "int32", [F32] = "float32", [F64] = "float64"};

static const struct format {
    const char *name;
    enum layout layout;
    enum element element; /* an npy file says it itself */
} formats[] = {
    {"u8bin", BIN, U8},   {"i8bin", BIN, I8},  {"fbin", BIN, F32},   {"i32bin", BIN, I32}, {"ibin", BIN, I32},
    {"fvecs", VECS, F32}, {"bvecs", VECS, U8}, {"ivecs", VECS, I32}, {"npy", NPY, F32},
};

enum { NPY_HEADER_MAX = 65536 };

struct kith_rows {
    struct kith_source *source;
    const struct format *format;
    enum element element;
    uint32_t dim;
    uint64_t total; /* 0: not known */
    bool has_total;
    uint64_t done;
    char *row; /* the file's bytes of one row */
};

static uint32_t little32(const unsigned char *b)
{
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static int bad_file(struct kith_rows *rows, struct kith_error *error, const char *what)
{
    return kith_error_set(error, KITH_ECORRUPT, "%s: byte %llu: %s", kith_source_path(rows->source),
                          (unsigned long long)kith_source_offset(rows->source), what);
}

static int check_dim(struct kith_rows *rows, uint64_t dim, struct kith_error *error)
{
    if (dim >= 1 && dim <= KITH_ROWS_DIM_MAX)
        return KITH_OK;
    char text[160];
    snprintf(text, sizeof text, "a row of %llu columns (1 to %d are possible): is it a %s file?",
             (unsigned long long)dim, KITH_ROWS_DIM_MAX, rows->format->name);
    return bad_file(rows, error, text);
}

/* A plain file's size must be what its header says: told now, not after an hour. */
static int check_size(struct kith_rows *rows, struct kith_error *error)
{
    uint64_t size = kith_source_size(rows->source);
    uint64_t header = kith_source_offset(rows->source);
    unsigned __int128 need =
        (unsigned __int128)rows->total * rows->dim * element_bytes[rows->element] + header;
    if (!size || size == need)
        return KITH_OK;
    return kith_error_set(
        error, KITH_ECORRUPT,
        "%s: its header says %llu rows of %u x %s, which makes %.0f bytes, but the file has %llu: it "
        "is %s, or not a %s file",
        kith_source_path(rows->source), (unsigned long long)rows->total, rows->dim,
        element_names[rows->element], (double)need, (unsigned long long)size,
        size < need ? "cut off" : "too long", rows->format->name);
}

static int read_bin_header(struct kith_rows *rows, struct kith_error *error)
{
    unsigned char header[8];
    int status =
        kith_source_read_all(rows->source, header, sizeof header, "the header (rows, columns)", error);
    if (status)
        return status;
    rows->total = little32(header);
    rows->has_total = true;
    rows->dim = little32(header + 4);
    status = check_dim(rows, rows->dim, error);
    return status ? status : check_size(rows, error);
}

/* Each row has a header; the first one tells the width. */
static int read_vecs_dim(struct kith_rows *rows, uint32_t *dim, struct kith_error *error)
{
    unsigned char header[4];
    size_t got = 0;
    int status = kith_source_read(rows->source, header, sizeof header, &got, error);
    if (status)
        return status;
    if (!got)
        return 0;
    if (got < sizeof header)
        return bad_file(rows, error, "the file ends inside a row's column count");
    status = check_dim(rows, little32(header), error);
    if (status)
        return status;
    *dim = little32(header);
    return 1;
}

static int read_vecs_header(struct kith_rows *rows, struct kith_error *error)
{
    int status = read_vecs_dim(rows, &rows->dim, error);
    if (status <= 0)
        return status ? status : bad_file(rows, error, "the file is empty");
    uint64_t row_bytes = 4 + (uint64_t)rows->dim * element_bytes[rows->element];
    uint64_t size = kith_source_size(rows->source);
    if (size % row_bytes)
        return kith_error_set(
            error, KITH_ECORRUPT,
            "%s: rows of %u columns take %llu bytes each, and the file's %llu bytes are not a multiple "
            "of that: it is cut off, or not a %s file",
            kith_source_path(rows->source), rows->dim, (unsigned long long)row_bytes,
            (unsigned long long)size, rows->format->name);
    rows->total = size / row_bytes;
    return KITH_OK;
}

/* What follows 'key': in an npy header, blanks skipped; NULL when it is not there. */
static const char *npy_field(const char *header, const char *key)
{
    const char *at = strstr(header, key);
    if (!at)
        return NULL;
    at += strlen(key);
    while (*at == ' ' || *at == ':')
        at++;
    return at;
}

static int read_npy_type(struct kith_rows *rows, const char *header, struct kith_error *error)
{
    static const struct {
        const char *text;
        enum element element;
    } types[] = {{"'<f4'", F32}, {"'<f8'", F64}, {"'|u1'", U8}, {"'|i1'", I8}, {"'<i4'", I32}};
    const char *descr = npy_field(header, "'descr'");
    for (size_t i = 0; descr && i < sizeof types / sizeof *types; i++) {
        if (strncmp(descr, types[i].text, strlen(types[i].text)) == 0) {
            rows->element = types[i].element;
            return KITH_OK;
        }
    }
    char text[160];
    snprintf(text, sizeof text,
             "elements of type %.12s; possible are <f4, <f8, |u1, |i1, <i4: save array.astype('<f4')",
             descr ? descr : "(none)");
    return bad_file(rows, error, text);
}

static int read_npy_shape(struct kith_rows *rows, const char *header, struct kith_error *error)
{
    const char *order = npy_field(header, "'fortran_order'");
    const char *shape = npy_field(header, "'shape'");
    if (!order || strncmp(order, "False", 5) != 0)
        return bad_file(rows, error, "the array is in Fortran order: save numpy.ascontiguousarray(array)");
    unsigned long long row_count, dim;
    char closing[3];
    if (!shape || sscanf(shape, "(%llu, %llu%1[)]", &row_count, &dim, closing) != 3)
        return bad_file(rows, error, "the array is not two-dimensional (rows, columns)");
    rows->total = row_count;
    rows->has_total = true;
    int status = check_dim(rows, dim, error);
    if (status)
        return status;
    rows->dim = (uint32_t)dim;
    return check_size(rows, error);
}

/* NumPy's format: magic, version, header length (2 or 4 bytes), a Python dictionary as text. */
static int read_npy_header(struct kith_rows *rows, struct kith_error *error)
{
    unsigned char magic[12];
    int status = kith_source_read_all(rows->source, magic, 8, "the header", error);
    if (status)
        return status;
    if (memcmp(magic, "\x93NUMPY", 6) != 0 || magic[6] < 1 || magic[6] > 3)
        return bad_file(rows, error, "this is not a .npy file of version 1 to 3");
    size_t length_bytes = magic[6] == 1 ? 2 : 4;
    memset(magic + 8, 0, 4);
    status = kith_source_read_all(rows->source, magic + 8, length_bytes, "the header", error);
    if (status)
        return status;
    uint32_t length = little32(magic + 8);
    if (length > NPY_HEADER_MAX)
        return bad_file(rows, error, "the header is longer than 65,536 bytes");
    char *header = malloc((size_t)length + 1);
    if (!header)
        return kith_error_set(error, KITH_ENOMEM, "out of memory");
    status = kith_source_read_all(rows->source, header, length, "the header", error);
    header[length] = '\0';
    if (!status)
        status = read_npy_type(rows, header, error);
    if (!status)
        status = read_npy_shape(rows, header, error);
    free(header);
    return status;
}

/* The format that the file's name ends in, a ".gz" left out. */
static const struct format *find_format(const char *path, const char *name)
{
    size_t length = strlen(path);
    if (length > 3 && strcasecmp(path + length - 3, ".gz") == 0)
        length -= 3;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        size_t n = strlen(formats[i].name);
        if (name ? strcasecmp(name, formats[i].name) == 0
                 : length > n && path[length - n - 1] == '.' &&
                       strncasecmp(path + length - n, formats[i].name, n) == 0)
            return &formats[i];
    }
    return NULL;
}

int kith_rows_open(struct kith_rows **out, const char *path, const char *format, struct kith_error *error)
{
    const struct format *found = find_format(path, format);
    if (!found)
        return kith_error_set(
            error, KITH_EINVAL,
            "%s: not a known kind of vector file; possible are u8bin, i8bin, fbin, i32bin, fvecs, "
            "bvecs, ivecs, npy (and each with .gz): name it with --format",
            path);
    struct kith_rows *rows = calloc(1, sizeof *rows);
    if (!rows)
        return kith_error_set(error, KITH_ENOMEM, "out of memory");
    rows->format = found;
    rows->element = found->element;
    int status = kith_source_open(&rows->source, path, error);
    if (!status)
        status = found->layout == BIN    ? read_bin_header(rows, error)
                 : found->layout == VECS ? read_vecs_header(rows, error)
                                         : read_npy_header(rows, error);
    if (!status && !(rows->row = malloc((size_t)rows->dim * element_bytes[rows->element])))
        status = kith_error_set(error, KITH_ENOMEM, "out of memory");
    if (status) {
        kith_rows_close(rows);
        return status;
    }
    *out = rows;
    return KITH_OK;
}

void kith_rows_close(struct kith_rows *rows)
{
    if (!rows)
        return;
    kith_source_close(rows->source);
    free(rows->row);
    free(rows);
}

uint32_t kith_rows_dim(const struct kith_rows *rows)
{
    return rows->dim;
}

uint64_t kith_rows_total(const struct kith_rows *rows)
{
    return rows->total;
}

uint64_t kith_rows_done(const struct kith_rows *rows)
{
    return rows->done;
}

struct kith_source *kith_rows_source(struct kith_rows *rows)
{
    return rows->source;
}

/* Behind the last row there must be nothing: else rows and columns were not what the header said. */
static int check_end(struct kith_rows *rows, struct kith_error *error)
{
    char byte;
    size_t got = 0;
    int status = kith_source_read(rows->source, &byte, 1, &got, error);
    if (!status && got)
        status = bad_file(rows, error, "the file goes on behind its last row");
    return status;
}

/* The next row's bytes into rows->row. Returns 1, 0 at the end, or a failure. */
static int read_row(struct kith_rows *rows, struct kith_error *error)
{
    if (rows->has_total && rows->done == rows->total)
        return check_end(rows, error);
    /* The first row's width was read with the header. */
    if (rows->format->layout == VECS && rows->done) {
        uint32_t dim = 0;
        int status = read_vecs_dim(rows, &dim, error);
        if (status <= 0)
            return status;
        if (dim != rows->dim) {
            char text[120];
            snprintf(text, sizeof text, "row %llu has %u columns, the rows before it %u",
                     (unsigned long long)rows->done, dim, rows->dim);
            return bad_file(rows, error, text);
        }
    }
    char what[40];
    snprintf(what, sizeof what, "row %llu", (unsigned long long)rows->done);
    int status = kith_source_read_all(rows->source, rows->row,
                                      (size_t)rows->dim * element_bytes[rows->element], what, error);
    if (status)
        return status;
    rows->done++;
    return 1;
}

static void widen(const struct kith_rows *rows, float *out)
{
    const char *bytes = rows->row;
    switch (rows->element) {
    case U8:
        for (uint32_t i = 0; i < rows->dim; i++)
            out[i] = (float)(uint8_t)bytes[i];
        break;
    case I8:
        for (uint32_t i = 0; i < rows->dim; i++)
            out[i] = (float)(int8_t)bytes[i];
        break;
    case I32:
        for (uint32_t i = 0; i < rows->dim; i++)
            out[i] = (float)(int32_t)little32((const unsigned char *)bytes + 4 * (size_t)i);
        break;
    case F32:
        for (uint32_t i = 0; i < rows->dim; i++) {
            uint32_t bits = little32((const unsigned char *)bytes + 4 * (size_t)i);
            memcpy(&out[i], &bits, sizeof bits);
        }
        break;
    case F64:
        for (uint32_t i = 0; i < rows->dim; i++) {
            const unsigned char *b = (const unsigned char *)bytes + 8 * (size_t)i;
            uint64_t bits = (uint64_t)little32(b) | (uint64_t)little32(b + 4) << 32;
            double value;
            memcpy(&value, &bits, sizeof bits);
            out[i] = (float)value;
        }
        break;
    }
}

int kith_rows_next(struct kith_rows *rows, float *out, struct kith_error *error)
{
    int status = read_row(rows, error);
    if (status <= 0)
        return status;
    widen(rows, out);
    for (uint32_t i = 0; i < rows->dim; i++) {
        if (!isfinite(out[i]))
            return kith_error_set(error, KITH_ECORRUPT, "%s: row %llu, column %u is %s",
                                  kith_source_path(rows->source), (unsigned long long)rows->done - 1, i,
                                  isnan(out[i]) ? "not a number" : "infinite or too large for float32");
    }
    return 1;
}

int kith_rows_next_int(struct kith_rows *rows, int32_t *out, struct kith_error *error)
{
    if (rows->element == F32 || rows->element == F64)
        return kith_error_set(error, KITH_EINVAL, "%s: holds %s, integers are needed here",
                              kith_source_path(rows->source), element_names[rows->element]);
    int status = read_row(rows, error);
    for (uint32_t i = 0; status == 1 && i < rows->dim; i++) {
        const unsigned char *b = (const unsigned char *)rows->row;
        out[i] = rows->element == I32  ? (int32_t)little32(b + 4 * (size_t)i)
                 : rows->element == U8 ? (int32_t)b[i]
                                       : (int32_t)(int8_t)b[i];
    }
    return status;
}
