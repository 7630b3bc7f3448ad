/* COMMAND: the table of commands, shown to clients. Everything comes from the rows. */
#include "base/glob.h"
#include "engine/commands/groups.h"
#include "engine/commands/help.h"
#include "engine/keyspec.h"
#include "engine/state.h"
#include "engine/syntax.h"

static bool is_subcommand(const struct kith_command *row)
{
    return strchr(row->name, '|') != NULL;
}

static bool is_child(const struct kith_command *row, const struct kith_command *parent)
{
    size_t length = strlen(parent->name);
    return strncmp(row->name, parent->name, length) == 0 && row->name[length] == '|';
}

/* By the name alone, "client|list" included; NULL when unknown. */
static const struct kith_command *by_name(struct kith_call *call, size_t index)
{
    return kith_command_find(&call->engine->commands, call->argv[index]);
}

/* Space-separated words. Returns false at the end; *at moves on. */
static bool next_word(struct kith_slice *rest, struct kith_slice *word)
{
    while (rest->length && *rest->data == ' ')
        *rest = kith_slice(rest->data + 1, rest->length - 1);
    size_t length = 0;
    while (length < rest->length && rest->data[length] != ' ')
        length++;
    *word = kith_slice(rest->data, length);
    *rest = kith_slice(rest->data + length, rest->length - length);
    return length > 0;
}

static struct kith_slice text_slice(const char *text)
{
    return kith_slice(text ? text : "", text ? strlen(text) : 0);
}

static void reply_status_slice(struct kith_reply *reply, const char *prefix, struct kith_slice text)
{
    kith_buf_append_format(reply->out, "+%s%.*s\r\n", prefix, (int)text.length, text.data);
}

/* --- COMMAND INFO. --- */

static const struct {
    uint32_t flag;
    const char *name;
} flag_names[] = {
    {KITH_CMD_WRITE, "write"},
    {KITH_CMD_READONLY, "readonly"},
    {KITH_CMD_DENYOOM, "denyoom"},
    {KITH_CMD_ADMIN, "admin"},
    {KITH_CMD_PUBSUB, "pubsub"},
    {KITH_CMD_NOSCRIPT, "noscript"},
    {KITH_CMD_BLOCKING, "blocking"},
    {KITH_CMD_LOADING, "loading"},
    {KITH_CMD_STALE, "stale"},
    {KITH_CMD_SKIP_MONITOR, "skip_monitor"},
    {KITH_CMD_SKIP_SLOWLOG, "skip_slowlog"},
    {KITH_CMD_FAST, "fast"},
    {KITH_CMD_NO_AUTH, "no_auth"},
    {KITH_CMD_NO_MANDATORY_KEYS, "no_mandatory_keys"},
    {KITH_CMD_NO_ASYNC_LOADING, "no_async_loading"},
    {KITH_CMD_MOVABLE_KEYS, "movablekeys"},
    {KITH_CMD_ALLOW_BUSY, "allow_busy"},
};

static void reply_flags(struct kith_reply *reply, const struct kith_command *row)
{
    struct kith_reply_mark mark = kith_reply_array_begin(reply);
    size_t count = 0;
    for (size_t i = 0; i < sizeof flag_names / sizeof flag_names[0]; i++) {
        if (!(row->flags & flag_names[i].flag))
            continue;
        kith_reply_simple(reply, flag_names[i].name);
        count++;
    }
    kith_reply_set_end(reply, mark, count);
}

/* The categories of the row's flags, then its own, in the order in which Redis lists them. */
static const char *const category_names[] = {
    "keyspace", "read",        "write",      "set",         "sortedset", "list",      "hash", "string",
    "bitmap",   "hyperloglog", "geo",        "stream",      "pubsub",    "admin",     "fast", "slow",
    "blocking", "dangerous",   "connection", "transaction", "scripting", "vectorset",
};

static bool has_word(const char *words, const char *word)
{
    struct kith_slice rest = text_slice(words), next;
    while (next_word(&rest, &next))
        if (kith_slice_is(next, word))
            return true;
    return false;
}

