/* The interactive client: a line editor (libedit) with history, completion and hints around one connection. A command
 * is never sent twice: when the connection is lost before a reply came, the user is told that it may have been carried
 * out, and decides. */
#include "prog/kith_docs.h"
#include "prog/kith_options.h"
#include "prog/progress.h"
#include "wire/request.h"

#include "base/os.h"

#include <ctype.h>
#include <fcntl.h>
#include <histedit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    HISTORY_LINES = 2000,
    SLOW_MS = 500, /* from here on the time is shown */
    COMPLETIONS_SHOWN = 200,
};

struct shell {
    struct kith_options *options;
    struct kith_client *client; /* NULL: not connected */
    struct kith_docs docs;
    bool has_docs;
    EditLine *editor;
    History *history;
    char history_path[512]; /* "": none is kept */
    char prompt[400];
    char address[300], database[24];
    bool is_transaction;
    bool is_submitting; /* Enter was pressed: the hint goes away */
    struct kith_buf hint, words;
    struct kith_slice *slices;
    size_t slice_count, slice_capacity;
    bool is_done;
};

/* ---- the connection ---- */

static void disconnect(struct shell *shell)
{
    kith_client_close(shell->client);
    shell->client = NULL;
    shell->is_transaction = false;
}

static void load_docs(struct shell *shell)
{
    struct kith_value reply = {0};
    if (shell->has_docs)
        return;
    /* Without them there are no hints, and nothing else is lost. */
    if (kith_client_call_words(shell->client, &reply, NULL, "COMMAND", "DOCS", (char *)NULL) == KITH_OK)
        shell->has_docs = kith_docs_init(&shell->docs, &reply) == KITH_OK && shell->docs.count;
    kith_value_fini(&reply);
}

static bool connect_server(struct shell *shell)
{
    if (shell->client && !kith_client_is_closed(shell->client))
        return true;
    disconnect(shell);
    /* A new connection is on the database that the prompt shows. */
    shell->options->client.database = shell->database;
    if (kith_options_connect(shell->options, &shell->client))
        return false;
    load_docs(shell);
    return true;
}

static void follow_state(struct shell *shell, const struct kith_slice *argv, size_t argc,
                         const struct kith_value *reply)
{
    if (reply->type == KITH_VALUE_ERROR)
        return;
    if (kith_slice_is(argv[0], "SELECT") && argc == 2 && argv[1].length < sizeof shell->database)
        snprintf(shell->database, sizeof shell->database, "%.*s", (int)argv[1].length, argv[1].data);
    else if (kith_slice_is(argv[0], "RESET"))
        snprintf(shell->database, sizeof shell->database, "0");
    else if (kith_slice_is(argv[0], "HELLO") && argc > 1)
        shell->options->client.protocol = kith_slice_is(argv[1], "3") ? 3 : 2;
    if (kith_slice_is(argv[0], "MULTI"))
        shell->is_transaction = true;
    else if (kith_slice_is(argv[0], "EXEC") || kith_slice_is(argv[0], "DISCARD") ||
             kith_slice_is(argv[0], "RESET"))
        shell->is_transaction = false;
}

static bool is_endless(struct kith_slice name)
{
    return kith_slice_is(name, "MONITOR") || kith_slice_is(name, "SUBSCRIBE") ||
           kith_slice_is(name, "PSUBSCRIBE") || kith_slice_is(name, "SSUBSCRIBE");
}

static void run_command(struct shell *shell, const struct kith_slice *argv, size_t argc)
{
    struct kith_value reply;
    struct kith_error error;
    if (!connect_server(shell))
        return;
    uint64_t start = kith_os_monotonic_ns();
    int status = kith_client_call(shell->client, argv, argc, &reply, &error);
    while (!status) {
        kith_options_print(shell->options, &reply);
        follow_state(shell, argv, argc, &reply);
        bool is_last = !is_endless(argv[0]) || reply.type == KITH_VALUE_ERROR;
        kith_value_fini(&reply);
        if (is_last)
            break;
        fflush(stdout);
        status = kith_client_reply(shell->client, &reply, &error);
    }
    if (kith_is_goodbye(argv[0], status)) {
        disconnect(shell);
        return;
    }
    if (status) {
        kith_complain(&error);
        if (!kith_slice_is(argv[0], "QUIT"))
            fputs("The command may or may not have been carried out.\n", stderr);
        disconnect(shell);
        return;
    }
    double seconds = (double)(kith_os_monotonic_ns() - start) / 1e9;
    if (seconds * 1000 >= SLOW_MS)
        printf("(%.2f s)\n", seconds);
}

