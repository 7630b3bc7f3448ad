/* RESP, etcd's JSON gateway over HTTP/1.1, and etcd's gRPC over HTTP/2: as much of each as a load needs. */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned key_number(struct load_client *client)
{
    return (unsigned)kith_rng_below(client->rng, client->options->keys);
}

static void append_value(struct kith_buf *out, unsigned bytes)
{
    char *room = kith_buf_reserve(out, bytes);
    if (!room)
        abort();
    memset(room, 'x', bytes);
    out->length += bytes;
}

static void hello_nothing(struct load_client *client)
{
    (void)client;
}

/* --- RESP --- */

static void request_set(struct load_client *client)
{
    unsigned bytes = client->options->value_bytes;
    kith_buf_append_format(&client->out, "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012u\r\n$%u\r\n", key_number(client),
                           bytes);
    append_value(&client->out, bytes);
    kith_buf_append_text(&client->out, "\r\n");
}

/* SET, and WAIT for replicas: one request of two replies. */
static void request_set_wait(struct load_client *client)
{
    request_set(client);
    kith_buf_append_format(&client->out, "*3\r\n$4\r\nWAIT\r\n$1\r\n%u\r\n$1\r\n0\r\n",
                           client->options->wait);
}

static void request_get(struct load_client *client)
{
    kith_buf_append_format(&client->out, "*2\r\n$3\r\nGET\r\n$16\r\nkey:%012u\r\n", key_number(client));
}

static void request_ping(struct load_client *client)
{
    kith_buf_append_text(&client->out, "*1\r\n$4\r\nPING\r\n");
}

static void request_vsim(struct load_client *client)
{
    const struct load_options *o = client->options;
    char name[64];
    int length = snprintf(name, sizeof name, "%s%u", o->prefix, key_number(client));
    kith_buf_append_format(
        &client->out,
        "*6\r\n$4\r\nVSIM\r\n$%zu\r\n%s\r\n$3\r\nELE\r\n$%d\r\n%s\r\n$5\r\nCOUNT\r\n$2\r\n10\r\n",
        strlen(o->set), o->set, length, name);
}

static void hello_readonly(struct load_client *client)
{
    kith_buf_append_text(&client->out, "*1\r\n$8\r\nREADONLY\r\n");
}

/* Of one whole reply; 0: there is more to come. */
static size_t reply_bytes(const char *at, size_t length)
{
    const char *end = length ? memchr(at, '\n', length) : NULL;
    if (!end)
        return 0;
    size_t used = (size_t)(end - at) + 1;
    long n = strtol(at + 1, NULL, 10);
    if (*at == '$' && n >= 0)
        used += (size_t)n + 2;
    for (long i = 0; *at == '*' && i < n; i++) {
        size_t part = reply_bytes(at + used, length - used);
        if (!part)
            return 0;
        used += part;
    }
    return used <= length ? used : 0;
}

static int64_t replies_resp(struct load_client *client, const char *at, size_t length)
{
    size_t used = 0, n;
    while (used < length && (n = reply_bytes(at + used, length - used))) {
        load_finished(client, client->done, at[used] != '-');
        used += n;
    }
    return (int64_t)used;
}

static int64_t replies_set_wait(struct load_client *client, const char *at, size_t length)
{
    size_t used = 0, first, second;
    while (used < length && (first = reply_bytes(at + used, length - used)) &&
           (second = reply_bytes(at + used + first, length - used - first))) {
        const char *wait = at + used + first;
        bool good = at[used] == '+' && *wait == ':' && (unsigned)atoi(wait + 1) >= client->options->wait;
        load_finished(client, client->done, good);
        used += first + second;
    }
    return (int64_t)used;
}

/* --- etcd, JSON --- */

