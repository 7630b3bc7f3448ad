/* FILTER expressions and the attributes they look at: tables of what matches and of what is refused, where
 * and with which words. */
#include "base/random.h"
#include "base/status.h"
#include "engine/attributes.h"
#include "engine/filter.h"
#include "failing_malloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants those first */
#include <cmocka.h>

static const char film[] =
    "{\"y\":1,\"s\":\"ab\",\"t\":[\"x\",2,true,null,[1],\"two words\"],\"b\":true,\"f\":false,\"n\":null,"
    "\"o\":{\"p\":1},\"e\":\"\",\"num\":\"12\",\"neg\":-3,\"big\":123456789012345678901234567890,"
    "\"a-1\":7,\"a\":5,\"empty\":[],\"Year\":1984,\"q\":\"it's \\\"so\\\"\",\"u\":\"caf\\u00e9\"}";

static struct kith_slice text(const char *s)
{
    return kith_slice(s, strlen(s));
}

static bool matches(const char *expression, const char *json)
{
    struct kith_filter *filter;
    struct kith_error error = {""};
    struct kith_attributes *attributes = json ? kith_attributes_open(text(json)) : NULL;
    int status = kith_filter_open(&filter, text(expression), &error);
    if (status != KITH_OK)
        print_message("%s: %s\n", expression, error.text);
    assert_int_equal(status, KITH_OK);
    bool match = kith_filter_match(filter, attributes);
    kith_filter_close(filter);
    kith_attributes_close(attributes);
    return match;
}

static void expressions_match_as_they_read(void **state)
{
    static const struct {
        const char *expression;
        bool match;
    } rows[] = {
        /* What Redis 8 answers for the same. */
        {".y == 1", true},
        {".y >= 1 and .s == \"ab\"", true},
        {"\"x\" in .t", true},
        {"2 in .t", true},
        {"\"a\" in .s", false},
        {".b", true},
        {".b == 1", true},
        {".n", false},
        {".o", false},
        {".nope", false},
        {"!.nope", false},
        {"not .y", false},
        {".y ** 2 == 1", true},
        {".y + 1 == 2", true},
        {".s in [\"ab\",\"cd\"]", true},
        {"1", true},
        {".y && .b", true},
        {".y || .zz", false},
        {".zz || .y", false},
        {"-1 < .y", true},
        {".y == -1", false},
        {".y == 1.0", true},
        {".y != 2", true},
        {".s != \"zz\"", true},
        {".zz != 2", false},
        {".y % 2 == 1", true},
        {".y / 0 > 1", true},
        {"'ab' == .s", true},
        {".s > \"aa\"", false},
        {".y in .t", true}, /* .t has true, which is 1 */
        {"(5+2)*3 and .Year > 1980 and 'foo' == 'foo'", true},
        /* Beyond: true, false, null. */
        {".b == true", true},
        {".f == false", true},
        {".f", false},
        {"!.f", true},
        {".n == null", true},
        {".n != null", false},
        {".s == null", false},
        {".f == null", false},
        {"null in .t", true},
        {"null", false},
        {"not null", true},
        {".o == 1", false},
        {"not .o", false},
        {"!(.o == 1)", false},
        /* Strength and order of operators. */
        {"2 + 3 * 4 == 14", true},
        {"(2 + 3) * 4 == 20", true},
        {"2 ** 3 ** 2 == 512", true},
        {"10 - 4 - 3 == 3", true},
        {"16 / 4 / 2 == 2", true},
        {"7 % 4 * 2 == 6", true},
        {"1 or 0 and 0", true},
        {"(1 or 0) and 0", false},
        {"1 || 0 && 0", true},
        {"not 0 and 0", false},
        {"not (0 and 0)", true},
        {"not not 5 == 1", true},
        {"!0 == 1", true},
        {"!.y == 0", true},
        {"1 < 2 == 1", true},
        {"3 > 2 > 1", false}, /* (3 > 2) > 1 */
        {"1 + 1 in [2, 3]", true},
        {"2 * -3 == -6", true},
        {"2 - -3 == 5", true},
        {"2 -3 == -1", true},
        {"2-3 == -1", true},
        {"(2)-3 == -1", true},
        {"+4 == 4", true},
        {"-.5 == 0 - 0.5", true},
        {"1e3 == 1000 and 1.5E-1 == 0.15 and 2e+2 == 200", true},
        {"0x10 == 16", true},
        {"-7 % 4 == -3", true},
        {"4 ** 0.5 == 2", true},
        {"1<2&&2<3||0", true},
        {"1 AND NOT FALSE", true}, /* words in any case */
        {"\t.y\n==\r1 ", true},
        /* Texts. */
        {"\"a\\\"b\" == 'a\"b'", true},
        {"'it\\'s \"so\"' == .q", true},
        {"'\\\\' == \"\\\\\"", true},
        {"'a' == \"a\"", true},
        {"'a' == 'A'", false},
        {"'' == .e", true},
        {".e", false},
        {"not .e", true},
        {"' '", true},
        {".u == 'caf\xc3\xa9'", true},
        {"'and' == \"and\"", true},
        {"'two words' in .t", true},
        /* A text beside a number is read as one. */
        {".num == 12", true},
        {".num + 1 == 13", true},
        {"'12' == .num", true},
        {"'12.0' == .num", false},
        {".s == 0", true},
        {".s < 1", true},
        {"'1e2' == 100", true},
        /* Lists. */
        {"1 in []", false},
        {"1 in [1]", true},
        {"1 in [2, 1, ]", true},
        {"'1' in [1]", true},
        {"-2 in [1, -2]", true},
        {"true in [1]", true},
        {"'x' in ['y', \"x\"]", true},
        {".nope in [1]", false},
        {"not (3 in [1, 2])", true},
        {"1 in 1", false},
        {".t == .t", false},
        {".empty", true}, /* only numbers, texts and null can be false */
        {"[0]", true},
        {".t", true},
        /* Fields. */
        {".a-1 == 7", true}, /* the field a-1 */
        {".a - 1 == 4", true},
        {".year", false},
        {".Year == 1984", true},
        {".big > 1e29", true},
        {".neg == -3", true},
        {"0/0 == 0/0", false},
        {"0/0", true}, /* not a number is not 0 */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool match = matches(rows[i].expression, film);
        if (match != rows[i].match)
            print_message("%s\n", rows[i].expression);
        assert_int_equal(match, rows[i].match);
    }
}

