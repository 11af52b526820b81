/* Activations in place, over floats that a product has just stored.
 *
 * exp, tanh and the normal distribution are polynomials fitted at Chebyshev nodes, evaluated in
 * float32; the errors given with them were measured over the whole range. Comparisons are written so
 * that NaN passes. */
#include "activation.h"

#include "vector.h"

PA_INLINE pa_vec where(pa_bits take, pa_vec yes, pa_vec no) {
    return (pa_vec)(((pa_bits)yes & take) | ((pa_bits)no & ~take));
}

PA_INLINE pa_vec clip(pa_vec x, float low, float high) {
    pa_vec a = pa_splat(low), b = pa_splat(high);
    x = where(x < a, a, x);
    return where(x > b, b, x);
}

PA_INLINE pa_vec polynomial(pa_vec x, const float *c, const int degree) {
    pa_vec sum = pa_splat(c[degree]);
#pragma GCC unroll 8
    for (int i = degree - 1; i >= 0; i--) sum = sum * x + pa_splat(c[i]);
    return sum;
}

/* 2^n * exp(r) with |r| <= log(2) / 2, for -87 <= x <= 88; relative error 2e-7. */
PA_INLINE pa_vec exponential_inside(pa_vec x) {
    static const float c[] = {1.0f,         1.0f,         0.5f,         0.16666415f,
                              0.041666217f, 0.0083751306f, 0.0013948584f};
    const pa_vec round = pa_splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    pa_vec shifted = x * pa_splat(1.44269504f) + round, n = shifted - round;
    pa_vec r = x - n * pa_splat(0.693359375f);
    r -= n * pa_splat(-2.12194440e-4f); /* log(2) in two parts */
    pa_bits power = ((pa_bits)shifted << 23) + (pa_bits)pa_splat(1.0f);
    return polynomial(r, c, 6) * (pa_vec)power;
}

/* Of any number: 0 and infinity beyond the ends. */
PA_INLINE pa_vec exponential(pa_vec x) {
    pa_vec result = exponential_inside(clip(x, -87.0f, 88.0f));
    result = where(x < pa_splat(-87.0f), (pa_vec){0}, result);
    return where(x > pa_splat(88.0f), pa_splat(__builtin_inff()), result);
}

PA_INLINE pa_vec sigmoid(pa_vec x) { return pa_splat(1.0f) / (pa_splat(1.0f) + exponential(-x)); }

PA_INLINE pa_vec magnitude(pa_vec x) { return (pa_vec)((pa_bits)x & 0x7fffffff); }

PA_INLINE pa_vec with_sign(pa_vec x, pa_vec sign) {
    return (pa_vec)((pa_bits)x | ((pa_bits)sign & (int32_t)0x80000000));
}

/* Relative error 3e-7. Below 5/8: x * P(x^2); from there 1 - 2 / (exp(2 x) + 1). */
PA_INLINE pa_vec hyperbolic_tangent(pa_vec x) {
    static const float c[] = {1.0f,         -0.33333254f, 0.13330957f,
                              -0.053707067f, 0.020544905f, -0.0056076888f};
    pa_vec size = magnitude(x);
    pa_vec near = size * polynomial(size * size, c, 5);
    pa_vec far = pa_splat(1.0f) - pa_splat(2.0f) / (exponential(size + size) + pa_splat(1.0f));
    return with_sign(where(size < pa_splat(0.625f), near, far), x);
}

/* x * Phi(x), Phi the normal distribution's: Phi(-|x|) = exp(-Q(|x|)), which is 0 from 13 on.
 * Error 2e-7, of |x| where that is more than 1. */
PA_INLINE pa_vec gelu(pa_vec x) {
    static const float q[] = {0.69313914f,    0.79798955f,    0.31785986f,
                              0.037242766f,   -0.0057802205f, 0.00060804254f,
                              -3.8073409e-05f, 1.180979e-06f, -1.1818288e-08f};
    const pa_vec end = pa_splat(13.0f);
    pa_vec size = magnitude(x), inside = where(size > end, end, size);
    pa_vec tail = exponential_inside(-polynomial(inside, q, 8));
    tail = where(size > end, (pa_vec){0}, tail);
    return x * where(x > (pa_vec){0}, pa_splat(1.0f) - tail, tail);
}

/* 1 + tanh(u) = 2 * sigmoid(2 u). */
PA_INLINE pa_vec gelu_tanh(pa_vec x) {
    return x * sigmoid(pa_splat(1.59576912f) * (x + pa_splat(0.044715f) * x * x * x));
}

/* One loop per activation; the last vector goes through its first lanes alone. */
#define SPAN(NAME, RESULT)                                                                    \
    static void span_##NAME(float *y, int64_t count, const int8_t *keep, float a, float b) {  \
        (void)a, (void)b;                                                                     \
        int64_t i = 0;                                                                        \
        for (; i + PA_LANES <= count; i += PA_LANES) {                                        \
            pa_vec x = pa_load(y + i), result = RESULT;                                       \
            pa_store(y + i, keep ? pa_keep(result, pa_load_lanes(keep + i)) : result);        \
        }                                                                                     \
        if (i == count) return;                                                               \
        pa_vec x = pa_load_first(y + i, (int32_t)(count - i)), result = RESULT;               \
        pa_store_first(y + i, result, (int32_t)(count - i));                                  \
        for (; keep && i < count; i++) y[i] = keep[i] ? y[i] : 0.0f;                          \
    }

SPAN(none, x)
SPAN(relu, pa_relu(x))
SPAN(clip, clip(x, a, b))
SPAN(gelu, gelu(x))
SPAN(gelu_tanh, gelu_tanh(x))
SPAN(silu, x * sigmoid(x))
SPAN(sigmoid, sigmoid(x))
SPAN(tanh, hyperbolic_tangent(x))
SPAN(hard_swish, x * clip(x * pa_splat(1.0f / 6.0f) + pa_splat(0.5f), 0.0f, 1.0f))
SPAN(hard_sigmoid, clip(pa_splat(a) * x + pa_splat(b), 0.0f, 1.0f))
SPAN(leaky_relu, where(x < (pa_vec){0}, pa_splat(a) * x, x))

void pa_activate_span(float *y, int64_t count, const int8_t *keep, pa_activation activation) {
    static void (*const spans[PA_ACT_KINDS])(float *, int64_t, const int8_t *, float, float) = {
        [PA_ACT_NONE] = span_none,
        [PA_ACT_RELU] = span_relu,
        [PA_ACT_CLIP] = span_clip,
        [PA_ACT_GELU] = span_gelu,
        [PA_ACT_GELU_TANH] = span_gelu_tanh,
        [PA_ACT_SILU] = span_silu,
        [PA_ACT_SIGMOID] = span_sigmoid,
        [PA_ACT_TANH] = span_tanh,
        [PA_ACT_HARD_SWISH] = span_hard_swish,
        [PA_ACT_HARD_SIGMOID] = span_hard_sigmoid,
        [PA_ACT_LEAKY_RELU] = span_leaky_relu,
    };
    spans[activation.kind](y, count, keep, activation.low, activation.high);
}
