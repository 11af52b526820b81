/* What a region will do, worked out once at creation: layouts, buffers, packed weights, steps.
 * Steps on planes run sample by sample in one
 * sample's buffers; steps on rows run afterwards, on all samples at once: rows never become
 * planes again, so the order holds. */
#ifndef PRUNEAUG_PLAN_H
#define PRUNEAUG_PLAN_H

#include "linear.h"
#include "pack.h"
#include "product.h"
#include "program.h"
#include "region.h"

/* How the planes of one height and width are stored: rows `pitch` floats apart, planes `stride`
 * floats apart. What lies between (right of a row, below a plane) is always zero, and is the
 * padding of its neighbours: the right pad of a row is the left pad of the next. */
typedef struct {
    int32_t height, width;
    int32_t reach[2]; /* how many rows, columns kernels look beyond the data */
    int32_t pitch;
    int32_t narrow;  /* pitch == width although kernels look beyond: entries mask their lanes */
    int32_t depthwise; /* some depthwise convolution reads or makes them */
    int32_t lent;      /* all are the caller's, and only other convolutions touch them */
    int32_t vectors; /* that cover the height x pitch positions */
    int32_t single;  /* the last vector is one position, and there are no pads before it */
    int64_t stride;
    int8_t *keep; /* per position of those vectors, -1 where data is; null: everywhere */
} pa_layout;

/* The input of a strided (or not aligned) convolution as planes with the geometry of its output:
 * plane (phase, channel) holds the input's [y * stride + row][x * stride + col]. Then each kernel
 * position is one offset, as in the aligned case. */
typedef struct {
    int32_t source, layout; /* value; layout of the output */
    int32_t stride[2];
    int32_t low[2], high[2]; /* first and last row, column read beyond the output's range */
    int32_t data[2];         /* rows, columns of data in each plane */
    int32_t phases;
    int32_t (*phase)[2];
    int32_t slot; /* -1 until the first step that needs it */
    int32_t piecemeal; /* one depthwise convolution reads it, and makes it a few channels at a time */
    /* A subsampled value ("option A") that is only added to products is phase `direct` as it is,
     * with planes of zeros before and behind it; shortcut is that value, or -1. */
    int32_t shortcut, direct, before, after;
} pa_split;

/* A set of planes in a workspace: a value, or the phases of one for a strided kernel. */
typedef struct {
    int32_t planes, data[2]; /* how many; the rows and columns written in each */
    int32_t pitch;
    int64_t stride;
    int64_t slack;            /* zeros before the first plane and behind the last */
    int32_t born, dies;       /* first and last step that uses it */
    int32_t buffer;           /* -1: it lies in the caller's memory */
    int32_t port, is_output;  /* there: which input or output; else port is -1 */
    int32_t shared;           /* several values lie in it, one behind the other */
    int32_t owns;             /* its buffer is no other's: it has planes that stay zero */
    int32_t cleared;          /* planes whose pads an earlier holder of the buffer cleared */
    int64_t covered;          /* floats of each plane that its maker writes, pads too; or 0 */
} pa_slot;

typedef struct { /* slots of one geometry share a buffer in turn; buffers, memory */
    int64_t floats, slack;   /* of planes; of zeros before them, and behind them */
    int64_t place;           /* start of the planes in the workspace */
    int32_t slot;            /* its present holder while planning */
    int32_t born, dies;      /* first and last step of its holders */
} pa_buffer;

typedef struct {
    pa_strips strips;
    float *bias;
    int8_t *lanes;
    float *taps; /* depthwise: dense weights, and where each tap reads; else null */
    int32_t *tap_offset;
    uint8_t *tap_group;
    int32_t tap_groups;
} pa_conv;

typedef struct {
    float *scale, *bias;
} pa_norm;

typedef struct {
    pa_step_kind kind;
    int32_t port;                     /* load, store: which input or output */
    int32_t source, residual, result; /* slots; -1 when absent, or rows */
    const pa_instruction *op;         /* compute */
    int32_t item;                     /* split, conv or linear: which */
    int32_t clears;                   /* first of all the pads of its result: others lay there */
} pa_step;

typedef struct {
    pa_program program; /* its blobs are gone: weights and biases are packed here */
    int32_t layouts, slots, buffers, splits, convs, linears, norms, steps, row_steps;
    pa_layout *layout;
    int32_t *layout_of; /* per value; -1 for rows */
    int32_t *part_of;   /* per value: the concat it lies in, from plane `plane` on; else itself */
    int32_t *plane;
    int32_t *slot_of; /* per value that is planes */
    pa_slot *slot;
    pa_buffer *buffer;
    pa_split *split;
    pa_conv *conv;
    pa_linear *linear;
    pa_norm *norm;
    pa_step *step;     /* on planes, for each sample */
    pa_step *row_step; /* on rows, once */
    int64_t workspace; /* floats of the planes' buffers */
    int64_t *row_place; /* per value: start in the rows' arena, floats per sample; -1 outside */
    int64_t row_floats; /* of that arena, per sample */
} pa_plan;

/* 0, or -1 with a message. Free the plan in both cases. */
int pa_plan_make(pa_plan *plan, pa_error error);
void pa_plan_free(pa_plan *plan);
int64_t pa_plan_weight_bytes(const pa_plan *plan);
/* Multiply-adds of the products that threads share. */
double pa_plan_shareable(const pa_plan *plan, int64_t samples);

/* Whether operand `index` of a concat of planes lies where the result has it. */
int pa_plan_in_place(const pa_plan *plan, const pa_instruction *op, int32_t index);

/* A convolution in which each output plane has one input plane of its own. */
int pa_is_depthwise(const pa_program *program, const pa_instruction *op);

/* buffers.c: where slots and rows lie. 0, or -1: with a message; or when memory runs out. */
int pa_buffers_place(pa_plan *plan, pa_error error);
int pa_rows_reserve(pa_plan *plan);

/* layout.c: where kernels look, and the layouts and splits that follow from it. */

/* Rows and columns a convolution reads relative to its output position, in steps of its stride. */
typedef struct {
    int32_t low[2], high[2];
    int aligned; /* stride 1 and output as large as input: reads the value itself */
} pa_reach;

pa_reach pa_conv_reach(const pa_program *program, const pa_instruction *op);
int pa_layouts_make(pa_plan *plan, pa_error error);
/* The split a conv reads (an index), or -1 when it is aligned. */
int32_t pa_split_of(const pa_plan *plan, const pa_instruction *op);
/* The split that is all that is read of a value, or -1. */
int32_t pa_only_split(const pa_plan *plan, int32_t value);
/* The first plane of a phase among the planes of a split with so many channels. */
int64_t pa_phase_plane(const pa_split *split, int32_t phase, int32_t channels);
/* Offset and lane group of every weight column of a conv that reads planes `stride` apart. The
 * caller frees both arrays; -1 when memory runs out. `lanes` gets the flags of each group. */
int pa_conv_columns(const pa_plan *plan, const pa_instruction *op, int64_t stride,
                    pa_columns *columns, int8_t **lanes);

#endif
