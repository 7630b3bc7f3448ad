/* The progress line. */
#include "prog/progress.h"

#include "base/os.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
    DRAW_EVERY_MS = 100,
    RATE_OVER_MS = 1000,
    RATE_FIRST_MS = 300,
    BAR_COLUMNS = 24,
    WIDTH_DEFAULT = 80,
    LINE_MAX_BYTES = 512,
};

char *kith_progress_thousands(char text[32], uint64_t number)
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);
    char *to = text;
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return text;
}

static void format_duration(char *text, size_t size, double seconds)
{
    unsigned long s = (unsigned long)(seconds + 0.5);
    if (s < 60)
        snprintf(text, size, "%lu s", s);
    else if (s < 3600)
        snprintf(text, size, "%lu min %02lu s", s / 60, s % 60);
    else
        snprintf(text, size, "%lu h %02lu min", s / 3600, s / 60 % 60);
}

void kith_progress_format(char *text, size_t size, unsigned width, const char *what, uint64_t done,
                          uint64_t total, double fraction, double rate_per_s)
{
    char count[32], all[48] = "", rate[32], left[48] = "", bar[BAR_COLUMNS + 16] = "";
    if (total) {
        char number[32];
        fraction = (double)done / (double)total;
        snprintf(all, sizeof all, " of %s", kith_progress_thousands(number, total));
    }
    fraction = fraction > 1 ? 1 : fraction;
    if (fraction > 0) {
        int filled = (int)(fraction * BAR_COLUMNS);
        snprintf(bar, sizeof bar, "%3.0f%% [%.*s%*s] ", fraction * 100, filled,
                 "========================", BAR_COLUMNS - filled, "");
    }
    if (fraction > 0 && fraction < 1 && rate_per_s > 0 && done) {
        char duration[40];
        format_duration(duration, sizeof duration, (double)done * (1 / fraction - 1) / rate_per_s);
        snprintf(left, sizeof left, ", %s left", duration);
    }
    char line[LINE_MAX_BYTES];
    int length =
        snprintf(line, sizeof line, "%s%s%s %s", bar, kith_progress_thousands(count, done), all, what);
    if (rate_per_s > 0)
        snprintf(line + length, sizeof line - (size_t)length, ", %s/s%s",
                 kith_progress_thousands(rate, (uint64_t)(rate_per_s + 0.5)), left);
    snprintf(text, size, "%.*s", (int)width, line);
}

void kith_progress_init(struct kith_progress *progress, const char *what)
{
    uint64_t now = kith_os_monotonic_ns();
    *progress = (struct kith_progress){
        .what = what, .start_ns = now, .drawn_ns = now, .is_terminal = isatty(STDERR_FILENO) == 1};
}

/* The rate is that of the last second, eased, so that a pause is seen and a hiccup is not. The first one comes
 * sooner: a rough figure is better than none. */
static void update_rate(struct kith_progress *progress, uint64_t now, uint64_t done)
{
    uint64_t span = now - progress->mark_ns,
             least_ms = progress->rate_per_s > 0 ? RATE_OVER_MS : RATE_FIRST_MS;
    if (span < least_ms * 1000000)
        return;
    double rate = (double)(done - progress->mark_done) * 1e9 / (double)span;
    progress->rate_per_s = progress->rate_per_s > 0 ? 0.6 * progress->rate_per_s + 0.4 * rate : rate;
    progress->mark_ns = now;
    progress->mark_done = done;
}

void kith_progress_update(struct kith_progress *progress, uint64_t done, uint64_t total, double fraction)
{
    if (!progress->is_terminal)
        return;
    uint64_t now = kith_os_monotonic_ns();
    if (!progress->is_started) {
        /* What was done before we look is not our rate. */
        progress->is_started = true;
        progress->mark_ns = now;
        progress->mark_done = done;
    }
    if (now - progress->drawn_ns < (uint64_t)DRAW_EVERY_MS * 1000000)
        return;
    update_rate(progress, now, done);
    struct winsize size;
    unsigned width =
        ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : WIDTH_DEFAULT;
    char line[LINE_MAX_BYTES];
    kith_progress_format(line, sizeof line, width - 1, progress->what, done, total, fraction,
                         progress->rate_per_s);
    fprintf(stderr, "\r%s\033[K", line);
    progress->drawn_ns = now;
    progress->is_drawn = true;
}

void kith_progress_clear(struct kith_progress *progress)
{
    if (progress->is_drawn)
        fputs("\r\033[K", stderr);
    progress->is_drawn = false;
}

double kith_progress_seconds(const struct kith_progress *progress)
{
    return (double)(kith_os_monotonic_ns() - progress->start_ns) / 1e9;
}
