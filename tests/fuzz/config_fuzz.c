/* A configuration file of any bytes: no crash, no leak; and what was taken, shown by CONFIG GET and set again, is the
 * same configuration. */
#include "base/assert.h"
#include "base/buf.h"
#include "prog/config.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void show_all(const struct kith_config *config, struct kith_buf *out)
{
    for (size_t key = 0; key < kith_config_key_count(); key++) {
        kith_config_key_value(config, key, out);
        kith_buf_append_char(out, '\n');
    }
}

static void set_again(struct kith_config *config)
{
    for (size_t key = 0; key < kith_config_key_count(); key++) {
        const char *name = kith_config_key_name(key);
        struct kith_buf value;
        struct kith_error error;
        kith_buf_init(&value);
        kith_config_key_value(config, key, &value);
        struct kith_slice word = kith_slice(value.length ? value.data : "", value.length);
        KITH_ASSERT(kith_config_set(config, kith_slice(name, strlen(name)), &word, 1, false, &error) ==
                    KITH_OK);
        kith_buf_fini(&value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kith_config config;
    struct kith_error error;
    struct kith_buf before, after;
    if (kith_config_init(&config) != KITH_OK)
        return 0;
    /* A line that is refused ends the reading; what came before it stays, and must be sound. */
    (void)kith_config_read_text(&config, "fuzz", kith_slice(data, size), &error);
    (void)kith_config_check(&config, &error);
    kith_buf_init(&before);
    kith_buf_init(&after);
    show_all(&config, &before);
    set_again(&config);
    show_all(&config, &after);
    KITH_ASSERT(before.failed || after.failed ||
                kith_slice_equal(kith_buf_slice(&before), kith_buf_slice(&after)));
    kith_buf_fini(&before);
    kith_buf_fini(&after);
    kith_config_fini(&config);
    return 0;
}
