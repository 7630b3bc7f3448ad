/* The RDB reader: bytes made by hand for every encoding of every type, in pieces of every size, with every allocation
 * failing; and what it says about bytes that are wrong. Files that Redis itself wrote are read in tests/kith. Past 800
 * lines, because each encoding of each type needs bytes of its own, and all go through the same few checks. */
#include "base/random.h"
#include "failing_malloc.h"
#include "wire/rdb.h"

#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- what is told, as lines of text ---- */

struct log {
    struct kith_buf text;
    int fail_at; /* the event with this number fails, counted down; negative: none */
};

static void put_text(struct kith_buf *text, struct kith_slice bytes)
{
    for (size_t i = 0; i < bytes.length && i < 40; i++) {
        char c = bytes.data[i];
        if (c > ' ' && c <= '~')
            kith_buf_append_char(text, c);
        else
            kith_buf_append_format(text, "\\%02x", (unsigned char)c);
    }
    if (bytes.length > 40)
        kith_buf_append_format(text, "...%zu", bytes.length);
}

static int line(struct log *log)
{
    kith_buf_append_char(&log->text, '\n');
    if (log->text.failed)
        return KITH_ENOMEM;
    return log->fail_at-- == 0 ? KITH_EBUSY : KITH_OK;
}

static void put_key(struct log *log, const struct kith_rdb_key *key)
{
    kith_buf_append_format(&log->text, "%u ", key->db);
    put_text(&log->text, key->name);
    kith_buf_append_format(&log->text, " %s", key->type);
    if (key->expiry_ms != -1)
        kith_buf_append_format(&log->text, " @%lld", (long long)key->expiry_ms);
}

static int on_string(void *arg, const struct kith_rdb_key *key, struct kith_slice value)
{
    struct log *log = arg;
    assert_int_equal(key->kind, KITH_RDB_STRING);
    put_key(log, key);
    kith_buf_append_text(&log->text, " = ");
    put_text(&log->text, value);
    return line(log);
}

static int on_begin(void *arg, const struct kith_rdb_key *key, const struct kith_rdb_vectors *vectors)
{
    struct log *log = arg;
    put_key(log, key);
    assert_int_equal(vectors != NULL, key->kind == KITH_RDB_VECTORS);
    if (vectors)
        kith_buf_append_format(&log->text, " dim %u m %u codes %d count %d", vectors->dim, vectors->m,
                               vectors->codes, (int)vectors->count);
    return line(log);
}

static int on_field(void *arg, const struct kith_rdb_key *key, struct kith_slice field,
                    struct kith_slice value)
{
    struct log *log = arg;
    assert_int_equal(key->kind, KITH_RDB_HASH);
    kith_buf_append_text(&log->text, "  ");
    put_text(&log->text, field);
    kith_buf_append_text(&log->text, " = ");
    put_text(&log->text, value);
    return line(log);
}

static int on_member(void *arg, const struct kith_rdb_key *key, struct kith_slice member, double score)
{
    struct log *log = arg;
    assert_int_equal(key->kind, KITH_RDB_ZSET);
    kith_buf_append_text(&log->text, "  ");
    put_text(&log->text, member);
    kith_buf_append_format(&log->text, " %.17g", score);
    return line(log);
}

static int on_vector(void *arg, const struct kith_rdb_key *key, const struct kith_rdb_vector *vector)
{
    struct log *log = arg;
    assert_int_equal(key->kind, KITH_RDB_VECTORS);
    kith_buf_append_text(&log->text, "  ");
    put_text(&log->text, vector->element);
    for (uint32_t i = 0; i < vector->dim; i++)
        kith_buf_append_format(&log->text, " %g", (double)vector->components[i]);
    kith_buf_append_char(&log->text, ' ');
    put_text(&log->text, vector->attributes);
    return line(log);
}

static int on_end(void *arg, const struct kith_rdb_key *key, uint64_t elements, uint64_t left_out,
                  const char *why)
{
    struct log *log = arg;
    kith_buf_append_format(&log->text, "  end %d", (int)elements);
    assert_int_equal(left_out != 0, why != NULL);
    if (left_out)
        kith_buf_append_format(&log->text, " but %d: %s", (int)left_out, why);
    (void)key;
    return line(log);
}

static int on_skipped(void *arg, const struct kith_rdb_key *key, const char *why)
{
    struct log *log = arg;
    assert_int_equal(key->kind, KITH_RDB_OTHER);
    put_key(log, key);
    kith_buf_append_format(&log->text, " skipped: %s", why);
    return line(log);
}

static int on_other(void *arg, const char *what, struct kith_slice name)
{
    struct log *log = arg;
    kith_buf_append_format(&log->text, "other %s ", what);
    put_text(&log->text, name);
    return line(log);
}

static int on_aux(void *arg, struct kith_slice name, struct kith_slice value)
{
    struct log *log = arg;
    kith_buf_append_text(&log->text, "aux ");
    put_text(&log->text, name);
    kith_buf_append_char(&log->text, ' ');
    put_text(&log->text, value);
    return line(log);
}

static const struct kith_rdb_events events = {.string = on_string,
                                              .begin = on_begin,
                                              .field = on_field,
                                              .member = on_member,
                                              .vector = on_vector,
                                              .end = on_end,
                                              .skipped = on_skipped,
                                              .other = on_other,
                                              .aux = on_aux};
static const struct kith_rdb_events no_events;

/* Reads `file` in pieces of `piece` bytes, or of random sizes up to it when `rng` is there; every piece lies in memory of
 * its own, so that a sanitizer sees a byte too many. Returns the last status. */
