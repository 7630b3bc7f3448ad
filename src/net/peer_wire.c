/* The handshake and the framing of peer connections; peer_wire.h has the idea, docs/FORMAT.md the bytes.
 *
 * The secret is never sent. Each side sends an HMAC-SHA256 keyed with it over everything both have said: nonces make it
 * new each time, versions and identities cannot be changed on the way, and with TLS a value that only the two ends of this
 * TLS connection know (RFC 9266's idea) goes in, so that a proof is of no use elsewhere. Without TLS whoever can change
 * packets on their way can still take over a connection after the handshake; the secret keeps strangers out, not him. */
#include "net/peer_wire.h"

#include "base/assert.h"
#include "base/varint.h"
#include "repl/frame.h"
#include "store/crc.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>

static const char magic[8] = {'K', 'I', 'T', 'H', 'P', 'E', 'E', 'R'};

/* On the wire: never renumber. */
enum message_kind { HELLO = 1, CHALLENGE, PROOF, ACCEPT, REFUSED };

enum {
    ROOM_AHEAD =
        1 << 20,       /* beyond it memory for a frame is taken as its bytes come, not as its header claims */
    ROOM_GROWTH = 8,   /* times what has come: a frame of any size is moved but a few times */
    TLS_RECORD = 0x16, /* how a TLS handshake begins */
};

