/* Searches beside changes: two threads remove and add elements (under one lock, as the keyspace's thread would) and
 * link them; one thread searches and takes the time of each search, by the clock and by its own CPU time. Every ten
 * seconds all pause, and the graph is checked. With fewer cores than threads the clock shows the scheduler; the CPU
 * time shows what a search itself pays.
 *
 *     bench/stress FOLDER SET [seconds=60] [ef=100] */
#include "data.h"

#include "base/os.h"
#include "vec/hnsw.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { K = 10, CHANGERS = 2, IDLE_S = 5, PAUSE_EVERY_S = 10, SAMPLES_MAX = 20000000, SKIPPED = 77 };

struct stress {
    struct matrix base, queries;
    struct kith_hnsw *h;
    pthread_mutex_t writer;
    uint32_t *slots; /* of each row; KITH_HNSW_NONE: not in */
    uint32_t ef;
    _Atomic bool stop;
    _Atomic uint64_t changes;
};

struct samples {
    float *wall_us, *cpu_us;
    size_t count;
};

static double clock_us(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static void change_one(struct stress *s, struct kith_rng *rng)
{
    uint32_t row = (uint32_t)kith_rng_below(rng, s->base.rows), slot;
    int rc;
    pthread_mutex_lock(&s->writer);
    if (s->slots[row] != KITH_HNSW_NONE) {
        rc = kith_hnsw_remove(s->h, s->slots[row]);
        s->slots[row] = KITH_HNSW_NONE;
    } else {
        rc = kith_hnsw_add(s->h, matrix_row(&s->base, row), 0, row, &slot);
        s->slots[row] = slot;
    }
    kith_hnsw_reclaim(s->h);
    pthread_mutex_unlock(&s->writer);
    if (rc != KITH_OK)
        die("a change failed");
}

static void *run_changer(void *arg)
{
    struct stress *s = arg;
    struct kith_rng rng;
    kith_rng_seed(&rng, clock_us(CLOCK_MONOTONIC));
    while (!s->stop) {
        change_one(s, &rng);
        kith_hnsw_work(s->h, 2, 0);
        s->changes++;
    }
    return NULL;
}

/* Searches for that long and notes the times. */
static void search_for(struct stress *s, double seconds, struct samples *samples)
{
    double end = clock_us(CLOCK_MONOTONIC) + seconds * 1e6;
    for (uint32_t q = 0; samples->count < SAMPLES_MAX; q = (q + 1) % s->queries.rows) {
        struct kith_hnsw_hit hits[K];
        struct kith_hnsw_query query = {.vector = matrix_row(&s->queries, q), .k = K, .ef = s->ef};
        double wall = clock_us(CLOCK_MONOTONIC), cpu = clock_us(CLOCK_THREAD_CPUTIME_ID);
        if (kith_hnsw_search(s->h, &query, hits, NULL) < K)
            die("a search found too few");
        samples->cpu_us[samples->count] = (float)(clock_us(CLOCK_THREAD_CPUTIME_ID) - cpu);
        double now = clock_us(CLOCK_MONOTONIC);
        samples->wall_us[samples->count++] = (float)(now - wall);
        if (now >= end)
            return;
    }
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double p99_of(float *values, size_t count, const char *what)
{
    qsort(values, count, sizeof *values, by_value);
    double p99 = values[count * 99 / 100];
    printf("  %-9s p50 %7.1f  p99 %7.1f  p99.9 %8.1f  longest %9.1f us\n", what, values[count / 2], p99,
           values[count * 999 / 1000], values[count - 1]);
    return p99;
}

static void pause_and_check(struct stress *s)
{
    struct kith_error error;
    kith_hnsw_settle(s->h);
    int rc = kith_hnsw_check(s->h, &error);
    printf("pause: %llu elements, %llu changes so far, check: %s\n",
           (unsigned long long)kith_hnsw_count(s->h), (unsigned long long)s->changes,
           rc == KITH_OK ? "clean" : error.text);
    fflush(stdout);
    if (rc != KITH_OK)
        exit(1);
}

static void run(struct stress *s, double seconds)
{
    static struct samples idle, busy;
    for (int i = 0; i < 2; i++) {
        struct samples *samples = i ? &busy : &idle;
        samples->wall_us = malloc(SAMPLES_MAX * sizeof(float));
        samples->cpu_us = malloc(SAMPLES_MAX * sizeof(float));
        if (!samples->wall_us || !samples->cpu_us)
            die("out of memory");
    }
    search_for(s, IDLE_S, &idle);
    for (double done = 0; done < seconds; done += PAUSE_EVERY_S) {
        pthread_t threads[CHANGERS];
        s->stop = false;
        for (int i = 0; i < CHANGERS; i++)
            pthread_create(&threads[i], NULL, run_changer, s);
        search_for(s, seconds - done < PAUSE_EVERY_S ? seconds - done : PAUSE_EVERY_S, &busy);
        s->stop = true;
        for (int i = 0; i < CHANGERS; i++)
            pthread_join(threads[i], NULL);
        pause_and_check(s);
    }
    printf("idle: %zu searches\n", idle.count);
    double wall = p99_of(idle.wall_us, idle.count, "by clock"),
           cpu = p99_of(idle.cpu_us, idle.count, "CPU time");
    printf("beside %d changing threads: %zu searches\n", CHANGERS, busy.count);
    double busy_wall = p99_of(busy.wall_us, busy.count, "by clock");
    double busy_cpu = p99_of(busy.cpu_us, busy.count, "CPU time");
    printf("p99, busy to idle: %.2f by the clock, %.2f in CPU time\n", busy_wall / wall, busy_cpu / cpu);
}

static double number_of(int argc, char **argv, const char *name, double otherwise)
{
    size_t length = strlen(name);
    for (int i = 3; i < argc; i++)
        if (!strncmp(argv[i], name, length) && argv[i][length] == '=')
            return atof(argv[i] + length + 1);
    return otherwise;
}

int main(int argc, char **argv)
{
    static struct stress s = {.writer = PTHREAD_MUTEX_INITIALIZER};
    if (argc < 3 || !matrix_load(&s.base, argv[1], argv[2], "base", 0) ||
        !matrix_load(&s.queries, argv[1], argv[2], "query", 0)) {
        fprintf(stderr, "usage: %s FOLDER SET [seconds=60] [ef=100]\n", argv[0]);
        return SKIPPED;
    }
    s.ef = (uint32_t)number_of(argc, argv, "ef", 100);
    s.slots = malloc(s.base.rows * sizeof *s.slots);
    struct kith_hnsw_options options = {
        .dim = s.base.dim, .codes = KITH_HNSW_I8, .metric = KITH_HNSW_COSINE, .seed = 1};
    if (!s.slots || kith_hnsw_open(&s.h, &options) != KITH_OK)
        die("out of memory");
    for (uint32_t row = 0; row < s.base.rows; row++)
        s.slots[row] = KITH_HNSW_NONE;
    for (uint32_t row = 0; row < s.base.rows; row += 2) {
        if (kith_hnsw_add(s.h, matrix_row(&s.base, row), 0, row, &s.slots[row]) != KITH_OK)
            die("out of memory");
        kith_hnsw_work(s.h, 1, 0);
    }
    pause_and_check(&s);
    run(&s, number_of(argc, argv, "seconds", 60));
    kith_hnsw_close(s.h);
    free(s.slots);
    matrix_fini(&s.base);
    matrix_fini(&s.queries);
    return 0;
}
