/* Depthwise convolution: each output plane from the input plane of the same channel. */
#ifndef PRUNEAUG_DEPTHWISE_H
#define PRUNEAUG_DEPTHWISE_H

#include <stdint.h>

#include "activation.h"

/* Plane c of y = act(sum over taps of weight[c][tap] * x[c * x_stride + offset[tap] ..] + bias[c]
 * + residual), for `vectors` vectors of consecutive positions. y is not x; it may be residual. */
typedef struct {
    const float *weight; /* [channels][taps] */
    const float *bias;
    const float *x;
    float *y;
    const float *residual; /* or null */
    const int32_t *offset; /* per tap */
    const uint8_t *group;  /* per tap: which flags of `lanes`; 0 reads all lanes */
    const int8_t *lanes;   /* [groups][lanes_stride] */
    int64_t lanes_stride;
    const int8_t *keep; /* per position, -1: store, 0: store zero; or null: store all */
    int64_t x_stride, y_stride;
    int32_t taps, groups, vectors;
    int32_t alike; /* the flags of a group are the same in each vector */
    pa_activation activation;
} pa_depthwise;

/* Computes planes first .. last - 1 of a pa_depthwise. */
void pa_depthwise_run(const void *depthwise, int32_t first, int32_t last);

#endif
