/* Runs a planned region: workspaces, and the steps one after the other. */
#include "region.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "parallel.h"
#include "planes.h"
#include "product.h"
#include "vector.h"
#include "watch.h"

/* Buffers of one run. The planes' zeros are written once, when it is made: every kernel keeps
 * them, so a workspace can serve run after run. */
typedef struct workspace {
    struct workspace *next;
    float *planes;
    float *rows;
    int64_t rows_size;
    float **row; /* per value that is rows */
} workspace;

struct pa_region {
    pa_plan plan;
    atomic_flag lock; /* guards idle; held for a few instructions */
    workspace *idle;
};

typedef struct { /* one call of pa_region_run */
    pa_region *region;
    workspace *space;
    int64_t samples, sample; /* how many; the one whose planes are being made */
    const float *const *inputs;
    float *const *outputs;
    const pa_parallel *parallel;
} run;

enum {
    LINE_BYTES = 64,
    HUGE_PAGE = 1 << 21,
};

/* -- workspaces ----------------------------------------------------------------------------- */

static void free_workspace(workspace *space) {
    if (!space) return;
    free(space->planes);
    free(space->rows);
    free(space->row);
    free(space);
}

/* Zeroed memory at a line, or at a huge page when it fills one: a kernel touches a plane per
 * entry, and small pages would run out of translation entries. */
static void *make_planes(size_t bytes) {
    size_t alignment = bytes >= HUGE_PAGE ? HUGE_PAGE : LINE_BYTES;
    bytes = (bytes + alignment) / alignment * alignment;
    void *memory = aligned_alloc(alignment, bytes);
    if (!memory) return NULL;
#if defined(__linux__)
    if (alignment == HUGE_PAGE) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    return memset(memory, 0, bytes);
}

static workspace *make_workspace(const pa_plan *plan) {
    workspace *space = calloc(1, sizeof *space);
    if (!space) return NULL;
    space->planes = make_planes((size_t)plan->workspace * sizeof(float));
    space->row = calloc((size_t)plan->program.values, sizeof *space->row);
    if (!space->planes || !space->row) {
        free_workspace(space);
        return NULL;
    }
    return space;
}

static void lock(pa_region *region) {
    while (atomic_flag_test_and_set_explicit(&region->lock, memory_order_acquire)) {
    }
}

static void unlock(pa_region *region) {
    atomic_flag_clear_explicit(&region->lock, memory_order_release);
}

static workspace *borrow_workspace(pa_region *region) {
    lock(region);
    workspace *space = region->idle;
    if (space) region->idle = space->next;
    unlock(region);
    return space ? space : make_workspace(&region->plan);
}

static void return_workspace(pa_region *region, workspace *space) {
    lock(region);
    space->next = region->idle;
    region->idle = space;
    unlock(region);
}

/* -- steps on planes ------------------------------------------------------------------------ */

static int64_t value_size(const pa_program *program, int32_t value) {
    const pa_shape *shape = &program->shapes[value];
    return (int64_t)shape->channels * shape->height * shape->width;
}

static float *slot_data(const run *call, int32_t slot) {
    const pa_plan *plan = &call->region->plan;
    const pa_slot *where = &plan->slot[slot];
    if (where->port < 0) return call->space->planes + plan->buffer[where->buffer].place;
    if (!where->is_output) /* only ever read */
        return (float *)call->inputs[where->port] +
               call->sample * value_size(&plan->program, where->port);
    return call->outputs[where->port] +
           call->sample * value_size(&plan->program, plan->program.output[where->port]);
}

static pa_planes view(const run *call, int32_t value, int32_t slot) {
    const pa_plan *plan = &call->region->plan;
    const pa_shape *shape = &plan->program.shapes[value];
    const pa_layout *layout = &plan->layout[plan->layout_of[value]];
    return (pa_planes){slot_data(call, slot), shape->channels, shape->height, shape->width,
                       layout->pitch,         layout->stride,  layout->vectors, layout->keep};
}

static void run_conv(const run *call, const pa_step *step) {
    const pa_plan *plan = &call->region->plan;
    const pa_layout *layout = &plan->layout[plan->layout_of[step->op->result]];
    const pa_conv *conv = &plan->conv[step->item];
    pa_product product = {
        .strips = &conv->strips,
        .bias = conv->bias,
        .x = slot_data(call, step->source),
        .y = slot_data(call, step->result),
        .residual = step->residual >= 0 ? slot_data(call, step->residual) : NULL,
        .keep = layout->keep,
        .lanes = conv->lanes,
        .y_stride = layout->stride,
        .vectors = layout->vectors,
        .activation = step->op->activation,
        .planes = plan->slot[step->source].planes,
    };
    pa_run_strips(call->parallel, &conv->strips, (int64_t)layout->vectors * PA_LANES,
                  pa_product_run, &product);
}

