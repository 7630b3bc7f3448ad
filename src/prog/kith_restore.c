/* kith restore and kith recover: a data folder out of a backup, and out of what the survivor of a lost group has. Both are
 * offline and make a new folder; what they read stays as it is. */
#include "prog/kith_options.h"
#include "prog/progress.h"
#include "repl/restore.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct settings {
    const char *from, *to;
    const char *until;
    bool yes, recover;
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct settings *s = state->input;
    switch (key) {
    case 'u':
        s->until = arg;
        return 0;
    case 'y':
        s->yes = true;
        return 0;
    case ARGP_KEY_ARG:
        if (s->to)
            argp_error(state, "'%s' is too many", arg);
        *(s->from ? &s->to : &s->from) = arg;
        return 0;
    case ARGP_KEY_END:
        if (!s->to)
            argp_error(state, s->recover ? "two folders are needed: the survivor's, and a new one"
                                         : "a backup and a new folder are needed");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option restore_options[] = {
    {"until", 'u', "WHEN", 0, "an entry's number, or a time: 2026-11-20T22:15:03.5Z (UTC)", 0},
    {0},
};
static const struct argp restore_argp = {
    restore_options,
    parse_option,
    "BACKUP NEW-FOLDER",
    "Makes a data folder of what kith backup has written: a file, or a folder of checkpoints and log.\v"
    "All of it is checked before the first byte is written. kithd --dir NEW-FOLDER then founds a group of "
    "its own with it: "
    "a new group id, so that it is never confused with the one that was copied; other nodes join it with "
    "empty folders.",
    NULL,
    NULL,
    NULL};

static const struct argp_option recover_options[] = {
    {"yes", 'y', NULL, 0, "do not ask", 0},
    {0},
};
static const struct argp recover_argp = {
    recover_options,
    parse_option,
    "FOLDER NEW-FOLDER",
    "For a group that has lost its majority for good: makes a new group, of one node, out of what a survivor "
    "has.\v"
    "FOLDER is the data folder of a stopped survivor, best of the one with the highest last entry; it stays "
    "as it is. What was "
    "acknowledged by the lost majority and never reached this node is lost. Start kithd on NEW-FOLDER; the "
    "other nodes join it with "
    "empty folders. As long as a majority can be brought back, do that instead.",
    NULL,
    NULL,
    NULL};

/* --- times --- */

static const char *time_text(char out[64], int64_t ms)
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    char day[40] = "?";
    if (gmtime_r(&seconds, &tm))
        strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out, 64, "%s.%03dZ", day, (int)(ms % 1000));
    return out;
}

/* "2026-11-20T22:15:03.5Z", a blank for T, and no fraction and no Z will do. False: it is none. */
static bool parse_time(const char *text, int64_t *ms)
{
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%d", &tm);
    if (!rest || (*rest != 'T' && *rest != ' '))
        return false;
    rest = strptime(rest + 1, "%H:%M:%S", &tm);
    if (!rest)
        return false;
    *ms = (int64_t)timegm(&tm) * 1000;
    if (*rest == '.') {
        int64_t unit = 100;
        for (rest++; *rest >= '0' && *rest <= '9'; rest++, unit /= 10)
            *ms += (*rest - '0') * unit;
    }
    return *ms >= 0 && (!*rest || strcmp(rest, "Z") == 0);
}

static int parse_until(const struct settings *s, struct kith_restore_options *out, struct kith_error *error)
{
    char *end;
    if (!s->until)
        return KITH_OK;
    out->until_index = strtoull(s->until, &end, 10);
    out->until = KITH_RESTORE_INDEX;
    if (s->until[0] >= '0' && s->until[0] <= '9' && !*end && out->until_index)
        return KITH_OK;
    out->until = KITH_RESTORE_TIME;
    if (parse_time(s->until, &out->until_ms))
        return KITH_OK;
    return kith_error_set(error, KITH_EINVAL,
                          "'%s' is neither an entry's number nor a time: 2026-11-20T22:15:03Z, in UTC",
                          s->until);
}

/* --- restore --- */

static void print_made(const struct settings *s, const struct kith_restore_found *found,
                       const struct kith_restore_made *made)
{
    char entry[32], when[64];
    printf("%s: up to entry %s of %s%s\n", s->to, kith_progress_thousands(entry, found->last_index),
           time_text(when, found->last_ms), found->ends_early ? ", as asked for; the backup goes on" : "");
    printf("it was group %016" PRIx64 ", and is group %016" PRIx64 " now, of node %016" PRIx64 " alone\n",
           found->group_id, made->group_id, made->node_id);
}

