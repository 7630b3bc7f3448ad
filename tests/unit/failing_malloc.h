/* Makes allocations fail on purpose. Every unit test program is linked with --wrap for the malloc family;
 * nothing fails until a test asks for it.
 *
 *     for (int n = 0; failing_malloc_sweep(&n); ) { ...open, use, close; expect KITH_ENOMEM or success... }
 */
#ifndef TESTS_FAILING_MALLOC_H
#define TESTS_FAILING_MALLOC_H

#include <stdbool.h>

/* The allocation number `countdown` from now (0 = the next) fails, and that one only; negative: none. */
void failing_malloc_arm(long countdown);
/* Disarms; returns whether an allocation failed since it was armed. */
bool failing_malloc_disarm(void);
/* Drives a sweep: arms for allocation *n and increments it; false once a round ran without a failure. */
bool failing_malloc_sweep(int *n);

#endif
