/* Estimates of the SPREAD layout with AVX2: 32 bytes are two groups of a plane, looked up in two tables at once. */
#include "vec/kernels_spread.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,popcnt")))
#include "vec/kernels_spread_tables.h"

/* As in the AVX-512 form. */
struct sums {
    __m256i all, odd;
};

TARGET static inline void add(struct sums *s, __m256i entries)
{
    s->all = _mm256_add_epi16(s->all, entries);
    s->odd = _mm256_add_epi16(s->odd, _mm256_srli_epi16(entries, 8));
}

/* Adds 2^p times the sums of 16 vectors to out[0..2), in order. */
TARGET static inline void add_total(struct sums s, int p, __m256i out[2])
{
    __m256i even = _mm256_sub_epi16(s.all, _mm256_slli_epi16(s.odd, 8));
    __m128i even8 = _mm_add_epi16(_mm256_castsi256_si128(even), _mm256_extracti128_si256(even, 1));
    __m128i odd8 = _mm_add_epi16(_mm256_castsi256_si128(s.odd), _mm256_extracti128_si256(s.odd, 1));
    __m256i low = _mm256_cvtepu16_epi32(_mm_unpacklo_epi16(even8, odd8));
    __m256i high = _mm256_cvtepu16_epi32(_mm_unpackhi_epi16(even8, odd8));
    out[0] = _mm256_add_epi32(out[0], _mm256_slli_epi32(low, p));
    out[1] = _mm256_add_epi32(out[1], _mm256_slli_epi32(high, p));
}

TARGET SPREAD_RACES static inline __m256 bf16(const uint8_t *p)
{
    __m128i halves = _mm_load_si128((const void *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

TARGET SPREAD_RACES static uint32_t estimate(const struct spread_query *query, const uint8_t *block,
                                             float distance, float bound, float out[SPREAD_LANES])
{
    const __m256i nibble = _mm256_set1_epi8(15);
    const uint8_t *codes = block + SPREAD_FACTOR_BYTES;
    __m256i totals[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                         _mm256_setzero_si256()};
    for (unsigned p = 0; p < query->planes; p++) {
        for (size_t g = 0; g < query->groups;) {
            size_t end = query->groups - g > SPREAD_FLUSH_GROUPS ? g + SPREAD_FLUSH_GROUPS : query->groups;
            struct sums l = {_mm256_setzero_si256(), _mm256_setzero_si256()}, h = l;
            for (; g < end; g += 2, codes += 32) {
                __m256i code = _mm256_load_si256((const void *)codes);
                __m256i table = _mm256_load_si256((const void *)(query->tables + SPREAD_GROUP_BYTES * g));
                add(&l, _mm256_shuffle_epi8(table, _mm256_and_si256(code, nibble)));
                add(&h, _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(code, 4), nibble)));
            }
            add_total(l, (int)p, totals);
            add_total(h, (int)p, totals + 2);
        }
    }
    __m256 scale = _mm256_set1_ps(query->scale), bias = _mm256_set1_ps(query->bias);
    __m256 base = _mm256_set1_ps(distance), most = _mm256_set1_ps(bound);
    uint32_t below = 0;
    for (unsigned i = 0; i < 4; i++) {
        __m256 x = _mm256_fmadd_ps(_mm256_cvtepi32_ps(totals[i]), scale, bias);
        x = _mm256_fmadd_ps(bf16(block + 64 + 16 * i), x, _mm256_add_ps(base, bf16(block + 16 * i)));
        _mm256_storeu_ps(out + 8 * i, x);
        below |= (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(x, most, _CMP_LT_OQ)) << 8 * i;
    }
    return below;
}

const struct spread_kernels *spread_kernels_avx2(void)
{
    static const struct spread_kernels table = {make_tables, estimate};
    return &table;
}

#else

const struct spread_kernels *spread_kernels_avx2(void)
{
    return NULL;
}

#endif
