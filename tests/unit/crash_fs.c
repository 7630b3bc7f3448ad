/* The recording disk and its crashes. */
#include "crash_fs.h"

#include "base/status.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES = 256, INODES = 1024, SECTOR = 512 };

struct inode {
    unsigned char *bytes;
    size_t size;
    bool locked;
};

struct names {
    struct {
        char *path;
        int inode;
    } at[NAMES];
    size_t count;
};

enum op_kind {
    OP_CREATE,
    OP_RENAME,
    OP_UNLINK,
    OP_SYNC_FOLDER,
    OP_WRITE,
    OP_TRUNCATE,
    OP_GROW,
    OP_SYNC,
    OP_MARK
};

struct op {
    enum op_kind kind;
    int inode;
    char *path, *to;
    uint64_t offset; /* of a write; or the size; or the mark */
    unsigned char *bytes;
    size_t length;
    bool all; /* a sync that takes a shrunken size along */
};

struct crash_fs {
    struct kith_fs table;
    pthread_mutex_t mutex;
    struct inode inodes[INODES];
    int inode_count;
    struct names names;
    struct inode *base; /* what the disk began with, after a crash: as durable as can be */
    int base_count;
    struct names base_names;
    struct op *ops;
    size_t op_count, op_capacity;
    long fail_in, fail_count;
    int fail_status, fail_syncs;
    uint64_t capacity;
};

struct crash_file {
    struct kith_file base;
    struct crash_fs *disk;
    int inode;
    bool holds_lock;
};

/* Not malloc: the disk goes on while the tests make the allocations of others fail. Zeroed. */
static void *room(size_t bytes)
{
    void *p;
    if (posix_memalign(&p, 16, bytes ? bytes : 1) != 0)
        abort();
    return memset(p, 0, bytes);
}

static void *more_room(void *old, size_t old_bytes, size_t bytes)
{
    void *p = room(bytes);
    if (old)
        memcpy(p, old, old_bytes < bytes ? old_bytes : bytes);
    free(old);
    return p;
}

static char *copy_text(const char *s)
{
    size_t n = strlen(s) + 1;
    return memcpy(room(n), s, n);
}

/* --- names and contents: shared by the live disk and the replay --- */

static int find_name(const struct names *names, const char *path)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->at[i].path, path) == 0)
            return (int)i;
    return -1;
}

static void drop_name(struct names *names, const char *path)
{
    int i = find_name(names, path);
    if (i < 0)
        return;
    free(names->at[i].path);
    names->at[i] = names->at[--names->count];
}

static void set_name(struct names *names, const char *path, int inode)
{
    drop_name(names, path);
    if (names->count == NAMES)
        abort();
    names->at[names->count].path = copy_text(path);
    names->at[names->count++].inode = inode;
}

static void free_names(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->at[i].path);
    names->count = 0;
}

static void apply_name(struct names *names, const struct op *op)
{
    if (op->kind == OP_CREATE)
        set_name(names, op->path, op->inode);
    else if (op->kind == OP_UNLINK)
        drop_name(names, op->path);
    else if (op->kind == OP_RENAME) {
        drop_name(names, op->path);
        set_name(names, op->to, op->inode);
    }
}

static void resize(struct inode *inode, size_t size)
{
    inode->bytes = more_room(inode->bytes, inode->size, size);
    inode->size = size;
}

static void write_part(struct inode *inode, const struct op *op, size_t from, size_t to)
{
    if (from >= to)
        return;
    if (op->offset + to > inode->size)
        resize(inode, (size_t)op->offset + to);
    memcpy(inode->bytes + op->offset + from, op->bytes + from, to - from);
}

static void apply_content(struct inode *inode, const struct op *op)
{
    if (op->kind == OP_WRITE)
        write_part(inode, op, 0, op->length);
    else if (op->kind == OP_TRUNCATE || (op->kind == OP_GROW && op->offset > inode->size))
        resize(inode, (size_t)op->offset);
}

/* --- the live disk --- */

static struct op *record(struct crash_fs *disk, struct op op)
{
    if (disk->op_count == disk->op_capacity) {
        size_t capacity = disk->op_capacity ? disk->op_capacity * 2 : 256;
        disk->ops = more_room(disk->ops, disk->op_capacity * sizeof *disk->ops, capacity * sizeof *disk->ops);
        disk->op_capacity = capacity;
    }
    disk->ops[disk->op_count] = op;
    return &disk->ops[disk->op_count++];
}

