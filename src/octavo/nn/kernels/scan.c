// The nearest of many vectors: inner products of a query with rows of fp32 or int8, and the best few, in one pass.
//
// One body, compiled for each instruction set, with all that it calls for each row: code of another set, entered while
// wide registers are in use, costs some hundred cycles a call. Unusual: every level adds in the same order, so all give
// the same bits; the query of int8 rows is rounded to as many bits as an int32 sum of products can hold, 13 to 15, not 8.
#include "kernels.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { SPAN = 1024, LANES = 16 };      // rows that a thread takes at a time; floats that are added side by side
enum { BYTES_FOR_THREADS = 64 << 20 };  // less is done before threads have started and met on a busy machine

typedef float lanes __attribute__((vector_size(64)));
typedef lanes loose_lanes __attribute__((aligned(4), may_alias));

typedef struct {  // binding.Scan
    int32_t dimensions, limit, threads, level;
    int64_t count;           // rows to compare
    const int64_t *rows;     // which; NULL: the first `count`
    const void *vectors;     // rows x dimensions
    const float *scales;     // of int8 rows; NULL: rows are fp32
    const int64_t *ids;      // of each row
    const float *query;
    int64_t *best_ids;       // limit, best first, equal scores by rising id
    float *best_scores;
} scan;

typedef struct { float score; int64_t id; } found;
typedef struct { found *heap; int count; } best;  // the worst on top

typedef struct {
    const scan *s;
    int16_t *rounded;  // the query for int8 rows
    float step;        // of it
    best *bests;       // a thread
    atomic_llong next;
} job;

INLINE int worse(found a, found b) { return a.score < b.score || (a.score == b.score && a.id > b.id); }

INLINE void sink(found *heap, int count, int at) {
    for (int child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && worse(heap[child + 1], heap[child])) child++;
        if (!worse(heap[child], heap[at])) return;
        const found moved = heap[at];
        heap[at] = heap[child];
        heap[child] = moved;
    }
}

INLINE void offer(best *b, int limit, found new) {
    if (b->count < limit) {
        int at = b->count++;
        for (int parent; at && worse(new, b->heap[parent = (at - 1) / 2]); at = parent) b->heap[at] = b->heap[parent];
        b->heap[at] = new;
    } else if (worse(b->heap[0], new)) {
        b->heap[0] = new;
        sink(b->heap, limit, 0);
    }
}

INLINE float inner_f32(const float *x, const float *y, int n) {
    lanes sums[4] = {{0}};  // four chains hide the latency of an addition
    int i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (int c = 0; c < 4; c++)
            sums[c] += *(const loose_lanes *)(x + i + c * LANES) * *(const loose_lanes *)(y + i + c * LANES);
    for (; i + LANES <= n; i += LANES) sums[0] += *(const loose_lanes *)(x + i) * *(const loose_lanes *)(y + i);
    const lanes all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    float lane[LANES];
    memcpy(lane, &all, sizeof lane);
    for (int half = LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    for (; i < n; i++) lane[0] += x[i] * y[i];
    return lane[0];
}

INLINE int32_t inner_int8(const int8_t *restrict x, const int16_t *restrict y, int n) {
    int32_t sum = 0;
    for (int i = 0; i < n; i++) sum += (int16_t)x[i] * y[i];
    return sum;
}

INLINE void scan_spans(job *j, int thread) {
    const scan *s = j->s;
    const int n = s->dimensions;
    best *b = &j->bests[thread];
    for (int64_t start; (start = atomic_fetch_add(&j->next, SPAN)) < s->count;) {
        const int64_t end = start + SPAN < s->count ? start + SPAN : s->count;
        for (int64_t at = start; at < end; at++) {
            const int64_t row = s->rows ? s->rows[at] : at;
            const size_t offset = (size_t)row * (size_t)n;
            const float score =
                s->scales ? (float)inner_int8((const int8_t *)s->vectors + offset, j->rounded, n) * j->step * s->scales[row]
                          : inner_f32((const float *)s->vectors + offset, s->query, n);
            if (score == score) offer(b, s->limit, (found){score, s->ids[row]});
        }
    }
}

static void scan_c(void *argument, int thread) { scan_spans(argument, thread); }
#if defined(__x86_64__)
__attribute__((target("avx2"))) static void scan_avx2(void *argument, int thread) { scan_spans(argument, thread); }
__attribute__((target("avx2,avx512f,avx512bw,avx512vl,avx512dq"))) static void scan_avx512(void *argument, int thread) {
    scan_spans(argument, thread);
}
#endif

static pool_work work_of(int32_t level) {
#if defined(__x86_64__)
    if (level == 4 || level == 8) return scan_avx512;
    if (level == 2 || level == 16) return scan_avx2;
#endif
    (void)level;
    return scan_c;  // the compiler's own vectors: NEON on ARM
}

static int round_query(job *j) {  // so that dimensions x 127 x the largest fits an int32
    const int n = j->s->dimensions;
    float largest = 0;
    for (int i = 0; i < n; i++) largest = fmaxf(largest, fabsf(j->s->query[i]));
    const float steps = fminf(32767, floorf(2147483647.0f / 128 / (float)n));
    j->step = largest / steps;
    j->rounded = malloc((size_t)n * sizeof *j->rounded);
    if (!j->rounded) return -1;
    for (int i = 0; i < n; i++) j->rounded[i] = largest > 0 ? (int16_t)lrintf(j->s->query[i] / largest * steps) : 0;
    return 0;
}

static int run_job(job *j, int threads) {
    const pool_work work = work_of(j->s->level);
    if (threads == 1) {
        work(j, 0);
        return 0;
    }
    pool *p = pool_create(threads);
    const int failed = !p || pool_run(p, work, j);
    pool_destroy(p);
    return failed ? -1 : 0;
}

static int merge(const job *j, int threads) {  // into the first heap, then out of it from the worst on
    const scan *s = j->s;
    best *all = &j->bests[0];
    for (int t = 1; t < threads; t++)
        for (int i = 0; i < j->bests[t].count; i++) offer(all, s->limit, j->bests[t].heap[i]);
    const int count = all->count;
    for (int i = count - 1; i >= 0; i--) {
        s->best_ids[i] = all->heap[0].id;
        s->best_scores[i] = all->heap[0].score;
        all->heap[0] = all->heap[i];
        sink(all->heap, i, 0);
    }
    return count;
}

EXPORT int32_t octavo_scan(const scan *s) {  // how many were found, -1 when memory or threads are refused
    job j = {.s = s};
    atomic_init(&j.next, 0);
    const int64_t bytes = s->count * s->dimensions * (s->scales ? 1 : 4);
    const int threads = bytes < BYTES_FOR_THREADS ? 1 : s->threads;
    j.bests = calloc((size_t)threads, sizeof *j.bests);
    found *heaps = malloc((size_t)threads * (size_t)s->limit * sizeof *heaps);
    int ready = j.bests && heaps && (!s->scales || !round_query(&j));
    for (int t = 0; ready && t < threads; t++) j.bests[t].heap = heaps + (size_t)t * (size_t)s->limit;
    const int count = ready && !run_job(&j, threads) ? merge(&j, threads) : -1;
    free(j.bests);
    free(heaps);
    free(j.rounded);
    return count;
}
