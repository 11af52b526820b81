/* Pooling. Rows of a window are folded first, into one short row with the window's pads around it;
 * then its columns, a vector of windows at a time. */
#include <math.h>

#include "planes.h"
#include "vector.h"

enum {
    LINE = 16,       /* floats of a cache line */
    ROWS_AHEAD = 8,  /* that are fetched: hardware stops at the end of each short run of lines */
    BATCH = 128,     /* windows folded at a time */
    MOST_KERNEL = 64 /* columns of a window that is folded so */
};

typedef struct {
    float row[2 * BATCH + MOST_KERNEL + 2 * PA_LANES]; /* of folded columns */
    float inside[BATCH + PA_LANES]; /* per window: how many of its columns lie in the image */
} folded;

typedef struct { /* windows [first, first + count) of a row of results */
    const pa_planes *from;
    const pa_window *window;
    const pa_planes *to;
    int32_t first, count;
    int is_mean, include_pad;
} pooling;

static const float *row_of(const pa_planes *planes, int32_t channel, int32_t row) {
    return planes->data + channel * planes->stride + (int64_t)row * planes->pitch;
}

/* The part of a window that lies inside: first and end along one axis of `size`. */
static void clip(int64_t start, int32_t kernel, int32_t size, int32_t *first, int32_t *end) {
    *first = start > 0 ? (int32_t)start : 0;
    *end = start + kernel < size ? (int32_t)(start + kernel) : size;
}

static void clip_axis(const pooling *p, int axis, int32_t index, int32_t range[2]) {
    const pa_window *window = p->window;
    clip((int64_t)index * window->stride[axis] - window->pads[axis], window->kernel[axis],
         axis ? p->from->width : p->from->height, &range[0], &range[1]);
}

PA_INLINE pa_vec fold(pa_vec a, pa_vec b, const int is_mean) {
    return is_mean ? a + b : pa_larger(a, b);
}

/* Folds image columns [cols[0], cols[1]) of some rows. */
PA_INLINE void fold_rows(const pooling *p, int32_t channel, const int32_t rows[2],
                         const int32_t cols[2], float *to, const int is_mean) {
    for (int32_t x = cols[0]; x < cols[1]; x += PA_LANES) {
        int32_t count = cols[1] - x < PA_LANES ? cols[1] - x : PA_LANES;
        const float *at = row_of(p->from, channel, rows[0]) + x;
        if (count == PA_LANES) {
            pa_vec value = pa_load(at);
            for (int32_t y = rows[0] + 1; y < rows[1]; y++)
                value = fold(value, pa_load(at += p->from->pitch), is_mean);
            pa_store(to + (x - cols[0]), value);
        } else {
            pa_vec value = pa_load_first(at, count);
            for (int32_t y = rows[0] + 1; y < rows[1]; y++)
                value = fold(value, pa_load_first(at += p->from->pitch, count), is_mean);
            pa_store_first(to + (x - cols[0]), value, count);
        }
    }
}

/* Folds the columns of the windows in a folded row, and stores them. */
PA_INLINE void fold_columns(const pooling *p, const folded *work, float rows, float *to,
                            const int is_mean, const int stride) {
    int32_t kernel = p->window->kernel[1];
    for (int32_t x = 0; x < p->count; x += PA_LANES) {
        pa_vec value = {0};
        for (int32_t k = 0; k < kernel; k++) {
            const float *at = work->row + stride * x + k;
            pa_vec tap = pa_load(at);
            if (stride == 2) tap = pa_evens(tap, pa_load(at + PA_LANES));
            value = k ? fold(value, tap, is_mean) : tap;
        }
        if (is_mean) value /= rows * pa_load(work->inside + x);
        pa_store_first(to + x, value, p->count - x < PA_LANES ? p->count - x : PA_LANES);
    }
}

