/* Chunked arrays: see region.h. */
#include "vec/region.h"

#include "base/os.h"
#include "base/status.h"

#include <stdlib.h>
#include <string.h>

/* From here on a chunk comes from the system, so that it goes back there. */
enum { PAGES_FROM = 1 << 18 };

void region_init(struct region *r, size_t unit_bytes, unsigned shift)
{
    memset(r, 0, sizeof *r);
    r->unit_bytes = unit_bytes;
    r->shift = shift;
}

size_t region_chunk_bytes(const struct region *r, unsigned chunk)
{
    size_t bytes = (size_t)region_chunk_units(r->shift, chunk) * r->unit_bytes;
    return (bytes + 63) & ~(size_t)63;
}

int region_open_chunk(struct region *r, unsigned chunk)
{
    size_t bytes = region_chunk_bytes(r, chunk);
    void *memory;
    if (bytes >= PAGES_FROM) {
        memory = kith_os_pages_open(bytes);
    } else {
        memory = aligned_alloc(64, bytes);
        if (memory)
            memset(memory, 0, bytes);
    }
    if (!memory)
        return KITH_ENOMEM;
    r->memory[chunk] = memory;
    uintptr_t base = (uintptr_t)memory - (uintptr_t)region_chunk_start(r->shift, chunk) * r->unit_bytes;
    atomic_store_explicit(&r->base[chunk], base, memory_order_release);
    return KITH_OK;
}

void region_trim(struct region *r, unsigned chunk, uint32_t used)
{
    size_t bytes = region_chunk_bytes(r, chunk);
    if (r->memory[chunk] && bytes >= PAGES_FROM)
        kith_os_pages_trim(r->memory[chunk], bytes, used * r->unit_bytes);
}

void *region_take_chunk(struct region *r, unsigned chunk, size_t *bytes)
{
    void *memory = r->memory[chunk];
    if (!memory)
        return NULL;
    r->memory[chunk] = NULL;
    *bytes = region_chunk_bytes(r, chunk);
    return memory;
}

void region_free(void *memory, size_t bytes)
{
    if (bytes >= PAGES_FROM)
        kith_os_pages_close(memory, bytes);
    else
        free(memory);
}

void region_fini(struct region *r)
{
    for (unsigned chunk = 0; chunk < REGION_CHUNKS; chunk++) {
        if (!r->memory[chunk])
            continue;
        size_t bytes;
        void *memory = region_take_chunk(r, chunk, &bytes);
        region_free(memory, bytes);
    }
}
