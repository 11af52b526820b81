/* Cuts strips into chunks with about equal numbers of weights: real masks are uneven, so equal
 * numbers of rows would leave threads waiting. */
#include "parallel.h"

enum {
    LEAST_WORK = 1 << 20, /* multiply-adds of a chunk, about 10 us: waking a thread takes 2 to 5 */
    MOST_CHUNKS = 64,
};

typedef struct {
    pa_strip_task task;
    const void *work;
    int32_t end[MOST_CHUNKS]; /* of each chunk of strips */
} sharing;

/* pa_strips.strip[].value counts the weights before a strip: a cut is a search in it. */
static int32_t cut_at(const pa_strips *strips, int64_t weights) {
    int32_t low = 0, high = strips->count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (strips->strip[middle].value < weights)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void run_chunk(void *context, size_t index) {
    const sharing *shared = context;
    int32_t first = index ? shared->end[index - 1] : 0;
    if (first < shared->end[index]) shared->task(shared->work, first, shared->end[index]);
}

void pa_run_strips(const pa_parallel *parallel, const pa_strips *strips, int64_t positions,
                   pa_strip_task task, const void *work) {
    int64_t chunks = strips->floats / LEAST_WORK * positions +
                     strips->floats % LEAST_WORK * positions / LEAST_WORK;
    if (chunks > strips->count) chunks = strips->count;
    if (chunks > MOST_CHUNKS) chunks = MOST_CHUNKS;
    if (!parallel || chunks < 2) {
        task(work, 0, strips->count);
        return;
    }
    sharing shared = {.task = task, .work = work};
    for (int64_t i = 0; i < chunks; i++)
        shared.end[i] = cut_at(strips, strips->floats / chunks * (i + 1));
    shared.end[chunks - 1] = strips->count;
    parallel->run(parallel->state, run_chunk, &shared, (size_t)chunks);
}
