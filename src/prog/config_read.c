/* Where configuration comes from: a file in redis.conf syntax, the environment, flags. Each source only cuts
 * its input into a name and words; config.c judges them. */
#include "base/log.h"
#include "prog/config.h"
#include "wire/request.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Words of one line or of one flag; grown as needed. */
struct words {
    struct kith_buf room;
    struct kith_slice *slices;
    size_t count, capacity;
};

static void words_fini(struct words *words)
{
    kith_buf_fini(&words->room);
    free(words->slices);
}

static int split(struct words *words, struct kith_slice line, struct kith_error *error)
{
    words->count = 0;
    kith_buf_clear(&words->room);
    int status = kith_request_split_line(line, &words->room, &words->slices, &words->count, &words->capacity);
    if (status == KITH_EINVAL)
        return kith_error_set(error, status, "unbalanced quotes");
    return status ? kith_error_set(error, status, "out of memory") : KITH_OK;
}

static int read_line(struct kith_config *config, struct words *words, struct kith_slice line,
                     struct kith_error *error)
{
    while (line.length && isspace((unsigned char)*line.data))
        line = kith_slice(line.data + 1, line.length - 1);
    while (line.length && isspace((unsigned char)line.data[line.length - 1]))
        line.length--;
    if (!line.length || *line.data == '#')
        return KITH_OK;
    int status = split(words, line, error);
    if (status || !words->count)
        return status;
    if (words->count == 1)
        return kith_error_set(error, KITH_EINVAL, "'%.*s' has no value",
                              (int)(line.length < 64 ? line.length : 64), line.data);
    struct kith_slice name = words->slices[0];
    struct kith_error inner = {""};
    status = kith_config_set(config, name, words->slices + 1, words->count - 1, false, &inner);
    if (status == KITH_ENOENT) /* it says the name already */
        return kith_error_set(error, status, "%s", inner.text);
    return status ? kith_error_set(error, status, "%.*s: %s", (int)name.length, name.data, inner.text)
                  : KITH_OK;
}

int kith_config_read_text(struct kith_config *config, const char *origin, struct kith_slice text,
                          struct kith_error *error)
{
    struct words words = {0};
    int status = KITH_OK;
    for (unsigned number = 1; text.length && !status; number++) {
        const char *end = memchr(text.data, '\n', text.length);
        size_t length = end ? (size_t)(end - text.data) : text.length;
        struct kith_error inner = {""};
        status = read_line(config, &words, kith_slice(text.data, length), &inner);
        if (status)
            kith_error_set(error, status, "%s:%u: %.400s", origin, number, inner.text);
        length += end != NULL;
        text = kith_slice(text.data + length, text.length - length);
    }
    words_fini(&words);
    return status;
}

int kith_config_read_file(struct kith_config *config, const char *path, struct kith_error *error)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        int cause = errno;
        return kith_error_set(error, kith_status_from_errno(cause), "cannot read %s: %s", path,
                              strerror(cause));
    }
    struct kith_buf text;
    kith_buf_init(&text);
    char piece[4096];
    size_t length;
    while ((length = fread(piece, 1, sizeof piece, file)) > 0)
        kith_buf_append(&text, piece, length);
    int status = KITH_OK;
    if (ferror(file))
        status = kith_error_set(error, KITH_EIO, "cannot read %s", path);
    else if (text.failed)
        status = kith_error_set(error, KITH_ENOMEM, "out of memory while reading %s", path);
    fclose(file);
    if (!status)
        status = kith_config_read_text(config, path, kith_buf_slice(&text), error);
    kith_buf_fini(&text);
    return status;
}

/* KITH_LOG_SEGMENT_SIZE -> log-segment-size. False when it is too long to be a key. */
static bool key_of_variable(const char *variable, size_t length, char key[64])
{
    if (length >= 64)
        return false;
    for (size_t i = 0; i < length; i++)
        key[i] = variable[i] == '_' ? '-' : (char)tolower((unsigned char)variable[i]);
    key[length] = '\0';
    return true;
}

int kith_config_read_environment(struct kith_config *config, const char *const *environment,
                                 struct kith_error *error)
{
    struct words words = {0};
    int status = KITH_OK;
    for (; *environment && !status; environment++) {
        const char *equals = strchr(*environment, '=');
        char key[64];
        if (strncmp(*environment, "KITH_", 5) != 0 || !equals)
            continue;
        const char *name = *environment + 5;
        if (!key_of_variable(name, (size_t)(equals - name), key))
            continue;
        struct kith_error inner = {""};
        struct kith_slice value = kith_slice(equals + 1, strlen(equals + 1));
        status = split(&words, value, &inner);
        if (!status && !words.count) /* KITH_DIR= is an empty text */
            status = kith_config_set(config, kith_slice(key, strlen(key)), &value, 1, false, &inner);
        else if (!status)
            status = kith_config_set(config, kith_slice(key, strlen(key)), words.slices, words.count, false,
                                     &inner);
        if (status == KITH_ENOENT) {
            KITH_WARN("environment: KITH_%.*s: %s (left alone)", (int)(equals - name), name, inner.text);
            status = KITH_OK;
        } else if (status) {
            kith_error_set(error, status, "environment: KITH_%.*s: %.400s", (int)(equals - name), name,
                           inner.text);
        }
    }
    words_fini(&words);
    return status;
}

int kith_config_read_flags(struct kith_config *config, const char *const *argv, size_t argc,
                           struct kith_error *error)
{
    static const struct kith_slice yes = {"yes", 3};
    for (size_t i = 0; i < argc;) {
        if (strncmp(argv[i], "--", 2) != 0 || !argv[i][2])
            return kith_error_set(error, KITH_EINVAL, "'%.64s' is not a flag: write --name value", argv[i]);
        const char *flag = argv[i++] + 2;
        const char *equals = strchr(flag, '=');
        struct kith_slice name = kith_slice(flag, equals ? (size_t)(equals - flag) : strlen(flag));
        struct kith_slice words[32];
        size_t count = 0;
        if (equals)
            words[count++] = kith_slice(equals + 1, strlen(equals + 1));
        for (; !equals && i < argc && count < 32 && strncmp(argv[i], "--", 2) != 0; i++)
            words[count++] = kith_slice(argv[i], strlen(argv[i]));
        if (!count)
            words[count++] = yes;
        struct kith_error inner = {""};
        int status = kith_config_set(config, name, words, count, false, &inner);
        if (status)
            return kith_error_set(error, status, "--%.*s: %.400s", (int)name.length, name.data, inner.text);
    }
    return KITH_OK;
}
