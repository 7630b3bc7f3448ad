/* What happens when a value, or a part of one, is whole: it is checked and told. */
#include "wire/rdb_internal.h"

#include <math.h>

void kith_rdb_key_done(struct kith_rdb *rdb)
{
    enum { KEPT_BYTES = 64 << 10 };
    struct kith_buf *bufs[] = {&rdb->texts[0], &rdb->texts[1], &rdb->texts[2],
                               &rdb->packed,   &rdb->name,     &rdb->components};
    for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++)
        if (bufs[i]->capacity > KEPT_BYTES)
            kith_buf_fini(bufs[i]);
    rdb->key = (struct kith_rdb_key){.db = rdb->key.db, .expiry_ms = -1};
    rdb->type = NULL;
    rdb->text_count = rdb->number_count = 0;
}

/* An event's failure is the reader's. */
static int told(struct kith_rdb *rdb, int status)
{
    if (status >= 0)
        return KITH_OK;
    return kith_rdb_fail(rdb, status, "what was read could not be taken: %s", kith_status_text(status));
}

int kith_rdb_do_string(struct kith_rdb *rdb)
{
    int status = KITH_OK;
    if (rdb->events->string)
        status = told(rdb, rdb->events->string(rdb->arg, &rdb->key, kith_rdb_text(rdb, 0)));
    kith_rdb_key_done(rdb);
    return status;
}

int kith_rdb_do_begin(struct kith_rdb *rdb, const struct kith_rdb_vectors *vectors)
{
    rdb->elements = rdb->left_out = 0;
    rdb->why = NULL;
    return rdb->events->begin ? told(rdb, rdb->events->begin(rdb->arg, &rdb->key, vectors)) : KITH_OK;
}

/* A field with a time of its own is as if it went at once: a copy that stays for ever would be wrong data. */
static int tell_field(struct kith_rdb *rdb, struct kith_slice field, struct kith_slice value, bool has_time)
{
    if (has_time) {
        rdb->left_out++;
        rdb->why = "fields with a time to live of their own are not there yet";
        return KITH_OK;
    }
    rdb->elements++;
    return rdb->events->field ? told(rdb, rdb->events->field(rdb->arg, &rdb->key, field, value)) : KITH_OK;
}

static int tell_member(struct kith_rdb *rdb, struct kith_slice member, double score)
{
    if (isnan(score))
        return kith_rdb_fail(rdb, KITH_ECORRUPT, "a score is not a number: the file is damaged");
    rdb->elements++;
    return rdb->events->member ? told(rdb, rdb->events->member(rdb->arg, &rdb->key, member, score)) : KITH_OK;
}

int kith_rdb_do_field(struct kith_rdb *rdb)
{
    bool has_time = rdb->number_count && rdb->numbers[0];
    rdb->text_count = rdb->number_count = 0;
    return tell_field(rdb, kith_rdb_text(rdb, 0), kith_rdb_text(rdb, 1), has_time);
}

int kith_rdb_do_member(struct kith_rdb *rdb)
{
    rdb->text_count = 0;
    return tell_member(rdb, kith_rdb_text(rdb, 0), rdb->score);
}

static int bad_packed(struct kith_rdb *rdb)
{
    return kith_rdb_fail(rdb, KITH_ECORRUPT,
                         "the packed value is damaged: have the server write the file again");
}

static int tell_items(struct kith_rdb *rdb, const struct kith_rdb_item *items)
{
    if (rdb->key.kind == KITH_RDB_ZSET) {
        double score;
        if (kith_num_parse_double(items[1].text, KITH_NUM_RANGE_OK, &score))
            return bad_packed(rdb);
        return tell_member(rdb, items[0].text, score);
    }
    bool has_time = rdb->type->item_count == 3 && !kith_slice_equal(items[2].text, KITH_SLICE("0"));
    return tell_field(rdb, items[0].text, items[1].text, has_time);
}

int kith_rdb_do_packed(struct kith_rdb *rdb)
{
    enum { ITEMS_MAX = 3 };
    struct kith_rdb_packed packed;
    struct kith_rdb_item items[ITEMS_MAX] = {0};
    int status = kith_rdb_packed_init(&packed, rdb->type->form, kith_rdb_text(rdb, 0));
    rdb->text_count = 0;
    if (status)
        return bad_packed(rdb);
    for (;;) {
        for (unsigned i = 0; i < rdb->type->item_count; i++) {
            status = kith_rdb_packed_next(&packed, &items[i]);
            if (status == 0 && i == 0)
                return KITH_OK;
            if (status <= 0)
                return bad_packed(rdb);
        }
        status = tell_items(rdb, items);
        if (status)
            return status;
    }
}

int kith_rdb_do_end(struct kith_rdb *rdb)
{
    int status = KITH_OK;
    if (rdb->events->end)
        status = told(rdb, rdb->events->end(rdb->arg, &rdb->key, rdb->elements, rdb->left_out, rdb->why));
    kith_rdb_key_done(rdb);
    return status;
}

int kith_rdb_do_skipped(struct kith_rdb *rdb, const char *why)
{
    return rdb->events->skipped ? told(rdb, rdb->events->skipped(rdb->arg, &rdb->key, why)) : KITH_OK;
}

int kith_rdb_do_other(struct kith_rdb *rdb, const char *what, struct kith_slice name)
{
    return rdb->events->other ? told(rdb, rdb->events->other(rdb->arg, what, name)) : KITH_OK;
}

/* A module's value: a vector set, or something that nobody knows here. */
int kith_rdb_do_module(struct kith_rdb *rdb)
{
    enum { VERSION_BITS = 10 };
    uint64_t id = rdb->numbers[0];
    rdb->number_count = 0;
    kith_rdb_module_name(id, rdb->module);
    rdb->key.type = rdb->module;
    bool is_vectors = strcmp(rdb->module, "vectorset") == 0;
    if (is_vectors && (id & ((1 << VERSION_BITS) - 1)) == 0) {
        rdb->key.kind = KITH_RDB_VECTORS;
        rdb->op = "ululululh";
        return KITH_OK;
    }
    rdb->op = "MX";
    return kith_rdb_do_skipped(rdb, is_vectors ? "a vector set in a form that is not known"
                                               : "types of modules are not there");
}

/* The code begins with "#!lua name=mylib\n". */
int kith_rdb_do_library(struct kith_rdb *rdb)
{
    struct kith_slice code = kith_rdb_text(rdb, 0), name = {0};
    const char *newline = code.length ? memchr(code.data, '\n', code.length) : NULL;
    size_t line = newline ? (size_t)(newline - code.data) : code.length;
    for (size_t i = 0; i + 5 <= line && !name.data; i++)
        if (memcmp(code.data + i, "name=", 5) == 0)
            name = kith_slice(code.data + i + 5, line - i - 5);
    for (size_t i = 0; i < name.length; i++)
        if (name.data[i] == ' ' || name.data[i] == '\r')
            name.length = i;
    rdb->text_count = 0;
    return kith_rdb_do_other(rdb, "function library", name);
}

int kith_rdb_do_module_data(struct kith_rdb *rdb)
{
    char name[KITH_RDB_TYPE_NAME];
    kith_rdb_module_name(rdb->numbers[0], name);
    rdb->number_count = 0;
    return kith_rdb_do_other(rdb, "module data", kith_slice(name, strlen(name)));
}

int kith_rdb_do_aux(struct kith_rdb *rdb)
{
    rdb->text_count = 0;
    return rdb->events->aux
               ? told(rdb, rdb->events->aux(rdb->arg, kith_rdb_text(rdb, 0), kith_rdb_text(rdb, 1)))
               : KITH_OK;
}
