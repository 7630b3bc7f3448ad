/* Estimates of the SPREAD layout with AVX-512: 64 bytes are four groups of a plane, looked up in four tables at once. */
#include "vec/kernels_spread.h"

#if defined(__x86_64__)
#include "vec/kernels_avx512.h"
#include "vec/kernels_spread_tables.h"

/* Sums of bytes in pairs: `all` adds 16 bits at a time, the odd byte's weight included, `odd` the odd bytes alone. */
struct sums {
    __m512i all, odd;
};

TARGET static inline void add(struct sums *s, __m512i entries)
{
    s->all = _mm512_add_epi16(s->all, entries);
    s->odd = _mm512_add_epi16(s->odd, _mm512_srli_epi16(entries, 8));
}

/* The sums of 16 vectors in order. */
TARGET static inline __m512i total(struct sums s)
{
    __m512i even = _mm512_sub_epi16(s.all, _mm512_slli_epi16(s.odd, 8));
    __m256i e = _mm256_add_epi16(_mm512_castsi512_si256(even), _mm512_extracti64x4_epi64(even, 1));
    __m256i o = _mm256_add_epi16(_mm512_castsi512_si256(s.odd), _mm512_extracti64x4_epi64(s.odd, 1));
    __m128i even8 = _mm_add_epi16(_mm256_castsi256_si128(e), _mm256_extracti128_si256(e, 1));
    __m128i odd8 = _mm_add_epi16(_mm256_castsi256_si128(o), _mm256_extracti128_si256(o, 1));
    __m128i low = _mm_unpacklo_epi16(even8, odd8), high = _mm_unpackhi_epi16(even8, odd8);
    return _mm512_cvtepu16_epi32(_mm256_set_m128i(high, low));
}

TARGET SPREAD_RACES static inline __m512 bf16(const uint8_t *p)
{
    __m256i halves = _mm256_load_si256((const void *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

TARGET SPREAD_RACES static uint32_t estimate(const struct spread_query *query, const uint8_t *block,
                                             float distance, float bound, float out[SPREAD_LANES])
{
    const __m512i nibble = _mm512_set1_epi8(15);
    const uint8_t *codes = block + SPREAD_FACTOR_BYTES;
    __m512i low = _mm512_setzero_si512(), high = low;
    for (unsigned p = 0; p < query->planes; p++) {
        for (size_t g = 0; g < query->groups;) {
            size_t end = query->groups - g > SPREAD_FLUSH_GROUPS ? g + SPREAD_FLUSH_GROUPS : query->groups;
            struct sums l = {_mm512_setzero_si512(), _mm512_setzero_si512()}, h = l;
            for (; g < end; g += 4, codes += 64) {
                __m512i code = _mm512_load_si512(codes);
                __m512i table = _mm512_load_si512(query->tables + SPREAD_GROUP_BYTES * g);
                add(&l, _mm512_shuffle_epi8(table, _mm512_and_si512(code, nibble)));
                add(&h, _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(code, 4), nibble)));
            }
            low = _mm512_add_epi32(low, _mm512_slli_epi32(total(l), p));
            high = _mm512_add_epi32(high, _mm512_slli_epi32(total(h), p));
        }
    }
    __m512 scale = _mm512_set1_ps(query->scale), bias = _mm512_set1_ps(query->bias);
    __m512 base = _mm512_set1_ps(distance), most = _mm512_set1_ps(bound);
    __m512 x = _mm512_fmadd_ps(_mm512_cvtepi32_ps(low), scale, bias);
    __m512 y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), scale, bias);
    x = _mm512_fmadd_ps(bf16(block + 64), x, _mm512_add_ps(base, bf16(block)));
    y = _mm512_fmadd_ps(bf16(block + 96), y, _mm512_add_ps(base, bf16(block + 32)));
    _mm512_storeu_ps(out, x);
    _mm512_storeu_ps(out + 16, y);
    return _mm512_cmp_ps_mask(x, most, _CMP_LT_OQ) | (uint32_t)_mm512_cmp_ps_mask(y, most, _CMP_LT_OQ) << 16;
}

const struct spread_kernels *spread_kernels_avx512(void)
{
    static const struct spread_kernels table = {make_tables, estimate};
    return &table;
}

#else

const struct spread_kernels *spread_kernels_avx512(void)
{
    return NULL;
}

#endif
