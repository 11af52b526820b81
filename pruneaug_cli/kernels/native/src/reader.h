/* What the readers of a region's encoding share: where they are in it, and checks of one number. */
#ifndef PRUNEAUG_READER_H
#define PRUNEAUG_READER_H

#include "program.h"

/* Products of two sizes stay below 2^48 and of a size and a count below 2^62: no int64 overflows.
 * Far above real networks, far below what would make an index wrap. pruneaug_cli/kernels/limits.py
 * knows the same numbers. */
#define MOST_RECORDS 16384 /* of a kind; planning takes the square of it */
#define MOST_SIZE ((int64_t)1 << 24)
#define MOST_WINDOW ((int64_t)1 << 12)
#define MOST_ELEMENTS ((int64_t)1 << 28) /* floats of one value, per sample: 1 GiB */
#define MOST_PACKED ((int64_t)1 << 32)   /* floats of all products' weights, which may share a blob */

typedef struct {
    pa_program *program;
    const int64_t *integers;
    size_t size, position;
    const float *values;
    size_t values_size;
    const uint8_t *masks;
    size_t masks_size;
    pa_error error;
    int64_t packed;   /* floats of the weights of the products read so far */
    int64_t operands; /* of the concats read so far */
} pa_reader;

static inline int within(int64_t value, int64_t low, int64_t high) {
    return value >= low && value <= high;
}

static inline int64_t ceiling(int64_t count, int64_t step) { return (count + step - 1) / step; }

/* The next `count` integers, or null when the program ends before. */
const int64_t *pa_take(pa_reader *from, size_t count);

/* The refusal where it does. */
int pa_cut_short(const pa_reader *from);

/* `count` floats from `offset`, or null when they do not lie in the blob. */
const float *pa_floats(const pa_reader *from, int64_t offset, int64_t count);

/* 0 with `shape` filled, or -1 when a size is none or too large. */
int pa_make_shape(pa_shape *shape, int32_t kind, int64_t channels, int64_t height, int64_t width);

/* The next instruction, all values before it known: its numbers, and the shape it makes. */
int pa_read_instruction(pa_reader *from, int32_t index);

#endif
