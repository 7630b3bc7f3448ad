/* Each file is there twice: as it is seen, and as a power cut would leave it. A bit for each sector tells where the two
 * may differ; a sync copies those sectors over. Names are kept the same way, with the list of changes between. */
#include "disk.h"

#include "base/status.h"

#include <stdio.h>
#include <stdlib.h>

enum { SECTOR = 512, NAME_MAX_BYTES = 96, NAMES = 4096 };

struct inode {
    unsigned char *seen, *safe;
    size_t seen_size, safe_size; /* bytes that count */
    size_t seen_room, safe_room; /* bytes allocated, zero behind the size */
    uint64_t *dirty;             /* a bit for each sector of `seen` that is not yet in `safe` */
    size_t dirty_from, dirty_to; /* no bit outside */
    unsigned names;              /* in both lists, and in changes */
    unsigned files;              /* open */
    bool locked, lies;
};

struct name {
    char path[NAME_MAX_BYTES];
    struct inode *inode;
};

struct names {
    struct name at[NAMES];
    size_t count;
};

/* path NULL: nothing is taken away; to NULL: nothing is put there */
struct change {
    char from[NAME_MAX_BYTES], to[NAME_MAX_BYTES];
    struct inode *inode; /* what `to` is now */
};

struct sim_disk {
    struct kith_fs table;
    struct kith_rng rng;
    struct names seen, safe;
    struct change *changes;
    size_t change_count, change_capacity;
    bool dead;
    uint64_t kill_in, fail_syncs_in;
    uint64_t capacity, used;
    char lie[NAME_MAX_BYTES];
    struct sim_disk_figures figures;
};

struct open_file {
    struct kith_file base;
    struct sim_disk *disk;
    struct inode *inode;
    bool writable, holds_lock;
};

static void *room(size_t bytes)
{
    void *memory = calloc(1, bytes ? bytes : 1);
    if (!memory)
        abort();
    return memory;
}

static struct sim_disk *disk_of(struct kith_fs *fs)
{
    return (struct sim_disk *)fs;
}

/* --- files --- */

static size_t sectors(size_t bytes)
{
    return (bytes + SECTOR - 1) / SECTOR;
}

static void reserve(unsigned char **bytes, size_t *have, size_t need)
{
    if (need <= *have)
        return;
    size_t more = *have ? *have * 2 : 4096;
    while (more < need)
        more *= 2;
    unsigned char *grown = realloc(*bytes, more);
    if (!grown)
        abort();
    memset(grown + *have, 0, more - *have);
    *bytes = grown;
    *have = more;
}

static void reserve_seen(struct inode *inode, size_t need)
{
    size_t before = sectors(inode->seen_room);
    reserve(&inode->seen, &inode->seen_room, need);
    size_t words = (sectors(inode->seen_room) + 63) / 64, old_words = (before + 63) / 64;
    if (words == old_words && inode->dirty)
        return;
    inode->dirty = realloc(inode->dirty, words * sizeof *inode->dirty);
    if (!inode->dirty)
        abort();
    memset(inode->dirty + old_words, 0, (words - old_words) * sizeof *inode->dirty);
}

static bool is_dirty(const struct inode *inode, size_t sector)
{
    return inode->dirty[sector / 64] >> (sector % 64) & 1;
}

static void make_dirty(struct inode *inode, size_t from, size_t to)
{
    if (from == to)
        return;
    size_t first = from / SECTOR, end = sectors(to);
    for (size_t i = first; i < end; i++)
        inode->dirty[i / 64] |= (uint64_t)1 << (i % 64);
    if (inode->dirty_from == inode->dirty_to) {
        inode->dirty_from = first;
        inode->dirty_to = end;
    }
    if (first < inode->dirty_from)
        inode->dirty_from = first;
    if (end > inode->dirty_to)
        inode->dirty_to = end;
}

static void make_clean(struct inode *inode)
{
    if (inode->dirty_from < inode->dirty_to)
        memset(inode->dirty + inode->dirty_from / 64, 0,
               ((inode->dirty_to + 63) / 64 - inode->dirty_from / 64) * sizeof *inode->dirty);
    inode->dirty_from = inode->dirty_to = 0;
}

/* Bytes [from, to) of what is seen become safe. Bytes of `safe` behind its size are zero. */
static void copy_to_safe(struct inode *inode, size_t from, size_t to)
{
    if (to > inode->seen_room)
        to = inode->seen_room;
    if (from >= to)
        return;
    reserve(&inode->safe, &inode->safe_room, to);
    memcpy(inode->safe + from, inode->seen + from, to - from);
}

