/* The head of one HTTP/1.x request, read from bytes as they come (RFC 9112). No socket and no memory of its own, so that
 * a fuzzer can sit in front of it. */
#ifndef KITH_NET_HTTP_REQUEST_H
#define KITH_NET_HTTP_REQUEST_H

#include "base/slice.h"

enum { HTTP_HEAD_BYTES = 8192 };

/* Zeroed before the first byte. */
struct http_request {
    char head[HTTP_HEAD_BYTES]; /* as it came */
    size_t length, line_start;  /* of head: in use; of the line that is not whole */
    size_t lines, hosts;
    bool is_head;           /* HEAD, not GET */
    bool is_old;            /* HTTP/1.0 */
    struct kith_slice path; /* of head: without what follows a '?' */
    int status;             /* the last answer of http_request_take */
};

/* Takes the bytes that came next. 0: more are needed; 200: the head is whole, what is behind it was left alone; else the
 * status of the refusal: 400 no HTTP, or a body, 405 neither GET nor HEAD, 431 past HTTP_HEAD_BYTES, 505 another major
 * version. Once not 0 it stays so, and further bytes are left alone. */
int http_request_take(struct http_request *request, const char *bytes, size_t length);

#endif
