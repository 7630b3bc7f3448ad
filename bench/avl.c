/* The ordered index beside a plain sorted array with binary search (the floor for a lookup): CPU time of
 * inserts, lookups, ranks, scans and removals, bytes an item, and the longest single insert and remove.
 *
 *     bench_avl [items]        1,000,000 unless told */
#include "ds/avl.h"
#include "base/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void require(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "bench_avl: %s\n", what);
    exit(1);
}

static void print_rate(const char *what, double started, size_t count)
{
    printf("  %-34s %8.1f ns\n", what, (cpu_ns() - started) / (double)count);
}

static void print_shape(const struct kith_avl *tree)
{
    struct kith_avl_stats stats;
    kith_avl_get_stats(tree, &stats);
    printf("  %-34s %8.2f B   (%.1f items a block, memory %.1f %% full, height %u)\n", "memory an item",
           (double)kith_avl_memory_bytes(tree) / (double)stats.item_count,
           (double)stats.item_count / (double)stats.block_count,
           100.0 * (double)stats.item_count / (double)stats.slot_count, stats.height);
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t floor_lookup(uint64_t *keys, const uint64_t *wanted, size_t count)
{
    uint64_t sum = 0;
    qsort(keys, count, sizeof *keys, compare_keys);
    double started = cpu_ns();
    for (size_t i = 0; i < count; i++) {
        size_t low = 0;
        for (size_t high = count; low < high;) {
            size_t middle = (low + high) / 2;
            if (keys[middle] < wanted[i])
                low = middle + 1;
            else
                high = middle;
        }
        sum += low;
    }
    print_rate("lookup in a sorted array (floor)", started, count);
    return sum;
}

static void read_back(const struct kith_avl *tree, const uint64_t *keys, size_t count)
{
    uint64_t sum = 0;
    double started = cpu_ns();
    for (size_t i = 0; i < count; i++)
        sum += kith_avl_find(tree, keys[i], NULL).slot;
    print_rate("find", started, count);
    started = cpu_ns();
    for (size_t i = 0; i < count; i++)
        sum += kith_avl_rank(tree, kith_avl_find(tree, keys[i], NULL));
    print_rate("find and rank", started, count);
    started = cpu_ns();
    for (size_t i = 0; i < count; i++)
        sum += kith_avl_select(tree, keys[i] % count).slot;
    print_rate("select", started, count);
    size_t scans = count / 10 + 1;
    started = cpu_ns();
    for (size_t i = 0; i < scans; i++) {
        struct kith_avl_cursor cursor = kith_avl_select(tree, keys[i] % count);
        struct kith_avl_run run;
        for (size_t left = 100; left && kith_avl_next_run(tree, &cursor, &run);) {
            size_t take = run.count < left ? run.count : left;
            for (size_t k = 0; k < take; k++)
                sum += run.keys[k] + (uintptr_t)run.refs[k];
            left -= take;
        }
    }
    print_rate("scan of 100 from a random rank", started, scans);
    printf("  (sum %llx)\n", (unsigned long long)sum);
}

static void worst_case(struct kith_avl *tree, struct kith_rng *rng)
{
    double worst_insert = 0, worst_remove = 0;
    for (int i = 0; i < 200000; i++) {
        uint64_t key = kith_rng_next(rng);
        double t0 = cpu_ns();
        require(kith_avl_insert(tree, key, NULL) == KITH_OK, "out of memory");
        double t1 = cpu_ns();
        struct kith_avl_cursor cursor = kith_avl_select(tree, key % kith_avl_count(tree));
        double t2 = cpu_ns();
        kith_avl_remove_at(tree, &cursor);
        double t3 = cpu_ns();
        worst_insert = t1 - t0 > worst_insert ? t1 - t0 : worst_insert;
        worst_remove = t3 - t2 > worst_remove ? t3 - t2 : worst_remove;
    }
    printf("  longest of 200,000: insert %.1f us, remove %.1f us\n", worst_insert / 1e3, worst_remove / 1e3);
}

int main(int argc, char **argv)
{
    size_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    uint64_t *keys = malloc(count * sizeof *keys), *sorted = malloc(count * sizeof *sorted);
    struct kith_avl *tree;
    struct kith_rng rng;
    require(count > 0 && keys && sorted && kith_avl_open(&tree, NULL, NULL) == KITH_OK, "out of memory");
    kith_rng_seed(&rng, 1);
    for (size_t i = 0; i < count; i++)
        keys[i] = sorted[i] = kith_rng_next(&rng);

    printf("%zu random items\n", count);
    double started = cpu_ns();
    for (size_t i = 0; i < count; i++)
        require(kith_avl_insert(tree, keys[i], NULL) == KITH_OK, "out of memory");
    print_rate("insert", started, count);
    print_shape(tree);
    uint64_t sum = floor_lookup(sorted, keys, count);
    read_back(tree, keys, count);
    worst_case(tree, &rng);
    started = cpu_ns();
    size_t removed = 0;
    for (size_t i = 0; i < count; i++)
        removed += kith_avl_remove(tree, keys[i], NULL) == KITH_OK;
    print_rate("remove in random order", started, removed + (sum == 1));
    kith_avl_close(tree);

    require(kith_avl_open(&tree, NULL, NULL) == KITH_OK, "out of memory");
    printf("%zu ascending items\n", count);
    started = cpu_ns();
    for (size_t i = 0; i < count; i++)
        require(kith_avl_insert(tree, i, NULL) == KITH_OK, "out of memory");
    print_rate("insert", started, count);
    print_shape(tree);
    kith_avl_close(tree);
    require(kith_avl_open(&tree, NULL, NULL) == KITH_OK, "out of memory");
    started = cpu_ns();
    for (size_t i = 0; i < count; i++)
        require(kith_avl_append(tree, i, NULL) == KITH_OK, "out of memory");
    print_rate("append", started, count);
    kith_avl_close(tree);
    free(keys);
    free(sorted);
    return 0;
}
