/* Vector sets beside a plain model: an array of names with a vector and an attribute each. */
#include "fixture.h"

#include "base/random.h"
#include "base/status.h"
#include "engine/attributes.h"
#include "engine/projection.h"
#include "engine/vset.h"
#include "engine/vset_calibrate.h"
#include "failing_malloc.h"
#include "vec/calibrate.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants those first */
#include <cmocka.h>

enum { NAMES = 60, DIM = 8 };

struct element {
    bool there;
    float vector[DIM];
    int attribute; /* 0: none */
};

struct model {
    struct element elements[NAMES];
    size_t count, attribute_count;
};

/* Some names share their first eight bytes, one is empty, one has a zero byte. */
static struct kith_slice name_of(unsigned i, char text[32])
{
    if (i == 0)
        return kith_slice("", 0);
    if (i == 1)
        return kith_slice("a\0b", 3);
    int length = snprintf(text, 32, i % 2 ? "element:%u" : "%u", i);
    return kith_slice(text, (size_t)length);
}

static void random_vector(struct kith_rng *rng, float *vector, size_t dim)
{
    for (size_t i = 0; i < dim; i++)
        vector[i] = (float)(kith_rng_unit(rng) * 2 - 1);
}

static struct kith_attributes *new_attributes(int number)
{
    char json[64];
    int length = snprintf(json, sizeof json, "{\"n\":%d}", number);
    return kith_attributes_open(kith_slice(json, (size_t)length));
}

static void assert_attribute(const struct kith_attributes *attributes, int number)
{
    assert_int_equal(attributes != NULL, number != 0);
    if (attributes)
        assert_true(kith_attributes_get(attributes, KITH_SLICE("n"))->number == number);
}

/* One random change of the set, and of the model when it succeeded. False: no memory. */
static bool change(struct kith_vset *vset, struct model *model, struct kith_rng *rng)
{
    char text[32];
    unsigned i = (unsigned)kith_rng_below(rng, NAMES);
    struct element *element = &model->elements[i], after = *element;
    unsigned what = (unsigned)kith_rng_below(rng, 10);
    int number = (int)kith_rng_below(rng, 3) ? 1 + (int)kith_rng_below(rng, 1000) : 0;
    struct kith_attributes *attributes = number && what > 2 ? new_attributes(number) : NULL;
    int status;
    random_vector(rng, after.vector, DIM);
    if (number && what > 2 && !attributes)
        return false;
    if (what <= 2) {
        status = kith_vset_remove(vset, name_of(i, text));
        assert_true(status == KITH_ENOMEM || status == (element->there ? KITH_OK : KITH_ENOENT));
        after = (struct element){.there = false};
    } else if (what <= 4) {
        status = kith_vset_set_attributes(vset, name_of(i, text), attributes);
        assert_int_equal(status, element->there ? KITH_OK : KITH_ENOENT);
        after = *element;
        after.attribute = number;
    } else {
        status = kith_vset_add(vset, name_of(i, text), after.vector, 0, attributes);
        assert_true(status == KITH_ENOMEM || status == !element->there);
        after.there = true;
        after.attribute = attributes || !element->there ? number : element->attribute;
    }
    if (status < 0) {
        kith_attributes_close(attributes);
        return status != KITH_ENOMEM;
    }
    model->count += (size_t)after.there - (size_t)element->there;
    model->attribute_count += (size_t)(after.attribute != 0) - (size_t)(element->attribute != 0);
    *element = after;
    kith_vset_schedule(vset);
    return true;
}

struct names {
    struct kith_slice last;
    size_t count;
};

static bool report_name(void *arg, struct kith_slice name)
{
    struct names *names = arg;
    if (names->count++)
        assert_true(kith_slice_compare(names->last, name) < 0);
    names->last = name;
    return true;
}

static void assert_vector(const struct kith_vset *vset, uint32_t slot, const struct element *element)
{
    float kept[DIM];
    enum kith_hnsw_codes codes = kith_vset_get_options(vset)->codes;
    kith_hnsw_vector(kith_vset_index(vset), slot, kept);
    float dot = 0;
    for (int d = 0; d < DIM; d++)
        dot += kept[d] * element->vector[d];
    assert_true(dot > 0);
    for (int d = 0; d < DIM && codes != KITH_HNSW_BIN; d++)
        assert_true(fabsf(kept[d] - element->vector[d]) < (codes == KITH_HNSW_F32 ? 1e-5f : 0.02f));
}

