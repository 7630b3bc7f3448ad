/* Values of 4, 2 and 1 bits, and the steps of a rotation, against the scalar reference; the reference itself against
 * plain sums over unpacked values. */
#include "kernel_checks.h"
#include "vec/kernels_pack.h"

#define NIBBLES  ((struct shape){kith_u4_bytes, 1})
#define QUARTERS ((struct shape){kith_u2_bytes, 1})

static void check_nibbles(struct set *set, const struct kith_kernels *form, const void *q,
                          const void *const v[4], size_t dim)
{
    int32_t dots[4];
    form->dot_i8_u4_4(q, (const uint8_t *const *)v, dim, dots);
    for (int k = 0; k < 4; k++) {
        int32_t dot = set->reference->dot_i8_u4(q, v[k], dim);
        assert_same(dots[k], dot, dim, form->name);
        assert_same(form->dot_i8_u4(q, v[k], dim), dot, dim, form->name);
    }
}

static void check_nibble_codes(struct set *set, const struct kith_kernels *form, const void *q,
                               const void *const v[4], size_t dim)
{
    int32_t dots[4];
    form->dot_u4_4(q, (const uint8_t *const *)v, dim, dots);
    for (int k = 0; k < 4; k++) {
        int32_t dot = set->reference->dot_u4(q, v[k], dim);
        assert_same(dots[k], dot, dim, form->name);
        assert_same(form->dot_u4(v[k], q, dim), dot, dim, form->name);
    }
}

static void check_quarters(struct set *set, const struct kith_kernels *form, const void *q,
                           const void *const v[4], size_t dim)
{
    for (int k = 0; k < 2; k++)
        assert_same(form->dot_i8_u2(q, v[k], dim), set->reference->dot_i8_u2(q, v[k], dim), dim, form->name);
}

static void nibble_products_equal_the_reference(void **state)
{
    fill_all(*state, fill_i8, fill_bytes);
    check_all(*state, BYTES, NIBBLES, check_nibbles);
}

static void products_of_two_nibble_codes_equal_the_reference(void **state)
{
    fill_all(*state, fill_bytes, fill_bytes);
    check_all(*state, NIBBLES, NIBBLES, check_nibble_codes);
}

static void products_with_two_bits_equal_the_reference(void **state)
{
    fill_all(*state, fill_i8, fill_bytes);
    check_all(*state, BYTES, QUARTERS, check_quarters);
}

static void the_largest_products_do_not_overflow(void **state)
{
    struct set *set = *state;
    static int8_t q[MOST];
    static uint8_t ones[MOST / 2], zeros[MOST / 2];
    memset(ones, 0xff, sizeof ones);
    for (int sign = -1; sign <= 1; sign += 2) {
        memset(q, sign * 127, sizeof q);
        for (size_t f = 0; f < set->form_count; f++) {
            const struct kith_kernels *form = set->forms[f];
            const uint8_t *v[4] = {ones, zeros, ones, zeros};
            int32_t out[4];
            form->dot_i8_u4_4(q, v, MOST, out);
            assert_int_equal(out[0], sign * 127 * 15 * MOST);
            assert_int_equal(out[1], 0);
            assert_int_equal(form->dot_i8_u4(q, ones, MOST), sign * 127 * 15 * MOST);
            assert_int_equal(form->dot_i8_u2(q, ones, MOST), sign * 127 * 3 * MOST);
            form->dot_u4_4(zeros, v, MOST, out);
            assert_int_equal(out[0], -8 * 7 * MOST);
            assert_int_equal(out[1], 64 * MOST);
        }
    }
}

static void check_counts(struct set *set, const struct kith_kernels *form, const void *q,
                         const void *const v[4], size_t bytes)
{
    uint32_t counts[4];
    form->hamming_4(q, (const uint8_t *const *)v, bytes, counts);
    for (int k = 0; k < 4; k++) {
        uint32_t count = set->reference->hamming(q, v[k], bytes);
        assert_same(counts[k], count, bytes, form->name);
        assert_same(form->hamming(v[k], q, bytes), count, bytes, form->name);
    }
}

static void bit_counts_equal_the_reference(void **state)
{
    fill_all(*state, fill_bytes, fill_bytes);
    check_all(*state, BYTES, BYTES, check_counts);
}

static size_t bytes_of_planes(size_t bytes)
{
    return kith_planes_bytes(bytes * 8);
}

static void check_planes(struct set *set, const struct kith_kernels *form, const void *q,
                         const void *const v[4], size_t bytes)
{
    uint32_t sums[4];
    form->dot_planes_4(q, (const uint8_t *const *)v, bytes, sums);
    for (int k = 0; k < 4; k++) {
        uint32_t sum = set->reference->dot_planes(q, v[k], bytes);
        assert_same(sums[k], sum, bytes, form->name);
        assert_same(form->dot_planes(q, v[k], bytes), sum, bytes, form->name);
    }
}

/* Up to 8,192 bytes: 65,536 dimensions. */
static void sums_over_planes_equal_the_reference(void **state)
{
    struct set *set = *state;
    const struct shape planes = {bytes_of_planes, 1};
    fill_all(set, fill_bytes, fill_bytes);
    for (size_t bytes = 0; bytes <= LONGEST; bytes++)
        check_length(set, planes, BYTES, bytes, bytes < 66 ? 1 : bytes < 300 ? 7 : 31, check_planes);
    check_length(set, planes, BYTES, MOST / 8, 37, check_planes);
    memset(set->q, 0xff, ROOM);
    memset(set->v[1], 0xff, ROOM);
    for (size_t f = 0; f < set->form_count; f++)
        assert_int_equal(set->forms[f]->dot_planes(set->q, set->v[1], MOST / 8), 15 * MOST);
}

