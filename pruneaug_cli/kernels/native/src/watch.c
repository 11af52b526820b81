/* The record of who watches: one for the process, so that regions inside an ONNX Runtime session
 * are reached too. */
#include "watch.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { HEADER = 3 }; /* region, its number, steps */

static _Atomic(int64_t *) records; /* null: nobody watches */
static _Atomic size_t capacity, used;

void pa_watch(int64_t *room, size_t size) {
    atomic_store(&records, NULL);
    if (!room) return; /* what was written can still be counted */
    atomic_store(&capacity, size);
    atomic_store(&used, 0);
    atomic_store(&records, room);
}

size_t pa_watched(void) { return atomic_load(&used); }

int64_t *pa_watch_open(const pa_region *region, int64_t number, int32_t steps) {
    int64_t *room = atomic_load_explicit(&records, memory_order_relaxed);
    if (!room) return NULL;
    size_t size = HEADER + (size_t)steps, start = atomic_load(&used);
    do {
        if (size > atomic_load(&capacity) - start) return NULL;
    } while (!atomic_compare_exchange_weak(&used, &start, start + size));
    room[start] = (int64_t)(intptr_t)region;
    room[start + 1] = number;
    room[start + 2] = steps;
    return memset(room + start + HEADER, 0, (size_t)steps * sizeof *room);
}

int64_t pa_watch_now(void) {
    struct timespec now;
#if defined(CLOCK_MONOTONIC)
    clock_gettime(CLOCK_MONOTONIC, &now);
#else
    timespec_get(&now, TIME_UTC);
#endif
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