static void assert_like(struct kith_vset *vset, const struct model *model)
{
    struct kith_error error = {""};
    struct names names = {0};
    int status = kith_vset_check(vset, &error);
    if (status)
        print_message("%s\n", error.text);
    assert_int_equal(status, KITH_OK);
    assert_int_equal(kith_vset_count(vset), model->count);
    assert_int_equal(kith_vset_attribute_count(vset), model->attribute_count);
    for (unsigned i = 0; i < NAMES; i++) {
        char text[32];
        struct kith_slice name = name_of(i, text), found;
        uint32_t slot = kith_vset_find(vset, name);
        assert_int_equal(slot != KITH_HNSW_NONE, model->elements[i].there);
        if (slot == KITH_HNSW_NONE)
            continue;
        assert_true(kith_vset_name(vset, slot, &found));
        assert_true(kith_slice_equal(name, found));
        assert_attribute(kith_vset_attributes(vset, slot), model->elements[i].attribute);
        assert_vector(vset, slot, &model->elements[i]);
    }
    kith_vset_names(vset, kith_slice(NULL, 0), false, report_name, &names);
    assert_int_equal(names.count, model->count);
}

/* An exact search for everything finds each element once, in order. */
static void assert_search_finds_all(struct kith_vset *vset, const struct model *model, struct kith_rng *rng)
{
    struct kith_hnsw_hit hits[NAMES];
    float vector[DIM];
    random_vector(rng, vector, DIM);
    struct kith_hnsw_query query = {.vector = vector, .k = NAMES, .exact = true};
    int count = kith_hnsw_search(kith_vset_index(vset), &query, hits, NULL);
    assert_int_equal(count, model->count);
    for (int i = 1; i < count; i++)
        assert_true(hits[i - 1].distance <= hits[i].distance && hits[i - 1].slot != hits[i].slot);
}

static struct kith_vset *open_set(struct fixture *fixture, enum kith_hnsw_codes codes, uint64_t seed)
{
    struct kith_vset *vset;
    struct kith_vset_options options = {.dim = DIM, .codes = codes, .m = 4, .seed = seed};
    return kith_vset_open(&vset, fixture->engine, &options) == KITH_OK ? vset : NULL;
}

static void random_changes_leave_what_the_model_has(void **state)
{
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct fixture fixture;
        struct kith_rng rng;
        struct model model = {0};
        print_message("seed %llu\n", (unsigned long long)seed);
        assert_true(fixture_open(&fixture, seed));
        kith_rng_seed(&rng, seed);
        struct kith_vset *vset = open_set(&fixture, (enum kith_hnsw_codes)(KITH_HNSW_F32 + seed % 3), seed);
        for (int i = 0; i < 4000; i++) {
            assert_true(change(vset, &model, &rng));
            if (i % 40 == 0) {
                assert_like(vset, &model);
                assert_search_finds_all(vset, &model, &rng);
            }
        }
        assert_int_equal(kith_vset_get_totals(fixture.engine)->elements, model.count);
        assert_int_equal(kith_vset_get_totals(fixture.engine)->unlinked, 0);
        kith_vset_close(vset);
        assert_int_equal(kith_vset_get_totals(fixture.engine)->sets, 0);
        assert_int_equal(kith_vset_get_totals(fixture.engine)->deleted, 0);
        fixture_close(&fixture);
    }
}

static void without_memory_a_change_is_whole_or_not_there(void **state)
{
    bool failed = true;
    for (long n = 0; failed; n++) {
        struct fixture fixture;
        struct kith_rng rng;
        struct model model = {0};
        assert_true(fixture_open(&fixture, 3));
        kith_rng_seed(&rng, 3);
        failing_malloc_arm(n);
        struct kith_vset *vset = open_set(&fixture, KITH_HNSW_I8, 3);
        for (int i = 0; vset && i < 300; i++)
            change(vset, &model, &rng);
        failed = failing_malloc_disarm();
        if (vset) {
            assert_like(vset, &model);
            for (int i = 0; i < 100; i++)
                assert_true(change(vset, &model, &rng));
            assert_like(vset, &model);
            assert_search_finds_all(vset, &model, &rng);
            kith_engine_idle_work(fixture.engine);
            assert_int_equal(kith_vset_get_totals(fixture.engine)->unlinked, 0);
        }
        kith_vset_close(vset);
        fixture_close(&fixture);
    }
}

