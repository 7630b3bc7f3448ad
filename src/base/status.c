/* Status codes and the sentences that go with them. */
#include "base/status.h"

#include <errno.h>
#include <stdio.h>

const char *kith_status_text(int status)
{
    switch (status) {
    case KITH_OK:
        return "ok";
    case KITH_ENOMEM:
        return "out of memory";
    case KITH_EIO:
        return "input/output error";
    case KITH_EINVAL:
        return "invalid argument";
    case KITH_ECORRUPT:
        return "damaged data";
    case KITH_ENOSPC:
        return "no space left on the disk";
    case KITH_ENOENT:
        return "not found";
    case KITH_EEXIST:
        return "exists already";
    case KITH_EBUSY:
        return "in use";
    case KITH_ETOOBIG:
        return "past a limit";
    case KITH_EAGAIN:
        return "try again";
    case KITH_EVERSION:
        return "written by a newer version";
    case KITH_EPERM:
        return "not permitted";
    case KITH_ECLOSED:
        return "shutting down";
    case KITH_EUNKNOWN:
        return "the outcome is unknown";
    default:
        return status > 0 ? "ok" : "unknown status";
    }
}

int kith_status_from_errno(int error_number)
{
    switch (error_number) {
    case ENOMEM:
        return KITH_ENOMEM;
    case ENOSPC:
    case EDQUOT:
        return KITH_ENOSPC;
    case ENOENT:
        return KITH_ENOENT;
    case EEXIST:
        return KITH_EEXIST;
    case EACCES:
    case EPERM:
    case EROFS:
        return KITH_EPERM;
    case EAGAIN:
        return KITH_EAGAIN;
    case EBUSY:
        return KITH_EBUSY;
    case EINVAL:
        return KITH_EINVAL;
    default:
        return KITH_EIO;
    }
}

int kith_error_set(struct kith_error *error, int status, const char *format, ...)
{
    if (error) {
        va_list args;
        va_start(args, format);
        vsnprintf(error->text, sizeof error->text, format, args);
        va_end(args);
    }
    return status;
}
