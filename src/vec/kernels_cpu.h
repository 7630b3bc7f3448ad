/* What the compiler's own __builtin_cpu_supports does not know in every compiler that builds us: extensions that need
 * no more of the operating system than AVX2 or AVX-512 do. */
#ifndef KITH_VEC_KERNELS_CPU_H
#define KITH_VEC_KERNELS_CPU_H

#if defined(__x86_64__)
#include <cpuid.h>
#include <stdbool.h>

static inline bool cpu_has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c >> 29 & 1;
}

static inline bool cpu_has_avx_vnni(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && a >> 4 & 1;
}

static inline bool cpu_has_avx512_bf16(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && a >> 5 & 1;
}
#endif

#endif
