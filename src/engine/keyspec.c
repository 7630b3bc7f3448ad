/* Key specifications, see keyspec.h. */
#include "engine/keyspec.h"

#include "base/assert.h"
#include "base/num.h"
#include "base/status.h"

#include <stdio.h>

/* One of the ';'-separated specifications. */
static struct kith_keyspec parse(const struct kith_command *command, struct kith_slice text)
{
    struct kith_keyspec spec = {
        .first = command->keys.first, .last = command->keys.last, .step = command->keys.step};
    const char *at = memchr(text.data, '@', text.length);
    spec.flags = kith_slice(text.data, at ? (size_t)(at - text.data) : text.length);
    while (spec.flags.length && spec.flags.data[spec.flags.length - 1] == ' ')
        spec.flags.length--;
    if (!at)
        return spec;
    char where[64];
    size_t length = text.length - (size_t)(at + 1 - text.data);
    KITH_ASSERT(length < sizeof where);
    memcpy(where, at + 1, length);
    where[length] = '\0';
    int read = sscanf(where, "%d %d %d", &spec.first, &spec.last, &spec.step);
    KITH_ASSERT(read == 1 || read == 3);
    spec.counted = strstr(where, "numkeys") != NULL;
    if (read == 1) {
        spec.last = spec.first;
        spec.step = 1;
    }
    return spec;
}

size_t kith_keyspecs(const struct kith_command *command, struct kith_keyspec specs[KITH_KEYSPECS_MAX])
{
    size_t count = 0;
    const char *at = command->key_flags ? command->key_flags : "";
    while (*at) {
        const char *end = strchrnul(at, ';');
        KITH_ASSERT(count < KITH_KEYSPECS_MAX);
        specs[count++] = parse(command, kith_slice(at, (size_t)(end - at)));
        at = *end ? end + 1 : end;
        while (*at == ' ')
            at++;
    }
    return count;
}

typedef void report_fn(void *arg, size_t argument, struct kith_slice flags);

static bool report_counted(const struct kith_keyspec *spec, const struct kith_slice *argv, size_t argc,
                           report_fn *report, void *arg)
{
    int64_t count;
    size_t at = (size_t)spec->first;
    if (at >= argc || kith_num_parse_int64(argv[at], &count) != KITH_OK || count < 1 ||
        (uint64_t)count > argc - at - 1)
        return false;
    for (size_t i = 1; i <= (size_t)count; i++)
        report(arg, at + i, spec->flags);
    return true;
}

static bool report_range(const struct kith_keyspec *spec, size_t argc, report_fn *report, void *arg)
{
    int64_t last = spec->last < 0 ? (int64_t)argc + spec->last : spec->last;
    if (last >= (int64_t)argc)
        return false;
    for (int64_t at = spec->first; at <= last; at += spec->step)
        report(arg, (size_t)at, spec->flags);
    return true;
}

bool kith_command_keys(const struct kith_command *command, const struct kith_slice *argv, size_t argc,
                       void (*report)(void *arg, size_t argument, struct kith_slice flags), void *arg)
{
    struct kith_keyspec specs[KITH_KEYSPECS_MAX];
    size_t spec_count = kith_keyspecs(command, specs);
    if (command->get_keys) {
        size_t positions[256];
        int count = command->get_keys(argv, argc, positions, 256);
        for (int i = 0; i < count && i < 256; i++)
            report(arg, positions[i], spec_count ? specs[0].flags : KITH_SLICE("RW"));
        return count >= 0;
    }
    for (size_t i = 0; i < spec_count; i++)
        if (!(specs[i].counted ? report_counted(&specs[i], argv, argc, report, arg)
                               : report_range(&specs[i], argc, report, arg)))
            return false;
    return true;
}