/* ---- through commands ---- */

static const char *add_random(struct fixture *fixture, struct kith_rng *rng, unsigned key, unsigned element)
{
    char line[256], attributes[64] = "";
    if (element % 3 == 0)
        snprintf(attributes, sizeof attributes, " SETATTR '{\"n\":%u}'", element);
    snprintf(line, sizeof line, "VADD v%u VALUES 4 %d %d %d %d e%u%s", key,
             (int)kith_rng_below(rng, 200) - 100, (int)kith_rng_below(rng, 200) - 100,
             (int)kith_rng_below(rng, 200) - 100, (int)kith_rng_below(rng, 200) - 100, element, attributes);
    return fixture_do(fixture, line);
}

static void random_command(struct fixture *fixture, struct kith_rng *rng)
{
    char line[128];
    unsigned key = (unsigned)kith_rng_below(rng, 3), element = (unsigned)kith_rng_below(rng, 3000);
    switch (kith_rng_below(rng, 8)) {
    case 0:
    case 1:
        snprintf(line, sizeof line, "VREM v%u e%u", key, element);
        break;
    case 2:
        snprintf(line, sizeof line, "VSETATTR v%u e%u {\"m\":%u}", key, element, element);
        break;
    case 3:
        snprintf(line, sizeof line, element % 200 ? "VCARD v%u" : "DEL v%u", key);
        break;
    case 4:
        snprintf(line, sizeof line, element % 100 ? "EXISTS v%u" : "RENAME v%u v9", key);
        break;
    default:
        assert_non_null(add_random(fixture, rng, key, element));
        return;
    }
    assert_non_null(fixture_do(fixture, line));
}

static struct kith_vset *get_set(struct fixture *fixture, const char *name)
{
    struct kith_key key;
    bool found = kith_db_find(kith_engine_db(fixture->engine, 0), kith_slice(name, strlen(name)), -1, &key);
    return found ? kith_key_object(&key) : NULL;
}

/* After a sweep, which finds elements that no link leads to since those that did were dropped in loading. */
static void assert_sound(struct kith_vset *vset)
{
    struct kith_error error = {""};
    assert_int_equal(kith_hnsw_settle(kith_vset_index(vset)), KITH_OK);
    int status = kith_vset_check(vset, &error);
    if (status)
        print_message("%s\n", error.text);
    assert_int_equal(status, KITH_OK);
}

static void a_set_grows_past_slots_that_the_index_leaves_out(void **state)
{
    struct fixture fixture;
    char line[64];
    assert_true(fixture_open(&fixture, 1));
    for (unsigned i = 0; i < 66000; i++) {
        snprintf(line, sizeof line, "VADD k VALUES 2 %u %u e%u EF 1 M 4", i % 256, i / 256, i);
        assert_string_equal(fixture_do(&fixture, line), ":1\r\n");
    }
    assert_string_equal(fixture_do(&fixture, "VCARD k"), ":66000\r\n");
    assert_string_equal(fixture_do(&fixture, "VISMEMBER k e65535"), ":1\r\n");
    fixture_close(&fixture);
}

/* As after searches that named a recall. Not every sample is of an element. */
static struct kith_calibration calibrate(struct kith_vset *vset)
{
    struct kith_calibration learned;
    struct kith_hnsw *index = kith_vset_index(vset);
    kith_vset_calibrate_begin(vset);
    for (unsigned i = 0; i < 80; i++)
        assert_int_equal(kith_hnsw_calibrate(index, UINT32_MAX, NULL), 0);
    assert_true(kith_hnsw_get_calibration(index, &learned));
    assert_true(learned.usable);
    return learned;
}

