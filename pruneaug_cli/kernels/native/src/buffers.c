/* Where in memory a plan's values lie: values that never live together take turns in a buffer. */
#include <stdlib.h>

#include "plan.h"
#include "region.h"
#include "vector.h"

#define MOST_WORKSPACE ((int64_t)1 << 32) /* floats: 16 GiB */
enum {
    LINE = 16,
    MOST_OVERLAID = 256, /* buffers: finding places takes the cube of it */
};

static int is_rows(const pa_plan *plan, int32_t value) {
    return plan->program.shapes[value].kind == PA_ROWS;
}

static int same_geometry(const pa_slot *a, const pa_slot *b) {
    return a->data[0] == b->data[0] && a->data[1] == b->data[1] && a->pitch == b->pitch &&
           a->stride == b->stride;
}

static void give_buffer(pa_plan *plan, int32_t slot, int32_t buffer) {
    pa_slot *taker = &plan->slot[slot];
    pa_buffer *given = &plan->buffer[buffer];
    int64_t floats = taker->planes * taker->stride;
    taker->buffer = buffer;
    if (given->dies < taker->dies) given->dies = taker->dies;
    given->slot = slot;
    if (given->floats < floats) given->floats = floats;
    if (given->slack < taker->slack) given->slack = taker->slack;
}

/* Whether the result may overwrite this operand: it dies here, and each float is read (by the
 * same kernel call, just before) only where it is written. */
static int can_overwrite(const pa_plan *plan, int32_t index, int32_t slot) {
    const pa_step *step = &plan->step[index];
    if (slot < 0 || plan->slot[slot].dies != index || plan->slot[slot].port >= 0) return 0;
    if (!same_geometry(&plan->slot[slot], &plan->slot[step->result])) return 0;
    if (plan->slot[slot].shared || plan->slot[slot].owns) return 0;
    if (plan->slot[step->result].shared) return 0;
    switch (step->op->opcode) {
        case PA_CONV: return slot == step->residual && slot != step->source;
        case PA_ADD:
        case PA_ACTIVATE: return 1;
        default: return 0;
    }
}

static void place_slot(pa_plan *plan, int32_t index) {
    const pa_step *step = &plan->step[index];
    const pa_slot *slot = &plan->slot[step->result];
    if (slot->port >= 0 || slot->buffer >= 0) return;
    if (step->kind == PA_STEP_COMPUTE) {
        int32_t operands[2] = {step->residual, step->source};
        for (int i = 0; i < 2; i++)
            if (can_overwrite(plan, index, operands[i])) {
                give_buffer(plan, step->result, plan->slot[operands[i]].buffer);
                return;
            }
    }
    for (int32_t b = 0; b < plan->buffers; b++) {
        const pa_slot *holder = &plan->slot[plan->buffer[b].slot];
        if (holder->dies < index && !holder->owns && !slot->owns && same_geometry(holder, slot)) {
            give_buffer(plan, step->result, b);
            return;
        }
    }
    plan->buffer[plan->buffers] = (pa_buffer){.born = slot->born};
    give_buffer(plan, step->result, plan->buffers++);
}

/* -- buffers in the same memory, one after the other ------------------------------------------- */

static int64_t size_of(const pa_buffer *buffer) { return buffer->floats + 2 * buffer->slack; }

static int live_together(const pa_buffer *a, const pa_buffer *b) {
    return a->born <= b->dies && b->born <= a->dies;
}

/* The lowest place that is free while a buffer lives, among those in order[0 .. placed). */
static int64_t find_place(const pa_buffer *buffers, const int32_t *order, int32_t placed,
                          const pa_buffer *buffer) {
    int64_t start = 0;
    for (int32_t i = 0; i < placed; i++) {
        const pa_buffer *other = &buffers[order[i]];
        int64_t first = other->place - other->slack, end = first + size_of(other);
        if (!live_together(buffer, other) || end <= start || first >= start + size_of(buffer))
            continue;
        start = end;
        i = -1; /* those before may be in the way now */
    }
    return start + buffer->slack;
}

/* Floats of each plane that a step writes, pads too; 0: only the data of rows. */
static int64_t covered_by(const pa_plan *plan, const pa_step *step, const pa_slot *slot) {
    if (step->kind == PA_STEP_SPLIT) return (int64_t)slot->data[0] * slot->pitch;
    if (step->kind != PA_STEP_COMPUTE || step->op->opcode != PA_CONV || slot->shared) return 0;
    return (int64_t)plan->layout[plan->layout_of[step->op->result]].vectors * PA_LANES;
}

