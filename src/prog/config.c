/* Reading and writing the values behind the rows of config_table.c. A value is parsed completely before the
 * old one is touched, so that a refused change leaves nothing half done. */
#include "prog/config.h"

#include "base/assert.h"
#include "prog/config_table.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static const struct config_row *row_at(size_t key)
{
    KITH_ASSERT(key < kith_config_row_count);
    return &kith_config_rows[key];
}

static int64_t *number_field(const struct kith_config *config, const struct config_row *row)
{
    return (int64_t *)((char *)(uintptr_t)config + row->offset);
}

/* NULL for rows that hold a number. Accepted rows use one array in the order of the table. */
static char **text_field(const struct kith_config *config, size_t key)
{
    const struct config_row *row = row_at(key);
    if (row->kind == CONFIG_TEXT || row->kind == CONFIG_SECRET || row->kind == CONFIG_WORDS)
        return (char **)((char *)(uintptr_t)config + row->offset);
    if (row->kind != CONFIG_ACCEPTED)
        return NULL;
    size_t index = 0;
    while (key > 0 && row_at(key - 1)->kind == CONFIG_ACCEPTED) {
        key--;
        index++;
    }
    KITH_ASSERT(index < KITH_CONFIG_ACCEPTED_MAX);
    return (char **)(uintptr_t)&config->accepted[index];
}

size_t kith_config_key_count(void)
{
    return kith_config_row_count;
}

const char *kith_config_key_name(size_t key)
{
    return row_at(key)->name;
}

const char *kith_config_key_help(size_t key)
{
    return row_at(key)->help;
}

const char *kith_config_key_initial(size_t key)
{
    return row_at(key)->initial;
}

bool kith_config_key_is_live(size_t key)
{
    return row_at(key)->live;
}

