/* What commands on collections have in common: the SCAN family's options and reply, the counts of the random ones. */
#ifndef KITH_ENGINE_COMMANDS_SCAN_H
#define KITH_ENGINE_COMMANDS_SCAN_H

#include "engine/command.h"

struct kith_scan_options {
    uint64_t count;            /* how many to look at, at least 1; 10 unless told */
    struct kith_slice pattern; /* data NULL: none given */
    struct kith_slice type;    /* data NULL: none given; SCAN only */
};

enum kith_scan_flag { KITH_SCAN_TYPE = 1 /* TYPE is allowed */ };

/* The cursor at argv[index]; false after "ERR invalid cursor". A missing key is answered before the options are read. */
bool kith_scan_cursor_parse(struct kith_call *call, size_t index, uint64_t *cursor);

/* The options from argv[index] on. False after "ERR syntax error" or "ERR value is not an integer or out of range". */
bool kith_scan_options_parse(struct kith_call *call, size_t index, unsigned flags,
                             struct kith_scan_options *options);

/* What a step reports is gathered aside, because the cursor stands before it in the reply and is known after
 * it. */
struct kith_scan_output {
    struct kith_buf buf;
    struct kith_reply items; /* write the items here */
    size_t item_count;       /* and count them here */
    size_t seen;             /* entries looked at, for COUNT */
};

void kith_scan_output_init(struct kith_scan_output *output, const struct kith_call *call);
/* Writes [cursor, items] and frees what init made. */
void kith_scan_output_reply(struct kith_scan_output *output, struct kith_call *call, uint64_t cursor);

/* The count of HRANDFIELD and ZRANDMEMBER at argv[index]; `pairs`: two replies an element are asked for. False after an
 * error reply: not a number, or more repetitions than KITH_RANDOM_REPEATS_MAX. */
bool kith_random_count_parse(struct kith_call *call, size_t index, bool pairs, int64_t *count);

#endif
