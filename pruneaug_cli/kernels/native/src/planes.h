/* What happens to planes besides products: in, out, split, pooling and the element-wise rest. */
#ifndef PRUNEAUG_PLANES_H
#define PRUNEAUG_PLANES_H

#include "plan.h"

/* The planes of one value in memory. */
typedef struct {
    float *data;
    int32_t channels, height, width, pitch;
    int64_t stride;
    int32_t vectors; /* that cover a plane's rows, pads included */
    const int8_t *keep; /* per position of those vectors, 0 for pads; null: no pads */
} pa_planes;

void pa_planes_load(const float *contiguous, const pa_planes *to);
void pa_planes_store(const pa_planes *from, float *contiguous);
/* All phases of channels first .. last - 1. */
void pa_planes_split(const pa_split *split, const pa_planes *from, int32_t first, int32_t last,
                     float *to, int64_t to_stride, int32_t to_pitch);
/* Sums and activations over whole vectors: pads stay zero. */
void pa_planes_add(const pa_planes *left, const pa_planes *right, pa_activation activation,
                   const pa_planes *to);
void pa_planes_activate(const pa_planes *from, pa_activation activation, const pa_planes *to);
void pa_planes_max_pool(const pa_planes *from, const pa_window *window, const pa_planes *to);
void pa_planes_average_pool(const pa_planes *from, const pa_window *window, int include_pad,
                            const pa_planes *to);
/* Planes of one layout as they are, pads included. */
void pa_planes_copy(const pa_planes *from, float *to);
void pa_planes_mean(const pa_planes *from, float *features);
void pa_planes_subsample(const pa_planes *from, const int32_t stride[2], int32_t before,
                         const pa_planes *to);

#endif
