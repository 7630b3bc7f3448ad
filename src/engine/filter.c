/* FILTER expressions: a scanner, Dijkstra's shunting yard (1961) into a postfix program, and a stack machine.
 * No recursion anywhere, so that no input can exhaust the C stack; and the evaluation's stack is as deep as
 * the yard was, which is bounded. */
#include "engine/filter.h"

#include "base/assert.h"
#include "base/num.h"
#include "engine/attributes.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

enum kind {
    END,
    VALUE, /* a constant: number, text, null, list */
    FIELD,
    OPEN,
    CLOSE,
    NOT,
    POWER,
    TIMES,
    DIVIDE,
    MODULO,
    PLUS,
    MINUS,
    EQUAL,
    UNEQUAL,
    GREATER,
    GREATER_EQUAL,
    LESS,
    LESS_EQUAL,
    IN,
    AND,
    OR,
};

static const uint8_t precedence[] = {
    [NOT] = 7,        [POWER] = 6, [TIMES] = 5,   [DIVIDE] = 5,  [MODULO] = 5,        [PLUS] = 4,
    [MINUS] = 4,      [EQUAL] = 3, [UNEQUAL] = 3, [GREATER] = 3, [GREATER_EQUAL] = 3, [LESS] = 3,
    [LESS_EQUAL] = 3, [IN] = 3,    [AND] = 2,     [OR] = 1};

struct token {
    enum kind kind;
    struct kith_attribute_value value; /* VALUE */
    struct kith_slice name;            /* FIELD */
};

struct kith_filter {
    struct token *program; /* postfix */
    size_t length, capacity;
    struct kith_attribute_value *items; /* of all lists */
    size_t item_count, item_capacity;
    char *bytes; /* unescaped texts and names; as long as the expression, so it never moves */
    size_t bytes_used;
};

struct scanner {
    struct kith_filter *filter;
    const char *start, *at, *end;
    bool after_value; /* a minus is then an operator, not a sign */
    const char *expected;
    int status;
};

static struct token fail(struct scanner *s, int status, const char *expected)
{
    if (s->status == KITH_OK) {
        s->status = status;
        s->expected = expected;
    }
    return (struct token){.kind = END};
}

static void skip_space(struct scanner *s)
{
    while (s->at < s->end && isspace((unsigned char)*s->at))
        s->at++;
}

