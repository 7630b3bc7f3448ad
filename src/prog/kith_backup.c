/* kith backup: copies a running node's data over its client port.
 *
 *     FILE            one checkpoint
 *     FOLDER          checkpoints, one more with each run; with --log the log behind them, of which each run fetches only
 *                     what is new
 *
 * A checkpoint's file comes in pieces to FILE.INDEX.BYTES.SUM.part; a later run goes on where one was broken off, if the server
 * still has that very file. It is read back and checked whole, synced, and renamed. A backup's folder is a folder of the
 * store, marked as a backup: the log is written by the same code as a server's, so that what a crash leaves is found and cut. */
#include "base/fs.h"
#include "base/os.h"
#include "engine/engine.h"
#include "prog/kith_options.h"
#include "prog/progress.h"
#include "store/crc.h"
#include "store/store.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum {
    PATH_MAX_BYTES = 4096,
    PIECE_BYTES = 1 << 20,
    WINDOW = 4, /* pieces asked for ahead */
    TRY_AGAIN_MS = 200,
    TRY_AGAIN_MAX = 3000, /* times: ten minutes */
    ANEW_MAX = 3,         /* a server that was started again has let go of what it held */
};
#define SEGMENT_BYTES ((uint64_t)64 << 20)
#define QUEUE_BYTES   ((uint64_t)16 << 20)

struct settings {
    struct kith_options *options;
    const char *target;
    bool log, follow, checkpoint;
    uint64_t rate_bytes; /* a second; 0: no limit */
    double every_s;
};

enum { OPTION_LOG = 1, OPTION_FOLLOW, OPTION_CHECKPOINT, OPTION_RATE, OPTION_EVERY };

