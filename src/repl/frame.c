/* Frames to bytes and back. Encoding trusts its caller; decoding trusts nobody: each number is held against its range,
 * each length against what is left, and a byte too many is as wrong as one too few. The fields stand in the order of
 * the struct, in both directions, so that the two switches read as one table. */
#include "repl/frame.h"
#include "base/assert.h"
#include "base/varint.h"

#include <stdlib.h>

/* Term, kind and payload length take at least this much of an append, so a count cannot ask for more memory than some
 * ten times what was sent. */
enum { ENTRY_BYTES_MIN = 3 };

static void put_entries(struct kith_buf *out, const struct kith_core_message *m)
{
    KITH_ASSERT(m->append.count <= KITH_FRAME_ENTRIES_MAX && (m->append.entries || !m->append.count));
    kith_buf_append_varint(out, m->append.count);
    for (uint32_t i = 0; i < m->append.count; i++) {
        const struct kith_core_entry *entry = &m->append.entries[i];
        kith_buf_append_varint(out, entry->term);
        kith_buf_append_char(out, (char)entry->kind);
        kith_buf_append_slice(out, entry->payload);
    }
}

static void put_raft(struct kith_buf *out, const struct kith_core_message *m)
{
    kith_buf_append_char(out, (char)m->version);
    kith_buf_append_varint(out, m->term);
    switch (m->kind) {
    case KITH_CORE_APPEND:
        kith_buf_append_varint(out, m->append.previous_index);
        kith_buf_append_varint(out, m->append.previous_term);
        kith_buf_append_varint(out, m->append.commit_index);
        put_entries(out, m);
        break;
    case KITH_CORE_APPEND_RESULT:
        kith_buf_append_varint(out, m->append_result.rejected);
        kith_buf_append_varint(out, m->append_result.last_index);
        kith_buf_append_varint(out, m->append_result.features);
        kith_buf_append_varint(out, m->append_result.capacity);
        break;
    case KITH_CORE_VOTE:
        kith_buf_append_u64(out, m->vote.candidate);
        kith_buf_append_varint(out, m->vote.last_index);
        kith_buf_append_varint(out, m->vote.last_term);
        kith_buf_append_char(out, m->vote.disrupt_leader);
        kith_buf_append_char(out, m->vote.pre_vote);
        break;
    case KITH_CORE_VOTE_RESULT:
        kith_buf_append_char(out, m->vote_result.granted);
        kith_buf_append_char(out, m->vote_result.pre_vote);
        kith_buf_append_varint(out, m->vote_result.features);
        kith_buf_append_varint(out, m->vote_result.capacity);
        break;
    case KITH_CORE_INSTALL:
        kith_buf_append_varint(out, m->install.index);
        kith_buf_append_varint(out, m->install.term);
        kith_buf_append_varint(out, m->install.configuration_index);
        kith_buf_append_slice(out, m->install.configuration);
        break;
    case KITH_CORE_TIMEOUT_NOW:
        kith_buf_append_varint(out, m->timeout_now.last_index);
        kith_buf_append_varint(out, m->timeout_now.last_term);
        break;
    }
}

