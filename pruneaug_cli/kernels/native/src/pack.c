/* Repacks a weight for the kernels: any block shape becomes strips of the heights that have a
 * kernel. A block of r rows is cut into strips that read the same columns one after the other;
 * its c columns become c entries; rows that hang over the edge are left out. */
#include "pack.h"

#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

enum { HIGHEST = 256, LINE_BYTES = 64, HUGE_BYTES = 2 << 20 };

typedef struct { /* a column a block row keeps */
    int32_t column;
    int64_t value;  /* its weight in the block's first row, in the blob */
    int64_t stride; /* from one row to the next there */
} kept_column;

static int64_t block_rows_of(const pa_weight *weight) {
    return ((int64_t)weight->rows + weight->block_rows - 1) / weight->block_rows;
}

/* Lists the kept columns of a block row; *block counts blocks through the matrix. */
static int32_t list_columns(const pa_weight *weight, int64_t block_row, int64_t *block,
                            kept_column *list) {
    int32_t count = 0, width = weight->block_cols;
    int64_t size = (int64_t)weight->block_rows * width;
    int64_t blocks = ((int64_t)weight->cols + width - 1) / width;
    for (int64_t b = 0; b < blocks; b++) {
        if (!pa_weight_keeps(weight, block_row, b)) continue;
        for (int32_t c = 0; c < width && b * width + c < weight->cols; c++)
            list[count++] = (kept_column){(int32_t)(b * width + c), *block * size + c, width};
        ++*block;
    }
    return count;
}

/* Cuts block rows into strips, in matrix order. Returns their number; writes them when asked. */
static int32_t cut(const pa_weight *weight, pa_next_height next, int32_t period,
                   pa_strip *strips) {
    int32_t count = 0;
    for (int64_t top = 0; top < weight->rows; top += weight->block_rows) {
        int64_t end = top + weight->block_rows < weight->rows ? top + weight->block_rows
                                                              : weight->rows;
        for (int64_t row = top; row < end; count++) {
            int64_t edge = period ? (row / period + 1) * period : end; /* strips keep to a group */
            int32_t left = (int32_t)((edge < end ? edge : end) - row), height = next(left);
            int32_t rows = height < left ? height : left;
            if (strips) strips[count] = (pa_strip){.row = (int32_t)row, .rows = rows, .height = height};
            row += rows;
        }
    }
    return count;
}

/* Stable, highest first: kernels of one height then run over consecutive strips. */
static void sort_by_height(const pa_strip *from, int32_t count, pa_strip *to) {
    int32_t written = 0;
    for (int32_t height = HIGHEST; height > 0 && written < count; height--)
        for (int32_t i = 0; i < count; i++)
            if (from[i].height == height) to[written++] = from[i];
}

static void fill(const pa_weight *weight, const pa_columns *columns, const kept_column *list,
                 int32_t listed, pa_strips *strips, int32_t index) {
    pa_strip *strip = &strips->strip[index];
    int32_t *offset = strips->offsets + strip->offset;
    float *value = strips->values + strip->value;
    int64_t first_row = strip->row % weight->block_rows;
    int64_t shift = columns->period ? strip->row / columns->period * columns->step : 0;
    for (int32_t group = 0; group < strips->groups; group++) {
        int32_t before = (int32_t)(offset - (strips->offsets + strip->offset));
        for (int32_t i = 0; i < listed; i++) {
            if (columns->group && columns->group[list[i].column] != group) continue;
            const float *from = weight->values + list[i].value + first_row * list[i].stride;
            *offset++ = (int32_t)(columns->offset[list[i].column] + shift);
            for (int32_t r = 0; r < strip->height; r++)
                *value++ = r < strip->rows ? from[r * list[i].stride] : 0.0f;
        }
        strips->runs[(int64_t)index * strips->groups + group] =
            (int32_t)(offset - (strips->offsets + strip->offset)) - before;
    }
}

/* Kept columns of every block row, one list behind the other; start[b] .. start[b + 1]. */
static kept_column *list_all(const pa_weight *weight, int64_t *start) {
    int64_t rows = block_rows_of(weight), block = 0, total = 0, capacity = weight->cols;
    kept_column *list = malloc((size_t)capacity * sizeof *list);
    for (int64_t b = 0; b < rows && list; b++) {
        start[b] = total;
        if (capacity - total < weight->cols) {
            capacity = 2 * capacity + weight->cols;
            kept_column *grown = realloc(list, (size_t)capacity * sizeof *list);
            if (!grown) free(list);
            list = grown;
            if (!list) break;
        }
        total += list_columns(weight, b, &block, list + total);
    }
    start[rows] = total;
    return list;
}

