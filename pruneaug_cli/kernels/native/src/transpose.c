/* Transposes in squares of 4 x 4: at 0.5 cycles an element well below what a product costs. */
#include "transpose.h"

#include "vector.h"

typedef float four __attribute__((vector_size(16)));
typedef float four_memory __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t four_bits __attribute__((vector_size(16)));

PA_INLINE four load_four(const float *from) { return *(const four_memory *)from; }
PA_INLINE void store_four(float *to, four value) { *(four_memory *)to = value; }

PA_INLINE void transpose(four row[4]) {
    four a = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5);
    four b = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7);
    four c = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
    four d = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
    row[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
    row[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
    row[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
    row[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}

static float finish_one(float value, const float *residual, int relu) {
    if (residual) value += *residual;
    return relu && value < 0.0f ? 0.0f : value;
}

PA_INLINE four finish_four(four value, const float *residual, int relu) {
    if (residual) value += load_four(residual);
    return relu ? (four)((four_bits)value & ~(value < (four){0})) : value;
}

void pa_to_panel(const float *from, int64_t features, int64_t samples, int64_t padded, float *to,
                 int64_t pitch) {
    int64_t whole = samples / 4 * 4, squares = features / 4 * 4;
    for (int64_t s = 0; s < whole; s += 4) {
        const float *rows = from + s * features;
        for (int64_t f = 0; f < squares; f += 4) {
            four square[4];
            for (int i = 0; i < 4; i++) square[i] = load_four(rows + i * features + f);
            transpose(square);
            for (int i = 0; i < 4; i++) store_four(to + (f + i) * pitch + s, square[i]);
        }
        for (int64_t f = squares; f < features; f++)
            for (int i = 0; i < 4; i++) to[f * pitch + s + i] = rows[i * features + f];
    }
    for (int64_t f = 0; f < features && whole < padded; f++)
        for (int64_t s = whole; s < padded; s++)
            to[f * pitch + s] = s < samples ? from[s * features + f] : 0.0f;
}

void pa_from_panel(const float *from, int64_t pitch, int64_t features, int64_t samples,
                   const float *residual, pa_activation activation, float *to) {
    int64_t whole = samples / 4 * 4, squares = features / 4 * 4;
    int relu = activation.kind == PA_ACT_RELU;
    for (int64_t s = 0; s < samples; s += 4) {
        int64_t f = 0, place = s * features;
        for (; f < squares && s < whole; f += 4) {
            four square[4];
            for (int i = 0; i < 4; i++) square[i] = load_four(from + (f + i) * pitch + s);
            transpose(square);
            for (int i = 0; i < 4; i++) {
                int64_t at = place + i * features + f;
                store_four(to + at, finish_four(square[i], residual ? residual + at : 0, relu));
            }
        }
        for (; f < features; f++)
            for (int64_t i = 0; i < 4 && s + i < samples; i++) {
                int64_t at = place + i * features + f;
                to[at] = finish_one(from[f * pitch + s + i], residual ? residual + at : 0, relu);
            }
        int64_t rows = samples - s < 4 ? samples - s : 4;
        if (activation.kind > PA_ACT_RELU)
            pa_activate_span(to + place, rows * features, 0, activation);
    }
}
