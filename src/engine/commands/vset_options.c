/* What VADD and VMADD say about a set: how it is made when there is none, and whether it is what was asked for when
 * there is one. Each choice is one table of words, from which it is read, named in VINFO and named in errors. */
#include "base/num.h"
#include "engine/commands/vset.h"

#include <stdio.h>

enum { M_LEAST = 4 /* Redis's bound */, M_DEFAULT = 16 };

struct word {
    const char *word; /* as a client writes it, and as VINFO shows it (but for codes) */
    int value;
};

/* The first is what an unknown value is shown as: what the index does when nothing is said. */
static const struct word codes_words[] = {{"Q8", KITH_HNSW_I8},
                                          {"NOQUANT", KITH_HNSW_F32},
                                          {"BIN", KITH_HNSW_BIN},
                                          {"F16", KITH_HNSW_F16},
                                          {"BF16", KITH_HNSW_BF16},
                                          {"Q4", KITH_HNSW_I4},
                                          {NULL, 0}};
static const struct word keep_words[] = {{"NONE", KITH_HNSW_KEEP_NONE},
                                         {"F32", KITH_HNSW_KEEP_F32},
                                         {"F16", KITH_HNSW_KEEP_F16},
                                         {"RESIDUAL", KITH_HNSW_KEEP_RESIDUAL},
                                         {NULL, 0}};
static const struct word metric_words[] = {
    {"COSINE", KITH_HNSW_COSINE}, {"IP", KITH_HNSW_INNER_PRODUCT}, {"L2", KITH_HNSW_L2SQ}, {NULL, 0}};
static const struct word layout_words[] = {
    {"COMPACT", KITH_HNSW_COMPACT}, {"SPREAD", KITH_HNSW_SPREAD}, {NULL, 0}};

static const char *word_of(const struct word *words, int value)
{
    for (const struct word *w = words; w->word; w++)
        if (w->value == value)
            return w->word;
    return words->word;
}

static bool find_word(struct kith_call *call, size_t index, const struct word *words, int *value)
{
    for (; words->word; words++) {
        if (!kith_call_is(call, index, words->word))
            continue;
        *value = words->value;
        return true;
    }
    return false;
}

const char *kith_set_codes_name(enum kith_hnsw_codes codes)
{
    static const char *const names[] = {
        [KITH_HNSW_F32] = "f32", [KITH_HNSW_I8] = "int8",   [KITH_HNSW_BIN] = "bin",
        [KITH_HNSW_F16] = "f16", [KITH_HNSW_BF16] = "bf16", [KITH_HNSW_I4] = "int4"};
    return names[codes];
}

const char *kith_set_keep_name(enum kith_hnsw_keep keep)
{
    return word_of(keep_words, keep);
}

const char *kith_set_metric_name(enum kith_hnsw_metric metric)
{
    return word_of(metric_words, metric);
}

const char *kith_set_layout_name(enum kith_hnsw_layout layout)
{
    return word_of(layout_words, layout);
}

/* ---- reading ---- */

/* KEEP, METRIC, LAYOUT, and whatever else takes one word of a few. */
static int take_word(struct kith_call *call, size_t *index, const struct word *words, int *value,
                     const char *error)
{
    if (find_word(call, ++*index, words, value))
        return 1;
    kith_reply_error(call->reply, error);
    return -1;
}

static int take_reduce(struct kith_call *call, size_t *index, struct kith_set_request *request)
{
    int64_t dim;
    if (kith_num_parse_int64(call->argv[++*index], &dim) == KITH_OK && dim >= 1 && dim <= KITH_HNSW_DIM_MAX) {
        request->reduce = (uint32_t)dim;
        return 1;
    }
    kith_vector_refuse(call, "REDUCE takes the dimension to reduce to, from 1 to 65536");
    return -1;
}

static int take_number(struct kith_call *call, size_t *index, int64_t least, int64_t most, int64_t *value,
                       const char *error)
{
    return kith_call_int_in(call, ++*index, least, most, value, error) ? 1 : -1;
}

