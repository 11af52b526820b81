/* The channel-major kernels: R rows by V vectors of positions in registers.
 *
 * Per entry a tile loads V vectors of input and broadcasts R weights for R * V multiply-adds. With
 * PA_ACCUMULATORS accumulators the multiply-adds, not the loads, are the bound (R = 8, V = 3: 24
 * against 11). A strip of 16 rows is two strips of 8: 16 x 1 would be bound by loads. */
#include "product.h"

#include "vector.h"

enum {
    AHEAD = 6, /* entries that input is fetched ahead, at most PA_OFFSETS_AHEAD; 4 to 8 are equal */
    SHORT = 16,                /* strips of fewer entries fetch those of their next tile instead */
    WEIGHTS_AHEAD = 1024,      /* floats */
    LINE = 16,                 /* floats of a cache line */
    NEAR_WEIGHTS = 256 * 1024, /* bytes that stay in L2 from one run to the next */
    BLOCK_BYTES = 1536 * 1024, /* of input: 384 KiB is 3% slower in ResNet-50, no end as fast */
    LEAST_BLOCK = 6,          /* the widest tile */
};

/* What a tile fetches ahead. Loads that cross cache lines are half as fast from L2 as others, but
 * not once the lines are in L1: fetching every line of an entry before it is used makes 3 x 3
 * kernels a quarter faster. */
enum { CROSSING = 1, FAR_WEIGHTS = 2 };

typedef struct { /* one strip at one tile of positions */
    const int32_t *offset, *soon_offset; /* of the entry at hand; of one whose input is fetched */
    const float *x, *soon_x;
    const float *weight;
} cursor;

/* Adds `entries` entries of one lane group to the accumulators. */
PA_INLINE void accumulate(cursor *at, int32_t entries, const int masked, const int8_t *flags,
                          pa_vec acc[8][8], const int R, const int V, const int fetch) {
    pa_lanes lanes[8];
    if (masked)
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) lanes[v] = pa_load_lanes(flags + v * PA_LANES);
    for (int32_t e = 0; e < entries; e++) {
        const float *x = at->x + *at->offset++, *soon = at->soon_x + *at->soon_offset++;
        pa_vec input[8];
        if (fetch & FAR_WEIGHTS) __builtin_prefetch(at->weight + WEIGHTS_AHEAD);
#pragma GCC unroll 8
        for (int i = 0; i < V * PA_LANES + (fetch & CROSSING); i += LINE)
            __builtin_prefetch(soon + i);
#pragma GCC unroll 8
        for (int v = 0; v < V; v++)
            input[v] = masked ? pa_load_some(x + v * PA_LANES, lanes[v]) : pa_load(x + v * PA_LANES);
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
    const int8_t *keep = p->keep;
    float *y = p->y + place;
    if (p->residual) {
        const float *residual = p->residual + row * p->residual_stride + at;
#pragma GCC unroll 8
        for (int r = 0; r < R; r++)
#pragma GCC unroll 8
            for (int v = 0; v < V; v++)
                acc[r][v] += pa_load(residual + r * p->residual_stride + v * PA_LANES);
    }
    const int relu = p->activation.kind == PA_ACT_RELU;
    if (keep)
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) {
            pa_lanes lanes = pa_load_lanes(keep + at + v * PA_LANES);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++)
                acc[r][v] = relu ? pa_keep_relu(acc[r][v], lanes) : pa_keep(acc[r][v], lanes);
        }
    else if (relu)
#pragma GCC unroll 8
        for (int r = 0; r < R; r++)
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) acc[r][v] = pa_relu(acc[r][v]);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) pa_store(y + r * stride + v * PA_LANES, acc[r][v]);
    if (p->activation.kind > PA_ACT_RELU)
        for (int r = 0; r < R; r++)
            pa_activate_span(y + r * stride, V * PA_LANES, keep ? keep + at : 0, p->activation);
}

PA_INLINE void tile(const pa_product *p, int32_t index, int64_t at, const int R, const int V,
                    const int fetch) {
    const pa_strips *strips = p->strips;
    const pa_strip *strip = &strips->strip[index];
    const int32_t *run = strips->runs + (int64_t)index * strips->groups;
    const int32_t *offset = strips->offsets + strip->offset;
    int is_short = strip->entries < SHORT;
    cursor here = {.offset = offset,
                   .soon_offset = is_short ? offset : offset + AHEAD,
                   .x = p->x + at,
                   .soon_x = p->x + at + (is_short ? V * PA_LANES : 0),
                   .weight = strips->values + strip->value};
    pa_vec acc[8][8];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) acc[r][v] = pa_splat(p->bias[strip->row + r]);
    accumulate(&here, run[0], 0, (const int8_t *)0, acc, R, V, fetch);
    for (int32_t g = 1; g < strips->groups; g++)
        accumulate(&here, run[g], 1, p->lanes + g * p->lanes_stride + at, acc, R, V, fetch);
    finish(p, strip->row, at, acc, R, V);
}

typedef void (*tile_function)(const pa_product *, int32_t, int64_t);

/* The tiles, once for each way to fetch ahead. */
#define PA_FETCH 0
#define PA_TILES tiles_near
#include "product_tiles.h"
#define PA_FETCH CROSSING
#define PA_TILES tiles_crossing
#include "product_tiles.h"
#define PA_FETCH (CROSSING | FAR_WEIGHTS)
#define PA_TILES tiles_far
#include "product_tiles.h"

#if PA_ACCUMULATORS >= 24
static const int widest[9] = {0, 6, 6, 6, 6, 0, 4, 0, 3};
#else
static const int widest[9] = {0, 6, 6, 4, 3, 0, 2, 0, 1};
#endif

int32_t pa_product_height(int32_t rows) {
    /* how the last few rows are cut: 7 = 4 + 3, 5 = 3 + 2, 9 = 6 + 3, 10 = 6 + 4, 12 = 6 + 6 */
    static const int8_t first[13] = {0, 1, 2, 3, 4, 3, 6, 4, 8, 6, 6, 8, 6};
    if (PA_ACCUMULATORS < 24 && rows >= 8) return rows == 9 || rows == 12 ? 6 : 4;
    return rows <= 12 ? first[rows] : 8;
}

static const tile_function (*tiles_for(const pa_product *p))[6] {
    if (p->strips->floats > NEAR_WEIGHTS / (int32_t)sizeof(float)) return tiles_far;
    return p->crossing ? tiles_crossing : tiles_near;
}

/* Tiles of equal width rather than wide ones and a narrow rest: 4 vectors are 2 + 2. Where the last
 * vector is not all there, the last tile ends with the plane: it makes some positions again. */
static void run_tiles(const pa_product *p, int32_t strip, int32_t vector, int32_t end) {
    const tile_function(*tiles)[6] = tiles_for(p);
    int height = p->strips->strip[strip].height;
    int32_t left = (end - vector + widest[height] - 1) / widest[height];
    if (p->missing && left == 1 && end - vector > 1) left = 2; /* else it would start too early */
    for (; left > 0; left--) {
        int32_t width = (end - vector + left - 1) / left;
        int64_t at = (int64_t)vector * PA_LANES;
        vector += width;
        tiles[height][width - 1](p, strip, vector < p->vectors ? at : at - p->missing);
    }
}

/* Vectors of positions per block. More input than the second cache holds is no harm: it is read
 * along planes, ahead of use. Small blocks read their weights again from there, and are. */
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
