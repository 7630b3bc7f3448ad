/* check_history [--moments FILE] HISTORY...: checks histories of clients (history.h), key by key.
 *
 * FILE has a line "NAME BEGAN ENDED" for each time that something was done to the group, in nanoseconds on the clients'
 * clock: printed is, for each NAME, how long after BEGAN the first write was acknowledged that was asked for after ENDED.
 * The last line is "N operations of K keys: B cannot be explained, U undecided"; the status is 1 unless both are 0. */
#include "history.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { BUDGET = 4000000, NAMES_MAX = 16 };

struct moments {
    char name[32];
    uint64_t *gaps_ns;
    size_t count, capacity, without;
};

static bool read_file(struct history *history, const char *path)
{
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t room = 0, number = 0;
    bool good = file;
    while (good && getline(&line, &room, file) > 0) {
        number++;
        good = history_add(history, line);
    }
    if (!good)
        fprintf(stderr, "check_history: %s, line %zu: %s\n", path, number, file ? line : "cannot be read");
    free(line);
    if (file)
        fclose(file);
    return good;
}

/* Writes by their call, and for each the first return among it and all later ones: a gap is one search. */
struct write {
    uint64_t called, first_return;
};

static int compare_writes(const void *a, const void *b)
{
    const struct write *x = a, *y = b;
    return x->called < y->called ? -1 : x->called > y->called;
}

static struct write *sort_writes(const struct history *history, size_t *count)
{
    struct write *writes = malloc((history->count + 1) * sizeof *writes);
    if (!writes)
        abort();
    *count = 0;
    for (size_t i = 0; i < history->count; i++) {
        const struct linear_op *op = &history->records[i].op;
        if (op->kind != LINEAR_GET && op->returned != LINEAR_NEVER)
            writes[(*count)++] = (struct write){op->called, op->returned};
    }
    qsort(writes, *count, sizeof *writes, compare_writes);
    for (size_t i = *count; i-- > 1;)
        if (writes[i].first_return < writes[i - 1].first_return)
            writes[i - 1].first_return = writes[i].first_return;
    return writes;
}

static uint64_t first_write(const struct write *writes, size_t count, uint64_t from_ns)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (writes[middle].called < from_ns)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count ? writes[low].first_return : LINEAR_NEVER;
}

static void add_gap(struct moments *m, uint64_t gap_ns)
{
    if (m->count == m->capacity) {
        m->capacity = m->capacity ? m->capacity * 2 : 64;
        m->gaps_ns = realloc(m->gaps_ns, m->capacity * sizeof *m->gaps_ns);
        if (!m->gaps_ns)
            abort();
    }
    m->gaps_ns[m->count++] = gap_ns;
}

static struct moments *find_name(struct moments *all, size_t *names, const char *name)
{
    for (size_t i = 0; i < *names; i++)
        if (strcmp(all[i].name, name) == 0)
            return &all[i];
    if (*names == NAMES_MAX)
        abort();
    snprintf(all[*names].name, sizeof all->name, "%s", name);
    return &all[(*names)++];
}

static int compare_gaps(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static void print_gaps(struct moments *m)
{
    qsort(m->gaps_ns, m->count, sizeof *m->gaps_ns, compare_gaps);
    if (m->count)
        printf("after %s: %zu times, writes went on after p50 %" PRIu64 " ms, p90 %" PRIu64 ", p99 %" PRIu64
               ", max %" PRIu64 "\n",
               m->name, m->count, m->gaps_ns[m->count / 2] / 1000000, m->gaps_ns[m->count * 9 / 10] / 1000000,
               m->gaps_ns[m->count * 99 / 100] / 1000000, m->gaps_ns[m->count - 1] / 1000000);
    if (m->without)
        printf("after %s: %zu times no write was acknowledged any more\n", m->name, m->without);
    free(m->gaps_ns);
}

static bool print_moments(const struct history *history, const char *path)
{
    struct moments all[NAMES_MAX] = {0};
    size_t names = 0, count;
    char name[32];
    uint64_t began, ended;
    FILE *file = fopen(path, "r");
    if (!file) {
        fprintf(stderr, "check_history: %s cannot be read\n", path);
        return false;
    }
    struct write *writes = sort_writes(history, &count);
    while (fscanf(file, "%31s %" SCNu64 " %" SCNu64, name, &began, &ended) == 3) {
        struct moments *m = find_name(all, &names, name);
        uint64_t first = first_write(writes, count, ended);
        if (first == LINEAR_NEVER)
            m->without++;
        else
            add_gap(m, first - began);
    }
    for (size_t i = 0; i < names; i++)
        print_gaps(&all[i]);
    free(writes);
    fclose(file);
    return true;
}

int main(int argc, char **argv)
{
    struct history history = {0};
    struct history_verdict verdict;
    const char *moments = NULL;
    int first = 1;
    if (argc > 2 && strcmp(argv[1], "--moments") == 0) {
        moments = argv[2];
        first = 3;
    }
    if (argc <= first) {
        fprintf(stderr, "usage: check_history [--moments FILE] HISTORY...\n");
        return 2;
    }
    for (int i = first; i < argc; i++)
        if (!read_file(&history, argv[i]))
            return 2;
    if (moments && !print_moments(&history, moments))
        return 2;
    history_check(&history, BUDGET, stdout, &verdict);
    printf("%zu operations of %zu keys: %zu cannot be explained, %zu undecided\n", history.count,
           verdict.keys, verdict.bad, verdict.undecided);
    history_fini(&history);
    return verdict.bad || verdict.undecided;
}
