/* Bitmap commands: a string seen as bits, bit 0 being the highest bit of the first byte. */
#include "engine/commands/bits.h"
#include "engine/commands/groups.h"
#include "engine/keyspace.h"
#include "engine/limits.h"

#include <stdlib.h>

bool kith_bit_offset_parse(struct kith_call *call, struct kith_slice text, unsigned width, bool by_width,
                           uint64_t *offset)
{
    bool multiplied = by_width && width && text.length && text.data[0] == '#';
    if (multiplied)
        text = kith_slice(text.data + 1, text.length - 1);
    int64_t value;
    uint64_t most = KITH_STRING_BYTES_MAX * 8 - 1;
    if (kith_num_parse_int64(text, &value) != KITH_OK || value < 0 || (uint64_t)value > most ||
        (multiplied && (uint64_t)value * width > most)) {
        kith_reply_error(call->reply, "ERR bit offset is not an integer or out of range");
        return false;
    }
    *offset = multiplied ? (uint64_t)value * width : (uint64_t)value;
    if (*offset + (width ? width - 1 : 0) <= most)
        return true;
    kith_reply_error(call->reply, "ERR bit offset is not an integer or out of range");
    return false;
}

static bool get_bit(struct kith_slice bytes, uint64_t offset)
{
    return offset / 8 < bytes.length && ((uint8_t)bytes.data[offset / 8] >> (7 - offset % 8) & 1);
}

static void setbit_command(struct kith_call *call)
{
    uint64_t offset;
    int64_t bit;
    if (!kith_bit_offset_parse(call, call->argv[2], 0, false, &offset) ||
        !kith_call_int_in(call, 3, 0, 1, &bit, "ERR bit is not an integer or out of range"))
        return;
    struct kith_key key;
    int found = kith_key_open_write(call, 1, KITH_STRING, &key);
    if (found < 0)
        return;
    size_t length = found ? kith_key_string(&key).length : 0;
    char *bytes;
    if (kith_key_resize_string(&key, offset / 8 < length ? length : offset / 8 + 1, &bytes) != KITH_OK) {
        kith_call_no_memory(call);
        return;
    }
    uint8_t mask = (uint8_t)(0x80 >> offset % 8), old = (uint8_t)bytes[offset / 8];
    bytes[offset / 8] = (char)(bit ? old | mask : old & ~mask);
    kith_reply_int(call->reply, (old & mask) != 0);
}

static void getbit_command(struct kith_call *call)
{
    uint64_t offset;
    struct kith_key key;
    if (!kith_bit_offset_parse(call, call->argv[2], 0, false, &offset))
        return;
    int found = kith_key_open_read(call, 1, KITH_STRING, &key);
    if (found >= 0)
        kith_reply_int(call->reply, found && get_bit(kith_key_string(&key), offset));
}

/* ---- BITCOUNT and BITPOS ---- */

/* Bits [first, end). */
struct bit_range {
    uint64_t first, end;
    bool end_given;
};

/* start, end and the unit from argv[index] on, against `bytes`. False after an error reply. BITCOUNT wants both ends and
 * takes a reversed pair that counts from the end for empty, before it looks at the unit; BITPOS does neither. */
static bool parse_range(struct kith_call *call, size_t index, bool counting, struct kith_slice bytes,
                        struct bit_range *range)
{
    int64_t start = 0, end = -1;
    size_t given = call->argc > index ? call->argc - index : 0;
    if (given > 3 || (given == 1 && counting)) {
        kith_call_syntax_error(call);
        return false;
    }
    bool by_bit = given == 3 && kith_call_is(call, index + 2, "bit");
    bool unit_is_wrong = given == 3 && !by_bit && !kith_call_is(call, index + 2, "byte");
    if (given >= 1 && !kith_call_int(call, index, &start, NULL))
        return false;
    if (!(unit_is_wrong && !counting) && given >= 2 && !kith_call_int(call, index + 1, &end, NULL))
        return false;
    *range = (struct bit_range){.end_given = given >= 2};
    if (counting && start < 0 && end < 0 && start > end)
        return true;
    if (unit_is_wrong) {
        kith_call_syntax_error(call);
        return false;
    }
    int64_t total = (int64_t)bytes.length * (by_bit ? 8 : 1);
    start = start < 0 ? (start + total < 0 ? 0 : start + total) : start;
    end = end < 0 ? (end + total < 0 ? 0 : end + total) : end;
    if (end >= total)
        end = total - 1;
    if (start > end || total == 0)
        return true;
    uint64_t unit = by_bit ? 1 : 8;
    range->first = (uint64_t)start * unit;
    range->end = ((uint64_t)end + 1) * unit;
    return true;
}