static void a_checkpoint_holds_sets_as_they_were_and_their_links(void **state)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct fixture fixture, loaded;
        struct kith_rng rng;
        struct kith_buf stream;
        struct kith_error error = {""};
        bool pending;
        int status;
        print_message("seed %llu\n", (unsigned long long)seed);
        kith_buf_init(&stream);
        kith_rng_seed(&rng, seed);
        assert_true(fixture_open(&fixture, seed));
        for (unsigned i = 0; i < 3000; i++)
            assert_non_null(add_random(&fixture, &rng, i % 2, i));
        struct kith_calibration taught = calibrate(get_set(&fixture, "v0"));
        assert_true(kith_engine_links_unsaved(fixture.engine, &pending) >= 3000);
        assert_int_equal(kith_engine_checkpoint_begin(fixture.engine), KITH_OK);
        assert_int_equal(kith_engine_links_unsaved(fixture.engine, &pending), 0);
        assert_false(pending);
        uint64_t digest = kith_engine_digest(fixture.engine);
        while ((status = kith_engine_checkpoint_step(fixture.engine, &stream, 1000)) > 0)
            for (unsigned i = 0; i < 20; i++)
                random_command(&fixture, &rng);
        assert_int_equal(status, 0);
        assert_true(fixture_open(&loaded, 99));
        status = fixture_load(loaded.engine, kith_buf_slice(&stream), 1 + kith_rng_below(&rng, 5000), &error);
        assert_string_equal(error.text, "");
        assert_int_equal(status, KITH_OK);
        assert_true(kith_engine_digest(loaded.engine) == digest);
        struct kith_calibration learned;
        assert_true(kith_hnsw_get_calibration(kith_vset_index(get_set(&loaded, "v0")), &learned));
        assert_true(learned.usable && learned.elements_sampled == taught.elements_sampled);
        assert_false(kith_hnsw_get_calibration(kith_vset_index(get_set(&loaded, "v1")), &learned));
        assert_int_equal(kith_vset_get_totals(loaded.engine)->unlinked, 0);
        assert_int_equal(kith_vset_get_totals(loaded.engine)->elements, 3000);
        /* A link that went to an element that left is dropped, and its owner may be linked once more. */
        print_message("%llu steps of work after loading\n",
                      (unsigned long long)kith_engine_links_unsaved(loaded.engine, &pending));
        assert_true(kith_engine_links_unsaved(loaded.engine, &pending) < 300);
        assert_sound(get_set(&loaded, "v0"));
        assert_sound(get_set(&loaded, "v1"));
        fixture_close(&loaded);
        fixture_close(&fixture);
        kith_buf_fini(&stream);
    }
}

static void a_quiet_checkpoint_makes_no_link_anew(void **state)
{
    struct fixture fixture, loaded;
    struct kith_rng rng;
    struct kith_buf stream;
    bool pending;
    kith_buf_init(&stream);
    kith_rng_seed(&rng, 7);
    assert_true(fixture_open(&fixture, 7));
    for (unsigned i = 0; i < 3000; i++)
        assert_non_null(add_random(&fixture, &rng, 0, i));
    assert_int_equal(fixture_save(fixture.engine, &stream, 5000), KITH_OK);
    assert_true(fixture_open(&loaded, 9));
    assert_int_equal(fixture_load(loaded.engine, kith_buf_slice(&stream), 4096, NULL), KITH_OK);
    assert_true(kith_engine_digest(loaded.engine) == kith_engine_digest(fixture.engine));
    assert_int_equal(kith_engine_links_unsaved(loaded.engine, &pending), 0);
    assert_false(pending);
    for (unsigned i = 0; i < 100; i++) {
        char line[64], expected[65536];
        snprintf(line, sizeof line, "VLINKS v0 e%u", i);
        const char *reply = fixture_do(&fixture, line);
        snprintf(expected, sizeof expected, "%s", reply);
        assert_string_equal(fixture_do(&loaded, line), expected);
    }
    fixture_close(&loaded);
    fixture_close(&fixture);
    kith_buf_fini(&stream);
}

