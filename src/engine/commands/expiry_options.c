/* EX, PX, EXAT, PXAT. */
#include "engine/commands/expiry_options.h"

bool kith_expiry_option_take(struct kith_call *call, size_t *index, struct kith_expiry_option *option)
{
    static const struct {
        const char *word;
        enum kith_expiry_kind kind;
    } words[] = {{"ex", KITH_EXPIRY_EX},
                 {"px", KITH_EXPIRY_PX},
                 {"exat", KITH_EXPIRY_EXAT},
                 {"pxat", KITH_EXPIRY_PXAT}};
    if (option->kind != KITH_EXPIRY_NONE || *index + 1 >= call->argc)
        return false;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (!kith_call_is(call, *index, words[i].word))
            continue;
        *option = (struct kith_expiry_option){words[i].kind, ++*index};
        return true;
    }
    return false;
}

bool kith_expiry_option_resolve(struct kith_call *call, const struct kith_expiry_option *option,
                                int64_t *when_ms)
{
    enum kith_expiry_kind kind = option->kind;
    int64_t value;
    *when_ms = -1;
    if (kind == KITH_EXPIRY_NONE || kind == KITH_EXPIRY_KEEP || kind == KITH_EXPIRY_PERSIST)
        return true;
    if (!kith_call_int(call, option->argument, &value, NULL))
        return false;
    bool in_seconds = kind == KITH_EXPIRY_EX || kind == KITH_EXPIRY_EXAT;
    bool relative = kind == KITH_EXPIRY_EX || kind == KITH_EXPIRY_PX;
    if (value <= 0 || (in_seconds && __builtin_mul_overflow(value, 1000, &value)) ||
        (relative && __builtin_add_overflow(value, call->now_ms, &value))) {
        kith_reply_error_format(call->reply, "ERR invalid expire time in '%s' command", call->command->name);
        return false;
    }
    *when_ms = value;
    return true;
}
