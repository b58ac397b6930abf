// Operations of training in one pass over memory where torch makes several: cross-entropy with its gradient, RMSNorm,
// rotary embedding and the gate of an MLP with theirs.
//
// Unusual: plain loops over 16 lanes, which the compiler turns into vectors of each instruction set by itself. Threads
// share the rows; a sum over rows is made thread by thread, so a result depends on nothing but the number of threads.
#include "kernels.h"

#include <math.h>
#include <string.h>

enum { LANES = 16 };
#define EACH_LANE for (int l = 0; l < LANES; l++)

typedef struct { void *rows; int32_t bf16; } numbers;  // fp32 or bf16

INLINE float of_bf16(uint16_t x) {
    const uint32_t bits = (uint32_t)x << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

INLINE uint16_t to_bf16(float f) {  // to nearest even; not a number stays so
    uint32_t bits;
    memcpy(&bits, &f, 4);
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, quiet = bits >> 16 | 0x40;
    return (uint16_t)(f == f ? rounded : quiet);
}

// Written as vectors: compilers unroll a loop over so few numbers before they see that it is one, and leave it scalar.
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));

INLINE void widen(const uint16_t *from, float *x) {
    halves h;
    memcpy(&h, from, sizeof h);
    const words bits = __builtin_convertvector(h, words) << 16;
    memcpy(x, &bits, sizeof bits);
}

INLINE void narrow(const float *x, uint16_t *to) {  // as to_bf16
    words bits;
    memcpy(&bits, x, sizeof bits);
    const words rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, quiet = bits >> 16 | 0x40;
    const words odd = (words)((bits & 0x7fffffff) > 0x7f800000);
    const halves h = __builtin_convertvector((rounded & ~odd) | (quiet & odd), halves);
    memcpy(to, &h, sizeof h);
}

INLINE void get(const numbers n, size_t at, int count, float *x) {  // up to LANES of them
    if (count == LANES && n.bf16) widen((const uint16_t *)n.rows + at, x);
    else if (count == LANES) memcpy(x, (const float *)n.rows + at, 4 * LANES);
    else
        for (int l = 0; l < count; l++)
            x[l] = n.bf16 ? of_bf16(((const uint16_t *)n.rows)[at + (size_t)l]) : ((const float *)n.rows)[at + (size_t)l];
}

INLINE void put(const numbers n, size_t at, int count, const float *x) {
    if (count == LANES && n.bf16) narrow(x, (uint16_t *)n.rows + at);
    else if (count == LANES) memcpy((float *)n.rows + at, x, 4 * LANES);
    else
        for (int l = 0; l < count; l++) {
            if (n.bf16) ((uint16_t *)n.rows)[at + (size_t)l] = to_bf16(x[l]);
            else ((float *)n.rows)[at + (size_t)l] = x[l];
        }
}

INLINE int taken(int width, int i) { return width - i < LANES ? width - i : LANES; }

INLINE float exp_of(float x) {  // x <= 0, relative error below 3e-7; 0 below e^-87
    const float y = x * 1.44269504f, n = (y + 0x1.8p23f) - 0x1.8p23f, r = y - n;
    float p = 1.5403530e-4f;
    p = p * r + 1.3333558e-3f;
    p = p * r + 9.6181291e-3f;
    p = p * r + 5.5504109e-2f;
    p = p * r + 2.4022651e-1f;
    p = p * r + 6.9314718e-1f;
    p = p * r + 1.0f;
    const int32_t bits = (int32_t)((n > -126.0f ? n : -126.0f) + 127.0f) * (1 << 23);
    float power;
    memcpy(&power, &bits, 4);
    return x < -87.0f ? 0.0f : p * power;  // of what is not a number: not a number, as p is
}

// --------------------------------------------------------------------------------------------------------- cross-entropy
typedef struct { numbers logits; int64_t rows; int32_t width, threads; const int64_t *targets; float *losses; } entropy;

