/* A new data folder out of a copy of an old one: of a backup, up to the time that is wanted, or of what a lost group's
 * survivor has.
 *
 *     source   a checkpoint file; a backup's folder (checkpoints and the log behind them); a stopped node's folder
 *     target   a new folder: the checkpoint, and the entries behind it, of a group of one with a new id
 *
 * The new group has another id than the old one, and its node another id, so that neither the old members nor their files are
 * ever taken for its own. Changes of the old group's membership in the log become entries without effect.
 *
 * Everything is read and checked before the first byte is written. The target is marked as unfinished until it is complete,
 * and no server starts on it before. Nothing of the source is changed, but that opening a node's folder tidies it as a start
 * does. Memory is bounded by one block, or one entry of the log. */
#ifndef KITH_REPL_RESTORE_H
#define KITH_REPL_RESTORE_H

#include "base/fs.h"
#include "base/status.h"
#include "repl/core.h"

#include <stdbool.h>
#include <stdint.h>

enum kith_restore_source { KITH_RESTORE_FILE, KITH_RESTORE_BACKUP, KITH_RESTORE_NODE };
enum kith_restore_until { KITH_RESTORE_ALL, KITH_RESTORE_INDEX, KITH_RESTORE_TIME };

struct kith_restore_options {
    struct kith_fs *fs; /* NULL: kith_fs_posix() */
    enum kith_restore_source source;
    const char *from;
    enum kith_restore_until until;
    uint64_t until_index;   /* the last entry that counts */
    int64_t until_ms;       /* entries up to this time count, ms since 1970 */
    uint64_t seed;          /* of the new ids; 0: drawn */
    uint64_t segment_bytes; /* of the new log's files; 0: 64 MiB */
};

/* What the source holds, up to where it is wanted. */
struct kith_restore_found {
    uint64_t group_id;         /* the old one */
    uint64_t node_id;          /* of a node's folder; else 0 */
    uint64_t term;             /* the highest that is known */
    uint64_t checkpoint_index; /* 0: there is none, the log is there from its first entry */
    int64_t checkpoint_ms;     /* of the last entry that the checkpoint holds */
    uint64_t last_index;       /* where the new folder will end, and that entry's time */
    int64_t last_ms;
    uint64_t
        committed; /* of a node's folder: entries up to here are known to be committed; others may have been */
    size_t voters;   /* in the old group's last configuration */
    bool ends_early; /* there is more behind last_index, which is not wanted */
};

/* Reads and checks everything. On failure *error says what is wrong and what to do: KITH_ENOENT nothing is there, or the backup
 * does not reach to what is wanted; KITH_ECORRUPT, KITH_EVERSION; KITH_EPERM the folder is not of that kind; KITH_EBUSY a
 * server uses it; KITH_EIO, KITH_ENOMEM. `member` (may be NULL) is called for the members of the last configuration. */
int kith_restore_look(const struct kith_restore_options *options, struct kith_restore_found *found,
                      void (*member)(void *context, uint64_t id, const char *address,
                                     enum kith_core_member_role role),
                      void *context, struct kith_error *error);

struct kith_restore_made {
    uint64_t group_id, node_id; /* the new ones */
};

/* Looks, then makes the folder `to`, which must not be there or be empty. On failure what was written is removed. Beside the
 * failures of look: KITH_EEXIST it is not empty; KITH_ENOSPC. */
int kith_restore(const struct kith_restore_options *options, const char *to, struct kith_restore_found *found,
                 struct kith_restore_made *made, struct kith_error *error);

#endif
