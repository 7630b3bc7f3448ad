/* Recursive descent over the notation of the command pages.
 *
 *     alternatives = sequence { "|" sequence }
 *     sequence     = { item | "[" sequence "...]" }
 *     item         = UPPER [ value | "(" ... ")" ] | value | "[" alternatives "]" | "(" alternatives ")"
 *
 * "a b [a b ...]" repeats what stands before it; "[a b ...]" after something else is as many as one likes. A token
 * belongs to the value or choice behind it; a group that begins with a token and has several items
 * behind it is a block of that token: "[LIMIT offset count]". */
#include "engine/syntax.h"
#include "base/assert.h"

#include "base/status.h"

#include <ctype.h>

struct parser {
    struct kith_syntax *syntax;
    const char *at;
};

static uint8_t alternatives(struct parser *parser);
static uint8_t sequence(struct parser *parser);

static struct kith_syntax_node *node_at(struct parser *parser, uint8_t index)
{
    return &parser->syntax->nodes[index];
}

static uint8_t fail(struct parser *parser)
{
    if (!parser->syntax->error)
        parser->syntax->error = parser->at;
    return KITH_SYNTAX_NONE;
}

static uint8_t new_node(struct parser *parser, enum kith_syntax_kind kind)
{
    if (parser->syntax->count == KITH_SYNTAX_NODES_MAX)
        return fail(parser);
    *node_at(parser, parser->syntax->count) =
        (struct kith_syntax_node){.kind = kind, .child = KITH_SYNTAX_NONE, .next = KITH_SYNTAX_NONE};
    return parser->syntax->count++;
}

static void skip_spaces(struct parser *parser)
{
    while (*parser->at == ' ')
        parser->at++;
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '-' || c == '_';
}

static struct kith_slice word(struct parser *parser)
{
    const char *start = parser->at;
    while (is_word(*parser->at))
        parser->at++;
    return kith_slice(start, (size_t)(parser->at - start));
}

static uint8_t value(struct parser *parser)
{
    uint8_t index = new_node(parser, KITH_SYNTAX_VALUE);
    if (index == KITH_SYNTAX_NONE)
        return index;
    struct kith_syntax_node *node = node_at(parser, index);
    node->name = word(parser);
    node->type = kith_slice_is(node->name, "key") ? KITH_SLICE("key") : KITH_SLICE("string");
    if (*parser->at == ':') {
        parser->at++;
        node->type = word(parser);
    }
    return node->name.length && node->type.length ? index : fail(parser);
}

/* "[...]" or "(...)" with the opening bracket still to come. */
static uint8_t group(struct parser *parser, char close)
{
    parser->at++;
    uint8_t index = alternatives(parser);
    skip_spaces(parser);
    if (index == KITH_SYNTAX_NONE || *parser->at != close)
        return fail(parser);
    parser->at++;
    if (close == ']')
        node_at(parser, index)->optional = true;
    return index;
}

static uint8_t token(struct parser *parser)
{
    struct kith_slice text = word(parser);
    const char *behind = parser->at;
    skip_spaces(parser);
    uint8_t index = KITH_SYNTAX_NONE;
    if (*parser->at == '(')
        index = group(parser, ')');
    else if (islower((unsigned char)*parser->at))
        index = value(parser);
    if (index != KITH_SYNTAX_NONE && !node_at(parser, index)->token.data) {
        node_at(parser, index)->token = text;
        return index;
    }
    parser->at = behind;
    index = new_node(parser, KITH_SYNTAX_TOKEN);
    if (index != KITH_SYNTAX_NONE)
        node_at(parser, index)->token = text;
    return index;
}

static uint8_t item(struct parser *parser)
{
    if (*parser->at == '[')
        return group(parser, ']');
    if (*parser->at == '(')
        return group(parser, ')');
    if (isupper((unsigned char)*parser->at) || isdigit((unsigned char)*parser->at))
        return token(parser);
    return islower((unsigned char)*parser->at) ? value(parser) : fail(parser);
}

/* The chain from `first` as one node: itself when it is alone, otherwise a block. */
static uint8_t as_one(struct parser *parser, uint8_t first)
{
    if (first == KITH_SYNTAX_NONE || node_at(parser, first)->next == KITH_SYNTAX_NONE)
        return first;
    uint8_t block = new_node(parser, KITH_SYNTAX_BLOCK);
    if (block != KITH_SYNTAX_NONE)
        node_at(parser, block)->child = first;
    return block;
}

/* "[LIMIT offset count]" was read as offset with a token, count; the token is the block's. */
static void lift_token(struct parser *parser, uint8_t block)
{
    struct kith_syntax_node *node = node_at(parser, block);
    if (node->kind != KITH_SYNTAX_BLOCK)
        return;
    struct kith_syntax_node *first = node_at(parser, node->child);
    if (first->kind == KITH_SYNTAX_TOKEN || first->optional)
        return;
    node->token = first->token;
    first->token = (struct kith_slice){0};
}

