/* Reads the integer encoding of a region (pruneaug_cli/kernels/encoding.py) and trusts nothing:
 * each count, offset, value number and size is checked before anything is allocated from it or
 * addressed with it. What leaves this file is consistent. Instructions are read in instruction.c. */
#include "program.h"

#include <stdlib.h>

#include "reader.h"
#include "region.h"

enum { VERSION = 2, HEADER = 6, INPUT = 4, WEIGHT = 7 };

static int read_header(pa_reader *from) {
    pa_program *program = from->program;
    const int64_t *header = pa_take(from, HEADER);
    if (!header) return pa_cut_short(from);
    if (header[0] != VERSION)
        return pa_fail(from->error,
                       "program version %lld is not the supported %d: export the model again",
                       (long long)header[0], VERSION);
    for (int i = 1; i < HEADER; i++)
        if (!within(header[i], i == 3 || i == 5 ? 0 : 1, MOST_RECORDS))
            return pa_fail(from->error, "header: count %lld at position %d is out of range",
                           (long long)header[i], i);
    program->inputs = (int32_t)header[1];
    program->outputs = (int32_t)header[2];
    program->weights = (int32_t)header[3];
    program->instructions = (int32_t)header[4];
    program->operands = (int32_t)header[5];
    program->values = program->inputs + program->instructions;
    program->shapes = calloc((size_t)program->values, sizeof *program->shapes);
    program->output = calloc((size_t)program->outputs, sizeof *program->output);
    program->operand = calloc((size_t)program->operands + 1, sizeof *program->operand);
    program->weight = calloc((size_t)program->weights + 1, sizeof *program->weight);
    program->instruction = calloc((size_t)program->instructions, sizeof *program->instruction);
    if (!program->shapes || !program->output || !program->operand || !program->weight || !program->instruction)
        return pa_fail(from->error, "out of memory");
    return 0;
}

static int read_input(pa_reader *from, int32_t index) {
    const int64_t *record = pa_take(from, INPUT);
    if (!record) return pa_cut_short(from);
    pa_shape *shape = &from->program->shapes[index];
    int planes = record[0] == PA_PLANES;
    int rows = record[0] == PA_ROWS && record[2] == 0 && record[3] == 0;
    if ((!planes && !rows) ||
        pa_make_shape(shape, (int32_t)record[0], record[1], rows ? 1 : record[2],
                      rows ? 1 : record[3]))
        return pa_fail(from->error, "input %d: bad shape %lld: %lld x %lld x %lld", index,
                       (long long)record[0], (long long)record[1], (long long)record[2],
                       (long long)record[3]);
    return 0;
}

int pa_weight_keeps(const pa_weight *weight, int64_t block_row, int64_t block_col) {
    if (!weight->mask) return 1;
    int64_t bit = block_row * ceiling(weight->cols, weight->block_cols) + block_col;
    return weight->mask[bit / 8] >> (7 - bit % 8) & 1;
}

static int read_mask(pa_reader *from, int32_t index, const int64_t *record) {
    pa_weight *weight = &from->program->weight[index];
    int64_t block_rows = record[2], block_cols = record[3], blocks = record[4], start = record[6];
    if (!within(block_rows, 1, MOST_SIZE) || !within(block_cols, 1, MOST_SIZE))
        return pa_fail(from->error, "weight %d: bad block %lldx%lld", index, (long long)block_rows,
                       (long long)block_cols);
    weight->block_rows = (int32_t)block_rows;
    weight->block_cols = (int32_t)block_cols;
    int64_t grid = ceiling(weight->rows, block_rows) * ceiling(weight->cols, block_cols);
    int64_t bytes = ceiling(grid, 8);
    if (start < 0 || (uint64_t)start > from->masks_size ||
        (uint64_t)bytes > from->masks_size - (uint64_t)start)
        return pa_fail(from->error, "weight %d: mask lies outside the blob of %zu bytes", index,
                       from->masks_size);
    weight->mask = from->masks + start;
    int64_t kept = 0;
    for (int64_t byte = 0; byte < bytes; byte++) kept += __builtin_popcount(weight->mask[byte]);
    if (grid % 8 && weight->mask[bytes - 1] & (0xff >> grid % 8))
        return pa_fail(from->error, "weight %d: padding bits of a mask must be zero", index);
    if (kept != blocks)
        return pa_fail(from->error, "weight %d: mask keeps %lld blocks, the record says %lld",
                       index, (long long)kept, (long long)blocks);
    return 0;
}

