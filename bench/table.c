/* The hash table at a size: bytes a key, nanoseconds an operation, and the longest single operation.
 *
 *     bench/table [keys, default 1000000]
 *
 * Keys have 16 bytes, values 32, entries come from malloc. The peer is a chained table as Redis 7 has it (a
 * node, a key and a value object: three allocations), grown to its size beforehand, so that its rehash does
 * not count. All times are CPU time of this thread, keys are met in random order. */
#include "ds/table.h"
#include "base/os.h"
#include "base/status.h"

#include <stdio.h>
#include <time.h>

#define BATCH 32

struct bench {
    uint32_t key_count;
    uint32_t *order; /* the numbers below key_count, shuffled */
    struct kith_table *table;
    struct kith_rng rng;
};

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what)
{
    fprintf(stderr, "bench/table: %s\n", what);
    exit(1);
}

/* 16 hex digits; numbers from key_count on are keys that are not there. */
static struct kith_slice key_of(char key[16], uint32_t number)
{
    uint64_t state = number, bits = kith_splitmix64(&state);
    for (int i = 0; i < 16; i++, bits >>= 4)
        key[i] = "0123456789abcdef"[bits & 15];
    return kith_slice(key, 16);
}

static void shuffle(struct bench *bench)
{
    for (uint32_t i = bench->key_count; i > 1; i--) {
        uint32_t j = (uint32_t)kith_rng_below(&bench->rng, i), t = bench->order[i - 1];
        bench->order[i - 1] = bench->order[j];
        bench->order[j] = t;
    }
}

static size_t allocated_bytes(void)
{
    size_t allocated, resident;
    kith_os_allocator_bytes(&allocated, &resident);
    return allocated;
}

static void insert_one(struct bench *bench, uint32_t number)
{
    static const char value[33] = " a value of thirty-two bytes, so";
    char text[16];
    struct kith_slice key = key_of(text, number);
    uint64_t hash = kith_table_hash(bench->table, key);
    if (kith_table_find(bench->table, key, hash))
        fail("a key is there twice");
    void *entry = kith_entry_open(0, key, 1 + 32);
    if (!entry)
        fail("no memory");
    memcpy(kith_entry_payload(entry), value, sizeof value);
    if (kith_table_insert(bench->table, entry, hash) != KITH_OK)
        fail("no memory");
}

static void remove_one(struct bench *bench, uint32_t number)
{
    char text[16];
    struct kith_slice key = key_of(text, number);
    free(kith_table_remove(bench->table, key, kith_table_hash(bench->table, key)));
}

/* Reads a byte of the value too, as a GET would. */
static unsigned get_one(struct bench *bench, uint32_t number)
{
    char text[16];
    struct kith_slice key = key_of(text, number);
    void *entry = kith_table_find(bench->table, key, kith_table_hash(bench->table, key));
    return entry ? (unsigned char)kith_entry_payload(entry)[1] : 0;
}

static unsigned get_batch(struct bench *bench, const uint32_t *numbers)
{
    char text[BATCH][16];
    struct kith_slice keys[BATCH];
    uint64_t hashes[BATCH];
    unsigned sum = 0;
    for (int i = 0; i < BATCH; i++) {
        keys[i] = key_of(text[i], numbers[i]);
        hashes[i] = kith_table_hash(bench->table, keys[i]);
        kith_table_prefetch(bench->table, hashes[i]);
    }
    for (int i = 0; i < BATCH; i++)
        kith_table_prefetch_entry(bench->table, hashes[i]);
    for (int i = 0; i < BATCH; i++) {
        void *entry = kith_table_find(bench->table, keys[i], hashes[i]);
        sum += entry ? (unsigned char)kith_entry_payload(entry)[1] : 0;
    }
    return sum;
}

/* What making the key text costs, to be taken off the times below. */
static double key_ns(struct bench *bench)
{
    unsigned sum = 0;
    uint64_t begin = cpu_ns();
    for (uint32_t i = 0; i < bench->key_count; i++) {
        char text[16];
        sum += (unsigned char)key_of(text, bench->order[i]).data[15];
    }
    double ns = (double)(cpu_ns() - begin) / bench->key_count;
    if (sum == 1)
        puts("");
    return ns;
}

