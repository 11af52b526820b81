/* Plans a region: which steps it takes, which slots live when, and the weights they read. */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

#include "parallel.h"
#include "region.h"
#include "vector.h"

#define MOST_FLOATS ((int64_t)INT32_MAX - 65536) /* of a slot: its offsets are int32 */
enum { LINE = 16 };

static int is_rows(const pa_plan *plan, int32_t value) {
    return plan->program.shapes[value].kind == PA_ROWS;
}

static int64_t round_to_line(int64_t floats) { return (floats + LINE - 1) / LINE * LINE; }

/* A slot for planes laid out for their consumers; -1 when it would be too large. */
static int32_t add_slot(pa_plan *plan, pa_slot slot) {
    slot.slack = round_to_line(slot.slack) + LINE;
    if (slot.planes * slot.stride + 2 * slot.slack > MOST_FLOATS) return -1;
    slot.born = slot.dies = slot.buffer = slot.port = -1;
    plan->slot[plan->slots] = slot;
    return plan->slots++;
}

static int32_t add_value_slot(pa_plan *plan, int32_t value) {
    const pa_layout *layout = &plan->layout[plan->layout_of[value]];
    return add_slot(plan, (pa_slot){
                              .planes = plan->program.shapes[value].channels,
                              .data = {layout->height, layout->width},
                              .pitch = layout->pitch,
                              .stride = layout->stride,
                              .slack = (int64_t)layout->reach[0] * layout->pitch + layout->reach[1],
                          });
}

static int32_t add_split_slot(pa_plan *plan, const pa_split *split) {
    const pa_layout *layout = &plan->layout[split->layout];
    int64_t below = layout->height + split->high[0] - split->data[0];
    int64_t zeros = below > -split->low[0] ? below : -split->low[0];
    int64_t stride = round_to_line((split->data[0] + zeros) * layout->pitch);
    int64_t front = -(int64_t)split->low[0] * layout->pitch - split->low[1];
    int64_t back = (int64_t)layout->vectors * LINE + /* a vector has at most LINE lanes */
                   (int64_t)split->high[0] * layout->pitch + split->high[1];
    int64_t planes = (int64_t)split->phases * plan->program.shapes[split->source].channels +
                     split->before + split->after;
    if (planes > MOST_FLOATS / stride) return -1;
    return add_slot(plan, (pa_slot){
                              .planes = (int32_t)planes,
                              .data = {split->data[0], split->data[1]},
                              .pitch = layout->pitch,
                              .stride = stride,
                              .slack = front > back ? front : back,
                              .owns = split->shortcut >= 0 || split->piecemeal,
                          });
}

/* -- values that lie in one another ----------------------------------------------------------- */

/* How many operands of a concat another concat joins too, all it joins, in the same order. */
static int32_t common_start(const pa_instruction *op, const pa_instruction *earlier) {
    if (earlier->operands >= op->operands) return 0;
    for (int32_t i = 0; i < earlier->operands; i++)
        if (earlier->operand[i] != op->operand[i]) return 0;
    return earlier->operands;
}

static void put_part(pa_plan *plan, int32_t value, int32_t whole, int32_t plane) {
    if (plan->part_of[value] != value || value == whole) return;
    plan->part_of[value] = plan->part_of[whole];
    plan->plane[value] = plan->plane[whole] + plane;
}

/* Whoever makes an operand of a concat of planes writes it where the concat has it. The last
 * concat is looked at first: what it joins may be concats, and then their operands follow. One
 * that begins like an earlier one (a block of DenseNet) holds that one whole. */
static void find_parts(pa_plan *plan) {
    const pa_program *program = &plan->program;
    for (int32_t v = 0; v < program->values; v++) plan->part_of[v] = v;
    for (int32_t i = program->instructions - 1; i >= 0; i--) {
        const pa_instruction *op = &program->instruction[i];
        if (op->opcode != PA_CONCAT || is_rows(plan, op->source)) continue;
        int32_t start = 0, plane = 0;
        for (int32_t e = i - 1; e >= 0 && !start; e--) {
            const pa_instruction *earlier = &program->instruction[e];
            if (earlier->opcode == PA_CONCAT) start = common_start(op, earlier);
            if (start) put_part(plan, earlier->result, op->result, 0);
        }
        for (int32_t k = 0; k < op->operands; k++) {
            if (k >= start) put_part(plan, op->operand[k], op->result, plane);
            plane += program->shapes[op->operand[k]].channels;
        }
    }
}

