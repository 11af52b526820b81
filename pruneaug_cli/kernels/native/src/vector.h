/* The one place that knows the machine: lanes per vector, and how many accumulators fit.
 *
 * Everything else is written with the compilers' vector extensions, so the same source serves
 * AVX-512, AVX2, SSE and NEON. */
#ifndef PRUNEAUG_VECTOR_H
#define PRUNEAUG_VECTOR_H

#include <stdint.h>

#if defined(__AVX512F__)
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

/* One byte per lane, 0 or -1, widened to whole lanes. */
PA_INLINE pa_bits pa_load_flags(const int8_t *flags) {
    return __builtin_convertvector(*(const pa_lane_flags *)flags, pa_bits) != 0;
}

/* The lanes whose flag is set; zero, even from NaN, elsewhere. */
PA_INLINE pa_vec pa_keep(pa_vec value, pa_bits flags) { return (pa_vec)((pa_bits)value & flags); }

/* x < 0 ? 0 : x, so that NaN passes as in torch and ONNX Runtime. */
PA_INLINE pa_vec pa_relu(pa_vec x) { return pa_keep(x, ~(x < (pa_vec){0})); }

#endif