/* ---- help ---- */

static void print_entry(const struct kith_docs_entry *entry)
{
    struct kith_buf syntax;
    kith_buf_init(&syntax);
    kith_docs_syntax(entry, &syntax);
    struct kith_slice summary = kith_docs_text(entry, "summary"), since = kith_docs_text(entry, "since"),
                      group = kith_docs_text(entry, "group");
    printf("\n  \033[1m%s\033[0m %.*s\n", entry->name, (int)syntax.length, syntax.length ? syntax.data : "");
    printf("  summary: %.*s\n", (int)summary.length, summary.data);
    printf("  since: %.*s\n", (int)since.length, since.data);
    printf("  group: %.*s\n", (int)group.length, group.data);
    kith_buf_fini(&syntax);
}

/* Whether `name` is the command's, or begins with it as a container's subcommand does. */
static bool is_about(const char *name, const char *topic)
{
    size_t length = strlen(topic);
    return strncasecmp(name, topic, length) == 0 && (name[length] == '\0' || name[length] == ' ');
}

static void print_help(struct shell *shell, const char *topic)
{
    size_t found = 0;
    if (!*topic) {
        puts("  help COMMAND    what a command does and takes\n"
             "  help @GROUP     the commands of a group: @string @hash @sorted_set @generic @connection "
             "@server ...\n"
             "  Tab             completes command names and keywords\n"
             "  quit            leaves (so does Ctrl-D); clear empties the screen");
        return;
    }
    if (connect_server(shell))
        load_docs(shell);
    for (size_t i = 0; i < shell->docs.count; i++) {
        const struct kith_docs_entry *entry = &shell->docs.entries[i];
        struct kith_slice group = kith_docs_text(entry, "group");
        bool is_group = *topic == '@' && group.length == strlen(topic + 1) &&
                        strncasecmp(group.data, topic + 1, group.length) == 0;
        if (!is_group && !is_about(entry->name, topic))
            continue;
        print_entry(entry);
        found++;
    }
    puts(found ? "" : "  nothing is known by this name: help shows what there is");
}

/* ---- the line editor's callbacks ---- */

static struct shell *shell_of(EditLine *editor)
{
    void *data = NULL;
    el_get(editor, EL_CLIENTDATA, &data);
    return data;
}

static char *get_prompt(EditLine *editor)
{
    struct shell *shell = shell_of(editor);
    const char *transaction = shell->is_transaction ? "(TX)" : "";
    if (!shell->client)
        snprintf(shell->prompt, sizeof shell->prompt, "not connected> ");
    else if (strcmp(shell->database, "0") != 0)
        snprintf(shell->prompt, sizeof shell->prompt, "%s[%s]%s> ", shell->address, shell->database,
                 transaction);
    else
        snprintf(shell->prompt, sizeof shell->prompt, "%s%s> ", shell->address, transaction);
    return shell->prompt;
}

/* Cuts a line that is being typed into words, quotes being open or not. */
static void split_typed(struct shell *shell, const char *text, size_t length)
{
    shell->slice_count = 0;
    kith_buf_clear(&shell->words);
    if (kith_request_split_line(kith_slice(text, length), &shell->words, &shell->slices, &shell->slice_count,
                                &shell->slice_capacity))
        shell->slice_count = 0;
}

static unsigned terminal_columns(void)
{
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
}

