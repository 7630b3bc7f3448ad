/* Changes of the group as the core plans them: what each makes of the configuration, and what is refused with which
 * advice. */
#include "repl/members.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <raft.h>

static struct kith_slice slice_of(const char *text)
{
    return kith_slice(text, strlen(text));
}

static struct kith_slice configuration_of(const int *roles, int count)
{
    struct raft_configuration configuration;
    struct raft_buffer buffer;
    char address[32];
    raft_configuration_init(&configuration);
    for (int i = 0; i < count; i++) {
        snprintf(address, sizeof address, "node%d", i + 1);
        assert_int_equal(raft_configuration_add(&configuration, (raft_id)i + 1, address, roles[i]), 0);
    }
    assert_int_equal(raft_configuration_encode(&configuration, &buffer), 0);
    raft_configuration_close(&configuration);
    return kith_slice(buffer.base, buffer.len);
}

static void deliver(struct kith_core *core, const struct kith_core_message *m)
{
    struct kith_core_update update;
    assert_int_equal(kith_core_receive(core, 0, m, &update), KITH_OK);
}

static struct kith_core_message from(uint64_t peer, enum kith_core_message_kind kind, uint64_t term)
{
    return (struct kith_core_message){.kind = kind, .peer = peer, .peer_address = "", .term = term};
}

/* Node 1, elected by node 2, of a group of these roles; nothing committed in its term yet. */
static struct kith_core *leader_of(const int *roles, int count)
{
    struct kith_core_options options = {.node_id = 1, .address = "node1"};
    struct kith_core_start begin = {.term = 5, .first_index = 1};
    struct kith_core_update update;
    struct kith_core *core;
    struct kith_slice configuration = configuration_of(roles, count);
    assert_int_equal(kith_core_open(&core, &options), KITH_OK);
    assert_int_equal(kith_core_load_entry(core, 1, KITH_ENTRY_CONFIGURATION, configuration), KITH_OK);
    assert_int_equal(kith_core_start(core, 0, &begin, &update), KITH_OK);
    free((void *)configuration.data);
    assert_int_equal(kith_core_timeout(core, kith_core_timeout_at(core), &update), KITH_OK);
    for (int pre = 1; pre >= 0; pre--) {
        struct kith_core_message vote = from(2, KITH_CORE_VOTE_RESULT, 6 - (uint64_t)pre);
        vote.version = 2;
        vote.vote_result.granted = true;
        vote.vote_result.pre_vote = pre;
        deliver(core, &vote);
    }
    assert_int_equal(kith_core_get_role(core), KITH_CORE_LEADER);
    return core;
}

static void confirm(struct kith_core *core, uint64_t peer, uint64_t index)
{
    struct kith_core_message result = from(peer, KITH_CORE_APPEND_RESULT, kith_core_term(core));
    result.append_result.last_index = index;
    deliver(core, &result);
}

static void submit(struct kith_core *core, enum kith_entry_kind kind, struct kith_slice payload)
{
    struct kith_core_update update;
    struct kith_core_entry entry = {.kind = kind, .payload = payload};
    assert_int_equal(kith_core_submit(core, 0, &entry, 1, &update), KITH_OK);
    assert_int_equal(kith_core_persisted(core, 0, kith_core_last_index(core), 0, &update), KITH_OK);
}

/* The leader of three voters, a standby and a spare, settled: everybody has everything. */
static struct kith_core *settled(void)
{
    static const int roles[] = {RAFT_VOTER, RAFT_VOTER, RAFT_VOTER, RAFT_STANDBY, RAFT_SPARE};
    struct kith_core *core = leader_of(roles, 5);
    submit(core, KITH_ENTRY_BARRIER, KITH_SLICE(""));
    for (uint64_t peer = 2; peer <= 4; peer++)
        confirm(core, peer, kith_core_last_index(core));
    return core;
}

static int plan(struct kith_core *core, enum kith_change_kind change, uint64_t id, const char *address,
                struct kith_error *why)
{
    struct kith_slice out = {0};
    int status = kith_core_plan_change(core, change, id, slice_of(address), &out, why);
    assert_true((status == KITH_OK) == (out.data != NULL));
    if (status < 0)
        assert_true(why->text[0] != '\0');
    free((void *)out.data);
    return status;
}

