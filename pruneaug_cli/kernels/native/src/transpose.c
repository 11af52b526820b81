/* Transposes in squares of 16 samples by 4 features: per square eight shuffles and a store per
 * line, below a quarter of a cycle an element. */
#include "transpose.h"

#include "vector.h"

enum { SQUARE = 4, LINE = 16 };

typedef float four __attribute__((vector_size(16)));
typedef float four_memory __attribute__((vector_size(16), aligned(4), may_alias));
typedef float eight __attribute__((vector_size(32)));
typedef float line __attribute__((vector_size(64)));
typedef float line_memory __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t four_bits __attribute__((vector_size(16)));

PA_INLINE line load_line(const float *from) { return *(const line_memory *)from; }
PA_INLINE void store_line(float *to, line value) { *(line_memory *)to = value; }
PA_INLINE four load_four(const float *from) { return *(const four_memory *)from; }

PA_INLINE line join(four a, four b, four c, four d) {
    eight low = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
    eight high = __builtin_shufflevector(c, d, 0, 1, 2, 3, 4, 5, 6, 7);
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

/* In each quarter q: element i of value[j] and element j of value[i] change places. */
PA_INLINE void transpose(line value[SQUARE]) {
#define PAIRS(a, b)                                                                        \
    a, a + 16, b, b + 16, a + 4, a + 20, b + 4, b + 20, a + 8, a + 24, b + 8, b + 24, a + 12, \
        a + 28, b + 12, b + 28
#define HALVES(a)                                                                          \
    a, a + 1, a + 16, a + 17, a + 4, a + 5, a + 20, a + 21, a + 8, a + 9, a + 24, a + 25,  \
        a + 12, a + 13, a + 28, a + 29
    line a = __builtin_shufflevector(value[0], value[1], PAIRS(0, 1));
    line b = __builtin_shufflevector(value[0], value[1], PAIRS(2, 3));
    line c = __builtin_shufflevector(value[2], value[3], PAIRS(0, 1));
    line d = __builtin_shufflevector(value[2], value[3], PAIRS(2, 3));
    value[0] = __builtin_shufflevector(a, c, HALVES(0));
    value[1] = __builtin_shufflevector(a, c, HALVES(2));
    value[2] = __builtin_shufflevector(b, d, HALVES(0));
    value[3] = __builtin_shufflevector(b, d, HALVES(2));
#undef PAIRS
#undef HALVES
}

/* Four samples' rows start at quad[q], `stride` floats apart. Four features of all of them: sample
 * 4 * q + i of feature j is element 4 * q + j of value[i]. */
PA_INLINE void load_square(const float *const quad[SQUARE], int64_t stride, const int quads,
                           line value[SQUARE]) {
#pragma GCC unroll 4
    for (int i = 0; i < SQUARE; i++) {
        four part[SQUARE] = {{0}};
#pragma GCC unroll 4
        for (int q = 0; q < quads; q++) part[q] = load_four(quad[q] + i * stride);
        value[i] = join(part[0], part[1], part[2], part[3]);
    }
}

/* `quads` times four samples of every feature, all there. Stores whole lines of 16 samples; the
 * last features, where that would reach behind the panel, one by one. */
PA_INLINE void quads_to_panel(const float *from, int64_t features, float *to, int64_t pitch,
                              const int quads) {
    const float *quad[SQUARE];
#pragma GCC unroll 4
    for (int q = 0; q < quads; q++) quad[q] = from + SQUARE * q * features;
    int64_t f = 0, last = quads < SQUARE ? features - SQUARE : features;
    for (; f + SQUARE <= last; f += SQUARE) {
        line value[SQUARE];
        load_square(quad, features, quads, value);
        transpose(value);
#pragma GCC unroll 4
        for (int i = 0; i < SQUARE; i++) store_line(to + (f + i) * pitch, value[i]);
#pragma GCC unroll 4
        for (int q = 0; q < quads; q++) quad[q] += SQUARE;
    }
    for (; f < features; f++)
        for (int64_t s = 0; s < SQUARE * quads; s++) to[f * pitch + s] = from[s * features + f];
}

/* The last samples: those behind them repeat the last. */
static void rest_to_panel(const float *from, int64_t features, int64_t samples, float *to,
                          int64_t pitch, int64_t width) {
    for (int64_t f = 0; f < features; f++)
        for (int64_t s = 0; s < width; s++)
            to[f * pitch + s] = from[(s < samples ? s : samples - 1) * features + f];
}

void pa_to_panel(const float *from, int64_t features, int64_t samples, float *to, int64_t pitch) {
    for (int64_t s = 0; s < samples; s += LINE) {
        int64_t left = samples - s, width = pitch - s < LINE ? pitch - s : LINE;
        const float *rows = from + s * features;
        if (left < width && left % SQUARE)
            rest_to_panel(rows, features, left, to + s, pitch, width);
        else if (left >= 4 * SQUARE && width >= 4 * SQUARE)
            quads_to_panel(rows, features, to + s, pitch, 4);
        else if (left >= 3 * SQUARE)
            quads_to_panel(rows, features, to + s, pitch, 3);
        else if (left >= 2 * SQUARE)
            quads_to_panel(rows, features, to + s, pitch, 2);
        else
            quads_to_panel(rows, features, to + s, pitch, 1);
    }
}

PA_INLINE four quarter(line value, const int index) {
    switch (index) {
    case 0: return __builtin_shufflevector(value, value, 0, 1, 2, 3);
    case 1: return __builtin_shufflevector(value, value, 4, 5, 6, 7);
    case 2: return __builtin_shufflevector(value, value, 8, 9, 10, 11);
    default: return __builtin_shufflevector(value, value, 12, 13, 14, 15);
    }
}

static float finish_one(float value, const float *residual, int relu) {
    if (residual) value += *residual;
    return relu && value < 0.0f ? 0.0f : value;
}

PA_INLINE void store_four(four value, const float *residual, int relu, float *to) {
    if (residual) value += *(const four_memory *)residual;
    if (relu) value = (four)((four_bits)value & ~(value < (four){0}));
    *(four_memory *)to = value;
}

/* Up to 16 samples of every feature. */
static void line_from_panel(const float *from, int64_t pitch, int64_t features, int64_t samples,
                            const float *residual, int relu, float *to) {
    int64_t f = 0;
    for (; f + SQUARE <= features; f += SQUARE) {
        line value[SQUARE];
#pragma GCC unroll 4
        for (int i = 0; i < SQUARE; i++) value[i] = load_line(from + (f + i) * pitch);
        transpose(value);
#pragma GCC unroll 4
        for (int q = 0; q < SQUARE; q++)
#pragma GCC unroll 4
            for (int i = 0; i < SQUARE; i++) {
                int64_t at = (4 * q + i) * features + f;
                if (4 * q + i >= samples) continue;
                store_four(quarter(value[i], q), residual ? residual + at : 0, relu, to + at);
            }
    }
    for (; f < features; f++)
        for (int64_t s = 0; s < samples && s < LINE; s++) {
            int64_t at = s * features + f;
            to[at] = finish_one(from[f * pitch + s], residual ? residual + at : 0, relu);
        }
}

void pa_from_panel(const float *from, int64_t pitch, int64_t features, int64_t samples,
                   const float *residual, pa_activation activation, float *to) {
    for (int64_t s = 0; s < samples; s += LINE) {
        int64_t place = s * features, left = samples - s < LINE ? samples - s : LINE;
        line_from_panel(from + s, pitch, features, left, residual ? residual + place : 0,
                        activation.kind == PA_ACT_RELU, to + place);
        if (activation.kind > PA_ACT_RELU)
            pa_activate_span(to + place, left * features, 0, activation);
    }
}
