/* Layouts of planes and the splits of strided convolutions: see pa_layout and pa_split. */
#include <stdlib.h>
#include <string.h>

#include "plan.h"
#include "region.h"
#include "vector.h"

enum {
    MOST_PHASES = 4096,
    MOST_NARROW = 64, /* columns of planes without pads: shifts by them are groups of entries */
    NARROW_INSIDE = 32, /* the same, of planes that stay inside the region */
    SAVED = 32,       /* of so many vectors one must be saved */
    LINE = 16, /* floats of a cache line: planes start at lines */
    MOST_POSITIONS = 1 << 30, /* of a plane with its pads: offsets are int32 */
};

static int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }
static int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }
static int64_t ceiling(int64_t count, int64_t step) { return (count + step - 1) / step; }

static int32_t floor_divide(int32_t a, int32_t b) {
    return a >= 0 ? a / b : -(int32_t)ceiling(-(int64_t)a, b);
}

/* Size of a shape along an axis: 0 rows, 1 columns. */
static int32_t extent(const pa_shape *shape, int axis) { return axis ? shape->width : shape->height; }

/* Where kernel position `index` reads, relative to the output position times the stride. */
static int32_t tap(const pa_window *window, int axis, int32_t index) {
    return index * window->dilation[axis] - window->pads[axis];
}

pa_reach pa_conv_reach(const pa_program *program, const pa_instruction *op) {
    const pa_window *window = &op->window;
    const pa_shape *source = &program->shapes[op->source], *result = &program->shapes[op->result];
    pa_reach reach = {.aligned = 1};
    for (int axis = 0; axis < 2; axis++) {
        int32_t stride = window->stride[axis];
        reach.low[axis] = smaller(0, floor_divide(tap(window, axis, 0), stride));
        reach.high[axis] =
            larger(0, floor_divide(tap(window, axis, window->kernel[axis] - 1), stride));
        reach.aligned &= stride == 1 && extent(source, axis) == extent(result, axis);
    }
    return reach;
}

static int32_t find_layout(pa_plan *plan, const pa_shape *shape) {
    for (int32_t i = 0; i < plan->layouts; i++)
        if (plan->layout[i].height == shape->height && plan->layout[i].width == shape->width)
            return i;
    plan->layout[plan->layouts] = (pa_layout){.height = shape->height,
                                              .width = shape->width,
                                              .pitch = shape->width,
                                              .narrow = shape->width <= MOST_NARROW};
    return plan->layouts++;
}

static pa_split *find_split(pa_plan *plan, const pa_instruction *op) {
    int32_t layout = plan->layout_of[op->result];
    for (int32_t i = 0; i < plan->splits; i++) {
        pa_split *split = &plan->split[i];
        if (split->source == op->source && split->layout == layout &&
            split->stride[0] == op->window.stride[0] && split->stride[1] == op->window.stride[1])
            return split;
    }
    return NULL;
}

int32_t pa_split_of(const pa_plan *plan, const pa_instruction *op) {
    if (pa_conv_reach(&plan->program, op).aligned) return -1;
    return (int32_t)(find_split((pa_plan *)plan, op) - plan->split);
}

static int is_output(const pa_program *program, int32_t value) {
    for (int32_t i = 0; i < program->outputs; i++)
        if (program->output[i] == value) return 1;
    return 0;
}

/* Whether an instruction reads a value otherwise than through that split; -1 is no split. */
static int reads_whole(const pa_plan *plan, const pa_instruction *op, int32_t value,
                       int32_t split) {
    if (op->residual == value) return 1;
    for (int32_t k = 0; k < op->operands; k++)
        if (op->operand[k] == value) return 1;
    if (op->source != value) return 0;
    if (op->opcode == PA_SUBSAMPLE) return plan->split[split].shortcut != op->result;
    return op->opcode != PA_CONV || pa_split_of(plan, op) != split;
}

int32_t pa_only_split(const pa_plan *plan, int32_t value) {
    const pa_program *program = &plan->program;
    int32_t found = 0;
    while (found < plan->splits && plan->split[found].source != value) found++;
    if (found == plan->splits) return -1;
    if (is_output(program, value)) return -1;
    for (int32_t i = 0; i < program->instructions; i++)
        if (reads_whole(plan, &program->instruction[i], value, found)) return -1;
    return found;
}

