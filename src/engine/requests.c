/* Requests with an id, and their replies: a ring in the order they came, and chains by hash. */
#include "engine/requests.h"

#include "base/assert.h"
#include "engine/keyspace.h"

#include <stdlib.h>

static struct kith_request_entry **slot_at(const struct kith_requests *requests, size_t i)
{
    return &requests->ring[(requests->first + i) % KITH_REQUESTS_MAX];
}

static struct kith_request_entry **bucket_of(const struct kith_requests *requests, uint64_t hash)
{
    return &requests->buckets[hash % KITH_REQUESTS_MAX];
}

/* A client that chooses ids so that they meet in one bucket makes its own requests slow, and the others' by as many steps
 * as there are requests: the chains are short of that bound. */
static uint64_t hash_of(struct kith_slice id)
{
    return kith_digest_bytes(2, id);
}

static size_t bytes_of(const struct kith_request_entry *entry)
{
    return (size_t)entry->id_length + entry->reply_length;
}

void kith_requests_fini(struct kith_requests *requests)
{
    for (size_t i = 0; i < requests->count; i++)
        free(*slot_at(requests, i));
    free(requests->ring);
    free(requests->buckets);
    *requests = (struct kith_requests){0};
}

const struct kith_request_entry *kith_requests_find(const struct kith_requests *requests,
                                                    struct kith_slice id)
{
    uint64_t hash = hash_of(id);
    if (!requests->count)
        return NULL;
    const struct kith_request_entry *entry = *bucket_of(requests, hash);
    while (entry && (entry->hash != hash || !kith_slice_equal(kith_request_id(entry), id)))
        entry = entry->next;
    return entry;
}

static int open_tables(struct kith_requests *requests)
{
    if (!requests->ring)
        requests->ring = calloc(KITH_REQUESTS_MAX, sizeof(struct kith_request_entry *));
    if (!requests->buckets)
        requests->buckets = calloc(KITH_REQUESTS_MAX, sizeof(struct kith_request_entry *));
    return requests->ring && requests->buckets ? KITH_OK : KITH_ENOMEM;
}

int kith_requests_reserve(struct kith_requests *requests, struct kith_slice id,
                          struct kith_request_entry **room)
{
    KITH_ASSERT(id.length > 0 && id.length <= KITH_REQUEST_ID_MAX);
    if (open_tables(requests) != KITH_OK)
        return KITH_ENOMEM;
    struct kith_request_entry *entry = malloc(sizeof *entry + id.length + KITH_REQUEST_REPLY_MAX);
    if (!entry)
        return KITH_ENOMEM;
    *entry = (struct kith_request_entry){.hash = hash_of(id), .id_length = (uint32_t)id.length};
    memcpy(entry->bytes, id.data, id.length);
    *room = entry;
    return KITH_OK;
}

static void drop_oldest(struct kith_requests *requests)
{
    struct kith_request_entry *entry = *slot_at(requests, 0), **at = bucket_of(requests, entry->hash);
    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    requests->bytes -= bytes_of(entry);
    requests->first = (requests->first + 1) % KITH_REQUESTS_MAX;
    requests->count--;
    free(entry);
}

void kith_requests_add(struct kith_requests *requests, struct kith_request_entry *room,
                       struct kith_slice reply, bool kept)
{
    room->kept = kept && reply.length <= KITH_REQUEST_REPLY_MAX;
    room->reply_length = room->kept ? (uint32_t)reply.length : 0;
    if (room->reply_length)
        memcpy(room->bytes + room->id_length, reply.data, reply.length);
    struct kith_request_entry *entry = realloc(room, sizeof *room + bytes_of(room));
    entry = entry ? entry : room; /* it was to become smaller only */
    while (requests->count == KITH_REQUESTS_MAX ||
           (requests->count && requests->bytes + bytes_of(entry) > KITH_REQUESTS_BYTES_MAX))
        drop_oldest(requests);
    struct kith_request_entry **bucket = bucket_of(requests, entry->hash);
    entry->next = *bucket;
    *bucket = entry;
    *slot_at(requests, requests->count++) = entry;
    requests->bytes += bytes_of(entry);
}

const struct kith_request_entry *kith_requests_at(const struct kith_requests *requests, size_t i)
{
    return *slot_at(requests, i);
}

/* Their order counts: it says which go first. */
uint64_t kith_requests_digest(const struct kith_requests *requests)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < requests->count; i++) {
        const struct kith_request_entry *entry = *slot_at(requests, i);
        sum = kith_digest_bytes(sum + entry->id_length, kith_slice(entry->bytes, bytes_of(entry)));
    }
    return sum;
}
