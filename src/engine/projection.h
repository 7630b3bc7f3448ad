/* Random projection of vectors to fewer dimensions: angles and lengths stay about the same (Johnson &
 * Lindenstrauss, 1984). A subsampled randomised Hadamard transform (Ailon & Chazelle, 2006; Tropp, 2011):
 * signs are flipped at random, the fast Walsh-Hadamard transform mixes all components, and a random choice of
 * them is kept. It takes O(n log n) time and a word a component kept, where a matrix takes their product of
 * both. All of it follows from the seed, with additions in a fixed order and no library function, so that
 * every machine computes the same vectors. */
#ifndef KITH_ENGINE_PROJECTION_H
#define KITH_ENGINE_PROJECTION_H

#include <stddef.h>
#include <stdint.h>

struct kith_projection;

/* From input_dim to dim components, 1 <= dim <= input_dim <= 65,536. KITH_ENOMEM. */
int kith_projection_open(struct kith_projection **out, uint32_t input_dim, uint32_t dim, uint64_t seed);
void kith_projection_close(struct kith_projection *projection); /* NULL is safe */
/* in[0..input_dim) to out[0..dim). Thread-safe. KITH_ENOMEM. */
int kith_projection_apply(const struct kith_projection *projection, const float *in, float *out);
size_t kith_projection_bytes(const struct kith_projection *projection); /* NULL: 0 */

#endif
