/* LD_PRELOADed into kithd: fsync and fdatasync fail with EIO as long as the file that FAILING_SYNC names exists. */
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int must_fail(void)
{
    const char *path = getenv("FAILING_SYNC");
    return path && access(path, F_OK) == 0;
}

static int sync_by(long call, int fd)
{
    int saved = errno;
    if (must_fail()) {
        errno = EIO;
        return -1;
    }
    errno = saved;
    return (int)syscall(call, fd);
}

int fsync(int fd)
{
    return sync_by(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return sync_by(SYS_fdatasync, fd);
}
