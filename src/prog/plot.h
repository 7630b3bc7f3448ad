/* Recall against throughput as a picture: for a terminal, and as SVG, which stands alone: no script, style sheet, font
 * or image from elsewhere. Recall goes to the right, linear; queries a second upwards, logarithmic. */
#ifndef KITH_PROG_PLOT_H
#define KITH_PROG_PLOT_H

#include "base/buf.h"

struct kith_plot_point {
    double recall, rate; /* rate > 0 */
    unsigned long long effort;
};

struct kith_plot_series {
    const char *name; /* borrowed; any bytes of UTF-8 */
    const struct kith_plot_point *points;
    size_t count;
};

struct kith_plot {
    const char *title;
    unsigned k; /* of recall@k */
    const struct kith_plot_series *series;
    size_t series_count; /* up to 4: each has its mark or colour */
};

/* Lines of `width` columns at most (at least 40), about 20 of them. Nothing when there are no points. A failed buf is
 * the caller's to see. */
void kith_plot_text(const struct kith_plot *plot, unsigned width, struct kith_buf *out);
void kith_plot_svg(const struct kith_plot *plot, struct kith_buf *out);

#endif
