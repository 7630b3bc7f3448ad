/* An index as bytes, element by element, so that a checkpoint can take it piece by piece while it changes.
 * What a record says of others (its links) may be out of date by the time it is read; restore_finish keeps
 * what holds.
 *
 *     header    u8 version; varint dim; u8 codes, metric, keep, layout, plain; varint m, ef_construction; u64 seed, added;
 *               varint slot end
 *     element   u8 top level, | 0x80 when linked; f32 norm; f32 form (I4, BIN only); the code; what is
 *               kept (keep.c); linked: for each level from 0: varint count, u32 slots
 *
 * All little-endian. Restored bytes are not trusted: each number is checked before it is used. */
#include "vec/index.h"
#include "vec/spread.h"

#include "base/varint.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "codes are kept in memory as they are saved: little-endian"
#endif

enum { VERSION = 3, LINKED_BIT = 0x80, SLOTS_AT_LEAST = 1 << 22, SLOTS_GROW = 4 };

/* ---- saving ---- */

static bool has_form(const struct kith_hnsw *h)
{
    return h->options.codes == KITH_HNSW_I4 || h->options.codes == KITH_HNSW_BIN;
}

void kith_hnsw_save_header(const struct kith_hnsw *h, struct kith_buf *out)
{
    kith_buf_append_char(out, VERSION);
    kith_buf_append_varint(out, h->options.dim);
    kith_buf_append_char(out, (char)h->options.codes);
    kith_buf_append_char(out, (char)h->options.metric);
    kith_buf_append_char(out, (char)h->options.keep);
    kith_buf_append_char(out, (char)h->options.layout);
    kith_buf_append_char(out, (char)h->plain);
    kith_buf_append_varint(out, h->options.m);
    kith_buf_append_varint(out, h->options.ef_construction);
    kith_buf_append_u64(out, h->options.seed);
    kith_buf_append_u64(out, h->added);
    kith_buf_append_varint(out, kith_hnsw_slot_end(h));
}

static void append_links(const struct kith_hnsw *h, uint32_t slot, unsigned level, struct kith_buf *out)
{
    struct links links = links_at(h, slot, level);
    uint32_t room = links.room, count = 0;
    char *to = kith_buf_reserve(out, KITH_VARINT_MAX + (size_t)room * 4);
    if (!to)
        return;
    /* The count goes before, and is known after: its bytes are those of the most there can be. */
    size_t count_bytes = kith_varint_size(room);
    for (uint32_t i = 0; i < room; i++) {
        uint32_t link = link_peek(links, i);
        if (link == KITH_HNSW_NONE)
            break;
        if (slot_has_chunk(h, link) && state_is_live(state_at(h, link)))
            kith_put_u32(to + count_bytes + 4 * (size_t)count++, link);
    }
    size_t used = kith_varint_put(to, count);
    memmove(to + used, to + count_bytes, 4 * (size_t)count);
    out->length += used + 4 * (size_t)count;
}

void kith_hnsw_save_element(const struct kith_hnsw *h, uint32_t slot, struct kith_buf *out)
{
    const struct element *e = element_at(h, slot);
    uint8_t flags = flags_at(h, slot);
    bool linked = (flags & FLAG_STATE) == SLOT_LINKED;
    kith_buf_append_char(out, (char)(flags_level(flags) | (linked ? LINKED_BIT : 0)));
    kith_buf_append(out, &e->norm, sizeof e->norm);
    if (has_form(h)) {
        float form = kith_hnsw_form(h, slot);
        kith_buf_append(out, &form, sizeof form);
    }
    kith_buf_append(out, code_at(h, slot), h->code_bytes);
    struct kith_slice kept = kith_hnsw_kept(h, slot);
    kith_buf_append(out, kept.data, kept.length);
    for (unsigned level = 0; linked && level <= flags_level(flags); level++)
        append_links(h, slot, level, out);
}

/* ---- restoring ---- */

