/* Samples to panels and back: rows of features become planes of samples. */
#ifndef PRUNEAUG_TRANSPOSE_H
#define PRUNEAUG_TRANSPOSE_H

#include <stdint.h>

#include "activation.h"

/* to[f * pitch + s] = from[s * features + f] for s < samples; zero from there to `padded`, a
 * multiple of 4 that is at most pitch. */
void pa_to_panel(const float *from, int64_t features, int64_t samples, int64_t padded, float *to,
                 int64_t pitch);

/* to[s * features + f] = act(from[f * pitch + s] + residual[s * features + f]). */
void pa_from_panel(const float *from, int64_t pitch, int64_t features, int64_t samples,
                   const float *residual, pa_activation activation, float *to);

#endif
