/* Samples to panels and back: rows of features become planes of samples. */
#ifndef PRUNEAUG_TRANSPOSE_H
#define PRUNEAUG_TRANSPOSE_H

#include <stdint.h>

#include "activation.h"

/* to[f * pitch + s] = from[s * features + f] for s < samples, at most pitch, which is 12 or a
 * multiple of 16. Other samples hold numbers or what was there before. */
void pa_to_panel(const float *from, int64_t features, int64_t samples, float *to, int64_t pitch);

/* to[s * features + f] = act(from[f * pitch + s] + residual[s * features + f]). */
void pa_from_panel(const float *from, int64_t pitch, int64_t features, int64_t samples,
                   const float *residual, pa_activation activation, float *to);

#endif