static bool is_word_char(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* Of a field, as in Redis: so .a-1 is the field a-1, and a difference takes a space. */
static bool is_name_char(char c)
{
    return is_word_char(c) || c == '-';
}

static struct token scan_text(struct scanner *s)
{
    char quote = *s->at++;
    size_t start = s->filter->bytes_used;
    while (s->at < s->end && *s->at != quote) {
        if (*s->at == '\\' && s->at + 1 < s->end)
            s->at++;
        s->filter->bytes[s->filter->bytes_used++] = *s->at++;
    }
    if (s->at == s->end)
        return fail(s, KITH_EINVAL, "a closing quote");
    s->at++;
    struct token token = {.kind = VALUE, .value = {.kind = KITH_VALUE_TEXT}};
    token.value.text = s->filter->bytes + start;
    token.value.count = (uint32_t)(s->filter->bytes_used - start);
    return token;
}

static struct token scan_number(struct scanner *s)
{
    const char *from = s->at;
    if (*s->at == '-' || *s->at == '+')
        s->at++;
    while (s->at < s->end && (is_word_char(*s->at) || *s->at == '.' ||
                              ((*s->at == '-' || *s->at == '+') && (s->at[-1] == 'e' || s->at[-1] == 'E'))))
        s->at++;
    double number;
    if (kith_num_parse_double(kith_slice(from, (size_t)(s->at - from)), KITH_NUM_RANGE_OK, &number) !=
        KITH_OK) {
        s->at = from;
        return fail(s, KITH_EINVAL, "a number");
    }
    return (struct token){.kind = VALUE, .value = {.kind = KITH_VALUE_NUMBER, .number = number}};
}

static struct token scan_field(struct scanner *s)
{
    size_t start = s->filter->bytes_used;
    for (s->at++; s->at < s->end && is_name_char(*s->at); s->at++)
        s->filter->bytes[s->filter->bytes_used++] = *s->at;
    if (s->filter->bytes_used == start)
        return fail(s, KITH_EINVAL, "a field name after the dot");
    if (s->at < s->end && *s->at == '.')
        return fail(s, KITH_EINVAL, "a top-level field: filters do not look into nested objects");
    return (struct token){.kind = FIELD, .name = {s->filter->bytes + start, s->filter->bytes_used - start}};
}

static struct token scan_word(struct scanner *s)
{
    static const struct {
        const char *word;
        struct token token;
    } words[] = {{"and", {.kind = AND}},
                 {"or", {.kind = OR}},
                 {"not", {.kind = NOT}},
                 {"in", {.kind = IN}},
                 {"true", {.kind = VALUE, .value = {.kind = KITH_VALUE_NUMBER, .number = 1}}},
                 {"false", {.kind = VALUE, .value = {.kind = KITH_VALUE_NUMBER, .number = 0}}},
                 {"null", {.kind = VALUE, .value = {.kind = KITH_VALUE_NULL}}}};
    const char *from = s->at;
    while (s->at < s->end && is_word_char(*s->at))
        s->at++;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (kith_slice_is(kith_slice(from, (size_t)(s->at - from)), words[i].word))
            return words[i].token;
    s->at = from;
    return fail(s, KITH_EINVAL, "a value or an operator (texts stand in quotes, fields after a dot)");
}

static bool add_item(struct scanner *s, struct kith_attribute_value value)
{
    struct kith_filter *f = s->filter;
    if (f->item_count == f->item_capacity) {
        size_t capacity = f->item_capacity ? 2 * f->item_capacity : 16;
        struct kith_attribute_value *items = realloc(f->items, capacity * sizeof *items);
        if (!items) {
            fail(s, KITH_ENOMEM, NULL);
            return false;
        }
        f->items = items;
        f->item_capacity = capacity;
    }
    f->items[f->item_count++] = value;
    return true;
}

static struct token scan_plain_value(struct scanner *s);

/* [value, value, ...]. The items may still move: `number` holds where they start until the end. */
static struct token scan_list(struct scanner *s)
{
    size_t first = s->filter->item_count;
    s->at++;
    for (bool more = true; more;) {
        skip_space(s);
        if (s->at < s->end && *s->at == ']')
            break;
        struct token token = scan_plain_value(s);
        if (s->status != KITH_OK || !add_item(s, token.value))
            return token;
        skip_space(s);
        more = s->at < s->end && *s->at == ',';
        s->at += more;
    }
    if (s->at == s->end || *s->at != ']')
        return fail(s, KITH_EINVAL, "a comma or ] in the list");
    s->at++;
    uint32_t count = (uint32_t)(s->filter->item_count - first);
    return (struct token){.kind = VALUE,
                          .value = {.kind = KITH_VALUE_ARRAY, .count = count, .number = (double)first}};
}

static struct token scan_plain_value(struct scanner *s)
{
    skip_space(s);
    char c = s->at < s->end ? *s->at : 0;
    if (c == '"' || c == '\'')
        return scan_text(s);
    if (isdigit((unsigned char)c) || c == '-' || c == '+')
        return scan_number(s);
    struct token token = isalpha((unsigned char)c) ? scan_word(s) : (struct token){.kind = END};
    return token.kind == VALUE ? token : fail(s, KITH_EINVAL, "a number, a quoted text, true, false or null");
}

static struct token scan_operator(struct scanner *s)
{
    static const struct {
        char text[3];
        enum kind kind;
    } operators[] = {{"**", POWER},      {"==", EQUAL}, {"!=", UNEQUAL}, {">=", GREATER_EQUAL},
                     {"<=", LESS_EQUAL}, {"&&", AND},   {"||", OR},      {"(", OPEN},
                     {")", CLOSE},       {"!", NOT},    {"*", TIMES},    {"/", DIVIDE},
                     {"%", MODULO},      {"+", PLUS},   {"-", MINUS},    {">", GREATER},
                     {"<", LESS}};
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++) {
        size_t length = strlen(operators[i].text);
        if ((size_t)(s->end - s->at) < length || memcmp(s->at, operators[i].text, length) != 0)
            continue;
        s->at += length;
        return (struct token){.kind = operators[i].kind};
    }
    return fail(s, KITH_EINVAL, *s->at == '=' ? "== to compare" : "a value or an operator");
}

static struct token scan(struct scanner *s)
{
    skip_space(s);
    if (s->at == s->end)
        return (struct token){.kind = END};
    char c = *s->at;
    bool digit_next = s->at + 1 < s->end && (isdigit((unsigned char)s->at[1]) || s->at[1] == '.');
    if (c == '"' || c == '\'')
        return scan_text(s);
    if (isdigit((unsigned char)c) || ((c == '-' || c == '+') && digit_next && !s->after_value))
        return scan_number(s);
    if (c == '.')
        return scan_field(s);
    if (c == '[')
        return scan_list(s);
    if (isalpha((unsigned char)c))
        return scan_word(s);
    return scan_operator(s);
}

