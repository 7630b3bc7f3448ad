/* What searches by recall go by, see calibrate.h: the table made of what was learned, and how a search reads it. For each
 * level of recall it has a slack, what that costs, and a gate. Some walks end in the wrong cluster, and no slack leads out
 * of it; a wider view on the way down does (hnsw_descend_wide), but costs as much as the walk itself. Who is lost finds
 * its nearest far away: so where narrow walks miss too much for a level, a search whose k-th best is farther than the gate
 * goes down once more with the wide view, and the others, most of them, do not pay for it. */
#include "vec/calibrate_internal.h"
#include "vec/search.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { USABLE = 32 /* samples, below which a guess is better */ };

const uint32_t hnsw_calibration_ks[KITH_CALIBRATION_KS] = {1, 10, 100};

/* Recalls that the table has, and what a search goes by before it has them: the largest of what sets of images, of
 * clusters and of text-like vectors needed. */
static const float levels[LEVELS] = {0.5f,  0.7f,  0.8f,  0.85f,  0.9f,   0.925f, 0.95f,
                                     0.97f, 0.98f, 0.99f, 0.995f, 0.998f, 0.9995f};
static const float guesses[KITH_CALIBRATION_KS][LEVELS] = {
    {0.2f, 0.27f, 0.33f, 0.37f, 0.42f, 0.46f, 0.5f, 0.55f, 0.6f, 0.66f, 0.75f, 0.85f, 1.0f},
    {0.03f, 0.07f, 0.1f, 0.13f, 0.16f, 0.18f, 0.21f, 0.24f, 0.27f, 0.3f, 0.35f, 0.42f, 0.5f},
    {0.0f, 0.0f, 0.01f, 0.02f, 0.04f, 0.06f, 0.08f, 0.11f, 0.13f, 0.17f, 0.2f, 0.25f, 0.3f}};
/* The least slack that counts: bin 0 is none at all, bin b > 0 up to 2^(FIRST_OCTAVE + (b - 1) / PER_OCTAVE). */
enum { FIRST_OCTAVE = -9, PER_OCTAVE = 10 };

float hnsw_calibration_edge(uint32_t bin)
{
    return bin ? exp2f(FIRST_OCTAVE + (float)(bin - 1) / PER_OCTAVE) : 0;
}

uint32_t hnsw_calibration_bin(float slack)
{
    if (!(slack > 0))
        return 0;
    float place = (log2f(slack) - FIRST_OCTAVE) * PER_OCTAVE + 1;
    return place <= 1 ? 1 : place > BINS - 1 ? BINS - 1 : (uint32_t)ceilf(place);
}

/* Gate bins per octave; the last one is for all that is farther. */
enum { GATE_PER_OCTAVE = 8 };

uint32_t hnsw_calibration_gate_bin(const struct hnsw_calibration *c, float distance)
{
    float place = distance > 0 ? ceilf((log2f(distance) - (float)c->gate_octave) * GATE_PER_OCTAVE) : 0;
    return place <= 0 ? 0 : place >= GATE_BINS - 1 ? GATE_BINS - 1 : (uint32_t)place;
}

/* Distances below are rounding; a share of nothing is nothing. */
float hnsw_calibration_least(const struct kith_hnsw *h)
{
    return h->options.metric == KITH_HNSW_COSINE ? NEAR_ZERO : FLT_MIN;
}

/* ---- making it ---- */

/* By slack, for one width and k: the mean over samples of the recall and of the distances computed, and what the recall
 * is sure to be but for one deviation of its mean. */
struct curve {
    float recall[BINS], sure[BINS], evaluations[BINS];
};

static float share_of_queries(const struct hnsw_calibration *c)
{
    float queries = c->sources[FROM_QUERIES].samples;
    return c->sources[FROM_ELEMENTS].samples <= 0 ? 1 : queries < QUERIES ? queries / QUERIES : 1;
}

/* Adds one source with its share. curve->sure: the variance of the mean, for now. No sample may have missed anything so
 * far, and the next one may: half of it counts as missed. */
static void add_source(struct curve *curve, const struct learned *l, float share, unsigned width, unsigned k)
{
    const float *found = l->sums + learned_at(width, k, FOUND);
    const float *squares = l->sums + learned_at(width, k, SQUARES);
    const float *evaluations = l->sums + learned_at(width, k, EVALUATIONS);
    float sum = 0, n = l->samples, unseen = 0.5f / n;
    for (uint32_t bin = 0; bin < BINS; bin++) {
        sum += found[bin];
        float mean = sum / n, variance = squares[bin] / n - mean * mean;
        curve->recall[bin] += share * mean;
        curve->evaluations[bin] += share * evaluations[bin] / n;
        curve->sure[bin] += share * share * ((variance > 0 ? variance / n : 0) + unseen * unseen);
    }
}

