/* A history is read line by line into an array, sorted by key, and each run of equal keys is one search. */
#include "history.h"

#include <stdlib.h>
#include <string.h>

enum { WORDS = 8, TOLD_WHOLE = 3 };

/* Cuts `line` at its spaces; false unless there are WORDS words. */
static bool split(char *line, char *words[WORDS])
{
    for (size_t i = 0; i < WORDS; i++) {
        words[i] = line;
        line += strcspn(line, " \n");
        if (line == words[i] || (*line != ' ' && i + 1 < WORDS))
            return false;
        if (*line)
            *line++ = '\0';
    }
    return !*line;
}

static bool read_number(const char *word, uint64_t *out)
{
    char *end;
    *out = strtoull(word, &end, 10);
    return !*end && *word >= '0' && *word <= '9';
}

static bool read_kind(const char *word, enum linear_kind *out)
{
    static const char *const names[] = {"GET", "SET", "SETNX", "GETSET", "DEL", "APPEND", "INCR"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(word, names[i]) == 0) {
            *out = (enum linear_kind)i;
            return true;
        }
    return false;
}

static bool read_result(const char *word, struct linear_op *op)
{
    char *end;
    if (op->returned == LINEAR_NEVER || op->kind == LINEAR_SET)
        return strcmp(word, "-") == 0;
    if (op->kind == LINEAR_GET || op->kind == LINEAR_GETSET) {
        op->nil = strcmp(word, "nil") == 0;
        if (!op->nil)
            op->result = kith_slice(word, strlen(word));
        return true;
    }
    op->number = strtoll(word, &end, 10);
    return end != word && !*end;
}

static bool read_op(char *words[WORDS], struct history_record *record)
{
    struct linear_op *op = &record->op;
    uint64_t client, node;
    if (!read_number(words[1], &client) || !read_number(words[2], &node) || !read_kind(words[3], &op->kind) ||
        !read_number(words[4], &op->called))
        return false;
    op->client = (uint32_t)client;
    record->node = (uint32_t)node;
    op->returned = LINEAR_NEVER;
    if (strcmp(words[5], "-") != 0 && (!read_number(words[5], &op->returned) || op->returned < op->called))
        return false;
    if (strcmp(words[6], "-") != 0)
        op->argument = kith_slice(words[6], strlen(words[6]));
    return read_result(words[7], op);
}

bool history_add(struct history *history, const char *line)
{
    char *words[WORDS];
    struct history_record record = {.key = strdup(line)};
    if (!record.key)
        abort();
    if (!split(record.key, words) || !read_op(words, &record)) {
        free(record.key);
        return false;
    }
    if (history->count == history->capacity) {
        history->capacity = history->capacity ? history->capacity * 2 : 1024;
        history->records = realloc(history->records, history->capacity * sizeof *history->records);
        if (!history->records)
            abort();
    }
    history->records[history->count++] = record;
    return true;
}

static int compare_records(const void *a, const void *b)
{
    const struct history_record *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    if (order)
        return order;
    return x->op.called < y->op.called ? -1 : x->op.called > y->op.called;
}

static void tell(const struct history_record *records, const struct linear_op *ops, size_t count,
                 const struct linear_report *report, bool whole, FILE *out)
{
    char line[400];
    linear_print(&ops[report->stuck], line, sizeof line);
    fprintf(out, "%s: %zu operations %s; stuck at %s, node %u\n", records->key, count,
            report->verdict == LINEAR_BAD ? "cannot be explained" : "are too many to decide", line,
            records[report->stuck].node);
    for (size_t i = 0; i < count && whole; i++) {
        linear_print(&ops[i], line, sizeof line);
        fprintf(out, "    %s, node %u\n", line, records[i].node);
    }
}

void history_check(struct history *history, size_t budget, FILE *out, struct history_verdict *verdict)
{
    struct history_record *records = history->records;
    struct linear_op *ops = malloc((history->count + 1) * sizeof *ops);
    struct linear_report report;
    if (!ops)
        abort();
    *verdict = (struct history_verdict){0};
    if (history->count)
        qsort(records, history->count, sizeof *records, compare_records);
    for (size_t from = 0, to; from < history->count; from = to) {
        for (to = from; to < history->count && strcmp(records[to].key, records[from].key) == 0; to++)
            ops[to - from] = records[to].op;
        linear_check(ops, to - from, budget, &report);
        verdict->keys++;
        verdict->bad += report.verdict == LINEAR_BAD;
        verdict->undecided += report.verdict == LINEAR_UNDECIDED;
        if (report.verdict != LINEAR_GOOD)
            tell(records + from, ops, to - from, &report, verdict->bad + verdict->undecided <= TOLD_WHOLE,
                 out);
    }
    free(ops);
}

void history_fini(struct history *history)
{
    for (size_t i = 0; i < history->count; i++)
        free(history->records[i].key);
    free(history->records);
    *history = (struct history){0};
}