static int read_pieces(struct log *log, struct kith_slice file, size_t piece, struct kith_rng *rng,
                       const struct kith_rdb_limits *limits, const struct kith_rdb_events *told)
{
    struct kith_rdb *rdb = NULL;
    int status = kith_rdb_open(&rdb, limits, told, log);
    if (status)
        return status;
    size_t at = 0, used = 0;
    while (status == 0 && at < file.length) {
        size_t length = rng ? 1 + kith_rng_below(rng, piece) : piece;
        if (length > file.length - at)
            length = file.length - at;
        char *copy = malloc(length);
        if (!copy) {
            kith_rdb_close(rdb);
            return KITH_ENOMEM;
        }
        memcpy(copy, file.data + at, length);
        status = kith_rdb_feed(rdb, copy, length, &used);
        assert_true(used <= length && (status || used == length));
        free(copy);
        at += used;
        assert_true(status < 0 || kith_rdb_offset(rdb) <= at);
    }
    if (status == 0)
        status = kith_rdb_cut_short(rdb);
    if (status < 0)
        kith_buf_append_format(&log->text, "!%d %s", status, kith_rdb_error(rdb));
    else
        kith_buf_append_format(&log->text, "used %zu", at);
    /* What was said last stays. */
    size_t none = 7;
    assert_int_equal(kith_rdb_feed(rdb, "x", 1, &none), status);
    assert_int_equal(none, 0);
    kith_rdb_close(rdb);
    return status;
}

/* ---- bytes ---- */

/* Bit by bit, from the polynomial: not the code that is tested. */
static uint64_t sum_of(const void *bytes, size_t length)
{
    const uint8_t *p = bytes;
    uint64_t crc = 0;
    for (size_t i = 0; i < length; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? UINT64_C(0x95ac9329ac4bc9b5) : 0);
    }
    return crc;
}

static void put_le(struct kith_buf *file, uint64_t value, size_t width)
{
    for (size_t i = 0; i < width; i++)
        kith_buf_append_char(file, (char)(value >> (8 * i)));
}

static void close_file(struct kith_buf *file)
{
    kith_buf_append_char(file, (char)0xff);
    put_le(file, sum_of(file->data, file->length), 8);
}

#define BYTES(literal)                                                                                       \
    {                                                                                                        \
        (literal), sizeof(literal) - 1                                                                       \
    }
/* A stream ID of 16 bytes, a time of 8. */
#define ID  "0123456789abcdef"
#define MS  "\0\1\2\3\4\5\6\7"
#define K   "\1k" /* the key k */
#define INF "\0\0\0\0\0\0\xf0\x7f"

/* "vectorset" with encoding 0, in a length of 64 bits. */
#define VECTORSET   "\x07\1k\x81\xbd\xe7\x2d\xa2\xbb\x1e\xb4\x00"
#define VECTORSET_1 "\x07\1k\x81\xbd\xe7\x2d\xa2\xbb\x1e\xb4\x01"
#define OTHER_ID    "\x81\x00\x10\x83\x10\x51\x87\x20\x00"

