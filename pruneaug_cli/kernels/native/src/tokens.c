/* The token-major kernels: outputs in a vector's lanes, weights of a strip loaded, inputs broadcast.
 *
 * Few samples are read where they lie; their inputs stay in the nearest cache while the weights
 * stream by. Of many, a sample's inputs lie too far from those of the next: an entry would touch a
 * cache line per sample, and use four bytes of each. So tiles of samples are transposed first, and
 * an entry's inputs are neighbours; then a strip's weights stay in the nearest cache and the tiles
 * stream by. A few tiles make a pass: their inputs and outputs stay in the second cache from one
 * strip to the next. The strips of a dense layer do not fit there: they are made in parts that stay
 * in the nearest cache, the sums of a tile are kept from one part to the next, and a pass takes more
 * tiles, because the whole matrix comes from memory for each. */
#include "tokens.h"

#include <stdlib.h>

#include "parallel.h"
#include "transpose.h"
#include "vector.h"

enum {
    AHEAD = 1024,             /* floats: how far ahead of use weights are fetched */
    SOON = 6,                 /* entries that packed inputs are, at most PA_OFFSETS_AHEAD */
    MOST_ROWS = 8,            /* samples of a tile of rows: more break their addressing */
    MOST_AS_ROWS = PA_TOKENS_AS_ROWS,
    QUAD = 4,                 /* samples packed together */
    MOST_QUADS = PA_TOKENS_PITCH / QUAD, /* of a tile, for two vectors of outputs */
    LONG_STRIP = 32 << 10,    /* floats that leave the second cache no room */
    PART = 4 << 10,           /* floats of such a strip that stay in the nearest cache */
    HIGHEST = 4 * PA_LANES,   /* rows of a strip */
    PASS = 3,                 /* tiles: a whole matrix of weights is read for each pass */
    LONG_PASS = 6,            /* where that comes from memory */
    FAR_FLOATS = 128 << 10,   /* outputs that are fetched before they are written */
    ELEMENT = 8,              /* multiply-adds that take as long as packing a float */
};

/* The last rows of a matrix whose strip pads. */
static void finish_part(const pa_rows *rows, const float *sums, int64_t place, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        float value = rows->residual ? sums[i] + rows->residual[place + i] : sums[i];
        rows->y[place + i] = value;
    }
    pa_activate_span(rows->y + place, count, NULL, rows->activation);
}

/* Some entries of a strip, for the tiles of a pass one after the other. */
typedef struct {
    const pa_strip *strip;
    const int32_t *offset;
    const float *weight;
    int32_t entries;
    const float *later; /* weights that are fetched meanwhile, `step` floats per entry */
    int64_t step;
    float *sums;     /* of the tile: from the parts before, for those behind */
    int first, last; /* of the strip's parts */
    int fetch;       /* outputs too, before they are written */
} packed_part;

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

typedef void (*rows_function)(const pa_linear *, const pa_rows *, int32_t, int32_t, int64_t);
typedef void (*packed_function)(const pa_linear *, const pa_rows *, packed_part *, const float *,
                                int64_t);

/* Tiles of samples that lie as rows; one sample alone. */
#define TILE_OF_ROWS(TYPE, RV, NT)                                                            \
    static void TYPE##_##RV##x##NT(const pa_linear *l, const pa_rows *rows, int32_t first,    \
                                   int32_t last, int64_t sample) {                            \
        TYPE##_tile(l, rows, first, last, sample, RV, NT);                                    \
    }
#define SINGLE(TYPE, RV, U)                                                                   \
    static void TYPE##_##RV##x1(const pa_linear *l, const pa_rows *rows, int32_t first,       \
                                int32_t last, int64_t sample) {                               \
        TYPE##_single(l, rows, first, last, sample, RV, U);                                   \
    }
#define TILES_5(TYPE, RV)                                                                     \
    TILE_OF_ROWS(TYPE, RV, 2) TILE_OF_ROWS(TYPE, RV, 3) TILE_OF_ROWS(TYPE, RV, 4)             \
    TILE_OF_ROWS(TYPE, RV, 5)