/* The usual 2 x 2 windows beside each other: columns pair up within registers. */
PA_INLINE void pool_pairs(const pooling *p, int32_t channel, int32_t row, const int is_mean) {
    const float *top = row_of(p->from, channel, 2 * row), *low = top + p->from->pitch;
    float *to = (float *)row_of(p->to, channel, row);
    for (int32_t x = 0; x < p->to->width; x += PA_LANES) {
        int32_t count = p->to->width - x < PA_LANES ? p->to->width - x : PA_LANES;
        int32_t first = 2 * count < PA_LANES ? 2 * count : PA_LANES, rest = 2 * count - first;
        pa_vec left = fold(pa_load_first(top + 2 * x, first), pa_load_first(low + 2 * x, first),
                           is_mean);
        pa_vec right = {0};
        if (rest)
            right = fold(pa_load_first(top + 2 * x + PA_LANES, rest),
                         pa_load_first(low + 2 * x + PA_LANES, rest), is_mean);
        pa_vec value = fold(pa_evens(left, right), pa_odds(left, right), is_mean);
        pa_store_first(to + x, is_mean ? value * pa_splat(0.25f) : value, count);
    }
}

static void pool_plane_in_pairs(const pooling *p, int32_t channel) {
    for (int32_t y = 0; y < p->to->height; y++)
        if (p->is_mean)
            pool_pairs(p, channel, y, 1);
        else
            pool_pairs(p, channel, y, 0);
}

/* `count` columns of some rows, folded. */
PA_INLINE pa_vec fold_some(const float *at, int32_t rows, int32_t pitch, int32_t count) {
    pa_vec value = pa_load_first(at, count);
    for (int32_t y = 1; y < rows; y++)
        value = pa_larger(value, pa_load_first(at += pitch, count));
    return value;
}

/* The usual 3 x 3 windows at every second column, one column of pads on the left: the middle and
 * right columns of windows pair up within registers; the left ones are the right ones of those
 * before. */
static void pool_threes(const pooling *p, int32_t channel, int32_t row) {
    int32_t rows[2], pitch = p->from->pitch;
    clip_axis(p, 0, row, rows);
    const float *from = row_of(p->from, channel, rows[0]);
    float *to = (float *)row_of(p->to, channel, row);
    pa_vec before = pa_splat(-INFINITY);
    for (int32_t x = 0; x < p->to->width; x += PA_LANES) {
        int32_t count = p->to->width - x < PA_LANES ? p->to->width - x : PA_LANES;
        int32_t first = 2 * count < PA_LANES ? 2 * count : PA_LANES, rest = 2 * count - first;
        for (int32_t i = 0; i < 4; i++)
            __builtin_prefetch(from + ROWS_AHEAD * pitch + 4 * x + LINE * i);
        pa_vec low = fold_some(from + 2 * x, rows[1] - rows[0], pitch, first);
        pa_vec high = fold_some(from + 2 * x + PA_LANES, rows[1] - rows[0], pitch, rest);
        pa_vec right = pa_odds(low, high);
        pa_vec value = pa_larger(pa_shift_in(before, right), pa_evens(low, high));
        pa_store_first(to + x, pa_larger(value, right), count);
        before = right;
    }
}

/* Windows of pool_threes, the last of which ends inside the image. */
static int are_threes(const pooling *p) {
    const pa_window *window = p->window;
    return !p->is_mean && window->kernel[0] == 3 && window->kernel[1] == 3 &&
           window->stride[1] == 2 && window->pads[1] == 1 && 2 * p->to->width <= p->from->width;
}

/* One batch of windows through all channels and rows. */
PA_INLINE void pool_batch(const pooling *p, folded *work, const int is_mean, const int stride) {
    const pa_window *window = p->window;
    int32_t start = p->first * stride - window->pads[1];
    int32_t length = (p->count - 1) * stride + window->kernel[1], cols[2];
    clip(start, length, p->from->width, &cols[0], &cols[1]);
    for (int32_t i = 0; i < length + 2 * PA_LANES; i++) work->row[i] = is_mean ? 0.0f : -INFINITY;
    for (int32_t x = 0; x < BATCH + PA_LANES; x++) {
        int32_t range[2] = {0, window->kernel[1]};
        if (!p->include_pad && x < p->count) clip_axis(p, 1, p->first + x, range);
        work->inside[x] = (float)(range[1] - range[0]);
    }
    for (int32_t c = 0; c < p->to->channels; c++)
        for (int32_t y = 0; y < p->to->height; y++) {
            int32_t rows[2];
            clip_axis(p, 0, y, rows);
            fold_rows(p, c, rows, cols, work->row + (cols[0] - start), is_mean);
            float counted = (float)(p->include_pad ? window->kernel[0] : rows[1] - rows[0]);
            float *to = (float *)row_of(p->to, c, y) + p->first;
            fold_columns(p, work, counted, to, is_mean, stride);
        }
}