static void set_size(unsigned char *bytes, size_t *size, size_t to)
{
    if (to < *size && bytes)
        memset(bytes + to, 0, *size - to);
    *size = to;
}

static void sync_inode(struct inode *inode, bool shrinks)
{
    for (size_t i = inode->dirty_from; i < inode->dirty_to; i++)
        if (is_dirty(inode, i))
            copy_to_safe(inode, i * SECTOR, (i + 1) * SECTOR);
    make_clean(inode);
    if (inode->seen_size > inode->safe_size || shrinks) {
        reserve(&inode->safe, &inode->safe_room, inode->seen_size);
        set_size(inode->safe, &inode->safe_size, inode->seen_size);
    }
}

static void free_unused(struct sim_disk *disk, struct inode *inode)
{
    if (inode->names || inode->files)
        return;
    disk->used -= inode->seen_size;
    free(inode->seen);
    free(inode->safe);
    free(inode->dirty);
    free(inode);
}

/* A torn sector: bytes up to a random one are the new ones. */
static void tear(struct inode *inode, struct kith_rng *rng, size_t sector)
{
    copy_to_safe(inode, sector * SECTOR, sector * SECTOR + (size_t)kith_rng_below(rng, SECTOR));
}

static void crash_inode(struct sim_disk *disk, struct inode *inode, enum sim_disk_crash how)
{
    if (how == SIM_DISK_KEEPS)
        sync_inode(inode, true);
    for (size_t i = inode->dirty_from; i < inode->dirty_to && how == SIM_DISK_SCATTERS; i++) {
        if (!is_dirty(inode, i))
            continue;
        if (kith_rng_below(&disk->rng, 2))
            copy_to_safe(inode, i * SECTOR, (i + 1) * SECTOR);
        else if (kith_rng_below(&disk->rng, 8) == 0)
            tear(inode, &disk->rng, i);
    }
    if (how == SIM_DISK_SCATTERS && kith_rng_below(&disk->rng, 2)) {
        reserve(&inode->safe, &inode->safe_room, inode->seen_size);
        set_size(inode->safe, &inode->safe_size, inode->seen_size);
    }
    /* whatever came behind the size is not there */
    if (inode->safe && inode->safe_room > inode->safe_size)
        memset(inode->safe + inode->safe_size, 0, inode->safe_room - inode->safe_size);
    make_clean(inode);
    disk->used -= inode->seen_size;
    reserve_seen(inode, inode->safe_size ? inode->safe_size : 1);
    memset(inode->seen, 0, inode->seen_room);
    if (inode->safe_size)
        memcpy(inode->seen, inode->safe, inode->safe_size);
    inode->seen_size = inode->safe_size;
    disk->used += inode->seen_size;
    inode->locked = inode->lies = false;
}

/* --- names --- */

static struct name *find_name(struct names *names, const char *path)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->at[i].path, path) == 0)
            return &names->at[i];
    return NULL;
}

static void remove_name(struct sim_disk *disk, struct names *names, const char *path)
{
    struct name *name = find_name(names, path);
    if (!name)
        return;
    struct inode *inode = name->inode;
    *name = names->at[--names->count];
    inode->names--;
    free_unused(disk, inode);
}

static void put_name(struct sim_disk *disk, struct names *names, const char *path, struct inode *inode)
{
    inode->names++;
    remove_name(disk, names, path);
    if (names->count == NAMES)
        abort();
    struct name *name = &names->at[names->count++];
    snprintf(name->path, sizeof name->path, "%s", path);
    name->inode = inode;
}

static void apply_change(struct sim_disk *disk, struct names *names, const struct change *change)
{
    if (*change->to)
        put_name(disk, names, change->to, change->inode);
    if (*change->from)
        remove_name(disk, names, change->from);
}

static void change_names(struct sim_disk *disk, const char *from, const char *to, struct inode *inode)
{
    if (disk->change_count == disk->change_capacity) {
        disk->change_capacity = disk->change_capacity ? disk->change_capacity * 2 : 64;
        disk->changes = realloc(disk->changes, disk->change_capacity * sizeof *disk->changes);
        if (!disk->changes)
            abort();
    }
    struct change *change = &disk->changes[disk->change_count++];
    *change = (struct change){.inode = inode};
    if (strlen(from) >= sizeof change->from || strlen(to) >= sizeof change->to)
        abort();
    snprintf(change->from, sizeof change->from, "%s", from);
    snprintf(change->to, sizeof change->to, "%s", to);
    if (inode)
        inode->names++;
    apply_change(disk, &disk->seen, change);
}