/* What may follow, in dim letters at the right; "" when there is no room for it. */
static char *get_hint(EditLine *editor)
{
    struct shell *shell = shell_of(editor);
    static const char dim[] = "\1\033[2m\1", plain[] = "\1\033[0m\1";
    const LineInfo *line = el_line(editor);
    size_t length = (size_t)(line->lastchar - line->buffer), word_count;
    kith_buf_clear(&shell->hint);
    split_typed(shell, line->buffer, length);
    const struct kith_docs_entry *entry = NULL;
    /* Only behind a finished word: what is being typed is not hidden by its own hint. */
    if (!shell->is_submitting && shell->slice_count && length && line->buffer[length - 1] == ' ')
        entry = kith_docs_find(&shell->docs, shell->slices, shell->slice_count, &word_count);
    if (entry) {
        size_t columns = terminal_columns(), used = strlen(shell->prompt) + length + 4;
        kith_buf_append_text(&shell->hint, dim);
        kith_docs_hint(entry, shell->slices + word_count, shell->slice_count - word_count, &shell->hint);
        size_t room = columns > used ? columns - used : 0;
        if (shell->hint.length - (sizeof dim - 1) > room) {
            shell->hint.length = sizeof dim - 1 + (room > 12 ? room - 3 : 0);
            kith_buf_append_text(&shell->hint, room > 12 ? "..." : "");
        }
        kith_buf_append_text(&shell->hint, plain);
        if (shell->hint.length == sizeof dim - 1 + sizeof plain - 1)
            kith_buf_clear(&shell->hint); /* nothing to say: no colours either */
    }
    kith_buf_append_char(&shell->hint, '\0');
    return shell->hint.failed ? (char *)"" : shell->hint.data;
}

/* Letters are inserted by us, so that the hint is drawn anew after each. */
static unsigned char on_letter(EditLine *editor, int c)
{
    char text[2] = {(char)c, '\0'};
    return el_insertstr(editor, text) ? CC_ERROR : CC_REFRESH;
}

/* Takes the hint away, then lets libedit end the line (Ctrl-O is bound to that). */
static unsigned char on_enter(EditLine *editor, int c)
{
    (void)c;
    shell_of(editor)->is_submitting = true;
    el_set(editor, EL_REFRESH);
    el_push(editor, "\017");
    return CC_NORM;
}

struct completion {
    struct kith_slice prefix;
    struct kith_slice found[COMPLETIONS_SHOWN];
    size_t count;
};

static void offer(void *context, struct kith_slice word)
{
    struct completion *c = context;
    bool fits = word.length >= c->prefix.length &&
                (!c->prefix.length || strncasecmp(word.data, c->prefix.data, c->prefix.length) == 0);
    for (size_t i = 0; fits && i < c->count; i++)
        fits = !kith_slice_equal(c->found[i], word);
    if (fits && c->count < COMPLETIONS_SHOWN)
        c->found[c->count++] = word;
}

/* The names' words at position `index` whose words before are those typed. */
static void offer_names(struct shell *shell, size_t index, struct completion *c)
{
    for (size_t i = 0; i < shell->docs.count; i++) {
        const char *name = shell->docs.entries[i].name;
        size_t w = 0;
        while (w < index && *name) {
            size_t length = strcspn(name, " ");
            if (shell->slices[w].length != length || strncasecmp(shell->slices[w].data, name, length) != 0)
                break;
            name += length + (name[length] == ' ');
            w++;
        }
        if (w == index && *name)
            offer(c, kith_slice(name, strcspn(name, " ")));
    }
}

static size_t common_prefix(const struct completion *c)
{
    size_t common = c->found[0].length;
    for (size_t i = 1; i < c->count; i++) {
        size_t n = 0;
        while (n < common && n < c->found[i].length && c->found[0].data[n] == c->found[i].data[n])
            n++;
        common = n;
    }
    return common;
}

static void show_completions(const struct completion *c)
{
    unsigned width = 0, columns = terminal_columns(), column = 0;
    for (size_t i = 0; i < c->count; i++)
        width = c->found[i].length > width ? (unsigned)c->found[i].length : width;
    width += 2;
    putchar('\n');
    for (size_t i = 0; i < c->count; i++) {
        if (column && column + width > columns) {
            putchar('\n');
            column = 0;
        }
        printf("%-*.*s", (int)width, (int)c->found[i].length, c->found[i].data);
        column += width;
    }
    puts(c->count == COMPLETIONS_SHOWN ? "..." : "");
    fflush(stdout);
}

