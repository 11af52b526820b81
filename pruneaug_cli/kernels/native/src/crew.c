/* A crew is made once per run of a region, not once per layer: handing a piece of work to a thread
 * that watches takes a few hundred nanoseconds, waking the pool several microseconds.
 *
 * All threads of the pool are offered a place. The first to arrive leads: it runs the region's
 * steps. The others wait for work that is shared, until the leader is done. Nobody waits for a
 * thread that has not come, so it does not matter how many the pool can spare.
 *
 * `phase` counts openings and closings of the shared work: odd is open. A helper enters by
 * counting itself `inside` and looking again whether the phase is still the one it saw; the leader
 * closes the phase and waits until nobody is inside before it touches the work. Both orders are
 * sequentially consistent, so one of the two sees the other. */
#include "crew.h"

#include <string.h>

#if defined(__unix__) || defined(__APPLE__)
#include <sched.h>
#include <unistd.h>
#endif

enum {
    MOST = 64, /* threads of a crew */
    LINE_BYTES = 64,
    PATIENCE = 1024, /* looks at a value that does not change before others get the processor */
    DONE = -1,       /* the phase after the last */
};

typedef struct { /* chunks that one thread takes first; others help when theirs are done */
    _Alignas(LINE_BYTES) atomic_int next;
    int32_t end;
} queue;

struct pa_crew {
    void (*lead)(void *context, pa_crew *crew);
    void *context;
    atomic_int arrivals, helpers;
    int32_t usual;

    int32_t queues; /* the shared work */
    void (*task)(const void *work, int32_t chunk);
    const void *work;

    _Alignas(LINE_BYTES) atomic_int phase;
    _Alignas(LINE_BYTES) atomic_int inside;
    queue queue[MOST];
};

static void pause_briefly(int32_t looks) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
#if defined(__unix__) || defined(__APPLE__)
    if (looks % PATIENCE == PATIENCE - 1) sched_yield();
#else
    (void)looks;
#endif
}

static void work_on(pa_crew *crew, int32_t turn) {
    for (int32_t i = 0; i < crew->queues; i++) {
        queue *from = &crew->queue[(turn + i) % crew->queues];
        for (;;) {
            int32_t chunk = atomic_fetch_add(&from->next, 1);
            if (chunk >= from->end) break;
            crew->task(crew->work, chunk);
        }
    }
}

static void help(pa_crew *crew, int32_t turn) {
    int32_t done = 0; /* the last phase worked in */
    atomic_fetch_add(&crew->helpers, 1);
    for (int32_t looks = 0;; looks++) {
        int32_t phase = atomic_load(&crew->phase);
        if (phase == DONE) return;
        if (phase % 2 == 0 || phase == done) {
            pause_briefly(looks);
            continue;
        }
        atomic_fetch_add(&crew->inside, 1);
        if (atomic_load(&crew->phase) == phase) {
            work_on(crew, turn);
            done = phase;
            looks = 0;
        }
        atomic_fetch_sub(&crew->inside, 1);
    }
}

static void arrive(void *context, size_t index) {
    pa_crew *crew = context;
    (void)index;
    int32_t turn = atomic_fetch_add(&crew->arrivals, 1);
    if (turn > 0) {
        if (atomic_load(&crew->phase) != DONE) help(crew, turn);
        return;
    }
    crew->lead(crew->context, crew);
    atomic_store(&crew->phase, DONE);
}

/* A place for each processor: a pool rarely has more threads. Asked once: the system answers from
 * a file, which takes 5 us. */
static int32_t places(void) {
    static atomic_int known;
    int32_t count = atomic_load_explicit(&known, memory_order_relaxed);
    if (count > 0) return count;
#if defined(_SC_NPROCESSORS_ONLN)
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    count = processors < 2 ? 1 : processors > MOST ? MOST : (int32_t)processors;
#else
    count = MOST;
#endif
    atomic_store_explicit(&known, count, memory_order_relaxed);
    return count;
}

void pa_crew_run(const pa_parallel *parallel, atomic_int *usual,
                 void (*lead)(void *context, pa_crew *crew), void *context) {
    int32_t count = parallel ? places() : 1;
    if (count < 2) {
        lead(context, NULL);
        return;
    }
    pa_crew crew = {.lead = lead,
                    .context = context,
                    .usual = atomic_load_explicit(usual, memory_order_relaxed)};
    parallel->run(parallel->state, arrive, &crew, (size_t)count);
    atomic_store_explicit(usual, atomic_load(&crew.helpers), memory_order_relaxed);
}

int32_t pa_crew_size(const pa_crew *crew) {
    if (!crew) return 1;
    int32_t helpers = atomic_load_explicit(&((pa_crew *)crew)->helpers, memory_order_relaxed);
    return 1 + (helpers > crew->usual ? helpers : crew->usual);
}

void pa_crew_share(pa_crew *crew, int32_t chunks, void (*task)(const void *work, int32_t chunk),
                   const void *work) {
    int32_t size = pa_crew_size(crew);
    if (size < 2 || chunks < 2) {
        for (int32_t i = 0; i < chunks; i++) task(work, i);
        return;
    }
    crew->task = task;
    crew->work = work;
    crew->queues = size < chunks ? size : chunks;
    for (int32_t i = 0; i < crew->queues; i++) {
        atomic_store_explicit(&crew->queue[i].next, (int32_t)((int64_t)chunks * i / crew->queues),
                              memory_order_relaxed);
        crew->queue[i].end = (int32_t)((int64_t)chunks * (i + 1) / crew->queues);
    }
    atomic_fetch_add(&crew->phase, 1); /* open */
    work_on(crew, 0);
    atomic_fetch_add(&crew->phase, 1); /* closed */
    for (int32_t looks = 0; atomic_load(&crew->inside); looks++) pause_briefly(looks);
}
