/* The reply reader on any bytes: no crash, bounded memory, and any split of the input gives what one piece
 * gives. All printers run over what was read. The first byte seeds the cuts; the rest is the stream. */
#include "base/assert.h"
#include "base/random.h"
#include "wire/value.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void record(struct kith_buf *log, struct kith_value *value)
{
    kith_value_print(value, log);
    kith_value_print_raw(value, log);
    kith_value_print_json(value, log);
    if (value->attributes)
        kith_value_print(value->attributes, log);
    kith_value_fini(value);
}

static void run(struct kith_buf *log, const char *stream, size_t length, uint64_t seed, size_t piece_max)
{
    struct kith_value_reader reader;
    struct kith_value value;
    struct kith_rng rng;
    kith_rng_seed(&rng, seed);
    kith_value_reader_init(&reader,
                           (struct kith_value_limits){.depth_max = 8, .bytes_max = 20000, .line_max = 100});
    size_t at = 0;
    int status = 0;
    while (at < length && status >= 0) {
        size_t piece = piece_max ? 1 + kith_rng_below(&rng, piece_max) : length, consumed;
        if (piece > length - at)
            piece = length - at;
        char *copy = malloc(piece);
        if (!copy)
            abort();
        memcpy(copy, stream + at, piece);
        status = kith_value_read(&reader, copy, piece, &value, &consumed);
        free(copy);
        KITH_ASSERT(status == 1 ? consumed > 0 : status < 0 || consumed == piece);
        if (status == 1)
            record(log, &value);
        at += consumed;
    }
    if (status < 0)
        kith_buf_append_format(log, "!%d", status);
    kith_value_reader_fini(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct kith_buf whole, split;
    kith_buf_init(&whole);
    kith_buf_init(&split);
    run(&whole, (const char *)data + 1, size - 1, 0, 0);
    run(&split, (const char *)data + 1, size - 1, data[0], 1 + data[0] % 32);
    KITH_ASSERT(kith_slice_equal(kith_buf_slice(&whole), kith_buf_slice(&split)));
    kith_buf_fini(&whole);
    kith_buf_fini(&split);
    return 0;
}