static void damaged_checkpoints_of_sets_are_refused_or_loaded_never_worse(void **state)
{
    struct fixture fixture, loaded;
    struct kith_rng rng;
    struct kith_buf stream;
    kith_buf_init(&stream);
    kith_rng_seed(&rng, 8);
    assert_true(fixture_open(&fixture, 8));
    for (unsigned i = 0; i < 60; i++)
        assert_non_null(add_random(&fixture, &rng, i % 2, i));
    assert_int_equal(fixture_save(fixture.engine, &stream, 1000), KITH_OK);
    for (int i = 0; i < 4000; i++) {
        size_t at = kith_rng_below(&rng, stream.length);
        char old = stream.data[at];
        stream.data[at] = (char)kith_rng_next(&rng);
        assert_true(fixture_open(&loaded, 3));
        if (fixture_load(loaded.engine, kith_buf_slice(&stream), 1000, NULL) == KITH_OK) {
            struct kith_vset *vset = get_set(&loaded, "v0");
            if (vset)
                assert_sound(vset);
            assert_non_null(fixture_do(&loaded, "VSIM v0 VALUES 4 1 2 3 4 COUNT 100 WITHATTRIBS"));
        }
        fixture_close(&loaded);
        stream.data[at] = old;
    }
    fixture_close(&fixture);
    kith_buf_fini(&stream);
}

static const char *const script[] = {
    "VADD k VALUES 3 1 2 3 a SETATTR '{\"y\":1,\"t\":[1,\"x\"]}'",
    "VADD k VALUES 3 1 2 4 b",
    "VADD k VALUES 3 3 2 1 a",
    "VMADD k ELEMENTS 3 VALUES 3 1 0 0 c VALUES 3 0 1 0 d SETATTR '{\"y\":2}' VALUES 3 0 0 1 b",
    "VSETATTR k b '{\"y\":1}'",
    "VSETATTR k a '{\"y\":3}'",
    "VSIM k ELE a WITHSCORES WITHATTRIBS FILTER '.y in [1, 2, 3] and not (.y == 2)' COUNT 3",
    "VSIM k VALUES 3 1 1 1 TRUTH",
    "VADD p REDUCE 2 VALUES 4 1 2 3 4 a",
    "VADD p VALUES 4 1 2 3 5 b",
    "VSIM p VALUES 4 1 2 3 4",
    "VEMB k a",
    "VLINKS k a WITHSCORES",
    "VINFO k",
    "VRANDMEMBER k 2",
    "VRANDMEMBER k -3",
    "VRANGE k [a (d",
    "VSETATTR k a ''",
    "VREM k b",
    "VREM k a",
    "VREM k c",
    "VREM k d",
    "EXISTS k",
};

static uint64_t digest_after(const char *first, const char *second, uint64_t hash_seed)
{
    struct fixture fixture;
    assert_true(fixture_open(&fixture, hash_seed));
    assert_string_equal(fixture_do(&fixture, first), ":1\r\n");
    if (second)
        assert_non_null(fixture_do(&fixture, second));
    uint64_t digest = kith_engine_digest(fixture.engine);
    fixture_close(&fixture);
    return digest;
}

/* Nodes are compared by it: vectors with one code and one norm differ in what is kept beside the code alone. */
static void the_digest_of_a_set_covers_what_is_kept_of_each_vector(void **state)
{
    static const char *const keeps[] = {"Q8 KEEP F32", "Q8 KEEP F16", "Q4 KEEP F32", "BIN KEEP F32",
                                        "Q4 KEEP F16 METRIC L2"};
    for (size_t i = 0; i < sizeof keeps / sizeof *keeps; i++) {
        char line[256], other[256];
        snprintf(line, sizeof line, "VADD k VALUES 3 1000 2 0.0625 a %s", keeps[i]);
        snprintf(other, sizeof other, "VADD k VALUES 3 1000 2 0.25 a %s", keeps[i]);
        uint64_t digest = digest_after(line, NULL, 1);
        assert_true(digest_after(line, NULL, 2) == digest);
        assert_true(digest_after(other, NULL, 1) != digest);
        assert_true(digest_after(line, "VREM k a", 1) == 0);
        assert_true(digest_after(line, "VADD k VALUES 3 1000 2 0.0625 a", 1) !=
                    digest); /* one more was added */
    }
}

