/* Frames: what is encoded is decoded, for random frames of every kind; what is cut, padded or out of range is refused. */
#include "base/buf.h"
#include "base/random.h"
#include "base/varint.h"
#include "failing_malloc.h"
#include "repl/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ROUNDS = 300, ENTRIES = 40, SEED = 20261120 };

static const uint8_t kinds[] = {
    KITH_CORE_APPEND,       KITH_CORE_APPEND_RESULT,  KITH_CORE_VOTE,          KITH_CORE_VOTE_RESULT,
    KITH_CORE_INSTALL,      KITH_CORE_TIMEOUT_NOW,    KITH_FRAME_PROBE,        KITH_FRAME_PROBE_RESULT,
    KITH_FRAME_READ,        KITH_FRAME_READ_RESULT,   KITH_FRAME_FORWARD,      KITH_FRAME_FORWARD_REFUSED,
    KITH_FRAME_CHANGE,      KITH_FRAME_CHANGE_RESULT, KITH_FRAME_STREAM_OFFER, KITH_FRAME_STREAM_WANT,
    KITH_FRAME_STREAM_DATA, KITH_FRAME_STREAM_END,    KITH_FRAME_REMOVED,      KITH_FRAME_ABOUT};
enum { KINDS = sizeof kinds };

struct maker {
    struct kith_rng rng;
    struct kith_core_entry entries[ENTRIES];
    char bytes[512];
};

/* Any magnitude, the borders more often than their share. */
static uint64_t number(struct maker *m)
{
    uint64_t bits = kith_rng_below(&m->rng, 66);
    return bits == 65 ? UINT64_MAX : bits ? kith_rng_next(&m->rng) >> (64 - bits) : 0;
}

static bool coin(struct maker *m)
{
    return kith_rng_next(&m->rng) & 1;
}

static struct kith_slice bytes(struct maker *m, size_t max)
{
    return kith_slice(m->bytes, kith_rng_below(&m->rng, max + 1));
}

static void make_raft(struct maker *m, struct kith_core_message *out)
{
    out->version = (uint8_t)number(m);
    out->term = number(m);
    switch (out->kind) {
    case KITH_CORE_APPEND:
        out->append.previous_index = number(m);
        out->append.previous_term = number(m);
        out->append.commit_index = number(m);
        out->append.count = (uint32_t)kith_rng_below(&m->rng, ENTRIES + 1);
        out->append.entries = m->entries;
        for (uint32_t i = 0; i < out->append.count; i++)
            m->entries[i] =
                (struct kith_core_entry){.term = number(m),
                                         .kind = (enum kith_entry_kind)(1 + kith_rng_below(&m->rng, 3)),
                                         .payload = bytes(m, sizeof m->bytes)};
        break;
    case KITH_CORE_APPEND_RESULT:
        out->append_result.rejected = number(m);
        out->append_result.last_index = number(m);
        out->append_result.features = (uint16_t)number(m);
        out->append_result.capacity = (uint16_t)number(m);
        break;
    case KITH_CORE_VOTE:
        out->vote.candidate = number(m);
        out->vote.last_index = number(m);
        out->vote.last_term = number(m);
        out->vote.disrupt_leader = coin(m);
        out->vote.pre_vote = coin(m);
        break;
    case KITH_CORE_VOTE_RESULT:
        out->vote_result.granted = coin(m);
        out->vote_result.pre_vote = coin(m);
        out->vote_result.features = (uint16_t)number(m);
        out->vote_result.capacity = (uint16_t)number(m);
        break;
    case KITH_CORE_INSTALL:
        out->install.index = number(m);
        out->install.term = number(m);
        out->install.configuration_index = number(m);
        out->install.configuration = bytes(m, sizeof m->bytes);
        break;
    case KITH_CORE_TIMEOUT_NOW:
        out->timeout_now.last_index = number(m);
        out->timeout_now.last_term = number(m);
        break;
    }
}