/* Whether the `count` nodes of the chain from `first` are called like those of chain[0..count). */
static bool same_names(struct parser *parser, uint8_t first, const uint8_t *chain, int count)
{
    char a[64], b[64];
    for (int i = 0; i < count; i++, first = node_at(parser, first)->next) {
        kith_syntax_name(parser->syntax, first, a, sizeof a);
        kith_syntax_name(parser->syntax, chain[i], b, sizeof b);
        if (strcmp(a, b) != 0)
            return false;
    }
    return true;
}

/* The last `count` nodes of chain[0..length) become one that is repeated; returns the new length. */
static int repeat(struct parser *parser, uint8_t *chain, int length, int count)
{
    int first = length - count;
    for (int i = first; i + 1 < length; i++)
        node_at(parser, chain[i])->next = chain[i + 1];
    chain[first] = as_one(parser, chain[first]);
    if (chain[first] != KITH_SYNTAX_NONE)
        node_at(parser, chain[first])->multiple = true;
    return first + 1;
}

/* At '[': reads "[... ...]" and returns the chain's new length, or reads nothing and returns -1. */
static int repetition(struct parser *parser, uint8_t *chain, int length)
{
    const struct parser before = *parser;
    uint8_t node_count = parser->syntax->count;
    parser->at++;
    uint8_t first = sequence(parser);
    KITH_ASSERT(parser->at);
    if (parser->syntax->error || strncmp(parser->at, "...]", 4) != 0 || first == KITH_SYNTAX_NONE) {
        *parser = before;
        parser->syntax->count = node_count;
        parser->syntax->error = NULL;
        return -1;
    }
    parser->at += 4;
    int count = 0;
    for (uint8_t i = first; i != KITH_SYNTAX_NONE; i = node_at(parser, i)->next)
        count++;
    if (count <= length && same_names(parser, first, chain + length - count, count)) {
        parser->syntax->count = node_count;
        return repeat(parser, chain, length, count);
    }
    chain[length] = as_one(parser, first);
    if (chain[length] != KITH_SYNTAX_NONE) {
        lift_token(parser, chain[length]);
        node_at(parser, chain[length])->optional = node_at(parser, chain[length])->multiple = true;
    }
    return length + 1;
}

static uint8_t sequence(struct parser *parser)
{
    uint8_t chain[32];
    int length = 0;
    for (skip_spaces(parser); *parser->at && !strchr("])|.", *parser->at); skip_spaces(parser)) {
        int repeated = *parser->at == '[' ? repetition(parser, chain, length) : -1;
        if (repeated >= 0)
            length = repeated;
        else
            chain[length++] = item(parser);
        if (parser->syntax->error || length == (int)sizeof chain)
            return fail(parser);
    }
    for (int i = 0; i + 1 < length; i++)
        node_at(parser, chain[i])->next = chain[i + 1];
    return length ? chain[0] : KITH_SYNTAX_NONE;
}

static uint8_t sequence_as_one(struct parser *parser)
{
    uint8_t index = as_one(parser, sequence(parser));
    if (index != KITH_SYNTAX_NONE)
        lift_token(parser, index);
    return index;
}

static uint8_t alternatives(struct parser *parser)
{
    uint8_t first = sequence_as_one(parser), last = first;
    if (first == KITH_SYNTAX_NONE || *parser->at != '|')
        return first == KITH_SYNTAX_NONE ? fail(parser) : first;
    while (*parser->at == '|') {
        parser->at++;
        uint8_t next = sequence_as_one(parser);
        if (next == KITH_SYNTAX_NONE)
            return fail(parser);
        node_at(parser, last)->next = next;
        last = next;
    }
    uint8_t oneof = new_node(parser, KITH_SYNTAX_ONEOF);
    if (oneof != KITH_SYNTAX_NONE)
        node_at(parser, oneof)->child = first;
    return oneof;
}

int kith_syntax_parse(struct kith_syntax *syntax, const char *text)
{
    struct parser parser = {syntax, text};
    syntax->count = 0;
    syntax->error = NULL;
    syntax->first = sequence(&parser);
    if (*parser.at)
        fail(&parser);
    return syntax->error ? KITH_EINVAL : KITH_OK;
}

static size_t append(char *out, size_t size, size_t length, struct kith_slice text)
{
    for (size_t i = 0; i < text.length && length + 1 < size; i++)
        out[length++] = (char)tolower((unsigned char)text.data[i]);
    return length;
}

size_t kith_syntax_name(const struct kith_syntax *syntax, uint8_t index, char *out, size_t size)
{
    const struct kith_syntax_node *node = &syntax->nodes[index];
    size_t length = 0;
    if (node->kind == KITH_SYNTAX_VALUE) {
        length = append(out, size, 0, node->name);
    } else if (node->token.data) {
        length = append(out, size, 0, node->token);
    } else {
        for (uint8_t child = node->child; child != KITH_SYNTAX_NONE; child = syntax->nodes[child].next) {
            if (child != node->child)
                length = append(out, size, length, KITH_SLICE("-"));
            length += kith_syntax_name(syntax, child, out + length, size - length);
        }
    }
    out[length] = '\0';
    return length;
}
