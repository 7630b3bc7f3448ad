/* COMMAND DOCS as a lookup table. The arguments' tree (blocks, choices, keywords) is walked anew for each hint: it is
 * small, and nothing has to be kept in step with it. */
#include "prog/kith_docs.h"

#include "base/status.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool is_text(const struct kith_value *value)
{
    return value && (value->type == KITH_VALUE_STRING || value->type == KITH_VALUE_SIMPLE);
}

static bool is_list(const struct kith_value *value)
{
    return value && (value->type == KITH_VALUE_ARRAY || value->type == KITH_VALUE_SET);
}

static bool is_pairs(const struct kith_value *value)
{
    return value &&
           (value->type == KITH_VALUE_MAP || (value->type == KITH_VALUE_ARRAY && value->count % 2 == 0));
}

static int add_entry(struct kith_docs *docs, size_t *capacity, struct kith_slice name,
                     const struct kith_value *doc)
{
    if (docs->count == *capacity) {
        size_t grown = *capacity ? *capacity * 2 : 256;
        struct kith_docs_entry *entries = realloc(docs->entries, grown * sizeof *entries);
        if (!entries)
            return KITH_ENOMEM;
        docs->entries = entries;
        *capacity = grown;
    }
    char *copy = strndup(name.data, name.length);
    if (!copy)
        return KITH_ENOMEM;
    for (char *c = copy; *c; c++)
        *c = *c == '|' ? ' ' : (char)toupper((unsigned char)*c);
    docs->entries[docs->count++] = (struct kith_docs_entry){.name = copy, .doc = doc};
    return KITH_OK;
}

static int add_commands(struct kith_docs *docs, size_t *capacity, const struct kith_value *pairs, bool is_top)
{
    int status = KITH_OK;
    for (size_t i = 0; is_pairs(pairs) && i + 1 < pairs->count && !status; i += 2) {
        const struct kith_value *doc = &pairs->items[i + 1];
        if (!is_text(&pairs->items[i]) || !is_pairs(doc))
            continue;
        status = add_entry(docs, capacity, pairs->items[i].text, doc);
        if (!status && is_top)
            status = add_commands(docs, capacity, kith_value_get(doc, "subcommands"), false);
    }
    return status;
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct kith_docs_entry *)a)->name, ((const struct kith_docs_entry *)b)->name);
}

int kith_docs_init(struct kith_docs *docs, struct kith_value *reply)
{
    size_t capacity = 0;
    *docs = (struct kith_docs){.tree = *reply};
    *reply = (struct kith_value){0};
    int status = add_commands(docs, &capacity, &docs->tree, true);
    if (status)
        kith_docs_fini(docs);
    else if (docs->count)
        qsort(docs->entries, docs->count, sizeof *docs->entries, compare_entries);
    return status;
}

void kith_docs_fini(struct kith_docs *docs)
{
    for (size_t i = 0; i < docs->count; i++)
        free(docs->entries[i].name);
    free(docs->entries);
    kith_value_fini(&docs->tree);
    *docs = (struct kith_docs){0};
}

/* How many of the words the name "CONFIG GET" matches: all of its own, or 0. */
static size_t match_name(const char *name, const struct kith_slice *words, size_t count)
{
    size_t matched = 0;
    while (*name) {
        size_t length = strcspn(name, " ");
        if (matched == count || words[matched].length != length ||
            strncasecmp(words[matched].data, name, length) != 0)
            return 0;
        matched++;
        name += length;
        name += *name == ' ';
    }
    return matched;
}

const struct kith_docs_entry *kith_docs_find(const struct kith_docs *docs, const struct kith_slice *words,
                                             size_t count, size_t *word_count)
{
    const struct kith_docs_entry *best = NULL;
    *word_count = 0;
    for (size_t i = 0; i < docs->count; i++) {
        size_t matched = match_name(docs->entries[i].name, words, count);
        if (matched > *word_count) {
            best = &docs->entries[i];
            *word_count = matched;
        }
    }
    return best;
}

struct kith_slice kith_docs_text(const struct kith_docs_entry *entry, const char *field)
{
    const struct kith_value *value = kith_value_get(entry->doc, field);
    return is_text(value) ? value->text : KITH_SLICE("");
}

static bool has_flag(const struct kith_value *argument, const char *flag)
{
    const struct kith_value *flags = kith_value_get(argument, "flags");
    for (size_t i = 0; is_list(flags) && i < flags->count; i++) {
        if (kith_value_is(&flags->items[i], flag))
            return true;
    }
    return false;
}

static struct kith_slice field_text(const struct kith_value *argument, const char *field)
{
    const struct kith_value *value = kith_value_get(argument, field);
    return is_text(value) ? value->text : (struct kith_slice){0};
}

static void append_slice(struct kith_buf *out, struct kith_slice text)
{
    kith_buf_append(out, text.data, text.length);
}

