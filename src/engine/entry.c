/* Entries of the log as bytes. The decoder trusts nothing: a payload is read and checked as a whole, every
 * command looked up and its arguments counted, before the first of them runs. */
#include "base/varint.h"
#include "engine/state.h"

#include <stdlib.h>

enum { ENTRY_VERSION = 1 };

void kith_entry_begin(struct kith_buf *payload, int64_t time_ms, uint64_t seed)
{
    kith_buf_append_char(payload, ENTRY_VERSION);
    kith_buf_append_u64(payload, (uint64_t)time_ms);
    kith_buf_append_u64(payload, seed);
}

int kith_entry_time(struct kith_slice payload, int64_t *time_ms)
{
    struct kith_reader r = kith_reader(payload);
    uint8_t version = kith_reader_u8(&r);
    uint64_t time = kith_reader_u64(&r);
    if (r.failed || version == 0 || time > INT64_MAX)
        return KITH_ECORRUPT;
    if (version != ENTRY_VERSION)
        return KITH_EVERSION;
    *time_ms = (int64_t)time;
    return KITH_OK;
}

void kith_entry_append(struct kith_buf *payload, uint32_t db_index, const struct kith_slice *argv,
                       size_t argc)
{
    size_t bytes = 0;
    for (size_t i = 0; i < argc; i++)
        bytes += KITH_VARINT_MAX + argv[i].length;
    char *room = kith_buf_reserve(payload, bytes + 2 * KITH_VARINT_MAX), *p = room;
    if (!room)
        return;
    p += kith_varint_put(p, db_index);
    p += kith_varint_put(p, argc);
    for (size_t i = 0; i < argc; i++) {
        p += kith_varint_put(p, argv[i].length);
        if (argv[i].length)
            memcpy(p, argv[i].data, argv[i].length);
        p += argv[i].length;
    }
    payload->length += (size_t)(p - room);
}

void kith_plan_fini(struct kith_plan *plan)
{
    free(plan->commands);
    free(plan->argv);
    *plan = (struct kith_plan){0};
}

/* Room for one more command of `argc` arguments. */
static int reserve(struct kith_plan *plan, size_t argc)
{
    if (plan->command_count == plan->command_capacity) {
        size_t capacity = plan->command_capacity ? 2 * plan->command_capacity : 64;
        struct kith_planned *grown = realloc(plan->commands, capacity * sizeof *grown);
        if (!grown)
            return KITH_ENOMEM;
        plan->commands = grown;
        plan->command_capacity = capacity;
    }
    if (plan->argument_capacity - plan->argument_count < argc) {
        size_t capacity = 2 * plan->argument_capacity + argc + 256;
        struct kith_slice *grown = realloc(plan->argv, capacity * sizeof *grown);
        if (!grown)
            return KITH_ENOMEM;
        plan->argv = grown;
        plan->argument_capacity = capacity;
    }
    return KITH_OK;
}

static int decode_command(struct kith_plan *plan, const struct kith_engine *engine, struct kith_reader *r)
{
    uint64_t db_index = kith_reader_varint(r), argc = kith_reader_varint(r);
    /* Every argument takes a byte at least, so that a made-up count cannot make us allocate. */
    if (r->failed || argc == 0 || argc > r->length)
        return KITH_ECORRUPT;
    int status = reserve(plan, (size_t)argc);
    if (status)
        return status;
    struct kith_slice *argv = plan->argv + plan->argument_count;
    for (size_t i = 0; i < argc; i++)
        argv[i] = kith_reader_slice(r);
    if (r->failed)
        return KITH_ECORRUPT;
    const struct kith_command *command = kith_engine_lookup(engine, argv, (size_t)argc);
    if (!command || db_index >= engine->db_count)
        return KITH_EVERSION;
    if (!(command->flags & KITH_CMD_WRITE) || !command->handler ||
        !kith_command_arity_fits(command, (size_t)argc))
        return KITH_ECORRUPT;
    plan->commands[plan->command_count++] = (struct kith_planned){
        .command = command,
        .first_argument = plan->argument_count,
        .argc = (size_t)argc,
        .db_index = (uint32_t)db_index,
    };
    plan->argument_count += (size_t)argc;
    return KITH_OK;
}

int kith_plan_decode(struct kith_plan *plan, const struct kith_engine *engine, struct kith_slice payload)
{
    struct kith_reader r = kith_reader(payload);
    plan->command_count = plan->argument_count = 0;
    uint8_t version = kith_reader_u8(&r);
    plan->time_ms = (int64_t)kith_reader_u64(&r);
    plan->seed = kith_reader_u64(&r);
    if (r.failed || version == 0)
        return KITH_ECORRUPT;
    if (version != ENTRY_VERSION)
        return KITH_EVERSION;
    if (plan->time_ms < 0)
        return KITH_ECORRUPT;
    while (r.length > 0) {
        int status = decode_command(plan, engine, &r);
        if (status)
            return status;
    }
    return KITH_OK;
}