static int read_weight(pa_reader *from, int32_t index) {
    const int64_t *record = pa_take(from, WEIGHT);
    if (!record) return pa_cut_short(from);
    pa_weight *weight = &from->program->weight[index];
    if (!within(record[0], 1, MOST_SIZE) || !within(record[1], 1, MOST_SIZE))
        return pa_fail(from->error, "weight %d: bad matrix %lldx%lld", index, (long long)record[0],
                       (long long)record[1]);
    weight->rows = (int32_t)record[0];
    weight->cols = (int32_t)record[1];
    weight->block_rows = weight->rows;
    weight->block_cols = weight->cols;
    int64_t count = record[0] * record[1];
    if (record[2] || record[3]) {
        if (read_mask(from, index, record)) return -1;
        int64_t block = record[2] * record[3]; /* below 2^48; blocks below 2^48 too: divide */
        if (record[4] > 0 && block > MOST_ELEMENTS * 8 / record[4])
            return pa_fail(from->error, "weight %d: values lie outside the blob of %zu floats",
                           index, from->values_size);
        count = record[4] * block;
    }
    weight->count = count;
    weight->values = pa_floats(from, record[5], count);
    if (!weight->values)
        return pa_fail(from->error, "weight %d: values lie outside the blob of %zu floats", index,
                       from->values_size);
    return 0;
}

/* Each is checked again where it is used: it must exist by then. */
static int read_operands(pa_reader *from) {
    pa_program *program = from->program;
    const int64_t *record = pa_take(from, (size_t)program->operands);
    if (!record) return pa_cut_short(from);
    for (int32_t i = 0; i < program->operands; i++) {
        if (!within(record[i], 0, program->values - 1))
            return pa_fail(from->error, "operand %d: value %lld does not exist", i,
                           (long long)record[i]);
        program->operand[i] = (int32_t)record[i];
    }
    return 0;
}

static int read_outputs(pa_reader *from) {
    pa_program *program = from->program;
    const int64_t *record = pa_take(from, (size_t)program->outputs);
    if (!record) return pa_cut_short(from);
    for (int32_t i = 0; i < program->outputs; i++) {
        if (!within(record[i], program->inputs, program->values - 1))
            return pa_fail(from->error, "output %lld is not the result of an instruction",
                           (long long)record[i]);
        program->output[i] = (int32_t)record[i];
    }
    return 0;
}

int pa_program_read(pa_program *program, const int64_t *integers, size_t size, const float *values,
                    size_t values_size, const uint8_t *masks, size_t masks_size, pa_error error) {
    *program = (pa_program){0};
    pa_reader from = {.program = program, .integers = integers, .size = size,
                      .values = values, .values_size = values_size,
                      .masks = masks, .masks_size = masks_size, .error = error};
    if (read_header(&from)) return -1;
    for (int32_t i = 0; i < program->inputs; i++)
        if (read_input(&from, i)) return -1;
    if (read_outputs(&from) || read_operands(&from)) return -1;
    for (int32_t i = 0; i < program->weights; i++)
        if (read_weight(&from, i)) return -1;
    for (int32_t i = 0; i < program->instructions; i++)
        if (pa_read_instruction(&from, i)) return -1;
    if (from.position != size)
        return pa_fail(error, "%zu integers behind the end of the program", size - from.position);
    return 0;
}

void pa_program_free(pa_program *program) {
    free(program->shapes);
    free(program->output);
    free(program->operand);
    free(program->weight);
    free(program->instruction);
    *program = (pa_program){0};
}
