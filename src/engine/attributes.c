/* Attributes: jansson reads the text (it refuses bad UTF-8, trailing bytes and duplicate keys), and what
 * filters need of the result is laid out behind the header:
 *
 *     | header | fields, sorted by name | values of arrays | bytes: the text, then names and strings | */
#include "engine/attributes.h"

#include "base/assert.h"

#include <jansson.h>
#include <stdlib.h>

struct field {
    struct kith_slice name;
    struct kith_attribute_value value;
};

struct kith_attributes {
    size_t bytes; /* of the whole allocation */
    struct kith_attributes *next;
    struct kith_slice text;
    uint32_t field_count;
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

/* Where the next array and the next bytes go. */
struct place {
    struct kith_attribute_value *items;
    char *bytes;
};

static struct kith_slice put_bytes(struct place *place, const char *bytes, size_t length)
{
    if (length)
        memcpy(place->bytes, bytes, length);
    place->bytes += length;
    return kith_slice(place->bytes - length, length);
}

static struct kith_attribute_value put_value(struct place *place, const json_t *value, bool nested)
{
    switch (json_typeof(value)) {
    case JSON_NULL:
        return (struct kith_attribute_value){.kind = KITH_VALUE_NULL};
    case JSON_TRUE:
    case JSON_FALSE:
        return (struct kith_attribute_value){.kind = KITH_VALUE_NUMBER, .number = json_is_true(value)};
    case JSON_INTEGER:
    case JSON_REAL:
        return (struct kith_attribute_value){.kind = KITH_VALUE_NUMBER, .number = json_number_value(value)};
    case JSON_STRING:
        return (struct kith_attribute_value){
            .kind = KITH_VALUE_TEXT,
            .text = put_bytes(place, json_string_value(value), json_string_length(value))};
    default:
        break;
    }
    if (!json_is_array(value) || nested)
        return (struct kith_attribute_value){.kind = KITH_VALUE_OTHER};
    struct kith_attribute_value *items = place->items;
    size_t count = json_array_size(value);
    place->items += count;
    for (size_t i = 0; i < count; i++)
        items[i] = put_value(place, json_array_get(value, i), true);
    return (struct kith_attribute_value){
        .kind = KITH_VALUE_ARRAY, .items = items, .item_count = (uint32_t)count};
}

static int by_name(const void *a, const void *b)
{
    return kith_slice_compare(((const struct field *)a)->name, ((const struct field *)b)->name);
}

static void put_fields(struct kith_attributes *attributes, struct place *place, json_t *object)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        struct field *field = &attributes->fields[attributes->field_count++];
        field->name = put_bytes(place, name, strlen(name));
        field->value = put_value(place, value, false);
    }
    qsort(attributes->fields, attributes->field_count, sizeof attributes->fields[0], by_name);
}

struct kith_attributes *kith_attributes_open(struct kith_slice text)
{
    /* A big integer becomes a real, as in JavaScript, instead of an error. */
    json_t *object =
        text.length && text.data[0] == '{'
            ? json_loadb(text.data, text.length, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, NULL)
            : NULL;
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
        *attributes = (struct kith_attributes){.bytes = total, .valid = object != NULL};
        attributes->text = put_bytes(&place, text.data, text.length);
        if (object)
            put_fields(attributes, &place, object);
        KITH_DEBUG_ASSERT(place.bytes == (char *)attributes + total);
    }
    json_decref(object);
    return attributes;
}

void kith_attributes_close(struct kith_attributes *attributes)
{
    free(attributes);
}

struct kith_slice kith_attributes_text(const struct kith_attributes *attributes)
{
    return attributes->text;
}

bool kith_attributes_valid(const struct kith_attributes *attributes)
{
    return attributes->valid;
}

const struct kith_attribute_value *kith_attributes_get(const struct kith_attributes *attributes,
                                                       struct kith_slice name)
{
    size_t low = 0, high = attributes->field_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = kith_slice_compare(attributes->fields[middle].name, name);
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