static int fail(struct peer_wire *wire, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(struct peer_wire *wire, int status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(wire->reason, sizeof wire->reason, format, arguments);
    va_end(arguments);
    wire->state = PEER_FAILED;
    kith_buf_fini(&wire->in);
    return status;
}

static int fail_memory(struct peer_wire *wire)
{
    return fail(wire, KITH_ENOMEM, "out of memory");
}

/* Begins a message of the handshake in `out`; returns where it begins. */
static size_t begin(struct peer_wire *wire, enum message_kind kind)
{
    size_t start = wire->out.length;
    kith_buf_append(&wire->out, magic, sizeof magic);
    kith_buf_append_char(&wire->out, (char)kind);
    kith_buf_append(&wire->out, "\0\0\0", 3);
    return start;
}

static void append_u16(struct kith_buf *buf, uint16_t value)
{
    kith_buf_append_char(buf, (char)(value & 0xff));
    kith_buf_append_char(buf, (char)(value >> 8));
}

static uint16_t get_u16(struct kith_reader *r)
{
    uint16_t low = kith_reader_u8(r);
    return (uint16_t)(low | kith_reader_u8(r) << 8);
}

/* Fills in the length; what both sides will prove to have heard is kept. */
static void end(struct peer_wire *wire, size_t start, bool in_transcript)
{
    if (wire->out.failed)
        return;
    size_t length = wire->out.length - start - PEER_HEAD_BYTES;
    wire->out.data[start + 10] = (char)(length & 0xff);
    wire->out.data[start + 11] = (char)(length >> 8);
    if (in_transcript)
        kith_buf_append(&wire->transcript, wire->out.data + start, wire->out.length - start);
}

static void init(struct peer_wire *wire, const struct peer_self *self, const void *nonce)
{
    *wire = (struct peer_wire){.self = self};
    memcpy(wire->nonce, nonce, PEER_NONCE_BYTES);
}

void peer_wire_dial(struct peer_wire *wire, const struct peer_self *self, enum peer_purpose purpose,
                    uint64_t peer_id, const void *nonce)
{
    init(wire, self, nonce);
    wire->dialer = true;
    wire->purpose = purpose;
    wire->peer_id = peer_id;
    wire->state = PEER_WAITS_CHALLENGE;
    size_t start = begin(wire, HELLO), address_length = strlen(self->address);
    KITH_ASSERT(address_length <= PEER_ADDRESS_MAX);
    append_u16(&wire->out, self->lowest);
    append_u16(&wire->out, self->highest);
    kith_buf_append_char(&wire->out, (char)purpose);
    kith_buf_append_u64(&wire->out, self->group_id);
    kith_buf_append_u64(&wire->out, self->node_id);
    kith_buf_append_u64(&wire->out, peer_id);
    kith_buf_append(&wire->out, wire->nonce, PEER_NONCE_BYTES);
    kith_buf_append_char(&wire->out, (char)address_length);
    kith_buf_append(&wire->out, self->address, address_length);
    kith_buf_append_char(&wire->out, self->as_spare);
    end(wire, start, true);
}

void peer_wire_accept(struct peer_wire *wire, const struct peer_self *self, const void *nonce)
{
    init(wire, self, nonce);
    wire->state = PEER_WAITS_HELLO;
}

void peer_wire_fini(struct peer_wire *wire)
{
    kith_buf_fini(&wire->transcript);
    kith_buf_fini(&wire->in);
    kith_buf_fini(&wire->out);
}

size_t peer_wire_frame_max(enum peer_purpose purpose)
{
    return purpose == PEER_MESSAGES ? KITH_FRAME_BYTES_MAX
           : purpose == PEER_STREAM ? PEER_STREAM_FRAME_MAX
                                    : PEER_JOIN_FRAME_MAX;
}

static bool prove(struct peer_wire *wire, bool of_dialer, unsigned char out[PEER_PROOF_BYTES])
{
    static const char names[2][16] = {"kith: acceptor\n", "kith: dialer\n"};
    struct kith_buf text;
    unsigned length = 0;
    kith_buf_init(&text);
    kith_buf_append(&text, names[of_dialer], sizeof names[0]);
    kith_buf_append_slice(&text, kith_buf_slice(&wire->transcript));
    kith_buf_append_slice(&text, wire->binding);
    bool good = !text.failed && !wire->transcript.failed &&
                HMAC(EVP_sha256(), wire->self->secret.length ? wire->self->secret.data : "",
                     (int)wire->self->secret.length, (const unsigned char *)text.data, text.length, out,
                     &length) != NULL &&
                length == PEER_PROOF_BYTES;
    kith_buf_fini(&text);
    return good;
}

void peer_wire_refuse(struct peer_wire *wire, enum peer_refusal why, const char *text)
{
    size_t start = begin(wire, REFUSED), length = strlen(text);
    kith_buf_append_char(&wire->out, (char)why);
    append_u16(&wire->out, wire->self->lowest);
    append_u16(&wire->out, wire->self->highest);
    kith_buf_append(&wire->out, text, length < 200 ? length : 200);
    end(wire, start, false);
    wire->refusal = why;
}

static int refuse(struct peer_wire *wire, int status, enum peer_refusal why, const char *text)
{
    peer_wire_refuse(wire, why, text);
    return fail(wire, status, "%s", text);
}

static int refuse_group(struct peer_wire *wire)
{
    char text[160];
    snprintf(text, sizeof text,
             "member of group %016llx, this is group %016llx: join it with an empty folder",
             (unsigned long long)wire->peer_group, (unsigned long long)wire->self->group_id);
    return refuse(wire, KITH_EPERM, PEER_REFUSED_GROUP, text);
}

/* Text of a stranger for our log: one line, printable. */
static void copy_text(char *out, size_t size, struct kith_slice text)
{
    size_t length = text.length < size - 1 ? text.length : size - 1;
    for (size_t i = 0; i < length; i++)
        out[i] = text.data[i] < ' ' || text.data[i] > '~' ? '?' : text.data[i];
    out[length] = '\0';
}

static int on_refused(struct peer_wire *wire, struct kith_reader *r)
{
    char text[201];
    uint8_t why = kith_reader_u8(r);
    unsigned lowest = get_u16(r), highest = get_u16(r);
    copy_text(text, sizeof text, kith_slice(r->data, r->length));
    if (r->failed || why < PEER_REFUSED_VERSION)
        return fail(wire, KITH_ECORRUPT, "sent a refusal that is cut short");
    wire->refusal = why > PEER_REFUSED_OTHER ? PEER_REFUSED_OTHER : (enum peer_refusal)why;
    wire->refused_by_peer = true;
    if (why == PEER_REFUSED_VERSION)
        return fail(wire, KITH_EVERSION,
                    "refused us: it speaks versions %u to %u of the protocol, we %u to %u", lowest, highest,
                    wire->self->lowest, wire->self->highest);
    return fail(wire, why == PEER_REFUSED_BUSY || why == PEER_REFUSED_OTHER ? KITH_EAGAIN : KITH_EPERM,
                "refused us: %s", text);
}

/* The connection's own sums: bytes of another one do not fit into it. */
static void set_salt(struct peer_wire *wire, const char *other_nonce)
{
    wire->salt = kith_get_u32(wire->nonce) ^ kith_get_u32(other_nonce);
}

static int on_hello(struct peer_wire *wire, struct kith_reader *r)
{
    unsigned lowest = get_u16(r), highest = get_u16(r);
    uint8_t purpose = kith_reader_u8(r);
    wire->peer_group = kith_reader_u64(r);
    wire->peer_id = kith_reader_u64(r);
    uint64_t meant = kith_reader_u64(r);
    struct kith_slice nonce = kith_reader_bytes(r, PEER_NONCE_BYTES);
    struct kith_slice address = kith_reader_bytes(r, kith_reader_u8(r));
    wire->as_spare = kith_reader_u8(r) & 1; /* what follows is of later versions */
    if (r->failed || lowest > highest || memchr(address.data, 0, address.length))
        return fail(wire, KITH_ECORRUPT, "sent a damaged greeting");
    copy_text(wire->peer_address, sizeof wire->peer_address, address);
    if (highest < wire->self->lowest || lowest > wire->self->highest) {
        peer_wire_refuse(wire, PEER_REFUSED_VERSION, "");
        return fail(wire, KITH_EVERSION, "speaks versions %u to %u of the protocol, we %u to %u", lowest,
                    highest, wire->self->lowest, wire->self->highest);
    }
    wire->version = (uint16_t)(highest < wire->self->highest ? highest : wire->self->highest);
    if (purpose < PEER_MESSAGES || purpose > PEER_ASK || !wire->peer_id)
        return refuse(wire, KITH_ECORRUPT, PEER_REFUSED_OTHER, "asked for something unknown");
    wire->purpose = (enum peer_purpose)purpose;
    /* A node of a group that was recovered, or restored, at the old address: the challenge would tell the group, too. */
    if (meant && meant != wire->self->node_id && wire->peer_group && wire->peer_group != wire->self->group_id)
        return refuse_group(wire);
    if (meant && meant != wire->self->node_id)
        return refuse(wire, KITH_EPERM, PEER_REFUSED_NODE, "this address belongs to another node now");
    set_salt(wire, nonce.data);
    size_t start = begin(wire, CHALLENGE);
    append_u16(&wire->out, wire->version);
    kith_buf_append_u64(&wire->out, wire->self->group_id);
    kith_buf_append_u64(&wire->out, wire->self->node_id);
    kith_buf_append(&wire->out, wire->nonce, PEER_NONCE_BYTES);
    end(wire, start, true);
    wire->state = PEER_WAITS_PROOF;
    return wire->out.failed || wire->transcript.failed ? fail_memory(wire) : KITH_OK;
}

static int send_proof(struct peer_wire *wire, enum message_kind kind)
{
    unsigned char proof[PEER_PROOF_BYTES];
    if (!prove(wire, wire->dialer, proof))
        return fail_memory(wire);
    size_t start = begin(wire, kind);
    kith_buf_append(&wire->out, proof, sizeof proof);
    end(wire, start, false);
    return wire->out.failed ? fail_memory(wire) : KITH_OK;
}

static int on_challenge(struct peer_wire *wire, struct kith_reader *r)
{
    wire->version = get_u16(r);
    wire->peer_group = kith_reader_u64(r);
    uint64_t node_id = kith_reader_u64(r);
    struct kith_slice nonce = kith_reader_bytes(r, PEER_NONCE_BYTES);
    if (r->failed || !node_id || !wire->peer_group)
        return fail(wire, KITH_ECORRUPT, "sent a damaged answer");
    if (wire->version < wire->self->lowest || wire->version > wire->self->highest)
        return fail(wire, KITH_EVERSION, "chose version %u of the protocol, we speak %u to %u", wire->version,
                    wire->self->lowest, wire->self->highest);
    if (wire->peer_id && wire->peer_id != node_id)
        return fail(wire, KITH_EPERM, "is another node now");
    wire->peer_id = node_id;
    set_salt(wire, nonce.data);
    wire->state = PEER_WAITS_ACCEPT;
    return send_proof(wire, PROOF);
}

/* Compares in constant time. */
static bool is_proven(struct peer_wire *wire, struct kith_reader *r)
{
    unsigned char wanted[PEER_PROOF_BYTES];
    struct kith_slice given = kith_reader_bytes(r, PEER_PROOF_BYTES);
    return prove(wire, !wire->dialer, wanted) && !r->failed &&
           CRYPTO_memcmp(wanted, given.data, PEER_PROOF_BYTES) == 0;
}

/* The handshake's own memory is not needed any more. */
static int become_ready(struct peer_wire *wire)
{
    wire->state = PEER_READY;
    wire->binding = kith_slice(NULL, 0);
    kith_buf_fini(&wire->transcript);
    return KITH_OK;
}

static int on_proof(struct peer_wire *wire, struct kith_reader *r)
{
    if (!is_proven(wire, r))
        return refuse(wire, KITH_EPERM, PEER_REFUSED_SECRET,
                      "the secrets differ: set the same cluster-secret on all nodes");
    bool any_group = wire->purpose >= PEER_JOIN && !wire->peer_group;
    if (wire->peer_group != wire->self->group_id && !any_group)
        return refuse_group(wire);
    int status = send_proof(wire, ACCEPT);
    return status == KITH_OK ? become_ready(wire) : status;
}

static int on_accept(struct peer_wire *wire, struct kith_reader *r)
{
    if (!is_proven(wire, r))
        return fail(wire, KITH_EPERM, "does not know our secret: set the same cluster-secret on all nodes");
    if (wire->self->group_id && wire->peer_group != wire->self->group_id)
        return fail(wire, KITH_EPERM, "is a member of group %016llx, we of %016llx",
                    (unsigned long long)wire->peer_group, (unsigned long long)wire->self->group_id);
    return become_ready(wire);
}

/* `message` is whole: head and body. */
static int on_message(struct peer_wire *wire, struct kith_slice message)
{
    uint8_t kind = (uint8_t)message.data[8];
    struct kith_reader r =
        kith_reader(kith_slice(message.data + PEER_HEAD_BYTES, message.length - PEER_HEAD_BYTES));
    if ((kind == HELLO && wire->state == PEER_WAITS_HELLO) ||
        (kind == CHALLENGE && wire->state == PEER_WAITS_CHALLENGE))
        kith_buf_append(&wire->transcript, message.data, message.length);
    if (kind == HELLO && wire->state == PEER_WAITS_HELLO)
        return on_hello(wire, &r);
    if (kind == CHALLENGE && wire->state == PEER_WAITS_CHALLENGE)
        return on_challenge(wire, &r);
    if (kind == PROOF && wire->state == PEER_WAITS_PROOF)
        return on_proof(wire, &r);
    if (kind == ACCEPT && wire->state == PEER_WAITS_ACCEPT)
        return on_accept(wire, &r);
    if (kind == REFUSED && wire->dialer)
        return on_refused(wire, &r);
    return fail(wire, KITH_ECORRUPT, "sent message %u of the handshake out of turn", kind);
}

/* How long the message is that begins with head[0..length); 0: not known yet; negative status. */
static int64_t message_length(struct peer_wire *wire, const char *head, size_t length)
{
    size_t known = length < sizeof magic ? length : sizeof magic;
    if (memcmp(head, magic, known) != 0) {
        if (head[0] == TLS_RECORD && !wire->dialer)
            peer_wire_refuse(wire, PEER_REFUSED_TLS, "TLS is not configured here");
        if (head[0] == TLS_RECORD)
            return fail(wire, KITH_EPERM,
                        "speaks TLS, and we do not: set cluster-tls-cert, -key and -ca on all nodes");
        return fail(wire, KITH_ECORRUPT, "does not speak our protocol");
    }
    if (length < PEER_HEAD_BYTES)
        return 0;
    unsigned body = (uint8_t)head[10] | (unsigned)(uint8_t)head[11] << 8;
    if (body > PEER_HELLO_BYTES_MAX || head[9])
        return fail(wire, KITH_ECORRUPT, "sent a damaged message of the handshake");
    return PEER_HEAD_BYTES + (int64_t)body;
}

/* The same of a frame, its header included. */
static int64_t frame_length(struct peer_wire *wire, const char *head, size_t length)
{
    if (length < PEER_HEADER_BYTES)
        return 0;
    uint32_t bytes = kith_get_u32(head), number = kith_get_u32(head + 4);
    if (kith_crc32c(wire->salt, head, 12) != kith_get_u32(head + 12))
        return fail(wire, KITH_ECORRUPT, "sent frame %u with a damaged header", wire->received);
    if (number != wire->received)
        return fail(wire, KITH_ECORRUPT, "sent frame %u in the place of frame %u", number, wire->received);
    if (!bytes || bytes > peer_wire_frame_max(wire->purpose))
        return fail(wire, KITH_ETOOBIG, "sent a frame of %u bytes, %zu are allowed", bytes,
                    peer_wire_frame_max(wire->purpose));
    return PEER_HEADER_BYTES + (int64_t)bytes;
}

static int on_frame(struct peer_wire *wire, struct kith_slice whole,
                    int (*frame)(void *context, struct kith_slice frame), void *context)
{
    struct kith_slice body = kith_slice(whole.data + PEER_HEADER_BYTES, whole.length - PEER_HEADER_BYTES);
    if (kith_crc32c(wire->salt, body.data, body.length) != kith_get_u32(whole.data + 8))
        return fail(wire, KITH_ECORRUPT, "sent frame %u with damaged content", wire->received);
    wire->received++;
    return frame(context, body);
}

/* Moves bytes from *bytes until `in` has `wanted`. */
static int gather(struct peer_wire *wire, struct kith_slice *bytes, size_t wanted)
{
    size_t missing = wanted - wire->in.length, take = missing < bytes->length ? missing : bytes->length;
    if (wire->in.capacity < wanted && wire->in.capacity - wire->in.length < take) {
        size_t most = ROOM_AHEAD + ROOM_GROWTH * wire->in.length;
        kith_buf_reserve(&wire->in, wanted < most ? missing : most - wire->in.length);
    }
    kith_buf_append(&wire->in, bytes->data, take);
    *bytes = kith_slice(bytes->data + take, bytes->length - take);
    return wire->in.failed ? fail_memory(wire) : KITH_OK;
}

/* One step: a whole message or frame out of `in` and *bytes, or all of *bytes into `in`. */
static int step(struct peer_wire *wire, struct kith_slice *bytes,
                int (*frame)(void *context, struct kith_slice frame), void *context)
{
    bool framed = wire->state == PEER_READY;
    size_t head = framed ? PEER_HEADER_BYTES : PEER_HEAD_BYTES;
    struct kith_slice start = wire->in.length ? kith_buf_slice(&wire->in) : *bytes;
    int64_t length = framed ? frame_length(wire, start.data, start.length)
                            : message_length(wire, start.data, start.length);
    if (length < 0)
        return (int)length;
    size_t wanted = length ? (size_t)length : head;
    if (start.length < wanted) {
        int status = gather(wire, bytes, wanted);
        /* The head alone being complete now, the next step knows the length. */
        if (status != KITH_OK || !length || wire->in.length < wanted)
            return status;
        start = kith_buf_slice(&wire->in);
    }
    struct kith_slice whole = kith_slice(start.data, wanted);
    int status = framed ? on_frame(wire, whole, frame, context) : on_message(wire, whole);
    if (wire->in.length) {
        if (wire->in.capacity > ROOM_AHEAD)
            kith_buf_fini(&wire->in);
        else
            kith_buf_clear(&wire->in);
    } else if (wire->state != PEER_FAILED) {
        *bytes = kith_slice(bytes->data + wanted, bytes->length - wanted);
    }
    return status;
}

int peer_wire_receive(struct peer_wire *wire, struct kith_slice bytes,
                      int (*frame)(void *context, struct kith_slice frame), void *context)
{
    KITH_ASSERT(wire->state != PEER_FAILED);
    while (bytes.length) {
        int status = step(wire, &bytes, frame, context);
        if (status != KITH_OK)
            return status;
    }
    return KITH_OK;
}

void peer_wire_header_of(struct peer_wire *wire, size_t length, uint32_t sum, char out[PEER_HEADER_BYTES])
{
    KITH_ASSERT(wire->state == PEER_READY && length && length <= KITH_FRAME_BYTES_MAX);
    kith_put_u32(out, (uint32_t)length);
    kith_put_u32(out + 4, wire->sent++);
    kith_put_u32(out + 8, sum);
    kith_put_u32(out + 12, kith_crc32c(wire->salt, out, 12));
}

void peer_wire_header(struct peer_wire *wire, struct kith_slice frame, char out[PEER_HEADER_BYTES])
{
    peer_wire_header_of(wire, frame.length, kith_crc32c(wire->salt, frame.data, frame.length), out);
}