static void forget_changes(struct sim_disk *disk)
{
    for (size_t i = 0; i < disk->change_count; i++)
        if (disk->changes[i].inode) {
            disk->changes[i].inode->names--;
            free_unused(disk, disk->changes[i].inode);
        }
    disk->change_count = 0;
}

/* --- the table --- */

/* Before each change. */
static int admit_change(struct sim_disk *disk)
{
    if (disk->dead)
        return KITH_EIO;
    disk->figures.changes++;
    if (disk->kill_in && --disk->kill_in == 0)
        disk->dead = true; /* this one still reaches the file, and perhaps the disk */
    return KITH_OK;
}

/* A change that the power cut fell into is not answered. */
static int answer(const struct sim_disk *disk)
{
    return disk->dead ? KITH_EIO : KITH_OK;
}

static int admit_sync(struct sim_disk *disk, bool *fails)
{
    int status = admit_change(disk);
    *fails =
        status == KITH_OK && disk->fail_syncs_in && (disk->fail_syncs_in == 1 || --disk->fail_syncs_in == 0);
    if (status == KITH_OK)
        disk->figures.syncs++;
    disk->figures.failed_syncs += *fails;
    return status;
}

static int admit_growth(struct sim_disk *disk, struct inode *inode, uint64_t size)
{
    if (size <= inode->seen_size)
        return KITH_OK;
    if (disk->capacity && disk->used + (size - inode->seen_size) > disk->capacity) {
        disk->figures.full++;
        return KITH_ENOSPC;
    }
    return KITH_OK;
}

static void grow(struct sim_disk *disk, struct inode *inode, size_t size)
{
    if (size <= inode->seen_size)
        return;
    reserve_seen(inode, size);
    disk->used += size - inode->seen_size;
    inode->seen_size = size;
}

static bool lies_about(const struct sim_disk *disk, const char *path)
{
    const char *last = strrchr(path, '/');
    return *disk->lie && strncmp(last ? last + 1 : path, disk->lie, strlen(disk->lie)) == 0;
}

static int disk_open(struct kith_fs *fs, const char *path, unsigned flags, struct kith_file **out)
{
    struct sim_disk *disk = disk_of(fs);
    struct name *name = find_name(&disk->seen, path);
    if (disk->dead)
        return KITH_EIO;
    if (!name && !(flags & KITH_FS_CREATE))
        return KITH_ENOENT;
    if (name && (flags & KITH_FS_EXCLUSIVE))
        return KITH_EEXIST;
    int status = !name || (flags & KITH_FS_EMPTY) ? admit_change(disk) : KITH_OK;
    if (status != KITH_OK)
        return status;
    struct inode *inode = name ? name->inode : room(sizeof *inode);
    inode->lies = lies_about(disk, path);
    if (!name) {
        change_names(disk, "", path, inode);
    } else if (flags & KITH_FS_EMPTY) {
        disk->used -= inode->seen_size;
        make_dirty(inode, 0, inode->seen_size);
        set_size(inode->seen, &inode->seen_size, 0);
    }
    if (answer(disk) != KITH_OK)
        return KITH_EIO;
    struct open_file *file = room(sizeof *file);
    *file = (struct open_file){{fs}, disk, inode, flags & KITH_FS_WRITE, false};
    inode->files++;
    *out = &file->base;
    return KITH_OK;
}

static void disk_close(struct kith_file *file)
{
    struct open_file *f = (struct open_file *)file;
    if (f->holds_lock)
        f->inode->locked = false;
    f->inode->files--;
    free_unused(f->disk, f->inode);
    free(f);
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(a, b);
}

static int disk_list(struct kith_fs *fs, const char *path, int (*visit)(void *, const char *), void *context)
{
    struct sim_disk *disk = disk_of(fs);
    char(*found)[NAME_MAX_BYTES] = room(disk->seen.count * sizeof *found);
    size_t count = 0, n = strlen(path);
    int status = disk->dead ? KITH_EIO : KITH_OK;
    for (size_t i = 0; i < disk->seen.count; i++)
        if (strncmp(disk->seen.at[i].path, path, n) == 0 && disk->seen.at[i].path[n] == '/')
            snprintf(found[count++], sizeof found[0], "%s", disk->seen.at[i].path + n + 1);
    qsort(found, count, sizeof *found, compare_paths);
    for (size_t i = 0; status == KITH_OK && i < count; i++)
        status = visit(context, found[i]);
    free(found);
    return status;
}

static int disk_make_folder(struct kith_fs *fs, const char *path)
{
    return disk_of(fs)->dead ? KITH_EIO : KITH_EEXIST;
}