int kith_set_option_take(struct kith_call *call, size_t *index, struct kith_set_request *request)
{
    static const char *const valued[] = {"reduce", "m", "ef", "keep", "metric", "layout"};
    if (find_word(call, *index, codes_words, &request->codes))
        return 1;
    if (kith_call_is(call, *index, "cas"))
        return 1; /* Redis's wish for a thread: here links are always made in the background */
    size_t which = 0, count = sizeof valued / sizeof valued[0];
    while (which < count && !kith_call_is(call, *index, valued[which]))
        which++;
    if (which < count && *index + 1 >= call->argc) {
        kith_reply_error_format(call->reply, "ERR syntax error: %.*s needs a value",
                                (int)call->argv[*index].length, call->argv[*index].data);
        return -1;
    }
    switch (which) {
    case 0:
        return take_reduce(call, index, request);
    case 1:
        return take_number(call, index, M_LEAST, KITH_HNSW_M_MAX, &request->m,
                           "ERR invalid M: a number from 4 to 4096");
    case 2:
        return take_number(call, index, 1, KITH_HNSW_EF_MAX, &request->ef,
                           "ERR invalid EF: a number from 1 to 1000000");
    case 3:
        return take_word(call, index, keep_words, &request->keep,
                         "ERR invalid KEEP: F32, F16, RESIDUAL or NONE");
    case 4:
        return take_word(call, index, metric_words, &request->metric, "ERR invalid METRIC: COSINE, IP or L2");
    case 5:
        request->layout_given = true;
        return take_word(call, index, layout_words, &request->layout,
                         "ERR invalid LAYOUT: COMPACT or SPREAD");
    default:
        return 0;
    }
}

/* ---- the set that is asked for ---- */

static bool mismatch(struct kith_call *call, const char *what, const char *has)
{
    kith_reply_error_format(
        call->reply,
        "ERR asked %s mismatch with existing vector set: it has %s; leave the option out, or "
        "use another key",
        what, has);
    return false;
}

bool kith_set_request_fits(struct kith_call *call, const struct kith_vset_options *has,
                           const struct kith_set_request *asked, uint32_t dim)
{
    char text[64];
    if (asked->codes && (enum kith_hnsw_codes)asked->codes != has->codes)
        return mismatch(call, "quantization", word_of(codes_words, has->codes));
    if (asked->keep && (enum kith_hnsw_keep)asked->keep != has->keep)
        return mismatch(call, "KEEP", kith_set_keep_name(has->keep));
    if (asked->metric && (enum kith_hnsw_metric)asked->metric != has->metric)
        return mismatch(call, "METRIC", kith_set_metric_name(has->metric));
    if (asked->layout_given && (enum kith_hnsw_layout)asked->layout != has->layout)
        return mismatch(call, "LAYOUT", kith_set_layout_name(has->layout));
    snprintf(text, sizeof text, "M %u", has->m);
    if (asked->m && (uint32_t)asked->m != has->m)
        return mismatch(call, "M value", text);
    if (asked->reduce && !has->input_dim) {
        kith_reply_error(call->reply, "ERR cannot add projection to existing set without projection");
        return false;
    }
    snprintf(text, sizeof text, "REDUCE %u of vectors of %u", has->dim, has->input_dim);
    if (asked->reduce && (asked->reduce != has->dim || dim != has->input_dim))
        return mismatch(call, "projection", text);
    return true;
}

void kith_set_request_options(const struct kith_set_request *asked, uint32_t dim, uint64_t seed,
                              struct kith_vset_options *options)
{
    *options = (struct kith_vset_options){
        .dim = asked->reduce ? asked->reduce : dim,
        .input_dim = asked->reduce ? dim : 0,
        .codes = asked->codes ? (enum kith_hnsw_codes)asked->codes : KITH_HNSW_I8,
        .keep = (enum kith_hnsw_keep)asked->keep,
        .layout = (enum kith_hnsw_layout)asked->layout,
        .metric = asked->metric ? (enum kith_hnsw_metric)asked->metric : KITH_HNSW_COSINE,
        .m = asked->m ? (uint32_t)asked->m : M_DEFAULT,
        .seed = seed,
    };
}

/* Why no index can be opened with these; each is within its bounds, so it is how they go together. */
static const char *conflict(const struct kith_vset_options *o)
{
    if (o->keep == KITH_HNSW_KEEP_RESIDUAL && o->codes != KITH_HNSW_I8 && o->codes != KITH_HNSW_I4)
        return "KEEP RESIDUAL goes with Q8 and Q4: choose KEEP F16, or other codes";
    if (o->layout == KITH_HNSW_SPREAD)
        return "LAYOUT SPREAD puts codes of 1 or 2 bits beside the links, and BIN has no larger ones: choose "
               "LAYOUT COMPACT, or other codes";
    return "these codes, KEEP and METRIC do not go together";
}

void kith_set_refuse_options(struct kith_call *call, const struct kith_vset_options *options)
{
    kith_reply_error_format(call->reply, "ERR invalid set options: %s", conflict(options));
}