/* Who types small letters gets small letters. */
static bool is_lower(struct kith_slice text)
{
    return text.length && islower((unsigned char)text.data[text.length - 1]);
}

static void make_lower(char *text)
{
    for (; *text; text++)
        *text = (char)tolower((unsigned char)*text);
}

static unsigned char on_tab(EditLine *editor, int c)
{
    struct shell *shell = shell_of(editor);
    struct completion completion = {0};
    const LineInfo *line = el_line(editor);
    size_t length = (size_t)(line->cursor - line->buffer), word_count;
    (void)c;
    split_typed(shell, line->buffer, length);
    bool in_word = length && line->buffer[length - 1] != ' ';
    if (in_word && !shell->slice_count)
        return CC_ERROR;
    size_t index = shell->slice_count - in_word;
    if (in_word)
        completion.prefix = shell->slices[index];
    offer_names(shell, index, &completion);
    const struct kith_docs_entry *entry = kith_docs_find(&shell->docs, shell->slices, index, &word_count);
    if (entry && !completion.count)
        kith_docs_tokens(entry, offer, &completion);
    if (!completion.count)
        return CC_REFRESH_BEEP;
    size_t common = common_prefix(&completion);
    if (completion.count > 1 && common <= completion.prefix.length) {
        show_completions(&completion);
        return CC_REDISPLAY;
    }
    char text[256];
    snprintf(text, sizeof text, "%.*s%s", (int)common, completion.found[0].data,
             completion.count == 1 ? " " : "");
    if (is_lower(completion.prefix))
        make_lower(text);
    if (completion.prefix.length)
        el_deletestr(editor, (int)completion.prefix.length);
    return el_insertstr(editor, text) ? CC_ERROR : CC_REFRESH;
}

/* ---- history ---- */

static void open_history(struct shell *shell)
{
    HistEvent event;
    const char *home = getenv("HOME"), *path = getenv("KITH_HISTORY");
    shell->history = history_init();
    if (!shell->history)
        return;
    history(shell->history, &event, H_SETSIZE, HISTORY_LINES);
    history(shell->history, &event, H_SETUNIQUE, 1);
    if (path)
        snprintf(shell->history_path, sizeof shell->history_path, "%s", path);
    else if (home)
        snprintf(shell->history_path, sizeof shell->history_path, "%s/.kith_history", home);
    if (*shell->history_path)
        history(shell->history, &event, H_LOAD, shell->history_path);
}

