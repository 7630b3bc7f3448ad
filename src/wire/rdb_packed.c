/* One function a form reads one item and says how many bytes it took; every length is compared with what is left before
 * it is used, so that the item lies within the bytes whatever they say. */
#include "wire/rdb_packed.h"

#include "base/status.h"
#include "wire/rdb_bytes.h"

enum {
    END_MARK = 0xff,
    ZIPLIST_HEADER = 10, /* bytes u32, offset of the last item u32, items u16 */
    LISTPACK_HEADER = 6, /* bytes u32, items u16 */
    LONG_LENGTH = 254,   /* ziplist, zipmap: four bytes of length follow */
};

int kith_rdb_packed_init(struct kith_rdb_packed *packed, enum kith_rdb_form form, struct kith_slice bytes)
{
    static const size_t headers[] = {
        [KITH_RDB_ZIPMAP] = 1, [KITH_RDB_ZIPLIST] = ZIPLIST_HEADER, [KITH_RDB_LISTPACK] = LISTPACK_HEADER};
    const uint8_t *data = (const uint8_t *)bytes.data;
    size_t header = headers[form];
    if (bytes.length < header + 1 || data[bytes.length - 1] != END_MARK)
        return KITH_ECORRUPT;
    if (form != KITH_RDB_ZIPMAP && kith_rdb_le(data, 4) != bytes.length)
        return KITH_ECORRUPT;
    *packed = (struct kith_rdb_packed){.form = form, .at = data + header, .end = data + bytes.length - 1};
    return KITH_OK;
}

static void set_text(struct kith_rdb_item *item, const uint8_t *bytes, size_t length)
{
    item->text = kith_slice(bytes, length);
}

static void set_integer(struct kith_rdb_item *item, int64_t value)
{
    item->text = kith_slice(item->digits, kith_num_format_int64(item->digits, value));
}

/* `header` bytes and then `length` of text: the bytes taken, 0 when there are fewer. */
static size_t take_text(struct kith_rdb_item *item, const uint8_t *at, size_t left, size_t header,
                        uint64_t length)
{
    if (left < header || length > left - header)
        return 0;
    set_text(item, at + header, length);
    return header + length;
}

/* The same for a little-endian integer of `width` bytes with a sign. */
static size_t take_integer(struct kith_rdb_item *item, const uint8_t *at, size_t left, size_t header,
                           size_t width)
{
    if (left < header + width)
        return 0;
    set_integer(item, kith_rdb_le_signed(at + header, width));
    return header + width;
}

/* ---- listpack ---- */

/* The item without the length behind it. Takes 0 when the bytes are no item. */
static size_t listpack_item(struct kith_rdb_item *item, const uint8_t *at, size_t left)
{
    uint8_t first = at[0];
    if (first < 0x80) {
        set_integer(item, first);
        return 1;
    }
    if (first < 0xc0)
        return take_text(item, at, left, 1, first & 0x3f);
    if (first < 0xf0 && left < 2)
        return 0;
    if (first < 0xe0) {
        int32_t value = (first & 0x1f) << 8 | at[1];
        set_integer(item, value >= 1 << 12 ? value - (1 << 13) : value);
        return 2;
    }
    if (first < 0xf0)
        return take_text(item, at, left, 2, (uint64_t)(first & 0x0f) << 8 | at[1]);
    switch (first) {
    case 0xf0:
        return left < 5 ? 0 : take_text(item, at, left, 5, kith_rdb_le(at + 1, 4));
    case 0xf1:
    case 0xf2:
    case 0xf3:
        return take_integer(item, at, left, 1, (size_t)first - 0xf1 + 2);
    case 0xf4:
        return take_integer(item, at, left, 1, 8);
    default:
        return 0;
    }
}

/* The item's length stands behind it too, high bits first, seven a byte, all bytes but the first with the high bit set.
 * How many bytes that takes is told by the length; writers differ about the last length of each size. */
static size_t listpack_back_length(const uint8_t *at, size_t left, size_t length)
{
    size_t least = 1;
    for (size_t rest = length >> 7; rest; rest >>= 7)
        least++;
    for (size_t size = least; size <= least + 1 && size <= left; size++) {
        uint64_t value = 0;
        bool is_good = true;
        for (size_t i = 0; i < size; i++) {
            value = value << 7 | (at[i] & 0x7f);
            is_good &= (at[i] >= 0x80) == (i > 0);
        }
        if (is_good && value == length)
            return size;
    }
    return 0;
}

static size_t listpack_next(struct kith_rdb_packed *packed, struct kith_rdb_item *item)
{
    size_t left = (size_t)(packed->end - packed->at);
    size_t length = listpack_item(item, packed->at, left);
    size_t behind = length ? listpack_back_length(packed->at + length, left - length, length) : 0;
    return behind ? length + behind : 0;
}

