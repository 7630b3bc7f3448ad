/* Every SIMD kernel of floats and bytes against its scalar reference. */
#include "kernel_checks.h"

static void check_floats(struct set *set, const struct kith_kernels *form, const void *q,
                         const void *const v[4], size_t dim)
{
    float dots[4], squares[4];
    form->dot_f32_4(q, (const float *const *)v, dim, dots);
    form->l2sq_f32_4(q, (const float *const *)v, dim, squares);
    for (int k = 0; k < 4; k++) {
        float dot = set->reference->dot_f32(q, v[k], dim), square = set->reference->l2sq_f32(q, v[k], dim);
        assert_close(dots[k], dot, dim, 1, form->name);
        assert_close(form->dot_f32(v[k], q, dim), dot, dim, 1, form->name);
        assert_close(squares[k], square, dim, 16, form->name);
        assert_close(form->l2sq_f32(v[k], q, dim), square, dim, 16, form->name);
    }
}

static void float_products_and_distances_equal_the_reference(void **state)
{
    fill_all(*state, fill_floats, fill_floats);
    check_all(*state, FLOATS, FLOATS, check_floats);
}

static void check_bytes(struct set *set, const struct kith_kernels *form, const void *q,
                        const void *const v[4], size_t dim)
{
    int32_t dots[4];
    form->dot_i8_4(q, (const int8_t *const *)v, dim, dots);
    for (int k = 0; k < 4; k++) {
        int32_t dot = set->reference->dot_i8(q, v[k], dim);
        assert_same(dots[k], dot, dim, form->name);
        assert_same(form->dot_i8(v[k], q, dim), dot, dim, form->name);
    }
    assert_same(form->sum_i8(v[1], dim), set->reference->sum_i8(v[1], dim), dim, form->name);
}

static void byte_products_and_sums_equal_the_reference(void **state)
{
    fill_all(*state, fill_i8, fill_i8);
    check_all(*state, BYTES, BYTES, check_bytes);
}

static void the_largest_byte_products_do_not_overflow(void **state)
{
    struct set *set = *state;
    static int8_t low[MOST], high[MOST];
    memset(low, -127, sizeof low);
    memset(high, 127, sizeof high);
    const int8_t *v[4] = {low, high, low, high};
    for (size_t f = 0; f < set->form_count; f++) {
        const struct kith_kernels *form = set->forms[f];
        int32_t out[4];
        form->dot_i8_4(high, v, MOST, out);
        assert_int_equal(out[0], -127 * 127 * MOST);
        assert_int_equal(out[1], 127 * 127 * MOST);
        assert_int_equal(form->dot_i8(low, low, MOST), 127 * 127 * MOST);
        assert_int_equal(form->sum_i8(low, MOST), -127 * MOST);
    }
}

static void check_floats_and_bytes(struct set *set, const struct kith_kernels *form, const void *q,
                                   const void *const v[4], size_t dim)
{
    float dots[4];
    form->dot_f32_i8_4(q, (const int8_t *const *)v, dim, dots);
    for (int k = 0; k < 4; k++) {
        float dot = set->reference->dot_f32_i8(q, v[k], dim);
        assert_close(dots[k], dot, dim, 127, form->name);
        assert_close(form->dot_f32_i8(q, v[k], dim), dot, dim, 127, form->name);
    }
}

static void products_of_floats_and_bytes_equal_the_reference(void **state)
{
    fill_all(*state, fill_floats, fill_i8);
    check_all(*state, FLOATS, BYTES, check_floats_and_bytes);
}

/* In any dimension, and whatever stands beside the vector. */
static void a_nan_or_an_infinity_is_told_and_none_is_invented(void **state)
{
    struct set *set = *state;
    static float one[200], zero[200], odd[200], around[200];
    for (size_t i = 0; i < 200; i++)
        one[i] = 1, around[i] = NAN;
    for (size_t f = 0; f < set->form_count; f++) {
        const struct kith_kernels *form = set->forms[f];
        for (size_t dim = 1; dim < 130; dim++) {
            for (size_t at = 0; at < dim; at++) {
                memcpy(odd, one, sizeof odd);
                odd[at] = NAN;
                assert_true(isnan(form->dot_f32(one, odd, dim)) && isnan(form->l2sq_f32(one, odd, dim)));
                odd[at] = INFINITY;
                assert_true(isinf(form->dot_f32(one, odd, dim)) && isinf(form->l2sq_f32(one, odd, dim)));
                assert_true(isnan(form->dot_f32(zero, odd, dim)));
            }
            memcpy(around + 10, one, 150 * sizeof *one);
            memset(around + 10 + dim, 0xff, (150 - dim) * sizeof *one);
            const float *v[4] = {around + 10, one, around + 10, one};
            float out[4];
            form->dot_f32_4(around + 10, v, dim, out);
            assert_true(out[0] == (float)dim && out[3] == (float)dim);
            form->l2sq_f32_4(around + 10, v, dim, out);
            assert_true(out[0] == 0 && out[3] == 0);
        }
    }
}

