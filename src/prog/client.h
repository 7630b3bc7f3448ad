/* A blocking connection to a Redis-protocol server, for the tools: commands go out pipelined, replies come back as
 * trees. One thread at a time. */
#ifndef KITH_PROG_CLIENT_H
#define KITH_PROG_CLIENT_H

#include "base/slice.h"
#include "base/status.h"
#include "wire/value.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kith_client_options {
    const char *host;        /* name or address; NULL: 127.0.0.1 */
    const char *port;        /* NULL: 6379 */
    const char *socket_path; /* a Unix socket instead, or NULL */
    const char *user;        /* NULL: the default user */
    const char *password;    /* NULL: no AUTH is sent */
    const char *database;    /* NULL: 0 */
    int protocol;            /* 2 or 3; 0: 2 */
    unsigned timeout_ms;     /* for connecting; 0: 5,000 */
};

struct kith_client;

/* Connects and introduces itself (HELLO 3, AUTH, SELECT as needed). All strings are borrowed for the client's life.
 * KITH_EIO, KITH_EPERM (the server refuses), KITH_ENOMEM; error->text is a sentence. */
int kith_client_open(struct kith_client **out, const struct kith_client_options *options,
                     struct kith_error *error);
/* close(NULL) is safe. */
void kith_client_close(struct kith_client *client);

/* Queues one command. KITH_ENOMEM. */
int kith_client_put(struct kith_client *client, const struct kith_slice *argv, size_t argc);
/* The buffer of what is queued, for callers that write the command themselves with kith_request_put_...; they call
 * kith_client_queued afterwards. */
struct kith_buf *kith_client_get_out(struct kith_client *client);
void kith_client_queued(struct kith_client *client);
/* Commands that were queued and whose reply was not taken yet. */
size_t kith_client_pending(const struct kith_client *client);
/* Sends what is queued, reading what comes meanwhile, so that neither side can block the other. */
int kith_client_flush(struct kith_client *client, struct kith_error *error);
/* Sends what is queued and waits for the next reply. *out is owned by the caller. Push messages are replies too; they
 * do not count as the answer to a pending command. KITH_EIO, KITH_ECORRUPT, KITH_ETOOBIG, KITH_ENOMEM: the connection
 * is lost; KITH_ECLOSED: the server closed it. */
int kith_client_reply(struct kith_client *client, struct kith_value *out, struct kith_error *error);
/* put and reply. */
int kith_client_call(struct kith_client *client, const struct kith_slice *argv, size_t argc,
                     struct kith_value *out, struct kith_error *error);
/* The same for words; the list ends with NULL. */
int kith_client_call_words(struct kith_client *client, struct kith_value *out, struct kith_error *error, ...)
    __attribute__((sentinel));

/* Whether the server has closed an idle connection, as far as the system knows: nothing is sent. */
bool kith_client_is_closed(struct kith_client *client);

/* "127.0.0.1:6379" or the socket's path. */
void kith_client_address(const struct kith_client_options *options, char *text, size_t size);

#endif