static void commands_without_memory_say_so_and_change_nothing(void **state)
{
    for (size_t at = 0; at < sizeof script / sizeof script[0]; at++) {
        bool failed = true;
        for (long n = 0; failed; n++) {
            struct fixture fixture;
            assert_true(fixture_open(&fixture, 3));
            for (size_t i = 0; i < at; i++)
                assert_non_null(fixture_do(&fixture, script[i]));
            uint64_t before = kith_engine_digest(fixture.engine);
            failing_malloc_arm(n);
            const char *reply = fixture_do(&fixture, script[at]);
            failed = failing_malloc_disarm();
            if (reply && strncmp(reply, "-OOM", 4) == 0 && strncmp(script[at], "VMADD", 5) != 0) {
                assert_true(failed);
                assert_true(kith_engine_digest(fixture.engine) == before);
            }
            bool refused = reply && reply[0] == '-';
            if (!failed && refused)
                print_message("%s: %s\n", script[at], reply);
            assert_true(failed || (reply && !refused));
            struct kith_vset *vset = get_set(&fixture, "k");
            if (vset)
                assert_int_equal(kith_vset_check(vset, NULL), KITH_OK);
            fixture_close(&fixture);
        }
    }
}

/* Names in a RESP2 reply without scores. */
static long reply_count(const char *reply)
{
    assert_non_null(reply);
    assert_true(reply[0] == '*');
    return strtol(reply + 1, NULL, 10);
}

static void a_filter_never_leaves_out_what_there_is(void **state)
{
    static const struct {
        const char *filter;
        long matches;
    } rows[] = {
        {".n == 7", 1},        {".n % 1000 == 3", 3},  {".n % 100 == 1", 30}, {".n % 10 == 1", 300},
        {".n % 2 == 1", 1500}, {".n >= 0", 3000},      {".n < 0", 0},         {".n >= 2995", 5},
        {"'odd' == .p", 1500}, {".p == 'even'", 1500}, {".r in [1, 4]", 30},  {".n > 10 and .r == 4", 14},
    };
    static const long counts[] = {1, 10, 40, 350, 5000};
    struct fixture fixture;
    struct kith_rng rng;
    kith_rng_seed(&rng, 4);
    assert_true(fixture_open(&fixture, 4));
    for (int i = 0; i < 3000; i++) {
        char line[256];
        snprintf(line, sizeof line,
                 "VADD v VALUES 4 %d %d %d %d e%d SETATTR '{\"n\":%d,\"p\":\"%s\",\"r\":%d}'",
                 (int)kith_rng_below(&rng, 2000) - 1000, (int)kith_rng_below(&rng, 2000) - 1000,
                 (int)kith_rng_below(&rng, 2000) - 1000, (int)kith_rng_below(&rng, 2000) - 1000, i, i,
                 i % 2 ? "odd" : "even", i % 200);
        assert_string_equal(fixture_do(&fixture, line), ":1\r\n");
    }
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++)
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
            long expected = rows[r].matches < counts[c] ? rows[r].matches : counts[c];
            struct kith_slice argv[] = {KITH_SLICE("VSIM"),   KITH_SLICE("v"),
                                        KITH_SLICE("ELE"),    KITH_SLICE("e11"),
                                        KITH_SLICE("COUNT"),  {0},
                                        KITH_SLICE("FILTER"), {rows[r].filter, strlen(rows[r].filter)}};
            char count[16];
            argv[5] = kith_slice(count, (size_t)snprintf(count, sizeof count, "%ld", counts[c]));
            if (reply_count(fixture_run(&fixture, argv, 8)) != expected)
                print_message("%s, COUNT %s: %.5s, not %ld\n", rows[r].filter, count, fixture.reply.data,
                              expected);
            assert_int_equal(reply_count(fixture.reply.data), expected);
        }
    fixture_close(&fixture);
}

static void an_element_is_its_own_nearest_with_score_1(void **state)
{
    static const char *const codes[] = {"NOQUANT", "Q8", "BIN"};
    for (size_t c = 0; c < 3; c++) {
        struct fixture fixture;
        struct kith_rng rng;
        char line[4096];
        kith_rng_seed(&rng, 5);
        assert_true(fixture_open(&fixture, 5));
        for (int i = 0; i < 300; i++) {
            int length = snprintf(line, sizeof line, "VADD v VALUES 48");
            for (int d = 0; d < 48; d++)
                length +=
                    snprintf(line + length, sizeof line - (size_t)length, " %.7g", kith_rng_unit(&rng) - 0.5);
            snprintf(line + length, sizeof line - (size_t)length, " e%d %s", i, codes[c]);
            assert_string_equal(fixture_do(&fixture, line), ":1\r\n");
        }
        for (int i = 0; i < 300; i++) {
            char expected[64];
            snprintf(line, sizeof line, "VSIM v ELE e%d WITHSCORES COUNT 1", i);
            snprintf(expected, sizeof expected, "*2\r\n$%d\r\ne%d\r\n$1\r\n1\r\n",
                     i < 10    ? 2
                     : i < 100 ? 3
                               : 4,
                     i);
            assert_string_equal(fixture_do(&fixture, line), expected);
        }
        fixture_close(&fixture);
    }
}

