/* Any bytes as a checkpoint's stream. What loads must save and load again to the same content. */
#include "base/assert.h"
#include "base/status.h"
#include "engine/checkpoint.h"
#include "engine/engine.h"
#include "engine/keyspace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct kith_engine *open_engine(uint64_t seed)
{
    struct kith_engine *engine = NULL;
    struct kith_engine_options options = {.hash_seed = {seed, 1}};
    KITH_ASSERT(kith_engine_open(&engine, &options) == KITH_OK);
    return engine;
}

static int load(struct kith_engine *engine, struct kith_slice bytes, size_t cut)
{
    struct kith_error error;
    int status = kith_engine_load(engine, kith_slice(bytes.data, cut), &error);
    if (status == KITH_OK)
        status = kith_engine_load(engine, kith_slice(bytes.data + cut, bytes.length - cut), &error);
    return status ? status : kith_engine_load_finish(engine, &error);
}

static void save_and_compare(struct kith_engine *engine)
{
    struct kith_buf stream;
    kith_buf_init(&stream);
    KITH_ASSERT(kith_engine_checkpoint_begin(engine) == KITH_OK);
    while (kith_engine_checkpoint_step(engine, &stream, 100) > 0)
        ;
    struct kith_engine *copy = open_engine(2);
    KITH_ASSERT(load(copy, kith_buf_slice(&stream), stream.length / 2) == KITH_OK);
    KITH_ASSERT(kith_engine_digest(copy) == kith_engine_digest(engine));
    kith_engine_close(copy);
    kith_buf_fini(&stream);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kith_slice bytes = kith_slice(data, size);
    struct kith_engine *engine = open_engine(1);
    if (load(engine, bytes, size / 3) == KITH_OK)
        save_and_compare(engine);
    kith_engine_close(engine);
    return 0;
}
