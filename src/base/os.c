/* The port, for Linux and other POSIX systems with glibc-like extensions. */
#include "base/os.h"

#include "base/assert.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Weak: there when jemalloc is linked in, NULL otherwise (sanitizer builds). */
extern int mallctl(const char *name, void *old, size_t *old_length, void *new_value, size_t new_length)
    __attribute__((weak));

static int64_t clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t kith_os_wall_ms(void)
{
    return clock_ns(CLOCK_REALTIME) / 1000000;
}

int64_t kith_os_wall_us(void)
{
    return clock_ns(CLOCK_REALTIME) / 1000;
}

uint64_t kith_os_monotonic_ns(void)
{
    return (uint64_t)clock_ns(CLOCK_MONOTONIC);
}

void kith_os_random(void *out, size_t length)
{
    char *p = out;
    while (length) {
        ssize_t n = getrandom(p, length, 0);
        KITH_ASSERT(n > 0);
        p += n;
        length -= (size_t)n;
    }
}

size_t kith_os_resident_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f)
        return 0;
    unsigned long total = 0, resident = 0;
    int n = fscanf(f, "%lu %lu", &total, &resident);
    fclose(f);
    return n == 2 ? resident * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

void kith_os_cpu_seconds(double *user, double *system)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    *user = (double)u.ru_utime.tv_sec + (double)u.ru_utime.tv_usec * 1e-6;
    *system = (double)u.ru_stime.tv_sec + (double)u.ru_stime.tv_usec * 1e-6;
}

unsigned kith_os_cpu_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return (unsigned)CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : 1;
}

/* The system keeps no such sum for us, and INFO is to show it. */
static atomic_size_t pages_bytes;

size_t kith_os_pages_bytes(void)
{
    return atomic_load_explicit(&pages_bytes, memory_order_relaxed);
}

#define HUGE_PAGE ((uintptr_t)2 << 20)

static uintptr_t round_up(uintptr_t address, uintptr_t to)
{
    return (address + to - 1) & ~(to - 1);
}

void *kith_os_pages_open(size_t bytes)
{
    void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        return NULL;
    if (bytes >= HUGE_PAGE)
        madvise(pages, bytes, MADV_HUGEPAGE);
    atomic_fetch_add_explicit(&pages_bytes, bytes, memory_order_relaxed);
    return pages;
}

void kith_os_pages_close(void *pages, size_t bytes)
{
    if (!pages)
        return;
    munmap(pages, bytes);
    atomic_fetch_sub_explicit(&pages_bytes, bytes, memory_order_relaxed);
}

bool kith_os_pages_prepare(void *pages, size_t bytes)
{
#ifdef MADV_POPULATE_WRITE
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = (uintptr_t)pages & ~(page - 1), end = round_up((uintptr_t)pages + bytes, page);
    return madvise((char *)pages - ((uintptr_t)pages - start), end - start, MADV_POPULATE_WRITE) == 0;
#else
    return false;
#endif
}

uintptr_t kith_os_huge_page_end(uintptr_t address)
{
    return round_up(address + 1, HUGE_PAGE);
}

void kith_os_pages_trim(void *pages, size_t bytes, size_t used)
{
    uintptr_t start = (uintptr_t)pages, end = start + bytes;
    uintptr_t from = round_up(start + used, (uintptr_t)sysconf(_SC_PAGESIZE));
    uintptr_t cut = from & ~(HUGE_PAGE - 1), cut_end = round_up(from, HUGE_PAGE);
    if (bytes < HUGE_PAGE || from >= end)
        return;
    cut = cut < start ? start : cut;
    cut_end = cut_end > end ? end : cut_end;
    /* Advice alone: where it is not taken, nothing is lost but memory. */
    if (cut > start)
        madvise(pages, cut - start, MADV_HUGEPAGE);
    if (cut_end > cut)
        madvise((char *)pages + (cut - start), cut_end - cut, MADV_NOHUGEPAGE);
    madvise((char *)pages + (from - start), end - from, MADV_DONTNEED);
}

void kith_os_return_memory(void)
{
    bool on = true;
    if (mallctl)
        mallctl("background_thread", NULL, NULL, &on, sizeof on);
}

void kith_os_allocator_bytes(size_t *allocated, size_t *resident)
{
    *allocated = *resident = 0;
    if (!mallctl)
        return;
    uint64_t epoch = 1;
    size_t length = sizeof epoch;
    mallctl("epoch", &epoch, &length, &epoch, length);
    length = sizeof *allocated;
    mallctl("stats.allocated", allocated, &length, NULL, 0);
    length = sizeof *resident;
    mallctl("stats.resident", resident, &length, NULL, 0);
}
