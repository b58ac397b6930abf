// A pool of threads that lives as long as its model: workers spin briefly, give way, then sleep until the next job.
//
// Unusual: barriers yield instead of only spinning, so that a busy desktop does not stall a step; and a pool notices that
// it woke up in a forked child, where its threads do not exist, and starts new ones. Threads stay where the system puts
// them unless the process asks for cores of their own; the caller's thread then has one only while a job runs.
#define _GNU_SOURCE
#include "kernels.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#endif

enum { SPINS = 4000, YIELDS = 100, BARRIER_SPINS = 3000 };

struct pool {
    int threads;
    pid_t process;
    pool_work work;
    void *argument;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct worker { pool *pool; int thread, seen; pthread_t id; } *workers;
    _Alignas(64) atomic_int job, sleepers, stop;
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_int phase;
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

static void sleep_while(pool *p, int job) {
    atomic_fetch_add(&p->sleepers, 1);
#if defined(__linux__)
    syscall(SYS_futex, &p->job, FUTEX_WAIT_PRIVATE, job, NULL, NULL, 0);  // returns at once if the job is already new
#else
    pthread_mutex_lock(&p->mutex);
    while (atomic_load(&p->job) == job) pthread_cond_wait(&p->wake, &p->mutex);
    pthread_mutex_unlock(&p->mutex);
#endif
    atomic_fetch_sub(&p->sleepers, 1);
}

static void announce(pool *p) {
    atomic_fetch_add(&p->job, 1);
    if (!atomic_load(&p->sleepers)) return;
#if defined(__linux__)
    syscall(SYS_futex, &p->job, FUTEX_WAKE_PRIVATE, p->threads, NULL, NULL, 0);
#else
    pthread_mutex_lock(&p->mutex);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mutex);
#endif
}

void pool_barrier(pool *p) {
    if (p->threads == 1) return;
    int phase = atomic_load(&p->phase);
    if (atomic_fetch_add(&p->arrived, 1) == p->threads - 1) {
        atomic_store(&p->arrived, 0);
        atomic_store(&p->phase, phase + 1);
        return;
    }
    for (int i = 0; atomic_load_explicit(&p->phase, memory_order_acquire) == phase; i++) {
        if (i < BARRIER_SPINS) pause_briefly();
        else sched_yield();
    }
}

static void *serve(void *argument) {
    struct worker *w = argument;
    pool *p = w->pool;
#if defined(__linux__)
    if (core_count) pin(w->thread);
#endif
    for (int seen = w->seen;; seen++) {
        for (int i = 0; atomic_load_explicit(&p->job, memory_order_acquire) == seen; i++) {
            if (i < SPINS) pause_briefly();
            else if (i < SPINS + YIELDS) sched_yield();
            else sleep_while(p, seen);
        }
        if (atomic_load(&p->stop)) return NULL;
        p->work(p->argument, w->thread);
        pool_barrier(p);
    }
}

static void stop(pool *p, int started) {
    atomic_store(&p->stop, 1);
    announce(p);
    for (int i = 1; i < started; i++) pthread_join(p->workers[i].id, NULL);
}

static int start(pool *p) {
    p->process = getpid();
    atomic_store(&p->arrived, 0);
    atomic_store(&p->sleepers, 0);
    atomic_store(&p->stop, 0);
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->wake, NULL);
    for (int i = 1; i < p->threads; i++) {
        p->workers[i] = (struct worker){.pool = p, .thread = i, .seen = atomic_load(&p->job)};
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
    *p = (pool){.threads = threads};
    p->workers = calloc((size_t)threads, sizeof *p->workers);
    if (p->workers && !start(p)) return p;
    free(p->workers);
    free(p);
    return NULL;
}

int pool_threads(const pool *p) { return p->threads; }

static void run(pool *p, pool_work work, void *argument) {
    p->work = work;
    p->argument = argument;
    if (p->threads > 1) announce(p);
    work(argument, 0);
    pool_barrier(p);
}

int pool_run(pool *p, pool_work work, void *argument) {
    if (p->process != getpid() && start(p)) return -1;
#if defined(__linux__)
    cpu_set_t before;
    if (core_count && !sched_getaffinity(0, sizeof before, &before) && !pin(0)) {
        run(p, work, argument);
        sched_setaffinity(0, sizeof before, &before);
        return 0;
    }
#endif
    run(p, work, argument);
    return 0;
}

void pool_destroy(pool *p) {
    if (!p) return;
    if (p->process == getpid()) stop(p, p->threads);
    free(p->workers);
    free(p);
}