/* The file is for its owner alone: keys and values are in it. */
static void save_history(struct shell *shell)
{
    HistEvent event;
    if (!*shell->history_path)
        return;
    int fd = open(shell->history_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    bool is_private = fd >= 0 && fchmod(fd, 0600) == 0;
    if (fd >= 0)
        close(fd);
    if (is_private)
        history(shell->history, &event, H_SAVE, shell->history_path);
}

/* Passwords are not kept: AUTH, HELLO ... AUTH, ACL SETUSER, CONFIG SET requirepass. */
static bool is_secret(const struct kith_slice *argv, size_t argc)
{
    if (kith_slice_is(argv[0], "AUTH"))
        return true;
    bool may_hold = kith_slice_is(argv[0], "HELLO") || kith_slice_is(argv[0], "ACL") ||
                    kith_slice_is(argv[0], "CONFIG") || kith_slice_is(argv[0], "MIGRATE");
    for (size_t i = 1; may_hold && i < argc; i++) {
        if (kith_slice_is(argv[i], "AUTH") || kith_slice_is(argv[i], "AUTH2") ||
            kith_slice_is(argv[i], "SETUSER") || kith_slice_is(argv[i], "requirepass") ||
            kith_slice_is(argv[i], "masterauth"))
            return true;
    }
    return false;
}

static void remember(struct shell *shell, const char *line)
{
    HistEvent event;
    if (!shell->history || (shell->slice_count && is_secret(shell->slices, shell->slice_count)))
        return;
    history(shell->history, &event, H_ENTER, line);
}

/* ---- the loop ---- */

static bool open_editor(struct shell *shell)
{
    shell->editor = el_init("kith", stdin, stdout, stderr);
    if (!shell->editor)
        return false;
    el_set(shell->editor, EL_CLIENTDATA, shell);
    el_set(shell->editor, EL_SIGNAL, 1);
    el_set(shell->editor, EL_EDITOR, "emacs");
    if (shell->history)
        el_set(shell->editor, EL_HIST, history, shell->history);
    el_set(shell->editor, EL_PROMPT, get_prompt);
    el_set(shell->editor, EL_RPROMPT_ESC, get_hint, '\1');
    el_set(shell->editor, EL_ADDFN, "kith-letter", "inserts a letter and hints", on_letter);
    el_set(shell->editor, EL_ADDFN, "kith-enter", "removes the hint and ends the line", on_enter);
    el_set(shell->editor, EL_ADDFN, "kith-tab", "completes", on_tab);
    for (const char *c = " abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"; *c; c++) {
        char key[2] = {*c, '\0'};
        el_set(shell->editor, EL_BIND, key, "kith-letter", NULL);
    }
    el_set(shell->editor, EL_BIND, "^O", "ed-newline", NULL);
    el_set(shell->editor, EL_BIND, "^J", "kith-enter", NULL);
    el_set(shell->editor, EL_BIND, "^M", "kith-enter", NULL);
    el_set(shell->editor, EL_BIND, "^I", "kith-tab", NULL);
    el_set(shell->editor, EL_BIND, "^R", "em-inc-search-prev", NULL);
    /* The user's own ~/.editrc has the last word; that there is none is well. */
    (void)el_source(shell->editor, NULL);
    return true;
}

static void take_line(struct shell *shell, const char *text, size_t length)
{
    shell->slice_count = 0;
    kith_buf_clear(&shell->words);
    int status = kith_request_split_line(kith_slice(text, length), &shell->words, &shell->slices,
                                         &shell->slice_count, &shell->slice_capacity);
    if (!status && !shell->slice_count)
        return;
    remember(shell, text);
    if (status) {
        puts(status == KITH_EINVAL ? "A quote is not closed, or a word goes on behind one."
                                   : "Out of memory.");
        return;
    }
    const struct kith_slice *argv = shell->slices;
    if (kith_slice_is(argv[0], "quit") || kith_slice_is(argv[0], "exit")) {
        shell->is_done = true;
    } else if (kith_slice_is(argv[0], "clear") && shell->slice_count == 1) {
        fputs("\033[H\033[2J", stdout);
    } else if (kith_slice_is(argv[0], "help") || kith_slice_is(argv[0], "?")) {
        char topic[100] = "";
        for (size_t i = 1, used = 0; i < shell->slice_count && used < sizeof topic - 1; i++)
            used += (size_t)snprintf(topic + used, sizeof topic - used, "%s%.*s", i > 1 ? " " : "",
                                     (int)argv[i].length, argv[i].data);
        print_help(shell, topic);
    } else {
        run_command(shell, argv, shell->slice_count);
    }
}

int kith_shell_main(struct kith_options *options)
{
    struct shell shell = {.options = options};
    kith_client_address(&options->client, shell.address, sizeof shell.address);
    snprintf(shell.database, sizeof shell.database, "%s",
             options->client.database ? options->client.database : "0");
    open_history(&shell);
    int code = KITH_EXIT_FAILURE;
    if (!open_editor(&shell)) {
        fputs("kith: the terminal cannot be used for line editing\n", stderr);
        goto out;
    }
    (void)connect_server(&shell); /* if it fails it has said so, and each command tries again */
    code = KITH_EXIT_OK;
    while (!shell.is_done) {
        int count = 0;
        shell.is_submitting = false;
        const char *line = el_gets(shell.editor, &count);
        if (!line || count <= 0)
            break;
        size_t length = (size_t)count - (line[count - 1] == '\n');
        char *copy = strndup(line, length);
        if (!copy)
            break;
        take_line(&shell, copy, length);
        free(copy);
        fflush(stdout);
    }
    save_history(&shell);
out:
    if (shell.editor)
        el_end(shell.editor);
    if (shell.history)
        history_end(shell.history);
    disconnect(&shell);
    kith_docs_fini(&shell.docs);
    kith_buf_fini(&shell.hint);
    kith_buf_fini(&shell.words);
    free(shell.slices);
    return code;
}
