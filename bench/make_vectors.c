/* Makes vector sets of shapes that the real ones lack, the same bytes for the same options on one machine:
 *
 *     bench/make_vectors FOLDER NAME KIND [rows=N] [queries=N] [dim=N] [clusters=N] [intrinsic=N] [seed=N]
 *     KIND clusters   heavy-tailed clusters: how many rows a cluster has and how wide it is follow power laws; of the
 *                     queries, one in ten lies between two clusters. 100,000 x 96 unless told
 *     KIND curved     few intrinsic dimensions bent into many (tanh layers), and a little noise. 50,000 x 1,536 unless told
 *
 * It writes FOLDER/NAME.base.fbin and NAME.query.fbin (two little-endian uint32, rows and columns, then float32), which
 * bench/vectors and kith import vectors read. Rows are drawn independently: the first n of a set are a set of n. */
#include "base/random.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HIDDEN = 64, SKIPPED = 77 };

struct maker {
    struct kith_rng rng;
    uint32_t rows, queries, dim, clusters, intrinsic;
    uint64_t seed;
    float *centres; /* clusters x dim */
    float *spreads; /* clusters x dim: a deviation for each axis */
    double *ends;   /* cluster i is drawn by numbers below ends[i] */
    float *inward;  /* HIDDEN x intrinsic */
    float *bias;    /* HIDDEN */
    float *outward; /* dim x HIDDEN */
};

static float gauss(struct kith_rng *rng)
{
    double u = 1 - kith_rng_unit(rng), v = kith_rng_unit(rng);
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

static float *fill_gauss(struct kith_rng *rng, size_t count, double deviation)
{
    float *values = malloc(count * sizeof *values);
    for (size_t i = 0; values && i < count; i++)
        values[i] = (float)deviation * gauss(rng);
    return values;
}

/* ---- clusters ---- */

static bool open_clusters(struct maker *m)
{
    m->centres = fill_gauss(&m->rng, (size_t)m->clusters * m->dim, 1);
    m->spreads = malloc((size_t)m->clusters * m->dim * sizeof *m->spreads);
    m->ends = malloc(m->clusters * sizeof *m->ends);
    if (!m->centres || !m->spreads || !m->ends)
        return false;
    double sum = 0;
    for (uint32_t c = 0; c < m->clusters; c++) {
        m->ends[c] = sum += 1 / pow(c + 1, 1.1);
        /* Pareto, cut at the distance of the centres; in each cluster some axes are wider than others. */
        double width = 0.25 / pow(1 - kith_rng_unit(&m->rng), 1 / 1.5);
        width = width < 1.5 ? width : 1.5;
        for (uint32_t d = 0; d < m->dim; d++)
            m->spreads[(size_t)c * m->dim + d] = (float)(width * exp(0.8 * (double)gauss(&m->rng)) * 0.7);
    }
    for (uint32_t c = 0; c < m->clusters; c++)
        m->ends[c] /= sum;
    return true;
}

static void draw_clustered(struct maker *m, float *row)
{
    double u = kith_rng_unit(&m->rng);
    uint32_t low = 0, high = m->clusters - 1;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (u < m->ends[middle])
            high = middle;
        else
            low = middle + 1;
    }
    const float *centre = m->centres + (size_t)low * m->dim, *spread = m->spreads + (size_t)low * m->dim;
    for (uint32_t d = 0; d < m->dim; d++)
        row[d] = centre[d] + spread[d] * gauss(&m->rng);
}

static void draw_between(struct maker *m, float *row, float *other)
{
    draw_clustered(m, row);
    draw_clustered(m, other);
    float part = 0.25f + 0.5f * (float)kith_rng_unit(&m->rng);
    for (uint32_t d = 0; d < m->dim; d++)
        row[d] = part * row[d] + (1 - part) * other[d];
}

/* ---- curved ---- */

static bool open_curved(struct maker *m)
{
    m->inward = fill_gauss(&m->rng, (size_t)HIDDEN * m->intrinsic, 1 / sqrt(m->intrinsic));
    m->bias = fill_gauss(&m->rng, HIDDEN, 0.5);
    m->outward = fill_gauss(&m->rng, (size_t)m->dim * HIDDEN, 1 / sqrt(HIDDEN));
    return m->inward && m->bias && m->outward;
}

