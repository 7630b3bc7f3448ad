/* What a backup asks of a node: a checkpoint that is held, and the log, from any entry on. */
#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "group.h"

#include "repl/backup.h"
#include "store/crc.h"

struct answer {
    int runs, status;
    struct kith_backup_file file;
    struct kith_buf bytes;
    uint64_t first, previous_term;
    size_t count;
};

static void take_file(void *context, int status, const struct kith_backup_file *file)
{
    struct answer *a = context;
    a->runs++;
    a->status = status;
    if (file)
        a->file = *file;
}

static void take_bytes(void *context, int status, struct kith_slice bytes)
{
    struct answer *a = context;
    a->runs++;
    a->status = status;
    kith_buf_append(&a->bytes, bytes.data, bytes.length);
}

/* Payloads one behind the other, without their trailers. */
static void take_log(void *context, int status, const struct kith_backup_log *log)
{
    struct answer *a = context;
    a->runs++;
    a->status = status;
    a->previous_term = log->previous_term;
    a->first = log->count ? log->records[0].index : 0;
    a->count = log->count;
    kith_buf_clear(&a->bytes);
    for (size_t i = 0; i < log->count; i++)
        if (log->records[i].kind == KITH_RECORD_COMMAND)
            kith_buf_append(&a->bytes, log->records[i].payload.data,
                            log->records[i].payload.length - NODE_TRAILER_BYTES);
}

static void note(void *context, int status)
{
    *(int *)context = status;
}

static void write_text(struct group *g, const char *text)
{
    struct kith_buf payload = {0};
    int status = 1;
    kith_buf_append_text(&payload, text);
    assert_int_equal(kith_node_submit(g->member[0].node, &payload, NULL, note, &status), KITH_OK);
    kith_buf_fini(&payload);
    for (int ms = 0; ms < 500 && status == 1; ms++)
        group_step(g);
    assert_int_equal(status, KITH_OK);
}

static void begin(struct group *g)
{
    g->now_ms = 1000;
    group_start(g, 0, 0);
    group_run(g, 20);
}

static void wait_for(struct group *g, struct answer *a)
{
    for (int ms = 0; ms < 2000 && !a->runs; ms++)
        group_step(g);
    assert_int_equal(a->runs, 1);
}

static struct answer open_file(struct group *g, uint64_t index)
{
    struct answer a = {0};
    assert_int_equal(kith_node_backup_open(g->member[0].node, index, take_file, &a), KITH_OK);
    wait_for(g, &a);
    return a;
}

static void what_is_held_can_be_read_though_its_name_is_gone(void **state)
{
    struct group g = {0};
    begin(&g);
    for (int i = 0; i < 20; i++)
        write_text(&g, "held");
    struct answer file = open_file(&g, 0);
    assert_int_equal(file.status, KITH_OK);
    write_text(&g, "later");
    struct answer newer = open_file(&g, 0);
    assert_true(newer.file.index > file.file.index);
    group_run(&g, 100);
    assert_null(crash_fs_find(g.member[0].disk, "/d/checkpoint-", 1)); /* trimmed */
    struct answer bytes = {0};
    while (bytes.bytes.length < file.file.bytes) { /* in pieces */
        bytes.runs = 0;
        assert_int_equal(kith_node_backup_read(g.member[0].node, file.file.index, bytes.bytes.length, 50,
                                               take_bytes, &bytes),
                         KITH_OK);
        wait_for(&g, &bytes);
        assert_int_equal(bytes.status, KITH_OK);
    }
    assert_int_equal(bytes.bytes.length, file.file.bytes);
    assert_int_equal(kith_crc32c(0, bytes.bytes.data, bytes.bytes.length), file.file.crc);
    assert_int_equal(open_file(&g, file.file.index).file.crc, file.file.crc);
    group_run(&g, 61000);
    assert_int_equal(kith_node_backup_read(g.member[0].node, file.file.index, 0, 50, take_bytes, &bytes),
                     KITH_ENOENT);
    assert_int_equal(open_file(&g, file.file.index).status, KITH_ENOENT);
    kith_buf_fini(&bytes.bytes);
    group_close(&g);
}

static void the_log_is_what_was_written_wherever_reading_begins(void **state)
{
    static const uint64_t orders[] = {9, 3, 4, 12, 2, 11, 11, 3};
    struct group g = {0};
    struct kith_node_status status;
    char text[16];
    begin(&g);
    kith_node_get_status(g.member[0].node, &status);
    uint64_t before = status.applied_index;
    for (int i = 0; i < 12; i++) {
        snprintf(text, sizeof text, "<%d>", i);
        write_text(&g, text);
    }
    for (size_t n = 0; n < sizeof orders / sizeof orders[0]; n++) {
        struct kith_buf expected = {0};
        struct answer a = {0};
        uint64_t from = before + orders[n];
        for (uint64_t i = orders[n]; i <= 12; i++)
            kith_buf_append_format(&expected, "<%d>", (int)i - 1);
        assert_int_equal(kith_node_backup_log(g.member[0].node, from, take_log, &a), KITH_OK);
        wait_for(&g, &a);
        assert_int_equal(a.status, KITH_OK);
        assert_int_equal(a.first, from);
        assert_true(a.previous_term > 0);
        assert_int_equal(a.bytes.length, expected.length);
        assert_memory_equal(a.bytes.data, expected.data, expected.length);
        kith_buf_fini(&expected);
        kith_buf_fini(&a.bytes);
    }
    struct answer beyond = {0};
    assert_int_equal(kith_node_backup_log(g.member[0].node, before + 13, take_log, &beyond), KITH_OK);
    wait_for(&g, &beyond);
    assert_int_equal(beyond.status, KITH_OK); /* nothing yet, and the one before is known */
    assert_int_equal(beyond.count, 0);
    assert_true(beyond.previous_term > 0);
    group_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_held_can_be_read_though_its_name_is_gone),
        cmocka_unit_test(the_log_is_what_was_written_wherever_reading_begins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
