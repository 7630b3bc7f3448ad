/* The machine that reads an RDB. Each type of the format is a short program (rdb_types.h); an operation needs a few
 * bytes at once, or passes bytes on as they come, so that a piece of input may end anywhere: what an operation lacks is
 * waited for in a stash of a few bytes, and it is carried out again from its start. Nothing else is ever repeated. */
#include "wire/rdb.h"

#include "base/assert.h"
#include "base/num.h"
#include "wire/rdb_bytes.h"
#include "wire/rdb_internal.h"

#include <isa-l/crc64.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { NEED_MORE = 0, DONE = 1 }; /* of an operation; negative: a failure */

enum {
    HEADER_BYTES = 9, /* REDIS0012, VALKEY080 */
    MARK_FIRST = 243, /* type bytes from here on are not of keys */
    VERSION_SUM = 5,  /* the first with a checksum */
    /* How a string that is not plain is kept, and what a module's value is made of. */
    STRING_INT32 = 2,
    STRING_LZF = 3,
    MODULE_END = 0,
    MODULE_SIGNED = 1,
    MODULE_UNSIGNED = 2,
    MODULE_FLOAT = 3,
    MODULE_DOUBLE = 4,
    MODULE_STRING = 5,
};

static const char next_type[] = "O";

/* ---- opening, closing, failing ---- */

int kith_rdb_open(struct kith_rdb **out, const struct kith_rdb_limits *limits,
                  const struct kith_rdb_events *events, void *arg)
{
    static const struct kith_rdb_limits default_limits = KITH_RDB_LIMITS_DEFAULT;
    struct kith_rdb *rdb = calloc(1, sizeof *rdb);
    if (!rdb)
        return KITH_ENOMEM;
    rdb->limits = limits ? *limits : default_limits;
    rdb->events = events;
    rdb->arg = arg;
    rdb->op = "H";
    kith_rdb_key_done(rdb);
    *out = rdb;
    return KITH_OK;
}

void kith_rdb_close(struct kith_rdb *rdb)
{
    if (!rdb)
        return;
    for (size_t i = 0; i < RDB_TEXTS; i++)
        kith_buf_fini(&rdb->texts[i]);
    kith_buf_fini(&rdb->packed);
    kith_buf_fini(&rdb->name);
    kith_buf_fini(&rdb->components);
    free(rdb);
}

/* "in key 'name'", cut and made printable. */
static void describe_key(const struct kith_rdb *rdb, char *text, size_t size)
{
    enum { SHOWN = 64 };
    char name[SHOWN + 1];
    size_t length = rdb->key.name.length < SHOWN ? rdb->key.name.length : SHOWN;
    for (size_t i = 0; i < length; i++) {
        char c = rdb->key.name.data[i];
        name[i] = c >= ' ' && c <= '~' ? c : '?';
    }
    name[length] = '\0';
    text[0] = '\0';
    if (rdb->key.type)
        snprintf(text, size, " in key '%s%s' of database %u (%s)", name,
                 rdb->key.name.length > SHOWN ? "..." : "", rdb->key.db, rdb->key.type);
}

