/* Glob patterns: the cases that Redis's own documentation and clients rely on, and their bounds. */
#include "base/glob.h"
#include "base/slice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void patterns_match_as_the_table_says(void **state)
{
    static const struct {
        const char *pattern, *text;
        bool matches, matches_folded;
    } table[] = {
        {"", "", true, true},
        {"", "a", false, false},
        {"*", "", true, true},
        {"*", "anything", true, true},
        {"**", "x", true, true},
        {"?", "", false, false},
        {"?", "x", true, true},
        {"h?llo", "hello", true, true},
        {"h?llo", "hllo", false, false},
        {"h*llo", "heeeello", true, true},
        {"h*llo", "hello!", false, false},
        {"h[ae]llo", "hallo", true, true},
        {"h[ae]llo", "hillo", false, false},
        {"h[^e]llo", "hallo", true, true},
        {"h[^e]llo", "hello", false, false},
        {"h[a-b]llo", "hbllo", true, true},
        {"h[a-b]llo", "hcllo", false, false},
        {"h[b-a]llo", "hallo", true, true},
        {"\\*", "*", true, true},
        {"\\*", "a", false, false},
        {"[\\]]", "]", true, true},
        {"HELLO", "hello", false, true},
        {"[A-C]x", "bX", false, true},
        {"a*b*c", "a--b--b--c", true, true},
        {"a*b*c", "a--c--b", false, false},
        {"*.txt", "notes.txt", true, true},
        {"*[0-9]", "key7", true, true},
        {"*[0-9]", "key", false, false},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct kith_slice pattern = kith_slice(table[i].pattern, strlen(table[i].pattern));
        struct kith_slice text = kith_slice(table[i].text, strlen(table[i].text));
        if (kith_glob_match(pattern, text, false) != table[i].matches ||
            kith_glob_match(pattern, text, true) != table[i].matches_folded)
            fail_msg("pattern '%s', text '%s'", table[i].pattern, table[i].text);
    }
}

static void a_pattern_of_stars_takes_no_longer_than_the_product_of_the_lengths(void **state)
{
    char pattern[400], text[4000];
    for (size_t i = 0; i < sizeof pattern; i += 2)
        memcpy(pattern + i, "*a", 2);
    pattern[sizeof pattern - 1] = 'b';
    memset(text, 'a', sizeof text);
    /* Exponential matching would not come back in the life of the universe. */
    assert_false(kith_glob_match(kith_slice(pattern, sizeof pattern), kith_slice(text, sizeof text), false));
}

static void an_unfinished_pattern_stays_inside_itself(void **state)
{
    static const char *const patterns[] = {"[", "[a", "[^", "[a-", "\\", "a\\", "[\\", "*[", "?["};
    static const char *const texts[] = {"", "a", "[", "\\", "aa", "-"};
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++) {
            /* A copy of the exact size, so that AddressSanitizer sees a step past the end. */
            char *copy = strdup(patterns[i]);
            assert_non_null(copy);
            size_t length = strlen(copy);
            memmove(copy + 1, copy, length);
            kith_glob_match(kith_slice(copy + 1, length), kith_slice(texts[t], strlen(texts[t])), false);
            free(copy);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_match_as_the_table_says),
        cmocka_unit_test(a_pattern_of_stars_takes_no_longer_than_the_product_of_the_lengths),
        cmocka_unit_test(an_unfinished_pattern_stays_inside_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
