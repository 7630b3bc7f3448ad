/* A small HTTP/1.1 server on a port of its own, for those who watch: probes and scrapers. GET and HEAD; each answer ends
 * its connection, so that none of them has more state than one head of a request. All calls come from the loop's
 * thread. */
#ifndef KITH_NET_HTTP_H
#define KITH_NET_HTTP_H

#include "base/buf.h"
#include "base/status.h"

#include <uv.h>

struct kith_http;

struct kith_http_question {
    struct kith_slice path; /* borrowed: without what follows a '?', nothing decoded */
    bool is_local;          /* who asks is on this machine */
};

struct kith_http_answer {
    int status;            /* 200 when called; 404 and its like as set */
    const char *type;      /* of the content; "text/plain; charset=utf-8" when called */
    struct kith_buf *body; /* to append to */
};

struct kith_http_options {
    uv_loop_t *loop;
    const char
        *bind; /* addresses, blanks between; '-' before one: it may be missing; borrowed while opening */
    const char *bind_name; /* the name of this option, for errors */
    uint16_t port;
    unsigned timeout_ms;    /* from the first packet of a connection to its end; 0: 5,000 */
    size_t connections_max; /* past it the oldest goes; 0: 32 */
    void *context;
    void (*answer)(void *context, const struct kith_http_question *question, struct kith_http_answer *answer);
};

/* Listens. KITH_ENOMEM, KITH_EIO: the error names the address. */
int kith_http_open(struct kith_http **out, const struct kith_http_options *options, struct kith_error *error);
/* Nothing is asked any more. The memory goes in the next rounds of the loop. close(NULL) is safe. */
void kith_http_close(struct kith_http *http);

#endif
