/* An engine under a test's hand: commands as text, replies as text, virtual time. */
#ifndef TESTS_ENGINE_FIXTURE_H
#define TESTS_ENGINE_FIXTURE_H

#include "base/buf.h"
#include "engine/checkpoint.h"
#include "engine/engine.h"
#include "engine/keyspace.h"

struct fixture {
    struct kith_engine *engine;
    struct kith_session session;
    struct kith_buf reply; /* of the last command, as sent */
    int64_t now_ms;
    uint64_t seed;
    struct kith_buf *log; /* when set: every entry is appended as a slice */
};

/* now_ms is 1,000,000 at the start. False when memory is out. */
bool fixture_open(struct fixture *fixture, uint64_t hash_seed);
void fixture_close(struct fixture *fixture);

/* Runs one command, through an entry when it writes; returns the reply, terminated, until the next call. NULL
 * when memory is out. */
const char *fixture_run(struct fixture *fixture, const struct kith_slice *argv, size_t argc);
/* Words separated by spaces; 'a b' in single quotes is one word. */
const char *fixture_do(struct fixture *fixture, const char *line);
/* An entry without commands. */
int fixture_tick(struct fixture *fixture);

/* A whole checkpoint of `from`, in steps of budget_bytes. */
int fixture_save(struct kith_engine *from, struct kith_buf *out, size_t budget_bytes);
/* Loads it in pieces of `piece` bytes. */
int fixture_load(struct kith_engine *to, struct kith_slice stream, size_t piece, struct kith_error *error);

#endif