static bool emit(struct scanner *s, struct token token)
{
    struct kith_filter *f = s->filter;
    if (f->length == f->capacity) {
        size_t capacity = f->capacity ? 2 * f->capacity : 8;
        struct token *program = realloc(f->program, capacity * sizeof *program);
        if (!program) {
            fail(s, KITH_ENOMEM, NULL);
            return false;
        }
        f->program = program;
        f->capacity = capacity;
    }
    f->program[f->length++] = token;
    return true;
}

/* The operators that wait for their right side. */
struct yard {
    enum kind stack[KITH_FILTER_DEPTH_MAX];
    size_t depth;
};

static bool push(struct scanner *s, struct yard *yard, enum kind kind)
{
    if (yard->depth == KITH_FILTER_DEPTH_MAX) {
        fail(s, KITH_EINVAL, "less nesting: at most 256 levels");
        return false;
    }
    yard->stack[yard->depth++] = kind;
    return true;
}

/* Emits operators that bind at least as strongly as `level`, back to the last open parenthesis. */
static bool pop_down_to(struct scanner *s, struct yard *yard, unsigned level)
{
    while (yard->depth && yard->stack[yard->depth - 1] != OPEN &&
           precedence[yard->stack[yard->depth - 1]] >= level)
        if (!emit(s, (struct token){.kind = yard->stack[--yard->depth]}))
            return false;
    return true;
}

/* Takes one token where a value is due: false after an error. *complete tells that an operator is due next.
 */
static bool take_operand(struct scanner *s, struct yard *yard, struct token token, bool *complete)
{
    if (token.kind == OPEN || token.kind == NOT)
        return push(s, yard, token.kind);
    if (token.kind != VALUE && token.kind != FIELD) {
        fail(s, KITH_EINVAL, "a value");
        return false;
    }
    *complete = true;
    return emit(s, token);
}

static bool take_operator(struct scanner *s, struct yard *yard, struct token token, bool *complete)
{
    if (token.kind == CLOSE) {
        if (!pop_down_to(s, yard, 0))
            return false;
        if (!yard->depth) {
            fail(s, KITH_EINVAL, "an opening parenthesis before");
            return false;
        }
        yard->depth--;
        return true;
    }
    if (token.kind < POWER) {
        fail(s, KITH_EINVAL, "an operator");
        return false;
    }
    *complete = false;
    unsigned level = precedence[token.kind];
    return pop_down_to(s, yard, token.kind == POWER ? level + 1 : level) && push(s, yard, token.kind);
}

static void compile(struct scanner *s)
{
    struct yard yard = {.depth = 0};
    bool complete = false;
    for (;;) {
        const char *before = s->at;
        s->after_value = complete;
        struct token token = scan(s);
        if (s->status != KITH_OK)
            return;
        if (token.kind == END)
            break;
        bool fine =
            complete ? take_operator(s, &yard, token, &complete) : take_operand(s, &yard, token, &complete);
        if (!fine) {
            s->at = before;
            return;
        }
    }
    if (!complete) {
        fail(s, KITH_EINVAL, "a value");
        return;
    }
    if (!pop_down_to(s, &yard, 0))
        return;
    if (yard.depth)
        fail(s, KITH_EINVAL, "a closing parenthesis");
}

/* The items of lists no longer move: their starts become pointers. */
static void settle_lists(struct kith_filter *f)
{
    for (size_t i = 0; i < f->length; i++) {
        struct kith_attribute_value *value = &f->program[i].value;
        if (f->program[i].kind == VALUE && value->kind == KITH_VALUE_ARRAY)
            value->items = f->items ? f->items + (size_t)value->number : NULL; /* [] alone has no items */
    }
}

int kith_filter_open(struct kith_filter **out, struct kith_slice text, struct kith_error *error)
{
    if (text.length > KITH_FILTER_BYTES_MAX)
        return kith_error_set(error, KITH_EINVAL, "FILTER expression has %zu bytes, at most %d are allowed",
                              text.length, KITH_FILTER_BYTES_MAX);
    struct kith_filter *filter = calloc(1, sizeof *filter);
    if (!filter)
        return KITH_ENOMEM;
    struct scanner s = {
        .filter = filter, .start = text.data, .at = text.data, .end = text.data + text.length};
    filter->bytes = malloc(text.length + 1);
    if (!filter->bytes)
        s.status = KITH_ENOMEM;
    else
        compile(&s);
    if (s.status == KITH_OK) {
        settle_lists(filter);
        *out = filter;
        return KITH_OK;
    }
    if (s.status == KITH_EINVAL)
        kith_error_set(
            error, KITH_EINVAL, "syntax error in FILTER expression near: %.*s (at byte %zu: expected %s)",
            (int)(s.end - s.at > 64 ? 64 : s.end - s.at), s.at, (size_t)(s.at - s.start), s.expected);
    kith_filter_close(filter);
    return s.status;
}

