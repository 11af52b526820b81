/* Activations in place, over floats that a product has just stored. */
#include "activation.h"

#include <math.h>

static float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

/* Comparisons in this order let NaN pass. */
static float clip(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

static float activate(float x, pa_activation activation) {
    switch (activation.kind) {
        case PA_ACT_RELU: return x < 0.0f ? 0.0f : x;
        case PA_ACT_CLIP: return clip(x, activation.low, activation.high);
        case PA_ACT_GELU: return 0.5f * x * (1.0f + erff(x * 0.70710678f));
        case PA_ACT_GELU_TANH:
            return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
        case PA_ACT_SILU: return x * sigmoid(x);
        case PA_ACT_SIGMOID: return sigmoid(x);
        case PA_ACT_TANH: return tanhf(x);
        case PA_ACT_HARD_SWISH: return x * clip(x / 6.0f + 0.5f, 0.0f, 1.0f);
        case PA_ACT_HARD_SIGMOID: return clip(activation.low * x + activation.high, 0.0f, 1.0f);
        case PA_ACT_LEAKY_RELU: return x < 0.0f ? activation.low * x : x;
        default: return x;
    }
}

void pa_activate_span(float *y, int64_t count, const int8_t *keep, pa_activation activation) {
    for (int64_t i = 0; i < count; i++)
        y[i] = keep && !keep[i] ? 0.0f : activate(y[i], activation);
}
