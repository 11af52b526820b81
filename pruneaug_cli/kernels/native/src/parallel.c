/* How work is cut: into chunks of equal cost, a few per thread, none too small. */
#include "parallel.h"

enum {
    LEAST_WORK = 1 << 19, /* multiply-adds of a chunk, 8 us: what another core has just written comes
                           * slowly, above all between those of a virtual machine. With chunks of 2 us
                           * two threads were a third slower than one on ResNet-20 at 75% */
    CHUNKS = 4,           /* per thread: what a late one leaves, the others take over */
    MOST_CHUNKS = 256,
    LEAST_USES = 8, /* of a weight: fetching it takes so many multiply-adds */
};

/* How many chunks; 1: not worth sharing. */
static int32_t count_chunks(const pa_crew *crew, int64_t work, int64_t most) {
    int64_t size = pa_crew_size(crew), chunks = work / LEAST_WORK;
    if (size < 2) return 1;
    if (chunks > size * CHUNKS) chunks = size * CHUNKS;
    if (chunks > most) chunks = most;
    if (chunks > MOST_CHUNKS) chunks = MOST_CHUNKS;
    if (chunks > size) chunks -= chunks % size; /* each thread gets its share */
    return chunks < 2 ? 1 : (int32_t)chunks;
}

typedef struct {
    pa_range_task task;
    const void *work;
    int32_t end[MOST_CHUNKS]; /* of each chunk */
} cuts;

static void run_cut(const void *context, int32_t index) {
    const cuts *cut = context;
    int32_t first = index ? cut->end[index - 1] : 0;
    if (first < cut->end[index]) cut->task(cut->work, first, cut->end[index]);
}

/* pa_strips.strip[].value counts the weights before a strip: a cut is a search in it. Real masks
 * are uneven, so equal numbers of rows would leave threads waiting. */
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

/* a * b, or as much as fits. */
static int64_t times(int64_t a, int64_t b) { return b > 0 && a > INT64_MAX / b ? INT64_MAX : a * b; }

int64_t pa_shareable(int64_t weights, int64_t positions) {
    int64_t work = times(weights, positions > LEAST_USES ? positions : LEAST_USES);
    return work / LEAST_WORK < 2 ? 0 : work;
}

void pa_run_strips(pa_crew *crew, const pa_strips *strips, int64_t positions, pa_range_task task,
                   const void *work) {
    int64_t uses = positions > LEAST_USES ? positions : LEAST_USES;
    int32_t chunks = count_chunks(crew, times(strips->floats, uses), strips->count);
    if (chunks < 2) {
        task(work, 0, strips->count);
        return;
    }
    cuts cut = {.task = task, .work = work};
    for (int32_t i = 0; i < chunks; i++)
        cut.end[i] = cut_at(strips, strips->floats / chunks * (i + 1));
    cut.end[chunks - 1] = strips->count;
    pa_crew_share(crew, chunks, run_cut, &cut);
}

void pa_run_range(pa_crew *crew, int32_t count, int32_t least, int64_t cost, pa_range_task task,
                  const void *work) {
    int32_t chunks = count_chunks(crew, times(cost, count), count / least);
    if (chunks < 2) {
        task(work, 0, count);
        return;
    }
    cuts cut = {.task = task, .work = work};
    for (int32_t i = 0; i < chunks; i++) cut.end[i] = (int32_t)((int64_t)count * (i + 1) / chunks);
    pa_crew_share(crew, chunks, run_cut, &cut);
}
