/* What every handler needs: the frequent errors in their exact wording, and arguments as numbers. */
#include "base/num.h"
#include "base/status.h"
#include "engine/command.h"

#include <math.h>

void kith_call_wrong_type(struct kith_call *call)
{
    kith_reply_error(call->reply, "WRONGTYPE Operation against a key holding the wrong kind of value");
}

void kith_call_syntax_error(struct kith_call *call)
{
    kith_reply_error(call->reply, "ERR syntax error");
}

void kith_call_no_memory(struct kith_call *call)
{
    kith_reply_error(call->reply, "OOM out of memory, nothing was changed: remove keys or add memory");
}

void kith_call_wrong_arity(struct kith_call *call)
{
    kith_reply_error_format(call->reply, "ERR wrong number of arguments for '%s' command",
                            call->command->name);
}

bool kith_call_int(struct kith_call *call, size_t index, int64_t *value, const char *error)
{
    if (index < call->argc && kith_num_parse_int64(call->argv[index], value) == KITH_OK)
        return true;
    kith_reply_error(call->reply, error ? error : "ERR value is not an integer or out of range");
    return false;
}

bool kith_call_int_in(struct kith_call *call, size_t index, int64_t least, int64_t most, int64_t *value,
                      const char *error)
{
    int64_t parsed;
    if (index < call->argc && kith_num_parse_int64(call->argv[index], &parsed) == KITH_OK &&
        parsed >= least && parsed <= most) {
        *value = parsed;
        return true;
    }
    kith_reply_error(call->reply, error ? error : "ERR value is not an integer or out of range");
    return false;
}

bool kith_call_double(struct kith_call *call, size_t index, double *value, const char *error)
{
    if (index < call->argc && kith_num_parse_double(call->argv[index], 0, value) == KITH_OK)
        return true;
    kith_reply_error(call->reply, error ? error : "ERR value is not a valid float");
    return false;
}

bool kith_call_is(const struct kith_call *call, size_t index, const char *word)
{
    return index < call->argc && kith_slice_is(call->argv[index], word);
}