static void check_steps(struct set *set, const struct kith_kernels *form, const void *q,
                        const void *const v[4], size_t dim)
{
    static int8_t a[MOST + 1], b[MOST + 1], c[MOST + 1];
    double squares = set->reference->sum_squares(q, dim), found = form->sum_squares(q, dim);
    assert_memory_equal(&squares, &found, sizeof squares);
    float range = set->reference->largest(q, dim), factor = range > 0 ? 127 / range : 0;
    assert_true(form->largest(q, dim) == range);
    a[dim] = b[dim] = c[dim] = 99;
    set->reference->to_steps(q, factor, -127, 127, a, dim);
    form->to_steps(q, factor, -127, 127, b, dim);
    assert_memory_equal(a, b, dim + 1);
    set->reference->to_fine_steps(q, factor * 256, a, b, dim);
    form->to_fine_steps(q, factor * 256, a, c, dim);
    assert_memory_equal(b, c, dim + 1);
    set->reference->to_steps(q, 9, -8, 7, a, dim);
    form->to_steps(q, 9, -8, 7, b, dim);
    assert_memory_equal(a, b, dim + 1);
}

static void steps_equal_the_reference_to_the_bit(void **state)
{
    fill_all(*state, fill_floats, fill_floats);
    check_all(*state, FLOATS, BYTES, check_steps);
}

static void steps_are_the_nearest_and_halves_go_away_from_zero(void **state)
{
    struct set *set = *state;
    static const float in[] = {0,    -0.0f, 0.5f, -0.5f, 0.49f,  1.5f, -1.5f,
                               7.5f, -8.5f, 100,  -100,  126.9f, 1e9f, -1e9f};
    static const int8_t steps[] = {0, 0, 1, -1, 0, 2, -2, 8, -9, 100, -100, 127, 127, -127};
    static const int8_t fine[] = {0, 0, -127, 127, 125, -127, 127, -127, 127, 0, 0, -26, 127, -127};
    enum { COUNT = sizeof steps };
    int8_t out[COUNT], low[COUNT];
    for (size_t f = 0; f < set->form_count; f++) {
        set->forms[f]->to_steps(in, 1, -127, 127, out, COUNT);
        assert_memory_equal(out, steps, COUNT);
        set->forms[f]->to_fine_steps(in, 256, steps, low, COUNT);
        assert_memory_equal(low, fine, COUNT);
        assert_true(set->forms[f]->largest(in, 12) == 126.9f && set->forms[f]->largest(in, 0) == 0);
    }
}

static void any_form_can_be_asked_for(void **state)
{
    struct set *set = *state;
    assert_string_equal(kith_kernels_pick(KITH_KERNEL_SCALAR)->name, "scalar");
    assert_int_equal(kith_kernels_pick(KITH_KERNEL_BEST)->level, set->forms[set->form_count - 1]->level);
    for (size_t f = 0; f < set->form_count; f++)
        assert_ptr_equal(kith_kernels_pick(set->forms[f]->level), set->forms[f]);
    assert_null(kith_kernels_at(KITH_KERNEL_BEST));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float_products_and_distances_equal_the_reference),
        cmocka_unit_test(byte_products_and_sums_equal_the_reference),
        cmocka_unit_test(the_largest_byte_products_do_not_overflow),
        cmocka_unit_test(products_of_floats_and_bytes_equal_the_reference),
        cmocka_unit_test(a_nan_or_an_infinity_is_told_and_none_is_invented),
        cmocka_unit_test(steps_equal_the_reference_to_the_bit),
        cmocka_unit_test(steps_are_the_nearest_and_halves_go_away_from_zero),
        cmocka_unit_test(any_form_can_be_asked_for),
    };
    return cmocka_run_group_tests(tests, set_open, set_close);
}
