// A pool of threads that lives as long as its model: workers spin briefly, give way, then sleep until the next job.
//
// Unusual: barriers yield instead of only spinning, so that a busy desktop does not stall a step; a job that may run on any
// number of threads leaves out those that other programs keep off their processors, as the rest would wait for them; and a
// pool notices that it woke up in a forked child, where its threads do not exist, and starts new ones. Threads stay where
// the system puts them unless the process asks for cores of their own; the caller's thread then has one only while a job
// runs.
#define _GNU_SOURCE
#include "kernels.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#endif

enum { SPINS = 4000, YIELDS = 100, BARRIER_SPINS = 3000 };
enum { PAUSE = 10000000, LONGEST_PAUSE = 1000000000, SETTLED = 8 };  // nanoseconds; pauses without a job that is kept waiting

typedef struct { pool *pool; int thread, deals; uint64_t seen; int64_t lost; pthread_t id; char apart[64]; } worker;

struct pool {
    int threads, working;  // working: in this job
    int fit;               // of an elastic job: how many get their processors
    int64_t pause, retry, widened;  // nanoseconds: between tries of one more, until the next, since when it is so many
    pid_t process;
    pool_work work;
    void *argument;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    worker *workers;       // the first is the caller's
    _Alignas(64) _Atomic(uint64_t) job;  // a number in the low half; how many threads work on it in the high one
    atomic_int sleepers, stop;
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_int phase;
    struct { _Alignas(64) atomic_int dealt; } deals[DEALS];  // since the last barrier: units, beyond those dealt beforehand
};

enum { MAX_CORES = 256 };
static int32_t cores[MAX_CORES], core_count;  // a process has one set of them, whatever models it opens

EXPORT void octavo_pin_threads(const int32_t *processors, int32_t count) {  // of pools that are made later
    core_count = count < MAX_CORES ? count : MAX_CORES;
    for (int i = 0; i < core_count; i++) cores[i] = processors[i];
}

#if defined(__linux__)
static int pin(int thread) {  // the thread that calls
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)cores[thread % core_count], &one);
    return sched_setaffinity(0, sizeof one, &one);
}
#endif

INLINE void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void sleep_while(pool *p, uint64_t job) {
    atomic_fetch_add(&p->sleepers, 1);
#if defined(__linux__)  // on the job's number; returns at once if it is already new
    syscall(SYS_futex, &p->job, FUTEX_WAIT_PRIVATE, (uint32_t)job, NULL, NULL, 0);
#else
    pthread_mutex_lock(&p->mutex);
    while (atomic_load(&p->job) == job) pthread_cond_wait(&p->wake, &p->mutex);
    pthread_mutex_unlock(&p->mutex);
#endif
    atomic_fetch_sub(&p->sleepers, 1);
}

static void announce(pool *p) {
    const uint32_t number = (uint32_t)atomic_load(&p->job) + 1;
    atomic_store(&p->job, (uint64_t)p->working << 32 | number);
    if (!atomic_load(&p->sleepers)) return;
#if defined(__linux__)
    syscall(SYS_futex, &p->job, FUTEX_WAKE_PRIVATE, p->threads, NULL, NULL, 0);
#else
    pthread_mutex_lock(&p->mutex);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mutex);
#endif
}

void pool_barrier(pool *p, int thread) {
    const int working = p->working;  // read before arriving: the next job may change it as soon as all have arrived
    p->workers[thread].deals = 0;
    if (working == 1) return;
    int phase = atomic_load(&p->phase);
    if (atomic_fetch_add(&p->arrived, 1) == working - 1) {
        for (int i = 0; i < DEALS; i++) atomic_store_explicit(&p->deals[i].dealt, 0, memory_order_relaxed);
        atomic_store(&p->arrived, 0);
        atomic_store(&p->phase, phase + 1);
        return;
    }
    for (int i = 0; atomic_load_explicit(&p->phase, memory_order_acquire) == phase; i++) {
        if (i < BARRIER_SPINS) pause_briefly();
        else sched_yield();
    }
}

