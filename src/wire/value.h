/* The client's side of the protocol: replies read piece by piece into a tree, and requests written. Reads
 * every RESP2 and RESP3 type but the streamed ones (lengths of '?'), which no Redis sends. The bytes come
 * from a server that may be broken or hostile: depth and memory are bounded, and memory is taken as bytes
 * arrive, not as counts are claimed. Source: the RESP2 and RESP3 specifications of the Redis documentation.
 */
#ifndef KITH_WIRE_VALUE_H
#define KITH_WIRE_VALUE_H

#include "base/buf.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kith_value_type {
    KITH_VALUE_NULL,
    KITH_VALUE_SIMPLE,   /* text */
    KITH_VALUE_STRING,   /* text: a bulk string */
    KITH_VALUE_VERBATIM, /* text; format: "txt", "mkd" */
    KITH_VALUE_BIG,      /* text: the decimal digits of a big number */
    KITH_VALUE_ERROR,    /* text, with its code word */
    KITH_VALUE_INT,      /* integer */
    KITH_VALUE_DOUBLE,   /* number */
    KITH_VALUE_BOOL,     /* integer 0 or 1 */
    KITH_VALUE_ARRAY,    /* items */
    KITH_VALUE_MAP,      /* items: key, value, key, value; count is even */
    KITH_VALUE_SET,      /* items */
    KITH_VALUE_PUSH,     /* items; not an answer to a request */
};

struct kith_value {
    enum kith_value_type type;
    char format[4]; /* of a verbatim string, terminated */
    union {
        int64_t integer;
        double number;
        struct kith_slice text; /* owned; a zero byte follows it */
        struct {
            struct kith_value *items; /* owned */
            size_t count;
        };
    };
    struct kith_value *attributes; /* owned; a map that RESP3 put before this value, or NULL */
};

/* Frees what the value owns; it is null afterwards. A zeroed value is a null and may be freed too. */
void kith_value_fini(struct kith_value *value);

enum { KITH_VALUE_DEPTH_MAX = 64 };

struct kith_value_limits {
    unsigned depth_max; /* containers inside each other; at most KITH_VALUE_DEPTH_MAX */
    size_t bytes_max;   /* memory of one reply: texts and nodes */
    size_t line_max;    /* bytes of a simple string, an error, a number */
};

#define KITH_VALUE_LIMITS_DEFAULT                                                                            \
    {                                                                                                        \
        .depth_max = KITH_VALUE_DEPTH_MAX, .bytes_max = 1u << 30, .line_max = 1u << 20                       \
    }

/* Must not move while a value is half read. */
struct kith_value_reader {
    struct kith_value_limits limits;
    char error[128]; /* after KITH_ECORRUPT or KITH_ETOOBIG: what was wrong */

    /* Private. */
    struct kith_value root;
    struct kith_buf line; /* a line whose end has not come yet */
    struct kith_value_frame {
        struct kith_value *container; /* items[0..count) are read, or being read */
        size_t left, capacity;        /* values still to come; slots allocated */
        bool is_attribute;            /* does not count as a value of the frame below */
    } frames[KITH_VALUE_DEPTH_MAX];
    unsigned depth;
    struct kith_value *attributes[KITH_VALUE_DEPTH_MAX + 1]; /* by depth: read, and waiting for their value */
    struct kith_value *bulk;                                 /* the text being filled, or NULL */
    size_t bulk_length;                                      /* what it will be */
    size_t bulk_capacity;
    unsigned bulk_end; /* bytes of its CR LF seen */
    size_t bytes;      /* memory so far */
    int status;
};

void kith_value_reader_init(struct kith_value_reader *reader, struct kith_value_limits limits);
/* Frees what was half read. */
void kith_value_reader_fini(struct kith_value_reader *reader);

/* Reads from data[0..length) up to the end of one value.
 *   consumed   bytes taken; all of them when more are needed: the caller's buffer may be reused at once
 *   returns    1: *out is a whole value, owned by the caller; 0: more bytes are needed, *out is untouched;
 *              KITH_ECORRUPT, KITH_ETOOBIG (see reader->error), KITH_ENOMEM: for good, the connection is lost
 */
int kith_value_read(struct kith_value_reader *reader, const char *data, size_t length, struct kith_value *out,
                    size_t *consumed);

/* Whether a value has begun and is not whole. */
bool kith_value_reader_is_partial(const struct kith_value_reader *reader);

/* What map[key] is, or NULL; `value` may be a RESP3 map or RESP2's array of pairs. Borrowed. */
const struct kith_value *kith_value_get(const struct kith_value *value, const char *key);

/* Whether the value is a text that equals `text`. */
bool kith_value_is(const struct kith_value *value, const char *text);

/* The value as redis-cli shows it on a terminal: (integer) 1, "quoted", 1) numbered. Ends with a line end. */
void kith_value_print(const struct kith_value *value, struct kith_buf *out);
/* As redis-cli writes to a pipe: texts as they are, one a line. Ends with a line end. */
void kith_value_print_raw(const struct kith_value *value, struct kith_buf *out);
/* As JSON, without a line end. Bytes that are not UTF-8 become \u00XX, one a byte; infinities and NaN become
 * strings; an error becomes {"error":"..."}; attributes are left out. */
void kith_value_print_json(const struct kith_value *value, struct kith_buf *out);
/* A text in double quotes with escapes, so that kith_request_split_line reads it back. */
void kith_value_print_quoted(struct kith_slice text, struct kith_buf *out);
/* A text as a JSON string. */
void kith_value_print_json_text(struct kith_slice text, struct kith_buf *out);

/* Requests: a header with the number of arguments, then each argument; or all at once. */
void kith_request_put_count(struct kith_buf *out, size_t argc);
void kith_request_put_argument(struct kith_buf *out, struct kith_slice argument);
void kith_request_put(struct kith_buf *out, const struct kith_slice *argv, size_t argc);

#endif
