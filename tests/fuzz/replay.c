/* Runs a fuzz target without libFuzzer: over each file of its corpus folder, then over inputs made by cutting
 * and changing them. So whatever a fuzzer once found stays a test of every build, gcc's too. Output is TAP.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { VARIANTS = 200, INPUT_BYTES_MAX = 1 << 20 };

/* The target gets memory of the exact size, so that a read past the end is seen. */
static void run_copy(const uint8_t *data, size_t size)
{
    uint8_t *copy = calloc(1, size ? size : 1);
    if (!copy)
        abort();
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void run_variants(uint8_t *data, size_t size, struct kith_rng *rng)
{
    run_copy(data, size);
    for (int i = 0; i < VARIANTS && size > 0; i++) {
        size_t at = kith_rng_below(rng, size), cut = size - (i % 3 ? 0 : kith_rng_below(rng, size));
        uint8_t old = data[at];
        data[at] = (uint8_t)kith_rng_below(rng, 256);
        run_copy(data, cut);
        data[at] = old;
    }
}

int main(int argc, char **argv)
{
    static uint8_t data[INPUT_BYTES_MAX];
    struct kith_rng rng;
    int cases = 0;
    kith_rng_seed(&rng, 1);
    run_copy(data, 0);
    printf("ok %d - the empty input\n", ++cases);
    DIR *folder = argc > 1 ? opendir(argv[1]) : NULL;
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        char path[4096];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        FILE *file = fopen(path, "rb");
        if (!file) {
            printf("not ok %d - %s cannot be read\n", ++cases, entry->d_name);
            return 1;
        }
        size_t size = fread(data, 1, sizeof data, file);
        fclose(file);
        run_variants(data, size, &rng);
        printf("ok %d - %s\n", ++cases, entry->d_name);
    }
    if (folder)
        closedir(folder);
    printf("1..%d\n", cases);
    return 0;
}
