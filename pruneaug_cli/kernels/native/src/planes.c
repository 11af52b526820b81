/* Everything planes go through that is not a product. Pads are zero before and after. */
#include "planes.h"

#include <math.h>
#include <string.h>

#include "vector.h"

static float *row_of(const pa_planes *planes, int32_t channel, int32_t row) {
    return planes->data + channel * planes->stride + (int64_t)row * planes->pitch;
}

/* memcpy without its call: rows are short. */
static void copy_row(const float *restrict from, float *restrict to, int64_t count) {
    int64_t x = 0;
    for (; x + PA_LANES <= count; x += PA_LANES) pa_store(to + x, pa_load(from + x));
    for (; x + 4 <= count; x += 4) memcpy(to + x, from + x, 4 * sizeof(float));
    for (; x < count; x++) to[x] = from[x];
}

/* Rows without pads between them are one long row. */
static int64_t row_length(const pa_planes *planes) {
    return planes->pitch == planes->width ? (int64_t)planes->height * planes->width : planes->width;
}

void pa_planes_load(const float *contiguous, const pa_planes *to) {
    int64_t length = row_length(to), rows = (int64_t)to->height * to->width / length;
    for (int32_t c = 0; c < to->channels; c++)
        for (int32_t y = 0; y < rows; y++, contiguous += length)
            copy_row(contiguous, row_of(to, c, y), length);
}

void pa_planes_store(const pa_planes *from, float *contiguous) {
    int64_t length = row_length(from), rows = (int64_t)from->height * from->width / length;
    for (int32_t c = 0; c < from->channels; c++)
        for (int32_t y = 0; y < rows; y++, contiguous += length)
            copy_row(row_of(from, c, y), contiguous, length);
}

/* Lanes 0, 2, 4 ... of a vector, then lanes 1, 3, 5 ... of the vector one float further on than
 * the next: together every second float, and nothing read beyond the last. */
#if PA_LANES == 16
#define PA_EVERY_SECOND 0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31
#elif PA_LANES == 8
#define PA_EVERY_SECOND 0, 2, 4, 6, 9, 11, 13, 15
#else
#define PA_EVERY_SECOND 0, 2, 5, 7
#endif

typedef float four __attribute__((vector_size(16), aligned(4), may_alias));

static void take_second(const float *restrict from, float *restrict to, int32_t count) {
    int32_t x = 0;
    for (; x + PA_LANES <= count; x += PA_LANES) {
        pa_vec low = pa_load(from + 2 * x), high = pa_load(from + 2 * x + PA_LANES - 1);
        pa_store(to + x, __builtin_shufflevector(low, high, PA_EVERY_SECOND));
    }
    for (; x + 4 <= count; x += 4) {
        four low = *(const four *)(from + 2 * x), high = *(const four *)(from + 2 * x + 3);
        *(four *)(to + x) = __builtin_shufflevector(low, high, 0, 2, 5, 7);
    }
    for (; x < count; x++) to[x] = from[2 * x];
}

/* to[0 .. count) = from[0], from[stride], ... */
static void take_every(const float *restrict from, int32_t stride, float *restrict to,
                       int32_t count) {
    if (stride == 1)
        copy_row(from, to, count);
    else if (stride == 2)
        take_second(from, to, count);
    else
        for (int32_t x = 0; x < count; x++) to[x] = from[(int64_t)stride * x];
}

/* How many of `size` positions a phase has. */
static int32_t phase_size(int32_t size, int32_t phase, int32_t stride, int32_t most) {
    int32_t count = phase < size ? (size - phase + stride - 1) / stride : 0;
    return count < most ? count : most;
}

/* One phase of one plane. */
static void split_plane(const pa_split *split, const float *from, int32_t pitch,
                        const int32_t filled[2], float *to, int32_t to_pitch) {
    int64_t step = (int64_t)split->stride[0] * pitch;
    for (int32_t y = 0; y < split->data[0]; y++, from += step, to += to_pitch) {
        int32_t count = y < filled[0] ? filled[1] : 0;
        if (count) take_every(from, split->stride[1], to, count);
        for (int32_t x = count; x < split->data[1]; x++) to[x] = 0.0f;
    }
}

void pa_planes_split(const pa_split *split, const pa_planes *from, int32_t first, int32_t last,
                     float *to, int64_t to_stride, int32_t to_pitch) {
    for (int32_t plane = first; plane < last; plane++) {
        const int32_t *phase = split->phase[plane / from->channels];
        int32_t channel = plane % from->channels, row = phase[0], col = phase[1];
        int32_t filled[2] = {
            phase_size(from->height, row, split->stride[0], split->data[0]),
            phase_size(from->width, col, split->stride[1], split->data[1]),
        };
        int64_t start = filled[0] && filled[1] ? (int64_t)row * from->pitch + col : 0;
        split_plane(split, from->data + channel * from->stride + start, from->pitch, filled,
                    to + plane * to_stride, to_pitch);
    }
}

