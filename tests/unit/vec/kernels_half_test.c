/* Floats of 16 bits: products against the scalar reference, conversions against what rounding means. */
#include "kernel_checks.h"

static void fill_f16(struct set *set, uint8_t *memory)
{
    static float values[ROOM / 4];
    fill_floats(set, (uint8_t *)values);
    set->reference->to_f16(values, (uint16_t *)memory, ROOM / 4);
    memcpy(memory + ROOM / 2, memory, ROOM / 2);
}

static void fill_bf16(struct set *set, uint8_t *memory)
{
    static float values[ROOM / 4];
    fill_floats(set, (uint8_t *)values);
    set->reference->to_bf16(values, (uint16_t *)memory, ROOM / 4);
    memcpy(memory + ROOM / 2, memory, ROOM / 2);
}

static void check_f16(struct set *set, const struct kith_kernels *form, const void *q, const void *const v[4],
                      size_t dim)
{
    float dots[4];
    form->dot_f32_f16_4(q, (const uint16_t *const *)v, dim, dots);
    for (int k = 0; k < 4; k++) {
        float dot = set->reference->dot_f32_f16(q, v[k], dim);
        assert_close(dots[k], dot, dim, 1, form->name);
        assert_close(form->dot_f32_f16(q, v[k], dim), dot, dim, 1, form->name);
    }
}

static void check_bf16(struct set *set, const struct kith_kernels *form, const void *q,
                       const void *const v[4], size_t dim)
{
    float dots[4];
    form->dot_f32_bf16_4(q, (const uint16_t *const *)v, dim, dots);
    for (int k = 0; k < 4; k++) {
        float dot = set->reference->dot_f32_bf16(q, v[k], dim);
        assert_close(dots[k], dot, dim, 1, form->name);
        assert_close(form->dot_f32_bf16(q, v[k], dim), dot, dim, 1, form->name);
    }
}

static void check_f16_codes(struct set *set, const struct kith_kernels *form, const void *q,
                            const void *const v[4], size_t dim)
{
    float dots[4];
    form->dot_f16_4(q, (const uint16_t *const *)v, dim, dots);
    for (int k = 0; k < 4; k++) {
        float dot = set->reference->dot_f16(q, v[k], dim);
        assert_close(dots[k], dot, dim, 1, form->name);
        assert_close(form->dot_f16(v[k], q, dim), dot, dim, 1, form->name);
    }
}

static void check_bf16_codes(struct set *set, const struct kith_kernels *form, const void *q,
                             const void *const v[4], size_t dim)
{
    float dots[4];
    form->dot_bf16_4(q, (const uint16_t *const *)v, dim, dots);
    for (int k = 0; k < 4; k++) {
        float dot = set->reference->dot_bf16(q, v[k], dim);
        assert_close(dots[k], dot, dim, 1, form->name);
        assert_close(form->dot_bf16(v[k], q, dim), dot, dim, 1, form->name);
    }
}

static void products_with_halves_equal_the_reference(void **state)
{
    fill_all(*state, fill_floats, fill_f16);
    check_all(*state, FLOATS, HALVES, check_f16);
}

static void products_with_bf16_equal_the_reference(void **state)
{
    fill_all(*state, fill_floats, fill_bf16);
    check_all(*state, FLOATS, HALVES, check_bf16);
}

static void products_of_two_halves_equal_the_reference(void **state)
{
    fill_all(*state, fill_f16, fill_f16);
    check_all(*state, HALVES, HALVES, check_f16_codes);
}

static void products_of_two_bf16_equal_the_reference(void **state)
{
    fill_all(*state, fill_bf16, fill_bf16);
    check_all(*state, HALVES, HALVES, check_bf16_codes);
}

/* Any bits at all, so NaN, infinity and subnormals too; the outputs may not be written past their end either. */
static void check_conversions(struct set *set, const struct kith_kernels *form, const void *q,
                              const void *const v[4], size_t dim)
{
    static uint16_t short_a[MOST], short_b[MOST + 1];
    static float long_a[MOST], long_b[MOST + 1];
    short_b[dim] = 12345;
    long_b[dim] = 12345;
    set->reference->to_f16(q, short_a, dim);
    form->to_f16(q, short_b, dim);
    assert_memory_equal(short_a, short_b, 2 * dim);
    set->reference->to_bf16(q, short_a, dim);
    form->to_bf16(q, short_b, dim);
    assert_memory_equal(short_a, short_b, 2 * dim);
    set->reference->from_f16(v[1], long_a, dim);
    form->from_f16(v[1], long_b, dim);
    assert_memory_equal(long_a, long_b, 4 * dim);
    set->reference->from_bf16(v[1], long_a, dim);
    form->from_bf16(v[1], long_b, dim);
    assert_memory_equal(long_a, long_b, 4 * dim);
    assert_true(short_b[dim] == 12345 && long_b[dim] == 12345);
}

