/* The SCAN family's options and reply. */
#include "engine/commands/scan.h"

#include "base/num.h"
#include "base/status.h"
#include "engine/limits.h"

/* As Redis reads it: nothing is 0, and a negative number is one past every cursor. */
static bool parse_cursor(struct kith_slice text, uint64_t *cursor)
{
    int64_t negative;
    *cursor = 0;
    if (!text.length || kith_num_parse_uint64(text, cursor) == KITH_OK)
        return true;
    *cursor = UINT64_MAX;
    return kith_num_parse_int64(text, &negative) == KITH_OK;
}

bool kith_scan_cursor_parse(struct kith_call *call, size_t index, uint64_t *cursor)
{
    if (parse_cursor(call->argv[index], cursor))
        return true;
    kith_reply_error(call->reply, "ERR invalid cursor");
    return false;
}

bool kith_scan_options_parse(struct kith_call *call, size_t index, unsigned flags,
                             struct kith_scan_options *options)
{
    *options = (struct kith_scan_options){.count = 10};
    for (size_t i = index; i < call->argc; i += 2) {
        bool has_value = i + 1 < call->argc;
        if (has_value && kith_call_is(call, i, "count")) {
            int64_t count;
            if (!kith_call_int(call, i + 1, &count, NULL))
                return false;
            if (count < 1) {
                kith_call_syntax_error(call);
                return false;
            }
            options->count = (uint64_t)count;
        } else if (has_value && kith_call_is(call, i, "match")) {
            options->pattern = call->argv[i + 1];
        } else if (has_value && flags & KITH_SCAN_TYPE && kith_call_is(call, i, "type")) {
            options->type = call->argv[i + 1];
        } else {
            kith_call_syntax_error(call);
            return false;
        }
    }
    return true;
}

void kith_scan_output_init(struct kith_scan_output *output, const struct kith_call *call)
{
    *output = (struct kith_scan_output){0};
    kith_reply_init(&output->items, &output->buf, call->reply->protocol);
}

void kith_scan_output_reply(struct kith_scan_output *output, struct kith_call *call, uint64_t cursor)
{
    if (output->buf.failed) {
        kith_call_no_memory(call);
    } else {
        kith_reply_array(call->reply, 2);
        kith_reply_bulk_format(call->reply, "%llu", (unsigned long long)cursor);
        kith_reply_array(call->reply, output->item_count);
        kith_reply_raw(call->reply, output->buf.data, output->buf.length);
    }
    kith_buf_fini(&output->buf);
}

bool kith_random_count_parse(struct kith_call *call, size_t index, bool pairs, int64_t *count)
{
    if (!kith_call_int_in(call, index, INT64_MIN, INT64_MAX, count, NULL))
        return false;
    const char *error = NULL;
    if (*count == INT64_MIN)
        error = "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807";
    else if (*count < -KITH_RANDOM_REPEATS_MAX || (pairs && *count > INT64_MAX / 2))
        error = "ERR value is out of range, a count must be at least -16777216";
    if (error)
        kith_reply_error(call->reply, error);
    return !error;
}
