/* The rows behind src/prog/config.h. Private to the configuration's files. */
#ifndef KITH_PROG_CONFIG_TABLE_H
#define KITH_PROG_CONFIG_TABLE_H

#include "prog/config.h"

enum config_kind {
    CONFIG_BOOL,         /* yes | no */
    CONFIG_INT,          /* decimal, in [least, most] */
    CONFIG_OCTAL,        /* a file mode */
    CONFIG_BYTES,        /* decimal with a unit: b, k, kb, m, mb, g, gb */
    CONFIG_CHOICE,       /* one of `choices`; the value is its index */
    CONFIG_TEXT,         /* one word, may be empty */
    CONFIG_SECRET,       /* the same, but never shown */
    CONFIG_WORDS,        /* any number of words, kept with one blank between */
    CONFIG_OUTPUT_LIMIT, /* class hard soft seconds, any number of times */
    CONFIG_ACCEPTED,     /* kept and shown, without an effect */
};

struct config_row {
    const char *name;
    enum config_kind kind;
    bool live;     /* CONFIG SET may change it */
    size_t offset; /* of its field in struct kith_config */
    int64_t least, most;
    const char *const *choices; /* NULL-terminated */
    const char *initial;        /* the default, as a user would write it */
    const char *help;           /* NULL for CONFIG_ACCEPTED */
};

extern const struct config_row kith_config_rows[];
extern const size_t kith_config_row_count;

#endif
