/* A region program after decoding: every number checked, every shape known. */
#ifndef PRUNEAUG_PROGRAM_H
#define PRUNEAUG_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

#include "activation.h"

/* Where a refusal is written. pa_fail formats it and returns -1, so that callers can
 * `return pa_fail(...)`. */
typedef struct {
    char *text;
    size_t size;
} pa_error;

__attribute__((format(printf, 2, 3))) int pa_fail(pa_error error, const char *format, ...);

typedef enum {
    PA_CONV = 1,
    PA_LINEAR = 2,
    PA_ADD = 3,
    PA_ACTIVATE = 4,
    PA_MAX_POOL = 5,
    PA_AVERAGE_POOL = 6,
    PA_GLOBAL_AVERAGE_POOL = 7,
    PA_FLATTEN = 8,
    PA_SUBSAMPLE = 9,
    PA_CONCAT = 10,
    PA_LAYER_NORM = 11,
} pa_opcode;

typedef struct { /* rows have height = width = 1 and their features as channels */
    int32_t kind;
    int32_t channels, height, width;
} pa_shape;

typedef struct {
    int32_t rows, cols;
    int32_t block_rows, block_cols; /* a dense weight is one block, and it is kept */
    int64_t count;                  /* of values */
    const float *values;            /* into the caller's blob; valid during creation only */
    const uint8_t *mask;            /* likewise; null when dense */
} pa_weight;

typedef struct {
    int32_t kernel[2], stride[2], pads[4], dilation[2]; /* vertical first; top left bottom right */
} pa_window;

typedef struct {
    pa_opcode opcode;
    int32_t source, residual; /* values; -1 when absent */
    int32_t weight;
    const float *bias; /* into the caller's blob, weight.rows floats; null when absent */
    pa_activation activation;
    pa_window window;
    int count_include_pad;
    int32_t before;      /* zero channels in front (subsample) */
    int32_t groups;      /* conv */
    int32_t operands;    /* concat: how many values ... */
    int32_t *operand;    /* ... and which; part of pa_program.operand */
    const float *scale;  /* layer norm: into the caller's blob, one per feature */
    float epsilon;
    int32_t result; /* the value it makes */
} pa_instruction;

typedef struct {
    int32_t inputs, outputs, weights, instructions, operands, values;
    pa_shape *shapes; /* per value */
    int32_t *output;  /* value numbers */
    int32_t *operand; /* value numbers, those of one concat behind those of another */
    pa_weight *weight;
    pa_instruction *instruction;
} pa_program;

/* 0, or -1 with a message that names the record. Free the program in both cases. */
int pa_program_read(pa_program *program, const int64_t *integers, size_t size, const float *values,
                    size_t values_size, const uint8_t *masks, size_t masks_size, pa_error error);
void pa_program_free(pa_program *program);

/* Whether the weight's block (block_row, block_col) is kept. */
int pa_weight_keeps(const pa_weight *weight, int64_t block_row, int64_t block_col);

#endif