static bool in_category(const struct kith_command *row, const char *category)
{
    static const struct {
        const char *category;
        uint32_t flag;
    } implied[] = {
        {"read", KITH_CMD_READONLY}, {"write", KITH_CMD_WRITE},     {"admin", KITH_CMD_ADMIN},
        {"fast", KITH_CMD_FAST},     {"dangerous", KITH_CMD_ADMIN}, {"blocking", KITH_CMD_BLOCKING},
        {"pubsub", KITH_CMD_PUBSUB},
    };
    if (strcmp(category, "slow") == 0 && !(row->flags & KITH_CMD_FAST))
        return true;
    for (size_t i = 0; i < sizeof implied / sizeof implied[0]; i++)
        if (row->flags & implied[i].flag && strcmp(implied[i].category, category) == 0)
            return true;
    return has_word(row->categories, category);
}

static void reply_categories(struct kith_reply *reply, const struct kith_command *row)
{
    struct kith_reply_mark mark = kith_reply_array_begin(reply);
    size_t count = 0;
    for (size_t i = 0; i < sizeof category_names / sizeof category_names[0]; i++) {
        if (!in_category(row, category_names[i]))
            continue;
        reply_status_slice(reply, "@", text_slice(category_names[i]));
        count++;
    }
    kith_reply_set_end(reply, mark, count);
}

static void reply_tips(struct kith_reply *reply, const struct kith_command *row)
{
    struct kith_reply_mark mark = kith_reply_array_begin(reply);
    struct kith_slice rest = text_slice(row->tips), tip;
    size_t count = 0;
    for (; next_word(&rest, &tip); count++)
        kith_reply_bulk(reply, tip);
    kith_reply_set_end(reply, mark, count);
}

static void reply_words(struct kith_reply *reply, struct kith_slice words)
{
    struct kith_reply_mark mark = kith_reply_array_begin(reply);
    struct kith_slice word;
    size_t count = 0;
    for (; next_word(&words, &word); count++)
        reply_status_slice(reply, "", word);
    kith_reply_set_end(reply, mark, count);
}

static void reply_pair(struct kith_reply *reply, const char *name, int64_t value)
{
    kith_reply_bulk_text(reply, name);
    kith_reply_int(reply, value);
}

static void reply_keyspec(struct kith_reply *reply, const struct kith_keyspec *spec)
{
    kith_reply_map(reply, 3);
    kith_reply_bulk_text(reply, "flags");
    reply_words(reply, spec->flags);
    kith_reply_bulk_text(reply, "begin_search");
    kith_reply_map(reply, 2);
    kith_reply_bulk_text(reply, "type");
    kith_reply_bulk_text(reply, "index");
    kith_reply_bulk_text(reply, "spec");
    kith_reply_map(reply, 1);
    reply_pair(reply, "index", spec->first);
    kith_reply_bulk_text(reply, "find_keys");
    kith_reply_map(reply, 2);
    kith_reply_bulk_text(reply, "type");
    kith_reply_bulk_text(reply, spec->counted ? "keynum" : "range");
    kith_reply_bulk_text(reply, "spec");
    kith_reply_map(reply, 3);
    if (spec->counted) {
        reply_pair(reply, "keynumidx", 0);
        reply_pair(reply, "firstkey", 1);
        reply_pair(reply, "keystep", 1);
    } else {
        reply_pair(reply, "lastkey", spec->last < 0 ? spec->last : spec->last - spec->first);
        reply_pair(reply, "keystep", spec->step);
        reply_pair(reply, "limit", 0);
    }
}

static void reply_keyspecs(struct kith_reply *reply, const struct kith_command *row)
{
    struct kith_keyspec specs[KITH_KEYSPECS_MAX];
    size_t count = kith_keyspecs(row, specs);
    kith_reply_set(reply, count);
    for (size_t i = 0; i < count; i++)
        reply_keyspec(reply, &specs[i]);
}

static void reply_info(struct kith_reply *reply, const struct kith_command *row);

static void reply_subcommands(struct kith_reply *reply, const struct kith_command *parent)
{
    struct kith_reply_mark mark = kith_reply_array_begin(reply);
    const struct kith_command *row;
    size_t count = 0;
    for (size_t n = 0; parent->flags & KITH_CMD_SUBCOMMANDS && (row = kith_command_at(n)); n++) {
        if (!is_child(row, parent))
            continue;
        reply_info(reply, row);
        count++;
    }
    if (count)
        kith_reply_array_end(reply, mark, count);
    else
        kith_reply_set(reply, 0);
}

