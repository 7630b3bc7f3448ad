/* A row's syntax string as a tree, for COMMAND DOCS. The notation is described at struct kith_command. */
#ifndef KITH_ENGINE_SYNTAX_H
#define KITH_ENGINE_SYNTAX_H

#include "base/slice.h"

#include <stdint.h>

enum kith_syntax_kind {
    KITH_SYNTAX_VALUE, /* an argument that the client fills in */
    KITH_SYNTAX_TOKEN, /* a word that stands for itself */
    KITH_SYNTAX_ONEOF, /* one of the children */
    KITH_SYNTAX_BLOCK, /* all children, in order */
};

enum { KITH_SYNTAX_NODES_MAX = 96, KITH_SYNTAX_NONE = UINT8_MAX };

struct kith_syntax_node {
    struct kith_slice name;  /* VALUE: as written; the others have none */
    struct kith_slice type;  /* VALUE: "key", "integer", ... */
    struct kith_slice token; /* in front of it: "EX"; TOKEN: the word itself; data NULL: none */
    enum kith_syntax_kind kind;
    bool optional, multiple;
    uint8_t child, next; /* indexes, KITH_SYNTAX_NONE at the end */
};

struct kith_syntax {
    struct kith_syntax_node nodes[KITH_SYNTAX_NODES_MAX];
    uint8_t count;
    uint8_t first;     /* of the top level */
    const char *error; /* where the text stopped making sense; NULL when it did */
};

/* Slices of the tree point into `text`. KITH_EINVAL (and error) when the notation is broken: rows are ours, so
 * a test parses them all. */
int kith_syntax_parse(struct kith_syntax *syntax, const char *text);

/* What a node is called: a value's name, a token in lower case, for the others the children's names joined by
 * '-'. Cut at the size; returns the length. */
size_t kith_syntax_name(const struct kith_syntax *syntax, uint8_t node, char *out, size_t size);

#endif