/* VLINKS: a list for each level from the top, of names or of names with scores. */
static void links_are_shown_level_by_level(void **state)
{
    struct fixture fixture;
    struct kith_rng rng;
    char line[64], start[16];
    unsigned levels_seen = 0;
    kith_rng_seed(&rng, 12);
    assert_true(fixture_open(&fixture, 12));
    for (unsigned i = 0; i < 500; i++)
        assert_non_null(add_random(&fixture, &rng, 0, i));
    struct kith_vset *vset = get_set(&fixture, "v0");
    for (unsigned i = 0; i < 500; i++) {
        snprintf(line, sizeof line, "e%u", i);
        uint32_t links[64], slot = kith_vset_find(vset, kith_slice(line, strlen(line)));
        unsigned top = kith_hnsw_level(kith_vset_index(vset), slot);
        uint32_t count = kith_hnsw_links(kith_vset_index(vset), slot, top, links, 64);
        assert_true(top > 0 || count > 0);
        levels_seen = top > levels_seen ? top : levels_seen;
        snprintf(line, sizeof line, "VLINKS v0 e%u", i);
        snprintf(start, sizeof start, "*%u\r\n*%u\r\n", top + 1, count);
        assert_int_equal(strncmp(fixture_do(&fixture, line), start, strlen(start)), 0);
        snprintf(line, sizeof line, "VLINKS v0 e%u withscores", i);
        snprintf(start, sizeof start, "*%u\r\n*%u\r\n", top + 1, 2 * count);
        assert_int_equal(strncmp(fixture_do(&fixture, line), start, strlen(start)), 0);
        fixture.session.protocol = 3;
        snprintf(start, sizeof start, "*%u\r\n%%%u\r\n", top + 1, count);
        assert_int_equal(strncmp(fixture_do(&fixture, line), start, strlen(start)), 0);
        fixture.session.protocol = 2;
    }
    assert_true(levels_seen > 0);
    fixture_close(&fixture);
}

static void random_members_are_distinct_and_each_as_likely(void **state)
{
    struct fixture fixture;
    struct kith_rng rng;
    unsigned seen[100] = {0};
    kith_rng_seed(&rng, 6);
    assert_true(fixture_open(&fixture, 6));
    for (unsigned i = 0; i < 100; i++)
        assert_non_null(add_random(&fixture, &rng, 0, i));
    static const long counts[] = {1, 5, 49, 50, 51, 99, 100, 1000};
    for (size_t c = 0; c < 8; c++)
        for (int round = 0; round < 200; round++) {
            char line[64];
            bool now[100] = {false};
            snprintf(line, sizeof line, "VRANDMEMBER v0 %ld", counts[c]);
            const char *reply = fixture_do(&fixture, line);
            assert_int_equal(reply_count(reply), counts[c] < 100 ? counts[c] : 100);
            for (const char *p = strchr(reply, 'e'); p; p = strchr(p + 1, 'e')) {
                long i = strtol(p + 1, NULL, 10);
                assert_false(now[i]);
                now[i] = true;
                seen[i]++;
            }
        }
    for (int i = 0; i < 100; i++) /* 911 expected of each */
        assert_true(seen[i] > 780 && seen[i] < 1040);
    fixture_close(&fixture);
}

