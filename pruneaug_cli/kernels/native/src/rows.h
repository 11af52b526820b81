/* What happens to rows besides products: sums, activations, normalisation, joining. */
#ifndef PRUNEAUG_ROWS_H
#define PRUNEAUG_ROWS_H

#include <stdint.h>

#include "activation.h"

/* to = act(left + right), or act(left) when right is null; `count` floats. */
void pa_rows_add(const float *left, const float *right, pa_activation activation, float *to,
                 int64_t count);

/* Each row less its mean, over its deviation, times scale plus bias (per feature). */
typedef struct {
    const float *from;
    float *to;
    const float *scale, *bias;
    int64_t features;
    float epsilon;
} pa_normalisation;

/* Normalises rows first .. last - 1 of a pa_normalisation. */
void pa_rows_normalise(const void *normalisation, int32_t first, int32_t last);

/* Copies `samples` rows of `features` to rows that are `pitch` floats apart. */
void pa_rows_place(const float *from, int64_t features, int64_t samples, float *to, int64_t pitch);

#endif
