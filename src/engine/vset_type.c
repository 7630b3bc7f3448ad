/* Vector sets as a type of the keyspace: figures, digests, checkpoints.
 *
 * Parts of a checkpoint:
 *     'H', version u8, input_dim varint, elements ever added varint, the index's header as a slice     first
 *     'C', what vec/calibrate.h has learned                                  next, if there is any
 *     'E', then elements: slot varint, name, record (code and links), attributes (0: none, 1 and a slice) */
#include "base/varint.h"
#include "engine/attributes.h"
#include "engine/checkpoint.h"
#include "engine/state.h"
#include "engine/vset_internal.h"
#include "vec/calibrate.h"

#include <stdlib.h>

enum {
    PART_VERSION = 1,
    PART_BYTES = 64 << 10,
    LENGTH_BYTES = 5, /* of a record's length */
    SMALL_SET = 64,   /* slots: saved at once */
};

static void close_object(void *object)
{
    kith_vset_close(object);
}

static size_t object_count(const void *object)
{
    return kith_vset_count(object);
}

static size_t object_bytes(const void *object)
{
    return kith_vset_bytes(object);
}

static const char *object_encoding(const void *object)
{
    return "raw";
}

static uint64_t digest_element(const struct kith_vset *vset, uint32_t slot, struct kith_slice name)
{
    enum kith_hnsw_codes codes = vset->options.codes;
    bool has_form = codes == KITH_HNSW_I4 || codes == KITH_HNSW_BIN;
    float numbers[] = {kith_hnsw_norm(vset->index, slot), has_form ? kith_hnsw_form(vset->index, slot) : 0};
    uint64_t digest = kith_digest_bytes(0, name);
    digest = kith_digest_bytes(digest, kith_hnsw_code(vset->index, slot, NULL));
    digest = kith_digest_bytes(digest, kith_hnsw_kept(vset->index, slot));
    digest = kith_digest_bytes(digest, kith_slice(numbers, sizeof numbers));
    const struct kith_attributes *attributes = kith_vset_attributes(vset, slot);
    return attributes ? kith_digest_bytes(digest, kith_attributes_text(attributes)) : digest;
}

static uint64_t digest_object(const void *object)
{
    const struct kith_vset *vset = object;
    const struct kith_vset_options *o = &vset->options;
    uint32_t header[] = {o->dim, o->input_dim, o->codes, o->m, o->keep, o->layout, o->metric};
    uint64_t counts[] = {o->seed, vset->added};
    uint64_t digest = kith_digest_bytes(0, kith_slice(header, sizeof header));
    digest = kith_digest_bytes(digest, kith_slice(counts, sizeof counts));
    struct kith_slice name;
    for (uint32_t slot = 0; slot < kith_hnsw_slot_end(vset->index); slot++)
        if (kith_vset_name(vset, slot, &name))
            digest += digest_element(vset, slot, name);
    return digest;
}

/* ---- save ---- */

static void save_header(struct kith_save *save, const struct kith_vset *vset)
{
    struct kith_buf *part = kith_save_part_begin(save), header;
    kith_buf_init(&header);
    /* A checkpoint follows when links have been made and then none for a while: the set is at rest. */
    if (kith_hnsw_get_backlog(vset->index).tail == 0)
        kith_hnsw_trim(vset->index);
    kith_hnsw_save_header(vset->index, &header);
    kith_buf_append_char(part, 'H');
    kith_buf_append_char(part, PART_VERSION);
    kith_buf_append_varint(part, vset->options.input_dim);
    kith_buf_append_varint(part, vset->added);
    kith_buf_append_slice(part, kith_buf_slice(&header));
    part->failed |= header.failed;
    kith_buf_fini(&header);
    kith_save_part_end(save);
}

static void save_calibration(struct kith_save *save, const struct kith_vset *vset)
{
    struct kith_buf learned;
    kith_buf_init(&learned);
    kith_hnsw_save_calibration(vset->index, &learned);
    if (learned.length && !learned.failed) { /* else it is learned again */
        struct kith_buf *part = kith_save_part_begin(save);
        kith_buf_append_char(part, 'C');
        kith_buf_append(part, learned.data, learned.length);
        kith_save_part_end(save);
    }
    kith_buf_fini(&learned);
}

