/* The channel-major kernels: R rows by V vectors of positions in registers.
 *
 * Per entry a tile loads V vectors of input and broadcasts R weights for R * V multiply-adds. With
 * PA_ACCUMULATORS accumulators the multiply-adds, not the loads, are the bound (R = 8, V = 3: 24
 * against 11). A strip of 16 rows is two strips of 8: 16 x 1 would be bound by loads. */
#include "product.h"

#include "vector.h"

enum {
    AHEAD = 1024, /* floats: weights are fetched 4 KiB ahead, for they come from L2 or beyond */
    BLOCK_BYTES = 384 * 1024, /* measured: 96 KiB is 10% slower at 56 x 56, 768 KiB equal or slower */
    LEAST_BLOCK = 6,          /* the widest tile */
};

typedef struct { /* one strip at one tile of positions */
    const int32_t *offset;
    const float *weight;
    const float *x;
} cursor;

/* Adds `entries` entries of one lane group to the accumulators. */
PA_INLINE void accumulate(cursor *at, int32_t entries, const int8_t *flags, pa_vec acc[8][8],
                          const int R, const int V) {
    pa_bits lanes = flags ? pa_load_flags(flags) : (pa_bits){0};
    for (int32_t e = 0; e < entries; e++) {
        const float *x = at->x + *at->offset++;
        pa_vec input[8];
        __builtin_prefetch(at->weight + AHEAD);
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) {
            input[v] = pa_load(x + v * PA_LANES);
            if (flags) input[v] = pa_keep(input[v], lanes);
            __builtin_prefetch(x + (V + v) * PA_LANES); /* of the next tile */
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            pa_vec weight = pa_splat(at->weight[r]);
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) acc[r][v] += input[v] * weight;
        }
        at->weight += R;
    }
}

/* Residual, activation and pads while the sums are still in registers. */
PA_INLINE void finish(const pa_product *p, int64_t row, int64_t at, pa_vec acc[8][8], const int R,
                      const int V) {
    const int64_t stride = p->y_stride, place = row * stride + at;
    const float *residual = p->residual;
    const int8_t *keep = p->keep;
    float *y = p->y + place;
    if (residual)
#pragma GCC unroll 8
        for (int r = 0; r < R; r++)
#pragma GCC unroll 8
            for (int v = 0; v < V; v++)
                acc[r][v] += pa_load(residual + place + r * stride + v * PA_LANES);
    if (p->activation.kind == PA_ACT_RELU)
#pragma GCC unroll 8
        for (int r = 0; r < R; r++)
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) acc[r][v] = pa_relu(acc[r][v]);
    if (keep)
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) {
            pa_bits flags = pa_load_flags(keep + at + v * PA_LANES);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) acc[r][v] = pa_keep(acc[r][v], flags);
        }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) pa_store(y + r * stride + v * PA_LANES, acc[r][v]);
    if (p->activation.kind > PA_ACT_RELU)
        for (int r = 0; r < R; r++)
            pa_activate_span(y + r * stride, V * PA_LANES, keep ? keep + at : 0, p->activation);
}

PA_INLINE void tile(const pa_product *p, int32_t index, int64_t at, const int R, const int V) {
    const pa_strips *strips = p->strips;
    const pa_strip *strip = &strips->strip[index];
    const int32_t *run = strips->runs + (int64_t)index * strips->groups;
    cursor here = {strips->offsets + strip->offset, strips->values + strip->value, p->x + at};
    pa_vec acc[8][8];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) acc[r][v] = pa_splat(p->bias[strip->row + r]);
    accumulate(&here, run[0], (const int8_t *)0, acc, R, V);
    for (int32_t g = 1; g < strips->groups; g++)
        accumulate(&here, run[g], p->lanes + g * PA_LANES, acc, R, V);
    finish(p, strip->row, at, acc, R, V);
}

typedef void (*tile_function)(const pa_product *, int32_t, int64_t);

#define TILE(R, V)                                                                \
    static void tile_##R##x##V(const pa_product *p, int32_t strip, int64_t at) { \
        tile(p, strip, at, R, V);                                                 \
    }

