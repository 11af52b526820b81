/* Reads one instruction of a region's encoding: its record checked field by field, every value it
 * names looked up, the shape it makes inferred. The rules are those of
 * pruneaug_cli/kernels/inference.py. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "reader.h"
#include "region.h"

enum { INSTRUCTION = 20, PARAMETERS = 8 };

static const char *opcode_name(int64_t opcode) {
    static const char *const names[] = {"?",         "Conv",    "Linear",      "Add",
                                        "Activate",  "MaxPool", "AveragePool", "GlobalAveragePool",
                                        "Flatten",   "Subsample", "Concat",    "LayerNorm"};
    return names[opcode >= PA_CONV && opcode <= PA_LAYER_NORM ? opcode : 0];
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
    int64_t height = windows(source->height, w->kernel[0], w->stride[0], w->pads[0], w->pads[2],
                             w->dilation[0]);
    int64_t width = windows(source->width, w->kernel[1], w->stride[1], w->pads[1], w->pads[3],
                            w->dilation[1]);
    return pa_make_shape(result, PA_PLANES, channels, height, width);
}

static int same_shape(const pa_shape *a, const pa_shape *b) {
    return a->kind == b->kind && a->channels == b->channels && a->height == b->height &&
           a->width == b->width;
}

typedef struct { /* one instruction while it is being read */
    pa_reader *from;
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
    at->from->packed += weight->count;
    if (at->from->packed > MOST_PACKED)
        return refuse(at, "the weights up to here exceed %lld floats", (long long)MOST_PACKED);
    if (cols != weight->cols)
        return refuse(at, "%lld inputs per output do not fit a %dx%d weight", (long long)cols,
                      weight->rows, weight->cols);
    if (at->record[3] != -1) {
        at->op->bias = pa_floats(at->from, at->record[3], weight->rows);
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
    if (pa_make_shape(at->result, PA_ROWS, rows, 1, 1)) return refuse(at, "too many outputs");
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
    if (pa_make_shape(at->result, PA_PLANES, p[2] + at->source->channels + p[3],
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
    if (start != at->from->operands) /* each belongs to one concat: no more work than integers */
        return refuse(at, "its operands start at %lld, expected %lld", (long long)start,
                      (long long)at->from->operands);
    at->from->operands += count;
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
    if (pa_make_shape(at->result, at->source->kind, channels, at->source->height, at->source->width))
        return refuse(at, "too many channels");
    return 0;
}

static int read_layer_norm(reading *at) {
    int64_t features = at->record[PARAMETERS + 2];
    if (features != at->source->channels)
        return refuse(at, "a scale of %lld numbers does not fit %d features", (long long)features,
                      at->source->channels);
    at->op->scale = pa_floats(at->from, at->record[PARAMETERS], features);
    if (at->record[3] != -1) at->op->bias = pa_floats(at->from, at->record[3], features);
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
        case PA_GLOBAL_AVERAGE_POOL: return pa_make_shape(at->result, PA_ROWS, source->channels, 1, 1);
        case PA_FLATTEN:
            if (pa_make_shape(at->result, PA_ROWS,
                              (int64_t)source->channels * source->height * source->width, 1, 1))
                return refuse(at, "too many features");
            return 0;
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

int pa_read_instruction(pa_reader *from, int32_t index) {
    pa_program *program = from->program;
    const int64_t *record = pa_take(from, INSTRUCTION);
    if (!record) return pa_cut_short(from);
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
