/* The product of a weight and rows: y[s] = act(W x[s] + bias + residual[s]). */
#ifndef PRUNEAUG_LINEAR_H
#define PRUNEAUG_LINEAR_H

#include <stdint.h>

#include "activation.h"
#include "crew.h"
#include "pack.h"

typedef struct {
    int32_t rows, cols;
    pa_strips tokens;        /* for the token-major kernel: a vector is a strip's outputs */
    int32_t *packed_offsets; /* of the entries of tokens, in packed samples; null beside channels */
    pa_strips channels; /* for the channel-major one: a vector is samples; empty: never better */
    int32_t channels_from; /* samples from which that one is better */
    int32_t panel;         /* samples it takes at a time */
    float *bias;
} pa_linear;

typedef struct {
    const float *x, *residual; /* (samples, cols), (samples, rows) or null */
    float *y;                  /* (samples, rows) */
    int64_t samples;
    pa_activation activation;
} pa_rows;

/* 0, or -1 when memory runs out. Free it in both cases. */
int pa_linear_make(pa_linear *linear, const pa_weight *weight, const float *bias);
void pa_linear_free(pa_linear *linear);
int64_t pa_linear_bytes(const pa_linear *linear);

/* Memory of products, kept from one to the next. */
typedef struct {
    float *floats;
    int64_t size;
} pa_scratch;

/* At the start of a cache line, or null when memory runs out. */
float *pa_scratch_take(pa_scratch *scratch, int64_t floats);
void pa_scratch_free(pa_scratch *scratch);

/* 0, or -1 when memory runs out. */
int pa_linear_run(const pa_linear *linear, const pa_rows *rows, pa_scratch *scratch,
                  pa_crew *crew);

#endif
