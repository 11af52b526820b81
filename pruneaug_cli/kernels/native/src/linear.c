/* Rows times a weight, in two ways: token-major (tokens.c), with outputs in a vector's lanes, which
 * wants strips as high as a vector is long; and channel-major (product.c), with samples in them,
 * for lower blocks when there are enough samples. */
#include "linear.h"

#include <stdlib.h>
#include <string.h>

#include "parallel.h"
#include "product.h"
#include "tokens.h"
#include "transpose.h"
#include "vector.h"

enum {
    LINE_BYTES = 64,
    WIDE_PANEL = 96,   /* samples of a channel-major panel: six vectors, the widest tile */
    NARROW_PANEL = 48, /* three: when the inputs of a wide one would not fit the second cache */
    WIDE_COLS = 1024,
};

float *pa_scratch_take(pa_scratch *scratch, int64_t floats) {
    if (floats > scratch->size) {
        pa_scratch_free(scratch);
        size_t bytes = ((size_t)floats * sizeof(float) / LINE_BYTES + 1) * LINE_BYTES;
        scratch->floats = aligned_alloc(LINE_BYTES, bytes);
        scratch->size = scratch->floats ? floats : 0;
    }
    return scratch->floats;
}

void pa_scratch_free(pa_scratch *scratch) {
    free(scratch->floats);
    *scratch = (pa_scratch){0};
}

/* Rows of a block that share columns: the height of a strip, before padding. */
static int32_t shared_rows(const pa_weight *weight) {
    return weight->block_rows < weight->rows ? weight->block_rows : weight->rows;
}

/* Inputs of neighbouring columns lie `pitch` floats apart. */
static int pack(const pa_weight *weight, pa_next_height height, int32_t pitch, pa_strips *strips) {
    size_t cols = (size_t)weight->cols;
    int32_t *offset = malloc(cols * sizeof *offset);
    int failed = !offset;
    for (size_t k = 0; k < cols && !failed; k++) offset[k] = (int32_t)k * pitch;
    if (!failed) failed = pa_pack(weight, height, (pa_columns){offset, NULL, 1}, strips);
    free(offset);
    return failed;
}

/* From how many samples on the channel-major kernel is better; 0: never. Cycles per sample, of
 * AVX-512 (the ratios hold elsewhere); transposing costs about one per input and output.
 *
 * The token-major kernel is bound by multiply-adds when strips fill a vector, else by its
 * broadcasts, two a cycle, however few lanes of outputs they fill. */
static int32_t channels_from(const pa_linear *linear, int32_t height) {
    double entries = (double)linear->tokens.entries;
    double transposes = (double)linear->rows + linear->cols;
    if (height >= PA_LANES) return 0;
    double token = 0.55 * entries;
    double channel = entries * (height < 3 ? 0.75 : 0.25 * height) * 2 / PA_LANES + transposes;
    if (channel >= token) return 0;
    return PA_LANES < PA_TOKENS_AS_ROWS ? PA_LANES : PA_TOKENS_AS_ROWS + 1;
}

/* Columns times the pitch of packed samples, once: the kernel is bound by how much it decodes. */
static int scale_offsets(pa_linear *linear) {
    size_t count = (size_t)linear->tokens.entries + PA_OFFSETS_AHEAD;
    linear->packed_offsets = malloc(count * sizeof *linear->packed_offsets);
    if (!linear->packed_offsets) return -1;
    for (size_t e = 0; e < count; e++)
        linear->packed_offsets[e] = linear->tokens.offsets[e] * PA_TOKENS_PITCH;
    return 0;
}

int pa_linear_make(pa_linear *linear, const pa_weight *weight, const float *bias) {
    size_t rows = (size_t)weight->rows;
    *linear = (pa_linear){.rows = weight->rows, .cols = weight->cols};
    linear->bias = calloc(rows + PA_LANES, sizeof(float)); /* read whole vectors at the end */
    if (!linear->bias) return -1;
    if (bias) memcpy(linear->bias, bias, rows * sizeof(float));
    if (pack(weight, pa_tokens_height, 1, &linear->tokens)) return -1;
    linear->channels_from = channels_from(linear, shared_rows(weight));
    if (!linear->channels_from) return scale_offsets(linear);
    linear->panel = weight->cols <= WIDE_COLS ? WIDE_PANEL : NARROW_PANEL;
    return pack(weight, pa_product_height, linear->panel, &linear->channels);
}

void pa_linear_free(pa_linear *linear) {
    pa_strips_free(&linear->tokens);
    pa_strips_free(&linear->channels);
    free(linear->packed_offsets);
    free(linear->bias);
    *linear = (pa_linear){0};
}

int64_t pa_linear_bytes(const pa_linear *linear) {
    int64_t packed = linear->packed_offsets ? linear->tokens.entries : 0;
    return pa_strips_bytes(&linear->tokens) + pa_strips_bytes(&linear->channels) +
           packed * (int64_t)sizeof *linear->packed_offsets;
}

/* Panels of samples: transposed, multiplied like planes, transposed back. */
static int run_channels(const pa_linear *linear, const pa_rows *rows, pa_scratch *scratch,
                        pa_crew *crew) {
    const int32_t panel = linear->panel; /* a multiple of a cache line's 16 floats */
    float *inputs = pa_scratch_take(scratch, ((int64_t)linear->cols + linear->rows) * panel);
    if (!inputs) return -1;
    float *sums = inputs + (int64_t)linear->cols * panel;
    for (int64_t s = 0; s < rows->samples; s += panel) {
        int64_t left = rows->samples - s, samples = left < panel ? left : panel;
        int32_t vectors = (int32_t)((samples + PA_LANES - 1) / PA_LANES);
        pa_product product = {
            .strips = &linear->channels,
            .bias = linear->bias,
            .x = inputs,
            .y = sums,
            .y_stride = panel,
            .planes = linear->cols,
            .vectors = vectors,
        };
        int64_t place = s * linear->rows;
        pa_to_panel(rows->x + s * linear->cols, linear->cols, samples, inputs, panel);
        pa_run_strips(crew, &linear->channels, samples, pa_product_run, &product);
        pa_from_panel(sums, panel, linear->rows, samples,
                      rows->residual ? rows->residual + place : NULL, rows->activation,
                      rows->y + place);
    }
    return 0;
}

int pa_linear_run(const pa_linear *linear, const pa_rows *rows, pa_scratch *scratch,
                  pa_crew *crew) {
    if (linear->channels.count && rows->samples >= linear->channels_from)
        return run_channels(linear, rows, scratch, crew);
    return pa_tokens_run(linear, rows, scratch, crew);
}
