/* Everything planes go through that is not a product. Pads are zero before and after. */
#include "planes.h"

#include <string.h>

#include "vector.h"

enum {
    NEAR_BYTES = 512 * 1024, /* of planes that are still in L2 */
    SPLIT_BYTES = 16 * 1024, /* of those that are split together: half of L1 */
};

static float *row_of(const pa_planes *planes, int32_t channel, int32_t row) {
    return planes->data + channel * planes->stride + (int64_t)row * planes->pitch;
}

/* memcpy without its call: rows are short. */
static void copy_row(const float *restrict from, float *restrict to, int64_t count) {
    int64_t x = 0;
    for (; x + PA_LANES <= count; x += PA_LANES) pa_store(to + x, pa_load(from + x));
    int32_t left = (int32_t)(count - x);
    if (left) pa_store_first(to + x, pa_load_first(from + x, left), left);
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

/* Every second float of a row: `evens` of those at 0, 2, 4 ... and, where `odd` is given, `odds`
 * of those at 1, 3, 5 ... (as many, or one less). Reads none beyond the last. */
static void take_second(const float *restrict from, float *restrict even, int32_t evens,
                        float *restrict odd, int32_t odds) {
    int32_t x = 0, floats = odd && odds == evens ? 2 * evens : 2 * evens - 1;
    for (; 2 * x + 2 * PA_LANES <= floats; x += PA_LANES) {
        pa_vec low = pa_load(from + 2 * x), high = pa_load(from + 2 * x + PA_LANES);
        pa_store(even + x, pa_evens(low, high));
        if (odd) pa_store(odd + x, pa_odds(low, high));
    }
    if (x == evens) return;
    int32_t left = floats - 2 * x, first = left < PA_LANES ? left : PA_LANES;
    pa_vec low = pa_load_first(from + 2 * x, first), high = {0};
    if (left > first) high = pa_load_first(from + 2 * x + PA_LANES, left - first);
    pa_store_first(even + x, pa_evens(low, high), evens - x);
    if (odd && x < odds) pa_store_first(odd + x, pa_odds(low, high), odds - x);
}

/* to[0 .. count) = from[0], from[stride], ... */
static void take_every(const float *restrict from, int32_t stride, float *restrict to,
                       int32_t count) {
    if (stride == 1)
        copy_row(from, to, count);
    else if (stride == 2)
        take_second(from, to, count, NULL, 0);
    else
        for (int32_t x = 0; x < count; x++) to[x] = from[(int64_t)stride * x];
}

/* How many of `size` positions a phase has. */
static int32_t phase_size(int32_t size, int32_t phase, int32_t stride, int32_t most) {
    int32_t count = phase < size ? (size - phase + stride - 1) / stride : 0;
    return count < most ? count : most;
}

/* The phase of the same rows and of column `col`; -1 when no kernel reads it. */
static int32_t find_column(const pa_split *split, int32_t phase, int32_t col) {
    for (int32_t i = 0; i < split->phases; i++)
        if (split->phase[i][0] == split->phase[phase][0] && split->phase[i][1] == col) return i;
    return -1;
}

/* A phase: which plane of a channel, and how many rows and columns of it hold data. */
typedef struct {
    int32_t row, col, rows, cols;
    float *to;
} phase_part;

static phase_part phase_at(const pa_split *split, const pa_planes *from, int32_t index, float *to,
                           int64_t to_stride) {
    phase_part part = {.row = split->phase[index][0], .col = split->phase[index][1]};
    part.rows = phase_size(from->height, part.row, split->stride[0], split->data[0]);
    part.cols = phase_size(from->width, part.col, split->stride[1], split->data[1]);
    if (!part.rows || !part.cols) part.rows = part.cols = 0;
    part.to = to + pa_phase_plane(split, index, from->channels) * to_stride;
    return part;
}

static void zero_row(float *to, int32_t first, int32_t end) {
    for (int32_t x = first; x < end; x++) to[x] = 0.0f;
}

/* Every second float of each row, from 0 and (where `odd` is given) from 1 on, with zeros up to the
 * pitch. The last vector of a row has the same lanes in all rows. */
PA_INLINE void take_pairs(const float *restrict from, int64_t step, int32_t floats, int32_t rows,
                          float *restrict even, float *restrict odd, int32_t pitch,
                          const int both) {
    const int32_t whole = floats / (2 * PA_LANES) * PA_LANES, room = pitch - whole;
    const int32_t left = floats - 2 * whole, low = left < PA_LANES ? left : PA_LANES;
    for (; rows > 0; rows--, from += step, even += pitch) {
        for (int32_t x = 0; x < whole; x += PA_LANES) {
            pa_vec first = pa_load(from + 2 * x), second = pa_load(from + 2 * x + PA_LANES);
            pa_store(even + x, pa_evens(first, second));
            if (both) pa_store(odd + x, pa_odds(first, second));
        }
        if (room > 0) {
            pa_vec first = pa_load_first(from + 2 * whole, low);
            pa_vec second = pa_load_first(from + 2 * whole + PA_LANES, left - low);
            pa_store_first(even + whole, pa_evens(first, second), room);
            if (both) pa_store_first(odd + whole, pa_odds(first, second), room);
        }
        if (both) odd += pitch;
    }
}

/* The rows that hold data, of one phase of a channel; or, where `other` is given, of that of the
 * even columns and of that of the odd ones at once: they come from the same vectors. */
static void split_rows(const float *row, int64_t step, int32_t stride, const phase_part *even,
                       const phase_part *odd, float *to, float *other, int32_t pitch) {
    int32_t floats = odd ? even->cols + odd->cols : 2 * even->cols - 1;
    if (stride == 2 && pitch - floats / (2 * PA_LANES) * PA_LANES <= PA_LANES) {
        if (odd)
            take_pairs(row, step, floats, even->rows, to, other, pitch, 1);
        else
            take_pairs(row, step, floats, even->rows, to, NULL, pitch, 0);
        return;
    }
    for (int32_t y = 0; y < even->rows; y++, row += step, to += pitch) {
        if (odd)
            take_second(row, to, even->cols, other, odd->cols);
        else
            take_every(row, stride, to, even->cols);
        zero_row(to, even->cols, pitch);
        if (!odd) continue;
        zero_row(other, odd->cols, pitch);
        other += pitch;
    }
}

static void split_channel(const pa_split *split, const pa_planes *from, int32_t channel,
                          const phase_part *even, const phase_part *odd, int64_t to_stride,
                          int32_t pitch) {
    float *to = even->to + channel * to_stride;
    float *other = odd ? odd->to + channel * to_stride : NULL;
    int32_t end = split->data[0] * pitch;
    if (even->rows) {
        const float *row = from->data + channel * from->stride +
                           (int64_t)even->row * from->pitch + even->col;
        split_rows(row, (int64_t)split->stride[0] * from->pitch, split->stride[1], even, odd, to,
                   other, pitch);
    }
    zero_row(to, even->rows * pitch, end);
    if (odd) zero_row(other, even->rows * pitch, end);
}

static void split_channels(const pa_split *split, const pa_planes *from, int32_t first,
                           int32_t last, float *to, int64_t to_stride, int32_t to_pitch) {
    for (int32_t p = 0; p < split->phases; p++) {
        phase_part part = phase_at(split, from, p, to, to_stride), odd;
        int32_t other = split->stride[1] == 2 ? find_column(split, p, 1 - part.col) : -1;
        if (other >= 0 && part.col == 1) continue; /* made with the even columns */
        if (other >= 0) odd = phase_at(split, from, other, to, to_stride);
        for (int32_t c = first; c < last; c++)
            split_channel(split, from, c, &part, other >= 0 ? &odd : NULL, to_stride, to_pitch);
    }
}

/* A few planes at a time: they come from L3 for the first phase only. */
void pa_planes_split(const pa_split *split, const pa_planes *from, int32_t first, int32_t last,
                     float *to, int64_t to_stride, int32_t to_pitch) {
    int64_t plane = from->stride * (int64_t)sizeof(float);
    int64_t fitting = plane * (last - first) > NEAR_BYTES ? SPLIT_BYTES / plane : last - first;
    int32_t chunk = fitting > last - first ? last - first : fitting > 1 ? (int32_t)fitting : 1;
    for (; first < last; first += chunk) {
        if (chunk > last - first) chunk = last - first;
        split_channels(split, from, first, first + chunk, to, to_stride, to_pitch);
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

void pa_planes_copy(const pa_planes *from, float *to) {
    for (int32_t c = 0; c < from->channels; c++)
        memcpy(to + c * from->stride, from->data + c * from->stride,
               (size_t)from->vectors * sizeof(pa_vec));
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
