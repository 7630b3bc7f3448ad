/* Vectors to steps, for one level: included by each level's file after TARGET and STEPS(kernel) (the function's name) are
 * defined. Plain loops without branches, which the compiler turns into what TARGET has; each value is worked out alone or
 * in a fixed order, so that every level gives the same bits. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

TARGET double STEPS(sum_squares)(const float *a, size_t dim)
{
    double sums[8] = {0}, sum = 0;
    size_t d = 0;
    for (; d + 8 <= dim; d += 8)
        for (size_t i = 0; i < 8; i++)
            sums[i] += (double)a[d + i] * a[d + i];
    for (; d < dim; d++)
        sum += (double)a[d] * a[d];
    for (size_t i = 0; i < 8; i++)
        sum += sums[i];
    return sum;
}

TARGET float STEPS(largest)(const float *a, size_t dim)
{
    int32_t most = 0; /* magnitudes compare as integers */
    for (size_t i = 0; i < dim; i++) {
        int32_t bits;
        memcpy(&bits, &a[i], sizeof bits);
        bits &= INT32_MAX;
        most = bits > most ? bits : most;
    }
    float range;
    memcpy(&range, &most, sizeof range);
    return range;
}

TARGET void STEPS(to_steps)(const float *in, float factor, float least, float most, int8_t *out, size_t dim)
{
    for (size_t i = 0; i < dim; i++) {
        float x = in[i] * factor;
        x = x < least ? least : x;
        x = x > most ? most : x;
        out[i] = (int8_t)(int32_t)(x + (x < 0 ? -0.5f : 0.5f));
    }
}

/* In two loops, for each of which compilers have vectors. */
TARGET void STEPS(to_fine_steps)(const float *in, float factor, const int8_t *steps, int8_t *out, size_t dim)
{
    enum { BLOCK = 128 };
    float rest[BLOCK];
    for (size_t at = 0; at < dim; at += BLOCK) {
        size_t count = dim - at < BLOCK ? dim - at : BLOCK;
        for (size_t i = 0; i < count; i++)
            rest[i] = in[at + i] * factor - 256 * (float)steps[at + i];
        STEPS(to_steps)(rest, 1, -127, 127, out + at, count);
    }
}