static void make_curve(const struct hnsw_calibration *c, unsigned width, unsigned k, struct curve *curve)
{
    float part = share_of_queries(c), most = 0;
    memset(curve, 0, sizeof *curve);
    if (part < 1)
        add_source(curve, &c->sources[FROM_ELEMENTS], 1 - part, width, k);
    if (part > 0 && c->sources[FROM_QUERIES].samples > 0)
        add_source(curve, &c->sources[FROM_QUERIES], part, width, k);
    for (uint32_t bin = 0; bin < BINS; bin++) {
        float sure = curve->recall[bin] - sqrtf(curve->sure[bin]);
        curve->sure[bin] = most = sure > most ? sure : most;
    }
}

/* By the distance of the k-th best: the share of searches that find it no farther, and what narrow walks miss of these. */
struct gates {
    float there[GATE_BINS], missed[GATE_BINS];
};

/* Queries may be unlike all elements: until they are known, one in five counts as lying between two. */
#define UNLIKE 0.2f

/* What narrow walks miss of all that a wide one finds, by the samples of one source. */
static float missed_by(const struct hnsw_calibration *c, unsigned source, unsigned k)
{
    const struct learned *l = &c->sources[source];
    float sum = 0;
    for (uint32_t bin = 0; bin < GATE_BINS && l->samples > 0; bin++)
        sum += l->gates[gate_at(k, MISSED) + bin] / l->samples;
    return sum;
}

/* Walks that are lost are rare: where that is, what lies between elements helps to tell even when queries are known. */
static void make_gates(const struct hnsw_calibration *c, unsigned k, struct gates *gates)
{
    float part = share_of_queries(c), there = 0, missed = 0;
    const float shares[SOURCES] = {
        [FROM_ELEMENTS] = 1 - part, [FROM_QUERIES] = part, [FROM_BETWEEN] = UNLIKE};
    for (uint32_t bin = 0; bin < GATE_BINS; bin++) {
        for (unsigned source = 0; source < SOURCES; source++) {
            const struct learned *l = &c->sources[source];
            if (l->samples <= 0)
                continue;
            there +=
                source == FROM_BETWEEN ? 0 : shares[source] * l->gates[gate_at(k, THERE) + bin] / l->samples;
            missed += shares[source] * l->gates[gate_at(k, MISSED) + bin] / l->samples;
        }
        gates->there[bin] = there;
        gates->missed[bin] = missed;
    }
}

/* The farthest gate in front of which no more than that is missed, as a number of bins; 0: everybody has to pass it. */
static uint32_t find_gate(const struct gates *gates, float missed_most)
{
    uint32_t bins = 0;
    while (bins < GATE_BINS - 1 && gates->missed[bins] <= missed_most)
        bins++;
    return bins;
}

static float gate_distance(const struct hnsw_calibration *c, uint32_t bins)
{
    if (bins == 0 || c->by_difference)
        return -INFINITY;
    return exp2f((float)c->gate_octave + (float)(bins - 1) / GATE_PER_OCTAVE);
}

/* However few the samples: when three quarters of what the level leaves to be missed are found, that is enough. */
static float enough_for(float recall)
{
    return 1 - (1 - recall) / 4;
}

/* Where on the curve a level is sure to be had; or, where that is never, from where on it gets no better. Few samples are
 * sure of nothing. Returns the bin; *part: how much of it. */
static uint32_t find_slack(const struct curve *curve, float level, float *part)
{
    float enough = enough_for(level), reach = curve->recall[BINS - 1], wanted = level;
    const float *values = curve->sure;
    if (values[BINS - 1] < wanted) {
        values = curve->recall;
        wanted = enough < reach ? enough : reach;
    }
    uint32_t bin = 0;
    while (bin + 1 < BINS && values[bin] < wanted && curve->recall[bin] < enough)
        bin++;
    *part = 1;
    if (bin > 0 && values[bin] > values[bin - 1] && values[bin] >= wanted)
        *part = (wanted - values[bin - 1]) / (values[bin] - values[bin - 1]);
    *part = *part < 0 ? 0 : *part;
    return bin;
}