/* The steps that make what lies in a buffer clear those pads that no step before has cleared. */
static void add_clearing(pa_plan *plan, int32_t buffer) {
    int32_t cleared = 0;
    for (int32_t i = plan->buffer[buffer].born; i < plan->steps; i++) {
        pa_step *step = &plan->step[i];
        pa_slot *slot = step->result < 0 ? NULL : &plan->slot[step->result];
        if (!slot || slot->buffer != buffer || slot->born != i) continue;
        step->clears = slot->planes > cleared;
        slot->cleared = cleared;
        slot->covered = covered_by(plan, step, slot);
        if (step->clears) cleared = slot->planes;
    }
}

/* What is touched in a run stays in nearer caches when buffers of different geometries take turns
 * in the same memory. Largest first; those whose zeros are never written lie alone. */
static void overlay(pa_plan *plan) {
    int32_t order[MOST_OVERLAID];
    plan->workspace = 0;
    for (int32_t b = 0; b < plan->buffers; b++) {
        int32_t at = b;
        for (; at > 0 && size_of(&plan->buffer[order[at - 1]]) < size_of(&plan->buffer[b]); at--)
            order[at] = order[at - 1];
        order[at] = b;
        if (!plan->slot[plan->buffer[b].slot].owns) continue;
        plan->buffer[b].born = 0;
        plan->buffer[b].dies = plan->steps;
    }
    for (int32_t i = 0; i < plan->buffers; i++) {
        pa_buffer *buffer = &plan->buffer[order[i]];
        buffer->place = find_place(plan->buffer, order, i, buffer);
        int64_t end = buffer->place + buffer->floats + buffer->slack;
        if (plan->workspace < end) plan->workspace = end;
    }
    for (int32_t b = 0; b < plan->buffers; b++)
        if (!plan->slot[plan->buffer[b].slot].owns) add_clearing(plan, b);
}

int pa_buffers_place(pa_plan *plan, pa_error error) {
    for (int32_t i = 0; i < plan->steps; i++)
        if (plan->step[i].result >= 0) place_slot(plan, i);
    for (int32_t b = 0; b < plan->buffers; b++) {
        plan->buffer[b].place = plan->workspace + plan->buffer[b].slack;
        plan->workspace += size_of(&plan->buffer[b]);
    }
    if (plan->buffers <= MOST_OVERLAID) overlay(plan);
    if (plan->workspace > MOST_WORKSPACE)
        return pa_fail(error, "the region's planes need more than %lld floats",
                       (long long)MOST_WORKSPACE);
    return 0;
}

/* -- rows ----------------------------------------------------------------------------------- */

/* Rows: values that are region inputs or outputs live with the caller, the others in an arena
 * where values take turns. What planes turn into is written first, before any row step. */
int pa_rows_reserve(pa_plan *plan) {
    const pa_program *program = &plan->program;
    size_t values = (size_t)program->values;
    int32_t *dies = malloc(values * sizeof *dies), *holder = malloc(values * sizeof *holder);
    int64_t *size = calloc(values, sizeof *size), *chosen = malloc(values * sizeof *chosen);
    int32_t buffers = 0;
    int failed = !dies || !holder || !size || !chosen;
    for (int32_t v = 0; v < program->values && !failed; v++) {
        dies[v] = is_rows(plan, v) && v >= program->inputs ? v : -1;
        plan->row_place[v] = chosen[v] = -1;
    }
    for (int32_t i = 0; i < program->instructions && !failed; i++) {
        const pa_instruction *op = &program->instruction[i];
        if (op->source >= program->inputs) dies[op->source] = op->result;
        if (op->residual >= program->inputs) dies[op->residual] = op->result;
        for (int32_t k = 0; k < op->operands; k++)
            if (op->operand[k] >= program->inputs) dies[op->operand[k]] = op->result;
    }
    for (int32_t i = 0; i < program->outputs && !failed; i++) dies[program->output[i]] = -1;
    for (int crossing = 1; crossing >= 0 && !failed; crossing--)
        for (int32_t i = 0; i < program->instructions; i++) {
            int32_t v = program->inputs + i, b = crossing ? buffers : 0;
            if (!is_rows(plan, v) || dies[v] < 0) continue;
            if (crossing == is_rows(plan, program->instruction[i].source)) continue;
            while (b < buffers && dies[holder[b]] >= v) b++;
            if (b == buffers) buffers++;
            holder[b] = v;
            chosen[v] = b;
            if (size[b] < program->shapes[v].channels) size[b] = program->shapes[v].channels;
        }
    for (int32_t b = 0; b < buffers && !failed; b++) {
        for (int32_t v = 0; v < program->values; v++)
            if (chosen[v] == b) plan->row_place[v] = plan->row_floats;
        plan->row_floats += (size[b] + LINE - 1) / LINE * LINE;
    }
    free(dies);
    free(holder);
    free(size);
    free(chosen);
    return failed ? -1 : 0;
}