static void nothing_matches_what_has_no_fields(void **state)
{
    assert_false(matches("1", NULL));
    assert_false(matches("not .y", NULL));
    static const char *const not_objects[] = {
        "",           "not json",          "[1]",
        "1",          "{\"y\":1",          "{\"y\":1} x",
        "{'y':1}",    "{\"y\":1,\"y\":2}", "{\"y\":\"\xff\"}",
        " {\"y\":1}",
    };
    for (size_t i = 0; i < sizeof not_objects / sizeof not_objects[0]; i++) {
        assert_false(matches("1", not_objects[i]));
        struct kith_attributes *attributes = kith_attributes_open(text(not_objects[i]));
        assert_false(kith_attributes_valid(attributes));
        assert_true(kith_slice_equal(kith_attributes_text(attributes), text(not_objects[i])));
        assert_null(kith_attributes_get(attributes, text("y")));
        kith_attributes_close(attributes);
    }
    assert_true(matches("1", "{}"));
    assert_false(matches(".y", "{}"));
}

static void mistakes_are_named_with_their_place(void **state)
{
    static const struct {
        const char *expression, *error;
    } rows[] = {
        {".s == ab", "near: ab (at byte 6: expected a value or an operator (texts stand in quotes, fields "
                     "after a dot))"},
        {".o.p == 1",
         "near: .p == 1 (at byte 2: expected a top-level field: filters do not look into nested objects)"},
        {".y = 1", "near: = 1 (at byte 3: expected == to compare)"},
        {"(.y", "near:  (at byte 3: expected a closing parenthesis)"},
        {"", "near:  (at byte 0: expected a value)"},
        {"   ", "near:  (at byte 3: expected a value)"},
        {".y == 1 or", "near:  (at byte 10: expected a value)"},
        {".y)", "near: ) (at byte 2: expected an opening parenthesis before)"},
        {"()", "near: ) (at byte 1: expected a value)"},
        {"1 2", "near:  2 (at byte 1: expected an operator)"},
        {".y .s", "near:  .s (at byte 2: expected an operator)"},
        {".y not 1", "near:  not 1 (at byte 2: expected an operator)"},
        {". == 1", "near:  == 1 (at byte 1: expected a field name after the dot)"},
        {"1 + * 2", "near:  * 2 (at byte 3: expected a value)"},
        {"and 1", "near: and 1 (at byte 0: expected a value)"},
        {"'abc", "near:  (at byte 4: expected a closing quote)"},
        {"\"abc\\\"", "near:  (at byte 6: expected a closing quote)"},
        {"'\\", "near:  (at byte 2: expected a closing quote)"},
        {"1 in [1 2]", "near: 2] (at byte 8: expected a comma or ] in the list)"},
        {"1 in [1", "near:  (at byte 7: expected a comma or ] in the list)"},
        {"1 in [[1]]", "near: [1]] (at byte 6: expected a number, a quoted text, true, false or null)"},
        {"1 in [.y]", "near: .y] (at byte 6: expected a number, a quoted text, true, false or null)"},
        {"1 in [and]", "near: ] (at byte 9: expected a number, a quoted text, true, false or null)"},
        {"1x", "near: 1x (at byte 0: expected a number)"},
        {"1.2.3", "near: 1.2.3 (at byte 0: expected a number)"},
        {"1 & 2", "near: & 2 (at byte 2: expected a value or an operator)"},
        {"#", "near: # (at byte 0: expected a value or an operator)"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct kith_filter *filter = NULL;
        struct kith_error error = {""};
        char expected[256];
        snprintf(expected, sizeof expected, "syntax error in FILTER expression %s", rows[i].error);
        int status = kith_filter_open(&filter, text(rows[i].expression), &error);
        if (status != KITH_EINVAL)
            print_message("%s\n", rows[i].expression);
        assert_int_equal(status, KITH_EINVAL);
        assert_string_equal(error.text, expected);
        assert_null(filter);
    }
}

/* `depth` times `open`, a 1, and `depth` times `close`. */
static int open_nested(struct kith_filter **filter, const char *open, const char *close, size_t depth,
                       struct kith_error *error)
{
    size_t length = depth * (strlen(open) + strlen(close)) + 1;
    char *expression = malloc(length), *p = expression;
    assert_non_null(expression);
    for (size_t i = 0; i < depth; i++, p += strlen(open))
        memcpy(p, open, strlen(open));
    *p++ = '1';
    for (size_t i = 0; i < depth; i++, p += strlen(close))
        memcpy(p, close, strlen(close));
    int status = kith_filter_open(filter, kith_slice(expression, length), error);
    free(expression);
    return status;
}

static void depth_and_length_are_bounded(void **state)
{
    static const struct {
        const char *open, *close;
        size_t deepest;
    } rows[] = {
        {"(", ")", KITH_FILTER_DEPTH_MAX},
        {"!", "", KITH_FILTER_DEPTH_MAX},
        {"2**", "", KITH_FILTER_DEPTH_MAX},
        {"(1+", ")", KITH_FILTER_DEPTH_MAX / 2},
        {"1+", "", 15000}, /* this one does not nest */
    };
    struct kith_attributes *attributes = kith_attributes_open(text("{}"));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct kith_filter *filter;
        struct kith_error error = {""};
        print_message("%zu levels of %s%s\n", rows[i].deepest, rows[i].open, rows[i].close);
        assert_int_equal(open_nested(&filter, rows[i].open, rows[i].close, rows[i].deepest, &error), KITH_OK);
        assert_true(kith_filter_match(filter, attributes));
        kith_filter_close(filter);
        assert_int_equal(open_nested(&filter, rows[i].open, rows[i].close, 2 * rows[i].deepest, &error),
                         i < 4 ? KITH_EINVAL : KITH_OK);
        if (i < 4)
            assert_non_null(strstr(error.text, "less nesting: at most 256 levels"));
        else
            kith_filter_close(filter);
    }
    kith_attributes_close(attributes);
    char *spaces = malloc(KITH_FILTER_BYTES_MAX + 1);
    struct kith_filter *filter;
    struct kith_error error = {""};
    assert_non_null(spaces);
    memset(spaces, ' ', KITH_FILTER_BYTES_MAX + 1);
    spaces[0] = '1';
    assert_int_equal(kith_filter_open(&filter, kith_slice(spaces, KITH_FILTER_BYTES_MAX), &error), KITH_OK);
    kith_filter_close(filter);
    assert_int_equal(kith_filter_open(&filter, kith_slice(spaces, KITH_FILTER_BYTES_MAX + 1), &error),
                     KITH_EINVAL);
    assert_string_equal(error.text, "FILTER expression has 65537 bytes, at most 65536 are allowed");
    free(spaces);
}

