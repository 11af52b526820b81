/* Runs one step on planes, its work shared by the crew. */
#include "step.h"

#include <string.h>

#include "depthwise.h"
#include "parallel.h"
#include "planes.h"
#include "product.h"
#include "vector.h"

enum {
    WIDE = 12, /* vectors of positions per thread: a few of the widest tiles */
    COPY = 16, /* multiply-adds that take as long as copying a float */
    NEAR_FLOATS = 4096, /* of the nearest cache: half of it */
};

int64_t pa_value_size(const pa_program *program, int32_t value) {
    const pa_shape *shape = &program->shapes[value];
    return (int64_t)shape->channels * shape->height * shape->width;
}

static float *input_data(const pa_run *call, int32_t port) { /* only ever read */
    return (float *)call->inputs[port] + call->sample * pa_value_size(&call->plan->program, port);
}

static float *slot_data(const pa_run *call, int32_t slot) {
    const pa_plan *plan = call->plan;
    const pa_slot *where = &plan->slot[slot];
    if (where->port < 0) return call->space->planes + plan->buffer[where->buffer].place;
    if (!where->is_output) return input_data(call, where->port);
    return call->outputs[where->port] +
           call->sample * pa_value_size(&plan->program, plan->program.output[where->port]);
}

/* A value may be a part of what lies in the slot. */
static float *value_data(const pa_run *call, int32_t value, int32_t slot) {
    const pa_plan *plan = call->plan;
    return slot_data(call, slot) +
           plan->plane[value] * plan->layout[plan->layout_of[value]].stride;
}

/* Where a conv's taps start: at its source, or at the split of it. */
static const float *conv_data(const pa_run *call, const pa_step *step) {
    if (pa_split_of(call->plan, step->op) >= 0) return slot_data(call, step->source);
    return value_data(call, step->op->source, step->source);
}

static const float *residual_data(const pa_run *call, const pa_step *step) {
    return step->residual < 0 ? NULL : value_data(call, step->op->residual, step->residual);
}

static pa_planes view(const pa_run *call, int32_t value, int32_t slot) {
    const pa_plan *plan = call->plan;
    const pa_shape *shape = &plan->program.shapes[value];
    const pa_layout *layout = &plan->layout[plan->layout_of[value]];
    return (pa_planes){value_data(call, value, slot), shape->channels, shape->height, shape->width,
                       layout->pitch,         layout->stride,  layout->vectors, layout->keep};
}

static int64_t split_cost(const pa_split *split) {
    return (int64_t)COPY * split->phases * split->data[0] * split->data[1];
}

/* What a split reads: a value, or an input as the caller has it. */
static pa_planes split_source(const pa_run *call, const pa_instruction *op, int32_t slot) {
    int32_t value = op->source;
    if (slot >= 0) return view(call, value, slot);
    const pa_shape *shape = &call->plan->program.shapes[value];
    return (pa_planes){.data = input_data(call, value),
                       .channels = shape->channels,
                       .height = shape->height,
                       .width = shape->width,
                       .pitch = shape->width,
                       .stride = (int64_t)shape->height * shape->width};
}

/* Vectors first .. last - 1 of the positions: the product of shifted planes. */
static void run_positions(const void *work, int32_t first, int32_t last) {
    pa_product part = *(const pa_product *)work;
    int64_t shift = (int64_t)first * PA_LANES;
    part.x += shift;
    part.y += shift;
    if (part.residual) part.residual += shift;
    if (part.keep) part.keep += shift;
    if (part.lanes) part.lanes += shift;
    if (last < part.vectors) part.missing = part.single = 0;
    part.vectors = last - first;
    pa_product_run(&part, 0, part.strips->count);
}

/* Threads share positions, so that each finds in its own cache what it wrote in the step before;
 * or rows of the weight, so that each reads only some of it and makes whole planes: on small maps,
 * where a share of positions is too narrow for the widest tiles and neighbouring cache lines would
 * go back and forth, and where the output is the larger side. Measured on ResNet-18 and -50 on
 * Cascade Lake, two threads: 1.77 to 1.93 times one thread, with rows alone 1.68 to 1.76, with
 * positions 1.68 to 1.91; on a Sapphire Rapids shared with others, 1.5, whichever way. */