// The loss of one row, whose logits become its gradient. A target outside of the row is none.
INLINE float entropy_row(const numbers n, size_t start, int width, int64_t target) {
    float most[LANES], sums[LANES] = {0}, x[LANES], largest = -INFINITY, sum = 0;
    const int none = target < 0 || target >= width;
    EACH_LANE most[l] = -INFINITY;
    for (int i = 0; i < width && !none; i += LANES) {
        EACH_LANE x[l] = -INFINITY;
        get(n, start + (size_t)i, taken(width, i), x);
        EACH_LANE most[l] = x[l] > most[l] ? x[l] : most[l];
    }
    EACH_LANE largest = most[l] > largest ? most[l] : largest;
    for (int i = 0; i < width && !none; i += LANES) {
        EACH_LANE x[l] = -INFINITY;
        get(n, start + (size_t)i, taken(width, i), x);
        EACH_LANE sums[l] += exp_of(x[l] - largest);
    }
    EACH_LANE sum += sums[l];
    const float inverse = 1.0f / sum;
    float wanted = 0;
    if (!none) get(n, start + (size_t)target, 1, &wanted);
    const float loss = none ? 0.0f : logf(sum) + largest - wanted;
    for (int i = 0; i < width; i += LANES) {
        EACH_LANE x[l] = none ? 0 : largest;
        if (!none) {
            get(n, start + (size_t)i, taken(width, i), x);
            EACH_LANE x[l] = exp_of(x[l] - largest) * inverse;
            if (target >= i && target < i + LANES) x[target - i] -= 1.0f;
        }
        put(n, start + (size_t)i, taken(width, i), x);
    }
    return loss;
}

INLINE void entropy_rows(void *argument, int thread) {
    const entropy *e = argument;
    for (int64_t r = e->rows * thread / e->threads; r < e->rows * (thread + 1) / e->threads; r++)
        e->losses[r] = entropy_row(e->logits, (size_t)r * (size_t)e->width, e->width, e->targets[r]);
}

// --------------------------------------------------------------------------------------------------------------- RMSNorm
typedef struct {
    const float *x, *weight;
    numbers y;              // what comes out, or the gradient of it
    float *inverse;         // a row: 1 / sqrt(mean of squares + eps)
    float *dx, *dweight;    // dweight: (threads, width), zeros before
    float eps;
    int64_t rows;
    int32_t width, threads;
} rms;

INLINE float sum_of(const float *lanes) {
    float sum = 0;
    EACH_LANE sum += lanes[l];
    return sum;
}

INLINE void rms_forward_rows(void *argument, int thread) {
    const rms *n = argument;
    const int width = n->width;
    for (int64_t r = n->rows * thread / n->threads; r < n->rows * (thread + 1) / n->threads; r++) {
        const size_t start = (size_t)r * (size_t)width;
        const numbers from = {(void *)(uintptr_t)n->x, 0}, by = {(void *)(uintptr_t)n->weight, 0};
        float squares[LANES] = {0}, x[LANES], w[LANES] = {0};
        for (int i = 0; i < width; i += LANES) {
            EACH_LANE x[l] = 0;
            get(from, start + (size_t)i, taken(width, i), x);
            EACH_LANE squares[l] += x[l] * x[l];
        }
        const float inverse = 1.0f / sqrtf(sum_of(squares) / (float)width + n->eps);
        n->inverse[r] = inverse;
        for (int i = 0; i < width; i += LANES) {
            get(from, start + (size_t)i, taken(width, i), x);
            get(by, (size_t)i, taken(width, i), w);
            EACH_LANE x[l] = x[l] * inverse * w[l];
            put(n->y, start + (size_t)i, taken(width, i), x);
        }
    }
}

