/* What kith recall and kith bench vectors tell: the table, line by line as it is measured, and from its lines the ratio of
 * two servers, the plot, and the files. */
#include "prog/kith_recall.h"
#include "prog/plot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void kith_recall_print_head(const struct kith_recall_settings *s)
{
    char name[32];
    if (s->options->output == KITH_OUTPUT_JSON)
        return;
    snprintf(name, sizeof name, "recall@%llu", s->k);
    printf("%8s %10s %10s %12s", "EF", name, "worst", "queries/s");
    if (s->pipeline == 1 || s->is_bench)
        printf(" %10s %10s", "p50 ms", "p99 ms");
    if (s->is_bench)
        printf(" %12s", "per CPU s");
    printf("\n");
}

/* A table for people, or one JSON object a line. */
void kith_recall_print_line(const struct kith_recall_settings *s, const struct kith_recall_line *line)
{
    bool has_times = s->pipeline == 1 || s->is_bench;
    if (s->options->output == KITH_OUTPUT_JSON) {
        printf("{\"ef\":%llu,\"k\":%llu,\"recall\":%.5f,\"worst\":%.3f,\"queries_per_s\":%.1f", line->ef,
               s->k, line->recall, line->worst, line->rate);
        if (has_times)
            printf(",\"p50_ms\":%.3f,\"p99_ms\":%.3f", line->p50_ms, line->p99_ms);
        if (line->cpu_rate > 0)
            printf(",\"queries_per_cpu_s\":%.1f", line->cpu_rate);
        printf(",\"server\":\"%s\"}\n", line->server);
    } else {
        printf("%8llu %10.4f %10.3f %12.0f", line->ef, line->recall, line->worst, line->rate);
        if (has_times)
            printf(" %10.3f %10.3f", line->p50_ms, line->p99_ms);
        if (s->is_bench && line->cpu_rate > 0)
            printf(" %12.0f", line->cpu_rate);
        else if (s->is_bench)
            printf(" %12s", "-");
        printf("\n");
    }
    fflush(stdout);
}

/* Queries a second at a recall, between the measured lines; 0 where these do not reach it. */
static double rate_at(const struct kith_recall_line *lines, size_t count, double recall)
{
    double best = 0;
    for (size_t i = 0; i < count; i++) {
        if (lines[i].recall >= recall && lines[i].rate > best)
            best = lines[i].rate;
        for (size_t j = 0; j < count; j++) {
            double low = lines[i].recall, high = lines[j].recall;
            if (low >= recall || high < recall)
                continue;
            double between = lines[i].rate + (lines[j].rate - lines[i].rate) * (recall - low) / (high - low);
            best = between > best ? between : best;
        }
    }
    return best;
}

void kith_recall_print_ratios(const struct kith_recall_settings *s, const struct kith_recall_table *table)
{
    static const double recalls[] = {0.90, 0.95, 0.99};
    size_t half = table->count / 2;
    for (size_t i = 0; i < sizeof recalls / sizeof *recalls; i++) {
        double here = rate_at(table->lines, half, recalls[i]);
        double there = rate_at(table->lines + half, table->count - half, recalls[i]);
        if (here > 0 && there > 0)
            printf("at recall %.2f: %.2f times the queries a second of %s\n", recalls[i], here / there,
                   s->against);
    }
}

static int write_file(const char *path, const struct kith_buf *text, struct kith_error *error)
{
    if (text->failed)
        return kith_error_set(error, KITH_ENOMEM, "out of memory");
    FILE *file = fopen(path, "wb");
    if (!file)
        return kith_error_set(error, KITH_EIO, "%s: cannot be written: %s", path, strerror(errno));
    bool whole = fwrite(text->data, 1, text->length, file) == text->length;
    if (fclose(file) != 0 || !whole)
        return kith_error_set(error, KITH_EIO, "%s: cannot be written: %s", path, strerror(errno));
    return KITH_OK;
}

static void append_csv(const struct kith_recall_settings *s, const struct kith_recall_table *table,
                       struct kith_buf *out)
{
    kith_buf_append_text(out, "server,k,ef,recall,worst,queries_per_s,queries_per_cpu_s,p50_ms,p99_ms\n");
    for (size_t i = 0; i < table->count; i++) {
        const struct kith_recall_line *line = &table->lines[i];
        kith_buf_append_format(out, "%s,%llu,%llu,%.5f,%.3f,%.1f,", line->server, s->k, line->ef,
                               line->recall, line->worst, line->rate);
        if (line->cpu_rate > 0)
            kith_buf_append_format(out, "%.1f", line->cpu_rate);
        if (s->pipeline == 1 || s->is_bench)
            kith_buf_append_format(out, ",%.3f,%.3f\n", line->p50_ms, line->p99_ms);
        else
            kith_buf_append_text(out, ",,\n");
    }
}

/* One curve a server: its lines stand together. */
int kith_recall_draw(const struct kith_recall_settings *s, const struct kith_recall_table *table,
                     struct kith_error *error)
{
    enum { COLUMNS = 80, LEAST = 2 };
    struct kith_plot_point points[2 * KITH_RECALL_EF_LIST_MAX];
    struct kith_plot_series series[2] = {{0}};
    struct kith_plot plot = {.title = s->key, .k = (unsigned)s->k, .series = series};
    struct kith_buf out;
    for (size_t i = 0; i < table->count; i++) {
        const struct kith_recall_line *line = &table->lines[i];
        points[i] = (struct kith_plot_point){line->recall, line->rate, line->ef};
        if (!i || line->server != table->lines[i - 1].server)
            series[plot.series_count++] = (struct kith_plot_series){line->server, points + i, 0};
        series[plot.series_count - 1].count++;
    }
    kith_buf_init(&out);
    if (s->options->output != KITH_OUTPUT_JSON && table->count >= LEAST)
        kith_plot_text(&plot, COLUMNS, &out);
    int status = out.failed ? kith_error_set(error, KITH_ENOMEM, "out of memory") : KITH_OK;
    if (!status && out.length)
        printf("\n%.*s", (int)out.length, out.data);
    kith_buf_clear(&out);
    if (!status && s->svg) {
        kith_plot_svg(&plot, &out);
        status = write_file(s->svg, &out, error);
    }
    kith_buf_clear(&out);
    if (!status && s->csv) {
        append_csv(s, table, &out);
        status = write_file(s->csv, &out, error);
    }
    kith_buf_fini(&out);
    return status;
}
