/* What those who watch a kithd are told: health, readiness, figures, and the port where they ask. Private to kithd's
 * files. */
#ifndef KITH_PROG_WATCH_H
#define KITH_PROG_WATCH_H

#include "prog/app.h"

/* It runs its loop (or nobody would get this answer) and its log can be written. False: `why` says what is wrong. */
bool app_is_healthy(const struct app *app, struct kith_error *why);
/* It is healthy, and serves reads and writes: its data is loaded, a leader is known, it is not too far behind, and it is
 * not about to end. */
bool app_is_ready(const struct app *app, struct kith_error *why);

/* All figures in Prometheus's text format, version 0.0.4. A failure is out->failed. */
void app_metrics(struct app *app, struct kith_buf *out);

/* Opens the port for GET /metrics, /health and /ready when there is to be one. */
int app_watch_open(struct app *app, struct kith_error *error);
void app_watch_close(struct app *app);

#endif