#define TILES_8(TYPE, RV)                                                                     \
    TILES_5(TYPE, RV) TILE_OF_ROWS(TYPE, RV, 6) TILE_OF_ROWS(TYPE, RV, 7)                     \
    TILE_OF_ROWS(TYPE, RV, 8)

/* Tiles of packed samples: as many at a time as there are accumulators for. */
#define TILE_OF_PACKED(TYPE, RV, SIZE)                                                        \
    static void TYPE##_##RV##p##SIZE(const pa_linear *l, const pa_rows *rows,                 \
                                     packed_part *part, const float *x, int64_t sample) {     \
        enum { MOST = PA_ACCUMULATORS / RV };                                                 \
        enum { NT = SIZE <= MOST ? SIZE : SIZE <= 2 * MOST ? SIZE / 2 : SIZE / 4 };           \
        enum { U = 2 * NT <= MOST ? 2 : 1 };                                                  \
        for (int n = 0; n < SIZE; n += NT) {                                                  \
            TYPE##_packed(l, rows, part, x + n, sample + n, RV, NT, U);                       \
            part->sums += NT * part->strip->height;                                           \
            part->later += part->step * part->entries;                                        \
        }                                                                                     \
    }
#define TILES_OF_PACKED(TYPE, RV) TILE_OF_PACKED(TYPE, RV, 8) TILE_OF_PACKED(TYPE, RV, 12)

SINGLE(full, 1, 8)
TILES_8(full, 1)
SINGLE(full, 2, 4)
TILES_5(full, 2)
SINGLE(full, 4, 2)
TILE_OF_ROWS(full, 4, 2)
#if PA_ACCUMULATORS >= 24
TILE_OF_ROWS(full, 2, 6) TILE_OF_ROWS(full, 2, 7) TILE_OF_ROWS(full, 2, 8)
TILE_OF_ROWS(full, 4, 3) TILE_OF_ROWS(full, 4, 4) TILE_OF_ROWS(full, 4, 5)
TILE_OF_ROWS(full, 4, 6)
#endif
TILES_OF_PACKED(full, 1) TILES_OF_PACKED(full, 2) TILES_OF_PACKED(full, 4)
#if PA_LANES > 8
SINGLE(half, 1, 8)
TILES_8(half, 1)
TILES_OF_PACKED(half, 1)
#endif
#if PA_LANES > 4
SINGLE(quarter, 1, 8)
TILES_8(quarter, 1)
TILES_OF_PACKED(quarter, 1)
#endif

typedef struct {
    int32_t height, most; /* rows of a strip; samples of a tile of rows */
    int32_t groups;       /* that packed samples are made in */
    rows_function rows[MOST_ROWS];
    packed_function packed[2]; /* of 8, of 12 samples */
} family;