static void append_base64(struct kith_buf *out, const char *bytes, size_t length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < length; i += 3) {
        size_t left = length - i;
        unsigned v = (unsigned)(unsigned char)bytes[i] << 16;
        v |= left > 1 ? (unsigned)(unsigned char)bytes[i + 1] << 8 : 0;
        v |= left > 2 ? (unsigned)(unsigned char)bytes[i + 2] : 0;
        kith_buf_append_char(out, digits[v >> 18]);
        kith_buf_append_char(out, digits[v >> 12 & 63]);
        kith_buf_append_char(out, left > 1 ? digits[v >> 6 & 63] : '=');
        kith_buf_append_char(out, left > 2 ? digits[v & 63] : '=');
    }
}

static void request_json(struct load_client *client)
{
    char key[32], value[4096];
    struct kith_buf body = {0};
    unsigned bytes = client->options->value_bytes;
    int length = snprintf(key, sizeof key, "key:%012u", key_number(client));
    memset(value, 'x', sizeof value);
    kith_buf_append_text(&body, "{\"key\":\"");
    append_base64(&body, key, (size_t)length);
    kith_buf_append_text(&body, "\",\"value\":\"");
    append_base64(&body, value, bytes < sizeof value ? bytes : sizeof value);
    kith_buf_append_text(&body, "\"}");
    kith_buf_append_format(&client->out, "POST /v3/kv/put HTTP/1.1\r\nHost: e\r\nContent-Length: %zu\r\n\r\n",
                           body.length);
    kith_buf_append(&client->out, body.data, body.length);
    kith_buf_fini(&body);
}

static int64_t replies_json(struct load_client *client, const char *at, size_t length)
{
    size_t used = 0;
    while (used < length) {
        const char *head = at + used;
        const char *end = memmem(head, length - used, "\r\n\r\n", 4);
        if (!end)
            break;
        const char *field = memmem(head, (size_t)(end - head), "Content-Length: ", 16);
        if (!field)
            return -1;
        size_t whole = (size_t)(end - head) + 4 + strtoul(field + 16, NULL, 10);
        if (whole > length - used)
            break;
        load_finished(client, client->done, strncmp(head + 9, "200", 3) == 0);
        used += whole;
    }
    return (int64_t)used;
}

/* --- etcd, gRPC --- */

enum { DATA, HEADERS, RST_STREAM = 3, SETTINGS, PING = 6, GOAWAY, WINDOW_UPDATE, FRAME_HEAD = 9 };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, WINDOW_EVERY = 16384 };

static void append_u32(struct kith_buf *out, uint32_t v)
{
    char bytes[4] = {(char)(v >> 24), (char)(v >> 16), (char)(v >> 8), (char)v};
    kith_buf_append(out, bytes, 4);
}

static void append_frame_head(struct kith_buf *out, size_t length, int type, int flags, uint32_t stream)
{
    char bytes[5] = {(char)(length >> 16), (char)(length >> 8), (char)length, (char)type, (char)flags};
    kith_buf_append(out, bytes, 5);
    append_u32(out, stream);
}

/* A header field that both sides forget: literal, of the static table's name `index`, or with a name of its own. */
static void append_field(struct kith_buf *out, int index, const char *name, const char *value)
{
    kith_buf_append_char(out, (char)index);
    if (!index) {
        kith_buf_append_char(out, (char)strlen(name));
        kith_buf_append_text(out, name);
    }
    kith_buf_append_char(out, (char)strlen(value));
    kith_buf_append_text(out, value);
}

