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
    NEAR_INPUT = 256 * 1024,  /* the same, where most strips read most planes */
    OFTEN = 5,                /* one in so many is most */
    LEAST_BLOCK = 6,          /* the widest tile */
};

/* What a tile fetches ahead. Loads that cross cache lines are half as fast from L2 as others, but
 * not once the lines are in L1: fetching every line of an entry before it is used makes 3 x 3
 * kernels a quarter faster. */
enum { CROSSING = 1, FAR_WEIGHTS = 2 };

/* Planes of 7 x 7 are three vectors of 16 and one position. Rather than a fourth vector (a third more
 * multiply-adds) the widest tile has a sum for that position in each lane of one more vector, whose
 * lanes are its rows. */
enum { TAIL_ROWS = PA_ACCUMULATORS >= 24 ? 8 : 4, TAIL_WIDTH = 3 };
typedef float pa_column __attribute__((vector_size(4 * TAIL_ROWS)));
typedef float pa_column_memory __attribute__((vector_size(4 * TAIL_ROWS), aligned(4), may_alias));
PA_INLINE pa_column load_column(const float *from) { return *(const pa_column_memory *)from; }

typedef struct { /* one strip at one tile of positions */
    const int32_t *offset, *soon_offset; /* of the entry at hand; of one whose input is fetched */
    const float *x, *soon_x;
    const float *weight;
} cursor;

/* Adds `entries` entries of one lane group to the accumulators; and, where T is 1, to `last` those
 * of the position behind the last vector, one lane per row. */
PA_INLINE void accumulate(cursor *at, int32_t entries, const int masked, const int8_t *flags,
                          pa_vec acc[8][8], pa_column *last, const int R, const int V, const int T,
                          const int fetch) {
    pa_lanes lanes[8];
    const int reads = T && (!masked || flags[V * PA_LANES]);
    if (masked)
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) lanes[v] = pa_load_lanes(flags + v * PA_LANES);
    for (int32_t e = 0; e < entries; e++) {
        const float *x = at->x + *at->offset++, *soon = at->soon_x + *at->soon_offset++;
        pa_vec input[8];
        if (fetch & FAR_WEIGHTS) __builtin_prefetch(at->weight + WEIGHTS_AHEAD);
#pragma GCC unroll 8
        for (int i = 0; i < V * PA_LANES + ((fetch & CROSSING) | T); i += LINE)
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
        if (T && reads) *last += load_column(at->weight) * x[V * PA_LANES];
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

/* The same for the position behind the last vector, and zeros in the rest of its own. */
PA_INLINE void finish_last(const pa_product *p, int64_t row, int64_t at, const pa_column *last) {
    for (int r = 0; r < TAIL_ROWS; r++) {
        float *y = p->y + (row + r) * p->y_stride + at;
        pa_vec sum = {(*last)[r]};
        if (p->residual) sum[0] += p->residual[(row + r) * p->residual_stride + at];
        if (p->activation.kind == PA_ACT_RELU) sum = pa_relu(sum);
        if (p->missing)
            *y = sum[0];
        else
            pa_store(y, sum);
        if (p->activation.kind > PA_ACT_RELU) pa_activate_span(y, 1, 0, p->activation);
    }
}

PA_INLINE void tile(const pa_product *p, int32_t index, int64_t at, const int R, const int V,
                    const int T, const int fetch) {
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
    pa_column last;
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) acc[r][v] = pa_splat(p->bias[strip->row + r]);
    if (T) last = load_column(p->bias + strip->row);
    accumulate(&here, run[0], 0, (const int8_t *)0, acc, &last, R, V, T, fetch);
    for (int32_t g = 1; g < strips->groups; g++)
        accumulate(&here, run[g], 1, p->lanes + g * p->lanes_stride + at, acc, &last, R, V, T,
                   fetch);
    finish(p, strip->row, at, acc, R, V);
    if (T) finish_last(p, strip->row, at + V * PA_LANES, &last);
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
    int crossing = p->taps > 1 || p->missing || (uintptr_t)p->x % (LINE * sizeof(float));
    return crossing ? tiles_crossing : tiles_near;
}

static int has_tail(const pa_product *p, int height, int32_t vector, int32_t end) {
    return p->single && end == p->vectors && height == TAIL_ROWS && end - vector > TAIL_WIDTH &&
           (end - vector - 1) % TAIL_WIDTH == 0;
}

/* Tiles of equal width rather than wide ones and a narrow rest: 4 vectors are 2 + 2. Where the last
 * vector is not all there, the last tile ends with the plane: it makes some positions again. */
static void run_tiles(const pa_product *p, int32_t strip, int32_t vector, int32_t end) {
    const tile_function(*tiles)[6] = tiles_for(p);
    int height = p->strips->strip[strip].height;
    if (has_tail(p, height, vector, end)) {
        for (; vector + TAIL_WIDTH + 1 < end; vector += TAIL_WIDTH)
            tiles[height][TAIL_WIDTH - 1](p, strip, (int64_t)vector * PA_LANES);
        tiles[0][0](p, strip, (int64_t)vector * PA_LANES);
        return;
    }
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
 * along planes, ahead of use. Small blocks read their weights again from there, and are. Only where
 * most strips read most planes, at one position each, input is what has to be near: dense layers of
 * 56 x 56 are a fifth faster so, at 75% it is even, at 90% a tenth slower. */
static int32_t block_size(const pa_product *p) {
    int64_t reads = p->strips->entries, planes = p->planes;
    int often = p->taps == 1 && reads * OFTEN > planes * p->strips->count;
    int32_t size = (often ? NEAR_INPUT : BLOCK_BYTES) / (int32_t)sizeof(pa_vec) / p->planes;
    return size < LEAST_BLOCK ? LEAST_BLOCK : size / LEAST_BLOCK * LEAST_BLOCK;
}

/* Strips of one height. In a block of positions each strip runs over all of them: its weights
 * stay in the nearest cache, and it reads along planes, as hardware prefetchers expect. */
static void run_band(const pa_product *p, int32_t first, int32_t last) {
    int32_t size = block_size(p), count = (p->vectors - 1) / size + 1;
    int32_t even = (p->vectors + count - 1) / count; /* then up to whole tiles */
    if (count > 1) size = (even + LEAST_BLOCK - 1) / LEAST_BLOCK * LEAST_BLOCK;
    for (int32_t vector = 0; vector < p->vectors; vector += size) {
        int32_t end = p->vectors - vector > size ? vector + size : p->vectors;
        for (int32_t s = first; s < last; s++) run_tiles(p, s, vector, end);
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
