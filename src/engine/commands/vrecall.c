/* VRECALL: the recall of a set's searches, measured (vec/measure.h). It runs on a worker in stretches, and goes behind
 * those that wait after each. */
#include "base/num.h"
#include "base/os.h"
#include "engine/commands/vset.h"
#include "engine/state.h"
#include "vec/measure.h"

#include <math.h>
#include <stdlib.h>

enum {
    COUNT_DEFAULT = 10,
    EF_DEFAULT = 100, /* VSIM's */
    SAMPLE_DEFAULT = 100,
    STEP_CODES = 16384, /* looked at between two looks at the clock */
    STRETCH_NS = 5 * 1000 * 1000,
};

struct recall {
    struct kith_deferred deferred; /* first: the driver hands this back */
    struct kith_vset *vset;        /* held */
    struct kith_engine *engine;
    struct kith_measure *measure;
    struct kith_measure_options options;
    int status;
};

static void close_recall(struct kith_deferred *deferred)
{
    struct recall *recall = (struct recall *)deferred;
    kith_measure_close(recall->measure);
    if (recall->vset)
        kith_vset_let_go(recall->vset);
    free(recall);
}

static void run_recall(struct kith_task *task)
{
    struct recall *recall = (struct recall *)task;
    struct kith_background *background = &recall->engine->background;
    uint64_t end_ns = kith_os_monotonic_ns() + STRETCH_NS;
    do {
        recall->status = kith_measure_step(recall->measure, STEP_CODES, NULL);
    } while (recall->status > 0 && kith_os_monotonic_ns() < end_ns &&
             !atomic_load_explicit(&background->searches_waiting, memory_order_relaxed));
    recall->deferred.again = recall->status > 0;
}

static double rounded(double value)
{
    return round(value * 1e6) / 1e6;
}

static void field(struct kith_reply *reply, const char *name, double value)
{
    kith_reply_bulk_text(reply, name);
    kith_reply_double(reply, rounded(value));
}

static void finish_recall(struct kith_deferred *deferred, struct kith_reply *reply)
{
    struct recall *recall = (struct recall *)deferred;
    struct kith_measured m;
    if (recall->status < 0) {
        kith_reply_error(reply, "OOM not enough memory to measure: ask for a smaller COUNT or EF");
        return;
    }
    kith_measure_get(recall->measure, &m);
    kith_reply_map(reply, 9);
    kith_reply_bulk_text(reply, "count");
    kith_reply_int(reply, recall->options.k);
    kith_reply_bulk_text(reply, "sample");
    kith_reply_int(reply, m.samples);
    if (recall->options.recall > 0) {
        field(reply, "asked", (double)recall->options.recall);
    } else {
        kith_reply_bulk_text(reply, "ef");
        kith_reply_int(reply, recall->options.ef);
    }
    field(reply, "recall", m.recall);
    field(reply, "low", m.low);
    field(reply, "high", m.high);
    kith_reply_bulk_text(reply, "lost-to-codes");
    if (m.codes_known)
        kith_reply_double(reply, rounded(m.codes_lost));
    else
        kith_reply_null(reply);
    /* What the codes cost is not known, but the truth is theirs: all that is missing is the graph's. */
    field(reply, "lost-to-graph", m.codes_known ? m.graph_lost : 1 - m.recall);
    field(reply, "evaluations", m.evaluations);
}

static bool take_option(struct kith_call *call, size_t *index, struct recall *recall)
{
    static const struct {
        const char *word;
        size_t offset;
        int64_t most;
        const char *error;
    } numbers[] = {
        {"count", offsetof(struct kith_measure_options, k), KITH_MEASURE_K_MAX,
         "ERR invalid COUNT: a number from 1 to 1000"},
        {"ef", offsetof(struct kith_measure_options, ef), KITH_MEASURE_EF_MAX,
         "ERR invalid EF: a number from 1 to 16384"},
        {"sample", offsetof(struct kith_measure_options, samples), KITH_MEASURE_SAMPLES_MAX,
         "ERR invalid SAMPLE: a number from 1 to 10000"},
    };
    if (*index + 1 >= call->argc) {
        kith_call_syntax_error(call);
        return false;
    }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        int64_t value;
        if (!kith_call_is(call, *index, numbers[i].word))
            continue;
        if (!kith_call_int_in(call, ++*index, 1, numbers[i].most, &value, numbers[i].error))
            return false;
        *(uint32_t *)(void *)((char *)&recall->options + numbers[i].offset) = (uint32_t)value;
        return true;
    }
    double asked;
    if (!kith_call_is(call, *index, "recall")) {
        kith_call_syntax_error(call);
        return false;
    }
    if (kith_num_parse_double(call->argv[++*index], 0, &asked) == KITH_OK && asked > 0 && asked < 1) {
        recall->options.recall = (float)asked;
        return true;
    }
    kith_reply_error(call->reply, "ERR invalid RECALL: a number between 0 and 1, such as 0.95");
    return false;
}

/* False after a reply. */
static bool prepare(struct kith_call *call, struct recall *recall)
{
    struct kith_vset *vset;
    for (size_t i = 2; i < call->argc; i++)
        if (!take_option(call, &i, recall))
            return false;
    if (!kith_vset_open_read(call, &vset))
        return false;
    if (!vset) {
        kith_reply_null_array(call->reply);
        return false;
    }
    recall->options.seed = kith_rng_next(call->rng);
    if (kith_measure_open(&recall->measure, kith_vset_index(vset), &recall->options) != KITH_OK) {
        kith_call_no_memory(call);
        return false;
    }
    recall->vset = vset;
    kith_vset_hold(vset);
    return true;
}

void kith_vrecall_command(struct kith_call *call)
{
    struct recall *recall = calloc(1, sizeof *recall);
    if (!recall) {
        kith_call_no_memory(call);
        return;
    }
    recall->engine = call->engine;
    recall->options =
        (struct kith_measure_options){.k = COUNT_DEFAULT, .ef = EF_DEFAULT, .samples = SAMPLE_DEFAULT};
    if (!prepare(call, recall)) {
        close_recall(&recall->deferred);
        return;
    }
    recall->deferred = (struct kith_deferred){
        .task = {.run = run_recall}, .finish = finish_recall, .close = close_recall, .alone = true};
    kith_call_defer(call, &recall->deferred);
}