static int disk_rename(struct kith_fs *fs, const char *from, const char *to)
{
    struct sim_disk *disk = disk_of(fs);
    struct name *name = find_name(&disk->seen, from);
    int status = disk->dead ? KITH_EIO : name ? admit_change(disk) : KITH_ENOENT;
    if (status != KITH_OK)
        return status;
    change_names(disk, from, to, name->inode);
    return answer(disk);
}

static int disk_unlink(struct kith_fs *fs, const char *path)
{
    struct sim_disk *disk = disk_of(fs);
    int status = disk->dead ? KITH_EIO : find_name(&disk->seen, path) ? admit_change(disk) : KITH_ENOENT;
    if (status != KITH_OK)
        return status;
    change_names(disk, path, "", NULL);
    return answer(disk);
}

static int disk_sync_folder(struct kith_fs *fs, const char *path)
{
    struct sim_disk *disk = disk_of(fs);
    bool fails;
    int status = admit_sync(disk, &fails);
    if (status != KITH_OK || fails)
        return status ? status : KITH_EIO;
    if (disk->dead)
        return KITH_EIO;
    size_t kept = 0;
    for (size_t i = 0; i < disk->change_count; i++) {
        struct change *change = &disk->changes[i];
        if (lies_about(disk, *change->to ? change->to : change->from) &&
            (!*change->to || find_name(&disk->safe, change->to))) {
            disk->changes[kept++] = *change;
            continue;
        }
        apply_change(disk, &disk->safe, change);
        if (change->inode) {
            change->inode->names--;
            free_unused(disk, change->inode);
        }
    }
    disk->change_count = kept;
    return KITH_OK;
}

static int disk_read(struct kith_file *file, void *out, size_t length, uint64_t offset, size_t *got)
{
    struct open_file *f = (struct open_file *)file;
    if (f->disk->dead)
        return KITH_EIO;
    size_t left = offset < f->inode->seen_size ? f->inode->seen_size - (size_t)offset : 0;
    *got = length < left ? length : left;
    if (*got)
        memcpy(out, f->inode->seen + offset, *got);
    return KITH_OK;
}

static int disk_write(struct kith_file *file, const struct kith_slice *pieces, size_t count, uint64_t offset)
{
    struct open_file *f = (struct open_file *)file;
    struct inode *inode = f->inode;
    size_t at = (size_t)offset, end = at;
    if (!f->writable)
        return KITH_EPERM;
    int status = admit_change(f->disk);
    for (size_t i = 0; i < count; i++)
        end += pieces[i].length;
    if (status == KITH_OK)
        status = admit_growth(f->disk, inode, end);
    if (status != KITH_OK)
        return status;
    grow(f->disk, inode, end);
    for (size_t i = 0; i < count; i++) {
        if (pieces[i].length)
            memcpy(inode->seen + at, pieces[i].data, pieces[i].length);
        at += pieces[i].length;
    }
    make_dirty(inode, (size_t)offset, end);
    f->disk->figures.bytes += end - offset;
    return answer(f->disk);
}

static int disk_sync(struct kith_file *file, enum kith_fs_sync how)
{
    struct open_file *f = (struct open_file *)file;
    bool fails;
    int status = admit_sync(f->disk, &fails);
    if (status != KITH_OK)
        return status;
    if (f->disk->dead) /* the power went while it ran */
        return KITH_EIO;
    if (fails) {
        make_clean(f->inode);
        return KITH_EIO;
    }
    if (!f->inode->lies || f->inode->safe_size == 0)
        sync_inode(f->inode, how == KITH_FS_SYNC_ALL);
    return KITH_OK;
}

static int disk_size(struct kith_file *file, uint64_t *out)
{
    struct open_file *f = (struct open_file *)file;
    if (f->disk->dead)
        return KITH_EIO;
    *out = f->inode->seen_size;
    return KITH_OK;
}

static int disk_truncate(struct kith_file *file, uint64_t size)
{
    struct open_file *f = (struct open_file *)file;
    struct inode *inode = f->inode;
    int status = admit_change(f->disk);
    if (status == KITH_OK)
        status = admit_growth(f->disk, inode, size);
    if (status != KITH_OK)
        return status;
    if (size < inode->seen_size) {
        f->disk->used -= inode->seen_size - size;
        make_dirty(inode, (size_t)size, inode->seen_size);
        set_size(inode->seen, &inode->seen_size, (size_t)size);
    }
    grow(f->disk, inode, (size_t)size);
    return answer(f->disk);
}