/* What stands between the header and the end, and what is told of it. */
static const struct {
    const char *name;
    const char *header; /* NULL: version 12 */
    struct kith_slice body;
    const char *told;
} goldens[] = {
    {"nothing", NULL, BYTES(""), ""},
    {"fields of the file", NULL,
     BYTES("\xfa\x09redis-ver\x06"
           "7.0.15\xfa\x0aredis-bits\xc0\x40"),
     "aux redis-ver 7.0.15\naux redis-bits 64\n"},
    {"a plain string", NULL, BYTES("\0\1k\1v"), "0 k string = v\n"},
    {"an empty string", NULL, BYTES("\0\0\0"), "0  string = \n"},
    {"the lengths", NULL, BYTES("\0\x40\1k\x80\0\0\0\1v\0\x81\0\0\0\0\0\0\0\1k\1w"),
     "0 k string = v\n0 k string = w\n"},
    {"integers", NULL, BYTES("\0\1k\xc0\x80\0\1k\xc1\xff\x7f\0\1k\xc2\0\0\0\x80\0\xc0\x07\xc1\xfe\xff"),
     "0 k string = -128\n0 k string = 32767\n0 k string = -2147483648\n0 7 string = -2\n"},
    {"compressed runs", NULL, BYTES("\0\1k\xc3\x05\x0a\0a\xe0\0\0"), "0 k string = aaaaaaaaaa\n"},
    {"a compressed key", NULL, BYTES("\0\xc3\x05\x0a\0a\xe0\0\0\1v"), "0 aaaaaaaaaa string = v\n"},
    {"databases and times", NULL,
     BYTES("\xfe\3\xfb\5\1\xfc\xe8\3\0\0\0\0\0\0\0\1k\1v\0\1l\1w\xfd\2\0\0\0\0\1m\1x\xfe\x40\x50\0\1n\1y"),
     "3 k string @1000 = v\n3 l string = w\n3 m string @2000 = x\n80 n string = y\n"},
    {"use and frequency", NULL, BYTES("\xf8\x41\0\0\1k\1v\xf9\xff\0\1l\1w\xf4\1\2\3\0\1m\1x"),
     "0 k string = v\n0 l string = w\n0 m string = x\n"},
    {"a hash", NULL, BYTES("\4\1k\2\1a\1b\xc0\1\xc0\2"), "0 k hash\n  a = b\n  1 = 2\n  end 2\n"},
    {"an empty hash", NULL, BYTES("\4\1k\0\0\1l\1v"), "0 k hash\n  end 0\n0 l string = v\n"},
    {"scores as text", NULL,
     BYTES("\3\1k\4\1a\3"
           "1.5\1b\xfe\1c\xff\1d\5-2e10"),
     "0 k zset\n  a 1.5\n  b inf\n  c -inf\n  d -20000000000\n  end 4\n"},
    {"scores as bytes", NULL, BYTES("\5\1k\2\1a\0\0\0\0\0\0\xf8\x3f\1b" INF),
     "0 k zset\n  a 1.5\n  b inf\n  end 2\n"},
    {"a list", NULL, BYTES("\1\1k\2\1a\xc3\x05\x0a\0a\xe0\0\0"),
     "0 k list skipped: lists are not there yet\n"},
    {"a set", NULL, BYTES("\2\1k\2\1a\xc2\1\2\3\4"), "0 k set skipped: sets are not there yet\n"},
    {"packed lists and sets", NULL,
     BYTES("\x0a\1k\3abc\x0b\1k\3abc\x14\1k\3abc\x0e\1k\2\1a\1b\x12\1k\2\1\1a\2\1b\0\1l\1v"),
     "0 k list skipped: lists are not there yet\n0 k set skipped: sets are not there yet\n"
     "0 k set skipped: sets are not there yet\n0 k list skipped: lists are not there yet\n"
     "0 k list skipped: lists are not there yet\n0 l string = v\n"},
    /* Two nodes; three numbers; a group with a waiting entry, and two consumers, one of which has it. */
    {"a stream", NULL,
     BYTES("\x0f\1k\2\1a\1b\1c\1d\3\x41\0\7\1\1g\1\2\1" ID MS "\1\2\1x" MS "\1" ID "\1y" MS "\0\0\1l\1v"),
     "0 k stream skipped: streams are not there yet\n0 l string = v\n"},
    {"a stream of 7.0", NULL,
     BYTES("\x13\1k\1\1a\1b\3\1\2\3\4\5\6\7\1\1g\1\2\3\1" ID MS "\1\1\1x" MS "\1" ID "\0\1l\1v"),
     "0 k stream skipped: streams are not there yet\n0 l string = v\n"},
    {"a stream of 7.2", NULL,
     BYTES("\x15\1k\1\1a\1b\3\1\2\3\4\5\6\7\1\1g\1\2\3\1" ID MS "\1\1\1x" MS MS "\1" ID "\0\1l\1v"),
     "0 k stream skipped: streams are not there yet\n0 l string = v\n"},
    {"a stream without groups", NULL, BYTES("\x15\1k\0\0\1\2\3\4\5\6\7\0\0\1l\1v"),
     "0 k stream skipped: streams are not there yet\n0 l string = v\n"},
    {"a module's value", NULL,
     BYTES("\x07\1k" OTHER_ID "\1\5\2\x81\0\0\0\0\0\0\0\1\3"
           "1234\4"
           "12345678\5\2ab\0\0\1l\1v"),
     "0 k ABCDEFGHI skipped: types of modules are not there\n0 l string = v\n"},
    {"a module's own data", NULL, BYTES("\xf7" OTHER_ID "\2\1\1\5\5\2ab\0\0\1l\1v"),
     "other module data ABCDEFGHI\n0 l string = v\n"},
    {"function libraries", NULL, BYTES("\xf5\x1c#!lua name=mylib x\nreturn 1;\xf5\x0cno name here"),
     "other function library mylib\nother function library \n"},
    {"a set of vectors whose version is not known", NULL, BYTES(VECTORSET_1 "\2\1\0"),
     "0 k vectorset skipped: a vector set in a form that is not known\n"},
    {"a hash with times", NULL, BYTES("\x18\1k" MS "\3\0\1a\1b\1\1c\1d\x40\xff\1e\1f\0\1l\1v"),
     "0 k hash\n  a = b\n  end 1 but 2: fields with a time to live of their own are not there yet\n0 l "
     "string = v\n"},
    {"a hash with times before 7.4", NULL, BYTES("\x16\1k\2\0\1a\1b\x81" MS "\1c\1d"),
     "0 k hash\n  a = b\n  end 1 but 1: fields with a time to live of their own are not there yet\n"},
    {"a hash with times of Valkey", "VALKEY080",
     BYTES("\x16\1k\2\1a\1b\xff\xff\xff\xff\xff\xff\xff\xff\1c\1d" MS "\0\1l\1v"),
     "0 k hash\n  a = b\n  end 1 but 1: fields with a time to live of their own are not there yet\n0 l "
     "string = v\n"},
    {"vectors", NULL,
     BYTES(VECTORSET "\2\2\2\2\2\x80\0\0\x10\0\2\0" /* two dimensions, two elements, M 16, not quantized */
                     "\5\1a\5\x08\0\0\x80\x3f\0\0\0\0\2\4\2\1\2\0\2\0\2\x80\x40\0\0\0" /* 1, 0 of length 2 */
                     "\5\1b\5\x08\0\0\0\0\0\0\x80\xbf\2\3\2\1\2\0\2\x80\x40\x40\0\0"
                     "\0\0\1l\1v"),
     "0 k vectorset dim 2 m 16 codes 0 count 2\n  a 2 0 \n  b 0 -3 \n  end 2\n0 l string = v\n"},
    {"vectors of bytes with attributes", NULL,
     BYTES(VECTORSET "\2\2\2\2\2\x44\1\2\2"                                          /* M 4, Q8, attributes */
                     "\5\1a\5\2{}\5\2\x7f\x81\2\3\2\1\2\0\2\x81\x3f\0\0\0\x40\0\0\0" /* range 0.5, length 2 */
                     "\5\1b\5\0\5\2\x01\0\2\3\2\1\2\0\2\x81\x42\xfe\0\0\0\0\0\0" /* range 127, no length */
                     "\0"),
     "0 k vectorset dim 2 m 4 codes 1 count 2\n  a 1 -1 {}\n  b 1 0 \n  end 2\n"},
    {"vectors of bits", NULL,
     BYTES(VECTORSET "\2\3\2\1\2\2\2\0" /* M from before it could be chosen */
                     "\5\1a\5\x08\5\0\0\0\0\0\0\0\2\3\2\1\2\0\2\0\0"),
     "0 k vectorset dim 3 m 16 codes 2 count 1\n  a 1 -1 1 \n  end 1\n"},
    {"a vector that is no vector", NULL,
     BYTES(VECTORSET "\2\1\2\1\2\0\2\0\5\1a\5\4\0\0\xc0\x7f\2\3\2\1\2\0\2\0\0"),
     "0 k vectorset dim 1 m 16 codes 0 count 1\n  end 0 but 1: elements whose vector has a component that is "
     "no "
     "number\n"},
    {"vectors with a projection", NULL,
     BYTES(VECTORSET "\2\1\2\1\2\0\2\1\2\2\5\1x\5\1a\5\4"
                     "1234\2\0\0\0\1l\1v"),
     "0 k vectorset skipped: vector sets made with REDUCE cannot be taken over: their projection has another "
     "form "
     "here\n0 l string = v\n"},
    {"vectors of a form to come", NULL, BYTES(VECTORSET "\2\1\2\1\2\3\2\0\5\1x\0\0\1l\1v"),
     "0 k vectorset skipped: a vector set in a form that is not known\n0 l string = v\n"},
};