static void reply_info(struct kith_reply *reply, const struct kith_command *row)
{
    kith_reply_array(reply, 10);
    kith_reply_bulk_text(reply, row->name);
    kith_reply_int(reply, row->arity);
    reply_flags(reply, row);
    kith_reply_int(reply, row->keys.first);
    kith_reply_int(reply, row->keys.last);
    kith_reply_int(reply, row->keys.step);
    reply_categories(reply, row);
    reply_tips(reply, row);
    reply_keyspecs(reply, row);
    reply_subcommands(reply, row);
}

/* Calls `write` for each command that is not a subcommand; returns how many. */
static size_t each_command(struct kith_reply *reply,
                           void (*write)(struct kith_reply *reply, const struct kith_command *row))
{
    const struct kith_command *row;
    size_t count = 0;
    for (size_t n = 0; (row = kith_command_at(n)); n++) {
        if (is_subcommand(row))
            continue;
        if (write)
            write(reply, row);
        count++;
    }
    return count;
}

static void command_command(struct kith_call *call)
{
    struct kith_reply_mark mark = kith_reply_array_begin(call->reply);
    kith_reply_array_end(call->reply, mark, each_command(call->reply, reply_info));
}

static void command_info_command(struct kith_call *call)
{
    if (call->argc == 2) {
        command_command(call);
        return;
    }
    kith_reply_array(call->reply, call->argc - 2);
    for (size_t i = 2; i < call->argc; i++) {
        const struct kith_command *row = by_name(call, i);
        if (row)
            reply_info(call->reply, row);
        else
            kith_reply_null_array(call->reply);
    }
}

static void command_count_command(struct kith_call *call)
{
    kith_reply_int(call->reply, (int64_t)each_command(NULL, NULL));
}

/* --- COMMAND DOCS. --- */

/* What is on its way through the tree of arguments. */
struct arguments {
    const struct kith_syntax *syntax;
    size_t keyspec_count, key_count; /* key arguments met so far */
};

static void reply_text_pair(struct kith_reply *reply, const char *name, struct kith_slice value)
{
    kith_reply_bulk_text(reply, name);
    kith_reply_bulk(reply, value);
}

static void reply_arguments(struct kith_reply *reply, struct arguments *arguments, uint8_t first);

static void reply_argument(struct kith_reply *reply, struct arguments *arguments, uint8_t index)
{
    static const char *const kinds[] = {
        [KITH_SYNTAX_TOKEN] = "pure-token", [KITH_SYNTAX_ONEOF] = "oneof", [KITH_SYNTAX_BLOCK] = "block"};
    const struct kith_syntax_node *node = &arguments->syntax->nodes[index];
    struct kith_reply_mark mark = kith_reply_map_begin(reply);
    char name[64];
    size_t pairs = 2, length = kith_syntax_name(arguments->syntax, index, name, sizeof name);
    struct kith_slice type = node->kind == KITH_SYNTAX_VALUE ? node->type : text_slice(kinds[node->kind]);
    reply_text_pair(reply, "name", kith_slice(name, length));
    reply_text_pair(reply, "type", type);
    if (node->kind == KITH_SYNTAX_VALUE || node->kind == KITH_SYNTAX_TOKEN) {
        reply_text_pair(reply, "display_text", kith_slice(name, length));
        pairs++;
    }
    if (kith_slice_is(type, "key") && arguments->keyspec_count) {
        size_t last = arguments->keyspec_count - 1, spec = arguments->key_count++;
        reply_pair(reply, "key_spec_index", (int64_t)(spec < last ? spec : last));
        pairs++;
    }
    if (node->token.data) {
        reply_text_pair(reply, "token", node->token);
        pairs++;
    }
    if (node->optional || node->multiple) {
        kith_reply_bulk_text(reply, "flags");
        kith_reply_set(reply, (size_t)node->optional + node->multiple);
        if (node->optional)
            kith_reply_simple(reply, "optional");
        if (node->multiple)
            kith_reply_simple(reply, "multiple");
        pairs++;
    }
    if (node->child != KITH_SYNTAX_NONE) {
        kith_reply_bulk_text(reply, "arguments");
        reply_arguments(reply, arguments, node->child);
        pairs++;
    }
    kith_reply_map_end(reply, mark, pairs);
}

