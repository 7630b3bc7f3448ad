/* Both pictures share their frame: what the axes span, a little more than the points need, and where a point lies in it,
 * from 0 to 1 each way. */
#include "prog/plot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ROWS = 16, LABEL = 10, WIDTH_MIN = 40, WIDTH_MAX = 200 };
/* The SVG's parts, in pixels. */
enum { SVG_WIDTH = 720, SVG_HEIGHT = 440, LEFT = 80, RIGHT = 24, TOP = 56, BOTTOM = 60 };

struct frame {
    double recall_min, recall_max, rate_min, rate_max; /* rates as logarithms to base 10 */
};

static bool find_frame(const struct kith_plot *plot, struct frame *frame)
{
    bool any = false;
    *frame = (struct frame){INFINITY, -INFINITY, INFINITY, -INFINITY};
    for (size_t i = 0; i < plot->series_count; i++) {
        for (size_t p = 0; p < plot->series[i].count; p++) {
            const struct kith_plot_point *point = &plot->series[i].points[p];
            double rate = log10(point->rate);
            frame->recall_min = fmin(frame->recall_min, point->recall);
            frame->recall_max = fmax(frame->recall_max, point->recall);
            frame->rate_min = fmin(frame->rate_min, rate);
            frame->rate_max = fmax(frame->rate_max, rate);
            any = true;
        }
    }
    double wide = fmax(0.05 * (frame->recall_max - frame->recall_min), 0.002);
    frame->recall_min = fmax(frame->recall_min - wide, 0);
    frame->recall_max = fmin(frame->recall_max + wide, 1);
    double high = fmax(0.08 * (frame->rate_max - frame->rate_min), 0.1);
    frame->rate_min -= high;
    frame->rate_max += high;
    return any;
}

static double place_x(const struct frame *frame, double recall)
{
    return (recall - frame->recall_min) / (frame->recall_max - frame->recall_min);
}

static double place_y(const struct frame *frame, double rate)
{
    return (log10(rate) - frame->rate_min) / (frame->rate_max - frame->rate_min);
}

/* The n-th of 1, 2, 5, 10, 20, 50, ...; n may be negative. */
static double round_number(int n)
{
    static const double digits[] = {1, 2, 5};
    int decade = (int)floor(n / 3.0), digit = n - 3 * decade;
    return digits[digit < 1 ? 0 : digit < 2 ? 1 : 2] * pow(10, decade);
}

static int first_round(const struct frame *frame)
{
    int n = 3 * (int)floor(frame->rate_min);
    while (log10(round_number(n)) < frame->rate_min)
        n++;
    return n;
}

static void rate_label(char text[16], double rate)
{
    if (rate >= 1e6)
        snprintf(text, 16, "%gM", rate / 1e6);
    else if (rate >= 1000)
        snprintf(text, 16, "%gk", rate / 1000);
    else
        snprintf(text, 16, "%g", rate);
}

/* ---- text ---- */

static const char marks[] = "*o+x";

static void append_line(struct kith_buf *out, const char *label, const char *line)
{
    size_t length = strlen(line);
    while (length && line[length - 1] == ' ')
        length--;
    kith_buf_append_format(out, "%*s |%.*s\n", LABEL - 2, label, (int)length, line);
}

void kith_plot_text(const struct kith_plot *plot, unsigned width, struct kith_buf *out)
{
    struct frame frame;
    char grid[ROWS][WIDTH_MAX + 1], label[ROWS][16] = {{0}};
    if (!find_frame(plot, &frame))
        return;
    width = width < WIDTH_MIN ? WIDTH_MIN : width > WIDTH_MAX ? WIDTH_MAX : width;
    int columns = (int)width - LABEL;
    for (int row = 0; row < ROWS; row++) {
        memset(grid[row], ' ', (size_t)columns);
        grid[row][columns] = 0;
    }
    for (int n = first_round(&frame); log10(round_number(n)) <= frame.rate_max; n++)
        rate_label(label[ROWS - 1 - (int)lround(place_y(&frame, round_number(n)) * (ROWS - 1))],
                   round_number(n));
    for (size_t i = 0; i < plot->series_count; i++) {
        for (size_t p = 0; p < plot->series[i].count; p++) {
            const struct kith_plot_point *point = &plot->series[i].points[p];
            int row = ROWS - 1 - (int)lround(place_y(&frame, point->rate) * (ROWS - 1));
            grid[row][lround(place_x(&frame, point->recall) * (columns - 1))] = marks[i % 4];
        }
    }
    kith_buf_append_text(out, "queries/s");
    for (size_t i = 0; i < plot->series_count && plot->series_count > 1; i++)
        kith_buf_append_format(out, "   %c %s", marks[i % 4], plot->series[i].name);
    kith_buf_append_char(out, '\n');
    for (int row = 0; row < ROWS; row++)
        append_line(out, label[row], grid[row]);
    memset(grid[0], '-', (size_t)columns);
    kith_buf_append_format(out, "%*s +%s\n", LABEL - 2, "", grid[0]);
    char middle[32];
    int length = snprintf(middle, sizeof middle, "recall@%u", plot->k);
    int gap = (columns - length) / 2 - 6;
    kith_buf_append_format(out, "%*s%-6.4g%*s%s%*s%6.4g\n", LABEL, "", frame.recall_min, gap, "", middle,
                           columns - length - gap - 12, "", frame.recall_max);
}

