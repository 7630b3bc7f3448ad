/* A pseudo-random orthogonal transform of any dimension, in O(dim log dim) time and an eighth of a float of memory a
 * dimension and step: it spreads what stands in a few dimensions over all, so that one scale fits them all. Lengths and
 * inner products stay what they were, but for rounding.
 *
 * One step flips random signs and takes a Walsh-Hadamard transform (Ailon & Chazelle, "The fast Johnson-Lindenstrauss
 * transform", 2009; three steps are as good as a random rotation in practice: Andoni et al., "Practical and optimal LSH
 * for angular distance", 2015). Where the dimension is no power of two, steps go in pairs over its first and its last 2^k
 * dimensions, which overlap, and after a pair each dimension of the lower half is turned by 45 degrees against one of
 * the upper half, as in Kac's walk:
 *
 *     2^k <= dim:  signs, H on [0, 2^k);  signs, H on [dim - 2^k, dim);  turn halves;  and once more
 *
 * The result is the same to the last bit on every machine and kernel level: all take the same sums in the same order. */
#ifndef KITH_VEC_ROTATION_H
#define KITH_VEC_ROTATION_H

#include "vec/kernels.h"

#define KITH_ROTATION_DIM_MAX 65536

struct kith_rotation;

/* The rotation that belongs to (dim, seed). dim: 1 to KITH_ROTATION_DIM_MAX. kernels: borrowed, must outlive it.
 * KITH_EINVAL, KITH_ENOMEM; *out is then untouched. Close with kith_rotation_close; NULL is safe. Once open it is only
 * read: any number of threads may apply it. */
int kith_rotation_open(struct kith_rotation **out, uint32_t dim, uint64_t seed,
                       const struct kith_kernels *kernels);
void kith_rotation_close(struct kith_rotation *r);
/* Of memory that it holds. */
size_t kith_rotation_bytes(const struct kith_rotation *r);

/* Rotates in[0..dim) to out[0..dim), which is the same array or does not overlap. Allocates nothing. Lengths must be
 * below FLT_MAX / 256; a NaN or an infinity spreads. */
void kith_rotation_apply(const struct kith_rotation *r, const float *in, float *out);
/* The other way round: its transpose. */
void kith_rotation_undo(const struct kith_rotation *r, const float *in, float *out);

#endif
