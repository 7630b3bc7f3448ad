/* CSV: a record is read as whole lines (more of them while a quote is open), then cut and unquoted in place. */
#include "prog/csv.h"

#include <stdlib.h>

enum { RECORD_MAX_BYTES = 512 << 20 };

void kith_csv_init(struct kith_csv *csv, struct kith_source *source)
{
    *csv = (struct kith_csv){.source = source};
}

void kith_csv_fini(struct kith_csv *csv)
{
    free(csv->fields);
    kith_buf_fini(&csv->text);
    kith_buf_fini(&csv->piece);
    *csv = (struct kith_csv){0};
}

static int out_of_memory(struct kith_csv *csv, struct kith_error *error)
{
    return kith_error_set(error, KITH_ENOMEM, "%s: out of memory", kith_source_path(csv->source));
}

static int bad_record(struct kith_csv *csv, struct kith_error *error, const char *what)
{
    return kith_error_set(error, KITH_ECORRUPT, "%s: line %llu: %s", kith_source_path(csv->source),
                          (unsigned long long)csv->line, what);
}

static bool has_open_quote(struct kith_slice text, bool is_open)
{
    for (size_t i = 0; i < text.length; i++)
        is_open ^= text.data[i] == '"';
    return is_open;
}

/* The lines of one record into csv->text. Returns 1, 0 at the end, or a failure. */
static int read_record(struct kith_csv *csv, struct kith_error *error)
{
    bool is_open = false;
    kith_buf_clear(&csv->text);
    for (;;) {
        int status = kith_source_read_line(csv->source, &csv->piece, RECORD_MAX_BYTES, error);
        if (status == 0 && is_open)
            return bad_record(csv, error, "a quote is opened and never closed");
        if (status <= 0)
            return status;
        csv->lines_read++;
        if (!is_open && csv->piece.length == 0)
            continue;
        if (!is_open)
            csv->line = csv->lines_read;
        else
            kith_buf_append_char(&csv->text, '\n');
        kith_buf_append(&csv->text, csv->piece.data, csv->piece.length);
        if (csv->text.failed)
            return out_of_memory(csv, error);
        if (csv->text.length > RECORD_MAX_BYTES)
            return kith_error_set(error, KITH_ETOOBIG,
                                  "%s: line %llu: a record of more than 512 MB: is a quote open?",
                                  kith_source_path(csv->source), (unsigned long long)csv->line);
        is_open = has_open_quote(kith_buf_slice(&csv->piece), is_open);
        if (!is_open)
            return 1;
    }
}

static int add_field(struct kith_csv *csv, const char *data, size_t length, struct kith_error *error)
{
    if (csv->field_count == csv->field_capacity) {
        size_t grown = csv->field_capacity ? csv->field_capacity * 2 : 16;
        struct kith_slice *fields = realloc(csv->fields, grown * sizeof *fields);
        if (!fields)
            return out_of_memory(csv, error);
        csv->fields = fields;
        csv->field_capacity = grown;
    }
    csv->fields[csv->field_count++] = kith_slice(data, length);
    return KITH_OK;
}

/* A field in quotes: *at is behind the opening one, and is moved behind the closing one. Unquoted in place. Returns its
 * end. */
static char *unquote(char **at, char *end)
{
    char *from = *at, *to = *at;
    while (from < end) {
        if (*from == '"') {
            if (from + 1 == end || from[1] != '"')
                break;
            from++;
        }
        *to++ = *from++;
    }
    *at = from < end ? from + 1 : end;
    return to;
}

int kith_csv_next(struct kith_csv *csv, struct kith_error *error)
{
    int status = read_record(csv, error);
    csv->field_count = 0;
    if (status <= 0)
        return status;
    char *at = csv->text.data, *end = at + csv->text.length;
    for (;;) {
        char *start = at, *stop;
        if (at < end && *at == '"') {
            start = ++at;
            stop = unquote(&at, end);
            if (at < end && *at != ',')
                return bad_record(csv, error, "a field goes on behind its closing quote");
        } else {
            stop = memchr(at, ',', (size_t)(end - at));
            stop = at = stop ? stop : end;
            if (memchr(start, '"', (size_t)(stop - start)))
                return bad_record(csv, error, "a quote inside a field that is not quoted");
        }
        status = add_field(csv, start, (size_t)(stop - start), error);
        if (status)
            return status;
        if (at == end)
            return 1;
        at++; /* the comma: a field follows, if only an empty one */
    }
}