static int planned_failure(struct crash_fs *disk)
{
    if (disk->fail_in < 0)
        return KITH_OK;
    if (disk->fail_in > 0) {
        disk->fail_in--;
        return KITH_OK;
    }
    if (disk->fail_count > 0 && --disk->fail_count == 0)
        disk->fail_in = -1;
    return disk->fail_status;
}

static uint64_t used(const struct crash_fs *disk)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < disk->names.count; i++)
        sum += disk->inodes[disk->names.at[i].inode].size;
    return sum;
}

static struct crash_fs *disk_of(struct kith_fs *fs)
{
    return (struct crash_fs *)fs;
}

static int crash_open(struct kith_fs *fs, const char *path, unsigned flags, struct kith_file **out)
{
    struct crash_fs *disk = disk_of(fs);
    pthread_mutex_lock(&disk->mutex);
    int at = find_name(&disk->names, path), status = KITH_OK, inode = -1;
    if (at < 0 && !(flags & KITH_FS_CREATE))
        status = KITH_ENOENT;
    else if (at >= 0 && (flags & KITH_FS_EXCLUSIVE))
        status = KITH_EEXIST;
    else if (at < 0) {
        status = planned_failure(disk);
        if (status == KITH_OK) {
            if (disk->inode_count == INODES)
                abort();
            inode = disk->inode_count++;
            apply_name(&disk->names,
                       record(disk, (struct op){.kind = OP_CREATE, .inode = inode, .path = copy_text(path)}));
        }
    } else {
        inode = disk->names.at[at].inode;
        if ((flags & KITH_FS_EMPTY) && (status = planned_failure(disk)) == KITH_OK)
            apply_content(&disk->inodes[inode],
                          record(disk, (struct op){.kind = OP_TRUNCATE, .inode = inode}));
    }
    if (status == KITH_OK) {
        struct crash_file *file = room(sizeof *file);
        file->base.fs = fs;
        file->disk = disk;
        file->inode = inode;
        *out = &file->base;
    }
    pthread_mutex_unlock(&disk->mutex);
    return status;
}

static void crash_close(struct kith_file *file)
{
    struct crash_file *f = (struct crash_file *)file;
    pthread_mutex_lock(&f->disk->mutex);
    if (f->holds_lock)
        f->disk->inodes[f->inode].locked = false;
    pthread_mutex_unlock(&f->disk->mutex);
    free(f);
}

static int crash_list(struct kith_fs *fs, const char *path, int (*visit)(void *, const char *), void *context)
{
    struct crash_fs *disk = disk_of(fs);
    size_t n = strlen(path);
    int status = KITH_OK;
    for (size_t i = 0; status == KITH_OK; i++) {
        char name[256];
        pthread_mutex_lock(&disk->mutex);
        bool more = i < disk->names.count, inside = false;
        if (more) {
            const char *p = disk->names.at[i].path;
            inside = strncmp(p, path, n) == 0 && p[n] == '/';
            if (inside)
                strncpy(name, p + n + 1, sizeof name - 1)[sizeof name - 1] = 0;
        }
        pthread_mutex_unlock(&disk->mutex);
        if (!more)
            break;
        if (inside)
            status = visit(context, name);
    }
    return status;
}

static int crash_make_folder(struct kith_fs *fs, const char *path)
{
    return KITH_EEXIST;
}

static int change_names(struct kith_fs *fs, enum op_kind kind, const char *path, const char *to)
{
    struct crash_fs *disk = disk_of(fs);
    pthread_mutex_lock(&disk->mutex);
    int at = path ? find_name(&disk->names, path) : 0;
    int status = at < 0 ? KITH_ENOENT : planned_failure(disk);
    if (status == KITH_OK && kind == OP_SYNC_FOLDER && disk->fail_syncs)
        status = disk->fail_syncs;
    if (status == KITH_OK)
        apply_name(&disk->names, record(disk, (struct op){.kind = kind,
                                                          .inode = path ? disk->names.at[at].inode : -1,
                                                          .path = path ? copy_text(path) : NULL,
                                                          .to = to ? copy_text(to) : NULL}));
    pthread_mutex_unlock(&disk->mutex);
    return status;
}