int pa_plan_in_place(const pa_plan *plan, const pa_instruction *op, int32_t index) {
    int32_t plane = plan->plane[op->result];
    for (int32_t k = 0; k < index; k++) plane += plan->program.shapes[op->operand[k]].channels;
    int32_t value = op->operand[index];
    return plan->part_of[value] == plan->part_of[op->result] && plan->plane[value] == plane;
}

/* The slot a value is written to, made when the first part of it is. */
static int32_t slot_for(pa_plan *plan, int32_t value) {
    int32_t whole = plan->part_of[value], *slot_of = plan->slot_of;
    if (slot_of[whole] < 0) slot_of[whole] = add_value_slot(plan, whole);
    slot_of[value] = slot_of[whole];
    if (value != whole && slot_of[whole] >= 0) plan->slot[slot_of[whole]].shared = 1;
    return slot_of[value];
}

/* -- steps ---------------------------------------------------------------------------------- */

static void use(pa_plan *plan, int32_t slot, int32_t step) {
    if (slot < 0) return;
    if (plan->slot[slot].born < 0) plan->slot[slot].born = step;
    plan->slot[slot].dies = step;
}

static void add_step(pa_plan *plan, pa_step step) {
    use(plan, step.source, plan->steps);
    use(plan, step.residual, plan->steps);
    use(plan, step.result, plan->steps);
    plan->step[plan->steps++] = step;
}

/* Whether a value's layout is that of the caller's arrays, so that it needs no copy. */
static int is_contiguous(const pa_plan *plan, int32_t value) {
    const pa_layout *layout = &plan->layout[plan->layout_of[value]];
    return !layout->keep && !layout->reach[0] && !layout->reach[1] &&
           layout->stride == (int64_t)layout->height * layout->width;
}

/* How often a value leaves the region, and how often an instruction reads it. */
static int32_t count_uses(const pa_program *program, int32_t value) {
    int32_t uses = 0;
    for (int32_t i = 0; i < program->outputs; i++) uses += program->output[i] == value;
    for (int32_t i = 0; i < program->instructions; i++) {
        const pa_instruction *op = &program->instruction[i];
        uses += (op->source == value) + (op->residual == value);
        for (int32_t k = 0; k < op->operands; k++) uses += op->operand[k] == value;
    }
    return uses;
}

/* Whether a product can write what it makes where the caller wants it, one plane right behind the
 * other, though in this layout planes have pads behind them: nobody else reads it. */
static int is_written_out(const pa_plan *plan, const pa_instruction *op) {
    const pa_program *program = &plan->program;
    if (op->opcode != PA_CONV || pa_is_depthwise(program, op)) return 0;
    const pa_layout *layout = &plan->layout[plan->layout_of[op->result]];
    int64_t positions = (int64_t)layout->height * layout->width;
    return layout->pitch == layout->width && (layout->vectors > 1 || positions % PA_LANES == 0) &&
           plan->part_of[op->result] == op->result && count_uses(program, op->result) == 1;
}

/* Leaves a slot with the caller, as an input or output, where the layouts agree. */
static int lend(pa_plan *plan, int32_t value, int32_t slot, int32_t port, int is_output) {
    if (plan->slot[slot].port >= 0 || !is_contiguous(plan, value)) return 0;
    if (plan->slot[slot].shared && (!is_output || plan->part_of[value] != value)) return 0;
    plan->slot[slot].port = port;
    plan->slot[slot].is_output = is_output;
    return 1;
}

/* The slot of a split, made by a step of its own when it is first asked for. */
static int32_t split_slot(pa_plan *plan, pa_split *split, const pa_instruction *op) {
    if (split->slot >= 0) return split->slot;
    split->slot = add_split_slot(plan, split);
    if (split->slot >= 0)
        add_step(plan, (pa_step){PA_STEP_SPLIT, -1, plan->slot_of[op->source], -1, split->slot, op,
                                 (int32_t)(split - plan->split)});
    return split->slot;
}

/* Whether a depthwise convolution is all that reads its split. Others read every channel of it at
 * once; this one finds a few in the nearest caches when it has just made them. */
