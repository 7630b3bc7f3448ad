/* sim: runs worlds, each from its seed and in a process of its own, and says which found something.
 *
 *     sim --seed 17                 one world; its last line says what was found
 *     sim --seed 17 --verbose       the same with all that happens; twice: frames, too
 *     sim --seeds 1-5000 --jobs 2   many (or some: 3,17,29); a line for each that found something, and figures
 *
 * --nodes N, --seconds N, --no-crashes (and each other name of world.h), --only-crashes; --twice runs each seed two
 * times and compares. --control NAME takes a guard out: see docs/simulator.md. */
#include "world.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { JOBS_MAX = 16, WORLD_S = 120, LIST_MAX = 64 };

struct plan {
    struct sim_options options;
    uint64_t first, last;
    uint64_t list[LIST_MAX]; /* or these; first and last are places in it */
    size_t list_count;
    int jobs, shown;
    unsigned patience_s; /* with a world */
    bool twice, until_found;
};

struct job {
    pid_t pid;
    int pipe;
    uint64_t seed;
};

struct sums {
    uint64_t passed, failed;
    struct sim_result all; /* sums */
};

static const char *const control_names[] = {"none", "state-not-synced", "log-not-synced", "read-at-once",
                                            "core"};

static int usage(void)
{
    fprintf(stderr,
            "usage: sim [--seed N | --seeds A-B | --seeds A,B,...] [--jobs N] [--nodes N] [--seconds N] "
            "[--verbose] [--twice]\n"
            "           [--no-FAULT | --only-FAULT ...] [--often-FAULT] [--control NAME] [--until-found] "
            "[--contrast] "
            "[--patience S]\nfaults:");
    for (int i = 0; i < SIM_FAULTS; i++)
        fprintf(stderr, " %s", sim_fault_names[i]);
    fprintf(stderr, "\ncontrols:");
    for (size_t i = 0; i < sizeof control_names / sizeof control_names[0]; i++)
        fprintf(stderr, " %s", control_names[i]);
    fprintf(stderr, " core:BITS\n");
    return 2;
}

static bool run_one(const struct plan *plan, uint64_t seed, struct sim_result *result)
{
    struct sim_options options = plan->options;
    options.seed = seed;
    bool good = sim_run(&options, result);
    if (plan->twice && good) {
        uint64_t hash = result->hash;
        good = sim_run(&options, result) && result->hash == hash;
        if (!good && !*result->failure)
            snprintf(result->failure, sizeof result->failure, "the second run went another way");
    }
    return good;
}

static void print_figures(const struct sim_result *r, uint64_t worlds)
{
    printf("%" PRIu64 " worlds: %.2f virtual hours, %" PRIu64 " events, %" PRIu64 " frames, %" PRIu64
           " syncs\n",
           worlds, (double)r->virtual_ms / 3600000, r->events, r->frames, r->syncs);
    printf("clients: %" PRIu64 " operations (%" PRIu64 " reads), %" PRIu64 " of unknown outcome, %" PRIu64
           " refused; %" PRIu64 " entries applied; %" PRIu64 " keys checked, %" PRIu64 " undecided\n",
           r->operations, r->reads, r->unknown, r->refused, r->applied, r->keys, r->undecided);
    printf("trouble: %" PRIu64 " crashes, %" PRIu64 " starts, %" PRIu64 " partitions, %" PRIu64
           " storms, %" PRIu64 " pauses, %" PRIu64 " slow disks and ways, %" PRIu64 " clock jumps, %" PRIu64
           " writes to full disks, %" PRIu64 " failed syncs\n",
           r->crashes, r->restarts, r->partitions, r->weathers, r->pauses, r->slow, r->jumps, r->full,
           r->failed_syncs);
    printf("group: %" PRIu64 " leaders, %" PRIu64 " changes of members, %" PRIu64 " transfers, %" PRIu64
           " checkpoints asked for, %" PRIu64 " streams, %" PRIu64 " moves, %" PRIu64 " times at rest\n",
           r->elections, r->members, r->transfers, r->checkpoints, r->streams, r->moves, r->rests);
    printf("network: %" PRIu64 " frames held, %" PRIu64 " heard of in part, %" PRIu64
           " connections that ended; %" PRIu64 " near reads, of a mean age of %.1f ms\n",
           r->held, r->parts, r->ended, r->near, r->near ? (double)r->near_ms / (double)r->near : 0);
}

