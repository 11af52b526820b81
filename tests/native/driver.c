/* Runs cases from a file through the engine: without Python, so that it can be cross-compiled, run
 * under an emulator, and built with sanitizers. Written by cases.py, which documents the file.
 *
 *     driver FILE [threads]
 *
 * Prints "case N" before each case, so that whoever reads the output of a crash knows which, and a
 * line per result that is off. With threads, each case runs on that many at once, and its layers
 * are spread over as many. Exit code 0: all as expected; 1: not; 2: the file cannot be read. */
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "region.h"

enum {
    MOST_FLOATS = 1 << 21, /* of a value or a workspace: larger ones are accepted and not run */
    MOST_PORTS = 64,
    MOST_THREADS = 8,
    REPEATS = 2, /* what spoils memory that is used again shows in the second run */
};

typedef struct {
    int64_t *program;
    float *values;
    uint8_t *masks;
    int64_t program_size, values_size, masks_size;
    int64_t samples; /* 0: only create */
    int64_t checked; /* outputs follow; otherwise any answer will do */
    uint32_t seed;   /* of inputs, where none follow */
    float *inputs, *expected, *tolerance;
    int64_t inputs_size, expected_size;
} test_case;

static FILE *file;

static void *take(int64_t count, size_t size) {
    void *memory = malloc(count ? (size_t)count * size : 1); /* exact: a sanitizer sees its end */
    if (!memory || fread(memory, size, (size_t)count, file) != (size_t)count) {
        fprintf(stderr, "the file ends inside a case\n");
        exit(2);
    }
    return memory;
}

static int64_t take_integer(void) {
    int64_t *read = take(1, sizeof *read), value = *read;
    free(read);
    return value;
}

static test_case take_case(void) {
    test_case c = {0};
    int64_t *sizes[] = {&c.program_size, &c.values_size, &c.masks_size, &c.samples,
                        &c.checked, &c.inputs_size, &c.expected_size};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) *sizes[i] = take_integer();
    c.seed = (uint32_t)take_integer();
    c.program = take(c.program_size, sizeof *c.program);
    c.values = take(c.values_size, sizeof *c.values);
    c.masks = take(c.masks_size, 1);
    c.inputs = take(c.inputs_size, sizeof(float));
    c.expected = take(c.expected_size, sizeof(float));
    c.tolerance = take(c.expected_size, sizeof(float));
    return c;
}

static void free_case(test_case *c) {
    void *parts[] = {c->program, c->values, c->masks, c->inputs, c->expected, c->tolerance};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) free(parts[i]);
}

/* ---- threads -------------------------------------------------------------------------------- */

typedef struct {
    void (*task)(void *context, size_t index);
    void *context;
    size_t index, count, step;
} share;

static void *run_share(void *opaque) {
    share *part = opaque;
    for (size_t i = part->index; i < part->count; i += part->step) part->task(part->context, i);
    return NULL;
}

static void run_parallel(void *state, void (*task)(void *context, size_t index), void *context,
                         size_t count) {
    size_t threads = *(size_t *)state;
    pthread_t thread[MOST_THREADS];
    share part[MOST_THREADS];
    for (size_t t = 0; t < threads; t++) {
        part[t] = (share){task, context, t, count, threads};
        pthread_create(&thread[t], NULL, run_share, &part[t]);
    }
    for (size_t t = 0; t < threads; t++) pthread_join(thread[t], NULL);
}

/* ---- one case ------------------------------------------------------------------------------- */

/* Normal numbers, and now and then what arithmetic stumbles over. */
static float some_float(uint32_t *state) {
    static const float odd[] = {NAN, INFINITY, -INFINITY, 1e-40f, -1e-40f, 3.4e38f, -3.4e38f, 0.0f,
                                -0.0f};
    *state = *state * 1664525u + 1013904223u;
    uint32_t bits = *state >> 8;
    if (bits % 16 == 0) return odd[bits / 16 % (sizeof odd / sizeof *odd)];
    return (float)(int32_t)(bits - (1u << 23)) / (float)(1u << 21);
}

static int64_t elements(pa_region *region, size_t index, int is_output) {
    int32_t kind;
    int64_t dims[3];
    if (is_output)
        pa_region_output(region, index, &kind, dims);
    else
        pa_region_input(region, index, &kind, dims);
    return kind == PA_PLANES ? dims[0] * dims[1] * dims[2] : dims[0];
}

typedef struct {
    pa_region *region;
    const test_case *c;
    size_t threads;
    size_t inputs, outputs;
    int failed;
    char reason[256];
} job;

/* Where a port starts in one array of all ports: every port gets memory of its own length. */
static float *port_memory(const job *j, size_t index, int is_output) {
    int64_t count = elements(j->region, index, is_output) * j->c->samples;
    return malloc(count ? (size_t)count * sizeof(float) : 1);
}

static void fill_inputs(const job *j, float **inputs) {
    uint32_t state = j->c->seed;
    const float *from = j->c->inputs;
    for (size_t i = 0; i < j->inputs; i++) {
        int64_t count = elements(j->region, i, 0) * j->c->samples;
        for (int64_t k = 0; k < count; k++)
            inputs[i][k] = j->c->inputs_size ? *from++ : some_float(&state);
    }
}

