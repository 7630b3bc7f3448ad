/* The records of a checkpoint's stream, as checkpoint.h and docs/FORMAT.md name them. Private to the writer
 * (checkpoint.c) and the reader (load.c). */
#ifndef KITH_ENGINE_RECORD_H
#define KITH_ENGINE_RECORD_H

enum kith_record_kind {
    KITH_RECORD_HEAD = 1, /* u8 version, u64 time_ms */
    KITH_RECORD_KEY =
        2, /* varint db, u8 type and flags, [u64 expiry_ms], slice name, slice bytes | varint id */
    KITH_RECORD_PART = 3,    /* varint id, the type's bytes */
    KITH_RECORD_DONE = 4,    /* varint id */
    KITH_RECORD_END = 5,     /* varint keys, varint objects */
    KITH_RECORD_REQUEST = 6, /* slice id, u8 whether the reply was kept, slice reply; oldest first */
    KITH_RECORD_UPSTREAM =
        7, /* u8 phase, slice host, varint port, link, load, slice replid, varint offset, db, left-out
              commands, left-out keys that are not listed */
    KITH_RECORD_LEFT_OUT = 8, /* varint db, slice key, slice why */
};

enum {
    KITH_RECORD_VERSION = 2,
    KITH_RECORD_TYPE = 0x0f,     /* of KEY's second byte: enum kith_type */
    KITH_RECORD_EXPIRES = 0x10,  /* and whether an expiry follows */
    KITH_RECORD_IN_PARTS = 0x20, /* a long string: an id instead of its bytes, which come as parts */
};

#endif
