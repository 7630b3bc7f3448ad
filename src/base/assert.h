/* KITH_ASSERT is cheap and stays on in release: it guards what would corrupt data. KITH_DEBUG_ASSERT is for
 * tests and fuzzers (-DKITH_DEBUG). Never assert on bytes that came from outside: refuse them. */
#ifndef KITH_BASE_ASSERT_H
#define KITH_BASE_ASSERT_H

#include <assert.h>
#include <stdbool.h>

/* Prints the broken condition to standard error and aborts. */
_Noreturn void kith_assert_failed(const char *condition, const char *file, int line);

#define KITH_ASSERT(condition)                                                                               \
    (__builtin_expect(!!(condition), 1) ? (void)0 : kith_assert_failed(#condition, __FILE__, __LINE__))

#ifdef KITH_DEBUG
#define KITH_DEBUG_ASSERT(condition) KITH_ASSERT(condition)
#else
#define KITH_DEBUG_ASSERT(condition) ((void)sizeof(condition))
#endif

#endif
