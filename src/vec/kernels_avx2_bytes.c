/* AVX2: whole numbers of 8, 4 and 2 bits, by vpmaddubsw. */
#if defined(__x86_64__)
#include "vec/kernels_avx2.h"

#define FORM(kernel) avx2_##kernel

/* Pairs of products, then pairs of pairs, in 32 bits. */
TARGET static inline __m256i add_products(__m256i sum, __m256i a, __m256i b)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)));
}

#include "vec/kernels_avx2_bytes.h"

#endif
