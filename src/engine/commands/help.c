/* HELP of any container. Nobody has to remember to write it. */
#include "engine/commands/help.h"

#include "engine/state.h"

#include <ctype.h>

static void upper(char *out, size_t size, const char *name, size_t length)
{
    size_t n = length < size - 1 ? length : size - 1;
    for (size_t i = 0; i < n; i++)
        out[i] = (char)toupper((unsigned char)name[i]);
    out[n] = '\0';
}

static void describe(struct kith_reply *reply, const struct kith_command *row, size_t prefix)
{
    char name[64];
    const char *syntax = row->syntax ? row->syntax : "";
    upper(name, sizeof name, row->name + prefix, strlen(row->name + prefix));
    kith_buf_append_char(reply->out, '+');
    kith_buf_append_text(reply->out, name);
    if (*syntax)
        kith_buf_append_char(reply->out, ' ');
    /* "name:type" is for machines: people get the name. */
    for (const char *p = syntax; *p; p++) {
        if (*p == ':')
            while (p[1] && (isalnum((unsigned char)p[1]) || p[1] == '-'))
                p++;
        else
            kith_buf_append_char(reply->out, *p);
    }
    kith_buf_append_text(reply->out, "\r\n+    ");
    kith_buf_append_text(reply->out, row->summary);
    kith_buf_append_text(reply->out, "\r\n");
}

void kith_help_command(struct kith_call *call)
{
    const char *bar = strchr(call->command->name, '|');
    size_t prefix = (size_t)(bar - call->command->name);
    char name[64];
    upper(name, sizeof name, call->command->name, prefix);
    struct kith_reply_mark mark = kith_reply_array_begin(call->reply);
    size_t lines = 1;
    kith_buf_append_format(call->reply->out,
                           "+%s <subcommand> [<arg> [value] [opt] ...]. Subcommands are:\r\n", name);
    const struct kith_command *row;
    for (size_t n = 0; (row = kith_command_at(n)); n++) {
        if (strncmp(row->name, call->command->name, prefix + 1) != 0)
            continue;
        describe(call->reply, row, prefix + 1);
        lines += 2;
    }
    kith_reply_array_end(call->reply, mark, lines);
}