static void fields_are_found_among_many_and_keep_their_kinds(void **state)
{
    char json[8192];
    size_t length = 0;
    for (int i = 0; i < 300; i++)
        length += (size_t)snprintf(json + length, sizeof json - length, "%c\"field%d\":%d", i ? ',' : '{', i,
                                   i * i);
    snprintf(json + length, sizeof json - length, "}");
    struct kith_attributes *attributes = kith_attributes_open(text(json));
    assert_true(kith_attributes_valid(attributes));
    for (int i = 0; i < 300; i++) {
        char name[32];
        snprintf(name, sizeof name, "field%d", i);
        const struct kith_attribute_value *value = kith_attributes_get(attributes, text(name));
        assert_int_equal(value->kind, KITH_VALUE_NUMBER);
        assert_true(value->number == i * i);
    }
    assert_null(kith_attributes_get(attributes, text("field")));
    assert_null(kith_attributes_get(attributes, text("field300")));
    assert_true(kith_attributes_bytes(attributes) > strlen(json));
    assert_ptr_equal(kith_attributes_hold(attributes), attributes);
    kith_attributes_close(attributes);
    assert_non_null(kith_attributes_get(attributes, text("field7")));
    kith_attributes_close(attributes);
    assert_int_equal(kith_attributes_bytes(NULL), 0);
    attributes = kith_attributes_open(text(film));
    const struct kith_attribute_value *list = kith_attributes_get(attributes, text("t"));
    assert_int_equal(list->kind, KITH_VALUE_ARRAY);
    assert_int_equal(list->count, 6);
    static const enum kith_value_kind kinds[] = {KITH_VALUE_TEXT, KITH_VALUE_NUMBER, KITH_VALUE_NUMBER,
                                                 KITH_VALUE_NULL, KITH_VALUE_OTHER,  KITH_VALUE_TEXT};
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(list->items[i].kind, kinds[i]);
    assert_int_equal(kith_attributes_get(attributes, text("o"))->kind, KITH_VALUE_OTHER);
    kith_attributes_close(attributes);
}