static void compare(job *j, float **outputs) {
    int64_t place = 0;
    for (size_t o = 0; o < j->outputs; o++) {
        int64_t count = elements(j->region, o, 1) * j->c->samples;
        for (int64_t k = 0; k < count && !j->failed; k++, place++) {
            float found = outputs[o][k], expected = j->c->expected[place];
            if (found == expected || (isnan(found) && isnan(expected))) continue;
            if (fabsf(found - expected) <= j->c->tolerance[place]) continue;
            j->failed = 1;
            snprintf(j->reason, sizeof j->reason, "output %zu, element %lld: %g instead of %g", o,
                     (long long)k, found, expected);
        }
    }
}

static int same_bits(const job *j, float **first, float **again) {
    for (size_t o = 0; o < j->outputs; o++)
        if (memcmp(first[o], again[o],
                   (size_t)(elements(j->region, o, 1) * j->c->samples) * sizeof(float)))
            return 0;
    return 1;
}

static void *run_job(void *opaque) {
    job *j = opaque;
    float *inputs[MOST_PORTS], *outputs[REPEATS][MOST_PORTS];
    pa_parallel parallel = {&j->threads, run_parallel};
    for (size_t i = 0; i < j->inputs; i++) inputs[i] = port_memory(j, i, 0);
    fill_inputs(j, inputs);
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        for (size_t o = 0; o < j->outputs; o++) outputs[repeat][o] = port_memory(j, o, 1);
        if (pa_region_run(j->region, j->c->samples, (const float *const *)inputs, outputs[repeat],
                          j->threads ? &parallel : NULL, j->reason, sizeof j->reason))
            j->failed = 1;
    }
    if (!j->failed && !same_bits(j, outputs[0], outputs[1])) {
        j->failed = 1;
        snprintf(j->reason, sizeof j->reason, "the second run gives other bits than the first");
    }
    if (!j->failed && j->c->checked) compare(j, outputs[1]);
    for (size_t i = 0; i < j->inputs; i++) free(inputs[i]);
    for (int repeat = 0; repeat < REPEATS; repeat++)
        for (size_t o = 0; o < j->outputs; o++) free(outputs[repeat][o]);
    return NULL;
}

static int is_small(const job *j) {
    size_t weights, workspace;
    pa_region_memory(j->region, &weights, &workspace);
    int small = workspace / sizeof(float) <= MOST_FLOATS && weights / sizeof(float) <= MOST_FLOATS;
    for (size_t i = 0; i < j->inputs; i++) small &= elements(j->region, i, 0) <= MOST_FLOATS;
    for (size_t o = 0; o < j->outputs; o++) small &= elements(j->region, o, 1) <= MOST_FLOATS;
    return small && j->inputs <= MOST_PORTS && j->outputs <= MOST_PORTS;
}

typedef enum { REFUSED, RAN, LARGE, FAILED } outcome;

static outcome run_region(const test_case *c, pa_region *region, size_t threads) {
    job all[MOST_THREADS];
    pthread_t thread[MOST_THREADS];
    job one = {region, c, threads, pa_region_inputs(region), pa_region_outputs(region), 0, ""};
    if (c->samples == 0 || !is_small(&one)) return LARGE;
    for (size_t t = 0; t < (threads ? threads : 1); t++) all[t] = one;
    for (size_t t = 0; t < threads; t++) pthread_create(&thread[t], NULL, run_job, &all[t]);
    for (size_t t = 0; t < threads; t++) pthread_join(thread[t], NULL);
    if (!threads) run_job(&all[0]);
    for (size_t t = 0; t < (threads ? threads : 1); t++)
        if (all[t].failed) {
            printf("failed: %s\n", all[t].reason);
            return FAILED;
        }
    return RAN;
}

static outcome run_case(const test_case *c, size_t threads) {
    char error[256] = "";
    pa_region *region = NULL;
    if (pa_region_create(c->program, (size_t)c->program_size, c->values, (size_t)c->values_size,
                         c->masks, (size_t)c->masks_size, &region, error, sizeof error)) {
        if (error[0] && !region && !c->checked) return REFUSED;
        printf("failed: refused: '%s'\n", error);
        return FAILED;
    }
    outcome result = run_region(c, region, threads);
    pa_region_destroy(region);
    return result;
}

int main(int argc, char **argv) {
    int64_t counts[4] = {0};
    file = argc > 1 ? fopen(argv[1], "rb") : NULL;
    size_t threads = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    if (!file || threads > MOST_THREADS) {
        fprintf(stderr, "usage: driver FILE [threads, at most %d]\n", MOST_THREADS);
        return 2;
    }
    int64_t cases = take_integer();
    for (int64_t i = 0; i < cases; i++) {
        test_case c = take_case();
        printf("case %lld\n", (long long)i);
        fflush(stdout);
        counts[run_case(&c, threads)]++;
        free_case(&c);
    }
    fclose(file);
    printf("%s: %lld refused, %lld ran, %lld too large to run, %lld failed\n", pa_isa(),
           (long long)counts[REFUSED], (long long)counts[RAN], (long long)counts[LARGE],
           (long long)counts[FAILED]);
    return counts[FAILED] > 0;
}
