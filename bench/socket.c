/* What the socket costs: VSIM queries per CPU second of kithd (all its threads), pipelined by one client as FP32 blobs,
 * beside kith_hnsw_search on an index of the same vectors in this process, in turns. One worker, k 10.
 *
 *     bench/socket KITHD FOLDER SET [key=value ...]
 *     FOLDER   holds SET.base.u8bin.gz and SET.query.u8bin.gz (see data.h)
 *     keys     efs=32,64,100,200 pipeline=64 rounds=5 passes=5 rows=0 (all) port=0 (a server that runs already and has
 *              the vectors in the key "bench"; its process id: pid=) file= (keeps the index between runs)
 */
#include "base/os.h"
#include "data.h"
#include "prog/client.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { K = 10, SKIPPED = 77, BATCH = 256, EFS_MAX = 16 };

struct bench {
    const char *kithd, *port, *path;
    pid_t pid;
    bool own_server;
    uint32_t pipeline, rounds, passes, rows;
    uint32_t efs[EFS_MAX], ef_count;
    struct matrix base, queries;
    float *bounds;
    struct kith_hnsw *h;
    struct kith_client *client;
};

static void die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static double own_cpu_seconds(void)
{
    double user, system;
    kith_os_cpu_seconds(&user, &system);
    return user + system;
}

/* All threads, to the nanosecond. */
static double server_cpu_seconds(const struct bench *b)
{
    char path[64 + 256];
    double sum = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)b->pid);
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        unsigned long long ns;
        snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", (int)b->pid, entry->d_name);
        FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "r");
        if (file && fscanf(file, "%llu", &ns) == 1)
            sum += (double)ns / 1e9;
        if (file)
            fclose(file);
    }
    if (folder)
        closedir(folder);
    return sum;
}

/* ---- the server ---- */

static void start_server(struct bench *b)
{
    static char port[16];
    snprintf(port, sizeof port, "%d", 20000 + (int)getpid() % 20000);
    b->port = port;
    b->own_server = true;
    b->pid = fork();
    if (b->pid == 0) {
        if (chdir("/tmp") != 0)
            _exit(1);
        execl(b->kithd, b->kithd, "--port", port, "--workers", "1", "--memory-only", "yes", "--loglevel",
              "warning", (char *)NULL);
        _exit(1);
    }
}

static void connect_client(struct bench *b)
{
    struct kith_client_options options = {.host = "127.0.0.1", .port = b->port};
    struct kith_error error;
    for (int i = 0; i < 100; i++) {
        if (kith_client_open(&b->client, &options, &error) == KITH_OK)
            return;
        usleep(50000);
    }
    die(error.text);
}

static void take_reply(struct bench *b, struct kith_value *value)
{
    struct kith_error error;
    if (kith_client_reply(b->client, value, &error) != KITH_OK)
        die(error.text);
    if (value->type == KITH_VALUE_ERROR)
        die(value->text.data);
}

static void put_batch(struct bench *b, uint32_t first, uint32_t count)
{
    static struct kith_slice argv[4 + 3 * BATCH];
    static char names[BATCH][12];
    char number[12];
    size_t argc = 0;
    argv[argc++] = kith_slice("VMADD", 5);
    argv[argc++] = kith_slice("bench", 5);
    argv[argc++] = kith_slice("ELEMENTS", 8);
    argv[argc++] = kith_slice(number, (size_t)snprintf(number, sizeof number, "%u", count));
    for (uint32_t i = 0; i < count; i++) {
        argv[argc++] = kith_slice("FP32", 4);
        argv[argc++] = kith_slice((char *)matrix_row(&b->base, first + i), 4 * (size_t)b->base.dim);
        argv[argc++] = kith_slice(names[i], (size_t)snprintf(names[i], sizeof names[i], "%u", first + i));
    }
    if (kith_client_put(b->client, argv, argc) != KITH_OK)
        die("out of memory");
}

static int64_t info_of(struct bench *b, const char *field)
{
    struct kith_value value = {0};
    struct kith_error error;
    int64_t found = -1;
    if (kith_client_call_words(b->client, &value, &error, "VINFO", "bench", NULL) != KITH_OK)
        die(error.text);
    for (size_t i = 0; value.type == KITH_VALUE_ARRAY && i + 1 < value.count; i += 2)
        if (kith_slice_is(value.items[i].text, field))
            found = value.items[i + 1].integer;
    kith_value_fini(&value);
    return found;
}

