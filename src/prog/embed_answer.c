/* Two walks over the tree that wire/value.h reads: the first counts nodes and bytes, the second fills one block,
 *
 *     [ root | items of the root | items of its items ... | texts, each with a zero byte ]
 *
 * so that the caller frees it all at once. */
#include "prog/embed_answer.h"

#include "base/assert.h"
#include "wire/value.h"

#include <stdlib.h>

static bool is_container(const struct kith_value *value)
{
    return value->type == KITH_VALUE_ARRAY || value->type == KITH_VALUE_MAP ||
           value->type == KITH_VALUE_SET || value->type == KITH_VALUE_PUSH;
}

static bool is_text(const struct kith_value *value)
{
    return value->type == KITH_VALUE_SIMPLE || value->type == KITH_VALUE_STRING ||
           value->type == KITH_VALUE_VERBATIM || value->type == KITH_VALUE_BIG ||
           value->type == KITH_VALUE_ERROR;
}

static void measure(const struct kith_value *value, size_t *nodes, size_t *bytes)
{
    if (is_text(value))
        *bytes += value->text.length + 1;
    if (!is_container(value))
        return;
    *nodes += value->count;
    for (size_t i = 0; i < value->count; i++)
        measure(&value->items[i], nodes, bytes);
}

struct block {
    struct kith_answer *next_node;
    char *next_text;
};

static const char *put_text(struct block *block, struct kith_slice text)
{
    char *at = block->next_text;
    if (text.length)
        memcpy(at, text.data, text.length);
    at[text.length] = '\0';
    block->next_text += text.length + 1;
    return at;
}

static enum kith_answer_type type_of(const struct kith_value *value)
{
    static const enum kith_answer_type types[] = {
        [KITH_VALUE_NULL] = KITH_ANSWER_NULL,   [KITH_VALUE_SIMPLE] = KITH_ANSWER_STATUS,
        [KITH_VALUE_STRING] = KITH_ANSWER_TEXT, [KITH_VALUE_VERBATIM] = KITH_ANSWER_TEXT,
        [KITH_VALUE_BIG] = KITH_ANSWER_TEXT,    [KITH_VALUE_ERROR] = KITH_ANSWER_ERROR,
        [KITH_VALUE_INT] = KITH_ANSWER_INT,     [KITH_VALUE_DOUBLE] = KITH_ANSWER_DOUBLE,
        [KITH_VALUE_BOOL] = KITH_ANSWER_BOOL,   [KITH_VALUE_ARRAY] = KITH_ANSWER_ARRAY,
        [KITH_VALUE_MAP] = KITH_ANSWER_MAP,     [KITH_VALUE_SET] = KITH_ANSWER_SET,
        [KITH_VALUE_PUSH] = KITH_ANSWER_ARRAY,
    };
    return types[value->type];
}

static void fill(struct block *block, const struct kith_value *value, struct kith_answer *answer)
{
    *answer = (struct kith_answer){.type = type_of(value)};
    if (is_text(value)) {
        answer->text = put_text(block, value->text);
        answer->length = value->text.length;
    } else if (is_container(value)) {
        struct kith_answer *items = block->next_node;
        block->next_node += value->count;
        answer->items = items;
        answer->count = value->count;
        for (size_t i = 0; i < value->count; i++)
            fill(block, &value->items[i], &items[i]);
    } else if (value->type == KITH_VALUE_DOUBLE) {
        answer->number = value->number;
    } else if (value->type != KITH_VALUE_NULL) {
        answer->integer = value->integer;
    }
}

static int read_whole(struct kith_slice bytes, struct kith_value *value)
{
    struct kith_value_reader reader;
    /* Our own reply: bounded by the data, not by a limit for strangers. */
    const struct kith_value_limits limits = {
        .depth_max = KITH_VALUE_DEPTH_MAX, .bytes_max = SIZE_MAX / 4, .line_max = SIZE_MAX / 4};
    size_t consumed = 0;
    kith_value_reader_init(&reader, limits);
    int status = kith_value_read(&reader, bytes.data, bytes.length, value, &consumed);
    kith_value_reader_fini(&reader);
    if (status == 0)
        return KITH_ECORRUPT;
    return status < 0 ? status : KITH_OK;
}

int embed_answer(struct kith_slice bytes, const struct kith_answer **out)
{
    struct kith_value value = {0};
    int status = read_whole(bytes, &value);
    if (status)
        return status;
    size_t nodes = 1, text_bytes = 0;
    measure(&value, &nodes, &text_bytes);
    struct kith_answer *root = malloc(nodes * sizeof *root + text_bytes);
    if (root) {
        struct block block = {root + 1, (char *)(root + nodes)};
        fill(&block, &value, root);
        KITH_ASSERT(block.next_node == root + nodes);
        *out = root;
    }
    kith_value_fini(&value);
    return root ? KITH_OK : KITH_ENOMEM;
}

int embed_matches(struct kith_slice bytes, struct kith_matches **out)
{
    struct kith_value value = {0};
    int status = read_whole(bytes, &value);
    if (status)
        return status;
    size_t count = is_container(&value) ? value.count / 2 : 0, text_bytes = 0, nodes = 0;
    measure(&value, &nodes, &text_bytes);
    struct kith_matches *matches = malloc(sizeof *matches + count * sizeof matches->match[0] + text_bytes);
    if (matches) {
        struct block block = {NULL, (char *)&matches->match[count]};
        matches->count = count;
        for (size_t i = 0; i < count; i++) {
            const struct kith_value *element = &value.items[2 * i], *score = &value.items[2 * i + 1];
            matches->match[i] =
                (struct kith_match){.element = put_text(&block, element->text),
                                    .length = element->text.length,
                                    .score = score->type == KITH_VALUE_DOUBLE ? score->number : 0};
        }
        *out = matches;
    }
    kith_value_fini(&value);
    return matches ? KITH_OK : KITH_ENOMEM;
}