static void a_new_leader_changes_nothing_until_it_has_committed_in_its_term(void **state)
{
    static const int roles[] = {RAFT_VOTER, RAFT_VOTER, RAFT_VOTER};
    struct kith_core *core = leader_of(roles, 3);
    struct kith_error why = {""};
    confirm(core, 2, 1);
    confirm(core, 3, 1);
    assert_false(kith_core_has_committed_own(core));
    assert_int_equal(plan(core, KITH_CHANGE_ADD_STANDBY, 9, "node9", &why), KITH_EAGAIN);
    submit(core, KITH_ENTRY_BARRIER, KITH_SLICE(""));
    assert_false(kith_core_has_committed_own(core));
    confirm(core, 2, kith_core_last_index(core));
    assert_true(kith_core_has_committed_own(core));
    assert_int_equal(plan(core, KITH_CHANGE_ADD_STANDBY, 9, "node9", &why), KITH_OK);
    kith_core_close(core);
}

static void a_group_of_one_may_change_after_its_first_entry(void **state)
{
    struct kith_core_options options = {.node_id = 1, .address = "node1"};
    struct kith_core_start begin = {.term = 1, .first_index = 1};
    struct kith_core_update update;
    struct kith_core *core;
    struct kith_slice configuration;
    struct kith_error why = {""};
    assert_int_equal(kith_core_open(&core, &options), KITH_OK);
    assert_int_equal(kith_core_encode_single(&configuration, 1, "node1"), KITH_OK);
    assert_int_equal(kith_core_load_entry(core, 1, KITH_ENTRY_CONFIGURATION, configuration), KITH_OK);
    free((void *)configuration.data);
    assert_int_equal(kith_core_start(core, 0, &begin, &update), KITH_OK);
    assert_int_equal(plan(core, KITH_CHANGE_MOVE, 1, "host:1", &why), KITH_EAGAIN);
    submit(core, KITH_ENTRY_BARRIER, KITH_SLICE(""));
    assert_int_equal(plan(core, KITH_CHANGE_MOVE, 1, "host:1", &why), KITH_OK);
    assert_int_equal(plan(core, KITH_CHANGE_REMOVE, 1, "", &why), KITH_EINVAL);
    assert_int_equal(kith_core_best_heir(core), 0);
    kith_core_close(core);
}

/* What the group looks like once the planned change is appended. */
static void change(struct kith_core *core, enum kith_change_kind kind, uint64_t id, const char *address)
{
    struct kith_slice out;
    struct kith_error why;
    assert_int_equal(kith_core_plan_change(core, kind, id, slice_of(address), &out, &why), KITH_OK);
    submit(core, KITH_ENTRY_CONFIGURATION, out);
    free((void *)out.data);
}

static void each_change_alters_one_member_and_no_other(void **state)
{
    static const struct {
        enum kith_change_kind kind;
        uint64_t id;
        const char *address;
        size_t count;
        bool present;
        enum kith_core_member_role role;
    } cases[] = {
        {KITH_CHANGE_ADD_STANDBY, 9, "node9", 6, true, KITH_CORE_STANDBY},
        {KITH_CHANGE_ADD_SPARE, 9, "node9", 6, true, KITH_CORE_SPARE},
        {KITH_CHANGE_ADD_STANDBY, 5, "node5", 5, true, KITH_CORE_STANDBY},
        {KITH_CHANGE_ADD_SPARE, 4, "node4", 5, true, KITH_CORE_SPARE},
        {KITH_CHANGE_PROMOTE, 4, "", 5, true, KITH_CORE_VOTER},
        {KITH_CHANGE_DEMOTE, 3, "", 5, true, KITH_CORE_STANDBY},
        {KITH_CHANGE_REMOVE, 3, "", 4, false, 0},
        {KITH_CHANGE_REMOVE, 5, "", 4, false, 0},
        {KITH_CHANGE_MOVE, 2, "elsewhere:2", 5, true, KITH_CORE_VOTER},
        {KITH_CHANGE_MOVE, 1, "elsewhere:1", 5, true, KITH_CORE_VOTER},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kith_core *core = settled();
        struct kith_core_member member;
        bool committed = true;
        change(core, cases[i].kind, cases[i].id, cases[i].address);
        assert_int_equal(kith_core_configuration_index(core, &committed), kith_core_last_index(core));
        assert_false(committed);
        assert_int_equal(kith_core_member_count(core), cases[i].count);
        assert_int_equal(kith_core_find_member(core, cases[i].id, &member), cases[i].present);
        if (cases[i].present)
            assert_int_equal(member.role, cases[i].role);
        if (cases[i].present && *cases[i].address)
            assert_string_equal(member.address, cases[i].address);
        for (uint64_t id = 1; id <= 5; id++) {
            char address[32];
            snprintf(address, sizeof address, "node%d", (int)id);
            if (id == cases[i].id)
                continue;
            assert_true(kith_core_find_member(core, id, &member));
            assert_string_equal(member.address, address);
            assert_int_equal(member.role, id <= 3   ? KITH_CORE_VOTER
                                          : id == 4 ? KITH_CORE_STANDBY
                                                    : KITH_CORE_SPARE);
            if (id <= 4)
                assert_true(member.match_index >= kith_core_last_index(core) - 1);
        }
        kith_core_close(core);
    }
}

