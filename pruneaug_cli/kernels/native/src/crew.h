/* The threads of one run of a region: one leads, those that come help it with pieces of its work. */
#ifndef PRUNEAUG_CREW_H
#define PRUNEAUG_CREW_H

#include <stdatomic.h>
#include <stdint.h>

#include "region.h"

typedef struct pa_crew pa_crew; /* null: this thread alone */

/* Calls lead(context, crew) once, on a thread of the pa_parallel, and returns when it is done.
 * `usual` is how many helpers came to earlier runs: the work is cut for them before they are
 * here. */
void pa_crew_run(const pa_parallel *parallel, atomic_int *usual,
                 void (*lead)(void *context, pa_crew *crew), void *context);

/* Threads to cut work for; 1: do not cut it. */
int32_t pa_crew_size(const pa_crew *crew);

/* Runs task(work, 0 .. chunks - 1) on the crew, neighbours on the same thread as far as that
 * keeps all busy, and returns when all are done. For the leader only. */
void pa_crew_share(pa_crew *crew, int32_t chunks, void (*task)(const void *work, int32_t chunk),
                   const void *work);

#endif