static void make_rest(struct maker *m, struct kith_frame *f)
{
    switch ((enum kith_frame_kind)f->kind) {
    case KITH_FRAME_PROBE:
    case KITH_FRAME_PROBE_RESULT:
        f->probe.term = number(m);
        f->probe.number = number(m);
        break;
    case KITH_FRAME_READ:
    case KITH_FRAME_FORWARD_REFUSED:
        f->read.number = number(m);
        break;
    case KITH_FRAME_READ_RESULT:
    case KITH_FRAME_STREAM_WANT:
        f->read_result.number = number(m);
        f->read_result.index = number(m);
        break;
    case KITH_FRAME_FORWARD:
        f->forward.number = number(m);
        f->forward.payload = bytes(m, sizeof m->bytes);
        break;
    case KITH_FRAME_CHANGE:
        f->change.number = number(m);
        f->change.change = (enum kith_change_kind)(1 + kith_rng_below(&m->rng, KITH_CHANGE_MOVE));
        f->change.id = number(m);
        f->change.address = bytes(m, KITH_FRAME_ADDRESS_MAX);
        break;
    case KITH_FRAME_CHANGE_RESULT:
        f->change_result.number = number(m);
        f->change_result.status = (int64_t)number(m);
        f->change_result.text = bytes(m, sizeof m->bytes);
        break;
    case KITH_FRAME_STREAM_OFFER:
        f->stream_offer.term = number(m);
        f->stream_offer.index = number(m);
        f->stream_offer.entry_term = number(m);
        f->stream_offer.file_bytes = number(m);
        f->stream_offer.file_crc = (uint32_t)number(m);
        break;
    case KITH_FRAME_STREAM_DATA:
        f->stream_data.index = number(m);
        f->stream_data.offset = number(m);
        f->stream_data.bytes = bytes(m, sizeof m->bytes);
        break;
    case KITH_FRAME_STREAM_END:
        f->stream_end.index = number(m);
        f->stream_end.status = (int64_t)number(m);
        break;
    case KITH_FRAME_REMOVED:
        f->removed.configuration_index = number(m);
        break;
    case KITH_FRAME_ABOUT:
        f->about.client_address = bytes(m, KITH_FRAME_ADDRESS_MAX);
        f->about.version = bytes(m, KITH_FRAME_ADDRESS_MAX);
        break;
    }
}

static void make(struct maker *m, struct kith_frame *out, uint8_t kind)
{
    *out = (struct kith_frame){.kind = kind};
    for (size_t i = 0; i < sizeof m->bytes; i++)
        m->bytes[i] = (char)(1 + kith_rng_below(&m->rng, 255));
    if (kind < KITH_FRAME_PROBE) {
        out->raft.kind = (enum kith_core_message_kind)kind;
        make_raft(m, &out->raft);
    } else {
        make_rest(m, out);
    }
}

static void same_slice(struct kith_slice a, struct kith_slice b)
{
    assert_true(kith_slice_equal(a, b));
}

/* Field by field, since slices and padding do not compare as memory. */
static void same_raft(const struct kith_core_message *a, const struct kith_core_message *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->version, b->version);
    assert_true(a->term == b->term);
    switch (a->kind) {
    case KITH_CORE_APPEND:
        assert_true(a->append.previous_index == b->append.previous_index);
        assert_true(a->append.previous_term == b->append.previous_term);
        assert_true(a->append.commit_index == b->append.commit_index);
        assert_int_equal(a->append.count, b->append.count);
        for (uint32_t i = 0; i < a->append.count; i++) {
            assert_true(a->append.entries[i].term == b->append.entries[i].term);
            assert_int_equal(a->append.entries[i].kind, b->append.entries[i].kind);
            same_slice(a->append.entries[i].payload, b->append.entries[i].payload);
        }
        break;
    case KITH_CORE_APPEND_RESULT:
        assert_memory_equal(&a->append_result.rejected, &b->append_result.rejected, 8);
        assert_true(a->append_result.last_index == b->append_result.last_index);
        assert_int_equal(a->append_result.features, b->append_result.features);
        assert_int_equal(a->append_result.capacity, b->append_result.capacity);
        break;
    case KITH_CORE_VOTE:
        assert_true(a->vote.candidate == b->vote.candidate && a->vote.last_index == b->vote.last_index &&
                    a->vote.last_term == b->vote.last_term);
        assert_true(a->vote.disrupt_leader == b->vote.disrupt_leader && a->vote.pre_vote == b->vote.pre_vote);
        break;
    case KITH_CORE_VOTE_RESULT:
        assert_true(a->vote_result.granted == b->vote_result.granted &&
                    a->vote_result.pre_vote == b->vote_result.pre_vote);
        assert_int_equal(a->vote_result.features, b->vote_result.features);
        assert_int_equal(a->vote_result.capacity, b->vote_result.capacity);
        break;
    case KITH_CORE_INSTALL:
        assert_true(a->install.index == b->install.index && a->install.term == b->install.term &&
                    a->install.configuration_index == b->install.configuration_index);
        same_slice(a->install.configuration, b->install.configuration);
        break;
    case KITH_CORE_TIMEOUT_NOW:
        assert_true(a->timeout_now.last_index == b->timeout_now.last_index &&
                    a->timeout_now.last_term == b->timeout_now.last_term);
        break;
    }
}