static double each_ns(struct bench *bench, void (*operate)(struct bench *, uint32_t), double overhead_ns)
{
    uint64_t begin = cpu_ns();
    for (uint32_t i = 0; i < bench->key_count; i++)
        operate(bench, bench->order[i]);
    return (double)(cpu_ns() - begin) / bench->key_count - overhead_ns;
}

static int descending(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x < *y) - (*x > *y);
}

/* Times every operation by itself and keeps the shortest time that each took so far. */
static void time_each(struct bench *bench, void (*operate)(struct bench *, uint32_t), uint32_t *shortest)
{
    uint64_t before = cpu_ns();
    for (uint32_t i = 0; i < bench->key_count; i++) {
        operate(bench, bench->order[i]);
        uint64_t now = cpu_ns();
        shortest[i] = now - before < shortest[i] ? (uint32_t)(now - before) : shortest[i];
        before = now;
    }
}

/* The same operations three times over: what the table does is the same each time, but interrupts, neighbours
 * on the core and the allocator's clock strike elsewhere, and drop out. */
static void print_longest(struct bench *bench)
{
    uint32_t *times[2];
    for (int i = 0; i < 2; i++) {
        if (!(times[i] = malloc(bench->key_count * sizeof *times[i])))
            fail("no memory");
        memset(times[i], 0xff, bench->key_count * sizeof *times[i]);
    }
    for (int round = 0; round < 3; round++) {
        time_each(bench, insert_one, times[0]);
        time_each(bench, remove_one, times[1]);
    }
    for (int i = 0; i < 2; i++) {
        qsort(times[i], bench->key_count, sizeof *times[i], descending);
        printf("longest %s, us   %12.1f   (2nd %.1f, 10th %.1f, 1000th %.1f)\n", i ? "remove" : "insert",
               times[i][0] / 1e3, times[i][1] / 1e3, times[i][9] / 1e3,
               times[i][bench->key_count > 1000 ? 999 : 0] / 1e3);
        free(times[i]);
    }
}

static double gets_ns(struct bench *bench, uint32_t first, bool batched, double overhead_ns)
{
    unsigned sum = 0;
    uint32_t count = bench->key_count / BATCH * BATCH;
    uint64_t begin = cpu_ns();
    for (uint32_t i = 0; i < count; i += BATCH) {
        if (batched)
            sum += get_batch(bench, &bench->order[i]);
        for (uint32_t j = i; !batched && j < i + BATCH; j++)
            sum += get_one(bench, first + bench->order[j]);
    }
    double ns = (double)(cpu_ns() - begin) / count - overhead_ns;
    if ((sum == 0) != (first > 0))
        fail("a key is missing");
    return ns;
}

static void count_entry(void *arg, void *entry)
{
    *(uint32_t *)arg += kith_entry_meta(entry) == 0;
}

static double scan_ns(struct bench *bench)
{
    uint32_t seen = 0;
    uint64_t begin = cpu_ns(), cursor = 0;
    do
        cursor = kith_table_scan(bench->table, cursor, count_entry, &seen);
    while (cursor);
    if (seen != bench->key_count)
        fail("the scan missed entries");
    return (double)(cpu_ns() - begin) / bench->key_count;
}

static double random_ns(struct bench *bench)
{
    uint32_t seen = 0;
    uint64_t begin = cpu_ns();
    for (uint32_t i = 0; i < bench->key_count; i++)
        count_entry(&seen, kith_table_random(bench->table, &bench->rng));
    return (double)(cpu_ns() - begin) / bench->key_count;
}

/* ---- the peer ---- */

struct node {
    char *key, *value;
    struct node *next;
};

struct peer {
    struct node **buckets;
    uint64_t mask;
    struct kith_hash_seed seed;
};

static struct node **peer_slot(struct peer *peer, struct kith_slice key)
{
    struct node **slot = &peer->buckets[kith_hash(peer->seed, key.data, key.length) & peer->mask];
    while (*slot && memcmp((*slot)->key + 1, key.data, key.length) != 0)
        slot = &(*slot)->next;
    return slot;
}