/* ---- SVG ---- */

static void append_escaped(struct kith_buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '&')
            kith_buf_append_text(out, "&amp;");
        else if (*text == '<')
            kith_buf_append_text(out, "&lt;");
        else if ((unsigned char)*text < ' ')
            kith_buf_append_char(out, ' '); /* XML has no place for most of these */
        else
            kith_buf_append_char(out, *text);
    }
}

static double svg_x(const struct frame *frame, double recall)
{
    return LEFT + place_x(frame, recall) * (SVG_WIDTH - LEFT - RIGHT);
}

static double svg_y(const struct frame *frame, double rate)
{
    return SVG_HEIGHT - BOTTOM - place_y(frame, rate) * (SVG_HEIGHT - TOP - BOTTOM);
}

static void append_axes(const struct frame *frame, const struct kith_plot *plot, struct kith_buf *out)
{
    const double bottom = SVG_HEIGHT - BOTTOM, right = SVG_WIDTH - RIGHT;
    for (int n = first_round(frame); log10(round_number(n)) <= frame->rate_max; n++) {
        char label[16];
        double y = svg_y(frame, round_number(n));
        rate_label(label, round_number(n));
        kith_buf_append_format(out,
                               "<line x1=\"%d\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n"
                               "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
                               LEFT, y, right, y, LEFT - 8, y + 4, label);
    }
    for (int i = 0; i <= 5; i++) {
        double recall = frame->recall_min + (frame->recall_max - frame->recall_min) * i / 5;
        double x = svg_x(frame, recall);
        kith_buf_append_format(out,
                               "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n"
                               "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.4g</text>\n",
                               x, TOP, x, bottom, x, bottom + 18, recall);
    }
    kith_buf_append_format(out,
                           "<path d=\"M%d %dV%.1fH%.1f\" fill=\"none\" stroke=\"#333\"/>\n"
                           "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">recall@%u</text>\n"
                           "<text x=\"18\" y=\"%.1f\" text-anchor=\"middle\" "
                           "transform=\"rotate(-90 18 %.1f)\">queries a second (log)</text>\n",
                           LEFT, TOP, bottom, right, (LEFT + right) / 2, SVG_HEIGHT - 16, plot->k,
                           (TOP + bottom) / 2, (TOP + bottom) / 2);
}

static void append_series(const struct frame *frame, const struct kith_plot_series *series, size_t index,
                          struct kith_buf *out)
{
    static const char *const colours[] = {"#1f6fb4", "#d1491b", "#2a8a3e", "#7a4fb0"};
    const char *colour = colours[index % 4];
    kith_buf_append_format(out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", colour);
    for (size_t p = 0; p < series->count; p++)
        kith_buf_append_format(out, "%s%.1f,%.1f", p ? " " : "", svg_x(frame, series->points[p].recall),
                               svg_y(frame, series->points[p].rate));
    kith_buf_append_text(out, "\"/>\n");
    for (size_t p = 0; p < series->count; p++) {
        const struct kith_plot_point *point = &series->points[p];
        kith_buf_append_format(
            out,
            "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"><title>EF %llu: recall %.4f, "
            "%.0f queries/s</title></circle>\n",
            svg_x(frame, point->recall), svg_y(frame, point->rate), colour, point->effort, point->recall,
            point->rate);
    }
    kith_buf_append_format(out, "<text x=\"%d\" y=\"%d\" fill=\"%s\">", LEFT + 8 + 160 * (int)index, TOP - 8,
                           colour);
    append_escaped(out, series->name);
    kith_buf_append_text(out, "</text>\n");
}

void kith_plot_svg(const struct kith_plot *plot, struct kith_buf *out)
{
    struct frame frame;
    kith_buf_append_format(out,
                           "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                           "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
                           "height=\"%d\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\">\n"
                           "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n"
                           "<text x=\"%d\" y=\"24\" font-size=\"16\">",
                           SVG_WIDTH, SVG_HEIGHT, SVG_WIDTH, SVG_HEIGHT, LEFT);
    append_escaped(out, plot->title);
    kith_buf_append_text(out, "</text>\n");
    if (find_frame(plot, &frame)) {
        append_axes(&frame, plot, out);
        for (size_t i = 0; i < plot->series_count; i++)
            append_series(&frame, &plot->series[i], i, out);
    }
    kith_buf_append_text(out, "</svg>\n");
}
