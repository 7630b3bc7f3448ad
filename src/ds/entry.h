/* An entry: a key and what hangs on it, in one allocation. Keyspace strings, hash fields, zset members and
 * elements of a vector set are all laid out like this, so that one table (ds/table.h) serves them all and a
 * small pair costs one malloc and, beside the table's slot, two bytes.
 *
 *     | u8 meta | varint key_length | key bytes | payload ... |
 *
 * The meta byte and the payload belong to whoever opened the entry: the table reads the key alone. The
 * payload has no alignment: memcpy in and out. Its length is not stored: the owner knows it, or puts it in
 * the payload. Key and length lie side by side, so that a hit costs one cache miss in the entry.
 *
 * An entry comes from malloc and goes to free. (The table asserts what it needs of that: an address that is a
 * multiple of 8, below 2^48.) */
#ifndef KITH_DS_ENTRY_H
#define KITH_DS_ENTRY_H

#include "base/slice.h"
#include "base/varint.h"

#include <stdlib.h>

/* Reads the key's length at entry + 1; returns the bytes that the length takes. No bound is checked: entries
 * are our own bytes. Almost every key is shorter than 128, hence the branch. */
static inline size_t kith_entry_key_length(const void *entry, size_t *key_length)
{
    const uint8_t *p = (const uint8_t *)entry + 1;
    if (__builtin_expect(p[0] < 0x80, 1)) {
        *key_length = p[0];
        return 1;
    }
    size_t n = 0, value = 0;
    do
        value |= (size_t)(p[n] & 0x7f) << (7 * n);
    while (p[n++] & 0x80);
    *key_length = value;
    return n;
}

static inline uint8_t kith_entry_meta(const void *entry)
{
    return *(const uint8_t *)entry;
}

static inline void kith_entry_set_meta(void *entry, uint8_t meta)
{
    *(uint8_t *)entry = meta;
}

/* Borrowed: lives as long as the entry. */
static inline struct kith_slice kith_entry_key(const void *entry)
{
    size_t length, n = kith_entry_key_length(entry, &length);
    return kith_slice((const char *)entry + 1 + n, length);
}

/* memcmp(a, b, length) == 0 without the call for keys of 8 to 16 bytes: two words that may overlap. */
static inline bool kith_entry_bytes_equal(const char *a, const char *b, size_t length)
{
    if (length < 8 || length > 16)
        return length == 0 || memcmp(a, b, length) == 0;
    uint64_t a_head, b_head, a_tail, b_tail;
    memcpy(&a_head, a, 8);
    memcpy(&b_head, b, 8);
    memcpy(&a_tail, a + length - 8, 8);
    memcpy(&b_tail, b + length - 8, 8);
    return ((a_head ^ b_head) | (a_tail ^ b_tail)) == 0;
}

static inline bool kith_entry_key_is(const void *entry, struct kith_slice key)
{
    size_t length, n = kith_entry_key_length(entry, &length);
    return length == key.length && kith_entry_bytes_equal((const char *)entry + 1 + n, key.data, length);
}

/* Bytes in front of the payload, for an entry with a key of `key_length` bytes. */
static inline size_t kith_entry_header_bytes(size_t key_length)
{
    return 1 + kith_varint_size(key_length) + key_length;
}

/* The first byte after the key; unaligned. */
static inline char *kith_entry_payload(void *entry)
{
    size_t length, n = kith_entry_key_length(entry, &length);
    return (char *)entry + 1 + n + length;
}

static inline const char *kith_entry_payload_const(const void *entry)
{
    size_t length, n = kith_entry_key_length(entry, &length);
    return (const char *)entry + 1 + n + length;
}

/* Writes meta and key to memory of at least kith_entry_header_bytes(key.length) bytes; returns the payload's
 * place. */
static inline char *kith_entry_init(void *memory, uint8_t meta, struct kith_slice key)
{
    char *p = memory;
    *p++ = (char)meta;
    p += kith_varint_put(p, key.length);
    if (key.length)
        memcpy(p, key.data, key.length);
    return p + key.length;
}

/* A new entry with room for `payload_bytes` behind the key, those bytes not set; NULL when there is no
 * memory. Owned by the caller until a table takes it; ends with free(). */
static inline void *kith_entry_open(uint8_t meta, struct kith_slice key, size_t payload_bytes)
{
    void *entry = malloc(kith_entry_header_bytes(key.length) + payload_bytes);
    if (entry)
        kith_entry_init(entry, meta, key);
    return entry;
}

#endif
