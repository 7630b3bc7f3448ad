/* Counters of a server: totals, rates, and one line per command and per error code. */
#ifndef KITH_NET_STATS_H
#define KITH_NET_STATS_H

#include "net/server.h"

enum { STATS_COMMANDS = 1024, STATS_ERRORS = 64, STATS_SAMPLES = 16 };

struct command_stats {
    const struct kith_command *command;
    uint64_t calls, rejected, failed;
};

struct error_stats {
    char code[24];
    uint64_t count;
};

struct rate {
    uint64_t last, samples[STATS_SAMPLES];
    unsigned next;
};

struct stats {
    struct kith_server_stats total;
    struct command_stats commands[STATS_COMMANDS]; /* open addressing by the row's address; never full */
    struct error_stats errors[STATS_ERRORS];       /* the last one takes what does not fit */
    struct rate ops, input, output;
    uint64_t sampled_ms;
};

/* The counters of a row: one for all when the table is full. */
struct command_stats *stats_of_command(struct stats *stats, const struct kith_command *command);
/* Counts the code word of an error reply ("-ERR ..."). */
void stats_count_error(struct stats *stats, struct kith_slice reply);
/* Takes a sample of the rates; call about ten times a second. */
void stats_sample(struct stats *stats, uint64_t now_ms);
void stats_reset(struct stats *stats);

#endif