int kith_hnsw_restore_open(struct kith_hnsw **out, struct kith_slice header,
                           const struct kith_hnsw_options *options)
{
    struct kith_reader r = kith_reader(header);
    struct kith_hnsw_options o = *options;
    uint8_t version = kith_reader_u8(&r);
    if (!r.failed && version > VERSION)
        return KITH_EVERSION;
    uint64_t dim = kith_reader_varint(&r);
    o.codes = (enum kith_hnsw_codes)kith_reader_u8(&r);
    o.metric = (enum kith_hnsw_metric)kith_reader_u8(&r);
    o.keep = (enum kith_hnsw_keep)kith_reader_u8(&r);
    o.layout = (enum kith_hnsw_layout)kith_reader_u8(&r);
    uint8_t plain = kith_reader_u8(&r);
    uint64_t m = kith_reader_varint(&r), ef = kith_reader_varint(&r);
    o.seed = kith_reader_u64(&r);
    uint64_t added = kith_reader_u64(&r), end = kith_reader_varint(&r);
    if (r.failed || version != VERSION || o.keep == KITH_HNSW_KEEP_DEFAULT ||
        plain > (o.codes == KITH_HNSW_I4 ? PLAIN_YES : PLAIN_UNKNOWN) || r.length ||
        dim > KITH_HNSW_DIM_MAX || m < KITH_HNSW_M_MIN || m > KITH_HNSW_M_MAX || ef < 1 ||
        ef > KITH_HNSW_EF_MAX || end > SLOT_MAX)
        return KITH_ECORRUPT;
    o.dim = (uint32_t)dim;
    o.m = (uint32_t)m;
    o.ef_construction = (uint32_t)ef;
    int rc = kith_hnsw_open(out, &o);
    if (rc != KITH_OK)
        return rc == KITH_EINVAL ? KITH_ECORRUPT : rc;
    (*out)->added = added;
    (*out)->plain = plain;
    if (end > LINK_WIDE_FROM)
        hnsw_links_widen(*out); /* nothing is there that it could fail for */
    uint64_t limit = end > SLOTS_AT_LEAST / SLOTS_GROW ? end * SLOTS_GROW : SLOTS_AT_LEAST;
    (*out)->slot_limit = limit < SLOT_MAX ? (uint32_t)limit : SLOT_MAX;
    return KITH_OK;
}

struct record {
    bool linked;
    unsigned level;
    float norm, form;
    struct kith_slice code, kept;
    struct kith_slice links[KITH_HNSW_LEVEL_MAX + 1];
};

static float reader_float(struct kith_reader *r)
{
    float value = 0;
    struct kith_slice bytes = kith_reader_bytes(r, sizeof value);
    if (!r->failed)
        memcpy(&value, bytes.data, sizeof value);
    return value;
}

static bool parse(const struct kith_hnsw *h, struct kith_slice bytes, struct record *record)
{
    struct kith_reader r = kith_reader(bytes);
    /* The first element settles whether codes are rotated: none can be there before it is settled. */
    if (h->options.codes == KITH_HNSW_I4 && h->plain == PLAIN_UNKNOWN)
        return false;
    uint8_t first = kith_reader_u8(&r);
    record->linked = first & LINKED_BIT;
    record->level = first & ~LINKED_BIT;
    record->norm = reader_float(&r);
    record->form = has_form(h) ? reader_float(&r) : 1;
    record->code = kith_reader_bytes(&r, h->code_bytes);
    record->kept = kith_reader_bytes(&r, h->kept_bytes);
    /* Comparisons that NaN fails. */
    if (r.failed || record->level > KITH_HNSW_LEVEL_MAX || !(record->norm >= 0 && record->norm <= FLT_MAX) ||
        !hnsw_form_is_sound(h, record->form) || !hnsw_code_is_sound(h, record->code) ||
        !hnsw_kept_is_sound(h, record->kept, record->norm))
        return false;
    for (unsigned level = 0; record->linked && level <= record->level; level++) {
        uint64_t count = kith_reader_varint(&r);
        if (r.failed || count > links_room(h, level))
            return false;
        record->links[level] = kith_reader_bytes(&r, 4 * count);
        for (size_t i = 0; i < record->links[level].length; i += 4)
            if (!slot_is_linkable(kith_get_u32(record->links[level].data + i)))
                return false;
    }
    return !r.failed && r.length == 0;
}