static void share_product(pa_crew *crew, const pa_product *product, int32_t rows) {
    const pa_strips *strips = product->strips;
    if (product->vectors >= WIDE * pa_crew_size(crew) && product->planes >= rows)
        pa_run_range(crew, product->vectors, WIDE, strips->floats * PA_LANES, run_positions,
                     product);
    else
        pa_run_strips(crew, strips, (int64_t)product->vectors * PA_LANES, pa_product_run, product);
}

static void run_conv(const pa_run *call, const pa_step *step) {
    const pa_plan *plan = call->plan;
    const pa_layout *layout = &plan->layout[plan->layout_of[step->op->result]];
    const pa_conv *conv = &plan->conv[step->item];
    const pa_slot *result = &plan->slot[step->result];
    int64_t covered = (int64_t)layout->vectors * PA_LANES;
    int tight = result->stride < covered; /* the caller's: no room for the last vector */
    pa_product product = {
        .strips = &conv->strips,
        .bias = conv->bias,
        .x = conv_data(call, step),
        .y = value_data(call, step->op->result, step->result),
        .residual = residual_data(call, step),
        .keep = tight ? NULL : layout->keep,
        .lanes = conv->lanes,
        .lanes_stride = covered,
        .y_stride = result->stride,
        .residual_stride = step->residual >= 0 ? plan->slot[step->residual].stride : 0,
        .vectors = layout->vectors,
        .missing = tight ? (int32_t)(covered - result->stride) : 0,
        .single = layout->single,
        .taps = step->op->window.kernel[0] * step->op->window.kernel[1],
        .activation = step->op->activation,
        .planes = plan->slot[step->source].planes,
    };
    share_product(call->crew, &product, plan->program.shapes[step->op->result].channels);
}

/* A depthwise convolution that makes its split as it goes. */
typedef struct {
    const pa_split *split;
    const pa_slot *slot;
    pa_planes from;
    float *to;
    const pa_depthwise *depthwise;
} piecemeal_work;

/* A few channels at a time take turns in the planes of the first. Planes read the pads of the one
 * before them: those that nobody writes stay zero, for the slot owns its buffer, and the last of a
 * chunk's planes is not written, for the next chunk reads its pads. */
static void run_piecemeal(const void *context, int32_t first, int32_t last) {
    const piecemeal_work *work = context;
    const int64_t stride = work->slot->stride, channel = stride * work->split->phases;
    int32_t few = NEAR_FLOATS / channel > 1 ? (int32_t)(NEAR_FLOATS / channel) : 1;
    if (few > last - first - 1 && last - first > 1) few = last - first - 1;
    for (int32_t c = first; c < last; c += few) {
        int32_t end = last - c < few ? last : c + few;
        int64_t back = (c - first) * stride;
        pa_depthwise part = *work->depthwise;
        pa_planes_split(work->split, &work->from, c, end, work->to - back, stride,
                        work->slot->pitch);
        part.x -= back;
        pa_depthwise_run(&part, c, end);
    }
}