static void pool_quickly(pooling *p) {
    folded work;
    int32_t stride = p->window->stride[1];
    for (p->first = 0; p->first < p->to->width; p->first += BATCH) {
        p->count = p->to->width - p->first < BATCH ? p->to->width - p->first : BATCH;
        if (p->is_mean && stride == 1) pool_batch(p, &work, 1, 1);
        else if (p->is_mean) pool_batch(p, &work, 1, 2);
        else if (stride == 1) pool_batch(p, &work, 0, 1);
        else pool_batch(p, &work, 0, 2);
    }
}

/* -- any window ----------------------------------------------------------------------------- */

static float fold_window(const pooling *p, int32_t channel, const int32_t rows[2],
                         const int32_t cols[2]) {
    float sum = p->is_mean ? 0.0f : -INFINITY;
    for (int32_t y = rows[0]; y < rows[1]; y++)
        for (int32_t x = cols[0]; x < cols[1]; x++) {
            float value = row_of(p->from, channel, y)[x];
            if (p->is_mean)
                sum += value;
            else if (value > sum || value != value) /* NaN wins, and stays */
                sum = value;
        }
    if (!p->is_mean) return sum;
    int64_t counted = (int64_t)(rows[1] - rows[0]) * (cols[1] - cols[0]);
    if (p->include_pad) counted = (int64_t)p->window->kernel[0] * p->window->kernel[1];
    return sum / (float)counted;
}

static void pool_slowly(const pooling *p) {
    for (int32_t c = 0; c < p->to->channels; c++)
        for (int32_t y = 0; y < p->to->height; y++)
            for (int32_t x = 0; x < p->to->width; x++) {
                int32_t rows[2], cols[2];
                clip_axis(p, 0, y, rows);
                clip_axis(p, 1, x, cols);
                ((float *)row_of(p->to, c, y))[x] = fold_window(p, c, rows, cols);
            }
}

/* -- the interface -------------------------------------------------------------------------- */

static void pool(pooling *p) {
    const pa_window *window = p->window;
    int pairs = 1;
    for (int axis = 0; axis < 2; axis++)
        pairs &= window->kernel[axis] == 2 && window->stride[axis] == 2 && !window->pads[axis] &&
                 !window->pads[axis + 2];
    if (pairs)
        for (int32_t c = 0; c < p->to->channels; c++) pool_plane_in_pairs(p, c);
    else if (are_threes(p))
        for (int32_t c = 0; c < p->to->channels; c++)
            for (int32_t y = 0; y < p->to->height; y++) pool_threes(p, c, y);
    else if (window->stride[1] <= 2 && window->kernel[1] <= MOST_KERNEL)
        pool_quickly(p);
    else
        pool_slowly(p);
}

void pa_planes_max_pool(const pa_planes *from, const pa_window *window, const pa_planes *to) {
    pooling p = {from, window, to, 0, 0, 0, 0};
    pool(&p);
}

void pa_planes_average_pool(const pa_planes *from, const pa_window *window, int include_pad,
                            const pa_planes *to) {
    pooling p = {from, window, to, 0, 0, 1, include_pad};
    pool(&p);
}

void pa_planes_mean(const pa_planes *from, float *features) {
    float scale = 1.0f / ((float)from->height * (float)from->width);
    for (int32_t c = 0; c < from->channels; c++) {
        const float *plane = from->data + c * from->stride;
        pa_vec sum[4] = {{0}};
        int32_t v = 0;
        for (; v + 4 <= from->vectors; v += 4)
            for (int32_t i = 0; i < 4; i++) sum[i] += pa_load(plane + (int64_t)(v + i) * PA_LANES);
        for (; v < from->vectors; v++) sum[0] += pa_load(plane + (int64_t)v * PA_LANES);
        features[c] = pa_total((sum[0] + sum[1]) + (sum[2] + sum[3])) * scale;
    }
}