static void put_rest(struct kith_buf *out, const struct kith_frame *f)
{
    switch ((enum kith_frame_kind)f->kind) {
    case KITH_FRAME_PROBE:
    case KITH_FRAME_PROBE_RESULT:
        kith_buf_append_varint(out, f->probe.term);
        kith_buf_append_varint(out, f->probe.number);
        break;
    case KITH_FRAME_READ:
        kith_buf_append_varint(out, f->read.number);
        break;
    case KITH_FRAME_READ_RESULT:
        kith_buf_append_varint(out, f->read_result.number);
        kith_buf_append_varint(out, f->read_result.index);
        break;
    case KITH_FRAME_FORWARD:
        kith_buf_append_u64(out, f->forward.number);
        kith_buf_append_slice(out, f->forward.payload);
        break;
    case KITH_FRAME_FORWARD_REFUSED:
        kith_buf_append_u64(out, f->forward_refused.number);
        break;
    case KITH_FRAME_CHANGE:
        kith_buf_append_varint(out, f->change.number);
        kith_buf_append_char(out, (char)f->change.change);
        kith_buf_append_u64(out, f->change.id);
        kith_buf_append_slice(out, f->change.address);
        break;
    case KITH_FRAME_CHANGE_RESULT: {
        struct kith_slice text = f->change_result.text;
        text.length = text.length > KITH_FRAME_TEXT_MAX ? KITH_FRAME_TEXT_MAX : text.length;
        kith_buf_append_varint(out, f->change_result.number);
        kith_buf_append_u64(out, (uint64_t)f->change_result.status);
        kith_buf_append_slice(out, text);
        break;
    }
    case KITH_FRAME_STREAM_OFFER:
        kith_buf_append_varint(out, f->stream_offer.term);
        kith_buf_append_varint(out, f->stream_offer.index);
        kith_buf_append_varint(out, f->stream_offer.entry_term);
        kith_buf_append_varint(out, f->stream_offer.file_bytes);
        kith_buf_append_u32(out, f->stream_offer.file_crc);
        break;
    case KITH_FRAME_STREAM_WANT:
        kith_buf_append_varint(out, f->stream_want.index);
        kith_buf_append_varint(out, f->stream_want.offset);
        break;
    case KITH_FRAME_STREAM_DATA:
        KITH_ASSERT(f->stream_data.bytes.length <= KITH_STREAM_DATA_MAX);
        kith_buf_append_varint(out, f->stream_data.index);
        kith_buf_append_varint(out, f->stream_data.offset);
        kith_buf_append_slice(out, f->stream_data.bytes);
        break;
    case KITH_FRAME_STREAM_END:
        kith_buf_append_varint(out, f->stream_end.index);
        kith_buf_append_u64(out, (uint64_t)f->stream_end.status);
        break;
    case KITH_FRAME_REMOVED:
        kith_buf_append_varint(out, f->removed.configuration_index);
        break;
    case KITH_FRAME_ABOUT:
        kith_buf_append_slice(out, f->about.client_address);
        kith_buf_append_slice(out, f->about.version);
        break;
    }
}

static bool is_raft(uint8_t kind)
{
    return kind >= KITH_CORE_APPEND && kind <= KITH_CORE_TIMEOUT_NOW;
}

void kith_frame_encode(struct kith_buf *out, const struct kith_frame *frame)
{
    kith_buf_append_char(out, (char)frame->kind);
    kith_buf_append_char(out, KITH_FRAME_VERSION);
    if (is_raft(frame->kind))
        put_raft(out, &frame->raft);
    else
        put_rest(out, frame);
}

/* The length is the last thing in front of the payload: 0 in one byte, until it is replaced. */
struct kith_slice kith_frame_encode_head(struct kith_buf *out, const struct kith_frame *frame)
{
    struct kith_frame bare = *frame;
    struct kith_core_entry entry;
    struct kith_slice payload;
    if (frame->kind == KITH_FRAME_FORWARD) {
        payload = frame->forward.payload;
        bare.forward.payload.length = 0;
    } else {
        KITH_ASSERT(frame->kind == KITH_CORE_APPEND && frame->raft.append.count == 1);
        entry = *frame->raft.append.entries;
        payload = entry.payload;
        entry.payload.length = 0;
        bare.raft.append.entries = &entry;
    }
    kith_frame_encode(out, &bare);
    if (!out->failed)
        out->length--;
    kith_buf_append_varint(out, payload.length);
    return payload;
}

/* A number that must lie in [low, high]. */
static uint64_t get_within(struct kith_reader *r, uint64_t value, uint64_t low, uint64_t high)
{
    if (value < low || value > high)
        r->failed = true;
    return value;
}

static bool get_bool(struct kith_reader *r)
{
    return get_within(r, kith_reader_u8(r), 0, 1) != 0;
}

