/* Names that clients give to themselves and their libraries. Private to src/net. */
#ifndef KITH_NET_SESSION_NAME_H
#define KITH_NET_SESSION_NAME_H

#include "base/slice.h"
#include "base/status.h"

#include <stdlib.h>

/* Printable and without blanks, so that CLIENT LIST stays one line of words. */
static inline bool session_name_is_valid(struct kith_slice name)
{
    for (size_t i = 0; i < name.length; i++)
        if (name.data[i] < '!' || name.data[i] > '~')
            return false;
    return true;
}

/* *text becomes a copy of `value`, NULL for the empty one. KITH_ENOMEM leaves the old one. */
static inline int session_set_text(char **text, struct kith_slice value)
{
    char *copy = NULL;
    if (value.length && !(copy = strndup(value.data, value.length)))
        return KITH_ENOMEM;
    free(*text);
    *text = copy;
    return KITH_OK;
}

#endif
