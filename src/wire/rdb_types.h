/* What may stand in an RDB, as a table: each type byte with the operations that read what follows it. */
#ifndef KITH_WIRE_RDB_TYPES_H
#define KITH_WIRE_RDB_TYPES_H

#include "wire/rdb.h"
#include "wire/rdb_packed.h"

/* Operations of a program, one a character; rdb.c carries them out.
 *
 *     s  a string, passed over          S  a string, kept as the next text
 *     L  a length, passed over          l  a length, kept as the next number
 *     1 4 8 T  bytes, passed over (T: 16)
 *     (  a count: what is up to the matching parenthesis is repeated that often
 *     [  the same with the count that was kept; n keeps it, ) and ] end both
 *     d  a score of 8 bytes             D C  a score as text: its length, its digits
 *     t  a time of 8 bytes as the next number, 0 for -1
 *     M  the rest of a module's value   u U e  the mark of a module's number, of its string, of its end
 *     y  a length, kept as the last one
 *     B  the key begins   f z V  a field, a member, a vector is whole   p  a packed value is   E  the key ends
 *     v  a string value is whole        X  the key was passed over
 *     k  a key's name   i  a module's id   h  a vector set's header
 *     a o m  an AUX field, a function library, a module's own data is there
 *     x w  the time when the next key goes, in ms or s   b  a database's number   Z  the end of the data
 *     c ! the checksum, the end */
struct kith_rdb_type {
    const char *name;    /* as TYPE answers; NULL: no key */
    const char *program; /* NULL: there is no such type */
    enum kith_rdb_kind kind;
    enum kith_rdb_form form; /* of p */
    uint8_t item_count;      /* of p: items a field or member takes */
};

/* The type of a byte, NULL: unknown. Valkey gives byte 22 another meaning. */
const struct kith_rdb_type *kith_rdb_type_get(uint8_t byte, bool is_valkey);

/* The nine characters that a module's id spells, and a zero. Its low 10 bits are the version of its bytes. */
void kith_rdb_module_name(uint64_t id, char name[KITH_RDB_TYPE_NAME]);

#endif