static void run_split(const run *call, const pa_step *step) {
    const pa_slot *slot = &call->region->plan.slot[step->result];
    pa_planes from = view(call, step->op->source, step->source);
    pa_planes_split(&call->region->plan.split[step->item], &from, slot_data(call, step->result),
                    slot->stride, slot->pitch);
}

static void run_to_rows(const run *call, const pa_step *step) {
    const pa_instruction *op = step->op;
    pa_planes from = view(call, op->source, step->source);
    int64_t features = call->region->plan.program.shapes[op->result].channels;
    float *row = call->space->row[op->result] + call->sample * features;
    if (op->opcode == PA_FLATTEN)
        pa_planes_store(&from, row);
    else
        pa_planes_mean(&from, row);
}

static void run_compute(const run *call, const pa_step *step) {
    const pa_instruction *op = step->op;
    if (op->opcode == PA_CONV) {
        run_conv(call, step);
        return;
    }
    if (step->result < 0) {
        run_to_rows(call, step);
        return;
    }
    pa_planes from = view(call, op->source, step->source);
    pa_planes to = view(call, op->result, step->result);
    if (op->opcode == PA_ADD) {
        pa_planes right = view(call, op->residual, step->residual);
        pa_planes_add(&from, &right, op->activation, &to);
    } else if (op->opcode == PA_ACTIVATE) {
        pa_planes_activate(&from, op->activation, &to);
    } else if (op->opcode == PA_MAX_POOL) {
        pa_planes_max_pool(&from, &op->window, &to);
    } else if (op->opcode == PA_AVERAGE_POOL) {
        pa_planes_average_pool(&from, &op->window, op->count_include_pad, &to);
    } else {
        pa_planes_subsample(&from, op->window.stride, op->before, &to);
    }
}

static void run_step(const run *call, const pa_step *step) {
    int64_t sample = call->sample;
    const pa_program *program = &call->region->plan.program;
    if (step->kind == PA_STEP_LOAD) {
        pa_planes to = view(call, step->port, step->result);
        pa_planes_load(call->inputs[step->port] + sample * value_size(program, step->port), &to);
    } else if (step->kind == PA_STEP_STORE) {
        int32_t value = program->output[step->port];
        pa_planes from = view(call, value, step->source);
        pa_planes_store(&from, call->outputs[step->port] + sample * value_size(program, value));
    } else if (step->kind == PA_STEP_SPLIT) {
        run_split(call, step);
    } else {
        run_compute(call, step);
    }
}

/* -- steps on rows -------------------------------------------------------------------------- */

static void run_elementwise(const float *left, const float *right, pa_activation activation,
                            float *to, int64_t count) {
    for (int64_t i = 0; i < count; i++) to[i] = right ? left[i] + right[i] : left[i];
    pa_activate_span(to, count, NULL, activation);
}

static int run_row_step(const run *call, const pa_step *step) {
    const pa_plan *plan = &call->region->plan;
    const pa_instruction *op = step->op;
    float **row = call->space->row;
    const float *residual = op->residual >= 0 ? row[op->residual] : NULL;
    if (op->opcode == PA_LINEAR) {
        pa_rows rows = {row[op->source], residual, row[op->result], call->samples,
                        op->activation};
        return pa_linear_run(&plan->linear[step->item], &rows, call->parallel);
    }
    run_elementwise(row[op->source], residual, op->activation, row[op->result],
                    call->samples * value_size(&plan->program, op->result));
    return 0;
}

/* Points every value that is rows to its memory: the caller's, or a place in the arena. */
static int place_rows(const run *call) {
    const pa_plan *plan = &call->region->plan;
    const pa_program *program = &plan->program;
    workspace *space = call->space;
    if (plan->row_floats > 0 && call->samples > INT64_MAX / 64 / plan->row_floats) return -1;
    int64_t needed = plan->row_floats * call->samples;
    if (needed > space->rows_size) {
        free(space->rows);
        space->rows = malloc((size_t)needed * sizeof(float));
        space->rows_size = space->rows ? needed : 0;
        if (!space->rows) return -1;
    }
    for (int32_t v = 0; v < program->values; v++) {
        if (plan->row_place[v] >= 0) space->row[v] = space->rows + plan->row_place[v] * call->samples;
        if (v < program->inputs) space->row[v] = (float *)call->inputs[v]; /* only ever read */
    }
    for (int32_t i = program->outputs - 1; i >= 0; i--)
        if (program->shapes[program->output[i]].kind == PA_ROWS)
            space->row[program->output[i]] = call->outputs[i];
    return 0;
}

/* A value that leaves the region twice was written to the first of its outputs. */
static void copy_repeated_outputs(const run *call) {
    const pa_program *program = &call->region->plan.program;
    for (int32_t i = 0; i < program->outputs; i++) {
        int32_t value = program->output[i];
        const float *row = call->space->row[value];
        if (program->shapes[value].kind == PA_ROWS && row != call->outputs[i])
            memcpy(call->outputs[i], row,
                   (size_t)(call->samples * value_size(program, value)) * sizeof(float));
    }
}