/* The string at argv[1]; for a missing key the reply is `missing`, whatever the other arguments are. */
static bool open_bits(struct kith_call *call, int64_t missing, struct kith_slice *bytes)
{
    struct kith_key key;
    int found = kith_key_open_read(call, 1, KITH_STRING, &key);
    if (found > 0)
        *bytes = kith_key_string(&key);
    else if (found == 0)
        kith_reply_int(call->reply, missing);
    return found > 0;
}

static uint64_t count_bits(struct kith_slice bytes, uint64_t first, uint64_t end)
{
    uint64_t count = 0;
    for (; first < end && first % 8; first++)
        count += get_bit(bytes, first);
    for (; first + 64 <= end; first += 64) {
        uint64_t word;
        memcpy(&word, bytes.data + first / 8, sizeof word);
        count += (uint64_t)__builtin_popcountll(word);
    }
    for (; first < end; first++)
        count += get_bit(bytes, first);
    return count;
}

static void bitcount_command(struct kith_call *call)
{
    struct kith_slice bytes;
    struct bit_range range;
    if (open_bits(call, 0, &bytes) && parse_range(call, 2, true, bytes, &range))
        kith_reply_int(call->reply, (int64_t)count_bits(bytes, range.first, range.end));
}

/* The first such bit in [first, end), or `end`. */
static uint64_t find_bit(struct kith_slice bytes, bool bit, uint64_t first, uint64_t end)
{
    uint8_t skipped = bit ? 0x00 : 0xff;
    while (first < end) {
        if (first % 8 == 0 && first + 8 <= end && (uint8_t)bytes.data[first / 8] == skipped) {
            first += 8;
            continue;
        }
        if (get_bit(bytes, first) == bit)
            return first;
        first++;
    }
    return end;
}

static void bitpos_command(struct kith_call *call)
{
    int64_t bit;
    struct kith_slice bytes;
    struct bit_range range;
    if (!kith_call_int(call, 2, &bit, NULL))
        return;
    if (bit != 0 && bit != 1) {
        kith_reply_error(call->reply, "ERR The bit argument must be 1 or 0.");
        return;
    }
    /* A missing key is an endless run of zeros. */
    if (!open_bits(call, bit ? -1 : 0, &bytes) || !parse_range(call, 3, false, bytes, &range))
        return;
    uint64_t found = range.first < range.end ? find_bit(bytes, bit, range.first, range.end) : range.end;
    if (range.first >= range.end || (found == range.end && (bit || range.end_given)))
        kith_reply_int(call->reply, -1);
    else
        kith_reply_int(call->reply, (int64_t)found); /* the first zero may be the one behind the string */
}

/* ---- BITOP ---- */

enum operation { AND, OR, XOR, NOT };

struct sources {
    struct kith_slice *strings; /* owned */
    size_t count, longest;
};

static bool open_sources(struct kith_call *call, struct sources *sources)
{
    sources->strings = calloc(call->argc - 3, sizeof *sources->strings);
    if (!sources->strings) {
        kith_call_no_memory(call);
        return false;
    }
    for (size_t i = 3; i < call->argc; i++) {
        struct kith_key key;
        int found = kith_key_open_read(call, i, KITH_STRING, &key);
        if (found < 0)
            return false;
        struct kith_slice *string = &sources->strings[sources->count++];
        *string = found ? kith_key_string(&key) : kith_slice("", 0);
        if (string->length > sources->longest)
            sources->longest = string->length;
    }
    return true;
}

static char combine(const struct sources *sources, enum operation operation, size_t at)
{
    uint8_t result = 0;
    for (size_t i = 0; i < sources->count; i++) {
        struct kith_slice string = sources->strings[i];
        uint8_t byte = at < string.length ? (uint8_t)string.data[at] : 0;
        if (i == 0)
            result = operation == NOT ? (uint8_t)~byte : byte;
        else if (operation == AND)
            result &= byte;
        else if (operation == OR)
            result |= byte;
        else
            result ^= byte;
    }
    return (char)result;
}