static uint16_t get_u16(struct kith_reader *r)
{
    return (uint16_t)get_within(r, kith_reader_varint(r), 0, UINT16_MAX);
}

static struct kith_slice get_slice(struct kith_reader *r, size_t length_max)
{
    return kith_reader_bytes(r, get_within(r, kith_reader_varint(r), 0, length_max));
}

/* It becomes a C string. */
static struct kith_slice get_address(struct kith_reader *r)
{
    struct kith_slice s = get_slice(r, KITH_FRAME_ADDRESS_MAX);
    if (s.length && memchr(s.data, 0, s.length))
        r->failed = true;
    return s;
}

static int reserve_entries(struct kith_frame_room *room, size_t count)
{
    if (count <= room->entry_capacity)
        return KITH_OK;
    size_t capacity = count < 64 ? 64 : count + count / 2;
    struct kith_core_entry *entries = realloc(room->entries, capacity * sizeof *entries);
    if (!entries)
        return KITH_ENOMEM;
    room->entries = entries;
    room->entry_capacity = capacity;
    return KITH_OK;
}

static int get_entries(struct kith_reader *r, struct kith_core_message *m, struct kith_frame_room *room)
{
    uint64_t count = get_within(r, kith_reader_varint(r), 0, KITH_FRAME_ENTRIES_MAX);
    if (r->failed || count > r->length / ENTRY_BYTES_MIN)
        return KITH_ECORRUPT;
    if (reserve_entries(room, (size_t)count) != KITH_OK)
        return KITH_ENOMEM;
    for (uint64_t i = 0; i < count; i++) {
        struct kith_core_entry *entry = &room->entries[i];
        entry->term = kith_reader_varint(r);
        entry->kind = (enum kith_entry_kind)get_within(r, kith_reader_u8(r), KITH_ENTRY_COMMAND,
                                                       KITH_ENTRY_CONFIGURATION);
        entry->payload = kith_reader_slice(r);
    }
    m->append.count = (uint32_t)count;
    m->append.entries = room->entries;
    return KITH_OK;
}

static int get_raft(struct kith_reader *r, struct kith_core_message *m, struct kith_frame_room *room)
{
    m->version = kith_reader_u8(r);
    m->term = kith_reader_varint(r);
    switch (m->kind) {
    case KITH_CORE_APPEND:
        m->append.previous_index = kith_reader_varint(r);
        m->append.previous_term = kith_reader_varint(r);
        m->append.commit_index = kith_reader_varint(r);
        return get_entries(r, m, room);
    case KITH_CORE_APPEND_RESULT:
        m->append_result.rejected = kith_reader_varint(r);
        m->append_result.last_index = kith_reader_varint(r);
        m->append_result.features = get_u16(r);
        m->append_result.capacity = get_u16(r);
        break;
    case KITH_CORE_VOTE:
        m->vote.candidate = kith_reader_u64(r);
        m->vote.last_index = kith_reader_varint(r);
        m->vote.last_term = kith_reader_varint(r);
        m->vote.disrupt_leader = get_bool(r);
        m->vote.pre_vote = get_bool(r);
        break;
    case KITH_CORE_VOTE_RESULT:
        m->vote_result.granted = get_bool(r);
        m->vote_result.pre_vote = get_bool(r);
        m->vote_result.features = get_u16(r);
        m->vote_result.capacity = get_u16(r);
        break;
    case KITH_CORE_INSTALL:
        m->install.index = kith_reader_varint(r);
        m->install.term = kith_reader_varint(r);
        m->install.configuration_index = kith_reader_varint(r);
        m->install.configuration = kith_reader_slice(r);
        break;
    case KITH_CORE_TIMEOUT_NOW:
        m->timeout_now.last_index = kith_reader_varint(r);
        m->timeout_now.last_term = kith_reader_varint(r);
        break;
    }
    return KITH_OK;
}

