/* What bitmap.c and bitfield.c share. */
#ifndef KITH_ENGINE_COMMANDS_BITS_H
#define KITH_ENGINE_COMMANDS_BITS_H

#include "base/num.h"
#include "base/status.h"
#include "engine/command.h"

/* A bit offset: a number, or with by_width "#n" for n times `width`. The whole of `width` bits (0: one) must lie within
 * the longest string. False after "ERR bit offset is not an integer or out of range". */
bool kith_bit_offset_parse(struct kith_call *call, struct kith_slice text, unsigned width, bool by_width,
                           uint64_t *offset);

void kith_bitfield_command(struct kith_call *call);
void kith_bitfield_ro_command(struct kith_call *call);

#endif
