/* An array that grows without moving: readers on other threads keep their addresses. Chunk 0 has 2^shift
 * units, chunk k > 0 has 2^(shift + k - 1), so that chunks double and unit i is in chunk log2(2 (i >> shift)
 * + 1):
 *
 *     chunk      0        1        2                3
 *     units   [0, B)  [B, 2B)  [2B, 4B)  [     4B, 8B     ]        B = 2^shift
 *
 * Each chunk's address is kept less the offset of its first unit, so that an address costs one load and one
 * multiply. Memory that is not touched is not resident: large chunks come from the system as pages. */
#ifndef KITH_VEC_REGION_H
#define KITH_VEC_REGION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REGION_CHUNKS 32

struct region {
    size_t unit_bytes;
    unsigned shift;
    _Atomic uintptr_t base[REGION_CHUNKS]; /* address of the chunk's first unit - first * unit_bytes */
    void *memory[REGION_CHUNKS];           /* owned; NULL where there is none [writer] */
};

static inline unsigned region_chunk_of(unsigned shift, uint32_t unit)
{
    return 31u - (unsigned)__builtin_clz(unit >> shift << 1 | 1);
}

static inline uint32_t region_chunk_start(unsigned shift, unsigned chunk)
{
    return chunk ? 1u << (shift + chunk - 1) : 0;
}

static inline uint32_t region_chunk_units(unsigned shift, unsigned chunk)
{
    return 1u << (chunk ? shift + chunk - 1 : shift);
}

/* The address of a unit in a chunk that exists. */
static inline void *region_at(const struct region *r, uint32_t unit)
{
    uintptr_t base = atomic_load_explicit(&r->base[region_chunk_of(r->shift, unit)], memory_order_relaxed);
    return (void *)(base + (uintptr_t)unit * r->unit_bytes);
}

/* The same where the chunk is known: regions of one shift have their units in the same chunks. */
static inline void *region_at_chunk(const struct region *r, unsigned chunk, uint32_t unit)
{
    uintptr_t base = atomic_load_explicit(&r->base[chunk], memory_order_relaxed);
    return (void *)(base + (uintptr_t)unit * r->unit_bytes);
}

void region_init(struct region *r, size_t unit_bytes, unsigned shift);
/* Allocates a chunk, zeroed, aligned to 64 bytes. KITH_ENOMEM. */
int region_open_chunk(struct region *r, unsigned chunk);
/* Gives back what huge pages hold behind the first `used` units of a chunk, which were never written to. */
void region_trim(struct region *r, unsigned chunk, uint32_t used);
/* Takes the chunk's memory out of the region; the caller frees it with region_free. NULL: there is none. */
void *region_take_chunk(struct region *r, unsigned chunk, size_t *bytes);
size_t region_chunk_bytes(const struct region *r, unsigned chunk);
void region_free(void *memory, size_t bytes);
/* Frees every chunk. */
void region_fini(struct region *r);

#endif