static void what_makes_no_sense_is_refused(void **state)
{
    static const struct {
        enum kith_change_kind kind;
        uint64_t id;
        const char *address;
        int status;
    } cases[] = {
        {KITH_CHANGE_PROMOTE, 9, "", KITH_ENOENT},
        {KITH_CHANGE_REMOVE, 9, "", KITH_ENOENT},
        {KITH_CHANGE_DEMOTE, 9, "", KITH_ENOENT},
        {KITH_CHANGE_MOVE, 9, "x:1", KITH_ENOENT},
        {KITH_CHANGE_PROMOTE, 5, "", KITH_EINVAL},
        {KITH_CHANGE_DEMOTE, 5, "", KITH_EINVAL},
        {KITH_CHANGE_ADD_SPARE, 3, "node3", KITH_EINVAL},
        {KITH_CHANGE_ADD_STANDBY, 9, "", KITH_EINVAL},
        {KITH_CHANGE_ADD_STANDBY, 9, "node2", KITH_EINVAL},
        {KITH_CHANGE_MOVE, 3, "node2", KITH_EINVAL},
        {KITH_CHANGE_ADD_STANDBY, 0, "x:1", KITH_ENOENT},
        {KITH_CHANGE_REMOVE, 1, "", KITH_EINVAL},
        {KITH_CHANGE_TRANSFER, 2, "", KITH_EINVAL},
        /* what is so already */
        {KITH_CHANGE_PROMOTE, 3, "", 1},
        {KITH_CHANGE_DEMOTE, 4, "", 1},
        {KITH_CHANGE_ADD_STANDBY, 4, "node4", 1},
        {KITH_CHANGE_MOVE, 2, "node2", 1},
    };
    struct kith_core *core = settled();
    struct kith_error why = {""};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(plan(core, cases[i].kind, cases[i].id, cases[i].address, &why), cases[i].status);
    char text[KITH_MEMBER_ADDRESS_BYTES + 1];
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '\0';
    assert_int_equal(plan(core, KITH_CHANGE_ADD_SPARE, 9, text, &why), KITH_ETOOBIG);
    kith_core_close(core);
}

static void a_group_has_a_bounded_number_of_members(void **state)
{
    int roles[KITH_MEMBERS_MAX];
    struct kith_error why = {""};
    for (int i = 0; i < KITH_MEMBERS_MAX; i++)
        roles[i] = i < 3 ? RAFT_VOTER : RAFT_SPARE;
    struct kith_core *core = leader_of(roles, KITH_MEMBERS_MAX);
    submit(core, KITH_ENTRY_BARRIER, KITH_SLICE(""));
    confirm(core, 2, kith_core_last_index(core));
    confirm(core, 3, kith_core_last_index(core));
    assert_int_equal(plan(core, KITH_CHANGE_ADD_SPARE, 1000, "one more:1", &why), KITH_ETOOBIG);
    assert_int_equal(plan(core, KITH_CHANGE_ADD_STANDBY, 4, "node4", &why), KITH_OK);
    kith_core_close(core);
}

static void one_change_at_a_time(void **state)
{
    struct kith_core *core = settled();
    struct kith_error why = {""};
    change(core, KITH_CHANGE_ADD_SPARE, 9, "node9");
    assert_int_equal(plan(core, KITH_CHANGE_ADD_SPARE, 10, "node10", &why), KITH_EBUSY);
    kith_core_close(core);
}

