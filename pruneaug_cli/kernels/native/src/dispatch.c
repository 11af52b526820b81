/* One library, several builds of the engine: chosen once, when the library is loaded.
 *
 * Every file of the engine is compiled once per variant, with its pa_ names changed to
 * pa_<variant>_ (native/compiler.py). This file and ort_op.c are compiled once, for the oldest
 * processor of the target, and see the interface of region.h under its own names. PA_VARIANTS
 * lists the variants, the best first: V(avx512) V(avx2) V(sse). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "region.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

/* What a variant serves: one entry per function of region.h, but pa_isa. */
#define INTERFACE(DO, V)                                                                     \
    DO(V, region_create) DO(V, region_destroy) DO(V, region_inputs) DO(V, region_outputs)    \
    DO(V, region_input) DO(V, region_output) DO(V, region_run) DO(V, region_memory)          \
    DO(V, region_steps) DO(V, region_step) DO(V, watch) DO(V, watched) DO(V, version)

#define DECLARE(V, NAME) __typeof__(pa_##NAME) pa_##V##_##NAME;
#define FIELD(V, NAME) __typeof__(pa_##NAME) *NAME;
#define FILL(V, NAME) .NAME = pa_##V##_##NAME,

typedef struct {
    const char *name;          /* of the variant: its instruction set, or "native" */
    const char *(*isa)(void);  /* the instruction set it was compiled for */
    INTERFACE(FIELD, )
} engine;

#define V(NAME) \
    INTERFACE(DECLARE, NAME) \
    const char *pa_##NAME##_isa(void);
PA_VARIANTS
#undef V

static const engine engines[] = {
#define V(NAME) {.name = #NAME, .isa = pa_##NAME##_isa, INTERFACE(FILL, NAME)},
    PA_VARIANTS
#undef V
};

enum { ENGINES = sizeof engines / sizeof *engines };

static const engine *chosen; /* null: none, for the reason in `refusal` */
static char refusal[256];

/* ---- what this processor has ---------------------------------------------------------------- */

#if defined(__x86_64__)

/* The registers of which the system keeps the state: bits of XCR0. */
static unsigned saved_state(void) {
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static int has_all(unsigned word, unsigned bits) { return (word & bits) == bits; }

/* x86-64-v3 and v4, as in the x86-64 psABI: a compiler may use all of a level. */
static int level(void) {
    enum { YMM = 0x6, ZMM = 0xe6 }; /* XCR0: SSE and AVX; and the three of AVX-512 */
    unsigned a, b, c, d, leaf7;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 1;
    if (!has_all(c, bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C | bit_MOVBE)) return 1;
    unsigned state = saved_state();
    if (!has_all(state, YMM) || !__get_cpuid_count(7, 0, &a, &leaf7, &c, &d)) return 1;
    if (!has_all(leaf7, bit_AVX2 | bit_BMI | bit_BMI2)) return 1;
    if (!__get_cpuid(0x80000001, &a, &b, &c, &d) || !has_all(c, bit_LZCNT)) return 1;
    unsigned wide = bit_AVX512F | bit_AVX512DQ | bit_AVX512CD | bit_AVX512BW | bit_AVX512VL;
    return has_all(state, ZMM) && has_all(leaf7, wide) ? 4 : 3;
}

static int processor_has(const char *isa) {
    int needed = strcmp(isa, "avx512") == 0 ? 4 : strcmp(isa, "avx2") == 0 ? 3 : 1;
    return level() >= needed;
}

#else

static int processor_has(const char *isa) { /* NEON is part of every 64-bit Arm */
    (void)isa;
    return 1;
}

#endif

/* ---- the choice ----------------------------------------------------------------------------- */

static void list_names(char *text, size_t size) {
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < ENGINES && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", i ? ", " : "",
                                 engines[i].isa());
}

static int is_called(const engine *candidate, const char *name) {
    return strcmp(name, candidate->name) == 0 || strcmp(name, candidate->isa()) == 0;
}

static void choose_named(const char *name) {
    char names[64];
    list_names(names, sizeof names);
    for (int i = 0; i < ENGINES; i++) {
        if (!is_called(&engines[i], name)) continue;
        if (processor_has(engines[i].isa()))
            chosen = &engines[i];
        else
            snprintf(refusal, sizeof refusal, "PRUNEAUG_ISA=%.32s: this processor does not have it",
                     name);
        return;
    }
    snprintf(refusal, sizeof refusal, "PRUNEAUG_ISA=%.32s: this library holds %s", name, names);
}

/* Runs when the library is loaded: later it is only read, by any thread. */
__attribute__((constructor)) static void choose(void) {
    char names[64];
    const char *name = getenv("PRUNEAUG_ISA");
    if (name && *name) {
        choose_named(name);
        return;
    }
    for (int i = 0; i < ENGINES && !chosen; i++)
        if (processor_has(engines[i].isa())) chosen = &engines[i];
    list_names(names, sizeof names);
    if (!chosen)
        snprintf(refusal, sizeof refusal,
                 "this library is built for %s, which this processor does not have", names);
}

/* ---- the interface: a region comes from the chosen engine only ------------------------------- */

int pa_region_create(const int64_t *program, size_t program_size, const float *values,
                     size_t values_size, const uint8_t *masks, size_t masks_size, pa_region **out,
                     char *error, size_t error_size) {
    if (chosen)
        return chosen->region_create(program, program_size, values, values_size, masks, masks_size,
                                     out, error, error_size);
    *out = NULL;
    snprintf(error, error_size, "%s", refusal);
    return -1;
}

void pa_region_destroy(pa_region *region) {
    if (region) chosen->region_destroy(region);
}

size_t pa_region_inputs(const pa_region *region) { return chosen->region_inputs(region); }

size_t pa_region_outputs(const pa_region *region) { return chosen->region_outputs(region); }

void pa_region_input(const pa_region *region, size_t index, int32_t *kind, int64_t dims[3]) {
    chosen->region_input(region, index, kind, dims);
}

void pa_region_output(const pa_region *region, size_t index, int32_t *kind, int64_t dims[3]) {
    chosen->region_output(region, index, kind, dims);
}

int pa_region_run(pa_region *region, int64_t samples, const float *const *inputs,
                  float *const *outputs, const pa_parallel *parallel, char *error,
                  size_t error_size) {
    return chosen->region_run(region, samples, inputs, outputs, parallel, error, error_size);
}

void pa_region_memory(const pa_region *region, size_t *weights_bytes, size_t *workspace_bytes) {
    chosen->region_memory(region, weights_bytes, workspace_bytes);
}

size_t pa_region_steps(const pa_region *region) { return chosen->region_steps(region); }

void pa_region_step(const pa_region *region, size_t index, int32_t *kind, int32_t *number) {
    chosen->region_step(region, index, kind, number);
}

void pa_watch(int64_t *records, size_t size) {
    if (chosen) chosen->watch(records, size);
}

size_t pa_watched(void) { return chosen ? chosen->watched() : 0; }

const char *pa_version(void) { return engines[0].version(); }

const char *pa_isa(void) { return chosen ? chosen->isa() : "none"; }
