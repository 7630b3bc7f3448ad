/* The replica's side of PSYNC as a state machine: one line is asked and answered at a time, then the copy's bytes are
 * counted out to whoever reads them. Every line is from a stranger until it fits. */
#include "net/follow_wire.h"

#include "base/assert.h"
#include "base/num.h"
#include "engine/upstream.h"

#include <stdarg.h>
#include <stdio.h>

static int fail(struct follow_wire *wire, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(struct follow_wire *wire, int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    /* The analyzer loses va_start when this is inlined. NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized) */
    vsnprintf(wire->error, sizeof wire->error, format, args);
    va_end(args);
    return status;
}

void follow_wire_request(struct kith_buf *out, const char *const *words, size_t count)
{
    kith_buf_append_format(out, "*%zu\r\n", count);
    for (size_t i = 0; i < count; i++)
        kith_buf_append_format(out, "$%zu\r\n%s\r\n", strlen(words[i]), words[i]);
}

/* --- what is asked, step by step --- */

static void say(struct follow_wire *wire, const char *a, const char *b, const char *c)
{
    const char *words[3] = {a, b, c};
    follow_wire_request(&wire->out, words, c ? 3 : b ? 2 : 1);
}

static void ask(struct follow_wire *wire, enum follow_wire_state state)
{
    const struct follow_wire_options *options = &wire->options;
    char number[32];
    wire->state = state;
    switch (state) {
    case FOLLOW_PING:
        say(wire, "PING", NULL, NULL);
        return;
    case FOLLOW_AUTH:
        if (*options->user)
            say(wire, "AUTH", options->user, options->password);
        else
            say(wire, "AUTH", options->password, NULL);
        return;
    case FOLLOW_PORT:
        snprintf(number, sizeof number, "%u", options->port);
        say(wire, "REPLCONF", "listening-port", number);
        return;
    case FOLLOW_ADDRESS:
        say(wire, "REPLCONF", "ip-address", options->announce);
        return;
    case FOLLOW_CAPA: {
        static const char *const words[] = {"REPLCONF", "capa", "eof", "capa", "psync2"};
        follow_wire_request(&wire->out, words, 5);
        return;
    }
    case FOLLOW_PSYNC:
        snprintf(number, sizeof number, "%lld", *options->replid ? (long long)options->offset + 1 : -1LL);
        say(wire, "PSYNC", *options->replid ? options->replid : "?", number);
        return;
    default:
        return;
    }
}

static enum follow_wire_state next_question(const struct follow_wire *wire)
{
    switch (wire->state) {
    case FOLLOW_PING:
        return *wire->options.password ? FOLLOW_AUTH : FOLLOW_PORT;
    case FOLLOW_AUTH:
        return FOLLOW_PORT;
    case FOLLOW_PORT:
        return *wire->options.announce ? FOLLOW_ADDRESS : FOLLOW_CAPA;
    case FOLLOW_ADDRESS:
        return FOLLOW_CAPA;
    default:
        return FOLLOW_PSYNC;
    }
}

void follow_wire_init(struct follow_wire *wire, const struct follow_wire_options *options,
                      const struct follow_wire_events *events, void *arg)
{
    *wire = (struct follow_wire){.options = *options, .events = events, .arg = arg};
    ask(wire, FOLLOW_PING);
}

void follow_wire_fini(struct follow_wire *wire)
{
    kith_buf_fini(&wire->out);
}

/* --- what is answered --- */

static bool begins(const char *line, const char *text)
{
    return strncmp(line, text, strlen(text)) == 0;
}

/* An error instead of an answer. */
static int refused(struct follow_wire *wire, const char *line)
{
    if (begins(line, "-NOAUTH") || begins(line, "-ERR operation not permitted"))
        return fail(wire, KITH_EPERM,
                    "it wants a password: CONFIG SET masterauth (and masteruser for a user)");
    if (begins(line, "-WRONGPASS") || wire->state == FOLLOW_AUTH)
        return fail(wire, KITH_EPERM, "it refuses masteruser and masterauth: %s", line + 1);
    if (begins(line, "-NOPERM"))
        return fail(wire, KITH_EPERM,
                    "masteruser may not replicate (%s): give it +psync +replconf +ping on the upstream",
                    line + 1);
    if (begins(line, "-LOADING"))
        return fail(wire, KITH_EAGAIN, "it is loading its own data; tried again until it has");
    if (begins(line, "-NOMASTERLINK"))
        return fail(
            wire, KITH_EAGAIN,
            "it is a replica itself and not in touch with its master; tried again until it is, or name "
            "the master");
    if (strstr(line, "unknown command") || begins(line, "-ERR unknown"))
        return fail(
            wire, KITH_EINVAL,
            "it does not serve replicas (%.100s): a Kith joins another with kithd --join, and a proxy "
            "has to be gone around",
            line + 1);
    return fail(wire, KITH_EAGAIN, "it answered: %.300s", line + 1);
}

static bool take_replid(struct follow_wire *wire, const char *text, size_t length)
{
    if (!kith_upstream_is_replid(kith_slice(text, length)))
        return false;
    memcpy(wire->replid, text, length);
    wire->replid[length] = '\0';
    return true;
}

/* "+FULLRESYNC replid offset" or "+CONTINUE [replid]" */
static int psync_answered(struct follow_wire *wire, const char *line)
{
    if (begins(line, "+CONTINUE")) {
        const char *replid = line + strlen("+CONTINUE");
        replid += *replid == ' ';
        if (!*wire->options.replid)
            return fail(wire, KITH_ECORRUPT, "it goes on with a stream that was never begun");
        if (*replid ? !take_replid(wire, replid, strlen(replid))
                    : !take_replid(wire, wire->options.replid, strlen(wire->options.replid)))
            return fail(wire, KITH_ECORRUPT, "it names a replication id that is none: %.100s", line);
        wire->state = FOLLOW_STREAM;
        return wire->events->resumed(wire->arg, wire->replid);
    }
    if (begins(line, "+FULLRESYNC ")) {
        const char *replid = line + strlen("+FULLRESYNC "), *blank = strchr(replid, ' ');
        if (!blank || !take_replid(wire, replid, (size_t)(blank - replid)) ||
            kith_num_parse_int64(kith_slice(blank + 1, strlen(blank + 1)), &wire->offset) != KITH_OK ||
            wire->offset < 0)
            return fail(wire, KITH_ECORRUPT, "its FULLRESYNC makes no sense: %.100s", line);
        wire->state = FOLLOW_HEADER;
        return KITH_OK;
    }
    return fail(wire, KITH_ECORRUPT, "it answers PSYNC with: %.100s", line);
}

/* "$length" or "$EOF:mark" */
static int copy_announced(struct follow_wire *wire, const char *line)
{
    int64_t length = -1;
    if (begins(line, "$EOF:") && strlen(line) == strlen("$EOF:") + FOLLOW_MARK_BYTES) {
        memcpy(wire->mark, line + strlen("$EOF:"), FOLLOW_MARK_BYTES);
    } else if (line[0] != '$' ||
               kith_num_parse_int64(kith_slice(line + 1, strlen(line + 1)), &length) != KITH_OK ||
               length <= 0) {
        return fail(wire, KITH_ECORRUPT, "its copy is announced with: %.100s", line);
    }
    wire->copy_left = length;
    wire->mark_length = 0;
    wire->state = FOLLOW_COPY;
    return wire->events->copy_begins(wire->arg, wire->replid, wire->offset, length);
}

static int line_read(struct follow_wire *wire, const char *line)
{
    if (!*line) /* it lives, and is not ready yet */
        return KITH_OK;
    if (wire->state == FOLLOW_PING && (begins(line, "-NOAUTH") || begins(line, "-NOPERM") ||
                                       begins(line, "-ERR operation not permitted"))) {
        if (!*wire->options.password)
            return refused(wire, line);
    } else if (line[0] == '-') {
        /* What it does not know of the words about ourselves it may leave; that it knows none of them counts. */
        bool optional = wire->state == FOLLOW_ADDRESS || wire->state == FOLLOW_CAPA;
        if (!optional || strstr(line, "unknown command"))
            return refused(wire, line);
    } else if (wire->state == FOLLOW_PSYNC) {
        return psync_answered(wire, line);
    } else if (wire->state == FOLLOW_HEADER) {
        return copy_announced(wire, line);
    } else if (line[0] != '+') {
        return fail(wire, KITH_ECORRUPT, "it is not a Redis: it says '%.60s'", line);
    }
    ask(wire, next_question(wire));
    return wire->out.failed ? fail(wire, KITH_ENOMEM, "out of memory") : KITH_OK;
}

/* --- bytes --- */

static int feed_line(struct follow_wire *wire, const char *bytes, size_t length, size_t *used)
{
    const char *end = memchr(bytes, '\n', length);
    size_t count = end ? (size_t)(end - bytes) : length;
    if (wire->line_length + count >= FOLLOW_LINE_MAX)
        return fail(wire, KITH_ECORRUPT, "it is not a Redis: its line does not end");
    memcpy(wire->line + wire->line_length, bytes, count);
    wire->line_length += count;
    *used = count + (end != NULL);
    if (!end)
        return KITH_OK;
    if (wire->line_length && wire->line[wire->line_length - 1] == '\r')
        wire->line_length--;
    if (memchr(wire->line, '\0', wire->line_length))
        return fail(wire, KITH_ECORRUPT, "it is not a Redis: its line has a zero byte");
    wire->line[wire->line_length] = '\0';
    wire->line_length = 0;
    return line_read(wire, wire->line);
}

static int end_copy(struct follow_wire *wire)
{
    wire->state = FOLLOW_STREAM;
    return wire->events->copy_ends(wire->arg);
}

static int feed_copy(struct follow_wire *wire, const char *bytes, size_t length, size_t *used)
{
    bool counted = wire->copy_left >= 0;
    if (counted && length > (uint64_t)wire->copy_left)
        length = (size_t)wire->copy_left;
    int status = wire->events->copy_bytes(wire->arg, bytes, length, used);
    if (status < 0)
        return status;
    KITH_ASSERT(*used <= length && (status > 0 || *used == length));
    if (counted)
        wire->copy_left -= (int64_t)*used;
    if (status == 0)
        return counted && wire->copy_left == 0
                   ? fail(wire, KITH_ECORRUPT, "its copy is shorter than it should be")
                   : KITH_OK;
    if (!counted) {
        wire->state = FOLLOW_MARK;
        return KITH_OK;
    }
    return wire->copy_left == 0 ? end_copy(wire)
                                : fail(wire, KITH_ECORRUPT, "there is something behind the end of its copy");
}

static int feed_mark(struct follow_wire *wire, const char *bytes, size_t length, size_t *used)
{
    size_t left = FOLLOW_MARK_BYTES - wire->mark_length, count = length < left ? length : left;
    if (memcmp(bytes, wire->mark + wire->mark_length, count) != 0)
        return fail(wire, KITH_ECORRUPT, "its copy does not end with the mark that it announced");
    wire->mark_length += count;
    *used = count;
    return wire->mark_length == FOLLOW_MARK_BYTES ? end_copy(wire) : KITH_OK;
}

int follow_wire_feed(struct follow_wire *wire, const char *bytes, size_t length, size_t *used)
{
    int status = KITH_OK;
    *used = 0;
    while (status == KITH_OK && *used < length && wire->state != FOLLOW_STREAM) {
        size_t taken = 0;
        if (wire->state == FOLLOW_COPY)
            status = feed_copy(wire, bytes + *used, length - *used, &taken);
        else if (wire->state == FOLLOW_MARK)
            status = feed_mark(wire, bytes + *used, length - *used, &taken);
        else
            status = feed_line(wire, bytes + *used, length - *used, &taken);
        *used += taken;
    }
    return status;
}