static float within(const float *values, uint32_t bin, float part)
{
    return bin ? values[bin - 1] + part * (values[bin] - values[bin - 1]) : values[0];
}

/* What a table is made of, for one k. */
struct findings {
    struct curve curves[WIDTHS];
    struct gates gates;
    float missed, missed_deviation; /* by narrow walks; of its mean */
    float foreign;                  /* more than that, by those of queries unlike any known */
};

struct choice {
    float slack, cost, gate;
};

static struct choice choose_narrow(const struct hnsw_calibration *c, const struct findings *f, float level)
{
    const struct curve *narrow = &f->curves[NARROW];
    float part;
    uint32_t bin = find_slack(narrow, level + f->foreign, &part);
    return (struct choice){within(c->edges, bin, part), within(narrow->evaluations, bin, part), INFINITY};
}

/* The gate is where narrow walks miss a sixteenth of what the level leaves to be missed. Few samples tell of walks that
 * are lost: a half is set aside for more of them. */
static struct choice choose_gated(const struct hnsw_calibration *c, const struct findings *f, float level)
{
    const struct curve *narrow = &f->curves[NARROW], *wide = &f->curves[WIDE];
    float left = 1 - level, part;
    uint32_t bins = find_gate(&f->gates, left / 16), bin = find_slack(wide, level + left / 2, &part);
    struct choice choice = {within(c->edges, bin, part), within(wide->evaluations, bin, part),
                            gate_distance(c, bins)};
    if (choice.gate > 0)
        choice.cost = within(narrow->evaluations, bin, part) + (1 - f->gates.there[bins - 1]) * choice.cost;
    return choice;
}

/* Narrow walks are good for a level when they are sure to reach it, though twice as many were lost as the samples say. */
static void publish_level(const struct hnsw_calibration *c, const struct findings *f, unsigned level,
                          struct calibration_row *row)
{
    const struct curve *narrow = &f->curves[NARROW], *wide = &f->curves[WIDE];
    float left = 1 - levels[level], caution = 2 * f->foreign + f->missed_deviation;
    bool sure = narrow->sure[BINS - 1] >= levels[level] + caution ||
                (narrow->recall[BINS - 1] >= enough_for(levels[level]) && f->missed + caution <= left / 4);
    bool helps = wide->recall[BINS - 1] > narrow->recall[BINS - 1] || f->foreign > left / 8;
    struct choice choice = choose_narrow(c, f, levels[level]);
    if (helps) {
        struct choice gated = choose_gated(c, f, levels[level]);
        choice = !sure || gated.cost < choice.cost ? gated : choice;
    }
    atomic_store_explicit(&row->slack[level], choice.slack, memory_order_relaxed);
    atomic_store_explicit(&row->cost[level], choice.cost, memory_order_relaxed);
    atomic_store_explicit(&row->gate[level], choice.gate, memory_order_relaxed);
}

static void make_findings(const struct hnsw_calibration *c, unsigned k, struct findings *f)
{
    float part = share_of_queries(c);
    for (unsigned width = 0; width < WIDTHS; width++)
        make_curve(c, width, k, &f->curves[width]);
    make_gates(c, k, &f->gates);
    f->missed = (1 - part) * missed_by(c, FROM_ELEMENTS, k) + part * missed_by(c, FROM_QUERIES, k);
    float samples = (1 - part) * c->sources[FROM_ELEMENTS].samples + part * c->sources[FROM_QUERIES].samples;
    f->missed_deviation = samples > 0 ? sqrtf(f->missed / samples) : 0;
    f->foreign = UNLIKE * (1 - part) * missed_by(c, FROM_BETWEEN, k);
}

void hnsw_calibration_publish(struct hnsw_calibration *c)
{
    struct findings f;
    for (unsigned k = 0; k < KITH_CALIBRATION_KS; k++) {
        make_findings(c, k, &f);
        for (unsigned level = 0; level < LEVELS; level++)
            publish_level(c, &f, level, &c->rows[k]);
        float narrow = f.curves[NARROW].recall[BINS - 1], wide = f.curves[WIDE].recall[BINS - 1];
        atomic_store_explicit(&c->rows[k].reach, narrow > wide ? narrow : wide, memory_order_relaxed);
    }
    atomic_store_explicit(&c->scale, c->sample_scale, memory_order_relaxed);
    atomic_store_explicit(&c->sampled[FROM_ELEMENTS], (uint32_t)c->sources[FROM_ELEMENTS].samples,
                          memory_order_relaxed);
    atomic_store_explicit(&c->sampled[FROM_QUERIES], (uint32_t)c->sources[FROM_QUERIES].samples,
                          memory_order_release);
}

