/* What was answered to requests with an id (KITH.REQUEST), so that a repeat gets the same answer and has no second effect.
 * Part of the state: written by entries only, in checkpoints and in the digest, the same on every member. The oldest go
 * when there are too many, or too many bytes: a repeat is safe as long as it comes before so many other requests. */
#ifndef KITH_ENGINE_REQUESTS_H
#define KITH_ENGINE_REQUESTS_H

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

#include <stdint.h>

/* Every member must forget at the same time: these are part of the format. */
enum {
    KITH_REQUESTS_MAX = 8192,
    KITH_REQUESTS_BYTES_MAX = 2 << 20, /* of ids and replies */
    KITH_REQUEST_ID_MAX = 128,
    KITH_REQUEST_REPLY_MAX = 16 << 10, /* of a longer one only is known that it was given */
};

struct kith_request_entry {
    uint64_t hash;
    struct kith_request_entry *next; /* of the same bucket, newer first */
    uint32_t id_length, reply_length;
    bool kept;    /* the reply; false: it was too long */
    char bytes[]; /* id, reply */
};

/* Zeroed at first. */
struct kith_requests {
    struct kith_request_entry **ring;    /* KITH_REQUESTS_MAX, from the first use on */
    struct kith_request_entry **buckets; /* as many */
    size_t first, count, bytes;
};

void kith_requests_fini(struct kith_requests *requests);
/* NULL: not known. Borrowed until the next add. */
const struct kith_request_entry *kith_requests_find(const struct kith_requests *requests,
                                                    struct kith_slice id);
/* Takes memory for one more with a reply of up to KITH_REQUEST_REPLY_MAX bytes; KITH_ENOMEM. */
int kith_requests_reserve(struct kith_requests *requests, struct kith_slice id,
                          struct kith_request_entry **room);
/* `room` is from reserve, and goes to `requests`. The id is not known yet. `kept` false: the reply was too long, or is
 * lost, and is left out. */
void kith_requests_add(struct kith_requests *requests, struct kith_request_entry *room,
                       struct kith_slice reply, bool kept);
/* The i-th, oldest first. */
const struct kith_request_entry *kith_requests_at(const struct kith_requests *requests, size_t i);
static inline struct kith_slice kith_request_id(const struct kith_request_entry *entry)
{
    return kith_slice(entry->bytes, entry->id_length);
}
static inline struct kith_slice kith_request_reply(const struct kith_request_entry *entry)
{
    return kith_slice(entry->bytes + entry->id_length, entry->reply_length);
}
uint64_t kith_requests_digest(const struct kith_requests *requests);

#endif
