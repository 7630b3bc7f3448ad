/* Log lines: a timestamp, a level, a sentence. */
#include "base/log.h"

#include "base/assert.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static _Atomic int minimum = KITH_LOG_INFO;
static void (*line_sink)(void *, enum kith_log_level, const char *);
static void *line_arg;

void kith_log_setup(enum kith_log_level level, void (*sink)(void *, enum kith_log_level, const char *),
                    void *arg)
{
    line_sink = sink;
    line_arg = arg;
    kith_log_set_level(level);
}

void kith_log_set_level(enum kith_log_level level)
{
    atomic_store_explicit(&minimum, (int)level, memory_order_relaxed);
}

void kith_log(enum kith_log_level level, const char *format, ...)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    if ((int)level < atomic_load_explicit(&minimum, memory_order_relaxed))
        return;
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (line_sink) {
        line_sink(line_arg, level, line);
        return;
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm utc;
    gmtime_r(&now.tv_sec, &utc);
    char stamp[32];
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    fprintf(stderr, "%s.%03ldZ %d %s: %s\n", stamp, now.tv_nsec / 1000000, (int)getpid(), names[level], line);
}

_Noreturn void kith_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "kith: broken invariant: %s (%s:%d). Please report this line.\n", condition, file, line);
    abort();
}
