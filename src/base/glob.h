/* Glob patterns as Redis has them: ? * [a-z] [^a-z] and \ before a character that stands for itself. */
#ifndef KITH_BASE_GLOB_H
#define KITH_BASE_GLOB_H

#include "base/slice.h"

/* Whether all of `text` matches `pattern`; with `fold_case`, ASCII letters match either case. Takes at most
 * pattern.length * text.length steps, whatever the pattern: a client cannot stop the server with stars. */
bool kith_glob_match(struct kith_slice pattern, struct kith_slice text, bool fold_case);

#endif