/* ---- ziplist ---- */

static size_t ziplist_integer(struct kith_rdb_item *item, const uint8_t *at, size_t left)
{
    switch (at[0]) {
    case 0xc0:
        return take_integer(item, at, left, 1, 2);
    case 0xd0:
        return take_integer(item, at, left, 1, 4);
    case 0xe0:
        return take_integer(item, at, left, 1, 8);
    case 0xf0:
        return take_integer(item, at, left, 1, 3);
    case 0xfe:
        return take_integer(item, at, left, 1, 1);
    default:
        if (at[0] < 0xf1 || at[0] > 0xfd)
            return 0;
        set_integer(item, at[0] - 0xf1);
        return 1;
    }
}

static size_t ziplist_item(struct kith_rdb_item *item, const uint8_t *at, size_t left)
{
    if (!left)
        return 0;
    switch (at[0] >> 6) {
    case 0:
        return take_text(item, at, left, 1, at[0]);
    case 1:
        return left < 2 ? 0 : take_text(item, at, left, 2, (uint64_t)(at[0] & 0x3f) << 8 | at[1]);
    case 2:
        return left < 5 ? 0 : take_text(item, at, left, 5, kith_rdb_be(at + 1, 4));
    default:
        return ziplist_integer(item, at, left);
    }
}

/* The length of the item before stands in front, in one byte or in five. */
static size_t ziplist_next(struct kith_rdb_packed *packed, struct kith_rdb_item *item)
{
    size_t left = (size_t)(packed->end - packed->at), front = packed->at[0] < LONG_LENGTH ? 1 : 5;
    if (packed->at[0] > LONG_LENGTH || left <= front)
        return 0;
    size_t length = ziplist_item(item, packed->at + front, left - front);
    return length ? front + length : 0;
}

/* ---- zipmap ---- */

/* A key is its length and its bytes; a value has a count of unused bytes between and as many behind. */
static size_t zipmap_next(struct kith_rdb_packed *packed, struct kith_rdb_item *item)
{
    const uint8_t *at = packed->at;
    size_t left = (size_t)(packed->end - at), header = at[0] < LONG_LENGTH ? 1 : 5, unused = 0;
    if (at[0] > LONG_LENGTH || left < header)
        return 0;
    uint64_t length = header == 1 ? at[0] : kith_rdb_le(at + 1, 4);
    if (packed->is_value) {
        if (left <= header)
            return 0;
        unused = at[header++];
    }
    size_t taken = take_text(item, at, left, header, length);
    if (!taken || unused > left - taken)
        return 0;
    packed->is_value = !packed->is_value;
    return taken + unused;
}

int kith_rdb_packed_next(struct kith_rdb_packed *packed, struct kith_rdb_item *item)
{
    if (packed->at == packed->end)
        return 0;
    size_t taken = packed->form == KITH_RDB_LISTPACK  ? listpack_next(packed, item)
                   : packed->form == KITH_RDB_ZIPLIST ? ziplist_next(packed, item)
                                                      : zipmap_next(packed, item);
    if (!taken)
        return KITH_ECORRUPT;
    packed->at += taken;
    return 1;
}

/* ---- LZF ---- */

enum { LZF_COPY_MAX = 2 + 7 + 255, LZF_COPY_BYTES = 3 };

uint64_t kith_rdb_expanded_max(uint64_t length)
{
    return length > UINT64_MAX / LZF_COPY_MAX ? UINT64_MAX : length * LZF_COPY_MAX / LZF_COPY_BYTES;
}

/* A byte below 32: that many bytes and one more follow as they are. Else three bits of length and thirteen of distance
 * back into what is expanded already, with a byte more of length between when the three bits are all set. */
int kith_rdb_expand(struct kith_slice packed, char *out, size_t length)
{
    const uint8_t *at = (const uint8_t *)packed.data, *end = at + packed.length;
    size_t done = 0;
    while (at < end) {
        size_t control = *at++;
        if (control < 32) {
            size_t run = control + 1;
            if (run > (size_t)(end - at) || run > length - done)
                return KITH_ECORRUPT;
            memcpy(out + done, at, run);
            at += run;
            done += run;
            continue;
        }
        size_t run = control >> 5;
        if (run == 7 && at < end)
            run += *at++;
        if (at == end)
            return KITH_ECORRUPT;
        size_t back = ((control & 0x1f) << 8 | *at++) + 1;
        run += 2;
        if (back > done || run > length - done)
            return KITH_ECORRUPT;
        for (size_t i = 0; i < run; i++) /* the source may overlap what is written: byte by byte */
            out[done + i] = out[done + i - back];
        done += run;
    }
    return done == length ? KITH_OK : KITH_ECORRUPT;
}