/* Everything but none and relu, over a plane just written. */
static void activate_plane(const pa_planes *planes, int32_t channel, pa_activation activation) {
    if (activation.kind > PA_ACT_RELU)
        pa_activate_span(planes->data + channel * planes->stride,
                         (int64_t)planes->vectors * PA_LANES, planes->keep, activation);
}

void pa_planes_add(const pa_planes *left, const pa_planes *right, pa_activation activation,
                   const pa_planes *to) {
    int relu = activation.kind == PA_ACT_RELU;
    for (int32_t c = 0; c < to->channels; c++) {
        for (int32_t v = 0; v < to->vectors; v++) {
            int64_t place = c * to->stride + (int64_t)v * PA_LANES;
            pa_vec sum = pa_load(left->data + place) + pa_load(right->data + place);
            pa_store(to->data + place, relu ? pa_relu(sum) : sum);
        }
        activate_plane(to, c, activation);
    }
}

void pa_planes_activate(const pa_planes *from, pa_activation activation, const pa_planes *to) {
    int relu = activation.kind == PA_ACT_RELU;
    for (int32_t c = 0; c < to->channels; c++) {
        for (int32_t v = 0; v < to->vectors; v++) {
            int64_t place = c * to->stride + (int64_t)v * PA_LANES;
            pa_vec value = pa_load(from->data + place);
            pa_store(to->data + place, relu ? pa_relu(value) : value);
        }
        activate_plane(to, c, activation);
    }
}

/* The part of a window that lies inside: first and end along one axis of `size`. */
static void clip(int32_t start, int32_t kernel, int32_t size, int32_t *first, int32_t *end) {
    *first = start > 0 ? start : 0;
    *end = start + kernel < size ? start + kernel : size;
}

static float window_maximum(const pa_planes *from, int32_t channel, const int32_t rows[2],
                            const int32_t cols[2]) {
    float best = -INFINITY;
    for (int32_t y = rows[0]; y < rows[1]; y++)
        for (int32_t x = cols[0]; x < cols[1]; x++) {
            float value = row_of(from, channel, y)[x];
            if (value > best || value != value) best = value; /* NaN wins, and stays */
        }
    return best;
}

static float window_sum(const pa_planes *from, int32_t channel, const int32_t rows[2],
                        const int32_t cols[2]) {
    float sum = 0.0f;
    for (int32_t y = rows[0]; y < rows[1]; y++)
        for (int32_t x = cols[0]; x < cols[1]; x++) sum += row_of(from, channel, y)[x];
    return sum;
}

void pa_planes_max_pool(const pa_planes *from, const pa_window *window, const pa_planes *to) {
    for (int32_t c = 0; c < to->channels; c++)
        for (int32_t y = 0; y < to->height; y++) {
            int32_t rows[2], cols[2];
            clip(y * window->stride[0] - window->pads[0], window->kernel[0], from->height, &rows[0],
                 &rows[1]);
            for (int32_t x = 0; x < to->width; x++) {
                clip(x * window->stride[1] - window->pads[1], window->kernel[1], from->width,
                     &cols[0], &cols[1]);
                row_of(to, c, y)[x] = window_maximum(from, c, rows, cols);
            }
        }
}

void pa_planes_average_pool(const pa_planes *from, const pa_window *window, int include_pad,
                            const pa_planes *to) {
    for (int32_t c = 0; c < to->channels; c++)
        for (int32_t y = 0; y < to->height; y++) {
            int32_t rows[2], cols[2];
            clip(y * window->stride[0] - window->pads[0], window->kernel[0], from->height, &rows[0],
                 &rows[1]);
            for (int32_t x = 0; x < to->width; x++) {
                clip(x * window->stride[1] - window->pads[1], window->kernel[1], from->width,
                     &cols[0], &cols[1]);
                int64_t inside = (int64_t)(rows[1] - rows[0]) * (cols[1] - cols[0]);
                int64_t all = (int64_t)window->kernel[0] * window->kernel[1];
                row_of(to, c, y)[x] =
                    window_sum(from, c, rows, cols) / (float)(include_pad ? all : inside);
            }
        }
}

void pa_planes_mean(const pa_planes *from, float *features) {
    float scale = 1.0f / ((float)from->height * (float)from->width);
    for (int32_t c = 0; c < from->channels; c++) {
        const float *plane = from->data + c * from->stride;
        pa_vec sum = {0};
        for (int32_t v = 0; v < from->vectors; v++) sum += pa_load(plane + (int64_t)v * PA_LANES);
        float total = 0.0f;
        for (int lane = 0; lane < PA_LANES; lane++) total += sum[lane];
        features[c] = total * scale;
    }
}

void pa_planes_subsample(const pa_planes *from, const int32_t stride[2], int32_t before,
                         const pa_planes *to) {
    for (int32_t c = 0; c < to->channels; c++) {
        int32_t source = c - before;
        for (int32_t y = 0; y < to->height; y++) {
            if (source < 0 || source >= from->channels)
                memset(row_of(to, c, y), 0, (size_t)to->width * sizeof(float));
            else
                take_every(row_of(from, source, y * stride[0]), stride[1], row_of(to, c, y),
                           to->width);
        }
    }
}