int kith_restore_main(int argc, char **argv, struct kith_options *options)
{
    struct settings s = {0};
    struct kith_restore_options restore = {.source = KITH_RESTORE_BACKUP};
    struct kith_restore_found found;
    struct kith_restore_made made;
    struct kith_error error = {""};
    struct stat about;
    char name[] = "kith restore";
    argv[0] = name;
    if (argp_parse(&restore_argp, argc, argv, 0, NULL, &s))
        return KITH_EXIT_USAGE;
    restore.from = s.from;
    if (parse_until(&s, &restore, &error) != KITH_OK) {
        kith_complain(&error);
        return KITH_EXIT_USAGE;
    }
    if (stat(s.from, &about) != 0) {
        kith_error_set(&error, KITH_ENOENT, "%s: there is no such file or folder", s.from);
        return kith_complain(&error);
    }
    if (S_ISREG(about.st_mode))
        restore.source = KITH_RESTORE_FILE;
    if (kith_restore(&restore, s.to, &found, &made, &error) != KITH_OK)
        return kith_complain(&error);
    print_made(&s, &found, &made);
    return KITH_EXIT_OK;
}

/* --- recover --- */

/* Gathered, to be shown behind what was found. */
static void add_member(void *context, uint64_t id, const char *address, enum kith_core_member_role role)
{
    struct kith_buf *text = context;
    static const char *const roles[] = {"standby", "voter", "spare"};
    kith_buf_append_format(text, "  %016" PRIx64 "  %-9s %s\n", id, roles[role], address);
}

static void print_loss(const struct settings *s, const struct kith_restore_found *found)
{
    char last[32], committed[32], when[64];
    printf("%s is node %016" PRIx64 " of group %016" PRIx64 ", in term %" PRIu64 ".\n", s->from,
           found->node_id, found->group_id, found->term);
    printf(
        "Its last entry is %s, of %s. Up to %s it knows that the group had committed them; the others it had "
        "taken in.\n",
        kith_progress_thousands(last, found->last_index), time_text(when, found->last_ms),
        kith_progress_thousands(committed, found->committed));
    if (found->voters == 1)
        puts("It is the only voter of its group: kithd starts on it as it is, and nothing needs to be "
             "recovered.");
    printf("All of them are kept. So nothing that this node has is lost, and there may be writes among the "
           "last that nobody was told "
           "of.\nLost are the writes that the other nodes acknowledged without this one: of %zu voters, any "
           "%zu can.\n",
           found->voters, found->voters / 2 + 1);
}

static bool is_confirmed(const struct settings *s)
{
    char answer[16] = "";
    if (s->yes)
        return true;
    if (!isatty(STDIN_FILENO)) {
        fputs("kith: nothing was done: confirm with --yes\n", stderr);
        return false;
    }
    printf("Is the majority of the group lost for good, and is a new group to be made of this? Type yes: ");
    fflush(stdout);
    if (fgets(answer, sizeof answer, stdin) && strcmp(answer, "yes\n") == 0)
        return true;
    fputs("kith: nothing was done\n", stderr);
    return false;
}

int kith_recover_main(int argc, char **argv, struct kith_options *options)
{
    struct settings s = {.recover = true};
    struct kith_restore_options restore = {.source = KITH_RESTORE_NODE};
    struct kith_restore_found found = {0};
    struct kith_restore_made made;
    struct kith_error error = {""};
    struct kith_buf members = {0};
    char name[] = "kith recover";
    argv[0] = name;
    if (argp_parse(&recover_argp, argc, argv, 0, NULL, &s))
        return KITH_EXIT_USAGE;
    restore.from = s.from;
    int status = kith_restore_look(&restore, &found, add_member, &members, &error);
    if (status == KITH_OK) {
        print_loss(&s, &found);
        printf("The old group's members:\n%.*s", (int)members.length, members.data ? members.data : "");
        fflush(stdout);
    }
    kith_buf_fini(&members);
    if (status != KITH_OK)
        return kith_complain(&error);
    if (!is_confirmed(&s))
        return KITH_EXIT_FAILURE;
    if (kith_restore(&restore, s.to, &found, &made, &error) != KITH_OK)
        return kith_complain(&error);
    print_made(&s, &found, &made);
    puts("Start kithd with this folder. Each other node joins with an empty folder (--join); with its old "
         "one it is refused.");
    return KITH_EXIT_OK;
}