static void only_who_is_caught_up_is_promoted_or_lets_others_change(void **state)
{
    struct kith_core *core = settled();
    struct kith_error why = {""};
    for (int i = 0; i < KITH_MEMBER_LAG_ENTRIES + 8; i++)
        submit(core, KITH_ENTRY_COMMAND, KITH_SLICE("x"));
    uint64_t last = kith_core_last_index(core);
    confirm(core, 2, last);
    assert_int_equal(plan(core, KITH_CHANGE_PROMOTE, 4, "", &why), KITH_EAGAIN);
    assert_non_null(strstr(why.text, "entries behind"));
    confirm(core, 4, last);
    assert_int_equal(plan(core, KITH_CHANGE_PROMOTE, 4, "", &why), KITH_EAGAIN); /* because of 3 */
    assert_non_null(strstr(why.text, "0000000000000003"));
    assert_int_equal(plan(core, KITH_CHANGE_REMOVE, 2, "", &why), KITH_EAGAIN);
    assert_int_equal(plan(core, KITH_CHANGE_REMOVE, 3, "", &why), KITH_OK); /* the dead one itself may go */
    /* No majority depends on an address, and of two that have moved each would wait for the other. */
    assert_int_equal(plan(core, KITH_CHANGE_MOVE, 2, "elsewhere:2", &why), KITH_OK);
    assert_int_equal(kith_core_best_heir(core), 2);
    confirm(core, 3, last - KITH_MEMBER_LAG_ENTRIES);
    assert_int_equal(plan(core, KITH_CHANGE_PROMOTE, 4, "", &why), KITH_OK);
    kith_core_close(core);
}

/* It would be asked for its vote and know of no group that it is in. Found by the simulator: seed 572 of groups of two. */
static void who_lacks_the_entry_that_took_it_in_is_not_promoted(void **state)
{
    struct kith_core *core = settled();
    struct kith_core_update update;
    struct kith_error why = {""};
    struct kith_slice configuration;
    assert_int_equal(
        kith_core_plan_change(core, KITH_CHANGE_ADD_STANDBY, 6, KITH_SLICE("node6"), &configuration, &why),
        KITH_OK);
    submit(core, KITH_ENTRY_CONFIGURATION, configuration);
    uint64_t index = kith_core_last_index(core);
    for (uint64_t peer = 2; peer <= 3; peer++)
        confirm(core, peer, index);
    assert_int_equal(kith_core_configuration_applied(core, 0, index, configuration, &update), KITH_OK);
    free((void *)configuration.data);
    confirm(core, 6, index - 1);
    assert_int_equal(plan(core, KITH_CHANGE_PROMOTE, 6, "", &why), KITH_EAGAIN);
    assert_non_null(strstr(why.text, "1 entries behind"));
    confirm(core, 6, index);
    assert_int_equal(plan(core, KITH_CHANGE_PROMOTE, 6, "", &why), KITH_OK);
    kith_core_close(core);
}

static void a_handover_and_a_follower_change_nothing(void **state)
{
    struct kith_core *core = settled();
    struct kith_core_update update;
    struct kith_error why = {""};
    const char *address = NULL;
    assert_int_equal(kith_core_leader(core, &address), 1);
    assert_int_equal(kith_core_transfer(core, 0, 2, &update), KITH_OK);
    assert_true(kith_core_is_transferring(core));
    assert_int_equal(plan(core, KITH_CHANGE_ADD_SPARE, 9, "node9", &why), KITH_EBUSY);
    struct kith_core_message append = from(2, KITH_CORE_APPEND, kith_core_term(core) + 1);
    append.peer_address = "node2";
    append.append.previous_index = kith_core_last_index(core);
    append.append.previous_term = kith_core_term(core);
    deliver(core, &append);
    assert_int_equal(kith_core_get_role(core), KITH_CORE_FOLLOWER);
    assert_int_equal(plan(core, KITH_CHANGE_ADD_SPARE, 9, "node9", &why), KITH_EAGAIN);
    assert_int_equal(kith_core_leader(core, &address), 2);
    assert_string_equal(address, "node2");
    assert_false(kith_core_is_transferring(core) || kith_core_has_committed_own(core));
    struct kith_core_member member;
    assert_true(kith_core_find_member(core, 2, &member));
    assert_int_equal(member.match_index, 0);
    kith_core_close(core);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_leader_changes_nothing_until_it_has_committed_in_its_term),
        cmocka_unit_test(a_group_of_one_may_change_after_its_first_entry),
        cmocka_unit_test(each_change_alters_one_member_and_no_other),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(a_group_has_a_bounded_number_of_members),
        cmocka_unit_test(one_change_at_a_time),
        cmocka_unit_test(only_who_is_caught_up_is_promoted_or_lets_others_change),
        cmocka_unit_test(who_lacks_the_entry_that_took_it_in_is_not_promoted),
        cmocka_unit_test(a_handover_and_a_follower_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