#define ROWS_8(TYPE, RV)                                                                      \
    {TYPE##_##RV##x1, TYPE##_##RV##x2, TYPE##_##RV##x3, TYPE##_##RV##x4,                      \
     TYPE##_##RV##x5, TYPE##_##RV##x6, TYPE##_##RV##x7, TYPE##_##RV##x8}
#define PACKED(TYPE, RV) {TYPE##_##RV##p8, TYPE##_##RV##p12}
#define GROUPS(RV) (8 * RV <= PA_ACCUMULATORS ? 1 : 4 * RV <= PA_ACCUMULATORS ? 2 : 4)

/* Highest first; the last is the least and pads. */
static const family families[] = {
#if PA_ACCUMULATORS >= 24
    {HIGHEST, 6, GROUPS(4), {full_4x1, full_4x2, full_4x3, full_4x4, full_4x5, full_4x6},
     PACKED(full, 4)},
    {2 * PA_LANES, 8, GROUPS(2), ROWS_8(full, 2), PACKED(full, 2)},
#else
    {HIGHEST, 2, GROUPS(4), {full_4x1, full_4x2}, PACKED(full, 4)},
    {2 * PA_LANES, 5, GROUPS(2), {full_2x1, full_2x2, full_2x3, full_2x4, full_2x5}, PACKED(full, 2)},
#endif
    {PA_LANES, 8, GROUPS(1), ROWS_8(full, 1), PACKED(full, 1)},
#if PA_LANES > 8
    {8, 8, GROUPS(1), ROWS_8(half, 1), PACKED(half, 1)},
#endif
#if PA_LANES > 4
    {4, 8, GROUPS(1), ROWS_8(quarter, 1), PACKED(quarter, 1)},
#endif
};
enum { FAMILIES = sizeof families / sizeof *families };

int32_t pa_tokens_height(int32_t rows) {
    for (int i = 0; i < FAMILIES; i++)
        if (families[i].height <= rows) return families[i].height;
    return families[FAMILIES - 1].height;
}

static const family *family_of(int32_t height) {
    const family *found = families;
    while (found->height != height) found++;
    return found;
}

/* -- samples as rows ------------------------------------------------------------------------ */

typedef struct {
    const pa_linear *linear;
    const pa_rows *rows;
    float *packed;
    int64_t quads, tiles;   /* fours of samples, the last filled up, in tiles of two or three */
    int64_t from, to;       /* tiles of this pass */
    int is_long;            /* strips do not fit the second cache: they are made in parts */
} token_work;

/* The end of the strips that are as high as the first. */
static int32_t band_end(const pa_strips *strips, int32_t first, int32_t last) {
    int32_t end = first + 1;
    while (end < last && strips->strip[end].height == strips->strip[first].height) end++;
    return end;
}

static void run_rows(const void *context, int32_t first, int32_t last) {
    const token_work *work = context;
    const pa_strips *strips = &work->linear->tokens;
    while (first < last) {
        const family *kernels = family_of(strips->strip[first].height);
        int32_t end = band_end(strips, first, last);
        int64_t samples = work->rows->samples, sample = 0;
        for (int64_t left = (samples + kernels->most - 1) / kernels->most; left > 0; left--) {
            int64_t size = (samples - sample + left - 1) / left;
            kernels->rows[size - 1](work->linear, work->rows, first, end, sample);
            sample += size;
        }
        first = end;
    }
}

/* -- packed samples ------------------------------------------------------------------------- */

/* The first sample of a tile. */
static int64_t tile_start(const token_work *work, int64_t tile) {
    return work->quads * tile / work->tiles * QUAD;
}

static int64_t tile_size(const token_work *work, int64_t tile) {
    return tile_start(work, tile + 1) - tile_start(work, tile);
}

static int64_t tile_floats(const token_work *work) {
    return PA_TOKENS_PITCH * (int64_t)work->linear->cols;
}

static int64_t tiles_of_pass(const token_work *work) { return work->is_long ? LONG_PASS : PASS; }

static float *packed_tile(const token_work *work, int64_t tile) {
    return work->packed + (tile - work->from) * tile_floats(work);
}

static void pack_tiles(const void *context, int32_t first, int32_t last) {
    const token_work *work = context;
    const int64_t cols = work->linear->cols;
    for (int64_t t = work->from + first; t < work->from + last; t++) {
        int64_t start = tile_start(work, t), size = tile_size(work, t);
        int64_t left = work->rows->samples - start;
        pa_to_panel(work->rows->x + start * cols, cols, left < size ? left : size,
                    packed_tile(work, t), PA_TOKENS_PITCH);
    }
}

/* All tiles of the pass with some entries of a strip. */
static void run_part(const token_work *work, const family *kernels, packed_part *part) {
    for (int64_t t = work->from; t < work->to; t++)
        kernels->packed[tile_size(work, t) / QUAD - 2](work->linear, work->rows, part,
                                                       packed_tile(work, t), tile_start(work, t));
}

/* A strip in parts of about equal size. While the tiles of one are made, the weights of the next
 * come from afar: all at once they would keep its first tile waiting. */
static void run_strip(const token_work *work, const pa_strip *strip) {
    float sums[LONG_PASS * PA_TOKENS_PITCH * HIGHEST];
    const pa_strips *strips = &work->linear->tokens;
    const family *kernels = family_of(strip->height);
    const int64_t groups = (work->to - work->from) * kernels->groups, entries = strip->entries;
    const int64_t parts = work->is_long ? entries * strip->height / PART + 1 : 1;
    packed_part part = {.strip = strip,
                        .offset = work->linear->packed_offsets + strip->offset,
                        .weight = strips->values + strip->value,
                        .step = (strip->height + groups - 1) / groups,
                        .first = 1,
                        .fetch = work->rows->samples * work->linear->rows > FAR_FLOATS};
    for (int64_t p = 0; p < parts; p++, part.first = 0) {
        part.entries = (int32_t)(entries * (p + 1) / parts - entries * p / parts);
        part.last = p == parts - 1;
        part.later = part.weight + (int64_t)part.entries * strip->height;
        part.sums = sums;
        run_part(work, kernels, &part);
        part.offset += part.entries;
        part.weight += (int64_t)part.entries * strip->height;
    }
}

static void run_packed(const void *context, int32_t first, int32_t last) {
    const token_work *work = context;
    for (int32_t s = first; s < last; s++) run_strip(work, &work->linear->tokens.strip[s]);
}

/* A few tiles at a time; their packed samples take one another's place. */
static void run_passes(token_work *work, int64_t first, int64_t last, pa_crew *crew) {
    const pa_strips *strips = &work->linear->tokens;
    const int64_t most = tiles_of_pass(work), passes = (last - first + most - 1) / most;
    for (int64_t pass = 0; pass < passes; pass++) {
        work->from = first + (last - first) * pass / passes;
        work->to = first + (last - first) * (pass + 1) / passes;
        int64_t samples = tile_start(work, work->to) - tile_start(work, work->from);
        pa_run_range(crew, (int32_t)(work->to - work->from), 1, ELEMENT * tile_floats(work),
                     pack_tiles, work);
        pa_run_strips(crew, strips, samples, run_packed, work);
    }
}

/* A thread's own tiles, packed where no other's are. */
static void run_own(const void *context, int32_t first, int32_t last) {
    token_work own = *(const token_work *)context;
    own.packed += first * tile_floats(&own);
    run_passes(&own, first, last, NULL);
}

/* Threads share samples: each packs its own, reads all weights, and leaves its outputs in its own
 * cache for the next layer. Shared rows would send every sample to every thread (two threads, 64
 * samples of 3072, 90%: no faster than one). Long strips come from memory, once: those are shared. */
static int is_shared_by_samples(const token_work *work, int32_t threads) {
    return threads > 1 && !work->is_long && work->tiles >= threads;
}

/* As many tiles for each thread, of two fours at least. */
static void even_tiles(token_work *work, int32_t threads) {
    int64_t even = (work->tiles + threads - 1) / threads * threads;
    if (work->quads >= 2 * even) work->tiles = even;
}

static int run_packed_samples(token_work *work, pa_scratch *scratch, pa_crew *crew) {
    const pa_strips *strips = &work->linear->tokens;
    const int32_t threads = pa_crew_size(crew);
    work->quads = (work->rows->samples + QUAD - 1) / QUAD;
    work->tiles = (work->quads + MOST_QUADS - 1) / MOST_QUADS;
    work->is_long = strips->floats / strips->count >= LONG_STRIP;
    const int by_samples = is_shared_by_samples(work, threads);
    if (by_samples) even_tiles(work, threads);
    const int64_t tiles = by_samples ? work->tiles : tiles_of_pass(work);
    work->packed = pa_scratch_take(scratch, tiles * tile_floats(work));
    if (!work->packed) return -1;
    if (by_samples) {
        const int64_t cost = ELEMENT * tile_floats(work) + strips->floats * PA_TOKENS_PITCH;
        pa_run_range(crew, (int32_t)tiles, (int32_t)tiles / threads, cost, run_own, work);
    } else
        run_passes(work, 0, work->tiles, crew);
    return 0;
}

int pa_tokens_run(const pa_linear *linear, const pa_rows *rows, pa_scratch *scratch,
                  pa_crew *crew) {
    token_work work = {.linear = linear, .rows = rows};
    if (rows->samples <= MOST_AS_ROWS || !linear->packed_offsets) {
        pa_run_strips(crew, &linear->tokens, rows->samples, run_rows, &work);
        return 0;
    }
    return run_packed_samples(&work, scratch, crew);
}