static void conversions_of_any_bits_equal_the_reference(void **state)
{
    fill_all(*state, fill_bytes, fill_bytes);
    check_all(*state, FLOATS, HALVES, check_conversions);
}

static double value_of_f16(unsigned h)
{
    int exponent = h >> 10 & 31;
    double size = exponent ? ldexp(1024 + (h & 1023), exponent - 25) : ldexp(h & 1023, -24);
    return h & 0x8000 ? -size : size;
}

static double value_of_bf16(unsigned h)
{
    int exponent = h >> 7 & 255;
    double size = exponent ? ldexp(128 + (h & 127), exponent - 134) : ldexp(h & 127, -133);
    return h & 0x8000 ? -size : size;
}

/* Between two neighbours: the nearer one, and in the middle the even one; the neighbours themselves stay. end: the last
 * that has a neighbour whose value a float can hold. */
static void check_rounding(void (*convert)(const float *, uint16_t *, size_t), double (*value)(unsigned),
                           unsigned end, unsigned infinity)
{
    for (unsigned sign = 0; sign <= 0x8000; sign += 0x8000) {
        for (unsigned h = 0; h < end; h++) {
            float here = (float)value(sign | h), next = (float)value(sign | (h + 1));
            float middle = (float)((value(sign | h) + value(sign | (h + 1))) / 2);
            float in[4] = {here, nextafterf(middle, here), middle, nextafterf(middle, next)};
            uint16_t out[4];
            convert(in, out, 4);
            assert_int_equal(out[0], sign | h);
            assert_int_equal(out[1], sign | h);
            assert_int_equal(out[2], sign | (h + (h & 1)));
            assert_int_equal(out[3], sign | (h + 1));
        }
    }
    float in[4] = {INFINITY, -INFINITY, NAN, -3e38f};
    uint16_t out[4];
    convert(in, out, 4);
    assert_int_equal(out[0], infinity);
    assert_int_equal(out[1], 0x8000 | infinity);
    assert_true((out[2] & 0x7fff) > infinity);
}

static void rounding_is_to_the_nearest_and_ties_go_to_even(void **state)
{
    struct set *set = *state;
    for (size_t f = 0; f < set->form_count; f++) {
        check_rounding(set->forms[f]->to_f16, value_of_f16, 0x7c00, 0x7c00);
        check_rounding(set->forms[f]->to_bf16, value_of_bf16, 0x7f7f, 0x7f80);
    }
}

static void every_number_of_16_bits_comes_back(void **state)
{
    struct set *set = *state;
    static uint16_t all[65536], back[65536];
    static float wide[65536];
    for (unsigned i = 0; i < 65536; i++)
        all[i] = (uint16_t)i;
    for (size_t f = 0; f < set->form_count; f++) {
        set->forms[f]->from_f16(all, wide, 65536);
        set->forms[f]->to_f16(wide, back, 65536);
        for (unsigned i = 0; i < 65536; i++) {
            bool nan = (i & 0x7fff) > 0x7c00;
            assert_true(nan ? isnan(wide[i]) : isinf(wide[i]) || wide[i] == (float)value_of_f16(i));
            assert_int_equal(back[i], nan ? i | 0x200 : i);
        }
        set->forms[f]->from_bf16(all, wide, 65536);
        set->forms[f]->to_bf16(wide, back, 65536);
        for (unsigned i = 0; i < 65536; i++) {
            bool nan = (i & 0x7fff) > 0x7f80;
            assert_true(nan ? isnan(wide[i]) : isinf(wide[i]) || wide[i] == (float)value_of_bf16(i));
            assert_int_equal(back[i], nan ? i | 0x40 : i);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_with_halves_equal_the_reference),
        cmocka_unit_test(products_with_bf16_equal_the_reference),
        cmocka_unit_test(products_of_two_halves_equal_the_reference),
        cmocka_unit_test(products_of_two_bf16_equal_the_reference),
        cmocka_unit_test(conversions_of_any_bits_equal_the_reference),
        cmocka_unit_test(rounding_is_to_the_nearest_and_ties_go_to_even),
        cmocka_unit_test(every_number_of_16_bits_comes_back),
    };
    return cmocka_run_group_tests(tests, set_open, set_close);
}