/* ---- looking up ---- */

/* A recall and a k, between those that the table has. */
struct place {
    unsigned level, k;
    float level_part, k_part;
};

/* Levels by the error that is left: 0.99 is as far from 0.98 as 0.98 from 0.96. */
static struct place place_of(float recall, uint32_t k)
{
    struct place place = {.k = k < hnsw_calibration_ks[1] ? 0 : 1};
    while (place.level + 2 < LEVELS && recall > levels[place.level + 1])
        place.level++;
    float low = logf(1 - levels[place.level]), high = logf(1 - levels[place.level + 1]);
    float part = (logf(1 - recall) - low) / (high - low);
    place.level_part = part < 0 ? 0 : part > 1 ? 1 : part;
    part = log10f((float)(k ? k : 1)) - (float)place.k;
    place.k_part = part > 1 ? 1 : part;
    return place;
}

static float between(float low, float high, float part)
{
    return low + part * (high - low);
}

static float load(const _Atomic float *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static float between_levels(const _Atomic float *values, const struct place *place)
{
    return between(load(&values[place->level]), load(&values[place->level + 1]), place->level_part);
}

static float slack_at(const struct calibration_row *rows, const struct place *place)
{
    return between(between_levels(rows[place->k].slack, place),
                   between_levels(rows[place->k + 1].slack, place), place->k_part);
}

static float cost_at(const struct calibration_row *rows, const struct place *place)
{
    return between(between_levels(rows[place->k].cost, place), between_levels(rows[place->k + 1].cost, place),
                   place->k_part);
}

/* Of the four around the place, those that it is not just on aside, the nearest. */
static float gate_at_place(const struct calibration_row *rows, const struct place *place)
{
    float gate = INFINITY;
    for (unsigned i = 0; i < 4; i++) {
        float part = i % 2 ? place->level_part : 1 - place->level_part;
        part *= i / 2 ? place->k_part : 1 - place->k_part;
        float value = load(&rows[place->k + i / 2].gate[place->level + i % 2]);
        gate = part > 0.01f && value < gate ? value : gate;
    }
    return gate;
}

static float reach_at(const struct calibration_row *rows, const struct place *place)
{
    return between(load(&rows[place->k].reach), load(&rows[place->k + 1].reach), place->k_part);
}

static float guess_slack(const struct place *place)
{
    const float caution = 1.3f; /* for sets harder than those, and graphs of fewer links */
    const float *one = guesses[place->k] + place->level, *other = guesses[place->k + 1] + place->level;
    return caution * between(between(one[0], one[1], place->level_part),
                             between(other[0], other[1], place->level_part), place->k_part);
}

/* ---- searches ---- */

uint32_t hnsw_recall_ef(const struct kith_hnsw *h, uint32_t k)
{
    enum { EF = 2048, EF_LEAST = 128 };
    uint64_t n = kith_hnsw_count(h), ef = EF;
    ef = ef < n / 8 ? ef : n / 8;
    ef = ef < EF_LEAST ? EF_LEAST : ef;
    ef = ef < 4 * (uint64_t)k ? 4 * (uint64_t)k : ef;
    return ef < WALK_EF_MAX ? (uint32_t)ef : WALK_EF_MAX;
}

/* Without a table, and without a scale to guess by. */
static uint32_t guess_ef(uint32_t k, float recall)
{
    float ef = (float)k + 10 / (1 - recall);
    return ef < WALK_EF_MAX ? (uint32_t)ef : WALK_EF_MAX;
}

static void offer(struct hnsw_calibration *c, const struct kith_hnsw *h, const float *vector)
{
    uint32_t count = atomic_fetch_add_explicit(&c->offers, 1, memory_order_relaxed);
    if (atomic_load_explicit(&c->sampled[FROM_QUERIES], memory_order_relaxed) >= QUERIES &&
        count % OFFERS_EACH)
        return;
    struct pending_query *p = &c->pending[count % PENDING];
    unsigned state = PENDING_EMPTY;
    if (!atomic_compare_exchange_strong_explicit(&p->state, &state, PENDING_FILLING, memory_order_acquire,
                                                 memory_order_relaxed))
        return;
    memcpy(p->vector, vector, h->options.dim * sizeof *vector);
    atomic_store_explicit(&p->state, PENDING_READY, memory_order_release);
}

static bool is_usable(const struct hnsw_calibration *c)
{
    return atomic_load_explicit(&c->sampled[FROM_QUERIES], memory_order_acquire) +
               atomic_load_explicit(&c->sampled[FROM_ELEMENTS], memory_order_relaxed) >=
           USABLE;
}

/* By the table. False: what the graph does not give, the scan does; and where it costs no more. With a filter a scan
 * costs more than that, and the walk knows better; its k-th best that passes may be far off anywhere, and there is no gate. */
static bool set_by_table(struct search *search, const struct hnsw_calibration *c, const struct place *place,
                         float *slack)
{
    enum { SCAN_FASTER = 4 }; /* codes in order, beside codes and links in disorder */
    float recall = search->query->recall, reach = reach_at(c->rows, place),
          gate = gate_at_place(c->rows, place);
    bool filter = search->query->filter != NULL;
    if (!filter && (recall > reach || cost_at(c->rows, place) * SCAN_FASTER > (float)search->n))
        return false;
    *slack = slack_at(c->rows, place);
    search->gate = filter ? INFINITY : gate;
    search->width = gate == -INFINITY || (filter && gate < INFINITY) ? WIDE_VIEW : 1;
    search->scratch->profile.recall = recall < reach ? recall : reach;
    return true;
}

bool hnsw_search_by_recall(struct search *search)
{
    struct kith_hnsw *h = search->h;
    const struct kith_hnsw_query *q = search->query;
    struct hnsw_calibration *c = atomic_load_explicit(&h->calibration, memory_order_acquire);
    struct kith_hnsw_profile *profile = &search->scratch->profile;
    uint32_t k = q->recall_k && !q->mmr_pool && q->recall_k < search->k ? q->recall_k : search->k;
    if (c && q->vector && !q->of_element && !q->filter && search->n >= KITH_CALIBRATION_ELEMENTS_MIN)
        offer(c, h, q->vector);
    profile->recall = 1;
    if (search->n < KITH_CALIBRATION_ELEMENTS_MIN || q->recall > levels[LEVELS - 1])
        return false;
    struct place place = place_of(q->recall, k);
    bool by_difference = h->options.metric == KITH_HNSW_INNER_PRODUCT, usable = c && is_usable(c);
    float slack = guess_slack(&place), scale = usable ? load(&c->scale) : 0;
    search->gate = INFINITY;
    if (usable && !set_by_table(search, c, &place, &slack))
        return false;
    if (!usable)
        profile->recall = 0;
    profile->slack = slack;
    uint32_t most = hnsw_recall_ef(h, k);
    if (by_difference && !usable) {
        search->ef = guess_ef(k, q->recall);
    } else {
        search->stop = by_difference ? (struct stop){k, 1, slack * scale, -INFINITY}
                                     : (struct stop){k, 1 + slack, 0, hnsw_calibration_least(h)};
        search->ef = q->ef && q->ef < most ? q->ef : most;
    }
    search->ef = search->ef < search->k ? search->k : search->ef;
    return true;
}

/* ---- figures ---- */

bool kith_hnsw_get_calibration(const struct kith_hnsw *h, struct kith_calibration *out)
{
    static const float shown[] = {0.9f, 0.95f, 0.98f, 0.99f, 0.995f};
    const struct hnsw_calibration *c = atomic_load_explicit(&h->calibration, memory_order_acquire);
    memset(out, 0, sizeof *out);
    if (!c)
        return false;
    out->elements_sampled = atomic_load_explicit(&c->sampled[FROM_ELEMENTS], memory_order_relaxed);
    out->queries_sampled = atomic_load_explicit(&c->sampled[FROM_QUERIES], memory_order_relaxed);
    out->usable = is_usable(c);
    for (unsigned i = 0; i < KITH_CALIBRATION_KS; i++) {
        out->ks[i].k = hnsw_calibration_ks[i];
        out->ks[i].reach = load(&c->rows[i].reach);
        for (unsigned r = 0; r < sizeof shown / sizeof *shown; r++) {
            struct place place = place_of(shown[r], hnsw_calibration_ks[i]);
            out->ks[i].rows[r].recall = shown[r];
            out->ks[i].rows[r].slack = slack_at(c->rows, &place);
            out->ks[i].rows[r].evaluations = cost_at(c->rows, &place);
        }
    }
    return true;
}
