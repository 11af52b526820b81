/* Weights as the kernels read them: strips of a few rows that share their kept columns. */
#ifndef PRUNEAUG_PACK_H
#define PRUNEAUG_PACK_H

#include <stdint.h>

#include "program.h"

typedef struct {
    int32_t row, rows; /* the rows of the matrix it makes */
    int32_t height;    /* rows it computes: rows, or more when the kernel pads with zeros */
    int32_t entries;   /* kept columns */
    int64_t offset;    /* of its first entry in pa_strips.offsets */
    int64_t value;     /* of its first weight in pa_strips.values: entries x height floats */
} pa_strip;

enum { PA_OFFSETS_AHEAD = 16 }; /* zeros behind the offsets, for kernels that read ahead */

/* Strips, highest first; the entries of a strip are sorted by group. */
typedef struct {
    int32_t count, groups;
    pa_strip *strip;
    int32_t *offsets; /* per entry: where its input starts, in floats */
    int32_t *runs;    /* [count][groups]: how many entries of each group */
    float *values;
    int64_t entries, floats;
} pa_strips;

/* Where the input of each column starts, and which group it belongs to (null: all in group 0). */
typedef struct {
    const int32_t *offset;
    const uint8_t *group;
    int32_t groups;
    int32_t period; /* rows of one group of a grouped convolution; 0: not grouped */
    int64_t step;   /* from the inputs of such a group to those of the next, in floats */
} pa_columns;

/* Height of the next strip when `rows` rows of a block row are left; more than `rows` pads. */
typedef int32_t (*pa_next_height)(int32_t rows);

/* 0, or -1 when memory runs out. Free the strips in both cases. */
int pa_pack(const pa_weight *weight, pa_next_height next, pa_columns columns, pa_strips *strips);
/* Writes the matrix with its zeros, rows x cols floats. */
void pa_unpack(const pa_weight *weight, float *dense);
void pa_strips_free(pa_strips *strips);
int64_t pa_strips_bytes(const pa_strips *strips);

#endif
