/* LCS: the longest common subsequence of two strings by the textbook table (Wagner & Fischer 1974). */
#include "engine/commands/groups.h"
#include "engine/keyspace.h"
#include "engine/limits.h"

#include <stdlib.h>

struct lcs {
    struct kith_slice a, b;
    uint32_t *lengths; /* (a.length + 1) x (b.length + 1) */
    bool want_length, want_matches, with_match_length;
    int64_t least_match;
};

static uint32_t *cell(const struct lcs *lcs, size_t i, size_t j)
{
    return &lcs->lengths[i * (lcs->b.length + 1) + j];
}

static bool parse_options(struct kith_call *call, struct lcs *lcs)
{
    for (size_t i = 3; i < call->argc; i++) {
        if (kith_call_is(call, i, "idx")) {
            lcs->want_matches = true;
        } else if (kith_call_is(call, i, "len")) {
            lcs->want_length = true;
        } else if (kith_call_is(call, i, "withmatchlen")) {
            lcs->with_match_length = true;
        } else if (kith_call_is(call, i, "minmatchlen") && i + 1 < call->argc) {
            if (!kith_call_int(call, ++i, &lcs->least_match, NULL))
                return false;
            if (lcs->least_match < 0)
                lcs->least_match = 0;
        } else {
            kith_call_syntax_error(call);
            return false;
        }
    }
    if (lcs->want_length && lcs->want_matches) {
        kith_reply_error(call->reply, "ERR If you want both the length and indexes, please just use IDX.");
        return false;
    }
    return true;
}

static bool open_inputs(struct kith_call *call, struct lcs *lcs)
{
    struct kith_slice *sides[2] = {&lcs->a, &lcs->b};
    for (size_t i = 0; i < 2; i++) {
        struct kith_key key;
        *sides[i] = kith_slice("", 0);
        if (!kith_key_find(call, call->argv[i + 1], &key))
            continue;
        if (kith_key_type(&key) != KITH_STRING) {
            kith_reply_error(call->reply, "ERR The specified keys must contain string values");
            return false;
        }
        *sides[i] = kith_key_string(&key);
    }
    return true;
}

static bool fill(struct kith_call *call, struct lcs *lcs)
{
    uint64_t cells = ((uint64_t)lcs->a.length + 1) * ((uint64_t)lcs->b.length + 1);
    if (lcs->a.length >= UINT32_MAX || lcs->b.length >= UINT32_MAX) {
        kith_reply_error(call->reply, "ERR String too long for LCS");
        return false;
    }
    if (cells * sizeof *lcs->lengths > KITH_STRING_BYTES_MAX) {
        kith_reply_error(call->reply,
                         "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");
        return false;
    }
    lcs->lengths = malloc(cells * sizeof *lcs->lengths);
    if (!lcs->lengths) {
        kith_reply_error(call->reply, "ERR Insufficient memory, failed allocating transient memory for LCS");
        return false;
    }
    for (size_t i = 0; i <= lcs->a.length; i++) {
        for (size_t j = 0; j <= lcs->b.length; j++) {
            uint32_t *here = cell(lcs, i, j);
            if (i == 0 || j == 0) {
                *here = 0;
            } else if (lcs->a.data[i - 1] == lcs->b.data[j - 1]) {
                *here = *cell(lcs, i - 1, j - 1) + 1;
            } else {
                uint32_t up = *cell(lcs, i - 1, j), left = *cell(lcs, i, j - 1);
                *here = up > left ? up : left;
            }
        }
    }
    return true;
}

/* A run of equal bytes: a[a_start..a_end] and b[b_start..b_end], both ends included. */
struct run {
    size_t a_start, a_end, b_start, b_end;
    bool open;
};

static size_t write_run(struct kith_call *call, const struct lcs *lcs, const struct run *run)
{
    size_t length = run->a_end - run->a_start + 1;
    if (lcs->least_match && length < (uint64_t)lcs->least_match)
        return 0;
    kith_reply_array(call->reply, lcs->with_match_length ? 3 : 2);
    kith_reply_array(call->reply, 2);
    kith_reply_int(call->reply, (int64_t)run->a_start);
    kith_reply_int(call->reply, (int64_t)run->a_end);
    kith_reply_array(call->reply, 2);
    kith_reply_int(call->reply, (int64_t)run->b_start);
    kith_reply_int(call->reply, (int64_t)run->b_end);
    if (lcs->with_match_length)
        kith_reply_int(call->reply, (int64_t)length);
    return 1;
}

/* Walks the table back from its corner: fills `text` from its end, or writes the runs; returns their number.
 */
static size_t walk_back(struct kith_call *call, const struct lcs *lcs, char *text)
{
    size_t i = lcs->a.length, j = lcs->b.length, at = *cell(lcs, i, j), runs = 0;
    struct run run = {0};
    while (i > 0 && j > 0) {
        bool finished;
        if (lcs->a.data[i - 1] == lcs->b.data[j - 1]) {
            i--;
            j--;
            if (text)
                text[--at] = lcs->a.data[i];
            if (!run.open)
                run = (struct run){i, i, j, j, true};
            run.a_start = i;
            run.b_start = j;
            finished = i == 0 || j == 0;
        } else {
            if (*cell(lcs, i - 1, j) > *cell(lcs, i, j - 1))
                i--;
            else
                j--;
            finished = run.open;
        }
        if (finished) {
            if (!text)
                runs += write_run(call, lcs, &run);
            run.open = false;
        }
    }
    return runs;
}

void kith_lcs_command(struct kith_call *call)
{
    struct lcs lcs = {0};
    if (!open_inputs(call, &lcs) || !parse_options(call, &lcs) || !fill(call, &lcs))
        return;
    uint32_t length = *cell(&lcs, lcs.a.length, lcs.b.length);
    if (lcs.want_matches) {
        kith_reply_map(call->reply, 2);
        kith_reply_bulk_text(call->reply, "matches");
        struct kith_reply_mark mark = kith_reply_array_begin(call->reply);
        kith_reply_array_end(call->reply, mark, walk_back(call, &lcs, NULL));
        kith_reply_bulk_text(call->reply, "len");
        kith_reply_int(call->reply, length);
    } else if (lcs.want_length) {
        kith_reply_int(call->reply, length);
    } else {
        char *room = kith_reply_bulk_room(call->reply, length);
        if (room)
            walk_back(call, &lcs, room);
    }
    free(lcs.lengths);
}
