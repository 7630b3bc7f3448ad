/* AVX2 with AVX-VNNI: whole numbers of 8, 4 and 2 bits, by vpdpbusd. */
#if defined(__x86_64__)
#include "vec/kernels_avx2.h"

#undef TARGET
#define TARGET       __attribute__((target("avx2,fma,f16c,popcnt,avxvnni")))
#define FORM(kernel) avx2vnni_##kernel

TARGET static inline __m256i add_products(__m256i sum, __m256i a, __m256i b)
{
    return _mm256_dpbusd_avx_epi32(sum, a, b);
}

#include "vec/kernels_avx2_bytes.h"

#endif
