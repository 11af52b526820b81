/* Rows times a weight. The token-major kernel has outputs in a vector's lanes: weights of a strip
 * are loaded, inputs broadcast; it needs strips as high as a vector is long. Weights stream once
 * per tile of samples, whose inputs stay in the nearest cache. */
#include "linear.h"

#include <stdlib.h>
#include <string.h>

#include "vector.h"

enum {
    AHEAD = 1024,      /* floats: how far ahead of use weights are fetched */
    MOST_SAMPLES = 8,  /* of a tile: more break the addressing of their inputs */
};

/* The last rows of a matrix whose strip pads. */
static void finish_part(const pa_rows *rows, const float *sums, int64_t place, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        float value = rows->residual ? sums[i] + rows->residual[place + i] : sums[i];
        rows->y[place + i] = rows->relu && value < 0.0f ? 0.0f : value;
    }
}

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

#define LANES PA_LANES
#define NAME(x) JOIN(full_, x)
#include "linear_tile.h"
#undef LANES
#undef NAME
#if PA_LANES > 8
#define LANES 8
#define NAME(x) JOIN(half_, x)
#include "linear_tile.h"
#undef LANES
#undef NAME
#endif
#if PA_LANES > 4
#define LANES 4
#define NAME(x) JOIN(quarter_, x)
#include "linear_tile.h"
#undef LANES
#undef NAME
#endif

typedef void (*tile_function)(const pa_linear *, const pa_rows *, int32_t, int32_t, int64_t);

#define TILE(TYPE, RV, NT)                                                                    \
    static void TYPE##_##RV##x##NT(const pa_linear *l, const pa_rows *rows, int32_t first,    \
                                   int32_t last, int64_t sample) {                            \
        TYPE##_tile(l, rows, first, last, sample, RV, NT);                                    \
    }
#define SINGLE(TYPE, RV, U)                                                                   \
    static void TYPE##_##RV##x1(const pa_linear *l, const pa_rows *rows, int32_t first,       \
                                int32_t last, int64_t sample) {                               \
        TYPE##_single(l, rows, first, last, sample, RV, U);                                   \
    }
#define TILES_8(TYPE, RV)                                                                     \
    TILE(TYPE, RV, 2) TILE(TYPE, RV, 3) TILE(TYPE, RV, 4) TILE(TYPE, RV, 5) TILE(TYPE, RV, 6) \
    TILE(TYPE, RV, 7) TILE(TYPE, RV, 8)

SINGLE(full, 1, 8)
TILES_8(full, 1)
SINGLE(full, 2, 4)
TILE(full, 2, 2) TILE(full, 2, 3) TILE(full, 2, 4) TILE(full, 2, 5)
SINGLE(full, 4, 2)
TILE(full, 4, 2)
#if PA_ACCUMULATORS >= 24
TILE(full, 2, 6) TILE(full, 2, 7) TILE(full, 2, 8)
TILE(full, 4, 3) TILE(full, 4, 4) TILE(full, 4, 5) TILE(full, 4, 6)
#endif

typedef struct {
    int32_t height, most; /* rows of a strip; samples of a tile */
    tile_function tile[MOST_SAMPLES];
} family;

#define ROW_8(TYPE, RV)                                                                       \
    {TYPE##_##RV##x1, TYPE##_##RV##x2, TYPE##_##RV##x3, TYPE##_##RV##x4,                      \
     TYPE##_##RV##x5, TYPE##_##RV##x6, TYPE##_##RV##x7, TYPE##_##RV##x8}

#if PA_LANES > 8
SINGLE(half, 1, 8)
TILES_8(half, 1)
#endif
#if PA_LANES > 4
SINGLE(quarter, 1, 8)
TILES_8(quarter, 1)
#endif

/* Highest first; the last is the least and pads. */
static const family families[] = {
#if PA_ACCUMULATORS >= 24
    {4 * PA_LANES, 6, {full_4x1, full_4x2, full_4x3, full_4x4, full_4x5, full_4x6}},
    {2 * PA_LANES, 8, ROW_8(full, 2)},
#else
    {4 * PA_LANES, 2, {full_4x1, full_4x2}},
    {2 * PA_LANES, 5, {full_2x1, full_2x2, full_2x3, full_2x4, full_2x5}},
#endif
    {PA_LANES, 8, ROW_8(full, 1)},
#if PA_LANES > 8
    {8, 8, ROW_8(half, 1)},
#endif
#if PA_LANES > 4
    {4, 8, ROW_8(quarter, 1)},
#endif
};
enum { FAMILIES = sizeof families / sizeof *families };

static int32_t next_height(int32_t rows) {
    for (int i = 0; i < FAMILIES; i++)
        if (families[i].height <= rows) return families[i].height;
    return families[FAMILIES - 1].height;
}

static const family *family_of(int32_t height) {
    const family *found = families;
    while (found->height != height) found++;
    return found;
}

int pa_linear_make(pa_linear *linear, const pa_weight *weight, const float *bias) {
    size_t rows = (size_t)weight->rows, cols = (size_t)weight->cols;
    *linear = (pa_linear){.rows = weight->rows, .cols = weight->cols};
    linear->bias = calloc(rows + PA_LANES, sizeof(float)); /* read whole vectors at the end */
    int32_t *offset = malloc(cols * sizeof *offset);
    int failed = !linear->bias || !offset;
    if (!failed && bias) memcpy(linear->bias, bias, rows * sizeof(float));
    for (size_t k = 0; k < cols && !failed; k++) offset[k] = (int32_t)k;
    pa_columns columns = {offset, NULL, 1};
    if (!failed) failed = pa_pack(weight, next_height, columns, &linear->tokens);
    free(offset);
    return failed;
}

void pa_linear_free(pa_linear *linear) {
    pa_strips_free(&linear->tokens);
    pa_strips_free(&linear->channels);
    free(linear->bias);
    *linear = (pa_linear){0};
}

int64_t pa_linear_bytes(const pa_linear *linear) {
    return pa_strips_bytes(&linear->tokens) + pa_strips_bytes(&linear->channels);
}

/* Strips of one height, tiles of samples of about equal size. */
static void run_band(const pa_linear *linear, const pa_rows *rows, int32_t first, int32_t last) {
    const family *kernels = family_of(linear->tokens.strip[first].height);
    int64_t count = (rows->samples + kernels->most - 1) / kernels->most;
    for (int64_t t = 0, sample = 0; t < count; t++) {
        int64_t left = count - t, size = (rows->samples - sample + left - 1) / left;
        kernels->tile[size - 1](linear, rows, first, last, sample);
        sample += size;
    }
}

static void run_strips(const pa_linear *linear, const pa_rows *rows, int32_t first, int32_t last) {
    const pa_strip *strip = linear->tokens.strip;
    while (first < last) {
        int32_t end = first;
        while (end < last && strip[end].height == strip[first].height) end++;
        run_band(linear, rows, first, end);
        first = end;
    }
}

int pa_linear_run(const pa_linear *linear, const pa_rows *rows, const pa_parallel *parallel) {
    (void)parallel;
    run_strips(linear, rows, 0, linear->tokens.count);
    return 0;
}
