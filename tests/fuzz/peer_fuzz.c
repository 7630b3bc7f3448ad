/* The connection between two peers without its sockets: an honest dialer and an honest acceptor, and somebody between them
 * who holds back, cuts, changes, repeats and invents bytes as the input says. Nothing may crash or grow beyond what was sent;
 * both ends are ready only when they have said the same; and what comes out as a frame is one that went in, in its place. */
#include "base/assert.h"
#include "base/varint.h"
#include "net/peer_wire.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FRAMES_MAX = 32, WAITING_MAX = 1 << 16 };

struct end {
    struct peer_self self;
    struct peer_wire wire;
    struct kith_buf coming; /* on its way to this end */
    uint32_t frames_sent, frames_got;
    bool failed, tampered; /* tampered: what came was not what the other end sent */
};

/* Frame n is n's low byte, n % 7 + 1 times. */
static int on_frame(void *context, struct kith_slice frame)
{
    struct end *end = context;
    uint32_t number = end->frames_got++;
    KITH_ASSERT(frame.length == number % 7 + 1);
    for (size_t i = 0; i < frame.length; i++)
        KITH_ASSERT((uint8_t)frame.data[i] == (uint8_t)number);
    return KITH_OK;
}

static void deliver(struct end *to, size_t length)
{
    if (to->failed || !to->coming.length)
        return;
    length = length < to->coming.length ? length + 1 : to->coming.length;
    char *copy = malloc(length); /* so that a read behind its end is seen */
    if (!copy)
        abort();
    memcpy(copy, to->coming.data, length);
    kith_buf_consume(&to->coming, length);
    to->failed = peer_wire_receive(&to->wire, kith_slice(copy, length), on_frame, to) != KITH_OK;
    KITH_ASSERT(!to->failed || to->wire.reason[0]);
    KITH_ASSERT(to->wire.in.length <= WAITING_MAX * 4);
    free(copy);
}

/* What the end has to say is now on its way. */
static void speak(struct end *from, struct end *to)
{
    if (to->coming.length < WAITING_MAX)
        kith_buf_append(&to->coming, from->wire.out.data, from->wire.out.length);
    kith_buf_clear(&from->wire.out);
}

static void send_frame(struct end *from, struct end *to)
{
    char frame[PEER_HEADER_BYTES + 7];
    uint32_t number = from->frames_sent;
    if (from->wire.state != PEER_READY || number >= FRAMES_MAX)
        return;
    size_t length = number % 7 + 1;
    memset(frame + PEER_HEADER_BYTES, (int)(uint8_t)number, length);
    peer_wire_header(&from->wire, kith_slice(frame + PEER_HEADER_BYTES, length), frame);
    kith_buf_append(&to->coming, frame, PEER_HEADER_BYTES + length); /* few and small: no bound is needed */
    from->frames_sent++;
}

static void tamper(struct end *to, uint8_t op, struct kith_reader *r)
{
    struct kith_buf *coming = &to->coming;
    size_t at = coming->length ? kith_reader_u8(r) % coming->length : 0;
    uint8_t value = kith_reader_u8(r);
    to->tampered = true;
    if (op == 0 && coming->length) {
        coming->data[at] ^= (char)(value | 1);
    } else if (op == 1 && coming->length) { /* some of it twice */
        size_t length = 1 + value % (coming->length - at);
        char *copy = malloc(length);
        if (!copy)
            abort();
        memcpy(copy, coming->data + at, length);
        if (coming->length < WAITING_MAX)
            kith_buf_append(coming, copy, length);
        free(copy);
    } else if (op == 2 && coming->length) { /* without its beginning */
        kith_buf_consume(coming, 1 + at);
    } else {
        struct kith_slice raw = kith_reader_bytes(r, value % (r->length + 1));
        if (coming->length < WAITING_MAX)
            kith_buf_append(coming, raw.data, raw.length);
    }
}

static void run(struct end ends[2], struct kith_reader *r)
{
    while (r->length && !r->failed) {
        uint8_t op = kith_reader_u8(r);
        struct end *to = &ends[op & 1], *from = &ends[!(op & 1)];
        switch (op >> 1 & 7) {
        case 0:
        case 1:
            speak(from, to);
            deliver(to, kith_reader_u8(r));
            break;
        case 2:
            speak(from, to);
            deliver(to, SIZE_MAX);
            break;
        case 3:
            speak(from, to);
            send_frame(from, to);
            break;
        default:
            speak(from, to);
            tamper(to, op >> 1 & 3, r);
            break;
        }
        bool both = ends[0].wire.state == PEER_READY && ends[1].wire.state == PEER_READY;
        if (both) { /* then they agree, whoever stood between */
            KITH_ASSERT(ends[0].wire.version == ends[1].wire.version);
            KITH_ASSERT(ends[0].wire.purpose == ends[1].wire.purpose);
            KITH_ASSERT(ends[0].wire.peer_id == 8 && ends[1].wire.peer_id == 7);
            KITH_ASSERT(ends[0].wire.salt == ends[1].wire.salt);
        }
        for (int i = 0; i < 2; i++)
            KITH_ASSERT(ends[i].frames_got <= ends[!i].frames_sent);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kith_reader r = kith_reader(kith_slice(data, size));
    static const struct peer_self self = {
        .group_id = 5, .address = "host:1", .secret = {"secret", 6}, .lowest = 1, .highest = 1};
    struct end ends[2] = {{.self = self}, {.self = self}};
    char nonces[2][PEER_NONCE_BYTES] = {"dialer's", "acceptor's"};
    uint8_t purpose = kith_reader_u8(&r);
    ends[0].self.node_id = 7;
    ends[1].self.node_id = 8;
    ends[1].self.highest = 1 + (purpose >> 2 & 1);
    peer_wire_dial(&ends[0].wire, &ends[0].self, (enum peer_purpose)(1 + purpose % 4), purpose & 8 ? 8 : 0,
                   nonces[0]);
    peer_wire_accept(&ends[1].wire, &ends[1].self, nonces[1]);
    run(ends, &r);
    /* Left alone, honest ends come together, unless their bytes were touched. */
    for (int i = 0; i < 2 * FRAMES_MAX && !ends[0].tampered && !ends[1].tampered; i++) {
        speak(&ends[i % 2], &ends[!(i % 2)]);
        deliver(&ends[!(i % 2)], SIZE_MAX);
    }
    if (!ends[0].tampered && !ends[1].tampered)
        KITH_ASSERT(ends[0].wire.state == PEER_READY && ends[1].wire.state == PEER_READY &&
                    ends[1].frames_got == ends[0].frames_sent && ends[0].frames_got == ends[1].frames_sent);
    for (int i = 0; i < 2; i++) {
        peer_wire_fini(&ends[i].wire);
        kith_buf_fini(&ends[i].coming);
    }
    return 0;
}