static int is_piecemeal(const pa_plan *plan, const pa_split *split) {
    const pa_program *program = &plan->program;
    int32_t readers = 0;
    for (int32_t i = 0; i < program->instructions; i++) {
        const pa_instruction *op = &program->instruction[i];
        if (op->opcode != PA_CONV || op->source != split->source ||
            plan->layout_of[op->result] != split->layout ||
            op->window.stride[0] != split->stride[0] ||
            op->window.stride[1] != split->stride[1] || pa_conv_reach(program, op).aligned)
            continue;
        if (!pa_is_depthwise(program, op)) return 0;
        readers++;
    }
    return readers == 1 && split->shortcut < 0;
}

/* The slot a conv reads: its source, or the split of it. */
static int32_t conv_input(pa_plan *plan, const pa_instruction *op) {
    int32_t index = pa_split_of(plan, op);
    if (index < 0) return plan->slot_of[op->source];
    pa_split *split = &plan->split[index];
    split->piecemeal = is_piecemeal(plan, split);
    int32_t slot = split_slot(plan, split, op);
    if (split->piecemeal) use(plan, plan->slot_of[op->source], plan->steps);
    return slot;
}

/* The split that a subsampled value is part of, or null. */
static pa_split *shortcut_split(pa_plan *plan, int32_t value) {
    for (int32_t i = 0; i < plan->splits; i++)
        if (plan->split[i].shortcut == value) return &plan->split[i];
    return NULL;
}

/* The step that copies what no instruction could write where the concat has it. */
static int add_concat(pa_plan *plan, const pa_instruction *op) {
    pa_step step = {PA_STEP_COMPUTE, -1, -1, -1, slot_for(plan, op->result), op, -1};
    const int32_t *slot_of = plan->slot_of;
    int copies = 0;
    if (step.result < 0) return -1;
    for (int32_t i = 0; i < op->operands; i++) {
        use(plan, slot_of[op->operand[i]], plan->steps);
        copies |= !pa_plan_in_place(plan, op, i);
    }
    if (copies) add_step(plan, step);
    return 0;
}

static int add_compute(pa_plan *plan, const pa_instruction *op) {
    pa_step step = {PA_STEP_COMPUTE, -1, -1, -1, -1, op, -1};
    if (is_rows(plan, op->source)) {
        if (op->opcode == PA_LINEAR) step.item = plan->linears++;
        if (op->opcode == PA_LAYER_NORM) step.item = plan->norms++;
        plan->row_step[plan->row_steps++] = step;
        return 0;
    }
    if (op->opcode == PA_CONCAT) return add_concat(plan, op);
    pa_split *split = shortcut_split(plan, op->result);
    if (split) {
        plan->slot_of[op->result] = split_slot(plan, split, op);
        return plan->slot_of[op->result] < 0 ? -1 : 0;
    }
    const int32_t *slot_of = plan->slot_of;
    step.source = op->opcode == PA_CONV ? conv_input(plan, op) : slot_of[op->source];
    if (op->opcode == PA_CONV) step.item = plan->convs++;
    if (op->residual >= 0) step.residual = slot_of[op->residual];
    if (!is_rows(plan, op->result)) {
        step.result = slot_for(plan, op->result);
        if (step.result < 0) return -1;
    }
    if (step.source < 0) return -1;
    add_step(plan, step);
    return 0;
}

static void add_stores(pa_plan *plan, const pa_instruction *op) {
    int32_t value = op->result, slot = plan->slot_of[value];
    for (int32_t i = 0; i < plan->program.outputs; i++) {
        if (plan->program.output[i] != value || lend(plan, value, slot, i, 1)) continue;
        if (is_written_out(plan, op)) {
            const pa_slot *planes = &plan->slot[slot];
            plan->slot[slot].stride = (int64_t)planes->data[0] * planes->data[1];
            plan->slot[slot].port = i;
            plan->slot[slot].is_output = 1;
        } else {
            add_step(plan, (pa_step){PA_STEP_STORE, i, slot, -1, -1, NULL, -1});
        }
    }
}

