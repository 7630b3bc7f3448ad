/* Log lines for the operator: one line each, to standard error unless a sink is set. */
#ifndef KITH_BASE_LOG_H
#define KITH_BASE_LOG_H

enum kith_log_level { KITH_LOG_DEBUG, KITH_LOG_INFO, KITH_LOG_WARNING, KITH_LOG_ERROR };

/* Where lines go and from which level on. The only process-wide state in base: a log line must be possible
 * from any thread and any depth. `sink` NULL restores standard error. Call before threads start. */
void kith_log_setup(enum kith_log_level level,
                    void (*sink)(void *arg, enum kith_log_level level, const char *line), void *arg);
void kith_log_set_level(enum kith_log_level level);

/* Thread-safe; the line is cut at 1,024 bytes. */
void kith_log(enum kith_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define KITH_INFO(...)  kith_log(KITH_LOG_INFO, __VA_ARGS__)
#define KITH_WARN(...)  kith_log(KITH_LOG_WARNING, __VA_ARGS__)
#define KITH_ERROR(...) kith_log(KITH_LOG_ERROR, __VA_ARGS__)

#endif