static void run_depthwise(const pa_run *call, const pa_step *step) {
    const pa_plan *plan = call->plan;
    const pa_layout *layout = &plan->layout[plan->layout_of[step->op->result]];
    const pa_conv *conv = &plan->conv[step->item];
    const pa_instruction *op = step->op;
    pa_depthwise depthwise = {
        .weight = conv->taps,
        .bias = conv->bias,
        .x = conv_data(call, step),
        .y = value_data(call, op->result, step->result),
        .residual = residual_data(call, step),
        .offset = conv->tap_offset,
        .group = conv->tap_group,
        .lanes = conv->lanes,
        .lanes_stride = (int64_t)layout->vectors * PA_LANES,
        .keep = layout->keep,
        .x_stride = plan->slot[step->source].stride,
        .y_stride = layout->stride,
        .taps = op->window.kernel[0] * op->window.kernel[1],
        .groups = conv->tap_groups,
        .vectors = layout->vectors,
        .alike = PA_LANES % layout->width == 0,
        .activation = op->activation,
    };
    int64_t cost = (int64_t)depthwise.taps * layout->vectors * PA_LANES;
    int32_t index = pa_split_of(plan, op);
    if (index < 0 || !plan->split[index].piecemeal) {
        pa_run_range(call->crew, op->groups, 1, cost, pa_depthwise_run, &depthwise);
        return;
    }
    piecemeal_work work = {.split = &plan->split[index],
                           .slot = &plan->slot[step->source],
                           .from = split_source(call, op, plan->slot_of[op->source]),
                           .to = slot_data(call, step->source),
                           .depthwise = &depthwise};
    pa_run_range(call->crew, op->groups, 2, cost + split_cost(work.split), run_piecemeal, &work);
}

static void run_concat(const pa_run *call, const pa_step *step) {
    const pa_plan *plan = call->plan;
    const pa_instruction *op = step->op;
    pa_planes to = view(call, op->result, step->result);
    float *place = to.data;
    for (int32_t i = 0; i < op->operands; i++) {
        pa_planes from = view(call, op->operand[i], plan->slot_of[op->operand[i]]);
        if (!pa_plan_in_place(plan, op, i)) pa_planes_copy(&from, place);
        place += from.channels * to.stride;
    }
}

/* Everything else goes plane by plane: a step, and the planes it reads and makes. */
typedef struct {
    const pa_run *call;
    const pa_step *step;
    pa_planes from, right, to; /* right: the other operand of an addition */
    float *rows;               /* what planes turn into, or the caller's array */
} planes_work;

static pa_planes part_of(const pa_planes *all, int32_t first, int32_t last) {
    pa_planes part = *all;
    part.data += first * part.stride;
    part.channels = last - first;
    return part;
}

static void run_split(const void *context, int32_t first, int32_t last) {
    const planes_work *work = context;
    const pa_plan *plan = work->call->plan;
    const pa_slot *slot = &plan->slot[work->step->result];
    pa_planes_split(&plan->split[work->step->item], &work->from, first, last,
                    slot_data(work->call, work->step->result), slot->stride, slot->pitch);
}

static void run_copy(const void *context, int32_t first, int32_t last) {
    const planes_work *work = context;
    int load = work->step->kind == PA_STEP_LOAD;
    pa_planes part = part_of(load ? &work->to : &work->from, first, last);
    float *rows = work->rows + (int64_t)first * part.height * part.width;
    if (load)
        pa_planes_load(rows, &part);
    else
        pa_planes_store(&part, rows);
}

static void run_mean(const void *context, int32_t first, int32_t last) {
    const planes_work *work = context;
    pa_planes part = part_of(&work->from, first, last);
    pa_planes_mean(&part, work->rows + first);
}

static void run_planes(const void *context, int32_t first, int32_t last) {
    const planes_work *work = context;
    const pa_instruction *op = work->step->op;
    pa_planes to = part_of(&work->to, first, last);
    if (op->opcode == PA_SUBSAMPLE) { /* never cut: its channels move */
        pa_planes_subsample(&work->from, op->window.stride, op->before, &to);
        return;
    }
    pa_planes from = part_of(&work->from, first, last);
    if (op->opcode == PA_ADD) {
        pa_planes right = part_of(&work->right, first, last);
        pa_planes_add(&from, &right, op->activation, &to);
    } else if (op->opcode == PA_ACTIVATE) {
        pa_planes_activate(&from, op->activation, &to);
    } else if (op->opcode == PA_MAX_POOL) {
        pa_planes_max_pool(&from, &op->window, &to);
    } else {
        pa_planes_average_pool(&from, &op->window, op->count_include_pad, &to);
    }
}