/* Large weights lie in huge pages where the system has them: fetching ahead then crosses pages
 * without walking their tables (MLP, one sample, dense: 8% faster). */
static float *allocate_values(size_t floats) {
    size_t bytes = floats * sizeof(float), line = bytes < HUGE_BYTES ? LINE_BYTES : HUGE_BYTES;
    float *values = aligned_alloc(line, (bytes + line - 1) / line * line);
#if defined(MADV_HUGEPAGE)
    if (values && bytes >= HUGE_BYTES) madvise(values, bytes / HUGE_BYTES * HUGE_BYTES, MADV_HUGEPAGE);
#endif
    return values;
}

/* Gives each strip its place in offsets and values, and allocates those. */
static int place(const pa_weight *weight, const int64_t *start, pa_strips *strips) {
    for (int32_t i = 0; i < strips->count; i++) {
        pa_strip *strip = &strips->strip[i];
        int64_t block_row = strip->row / weight->block_rows;
        strip->entries = (int32_t)(start[block_row + 1] - start[block_row]);
        strip->offset = strips->entries;
        strip->value = strips->floats;
        strips->entries += strip->entries;
        strips->floats += (int64_t)strip->entries * strip->height;
    }
    strips->offsets = calloc((size_t)strips->entries + PA_OFFSETS_AHEAD, sizeof *strips->offsets);
    strips->runs = malloc((size_t)strips->count * (size_t)strips->groups * sizeof *strips->runs);
    strips->values = allocate_values((size_t)strips->floats + 1);
    return strips->offsets && strips->runs && strips->values ? 0 : -1;
}

int pa_pack(const pa_weight *weight, pa_next_height next, pa_columns columns, pa_strips *strips) {
    *strips = (pa_strips){.groups = columns.groups};
    strips->count = cut(weight, next, columns.period, NULL);
    strips->strip = calloc((size_t)strips->count, sizeof *strips->strip);
    pa_strip *unsorted = calloc((size_t)strips->count, sizeof *unsorted);
    int64_t *start = calloc((size_t)block_rows_of(weight) + 1, sizeof *start);
    kept_column *list = start ? list_all(weight, start) : NULL;
    int failed = !strips->strip || !unsorted || !list;
    if (!failed) {
        cut(weight, next, columns.period, unsorted);
        sort_by_height(unsorted, strips->count, strips->strip);
        failed = place(weight, start, strips);
    }
    for (int32_t i = 0; i < strips->count && !failed; i++) {
        int64_t block_row = strips->strip[i].row / weight->block_rows;
        fill(weight, &columns, list + start[block_row], strips->strip[i].entries, strips, i);
    }
    free(list);
    free(start);
    free(unsorted);
    return failed ? -1 : 0;
}

void pa_unpack(const pa_weight *weight, float *dense) {
    int64_t r = weight->block_rows, c = weight->block_cols, block = 0;
    memset(dense, 0, (size_t)weight->rows * (size_t)weight->cols * sizeof *dense);
    for (int64_t i = 0; i < block_rows_of(weight); i++)
        for (int64_t j = 0; j < (weight->cols + c - 1) / c; j++) {
            if (!pa_weight_keeps(weight, i, j)) continue;
            const float *values = weight->values + block++ * r * c;
            for (int64_t y = i * r; y < (i + 1) * r && y < weight->rows; y++)
                for (int64_t x = j * c; x < (j + 1) * c && x < weight->cols; x++)
                    dense[y * weight->cols + x] = values[(y - i * r) * c + x - j * c];
        }
}

void pa_strips_free(pa_strips *strips) {
    free(strips->strip);
    free(strips->offsets);
    free(strips->runs);
    free(strips->values);
    *strips = (pa_strips){0};
}

int64_t pa_strips_bytes(const pa_strips *strips) {
    return strips->entries * (int64_t)sizeof(int32_t) + strips->floats * (int64_t)sizeof(float) +
           strips->count * (int64_t)(sizeof(pa_strip) + (size_t)strips->groups * sizeof(int32_t));
}