static void same_rest(const struct kith_frame *a, const struct kith_frame *b)
{
    switch ((enum kith_frame_kind)a->kind) {
    case KITH_FRAME_PROBE:
    case KITH_FRAME_PROBE_RESULT:
        assert_true(a->probe.term == b->probe.term && a->probe.number == b->probe.number);
        break;
    case KITH_FRAME_READ:
        assert_true(a->read.number == b->read.number);
        break;
    case KITH_FRAME_READ_RESULT:
        assert_true(a->read_result.number == b->read_result.number &&
                    a->read_result.index == b->read_result.index);
        break;
    case KITH_FRAME_FORWARD:
        assert_true(a->forward.number == b->forward.number);
        same_slice(a->forward.payload, b->forward.payload);
        break;
    case KITH_FRAME_FORWARD_REFUSED:
        assert_true(a->forward_refused.number == b->forward_refused.number);
        break;
    case KITH_FRAME_CHANGE:
        assert_true(a->change.number == b->change.number && a->change.id == b->change.id);
        assert_int_equal(a->change.change, b->change.change);
        same_slice(a->change.address, b->change.address);
        break;
    case KITH_FRAME_CHANGE_RESULT:
        assert_true(a->change_result.number == b->change_result.number &&
                    a->change_result.status == b->change_result.status);
        same_slice(a->change_result.text, b->change_result.text);
        break;
    case KITH_FRAME_STREAM_OFFER:
        assert_true(a->stream_offer.term == b->stream_offer.term &&
                    a->stream_offer.index == b->stream_offer.index &&
                    a->stream_offer.entry_term == b->stream_offer.entry_term &&
                    a->stream_offer.file_bytes == b->stream_offer.file_bytes);
        assert_int_equal(a->stream_offer.file_crc, b->stream_offer.file_crc);
        break;
    case KITH_FRAME_STREAM_WANT:
        assert_true(a->stream_want.index == b->stream_want.index &&
                    a->stream_want.offset == b->stream_want.offset);
        break;
    case KITH_FRAME_STREAM_DATA:
        assert_true(a->stream_data.index == b->stream_data.index &&
                    a->stream_data.offset == b->stream_data.offset);
        same_slice(a->stream_data.bytes, b->stream_data.bytes);
        break;
    case KITH_FRAME_STREAM_END:
        assert_true(a->stream_end.index == b->stream_end.index &&
                    a->stream_end.status == b->stream_end.status);
        break;
    case KITH_FRAME_REMOVED:
        assert_true(a->removed.configuration_index == b->removed.configuration_index);
        break;
    case KITH_FRAME_ABOUT:
        same_slice(a->about.client_address, b->about.client_address);
        same_slice(a->about.version, b->about.version);
        break;
    }
}

