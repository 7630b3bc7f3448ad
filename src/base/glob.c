/* Glob matching without recursion. When a star was passed, only the last one has to be tried again: what came
 * before it already matches as far to the left as possible, which leaves the most room for the rest. */
#include "base/glob.h"

#include <stdint.h>

static unsigned char fold(char c, bool fold_case)
{
    return (unsigned char)(fold_case && c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

static bool in_range(unsigned char c, unsigned char start, unsigned char end)
{
    return start <= end ? c >= start && c <= end : c >= end && c <= start;
}

/* The class behind '[': whether `c` is in it; *used receives its length, the brackets included. A class
 * without an end goes to the end of the pattern. */
static bool match_class(struct kith_slice pattern, unsigned char c, bool fold_case, size_t *used)
{
    size_t at = 1;
    bool inverted = at < pattern.length && pattern.data[at] == '^', match = false;
    at += inverted;
    for (; at < pattern.length && pattern.data[at] != ']'; at++) {
        if (pattern.data[at] == '\\' && at + 1 < pattern.length) {
            at++;
            match |= fold(pattern.data[at], fold_case) == c;
        } else if (at + 2 < pattern.length && pattern.data[at + 1] == '-') {
            match |= in_range(c, fold(pattern.data[at], fold_case), fold(pattern.data[at + 2], fold_case));
            at += 2;
        } else {
            match |= fold(pattern.data[at], fold_case) == c;
        }
    }
    *used = at < pattern.length ? at + 1 : pattern.length;
    return match != inverted;
}

/* Whether `c` matches the pattern's first element, which is not a star; *used receives its length. */
static bool match_one(struct kith_slice pattern, char text, bool fold_case, size_t *used)
{
    unsigned char c = fold(text, fold_case);
    *used = 1;
    if (pattern.data[0] == '?')
        return true;
    if (pattern.data[0] == '[')
        return match_class(pattern, c, fold_case, used);
    if (pattern.data[0] == '\\' && pattern.length > 1) {
        *used = 2;
        return fold(pattern.data[1], fold_case) == c;
    }
    return fold(pattern.data[0], fold_case) == c;
}

bool kith_glob_match(struct kith_slice pattern, struct kith_slice text, bool fold_case)
{
    size_t p = 0, t = 0, used;
    size_t star = SIZE_MAX, star_text = 0; /* behind the last star; where its tail was tried last */
    while (t < text.length) {
        if (p < pattern.length && pattern.data[p] == '*') {
            star = ++p;
            star_text = t;
            if (star == pattern.length)
                return true;
        } else if (p < pattern.length && match_one(kith_slice(pattern.data + p, pattern.length - p),
                                                   text.data[t], fold_case, &used)) {
            p += used;
            t++;
        } else if (star != SIZE_MAX) {
            p = star;
            t = ++star_text;
        } else {
            return false;
        }
    }
    while (p < pattern.length && pattern.data[p] == '*')
        p++;
    return p == pattern.length;
}