static int add_steps(pa_plan *plan, pa_error error) {
    const pa_program *program = &plan->program;
    int32_t *slot_of = plan->slot_of;
    for (int32_t v = 0; v < program->values; v++) slot_of[v] = -1;
    for (int32_t v = 0; v < program->inputs; v++) {
        if (is_rows(plan, v) || pa_only_split(plan, v) >= 0) continue;
        if (slot_for(plan, v) < 0) return pa_fail(error, "input %d: too large", v);
        if (!lend(plan, v, slot_of[v], v, 0))
            add_step(plan, (pa_step){PA_STEP_LOAD, v, -1, -1, slot_of[v], NULL, -1});
    }
    for (int32_t i = 0; i < program->instructions; i++) {
        const pa_instruction *op = &program->instruction[i];
        if (add_compute(plan, op)) return pa_fail(error, "instruction %d: too large", i);
        if (!is_rows(plan, op->result)) add_stores(plan, op);
    }
    return 0;
}

/* -- weights -------------------------------------------------------------------------------- */

int pa_is_depthwise(const pa_program *program, const pa_instruction *op) {
    return op->opcode == PA_CONV && op->groups > 1 &&
           op->groups == program->shapes[op->source].channels &&
           op->groups == program->shapes[op->result].channels;
}

static int pack_depthwise(pa_conv *conv, const pa_weight *weight, pa_columns columns) {
    conv->taps = malloc((size_t)weight->rows * (size_t)weight->cols * sizeof(float));
    conv->tap_offset = (int32_t *)columns.offset;
    conv->tap_group = (uint8_t *)columns.group;
    conv->tap_groups = columns.groups;
    if (conv->taps) pa_unpack(weight, conv->taps);
    return conv->taps ? 0 : -1;
}

static int pack_conv(pa_plan *plan, const pa_step *step) {
    const pa_weight *weight = &plan->program.weight[step->op->weight];
    pa_conv *conv = &plan->conv[step->item];
    pa_columns columns;
    conv->bias = calloc((size_t)weight->rows, sizeof(float));
    if (!conv->bias) return -1;
    if (step->op->bias) memcpy(conv->bias, step->op->bias, (size_t)weight->rows * sizeof(float));
    if (pa_conv_columns(plan, step->op, plan->slot[step->source].stride, &columns, &conv->lanes))
        return -1;
    if (pa_is_depthwise(&plan->program, step->op)) return pack_depthwise(conv, weight, columns);
    int failed = pa_pack(weight, pa_product_height, columns, &conv->strips);
    free((void *)columns.offset);
    free((void *)columns.group);
    return failed;
}

static float *copy_floats(const float *from, int32_t count) {
    float *copy = calloc((size_t)count, sizeof *copy);
    if (copy && from) memcpy(copy, from, (size_t)count * sizeof *copy);
    return copy;
}

static int pack_norm(pa_plan *plan, const pa_step *step) {
    int32_t features = plan->program.shapes[step->op->source].channels;
    pa_norm *norm = &plan->norm[step->item];
    norm->scale = copy_floats(step->op->scale, features);
    norm->bias = copy_floats(step->op->bias, features);
    return norm->scale && norm->bias ? 0 : -1;
}

static int pack_weights(pa_plan *plan) {
    for (int32_t i = 0; i < plan->steps; i++)
        if (plan->step[i].item >= 0 && plan->step[i].kind == PA_STEP_COMPUTE)
            if (pack_conv(plan, &plan->step[i])) return -1;
    for (int32_t i = 0; i < plan->row_steps; i++) {
        const pa_step *step = &plan->row_step[i];
        if (step->op->opcode == PA_LAYER_NORM && pack_norm(plan, step)) return -1;
        if (step->op->opcode == PA_LINEAR &&
            pa_linear_make(&plan->linear[step->item], &plan->program.weight[step->op->weight],
                           step->op->bias))
            return -1;
    }
    return 0;
}

/* Drops the pointers into the caller's blobs. */
static void forget_blobs(pa_program *program) {
    for (int32_t i = 0; i < program->weights; i++)
        program->weight[i].values = NULL, program->weight[i].mask = NULL;
    for (int32_t i = 0; i < program->instructions; i++)
        program->instruction[i].bias = program->instruction[i].scale = NULL;
}

/* -- the whole ------------------------------------------------------------------------------ */

