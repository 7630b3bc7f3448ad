/* The window of entries: a ring of pointers, found by index. One array serves as the queue of what is not applied yet
 * and as the cache for members that are a little behind. */
#include "base/assert.h"
#include "repl/node_internal.h"

#include <stdlib.h>

int node_window_grow(struct node_window *window)
{
    size_t capacity = window->capacity ? window->capacity * 2 : 64;
    struct node_entry **at = malloc(capacity * sizeof *at);
    if (!at)
        return KITH_ENOMEM;
    for (uint64_t i = window->first; i < window->next; i++)
        at[i & (capacity - 1)] = window->at[i & (window->capacity - 1)];
    free(window->at);
    window->at = at;
    window->capacity = capacity;
    return KITH_OK;
}

void node_window_push(struct node_window *window, struct node_entry *entry)
{
    uint64_t index = entry->log.index;
    if (window->first == window->next)
        window->first = window->next = index;
    KITH_ASSERT(index == window->next && window->next - window->first < window->capacity);
    window->at[index & (window->capacity - 1)] = entry;
    window->next++;
}

struct node_entry *node_window_pop_last(struct node_window *window)
{
    return window->at[--window->next & (window->capacity - 1)];
}

void node_window_close(struct node_window *window)
{
    while (window->first < window->next)
        node_window_drop_first(window);
    free(window->at);
    *window = (struct node_window){0};
}

struct node_entry *node_entry_new(const struct kith_core_entry *from, uint64_t index)
{
    struct node_entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return NULL;
    kith_buf_append(&entry->log.payload, from->payload.data, from->payload.length);
    if (entry->log.payload.failed) {
        free(entry);
        return NULL;
    }
    entry->log.index = index;
    entry->log.term = from->term;
    entry->log.kind = (enum kith_record_kind)from->kind;
    atomic_init(&entry->log.references, 1);
    return entry;
}
