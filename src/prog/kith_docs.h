/* What COMMAND DOCS tells of the server's commands: syntax lines, hints, completions. */
#ifndef KITH_PROG_KITH_DOCS_H
#define KITH_PROG_KITH_DOCS_H

#include "wire/value.h"

struct kith_docs_entry {
    char *name;                   /* owned: "CONFIG GET" */
    const struct kith_value *doc; /* borrowed from the tree */
};

struct kith_docs {
    struct kith_value tree;          /* owned: the reply */
    struct kith_docs_entry *entries; /* owned; sorted by name */
    size_t count;
};

/* Takes the reply of COMMAND DOCS (RESP2 or RESP3); an error or a strange reply gives no entries. KITH_ENOMEM. The reply
 * is owned by docs in any case. */
int kith_docs_init(struct kith_docs *docs, struct kith_value *reply);
void kith_docs_fini(struct kith_docs *docs);

/* The entry that the words begin with (the longest: "CONFIG GET" before "CONFIG"), and in *word_count how many words its
 * name has; NULL: none. */
const struct kith_docs_entry *kith_docs_find(const struct kith_docs *docs, const struct kith_slice *words,
                                             size_t count, size_t *word_count);

/* A text of the entry ("summary", "since", "group"), or "". */
struct kith_slice kith_docs_text(const struct kith_docs_entry *entry, const char *field);

/* The arguments' syntax: "key value [NX | XX] ...". Appends. */
void kith_docs_syntax(const struct kith_docs_entry *entry, struct kith_buf *out);
/* What may still follow the words already typed (those of the name left out). Appends. */
void kith_docs_hint(const struct kith_docs_entry *entry, const struct kith_slice *words, size_t count,
                    struct kith_buf *out);

/* Calls visit for each keyword of the entry's arguments. */
void kith_docs_tokens(const struct kith_docs_entry *entry,
                      void (*visit)(void *context, struct kith_slice token), void *context);

#endif