/* A head and its payload are the same bytes as the whole. */
static void check_in_two(const struct kith_frame *frame, const struct kith_buf *whole)
{
    struct kith_buf head;
    if (frame->kind != KITH_FRAME_FORWARD &&
        (frame->kind != KITH_CORE_APPEND || frame->raft.append.count != 1))
        return;
    kith_buf_init(&head);
    struct kith_slice rest = kith_frame_encode_head(&head, frame);
    kith_buf_append(&head, rest.data, rest.length);
    assert_true(kith_slice_equal(kith_buf_slice(&head), kith_buf_slice(whole)));
    kith_buf_fini(&head);
}

static void what_is_encoded_is_decoded(void **state)
{
    struct maker m;
    struct kith_frame_room room = {0};
    kith_rng_seed(&m.rng, SEED);
    print_message("seed %d\n", SEED);
    for (int round = 0; round < ROUNDS; round++) {
        for (int k = 0; k < KINDS; k++) {
            struct kith_frame frame, back;
            struct kith_buf buf;
            kith_buf_init(&buf);
            make(&m, &frame, kinds[k]);
            kith_frame_encode(&buf, &frame);
            assert_false(buf.failed);
            check_in_two(&frame, &buf);
            assert_int_equal(kith_frame_decode(&back, &room, kith_buf_slice(&buf)), KITH_OK);
            assert_int_equal(back.kind, frame.kind);
            if (frame.kind < KITH_FRAME_PROBE)
                same_raft(&frame.raft, &back.raft);
            else
                same_rest(&frame, &back);
            kith_buf_fini(&buf);
        }
    }
    kith_frame_room_close(&room);
}

static void a_frame_cut_anywhere_or_with_a_byte_too_many_is_refused(void **state)
{
    struct maker m;
    struct kith_frame_room room = {0};
    kith_rng_seed(&m.rng, SEED + 1);
    for (int k = 0; k < KINDS; k++) {
        struct kith_frame frame, back = {.kind = 200};
        struct kith_buf buf;
        kith_buf_init(&buf);
        make(&m, &frame, kinds[k]);
        kith_frame_encode(&buf, &frame);
        for (size_t length = 0; length < buf.length; length++) {
            char *copy = malloc(length ? length : 1); /* so that a sanitizer sees a read behind the end */
            assert_non_null(copy);
            memcpy(copy, buf.data, length);
            assert_int_equal(kith_frame_decode(&back, &room, kith_slice(copy, length)), KITH_ECORRUPT);
            free(copy);
        }
        kith_buf_append_char(&buf, 0);
        assert_int_equal(kith_frame_decode(&back, &room, kith_buf_slice(&buf)), KITH_ECORRUPT);
        assert_int_equal(back.kind, 200);
        kith_buf_fini(&buf);
    }
    kith_frame_room_close(&room);
}

static void an_unknown_kind_or_version_is_refused_as_newer(void **state)
{
    struct kith_frame_room room = {0};
    struct kith_frame back;
    for (int kind = 0; kind < 256; kind++) {
        bool known = memchr(kinds, kind, KINDS) != NULL;
        char newer[] = {(char)kind, KITH_FRAME_VERSION + 1, 1, 1}, unknown[] = {(char)kind, 1, 0, 0};
        assert_int_equal(kith_frame_decode(&back, &room, kith_slice(newer, sizeof newer)), KITH_EVERSION);
        if (!known)
            assert_int_equal(kith_frame_decode(&back, &room, kith_slice(unknown, sizeof unknown)),
                             KITH_EVERSION);
    }
    kith_frame_room_close(&room);
}

