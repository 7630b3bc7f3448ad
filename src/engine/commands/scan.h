/* What SCAN, HSCAN, SSCAN and ZSCAN have in common: the options and the shape of the reply. */
#ifndef KITH_ENGINE_COMMANDS_SCAN_H
#define KITH_ENGINE_COMMANDS_SCAN_H

#include "engine/command.h"

struct kith_scan_options {
    uint64_t cursor;
    uint64_t count;            /* how many to look at, at least 1; 10 unless told */
    struct kith_slice pattern; /* data NULL: none given */
    struct kith_slice type;    /* data NULL: none given; SCAN only */
};

enum kith_scan_flag { KITH_SCAN_TYPE = 1 /* TYPE is allowed */ };

/* The cursor at argv[index] and the options behind it. False after an error reply: "ERR invalid cursor", "ERR
 * syntax error" or "ERR value is not an integer or out of range". */
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

#endif
