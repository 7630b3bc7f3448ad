/* Comma-separated values as RFC 4180 has them: fields in double quotes may hold commas, line ends and "" for a quote.
 * The first record is the header. */
#ifndef KITH_PROG_CSV_H
#define KITH_PROG_CSV_H

#include "base/slice.h"
#include "prog/source.h"

struct kith_csv {
    struct kith_source *source; /* borrowed */
    struct kith_slice *fields;  /* of the present record; point into `text` */
    size_t field_count, field_capacity;
    uint64_t line; /* number of the record's first line, from 1 */

    /* Private. */
    uint64_t lines_read;
    struct kith_buf text, piece;
};

void kith_csv_init(struct kith_csv *csv, struct kith_source *source);
void kith_csv_fini(struct kith_csv *csv);
/* The next record into csv->fields; empty lines are passed over. Returns 1, 0 at the end, KITH_ECORRUPT for a quote that
 * is not closed or is followed by something else, KITH_ETOOBIG past 512 MB, KITH_ENOMEM, or what the source says. */
int kith_csv_next(struct kith_csv *csv, struct kith_error *error);

#endif
