/* Histories of many keys as text, one operation a line: what clients of real processes wrote down, checked key by key
 * (linear.h). A line is
 *
 *     KEY CLIENT NODE KIND CALLED RETURNED ARGUMENT RESULT
 *
 * with single spaces. KIND is as linear_print writes it; CALLED and RETURNED are nanoseconds on one clock, RETURNED is
 * "-" when the outcome is not known; ARGUMENT is "-" where there is none; RESULT is a value, a number, "nil" for no
 * value, or "-". CLIENT and NODE are numbers, for people. */
#ifndef TESTS_SIM_HISTORY_H
#define TESTS_SIM_HISTORY_H

#include "linear.h"

#include <stdio.h>

struct history_record {
    char *key; /* owned: the whole line lies here, its words end in zeros */
    struct linear_op op;
    uint32_t node;
};

struct history {
    struct history_record *records; /* owned */
    size_t count, capacity;
};

struct history_verdict {
    size_t keys, bad, undecided;
};

/* False: the line is none of ours. Aborts when memory is short, as all here: it is a test. */
bool history_add(struct history *history, const char *line);

/* Sorts by key, checks each, and writes to `out` what cannot be explained, with the whole history of the first few such
 * keys. `budget` as linear_check takes it. */
void history_check(struct history *history, size_t budget, FILE *out, struct history_verdict *verdict);

void history_fini(struct history *history);

#endif