// With s = 1 / rms: dx = s (g w - x s^2 mean(g w x)), dweight = sum over rows of g x s.
INLINE void rms_backward_rows(void *argument, int thread) {
    const rms *n = argument;
    const int width = n->width;
    const numbers from = {(void *)(uintptr_t)n->x, 0}, by = {(void *)(uintptr_t)n->weight, 0}, to = {n->dx, 0};
    const numbers sums = {n->dweight + (size_t)thread * (size_t)width, 0};
    for (int64_t r = n->rows * thread / n->threads; r < n->rows * (thread + 1) / n->threads; r++) {
        const size_t start = (size_t)r * (size_t)width;
        float products[LANES] = {0}, x[LANES], w[LANES], g[LANES], sum[LANES];
        const float s = n->inverse[r];
        for (int i = 0; i < width; i += LANES) {
            const int count = taken(width, i);
            EACH_LANE x[l] = w[l] = g[l] = sum[l] = 0;
            get(from, start + (size_t)i, count, x);
            get(by, (size_t)i, count, w);
            get(n->y, start + (size_t)i, count, g);
            get(sums, (size_t)i, count, sum);
            EACH_LANE products[l] += g[l] * w[l] * x[l];
            EACH_LANE sum[l] += g[l] * x[l] * s;
            put(sums, (size_t)i, count, sum);
        }
        const float mean = sum_of(products) / (float)width * s * s;
        for (int i = 0; i < width; i += LANES) {
            const int count = taken(width, i);
            get(from, start + (size_t)i, count, x);
            get(by, (size_t)i, count, w);
            get(n->y, start + (size_t)i, count, g);
            EACH_LANE x[l] = s * (g[l] * w[l] - x[l] * mean);
            put(to, start + (size_t)i, count, x);
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------- rotary
typedef struct {  // binding.Rotation: x and out (batch, heads, tokens, dim), strides of each in numbers, the last is 1
    void *x, *out;
    const float *cos, *sin;  // (batch or 1, tokens, rotary_dim): turns_stride from row to row, 0 where there is one
    int64_t x_stride[3], out_stride[3], turns_stride;
    int32_t bf16, batch, heads, tokens, dim, rotary_dim, back, threads;
} rotation;

INLINE void rotate_head(const rotation *t, size_t from, size_t to, const float *cos, const float *sin) {
    const numbers x = {t->x, t->bf16}, out = {t->out, t->bf16};
    const int half = t->rotary_dim / 2;
    float a[LANES] = {0}, b[LANES] = {0}, c[LANES] = {0}, s[LANES] = {0}, c2[LANES] = {0}, s2[LANES] = {0}, y[LANES], z[LANES];
    const numbers cosines = {(void *)(uintptr_t)cos, 0}, sines = {(void *)(uintptr_t)sin, 0};
    for (int i = 0; i < half; i += LANES) {
        const int count = taken(half, i);
        get(x, from + (size_t)i, count, a);
        get(x, from + (size_t)(half + i), count, b);
        get(cosines, (size_t)i, count, c);
        get(sines, (size_t)i, count, s);
        get(cosines, (size_t)(half + i), count, c2);
        get(sines, (size_t)(half + i), count, s2);
        if (t->back) {  // the transpose: what each input added to both outputs
            EACH_LANE y[l] = a[l] * c[l] + b[l] * s2[l];
            EACH_LANE z[l] = b[l] * c2[l] - a[l] * s[l];
        } else {
            EACH_LANE y[l] = a[l] * c[l] - b[l] * s[l];
            EACH_LANE z[l] = b[l] * c2[l] + a[l] * s2[l];
        }
        put(out, to + (size_t)i, count, y);
        put(out, to + (size_t)(half + i), count, z);
    }
    for (int i = 2 * half; i < t->dim; i += LANES) {  // partial rotary: what does not turn
        get(x, from + (size_t)i, taken(t->dim, i), a);
        put(out, to + (size_t)i, taken(t->dim, i), a);
    }
}

INLINE void rotate_rows(void *argument, int thread) {
    const rotation *t = argument;
    const int64_t rows = (int64_t)t->batch * t->tokens;
    for (int64_t r = rows * thread / t->threads; r < rows * (thread + 1) / t->threads; r++) {
        const int64_t b = r / t->tokens, token = r % t->tokens, turns = b * t->turns_stride + token * t->rotary_dim;
        for (int64_t h = 0; h < t->heads; h++)
            rotate_head(t, (size_t)(b * t->x_stride[0] + h * t->x_stride[1] + token * t->x_stride[2]),
                        (size_t)(b * t->out_stride[0] + h * t->out_stride[1] + token * t->out_stride[2]), t->cos + turns,
                        t->sin + turns);
    }
}

// ------------------------------------------------------------------------------------------------------------- gated MLP
typedef struct {
    numbers gate, up, wide;  // wide = silu(gate) * up; going back its gradient, which becomes wide
    numbers dgate, dup;      // gradients, going back
    int64_t count;
    int32_t back, threads;
} gating;

INLINE float sigmoid_of(float x) {
    const float e = exp_of(-fabsf(x)), inverse = 1.0f / (1.0f + e), below = e * inverse;
    return x < 0 ? below : inverse;
}

INLINE void gate_rows(void *argument, int thread) {
    const gating *g = argument;
    const int64_t lines = (g->count + LANES - 1) / LANES;
    float gate[LANES], up[LANES], d[LANES], wide[LANES];
    EACH_LANE gate[l] = up[l] = d[l] = 0;
    for (int64_t line = lines * thread / g->threads; line < lines * (thread + 1) / g->threads; line++) {
        const size_t at = (size_t)line * LANES;
        const int count = g->count - (int64_t)at < LANES ? (int)(g->count - (int64_t)at) : LANES;
        get(g->gate, at, count, gate);
        get(g->up, at, count, up);
        if (g->back) get(g->wide, at, count, d);
        EACH_LANE {
            const float x = gate[l], y = up[l], s = sigmoid_of(x), silu = x * s;
            wide[l] = silu * y;
            up[l] = d[l] * y * s * (1.0f + x * (1.0f - s));
            gate[l] = d[l] * silu;
        }
        if (g->back) {
            put(g->dgate, at, count, up);
            put(g->dup, at, count, gate);
        }
        put(g->wide, at, count, wide);
    }
}

// ------------------------------------------------------------------------------------------- one version a few levels
#if defined(__x86_64__)
#define VERSIONS(name)                                                                                                       \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma,f16c"))) static void name##_avx512(void *a, int thread) {  \
        name(a, thread);                                                                                                     \
    }                                                                                                                        \
    __attribute__((target("avx2,fma,f16c"))) static void name##_avx2(void *a, int thread) { name(a, thread); }               \
    static void name##_c(void *a, int thread) { name(a, thread); }                                                           \
    static pool_work best_##name(int32_t bit) {                                                                              \
        return bit == 4 || bit == 8 ? name##_avx512 : bit == 2 || bit == 16 ? name##_avx2 : name##_c;                        \
    }
#else
#define VERSIONS(name)                                                       \
    static void name##_c(void *a, int thread) { name(a, thread); }           \
    static pool_work best_##name(int32_t bit) { return (void)bit, name##_c; }
#endif

VERSIONS(entropy_rows)
VERSIONS(rms_forward_rows)
VERSIONS(rms_backward_rows)
VERSIONS(rotate_rows)
VERSIONS(gate_rows)

EXPORT pool *octavo_pool_create(int32_t threads) { return pool_create(threads); }
EXPORT void octavo_pool_destroy(pool *p) { pool_destroy(p); }

EXPORT int32_t octavo_cross_entropy(pool *p, int32_t level_bit, void *logits, int32_t bf16, int64_t rows, int32_t width,
                                    const int64_t *targets, float *losses) {
    entropy e = {{logits, bf16}, rows, width, pool_threads(p), targets, losses};
    return pool_run(p, best_entropy_rows(level_bit), &e) ? -1 : 0;
}

EXPORT int32_t octavo_rms_forward(pool *p, int32_t level_bit, const float *x, const float *weight, int64_t rows, int32_t width,
                                  float eps, void *y, int32_t bf16, float *inverse) {
    rms n = {.x = x, .weight = weight, .y = {y, bf16}, .inverse = inverse, .eps = eps, .rows = rows, .width = width,
             .threads = pool_threads(p)};
    return pool_run(p, best_rms_forward_rows(level_bit), &n) ? -1 : 0;
}

EXPORT int32_t octavo_rms_backward(pool *p, int32_t level_bit, const float *x, const float *weight, float *inverse, void *dy,
                                   int32_t bf16, int64_t rows, int32_t width, float *dx, float *dweight) {
    rms n = {.x = x, .weight = weight, .y = {dy, bf16}, .inverse = inverse, .dx = dx, .dweight = dweight, .rows = rows,
             .width = width, .threads = pool_threads(p)};
    return pool_run(p, best_rms_backward_rows(level_bit), &n) ? -1 : 0;
}

EXPORT int32_t octavo_rotate(pool *p, int32_t level_bit, const rotation *given) {
    rotation t = *given;
    t.threads = pool_threads(p);
    return pool_run(p, best_rotate_rows(level_bit), &t) ? -1 : 0;
}

EXPORT int32_t octavo_gate(pool *p, int32_t level_bit, void *gate, void *up, void *wide, void *dgate, void *dup, int32_t bf16,
                           int64_t count, int32_t back) {
    gating g = {{gate, bf16}, {up, bf16}, {wide, bf16}, {dgate, bf16}, {dup, bf16}, count, back, pool_threads(p)};
    return pool_run(p, best_gate_rows(level_bit), &g) ? -1 : 0;
}