static void peer_run(struct bench *bench, double overhead_ns, double *bytes, double *get)
{
    struct peer peer = {NULL, 1, {1, 2}};
    size_t before = allocated_bytes();
    while (peer.mask < bench->key_count)
        peer.mask *= 2;
    peer.buckets = calloc(peer.mask--, sizeof *peer.buckets);
    for (uint32_t i = 0; i < bench->key_count; i++) {
        char text[16];
        struct kith_slice key = key_of(text, bench->order[i]);
        struct node *node = malloc(sizeof *node);
        if (!peer.buckets || !node || !(node->key = malloc(2 + 16)) || !(node->value = malloc(16 + 4 + 32)))
            fail("no memory");
        memcpy(node->key + 1, key.data, key.length);
        node->value[20] = 1;
        struct node **slot = peer_slot(&peer, key);
        node->next = NULL;
        *slot = node;
    }
    *bytes = (double)(allocated_bytes() - before) / bench->key_count;
    shuffle(bench);
    unsigned sum = 0;
    uint64_t begin = cpu_ns();
    for (uint32_t i = 0; i < bench->key_count; i++) {
        char text[16];
        struct node *node = *peer_slot(&peer, key_of(text, bench->order[i]));
        sum += node ? (unsigned char)node->value[20] : 0;
    }
    *get = (double)(cpu_ns() - begin) / bench->key_count - overhead_ns;
    if (sum != bench->key_count)
        fail("the peer lost keys");
    for (uint64_t i = 0; i <= peer.mask; i++) {
        for (struct node *node = peer.buckets[i], *next; node; node = next) {
            next = node->next;
            free(node->key);
            free(node->value);
            free(node);
        }
    }
    free(peer.buckets);
}

static void run(struct bench *bench)
{
    double overhead = key_ns(bench), peer_bytes, peer_get;
    peer_run(bench, overhead, &peer_bytes, &peer_get);
    size_t before = allocated_bytes();
    shuffle(bench);
    double insert = each_ns(bench, insert_one, overhead);
    double bytes = (double)(allocated_bytes() - before) / bench->key_count;
    double own_bytes = (double)kith_table_memory_bytes(bench->table) / bench->key_count;
    shuffle(bench);
    double get = gets_ns(bench, 0, false, overhead),
           missing = gets_ns(bench, bench->key_count, false, overhead);
    double batched = gets_ns(bench, 0, true, overhead);
    printf("keys                 %12u\n", bench->key_count);
    printf("bytes a key          %12.1f   (%.1f of them the table; peer %.1f: ratio %.2f)\n", bytes,
           own_bytes, peer_bytes, peer_bytes / bytes);
    printf("get, ns              %12.1f   (peer %.1f: ratio %.2f)\n", get, peer_get, peer_get / get);
    printf("get in batches, ns   %12.1f   (of %d; ratio %.2f)\n", batched, BATCH, peer_get / batched);
    printf("get of no key, ns    %12.1f\n", missing);
    printf("insert, ns           %12.1f\n", insert);
    printf("scan, ns an entry    %12.1f\n", scan_ns(bench));
    printf("random, ns           %12.1f\n", random_ns(bench));
    shuffle(bench);
    printf("remove, ns           %12.1f\n", each_ns(bench, remove_one, overhead));
    print_longest(bench);
}

int main(int argc, char **argv)
{
    struct bench bench = {argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000};
    kith_rng_seed(&bench.rng, 1);
    bench.order = malloc((bench.key_count + 1u) * sizeof *bench.order);
    if (bench.key_count < BATCH || !bench.order ||
        kith_table_open(&bench.table, (struct kith_hash_seed){3, 4}) != KITH_OK)
        fail("usage: bench/table [keys, 32 or more]");
    for (uint32_t i = 0; i < bench.key_count; i++)
        bench.order[i] = i;
    shuffle(&bench);
    run(&bench);
    kith_table_close(bench.table, NULL, NULL);
    free(bench.order);
    return 0;
}
