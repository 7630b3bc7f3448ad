/* Reads requests from a client's bytes, piece by piece: RESP arrays of bulk strings, and the inline lines
 * that people type into netcat. Nothing is copied: arguments point into the caller's input buffer (inline
 * ones into the parser), and what was parsed of an unfinished request is remembered, so that no byte is
 * looked at twice.
 *
 *     for (;;) {
 *         read into buf;
 *         while ((n = kith_request_parse(&parser, buf.data + used, buf.length - used, batch, 64, &consumed))
 * > 0) { used += consumed; ...handle n requests...
 *         }
 *         used += consumed; (consumed is set for 0 and for errors too)
 *         n < 0: reply parser.error, close;   n == 0: drop `used` bytes, make room for kith_request_needed()
 * more
 *     }
 *
 * Between two calls the unconsumed bytes stay the same bytes; they may move to another address.
 * Source: the RESP specification; texts and inline quoting as Redis 7.2 has them. */
#ifndef KITH_WIRE_REQUEST_H
#define KITH_WIRE_REQUEST_H

#include "base/buf.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a client may make the server hold. For a connection that has not authenticated yet, hand the parser a
 * smaller set with `unauthenticated` true: the error then says so, as clients expect. */
struct kith_request_limits {
    size_t arguments_max; /* arguments of one request */
    size_t bulk_max;      /* bytes of one argument */
    size_t line_max;      /* bytes of an inline request, or of a length line that does not end */
    bool unauthenticated; /* changes the error texts, nothing else */
};

#define KITH_REQUEST_LIMITS_DEFAULT                                                                          \
    {                                                                                                        \
        .arguments_max = 1048576, .bulk_max = 512u << 20, .line_max = 64u << 10                              \
    }
#define KITH_REQUEST_LIMITS_UNAUTHENTICATED                                                                  \
    {                                                                                                        \
        .arguments_max = 10, .bulk_max = 16384, .line_max = 64u << 10, .unauthenticated = true               \
    }

/* One whole request. Everything in it is borrowed and lives until the next parse call or until the input
 * moves. The argv array itself may be written to (a caller that rewrites a command in place). */
struct kith_request {
    struct kith_slice *argv;
    size_t argc;   /* at least 1 */
    size_t offset; /* where it starts in the parsed data (empty lines before it skipped) */
    size_t bytes;  /* its length on the wire */
};

struct kith_request_parser {
    const struct kith_request_limits *limits; /* borrowed; may be exchanged between calls */
    char error[96]; /* after a protocol error: "ERR Protocol error: ...", for a reply */

    /* Private. */
    struct kith_slice *slices; /* arguments of the last call's requests, then of the unfinished one */
    size_t slice_count, slice_capacity;
    struct kith_buf line;   /* an inline request's arguments, unquoted */
    size_t position;        /* of the unfinished request: bytes that are parsed */
    size_t scanned;         /* and bytes known not to end the present line; >= position */
    uint64_t argument_left; /* arguments that are still to come; 0: no header yet */
    uint64_t bulk_length;   /* of the argument at `position`, when in_bulk */
    uintptr_t base;         /* where the unfinished request's bytes were */
    size_t first;           /* its first slice */
    size_t needed;          /* see kith_request_needed */
    bool in_bulk;
    int status; /* a protocol error is for good */
};

/* `limits` is borrowed. Allocates nothing. */
void kith_request_parser_init(struct kith_request_parser *parser, const struct kith_request_limits *limits);
void kith_request_parser_fini(struct kith_request_parser *parser);

/* Parses up to `requests_max` whole requests from data[0..length), filling requests[] from 0.
 *   consumed   bytes that the caller may forget, once it has handled the requests; set whatever is returned
 *   returns    the number of whole requests; 0: more bytes are needed; KITH_ECORRUPT: protocol error, see
 *              parser->error; KITH_ENOMEM. Errors come only after the whole requests before them were
 * returned. */
int kith_request_parse(struct kith_request_parser *parser, const char *data, size_t length,
                       struct kith_request *requests, size_t requests_max, size_t *consumed);

/* After a parse returned 0: how many bytes beyond those it saw are needed at least, so that a large
 * argument's buffer is sized once and read straight into. At least 1. A client's claim, within limits: not
 * yet memory in use. */
static inline size_t kith_request_needed(const struct kith_request_parser *parser)
{
    return parser->needed;
}

/* Whether a request has begun and is not whole. */
bool kith_request_is_partial(const struct kith_request_parser *parser);

/* Gives back memory that an unusual request made the parser hold; for idle connections. Invalidates requests.
 */
void kith_request_parser_trim(struct kith_request_parser *parser);

/* The parser's own memory in bytes, for CLIENT LIST. */
size_t kith_request_parser_memory(const struct kith_request_parser *parser);

/* Splits one inline line (no line end) into arguments as redis-cli and redis.conf do: blanks separate; "..."
 * knows \n \r \t \b \a \xHH and \ before any other byte; '...' knows \' only; a closing quote must be
 * followed by a blank. line    appended to `room`, unquoted; slices point into it: room needs
 * kith_buf_reserve(length) beforehand or the call does it, and later appends would move it slices  array
 * grown with realloc, *count of *capacity in use; new ones appended returns KITH_OK, KITH_EINVAL for
 * unbalanced quotes, KITH_ENOMEM; nothing is appended to slices on failure */
int kith_request_split_line(struct kith_slice line, struct kith_buf *room, struct kith_slice **slices,
                            size_t *count, size_t *capacity);

#endif
