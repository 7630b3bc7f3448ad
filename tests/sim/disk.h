/* The disk of one simulated node: files in memory, with what is written and what is synced kept apart.
 *
 * A crash may come at any change. What was synced is there afterwards; of the rest, every sector (512 bytes), size and
 * name may or may not have reached the disk, and a sector may be torn. A sector that a write does not change is not
 * damaged by it. After a sync that failed, what it was for is in the file but never reaches the disk, as with a kernel that
 * drops pages whose write-back failed. The bargain is crash_fs.h's; that one records and replays, this one is fast. */
#ifndef TESTS_SIM_DISK_H
#define TESTS_SIM_DISK_H

#include "base/fs.h"
#include "base/random.h"

#include <stdbool.h>
#include <stddef.h>

struct sim_disk;

struct sim_disk *sim_disk_open(uint64_t seed);
/* No file may be open any more. close(NULL) is safe. */
void sim_disk_close(struct sim_disk *disk);
struct kith_fs *sim_disk_table(struct sim_disk *disk);

/* From now on every call fails with KITH_EIO: the machine is off, though its program does not know it yet. */
void sim_disk_kill(struct sim_disk *disk);
/* The same at the n-th change from now (n >= 1), which may take effect in part. 0: not any more. */
void sim_disk_kill_in(struct sim_disk *disk, uint64_t n);
bool sim_disk_is_dead(const struct sim_disk *disk);

/* How much of what was not synced survives. */
enum sim_disk_crash {
    SIM_DISK_KEEPS,    /* all: the program died, the machine did not */
    SIM_DISK_SCATTERS, /* a random part */
    SIM_DISK_FORGETS,  /* nothing */
};
/* After kill, and after all files were closed: the disk as the next start finds it. */
void sim_disk_restart(struct sim_disk *disk, enum sim_disk_crash how);

/* Syncs fail (KITH_EIO) from the n-th on, counted from now; 0: they work. Ends with a restart. */
void sim_disk_fail_syncs(struct sim_disk *disk, uint64_t n);
/* Bytes in all files together; more gives KITH_ENOSPC. 0: no bound. */
void sim_disk_set_capacity(struct sim_disk *disk, uint64_t bytes);
uint64_t sim_disk_used(const struct sim_disk *disk);

struct sim_disk_figures {
    uint64_t changes, bytes, syncs, failed_syncs, full; /* full: calls that got KITH_ENOSPC */
};
const struct sim_disk_figures *sim_disk_get_figures(const struct sim_disk *disk);

/* A number for all names and bytes, of what is seen and what is synced: for comparing two runs. */
uint64_t sim_disk_digest(const struct sim_disk *disk);

/* A fault of the tests' own, for negative controls: of files whose name begins so ("" none) only the first sync is true;
 * what a later one returned for, and what is renamed over them, is not safe. */
void sim_disk_lie(struct sim_disk *disk, const char *name_prefix);

#endif
