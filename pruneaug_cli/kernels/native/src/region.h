/* The engine's interface: a region program becomes a pa_region, which runs on samples.
 *
 * The program is the integer encoding of pruneaug_cli/kernels/encoding.py. All of it may come from
 * a stranger's file: pa_region_create checks every number and refuses with a message that names
 * the record. One region may run on several threads at once.
 *
 * A library holds the engine once per instruction set: what is added here, dispatch.c forwards. */
#ifndef PRUNEAUG_REGION_H
#define PRUNEAUG_REGION_H

#include <stddef.h>
#include <stdint.h>

#ifndef PA_EXPORT /* empty in the engine's variants, which only the dispatcher sees */
#define PA_EXPORT __attribute__((visibility("default")))
#endif

typedef struct pa_region pa_region;

/* Runs task(context, 0 .. count - 1), in any order and at the same time, and returns when all are
 * done. A null pa_parallel means: serial, on the calling thread. */
typedef struct {
    void *state;
    void (*run)(void *state, void (*task)(void *context, size_t index), void *context,
                size_t count);
} pa_parallel;

enum { PA_PLANES = 1, PA_ROWS = 2 }; /* kinds of value, as in the encoding */

typedef enum { PA_STEP_LOAD, PA_STEP_STORE, PA_STEP_SPLIT, PA_STEP_COMPUTE } pa_step_kind;

/* 0 and *out on success; else a message in error. Copies what it needs of the blobs. */
PA_EXPORT int pa_region_create(const int64_t *program, size_t program_size, const float *values,
                               size_t values_size, const uint8_t *masks, size_t masks_size,
                               pa_region **out, char *error, size_t error_size);
PA_EXPORT void pa_region_destroy(pa_region *region);

PA_EXPORT size_t pa_region_inputs(const pa_region *region);
PA_EXPORT size_t pa_region_outputs(const pa_region *region);

/* Kind PA_PLANES with dims {channels, height, width}, or PA_ROWS with {features, 0, 0}. */
PA_EXPORT void pa_region_input(const pa_region *region, size_t index, int32_t *kind,
                               int64_t dims[3]);
PA_EXPORT void pa_region_output(const pa_region *region, size_t index, int32_t *kind,
                                int64_t dims[3]);

/* Inputs and outputs are contiguous: (samples, C, H, W) or (samples, F). 0 on success; else a
 * message in error. */
PA_EXPORT int pa_region_run(pa_region *region, int64_t samples, const float *const *inputs,
                            float *const *outputs, const pa_parallel *parallel, char *error,
                            size_t error_size);

/* Bytes of packed weights and indices; bytes of one workspace for one sample. */
PA_EXPORT void pa_region_memory(const pa_region *region, size_t *weights_bytes,
                                size_t *workspace_bytes);

/* Steps of a run, and what one is: PA_STEP_LOAD, PA_STEP_STORE (number: the input, the output),
 * PA_STEP_SPLIT or PA_STEP_COMPUTE (number: the instruction). */
PA_EXPORT size_t pa_region_steps(const pa_region *region);
PA_EXPORT void pa_region_step(const pa_region *region, size_t index, int32_t *kind,
                              int32_t *number);

/* From now on each run of any region appends to `records`: the region's address, its number in the
 * order of creation, how many steps follow, and the nanoseconds each took (all samples together). Runs that do not fit into `size`
 * integers leave nothing. Null records: nobody watches any more; to be called between runs. */
PA_EXPORT void pa_watch(int64_t *records, size_t size);
PA_EXPORT size_t pa_watched(void); /* integers written */

PA_EXPORT const char *pa_version(void);

/* "avx512", "avx2", "sse", "neon", "generic"; or "none" when this processor runs no variant of the
 * library, or not the one named by PRUNEAUG_ISA: then pa_region_create says so. */
PA_EXPORT const char *pa_isa(void);

#endif