static int crash_rename(struct kith_fs *fs, const char *from, const char *to)
{
    return change_names(fs, OP_RENAME, from, to);
}

static int crash_unlink(struct kith_fs *fs, const char *path)
{
    return change_names(fs, OP_UNLINK, path, NULL);
}

static int crash_sync_folder(struct kith_fs *fs, const char *path)
{
    return change_names(fs, OP_SYNC_FOLDER, NULL, NULL);
}

static int crash_read(struct kith_file *file, void *out, size_t length, uint64_t offset, size_t *got)
{
    struct crash_file *f = (struct crash_file *)file;
    pthread_mutex_lock(&f->disk->mutex);
    const struct inode *inode = &f->disk->inodes[f->inode];
    size_t left = offset < inode->size ? inode->size - (size_t)offset : 0;
    *got = length < left ? length : left;
    if (*got)
        memcpy(out, inode->bytes + offset, *got);
    pthread_mutex_unlock(&f->disk->mutex);
    return KITH_OK;
}

static int change_content(struct kith_file *file, struct op op, uint64_t end)
{
    struct crash_file *f = (struct crash_file *)file;
    struct crash_fs *disk = f->disk;
    pthread_mutex_lock(&disk->mutex);
    struct inode *inode = &disk->inodes[f->inode];
    int status = planned_failure(disk);
    if (status == KITH_OK && disk->capacity && end > inode->size &&
        used(disk) + (end - inode->size) > disk->capacity)
        status = KITH_ENOSPC;
    if (status == KITH_OK && op.kind == OP_SYNC && disk->fail_syncs)
        status = disk->fail_syncs;
    op.inode = f->inode;
    if (status == KITH_OK)
        apply_content(inode, record(disk, op));
    else
        free(op.bytes);
    pthread_mutex_unlock(&disk->mutex);
    return status;
}

static int crash_write(struct kith_file *file, const struct kith_slice *pieces, size_t count, uint64_t offset)
{
    struct op op = {.kind = OP_WRITE, .offset = offset};
    for (size_t i = 0; i < count; i++)
        op.length += pieces[i].length;
    op.bytes = room(op.length);
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        if (pieces[i].length)
            memcpy(op.bytes + at, pieces[i].data, pieces[i].length);
        at += pieces[i].length;
    }
    return change_content(file, op, offset + op.length);
}

static int crash_sync(struct kith_file *file, enum kith_fs_sync how)
{
    return change_content(file, (struct op){.kind = OP_SYNC, .all = how == KITH_FS_SYNC_ALL}, 0);
}

static int crash_size(struct kith_file *file, uint64_t *out)
{
    struct crash_file *f = (struct crash_file *)file;
    pthread_mutex_lock(&f->disk->mutex);
    *out = f->disk->inodes[f->inode].size;
    pthread_mutex_unlock(&f->disk->mutex);
    return KITH_OK;
}

static int crash_truncate(struct kith_file *file, uint64_t size)
{
    return change_content(file, (struct op){.kind = OP_TRUNCATE, .offset = size}, 0);
}

static int crash_preallocate(struct kith_file *file, uint64_t size)
{
    return change_content(file, (struct op){.kind = OP_GROW, .offset = size}, size);
}

static int crash_lock(struct kith_file *file)
{
    struct crash_file *f = (struct crash_file *)file;
    pthread_mutex_lock(&f->disk->mutex);
    struct inode *inode = &f->disk->inodes[f->inode];
    int status = inode->locked ? KITH_EBUSY : KITH_OK;
    if (status == KITH_OK)
        inode->locked = f->holds_lock = true;
    pthread_mutex_unlock(&f->disk->mutex);
    return status;
}

static void crash_drop_cache(struct kith_file *file)
{
}

struct crash_fs *crash_fs_open(void)
{
    struct crash_fs *disk = room(sizeof *disk);
    disk->table = (struct kith_fs){
        .open = crash_open,
        .list = crash_list,
        .make_folder = crash_make_folder,
        .rename = crash_rename,
        .unlink = crash_unlink,
        .sync_folder = crash_sync_folder,
        .read = crash_read,
        .write = crash_write,
        .sync = crash_sync,
        .size = crash_size,
        .truncate = crash_truncate,
        .preallocate = crash_preallocate,
        .lock = crash_lock,
        .drop_cache = crash_drop_cache,
        .close = crash_close,
    };
    pthread_mutex_init(&disk->mutex, NULL);
    disk->fail_in = -1;
    return disk;
}