static void make_file(struct kith_buf *file, const char *header, struct kith_slice body)
{
    kith_buf_init(file);
    kith_buf_append_text(file, header ? header : "REDIS0012");
    kith_buf_append(file, body.data, body.length);
    close_file(file);
}

static void expect(const char *name, size_t piece, struct kith_slice file, const char *told,
                   struct kith_rng *rng)
{
    struct log log = {.fail_at = -1};
    struct kith_buf wanted;
    kith_buf_init(&wanted);
    kith_buf_append_format(&wanted, "%sused %zu", told, file.length);
    read_pieces(&log, file, piece, rng, NULL, &events);
    if (!kith_slice_equal(kith_buf_slice(&log.text), kith_buf_slice(&wanted)))
        fail_msg("%s, pieces of %zu: %.*s", name, piece, (int)log.text.length, log.text.data);
    kith_buf_fini(&log.text);
    kith_buf_fini(&wanted);
}

static void every_encoding_is_read_in_pieces_of_every_size(void **state)
{
    for (size_t g = 0; g < sizeof goldens / sizeof *goldens; g++) {
        struct kith_buf file;
        make_file(&file, goldens[g].header, goldens[g].body);
        for (size_t piece = 1; piece <= file.length; piece++)
            expect(goldens[g].name, piece, kith_buf_slice(&file), goldens[g].told, NULL);
        kith_buf_fini(&file);
    }
}

/* ---- packed values ---- */

static void put_string(struct kith_buf *file, struct kith_slice bytes)
{
    kith_buf_append_char(file, (char)0x80);
    for (int shift = 24; shift >= 0; shift -= 8)
        kith_buf_append_char(file, (char)(bytes.length >> shift));
    kith_buf_append(file, bytes.data, bytes.length);
}

/* A file with one key k of a type, whose value is packed; `front` stands before it. */
static void make_packed(struct kith_buf *file, uint8_t type, struct kith_slice front, struct kith_slice value)
{
    kith_buf_init(file);
    kith_buf_append_text(file, "REDIS0012");
    kith_buf_append_char(file, (char)type);
    kith_buf_append_text(file, K);
    kith_buf_append(file, front.data, front.length);
    put_string(file, value);
    close_file(file);
}

/* One listpack item: the bytes that say it, then their length. `wide`: the length takes a byte more than it needs. */
static void put_listpack_item(struct kith_buf *pack, struct kith_slice said, bool wide)
{
    size_t groups = 1;
    kith_buf_append(pack, said.data, said.length);
    for (size_t rest = said.length >> 7; rest; rest >>= 7)
        groups++;
    groups += wide;
    for (size_t i = groups; i-- > 0;)
        kith_buf_append_char(pack, (char)((said.length >> (7 * i) & 0x7f) | (i + 1 < groups ? 0x80 : 0)));
}

static void put_listpack_text(struct kith_buf *pack, size_t length, char c, bool wide)
{
    struct kith_buf said;
    kith_buf_init(&said);
    if (length < 64) {
        kith_buf_append_char(&said, (char)(0x80 | length));
    } else if (length < 4096) {
        kith_buf_append_char(&said, (char)(0xe0 | length >> 8));
        kith_buf_append_char(&said, (char)length);
    } else {
        kith_buf_append_char(&said, (char)0xf0);
        put_le(&said, length, 4);
    }
    memset(kith_buf_reserve(&said, length), c, length);
    said.length += length;
    put_listpack_item(pack, kith_buf_slice(&said), wide);
    kith_buf_fini(&said);
}

static void begin_listpack(struct kith_buf *pack)
{
    kith_buf_init(pack);
    put_le(pack, 0, 4);
    put_le(pack, 65535, 2);
}

static void close_pack(struct kith_buf *pack)
{
    kith_buf_append_char(pack, (char)0xff);
    for (int i = 0; i < 4; i++)
        pack->data[i] = (char)(pack->length >> (8 * i));
}

static void expect_packed(const char *name, uint8_t type, const char *front, size_t front_length,
                          struct kith_buf *pack, const char *told)
{
    struct kith_buf file;
    make_packed(&file, type, kith_slice(front, front_length), kith_buf_slice(pack));
    size_t pieces[] = {1, 2, 3, 7, 64, 1000, file.length};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        expect(name, pieces[i], kith_buf_slice(&file), told, NULL);
    kith_buf_fini(&file);
    kith_buf_fini(pack);
}

static void every_item_of_a_listpack_is_read(void **state)
{
    static const struct {
        struct kith_slice said;
        const char *means;
    } items[] = {
        {BYTES("\x00"), "0"},
        {BYTES("\x7f"), "127"},
        {BYTES("\x80"), ""},
        {BYTES("\x83xyz"), "xyz"},
        {BYTES("\xc0\x80"), "128"},
        {BYTES("\xcf\xff"), "4095"},
        {BYTES("\xd0\x00"), "-4096"},
        {BYTES("\xdf\xff"), "-1"},
        {BYTES("\xe0\x02hi"), "hi"},
        {BYTES("\xf0\2\0\0\0ho"), "ho"},
        {BYTES("\xf1\x00\x80"), "-32768"},
        {BYTES("\xf2\xff\xff\x7f"), "8388607"},
        {BYTES("\xf2\x00\x00\x80"), "-8388608"},
        {BYTES("\xf3\x00\x00\x00\x80"), "-2147483648"},
        {BYTES("\xf4\xff\xff\xff\xff\xff\xff\xff\x7f"), "9223372036854775807"},
        {BYTES("\xf4\0\0\0\0\0\0\0\x80"), "-9223372036854775808"},
    };
    struct kith_buf pack, told;
    begin_listpack(&pack);
    kith_buf_init(&told);
    kith_buf_append_text(&told, "0 k hash\n");
    for (size_t i = 0; i < sizeof items / sizeof *items; i++) {
        put_listpack_item(&pack, items[i].said, false);
        put_listpack_item(&pack, items[i].said, false);
        kith_buf_append_format(&told, "  %s = %s\n", items[i].means, items[i].means);
    }
    kith_buf_append_format(&told, "  end %zu\n", sizeof items / sizeof *items);
    kith_buf_append_char(&told, '\0');
    close_pack(&pack);
    expect_packed("listpack", 16, "", 0, &pack, told.data);
    kith_buf_fini(&told);
}