static void append_argument(const struct kith_value *argument, struct kith_buf *out);

/* The argument without its brackets and repetition. */
static void append_value(const struct kith_value *argument, bool with_token, struct kith_buf *out)
{
    struct kith_slice token = field_text(argument, "token"), type = field_text(argument, "type");
    bool is_choice = kith_slice_is(type, "oneof");
    if (with_token && token.length) {
        append_slice(out, token);
        if (kith_slice_is(type, "pure-token"))
            return;
        kith_buf_append_char(out, ' ');
    }
    const struct kith_value *inner = kith_value_get(argument, "arguments");
    if (!is_list(inner) || !(is_choice || kith_slice_is(type, "block"))) {
        struct kith_slice display = field_text(argument, "display_text");
        append_slice(out, display.length ? display : field_text(argument, "name"));
        return;
    }
    bool in_brackets = is_choice && !has_flag(argument, "optional");
    kith_buf_append_text(out, in_brackets ? "<" : "");
    for (size_t i = 0; i < inner->count; i++) {
        kith_buf_append_text(out, !i ? "" : is_choice ? " | " : " ");
        append_argument(&inner->items[i], out);
    }
    kith_buf_append_text(out, in_brackets ? ">" : "");
}

static void append_argument(const struct kith_value *argument, struct kith_buf *out)
{
    bool is_optional = has_flag(argument, "optional");
    kith_buf_append_text(out, is_optional ? "[" : "");
    append_value(argument, true, out);
    if (has_flag(argument, "multiple")) {
        kith_buf_append_text(out, " [");
        append_value(argument, has_flag(argument, "multiple_token"), out);
        kith_buf_append_text(out, " ...]");
    }
    kith_buf_append_text(out, is_optional ? "]" : "");
}

/* Words that a required argument takes, or 0 when that is not fixed. */
static size_t fixed_words(const struct kith_value *argument)
{
    struct kith_slice type = field_text(argument, "type");
    if (has_flag(argument, "optional") || has_flag(argument, "multiple") || kith_slice_is(type, "oneof"))
        return 0;
    size_t words = field_text(argument, "token").length > 0;
    const struct kith_value *inner = kith_value_get(argument, "arguments");
    if (!kith_slice_is(type, "block") || !is_list(inner))
        return words + !kith_slice_is(type, "pure-token");
    for (size_t i = 0; i < inner->count; i++) {
        size_t inside = fixed_words(&inner->items[i]);
        if (!inside)
            return 0;
        words += inside;
    }
    return words;
}

/* Whether one of the argument's own keywords was typed. */
static bool is_typed(const struct kith_value *argument, const struct kith_slice *words, size_t count)
{
    struct kith_slice token = field_text(argument, "token");
    for (size_t i = 0; token.length && i < count; i++) {
        if (words[i].length == token.length && strncasecmp(words[i].data, token.data, token.length) == 0)
            return true;
    }
    const struct kith_value *inner = kith_value_get(argument, "arguments");
    for (size_t i = 0; is_list(inner) && i < inner->count; i++) {
        if (is_typed(&inner->items[i], words, count))
            return true;
    }
    return false;
}

void kith_docs_hint(const struct kith_docs_entry *entry, const struct kith_slice *words, size_t count,
                    struct kith_buf *out)
{
    const struct kith_value *arguments = kith_value_get(entry->doc, "arguments");
    size_t taken = 0;
    bool is_fixed = true, is_first = true;
    for (size_t i = 0; is_list(arguments) && i < arguments->count; i++) {
        const struct kith_value *argument = &arguments->items[i];
        size_t needs = fixed_words(argument);
        is_fixed = is_fixed && needs;
        if (is_fixed && taken + needs <= count) {
            taken += needs;
            continue;
        }
        if (taken < count && is_typed(argument, words + taken, count - taken))
            continue;
        kith_buf_append_text(out, is_first ? "" : " ");
        append_argument(argument, out);
        is_first = false;
    }
}

void kith_docs_syntax(const struct kith_docs_entry *entry, struct kith_buf *out)
{
    kith_docs_hint(entry, NULL, 0, out);
}

static void visit_tokens(const struct kith_value *arguments, void (*visit)(void *, struct kith_slice),
                         void *context)
{
    for (size_t i = 0; is_list(arguments) && i < arguments->count; i++) {
        struct kith_slice token = field_text(&arguments->items[i], "token");
        if (token.length)
            visit(context, token);
        visit_tokens(kith_value_get(&arguments->items[i], "arguments"), visit, context);
    }
}

void kith_docs_tokens(const struct kith_docs_entry *entry,
                      void (*visit)(void *context, struct kith_slice token), void *context)
{
    visit_tokens(kith_value_get(entry->doc, "arguments"), visit, context);
}
