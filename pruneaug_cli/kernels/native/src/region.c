/* Runs a planned region: workspaces, and the steps one after the other. */
#include "region.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "crew.h"
#include "parallel.h"
#include "step.h"
#include "vector.h"
#include "watch.h"

struct pa_region {
    pa_plan plan;
    int64_t number;     /* in the order of creation, in this process */
    atomic_int helpers; /* that came to the last run */
    atomic_flag lock;   /* guards idle; held for a few instructions */
    pa_workspace *idle;
};

static atomic_llong created; /* regions, in this process */

enum {
    LINE_BYTES = 64,
    HUGE_PAGE = 1 << 21,
    LEAST_WORK = 1 << 22, /* multiply-adds to share that are worth calling a crew: 60 us */
};

/* -- workspaces ----------------------------------------------------------------------------- */

static void free_workspace(pa_workspace *space) {
    if (!space) return;
    free(space->planes);
    free(space->rows);
    free(space->row);
    pa_scratch_free(&space->scratch);
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

static pa_workspace *make_workspace(const pa_plan *plan) {
    pa_workspace *space = calloc(1, sizeof *space);
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

static pa_workspace *borrow_workspace(pa_region *region) {
    lock(region);
    pa_workspace *space = region->idle;
    if (space) region->idle = space->next;
    unlock(region);
    return space ? space : make_workspace(&region->plan);
}

static void return_workspace(pa_region *region, pa_workspace *space) {
    lock(region);
    space->next = region->idle;
    region->idle = space;
    unlock(region);
}

/* -- rows ----------------------------------------------------------------------------------- */

/* Points every value that is rows to its memory: the caller's, or a place in the arena. */
static int place_rows(const pa_run *call) {
    const pa_plan *plan = call->plan;
    const pa_program *program = &plan->program;
    pa_workspace *space = call->space;
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
static void copy_repeated_outputs(const pa_run *call) {
    const pa_program *program = &call->plan->program;
    for (int32_t i = 0; i < program->outputs; i++) {
        int32_t value = program->output[i];
        const float *row = call->space->row[value];
        if (program->shapes[value].kind == PA_ROWS && row != call->outputs[i])
            memcpy(call->outputs[i], row,
                   (size_t)(call->samples * pa_value_size(program, value)) * sizeof(float));
    }
}

/* -- a run ---------------------------------------------------------------------------------- */

static void lap(int64_t *taken, int64_t *since) {
    int64_t now = pa_watch_now();
    *taken += now - *since;
    *since = now;
}

/* All steps; what each took is added to `taken` when somebody watches. */
static void run_steps(void *context, pa_crew *crew) {
    pa_run *call = context;
    const pa_plan *plan = call->plan;
    int64_t *taken = pa_watch_open(call->region, call->region->number, plan->steps + plan->row_steps);
    int64_t since = taken ? pa_watch_now() : 0;
    call->crew = crew;
    for (; call->sample < call->samples; call->sample++)
        for (int32_t i = 0; i < plan->steps; i++) {
            pa_run_step(call, &plan->step[i]);
            if (taken) lap(&taken[i], &since);
        }
    for (int32_t i = 0; i < plan->row_steps && !call->failed; i++) {
        call->failed = pa_run_row_step(call, &plan->row_step[i]);
        if (taken) lap(&taken[plan->steps + i], &since);
    }
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
    region->number = atomic_fetch_add(&created, 1);
    *out = region;
    return 0;
}

void pa_region_destroy(pa_region *region) {
    if (!region) return;
    while (region->idle) {
        pa_workspace *next = region->idle->next;
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
    pa_workspace *space = borrow_workspace(region);
    if (!space)
        return pa_fail(sink, "out of memory: the workspace takes %lld bytes",
                       (long long)plan->workspace * 4);
    pa_run call = {.region = region,
                   .plan = plan,
                   .space = space,
                   .samples = samples,
                   .inputs = inputs,
                   .outputs = outputs};
    call.failed = place_rows(&call);
    if (!call.failed && samples > 0) {
        int small = parallel && pa_plan_shareable(plan, samples) < LEAST_WORK;
        pa_crew_run(small ? NULL : parallel, &region->helpers, run_steps, &call);
        copy_repeated_outputs(&call);
    }
    return_workspace(region, space);
    return call.failed ? pa_fail(sink, "out of memory: %lld samples", (long long)samples) : 0;
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
