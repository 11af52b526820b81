/* How long each step of a region takes, for those who tune kernels. Nobody watching costs a run
 * one load and a branch per step. */
#ifndef PRUNEAUG_WATCH_H
#define PRUNEAUG_WATCH_H

#include <stdint.h>

#include "region.h"

/* Room for the times of one run's steps, all zero; null when nobody watches, or it is full. */
int64_t *pa_watch_open(const pa_region *region, int64_t number, int32_t steps);

/* Nanoseconds of a clock that only goes forward. */
int64_t pa_watch_now(void);

#endif
