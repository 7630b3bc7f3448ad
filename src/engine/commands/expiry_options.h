/* EX, PX, EXAT, PXAT, shared by SET, GETEX, SETEX and PSETEX. */
#ifndef KITH_ENGINE_COMMANDS_EXPIRY_OPTIONS_H
#define KITH_ENGINE_COMMANDS_EXPIRY_OPTIONS_H

#include "engine/command.h"

enum kith_expiry_kind {
    KITH_EXPIRY_NONE,
    KITH_EXPIRY_EX,   /* seconds from now */
    KITH_EXPIRY_PX,   /* milliseconds from now */
    KITH_EXPIRY_EXAT, /* seconds since 1970 */
    KITH_EXPIRY_PXAT, /* milliseconds since 1970 */
    KITH_EXPIRY_KEEP,
    KITH_EXPIRY_PERSIST,
};

struct kith_expiry_option {
    enum kith_expiry_kind kind;
    size_t argument; /* index of the number, for the first four kinds */
};

/* Takes one of the four options with its number at argv[*index], if none was taken before; *index is then at
 * the number. False (and nothing taken) otherwise. */
bool kith_expiry_option_take(struct kith_call *call, size_t *index, struct kith_expiry_option *option);

/* The absolute time in ms, -1 for the kinds without a number. False after having written "ERR invalid expire
 * time in 'x' command" or "ERR value is not an integer or out of range". */
bool kith_expiry_option_resolve(struct kith_call *call, const struct kith_expiry_option *option,
                                int64_t *when_ms);

#endif
