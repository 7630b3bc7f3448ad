/* Key specifications: where a command's keys are, and what it does to them. Parsed from the row's key_flags. */
#ifndef KITH_ENGINE_KEYSPEC_H
#define KITH_ENGINE_KEYSPEC_H

#include "engine/command.h"

enum { KITH_KEYSPECS_MAX = 4 };

struct kith_keyspec {
    struct kith_slice flags; /* "RW access update"; points into the row */
    bool counted;            /* argument `first` says how many keys follow it; else a range: */
    int first, last, step;   /* as in struct kith_key_range */
};

/* Returns how many there are. Rows are ours: a broken one aborts (a test reads them all). */
size_t kith_keyspecs(const struct kith_command *command, struct kith_keyspec specs[KITH_KEYSPECS_MAX]);

/* Reports each key argument of argv[0..argc), in order. False when the arguments do not make sense: a number of
 * keys that is no number, or that runs past the end. */
bool kith_command_keys(const struct kith_command *command, const struct kith_slice *argv, size_t argc,
                       void (*report)(void *arg, size_t argument, struct kith_slice flags), void *arg);

#endif