static void add(struct sim_result *to, const struct sim_result *from)
{
    uint64_t *a = &to->virtual_ms;
    const uint64_t *b = &from->virtual_ms;
    for (size_t i = 0; (const char *)(b + i) < from->failure; i++)
        a[i] += b[i];
}

/* --- many --- */

static void begin(const struct plan *plan, struct job *job, uint64_t seed)
{
    int ends[2];
    fflush(stdout);
    if (pipe(ends) != 0)
        abort();
    job->seed = seed;
    job->pid = fork();
    if (job->pid == 0) {
        struct sim_result result;
        close(ends[0]);
        alarm(plan->patience_s);
        run_one(plan, seed, &result);
        if (write(ends[1], &result, sizeof result) != (ssize_t)sizeof result)
            abort();
        exit(0);
    }
    close(ends[1]);
    job->pipe = ends[0];
}

static bool end(struct job *job, int status, struct sums *sums, int *shown)
{
    struct sim_result result = {0};
    size_t got = 0;
    ssize_t n;
    while (got < sizeof result && (n = read(job->pipe, (char *)&result + got, sizeof result - got)) > 0)
        got += (size_t)n;
    close(job->pipe);
    if (status != 0 || got < sizeof result) {
        memset(&result, 0, sizeof result);
        if (WIFSIGNALED(status))
            snprintf(result.failure, sizeof result.failure, "%s",
                     WTERMSIG(status) == SIGALRM ? "it does not end" : strsignal(WTERMSIG(status)));
        else
            snprintf(result.failure, sizeof result.failure, "it ended with status %d (a sanitizer?)",
                     WEXITSTATUS(status));
    }
    add(&sums->all, &result);
    bool good = !*result.failure;
    sums->passed += good;
    sums->failed += !good;
    if (!good && (*shown)-- > 0)
        printf("seed %" PRIu64 ", at %" PRIu64 " ms: %s\n", job->seed, result.failed_ms, result.failure);
    job->pid = 0;
    return good;
}

static int run_many(const struct plan *plan)
{
    struct job jobs[JOBS_MAX] = {{0}};
    struct sums sums = {0};
    uint64_t next = plan->first;
    int running = 0, shown = plan->shown;
    struct timespec t0, t1;
    clock_gettime(CLOCK_MONOTONIC, &t0);
    for (;;) {
        for (int i = 0; i < plan->jobs && next <= plan->last; i++)
            if (!jobs[i].pid) {
                begin(plan, &jobs[i], plan->list_count ? plan->list[next] : next);
                next++;
                running++;
            }
        if (!running)
            break;
        int status;
        pid_t pid = wait(&status);
        for (int i = 0; i < plan->jobs; i++)
            if (jobs[i].pid == pid && pid > 0) {
                running--;
                if (!end(&jobs[i], status, &sums, &shown) && plan->until_found)
                    next = plan->last + 1;
            }
    }
    clock_gettime(CLOCK_MONOTONIC, &t1);
    print_figures(&sums.all, sums.passed + sums.failed);
    if (sums.failed)
        printf("replay one with: sim --seed N --verbose, and the same options\n");
    printf("%.1f s\n%" PRIu64 " passed, %" PRIu64 " failed\n",
           (double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) / 1e9, sums.passed,
           sums.failed);
    return sums.failed != 0;
}

/* --- options --- */