/* -- a run ---------------------------------------------------------------------------------- */

static void lap(int64_t *taken, int64_t *since) {
    int64_t now = pa_watch_now();
    *taken += now - *since;
    *since = now;
}

/* All steps; what each took is added to `taken` when somebody watches. */
static int run_steps(run *call) {
    const pa_plan *plan = &call->region->plan;
    int64_t *taken = pa_watch_open(call->region, plan->steps + plan->row_steps);
    int64_t since = taken ? pa_watch_now() : 0;
    int failed = 0;
    for (; call->sample < call->samples; call->sample++)
        for (int32_t i = 0; i < plan->steps; i++) {
            run_step(call, &plan->step[i]);
            if (taken) lap(&taken[i], &since);
        }
    for (int32_t i = 0; i < plan->row_steps && !failed; i++) {
        failed = run_row_step(call, &plan->row_step[i]);
        if (taken) lap(&taken[plan->steps + i], &since);
    }
    return failed;
}

/* -- the interface -------------------------------------------------------------------------- */

int pa_region_create(const int64_t *program, size_t program_size, const float *values,
                     size_t values_size, const uint8_t *masks, size_t masks_size, pa_region **out,
                     char *error, size_t error_size) {
    pa_error sink = {error, error_size};
    pa_region *region = calloc(1, sizeof *region);
    *out = NULL;
    if (!region) return pa_fail(sink, "out of memory");
    atomic_flag_clear(&region->lock);
    if (pa_program_read(&region->plan.program, program, program_size, values, values_size, masks,
                        masks_size, sink) ||
        pa_plan_make(&region->plan, sink)) {
        pa_region_destroy(region);
        return -1;
    }
    *out = region;
    return 0;
}

void pa_region_destroy(pa_region *region) {
    if (!region) return;
    while (region->idle) {
        workspace *next = region->idle->next;
        free_workspace(region->idle);
        region->idle = next;
    }
    pa_plan_free(&region->plan);
    free(region);
}

int pa_region_run(pa_region *region, int64_t samples, const float *const *inputs,
                  float *const *outputs, const pa_parallel *parallel, char *error,
                  size_t error_size) {
    pa_error sink = {error, error_size};
    const pa_plan *plan = &region->plan;
    if (samples < 0) return pa_fail(sink, "%lld samples", (long long)samples);
    workspace *space = borrow_workspace(region);
    if (!space)
        return pa_fail(sink, "out of memory: the workspace takes %lld bytes",
                       (long long)plan->workspace * 4);
    run call = {region, space, samples, 0, inputs, outputs, parallel};
    int failed = place_rows(&call);
    if (!failed && samples > 0) failed = run_steps(&call);
    if (!failed && samples > 0) copy_repeated_outputs(&call);
    return_workspace(region, space);
    return failed ? pa_fail(sink, "out of memory: %lld samples", (long long)samples) : 0;
}

static void describe(const pa_shape *shape, int32_t *kind, int64_t dims[3]) {
    int planes = shape->kind == PA_PLANES;
    *kind = shape->kind;
    dims[0] = shape->channels;
    dims[1] = planes ? shape->height : 0;
    dims[2] = planes ? shape->width : 0;
}

size_t pa_region_inputs(const pa_region *region) { return (size_t)region->plan.program.inputs; }

size_t pa_region_outputs(const pa_region *region) { return (size_t)region->plan.program.outputs; }

void pa_region_input(const pa_region *region, size_t index, int32_t *kind, int64_t dims[3]) {
    describe(&region->plan.program.shapes[index], kind, dims);
}

void pa_region_output(const pa_region *region, size_t index, int32_t *kind, int64_t dims[3]) {
    const pa_program *program = &region->plan.program;
    describe(&program->shapes[program->output[index]], kind, dims);
}

void pa_region_memory(const pa_region *region, size_t *weights_bytes, size_t *workspace_bytes) {
    const pa_plan *plan = &region->plan;
    *weights_bytes = (size_t)pa_plan_weight_bytes(plan);
    *workspace_bytes = (size_t)(plan->workspace + plan->row_floats) * sizeof(float);
}

size_t pa_region_steps(const pa_region *region) {
    return (size_t)region->plan.steps + (size_t)region->plan.row_steps;
}

void pa_region_step(const pa_region *region, size_t index, int32_t *kind, int32_t *number) {
    const pa_plan *plan = &region->plan;
    size_t planes = (size_t)plan->steps;
    const pa_step *step = index < planes ? &plan->step[index] : &plan->row_step[index - planes];
    *kind = step->kind;
    *number = step->op ? (int32_t)(step->op - plan->program.instruction) : step->port;
}

const char *pa_version(void) { return "0.1.0"; }

const char *pa_isa(void) { return PA_ISA; }
