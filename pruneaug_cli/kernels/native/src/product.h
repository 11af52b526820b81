/* The channel-major product: rows of a weight times planes of positions. */
#ifndef PRUNEAUG_PRODUCT_H
#define PRUNEAUG_PRODUCT_H

#include <stdint.h>

#include "activation.h"
#include "pack.h"

/* For each strip row m: y[m] = act(sum over its entries of weight * x[offset] + bias[m] +
 * residual[m]), for `vectors` vectors of consecutive positions. x, y and residual are planes,
 * `y_stride` and `residual_stride` floats apart; residual may be y itself. */
typedef struct {
    const pa_strips *strips;
    const float *bias; /* one per row */
    const float *x;
    float *y;
    const float *residual; /* or null */
    const int8_t *keep;    /* per position, -1: store, 0: store zero; or null: store all */
    const int8_t *lanes;   /* [groups][lanes_stride], likewise: what a group of entries reads; all
                            * positions for group 0 */
    int64_t y_stride, residual_stride, lanes_stride;
    int32_t planes; /* of x: decides how many positions are worked on at a time */
    int32_t vectors;
    int32_t missing;  /* so many positions of the last vector are not there; 0 when vectors is 1 */
    int32_t single;   /* of the last vector only the first position is there, and all before it */
    int32_t taps;     /* positions of the kernel; when it is 1, offsets are whole cache lines */
    pa_activation activation;
} pa_product;

/* Computes strips first .. last - 1 of a pa_product. Writes each row's vectors whole. */
void pa_product_run(const void *product, int32_t first, int32_t last);

/* Strip heights that have a kernel, for pa_pack. */
int32_t pa_product_height(int32_t rows);

#endif