/* Random expressions over small whole numbers, written out with all parentheses or with none, against the
 * same tree evaluated here. */
struct tree {
    char text[4096];
    double value;
};

static void random_tree(struct kith_rng *rng, unsigned depth, struct tree *tree)
{
    static const char *const names[] = {"+", "-", "*", "<", ">", "==", "!=", "<=", ">=", "and", "or"};
    unsigned which = (unsigned)kith_rng_below(rng, 14);
    if (depth == 0 || which >= 13) {
        int number = (int)kith_rng_below(rng, 10);
        bool field = kith_rng_below(rng, 2);
        snprintf(tree->text, sizeof tree->text, field ? ".f%d" : "%d", number);
        tree->value = number;
        return;
    }
    struct tree *a = malloc(sizeof *a), *b = malloc(sizeof *b);
    assert_true(a && b);
    random_tree(rng, depth - 1, a);
    random_tree(rng, depth - 1, b);
    double x = a->value, y = b->value;
    const double values[] = {x + y, x - y, x * y, x<y, x> y, x == y, x != y, x <= y, x >= y, x && y, x || y};
    if (which >= 11) {
        snprintf(tree->text, sizeof tree->text, which == 11 ? "not (%.4000s)" : "!(%.4000s)", a->text);
        tree->value = !x;
    } else {
        snprintf(tree->text, sizeof tree->text, "(%.2000s)%s%s%s(%.2000s)", a->text, which % 2 ? " " : "",
                 names[which], which > 8 ? " " : "", b->text);
        tree->value = values[which];
    }
    free(a);
    free(b);
}

static void random_expressions_have_the_value_of_their_tree(void **state)
{
    static const char json[] = "{\"f0\":0,\"f1\":1,\"f2\":2,\"f3\":\"3\",\"f4\":4,\"f5\":5,\"f6\":6,\"f7\":7,"
                               "\"f8\":8,\"f9\":9.0}";
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        struct kith_rng rng;
        struct tree tree;
        char whole[5000];
        kith_rng_seed(&rng, seed);
        random_tree(&rng, 5, &tree);
        snprintf(whole, sizeof whole, "(%s) == %.0f", tree.text, tree.value);
        bool match = matches(whole, json);
        if (!match)
            print_message("seed %llu: %s\n", (unsigned long long)seed, whole);
        assert_true(match);
    }
}

static void without_memory_nothing_is_made_and_nothing_leaks(void **state)
{
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct kith_filter *filter = NULL;
        int status = kith_filter_open(
            &filter,
            text(".s in ['ab', 'cd', 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16] and "
                 "(.y + 1 - 2 * 3 / 4 ** 5 % 6 < 7 or not .b)"),
            NULL);
        struct kith_attributes *attributes = kith_attributes_open(text(film));
        assert_true(status == KITH_OK || status == KITH_ENOMEM);
        if (status == KITH_OK && attributes)
            assert_true(kith_filter_match(filter, attributes));
        kith_filter_close(filter);
        kith_attributes_close(attributes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expressions_match_as_they_read),
        cmocka_unit_test(nothing_matches_what_has_no_fields),
        cmocka_unit_test(mistakes_are_named_with_their_place),
        cmocka_unit_test(depth_and_length_are_bounded),
        cmocka_unit_test(fields_are_found_among_many_and_keep_their_kinds),
        cmocka_unit_test(random_expressions_have_the_value_of_their_tree),
        cmocka_unit_test(without_memory_nothing_is_made_and_nothing_leaks),
    };
    return cmocka_run_group_tests_name("filter", tests, NULL, NULL);
}
