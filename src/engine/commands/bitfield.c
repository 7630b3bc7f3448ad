/* BITFIELD: integers of 1 to 64 bits at any bit offset of a string. */
#include "base/assert.h"
#include "engine/commands/bits.h"
#include "engine/keyspace.h"

#include <stdlib.h>

enum kind { GET, SET, INCRBY };
enum overflow { WRAP, SAT, FAIL };

struct operation {
    enum kind kind;
    enum overflow overflow;
    bool is_signed;
    unsigned width;
    uint64_t offset;
    int64_t value; /* SET, INCRBY */
};

struct program {
    struct operation *operations; /* owned */
    size_t count;
    uint64_t write_end; /* bytes that the string must have for what is written; 0: nothing is */
};

/* i1..i64, u1..u63. */
static bool parse_encoding(struct kith_call *call, struct kith_slice text, struct operation *operation)
{
    int64_t width;
    operation->is_signed = text.length && text.data[0] == 'i';
    if (text.length && (operation->is_signed || text.data[0] == 'u') &&
        kith_num_parse_int64(kith_slice(text.data + 1, text.length - 1), &width) == KITH_OK && width >= 1 &&
        width <= (operation->is_signed ? 64 : 63)) {
        operation->width = (unsigned)width;
        return true;
    }
    kith_reply_error(call->reply,
                     "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not "
                     "supported but i64 is.");
    return false;
}

static bool parse_overflow(struct kith_call *call, size_t index, enum overflow *overflow)
{
    static const char *const names[] = {"wrap", "sat", "fail"};
    for (int i = 0; i < 3; i++) {
        if (!kith_call_is(call, index, names[i]))
            continue;
        *overflow = (enum overflow)i;
        return true;
    }
    kith_reply_error(call->reply, "ERR Invalid OVERFLOW type specified");
    return false;
}

/* One GET, SET or INCRBY at argv[*index], which then stands behind it. */
static bool parse_operation(struct kith_call *call, size_t *index, struct program *program,
                            enum overflow overflow)
{
    static const char *const names[] = {"get", "set", "incrby"};
    size_t i = *index, rest = call->argc - i - 1;
    int kind = 0;
    while (kind < 3 && !kith_call_is(call, i, names[kind]))
        kind++;
    if (kind == 3 || rest < (kind == GET ? 2u : 3u)) {
        kith_call_syntax_error(call);
        return false;
    }
    struct operation *operation = &program->operations[program->count];
    operation->kind = (enum kind)kind;
    operation->overflow = overflow;
    if (!parse_encoding(call, call->argv[i + 1], operation) ||
        !kith_bit_offset_parse(call, call->argv[i + 2], operation->width, true, &operation->offset))
        return false;
    if (kind != GET) {
        if (!kith_call_int(call, i + 3, &operation->value, NULL))
            return false;
        uint64_t end = (operation->offset + operation->width + 7) / 8;
        if (end > program->write_end)
            program->write_end = end;
    }
    program->count++;
    *index = i + (kind == GET ? 3 : 4);
    return true;
}

static bool parse_program(struct kith_call *call, struct program *program, bool read_only)
{
    enum overflow overflow = WRAP;
    program->operations = calloc(call->argc, sizeof *program->operations);
    if (!program->operations) {
        kith_call_no_memory(call);
        return false;
    }
    for (size_t i = 2; i < call->argc;) {
        if (kith_call_is(call, i, "overflow") && i + 1 < call->argc) {
            if (!parse_overflow(call, i + 1, &overflow))
                return false;
            i += 2;
        } else if (!parse_operation(call, &i, program, overflow)) {
            return false;
        }
    }
    if (!read_only || !program->write_end)
        return true;
    kith_reply_error(call->reply, "ERR BITFIELD_RO only supports the GET subcommand");
    return false;
}

static uint64_t read_bits(struct kith_slice bytes, uint64_t offset, unsigned width)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < width; i++, offset++) {
        bool bit = offset / 8 < bytes.length && ((uint8_t)bytes.data[offset / 8] >> (7 - offset % 8) & 1);
        value = value << 1 | bit;
    }
    return value;
}