static void long_items_of_a_listpack_are_read_however_their_length_is_kept(void **state)
{
    /* With its two bytes of head the last one of a length is 16383 long, where writers differ. */
    const size_t lengths[] = {63, 64, 126, 125, 4095, 4096, 16378, 16379, 70000};
    for (int wide = 0; wide < 2; wide++) {
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            struct kith_buf pack;
            char told[200], shown[41] = {0};
            begin_listpack(&pack);
            put_listpack_text(&pack, 3, 'f', false);
            put_listpack_text(&pack, lengths[i], 'v', wide);
            close_pack(&pack);
            memset(shown, 'v', 40);
            snprintf(told, sizeof told, "0 k hash\n  fff = %s...%zu\n  end 1\n", shown, lengths[i]);
            expect_packed("long items", 16, "", 0, &pack, told);
        }
    }
}

static void a_packed_sorted_set_has_numbers_and_texts_for_scores(void **state)
{
    struct kith_buf pack;
    begin_listpack(&pack);
    put_listpack_text(&pack, 2, 'a', false);
    put_listpack_item(&pack, KITH_SLICE("\x05"), false);
    put_listpack_item(&pack, KITH_SLICE("\x07"), false);
    put_listpack_item(&pack,
                      KITH_SLICE("\x83"
                                 "1.5"),
                      false);
    put_listpack_text(&pack, 1, 'c', false);
    put_listpack_item(&pack, KITH_SLICE("\x84-inf"), false);
    close_pack(&pack);
    expect_packed("zset listpack", 17, "", 0, &pack, "0 k zset\n  aa 5\n  7 1.5\n  c -inf\n  end 3\n");
}

static void a_packed_hash_has_a_time_as_every_third_item(void **state)
{
    for (uint8_t type = 23; type <= 25; type += 2) {
        struct kith_buf pack;
        begin_listpack(&pack);
        put_listpack_text(&pack, 1, 'a', false);
        put_listpack_text(&pack, 1, 'b', false);
        put_listpack_item(&pack, KITH_SLICE("\x00"), false);
        put_listpack_text(&pack, 1, 'c', false);
        put_listpack_text(&pack, 1, 'd', false);
        put_listpack_item(&pack, KITH_SLICE("\xf4" MS), false);
        close_pack(&pack);
        expect_packed(
            "hash listpack ex", type, MS, type == 25 ? 8 : 0, &pack,
            "0 k hash\n  a = b\n  end 1 but 1: fields with a time to live of their own are not there "
            "yet\n");
    }
}

static void every_item_of_a_ziplist_is_read(void **state)
{
    static const struct {
        struct kith_slice said;
        const char *means;
    } items[] = {
        {BYTES("\x00"), ""},
        {BYTES("\x03xyz"), "xyz"},
        {BYTES("\x40\x02hi"), "hi"},
        {BYTES("\x80\0\0\0\2ho"), "ho"},
        {BYTES("\xc0\x00\x80"), "-32768"},
        {BYTES("\xd0\x00\x00\x00\x80"), "-2147483648"},
        {BYTES("\xe0\0\0\0\0\0\0\0\x80"), "-9223372036854775808"},
        {BYTES("\xf0\x00\x00\x80"), "-8388608"},
        {BYTES("\xfe\x80"), "-128"},
        {BYTES("\xf1"), "0"},
        {BYTES("\xfd"), "12"},
    };
    struct kith_buf pack, told;
    kith_buf_init(&pack);
    kith_buf_init(&told);
    put_le(&pack, 0, 8);
    put_le(&pack, 0, 2);
    kith_buf_append_text(&told, "0 k hash\n");
    for (size_t i = 0; i < sizeof items / sizeof *items; i++) {
        kith_buf_append_char(&pack, 5); /* the item before: not looked at, but for its width */
        kith_buf_append(&pack, items[i].said.data, items[i].said.length);
        kith_buf_append_text(&pack, "\xfe");
        put_le(&pack, 300, 4);
        kith_buf_append(&pack, items[i].said.data, items[i].said.length);
        kith_buf_append_format(&told, "  %s = %s\n", items[i].means, items[i].means);
    }
    kith_buf_append_format(&told, "  end %zu\n", sizeof items / sizeof *items);
    kith_buf_append_char(&told, '\0');
    close_pack(&pack);
    expect_packed("ziplist", 13, "", 0, &pack, told.data);
    kith_buf_fini(&told);

    kith_buf_init(&pack);
    kith_buf_append(&pack,
                    "\0\0\0\0\0\0\0\0\2\0\0\1a\3\3"
                    "2.5",
                    18);
    close_pack(&pack);
    expect_packed("zset ziplist", 12, "", 0, &pack, "0 k zset\n  a 2.5\n  end 1\n");
}

static void a_zipmap_is_read_with_its_unused_bytes(void **state)
{
    struct kith_buf pack;
    kith_buf_init(&pack);
    kith_buf_append(&pack, "\3\1a\1\0b\2cd\2\3ef???\xfe\3\0\0\0ghi\xfe\0\0\0\0\1!\xff", 32);
    assert_int_equal((uint8_t)pack.data[pack.length - 1], 0xff);
    expect_packed("zipmap", 9, "", 0, &pack, "0 k hash\n  a = b\n  cd = ef\n  ghi = \n  end 3\n");
}