static void load_server(struct bench *b)
{
    struct kith_value value;
    for (uint32_t i = 0; i < b->base.rows; i += BATCH) {
        put_batch(b, i, b->base.rows - i < BATCH ? b->base.rows - i : BATCH);
        take_reply(b, &value);
        kith_value_fini(&value);
    }
    while (info_of(b, "unlinked") > 0)
        usleep(100000);
}

static void build(struct bench *b)
{
    struct kith_hnsw_options options = {
        .dim = b->base.dim, .codes = KITH_HNSW_I8, .metric = KITH_HNSW_COSINE, .seed = 42};
    if (kith_hnsw_open(&b->h, &options) != KITH_OK)
        die("out of memory");
    if (b->path && bench_index_load(&b->h, b->path, &options) && kith_hnsw_count(b->h) == b->base.rows)
        return;
    for (uint32_t i = 0; i < b->base.rows; i++) {
        uint32_t slot;
        if (kith_hnsw_add(b->h, matrix_row(&b->base, i), 0, i, &slot) != KITH_OK)
            die("out of memory");
        kith_hnsw_work(b->h, 1, 0);
    }
    kith_hnsw_settle(b->h);
    if (b->path)
        bench_index_store(b->h, b->path);
}

/* ---- measuring ---- */

static bool is_right(const struct bench *b, uint32_t query, uint32_t row)
{
    float distance =
        bench_distance(BENCH_COSINE, matrix_row(&b->queries, query), matrix_row(&b->base, row), b->base.dim);
    return distance <= b->bounds[query] + bench_slack(BENCH_COSINE, b->bounds[query]);
}

/* CPU seconds for all queries, `passes` times. */
static double search_here(struct bench *b, uint32_t ef, double *recall)
{
    static struct kith_hnsw_hit hits[K];
    double start = own_cpu_seconds();
    for (uint32_t p = 0; p < b->passes; p++)
        for (uint32_t q = 0; q < b->queries.rows; q++) {
            struct kith_hnsw_query query = {.vector = matrix_row(&b->queries, q), .k = K, .ef = ef};
            kith_hnsw_search(b->h, &query, hits, NULL);
        }
    double time = own_cpu_seconds() - start;
    uint64_t right = 0;
    for (uint32_t q = 0; q < b->queries.rows; q++) {
        struct kith_hnsw_query query = {.vector = matrix_row(&b->queries, q), .k = K, .ef = ef};
        int found = kith_hnsw_search(b->h, &query, hits, NULL);
        for (int i = 0; i < found; i++)
            right += is_right(b, q, (uint32_t)kith_hnsw_user(b->h, hits[i].slot));
    }
    *recall = (double)right / b->queries.rows / K;
    return time;
}

static void put_query(struct bench *b, uint32_t query, uint32_t ef)
{
    char number[12];
    struct kith_slice argv[] = {
        kith_slice("VSIM", 4),
        kith_slice("bench", 5),
        kith_slice("FP32", 4),
        kith_slice((char *)matrix_row(&b->queries, query), 4 * (size_t)b->queries.dim),
        kith_slice("COUNT", 5),
        kith_slice("10", 2),
        kith_slice("EF", 2),
        kith_slice(number, (size_t)snprintf(number, sizeof number, "%u", ef))};
    if (kith_client_put(b->client, argv, sizeof argv / sizeof *argv) != KITH_OK)
        die("out of memory");
}

/* Half of the pipeline is sent anew whenever half of it has come back. */
static double search_there(struct bench *b, uint32_t ef, double *recall)
{
    uint64_t all = (uint64_t)b->passes * b->queries.rows, sent = 0, taken = 0, right = 0;
    double start = server_cpu_seconds(b);
    uint32_t half = b->pipeline > 1 ? b->pipeline / 2 : 1;
    while (taken < all) {
        struct kith_error error;
        struct kith_value value;
        for (uint32_t i = 0; i < half && sent < all; i++)
            put_query(b, (uint32_t)(sent++ % b->queries.rows), ef);
        if (kith_client_flush(b->client, &error) != KITH_OK)
            die(error.text);
        uint64_t until = sent < all && b->pipeline > 1 ? sent - half : sent;
        for (; taken < until; taken++) {
            take_reply(b, &value);
            for (size_t i = 0; taken < b->queries.rows && i < value.count; i++)
                right += is_right(b, (uint32_t)taken, (uint32_t)atol(value.items[i].text.data));
            kith_value_fini(&value);
        }
    }
    double time = server_cpu_seconds(b) - start;
    *recall = (double)right / b->queries.rows / K;
    return time;
}

