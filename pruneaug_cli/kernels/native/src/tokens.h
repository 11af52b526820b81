/* The token-major product of a weight and rows. */
#ifndef PRUNEAUG_TOKENS_H
#define PRUNEAUG_TOKENS_H

#include "linear.h"

enum {
    PA_TOKENS_PITCH = 12,   /* samples of a packed tile: between an input and the next */
    PA_TOKENS_AS_ROWS = 12, /* samples that are not packed; more need packed_offsets */
};

/* Strip heights that have a kernel, for pa_pack. */
int32_t pa_tokens_height(int32_t rows);

/* 0, or -1 when memory runs out. */
int pa_tokens_run(const pa_linear *linear, const pa_rows *rows, pa_scratch *scratch,
                  pa_crew *crew);

#endif