static void write_bits(char *bytes, uint64_t offset, unsigned width, uint64_t value)
{
    KITH_ASSERT(bytes);
    for (unsigned i = 0; i < width; i++, offset++) {
        uint8_t mask = (uint8_t)(0x80 >> offset % 8), byte = (uint8_t)bytes[offset / 8];
        bool bit = value >> (width - 1 - i) & 1;
        bytes[offset / 8] = (char)(bit ? byte | mask : byte & ~mask);
    }
}

/* The low `width` bits as the number that they are. */
static int64_t as_number(uint64_t bits, const struct operation *operation)
{
    KITH_ASSERT(operation->width >= 1 && operation->width <= 64);
    unsigned unused = 64 - operation->width;
    if (operation->is_signed)
        return (int64_t)(bits << unused) >> unused;
    return (int64_t)(bits << unused >> unused);
}

/* Brings `wanted` into the field's range as its overflow rule says; false: it fails. */
static bool fit(const struct operation *operation, __int128 wanted, int64_t *value)
{
    __int128 one = 1, least = operation->is_signed ? -(one << (operation->width - 1)) : 0;
    __int128 most =
        operation->is_signed ? (one << (operation->width - 1)) - 1 : (one << operation->width) - 1;
    if (wanted >= least && wanted <= most)
        *value = (int64_t)wanted;
    else if (operation->overflow == FAIL)
        return false;
    else if (operation->overflow == SAT)
        *value = (int64_t)(wanted < least ? least : most);
    else
        *value = as_number((uint64_t)wanted, operation);
    return true;
}

/* A negative number given to an unsigned field counts as its 64-bit pattern, as in Redis. */
static __int128 set_value(const struct operation *operation)
{
    return operation->is_signed ? (__int128)operation->value : (__int128)(uint64_t)operation->value;
}

static void change(struct kith_call *call, const struct operation *operation, char *bytes, int64_t old)
{
    __int128 wanted = operation->kind == SET ? set_value(operation) : (__int128)old + operation->value;
    int64_t value;
    if (!fit(operation, wanted, &value)) {
        kith_reply_null(call->reply);
        return;
    }
    write_bits(bytes, operation->offset, operation->width, (uint64_t)value);
    kith_reply_int(call->reply, operation->kind == SET ? old : value);
}

static void run(struct kith_call *call, const struct program *program, struct kith_slice string, char *bytes)
{
    kith_reply_array(call->reply, program->count);
    for (size_t i = 0; i < program->count; i++) {
        const struct operation *operation = &program->operations[i];
        int64_t old = as_number(read_bits(string, operation->offset, operation->width), operation);
        if (operation->kind == GET)
            kith_reply_int(call->reply, old);
        else
            change(call, operation, bytes, old);
    }
}

static void run_writing(struct kith_call *call, const struct program *program)
{
    struct kith_key key;
    int found = kith_key_open_write(call, 1, KITH_STRING, &key);
    if (found < 0)
        return;
    size_t length = found ? kith_key_string(&key).length : 0;
    if (length < program->write_end)
        length = program->write_end;
    char *bytes;
    if (kith_key_resize_string(&key, length, &bytes) != KITH_OK)
        kith_call_no_memory(call);
    else
        run(call, program, kith_slice(bytes, length), bytes);
}

static void run_reading(struct kith_call *call, const struct program *program)
{
    struct kith_key key;
    int found = kith_key_open_read(call, 1, KITH_STRING, &key);
    if (found >= 0)
        run(call, program, found ? kith_key_string(&key) : kith_slice("", 0), NULL);
}

static void bitfield(struct kith_call *call, bool read_only)
{
    struct program program = {0};
    if (parse_program(call, &program, read_only)) {
        if (program.write_end)
            run_writing(call, &program);
        else
            run_reading(call, &program);
    }
    free(program.operations);
}

void kith_bitfield_command(struct kith_call *call)
{
    bitfield(call, false);
}

void kith_bitfield_ro_command(struct kith_call *call)
{
    bitfield(call, true);
}