static void a_projection_keeps_angles_and_is_the_same_everywhere(void **state)
{
    enum { FROM = 300, TO = 100 };
    struct kith_projection *projection;
    struct kith_rng rng;
    float a[FROM], b[FROM], x[TO], y[TO];
    double worst = 0;
    kith_rng_seed(&rng, 1);
    assert_int_equal(kith_projection_open(&projection, FROM, TO, 42), KITH_OK);
    for (int round = 0; round < 200; round++) {
        double ab = 0, aa = 0, bb = 0, xy = 0, xx = 0, yy = 0;
        random_vector(&rng, a, FROM);
        random_vector(&rng, b, FROM);
        for (int i = 0; i < FROM; i++) /* from far apart to near */
            b[i] = a[i] * (float)round / 200 + b[i] * (1 - (float)round / 200);
        assert_int_equal(kith_projection_apply(projection, a, x), KITH_OK);
        assert_int_equal(kith_projection_apply(projection, b, y), KITH_OK);
        for (int i = 0; i < FROM; i++)
            ab += (double)a[i] * b[i], aa += (double)a[i] * a[i], bb += (double)b[i] * b[i];
        for (int i = 0; i < TO; i++)
            xy += (double)x[i] * y[i], xx += (double)x[i] * x[i], yy += (double)y[i] * y[i];
        worst = fmax(worst, fabs(ab / sqrt(aa * bb) - xy / sqrt(xx * yy)));
        assert_true(xx > 0.6 * aa && xx < 1.5 * aa);
    }
    print_message("the cosine is off by %.3f at most\n", worst);
    assert_true(worst < 0.35);
    /* These values are on other machines' disks: they must never change. */
    static const float expected[] = {-0x1.99999ap-3f, -0x1.99999ap-3f, 0x1.99999ap-2f, 0};
    float in[FROM] = {1, 2, 3}, out[TO];
    assert_int_equal(kith_projection_apply(projection, in, out), KITH_OK);
    for (int i = 0; i < 4; i++) /* 1, 2 and 3 with any signs, over the root of 100 */
        assert_true(out[i] == expected[i]);
    kith_projection_close(projection);
}

static void writers_are_held_back_in_proportion_to_the_tail(void **state)
{
    /* An executor that never runs anything: the tail only grows. */
    struct fixture fixture;
    struct kith_rng rng;
    kith_rng_seed(&rng, 1);
    assert_true(fixture_open(&fixture, 1));
    assert_int_equal(kith_engine_back_pressure_ms(fixture.engine), 0);
    kith_engine_stop_background(fixture.engine);
    unsigned before = 0, highest = 0;
    for (unsigned i = 0; i < 20000; i++) {
        assert_non_null(add_random(&fixture, &rng, 0, i));
        unsigned now = kith_engine_back_pressure_ms(fixture.engine);
        if (i < 4095)
            assert_int_equal(now, 0);
        assert_true(now >= before && now <= before + 1);
        before = now;
        highest = now > highest ? now : highest;
    }
    assert_int_equal(highest, 200);
    struct kith_buf info;
    kith_buf_init(&info);
    kith_engine_info(fixture.engine, "vectors", &info);
    kith_buf_append_char(&info, '\0');
    assert_non_null(strstr(info.data, "vector_sets:1\r\nvector_elements:20000\r\n"));
    assert_non_null(strstr(info.data, "vectors_unlinked:20000\r\n"));
    assert_non_null(strstr(info.data, "vset_1:elements=20000,dim=4,unlinked=20000,"));
    kith_buf_fini(&info);
    fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_changes_leave_what_the_model_has),
        cmocka_unit_test(without_memory_a_change_is_whole_or_not_there),
        cmocka_unit_test(a_set_grows_past_slots_that_the_index_leaves_out),
        cmocka_unit_test(a_checkpoint_holds_sets_as_they_were_and_their_links),
        cmocka_unit_test(a_quiet_checkpoint_makes_no_link_anew),
        cmocka_unit_test(damaged_checkpoints_of_sets_are_refused_or_loaded_never_worse),
        cmocka_unit_test(the_digest_of_a_set_covers_what_is_kept_of_each_vector),
        cmocka_unit_test(commands_without_memory_say_so_and_change_nothing),
        cmocka_unit_test(a_filter_never_leaves_out_what_there_is),
        cmocka_unit_test(an_element_is_its_own_nearest_with_score_1),
        cmocka_unit_test(links_are_shown_level_by_level),
        cmocka_unit_test(random_members_are_distinct_and_each_as_likely),
        cmocka_unit_test(a_projection_keeps_angles_and_is_the_same_everywhere),
        cmocka_unit_test(writers_are_held_back_in_proportion_to_the_tail),
    };
    return cmocka_run_group_tests_name("vector sets", tests, NULL, NULL);
}