static int32_t find_phase(const pa_split *split, int32_t row, int32_t col) {
    for (int32_t i = 0; i < split->phases; i++)
        if (split->phase[i][0] == row && split->phase[i][1] == col) return i;
    return -1;
}

/* The phase along an axis that kernel position `index` reads. */
static int32_t phase_of(const pa_window *window, int axis, int32_t index) {
    int32_t position = tap(window, axis, index), stride = window->stride[axis];
    return position - floor_divide(position, stride) * stride;
}

int64_t pa_phase_plane(const pa_split *split, int32_t phase, int32_t channels) {
    if (split->shortcut < 0) return (int64_t)phase * channels;
    if (phase == split->direct) return split->before;
    int64_t rank = phase < split->direct ? phase + 1 : phase;
    return split->before + split->after + rank * channels;
}

static int add_phases(pa_split *split, const pa_window *window) {
    for (int32_t y = 0; y < window->kernel[0]; y++)
        for (int32_t x = 0; x < window->kernel[1]; x++) {
            int32_t row = phase_of(window, 0, y), col = phase_of(window, 1, x);
            if (find_phase(split, row, col) >= 0) continue;
            if (split->phases == MOST_PHASES) return -1;
            split->phase[split->phases][0] = row;
            split->phase[split->phases++][1] = col;
        }
    return 0;
}

static int add_split(pa_plan *plan, const pa_instruction *op, const pa_reach *reach) {
    pa_split *split = find_split(plan, op);
    if (!split) {
        split = &plan->split[plan->splits++];
        *split = (pa_split){.source = op->source,
                            .layout = plan->layout_of[op->result],
                            .stride = {op->window.stride[0], op->window.stride[1]},
                            .slot = -1,
                            .shortcut = -1};
        split->phase = malloc(MOST_PHASES * sizeof *split->phase);
        if (!split->phase) return -1;
    }
    for (int axis = 0; axis < 2; axis++) {
        split->low[axis] = smaller(split->low[axis], reach->low[axis]);
        split->high[axis] = larger(split->high[axis], reach->high[axis]);
    }
    return add_phases(split, &op->window);
}

/* An aligned conv: the pads right of a row and left of the next are the same zeros. */
static void require_reach(pa_layout *layout, const pa_reach *reach) {
    for (int axis = 0; axis < 2; axis++)
        layout->reach[axis] =
            larger(layout->reach[axis], larger(-reach->low[axis], reach->high[axis]));
    layout->narrow &= layout->reach[1] < layout->width;
    layout->pitch = larger(layout->pitch, layout->width + layout->reach[1]);
}

/* A split has the pitch of its output's layout, and may hold data beyond its width. */
static void require_split(pa_plan *plan, pa_split *split) {
    const pa_shape *source = &plan->program.shapes[split->source];
    pa_layout *layout = &plan->layout[split->layout];
    int32_t size[2] = {layout->height, layout->width};
    for (int axis = 0; axis < 2; axis++)
        split->data[axis] = smaller((int32_t)ceiling(extent(source, axis), split->stride[axis]),
                                    size[axis] + split->high[axis]);
    layout->narrow &= split->data[1] <= layout->width && -split->low[1] < layout->width &&
                      split->high[1] < layout->width;
    layout->pitch = larger(layout->pitch, larger(layout->width + split->high[1],
                                                 split->data[1] - split->low[1]));
}

/* Whether a value is nothing but the residual of products. */
static int is_only_added(const pa_program *program, int32_t value) {
    if (is_output(program, value)) return 0;
    for (int32_t i = 0; i < program->instructions; i++) {
        const pa_instruction *op = &program->instruction[i];
        int product = op->opcode == PA_CONV && !pa_is_depthwise(program, op);
        if (op->source == value || (op->residual == value && !product)) return 0;
        for (int32_t k = 0; k < op->operands; k++)
            if (op->operand[k] == value) return 0;
    }
    return 1;
}

/* Subsampled values that a split has anyway. */
static void find_shortcuts(pa_plan *plan) {
    const pa_program *program = &plan->program;
    for (int32_t i = 0; i < program->instructions; i++) {
        const pa_instruction *op = &program->instruction[i];
        pa_split *split = op->opcode == PA_SUBSAMPLE ? find_split(plan, op) : NULL;
        if (!split || split->shortcut >= 0 || !is_only_added(program, op->result)) continue;
        int32_t after = program->shapes[op->result].channels - op->before -
                        program->shapes[op->source].channels;
        if (find_phase(split, 0, 0) < 0) continue;
        split->direct = find_phase(split, 0, 0);
        split->shortcut = op->result;
        split->before = op->before;
        split->after = after;
    }
}

