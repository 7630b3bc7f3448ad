/* What nodes say to each other: one message, one frame. All numbers little-endian or varint; docs/FORMAT.md has every
 * byte. The transport adds length and checksum around a frame.
 *
 *     kind u8, version u8, then the fields of that kind in the order of the struct below
 *
 * A frame of a kind or version that we do not know is refused (KITH_EVERSION), so that a group is upgraded node by
 * node: the newer one speaks the older version until the handshake told that both know the newer. */
#ifndef KITH_REPL_FRAME_H
#define KITH_REPL_FRAME_H

#include "base/buf.h"
#include "repl/core.h"

/* On the wire: never renumber. 1 to 6 are raft's messages: enum kith_core_message_kind. */
enum kith_frame_kind {
    KITH_FRAME_PROBE = 16, /* leader to voters: are you still in my term? (ReadIndex, Raft thesis 6.4) */
    KITH_FRAME_PROBE_RESULT,
    KITH_FRAME_READ, /* follower to leader: from which index on may I read? */
    KITH_FRAME_READ_RESULT,
    KITH_FRAME_FORWARD, /* follower to leader: append this entry; no answer but the entry itself in the log */
    KITH_FRAME_FORWARD_REFUSED, /* it was certainly not appended: not the leader, or its queue is full */
    KITH_FRAME_CHANGE,          /* anyone to leader: change the group's members */
    KITH_FRAME_CHANGE_RESULT,
    KITH_FRAME_STREAM_OFFER, /* leader to follower: I have this checkpoint for you */
    KITH_FRAME_STREAM_WANT,  /* follower to leader: send it from this offset on; also how far it has come */
    KITH_FRAME_STREAM_DATA,
    KITH_FRAME_STREAM_END, /* either side: given up; or from the follower: complete and checked */
    KITH_FRAME_REMOVED,    /* member to one that asks for votes and is none any more: it stops asking */
    KITH_FRAME_ABOUT,      /* to every member, now and then: what it is to know about the sender */
};

/* What to do with a member. On the wire: never renumber. */
enum kith_change_kind {
    KITH_CHANGE_ADD_STANDBY = 1, /* gets the log, does not vote */
    KITH_CHANGE_ADD_SPARE,       /* known, gets nothing */
    KITH_CHANGE_PROMOTE,         /* to voter; KITH_EAGAIN until it is caught up */
    KITH_CHANGE_DEMOTE,          /* to standby */
    KITH_CHANGE_REMOVE,
    KITH_CHANGE_TRANSFER, /* make it the leader; id 0: any voter that is ready */
    KITH_CHANGE_MOVE,     /* its address is a new one */
};

struct kith_frame {
    uint8_t kind; /* enum kith_frame_kind or kith_core_message_kind */
    union {
        /* kinds 1 to 6. Encoding an append: entries must be given. INSTALL has the whole kith_core_snapshot. `peer` and
         * `peer_address` are not part of the frame: the transport knows them. */
        struct kith_core_message raft;
        struct {
            uint64_t term, number; /* number: of the probe, counted by the leader */
        } probe, probe_result;     /* a result's term is the answering node's own */
        struct {
            uint64_t number;
        } read;
        struct {
            uint64_t number, index; /* index 0: not the leader, or not sure any more */
        } read_result;
        struct {
            uint64_t number;
            struct kith_slice payload; /* borrowed */
        } forward;
        struct {
            uint64_t number;
        } forward_refused;
        struct {
            uint64_t number;
            enum kith_change_kind change;
            uint64_t id;
            struct kith_slice address; /* ADD and MOVE; borrowed */
        } change;
        struct {
            uint64_t number;
            int64_t status;
            struct kith_slice text; /* why not; borrowed */
        } change_result;
        struct {
            uint64_t term, index, entry_term, file_bytes;
            uint32_t
                file_crc; /* CRC-32C of the whole file: what the follower has of an earlier try is of the same */
        } stream_offer;
        struct {
            uint64_t index, offset; /* offset: bytes that are there; more may be sent from there on */
        } stream_want;
        struct {
            uint64_t index, offset;
            struct kith_slice bytes; /* borrowed; at most KITH_STREAM_DATA_MAX */
        } stream_data;
        struct {
            uint64_t index;
            int64_t status; /* KITH_OK from the follower: complete */
        } stream_end;
        struct {
            uint64_t configuration_index; /* of the committed configuration that knows it not */
        } removed;
        struct {
            struct kith_slice client_address; /* "host:port"; both at most KITH_FRAME_ADDRESS_MAX */
            struct kith_slice version;        /* of the program, for people; borrowed */
        } about;
    };
};

enum {
    KITH_STREAM_DATA_MAX = 256 << 10, /* bytes of a file in one frame */
    KITH_FRAME_ENTRIES_MAX = 1 << 16, /* of one append */
    KITH_FRAME_ADDRESS_MAX = 255,     /* bytes, none of them 0 */
    KITH_FRAME_TEXT_MAX = 1024,       /* encoding cuts what is longer */
    KITH_FRAME_VERSION = 1,
};
#define KITH_FRAME_BYTES_MAX                                                                                 \
    ((size_t)(1u << 30) + (1u << 20)) /* one entry of the greatest size, and its frame */

/* Appends the frame to `out` (out->failed when memory is short). */
void kith_frame_encode(struct kith_buf *out, const struct kith_frame *frame);

/* The same but for the payload at its end, which is returned instead (borrowed): of an append with one entry, or of a
 * forward. */
struct kith_slice kith_frame_encode_head(struct kith_buf *out, const struct kith_frame *frame);

/* Room for what a decoded frame points to beside the bytes themselves; zeroed at first, kept between calls. */
struct kith_frame_room {
    struct kith_core_entry *entries;
    size_t entry_capacity;
};
void kith_frame_room_close(struct kith_frame_room *room);

/* *out borrows `bytes` and `room`. KITH_ECORRUPT (lengths, kinds, trailing bytes; nothing outside is trusted),
 * KITH_EVERSION, KITH_ENOMEM. */
int kith_frame_decode(struct kith_frame *out, struct kith_frame_room *room, struct kith_slice bytes);

#endif
