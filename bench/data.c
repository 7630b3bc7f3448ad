/* Vector files and exact answers, see data.h. */
#include "data.h"

#include "vec/kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

bool matrix_load(struct matrix *m, const char *folder, const char *set, const char *part, uint32_t rows_max)
{
    char path[1024];
    uint32_t head[2];
    snprintf(path, sizeof path, "%s/%s.%s.u8bin.gz", folder, set, part);
    gzFile file = gzopen(path, "rb");
    size_t width = file ? 1 : sizeof(float);
    if (!file) {
        snprintf(path, sizeof path, "%s/%s.%s.fbin", folder, set, part);
        file = gzopen(path, "rb");
    }
    if (!file || gzread(file, head, sizeof head) != sizeof head) {
        if (file)
            gzclose(file);
        return false;
    }
    m->rows = rows_max && head[0] > rows_max ? rows_max : head[0];
    m->dim = head[1];
    m->values = malloc((size_t)m->rows * m->dim * sizeof *m->values);
    unsigned bytes = (unsigned)(m->dim * width);
    uint8_t *row = malloc(bytes);
    bool good = m->values && row;
    for (uint32_t i = 0; good && i < m->rows; i++) {
        good = gzread(file, row, bytes) == (int)bytes;
        if (width == sizeof(float))
            memcpy(matrix_row(m, i), row, bytes);
        for (uint32_t d = 0; width == 1 && d < m->dim; d++)
            matrix_row(m, i)[d] = row[d];
    }
    free(row);
    gzclose(file);
    return good;
}

void matrix_normalise(struct matrix *m)
{
    for (uint32_t i = 0; i < m->rows; i++) {
        float *row = matrix_row(m, i);
        double sum = 0;
        for (uint32_t d = 0; d < m->dim; d++)
            sum += (double)row[d] * row[d];
        for (uint32_t d = 0; d < m->dim && sum > 0; d++)
            row[d] = (float)(row[d] / sqrt(sum));
    }
}

void matrix_fini(struct matrix *m)
{
    free(m->values);
    m->values = NULL;
}

/* Eight sums side by side, so that the compiler makes vectors of them. */
static float square_of_difference(const float *a, const float *b, uint32_t dim)
{
    float sums[16] = {0}, sum = 0;
    uint32_t d = 0;
    for (; d + 16 <= dim; d += 16) {
        for (uint32_t i = 0; i < 16; i++) {
            float difference = a[d + i] - b[d + i];
            sums[i] += difference * difference;
        }
    }
    for (; d < dim; d++)
        sum += (a[d] - b[d]) * (a[d] - b[d]);
    for (uint32_t i = 0; i < 16; i++)
        sum += sums[i];
    return sum;
}

/* Picked once: asking a virtual machine's processor what it can do takes longer than the distance. */
static float dot(const float *a, const float *b, uint32_t dim)
{
    static _Atomic(const struct kith_kernels *) picked;
    const struct kith_kernels *kernels = picked;
    if (!kernels)
        picked = kernels = kith_kernels_pick(KITH_KERNEL_BEST);
    return kernels->dot_f32(a, b, dim);
}

float bench_distance(enum bench_metric metric, const float *a, const float *b, uint32_t dim)
{
    if (metric == BENCH_L2)
        return square_of_difference(a, b, dim);
    return 1 - dot(a, b, dim);
}

void bench_bounds(enum bench_metric metric, const struct matrix *base, const struct matrix *queries,
                  uint32_t k, const bool *live, float *out)
{
    float *best = malloc(k * sizeof *best);
    for (uint32_t q = 0; best && q < queries->rows; q++) {
        uint32_t count = 0;
        for (uint32_t i = 0; i < base->rows; i++) {
            if (live && !live[i])
                continue;
            float distance = bench_distance(metric, matrix_row(queries, q), matrix_row(base, i), base->dim);
            if (count == k && distance >= best[k - 1])
                continue;
            uint32_t at = count < k ? count++ : k - 1;
            for (; at > 0 && best[at - 1] > distance; at--)
                best[at] = best[at - 1];
            best[at] = distance;
        }
        out[q] = count == k ? best[k - 1] : INFINITY;
    }
    free(best);
}

float bench_slack(enum bench_metric metric, float bound)
{
    return metric == BENCH_COSINE ? 1e-6f : fabsf(bound) * 1e-6f;
}

/* ---- a built index in a file: records of slot, user word, length, bytes; the header is the first ---- */

enum { RECORD_MAX = 1 << 20 };

/* 1, 0 at the end, -1 when the file is not what it should be. */
static int read_record(FILE *file, uint32_t *slot, uint32_t *user, char *bytes, uint32_t *length)
{
    uint32_t head[3];
    if (fread(head, sizeof head, 1, file) != 1)
        return feof(file) ? 0 : -1;
    *slot = head[0];
    *user = head[1];
    *length = head[2];
    return *length < RECORD_MAX && fread(bytes, *length, 1, file) == 1 ? 1 : -1;
}

bool bench_index_load(struct kith_hnsw **h, const char *path, const struct kith_hnsw_options *options)
{
    FILE *file = fopen(path, "rb");
    char *bytes = malloc(RECORD_MAX);
    struct kith_hnsw *loaded = NULL;
    uint32_t slot, user, length;
    int rc = KITH_EIO, got = 0;
    if (file && bytes && read_record(file, &slot, &user, bytes, &length) == 1)
        rc = kith_hnsw_restore_open(&loaded, kith_slice(bytes, length), options);
    while (rc == KITH_OK && (got = read_record(file, &slot, &user, bytes, &length)) == 1)
        rc = kith_hnsw_restore_element(loaded, slot, kith_slice(bytes, length), user);
    if (rc == KITH_OK)
        rc = got ? KITH_EIO : kith_hnsw_restore_finish(loaded);
    if (file)
        fclose(file);
    free(bytes);
    if (rc != KITH_OK) {
        kith_hnsw_close(loaded);
        return false;
    }
    kith_hnsw_close(*h);
    *h = loaded;
    return true;
}

static bool write_record(FILE *file, uint32_t slot, uint64_t user, struct kith_buf *buf)
{
    uint32_t head[3] = {slot, (uint32_t)user, (uint32_t)buf->length};
    bool good = !buf->failed && fwrite(head, sizeof head, 1, file) == 1 &&
                fwrite(buf->data, buf->length, 1, file) == 1;
    kith_buf_clear(buf);
    return good;
}

bool bench_index_store(const struct kith_hnsw *h, const char *path)
{
    FILE *file = fopen(path, "wb");
    struct kith_buf buf;
    if (!file)
        return false;
    kith_buf_init(&buf);
    kith_hnsw_save_header(h, &buf);
    bool good = write_record(file, 0, 0, &buf);
    for (uint32_t slot = 0; good && slot < kith_hnsw_slot_end(h); slot++) {
        if (!kith_hnsw_is_live(h, slot))
            continue;
        kith_hnsw_save_element(h, slot, &buf);
        good = write_record(file, slot, kith_hnsw_user(h, slot), &buf);
    }
    kith_buf_fini(&buf);
    return fclose(file) == 0 && good;
}