/* Its length stands before it and is known after: a padded varint. */
static void save_record(struct kith_buf *part, const struct kith_vset *vset, uint32_t slot)
{
    size_t start = part->length;
    kith_buf_append(part, "\x80\x80\x80\x80", LENGTH_BYTES);
    kith_hnsw_save_element(vset->index, slot, part);
    if (part->failed)
        return;
    size_t length = part->length - start - LENGTH_BYTES;
    uint8_t *p = (uint8_t *)part->data + start;
    for (int i = 0; i < LENGTH_BYTES; i++)
        p[i] = (uint8_t)((length >> (7 * i) & 0x7f) | (i + 1 < LENGTH_BYTES ? 0x80 : 0));
}

static void save_element(struct kith_buf *part, const struct kith_vset *vset, uint32_t slot)
{
    const struct kith_attributes *attributes = kith_vset_attributes(vset, slot);
    struct kith_slice name = {0};
    kith_vset_name(vset, slot, &name);
    kith_buf_append_varint(part, slot);
    kith_buf_append_slice(part, name);
    save_record(part, vset, slot);
    kith_buf_append_char(part, attributes != NULL);
    if (attributes)
        kith_buf_append_slice(part, kith_attributes_text(attributes));
}

static bool is_saved(const struct kith_vset *vset, uint32_t slot)
{
    return slot < vset->save_next || slot >= vset->save_end || (vset->saved[slot / 64] >> slot % 64 & 1);
}

static bool needs_save(const struct kith_vset *vset, uint32_t slot)
{
    return kith_vset_entry(vset, slot) && !is_saved(vset, slot);
}

void kith_vset_save_skip(struct kith_vset *vset, uint32_t slot)
{
    if (vset->save && slot < vset->save_end)
        vset->saved[slot / 64] |= UINT64_C(1) << slot % 64;
}

void kith_vset_save_before(struct kith_vset *vset, uint32_t slot)
{
    if (!vset->save || is_saved(vset, slot))
        return;
    struct kith_buf *part = kith_save_part_begin(vset->save);
    kith_buf_append_char(part, 'E');
    save_element(part, vset, slot);
    kith_save_part_end(vset->save);
    kith_vset_save_skip(vset, slot);
}

static void end_save(struct kith_vset *vset)
{
    free(vset->saved);
    vset->saved = NULL;
    vset->save = NULL;
    vset->save_next = vset->save_end = 0;
}

/* One part of elements; returns its bytes. */
static size_t save_elements(struct kith_vset *vset)
{
    struct kith_buf *part = NULL;
    size_t start = 0, looked_at = 0;
    while (vset->save_next < vset->save_end && looked_at < PART_BYTES / 16 &&
           (!part || part->length - start < PART_BYTES)) {
        looked_at++;
        if (needs_save(vset, vset->save_next)) {
            if (!part) {
                part = kith_save_part_begin(vset->save);
                start = part->length;
                kith_buf_append_char(part, 'E');
            }
            save_element(part, vset, vset->save_next);
        }
        vset->save_next++;
    }
    size_t bytes = looked_at * 16;
    if (part) {
        bytes += part->length - start;
        kith_save_part_end(vset->save);
    }
    return bytes;
}

static int save_step(struct kith_save *save, void *object, size_t budget_bytes)
{
    struct kith_vset *vset = object;
    size_t written = 0;
    while (vset->save_next < vset->save_end && written < budget_bytes)
        written += save_elements(vset);
    if (vset->save_next < vset->save_end)
        return 1;
    end_save(vset);
    return 0;
}

static void save_abort(struct kith_save *save, void *object)
{
    end_save(object);
}

static struct kith_save *saving(const void *object)
{
    return ((const struct kith_vset *)object)->save;
}

