/* The port: everything that asks the operating system, but for files (base/fs.h), threads (pthread) and
 * sockets (libuv). */
#ifndef KITH_BASE_OS_H
#define KITH_BASE_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int64_t kith_os_wall_ms(void); /* milliseconds since 1970 (UTC) */
int64_t kith_os_wall_us(void); /* microseconds since 1970 (UTC) */
uint64_t kith_os_monotonic_ns(void);

/* Fills out[0..length) with secret random bytes; aborts if the system has none. */
void kith_os_random(void *out, size_t length);

/* From now on freed memory goes back to the system by itself, within about ten seconds, also while nothing is
 * allocated. The allocator may use a thread of its own for it: a matter for programs, not for a library. */
void kith_os_return_memory(void);
/* Resident memory of this process in bytes, 0 when unknown. */
size_t kith_os_resident_bytes(void);
/* CPU seconds used by this process so far: user and system. */
void kith_os_cpu_seconds(double *user, double *system);
/* Cores this process may use, at least 1. */
unsigned kith_os_cpu_count(void);

/* Zeroed pages from the system, aligned to a page, with huge pages advised from 2 MiB on; NULL when there are
 * none. Give them back with the same byte count. */
void *kith_os_pages_open(size_t bytes);
void kith_os_pages_close(void *pages, size_t bytes);
/* Makes sure of memory for pages[0..bytes), which may hold something already and be written to meanwhile: who writes
 * there first waits for nothing. One huge page at a time leaves others their turn. False: the system cannot say (before
 * Linux 5.14), or has none; then whoever writes first waits. */
bool kith_os_pages_prepare(void *pages, size_t bytes);
/* The address where the huge page that holds `address` ends. */
uintptr_t kith_os_huge_page_end(uintptr_t address);
/* Gives back what is behind the first `used` bytes, which nobody has written to: prepared pages, and the rest of a huge
 * one. More may be used later: what was cut grows by small pages, and becomes huge again once it is full and trimmed
 * anew. */
void kith_os_pages_trim(void *pages, size_t bytes, size_t used);
/* Bytes of pages that are open: a figure of the process, as the allocator's. Thread-safe. */
size_t kith_os_pages_bytes(void);

/* Bytes the allocator holds for this process (allocated) and the pages it keeps (resident); 0 when unknown.
 */
void kith_os_allocator_bytes(size_t *allocated, size_t *resident);

#endif
