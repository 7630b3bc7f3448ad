/* Gathering: see gather.h. The planes of a row are read whole: low halves, high parts, low halves again, in that
 * order, which x86 keeps; each half or part arrives in one piece. The compiler is kept from moving the loads by the
 * barriers between them. ThreadSanitizer does not know that such loads may race; where it runs, the scalar form is
 * taken. */
#include "vec/gather.h"

#include <string.h>

#if defined(__SANITIZE_THREAD__)
#define RACES_ARE_WATCHED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RACES_ARE_WATCHED 1
#endif
#endif

static inline uint32_t mark(uint64_t *visited, uint32_t slot, uint32_t *out, uint32_t count)
{
    uint64_t bit = (uint64_t)1 << slot % 64, word = visited[slot / 64];
    visited[slot / 64] = word | bit;
    out[count] = slot; /* half of them were seen: cheaper than a branch */
    return count + !(word & bit);
}

uint32_t hnsw_gather_scalar(struct links links, uint64_t *visited, uint32_t end, uint32_t *out)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < links.room; i++) {
        uint32_t link = link_peek(links, i);
        if (link == KITH_HNSW_NONE)
            break;
        if (link < end)
            count = mark(visited, link, out, count);
    }
    return count;
}

#if defined(__x86_64__) && !defined(RACES_ARE_WATCHED)
#include <immintrin.h>

#define BARRIER() __asm__ volatile("" ::: "memory")

/* 16 links at a time: which of them were seen is told by a gather of the map's words, so that only the unseen are
 * gone through one by one. */
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))) static uint32_t
gather_avx512(struct links links, uint64_t *visited, uint32_t end, uint32_t *out)
{
    uint32_t count = 0;
    const __m256i none = _mm256_set1_epi16(-1);
    for (uint32_t at = 0; at < links.room; at += 16) {
        uint32_t left = links.room - at;
        __mmask16 lanes = left >= 16 ? (__mmask16)-1 : (__mmask16)((1u << left) - 1);
        __m256i low = _mm256_mask_loadu_epi16(none, lanes, (const void *)(links.low + at));
        BARRIER();
        __m512i slots = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, (const void *)(links.high + at)));
        if (links.top)
            slots = _mm512_or_si512(slots, _mm512_slli_epi32(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(
                                                                 lanes, (const void *)(links.top + at))),
                                                             8));
        BARRIER();
        __m256i again = _mm256_mask_loadu_epi16(none, lanes, (const void *)(links.low + at));
        lanes = _mm256_cmpneq_epi16_mask(low, none) & _mm256_cmpeq_epi16_mask(low, again);
        if (!lanes)
            break;
        slots = _mm512_or_si512(_mm512_slli_epi32(slots, 16), _mm512_cvtepu16_epi32(low));
        lanes = _mm512_mask_cmplt_epu32_mask(lanes, slots, _mm512_set1_epi32((int)end));
        __m512i words = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), lanes,
                                                    _mm512_srli_epi32(slots, 5), visited, 4);
        words = _mm512_srlv_epi32(words, _mm512_and_si512(slots, _mm512_set1_epi32(31)));
        lanes = _mm512_mask_testn_epi32_mask(lanes, words, _mm512_set1_epi32(1));
        _mm512_storeu_si512(out + count, _mm512_maskz_compress_epi32(lanes, slots));
        unsigned fresh = (unsigned)__builtin_popcount(lanes);
        for (uint32_t *next = out + count; fresh-- > 0; next++)
            count = mark(visited, *next, out, count); /* a row being changed may have one twice */
    }
    return count;
}

/* 8 links at a time are put together; the map is looked at one by one. */
__attribute__((target("avx2"))) static uint32_t gather_avx2(struct links links, uint64_t *visited,
                                                            uint32_t end, uint32_t *out)
{
    uint32_t count = 0, at = 0, slots[8];
    const __m128i none = _mm_set1_epi16(-1);
    for (; at + 8 <= links.room && !links.top; at += 8) {
        __m128i low = _mm_loadu_si128((const void *)(links.low + at));
        BARRIER();
        __m256i high = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(links.high + at)));
        BARRIER();
        __m128i again = _mm_loadu_si128((const void *)(links.low + at));
        __m128i bad =
            _mm_or_si128(_mm_cmpeq_epi16(low, none), _mm_xor_si128(_mm_cmpeq_epi16(low, again), none));
        __m256i all = _mm256_or_si256(_mm256_slli_epi32(high, 16), _mm256_cvtepu16_epi32(low));
        /* What is no link becomes the largest number. */
        _mm256_storeu_si256((void *)slots, _mm256_or_si256(all, _mm256_cvtepi16_epi32(bad)));
        for (unsigned i = 0; i < 8; i++)
            if (slots[i] < end)
                count = mark(visited, slots[i], out, count);
        if (_mm_movemask_epi8(_mm_cmpeq_epi16(low, none)) == 0xffff)
            return count;
    }
    struct links rest = {links.low + at, links.high + at, links.top, links.room - at};
    return count + hnsw_gather_scalar(rest, visited, end, out + count);
}

hnsw_gather *hnsw_gather_pick(enum kith_kernel_level level)
{
    return level >= KITH_KERNEL_AVX512 ? gather_avx512
           : level >= KITH_KERNEL_AVX2 ? gather_avx2
                                       : hnsw_gather_scalar;
}

#else

hnsw_gather *hnsw_gather_pick(enum kith_kernel_level level)
{
    (void)level;
    return hnsw_gather_scalar;
}

#endif