/* Levenshtein's distance, cut at names of 63 bytes. */
static unsigned edit_distance(struct kith_slice a, const char *b)
{
    unsigned row[64], length = (unsigned)strlen(b);
    if (a.length > 63 || length > 63)
        return 64;
    for (unsigned j = 0; j <= length; j++)
        row[j] = j;
    for (unsigned i = 1; i <= a.length; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= length; j++) {
            unsigned best = diagonal + (tolower((unsigned char)a.data[i - 1]) != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[length];
}

/* NULL when nothing is near enough to be what was meant. */
static const char *nearest_name(struct kith_slice name)
{
    size_t best = 0;
    unsigned best_distance = 1000;
    for (size_t key = 0; key < kith_config_row_count; key++) {
        unsigned distance = edit_distance(name, row_at(key)->name);
        if (distance < best_distance) {
            best = key;
            best_distance = distance;
        }
    }
    return best_distance <= 1 + name.length / 3 ? row_at(best)->name : NULL;
}

static int refuse_name(struct kith_slice name, struct kith_error *error)
{
    const char *nearest = nearest_name(name);
    char shown[65];
    size_t length = 0;
    for (; length < name.length && length < 64; length++)
        shown[length] = name.data[length] < ' ' || name.data[length] > '~' ? '?' : name.data[length];
    shown[length] = '\0';
    if (nearest)
        return kith_error_set(error, KITH_ENOENT, "no key '%s': did you mean '%s'?", shown, nearest);
    return kith_error_set(error, KITH_ENOENT, "no key '%s': kithd --help lists the keys", shown);
}

/* The key's index, or a negative status. */
static int find_key(struct kith_slice name, struct kith_error *error)
{
    for (size_t key = 0; key < kith_config_row_count; key++)
        if (kith_slice_is(name, row_at(key)->name))
            return (int)key;
    return refuse_name(name, error);
}

static bool parse_whole(struct kith_slice word, int base, int64_t *value, size_t *used)
{
    char text[24];
    size_t length = word.length < sizeof text - 1 ? word.length : sizeof text - 1;
    if (!length || !(isdigit((unsigned char)word.data[0]) || (word.data[0] == '-' && length > 1)))
        return false;
    memcpy(text, word.data, length);
    text[length] = '\0';
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, base);
    if (errno || end == text)
        return false;
    *value = number;
    *used = (size_t)(end - text);
    return true;
}

static bool parse_bytes(struct kith_slice word, int64_t *value)
{
    static const struct {
        const char *unit;
        int64_t factor;
    } units[] = {{"", 1},
                 {"b", 1},
                 {"k", 1000},
                 {"kb", 1024},
                 {"m", 1000 * 1000},
                 {"mb", 1024 * 1024},
                 {"g", 1000000000LL},
                 {"gb", 1024LL * 1024 * 1024}};
    int64_t number;
    size_t used;
    if (!parse_whole(word, 10, &number, &used) || number < 0)
        return false;
    struct kith_slice unit = kith_slice(word.data + used, word.length - used);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (kith_slice_is(unit, units[i].unit))
            return !__builtin_mul_overflow(number, units[i].factor, value);
    return false;
}

static int parse_choice(struct kith_slice word, const char *const *choices)
{
    for (int i = 0; choices[i]; i++)
        if (kith_slice_is(word, choices[i]))
            return i;
    return -1;
}

static int refuse_choice(const char *const *choices, struct kith_error *error)
{
    char list[128] = "";
    for (int i = 0; choices[i]; i++) {
        size_t length = strlen(list);
        snprintf(list + length, sizeof list - length, "%s'%s'", i ? ", " : "", choices[i]);
    }
    return kith_error_set(error, KITH_EINVAL,
                          choices[1] ? "argument must be one of %s" : "argument must be %s", list);
}

static int parse_number(const struct config_row *row, struct kith_slice word, int64_t *value,
                        struct kith_error *error)
{
    static const char *const yes_no[] = {"no", "yes", NULL};
    size_t used = 0;
    int64_t number = 0;
    switch (row->kind) {
    case CONFIG_BOOL:
    case CONFIG_CHOICE:
        number = parse_choice(word, row->choices ? row->choices : yes_no);
        if (number < 0)
            return row->choices ? refuse_choice(row->choices, error)
                                : kith_error_set(error, KITH_EINVAL, "argument must be 'yes' or 'no'");
        *value = number;
        return KITH_OK;
    case CONFIG_BYTES:
        if (!parse_bytes(word, &number))
            return kith_error_set(error, KITH_EINVAL, "argument must be a memory value, such as 64mb");
        break;
    default:
        if (!parse_whole(word, row->kind == CONFIG_OCTAL ? 8 : 10, &number, &used) || used != word.length)
            return kith_error_set(error, KITH_EINVAL, "argument couldn't be parsed into an integer");
        break;
    }
    if (number < row->least || number > row->most)
        return kith_error_set(error, KITH_EINVAL,
                              row->kind == CONFIG_OCTAL ? "argument must be between %llo and %llo inclusive"
                                                        : "argument must be between %lld and %lld inclusive",
                              (long long)row->least, (long long)row->most);
    *value = number;
    return KITH_OK;
}

/* One text in place of words, as CONFIG SET and a flag have it; returns how many words it holds. */
static size_t split_blanks(struct kith_slice text, struct kith_slice *words, size_t most)
{
    size_t count = 0;
    while (text.length && count < most) {
        const char *blank = memchr(text.data, ' ', text.length);
        size_t length = blank ? (size_t)(blank - text.data) : text.length;
        if (length)
            words[count++] = kith_slice(text.data, length);
        length += blank != NULL;
        text = kith_slice(text.data + length, text.length - length);
    }
    return count;
}

/* "normal 64mb 0 0 pubsub 32mb 8mb 60": only class normal has an effect. */
static int set_output_limit(struct kith_config *config, const struct kith_slice *words, size_t count,
                            struct kith_error *error)
{
    struct kith_slice split[32];
    static const char *const classes[] = {"normal", "replica", "slave", "pubsub", NULL};
    int64_t hard = config->output_hard_bytes, soft = config->output_soft_bytes,
            seconds = config->output_soft_s;
    if (count == 1) {
        count = split_blanks(words[0], split, 32);
        words = split;
    }
    if (count % 4 != 0 || !count)
        return kith_error_set(error, KITH_EINVAL, "Wrong number of arguments in buffer limit configuration.");
    for (size_t i = 0; i < count; i += 4) {
        int64_t value[3];
        size_t used;
        int kind = parse_choice(words[i], classes);
        if (kind < 0)
            return kith_error_set(error, KITH_EINVAL,
                                  "Invalid client class specified in buffer limit configuration.");
        if (!parse_bytes(words[i + 1], &value[0]) || !parse_bytes(words[i + 2], &value[1]) ||
            !parse_whole(words[i + 3], 10, &value[2], &used) || used != words[i + 3].length || value[2] < 0)
            return kith_error_set(error, KITH_EINVAL,
                                  "Error in hard, soft or soft_seconds setting in buffer limit "
                                  "configuration.");
        if (kind == 0) {
            hard = value[0];
            soft = value[1];
            seconds = value[2];
        }
    }
    config->output_hard_bytes = hard;
    config->output_soft_bytes = soft;
    config->output_soft_s = seconds;
    return KITH_OK;
}

/* A text with a zero byte inside would be cut short wherever it is used. */
static int set_text(char **field, const struct kith_slice *words, size_t count, struct kith_error *error)
{
    struct kith_buf text;
    kith_buf_init(&text);
    for (size_t i = 0; i < count; i++) {
        if (i)
            kith_buf_append_char(&text, ' ');
        kith_buf_append(&text, words[i].data, words[i].length);
    }
    kith_buf_append_char(&text, '\0');
    int status = KITH_OK;
    char *copy = NULL;
    if (text.failed || !(copy = strndup(text.data, text.length)))
        status = kith_error_set(error, KITH_ENOMEM, "out of memory");
    else if (strlen(copy) + 1 != text.length)
        status = kith_error_set(error, KITH_EINVAL, "argument must not contain a zero byte");
    kith_buf_fini(&text);
    if (status) {
        free(copy);
        return status;
    }
    free(*field);
    *field = copy;
    return KITH_OK;
}

static int set_key(struct kith_config *config, size_t key, const struct kith_slice *words, size_t count,
                   struct kith_error *error)
{
    const struct config_row *row = row_at(key);
    if (row->kind == CONFIG_OUTPUT_LIMIT)
        return set_output_limit(config, words, count, error);
    bool many = row->kind == CONFIG_WORDS || (row->kind == CONFIG_ACCEPTED && !row->choices);
    if (count != 1 && !many)
        return kith_error_set(error, KITH_EINVAL, "wrong number of arguments: it takes one");
    char **text = text_field(config, key);
    if (!text)
        return parse_number(row, words[0], number_field(config, row), error);
    if (row->choices && parse_choice(words[0], row->choices) < 0)
        return refuse_choice(row->choices, error);
    return set_text(text, words, count, error);
}

int kith_config_set(struct kith_config *config, struct kith_slice name, const struct kith_slice *words,
                    size_t count, bool running, struct kith_error *error)
{
    int key = find_key(name, error);
    if (key < 0)
        return key;
    const struct config_row *row = row_at((size_t)key);
    if (running && !row->live)
        return kith_error_set(error, KITH_EPERM, "can't set immutable config");
    return set_key(config, (size_t)key, words, count, error);
}

static int set_default(struct kith_config *config, size_t key)
{
    const struct config_row *row = row_at(key);
    struct kith_slice word = kith_slice(row->initial, strlen(row->initial));
    struct kith_error error;
    int status = set_key(config, key, &word, 1, &error);
    KITH_ASSERT(status == KITH_OK || status == KITH_ENOMEM);
    return status;
}

int kith_config_init(struct kith_config *config)
{
    *config = (struct kith_config){0};
    for (size_t key = 0; key < kith_config_row_count; key++) {
        int status = set_default(config, key);
        if (status) {
            kith_config_fini(config);
            return status;
        }
    }
    return KITH_OK;
}

void kith_config_fini(struct kith_config *config)
{
    for (size_t key = 0; key < kith_config_row_count; key++) {
        char **text = text_field(config, key);
        if (text)
            free(*text);
    }
    *config = (struct kith_config){0};
}

int kith_config_copy(struct kith_config *to, const struct kith_config *from)
{
    *to = *from;
    bool failed = false;
    for (size_t key = 0; key < kith_config_row_count; key++) {
        char **text = text_field(to, key);
        if (text && !(*text = strdup(*text)))
            failed = true;
    }
    if (failed)
        kith_config_fini(to);
    return failed ? KITH_ENOMEM : KITH_OK;
}

void kith_config_key_value(const struct kith_config *config, size_t key, struct kith_buf *out)
{
    const struct config_row *row = row_at(key);
    char **text = text_field(config, key);
    if (text && row->kind == CONFIG_SECRET) {
        kith_buf_append_text(out, *text && **text ? "(set)" : "");
        return;
    }
    if (text) {
        kith_buf_append_text(out, *text ? *text : "");
        return;
    }
    long long number = *number_field(config, row);
    if (row->kind == CONFIG_BOOL)
        kith_buf_append_text(out, number ? "yes" : "no");
    else if (row->kind == CONFIG_CHOICE)
        kith_buf_append_text(out, row->choices[number]);
    else if (row->kind == CONFIG_OUTPUT_LIMIT)
        kith_buf_append_format(out, "normal %lld %lld %lld", number, (long long)config->output_soft_bytes,
                               (long long)config->output_soft_s);
    else
        kith_buf_append_format(out, row->kind == CONFIG_OCTAL ? "%llo" : "%lld", number);
}

bool kith_config_key_is_default(const struct kith_config *config, size_t key)
{
    struct kith_config initial = {0};
    struct kith_buf a, b;
    kith_buf_init(&a);
    kith_buf_init(&b);
    bool same = set_default(&initial, key) == KITH_OK;
    if (same) {
        kith_config_key_value(config, key, &a);
        kith_config_key_value(&initial, key, &b);
        same = !a.failed && !b.failed && kith_slice_equal(kith_buf_slice(&a), kith_buf_slice(&b));
    }
    kith_buf_fini(&a);
    kith_buf_fini(&b);
    kith_config_fini(&initial);
    return same;
}

int kith_config_check(const struct kith_config *config, struct kith_error *error)
{
    if (config->port == 0 && !*config->unixsocket)
        return kith_error_set(error, KITH_EINVAL,
                              "port 0 and no unixsocket: nobody could connect; set one of them");
    if (*config->cluster_secret && *config->cluster_secret_file)
        return kith_error_set(error, KITH_EINVAL,
                              "cluster-secret and cluster-secret-file are both set: keep one of them");
    int tls_count = !!*config->cluster_tls_cert + !!*config->cluster_tls_key + !!*config->cluster_tls_ca;
    if (tls_count != 0 && tls_count != 3)
        return kith_error_set(error, KITH_EINVAL,
                              "cluster-tls-cert, cluster-tls-key and cluster-tls-ca belong together: set all "
                              "three or none");
    if (*config->join && !*config->cluster_address)
        return kith_error_set(error, KITH_EINVAL,
                              "join needs cluster-address: the HOST:PORT where the other nodes reach this "
                              "one");
    if (*config->cluster_address && (config->memory_only || !*config->dir))
        return kith_error_set(error, KITH_EINVAL,
                              "a member of a group must remember what it has promised: cluster-address does "
                              "not go with memory-only or an empty dir");
    if (config->cluster_election_ms < 3 * config->cluster_heartbeat_ms)
        return kith_error_set(error, KITH_EINVAL,
                              "cluster-election-ms must be at least three times cluster-heartbeat-ms: a "
                              "leader would be given up for one late heartbeat");
    if (config->query_buffer_bytes < config->bulk_bytes)
        return kith_error_set(
            error, KITH_EINVAL,
            "client-query-buffer-limit is below proto-max-bulk-len: raise the first or lower the "
            "second");
    return KITH_OK;
}
