/* The pool of workers: run under ThreadSanitizer too. */
#include "base/status.h"
#include "base/task.h"
#include "failing_malloc.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>

#include <cmocka.h>

struct job {
    struct kith_task task; /* first, so that a task is its job */
    pthread_t ran_on;
    int runs, dones; /* plain ints: the pool itself must order run before done */
    struct kith_executor *again;
};

static void run(struct kith_task *task)
{
    struct job *job = (struct job *)task;
    job->ran_on = pthread_self();
    job->runs++;
}

static void done(struct kith_task *task)
{
    struct job *job = (struct job *)task;
    assert_int_equal(job->runs, job->dones + 1);
    job->dones++;
    if (job->again && job->dones < 3)
        kith_executor_submit(job->again, task);
}

static void count_wake(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void every_task_runs_once_and_is_done_on_the_draining_thread(void **state)
{
    enum { JOBS = 2000 };
    static struct job jobs[JOBS];
    atomic_int wakes = 0;
    struct kith_pool *pool;
    assert_int_equal(kith_pool_open(&pool, 4, count_wake, &wakes), KITH_OK);
    struct kith_executor executor = kith_pool_executor(pool);
    size_t finished = 0;
    for (int i = 0; i < JOBS; i++) {
        jobs[i] = (struct job){.task = {.run = run, .done = done}};
        kith_executor_submit(&executor, &jobs[i].task);
        if (i % 100 == 0)
            finished += kith_pool_drain(pool);
    }
    while (finished < JOBS)
        finished += kith_pool_wait(pool);
    for (int i = 0; i < JOBS; i++) {
        assert_int_equal(jobs[i].dones, 1);
        assert_false(pthread_equal(jobs[i].ran_on, pthread_self()));
    }
    assert_int_equal(kith_pool_wait(pool), 0);
    assert_true(atomic_load(&wakes) > 0);
    kith_pool_close(pool);
}

static void a_done_task_may_be_submitted_again(void **state)
{
    struct kith_pool *pool;
    assert_int_equal(kith_pool_open(&pool, 2, NULL, NULL), KITH_OK);
    struct kith_executor executor = kith_pool_executor(pool);
    struct job job = {.task = {.run = run, .done = done}, .again = &executor};
    kith_executor_submit(&executor, &job.task);
    for (size_t n = 0; n < 3;)
        n += kith_pool_wait(pool);
    assert_int_equal(job.dones, 3);
    kith_pool_close(pool);
}

static void closing_finishes_what_was_submitted(void **state)
{
    for (int round = 0; round < 50; round++) {
        struct job jobs[20];
        atomic_int wakes = 0;
        struct kith_pool *pool;
        assert_int_equal(kith_pool_open(&pool, 3, count_wake, &wakes), KITH_OK);
        struct kith_executor executor = kith_pool_executor(pool);
        for (int i = 0; i < 20; i++) {
            jobs[i] = (struct job){.task = {.run = run, .done = done}};
            kith_executor_submit(&executor, &jobs[i].task);
        }
        kith_pool_close(pool);
        for (int i = 0; i < 20; i++)
            assert_int_equal(jobs[i].dones, 1);
    }
    kith_pool_close(NULL);
}

static void without_an_executor_a_task_is_done_at_once(void **state)
{
    struct job job = {.task = {.run = run, .done = done}};
    kith_executor_submit(NULL, &job.task);
    assert_int_equal(job.dones, 1);
    assert_true(pthread_equal(job.ran_on, pthread_self()));
}

static void without_threads_tasks_wait_until_they_are_run_one_by_one(void **state)
{
    struct job jobs[5];
    atomic_int wakes = 0;
    struct kith_pool *pool;
    assert_int_equal(kith_pool_open(&pool, 0, count_wake, &wakes), KITH_OK);
    struct kith_executor executor = kith_pool_executor(pool);
    assert_false(kith_pool_run(pool));
    for (int i = 0; i < 5; i++) {
        jobs[i] = (struct job){.task = {.run = run, .done = done}};
        kith_executor_submit(&executor, &jobs[i].task);
    }
    assert_int_equal(kith_pool_drain(pool), 0);
    assert_true(kith_pool_run(pool));
    assert_true(jobs[0].runs == 1 && jobs[1].runs == 0 && jobs[0].dones == 0 && wakes == 1);
    assert_int_equal(kith_pool_drain(pool), 1);
    assert_int_equal(kith_pool_wait(pool), 1); /* runs what it waits for */
    assert_int_equal(jobs[1].dones, 1);
    assert_true(pthread_equal(jobs[1].ran_on, pthread_self()));
    kith_pool_close(pool); /* and so does closing */
    for (int i = 0; i < 5; i++)
        assert_int_equal(jobs[i].dones, 1);
}

static void a_failed_allocation_opens_nothing(void **state)
{
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct kith_pool *pool = NULL;
        int status = kith_pool_open(&pool, 1, NULL, NULL);
        assert_true(status == KITH_OK || (status == KITH_ENOMEM && !pool));
        kith_pool_close(pool);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_runs_once_and_is_done_on_the_draining_thread),
        cmocka_unit_test(a_done_task_may_be_submitted_again),
        cmocka_unit_test(closing_finishes_what_was_submitted),
        cmocka_unit_test(without_an_executor_a_task_is_done_at_once),
        cmocka_unit_test(without_threads_tasks_wait_until_they_are_run_one_by_one),
        cmocka_unit_test(a_failed_allocation_opens_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