/* Copies of a plane cost COPY multiply-adds per float, a window one copy per position. */
static int64_t plane_cost(const pa_planes *planes, const pa_instruction *op) {
    int64_t window = op && (op->opcode == PA_MAX_POOL || op->opcode == PA_AVERAGE_POOL)
                         ? (int64_t)op->window.kernel[0] * op->window.kernel[1]
                         : 1;
    return COPY * window * planes->height * planes->width;
}

static void run_to_rows(const pa_run *call, const pa_step *step) {
    const pa_instruction *op = step->op;
    int64_t features = call->plan->program.shapes[op->result].channels;
    planes_work work = {.call = call,
                        .step = step,
                        .from = view(call, op->source, step->source),
                        .rows = call->space->row[op->result] + call->sample * features};
    pa_run_range(call->crew, work.from.channels, 1, plane_cost(&work.from, NULL),
                 op->opcode == PA_FLATTEN ? run_copy : run_mean, &work);
}

static void run_compute(const pa_run *call, const pa_step *step) {
    const pa_instruction *op = step->op;
    if (op->opcode == PA_CONV) {
        if (call->plan->conv[step->item].taps)
            run_depthwise(call, step);
        else
            run_conv(call, step);
        return;
    }
    if (op->opcode == PA_CONCAT) {
        run_concat(call, step);
        return;
    }
    if (step->result < 0) {
        run_to_rows(call, step);
        return;
    }
    planes_work work = {.call = call,
                        .step = step,
                        .from = view(call, op->source, step->source),
                        .to = view(call, op->result, step->result)};
    if (op->opcode == PA_ADD) work.right = view(call, op->residual, step->residual);
    int32_t channels = work.to.channels, least = op->opcode == PA_SUBSAMPLE ? channels : 1;
    pa_run_range(call->crew, channels, least, plane_cost(&work.to, op), run_planes, &work);
}

static void run_port(const pa_run *call, const pa_step *step) {
    const pa_program *program = &call->plan->program;
    planes_work work = {.call = call, .step = step};
    if (step->kind == PA_STEP_LOAD) {
        work.to = view(call, step->port, step->result);
        work.rows = input_data(call, step->port);
    } else {
        int32_t value = program->output[step->port];
        work.from = view(call, value, step->source);
        work.rows = call->outputs[step->port] + call->sample * pa_value_size(program, value);
    }
    const pa_planes *planes = step->kind == PA_STEP_LOAD ? &work.to : &work.from;
    pa_run_range(call->crew, planes->channels, 1, plane_cost(planes, NULL), run_copy, &work);
}

static void zero(float *from, const float *end) {
    if (from < end) memset(from, 0, (size_t)(end - from) * sizeof *from);
}

/* Clears what lies between the data of planes, where the step to come does not. */
static void clear_pads(const pa_run *call, const pa_slot *slot) {
    float *plane = slot_data(call, (int32_t)(slot - call->plan->slot));
    float *end = plane + slot->planes * slot->stride;
    int64_t slack = call->plan->buffer[slot->buffer].slack;
    if (!slot->cleared) zero(plane - slack, plane);
    zero(end, end + slack);
    for (plane += slot->cleared * slot->stride; plane < end; plane += slot->stride) {
        float *row = plane;
        for (int32_t y = 0; y < slot->data[0] && !slot->covered; y++, row += slot->pitch)
            for (int32_t x = slot->data[1]; x < slot->pitch; x++) row[x] = 0.0f;
        zero(row + slot->covered, plane + slot->stride);
    }
}

void pa_run_step(const pa_run *call, const pa_step *step) {
    const pa_plan *plan = call->plan;
    if (step->clears) clear_pads(call, &plan->slot[step->result]);
    if (step->kind == PA_STEP_COMPUTE) {
        run_compute(call, step);
    } else if (step->kind == PA_STEP_SPLIT) {
        const pa_split *split = &plan->split[step->item];
        if (split->piecemeal) return; /* its reader's */
        planes_work work = {
            .call = call, .step = step, .from = split_source(call, step->op, step->source)};
        pa_run_range(call->crew, work.from.channels, 1, split_cost(split), run_split, &work);
    } else {
        run_port(call, step);
    }
}
