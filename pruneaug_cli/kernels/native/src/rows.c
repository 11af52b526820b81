/* Rows of features, one per sample; contiguous. */
#include "rows.h"

#include <math.h>
#include <string.h>

#include "vector.h"

void pa_rows_add(const float *left, const float *right, pa_activation activation, float *to,
                 int64_t count) {
    for (int64_t i = 0; i < count; i++) to[i] = right ? left[i] + right[i] : left[i];
    if (activation.kind != PA_ACT_NONE) pa_activate_span(to, count, 0, activation);
}

/* The sum of (x - mean)^power, power 1 or 2. Four vectors of partial sums: one addition does not
 * wait for the next, and rounding errors stay those of sums 64 times shorter. */
PA_INLINE float sum(const float *x, int64_t count, float mean, const int square) {
    pa_vec part[4] = {{0}};
    pa_vec middle = pa_splat(mean);
    int64_t i = 0;
    for (; i + 4 * PA_LANES <= count; i += 4 * PA_LANES)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            pa_vec value = pa_load(x + i + v * PA_LANES) - middle;
            part[v] += square ? value * value : value;
        }
    float total = 0.0f;
    for (; i < count; i++) total += square ? (x[i] - mean) * (x[i] - mean) : x[i] - mean;
    return total + pa_total((part[0] + part[1]) + (part[2] + part[3]));
}

static void normalise(const pa_normalisation *n, const float *from, float *to) {
    const int64_t features = n->features;
    float mean = sum(from, features, 0.0f, 0) / (float)features;
    float variance = sum(from, features, mean, 1) / (float)features;
    float over = 1.0f / sqrtf(variance + n->epsilon);
    int64_t i = 0;
    for (; i + PA_LANES <= features; i += PA_LANES) {
        pa_vec value = (pa_load(from + i) - pa_splat(mean)) * pa_splat(over);
        pa_store(to + i, value * pa_load(n->scale + i) + pa_load(n->bias + i));
    }
    for (; i < features; i++) to[i] = (from[i] - mean) * over * n->scale[i] + n->bias[i];
}

void pa_rows_normalise(const void *normalisation, int32_t first, int32_t last) {
    const pa_normalisation *n = normalisation;
    for (int64_t row = first; row < last; row++)
        normalise(n, n->from + row * n->features, n->to + row * n->features);
}

void pa_rows_place(const float *from, int64_t features, int64_t samples, float *to, int64_t pitch) {
    for (int64_t s = 0; s < samples; s++)
        memcpy(to + s * pitch, from + s * features, (size_t)features * sizeof(float));
}
