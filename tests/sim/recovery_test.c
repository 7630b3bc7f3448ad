/* Recovery on a disk that behaves worse than the recording one of the unit tests. */
#include "repl/node.h"

#include "../unit/repl/tiny_machine.h"
#include "disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct kith_node *open_on(struct sim_disk *disk, struct tiny *machine)
{
    struct kith_node_options options = {.dir = "/d",
                                        .fs = sim_disk_table(disk),
                                        .machine = tiny_machine(machine),
                                        .segment_bytes = 48 << 10,
                                        .checkpoint_log_bytes = UINT64_MAX,
                                        .no_final_checkpoint = true,
                                        .seed = 5,
                                        .manual = true};
    struct kith_node *node = NULL;
    struct kith_error error = {""};
    if (kith_node_open(&node, &options, &error) != KITH_OK)
        fail_msg("%s", error.text);
    return node;
}

static void note(void *context, int status)
{
    *(int *)context = status;
}

static int submit(struct kith_node *node)
{
    struct kith_buf payload = {0};
    int status = 1;
    for (int i = 0; i < 500; i++) /* several sectors */
        kith_buf_append_text(&payload, "something to be kept");
    assert_int_equal(kith_node_submit(node, &payload, NULL, note, &status), KITH_OK);
    while (kith_node_run(node, KITH_NODE_LOG)) {
    }
    kith_node_poll(node);
    return status;
}

/* The program is started again, the machine is not: what it reads back is in the system's memory alone. */
static void what_a_failed_sync_left_in_memory_is_written_again_before_it_counts(void **state)
{
    struct sim_disk *disk = sim_disk_open(3);
    struct tiny machine = {0};
    struct kith_node *node = open_on(disk, &machine);
    assert_int_equal(submit(node), KITH_OK);
    sim_disk_fail_syncs(disk, 1);
    assert_int_equal(submit(node), KITH_EIO);
    (void)kith_node_close(node);
    tiny_fini(&machine);
    sim_disk_fail_syncs(disk, 0);
    node = open_on(disk, &machine);
    assert_int_equal(machine.count, 2); /* whoever reads it now is not to lose it again */
    assert_int_equal(submit(node), KITH_OK);
    sim_disk_kill(disk);
    (void)kith_node_close(node);
    tiny_fini(&machine);
    sim_disk_restart(disk, SIM_DISK_FORGETS);
    node = open_on(disk, &machine);
    assert_int_equal(machine.count, 3);
    assert_int_equal(kith_node_close(node), KITH_OK);
    tiny_fini(&machine);
    sim_disk_close(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_failed_sync_left_in_memory_is_written_again_before_it_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
