/* Work that may run off the keyspace thread.
 *
 * A task is embedded in a struct of its owner. `run` is called once, on any thread, and touches only what the
 * task holds references to; `done` is called once afterwards, on the thread that drains the executor. */
#ifndef KITH_BASE_TASK_H
#define KITH_BASE_TASK_H

#include <stdbool.h>
#include <stddef.h>

struct kith_task {
    void (*run)(struct kith_task *task);
    void (*done)(struct kith_task *task);
    struct kith_task *next; /* the executor's */
};

/* Where tasks go. `submit` never fails and never runs `done` before it returns, unless the executor is the
 * inline one (submit == NULL), which runs both at once. */
struct kith_executor {
    void (*submit)(void *context, struct kith_task *task);
    void *context;
};

static inline void kith_executor_submit(const struct kith_executor *executor, struct kith_task *task)
{
    if (executor && executor->submit) {
        executor->submit(executor->context, task);
        return;
    }
    task->run(task);
    task->done(task);
}

/* A fixed set of worker threads behind an executor. */
struct kith_pool;

/* Starts `thread_count` threads; with 0 tasks wait for kith_pool_run, wait or close. `wake(wake_arg)` is called from a worker when finished tasks wait to
 * be drained and none did before; it must be thread-safe. KITH_ENOMEM or KITH_EAGAIN (no threads) on failure.
 */
int kith_pool_open(struct kith_pool **out, unsigned thread_count, void (*wake)(void *), void *wake_arg);
/* Waits for what runs, drains everything, ends the threads. close(NULL) is safe. */
void kith_pool_close(struct kith_pool *pool);
struct kith_executor kith_pool_executor(struct kith_pool *pool);
/* Of a pool without threads: runs the first task that waits, on this thread. False: none does. */
bool kith_pool_run(struct kith_pool *pool);
unsigned kith_pool_thread_count(const struct kith_pool *pool);
/* Calls `done` of each finished task on this thread; returns how many. */
size_t kith_pool_drain(struct kith_pool *pool);
/* Blocks until at least one task has finished or none is outstanding, then drains; returns how many. */
size_t kith_pool_wait(struct kith_pool *pool);

#endif
