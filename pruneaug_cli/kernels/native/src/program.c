/* Reads the integer encoding of a region (pruneaug_cli/kernels/encoding.py) and trusts nothing:
 * each count, offset, value number and size is checked before anything is allocated from it or
 * addressed with it. What leaves this file is consistent. */
#include "program.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "region.h"

enum { VERSION = 2, HEADER = 6, INPUT = 4, WEIGHT = 7, INSTRUCTION = 20, PARAMETERS = 8 };

/* Products of two sizes stay below 2^48 and of a size and a count below 2^62: no int64 overflows.
 * Far above real networks, far below what would make an index wrap. */
#define MOST_RECORDS 65536
#define MOST_SIZE ((int64_t)1 << 24)
#define MOST_WINDOW ((int64_t)1 << 12)
#define MOST_ELEMENTS ((int64_t)1 << 28) /* floats of one value, per sample: 1 GiB */

typedef struct {
    pa_program *program;
    const int64_t *integers;
    size_t size, position;
    const float *values;
    size_t values_size;
    const uint8_t *masks;
    size_t masks_size;
    pa_error error;
} reader;

int pa_fail(pa_error error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    if (error.text && error.size) vsnprintf(error.text, error.size, format, arguments);
    va_end(arguments);
    return -1;
}

static const char *opcode_name(int64_t opcode) {
    static const char *const names[] = {"?",           "Conv",    "Linear",      "Add",
                                        "Activate",    "MaxPool", "AveragePool", "GlobalAveragePool",
                                        "Flatten",     "Subsample", "Concat",      "LayerNorm"};
    return names[opcode >= PA_CONV && opcode <= PA_LAYER_NORM ? opcode : 0];
}

/* The next `count` integers, or null when the program ends before. */
static const int64_t *take(reader *from, size_t count) {
    if (count > from->size - from->position) return NULL;
    const int64_t *record = from->integers + from->position;
    from->position += count;
    return record;
}

static int cut_short(const reader *from) {
    return pa_fail(from->error, "program ends after %zu integers", from->size);
}

static int within(int64_t value, int64_t low, int64_t high) { return value >= low && value <= high; }