static int disk_preallocate(struct kith_file *file, uint64_t size)
{
    struct open_file *f = (struct open_file *)file;
    int status = admit_change(f->disk);
    if (status == KITH_OK)
        status = admit_growth(f->disk, f->inode, size);
    if (status != KITH_OK)
        return status;
    grow(f->disk, f->inode, (size_t)size);
    return answer(f->disk);
}

static int disk_lock(struct kith_file *file)
{
    struct open_file *f = (struct open_file *)file;
    if (f->disk->dead)
        return KITH_EIO;
    if (f->inode->locked)
        return KITH_EBUSY;
    f->inode->locked = f->holds_lock = true;
    return KITH_OK;
}

static void disk_drop_cache(struct kith_file *file)
{
}

/* --- life and death --- */

struct sim_disk *sim_disk_open(uint64_t seed)
{
    struct sim_disk *disk = room(sizeof *disk);
    kith_rng_seed(&disk->rng, seed);
    disk->table = (struct kith_fs){
        .open = disk_open,
        .list = disk_list,
        .make_folder = disk_make_folder,
        .rename = disk_rename,
        .unlink = disk_unlink,
        .sync_folder = disk_sync_folder,
        .read = disk_read,
        .write = disk_write,
        .sync = disk_sync,
        .size = disk_size,
        .truncate = disk_truncate,
        .preallocate = disk_preallocate,
        .lock = disk_lock,
        .drop_cache = disk_drop_cache,
        .close = disk_close,
    };
    return disk;
}

void sim_disk_close(struct sim_disk *disk)
{
    if (!disk)
        return;
    forget_changes(disk);
    while (disk->seen.count)
        remove_name(disk, &disk->seen, disk->seen.at[0].path);
    while (disk->safe.count)
        remove_name(disk, &disk->safe, disk->safe.at[0].path);
    free(disk->changes);
    free(disk);
}

struct kith_fs *sim_disk_table(struct sim_disk *disk)
{
    return &disk->table;
}

void sim_disk_kill(struct sim_disk *disk)
{
    disk->dead = true;
}

void sim_disk_kill_in(struct sim_disk *disk, uint64_t n)
{
    disk->kill_in = n;
}

bool sim_disk_is_dead(const struct sim_disk *disk)
{
    return disk->dead;
}

void sim_disk_restart(struct sim_disk *disk, enum sim_disk_crash how)
{
    for (size_t i = 0; i < disk->change_count && how != SIM_DISK_FORGETS; i++)
        if (how == SIM_DISK_KEEPS || kith_rng_below(&disk->rng, 2))
            apply_change(disk, &disk->safe, &disk->changes[i]);
    forget_changes(disk);
    for (size_t i = 0; i < disk->safe.count; i++)
        crash_inode(disk, disk->safe.at[i].inode, how);
    while (disk->seen.count)
        remove_name(disk, &disk->seen, disk->seen.at[disk->seen.count - 1].path);
    for (size_t i = 0; i < disk->safe.count; i++)
        put_name(disk, &disk->seen, disk->safe.at[i].path, disk->safe.at[i].inode);
    disk->dead = false;
    disk->kill_in = disk->fail_syncs_in = 0;
}

void sim_disk_fail_syncs(struct sim_disk *disk, uint64_t n)
{
    disk->fail_syncs_in = n;
}

void sim_disk_set_capacity(struct sim_disk *disk, uint64_t bytes)
{
    disk->capacity = bytes;
}

uint64_t sim_disk_used(const struct sim_disk *disk)
{
    return disk->used;
}

const struct sim_disk_figures *sim_disk_get_figures(const struct sim_disk *disk)
{
    return &disk->figures;
}

static uint64_t digest_names(const struct names *names, bool safe)
{
    const struct kith_hash_seed seed = {1, 2};
    uint64_t sum = 0;
    for (size_t i = 0; i < names->count; i++) {
        const struct inode *inode = names->at[i].inode;
        uint64_t parts[2] = {kith_hash(seed, names->at[i].path, strlen(names->at[i].path)),
                             safe ? kith_hash(seed, inode->safe, inode->safe_size)
                                  : kith_hash(seed, inode->seen, inode->seen_size)};
        sum += kith_hash(seed, parts, sizeof parts);
    }
    return sum;
}

uint64_t sim_disk_digest(const struct sim_disk *disk)
{
    return digest_names(&disk->seen, false) ^ digest_names(&disk->safe, true) * 3;
}

void sim_disk_lie(struct sim_disk *disk, const char *name_prefix)
{
    snprintf(disk->lie, sizeof disk->lie, "%s", name_prefix);
}