int kith_hnsw_restore_element(struct kith_hnsw *h, uint32_t slot, struct kith_slice bytes, uint64_t user)
{
    struct record record;
    if (slot >= h->slot_limit || !slot_is_linkable(slot) || !parse(h, bytes, &record))
        return KITH_ECORRUPT;
    if (slot_has_chunk(h, slot) && state_at(h, slot) != SLOT_FREE)
        return KITH_EEXIST;
    int rc = hnsw_slot_take_at(h, record.level, slot);
    if (rc != KITH_OK)
        return rc;
    hnsw_store_saved(h, slot, record.norm, record.form, record.code, record.kept);
    hnsw_user_set(h, slot, user);
    for (unsigned level = 0; record.linked && level <= record.level; level++) {
        struct links links = links_at(h, slot, level);
        uint32_t kept = 0;
        for (size_t i = 0; i < record.links[level].length / 4; i++) {
            uint32_t link = kith_get_u32(record.links[level].data + 4 * i);
            if (link < LINK_WIDE_FROM || links.top) /* the set may have grown that far while it was saved */
                link_set(links, kept++, link);
        }
    }
    atomic_fetch_add_explicit(&h->live, 1, memory_order_relaxed);
    state_move(h, slot, SLOT_FREE, record.linked ? SLOT_LINKED : SLOT_TAIL);
    return KITH_OK;
}

/* A link is kept when it leads to a linked element that has the level, and was not there already. */
static uint32_t keep_sound_links(struct kith_hnsw *h, uint32_t slot, unsigned level, uint32_t *list)
{
    struct links links = links_at(h, slot, level);
    uint32_t count = links_count(links), kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t link = link_get(links, i);
        bool sound = link != slot && slot_has_chunk(h, link);
        if (sound) {
            uint8_t flags = flags_at(h, link);
            sound = (flags & FLAG_STATE) == SLOT_LINKED && flags_level(flags) >= level;
        }
        for (uint32_t k = 0; sound && k < kept; k++)
            sound = list[k] != link;
        if (sound)
            list[kept++] = link;
    }
    for (uint32_t i = 0; i < count && kept < count; i++)
        link_set(links, i, i < kept ? list[i] : KITH_HNSW_NONE);
    for (uint32_t i = 0; level == 0 && i < kept; i++)
        hnsw_in_links_add(h, list[i], 1);
    return count - kept;
}

/* Links kept by both rules, the entry point, and how many links were dropped. */
static uint64_t mend_restored(struct kith_hnsw *h, uint32_t *list)
{
    uint64_t dropped = 0;
    uint32_t end = kith_hnsw_slot_end(h), best = KITH_HNSW_NONE;
    unsigned best_level = 0;
    for (uint32_t slot = 0; slot < end; slot++) {
        if (!slot_has_chunk(h, slot) || state_at(h, slot) != SLOT_LINKED)
            continue;
        unsigned top = flags_level(flags_at(h, slot));
        for (unsigned level = 0; level <= top; level++)
            dropped += keep_sound_links(h, slot, level, list);
        if (best == KITH_HNSW_NONE || top > best_level) {
            best = slot;
            best_level = top;
        }
    }
    atomic_store(&h->entry, best);
    return dropped;
}

int kith_hnsw_restore_finish(struct kith_hnsw *h)
{
    uint32_t *list = malloc(h->links0 * sizeof *list);
    if (!list)
        return KITH_ENOMEM;
    hnsw_slots_index(h);
    uint64_t changes = mend_restored(h, list);
    free(list);
    uint32_t end = kith_hnsw_slot_end(h);
    for (uint32_t slot = 0; slot < end; slot++) {
        if (!slot_has_chunk(h, slot))
            continue;
        enum slot_state state = state_at(h, slot);
        /* Who has no link to it is for the sweep. */
        if (state == SLOT_LINKED && !in_links_at(h, slot))
            changes++;
        if (state != SLOT_TAIL)
            continue;
        if (hnsw_tail_reserve(h) != KITH_OK)
            return KITH_ENOMEM;
        hnsw_tail_push(h, slot, h->options.ef_construction);
    }
    /* One more, for the entry point: what was reached from the old one may not be from this one, so settle() looks. */
    atomic_store(&h->repair.changes, changes + 1);
    atomic_store(&h->repair.sweep_again, changes > 1); /* the entry point may well have none */
    if (is_spread(h))
        hnsw_spread_rebuild(h);
    kith_hnsw_trim(h);
    return KITH_OK;
}
