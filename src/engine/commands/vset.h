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

/* Similarity in [0, 1] from the cosine distance in [0, 2], as VSIM and VLINKS give it. */
static inline double kith_vset_score(float distance)
{
    return 1 - (double)distance / 2;
}

void kith_vadd_command(struct kith_call *call);
void kith_vmadd_command(struct kith_call *call);
void kith_vrem_command(struct kith_call *call);
void kith_vsetattr_command(struct kith_call *call);
void kith_vsim_command(struct kith_call *call);

#endif