static void hello_grpc(struct load_client *client)
{
    kith_buf_append_text(&client->out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    append_frame_head(&client->out, 0, SETTINGS, 0, 0);
}

static uint32_t stream_of(uint64_t number)
{
    return (uint32_t)(2 * number + 1);
}

static void append_varint(struct kith_buf *out, unsigned v)
{
    for (; v > 127; v >>= 7)
        kith_buf_append_char(out, (char)(v | 128));
    kith_buf_append_char(out, (char)v);
}

static void request_grpc(struct load_client *client)
{
    struct kith_buf head = {0}, body = {0};
    unsigned bytes = client->options->value_bytes;
    kith_buf_append_char(&head, (char)0x83); /* :method POST */
    kith_buf_append_char(&head, (char)0x86); /* :scheme http */
    append_field(&head, 4, NULL, "/etcdserverpb.KV/Put");
    append_field(&head, 1, NULL, "e");
    append_field(&head, 0, "content-type", "application/grpc");
    append_field(&head, 0, "te", "trailers");
    kith_buf_append_text(&body, "\x0a\x10"); /* field 1: the key, 16 bytes */
    kith_buf_append_format(&body, "key:%012u", key_number(client));
    kith_buf_append_char(&body, 0x12);
    append_varint(&body, bytes);
    append_value(&body, bytes);
    append_frame_head(&client->out, head.length, HEADERS, END_HEADERS, stream_of(client->sent));
    kith_buf_append(&client->out, head.data, head.length);
    append_frame_head(&client->out, body.length + 5, DATA, END_STREAM, stream_of(client->sent));
    kith_buf_append_char(&client->out, 0); /* not compressed */
    append_u32(&client->out, (uint32_t)body.length);
    kith_buf_append(&client->out, body.data, body.length);
    kith_buf_fini(&head);
    kith_buf_fini(&body);
}

static uint32_t read_u32(const unsigned char *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* A call that failed ends without a message. Its number's place in began_ns tells whether there was one: by its sign. */
static int take_frame(struct load_client *client, const unsigned char *at, size_t length)
{
    const uint64_t had_message = UINT64_C(1) << 63;
    uint32_t stream = read_u32(at + 5) & 0x7fffffff;
    uint64_t number = stream / 2;
    uint64_t *began = &client->began_ns[number % client->ring];
    int type = at[3], flags = at[4];
    if (type == SETTINGS && !(flags & ACK))
        append_frame_head(&client->out, 0, SETTINGS, ACK, 0);
    if (type == PING && !(flags & ACK)) {
        append_frame_head(&client->out, 8, PING, ACK, 0);
        kith_buf_append(&client->out, at + FRAME_HEAD, 8);
    }
    if (type == DATA) {
        client->unanswered += length;
        *began |= had_message;
    }
    if (type == GOAWAY)
        return -1;
    if ((type == HEADERS && flags & END_STREAM) || type == RST_STREAM) {
        bool good = *began & had_message;
        *began &= ~had_message;
        load_finished(client, number, good && type == HEADERS);
    }
    return 0;
}

static int64_t replies_grpc(struct load_client *client, const char *bytes, size_t length)
{
    size_t used = 0;
    while (length - used >= FRAME_HEAD) {
        const unsigned char *at = (const unsigned char *)bytes + used;
        size_t payload = (size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2];
        if (length - used < FRAME_HEAD + payload)
            break;
        if (take_frame(client, at, payload) != 0)
            return -1;
        used += FRAME_HEAD + payload;
    }
    if (client->unanswered >= WINDOW_EVERY) {
        append_frame_head(&client->out, 4, WINDOW_UPDATE, 0, 0);
        append_u32(&client->out, (uint32_t)client->unanswered);
        client->unanswered = 0;
    }
    return (int64_t)used;
}

const struct protocol load_protocols[] = {
    {"ping", true, hello_nothing, request_ping, replies_resp},
    {"set", true, hello_nothing, request_set, replies_resp},
    {"set-wait", true, hello_nothing, request_set_wait, replies_set_wait},
    {"get", true, hello_nothing, request_get, replies_resp},
    {"get-readonly", true, hello_readonly, request_get, replies_resp},
    {"vsim", true, hello_nothing, request_vsim, replies_resp},
    {"vsim-readonly", true, hello_readonly, request_vsim, replies_resp},
    {"etcd-json", true, hello_nothing, request_json, replies_json},
    {"etcd-grpc", false, hello_grpc, request_grpc, replies_grpc},
    {NULL, false, NULL, NULL, NULL},
};
