/* The simulated network keeps the promises of transport.h and breaks what it may break. */
#include "network.h"

#include "base/varint.h"
#include "repl/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct ear {
    struct sim_events events;
    struct sim_network *network;
    uint32_t heard[20000];
    size_t count;
    int wakes;
};

static void hear(void *context, int machine, uint64_t peer, const char *address, uint64_t sent_us,
                 struct kith_slice frame)
{
    struct ear *ear = context;
    assert_int_equal(machine, 2);
    assert_int_equal(peer, 101);
    assert_string_equal(address, "n1");
    assert_int_equal(frame.length, 5);
    ear->heard[ear->count++] = kith_get_u32(frame.data + 1);
}

static void note_wake(void *context, int machine)
{
    ((struct ear *)context)->wakes++;
}

static struct ear *listen(const struct sim_weather *weather)
{
    struct ear *ear = calloc(1, sizeof *ear);
    struct sim_network_options options = {&ear->events, 7, ear, hear, note_wake, NULL, NULL, NULL};
    ear->network = sim_network_open(&options);
    sim_network_set_node(ear->network, 1, 101);
    sim_network_set_node(ear->network, 2, 102);
    while (sim_events_step(&ear->events)) {
    }
    ear->wakes = 0;
    if (weather)
        sim_network_set_weather(ear->network, weather);
    return ear;
}

static void deafen(struct ear *ear)
{
    sim_events_fini(&ear->events);
    sim_network_close(ear->network);
    free(ear);
}

static void say(struct ear *ear, uint8_t kind, uint32_t number)
{
    struct kith_transport transport = sim_network_transport(ear->network, 1);
    struct kith_buf frame = {0};
    char bytes[4];
    kith_put_u32(bytes, number);
    kith_buf_append_char(&frame, (char)kind);
    kith_buf_append(&frame, bytes, 4);
    transport.send(transport.context, 102, "n2", KITH_LANE_MESSAGES, &frame);
    assert_null(frame.data);
}

static void run(struct ear *ear)
{
    while (sim_events_step(&ear->events)) {
    }
}

static void a_lane_keeps_its_order(void **state)
{
    struct sim_weather storm = {.lost = 0.3, .doubled = 0.3, .late = 0.3, .late_us = 50000, .delay_us = 900};
    struct ear *ear = listen(&storm);
    for (uint32_t i = 0; i < 1000; i++)
        say(ear, KITH_FRAME_FORWARD, i);
    run(ear);
    assert_int_equal(ear->count, 1000);
    for (uint32_t i = 0; i < 1000; i++)
        assert_int_equal(ear->heard[i], i);
    deafen(ear);
}

static void ravaged_messages_are_lost_doubled_and_out_of_order(void **state)
{
    struct sim_weather storm = {.lost = 0.1, .doubled = 0.1, .late = 0.1, .late_us = 50000, .delay_us = 900};
    struct ear *ear = listen(&storm);
    size_t back = 0;
    for (uint32_t i = 0; i < 10000; i++)
        say(ear, KITH_CORE_APPEND, i);
    run(ear);
    for (size_t i = 1; i < ear->count; i++)
        back += ear->heard[i] < ear->heard[i - 1];
    const struct sim_network_figures *f = sim_network_get_figures(ear->network);
    assert_int_equal(ear->count, 10000 - f->lost + f->doubled);
    assert_in_range(f->lost, 800, 1200);
    assert_in_range(f->doubled, 700, 1100);
    assert_in_range(back, 500, 3000);
    deafen(ear);
}

static void a_broken_connection_loses_what_is_on_its_way_and_comes_back(void **state)
{
    struct ear *ear = listen(NULL);
    struct kith_transport transport = sim_network_transport(ear->network, 1);
    for (uint32_t i = 0; i < 10; i++)
        say(ear, KITH_FRAME_FORWARD, i);
    sim_network_break(ear->network, 2, 1);
    assert_int_equal(transport.room(transport.context, 102, KITH_LANE_MESSAGES), 0);
    say(ear, KITH_FRAME_FORWARD, 10); /* not connected: dropped */
    run(ear);
    assert_int_equal(ear->count, 0);
    assert_true(ear->wakes > 0);
    assert_true(transport.room(transport.context, 102, KITH_LANE_MESSAGES) > 0);
    say(ear, KITH_FRAME_FORWARD, 11);
    run(ear);
    assert_int_equal(ear->count, 1);
    assert_int_equal(ear->heard[0], 11);
    deafen(ear);
}

static void nothing_passes_a_block_or_reaches_another_node_in_its_place(void **state)
{
    struct ear *ear = listen(NULL);
    sim_network_block(ear->network, 1, 2, true);
    say(ear, KITH_CORE_APPEND, 1);
    run(ear);
    assert_int_equal(ear->count, 0);
    sim_network_heal(ear->network);
    say(ear, KITH_CORE_APPEND, 2);
    sim_network_set_node(ear->network, 2, 103); /* a new node at the old address */
    run(ear);
    say(ear, KITH_CORE_APPEND, 3);
    run(ear);
    assert_int_equal(ear->count, 0);
    deafen(ear);
}

static void a_full_lane_says_so_and_wakes_when_there_is_room(void **state)
{
    struct ear *ear = listen(NULL);
    struct kith_transport transport = sim_network_transport(ear->network, 1);
    size_t room = transport.room(transport.context, 102, KITH_LANE_MESSAGES), said = 0;
    for (; transport.room(transport.context, 102, KITH_LANE_STREAM) > 0; said++) {
        struct kith_buf frame = {0};
        if (!kith_buf_reserve(&frame, room / 4))
            fail();
        frame.length = room / 4;
        memset(frame.data, KITH_FRAME_STREAM_DATA, frame.length);
        transport.send(transport.context, 102, "n2", KITH_LANE_STREAM, &frame);
    }
    assert_int_equal(said, 4);
    assert_true(transport.room(transport.context, 102, KITH_LANE_MESSAGES) > 0); /* the other lane is free */
    sim_network_block(ear->network, 1, 2, true); /* what arrives there is not for the ear */
    run(ear);
    assert_true(ear->wakes > 0);
    deafen(ear);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lane_keeps_its_order),
        cmocka_unit_test(ravaged_messages_are_lost_doubled_and_out_of_order),
        cmocka_unit_test(a_broken_connection_loses_what_is_on_its_way_and_comes_back),
        cmocka_unit_test(nothing_passes_a_block_or_reaches_another_node_in_its_place),
        cmocka_unit_test(a_full_lane_says_so_and_wakes_when_there_is_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