/* Values come back from their packed form, and the reference's sums are those of the values. */
static void packed_values_mean_what_was_packed(void **state)
{
    struct set *set = *state;
    static uint8_t values[LONGEST], others[LONGEST], back[LONGEST], packed[LONGEST], other[LONGEST];
    static uint8_t planes[LONGEST], bits[LONGEST];
    for (size_t dim = 0; dim <= LONGEST; dim += dim < 600 ? 1 : 37) {
        const int8_t *q = (const int8_t *)set->q;
        fill_i8(set, set->q);
        int32_t u4 = 0, u2 = 0, both = 0, sum = 0;
        memset(bits, 0, sizeof bits);
        for (size_t i = 0; i < dim; i++) {
            values[i] = (uint8_t)kith_rng_below(&set->rng, 16);
            others[i] = (uint8_t)kith_rng_below(&set->rng, 16);
            u4 += q[i] * values[i];
            u2 += q[i] * (others[i] & 3);
            both += (values[i] - 8) * (others[i] - 8);
            bits[i / 8] |= (uint8_t)((others[i] & 1) << i % 8);
            sum += others[i] & 1 ? values[i] : 0;
        }
        kith_pack_u4(values, dim, packed);
        kith_unpack_u4(packed, dim, back);
        assert_memory_equal(back, values, dim);
        assert_int_equal(set->reference->dot_i8_u4(q, packed, dim), u4);
        kith_pack_u4(others, dim, other);
        assert_int_equal(set->reference->dot_u4(packed, other, dim), both);
        kith_pack_planes(values, dim, planes);
        assert_int_equal(set->reference->dot_planes(planes, bits, (dim + 7) / 8), sum);
        for (size_t i = 0; i < dim; i++)
            others[i] &= 3;
        kith_pack_u2(others, dim, packed);
        kith_unpack_u2(packed, dim, back);
        assert_memory_equal(back, others, dim);
        assert_int_equal(set->reference->dot_i8_u2(q, packed, dim), u2);
    }
}

static void assert_same_floats(const float *a, const float *b, size_t dim, const char *form)
{
    for (size_t i = 0; i < dim; i++)
        if (memcmp(a + i, b + i, sizeof *a) != 0)
            fail_msg("%s, %zu dimensions: %g is not %g at %zu", form, dim, (double)a[i], (double)b[i], i);
}

static void check_turns(struct set *set, const struct kith_kernels *form, const void *q,
                        const void *const v[4], size_t dim)
{
    static float a[MOST + 1], b[MOST + 1], c[MOST + 1], d[MOST + 1];
    for (size_t i = 0; i < dim; i++) {
        a[i] = b[i] = ((const float *)q)[i];
        c[i] = d[i] = ((const float *)v[2])[i];
    }
    a[dim] = b[dim] = c[dim] = d[dim] = 12345;
    set->reference->flip_signs(a, v[1], dim);
    form->flip_signs(b, v[1], dim);
    assert_same_floats(a, b, dim + 1, form->name);
    set->reference->butterfly(a, c, dim);
    form->butterfly(b, d, dim);
    assert_same_floats(a, b, dim + 1, form->name);
    assert_same_floats(c, d, dim + 1, form->name);
}

static void signs_and_butterflies_equal_the_reference_to_the_bit(void **state)
{
    fill_all(*state, fill_floats, fill_floats);
    check_all(*state, FLOATS, FLOATS, check_turns);
}

static void transforms_equal_the_reference_to_the_bit(void **state)
{
    struct set *set = *state;
    static float a[MOST + 8], b[MOST + 8];
    fill_floats(set, set->q);
    for (unsigned log2_dim = 0; log2_dim <= 16; log2_dim++) {
        size_t dim = (size_t)1 << log2_dim;
        for (size_t before = 0; before < 8; before += 3) {
            memcpy(a + before, set->q, 4 * dim);
            memcpy(b + before, set->q, 4 * dim);
            set->reference->hadamard(a + before, log2_dim, 0.3f);
            for (size_t f = 0; f < set->form_count; f++) {
                memcpy(b + before, set->q, 4 * dim);
                set->forms[f]->hadamard(b + before, log2_dim, 0.3f);
                assert_same_floats(a + before, b + before, dim, set->forms[f]->name);
            }
        }
    }
}

/* By its definition: entry (i, j) is -1 to the number of bits that i and j share. */
static void the_transform_is_that_of_walsh_and_hadamard(void **state)
{
    struct set *set = *state;
    float in[64], out[64];
    for (int i = 0; i < 64; i++)
        in[i] = out[i] = (float)kith_rng_below(&set->rng, 100);
    set->reference->hadamard(out, 6, 1);
    for (int i = 0; i < 64; i++) {
        float sum = 0;
        for (int j = 0; j < 64; j++)
            sum += __builtin_popcount((unsigned)(i & j)) % 2 ? -in[j] : in[j];
        assert_true(sum == out[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_values_mean_what_was_packed),
        cmocka_unit_test(nibble_products_equal_the_reference),
        cmocka_unit_test(products_of_two_nibble_codes_equal_the_reference),
        cmocka_unit_test(products_with_two_bits_equal_the_reference),
        cmocka_unit_test(the_largest_products_do_not_overflow),
        cmocka_unit_test(bit_counts_equal_the_reference),
        cmocka_unit_test(sums_over_planes_equal_the_reference),
        cmocka_unit_test(signs_and_butterflies_equal_the_reference_to_the_bit),
        cmocka_unit_test(transforms_equal_the_reference_to_the_bit),
        cmocka_unit_test(the_transform_is_that_of_walsh_and_hadamard),
    };
    return cmocka_run_group_tests(tests, set_open, set_close);
}
