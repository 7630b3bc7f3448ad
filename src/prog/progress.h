/* Progress on a terminal: one line that is redrawn, with a bar, done and total, rate and the time that is left. Where
 * standard error is not a terminal, nothing until the end. */
#ifndef KITH_PROG_PROGRESS_H
#define KITH_PROG_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kith_progress {
    const char *what;  /* "rows" */
    uint64_t start_ns; /* of the monotonic clock */
    uint64_t drawn_ns; /* last drawn */
    /* For the rate of the last seconds. */
    uint64_t mark_ns, mark_done;
    double rate_per_s;
    bool is_terminal, is_drawn, is_started;
};

/* `what` is borrowed: the plural of the things counted. */
void kith_progress_init(struct kith_progress *progress, const char *what);
/* Call as often as you like: it draws ten times a second.
 *   total      things there are, 0 when not known
 *   fraction   how far we are, in [0, 1], where total is not known; 0: not known either */
void kith_progress_update(struct kith_progress *progress, uint64_t done, uint64_t total, double fraction);
/* Removes the line. */
void kith_progress_clear(struct kith_progress *progress);
/* Seconds since init. */
double kith_progress_seconds(const struct kith_progress *progress);

/* The line itself, for tests: `width` columns at most, no line end. */
void kith_progress_format(char *text, size_t size, unsigned width, const char *what, uint64_t done,
                          uint64_t total, double fraction, double rate_per_s);
/* 1234567 as "1,234,567"; returns text. */
char *kith_progress_thousands(char text[32], uint64_t number);

#endif