TILE(8, 1)
TILE(6, 1) TILE(6, 2)
TILE(4, 1) TILE(4, 2) TILE(4, 3)
TILE(3, 1) TILE(3, 2) TILE(3, 3) TILE(3, 4)
TILE(2, 1) TILE(2, 2) TILE(2, 3) TILE(2, 4) TILE(2, 5) TILE(2, 6)
TILE(1, 1) TILE(1, 2) TILE(1, 3) TILE(1, 4) TILE(1, 5) TILE(1, 6)
#if PA_ACCUMULATORS >= 24
TILE(8, 2) TILE(8, 3)
TILE(6, 3) TILE(6, 4)
TILE(4, 4) TILE(4, 5) TILE(4, 6)
TILE(3, 5) TILE(3, 6)
#define ROW_8 {tile_8x1, tile_8x2, tile_8x3}
#define ROW_6 {tile_6x1, tile_6x2, tile_6x3, tile_6x4}
#define ROW_4 {tile_4x1, tile_4x2, tile_4x3, tile_4x4, tile_4x5, tile_4x6}
#define ROW_3 {tile_3x1, tile_3x2, tile_3x3, tile_3x4, tile_3x5, tile_3x6}
static const int widest[9] = {0, 6, 6, 6, 6, 0, 4, 0, 3};
#else
#define ROW_8 {tile_8x1}
#define ROW_6 {tile_6x1, tile_6x2}
#define ROW_4 {tile_4x1, tile_4x2, tile_4x3}
#define ROW_3 {tile_3x1, tile_3x2, tile_3x3, tile_3x4}
static const int widest[9] = {0, 6, 6, 4, 3, 0, 2, 0, 1};
#endif

static const tile_function tiles[9][6] = {
    [8] = ROW_8,
    [6] = ROW_6,
    [4] = ROW_4,
    [3] = ROW_3,
    [2] = {tile_2x1, tile_2x2, tile_2x3, tile_2x4, tile_2x5, tile_2x6},
    [1] = {tile_1x1, tile_1x2, tile_1x3, tile_1x4, tile_1x5, tile_1x6},
};

int32_t pa_product_height(int32_t rows) {
    /* how the last few rows are cut: 7 = 4 + 3, 5 = 3 + 2, 9 = 6 + 3, 10 = 6 + 4, 12 = 6 + 6 */
    static const int8_t first[13] = {0, 1, 2, 3, 4, 3, 6, 4, 8, 6, 6, 8, 6};
    if (PA_ACCUMULATORS < 24 && rows >= 8) return rows == 9 || rows == 12 ? 6 : 4;
    return rows <= 12 ? first[rows] : 8;
}

/* Tiles of equal width rather than wide ones and a narrow rest: 4 vectors are 2 + 2. */
static void run_tiles(const pa_product *p, int32_t strip, int32_t vector, int32_t end) {
    int height = p->strips->strip[strip].height;
    for (int32_t left = (end - vector + widest[height] - 1) / widest[height]; left > 0; left--) {
        int32_t width = (end - vector + left - 1) / left;
        tiles[height][width - 1](p, strip, (int64_t)vector * PA_LANES);
        vector += width;
    }
}

/* Vectors of positions per block: those of all input planes fit the second cache. */
static int32_t block_size(const pa_product *p) {
    int32_t size = BLOCK_BYTES / (int32_t)sizeof(pa_vec) / p->planes;
    return size < LEAST_BLOCK ? LEAST_BLOCK : size;
}

/* Strips of one height. In a block of positions each strip runs over all of them: its weights
 * stay in the nearest cache, and it reads along planes, as hardware prefetchers expect. */
static void run_band(const pa_product *p, int32_t first, int32_t last) {
    int32_t size = block_size(p), count = (p->vectors - 1) / size + 1;
    for (int32_t vector = 0; count > 0; count--) {
        int32_t end = vector + (p->vectors - vector + count - 1) / count;
        for (int32_t s = first; s < last; s++) run_tiles(p, s, vector, end);
        vector = end;
    }
}

void pa_product_run(const void *work, int32_t first, int32_t last) {
    const pa_product *product = work;
    const pa_strip *strip = product->strips->strip;
    while (first < last) {
        int32_t end = first, height = strip[first].height;
        while (end < last && strip[end].height == height) end++;
        run_band(product, first, end);
        first = end;
    }
}