static int get_rest(struct kith_reader *r, struct kith_frame *f)
{
    switch ((enum kith_frame_kind)f->kind) {
    case KITH_FRAME_PROBE:
    case KITH_FRAME_PROBE_RESULT:
        f->probe.term = kith_reader_varint(r);
        f->probe.number = kith_reader_varint(r);
        break;
    case KITH_FRAME_READ:
        f->read.number = kith_reader_varint(r);
        break;
    case KITH_FRAME_READ_RESULT:
        f->read_result.number = kith_reader_varint(r);
        f->read_result.index = kith_reader_varint(r);
        break;
    case KITH_FRAME_FORWARD:
        f->forward.number = kith_reader_u64(r);
        f->forward.payload = kith_reader_slice(r);
        break;
    case KITH_FRAME_FORWARD_REFUSED:
        f->forward_refused.number = kith_reader_u64(r);
        break;
    case KITH_FRAME_CHANGE:
        f->change.number = kith_reader_varint(r);
        f->change.change = (enum kith_change_kind)get_within(r, kith_reader_u8(r), KITH_CHANGE_ADD_STANDBY,
                                                             KITH_CHANGE_MOVE);
        f->change.id = kith_reader_u64(r);
        f->change.address = get_address(r);
        break;
    case KITH_FRAME_CHANGE_RESULT:
        f->change_result.number = kith_reader_varint(r);
        f->change_result.status = (int64_t)kith_reader_u64(r);
        f->change_result.text = get_slice(r, KITH_FRAME_TEXT_MAX);
        break;
    case KITH_FRAME_STREAM_OFFER:
        f->stream_offer.term = kith_reader_varint(r);
        f->stream_offer.index = kith_reader_varint(r);
        f->stream_offer.entry_term = kith_reader_varint(r);
        f->stream_offer.file_bytes = kith_reader_varint(r);
        f->stream_offer.file_crc = kith_reader_u32(r);
        break;
    case KITH_FRAME_STREAM_WANT:
        f->stream_want.index = kith_reader_varint(r);
        f->stream_want.offset = kith_reader_varint(r);
        break;
    case KITH_FRAME_STREAM_DATA:
        f->stream_data.index = kith_reader_varint(r);
        f->stream_data.offset = kith_reader_varint(r);
        f->stream_data.bytes = get_slice(r, KITH_STREAM_DATA_MAX);
        break;
    case KITH_FRAME_STREAM_END:
        f->stream_end.index = kith_reader_varint(r);
        f->stream_end.status = (int64_t)kith_reader_u64(r);
        break;
    case KITH_FRAME_REMOVED:
        f->removed.configuration_index = kith_reader_varint(r);
        break;
    case KITH_FRAME_ABOUT:
        f->about.client_address = get_address(r);
        f->about.version = get_address(r);
        break;
    default:
        return KITH_EVERSION;
    }
    return KITH_OK;
}

int kith_frame_decode(struct kith_frame *out, struct kith_frame_room *room, struct kith_slice bytes)
{
    struct kith_reader r = kith_reader(bytes);
    struct kith_frame frame = {.kind = kith_reader_u8(&r)};
    uint8_t version = kith_reader_u8(&r);
    if (r.failed || bytes.length > KITH_FRAME_BYTES_MAX)
        return KITH_ECORRUPT;
    if (version != KITH_FRAME_VERSION)
        return KITH_EVERSION;
    int status;
    if (is_raft(frame.kind)) {
        frame.raft.kind = (enum kith_core_message_kind)frame.kind;
        status = get_raft(&r, &frame.raft, room);
    } else {
        status = get_rest(&r, &frame);
    }
    if (status != KITH_OK)
        return status;
    if (r.failed || r.length)
        return KITH_ECORRUPT;
    *out = frame;
    return KITH_OK;
}

void kith_frame_room_close(struct kith_frame_room *room)
{
    free(room->entries);
    *room = (struct kith_frame_room){0};
}