void crash_fs_close(struct crash_fs *disk)
{
    for (int i = 0; i < disk->inode_count; i++)
        free(disk->inodes[i].bytes);
    for (size_t i = 0; i < disk->op_count; i++) {
        free(disk->ops[i].path);
        free(disk->ops[i].to);
        free(disk->ops[i].bytes);
    }
    for (int i = 0; i < disk->base_count; i++)
        free(disk->base[i].bytes);
    free(disk->base);
    free_names(&disk->base_names);
    free_names(&disk->names);
    free(disk->ops);
    pthread_mutex_destroy(&disk->mutex);
    free(disk);
}

struct kith_fs *crash_fs_table(struct crash_fs *disk)
{
    return &disk->table;
}

void crash_fs_mark(struct crash_fs *disk, uint64_t value)
{
    pthread_mutex_lock(&disk->mutex);
    record(disk, (struct op){.kind = OP_MARK, .offset = value});
    pthread_mutex_unlock(&disk->mutex);
}

size_t crash_fs_operations(const struct crash_fs *disk)
{
    return disk->op_count;
}

void crash_fs_fail(struct crash_fs *disk, long n, int status, long count)
{
    pthread_mutex_lock(&disk->mutex);
    disk->fail_in = n;
    disk->fail_status = status;
    disk->fail_count = count;
    pthread_mutex_unlock(&disk->mutex);
}

void crash_fs_fail_syncs(struct crash_fs *disk, int status)
{
    pthread_mutex_lock(&disk->mutex);
    disk->fail_syncs = status;
    pthread_mutex_unlock(&disk->mutex);
}

void crash_fs_set_capacity(struct crash_fs *disk, uint64_t bytes)
{
    pthread_mutex_lock(&disk->mutex);
    disk->capacity = bytes;
    pthread_mutex_unlock(&disk->mutex);
}

bool crash_fs_flip(struct crash_fs *disk, const char *path, uint64_t offset, unsigned char mask)
{
    int at = find_name(&disk->names, path);
    if (at < 0 || offset >= disk->inodes[disk->names.at[at].inode].size)
        return false;
    disk->inodes[disk->names.at[at].inode].bytes[offset] ^= mask;
    return true;
}

const char *crash_fs_find(struct crash_fs *disk, const char *path_prefix, size_t nth)
{
    const char *last = "";
    for (;; nth--) {
        const char *best = NULL;
        for (size_t i = 0; i < disk->names.count; i++) {
            const char *p = disk->names.at[i].path;
            if (strncmp(p, path_prefix, strlen(path_prefix)) == 0 && strcmp(p, last) > 0 &&
                (!best || strcmp(p, best) < 0))
                best = p;
        }
        if (!best || nth == 0)
            return best;
        last = best;
    }
}

const unsigned char *crash_fs_bytes(struct crash_fs *disk, const char *path, size_t *length)
{
    int at = find_name(&disk->names, path);
    if (at < 0)
        return NULL;
    *length = disk->inodes[disk->names.at[at].inode].size;
    return disk->inodes[disk->names.at[at].inode].bytes;
}

/* --- replay --- */

struct crash_replay {
    struct crash_fs *disk;
    size_t at;
    struct inode durable[INODES];
    struct names durable_names;
    const struct op **pending; /* not synced, in order; names and contents */
    size_t pending_count, pending_capacity;
    uint64_t mark;
};

/* Only the files that are needed: those with a name, and those that pending operations deal with. */
static void copy_disk(struct inode *to, struct names *to_names, const struct inode *from, int count,
                      const struct names *from_names, const struct op **pending, size_t pending_count)
{
    bool needed[INODES] = {false};
    for (size_t i = 0; i < from_names->count; i++)
        needed[from_names->at[i].inode] = true;
    for (size_t i = 0; i < pending_count; i++)
        needed[pending[i]->inode] = true;
    for (int i = 0; i < count; i++) {
        if (!needed[i])
            continue;
        resize(&to[i], from[i].size);
        if (from[i].size)
            memcpy(to[i].bytes, from[i].bytes, from[i].size);
    }
    for (size_t i = 0; i < from_names->count; i++)
        set_name(to_names, from_names->at[i].path, from_names->at[i].inode);
}