static int save_object(struct kith_save *save, void *object)
{
    struct kith_vset *vset = object;
    uint32_t end = kith_hnsw_slot_end(vset->index);
    save_header(save, vset);
    save_calibration(save, vset);
    bool small = end <= SMALL_SET;
    vset->saved = calloc((size_t)end / 64 + 1, sizeof *vset->saved);
    if (!vset->saved) { /* the checkpoint fails, the data does not */
        kith_save_part_begin(save)->failed = true;
        kith_save_part_end(save);
        return 0;
    }
    vset->save = save;
    vset->save_next = 0;
    vset->save_end = end;
    return small ? save_step(save, object, SIZE_MAX) : 1;
}

/* ---- load ---- */

static struct kith_vset *load_header(struct kith_engine *engine, struct kith_reader *part)
{
    if (kith_reader_u8(part) != 'H' || kith_reader_u8(part) != PART_VERSION)
        return NULL;
    uint64_t input_dim = kith_reader_varint(part), added = kith_reader_varint(part);
    struct kith_slice header = kith_reader_slice(part);
    struct kith_hnsw_options index_options = {.release = kith_vset_release_attributes};
    struct kith_hnsw *index;
    if (part->failed || input_dim > KITH_HNSW_DIM_MAX ||
        kith_hnsw_restore_open(&index, header, &index_options) != KITH_OK)
        return NULL;
    const struct kith_hnsw_options *saved = kith_hnsw_get_options(index);
    struct kith_vset_options options = {.dim = saved->dim,
                                        .input_dim = (uint32_t)input_dim,
                                        .codes = saved->codes,
                                        .m = saved->m,
                                        .seed = saved->seed};
    struct kith_vset *vset;
    if ((input_dim && input_dim < saved->dim) || kith_vset_adopt(&vset, engine, &options, index) != KITH_OK) {
        kith_hnsw_close(index);
        return NULL;
    }
    vset->added = added;
    return vset;
}

static bool load_element(struct kith_vset *vset, struct kith_reader *part)
{
    uint64_t slot = kith_reader_varint(part);
    struct kith_slice name = kith_reader_slice(part), record = kith_reader_slice(part);
    struct kith_attributes *attributes = NULL;
    bool has_attributes = kith_reader_u8(part);
    struct kith_slice text = has_attributes ? kith_reader_slice(part) : kith_slice("", 0);
    if (part->failed || slot >= KITH_HNSW_NONE)
        return false;
    if (has_attributes && !(attributes = kith_attributes_open(text)))
        return false;
    if (kith_hnsw_restore_element(vset->index, (uint32_t)slot, record, (uint64_t)(uintptr_t)attributes) !=
        KITH_OK) {
        kith_attributes_close(attributes);
        return false;
    }
    return kith_vset_put_name(vset, name, (uint32_t)slot) == KITH_OK;
}

static void *load_object(struct kith_engine *engine, void *object, struct kith_reader *part)
{
    if (!object)
        return load_header(engine, part);
    struct kith_vset *vset = object;
    uint8_t kind = kith_reader_u8(part);
    if (kind == 'C') {
        struct kith_slice learned = kith_reader_bytes(part, part->length);
        vset->calibrates = kith_hnsw_restore_calibration(vset->index, learned) == KITH_OK;
        return vset->calibrates ? vset : NULL;
    }
    if (kind != 'E')
        return NULL;
    while (part->length && !part->failed)
        if (!load_element(vset, part))
            return NULL;
    return part->failed ? NULL : vset;
}

static int loaded(struct kith_engine *engine, void *object)
{
    struct kith_vset *vset = object;
    int status = kith_hnsw_restore_finish(vset->index);
    if (status == KITH_OK)
        kith_vset_schedule(vset); /* what was not linked yet when it was saved */
    return status;
}

const struct kith_type_ops kith_vset_ops = {
    .name = "vectorset",
    .close = close_object,
    .memory_bytes = object_bytes,
    .count = object_count,
    .encoding = object_encoding,
    .digest = digest_object,
    .save = save_object,
    .save_step = save_step,
    .save_abort = save_abort,
    .saving = saving,
    .load = load_object,
    .loaded = loaded,
};
