/* An index from hostile bytes: u8 header length, header, then records: u24 slot, u16 length, bytes. Whatever is
 * accepted must make a sound graph, which searches, takes an element, loses some, and saves what it holds. */
#include "base/assert.h"
#include "base/varint.h"
#include "vec/hnsw.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_sound(struct kith_hnsw *h)
{
    struct kith_error error;
    KITH_ASSERT(kith_hnsw_settle(h) == KITH_OK);
    int rc = kith_hnsw_check(h, &error);
    if (rc != KITH_OK)
        fprintf(stderr, "%s\n", error.text);
    KITH_ASSERT(rc == KITH_OK);
}

static void restore_records(struct kith_hnsw *h, struct kith_reader *r)
{
    while (r->length) {
        uint32_t slot = kith_reader_u8(r);
        slot |= (uint32_t)kith_reader_u8(r) << 8;
        slot |= (uint32_t)(kith_reader_u8(r) & 0x0f) << 16; /* a million slots are enough to look at */
        uint32_t length = kith_reader_u8(r);
        length |= (uint32_t)kith_reader_u8(r) << 8;
        struct kith_slice record = kith_reader_bytes(r, length);
        if (r->failed)
            return;
        int rc = kith_hnsw_restore_element(h, slot, record, slot);
        KITH_ASSERT(rc == KITH_OK || rc == KITH_ECORRUPT || rc == KITH_EEXIST);
    }
}

static void use(struct kith_hnsw *h)
{
    uint32_t dim = kith_hnsw_get_options(h)->dim, slot, end = kith_hnsw_slot_end(h);
    float *vector = calloc(dim, sizeof *vector);
    struct kith_hnsw_hit hits[5];
    KITH_ASSERT(vector);
    vector[0] = 1;
    KITH_ASSERT(
        kith_hnsw_search(h, &(struct kith_hnsw_query){.vector = vector, .k = 5, .ef = 1}, hits, NULL) >= 0);
    KITH_ASSERT(kith_hnsw_add(h, vector, 0, 0, &slot) == KITH_OK);
    for (uint32_t i = 0; i < end; i += 2)
        if (kith_hnsw_is_live(h, i))
            KITH_ASSERT(kith_hnsw_remove(h, i) == KITH_OK);
    expect_sound(h);
    struct kith_buf buf;
    kith_buf_init(&buf);
    for (uint32_t i = 0; i < end; i++) {
        if (!kith_hnsw_is_live(h, i))
            continue;
        kith_hnsw_save_element(h, i, &buf);
        kith_hnsw_vector(h, i, vector);
    }
    kith_buf_fini(&buf);
    free(vector);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kith_reader r = kith_reader(kith_slice(data, size));
    struct kith_slice header = kith_reader_bytes(&r, kith_reader_u8(&r));
    struct kith_hnsw_options options = {0};
    struct kith_hnsw *h;
    if (r.failed || kith_hnsw_restore_open(&h, header, &options) != KITH_OK)
        return 0;
    const struct kith_hnsw_options *got = kith_hnsw_get_options(h);
    if (got->m <= 64 && got->dim <= 1024) { /* larger ones are slow, and no different */
        restore_records(h, &r);
        KITH_ASSERT(kith_hnsw_restore_finish(h) == KITH_OK);
        expect_sound(h);
        use(h);
    }
    kith_hnsw_close(h);
    return 0;
}
