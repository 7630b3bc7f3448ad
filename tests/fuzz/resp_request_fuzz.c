/* The request parser on any bytes: no crash, arguments inside the input, and any split of the input gives
 * what one piece gives. The first byte seeds the cuts; the rest is the stream. */
#include "base/assert.h"
#include "base/random.h"
#include "base/status.h"
#include "wire/request.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Everything that came out, in a form that can be compared. */
static void record(struct kith_buf *log, const struct kith_request *requests, int count)
{
    for (int i = 0; i < count; i++) {
        kith_buf_append_format(log, "*%zu ", requests[i].argc);
        for (size_t a = 0; a < requests[i].argc; a++) {
            kith_buf_append_format(log, "$%zu ", requests[i].argv[a].length);
            kith_buf_append(log, requests[i].argv[a].data, requests[i].argv[a].length);
        }
    }
}

static void run(struct kith_buf *log, const char *stream, size_t length, uint64_t seed, size_t piece_max,
                size_t batch)
{
    const struct kith_request_limits limits = {.arguments_max = 40, .bulk_max = 300, .line_max = 100};
    struct kith_request_parser parser;
    struct kith_request requests[8];
    struct kith_rng rng;
    kith_rng_seed(&rng, seed);
    kith_request_parser_init(&parser, &limits);
    size_t start = 0, end = 0;
    int status = 0;
    while (end < length && status >= 0) {
        size_t piece = piece_max ? 1 + kith_rng_below(&rng, piece_max) : length;
        end = length - end < piece ? length : end + piece;
        /* Fresh memory of the exact size: a read past the end or of an old place is seen. */
        char *copy = malloc(end - start);
        if (!copy)
            abort();
        memcpy(copy, stream + start, end - start);
        size_t used = 0, consumed;
        do {
            status = kith_request_parse(&parser, copy + used, end - start - used, requests, batch, &consumed);
            record(log, requests, status);
            used += consumed;
            KITH_ASSERT(used <= end - start);
        } while (status > 0);
        KITH_ASSERT(status < 0 || kith_request_needed(&parser) > 0);
        free(copy);
        start += used;
        if (start == end && end < length)
            KITH_ASSERT(status < 0 || !kith_request_is_partial(&parser));
    }
    if (status < 0)
        kith_buf_append_text(log, parser.error);
    kith_request_parser_fini(&parser);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct kith_buf whole, split;
    kith_buf_init(&whole);
    kith_buf_init(&split);
    const char *stream = (const char *)data + 1;
    run(&whole, stream, size - 1, 0, 0, 8);
    run(&split, stream, size - 1, data[0], 1 + data[0] % 32, 1 + data[0] % 7);
    KITH_ASSERT(kith_slice_equal(kith_buf_slice(&whole), kith_buf_slice(&split)));
    kith_buf_fini(&whole);
    kith_buf_fini(&split);
    return 0;
}
