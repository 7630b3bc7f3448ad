/* Keeps a few colours as vectors in a folder and asks which are nearest to orange.
 *
 *     cc neighbours.c $(pkg-config --cflags --libs kith) -o neighbours && ./neighbours colours */
#include <kith.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    float rgb[3];
} colours[] = {{"red", {1, 0, 0}},         {"green", {0, 1, 0}},    {"blue", {0, 0, 1}},
               {"gold", {1, .84f, 0}},     {"teal", {0, .5f, .5f}}, {"coral", {1, .5f, .31f}},
               {"indigo", {.29f, 0, .51f}}};

int main(int argc, char **argv)
{
    char message[KITH_MESSAGE_BYTES];
    struct kith *db;
    if (kith_open(&db, argc > 1 ? argv[1] : NULL, NULL, message) != 0) {
        fprintf(stderr, "%s\n", message);
        return 1;
    }

    for (size_t i = 0; i < sizeof colours / sizeof colours[0]; i++)
        if (kith_vector_add(db, "colours", colours[i].name, colours[i].rgb, 3) < 0)
            fprintf(stderr, "%s: %s\n", colours[i].name, kith_message(db));

    const float orange[] = {1, .65f, 0};
    struct kith_matches *found;
    if (kith_vector_search(db, "colours", orange, 3, 3, &found) == 0) {
        for (size_t i = 0; i < found->count; i++)
            printf("%-6s %.3f\n", found->match[i].element, found->match[i].score);
        kith_free(found);
    }

    /* Plain keys, and any other command. */
    char *value;
    size_t length;
    kith_put(db, "asked", "orange", strlen("orange"));
    if (kith_get(db, "asked", &value, &length) == 0) {
        printf("asked  %.*s\n", (int)length, value);
        kith_free(value);
    }
    const struct kith_answer *answer;
    if (kith_command(db, 2, (const char *[]){"VCARD", "colours"}, NULL, &answer) == 0) {
        printf("set    %lld colours\n", (long long)answer->integer);
        kith_free((void *)answer);
    }
    return kith_close(db) == 0 ? 0 : 1;
}
