/* What happens to a sum before it is stored. */
#ifndef PRUNEAUG_ACTIVATION_H
#define PRUNEAUG_ACTIVATION_H

#include <stdint.h>

/* The numbers of pruneaug_cli/kernels/activation.py. Tiles do none and relu in registers and leave
 * the others, which have larger kinds, to pa_activate_span. */
typedef enum {
    PA_ACT_NONE = 0,
    PA_ACT_RELU = 1,
    PA_ACT_CLIP = 2,         /* min(max(x, low), high) */
    PA_ACT_GELU = 3,         /* x / 2 * (1 + erf(x / sqrt 2)) */
    PA_ACT_GELU_TANH = 4,    /* x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) */
    PA_ACT_SILU = 5,         /* x * sigmoid(x) */
    PA_ACT_SIGMOID = 6,
    PA_ACT_TANH = 7,
    PA_ACT_HARD_SWISH = 8,   /* x * min(max(x / 6 + 1 / 2, 0), 1) */
    PA_ACT_HARD_SIGMOID = 9, /* min(max(low * x + high, 0), 1) */
    PA_ACT_LEAKY_RELU = 10,  /* x < 0 ? low * x : x */
    PA_ACT_KINDS = 11,
} pa_activation_kind;

typedef struct {
    int32_t kind;
    float low, high; /* what they mean stands with the kind; else 0 */
} pa_activation;

/* Applies any activation in place; NaN stays NaN. Where `keep` is given and 0, the result is
 * zero: pads of planes stay zero whatever the activation makes of it. */
void pa_activate_span(float *y, int64_t count, const int8_t *keep, pa_activation activation);

#endif
