/* What the files of vector-set commands share. */
#ifndef KITH_ENGINE_COMMANDS_VSET_H
#define KITH_ENGINE_COMMANDS_VSET_H

#include "engine/keyspace.h"
#include "engine/vset.h"

/* The set at argv[1], NULL when there is none; false when a reply was written. */
bool kith_vset_open_read(struct kith_call *call, struct kith_vset **vset);

/* A vector as a client gives it: FP32 <little-endian floats> or VALUES <n> <n numbers>. */
struct kith_vector_argument {
    float *values; /* owned: free() */
    uint32_t dim;
};

/* Reads it at argv[*index], which then stands behind it. False after an error reply; nothing is owned then.
 */
bool kith_vector_argument_parse(struct kith_call *call, size_t *index, struct kith_vector_argument *vector);

/* Makes the vector fit the set: projects one of the input dimension, refuses other dimensions with a reply.
 */
bool kith_vector_argument_fit(struct kith_call *call, const struct kith_vset *vset,
                              struct kith_vector_argument *vector);

/* Replies "ERR invalid vector specification: <why>" and returns false. */
bool kith_vector_refuse(struct kith_call *call, const char *why);

/* What a score is, higher is nearer: for cosine a similarity in [0, 1] as in Redis, the inner product itself,
 * 1 / (1 + d) in (0, 1] of the squared distance d. */
static inline double kith_vset_score(enum kith_hnsw_metric metric, float distance)
{
    if (metric == KITH_HNSW_INNER_PRODUCT)
        return 1 - (double)distance;
    return metric == KITH_HNSW_L2SQ ? 1 / (1 + (double)distance) : 1 - (double)distance / 2;
}

/* What VADD and VMADD were told about the set. 0: not given. */
struct kith_set_request {
    uint32_t reduce;
    int64_t m, ef;
    int codes, keep, metric, layout; /* values of the index's enums */
    bool layout_given;
};

/* Takes one option that concerns the set at argv[*index]; *index stands at its last word then. 1: taken, 0: it
 * is none, -1: an error was replied. */
int kith_set_option_take(struct kith_call *call, size_t *index, struct kith_set_request *request);
/* False after an error that says what the set has. dim: of the vectors given. */
bool kith_set_request_fits(struct kith_call *call, const struct kith_vset_options *has,
                           const struct kith_set_request *asked, uint32_t dim);
void kith_set_request_options(const struct kith_set_request *asked, uint32_t dim, uint64_t seed,
                              struct kith_vset_options *options);
/* The index refused them (KITH_EINVAL): replies why. */
void kith_set_refuse_options(struct kith_call *call, const struct kith_vset_options *options);

/* As VINFO and VEMB RAW name them: "int8", "RESIDUAL", "COSINE", "COMPACT". */
const char *kith_set_codes_name(enum kith_hnsw_codes codes);
const char *kith_set_keep_name(enum kith_hnsw_keep keep);
const char *kith_set_metric_name(enum kith_hnsw_metric metric);
const char *kith_set_layout_name(enum kith_hnsw_layout layout);

void kith_vadd_command(struct kith_call *call);
void kith_vmadd_command(struct kith_call *call);
void kith_vrecall_command(struct kith_call *call);
void kith_vrem_command(struct kith_call *call);
void kith_vsetattr_command(struct kith_call *call);
void kith_vsim_command(struct kith_call *call);
void kith_vpairs_command(struct kith_call *call);

#endif
