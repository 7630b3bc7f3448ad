/* Seven calls that the node makes, and the engine's functions that answer them. */
#include "repl/engine_machine.h"

#include "base/log.h"
#include "engine/checkpoint.h"

static int apply(void *context, struct kith_slice payload, const struct kith_apply_hooks *hooks)
{
    return kith_engine_apply(context, payload, hooks);
}

static int checkpoint_begin(void *context)
{
    return kith_engine_checkpoint_begin(context);
}

static int checkpoint_step(void *context, struct kith_buf *out, size_t budget_bytes)
{
    return kith_engine_checkpoint_step(context, out, budget_bytes);
}

static void checkpoint_abort(void *context)
{
    kith_engine_checkpoint_abort(context);
}

/* The node knows which file it reads, the engine which record in it: the log line has the second. */
static int explain(int status, const struct kith_error *error)
{
    KITH_ERROR("loading the checkpoint: %s", error->text);
    return status;
}

static int load(void *context, struct kith_slice bytes)
{
    struct kith_error error = {""};
    int status = kith_engine_load(context, bytes, &error);
    return status ? explain(status, &error) : KITH_OK;
}

static int load_finish(void *context)
{
    struct kith_error error = {""};
    int status = kith_engine_load_finish(context, &error);
    return status ? explain(status, &error) : KITH_OK;
}

static int reset(void *context)
{
    return kith_engine_reset(context);
}

struct kith_node_machine kith_engine_machine(struct kith_engine *engine)
{
    return (struct kith_node_machine){
        .context = engine,
        .apply = apply,
        .checkpoint_begin = checkpoint_begin,
        .checkpoint_step = checkpoint_step,
        .checkpoint_abort = checkpoint_abort,
        .load = load,
        .load_finish = load_finish,
        .reset = reset,
    };
}