static void what_is_out_of_range_is_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t length;
    } cases[] = {
#define CASE(literal) {(literal), sizeof(literal) - 1}
        CASE("\x01\x01\x00\x01\x01\x01\x01\x01\x01\x04\x00"),         /* an entry of kind 4 */
        CASE("\x01\x01\x00\x01\x01\x01\x01\x01\x01\x00\x00"),         /* of kind 0 */
        CASE("\x01\x01\x00\x01\x01\x01\x01\x81\x80\x04\x01\x01\x00"), /* 65,537 entries */
        CASE("\x01\x01\x00\x01\x01\x01\x01\xff\xff\x03"),             /* 65,535 entries in no bytes */
        CASE("\x02\x01\x00\x01\x01\x01\x80\x80\x04\x00"),             /* features beyond 16 bits */
        CASE("\x04\x01\x00\x01\x02\x00\x00\x00"),                     /* a bool of 2 */
        CASE("\x16\x01\x01\x00"
             "12345678\x00"), /* change 0 */
        CASE("\x16\x01\x01\x08"
             "12345678\x00"), /* change 8 */
        CASE("\x16\x01\x01\x01"
             "12345678\x03"
             "a\x00"
             "b"),                                                                /* a NUL in an address */
        CASE("\x10\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\x01"),             /* a varint past 64 bits */
        CASE("\x14\x01\x01\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\x7f"), /* a length past the end */
#undef CASE
    };
    struct kith_frame_room room = {0};
    struct kith_frame back;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(kith_frame_decode(&back, &room, kith_slice(cases[i].bytes, cases[i].length)),
                         KITH_ECORRUPT);
    kith_frame_room_close(&room);
}

static void a_long_text_is_cut_and_data_past_the_limit_is_refused(void **state)
{
    static char zeros[KITH_STREAM_DATA_MAX + 1];
    struct kith_frame_room room = {0};
    struct kith_frame back, frame = {.kind = KITH_FRAME_CHANGE_RESULT,
                                     .change_result = {.text = kith_slice(zeros, sizeof zeros)}};
    struct kith_buf buf;
    kith_buf_init(&buf);
    kith_frame_encode(&buf, &frame);
    assert_int_equal(kith_frame_decode(&back, &room, kith_buf_slice(&buf)), KITH_OK);
    assert_int_equal(back.change_result.text.length, KITH_FRAME_TEXT_MAX);

    kith_buf_clear(&buf);
    kith_buf_append(&buf, "\x1a\x01\x01\x00", 4);
    kith_buf_append_slice(&buf, kith_slice(zeros, KITH_STREAM_DATA_MAX));
    assert_int_equal(kith_frame_decode(&back, &room, kith_buf_slice(&buf)), KITH_OK);
    kith_buf_clear(&buf);
    kith_buf_append(&buf, "\x1a\x01\x01\x00", 4);
    kith_buf_append_slice(&buf, kith_slice(zeros, sizeof zeros));
    assert_int_equal(kith_frame_decode(&back, &room, kith_buf_slice(&buf)), KITH_ECORRUPT);
    kith_buf_fini(&buf);
    kith_frame_room_close(&room);
}

static void without_memory_nothing_is_decoded(void **state)
{
    struct maker m;
    struct kith_frame frame, back;
    struct kith_frame_room room = {0};
    struct kith_buf buf;
    kith_rng_seed(&m.rng, SEED + 2);
    kith_buf_init(&buf);
    do
        make(&m, &frame, KITH_CORE_APPEND);
    while (!frame.raft.append.count);
    kith_frame_encode(&buf, &frame);
    failing_malloc_arm(0);
    assert_int_equal(kith_frame_decode(&back, &room, kith_buf_slice(&buf)), KITH_ENOMEM);
    assert_true(failing_malloc_disarm());
    assert_int_equal(kith_frame_decode(&back, &room, kith_buf_slice(&buf)), KITH_OK);
    kith_buf_fini(&buf);
    failing_malloc_arm(0);
    kith_frame_encode(&buf, &frame);
    assert_true(failing_malloc_disarm());
    assert_true(buf.failed);
    kith_buf_fini(&buf);
    kith_frame_room_close(&room);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_encoded_is_decoded),
        cmocka_unit_test(a_frame_cut_anywhere_or_with_a_byte_too_many_is_refused),
        cmocka_unit_test(an_unknown_kind_or_version_is_refused_as_newer),
        cmocka_unit_test(what_is_out_of_range_is_refused),
        cmocka_unit_test(a_long_text_is_cut_and_data_past_the_limit_is_refused),
        cmocka_unit_test(without_memory_nothing_is_decoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