static int allocate(pa_plan *plan) {
    size_t values = (size_t)plan->program.values, ops = (size_t)plan->program.instructions;
    size_t steps = values + ops + (size_t)plan->program.outputs;
    plan->layout = calloc(values, sizeof *plan->layout);
    plan->layout_of = calloc(values, sizeof *plan->layout_of);
    plan->part_of = calloc(values, sizeof *plan->part_of);
    plan->plane = calloc(values, sizeof *plan->plane);
    plan->slot_of = calloc(values, sizeof *plan->slot_of);
    plan->norm = calloc(ops, sizeof *plan->norm);
    plan->slot = calloc(values + ops, sizeof *plan->slot);
    plan->buffer = calloc(values + ops, sizeof *plan->buffer);
    plan->split = calloc(ops, sizeof *plan->split);
    plan->conv = calloc(ops, sizeof *plan->conv);
    plan->linear = calloc(ops, sizeof *plan->linear);
    plan->step = calloc(steps, sizeof *plan->step);
    plan->row_step = calloc(ops, sizeof *plan->row_step);
    plan->row_place = calloc(values, sizeof *plan->row_place);
    return plan->layout && plan->layout_of && plan->part_of && plan->plane && plan->slot_of && plan->norm && plan->slot && plan->buffer && plan->split &&
                   plan->conv && plan->linear && plan->step && plan->row_step && plan->row_place
               ? 0
               : -1;
}

int pa_plan_make(pa_plan *plan, pa_error error) {
    if (allocate(plan)) return pa_fail(error, "out of memory");
    if (pa_layouts_make(plan, error)) return -1;
    find_parts(plan);
    if (add_steps(plan, error) || pa_buffers_place(plan, error)) return -1;
    if (pa_rows_reserve(plan) || pack_weights(plan)) return pa_fail(error, "out of memory");
    forget_blobs(&plan->program);
    return 0;
}

void pa_plan_free(pa_plan *plan) {
    for (int32_t i = 0; i < plan->layouts; i++) free(plan->layout[i].keep);
    for (int32_t i = 0; i < plan->splits; i++) free(plan->split[i].phase);
    for (int32_t i = 0; i < plan->convs; i++) {
        pa_strips_free(&plan->conv[i].strips);
        free(plan->conv[i].bias);
        free(plan->conv[i].lanes);
        free(plan->conv[i].taps);
        free(plan->conv[i].tap_offset);
        free(plan->conv[i].tap_group);
    }
    for (int32_t i = 0; i < plan->linears; i++) pa_linear_free(&plan->linear[i]);
    for (int32_t i = 0; i < plan->norms; i++) {
        free(plan->norm[i].scale);
        free(plan->norm[i].bias);
    }
    void *arrays[] = {plan->part_of, plan->plane, plan->slot_of, plan->norm, plan->layout, plan->layout_of, plan->slot,     plan->buffer,   plan->split,
                      plan->conv,   plan->linear,    plan->step,     plan->row_step, plan->row_place};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
    pa_program_free(&plan->program);
}

int64_t pa_plan_weight_bytes(const pa_plan *plan) {
    int64_t bytes = 0;
    for (int32_t i = 0; i < plan->convs; i++) bytes += pa_strips_bytes(&plan->conv[i].strips);
    for (int32_t i = 0; i < plan->steps; i++)
        if (plan->step[i].kind == PA_STEP_COMPUTE && pa_is_depthwise(&plan->program, plan->step[i].op))
            bytes += (int64_t)plan->step[i].op->groups * plan->step[i].op->window.kernel[0] *
                     plan->step[i].op->window.kernel[1] * (int64_t)sizeof(float);
    for (int32_t i = 0; i < plan->linears; i++) bytes += pa_linear_bytes(&plan->linear[i]);
    return bytes;
}

double pa_plan_shareable(const pa_plan *plan, int64_t samples) {
    double work = 0.0; /* may be more than an integer holds */
    for (int32_t i = 0; i < plan->steps; i++) {
        const pa_step *step = &plan->step[i];
        if (step->kind != PA_STEP_COMPUTE || step->op->opcode != PA_CONV) continue;
        const pa_shape *shape = &plan->program.shapes[step->op->result];
        int64_t positions = (int64_t)shape->height * shape->width;
        work += (double)pa_shareable(plan->conv[step->item].strips.floats, positions) * (double)samples;
    }
    for (int32_t i = 0; i < plan->linears; i++)
        work += (double)pa_shareable(plan->linear[i].tokens.floats, samples);
    return work;
}
