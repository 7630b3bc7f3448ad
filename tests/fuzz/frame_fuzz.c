/* A frame from anybody: no crash, no read behind its end; and what is accepted, encoded again, is the same frame: its
 * encoding, decoded and encoded once more, does not change. */
#include "base/assert.h"
#include "repl/frame.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kith_frame_room room = {0};
    struct kith_frame frame, again;
    struct kith_buf first, second;
    kith_buf_init(&first);
    kith_buf_init(&second);
    if (kith_frame_decode(&frame, &room, kith_slice(data, size)) == KITH_OK) {
        KITH_ASSERT(frame.kind == data[0]);
        kith_frame_encode(&first, &frame);
        KITH_ASSERT(first.length <= size); /* the shortest form of each number */
        KITH_ASSERT(kith_frame_decode(&again, &room, kith_buf_slice(&first)) == KITH_OK);
        kith_frame_encode(&second, &again);
        KITH_ASSERT(kith_slice_equal(kith_buf_slice(&first), kith_buf_slice(&second)));
    }
    kith_buf_fini(&first);
    kith_buf_fini(&second);
    kith_frame_room_close(&room);
    return 0;
}
