/* What a master says to a replica, from the input: the first byte says how it is cut into pieces. Nothing may crash or be
 * read twice; the copy's bytes are counted out as announced, and the stream begins once. */
#include "base/assert.h"
#include "net/follow_wire.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    bool copying, ended, resumed;
    size_t copy_bytes;
};

static int on_resumed(void *arg, const char *replid)
{
    struct seen *seen = arg;
    KITH_ASSERT(!seen->copying && !seen->resumed && strlen(replid) == FOLLOW_REPLID_BYTES);
    seen->resumed = true;
    return KITH_OK;
}

static int on_copy(void *arg, const char *replid, int64_t offset, int64_t length)
{
    struct seen *seen = arg;
    KITH_ASSERT(!seen->copying && !seen->resumed && offset >= 0 && length != 0);
    seen->copying = true;
    return KITH_OK;
}

/* A copy ends with the first '!'. */
static int on_bytes(void *arg, const char *bytes, size_t length, size_t *used)
{
    struct seen *seen = arg;
    const char *end = memchr(bytes, '!', length);
    KITH_ASSERT(seen->copying && !seen->ended && length > 0);
    *used = end ? (size_t)(end - bytes) + 1 : length;
    seen->copy_bytes += *used;
    return end != NULL;
}

static int on_end(void *arg)
{
    struct seen *seen = arg;
    KITH_ASSERT(seen->copying && !seen->ended);
    seen->ended = true;
    return KITH_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct follow_wire_events events = {on_resumed, on_copy, on_bytes, on_end};
    static const char replid[] = "0123456789abcdef0123456789abcdef01234567";
    struct follow_wire wire;
    struct seen seen = {0};
    if (size < 2)
        return 0;
    size_t piece = (data[0] & 63) + 1, at = 1, used = 0;
    struct follow_wire_options options = {.user = "",
                                          .password = data[0] & 64 ? "secret" : "",
                                          .port = 1,
                                          .announce = "",
                                          .replid = data[0] & 128 ? replid : "",
                                          .offset = 5};
    follow_wire_init(&wire, &options, &events, &seen);
    int status = KITH_OK;
    while (status == KITH_OK && at < size && wire.state != FOLLOW_STREAM) {
        size_t length = size - at < piece ? size - at : piece;
        char *copy = malloc(length); /* so that a read behind its end is seen */
        if (!copy)
            break;
        memcpy(copy, data + at, length);
        status = follow_wire_feed(&wire, copy, length, &used);
        KITH_ASSERT(used <= length && (status < 0 || used == length || wire.state == FOLLOW_STREAM));
        at += used;
        free(copy);
    }
    KITH_ASSERT(status < 0 || wire.state != FOLLOW_STREAM || seen.ended || seen.resumed);
    follow_wire_fini(&wire);
    return 0;
}