/* Planes without pads between rows have fewer vectors, but entries then mask their lanes. For
 * depthwise convolutions, one multiply-add per load, that pays only where all vectors of a plane
 * have the same lanes, or where one position is all that the last would have. Where planes only
 * come from the caller and go there, rows without pads are copied at once, or not at all: 3 x 3 at
 * 56 x 56, 90%, is a tenth slower and its copies are a third. */
static int pays_narrow(const pa_layout *layout) {
    if (PA_LANES % layout->width == 0 || layout->lent) return 1;
    if ((int64_t)layout->height * layout->width % PA_LANES == 1) return 1;
    if (layout->width > NARROW_INSIDE) return 0;
    int64_t padded = ceiling((int64_t)(layout->height - 1) * layout->pitch + layout->width, PA_LANES);
    int64_t vectors = ceiling((int64_t)layout->height * layout->width, PA_LANES);
    return !layout->depthwise && (padded - vectors) * SAVED >= padded;
}

/* Finds layouts whose planes are all inputs or outputs that only convolutions read and make. */
static void find_lent(pa_plan *plan) {
    const pa_program *program = &plan->program;
    for (int32_t i = 0; i < plan->layouts; i++) plan->layout[i].lent = 1;
    for (int32_t v = program->inputs; v < program->values; v++)
        if (plan->layout_of[v] >= 0 && !is_output(program, v))
            plan->layout[plan->layout_of[v]].lent = 0;
    for (int32_t i = 0; i < program->instructions; i++) {
        const pa_instruction *op = &program->instruction[i];
        int32_t source = plan->layout_of[op->source], result = plan->layout_of[op->result];
        int product = op->opcode == PA_CONV && !pa_is_depthwise(program, op);
        if (source >= 0 && (!product || !pa_conv_reach(program, op).aligned))
            plan->layout[source].lent = 0;
        if (result >= 0 && !product) plan->layout[result].lent = 0;
    }
}

/* Planes as the caller has them, one right behind the other: no copy in, no copy out. */
static int is_ragged(const pa_layout *layout) {
    int64_t positions = (int64_t)layout->height * layout->width;
    return layout->lent && layout->pitch == layout->width && !layout->reach[0] &&
           positions > PA_LANES && positions % PA_LANES && positions <= MOST_POSITIONS;
}

static int finish_layout(pa_layout *layout, pa_error error) {
    layout->narrow = layout->narrow && layout->pitch > layout->width && pays_narrow(layout);
    if (layout->narrow) layout->pitch = layout->width;
    int64_t positions = (int64_t)(layout->height - 1) * layout->pitch + layout->width;
    int64_t padded = ((int64_t)layout->height + layout->reach[0]) * layout->pitch;
    if (positions > MOST_POSITIONS || padded > MOST_POSITIONS)
        return pa_fail(error, "planes of %d x %d are too large with their padding", layout->height,
                       layout->width);
    layout->vectors = (int32_t)ceiling(positions, PA_LANES);
    int64_t covered = (int64_t)layout->vectors * PA_LANES;
    layout->single = layout->pitch == layout->width && positions % PA_LANES == 1;
    if (is_ragged(layout)) {
        layout->stride = positions;
        return 0;
    }
    layout->stride = ceiling(padded > covered ? padded : covered, LINE) * LINE;
    if (layout->stride % 1024 == 0) layout->stride += LINE; /* planes of one cache set: 4 KiB */
    if (layout->pitch == layout->width && positions == covered) return 0;
    layout->keep = calloc((size_t)covered, 1);
    if (!layout->keep) return pa_fail(error, "out of memory");
    for (int32_t y = 0; y < layout->height; y++)
        memset(layout->keep + (int64_t)y * layout->pitch, -1, (size_t)layout->width);
    return 0;
}