static void reply_arguments(struct kith_reply *reply, struct arguments *arguments, uint8_t first)
{
    const struct kith_syntax_node *nodes = arguments->syntax->nodes;
    size_t count = 0;
    for (uint8_t i = first; i != KITH_SYNTAX_NONE; i = nodes[i].next)
        count++;
    kith_reply_array(reply, count);
    for (uint8_t i = first; i != KITH_SYNTAX_NONE; i = nodes[i].next)
        reply_argument(reply, arguments, i);
}

static void reply_docs(struct kith_reply *reply, const struct kith_command *row);

/* Returns how many pairs it wrote: 1, or 0 when the row has no subcommands. */
static size_t reply_subcommand_docs(struct kith_reply *reply, const struct kith_command *parent)
{
    if (!(parent->flags & KITH_CMD_SUBCOMMANDS))
        return 0;
    kith_reply_bulk_text(reply, "subcommands");
    struct kith_reply_mark mark = kith_reply_map_begin(reply);
    const struct kith_command *row;
    size_t count = 0;
    for (size_t n = 0; (row = kith_command_at(n)); n++) {
        if (!is_child(row, parent))
            continue;
        reply_docs(reply, row);
        count++;
    }
    kith_reply_map_end(reply, mark, count);
    return 1;
}

/* The row's name and the map that describes it. */
static void reply_docs(struct kith_reply *reply, const struct kith_command *row)
{
    struct kith_syntax syntax;
    struct kith_keyspec specs[KITH_KEYSPECS_MAX];
    kith_reply_bulk_text(reply, row->name);
    struct kith_reply_mark mark = kith_reply_map_begin(reply);
    size_t pairs = 4;
    reply_text_pair(reply, "summary", text_slice(row->summary));
    reply_text_pair(reply, "since", text_slice(row->since));
    reply_text_pair(reply, "group", text_slice(row->group));
    reply_text_pair(reply, "complexity", text_slice(row->complexity));
    if (row->syntax && *row->syntax && kith_syntax_parse(&syntax, row->syntax) == 0) {
        struct arguments arguments = {.syntax = &syntax, .keyspec_count = kith_keyspecs(row, specs)};
        kith_reply_bulk_text(reply, "arguments");
        reply_arguments(reply, &arguments, syntax.first);
        pairs++;
    }
    pairs += reply_subcommand_docs(reply, row);
    kith_reply_map_end(reply, mark, pairs);
}

static void command_docs_command(struct kith_call *call)
{
    struct kith_reply_mark mark = kith_reply_map_begin(call->reply);
    size_t count = 0;
    if (call->argc == 2)
        count = each_command(call->reply, reply_docs);
    for (size_t i = 2; i < call->argc; i++) {
        const struct kith_command *row = by_name(call, i);
        if (!row)
            continue;
        reply_docs(call->reply, row);
        count++;
    }
    kith_reply_map_end(call->reply, mark, count);
}

/* --- COMMAND LIST. --- */

static bool list_wants(const struct kith_call *call, const struct kith_command *row)
{
    struct kith_slice value = call->argc == 5 ? call->argv[4] : kith_slice("", 0);
    if (call->argc == 2)
        return true;
    if (kith_call_is(call, 3, "pattern"))
        return kith_glob_match(value, text_slice(row->name), true);
    if (kith_call_is(call, 3, "aclcat")) {
        char category[32];
        if (value.length >= sizeof category)
            return false;
        memcpy(category, value.data, value.length);
        category[value.length] = '\0';
        for (size_t i = 0; i < sizeof category_names / sizeof category_names[0]; i++)
            if (strcasecmp(category, category_names[i]) == 0)
                return in_category(row, category_names[i]);
    }
    return false; /* of a module, which we have none of, or of no category */
}

static void command_list_command(struct kith_call *call)
{
    if (call->argc != 2 && !(call->argc == 5 && kith_call_is(call, 2, "filterby") &&
                             (kith_call_is(call, 3, "pattern") || kith_call_is(call, 3, "aclcat") ||
                              kith_call_is(call, 3, "module")))) {
        kith_call_syntax_error(call);
        return;
    }
    struct kith_reply_mark mark = kith_reply_array_begin(call->reply);
    const struct kith_command *row;
    size_t count = 0;
    for (size_t n = 0; (row = kith_command_at(n)); n++) {
        if (!list_wants(call, row))
            continue;
        kith_reply_bulk_text(call->reply, row->name);
        count++;
    }
    kith_reply_set_end(call->reply, mark, count);
}