static void measure(struct bench *b, uint32_t ef)
{
    double here = 1e9, there = 1e9, recall_here = 0, recall_there = 0,
           n = (double)b->passes * b->queries.rows;
    for (uint32_t round = 0; round < b->rounds; round++) {
        double time = search_there(b, ef, &recall_there);
        there = time < there ? time : there;
        time = search_here(b, ef, &recall_here);
        here = time < here ? time : here;
    }
    printf(
        "ef %4u  in process %8.0f queries/CPU s, recall@10 %.4f   over the socket %8.0f, %.4f   ratio %.2f   "
        "%.2f us a query more\n",
        ef, n / here, recall_here, n / there, recall_there, here / there, (there - here) / n * 1e6);
    fflush(stdout);
}

static void option(struct bench *b, const char *arg)
{
    const char *value = strchr(arg, '=');
    size_t length = value ? (size_t)(value++ - arg) : 0;
    struct {
        const char *name;
        uint32_t *number;
    } numbers[] = {
        {"pipeline", &b->pipeline}, {"rounds", &b->rounds}, {"passes", &b->passes}, {"rows", &b->rows}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (length == strlen(numbers[i].name) && !strncmp(arg, numbers[i].name, length)) {
            *numbers[i].number = (uint32_t)atol(value);
            return;
        }
    if (length == 4 && !strncmp(arg, "port", 4)) {
        b->port = value;
    } else if (length == 4 && !strncmp(arg, "file", 4)) {
        b->path = value;
    } else if (length == 3 && !strncmp(arg, "pid", 3)) {
        b->pid = (pid_t)atol(value);
    } else if (length == 3 && !strncmp(arg, "efs", 3)) {
        b->ef_count = 0;
        for (char *end; *value && b->ef_count < EFS_MAX; value = *end ? end + 1 : end)
            b->efs[b->ef_count++] = (uint32_t)strtol(value, &end, 10);
    } else {
        fprintf(stderr, "unknown option %s\n", arg);
    }
}

int main(int argc, char **argv)
{
    struct bench b = {.pipeline = 64, .rounds = 5, .passes = 5, .efs = {32, 64, 100, 200}, .ef_count = 4};
    if (argc < 4) {
        fprintf(stderr,
                "usage: %s KITHD FOLDER SET [efs=32,64,100,200] [pipeline=64] [rounds=5] [passes=5] [rows=0] "
                "[port=N pid=N] [file=PATH]\n",
                argv[0]);
        return SKIPPED;
    }
    b.kithd = argv[1];
    for (int i = 4; i < argc; i++)
        option(&b, argv[i]);
    if (!matrix_load(&b.base, argv[2], argv[3], "base", b.rows) ||
        !matrix_load(&b.queries, argv[2], argv[3], "query", 0)) {
        fprintf(stderr, "no data: %s/%s.*.u8bin.gz\n", argv[2], argv[3]);
        return SKIPPED;
    }
    matrix_normalise(&b.base);
    matrix_normalise(&b.queries);
    b.bounds = malloc(b.queries.rows * sizeof *b.bounds);
    bench_bounds(BENCH_COSINE, &b.base, &b.queries, K, NULL, b.bounds);
    if (!b.port)
        start_server(&b);
    connect_client(&b);
    if (info_of(&b, "size") != (int64_t)b.base.rows)
        load_server(&b);
    build(&b);
    for (uint32_t i = 0; i < b.ef_count; i++)
        measure(&b, b.efs[i]);
    kith_client_close(b.client);
    kith_hnsw_close(b.h);
    if (b.own_server) {
        kill(b.pid, SIGTERM);
        waitpid(b.pid, NULL, 0);
    }
    matrix_fini(&b.base);
    matrix_fini(&b.queries);
    free(b.bounds);
    return 0;
}
