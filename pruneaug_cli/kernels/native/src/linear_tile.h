/* Token-major tiles for one vector type; linear.c includes this once per type.
 *
 * Needs LANES and NAME(x). A strip has RV vectors of outputs; a tile makes them for NT samples.
 * Per entry it loads RV vectors of weights and broadcasts one input per sample. */

typedef float NAME(vec) __attribute__((vector_size(4 * LANES)));
typedef float NAME(memory) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t NAME(bits) __attribute__((vector_size(4 * LANES)));

PA_INLINE NAME(vec) NAME(load)(const float *from) { return *(const NAME(memory) *)from; }

PA_INLINE NAME(vec) NAME(relu)(NAME(vec) x) { /* NaN passes */
    return (NAME(vec))((NAME(bits))x & ~(x < (NAME(vec)){0}));
}

/* Residual and activation, then the strip's outputs of one sample. A strip that pads goes through
 * memory of its own: nothing outside its rows is read or written. */
PA_INLINE void NAME(finish)(const pa_linear *l, const pa_rows *rows, const pa_strip *strip,
                            int64_t sample, NAME(vec) acc[4], const int RV) {
    int64_t place = sample * l->rows + strip->row;
    if (strip->rows != strip->height) {
        float sums[4 * LANES];
#pragma GCC unroll 4
        for (int r = 0; r < RV; r++) *(NAME(memory) *)(sums + r * LANES) = acc[r];
        finish_part(rows, sums, place, strip->rows);
        return;
    }
#pragma GCC unroll 4
    for (int r = 0; r < RV; r++) {
        NAME(vec) value = acc[r];
        if (rows->residual) value += NAME(load)(rows->residual + place + r * LANES);
        if (rows->activation.kind == PA_ACT_RELU) value = NAME(relu)(value);
        *(NAME(memory) *)(rows->y + place + r * LANES) = value;
    }
    if (rows->activation.kind > PA_ACT_RELU)
        pa_activate_span(rows->y + place, RV * LANES, NULL, rows->activation);
}

PA_INLINE void NAME(accumulate)(const float *x, int64_t K, const int32_t *offset,
                                const float *weight, int32_t entries, NAME(vec) acc[8][4],
                                const int RV, const int NT) {
    for (int32_t e = 0; e < entries; e++) {
        const float *from = x + *offset++;
        NAME(vec) w[4];
#pragma GCC unroll 4
        for (int r = 0; r < RV; r++) {
            w[r] = NAME(load)(weight + r * LANES);
            __builtin_prefetch(weight + AHEAD + r * LANES);
        }
#pragma GCC unroll 8
        for (int n = 0; n < NT; n++)
#pragma GCC unroll 4
            for (int r = 0; r < RV; r++) acc[n][r] += w[r] * from[n * K];
        weight += RV * LANES;
    }
}

PA_INLINE void NAME(tile)(const pa_linear *l, const pa_rows *rows, int32_t first, int32_t last,
                          int64_t sample, const int RV, const int NT) {
    for (int32_t s = first; s < last; s++) {
        const pa_strip *strip = &l->tokens.strip[s];
        NAME(vec) acc[8][4];
#pragma GCC unroll 8
        for (int n = 0; n < NT; n++)
#pragma GCC unroll 4
            for (int r = 0; r < RV; r++) acc[n][r] = NAME(load)(l->bias + strip->row + r * LANES);
        NAME(accumulate)(rows->x + sample * l->cols, l->cols, l->tokens.offsets + strip->offset,
                         l->tokens.values + strip->value, strip->entries, acc, RV, NT);
#pragma GCC unroll 8
        for (int n = 0; n < NT; n++) NAME(finish)(l, rows, strip, sample + n, acc[n], RV);
    }
}

/* One sample: U entries at a time, each with accumulators of its own, so that the additions of
 * one do not wait for those of the other. */
PA_INLINE void NAME(single)(const pa_linear *l, const pa_rows *rows, int32_t first, int32_t last,
                            int64_t sample, const int RV, const int U) {
    const float *x = rows->x + sample * l->cols;
    for (int32_t s = first; s < last; s++) {
        const pa_strip *strip = &l->tokens.strip[s];
        const int32_t *offset = l->tokens.offsets + strip->offset;
        const float *weight = l->tokens.values + strip->value;
        NAME(vec) acc[8][4] = {0};
        int32_t e = 0;
        for (; e + U <= strip->entries; e += U, weight += U * RV * LANES)
#pragma GCC unroll 8
            for (int u = 0; u < U; u++)
#pragma GCC unroll 4
                for (int r = 0; r < RV; r++) {
                    const float *w = weight + (u * RV + r) * LANES;
                    __builtin_prefetch(w + AHEAD);
                    acc[u][r] += NAME(load)(w) * x[offset[e + u]];
                }
        for (; e < strip->entries; e++, weight += RV * LANES)
#pragma GCC unroll 4
            for (int r = 0; r < RV; r++)
                acc[0][r] += NAME(load)(weight + r * LANES) * x[offset[e]];
#pragma GCC unroll 4
        for (int r = 0; r < RV; r++) {
            acc[0][r] += NAME(load)(l->bias + strip->row + r * LANES);
#pragma GCC unroll 8
            for (int u = 1; u < U; u++) acc[0][r] += acc[u][r];
        }
        NAME(finish)(l, rows, strip, sample, acc[0], RV);
    }
}

