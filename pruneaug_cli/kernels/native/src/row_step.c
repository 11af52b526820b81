/* Runs one step on rows, its work shared by the crew. */
#include "parallel.h"
#include "rows.h"
#include "step.h"

enum {
    ELEMENT = 16,         /* multiply-adds that take as long as reading and writing a float */
    MOST_ROWS = 1 << 30,  /* normalised at a time: their numbers are int32 */
};

static void run_normalisation(const pa_run *call, const pa_step *step) {
    const pa_plan *plan = call->plan;
    const pa_instruction *op = step->op;
    const pa_norm *norm = &plan->norm[step->item];
    pa_normalisation normalisation = {
        .from = call->space->row[op->source],
        .to = call->space->row[op->result],
        .scale = norm->scale,
        .bias = norm->bias,
        .features = plan->program.shapes[op->source].channels,
        .epsilon = op->epsilon,
    };
    for (int64_t left = call->samples; left > 0; left -= MOST_ROWS) {
        pa_run_range(call->crew, (int32_t)(left < MOST_ROWS ? left : MOST_ROWS), 1,
                     ELEMENT * normalisation.features, pa_rows_normalise, &normalisation);
        normalisation.from += MOST_ROWS * normalisation.features;
        normalisation.to += MOST_ROWS * normalisation.features;
    }
}

static void run_concat(const pa_run *call, const pa_instruction *op) {
    const pa_program *program = &call->plan->program;
    float **row = call->space->row, *to = row[op->result];
    int64_t pitch = program->shapes[op->result].channels;
    for (int32_t i = 0; i < op->operands; i++) {
        int64_t features = program->shapes[op->operand[i]].channels;
        pa_rows_place(row[op->operand[i]], features, call->samples, to, pitch);
        to += features;
    }
}

int pa_run_row_step(const pa_run *call, const pa_step *step) {
    const pa_plan *plan = call->plan;
    const pa_instruction *op = step->op;
    float **row = call->space->row;
    const float *residual = op->residual >= 0 ? row[op->residual] : NULL;
    if (op->opcode == PA_LINEAR) {
        pa_rows rows = {row[op->source], residual, row[op->result], call->samples,
                        op->activation};
        return pa_linear_run(&plan->linear[step->item], &rows, &call->space->scratch,
                             call->crew);
    }
    if (op->opcode == PA_LAYER_NORM)
        run_normalisation(call, step);
    else if (op->opcode == PA_CONCAT)
        run_concat(call, op);
    else
        pa_rows_add(row[op->source], residual, op->activation, row[op->result],
                    call->samples * pa_value_size(&plan->program, op->result));
    return 0;
}
