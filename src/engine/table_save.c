/* Saving a table in steps. */
#include "engine/table_save.h"

#include "ds/table.h"
#include "engine/checkpoint.h"

enum { PART_BYTES = 32 << 10 };

struct walk {
    struct kith_table_save *state;
    kith_table_save_fn *write;
    struct kith_buf *part; /* NULL between parts */
};

static void save_entry(void *arg, void *entry)
{
    struct walk *walk = arg;
    if (kith_entry_meta(entry) == walk->state->epoch)
        return;
    if (!walk->part)
        walk->part = kith_save_part_begin(walk->state->save);
    walk->write(walk->part, entry);
    kith_entry_set_meta(entry, walk->state->epoch);
}

void kith_table_save_begin(struct kith_table_save *state, struct kith_save *save)
{
    state->save = save;
    state->cursor = 0;
    state->epoch ^= 1;
}

/* Fills one part; returns the bytes that it took, or a little for a stretch without elements to save. */
static size_t save_part(struct walk *walk, struct kith_table *table)
{
    struct kith_table_save *state = walk->state;
    size_t bytes = 0;
    do {
        size_t length = walk->part ? walk->part->length : SIZE_MAX;
        state->cursor = kith_table_scan(table, state->cursor, save_entry, walk);
        bytes += 16; /* a step costs something even when it writes nothing */
        if (walk->part && length != SIZE_MAX)
            bytes += walk->part->length - length;
    } while (state->cursor && bytes < PART_BYTES);
    if (walk->part)
        kith_save_part_end(state->save);
    walk->part = NULL;
    return bytes;
}

int kith_table_save_step(struct kith_table_save *state, struct kith_table *table, kith_table_save_fn *write,
                         size_t budget_bytes)
{
    struct walk walk = {state, write, NULL};
    size_t written = 0;
    do
        written += save_part(&walk, table);
    while (state->cursor && written < budget_bytes);
    if (state->cursor)
        return 1;
    state->save = NULL;
    return 0;
}

static void mark_entry(void *arg, void *entry)
{
    const struct kith_table_save *state = arg;
    kith_entry_set_meta(entry, state->epoch);
}

void kith_table_save_abort(struct kith_table_save *state, struct kith_table *table)
{
    if (!state->save)
        return;
    do
        state->cursor = kith_table_scan(table, state->cursor, mark_entry, state);
    while (state->cursor);
    state->save = NULL;
}

void kith_table_save_before(struct kith_table_save *state, const void *entry, kith_table_save_fn *write)
{
    if (!state->save || kith_entry_meta(entry) == state->epoch)
        return;
    write(kith_save_part_begin(state->save), entry);
    kith_save_part_end(state->save);
}