static void store_result(struct kith_call *call, const struct sources *sources, enum operation operation)
{
    struct kith_key key;
    char *result = malloc(sources->longest + 1);
    if (!result) {
        kith_call_no_memory(call);
        return;
    }
    for (size_t at = 0; at < sources->longest; at++)
        result[at] = combine(sources, operation, at);
    bool exists = kith_key_find_for_write(call, call->argv[2], &key); /* the sources may end here */
    if (!sources->longest && exists)
        kith_key_remove(&key);
    if (sources->longest && kith_key_set_string(&key, kith_slice(result, sources->longest), false) != KITH_OK)
        kith_call_no_memory(call);
    else
        kith_reply_int(call->reply, (int64_t)sources->longest);
    free(result);
}

static void bitop_command(struct kith_call *call)
{
    static const char *const names[] = {"and", "or", "xor", "not"};
    struct sources sources = {0};
    int operation = 0;
    while (operation < 4 && !kith_call_is(call, 1, names[operation]))
        operation++;
    if (operation == 4)
        kith_call_syntax_error(call);
    else if (operation == NOT && call->argc != 4)
        kith_reply_error(call->reply, "ERR BITOP NOT must be called with a single source key.");
    else if (open_sources(call, &sources))
        store_result(call, &sources, (enum operation)operation);
    free(sources.strings);
}

/* clang-format off */
#define ROW(command_name, command_arity, command_flags, access) \
    .name = command_name, .arity = command_arity, .flags = command_flags, .keys = {1, 1, 1}, .key_flags = access, \
    .categories = "bitmap", .group = "bitmap"

const struct kith_command kith_bitmap_commands[] = {
    {ROW("bitcount", -2, KITH_CMD_READONLY, "RO access"), .since = "2.6.0", .complexity = "O(n) for n bytes",
     .summary = "Counts the bits that are set in a string.", .syntax = "key [start:integer end:integer [BYTE | BIT]]",
     .handler = bitcount_command},
    {ROW("bitfield", -2, KITH_CMD_WRITE | KITH_CMD_DENYOOM, "RW access update"), .since = "3.2.0", .complexity = "O(1) an operation",
     .summary = "Reads and writes integers of any width inside a string.",
     .syntax = "key [(GET encoding offset | [OVERFLOW (WRAP | SAT | FAIL)] (SET encoding offset value:integer | INCRBY "
               "encoding offset increment:integer)) ...]",
     .handler = kith_bitfield_command},
    {ROW("bitfield_ro", -2, KITH_CMD_READONLY | KITH_CMD_FAST, "RO access"), .since = "6.0.0", .complexity = "O(1) an operation",
     .summary = "Reads integers of any width inside a string.",
     .syntax = "key [GET encoding offset ...]", .handler = kith_bitfield_ro_command},
    {.name = "bitop", .arity = -4, .flags = KITH_CMD_WRITE | KITH_CMD_DENYOOM, .keys = {2, -1, 1}, .key_flags = "OW update",
     .categories = "bitmap", .group = "bitmap", .since = "2.6.0", .complexity = "O(n) for n bytes",
     .summary = "Combines strings bit by bit and stores the result.", .syntax = "(AND | OR | XOR | NOT) destkey:key key [key ...]",
     .handler = bitop_command},
    {ROW("bitpos", -3, KITH_CMD_READONLY, "RO access"), .since = "2.8.7", .complexity = "O(n) for n bytes",
     .summary = "Finds the first bit that is set or clear in a string.",
     .syntax = "key bit:integer [start:integer [end:integer [BYTE | BIT]]]", .handler = bitpos_command},
    {ROW("getbit", 3, KITH_CMD_READONLY | KITH_CMD_FAST, "RO access"), .since = "2.2.0", .complexity = "O(1)",
     .summary = "Returns one bit of a string.", .syntax = "key offset:integer", .handler = getbit_command},
    {ROW("setbit", 4, KITH_CMD_WRITE | KITH_CMD_DENYOOM, "RW access update"), .since = "2.2.0", .complexity = "O(1)",
     .summary = "Sets or clears one bit of a string and returns what it was.", .syntax = "key offset:integer value:integer",
     .handler = setbit_command},
    {0},
};
