/* The one place that knows the machine: lanes per vector, and how many accumulators fit.
 *
 * Everything else is written with the compilers' vector extensions, so the same source serves
 * AVX-512, AVX2, SSE and NEON. */
#ifndef PRUNEAUG_VECTOR_H
#define PRUNEAUG_VECTOR_H

#include <stdint.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define PA_LANES 16
#define PA_ACCUMULATORS 24 /* of 32 registers: the rest hold inputs and a broadcast weight */
#define PA_ISA "avx512"
#elif defined(__AVX2__)
#define PA_LANES 8
#define PA_ACCUMULATORS 12 /* of 16 registers */
#define PA_ISA "avx2"
#elif defined(__ARM_NEON)
#define PA_LANES 4
#define PA_ACCUMULATORS 24 /* of 32 registers */
#define PA_ISA "neon"
#else
#define PA_LANES 4
#define PA_ACCUMULATORS 12
#if defined(__SSE2__)
#define PA_ISA "sse"
#else
#define PA_ISA "generic"
#endif
#endif

#define PA_INLINE static inline __attribute__((always_inline))

/* A register, the same in memory at any float's address, and its lanes as integers. */
typedef float pa_vec __attribute__((vector_size(4 * PA_LANES)));
typedef float pa_vec_memory __attribute__((vector_size(4 * PA_LANES), aligned(4), may_alias));
typedef int32_t pa_bits __attribute__((vector_size(4 * PA_LANES)));
typedef int8_t pa_lane_flags __attribute__((vector_size(PA_LANES), aligned(1), may_alias));

PA_INLINE pa_vec pa_load(const float *from) { return *(const pa_vec_memory *)from; }
PA_INLINE void pa_store(float *to, pa_vec value) { *(pa_vec_memory *)to = value; }
PA_INLINE pa_vec pa_splat(float value) { return value - (pa_vec){0}; } /* keeps -0 and NaN */

/* Some of the lanes, from one byte per lane, 0 or -1; what is read or kept is zero elsewhere, even
 * where memory holds NaN. With mask registers this is part of the load. */
#if defined(__AVX512F__)
typedef __mmask16 pa_lanes;
PA_INLINE pa_lanes pa_load_lanes(const int8_t *flags) {
    __m512i wide = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)flags));
    return _mm512_test_epi32_mask(wide, wide);
}
PA_INLINE pa_vec pa_load_some(const float *from, pa_lanes lanes) {
    return (pa_vec)_mm512_maskz_loadu_ps(lanes, from);
}
PA_INLINE pa_vec pa_keep(pa_vec value, pa_lanes lanes) {
    return (pa_vec)_mm512_maskz_mov_ps(lanes, (__m512)value);
}
#else
typedef pa_bits pa_lanes;
PA_INLINE pa_lanes pa_load_lanes(const int8_t *flags) {
    return __builtin_convertvector(*(const pa_lane_flags *)flags, pa_bits) != 0;
}
PA_INLINE pa_vec pa_keep(pa_vec value, pa_lanes lanes) { return (pa_vec)((pa_bits)value & lanes); }
PA_INLINE pa_vec pa_load_some(const float *from, pa_lanes lanes) {
    return pa_keep(pa_load(from), lanes);
}
#endif

/* The first `count` lanes (at most all of them), zero behind them; touches nothing further on. */
PA_INLINE pa_vec pa_load_first(const float *from, int32_t count) {
#if defined(__AVX512F__)
    return (pa_vec)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), from);
#else
    pa_vec value = {0};
    for (int32_t lane = 0; lane < count; lane++) value[lane] = from[lane];
    return value;
#endif
}

PA_INLINE void pa_store_first(float *to, pa_vec value, int32_t count) {
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(to, (__mmask16)((1u << count) - 1), (__m512)value);
#else
    for (int32_t lane = 0; lane < count; lane++) to[lane] = value[lane];
#endif
}

/* Lanes 0, 2, 4 ... and lanes 1, 3, 5 ... of two vectors in a row. */
#if PA_LANES == 16
#define PA_EVENS 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define PA_ODDS 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define PA_SHIFTED 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30
#elif PA_LANES == 8
#define PA_EVENS 0, 2, 4, 6, 8, 10, 12, 14
#define PA_ODDS 1, 3, 5, 7, 9, 11, 13, 15
#define PA_SHIFTED 7, 8, 9, 10, 11, 12, 13, 14
#else
#define PA_EVENS 0, 2, 4, 6
#define PA_ODDS 1, 3, 5, 7
#define PA_SHIFTED 3, 4, 5, 6
#endif
PA_INLINE pa_vec pa_evens(pa_vec low, pa_vec high) {
    return __builtin_shufflevector(low, high, PA_EVENS);
}
PA_INLINE pa_vec pa_odds(pa_vec low, pa_vec high) {
    return __builtin_shufflevector(low, high, PA_ODDS);
}

/* The last lane of one vector, then all lanes but the last of the next. */
PA_INLINE pa_vec pa_shift_in(pa_vec before, pa_vec value) {
    return __builtin_shufflevector(before, value, PA_SHIFTED);
}

/* The larger of two lanes; NaN when one of them is. */
PA_INLINE pa_vec pa_larger(pa_vec a, pa_vec b) {
#if defined(__AVX512F__)
    __m512 larger = _mm512_max_ps((__m512)a, (__m512)b); /* b where one is NaN */
    __mmask16 is_nan = _mm512_cmp_ps_mask((__m512)a, (__m512)a, _CMP_UNORD_Q);
    return (pa_vec)_mm512_mask_mov_ps(larger, is_nan, (__m512)a);
#else
    pa_bits take = (b > a) | (b != b);
    return (pa_vec)(((pa_bits)b & take) | ((pa_bits)a & ~take));
#endif
}

/* All lanes together, in halves: the same order on every run. */
PA_INLINE float pa_total(pa_vec value) {
    float lane[PA_LANES];
    pa_store(lane, value);
    for (int32_t half = PA_LANES / 2; half > 0; half /= 2)
        for (int32_t i = 0; i < half; i++) lane[i] += lane[i + half];
    return lane[0];
}

/* x < 0 ? 0 : x, so that NaN passes as in torch and ONNX Runtime; and the same of some lanes. */
#if defined(__AVX512F__)
PA_INLINE pa_vec pa_relu(pa_vec x) { /* its second operand where one is NaN */
    return (pa_vec)_mm512_max_ps(_mm512_setzero_ps(), (__m512)x);
}
PA_INLINE pa_vec pa_keep_relu(pa_vec x, pa_lanes lanes) {
    return (pa_vec)_mm512_maskz_max_ps(lanes, _mm512_setzero_ps(), (__m512)x);
}
#else
PA_INLINE pa_vec pa_relu(pa_vec x) { return (pa_vec)((pa_bits)x & ~(x < (pa_vec){0})); }
PA_INLINE pa_vec pa_keep_relu(pa_vec x, pa_lanes lanes) { return pa_keep(pa_relu(x), lanes); }
#endif

#endif