static int read_header(reader *from) {
    pa_program *program = from->program;
    const int64_t *header = take(from, HEADER);
    if (!header) return cut_short(from);
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

static int make_shape(pa_shape *shape, int32_t kind, int64_t channels, int64_t height,
                      int64_t width) {
    if (!within(channels, 1, MOST_SIZE) || !within(height, 1, MOST_SIZE) ||
        !within(width, 1, MOST_SIZE) || height * width > MOST_ELEMENTS ||
        channels * (height * width) > MOST_ELEMENTS)
        return -1;
    *shape = (pa_shape){kind, (int32_t)channels, (int32_t)height, (int32_t)width};
    return 0;
}

static int read_input(reader *from, int32_t index) {
    const int64_t *record = take(from, INPUT);
    if (!record) return cut_short(from);
    pa_shape *shape = &from->program->shapes[index];
    int planes = record[0] == PA_PLANES;
    int rows = record[0] == PA_ROWS && record[2] == 0 && record[3] == 0;
    if ((!planes && !rows) ||
        make_shape(shape, (int32_t)record[0], record[1], rows ? 1 : record[2],
                   rows ? 1 : record[3]))
        return pa_fail(from->error, "input %d: bad shape %lld: %lld x %lld x %lld", index,
                       (long long)record[0], (long long)record[1], (long long)record[2],
                       (long long)record[3]);
    return 0;
}

/* `count` floats from `offset`, or null when they do not lie in the blob. */
static const float *floats(const reader *from, int64_t offset, int64_t count) {
    if (offset < 0 || count < 0 || (uint64_t)offset > from->values_size ||
        (uint64_t)count > from->values_size - (uint64_t)offset)
        return NULL;
    return from->values + offset;
}

static int64_t ceiling(int64_t count, int64_t step) { return (count + step - 1) / step; }

int pa_weight_keeps(const pa_weight *weight, int64_t block_row, int64_t block_col) {
    if (!weight->mask) return 1;
    int64_t bit = block_row * ceiling(weight->cols, weight->block_cols) + block_col;
    return weight->mask[bit / 8] >> (7 - bit % 8) & 1;
}

static int read_mask(reader *from, int32_t index, const int64_t *record) {
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

static int read_weight(reader *from, int32_t index) {
    const int64_t *record = take(from, WEIGHT);
    if (!record) return cut_short(from);
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
    weight->values = floats(from, record[5], count);
    if (!weight->values)
        return pa_fail(from->error, "weight %d: values lie outside the blob of %zu floats", index,
                       from->values_size);
    return 0;
}

/* Output size of windows along one axis; 0 when there is none. */
static int64_t windows(int64_t size, int64_t kernel, int64_t stride, int64_t before, int64_t after,
                       int64_t dilation) {
    int64_t room = size + before + after - dilation * (kernel - 1) - 1;
    return room < 0 ? 0 : room / stride + 1;
}

static int read_window(pa_instruction *op, const int64_t *p, int has_dilation) {
    pa_window *window = &op->window;
    for (int i = 0; i < 8; i++)
        if (!within(p[i], i < 4 ? 1 : 0, MOST_WINDOW)) return -1;
    for (int i = 0; i < 2; i++) {
        if (has_dilation && !within(p[8 + i], 1, MOST_WINDOW)) return -1;
        window->kernel[i] = (int32_t)p[i];
        window->stride[i] = (int32_t)p[2 + i];
        window->dilation[i] = has_dilation ? (int32_t)p[8 + i] : 1;
    }
    for (int i = 0; i < 4; i++) window->pads[i] = (int32_t)p[4 + i];
    return 0;
}

static int window_result(const pa_window *w, const pa_shape *source, int64_t channels,
                         pa_shape *result) {
    return make_shape(result, PA_PLANES, channels,
                      windows(source->height, w->kernel[0], w->stride[0], w->pads[0], w->pads[2],
                              w->dilation[0]),
                      windows(source->width, w->kernel[1], w->stride[1], w->pads[1], w->pads[3],
                              w->dilation[1]));
}

static int same_shape(const pa_shape *a, const pa_shape *b) {
    return a->kind == b->kind && a->channels == b->channels && a->height == b->height &&
           a->width == b->width;
}

typedef struct { /* one instruction while it is being read */
    reader *from;
    pa_instruction *op;
    const int64_t *record;
    const pa_shape *source;
    pa_shape *result;
    int32_t index;
} reading;

__attribute__((format(printf, 2, 3))) static int refuse(const reading *at, const char *format,
                                                        ...) {
    char reason[160];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    return pa_fail(at->from->error, "instruction %d (%s): %s", at->index,
                   opcode_name(at->record[0]), reason);
}

/* Weight and bias of a conv or linear, and that the weight has `cols` columns. */
static int read_product(reading *at, int64_t cols) {
    pa_program *program = at->from->program;
    if (!within(at->record[2], 0, program->weights - 1))
        return refuse(at, "weight %lld does not exist", (long long)at->record[2]);
    at->op->weight = (int32_t)at->record[2];
    const pa_weight *weight = &program->weight[at->op->weight];
    if (cols != weight->cols)
        return refuse(at, "%lld inputs per output do not fit a %dx%d weight", (long long)cols,
                      weight->rows, weight->cols);
    if (at->record[3] != -1) {
        at->op->bias = floats(at->from, at->record[3], weight->rows);
        if (!at->op->bias)
            return refuse(at, "bias lies outside the blob of %zu floats", at->from->values_size);
    }
    return 0;
}

static int read_conv(reading *at) {
    pa_window *window = &at->op->window;
    if (read_window(at->op, at->record + PARAMETERS, 1)) return refuse(at, "bad window sizes");
    int64_t groups = at->record[PARAMETERS + 10], channels = at->source->channels;
    if (!within(groups, 1, channels) || channels % groups)
        return refuse(at, "%lld groups do not divide %lld channels", (long long)groups,
                      (long long)channels);
    at->op->groups = (int32_t)groups;
    if (read_product(at, channels / groups * window->kernel[0] * window->kernel[1])) return -1;
    int64_t rows = at->from->program->weight[at->op->weight].rows;
    if (rows % groups)
        return refuse(at, "%lld groups do not divide %lld outputs", (long long)groups,
                      (long long)rows);
    if (window_result(window, at->source, rows, at->result))
        return refuse(at, "no output positions, or too many");
    return 0;
}

static int read_linear(reading *at) {
    if (read_product(at, at->source->channels)) return -1;
    int64_t rows = at->from->program->weight[at->op->weight].rows;
    if (make_shape(at->result, PA_ROWS, rows, 1, 1)) return refuse(at, "too many outputs");
    return 0;
}

static int read_pool(reading *at) {
    pa_window *window = &at->op->window;
    if (read_window(at->op, at->record + PARAMETERS, 0)) return refuse(at, "bad window sizes");
    for (int i = 0; i < 4; i++)
        if (window->pads[i] >= window->kernel[i % 2])
            return refuse(at, "padding %d must be smaller than the kernel %d", window->pads[i],
                          window->kernel[i % 2]);
    if (at->op->opcode == PA_AVERAGE_POOL) at->op->count_include_pad = at->record[PARAMETERS + 8] != 0;
    if (window_result(window, at->source, at->source->channels, at->result))
        return refuse(at, "no output positions, or too many");
    return 0;
}

static int read_subsample(reading *at) {
    const int64_t *p = at->record + PARAMETERS;
    if (!within(p[0], 1, MOST_WINDOW) || !within(p[1], 1, MOST_WINDOW) ||
        !within(p[2], 0, MOST_SIZE) || !within(p[3], 0, MOST_SIZE))
        return refuse(at, "bad sizes");
    at->op->window.stride[0] = (int32_t)p[0];
    at->op->window.stride[1] = (int32_t)p[1];
    at->op->before = (int32_t)p[2];
    if (make_shape(at->result, PA_PLANES, p[2] + at->source->channels + p[3],
                   ceiling(at->source->height, p[0]), ceiling(at->source->width, p[1])))
        return refuse(at, "too many channels");
    return 0;
}

/* A float given by its bits. */
static int read_number(int64_t bits, float *number) {
    if (!within(bits, 0, UINT32_MAX)) return -1;
    uint32_t word = (uint32_t)bits;
    memcpy(number, &word, sizeof word);
    return *number == *number ? 0 : -1;
}

/* The values a concat joins; its result is as the first of them, with all their channels. */
static int read_concat(reading *at) {
    const pa_program *program = at->from->program;
    int64_t start = at->record[PARAMETERS], count = at->record[PARAMETERS + 1], channels = 0;
    if (!within(count, 2, program->operands) || !within(start, 0, program->operands - count))
        return refuse(at, "operands %lld to %lld of %d", (long long)start,
                      (long long)(start + (uint64_t)count), program->operands);
    at->op->operand = program->operand + start;
    at->op->operands = (int32_t)count;
    if (at->op->operand[0] != at->op->source)
        return refuse(at, "value %d is not the first of its operands", at->op->source);
    for (int64_t i = 0; i < count; i++) {
        int32_t value = at->op->operand[i];
        if (value >= at->op->result) return refuse(at, "value %d does not exist yet", value);
        const pa_shape *shape = &program->shapes[value];
        if (shape->kind != at->source->kind || shape->height != at->source->height ||
            shape->width != at->source->width)
            return refuse(at, "value %d does not have the height and width of the first", value);
        channels += shape->channels;
    }
    if (make_shape(at->result, at->source->kind, channels, at->source->height, at->source->width))
        return refuse(at, "too many channels");
    return 0;
}

static int read_layer_norm(reading *at) {
    int64_t features = at->record[PARAMETERS + 2];
    if (features != at->source->channels)
        return refuse(at, "a scale of %lld numbers does not fit %d features", (long long)features,
                      at->source->channels);
    at->op->scale = floats(at->from, at->record[PARAMETERS], features);
    if (at->record[3] != -1) at->op->bias = floats(at->from, at->record[3], features);
    if (!at->op->scale || (at->record[3] != -1 && !at->op->bias))
        return refuse(at, "scale or bias lies outside the blob of %zu floats",
                      at->from->values_size);
    if (read_number(at->record[PARAMETERS + 1], &at->op->epsilon) || !(at->op->epsilon >= 0) ||
        !isfinite(at->op->epsilon))
        return refuse(at, "bad epsilon %lld", (long long)at->record[PARAMETERS + 1]);
    *at->result = *at->source;
    return 0;
}

static int read_by_opcode(reading *at) {
    const pa_shape *source = at->source;
    switch (at->op->opcode) {
        case PA_CONV: return read_conv(at);
        case PA_LINEAR: return read_linear(at);
        case PA_ADD:
        case PA_ACTIVATE: *at->result = *source; return 0;
        case PA_MAX_POOL:
        case PA_AVERAGE_POOL: return read_pool(at);
        case PA_GLOBAL_AVERAGE_POOL: return make_shape(at->result, PA_ROWS, source->channels, 1, 1);
        case PA_FLATTEN:
            return make_shape(at->result, PA_ROWS,
                              (int64_t)source->channels * source->height * source->width, 1, 1)
                       ? refuse(at, "too many features")
                       : 0;
        case PA_SUBSAMPLE: return read_subsample(at);
        case PA_CONCAT: return read_concat(at);
        case PA_LAYER_NORM: return read_layer_norm(at);
    }
    return -1;
}

static int check_source(const reading *at, int64_t source) {
    if (!within(source, 0, at->op->result - 1))
        return refuse(at, "value %lld does not exist yet", (long long)source);
    int32_t kind = at->from->program->shapes[source].kind;
    pa_opcode opcode = at->op->opcode;
    int any = opcode == PA_ADD || opcode == PA_ACTIVATE || opcode == PA_CONCAT;
    int rows = opcode == PA_LINEAR || opcode == PA_LAYER_NORM;
    if (rows && kind != PA_ROWS)
        return refuse(at, "needs rows, value %lld is planes", (long long)source);
    if (!rows && !any && kind != PA_PLANES)
        return refuse(at, "needs planes, value %lld is rows", (long long)source);
    return 0;
}

static int read_activation(reading *at) {
    pa_activation *activation = &at->op->activation;
    int64_t kind = at->record[5];
    if (!within(kind, 0, PA_ACT_KINDS - 1))
        return refuse(at, "unknown activation %lld", (long long)kind);
    if (kind && at->op->opcode > PA_ACTIVATE)
        return refuse(at, "takes no activation, got %lld", (long long)kind);
    *activation = (pa_activation){.kind = (int32_t)kind};
    int numbers = read_number(at->record[6], &activation->low) ||
                  read_number(at->record[7], &activation->high);
    int takes_low = kind == PA_ACT_CLIP || kind == PA_ACT_HARD_SIGMOID || kind == PA_ACT_LEAKY_RELU;
    int takes_high = takes_low && kind != PA_ACT_LEAKY_RELU;
    if (numbers || (kind == PA_ACT_CLIP && activation->low > activation->high) ||
        (!takes_low && activation->low != 0) || (!takes_high && activation->high != 0) ||
        (kind != PA_ACT_CLIP && !(isfinite(activation->low) && isfinite(activation->high))))
        return refuse(at, "bad numbers %lld, %lld of activation %lld", (long long)at->record[6],
                      (long long)at->record[7], (long long)kind);
    return 0;
}

static int check_residual(const reading *at, int64_t residual) {
    int takes = at->op->opcode <= PA_ADD; /* conv, linear, add */
    if (residual == -1 && at->op->opcode != PA_ADD) return 0;
    if (!takes || !within(residual, 0, at->op->result - 1))
        return refuse(at, "value %lld does not exist yet", (long long)residual);
    if (!same_shape(&at->from->program->shapes[residual], at->result))
        return refuse(at, "value %lld does not have the shape of the result", (long long)residual);
    at->op->residual = (int32_t)residual;
    return 0;
}

static int read_instruction(reader *from, int32_t index) {
    pa_program *program = from->program;
    const int64_t *record = take(from, INSTRUCTION);
    if (!record) return cut_short(from);
    pa_instruction *op = &program->instruction[index];
    reading at = {from, op, record, NULL, NULL, index};
    if (!within(record[0], PA_CONV, PA_LAYER_NORM))
        return refuse(&at, "unknown opcode %lld", (long long)record[0]);
    op->opcode = (pa_opcode)record[0];
    if (read_activation(&at)) return -1;
    op->weight = op->residual = -1;
    op->result = program->inputs + index;
    if (check_source(&at, record[1])) return -1;
    op->source = (int32_t)record[1];
    at.source = &program->shapes[op->source];
    at.result = &program->shapes[op->result];
    if (read_by_opcode(&at)) return -1;
    return check_residual(&at, record[4]);
}

/* Each is checked again where it is used: it must exist by then. */
static int read_operands(reader *from) {
    pa_program *program = from->program;
    const int64_t *record = take(from, (size_t)program->operands);
    if (!record) return cut_short(from);
    for (int32_t i = 0; i < program->operands; i++) {
        if (!within(record[i], 0, program->values - 1))
            return pa_fail(from->error, "operand %d: value %lld does not exist", i,
                           (long long)record[i]);
        program->operand[i] = (int32_t)record[i];
    }
    return 0;
}

static int read_outputs(reader *from) {
    pa_program *program = from->program;
    const int64_t *record = take(from, (size_t)program->outputs);
    if (!record) return cut_short(from);
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
    reader from = {program, integers, size, 0, values, values_size, masks, masks_size, error};
    if (read_header(&from)) return -1;
    for (int32_t i = 0; i < program->inputs; i++)
        if (read_input(&from, i)) return -1;
    if (read_outputs(&from) || read_operands(&from)) return -1;
    for (int32_t i = 0; i < program->weights; i++)
        if (read_weight(&from, i)) return -1;
    for (int32_t i = 0; i < program->instructions; i++)
        if (read_instruction(&from, i)) return -1;
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
