/* One run of a region, and its steps. */
#ifndef PRUNEAUG_STEP_H
#define PRUNEAUG_STEP_H

#include "crew.h"
#include "plan.h"

/* Buffers of one run, zero when they are made. Every kernel keeps the zeros between planes, and
 * the steps whose result lies where others lay clear them first: a workspace serves run after
 * run. */
typedef struct pa_workspace {
    struct pa_workspace *next;
    float *planes;
    float *rows;
    int64_t rows_size;
    float **row; /* per value that is rows */
    pa_scratch scratch;
} pa_workspace;

typedef struct { /* one call of pa_region_run */
    const pa_region *region;
    const pa_plan *plan;
    pa_workspace *space;
    int64_t samples, sample; /* how many; the one whose planes are being made */
    const float *const *inputs;
    float *const *outputs;
    pa_crew *crew;
    int failed; /* memory ran out */
} pa_run;

/* Floats of a value, per sample. */
int64_t pa_value_size(const pa_program *program, int32_t value);

void pa_run_step(const pa_run *call, const pa_step *step);

/* 0, or -1 when memory runs out. */
int pa_run_row_step(const pa_run *call, const pa_step *step);

#endif
