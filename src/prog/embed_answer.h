/* A reply's bytes as libkith hands it out: one allocation that holds the whole tree. Private to libkith. */
#ifndef KITH_PROG_EMBED_ANSWER_H
#define KITH_PROG_EMBED_ANSWER_H

#include "base/slice.h"
#include "base/status.h"
#include "kith.h"

/* Reads one whole RESP3 reply. *out is freed with free. KITH_ENOMEM; KITH_ECORRUPT can only be our own mistake. */
int embed_answer(struct kith_slice bytes, const struct kith_answer **out);
/* The same for VSIM's pairs of element and score. */
int embed_matches(struct kith_slice bytes, struct kith_matches **out);

#endif