/* Whatever one byte of a packed value is changed to: it is read or refused, and no byte outside is touched. */
static void a_damaged_packed_value_is_refused_or_read_within_its_bytes(void **state)
{
    struct kith_buf packs[3];
    const uint8_t types[] = {16, 13, 9};
    begin_listpack(&packs[0]);
    put_listpack_text(&packs[0], 2, 'a', false);
    put_listpack_item(&packs[0], KITH_SLICE("\xf1\x00\x80"), false);
    close_pack(&packs[0]);
    kith_buf_init(&packs[1]);
    kith_buf_append(&packs[1], "\0\0\0\0\0\0\0\0\2\0\0\1a\3\3xyz", 18);
    close_pack(&packs[1]);
    kith_buf_init(&packs[2]);
    kith_buf_append(&packs[2], "\1\1a\1\1b?\xff", 8);
    unsigned refused = 0;
    for (size_t p = 0; p < 3; p++) {
        for (size_t at = 0; at < packs[p].length; at++) {
            for (int value = 0; value < 256; value++) {
                struct kith_buf file;
                struct log log = {.fail_at = -1};
                char was = packs[p].data[at];
                packs[p].data[at] = (char)value;
                make_packed(&file, types[p], kith_slice("", 0), kith_buf_slice(&packs[p]));
                int status = read_pieces(&log, kith_buf_slice(&file), file.length, NULL, NULL, &events);
                assert_true(status == 1 || status == KITH_ECORRUPT);
                refused += status != 1;
                packs[p].data[at] = was;
                kith_buf_fini(&file);
                kith_buf_fini(&log.text);
            }
        }
        kith_buf_fini(&packs[p]);
    }
    assert_true(refused > 5000);
}

/* ---- compression ---- */

static void expect_compressed(struct kith_slice packed, size_t length, const char *told, int status)
{
    struct kith_buf file;
    struct log log = {.fail_at = -1};
    kith_buf_init(&file);
    kith_buf_append_text(&file, "REDIS0012");
    kith_buf_append(&file, "\0\1k\xc3", 4);
    kith_buf_append_char(&file, (char)packed.length);
    kith_buf_append_char(&file, (char)(0x40 | length >> 8));
    kith_buf_append_char(&file, (char)length);
    kith_buf_append(&file, packed.data, packed.length);
    close_file(&file);
    for (size_t piece = 1; piece <= file.length; piece++) {
        kith_buf_clear(&log.text);
        assert_int_equal(read_pieces(&log, kith_buf_slice(&file), piece, NULL, NULL, &events), status);
        kith_buf_append_char(&log.text, '\0');
        assert_non_null(strstr(log.text.data, told));
    }
    kith_buf_fini(&log.text);
    kith_buf_fini(&file);
}

static void compressed_strings_are_expanded(void **state)
{
    expect_compressed(KITH_SLICE("\2abc"), 3, "= abc\n", 1);
    expect_compressed(KITH_SLICE("\2abc\x20\2"), 6, "= abcabc\n", 1);
    expect_compressed(KITH_SLICE("\0a\xa0\0\1yz"), 10, "= aaaaaaaayz\n", 1);
    expect_compressed(KITH_SLICE("\0a\xe0\0\0"), 10, "= aaaaaaaaaa\n", 1);
    expect_compressed(KITH_SLICE("\1ab\xe0\xff\1"), 266, "= ababababab", 1);
    /* Too much, too little, from before the start, cut off within a copy, and a length no copy can give. */
    expect_compressed(KITH_SLICE("\2abc\x20\2"), 5, "cannot be expanded", KITH_ECORRUPT);
    expect_compressed(KITH_SLICE("\2abc\x20\2"), 7, "cannot be expanded", KITH_ECORRUPT);
    expect_compressed(KITH_SLICE("\2abc\x20\3"), 6, "cannot be expanded", KITH_ECORRUPT);
    expect_compressed(KITH_SLICE("\2abc\x20"), 6, "cannot be expanded", KITH_ECORRUPT);
    expect_compressed(KITH_SLICE("\2abc\xe0"), 6, "cannot be expanded", KITH_ECORRUPT);
    expect_compressed(KITH_SLICE("\4abc"), 6, "cannot be expanded", KITH_ECORRUPT);
    expect_compressed(KITH_SLICE("\2ab"), 1000, "cannot be what", KITH_ECORRUPT);
    expect_compressed(KITH_SLICE("\2ab"), 0, "cannot be what", KITH_ECORRUPT);
}

/* ---- what is wrong ---- */

