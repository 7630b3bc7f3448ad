/* The reader of HTTP heads on any bytes: no crash; any split of the input gives what one piece gives; what is accepted has
 * a path inside the head that begins with a '/', and nothing behind the head was looked at. The first byte seeds the
 * cuts. */
#include "base/assert.h"
#include "base/random.h"
#include "net/http_request.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct http_request *request, int status)
{
    static const int known[] = {0, 200, 400, 405, 431, 505};
    bool found = false;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        found |= status == known[i];
    KITH_ASSERT(found && request->length <= HTTP_HEAD_BYTES);
    if (status != 200)
        return;
    struct kith_slice path = request->path;
    KITH_ASSERT(path.length && path.data[0] == '/' && !memchr(path.data, '?', path.length));
    KITH_ASSERT(request->head[request->length - 1] == '\n');
    bool is_root = path.length == 1; /* of an address without a path: not in the head */
    KITH_ASSERT(is_root ||
                (path.data >= request->head && path.data + path.length <= request->head + request->length));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_request whole, cut;
    struct kith_rng rng;
    if (!size)
        return 0;
    whole = cut = (struct http_request){0};
    kith_rng_seed(&rng, data[0]);
    const char *bytes = (const char *)data + 1;
    size--;
    int status = http_request_take(&whole, bytes, size), again = 0;
    check(&whole, status);
    for (size_t at = 0; at < size;) {
        size_t piece = 1 + kith_rng_below(&rng, 1 + data[0] % 40);
        piece = piece < size - at ? piece : size - at;
        char *copy = malloc(piece); /* of the exact size: a read past its end is seen */
        if (!copy)
            abort();
        memcpy(copy, bytes + at, piece);
        again = http_request_take(&cut, copy, piece);
        free(copy);
        at += piece;
    }
    KITH_ASSERT(again == status && cut.length == whole.length && cut.is_head == whole.is_head);
    KITH_ASSERT(status != 200 || kith_slice_equal(cut.path, whole.path));
    return 0;
}