/* One entry for NT packed samples. */
PA_INLINE void NAME(entry)(const float *from, const float *weight, NAME(vec) acc[][4],
                           const int RV, const int NT) {
    NAME(vec) w[4];
#pragma GCC unroll 4
    for (int r = 0; r < RV; r++) w[r] = NAME(load)(weight + r * LANES);
#pragma GCC unroll 12
    for (int n = 0; n < NT; n++)
#pragma GCC unroll 4
        for (int r = 0; r < RV; r++) acc[n][r] += w[r] * from[n];
}

/* NT samples of a packed tile. U entries at a time, as with one sample, where additions would wait
 * for each other. */
PA_INLINE void NAME(packed)(const pa_linear *l, const pa_rows *rows, const packed_part *part,
                            const float *x, int64_t sample, const int RV, const int NT,
                            const int U) {
    const pa_strip *strip = part->strip;
    const int32_t *offset = part->offset, entries = part->entries;
    const float *weight = part->weight, *later = part->later;
    const int64_t step = part->step, valid = rows->samples - sample;
    NAME(vec) acc[PA_ACCUMULATORS][4];
#pragma GCC unroll 24
    for (int n = 0; n < U * NT; n++)
#pragma GCC unroll 4
        for (int r = 0; r < RV; r++)
            acc[n][r] = n < NT ? NAME(load)(l->bias + strip->row + r * LANES) : (NAME(vec)){0};
    if (!part->first)
#pragma GCC unroll 12
        for (int n = 0; n < NT; n++)
#pragma GCC unroll 4
            for (int r = 0; r < RV; r++)
                acc[n][r] = NAME(load)(part->sums + (n * RV + r) * LANES);
    float *y = rows->y + sample * l->rows + strip->row;
    if (part->fetch && part->last)
#pragma GCC unroll 12
        for (int n = 0; n < NT; n++)
#pragma GCC unroll 4
            for (int r = 0; r < RV; r++) __builtin_prefetch(y + n * l->rows + r * LANES, 1);
    int32_t e = 0;
#pragma GCC unroll 2
    for (; e + U <= entries; e += U)
#pragma GCC unroll 2
        for (int u = 0; u < U; u++, weight += RV * LANES, later += step) {
            const float *soon = x + offset[e + u + SOON];
            __builtin_prefetch(soon);
            __builtin_prefetch(soon + NT - 1);
            __builtin_prefetch(later, 0, 2);
            NAME(entry)(x + offset[e + u], weight, acc + u * NT, RV, NT);
        }
    if (e < entries) NAME(entry)(x + offset[e], weight, acc, RV, NT);
#pragma GCC unroll 12
    for (int n = 0; n < NT && U > 1; n++)
#pragma GCC unroll 4
        for (int r = 0; r < RV; r++) acc[n][r] += acc[NT + n][r];
    if (!part->last) {
#pragma GCC unroll 12
        for (int n = 0; n < NT; n++)
#pragma GCC unroll 4
            for (int r = 0; r < RV; r++)
                *(NAME(memory) *)(part->sums + (n * RV + r) * LANES) = acc[n][r];
        return;
    }
    if (strip->rows != strip->height || valid < NT) {
#pragma GCC unroll 12
        for (int n = 0; n < NT; n++)
            if (n < valid) NAME(finish)(l, rows, strip, sample + n, acc[n], RV);
        return;
    }
    const int64_t place = sample * l->rows + strip->row;
    if (rows->residual)
#pragma GCC unroll 12
        for (int n = 0; n < NT; n++)
#pragma GCC unroll 4
            for (int r = 0; r < RV; r++)
                acc[n][r] += NAME(load)(rows->residual + place + n * l->rows + r * LANES);
    if (rows->activation.kind == PA_ACT_RELU)
#pragma GCC unroll 12
        for (int n = 0; n < NT; n++)
#pragma GCC unroll 4
            for (int r = 0; r < RV; r++) acc[n][r] = NAME(relu)(acc[n][r]);
#pragma GCC unroll 12
    for (int n = 0; n < NT; n++) {
#pragma GCC unroll 4
        for (int r = 0; r < RV; r++) *(NAME(memory) *)(y + n * l->rows + r * LANES) = acc[n][r];
        if (rows->activation.kind > PA_ACT_RELU)
            pa_activate_span(y + n * l->rows, RV * LANES, 0, rows->activation);
    }
}