static void what_is_wrong_is_told_with_its_place(void **state)
{
    static const struct {
        const char *header;
        struct kith_slice body;
        int status;
        const char *told;
    } wrongs[] = {
        {"PEDIS0012", BYTES(""), KITH_ECORRUPT, "byte 0: this is no RDB file"},
        {"REDIS00x2", BYTES(""), KITH_ECORRUPT, "the version in the header is no number"},
        {"REDIS0013", BYTES(""), KITH_EVERSION, "version 13 of the format, and 12 is the newest"},
        {"REDIS0000", BYTES(""), KITH_EVERSION, "version 0 of the format"},
        {"VALKEY081", BYTES(""), KITH_EVERSION, "version 81 of the format, and 80 is the newest"},
        {NULL, BYTES("\x06\1k\1"), KITH_EVERSION, "byte 9: type 6, which cannot be read"},
        {NULL, BYTES("\x1a\1k\1"), KITH_EVERSION, "type 26"},
        {NULL, BYTES("\xf6\1k\1"), KITH_EVERSION, "type 246"},
        {NULL, BYTES("\0\x82"), KITH_ECORRUPT, "byte 10: 0x82 does not begin a length"},
        {NULL, BYTES("\0\1k\xc4"), KITH_ECORRUPT,
         "byte 12 in key 'k' of database 0 (string): a string in form 4, which there is not"},
        {NULL, BYTES("\0\1\xff\xc4"), KITH_ECORRUPT, "in key '?' of"},
        {NULL, BYTES("\0\1k\xc3\xc3\1"), KITH_ECORRUPT, "a compressed string has no length"},
        {NULL, BYTES("\1\1k\xc0\1"), KITH_ECORRUPT, "a string stands where a length should"},
        {NULL, BYTES("\3\1k\1\1a\xfd"), KITH_ECORRUPT, "a score is not a number"},
        {NULL, BYTES("\3\1k\1\1a\2x2"), KITH_ECORRUPT, "a score is not a number"},
        {NULL, BYTES("\5\1k\1\1a\0\0\0\0\0\0\xf8\x7f"), KITH_ECORRUPT, "a score is not a number"},
        {NULL, BYTES("\x11\1k\x0b\x0b\0\0\0\0\0\x81q\2\x81w\2\xff"), KITH_ECORRUPT,
         "the packed value is damaged"},
        {NULL, BYTES("\x10\1k\x0a\x0a\0\0\0\0\0\x81q\2\xff"), KITH_ECORRUPT, "the packed value is damaged"},
        {NULL, BYTES("\x10\1k\x06\x06\0\0\0\0\0"), KITH_ECORRUPT, "the packed value is damaged"},
        {NULL, BYTES("\xfc\xff\xff\xff\xff\xff\xff\xff\xff"), KITH_ECORRUPT, "a key's time is before 1970"},
        {NULL, BYTES("\xfc\1\0\0\0\0\0\0\0"), KITH_ECORRUPT, "a time without a key at the end"},
        {NULL, BYTES("\xfe\x80\xff\xff\xff\xff"), KITH_ECORRUPT, "database 4294967295"},
        {NULL, BYTES("\x07\1k" OTHER_ID "\6"), KITH_ECORRUPT, "part 6 in a module's value"},
        {NULL, BYTES(VECTORSET "\5\1a"), KITH_ECORRUPT,
         "the vector set is not as Redis 8 writes it (5, not 2)"},
        {NULL, BYTES(VECTORSET "\2\1\2\1\2\0\2\0\5\1a\5\3zzz\2\3\2\1\2\0\2\0\0"), KITH_ECORRUPT,
         "an element of the vector set is damaged"},
        {NULL, BYTES(VECTORSET "\2\1\2\1\2\0\2\0\5\1a\5\4zzzz\2\0\0"), KITH_ECORRUPT,
         "an element of the vector set is damaged"},
    };
    for (size_t w = 0; w < sizeof wrongs / sizeof *wrongs; w++) {
        struct kith_buf file;
        make_file(&file, wrongs[w].header, wrongs[w].body);
        for (size_t piece = 1; piece <= file.length; piece++) {
            struct log log = {.fail_at = -1};
            int status = read_pieces(&log, kith_buf_slice(&file), piece, NULL, NULL, &events);
            kith_buf_append_char(&log.text, '\0');
            if (status != wrongs[w].status || !strstr(log.text.data, wrongs[w].told))
                fail_msg("'%s', pieces of %zu: %s", wrongs[w].told, piece, log.text.data);
            kith_buf_fini(&log.text);
        }
        kith_buf_fini(&file);
    }
}

static void a_file_that_is_cut_off_anywhere_is_told(void **state)
{
    for (size_t g = 0; g < sizeof goldens / sizeof *goldens; g++) {
        struct kith_buf file;
        make_file(&file, goldens[g].header, goldens[g].body);
        for (size_t length = 0; length < file.length; length++) {
            struct log log = {.fail_at = -1};
            assert_int_equal(read_pieces(&log, kith_slice(file.data, length), 5, NULL, NULL, &events),
                             KITH_ECORRUPT);
            kith_buf_append_char(&log.text, '\0');
            assert_non_null(strstr(log.text.data, "it was cut off"));
            kith_buf_fini(&log.text);
        }
        kith_buf_fini(&file);
    }
}

static void the_checksum_is_compared_unless_it_is_zero_or_not_there(void **state)
{
    struct kith_buf file;
    struct log log = {.fail_at = -1};
    make_file(&file, NULL, KITH_SLICE("\0\1k\1v"));
    for (size_t at = 0; at < 8; at++) {
        file.data[file.length - 1 - at] ^= 0x10;
        kith_buf_clear(&log.text);
        assert_int_equal(read_pieces(&log, kith_buf_slice(&file), 3, NULL, NULL, &events), KITH_ECORRUPT);
        kith_buf_append_char(&log.text, '\0');
        assert_non_null(strstr(log.text.data, "the checksum is "));
        file.data[file.length - 1 - at] ^= 0x10;
    }
    memset(file.data + file.length - 8, 0, 8);
    expect("no sum", 3, kith_buf_slice(&file), "0 k string = v\n", NULL);
    memcpy(file.data + 5, "0004", 4);
    kith_buf_clear(&log.text);
    file.length -= 8;
    expect("before sums", 3, kith_buf_slice(&file), "0 k string = v\n", NULL);
    kith_buf_fini(&file);
    kith_buf_fini(&log.text);
}

static void what_follows_the_end_is_left_alone(void **state)
{
    struct kith_buf file;
    struct kith_rdb *rdb = NULL;
    size_t used;
    make_file(&file, NULL, KITH_SLICE("\0\1k\1v"));
    size_t length = file.length;
    kith_buf_append_text(&file, "*1\r\n$4\r\nPING\r\n");
    assert_int_equal(kith_rdb_open(&rdb, NULL, &no_events, NULL), KITH_OK);
    assert_int_equal(kith_rdb_feed(rdb, file.data, file.length, &used), 1);
    assert_int_equal(used, length);
    assert_int_equal(kith_rdb_offset(rdb), length);
    assert_int_equal(kith_rdb_version(rdb), 12);
    kith_rdb_close(rdb);
    kith_rdb_close(NULL);
    kith_buf_fini(&file);
}

