/* Values as people and programs want to see them: redis-cli's terminal form, its pipe form, JSON. */
#include "base/num.h"
#include "wire/value.h"

#include <math.h>

static bool is_container(const struct kith_value *value)
{
    return value->type >= KITH_VALUE_ARRAY;
}

bool kith_value_is(const struct kith_value *value, const char *text)
{
    bool has_text = value->type >= KITH_VALUE_SIMPLE && value->type <= KITH_VALUE_ERROR;
    return has_text && kith_slice_equal(value->text, kith_slice(text, strlen(text)));
}

const struct kith_value *kith_value_get(const struct kith_value *value, const char *key)
{
    if (!is_container(value))
        return NULL;
    for (size_t i = 0; i + 1 < value->count; i += 2) {
        if (kith_value_is(&value->items[i], key))
            return &value->items[i + 1];
    }
    return NULL;
}

void kith_value_print_quoted(struct kith_slice text, struct kith_buf *out)
{
    static const char escapes[] = "a\ab\bt\tn\nr\r\"\"\\\\";
    kith_buf_append_char(out, '"');
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];
        size_t e = 0;
        while (escapes[e] && (unsigned char)escapes[e + 1] != c)
            e += 2;
        if (escapes[e])
            kith_buf_append_format(out, "\\%c", escapes[e]);
        else if (c < ' ' || c > '~')
            kith_buf_append_format(out, "\\x%02x", c);
        else
            kith_buf_append_char(out, (char)c);
    }
    kith_buf_append_char(out, '"');
}

static void append_slice(struct kith_buf *out, struct kith_slice text)
{
    kith_buf_append(out, text.data, text.length);
}

static void append_double(struct kith_buf *out, double number)
{
    char text[KITH_NUM_DOUBLE_CHARS];
    kith_buf_append(out, text, kith_num_format_double(text, number));
}

/* Anything but a container, without a line end. */
static void print_scalar(const struct kith_value *value, struct kith_buf *out)
{
    switch (value->type) {
    case KITH_VALUE_NULL:
        kith_buf_append_text(out, "(nil)");
        break;
    case KITH_VALUE_STRING:
        kith_value_print_quoted(value->text, out);
        break;
    case KITH_VALUE_ERROR:
        kith_buf_append_text(out, "(error) ");
        append_slice(out, value->text);
        break;
    case KITH_VALUE_INT:
        kith_buf_append_format(out, "(integer) %lld", (long long)value->integer);
        break;
    case KITH_VALUE_DOUBLE:
        kith_buf_append_text(out, "(double) ");
        append_double(out, value->number);
        break;
    case KITH_VALUE_BOOL:
        kith_buf_append_text(out, value->integer ? "(true)" : "(false)");
        break;
    case KITH_VALUE_BIG:
        kith_buf_append_text(out, "(big number) ");
        append_slice(out, value->text);
        break;
    default:
        append_slice(out, value->text);
    }
}

static unsigned digit_count(size_t number)
{
    unsigned digits = 1;
    while (number >= 10) {
        number /= 10;
        digits++;
    }
    return digits;
}

/* `indent` columns precede every line but the first: an inner container starts on its own number's line. */
static void print_indented(const struct kith_value *value, unsigned indent, struct kith_buf *out)
{
    static const char *const empty[] = {"(empty array)\n", "(empty hash)\n", "(empty set)\n",
                                        "(empty push)\n"};
    if (!is_container(value)) {
        print_scalar(value, out);
        kith_buf_append_char(out, '\n');
        return;
    }
    if (!value->count) {
        kith_buf_append_text(out, empty[value->type - KITH_VALUE_ARRAY]);
        return;
    }
    bool is_map = value->type == KITH_VALUE_MAP;
    char mark = is_map ? '#' : value->type == KITH_VALUE_SET ? '~' : ')';
    size_t step = is_map ? 2 : 1;
    unsigned width = digit_count(value->count / step);
    for (size_t i = 0; i < value->count; i += step) {
        kith_buf_append_format(out, "%*s%*zu%c ", i ? (int)indent : 0, "", (int)width, i / step + 1, mark);
        print_indented(&value->items[i], indent + width + 2, out);
        if (is_map) {
            if (!out->failed)
                out->length--; /* the key's line end */
            kith_buf_append_text(out, " => ");
            print_indented(&value->items[i + 1], indent + width + 2, out);
        }
    }
}

void kith_value_print(const struct kith_value *value, struct kith_buf *out)
{
    print_indented(value, 0, out);
}

static void print_raw_scalar(const struct kith_value *value, struct kith_buf *out)
{
    switch (value->type) {
    case KITH_VALUE_NULL:
        break;
    case KITH_VALUE_INT:
        kith_buf_append_format(out, "%lld", (long long)value->integer);
        break;
    case KITH_VALUE_DOUBLE:
        append_double(out, value->number);
        break;
    case KITH_VALUE_BOOL:
        kith_buf_append_text(out, value->integer ? "(true)" : "(false)");
        break;
    default:
        append_slice(out, value->text);
    }
}

