/* One multiply-add per load: the loads are the bound, half of them across cache lines. Eight
 * vectors of positions at a time keep enough sums in flight, and one weight serves all eight. */
#include "depthwise.h"

#include "vector.h"

enum { WIDEST = 8 };

/* Whether taps read some lanes only: all lanes; the same lanes of each vector; or each its own. */
enum { ALL, ALIKE, EACH };

/* V vectors of positions of one plane, from position `at`. */
PA_INLINE void tile(const pa_depthwise *d, int32_t channel, int64_t at, const int masked,
                    const int V) {
    const float *weight = d->weight + (int64_t)channel * d->taps;
    const float *x = d->x + channel * d->x_stride + at;
    const int64_t place = channel * d->y_stride + at;
    pa_vec acc[WIDEST];
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) acc[v] = pa_splat(d->bias[channel]);
    for (int32_t t = 0; t < d->taps; t++) {
        const float *from = x + d->offset[t];
        const pa_vec w = pa_splat(weight[t]);
        if (masked && d->group[t]) {
            const int8_t *flags = d->lanes + d->group[t] * d->lanes_stride + (masked == EACH ? at : 0);
            pa_lanes lanes = pa_load_lanes(flags);
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) {
                if (masked == EACH && v) lanes = pa_load_lanes(flags + v * PA_LANES);
                acc[v] += pa_load_some(from + v * PA_LANES, lanes) * w;
            }
        } else {
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) acc[v] += pa_load(from + v * PA_LANES) * w;
        }
    }
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) {
        if (d->residual) acc[v] += pa_load(d->residual + place + v * PA_LANES);
        if (d->activation.kind == PA_ACT_RELU) acc[v] = pa_relu(acc[v]);
        if (d->keep) acc[v] = pa_keep(acc[v], pa_load_lanes(d->keep + at + v * PA_LANES));
        pa_store(d->y + place + v * PA_LANES, acc[v]);
    }
    if (d->activation.kind > PA_ACT_RELU)
        pa_activate_span(d->y + place, V * PA_LANES, d->keep ? d->keep + at : 0, d->activation);
}

#define PLANE(NAME, MASKED)                                                                \
    static void NAME(const pa_depthwise *d, int32_t channel) {                             \
        int32_t v = 0;                                                                     \
        for (; v + 8 <= d->vectors; v += 8) tile(d, channel, v * PA_LANES, MASKED, 8);     \
        for (; v + 4 <= d->vectors; v += 4) tile(d, channel, v * PA_LANES, MASKED, 4);     \
        for (; v < d->vectors; v++) tile(d, channel, v * PA_LANES, MASKED, 1);             \
    }

PLANE(plane, ALL)
PLANE(even_plane, ALIKE)
PLANE(uneven_plane, EACH)

void pa_depthwise_run(const void *depthwise, int32_t first, int32_t last) {
    const pa_depthwise *d = depthwise;
    for (int32_t channel = first; channel < last; channel++)
        if (d->groups == 1)
            plane(d, channel);
        else if (d->alike)
            even_plane(d, channel);
        else
            uneven_plane(d, channel);
}