static void a_length_past_the_limit_is_refused_before_its_bytes_come(void **state)
{
    const struct kith_rdb_limits limits = {.value_max = 10};
    static const struct kith_slice bodies[] = {
        BYTES("\0\1k\x0b"),
        BYTES("\0\x0b"),
        BYTES("\0\1k\xc3\x0b\5"),
        BYTES("\0\1k\xc3\5\x0b"),
        BYTES("\4\1k\1\1f\x81\xff\xff\xff\xff\xff\xff\xff\xff"),
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        struct kith_buf file;
        struct log log = {.fail_at = -1};
        kith_buf_init(&file);
        kith_buf_append_text(&file, "REDIS0009");
        kith_buf_append(&file, bodies[i].data, bodies[i].length);
        assert_int_equal(read_pieces(&log, kith_buf_slice(&file), 1, NULL, &limits, &events), KITH_ETOOBIG);
        kith_buf_append_char(&log.text, '\0');
        assert_non_null(strstr(log.text.data, "10 are the limit"));
        kith_buf_fini(&log.text);
        kith_buf_fini(&file);
    }
}

/* A type's name is said before its bytes came: what a file claims is not allocated, and what is passed over has no limit. */
static void what_is_passed_over_may_be_of_any_length(void **state)
{
    const struct kith_rdb_limits limits = {.value_max = 10};
    struct kith_buf file;
    struct log log = {.fail_at = -1};
    kith_buf_init(&file);
    kith_buf_append_text(&file, "REDIS0009");
    kith_buf_append(&file, "\2\1k\1\x50\0", 6);
    memset(kith_buf_reserve(&file, 4096), 'x', 4096);
    file.length += 4096;
    close_file(&file);
    assert_int_equal(read_pieces(&log, kith_buf_slice(&file), 100, NULL, &limits, &events), 1);
    kith_buf_fini(&log.text);
    kith_buf_fini(&file);
}

/* ---- everything at once ---- */

static void make_everything(struct kith_buf *file)
{
    kith_buf_init(file);
    kith_buf_append_text(file, "REDIS0012");
    for (size_t g = 0; g < sizeof goldens / sizeof *goldens; g++)
        if (!goldens[g].header)
            kith_buf_append(file, goldens[g].body.data, goldens[g].body.length);
    /* Large enough that memory is given back after it. */
    const char *big = "\0\3big\x80\0\2\0\0";
    kith_buf_append(file, big, 10);
    memset(kith_buf_reserve(file, 1 << 17), 'b', 1 << 17);
    file->length += 1 << 17;
    close_file(file);
}

static void random_pieces_tell_the_same(void **state)
{
    struct kith_buf file;
    struct log whole = {.fail_at = -1};
    struct kith_rng rng;
    make_everything(&file);
    kith_rng_seed(&rng, 20261120);
    assert_int_equal(read_pieces(&whole, kith_buf_slice(&file), file.length, NULL, NULL, &events), 1);
    for (int round = 0; round < 40; round++) {
        struct log log = {.fail_at = -1};
        size_t most = round % 2 ? 30 : 5000;
        assert_int_equal(read_pieces(&log, kith_buf_slice(&file), most, &rng, NULL, &events), 1);
        assert_true(kith_slice_equal(kith_buf_slice(&log.text), kith_buf_slice(&whole.text)));
        kith_buf_fini(&log.text);
    }
    kith_buf_fini(&whole.text);
    kith_buf_fini(&file);
}

static void events_may_be_missing(void **state)
{
    struct kith_buf file;
    struct log log = {.fail_at = -1};
    make_everything(&file);
    assert_int_equal(read_pieces(&log, kith_buf_slice(&file), 1000, NULL, NULL, &no_events), 1);
    kith_buf_fini(&log.text);
    kith_buf_fini(&file);
}

static void an_event_that_fails_ends_the_reading(void **state)
{
    struct kith_buf file;
    make_everything(&file);
    int failures = 0;
    for (int at = 0;; at++) {
        struct log log = {.fail_at = at};
        int status = read_pieces(&log, kith_buf_slice(&file), 500, NULL, NULL, &events);
        kith_buf_fini(&log.text);
        if (status == 1)
            break;
        assert_int_equal(status, KITH_EBUSY);
        failures++;
    }
    assert_true(failures > 60);
    kith_buf_fini(&file);
}

static void every_allocation_may_fail(void **state)
{
    struct kith_buf file;
    make_everything(&file);
    int rounds = 0;
    for (int n = 0; failing_malloc_sweep(&n); rounds++) {
        struct log log = {.fail_at = -1};
        int status = read_pieces(&log, kith_buf_slice(&file), 900, NULL, NULL, &events);
        assert_true(status == 1 || status == KITH_ENOMEM);
        kith_buf_fini(&log.text);
    }
    assert_true(rounds > 20);
    kith_buf_fini(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_encoding_is_read_in_pieces_of_every_size),
        cmocka_unit_test(every_item_of_a_listpack_is_read),
        cmocka_unit_test(long_items_of_a_listpack_are_read_however_their_length_is_kept),
        cmocka_unit_test(a_packed_sorted_set_has_numbers_and_texts_for_scores),
        cmocka_unit_test(a_packed_hash_has_a_time_as_every_third_item),
        cmocka_unit_test(every_item_of_a_ziplist_is_read),
        cmocka_unit_test(a_zipmap_is_read_with_its_unused_bytes),
        cmocka_unit_test(a_damaged_packed_value_is_refused_or_read_within_its_bytes),
        cmocka_unit_test(compressed_strings_are_expanded),
        cmocka_unit_test(what_is_wrong_is_told_with_its_place),
        cmocka_unit_test(a_file_that_is_cut_off_anywhere_is_told),
        cmocka_unit_test(the_checksum_is_compared_unless_it_is_zero_or_not_there),
        cmocka_unit_test(what_follows_the_end_is_left_alone),
        cmocka_unit_test(a_length_past_the_limit_is_refused_before_its_bytes_come),
        cmocka_unit_test(what_is_passed_over_may_be_of_any_length),
        cmocka_unit_test(random_pieces_tell_the_same),
        cmocka_unit_test(events_may_be_missing),
        cmocka_unit_test(an_event_that_fails_ends_the_reading),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