/* --- COMMAND GETKEYS. --- */

struct found_keys {
    struct kith_call *call;
    bool with_flags;
    size_t count;
};

static void found_key(void *arg, size_t argument, struct kith_slice flags)
{
    struct found_keys *found = arg;
    struct kith_reply *reply = found->call->reply;
    if (found->with_flags)
        kith_reply_array(reply, 2);
    kith_reply_bulk(reply, found->call->argv[2 + argument]);
    if (found->with_flags)
        reply_words(reply, flags);
    found->count++;
}

static void get_keys(struct kith_call *call, bool with_flags)
{
    const struct kith_slice *argv = call->argv + 2;
    size_t argc = call->argc - 2;
    const struct kith_command *row = kith_engine_lookup(call->engine, argv, argc);
    if (!row) {
        kith_reply_error(call->reply, "ERR Invalid command specified");
        return;
    }
    if (!row->key_flags) {
        kith_reply_error(call->reply, "ERR The command has no key arguments");
        return;
    }
    if (!kith_command_arity_fits(row, argc)) {
        kith_reply_error(call->reply, "ERR Invalid number of arguments specified for command");
        return;
    }
    struct kith_reply_mark mark = kith_reply_array_begin(call->reply);
    struct found_keys found = {.call = call, .with_flags = with_flags};
    if (kith_command_keys(row, argv, argc, found_key, &found)) {
        kith_reply_array_end(call->reply, mark, found.count);
        return;
    }
    kith_reply_rewind(call->reply, mark);
    kith_reply_error(call->reply, "ERR Invalid arguments specified for command");
}

static void command_getkeys_command(struct kith_call *call)
{
    get_keys(call, false);
}

static void command_getkeysandflags_command(struct kith_call *call)
{
    get_keys(call, true);
}

/* clang-format off */
#define ROW(command_name, command_arity) \
    .name = command_name, .arity = command_arity, .flags = KITH_CMD_LOADING | KITH_CMD_STALE, \
    .categories = "connection", .group = "server"

const struct kith_command kith_command_commands[] = {
    {.name = "command", .arity = -1, .flags = KITH_CMD_LOADING | KITH_CMD_STALE | KITH_CMD_SUBCOMMANDS,
     .categories = "connection", .group = "server", .tips = "nondeterministic_output_order", .since = "2.8.13",
     .complexity = "O(n) for n commands", .summary = "Returns what there is to know about all commands.", .syntax = "",
     .handler = command_command},
    {ROW("command|count", 2), .since = "2.8.13", .complexity = "O(1)", .summary = "Returns how many commands there are.",
     .syntax = "", .handler = command_count_command},
    {ROW("command|docs", -2), .tips = "nondeterministic_output_order", .since = "7.0.0",
     .complexity = "O(n) for n commands", .summary = "Returns what commands are for and how they are called.",
     .syntax = "[command-name [command-name ...]]", .handler = command_docs_command},
    {ROW("command|getkeys", -3), .since = "2.8.13", .complexity = "O(n) for n arguments",
     .summary = "Returns the keys of a command.", .syntax = "command [arg [arg ...]]",
     .handler = command_getkeys_command},
    {ROW("command|getkeysandflags", -3), .since = "7.0.0", .complexity = "O(n) for n arguments",
     .summary = "Returns the keys of a command and what it does to them.", .syntax = "command [arg [arg ...]]",
     .handler = command_getkeysandflags_command},
    {ROW("command|help", 2), .since = "5.0.0", .complexity = "O(1)", .summary = "Returns what the subcommands are for.",
     .syntax = "", .handler = kith_help_command},
    {ROW("command|info", -2), .tips = "nondeterministic_output_order", .since = "2.8.13",
     .complexity = "O(n) for n commands", .summary = "Returns what there is to know about commands.",
     .syntax = "[command-name [command-name ...]]", .handler = command_info_command},
    {ROW("command|list", -2), .tips = "nondeterministic_output_order", .since = "7.0.0",
     .complexity = "O(n) for n commands", .summary = "Returns the names of commands.",
     .syntax = "[FILTERBY (MODULE module-name | ACLCAT category | PATTERN pattern:pattern)]",
     .handler = command_list_command},
    {0},
};
