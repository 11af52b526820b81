/* Rows times a weight, in two ways.
 *
 * The token-major kernels have outputs in a vector's lanes: weights of a strip are loaded, inputs
 * broadcast. They take any number of samples and want strips as high as a vector is long. Weights
 * stream once per tile of samples, whose inputs stay in the nearest cache.
 * The channel-major ones (product.c) have samples in the lanes. They serve lower blocks, when
 * there are enough samples to fill a vector. */
#include "linear.h"

#include <stdlib.h>
#include <string.h>

#include "parallel.h"
#include "product.h"
#include "transpose.h"
#include "vector.h"

enum {
    AHEAD = 1024,      /* floats: how far ahead of use weights are fetched */
    MOST_SAMPLES = 8,  /* of a tile: more break the addressing of their inputs */
    WIDE_PANEL = 96,   /* samples of a channel-major panel: six vectors, the widest tile */
    NARROW_PANEL = 48, /* three: when the inputs of a wide one would not fit the second cache */
    WIDE_COLS = 1024,
};

/* The last rows of a matrix whose strip pads. */
static void finish_part(const pa_rows *rows, const float *sums, int64_t place, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        float value = rows->residual ? sums[i] + rows->residual[place + i] : sums[i];
        rows->y[place + i] = value;
    }
    pa_activate_span(rows->y + place, count, NULL, rows->activation);
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

/* Rows of a block that share columns: the height of a strip, before padding. */
static int32_t shared_rows(const pa_weight *weight) {
    return weight->block_rows < weight->rows ? weight->block_rows : weight->rows;
}

static int pack_tokens(pa_linear *linear, const pa_weight *weight) {
    size_t cols = (size_t)weight->cols;
    int32_t *offset = malloc(cols * sizeof *offset);
    int failed = !offset;
    for (size_t k = 0; k < cols && !failed; k++) offset[k] = (int32_t)k;
    if (!failed)
        failed = pa_pack(weight, next_height, (pa_columns){offset, NULL, 1}, &linear->tokens);
    free(offset);
    return failed;
}

static int pack_channels(pa_linear *linear, const pa_weight *weight) {
    linear->panel = weight->cols <= WIDE_COLS ? WIDE_PANEL : NARROW_PANEL;
    size_t cols = (size_t)weight->cols;
    int32_t *offset = malloc(cols * sizeof *offset);
    int failed = !offset;
    for (size_t k = 0; k < cols && !failed; k++) offset[k] = (int32_t)k * linear->panel;
    if (!failed)
        failed = pa_pack(weight, pa_product_height, (pa_columns){offset, NULL, 1}, &linear->channels);
    free(offset);
    return failed;
}

/* From how many samples on the channel-major kernel is better; 0: never. Cycles per sample, of
 * AVX-512 (the ratios hold elsewhere); transposing costs about one per input and output.
 *
 * Low strips: the token-major kernel is bound by its broadcasts, two a cycle, however few lanes of
 * outputs they fill. High strips: it streams 4 bytes of weights per multiply-add of a tile, the
 * other keeps them near: measured 0.7 against 0.9 of dense ONNX Runtime at 768 x 768 x 128 without
 * zeros, equal at 75% sparsity; hence 150 weights per input and output. */
static int32_t channels_from(const pa_linear *linear, int32_t height) {
    double entries = (double)linear->tokens.entries, weights = (double)linear->tokens.floats;
    double transposes = (double)linear->rows + linear->cols;
    if (height >= PA_LANES) return weights > 150.0 * transposes ? 3 * PA_LANES : 0;
    double token = 0.55 * entries;
    double channel = entries * (height < 3 ? 0.75 : 0.25 * height) * 2 / PA_LANES + transposes;
    return channel < token ? PA_LANES : 0;
}

int pa_linear_make(pa_linear *linear, const pa_weight *weight, const float *bias) {
    size_t rows = (size_t)weight->rows;
    *linear = (pa_linear){.rows = weight->rows, .cols = weight->cols};
    linear->bias = calloc(rows + PA_LANES, sizeof(float)); /* read whole vectors at the end */
    if (!linear->bias) return -1;
    if (bias) memcpy(linear->bias, bias, rows * sizeof(float));
    if (pack_tokens(linear, weight)) return -1;
    linear->channels_from = channels_from(linear, shared_rows(weight));
    return linear->channels_from ? pack_channels(linear, weight) : 0;
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

typedef struct {
    const pa_linear *linear;
    const pa_rows *rows;
} token_work;

/* Strips of one height, tiles of samples of about equal size. */
static void run_band(const token_work *work, int32_t first, int32_t last) {
    const family *kernels = family_of(work->linear->tokens.strip[first].height);
    int64_t samples = work->rows->samples, count = (samples + kernels->most - 1) / kernels->most;
    for (int64_t t = 0, sample = 0; t < count; t++) {
        int64_t left = count - t, size = (samples - sample + left - 1) / left;
        kernels->tile[size - 1](work->linear, work->rows, first, last, sample);
        sample += size;
    }
}

static void run_tokens(const void *context, int32_t first, int32_t last) {
    const token_work *work = context;
    const pa_strip *strip = work->linear->tokens.strip;
    while (first < last) {
        int32_t end = first;
        while (end < last && strip[end].height == strip[first].height) end++;
        run_band(work, first, end);
        first = end;
    }
}

/* Panels of samples: transposed, multiplied like planes, transposed back. */
static int run_channels(const pa_linear *linear, const pa_rows *rows, pa_crew *crew) {
    size_t cols = (size_t)linear->cols, outputs = (size_t)linear->rows;
    int32_t panel = linear->panel; /* a multiple of a cache line's 16 floats */
    float *inputs = aligned_alloc(64, (cols + outputs) * (size_t)panel * sizeof(float));
    if (!inputs) return -1;
    float *sums = inputs + cols * (size_t)panel;
    for (int64_t s = 0; s < rows->samples; s += panel) {
        int64_t left = rows->samples - s, samples = left < panel ? left : panel;
        int32_t vectors = (int32_t)((samples + PA_LANES - 1) / PA_LANES);
        pa_product product = {
            .strips = &linear->channels,
            .bias = linear->bias,
            .x = inputs,
            .y = sums,
            .y_stride = panel,
            .planes = linear->cols,
            .vectors = vectors,
        };
        int64_t place = s * linear->rows;
        pa_to_panel(rows->x + s * linear->cols, linear->cols, samples, vectors * PA_LANES, inputs,
                    panel);
        pa_run_strips(crew, &linear->channels, samples, pa_product_run, &product);
        pa_from_panel(sums, panel, linear->rows, samples,
                      rows->residual ? rows->residual + place : NULL, rows->activation,
                      rows->y + place);
    }
    free(inputs);
    return 0;
}

int pa_linear_run(const pa_linear *linear, const pa_rows *rows, pa_crew *crew) {
    if (linear->channels.count && rows->samples >= linear->channels_from)
        return run_channels(linear, rows, crew);
    token_work work = {linear, rows};
    pa_run_strips(crew, &linear->tokens, rows->samples, run_tokens, &work);
    return 0;
}
