/* Attributes: jansson reads the text (it refuses bad UTF-8, trailing bytes and duplicate names), and what
 * filters need of the result is laid out behind the header:
 *
 *     | header | fields, sorted by name | items of arrays | bytes: the text, then names and strings | */
#include "engine/attributes.h"

#include "base/assert.h"

#include <jansson.h>
#include <stdlib.h>

/* Names of up to 4 bytes are told apart by `head` and `name_length` alone, so that filters rarely read names. */
struct field {
    const char *name;
    uint32_t name_length;
    uint32_t head; /* of the name: its first bytes, zeros after a shorter one */
    struct kith_attribute_value value;
};

/* Up to here a look at each is quicker than halving. */
enum { FEW_FIELDS = 16 };

struct kith_attributes {
    size_t bytes; /* of the whole allocation */
    struct kith_attributes *next;
    const char *text;
    uint32_t text_length, field_count, holder_count;
    bool valid;
    struct field fields[];
};

struct layout {
    size_t fields, items, bytes;
};

static void measure_value(const json_t *value, struct layout *layout)
{
    if (json_is_string(value))
        layout->bytes += json_string_length(value);
    if (!json_is_array(value))
        return;
    layout->items += json_array_size(value);
    for (size_t i = 0; i < json_array_size(value); i++)
        if (json_is_string(json_array_get(value, i)))
            layout->bytes += json_string_length(json_array_get(value, i));
}

static void measure(json_t *object, struct layout *layout)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        layout->fields++;
        layout->bytes += strlen(name);
        measure_value(value, layout);
    }
}

/* Where the next items and the next bytes go. */
struct place {
    struct kith_attribute_value *items;
    char *bytes;
};

static const char *put_bytes(struct place *place, const char *bytes, size_t length)
{
    if (length)
        memcpy(place->bytes, bytes, length);
    place->bytes += length;
    return place->bytes - length;
}

static struct kith_attribute_value put_value(struct place *place, const json_t *value, bool nested)
{
    struct kith_attribute_value out = {.kind = KITH_VALUE_OTHER};
    if (json_is_null(value)) {
        out.kind = KITH_VALUE_NULL;
    } else if (json_is_boolean(value)) {
        out.kind = KITH_VALUE_NUMBER;
        out.number = json_is_true(value);
    } else if (json_is_number(value)) {
        out.kind = KITH_VALUE_NUMBER;
        out.number = json_number_value(value);
    } else if (json_is_string(value)) {
        out.kind = KITH_VALUE_TEXT;
        out.count = (uint32_t)json_string_length(value);
        out.text = put_bytes(place, json_string_value(value), out.count);
    } else if (json_is_array(value) && !nested) {
        struct kith_attribute_value *items = place->items;
        out.kind = KITH_VALUE_ARRAY;
        out.count = (uint32_t)json_array_size(value);
        out.items = items;
        place->items += out.count;
        for (uint32_t i = 0; i < out.count; i++)
            items[i] = put_value(place, json_array_get(value, i), true);
    }
    return out;
}

static struct kith_slice field_name(const struct field *field)
{
    return kith_slice(field->name, field->name_length);
}

static int by_name(const void *a, const void *b)
{
    return kith_slice_compare(field_name(a), field_name(b));
}

static uint32_t head_of(struct kith_slice name)
{
    uint32_t head = 0;
    if (name.length >= sizeof head)
        memcpy(&head, name.data, sizeof head);
    else if (name.length)
        memcpy(&head, name.data, name.length);
    return head;
}

static void put_fields(struct kith_attributes *attributes, struct place *place, json_t *object)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        struct field *field = &attributes->fields[attributes->field_count++];
        field->name_length = (uint32_t)strlen(name);
        field->name = put_bytes(place, name, field->name_length);
        field->head = head_of(field_name(field));
        field->value = put_value(place, value, false);
    }
    qsort(attributes->fields, attributes->field_count, sizeof attributes->fields[0], by_name);
}

/* *object receives NULL when the text is not an object. KITH_ENOMEM, or 0. */
static bool parse(struct kith_slice text, json_t **object)
{
    json_error_t error;
    *object = NULL;
    if (!text.length || text.data[0] != '{')
        return true;
    /* A big integer becomes a real, as in JavaScript, instead of an error. */
    *object = json_loadb(text.data, text.length, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &error);
    return *object || json_error_code(&error) != json_error_out_of_memory;
}

struct kith_attributes *kith_attributes_open(struct kith_slice text)
{
    json_t *object;
    if (text.length > UINT32_MAX || !parse(text, &object))
        return NULL;
    struct layout layout = {0};
    if (object)
        measure(object, &layout);
    size_t head = sizeof(struct kith_attributes) + layout.fields * sizeof(struct field);
    size_t items = layout.items * sizeof(struct kith_attribute_value);
    size_t total = head + items + layout.bytes + text.length;
    struct kith_attributes *attributes = malloc(total);
    if (attributes) {
        struct place place = {(struct kith_attribute_value *)((char *)attributes + head),
                              (char *)attributes + head + items};
        *attributes = (struct kith_attributes){.bytes = total, .holder_count = 1, .valid = object != NULL};
        attributes->text = put_bytes(&place, text.data, text.length);
        attributes->text_length = (uint32_t)text.length;
        if (object)
            put_fields(attributes, &place, object);
        KITH_DEBUG_ASSERT(place.bytes == (char *)attributes + total);
    }
    json_decref(object);
    return attributes;
}

void kith_attributes_close(struct kith_attributes *attributes)
{
    if (attributes && --attributes->holder_count == 0)
        free(attributes);
}

struct kith_attributes *kith_attributes_hold(struct kith_attributes *attributes)
{
    if (attributes)
        attributes->holder_count++;
    return attributes;
}

struct kith_slice kith_attributes_text(const struct kith_attributes *attributes)
{
    return kith_slice(attributes->text, attributes->text_length);
}

bool kith_attributes_valid(const struct kith_attributes *attributes)
{
    return attributes->valid;
}

const struct kith_attribute_value *kith_attributes_get(const struct kith_attributes *attributes,
                                                       struct kith_slice name)
{
    size_t low = 0, high = attributes->field_count;
    if (high <= FEW_FIELDS) {
        uint32_t head = head_of(name);
        for (const struct field *field = attributes->fields; field < attributes->fields + high; field++)
            if (field->head == head && field->name_length == name.length &&
                (name.length <= sizeof head || memcmp(field->name, name.data, name.length) == 0))
                return &field->value;
        return NULL;
    }
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = kith_slice_compare(field_name(&attributes->fields[middle]), name);
        if (order == 0)
            return &attributes->fields[middle].value;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

struct kith_attributes *kith_attributes_set_next(struct kith_attributes *attributes,
                                                 struct kith_attributes *next)
{
    struct kith_attributes *old = attributes->next;
    attributes->next = next;
    return old;
}

size_t kith_attributes_bytes(const struct kith_attributes *attributes)
{
    return attributes ? attributes->bytes : 0;
}
