/* What kith recall measures (kith_recall.c) and tells (kith_recall_report.c). */
#ifndef KITH_PROG_KITH_RECALL_H
#define KITH_PROG_KITH_RECALL_H

#include "prog/exact.h"
#include "prog/kith_options.h"

#include <stdbool.h>
#include <stddef.h>

enum { KITH_RECALL_EF_LIST_MAX = 32 };

struct kith_recall_settings {
    struct kith_options *options;
    const char *key, *queries, *truth, *exact, *names, *svg, *csv, *load;
    bool is_bench;
    const char *against, *against_port; /* NULL: no other server */
    char against_host[256];
    enum kith_exact_metric metric;
    unsigned long long k, limit, pipeline, threads, connections;
    unsigned long long ef[KITH_RECALL_EF_LIST_MAX];
    size_t ef_count;
    double min;
};

/* One EF on one server. */
struct kith_recall_line {
    const char *server;
    unsigned long long ef;
    double recall, worst, seconds, rate; /* rate: queries a second */
    double cpu_rate;                     /* queries a CPU second of the server; 0: it does not say */
    double p50_ms, p99_ms;               /* at pipeline 1 */
};

/* Of one server after the other; lines is the caller's. */
struct kith_recall_table {
    struct kith_recall_line *lines;
    size_t count;
};

/* A table for people, or one JSON object a line. */
void kith_recall_print_head(const struct kith_recall_settings *s);
void kith_recall_print_line(const struct kith_recall_settings *s, const struct kith_recall_line *line);
/* How the first half of the lines, this server's, does beside the other half, at a few recalls. */
void kith_recall_print_ratios(const struct kith_recall_settings *s, const struct kith_recall_table *table);
/* The plot, one curve a server, as text, and what --svg and --csv ask for. KITH_ENOMEM, KITH_EIO. */
int kith_recall_draw(const struct kith_recall_settings *s, const struct kith_recall_table *table,
                     struct kith_error *error);

#endif