void kith_filter_close(struct kith_filter *filter)
{
    if (!filter)
        return;
    free(filter->program);
    free(filter->items);
    free(filter->bytes);
    free(filter);
}

/* ---- evaluation ---- */

typedef struct kith_attribute_value value_t;

static struct kith_slice value_text(const value_t *value)
{
    return kith_slice(value->text, value->count);
}

static double to_number(const value_t *value)
{
    double number;
    if (value->kind == KITH_VALUE_NUMBER)
        return value->number;
    if (value->kind == KITH_VALUE_TEXT &&
        kith_num_parse_double(value_text(value), KITH_NUM_RANGE_OK, &number) == KITH_OK)
        return number;
    return 0;
}

static bool to_bool(const value_t *value)
{
    switch (value->kind) {
    case KITH_VALUE_NUMBER:
        return value->number != 0;
    case KITH_VALUE_TEXT:
        return value->count != 0;
    case KITH_VALUE_ARRAY:
        return true;
    default:
        return false;
    }
}

static bool equal(const value_t *a, const value_t *b)
{
    if (a->kind == KITH_VALUE_TEXT && b->kind == KITH_VALUE_TEXT)
        return kith_slice_equal(value_text(a), value_text(b));
    if (a->kind == KITH_VALUE_NULL || b->kind == KITH_VALUE_NULL)
        return a->kind == b->kind;
    if (a->kind >= KITH_VALUE_ARRAY || b->kind >= KITH_VALUE_ARRAY)
        return false;
    return to_number(a) == to_number(b);
}

static bool contains(const value_t *list, const value_t *item)
{
    for (uint32_t i = 0; list->kind == KITH_VALUE_ARRAY && i < list->count; i++)
        if (equal(&list->items[i], item))
            return true;
    return false;
}

static double apply(enum kind kind, const value_t *a, const value_t *b)
{
    switch (kind) {
    case POWER:
        return pow(to_number(a), to_number(b));
    case TIMES:
        return to_number(a) * to_number(b);
    case DIVIDE:
        return to_number(a) / to_number(b);
    case MODULO:
        return fmod(to_number(a), to_number(b));
    case PLUS:
        return to_number(a) + to_number(b);
    case MINUS:
        return to_number(a) - to_number(b);
    case EQUAL:
        return equal(a, b);
    case UNEQUAL:
        return !equal(a, b);
    case GREATER:
        return to_number(a) > to_number(b);
    case GREATER_EQUAL:
        return to_number(a) >= to_number(b);
    case LESS:
        return to_number(a) < to_number(b);
    case LESS_EQUAL:
        return to_number(a) <= to_number(b);
    case IN:
        return contains(b, a);
    case AND:
        return to_bool(a) && to_bool(b);
    default:
        return to_bool(a) || to_bool(b);
    }
}

bool kith_filter_match(const struct kith_filter *filter, const struct kith_attributes *attributes)
{
    value_t stack[KITH_FILTER_DEPTH_MAX + 2];
    size_t depth = 0;
    if (!attributes || !kith_attributes_valid(attributes))
        return false;
    for (size_t i = 0; i < filter->length; i++) {
        const struct token *token = &filter->program[i];
        KITH_DEBUG_ASSERT(depth < KITH_FILTER_DEPTH_MAX + 2);
        if (token->kind == VALUE) {
            stack[depth++] = token->value;
        } else if (token->kind == FIELD) {
            const value_t *value = kith_attributes_get(attributes, token->name);
            if (!value || value->kind == KITH_VALUE_OTHER)
                return false;
            stack[depth++] = *value;
        } else if (token->kind == NOT) {
            KITH_ASSERT(depth >= 1);
            stack[depth - 1] = (value_t){.kind = KITH_VALUE_NUMBER, .number = !to_bool(&stack[depth - 1])};
        } else {
            KITH_ASSERT(depth >= 2);
            depth--;
            double result = apply(token->kind, &stack[depth - 1], &stack[depth]);
            stack[depth - 1] = (value_t){.kind = KITH_VALUE_NUMBER, .number = result};
        }
    }
    return to_bool(&stack[0]);
}