static bool read_fault(struct plan *plan, const char *word, bool *only)
{
    bool is_only = strncmp(word, "--only-", 7) == 0, is_no = strncmp(word, "--no-", 5) == 0;
    if (strncmp(word, "--often-", 8) == 0) {
        for (int i = 0; i < SIM_FAULTS; i++)
            if (strcmp(word + 8, sim_fault_names[i]) == 0)
                return plan->options.often[i] = true;
        return false;
    }
    for (int i = 0; i < SIM_FAULTS && (is_only || is_no); i++) {
        if (strcmp(word + (is_only ? 7 : 5), sim_fault_names[i]) != 0)
            continue;
        for (int k = 0; k < SIM_FAULTS && is_only && !*only; k++)
            plan->options.without[k] = true;
        *only |= is_only;
        plan->options.without[i] = is_no;
        return true;
    }
    return false;
}

static bool read_control(struct plan *plan, const char *name)
{
    if (strncmp(name, "core:", 5) == 0) {
        plan->options.control = SIM_CONTROL_CORE;
        plan->options.core_guards = (unsigned)strtoul(name + 5, NULL, 0);
        return true;
    }
    for (size_t i = 0; i < sizeof control_names / sizeof control_names[0]; i++)
        if (strcmp(name, control_names[i]) == 0) {
            plan->options.control = (enum sim_control)i;
            return true;
        }
    return false;
}

static bool read_option(struct plan *plan, char **argv, int *i, bool *only)
{
    const char *word = argv[*i], *value = argv[*i + 1];
    if (strcmp(word, "--verbose") == 0)
        plan->options.verbose++;
    else if (strcmp(word, "--twice") == 0)
        plan->twice = true;
    else if (strcmp(word, "--contrast") == 0)
        plan->options.contrast = true;
    else if (strcmp(word, "--until-found") == 0)
        plan->until_found = true;
    else if (read_fault(plan, word, only))
        return true;
    else if (!value)
        return false;
    else {
        char *rest = NULL;
        uint64_t number = strtoull(value, &rest, 10);
        ++*i;
        if (strcmp(word, "--seed") == 0)
            plan->first = plan->last = number;
        else if (strcmp(word, "--seeds") == 0) {
            plan->first = number;
            plan->last = *rest == '-' ? strtoull(rest + 1, NULL, 10) : number;
            for (plan->list_count = 0; *rest == ','; number = strtoull(rest + 1, &rest, 10)) {
                if (plan->list_count + 2 > LIST_MAX)
                    return false;
                plan->list[plan->list_count++] = number;
            }
            if (plan->list_count) {
                plan->list[plan->list_count++] = number;
                plan->first = 0;
                plan->last = plan->list_count - 1;
            }
        } else if (strcmp(word, "--jobs") == 0)
            plan->jobs = number < JOBS_MAX ? (int)number : JOBS_MAX;
        else if (strcmp(word, "--nodes") == 0)
            plan->options.nodes = (int)number;
        else if (strcmp(word, "--seconds") == 0)
            plan->options.seconds = number;
        else if (strcmp(word, "--shown") == 0)
            plan->shown = (int)number;
        else if (strcmp(word, "--patience") == 0)
            plan->patience_s = (unsigned)number;
        else if (strcmp(word, "--control") == 0)
            return read_control(plan, value);
        else
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct plan plan = {.first = 1, .last = 1, .jobs = 1, .shown = 20, .patience_s = WORLD_S};
    bool only = false;
    for (int i = 1; i < argc; i++)
        if (!read_option(&plan, argv, &i, &only))
            return usage();
    if (plan.jobs < 1 || plan.options.nodes > SIM_MACHINES || plan.options.nodes < 0)
        return usage();
    if (plan.first != plan.last)
        return run_many(&plan);
    struct sim_result result;
    bool good = run_one(&plan, plan.first, &result);
    print_figures(&result, 1);
    printf("hash %016" PRIx64 "\n", result.hash);
    if (!good)
        printf("seed %" PRIu64 ", at %" PRIu64 " ms: %s\n", plan.first, result.failed_ms, result.failure);
    printf("%d passed, %d failed\n", good, !good);
    return !good;
}