int pa_layouts_make(pa_plan *plan, pa_error error) {
    const pa_program *program = &plan->program;
    for (int32_t v = 0; v < program->values; v++)
        plan->layout_of[v] =
            program->shapes[v].kind == PA_PLANES ? find_layout(plan, &program->shapes[v]) : -1;
    for (int32_t i = 0; i < program->instructions; i++) {
        const pa_instruction *op = &program->instruction[i];
        if (op->opcode != PA_CONV) continue;
        pa_reach reach = pa_conv_reach(program, op);
        if (pa_is_depthwise(program, op))
            plan->layout[plan->layout_of[op->source]].depthwise =
                plan->layout[plan->layout_of[op->result]].depthwise = 1;
        if (reach.aligned)
            require_reach(&plan->layout[plan->layout_of[op->source]], &reach);
        else if (add_split(plan, op, &reach))
            return pa_fail(error, "instruction %d (Conv): more than %d phases of its stride", i,
                           MOST_PHASES);
    }
    for (int32_t i = 0; i < plan->splits; i++) require_split(plan, &plan->split[i]);
    find_lent(plan);
    for (int32_t i = 0; i < plan->layouts; i++)
        if (finish_layout(&plan->layout[i], error)) return -1;
    find_shortcuts(plan);
    return 0;
}

/* Lane groups of a conv on a narrow layout: one per column shift; shift 0 reads all lanes. */
static int find_groups(const pa_layout *layout, const pa_window *window, uint8_t *group,
                       int8_t *lanes) {
    int32_t shift_of[2 * MOST_NARROW] = {0}, positions = layout->vectors * PA_LANES;
    int groups = 1;
    memset(lanes, -1, (size_t)positions);
    for (int32_t x = 0; x < window->kernel[1]; x++) {
        int32_t shift = floor_divide(tap(window, 1, x), window->stride[1]);
        int found = 0;
        while (found < groups && shift_of[found] != shift) found++;
        group[x] = (uint8_t)found;
        if (found < groups) continue;
        shift_of[groups] = shift;
        for (int32_t i = 0; i < positions; i++) {
            int32_t from = i % layout->width + shift;
            lanes[groups * positions + i] = from >= 0 && from < layout->width ? -1 : 0;
        }
        groups++;
    }
    return groups;
}

static void fill_columns(const pa_plan *plan, const pa_instruction *op, int64_t stride,
                         const uint8_t *group_of, int32_t *offset, uint8_t *group) {
    const pa_window *window = &op->window;
    int32_t index = pa_split_of(plan, op);
    int32_t channels = plan->program.shapes[op->source].channels;
    int64_t positions = (int64_t)window->kernel[0] * window->kernel[1];
    int64_t pitch = plan->layout[plan->layout_of[op->result]].pitch;
    for (int32_t y = 0; y < window->kernel[0]; y++)
        for (int32_t x = 0; x < window->kernel[1]; x++) {
            int64_t first = 0, position = (int64_t)y * window->kernel[1] + x;
            if (index >= 0)
                first = pa_phase_plane(&plan->split[index],
                                       find_phase(&plan->split[index], phase_of(window, 0, y),
                                                  phase_of(window, 1, x)),
                                       channels);
            int64_t shift = floor_divide(tap(window, 0, y), window->stride[0]) * pitch +
                            floor_divide(tap(window, 1, x), window->stride[1]);
            for (int64_t k = 0; k < channels / op->groups; k++) {
                offset[k * positions + position] =
                    (int32_t)((first + k) * stride + shift);
                group[k * positions + position] = group_of[x];
            }
        }
}

int pa_conv_columns(const pa_plan *plan, const pa_instruction *op, int64_t stride,
                    pa_columns *columns, int8_t **lanes) {
    size_t count = (size_t)plan->program.weight[op->weight].cols;
    const pa_layout *layout = &plan->layout[plan->layout_of[op->result]];
    int32_t *offset = malloc(count * sizeof *offset);
    uint8_t *group = calloc(count, 1), *group_of = calloc((size_t)op->window.kernel[1], 1);
    int32_t groups = smaller(op->window.kernel[1] + 1, 2 * MOST_NARROW);
    *lanes = malloc((size_t)(layout->narrow ? groups : 1) * (size_t)layout->vectors * PA_LANES);
    int failed = !offset || !group || !group_of || !*lanes;
    if (!failed) {
        groups = layout->narrow ? find_groups(layout, &op->window, group_of, *lanes) : 1;
        fill_columns(plan, op, stride, group_of, offset, group);
        int64_t channels = plan->program.shapes[op->source].channels / op->groups;
        int32_t rows = plan->program.weight[op->weight].rows / op->groups;
        *columns = (pa_columns){offset, group, groups, op->groups > 1 ? rows : 0, channels * stride};
    } else {
        free(offset);
        free(group);
    }
    free(group_of);
    return failed ? -1 : 0;
}
