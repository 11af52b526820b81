/* Work of a step, cut into pieces for the threads of a crew. */
#ifndef PRUNEAUG_PARALLEL_H
#define PRUNEAUG_PARALLEL_H

#include "crew.h"
#include "pack.h"

/* Does pieces first .. last - 1 of the work; called for disjoint ranges at the same time. */
typedef void (*pa_range_task)(const void *work, int32_t first, int32_t last);

/* Multiply-adds of a step that threads share; 0: too few to be cut. */
int64_t pa_shareable(int64_t weights, int64_t positions);

/* Runs the task over all strips, each weight used `positions` times. Work that is too small to
 * share stays on this thread, in one call. */
void pa_run_strips(pa_crew *crew, const pa_strips *strips, int64_t positions, pa_range_task task,
                   const void *work);

/* Runs the task over 0 .. count - 1, each of `cost` multiply-adds or what takes as long, at least
 * `least` of them together. */
void pa_run_range(pa_crew *crew, int32_t count, int32_t least, int64_t cost, pa_range_task task,
                  const void *work);

#endif
