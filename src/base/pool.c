/* A fixed set of worker threads: one queue in, one list out, one mutex. The tasks are long (a graph search
 * takes 50 us and more), so a lock-free queue would gain nothing. Without threads the same queue is worked off by
 * kith_pool_run: a simulator's order of things is then its own. */
#include "base/assert.h"
#include "base/status.h"
#include "base/task.h"

#include <pthread.h>
#include <stdlib.h>

struct kith_pool {
    pthread_mutex_t mutex;
    pthread_cond_t work;     /* a task was submitted, or closing */
    pthread_cond_t finished; /* a task finished */
    struct kith_task *head, *tail;
    struct kith_task *done_head, *done_tail;
    size_t outstanding; /* submitted and not yet on the done list */
    bool closing;
    void (*wake)(void *);
    void *wake_arg;
    unsigned thread_count;
    pthread_t threads[];
};

/* With the mutex held, and at least one task waiting: takes it, runs it, puts it on the done list. */
static void run_first(struct kith_pool *pool)
{
    struct kith_task *task = pool->head;
    pool->head = task->next;
    if (!pool->head)
        pool->tail = NULL;
    pthread_mutex_unlock(&pool->mutex);
    task->run(task);
    pthread_mutex_lock(&pool->mutex);
    task->next = NULL;
    bool first = !pool->done_head;
    if (first)
        pool->done_head = task;
    else
        pool->done_tail->next = task;
    pool->done_tail = task;
    pool->outstanding--;
    pthread_cond_signal(&pool->finished);
    void (*wake)(void *) = first ? pool->wake : NULL; /* close() may clear it meanwhile */
    if (wake) {
        pthread_mutex_unlock(&pool->mutex);
        wake(pool->wake_arg);
        pthread_mutex_lock(&pool->mutex);
    }
}

static void *worker(void *arg)
{
    struct kith_pool *pool = arg;
    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        while (!pool->head && !pool->closing)
            pthread_cond_wait(&pool->work, &pool->mutex);
        if (!pool->head)
            break;
        run_first(pool);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

bool kith_pool_run(struct kith_pool *pool)
{
    KITH_ASSERT(pool->thread_count == 0);
    pthread_mutex_lock(&pool->mutex);
    bool any = pool->head != NULL;
    if (any)
        run_first(pool);
    pthread_mutex_unlock(&pool->mutex);
    return any;
}

int kith_pool_open(struct kith_pool **out, unsigned thread_count, void (*wake)(void *), void *wake_arg)
{
    struct kith_pool *pool = calloc(1, sizeof *pool + thread_count * sizeof pool->threads[0]);
    if (!pool)
        return KITH_ENOMEM;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->finished, NULL);
    pool->wake = wake;
    pool->wake_arg = wake_arg;
    for (; pool->thread_count < thread_count; pool->thread_count++) {
        if (pthread_create(&pool->threads[pool->thread_count], NULL, worker, pool) != 0) {
            kith_pool_close(pool);
            return KITH_EAGAIN;
        }
    }
    *out = pool;
    return KITH_OK;
}

void kith_pool_close(struct kith_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->mutex);
    pool->closing = true;
    pool->wake = NULL;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    for (unsigned i = 0; i < pool->thread_count; i++)
        pthread_join(pool->threads[i], NULL);
    while (pool->thread_count == 0 && kith_pool_run(pool)) {
    }
    kith_pool_drain(pool);
    pthread_cond_destroy(&pool->finished);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

static void pool_submit(void *context, struct kith_task *task)
{
    struct kith_pool *pool = context;
    task->next = NULL;
    pthread_mutex_lock(&pool->mutex);
    KITH_ASSERT(!pool->closing);
    if (pool->tail)
        pool->tail->next = task;
    else
        pool->head = task;
    pool->tail = task;
    pool->outstanding++;
    pthread_cond_signal(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
}

struct kith_executor kith_pool_executor(struct kith_pool *pool)
{
    return (struct kith_executor){pool_submit, pool};
}

unsigned kith_pool_thread_count(const struct kith_pool *pool)
{
    return pool->thread_count;
}

size_t kith_pool_drain(struct kith_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    struct kith_task *task = pool->done_head;
    pool->done_head = pool->done_tail = NULL;
    pthread_mutex_unlock(&pool->mutex);
    size_t count = 0;
    while (task) {
        struct kith_task *next = task->next;
        task->done(task);
        task = next;
        count++;
    }
    return count;
}

size_t kith_pool_wait(struct kith_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    if (pool->thread_count == 0 && !pool->done_head && pool->head)
        run_first(pool);
    while (!pool->done_head && pool->outstanding)
        pthread_cond_wait(&pool->finished, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
    return kith_pool_drain(pool);
}