struct crash_replay *crash_replay_open(struct crash_fs *disk)
{
    struct crash_replay *r = room(sizeof *r);
    r->disk = disk;
    copy_disk(r->durable, &r->durable_names, disk->base, disk->base_count, &disk->base_names, NULL, 0);
    return r;
}

void crash_replay_close(struct crash_replay *r)
{
    for (int i = 0; i < INODES; i++)
        free(r->durable[i].bytes);
    free_names(&r->durable_names);
    free(r->pending);
    free(r);
}

static bool is_name_op(const struct op *op)
{
    return op->kind == OP_CREATE || op->kind == OP_RENAME || op->kind == OP_UNLINK;
}

static void settle(struct crash_replay *r, const struct op *sync)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->pending_count; i++) {
        const struct op *op = r->pending[i];
        bool settles = is_name_op(op) ? sync->kind == OP_SYNC_FOLDER
                                      : sync->kind == OP_SYNC && op->inode == sync->inode &&
                                            (sync->all || op->kind != OP_TRUNCATE);
        if (!settles)
            r->pending[kept++] = op;
        else if (is_name_op(op))
            apply_name(&r->durable_names, op);
        else
            apply_content(&r->durable[op->inode], op);
    }
    r->pending_count = kept;
}

bool crash_replay_step(struct crash_replay *r)
{
    if (r->at == r->disk->op_count)
        return false;
    const struct op *op = &r->disk->ops[r->at++];
    if (op->kind == OP_MARK)
        r->mark = op->offset;
    else if (op->kind == OP_SYNC || op->kind == OP_SYNC_FOLDER)
        settle(r, op);
    else {
        if (r->pending_count == r->pending_capacity) {
            size_t capacity = r->pending_capacity ? r->pending_capacity * 2 : 256;
            r->pending = more_room(r->pending, r->pending_capacity * sizeof *r->pending,
                                   capacity * sizeof *r->pending);
            r->pending_capacity = capacity;
        }
        r->pending[r->pending_count++] = op;
    }
    return true;
}

uint64_t crash_replay_mark(const struct crash_replay *r)
{
    return r->mark;
}

/* Each sector of the write on its own. */
static void scatter(struct inode *inode, const struct op *op, struct kith_rng *rng)
{
    for (size_t from = 0; from < op->length;) {
        size_t to = from + SECTOR - (size_t)((op->offset + from) % SECTOR);
        if (to > op->length)
            to = op->length;
        if (kith_rng_below(rng, 2))
            write_part(inode, op, from, to);
        else if (kith_rng_below(rng, 8) == 0)
            write_part(inode, op, from, from + (size_t)kith_rng_below(rng, to - from + 1));
        from = to;
    }
}

struct crash_fs *crash_replay_crash(struct crash_replay *r, enum crash_kind kind, struct kith_rng *rng)
{
    struct crash_fs *disk = crash_fs_open();
    disk->inode_count = r->disk->inode_count;
    copy_disk(disk->inodes, &disk->names, r->durable, disk->inode_count, &r->durable_names, r->pending,
              r->pending_count);
    for (size_t i = 0; i < r->pending_count && kind != CRASH_BARE; i++) {
        const struct op *op = r->pending[i];
        bool last = i + 1 == r->pending_count;
        bool dropped = kind == CRASH_REORDERED && op->kind != OP_WRITE && kith_rng_below(rng, 2);
        if (dropped)
            continue;
        if (is_name_op(op))
            apply_name(&disk->names, op);
        else if (op->kind == OP_WRITE && kind == CRASH_REORDERED)
            scatter(&disk->inodes[op->inode], op, rng);
        else if (op->kind == OP_WRITE && kind == CRASH_TORN && last)
            write_part(&disk->inodes[op->inode], op, 0, (size_t)kith_rng_below(rng, op->length));
        else
            apply_content(&disk->inodes[op->inode], op);
    }
    disk->base_count = disk->inode_count;
    disk->base = room(((size_t)disk->base_count + 1) * sizeof *disk->base);
    copy_disk(disk->base, &disk->base_names, disk->inodes, disk->base_count, &disk->names, NULL, 0);
    return disk;
}