static void draw_curved(struct maker *m, float *row)
{
    float inside[256], hidden[HIDDEN];
    for (uint32_t i = 0; i < m->intrinsic; i++)
        inside[i] = gauss(&m->rng);
    for (uint32_t i = 0; i < HIDDEN; i++) {
        float sum = m->bias[i];
        for (uint32_t k = 0; k < m->intrinsic; k++)
            sum += m->inward[i * m->intrinsic + k] * inside[k];
        hidden[i] = tanhf(1.5f * sum);
    }
    for (uint32_t d = 0; d < m->dim; d++) {
        float sum = 0.02f * gauss(&m->rng);
        for (uint32_t i = 0; i < HIDDEN; i++)
            sum += m->outward[(size_t)d * HIDDEN + i] * hidden[i];
        row[d] = sum;
    }
}

/* ---- files ---- */

static bool write_rows(struct maker *m, const char *folder, const char *name, const char *part, uint32_t rows,
                       bool query)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.%s.fbin", folder, name, part);
    FILE *file = fopen(path, "wb");
    float *row = malloc(m->dim * sizeof *row), *other = malloc(m->dim * sizeof *other);
    uint32_t head[2] = {rows, m->dim};
    /* Base and queries draw from generators of their own: one's number of rows does not move the other. */
    kith_rng_seed(&m->rng, m->seed * 2 + 1 + query);
    bool good = file && row && other && fwrite(head, sizeof head, 1, file) == 1;
    for (uint32_t i = 0; good && i < rows; i++) {
        if (m->inward)
            draw_curved(m, row);
        else if (query && i % 10 == 0)
            draw_between(m, row, other);
        else
            draw_clustered(m, row);
        good = fwrite(row, m->dim * sizeof *row, 1, file) == 1;
    }
    if (file && fclose(file) != 0)
        good = false;
    free(row);
    free(other);
    if (!good)
        fprintf(stderr, "could not write %s\n", path);
    return good;
}

static bool take_option(struct maker *m, const char *arg)
{
    struct {
        const char *name;
        uint32_t *value, most;
    } options[] = {{"rows", &m->rows, UINT32_MAX},
                   {"queries", &m->queries, UINT32_MAX},
                   {"dim", &m->dim, 65536},
                   {"clusters", &m->clusters, 1 << 20},
                   {"intrinsic", &m->intrinsic, 256}};
    const char *equals = strchr(arg, '=');
    unsigned long long number = equals ? strtoull(equals + 1, NULL, 10) : 0;
    if (equals && !strncmp(arg, "seed=", 5)) {
        m->seed = number;
        return true;
    }
    for (size_t i = 0; equals && i < sizeof options / sizeof *options; i++) {
        size_t length = strlen(options[i].name);
        if ((size_t)(equals - arg) == length && !strncmp(arg, options[i].name, length) && number >= 1 &&
            number <= options[i].most) {
            *options[i].value = (uint32_t)number;
            return true;
        }
    }
    fprintf(stderr, "unknown option, or its number is out of range: %s\n", arg);
    return false;
}

int main(int argc, char **argv)
{
    bool curved = argc > 3 && !strcmp(argv[3], "curved");
    if (argc < 4 || (!curved && strcmp(argv[3], "clusters") != 0)) {
        fprintf(stderr,
                "usage: %s FOLDER NAME clusters|curved [rows=] [queries=1000] [dim=] [clusters=1000] "
                "[intrinsic=24] [seed=1]\n",
                argv[0]);
        return SKIPPED;
    }
    struct maker m = {.rows = curved ? 50000 : 100000,
                      .queries = 1000,
                      .dim = curved ? 1536 : 96,
                      .clusters = 1000,
                      .intrinsic = 24,
                      .seed = 1};
    for (int i = 4; i < argc; i++)
        if (!take_option(&m, argv[i]))
            return 1;
    kith_rng_seed(&m.rng, m.seed * 2);
    bool good = (curved ? open_curved(&m) : open_clusters(&m)) &&
                write_rows(&m, argv[1], argv[2], "base", m.rows, false) &&
                write_rows(&m, argv[1], argv[2], "query", m.queries, true);
    free(m.centres);
    free(m.spreads);
    free(m.ends);
    free(m.inward);
    free(m.bias);
    free(m.outward);
    return good ? 0 : 1;
}
