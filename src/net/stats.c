/* Counting must cost next to nothing: a command's counters are found by the address of its row, an error's by
 * its code word (errors are rare), and rates are differences of totals. */
#include "net/stats.h"

#include "base/assert.h"

#include <string.h>

struct command_stats *stats_of_command(struct stats *stats, const struct kith_command *command)
{
    size_t at = ((uintptr_t)command >> 4) * 0x9e3779b97f4a7c15ull >> 54;
    static_assert(STATS_COMMANDS == 1 << 10, "the shift above gives ten bits");
    for (size_t probes = 0; probes < STATS_COMMANDS / 2; probes++) {
        struct command_stats *entry = &stats->commands[at];
        if (entry->command == command)
            return entry;
        if (!entry->command) {
            entry->command = command;
            return entry;
        }
        at = (at + 1) % STATS_COMMANDS;
    }
    return &stats->commands[at];
}

void stats_count_error(struct stats *stats, struct kith_slice reply)
{
    size_t length = 0;
    stats->total.error_replies++;
    if (!reply.length || reply.data[0] != '-')
        return;
    reply = kith_slice(reply.data + 1, reply.length - 1);
    while (length < reply.length && length < sizeof stats->errors[0].code - 1 && reply.data[length] != ' ' &&
           reply.data[length] != '\r')
        length++;
    size_t i = 0;
    for (; i < STATS_ERRORS - 1 && stats->errors[i].count; i++)
        if (strlen(stats->errors[i].code) == length && memcmp(stats->errors[i].code, reply.data, length) == 0)
            break;
    struct error_stats *entry = &stats->errors[i];
    if (!entry->count) {
        memcpy(entry->code, reply.data, length);
        entry->code[length] = '\0';
    }
    entry->count++;
}

static uint64_t rate_sample(struct rate *rate, uint64_t total, uint64_t elapsed_ms)
{
    uint64_t difference = total >= rate->last ? total - rate->last : 0, sum = 0;
    rate->last = total;
    rate->samples[rate->next] = difference * 1000 / elapsed_ms;
    rate->next = (rate->next + 1) % STATS_SAMPLES;
    for (unsigned i = 0; i < STATS_SAMPLES; i++)
        sum += rate->samples[i];
    return sum / STATS_SAMPLES;
}

void stats_sample(struct stats *stats, uint64_t now_ms)
{
    uint64_t elapsed = now_ms - stats->sampled_ms;
    if (!elapsed)
        return;
    stats->sampled_ms = now_ms;
    stats->total.ops_per_s = rate_sample(&stats->ops, stats->total.commands_processed, elapsed);
    stats->total.input_bytes_per_s = rate_sample(&stats->input, stats->total.input_bytes, elapsed);
    stats->total.output_bytes_per_s = rate_sample(&stats->output, stats->total.output_bytes, elapsed);
}

void stats_reset(struct stats *stats)
{
    uint64_t sampled_ms = stats->sampled_ms;
    memset(stats, 0, sizeof *stats);
    stats->sampled_ms = sampled_ms;
}
