/* Work on strips, spread over the threads of whoever runs the region. */
#ifndef PRUNEAUG_PARALLEL_H
#define PRUNEAUG_PARALLEL_H

#include "pack.h"
#include "region.h"

/* Computes strips first .. last - 1; called for disjoint ranges at the same time. */
typedef void (*pa_strip_task)(const void *work, int32_t first, int32_t last);

/* Runs the task over all strips, each weight used `positions` times. Work that is too small to
 * share, or without a pa_parallel, stays on this thread. */
void pa_run_strips(const pa_parallel *parallel, const pa_strips *strips, int64_t positions,
                   pa_strip_task task, const void *work);

#endif