int kith_rdb_fail(struct kith_rdb *rdb, int status, const char *format, ...)
{
    char text[256], key[128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    describe_key(rdb, key, sizeof key);
    rdb->status = status;
    return kith_error_set(&rdb->error, status, "byte %llu%s: %s", (unsigned long long)rdb->offset, key, text);
}

int kith_rdb_no_memory(struct kith_rdb *rdb)
{
    return kith_rdb_fail(rdb, KITH_ENOMEM, "out of memory");
}

const char *kith_rdb_error(const struct kith_rdb *rdb)
{
    return rdb->error.text;
}

int kith_rdb_cut_short(struct kith_rdb *rdb)
{
    if (rdb->status < 0)
        return rdb->status;
    return kith_rdb_fail(rdb, KITH_ECORRUPT,
                         "the file ends before its end mark: it was cut off, have the server write it again");
}

uint64_t kith_rdb_offset(const struct kith_rdb *rdb)
{
    return rdb->offset;
}

uint32_t kith_rdb_version(const struct kith_rdb *rdb)
{
    return rdb->version;
}

/* ---- input ---- */

/* The next `length` bytes in one run, without using them; NULL: they are not all there yet, and what there is waits in
 * the stash. An operation that looks twice looks at more the second time. */
static const uint8_t *look(struct kith_rdb *rdb, size_t length)
{
    size_t left = (size_t)(rdb->end - rdb->at);
    KITH_ASSERT(length <= RDB_STASH);
    if (!rdb->stash_length && left >= length)
        return rdb->at;
    if (rdb->stash_length < length) {
        size_t more = length - rdb->stash_length < left ? length - rdb->stash_length : left;
        if (more)
            memcpy(rdb->stash + rdb->stash_length, rdb->at, more);
        rdb->stash_length += more;
        rdb->at += more;
    }
    return rdb->stash_length >= length ? rdb->stash : NULL;
}

/* Uses them: as many as the operation's last look was for. */
static void use(struct kith_rdb *rdb, size_t length)
{
    if (rdb->stash_length) {
        KITH_ASSERT(rdb->stash_length == length);
        rdb->stash_length = 0;
    } else {
        rdb->at += length;
    }
    rdb->offset += length;
}

/* Up to `most` bytes as they lie there; *bytes is where. Nothing is in the stash. */
static size_t use_some(struct kith_rdb *rdb, uint64_t most, const uint8_t **bytes)
{
    size_t left = (size_t)(rdb->end - rdb->at);
    size_t taken = most < left ? (size_t)most : left;
    *bytes = rdb->at;
    rdb->at += taken;
    rdb->offset += taken;
    return taken;
}

struct length {
    uint64_t value;
    size_t bytes; /* it takes */
    bool is_form; /* not a length: `value` says how a string is kept */
};

/* The length that is `before` bytes ahead. Not used yet. */
static int look_length(struct kith_rdb *rdb, size_t before, struct length *out)
{
    enum { SHORT, MEDIUM, LONG, FORM };
    enum { LONG_32 = 0x80, LONG_64 = 0x81 };
    const uint8_t *at = look(rdb, before + 1);
    if (!at)
        return NEED_MORE;
    uint8_t first = at[before];
    if (first >> 6 == LONG && first != LONG_32 && first != LONG_64)
        return kith_rdb_fail(rdb, KITH_ECORRUPT, "0x%02x does not begin a length: the file is damaged",
                             first);
    size_t more = first >> 6 == MEDIUM ? 1 : first == LONG_32 ? 4 : first == LONG_64 ? 8 : 0;
    at = look(rdb, before + 1 + more);
    if (!at)
        return NEED_MORE;
    uint64_t value = first & 0x3f;
    if (first >> 6 == MEDIUM)
        value = value << 8 | at[before + 1];
    else if (more)
        value = kith_rdb_be(at + before + 1, more);
    *out = (struct length){.value = value, .bytes = 1 + more, .is_form = first >> 6 == FORM};
    return DONE;
}

static int read_length(struct kith_rdb *rdb, uint64_t *value)
{
    struct length length = {0};
    int status = look_length(rdb, 0, &length);
    if (status != DONE)
        return status;
    if (length.is_form)
        return kith_rdb_fail(rdb, KITH_ECORRUPT,
                             "a string stands where a length should: the file is damaged");
    use(rdb, length.bytes);
    *value = length.value;
    return DONE;
}

/* ---- strings ---- */

static int check_size(struct kith_rdb *rdb, uint64_t length)
{
    if (length <= rdb->limits.value_max)
        return DONE;
    return kith_rdb_fail(
        rdb, KITH_ETOOBIG,
        "a string of %llu bytes, and %llu are the limit: shorten it or remove its key at the source",
        (unsigned long long)length, (unsigned long long)rdb->limits.value_max);
}

/* A compressed string: its length as it is kept and as it will be. */
static int begin_compressed(struct kith_rdb *rdb, struct kith_buf *keep)
{
    struct length packed = {0}, expanded = {0};
    int status = look_length(rdb, 1, &packed);
    if (status == DONE)
        status = look_length(rdb, 1 + packed.bytes, &expanded);
    if (status != DONE)
        return status;
    if (packed.is_form || expanded.is_form)
        return kith_rdb_fail(rdb, KITH_ECORRUPT, "a compressed string has no length: the file is damaged");
    use(rdb, 1 + packed.bytes + expanded.bytes);
    if (!keep) {
        rdb->skip_left = packed.value;
        return DONE;
    }
    status = check_size(rdb, packed.value);
    if (status == DONE)
        status = check_size(rdb, expanded.value);
    if (status != DONE)
        return status;
    if (!expanded.value || expanded.value > kith_rdb_expanded_max(packed.value))
        return kith_rdb_fail(rdb, KITH_ECORRUPT, "%llu bytes cannot be what %llu were: the file is damaged",
                             (unsigned long long)packed.value, (unsigned long long)expanded.value);
    kith_buf_clear(&rdb->packed);
    rdb->filling = &rdb->packed;
    rdb->fill_left = packed.value;
    rdb->expanded = expanded.value;
    return DONE;
}

/* A number that stands for its digits. */
static int read_number_string(struct kith_rdb *rdb, unsigned form, struct kith_buf *keep)
{
    size_t width = (size_t)1 << form;
    char digits[KITH_NUM_INT64_CHARS];
    const uint8_t *at = look(rdb, 1 + width);
    if (!at)
        return NEED_MORE;
    size_t length = kith_num_format_int64(digits, kith_rdb_le_signed(at + 1, width));
    use(rdb, 1 + width);
    if (keep)
        kith_buf_append(keep, digits, length);
    return keep && keep->failed ? kith_rdb_no_memory(rdb) : DONE;
}

/* The head of a string. Its bytes are then kept, or passed over when `keep` is NULL, by read_on. */
static int begin_string(struct kith_rdb *rdb, struct kith_buf *keep)
{
    struct length length = {0};
    int status = look_length(rdb, 0, &length);
    if (status != DONE)
        return status;
    if (keep)
        kith_buf_clear(keep);
    if (length.is_form && length.value <= STRING_INT32)
        return read_number_string(rdb, (unsigned)length.value, keep);
    if (length.is_form && length.value == STRING_LZF)
        return begin_compressed(rdb, keep);
    if (length.is_form)
        return kith_rdb_fail(rdb, KITH_ECORRUPT,
                             "a string in form %llu, which there is not: the file is damaged",
                             (unsigned long long)length.value);
    status = keep ? check_size(rdb, length.value) : DONE;
    if (status != DONE)
        return status;
    use(rdb, length.bytes);
    if (keep) {
        rdb->filling = keep;
        rdb->fill_left = length.value;
    } else {
        rdb->skip_left = length.value;
    }
    return DONE;
}

static int keep_string(struct kith_rdb *rdb)
{
    KITH_ASSERT(rdb->text_count < RDB_TEXTS);
    int status = begin_string(rdb, &rdb->texts[rdb->text_count]);
    rdb->text_count += status == DONE;
    return status;
}

/* What was compressed is whole: the text it stands for is the last one. */
static int expand(struct kith_rdb *rdb)
{
    struct kith_buf *text = &rdb->texts[rdb->text_count - 1];
    char *room = kith_buf_reserve(text, (size_t)rdb->expanded);
    if (!room)
        return kith_rdb_no_memory(rdb);
    if (kith_rdb_expand(kith_buf_slice(&rdb->packed), room, (size_t)rdb->expanded))
        return kith_rdb_fail(rdb, KITH_ECORRUPT,
                             "a compressed string cannot be expanded: the file is damaged");
    text->length = (size_t)rdb->expanded;
    rdb->expanded = 0;
    return DONE;
}

/* Bytes that the last operation asked for: kept or passed over as they come. */
static int read_on(struct kith_rdb *rdb)
{
    const uint8_t *bytes;
    rdb->skip_left -= use_some(rdb, rdb->skip_left, &bytes);
    if (rdb->skip_left)
        return NEED_MORE;
    if (!rdb->filling)
        return DONE;
    size_t taken = use_some(rdb, rdb->fill_left, &bytes);
    kith_buf_append(rdb->filling, bytes, taken);
    rdb->fill_left -= taken;
    if (rdb->filling->failed)
        return kith_rdb_no_memory(rdb);
    if (rdb->fill_left)
        return NEED_MORE;
    rdb->filling = NULL;
    return rdb->expanded ? expand(rdb) : DONE;
}

/* ---- repetitions ---- */

/* Behind the mark that closes the repetition whose body is at `at`. */
static const char *behind_loop(const char *at)
{
    for (unsigned depth = 1; depth; at++) {
        depth += *at == '(' || *at == '[';
        depth -= *at == ')' || *at == ']';
    }
    return at;
}

/* rdb->op is behind the opening mark. */
static void begin_loop(struct kith_rdb *rdb, uint64_t count)
{
    if (!count) {
        rdb->op = behind_loop(rdb->op);
        return;
    }
    KITH_ASSERT(rdb->depth < RDB_DEPTH);
    rdb->loops[rdb->depth].body = rdb->op;
    rdb->loops[rdb->depth++].left = count;
}

static void end_round(struct kith_rdb *rdb)
{
    if (--rdb->loops[rdb->depth - 1].left)
        rdb->op = rdb->loops[rdb->depth - 1].body;
    else
        rdb->depth--;
}

/* ---- operations ---- */

static int read_header(struct kith_rdb *rdb)
{
    const uint8_t *at = look(rdb, HEADER_BYTES);
    if (!at)
        return NEED_MORE;
    rdb->is_valkey = memcmp(at, "VALKEY", 6) == 0;
    if (!rdb->is_valkey && memcmp(at, "REDIS", 5) != 0)
        return kith_rdb_fail(rdb, KITH_ECORRUPT,
                             "this is no RDB file: it does not begin with REDIS or VALKEY");
    uint32_t version = 0;
    for (size_t i = rdb->is_valkey ? 6 : 5; i < HEADER_BYTES; i++) {
        if (at[i] < '0' || at[i] > '9')
            return kith_rdb_fail(rdb, KITH_ECORRUPT,
                                 "the version in the header is no number: the file is damaged");
        version = version * 10 + (uint32_t)(at[i] - '0');
    }
    uint32_t newest = rdb->is_valkey ? KITH_RDB_VERSION_VALKEY : KITH_RDB_VERSION_MAX;
    if (version < 1 || version > newest)
        return kith_rdb_fail(rdb, KITH_EVERSION,
                             "version %u of the format, and %u is the newest that can be read: have the keys "
                             "written by an older server",
                             version, newest);
    use(rdb, HEADER_BYTES);
    rdb->version = version;
    return DONE;
}

/* A type's byte: chooses the program. */
static int read_type(struct kith_rdb *rdb)
{
    const uint8_t *at = look(rdb, 1);
    if (!at)
        return NEED_MORE;
    uint8_t byte = *at;
    rdb->type = kith_rdb_type_get(byte, rdb->is_valkey);
    if (!rdb->type)
        return kith_rdb_fail(
            rdb, KITH_EVERSION,
            "type %u, which cannot be read: the file is damaged, or of a server that is newer, or of "
            "one before its release",
            byte);
    use(rdb, 1);
    rdb->text_count = rdb->number_count = 0;
    rdb->op = byte >= MARK_FIRST ? rdb->type->program : "Sk";
    return DONE;
}

static int begin_value(struct kith_rdb *rdb)
{
    struct kith_buf name = rdb->texts[0];
    rdb->texts[0] = rdb->name;
    rdb->name = name;
    rdb->text_count = 0;
    rdb->key.name = kith_buf_slice(&rdb->name);
    rdb->key.kind = rdb->type->kind;
    rdb->key.type = rdb->type->name;
    rdb->op = rdb->type->program;
    /* A module's value may be a vector set: that is seen when its id was read. */
    if (rdb->key.kind != KITH_RDB_OTHER || *rdb->op == 'l')
        return DONE;
    char why[32];
    snprintf(why, sizeof why, "%ss are not there yet", rdb->key.type);
    int status = kith_rdb_do_skipped(rdb, why);
    return status ? status : DONE;
}

static int skip_bytes(struct kith_rdb *rdb, uint64_t count)
{
    rdb->skip_left = count;
    return DONE;
}

static int keep_number(struct kith_rdb *rdb)
{
    KITH_ASSERT(rdb->number_count < RDB_NUMBERS);
    int status = read_length(rdb, &rdb->numbers[rdb->number_count]);
    rdb->number_count += status == DONE;
    return status;
}

static int read_fixed(struct kith_rdb *rdb, size_t width, uint64_t *value)
{
    const uint8_t *at = look(rdb, width);
    if (!at)
        return NEED_MORE;
    *value = kith_rdb_le(at, width);
    use(rdb, width);
    return DONE;
}

/* -1 is how Valkey says that a field has no time. */
static int keep_time(struct kith_rdb *rdb)
{
    uint64_t value = 0;
    int status = read_fixed(rdb, 8, &value);
    if (status == DONE)
        rdb->numbers[rdb->number_count++] = value == UINT64_MAX ? 0 : value;
    return status;
}

static int read_expiry(struct kith_rdb *rdb, size_t width)
{
    uint64_t value = 0;
    int status = read_fixed(rdb, width, &value);
    if (status != DONE)
        return status;
    if (value > INT64_MAX)
        return kith_rdb_fail(rdb, KITH_ECORRUPT, "a key's time is before 1970: the file is damaged");
    rdb->key.expiry_ms = width == 4 ? (int64_t)value * 1000 : (int64_t)value;
    return DONE;
}

static int read_double(struct kith_rdb *rdb)
{
    uint64_t bits = 0;
    int status = read_fixed(rdb, sizeof rdb->score, &bits);
    if (status == DONE)
        memcpy(&rdb->score, &bits, sizeof bits);
    return status;
}

/* The length of a score's digits; three lengths are scores themselves. */
static int begin_digits(struct kith_rdb *rdb)
{
    enum { NOT_A_NUMBER = 253, INFINITE = 254, MINUS_INFINITE = 255 };
    const uint8_t *at = look(rdb, 1);
    if (!at)
        return NEED_MORE;
    uint8_t length = *at;
    use(rdb, 1);
    rdb->has_score = length >= NOT_A_NUMBER;
    rdb->score = length == INFINITE         ? (double)INFINITY
                 : length == MINUS_INFINITE ? (double)-INFINITY
                                            : (double)NAN;
    if (rdb->has_score)
        return DONE;
    rdb->filling = &rdb->texts[rdb->text_count++];
    rdb->fill_left = length;
    kith_buf_clear(rdb->filling);
    return DONE;
}

static int end_digits(struct kith_rdb *rdb)
{
    if (!rdb->has_score &&
        kith_num_parse_double(kith_rdb_text(rdb, rdb->text_count - 1), KITH_NUM_RANGE_OK, &rdb->score))
        return kith_rdb_fail(rdb, KITH_ECORRUPT, "a score is not a number: the file is damaged");
    return DONE;
}

static int read_database(struct kith_rdb *rdb)
{
    if (rdb->numbers[0] > INT32_MAX)
        return kith_rdb_fail(rdb, KITH_ECORRUPT, "database %llu: the file is damaged",
                             (unsigned long long)rdb->numbers[0]);
    rdb->key.db = (uint32_t)rdb->numbers[0];
    return DONE;
}

/* One part of a module's value: it tells what it is. After its end the program goes on, else here again. */
static int read_module_part(struct kith_rdb *rdb)
{
    uint64_t part = 0;
    int status = read_length(rdb, &part);
    if (status != DONE || part == MODULE_END)
        return status;
    rdb->op--;
    switch (part) {
    case MODULE_SIGNED:
    case MODULE_UNSIGNED:
        rdb->detour = 'L';
        return DONE;
    case MODULE_STRING:
        rdb->detour = 's';
        return DONE;
    case MODULE_FLOAT:
        return skip_bytes(rdb, sizeof(float));
    case MODULE_DOUBLE:
        return skip_bytes(rdb, sizeof(double));
    default:
        return kith_rdb_fail(rdb, KITH_ECORRUPT, "part %llu in a module's value: the file is damaged",
                             (unsigned long long)part);
    }
}

static int expect_module_part(struct kith_rdb *rdb, uint64_t wanted)
{
    uint64_t part = 0;
    int status = read_length(rdb, &part);
    if (status == DONE && part != wanted)
        return kith_rdb_fail(rdb, KITH_ECORRUPT,
                             "the vector set is not as Redis 8 writes it (%llu, not %llu)",
                             (unsigned long long)part, (unsigned long long)wanted);
    return status;
}

/* CRC-64 of Jones as Redis uses it: no inversion at either end, which is what isa-l does. */
static void add_sum(struct kith_rdb *rdb)
{
    size_t length = (size_t)(rdb->at - rdb->sum_from);
    if (length && !rdb->is_summed)
        rdb->sum = ~crc64_jones_refl(~rdb->sum, rdb->sum_from, length);
    rdb->sum_from = rdb->at;
}

static int end_data(struct kith_rdb *rdb)
{
    add_sum(rdb);
    rdb->is_summed = true;
    if (rdb->key.expiry_ms >= 0)
        return kith_rdb_fail(rdb, KITH_ECORRUPT, "a time without a key at the end: the file is damaged");
    rdb->op = rdb->version < VERSION_SUM ? "!" : "c!";
    return DONE;
}

static int read_sum(struct kith_rdb *rdb)
{
    uint64_t sum = 0;
    int status = read_fixed(rdb, 8, &sum);
    if (status == DONE && sum && sum != rdb->sum)
        return kith_rdb_fail(
            rdb, KITH_ECORRUPT,
            "the checksum is %016llx and should be %016llx: the file is damaged, have the server "
            "write it again",
            (unsigned long long)sum, (unsigned long long)rdb->sum);
    return status;
}

/* Operations that need no more bytes. */
static int tell(struct kith_rdb *rdb, char op)
{
    int status = KITH_OK;
    switch (op) {
    case 'B':
        status = kith_rdb_do_begin(rdb, NULL);
        break;
    case 'f':
        status = kith_rdb_do_field(rdb);
        break;
    case 'z':
        status = kith_rdb_do_member(rdb);
        break;
    case 'p':
        status = kith_rdb_do_packed(rdb);
        break;
    case 'E':
        status = kith_rdb_do_end(rdb);
        break;
    case 'v':
        status = kith_rdb_do_string(rdb);
        break;
    case 'X':
        kith_rdb_key_done(rdb);
        break;
    case 'i':
        status = kith_rdb_do_module(rdb);
        break;
    case 'h':
        status = kith_rdb_do_vectors(rdb);
        break;
    case 'V':
        status = kith_rdb_do_vector(rdb);
        break;
    case 'a':
        status = kith_rdb_do_aux(rdb);
        break;
    case 'o':
        status = kith_rdb_do_library(rdb);
        break;
    case 'm':
        status = kith_rdb_do_module_data(rdb);
        break;
    default:
        KITH_ASSERT(false);
    }
    return status ? status : DONE;
}

/* One operation; rdb->op is behind it already, and put back by the caller when more bytes are needed. */
static int carry_out(struct kith_rdb *rdb, char op)
{
    uint64_t ignored = 0;
    int status;
    switch (op) {
    case 'H':
        return read_header(rdb);
    case 'O':
        return read_type(rdb);
    case 'k':
        return begin_value(rdb);
    case 's':
        return begin_string(rdb, NULL);
    case 'S':
        return keep_string(rdb);
    case 'L':
        return read_length(rdb, &ignored);
    case 'l':
        return keep_number(rdb);
    case 'y':
        return read_length(rdb, &rdb->last);
    case 'n':
        return read_length(rdb, &rdb->count);
    case '1':
        return skip_bytes(rdb, 1);
    case '8':
        return skip_bytes(rdb, 8);
    case 'T':
        return skip_bytes(rdb, 16);
    case '(':
        status = read_length(rdb, &ignored);
        if (status == DONE)
            begin_loop(rdb, ignored);
        return status;
    case '[':
        begin_loop(rdb, rdb->count);
        return DONE;
    case ')':
    case ']':
        end_round(rdb);
        return DONE;
    case 'd':
        return read_double(rdb);
    case 'D':
        return begin_digits(rdb);
    case 'C':
        return end_digits(rdb);
    case 't':
        return keep_time(rdb);
    case 'x':
        return read_expiry(rdb, 8);
    case 'w':
        return read_expiry(rdb, 4);
    case 'b':
        return read_database(rdb);
    case 'M':
        return read_module_part(rdb);
    case 'u':
        return expect_module_part(rdb, MODULE_UNSIGNED);
    case 'U':
        return expect_module_part(rdb, MODULE_STRING);
    case 'e':
        return expect_module_part(rdb, MODULE_END);
    case 'Z':
        return end_data(rdb);
    case 'c':
        return read_sum(rdb);
    default:
        return tell(rdb, op);
    }
}

static int step(struct kith_rdb *rdb)
{
    int status = read_on(rdb);
    if (status != DONE)
        return status;
    if (rdb->detour) {
        status = carry_out(rdb, rdb->detour);
        rdb->detour = status == DONE ? 0 : rdb->detour;
        return status;
    }
    if (!*rdb->op)
        rdb->op = next_type;
    const char *op = rdb->op++;
    status = carry_out(rdb, *op);
    if (status == NEED_MORE)
        rdb->op = op;
    return status;
}

int kith_rdb_feed(struct kith_rdb *rdb, const void *data, size_t length, size_t *used)
{
    *used = 0;
    if (rdb->status)
        return rdb->status;
    rdb->at = rdb->sum_from = data;
    rdb->end = rdb->at + length;
    int status = DONE;
    while (status == DONE && !rdb->status) {
        if (*rdb->op == '!' && !rdb->detour)
            rdb->status = 1;
        else
            status = step(rdb);
    }
    add_sum(rdb);
    *used = (size_t)(rdb->at - (const uint8_t *)data);
    rdb->at = rdb->end = rdb->sum_from = NULL;
    return rdb->status;
}