static void print_raw_inside(const struct kith_value *value, struct kith_buf *out)
{
    if (!is_container(value)) {
        print_raw_scalar(value, out);
        return;
    }
    for (size_t i = 0; i < value->count; i++) {
        if (i)
            kith_buf_append_char(out, value->type == KITH_VALUE_MAP && i % 2 ? ' ' : '\n');
        print_raw_inside(&value->items[i], out);
    }
}

void kith_value_print_raw(const struct kith_value *value, struct kith_buf *out)
{
    print_raw_inside(value, out);
    kith_buf_append_char(out, '\n');
}

/* Bytes of the well-formed UTF-8 character at `text` (Unicode 15, table 3-7), or 0. */
static size_t utf8_length(const unsigned char *text, size_t left)
{
    unsigned char a = text[0];
    size_t length = a < 0x80 ? 1 : a < 0xc2 ? 0 : a < 0xe0 ? 2 : a < 0xf0 ? 3 : a < 0xf5 ? 4 : 0;
    if (length == 0 || length > left)
        return 0;
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    }
    bool overlong = (a == 0xe0 && text[1] < 0xa0) || (a == 0xf0 && text[1] < 0x90);
    bool outside = (a == 0xed && text[1] > 0x9f) || (a == 0xf4 && text[1] > 0x8f);
    return overlong || outside ? 0 : length;
}

void kith_value_print_json_text(struct kith_slice text, struct kith_buf *out)
{
    static const char escapes[] = "\"\"\\\\n\nr\rt\t";
    kith_buf_append_char(out, '"');
    for (size_t i = 0; i < text.length;) {
        unsigned char c = (unsigned char)text.data[i];
        size_t length = utf8_length((const unsigned char *)text.data + i, text.length - i), e = 0;
        while (escapes[e] && (unsigned char)escapes[e + 1] != c)
            e += 2;
        if (escapes[e])
            kith_buf_append_format(out, "\\%c", escapes[e]);
        else if (c < ' ' || c == 0x7f || !length)
            kith_buf_append_format(out, "\\u%04x", c);
        else
            kith_buf_append(out, text.data + i, length);
        i += length ? length : 1;
    }
    kith_buf_append_char(out, '"');
}

static void print_json_key(const struct kith_value *key, struct kith_buf *out)
{
    if (key->type >= KITH_VALUE_SIMPLE && key->type <= KITH_VALUE_VERBATIM) {
        kith_value_print_json_text(key->text, out);
        return;
    }
    /* JSON has text keys only: any other key is its own JSON, quoted. */
    struct kith_buf inner;
    kith_buf_init(&inner);
    kith_value_print_json(key, &inner);
    kith_value_print_json_text(kith_buf_slice(&inner), out);
    out->failed |= inner.failed;
    kith_buf_fini(&inner);
}

static void print_json_items(const struct kith_value *value, struct kith_buf *out)
{
    bool is_map = value->type == KITH_VALUE_MAP;
    kith_buf_append_char(out, is_map ? '{' : '[');
    for (size_t i = 0; i < value->count; i++) {
        bool is_key = is_map && i % 2 == 0;
        if (i)
            kith_buf_append_char(out, is_map && !is_key ? ':' : ',');
        if (is_key)
            print_json_key(&value->items[i], out);
        else
            kith_value_print_json(&value->items[i], out);
    }
    kith_buf_append_char(out, is_map ? '}' : ']');
}

/* A big number is a JSON number when its text is one: digits, no leading zeros. */
static bool is_json_integer(struct kith_slice text)
{
    size_t first = text.length && text.data[0] == '-';
    for (size_t i = first; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
    }
    return text.length > first && (text.data[first] != '0' || text.length == first + 1);
}

void kith_value_print_json(const struct kith_value *value, struct kith_buf *out)
{
    switch (value->type) {
    case KITH_VALUE_NULL:
        kith_buf_append_text(out, "null");
        break;
    case KITH_VALUE_INT:
        kith_buf_append_format(out, "%lld", (long long)value->integer);
        break;
    case KITH_VALUE_BOOL:
        kith_buf_append_text(out, value->integer ? "true" : "false");
        break;
    case KITH_VALUE_DOUBLE:
        if (!isfinite(value->number))
            kith_buf_append_char(out, '"');
        append_double(out, value->number);
        if (!isfinite(value->number))
            kith_buf_append_char(out, '"');
        break;
    case KITH_VALUE_BIG:
        if (is_json_integer(value->text))
            append_slice(out, value->text);
        else
            kith_value_print_json_text(value->text, out);
        break;
    case KITH_VALUE_ERROR:
        kith_buf_append_text(out, "{\"error\":");
        kith_value_print_json_text(value->text, out);
        kith_buf_append_char(out, '}');
        break;
    case KITH_VALUE_ARRAY:
    case KITH_VALUE_MAP:
    case KITH_VALUE_SET:
    case KITH_VALUE_PUSH:
        print_json_items(value, out);
        break;
    default:
        kith_value_print_json_text(value->text, out);
    }
}