static int64_t now(clockid_t clock) {  // nanoseconds
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void work_of(worker *w) {  // and how long the thread had no processor meanwhile
    const int64_t began = now(CLOCK_MONOTONIC), ran = now(CLOCK_THREAD_CPUTIME_ID);
    w->pool->work(w->pool->argument, w->thread);
    w->lost = now(CLOCK_MONOTONIC) - began - (now(CLOCK_THREAD_CPUTIME_ID) - ran);
    pool_barrier(w->pool, w->thread);
}

static void *serve(void *argument) {
    worker *w = argument;
    pool *p = w->pool;
#if defined(__linux__)
    if (core_count) pin(w->thread);
#endif
    for (uint64_t job;; w->seen = job) {
        for (int i = 0; (job = atomic_load_explicit(&p->job, memory_order_acquire)) == w->seen; i++) {
            if (i < SPINS) pause_briefly();
            else if (i < SPINS + YIELDS) sched_yield();
            else sleep_while(p, w->seen);
        }
        if (atomic_load(&p->stop)) return NULL;
        if ((uint64_t)w->thread < job >> 32) work_of(w);  // the next job waits for it then; else there may be another already
    }
}

static void stop(pool *p, int started) {
    p->working = p->threads;
    atomic_store(&p->stop, 1);
    announce(p);
    for (int i = 1; i < started; i++) pthread_join(p->workers[i].id, NULL);
}

static int start(pool *p) {
    p->process = getpid();
    p->working = p->fit = p->threads;
    p->workers[0] = (worker){.pool = p};
    atomic_store(&p->arrived, 0);
    atomic_store(&p->sleepers, 0);
    atomic_store(&p->stop, 0);
    for (int i = 0; i < DEALS; i++) atomic_store(&p->deals[i].dealt, 0);
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->wake, NULL);
    for (int i = 1; i < p->threads; i++) {
        p->workers[i] = (worker){.pool = p, .thread = i, .seen = atomic_load(&p->job)};
        if (pthread_create(&p->workers[i].id, NULL, serve, &p->workers[i])) {
            stop(p, i);
            p->process = 0;  // no threads: the next run tries again
            return -1;
        }
    }
    return 0;
}

pool *pool_create(int threads) {
    pool *p = NULL;
    if (posix_memalign((void **)&p, 64, sizeof *p)) return NULL;
    *p = (pool){.threads = threads, .pause = PAUSE};
    p->workers = calloc((size_t)threads, sizeof *p->workers);
    if (p->workers && !start(p)) return p;
    free(p->workers);
    free(p);
    return NULL;
}

int pool_threads(const pool *p) { return p->threads; }
int pool_working(const pool *p) { return p->working; }

static void run(pool *p, int working, pool_work work, void *argument) {
    p->work = work;
    p->argument = argument;
    p->working = working;
    if (working > 1) announce(p);
    work_of(&p->workers[0]);
}

static int run_pinned(pool *p, int working, pool_work work, void *argument) {
    if (p->process != getpid() && start(p)) return -1;
#if defined(__linux__)
    cpu_set_t before;
    if (core_count && !sched_getaffinity(0, sizeof before, &before) && !pin(0)) {
        run(p, working, work, argument);
        sched_setaffinity(0, sizeof before, &before);
        return 0;
    }
#endif
    run(p, working, work, argument);
    return 0;
}

int pool_run(pool *p, pool_work work, void *argument) { return run_pinned(p, p->threads, work, argument); }

// One thread fewer takes n / (n - 1) of the time that n take undisturbed, so it is faster when one of them had no processor
// for more than an n-th of the job. After a pause, which doubles each time that it was too short, there is one more again.
int pool_run_elastic(pool *p, pool_work work, void *argument) {
    const int64_t began = now(CLOCK_MONOTONIC);
    const int more = p->fit < p->threads && began >= p->retry, working = p->fit + more;
    if (run_pinned(p, working, work, argument)) return -1;
    if (p->threads == 1) return 0;
    const int64_t ended = now(CLOCK_MONOTONIC);
    int64_t lost = 0;
    for (int i = 0; i < working; i++)
        if (p->workers[i].lost > lost) lost = p->workers[i].lost;
    if (working > 1 && lost * working > ended - began) {
        const int64_t longer = p->pause * 2 < LONGEST_PAUSE ? p->pause * 2 : LONGEST_PAUSE;
        p->pause = ended - p->widened < p->pause * SETTLED ? longer : PAUSE;
        p->fit = working - 1;
        p->retry = p->widened = ended + p->pause;
    } else if (more) {
        p->fit = working;
    }
    return 0;
}

hand pool_deal(pool *p, int thread, int count, int even) {
    const int threads = p->working, dealt = even || threads == 1 ? count : count / 2;
    hand h = {.count = count, .dealt = dealt, .deal = p->workers[thread].deals++};
    h.first = (int)((int64_t)dealt * thread / threads);
    h.end = (int)((int64_t)dealt * (thread + 1) / threads);
    if (h.first == h.end) pool_next(p, &h);
    return h;
}

void pool_next(pool *p, hand *h) {
    const int rest = h->count - h->dealt, pieces = 3 * p->working, size = (rest + pieces - 1) / pieces;
    h->first = h->end = h->count;
    if (!rest) return;
    const int taken = atomic_fetch_add_explicit(&p->deals[h->deal].dealt, size, memory_order_relaxed);
    if (taken >= rest) return;
    h->first = h->dealt + taken;
    if (rest - taken > size) h->end = h->first + size;
    else h->dealt = h->count;  // that was the last
}

void pool_destroy(pool *p) {
    if (!p) return;
    if (p->process == getpid()) stop(p, p->threads);
    free(p->workers);
    free(p);
}
