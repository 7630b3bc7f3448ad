/* What a function returns: 0 is success, a negative value is one of these, a positive value (where a function
 * documents it) is a count. What a client did wrong is a reply, not a status. */
#ifndef KITH_BASE_STATUS_H
#define KITH_BASE_STATUS_H

#include <stdarg.h>

enum kith_status {
    KITH_OK = 0,
    KITH_ENOMEM = -1,    /* an allocation failed; nothing has changed */
    KITH_EIO = -2,       /* the disk or the network failed */
    KITH_EINVAL = -3,    /* the caller's argument is out of its documented range */
    KITH_ECORRUPT = -4,  /* bytes from outside do not check out */
    KITH_ENOSPC = -5,    /* the disk is full */
    KITH_ENOENT = -6,    /* no such file, key or element */
    KITH_EEXIST = -7,    /* it is there already */
    KITH_EBUSY = -8,     /* in use: locked by another, or already running */
    KITH_ETOOBIG = -9,   /* past a named limit */
    KITH_EAGAIN = -10,   /* not now: try again after the documented event */
    KITH_EVERSION = -11, /* written by a newer version */
    KITH_EPERM = -12,    /* the system or the configuration forbids it */
    KITH_ECLOSED = -13,  /* shutting down */
    KITH_EUNKNOWN = -14, /* it may have happened or not: nobody is left who could tell */
};

/* A short English text for a status, never NULL. */
const char *kith_status_text(int status);

/* errno mapped to a status; errno 0 gives KITH_EIO. The only place where errno is read into our own codes. */
int kith_status_from_errno(int error_number);

/* A sentence for a person: what went wrong and what to do. Owned by the caller, usually on the stack. */
struct kith_error {
    char text[512];
};

/* Formats into error->text (error may be NULL) and returns `status`, so that a failure is one line. */
int kith_error_set(struct kith_error *error, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