static uint64_t parse_bytes(struct argp_state *state, const char *text)
{
    char *end;
    unsigned long long number = strtoull(text, &end, 10);
    unsigned shift = strcasecmp(end, "kb") == 0   ? 10
                     : strcasecmp(end, "mb") == 0 ? 20
                     : strcasecmp(end, "gb") == 0 ? 30
                                                  : 0;
    if (end == text || (!shift && *end) || number > UINT32_MAX)
        argp_error(state, "'%s' is no number of bytes: 50mb", text);
    return (uint64_t)number << shift;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct settings *s = state->input;
    char *end;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = s->options;
        return 0;
    case OPTION_LOG:
        s->log = true;
        return 0;
    case OPTION_FOLLOW:
        s->log = s->follow = true;
        return 0;
    case OPTION_CHECKPOINT:
        s->checkpoint = true;
        return 0;
    case OPTION_RATE:
        s->rate_bytes = parse_bytes(state, arg);
        return 0;
    case OPTION_EVERY:
        s->every_s = strtod(arg, &end);
        if (end == arg || *end || s->every_s < 0.01 || s->every_s > 86400)
            argp_error(state, "'%s' is no number of seconds", arg);
        return 0;
    case ARGP_KEY_ARG:
        if (s->target)
            argp_error(state, "'%s' is too many", arg);
        s->target = arg;
        return 0;
    case ARGP_KEY_END:
        if (!s->target)
            argp_error(state, "a file or a folder is needed, to write to");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option option_table[] = {
    {"log", OPTION_LOG, NULL, 0, "copy the log behind the checkpoint, too: for restore --until", 0},
    {"follow", OPTION_FOLLOW, NULL, 0, "as --log, and go on for as long as the server runs", 0},
    {"checkpoint", OPTION_CHECKPOINT, NULL, 0, "with --log: a new checkpoint, though there is one", 0},
    {"every", OPTION_EVERY, "SECONDS", 0, "with --follow: between two looks (1)", 0},
    {"rate", OPTION_RATE, "BYTES", 0, "a second, of the checkpoint, as 50mb: leaves the network to others",
     0},
    {0},
};
static const struct argp_child children[] = {{&kith_options_argp, 0, "The server:", 1}, {0}};
static const struct argp argp = {
    option_table,
    parse_option,
    "FILE\nFOLDER/",
    "Copies the data of a running server, any node of a group, while it goes on serving.\v"
    "FILE gets one checkpoint. A folder (one that is there, or a name that ends in '/') gets a new one with "
    "each run; with --log "
    "the first run fetches a checkpoint, and each run the log since the last. What was broken off goes on "
    "when it "
    "is run again. kith restore makes a data folder of it.",
    children,
    NULL,
    NULL};

/* --- the state of one run --- */

struct run {
    const struct settings *settings;
    struct kith_client *client;
    struct kith_fs *fs;
    struct kith_error error;
    uint64_t group_id;
    char folder[PATH_MAX_BYTES]; /* where the file goes: the target, or the target's folder */
    bool to_folder;
    struct kith_store *store;
    struct kith_log *log;
    uint64_t last_index, last_term; /* of what the folder holds; term 0: not known */
    uint64_t added;                 /* entries */
    int64_t last_ms;                /* time of the last entry that was fetched */
};

static volatile sig_atomic_t stopping;

static void sleep_ms(double ms)
{
    struct timespec time = {(time_t)(ms / 1000), (long)((ms - 1000.0 * (double)(time_t)(ms / 1000)) * 1e6)};
    nanosleep(&time, NULL); /* a signal ends it */
}

static void on_signal(int number)
{
    stopping = 1;
}

static const struct kith_value *field(const struct kith_value *map, const char *name)
{
    for (size_t i = 0; map->type == KITH_VALUE_MAP && i + 1 < map->count; i += 2)
        if (map->items[i].type == KITH_VALUE_STRING && kith_slice_is(map->items[i].text, name))
            return &map->items[i + 1];
    return NULL;
}

/* False: it is not there, or negative. */
static bool take_number(const struct kith_value *map, const char *name, uint64_t *out)
{
    const struct kith_value *value = field(map, name);
    if (!value || value->type != KITH_VALUE_INT || value->integer < 0)
        return false;
    *out = (uint64_t)value->integer;
    return true;
}

static int bad_answer(struct run *run)
{
    return kith_error_set(&run->error, KITH_ECORRUPT,
                          "the server's answer is not what a backup needs: is it Kith?");
}

static bool is_code(const struct kith_value *reply, const char *code)
{
    size_t length = strlen(code);
    return reply->type == KITH_VALUE_ERROR && reply->text.length > length &&
           memcmp(reply->text.data, code, length) == 0 && reply->text.data[length] == ' ';
}

/* An error reply becomes a failure: KITH_EAGAIN for TRYAGAIN and LOADING, KITH_ENOENT for GONE. */
static int judge(struct run *run, struct kith_value *reply)
{
    if (reply->type != KITH_VALUE_ERROR)
        return KITH_OK;
    int status = is_code(reply, "TRYAGAIN") || is_code(reply, "LOADING") ? KITH_EAGAIN
                 : is_code(reply, "GONE")                                ? KITH_ENOENT
                                                                         : KITH_EINVAL;
    kith_error_set(&run->error, status, "%.*s", (int)(reply->text.length < 400 ? reply->text.length : 400),
                   reply->text.data);
    kith_value_fini(reply);
    return status;
}

/* KITH.BACKUP with a subcommand and up to one number; waits while the server says that it is to be tried again. */
static int call(struct run *run, const char *subcommand, uint64_t number, struct kith_value *reply)
{
    char text[24];
    struct kith_slice argv[3] = {kith_slice("KITH.BACKUP", 11), kith_slice(subcommand, strlen(subcommand)),
                                 kith_slice(text, (size_t)snprintf(text, sizeof text, "%" PRIu64, number))};
    for (unsigned tries = 0;; tries++) {
        int status = kith_client_call(run->client, argv, number ? 3 : 2, reply, &run->error);
        if (status == KITH_OK)
            status = judge(run, reply);
        if (status != KITH_EAGAIN || tries == TRY_AGAIN_MAX || stopping)
            return status;
        sleep_ms(TRY_AGAIN_MS);
    }
}

static int connect_to_server(struct run *run)
{
    struct kith_client_options options = run->settings->options->client;
    struct kith_value reply;
    options.protocol = 3;
    int status = kith_client_open(&run->client, &options, &run->error);
    if (status == KITH_OK)
        status =
            kith_client_call_words(run->client, &reply, &run->error, "KITH.CLUSTER", "INFO", (char *)NULL);
    if (status == KITH_OK)
        status = judge(run, &reply);
    if (status != KITH_OK)
        return status;
    const struct kith_value *group = field(&reply, "group");
    char text[24] = "";
    if (group && group->type == KITH_VALUE_STRING && group->text.length < sizeof text)
        memcpy(text, group->text.data, group->text.length);
    run->group_id = strtoull(text, NULL, 16);
    kith_value_fini(&reply);
    return run->group_id
               ? KITH_OK
               : kith_error_set(&run->error, KITH_EPERM,
                                "this server keeps nothing on disk: there is nothing that could be copied");
}

/* --- a checkpoint --- */

struct offer {
    uint64_t index, term, bytes;
    uint32_t crc;
};

/* index 0: a new one. */
static int open_remote(struct run *run, uint64_t index, struct offer *offer)
{
    struct kith_value reply;
    uint64_t crc;
    int status = call(run, "OPEN", index, &reply);
    if (status != KITH_OK)
        return status;
    bool good = take_number(&reply, "index", &offer->index) && take_number(&reply, "term", &offer->term) &&
                take_number(&reply, "bytes", &offer->bytes) && take_number(&reply, "crc", &crc) &&
                offer->index && crc <= UINT32_MAX;
    if (good)
        offer->crc = (uint32_t)crc;
    kith_value_fini(&reply);
    return good ? KITH_OK : bad_answer(run);
}

/* Where the file will stand. */
static void final_path(const struct run *run, uint64_t index, char out[PATH_MAX_BYTES])
{
    char name[KITH_CHECKPOINT_NAME_BYTES];
    kith_checkpoint_name(name, index);
    if (run->to_folder)
        snprintf(out, PATH_MAX_BYTES, "%.4000s/%s", run->folder, name);
    else
        snprintf(out, PATH_MAX_BYTES, "%s", run->settings->target);
}

static void part_path(const struct run *run, const struct offer *offer, char out[PATH_MAX_BYTES])
{
    char path[PATH_MAX_BYTES];
    final_path(run, offer->index, path);
    snprintf(out, PATH_MAX_BYTES, "%.4000s.%" PRIu64 ".%" PRIu64 ".%08" PRIx32 ".part", path, offer->index,
             offer->bytes, offer->crc);
}

/* A part that an earlier run has left: its name says of which file. */
struct search {
    const struct run *run;
    struct offer offer;
    char path[PATH_MAX_BYTES];
};

static int match_part(void *context, const char *name)
{
    struct search *s = context;
    struct offer offer = {0};
    const char *dot = name + strlen(name);
    char again[PATH_MAX_BYTES];
    for (int dots = 0; dot > name && dots < 4;)
        dots += *--dot == '.';
    if (sscanf(dot, ".%" SCNu64 ".%" SCNu64 ".%" SCNx32 ".part", &offer.index, &offer.bytes, &offer.crc) != 3)
        return 0;
    part_path(s->run, &offer, again);
    const char *slash = strrchr(again, '/');
    if (strcmp(slash ? slash + 1 : again, name) != 0)
        return 0;
    s->offer = offer;
    snprintf(s->path, sizeof s->path, "%s", again);
    return 1;
}

/* The server may still have the file of which there is a part here; else the part is of no use. */
static int find_part(struct run *run, struct offer *offer)
{
    struct search s = {.run = run};
    while (run->fs->list(run->fs, run->folder, match_part, &s) == 1) {
        struct offer remote = {0};
        int status = open_remote(run, s.offer.index, &remote);
        if (status == KITH_OK && remote.bytes == s.offer.bytes && remote.crc == s.offer.crc) {
            *offer = remote;
            return KITH_OK;
        }
        if (status != KITH_OK && status != KITH_ENOENT)
            return status;
        status = run->fs->unlink(run->fs, s.path);
        if (status != KITH_OK)
            return kith_error_set(&run->error, status, "%s cannot be removed: %s", s.path,
                                  kith_status_text(status));
    }
    return KITH_ENOENT;
}

static int ask_piece(struct run *run, const struct offer *offer, uint64_t offset)
{
    char index[24], at[24], length[24];
    uint64_t left = offer->bytes - offset;
    struct kith_slice argv[5] = {
        kith_slice("KITH.BACKUP", 11), kith_slice("READ", 4),
        kith_slice(index, (size_t)snprintf(index, sizeof index, "%" PRIu64, offer->index)),
        kith_slice(at, (size_t)snprintf(at, sizeof at, "%" PRIu64, offset)),
        kith_slice(length, (size_t)snprintf(length, sizeof length, "%" PRIu64,
                                            left < PIECE_BYTES ? left : (uint64_t)PIECE_BYTES))};
    return kith_client_put(run->client, argv, 5);
}

static void keep_rate(const struct run *run, uint64_t began_ns, uint64_t bytes)
{
    uint64_t rate = run->settings->rate_bytes;
    if (!rate)
        return;
    double due_s = (double)bytes / (double)rate, now_s = (double)(kith_os_monotonic_ns() - began_ns) / 1e9;
    if (due_s > now_s)
        sleep_ms((due_s - now_s) * 1000);
}

/* All pieces from `offset` on. Replies that are still on their way after a failure are taken in by nobody: the connection is
 * given up then. */
static int fetch_pieces(struct run *run, const struct offer *offer, struct kith_file *file, uint64_t offset)
{
    uint64_t asked = offset, began_ns = kith_os_monotonic_ns(), first = offset;
    struct kith_progress progress;
    struct kith_value reply;
    int status = KITH_OK;
    kith_progress_init(&progress, "bytes");
    while (offset < offer->bytes && status == KITH_OK) {
        unsigned window = run->settings->rate_bytes ? 1 : WINDOW;
        while (status == KITH_OK && asked < offer->bytes && asked - offset < (uint64_t)window * PIECE_BYTES) {
            status = ask_piece(run, offer, asked);
            asked += offer->bytes - asked < PIECE_BYTES ? offer->bytes - asked : (uint64_t)PIECE_BYTES;
        }
        if (status == KITH_OK)
            status = kith_client_reply(run->client, &reply, &run->error);
        else
            kith_error_set(&run->error, status, "out of memory");
        if (status == KITH_OK)
            status = judge(run, &reply);
        if (status != KITH_OK)
            break;
        uint64_t left = offer->bytes - offset, want = left < PIECE_BYTES ? left : (uint64_t)PIECE_BYTES;
        if (reply.type != KITH_VALUE_STRING || reply.text.length != want)
            status = bad_answer(run);
        struct kith_slice piece = reply.text;
        if (status == KITH_OK && (status = run->fs->write(file, &piece, 1, offset)) != KITH_OK)
            kith_error_set(&run->error, status, "the backup cannot be written: %s", kith_status_text(status));
        kith_value_fini(&reply);
        offset += want;
        kith_progress_update(&progress, offset, offer->bytes, 0);
        keep_rate(run, began_ns, offset - first);
    }
    kith_progress_clear(&progress);
    return status;
}

static int whole_file_crc(struct run *run, struct kith_file *file, uint64_t bytes, uint32_t *crc)
{
    char *piece = malloc(PIECE_BYTES);
    int status = piece ? KITH_OK : KITH_ENOMEM;
    *crc = 0;
    for (uint64_t at = 0; at < bytes && status == KITH_OK;) {
        size_t got = 0;
        status = file->fs->read(file, piece, PIECE_BYTES, at, &got);
        if (status == KITH_OK && !got)
            status = KITH_EIO;
        *crc = kith_crc32c(*crc, piece, got);
        at += got;
    }
    free(piece);
    return status;
}

/* Back from the disk, as far as the system lets us choose. */
static int check_file(struct run *run, struct kith_file *file, const char *path, const struct offer *offer)
{
    struct kith_checkpoint_read read = {0};
    struct kith_error why = {""};
    uint32_t crc;
    file->fs->drop_cache(file);
    int status = whole_file_crc(run, file, offer->bytes, &crc);
    if (status != KITH_OK)
        return kith_error_set(&run->error, status, "%s cannot be read back: %s", path,
                              kith_status_text(status));
    if (crc == offer->crc) {
        status = kith_checkpoint_read_all(&read, file, NULL, NULL, &why);
        if (status == KITH_OK && (read.info.index != offer->index || read.info.folder_id != run->group_id))
            status = kith_error_set(&why, KITH_ECORRUPT, "it is not the one that was offered");
        kith_checkpoint_read_close(&read);
    } else {
        status = kith_error_set(&why, KITH_ECORRUPT, "its checksum is not the server's");
    }
    if (status != KITH_OK)
        kith_error_set(&run->error, status, "%s: %s. It was removed: run the backup again", path, why.text);
    return status;
}

static int fetch_to(struct run *run, const struct offer *offer, const char *path, struct kith_file *file)
{
    uint64_t size = 0;
    int status = run->fs->lock(file);
    if (status == KITH_OK)
        status = run->fs->size(file, &size);
    if (status != KITH_OK)
        return kith_error_set(&run->error, status,
                              status == KITH_EBUSY ? "%s is being written by another kith backup (%s)"
                                                   : "%s cannot be used: %s",
                              path, kith_status_text(status));
    if (size > offer->bytes)
        size = 0;
    size -= size % PIECE_BYTES;
    status = run->fs->truncate(file, size);
    if (status == KITH_OK)
        status = fetch_pieces(run, offer, file, size);
    else
        kith_error_set(&run->error, status, "%s cannot be written: %s", path, kith_status_text(status));
    if (status == KITH_OK && (status = run->fs->sync(file, KITH_FS_SYNC_ALL)) != KITH_OK)
        kith_error_set(&run->error, status, "%s cannot be written: %s", path, kith_status_text(status));
    return status;
}

/* The file of the offer, in its place. */
static int fetch(struct run *run, const struct offer *offer)
{
    char part[PATH_MAX_BYTES], path[PATH_MAX_BYTES];
    struct kith_file *file;
    part_path(run, offer, part);
    final_path(run, offer->index, path);
    int status = run->fs->open(run->fs, part, KITH_FS_WRITE | KITH_FS_CREATE, &file);
    if (status != KITH_OK)
        return kith_error_set(&run->error, status, "%s cannot be written: %s", part,
                              kith_status_text(status));
    status = fetch_to(run, offer, part, file);
    if (status == KITH_OK) {
        status = check_file(run, file, part, offer);
        if (status == KITH_ECORRUPT)
            (void)run->fs->unlink(run->fs, part);
    }
    run->fs->close(file);
    if (status != KITH_OK)
        return status;
    status = run->fs->rename(run->fs, part, path);
    if (status == KITH_OK)
        status = run->fs->sync_folder(run->fs, run->folder);
    if (status != KITH_OK)
        kith_error_set(&run->error, status, "%s cannot be renamed: %s", part, kith_status_text(status));
    return status;
}

static int reconnect(struct run *run)
{
    kith_client_close(run->client);
    run->client = NULL;
    return connect_to_server(run);
}

static int fetch_checkpoint(struct run *run, struct offer *offer)
{
    int status = KITH_OK;
    for (unsigned anew = 0; anew < ANEW_MAX; anew++) {
        *offer = (struct offer){0};
        status = find_part(run, offer);
        if (status == KITH_ENOENT)
            status = open_remote(run, 0, offer);
        if (status == KITH_OK)
            status = fetch(run, offer);
        if (status != KITH_ENOENT)
            return status;
        status = reconnect(run); /* replies to what was asked ahead are on their way */
        if (status != KITH_OK)
            return status;
        kith_error_set(&run->error, KITH_ENOENT, "the server lets go of its checkpoint again and again");
        status = KITH_ENOENT;
    }
    return status;
}

static void print_bytes(const char *what, uint64_t bytes)
{
    char text[32];
    printf("%s %s bytes", what, kith_progress_thousands(text, bytes));
}

/* --- the log --- */

static int note_last(void *context, const struct kith_record *record)
{
    struct run *run = context;
    run->last_term = record->term;
    return KITH_OK;
}

static int open_folder(struct run *run)
{
    struct kith_store_options options = {
        .fs = run->fs, .dir = run->folder, .join_group = run->group_id, .backup = true};
    int status = kith_store_open(&run->store, &options, &run->error);
    if (status != KITH_OK)
        return status;
    const struct kith_store_found *found = kith_store_get_found(run->store);
    if (found->state.folder_id != run->group_id)
        return kith_error_set(&run->error, KITH_EPERM,
                              "%s is a backup of group %016" PRIx64 ", and this server belongs to %016" PRIx64
                              ": give another folder",
                              run->folder, found->state.folder_id, run->group_id);
    return KITH_OK;
}

/* Where the folder's log ends. */
static int read_folder_end(struct run *run)
{
    const struct kith_store_found *found = kith_store_get_found(run->store);
    run->last_term = 0;
    int status = kith_store_read_tail(run->store, note_last, run, &run->error);
    if (status != KITH_OK)
        return status;
    run->last_index = found->last_index;
    if (found->has_checkpoint && found->checkpoint.index == run->last_index)
        run->last_term = found->checkpoint.term;
    return KITH_OK;
}

static int open_log(struct run *run)
{
    struct kith_log_options options = {
        .segment_bytes = SEGMENT_BYTES, .queue_bytes = QUEUE_BYTES, .sync = KITH_LOG_SYNC_EACH_GROUP};
    return run->log ? KITH_OK : kith_store_open_log(run->store, &run->log, &options, &run->error);
}

/* Takes the reply's entry as the next one. */
static int add_entry(struct run *run, const struct kith_value *value)
{
    const struct kith_value *item = value->items;
    bool good = value->type == KITH_VALUE_ARRAY && value->count == 4 && item[0].type == KITH_VALUE_INT &&
                (uint64_t)item[0].integer == run->last_index + 1 && item[1].type == KITH_VALUE_INT &&
                item[1].integer > 0 && item[2].type == KITH_VALUE_INT &&
                item[2].integer >= KITH_RECORD_COMMAND && item[2].integer <= KITH_RECORD_CONFIGURATION &&
                item[3].type == KITH_VALUE_STRING;
    if (!good)
        return bad_answer(run);
    struct kith_log_entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return kith_error_set(&run->error, KITH_ENOMEM, "out of memory");
    kith_buf_append(&entry->payload, item[3].text.data, item[3].text.length);
    atomic_init(&entry->references, 1);
    entry->index = (uint64_t)item[0].integer;
    entry->term = (uint64_t)item[1].integer;
    entry->kind = (enum kith_record_kind)item[2].integer;
    if (entry->payload.failed) {
        kith_log_entry_release(entry);
        return kith_error_set(&run->error, KITH_ENOMEM, "out of memory");
    }
    int64_t ms;
    if (entry->kind == KITH_RECORD_COMMAND && kith_entry_time(item[3].text, &ms) == KITH_OK &&
        ms > run->last_ms)
        run->last_ms = ms;
    run->last_index = entry->index;
    run->last_term = entry->term;
    run->added++;
    kith_log_append(run->log, entry);
    return KITH_OK;
}

static int add_entries(struct run *run, const struct kith_value *entries)
{
    int status = entries->count ? open_log(run) : KITH_OK;
    for (size_t i = 0; i < entries->count && status == KITH_OK; i++)
        status = add_entry(run, &entries->items[i]);
    if (status != KITH_OK || !run->log)
        return status;
    status = kith_log_flush(run->log);
    if (status != KITH_OK)
        (void)kith_log_failure(run->log, &run->error);
    return status;
}

static int cannot_go_on(struct run *run, const char *why)
{
    char text[200];
    snprintf(text, sizeof text, "%.*s", (int)sizeof text - 1, why);
    return kith_error_set(&run->error, KITH_ENOENT,
                          "the backup in %s ends with entry %" PRIu64
                          ", and the server's log does not go on from there: %s. With --checkpoint a new "
                          "stretch begins; between the two "
                          "there is no point in time",
                          run->settings->target, run->last_index, text);
}

/* One answer's worth. *wanted: the last entry that there was. */
static int fetch_log_once(struct run *run, uint64_t *wanted)
{
    struct kith_value reply;
    uint64_t last = 0, previous = 0;
    int status = call(run, "LOG", run->last_index + 1, &reply);
    if (status == KITH_ENOENT)
        return cannot_go_on(run, run->error.text);
    if (status != KITH_OK)
        return status;
    const struct kith_value *entries = field(&reply, "entries");
    if (!take_number(&reply, "last-index", &last) || !take_number(&reply, "previous-term", &previous) ||
        !entries || entries->type != KITH_VALUE_ARRAY)
        status = bad_answer(run);
    else if (entries->count && !previous)
        status = cannot_go_on(run, "it does not have that entry any more");
    else if (previous && run->last_term && previous != run->last_term)
        status = cannot_go_on(run, "another entry stands there: the server has lost what it had acknowledged "
                                   "without a sync");
    else
        status = add_entries(run, entries);
    kith_value_fini(&reply);
    *wanted = last;
    return status;
}

static int fetch_log(struct run *run)
{
    uint64_t wanted = 0, last = 0;
    int status = KITH_OK;
    do { /* up to what there was at the beginning: more comes all the time */
        status = fetch_log_once(run, &last);
        if (!wanted)
            wanted = last;
    } while (status == KITH_OK && run->last_index < wanted && !stopping);
    while (status == KITH_OK && run->settings->follow && !stopping) {
        uint64_t before = run->last_index;
        status = fetch_log_once(run, &last);
        if (status == KITH_OK && run->last_index == before)
            sleep_ms(run->settings->every_s * 1000);
    }
    return status;
}

/* --- all together --- */

static int backup_to_file(struct run *run)
{
    struct stat about;
    struct offer offer;
    if (stat(run->settings->target, &about) == 0)
        return kith_error_set(&run->error, KITH_EEXIST,
                              "%s is there already: remove it, or give another name", run->settings->target);
    int status = fetch_checkpoint(run, &offer);
    if (status != KITH_OK)
        return status;
    printf("%s: entry %" PRIu64 " of group %016" PRIx64 ",", run->settings->target, offer.index,
           run->group_id);
    print_bytes("", offer.bytes);
    putchar('\n');
    return KITH_OK;
}

static int backup_to_folder(struct run *run)
{
    const struct settings *s = run->settings;
    struct offer offer;
    int status = open_folder(run);
    if (status != KITH_OK)
        return status;
    if (!s->log || s->checkpoint || !kith_store_get_found(run->store)->has_checkpoint) {
        status = fetch_checkpoint(run, &offer);
        if (status != KITH_OK)
            return status;
        printf("%s: checkpoint of entry %" PRIu64 " of group %016" PRIx64 ",", s->target, offer.index,
               run->group_id);
        print_bytes("", offer.bytes);
        putchar('\n');
        fflush(stdout);
        kith_store_close(run->store); /* to be read again, with the checkpoint */
        run->store = NULL;
        status = open_folder(run);
    }
    if (status != KITH_OK || !s->log)
        return status;
    status = read_folder_end(run);
    if (status == KITH_OK)
        status = fetch_log(run);
    int closed = kith_log_close(run->log);
    run->log = NULL;
    if (status == KITH_OK && closed != KITH_OK)
        status = kith_error_set(&run->error, closed, "the log in %s cannot be written: %s", run->folder,
                                kith_status_text(closed));
    if (status == KITH_OK) {
        char count[32];
        printf("%s: log up to entry %" PRIu64 ", %s of them new\n", s->target, run->last_index,
               kith_progress_thousands(count, run->added));
    }
    return status;
}

static bool is_folder(const struct settings *s)
{
    struct stat about;
    size_t length = strlen(s->target);
    return s->log || (length && s->target[length - 1] == '/') ||
           (stat(s->target, &about) == 0 && S_ISDIR(about.st_mode));
}

/* The folder that the target is, or lies in, without a slash at its end. */
static void find_folder(struct run *run)
{
    snprintf(run->folder, sizeof run->folder, "%s", run->settings->target);
    size_t length = strlen(run->folder);
    if (run->to_folder) {
        while (length > 1 && run->folder[length - 1] == '/')
            run->folder[--length] = '\0';
        return;
    }
    char *slash = strrchr(run->folder, '/');
    if (!slash)
        snprintf(run->folder, sizeof run->folder, ".");
    else
        slash[slash == run->folder] = '\0';
}

int kith_backup_main(int argc, char **argv, struct kith_options *options)
{
    struct settings settings = {.options = options, .every_s = 1};
    struct run *run = calloc(1, sizeof *run);
    char name[] = "kith backup";
    argv[0] = name;
    if (!run || argp_parse(&argp, argc, argv, 0, NULL, &settings)) {
        free(run);
        return KITH_EXIT_USAGE;
    }
    run->settings = &settings;
    run->fs = kith_fs_posix();
    run->to_folder = is_folder(&settings);
    int status = strlen(settings.target) < 3000
                     ? KITH_OK
                     : kith_error_set(&run->error, KITH_ETOOBIG, "the path is too long");
    find_folder(run);
    if (settings.follow) { /* ends with all that it has on the disk */
        signal(SIGTERM, on_signal);
        signal(SIGINT, on_signal);
    }
    if (status == KITH_OK)
        status = connect_to_server(run);
    if (status == KITH_OK)
        status = run->to_folder ? backup_to_folder(run) : backup_to_file(run);
    int code = status == KITH_OK ? KITH_EXIT_OK : kith_complain(&run->error);
    kith_store_close(run->store);
    kith_client_close(run->client);
    free(run);
    return code;
}
