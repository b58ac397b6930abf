// Products by AMX tiles, of 16 tokens by 16 output rows by 32 columns each.
//
// Integers: one tile product is the exact int32 sum of a group, and scales follow in the order of products.inc.h, so the
// bits are those of the vector path, which takes what is left of 16 tokens. bf16: sums stay in a tile over all columns, in
// the tile's own order, so every token goes this way, alone or not. The intrinsics are not used: in GCC they do not say
// which memory they touch.
enum { TOKENS = 16, CHUNK = 32 };  // of a tile; groups unpacked at a time

typedef struct { uint8_t palette, start_row, zero[14]; uint16_t column_bytes[16]; uint8_t rows[16]; } tile_shapes;
typedef struct { char bytes[64]; } cache_line;

#if !defined(LOAD_SHAPES)  // a processor without tiles brings its own: tests/nn/kernels/emulated_x86.h
#define LOAD_SHAPES(shapes) __asm__ volatile("ldtilecfg %0" : : "m"(shapes))
#define RELEASE_TILES() __asm__ volatile("tilerelease")
#define ZERO_TILE(n) __asm__ volatile("tilezero %%tmm" #n : :)
#define LOAD_TILE(n, base, stride) \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #n : : "r"(base), "r"((int64_t)(stride)) : "memory")
#define STORE_TILE(n, base, stride) \
    __asm__ volatile("tilestored %%tmm" #n ", (%0,%1,1)" : : "r"(base), "r"((int64_t)(stride)) : "memory")
#define ADD_INT8(sum, x, w) __asm__ volatile("tdpbssd %%tmm" #w ", %%tmm" #x ", %%tmm" #sum : :)
#define ADD_BF16(sum, x, w) __asm__ volatile("tdpbf16ps %%tmm" #w ", %%tmm" #x ", %%tmm" #sum : :)
#endif

// Tiles 0-3: sums of `tokens` rows. bf16: 4 is activations, 5 weights. Integers of `columns`: 6 and 7.
static void configure(int tokens, int columns) {
    tile_shapes shapes = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        shapes.column_bytes[i] = (uint16_t)(i == 6 ? columns : 64);
        shapes.rows[i] = (uint8_t)(i == 5 ? 16 : i == 7 ? columns / 4 : tokens);
    }
    LOAD_SHAPES(shapes);
}

// ------------------------------------------------------------------------------------------------------------ integers
typedef struct {
    _Alignas(64) int8_t weights[CHUNK][8][64];  // signed: without the offset
    _Alignas(64) float scale[CHUNK][16], second[CHUNK][16], minimum[CHUNK][16];
} unpacked_groups;

INLINE void unpack_groups(const matrix *m, int panel, int first, int count, const encoding e, unpacked_groups *u) {
    const layout l = layout_of(e);
    const ivec offset = _mm512_set1_epi8((char)(is_bytes(e) ? 128 : e == Q4_0 ? 8 : e == Q5_0 ? 16 : e == Q6_K ? 32 : 0));
    const uint8_t *data = m->data + (size_t)panel * panel_bytes(e, m->groups);
    for (int g = 0; g < count; g++) {
        const int group = first + g, span = group / l.span;
        const uint8_t *w = data + (size_t)group * l.group + (size_t)(span + 1) * l.head;
        const uint8_t *head = data + (size_t)span * ((size_t)l.span * l.group + l.head);
        ivec q[8];
        unpack(e, w, q);
        for (int c = 0; c < 8; c++) _mm512_store_si512(u->weights[g][c], _mm512_sub_epi8(q[c], offset));
        const factors f = factors_of(e, head, w);
        store(u->scale[g], f.scale);
        if (e == Q6_K) store(u->second[g], f.second);
        if (has_minimum(e)) store(u->minimum[g], f.minimum);
    }
}

#define START_GROUP(n)                                                                   \
    if (n < count) {                                                                     \
        ZERO_TILE(n);                                                                    \
        LOAD_TILE(6, x + (size_t)n * columns, width);                                    \
        LOAD_TILE(7, weights + (size_t)n * columns * 16, 64);                            \
        ADD_INT8(n, 6, 7);                                                               \
    }
#define FINISH_GROUP(n) \
    if (n < count) STORE_TILE(n, products[n], 64);

// `count` (to 4, as there are so many tiles) exact products of `columns` columns each, one after the other.
INLINE void exact_products(const int8_t *x, size_t width, const int8_t *weights, const int columns, const int count,
                           int32_t (*products)[TOKENS][16]) {
    START_GROUP(0) START_GROUP(1) START_GROUP(2) START_GROUP(3)
    FINISH_GROUP(0) FINISH_GROUP(1) FINISH_GROUP(2) FINISH_GROUP(3)
}

INLINE void scale_group(const unpacked_groups *u, int g, const activations *a, size_t at, const encoding e,
                        int32_t (*products)[TOKENS][16], vec *sum) {
    const vec scale = load(u->scale[g]), second = load(u->second[g]), minimum = load(u->minimum[g]);
    const size_t groups = (size_t)a->width / GROUP;
    const float *x_scale = (e == INT8 ? a->turned_scale : a->scale) + at, *scaled_sum = a->scaled_sum + at;
#pragma GCC unroll 16
    for (int t = 0; t < TOKENS; t++, x_scale += groups, scaled_sum += groups) {
        vec exact = to_float(load_bytes(products[0][t]));
        if (e == Q6_K) {
            exact = fma16(to_float(load_bytes(products[1][t])), second, mul(exact, scale));
            sum[t] = fma16(exact, splat(*x_scale), sum[t]);
            continue;
        }
        sum[t] = fma16(exact, e == INT8 ? splat(*x_scale) : mul(scale, splat(*x_scale)), sum[t]);
        if (has_minimum(e)) sum[t] = fma16(minimum, splat(*scaled_sum), sum[t]);
    }
}

INLINE void multiply_groups(const unpacked_groups *u, const activations *a, int token, int first, int count,
                            const encoding e, float (*sums)[16]) {
    enum { AT_ONCE = 4 };
    const int tiles = e == Q6_K ? 2 : 1, columns = GROUP / tiles;  // of a group
    _Alignas(64) int32_t products[AT_ONCE][TOKENS][16];
    const size_t width = (size_t)a->width;
    const int8_t *x = (e == INT8 ? a->turned : a->int8) + (size_t)token * width + (size_t)first * GROUP;
    vec sum[TOKENS];
#pragma GCC unroll 16
    for (int t = 0; t < TOKENS; t++) sum[t] = load(sums[t]);
    int g = 0;
    for (; g + AT_ONCE / tiles <= count; g += AT_ONCE / tiles) {
        exact_products(x + (size_t)g * GROUP, width, u->weights[g][0], columns, AT_ONCE, products);
#pragma GCC unroll 4
        for (int i = 0; i < AT_ONCE / tiles; i++)
            scale_group(u, g + i, a, (size_t)token * (width / GROUP) + (size_t)(first + g + i), e, products + i * tiles, sum);
    }
    for (; g < count; g++) {
        exact_products(x + (size_t)g * GROUP, width, u->weights[g][0], columns, tiles, products);
        scale_group(u, g, a, (size_t)token * (width / GROUP) + (size_t)(first + g), e, products, sum);
    }
#pragma GCC unroll 16
    for (int t = 0; t < TOKENS; t++) store(sums[t], sum[t]);
}

INLINE void multiply_integers(const matrix *m, const activations *a, int tokens, float *y, size_t stride, int accumulate,
                              int first, int end, const encoding e) {
    unpacked_groups unpacked;
    _Alignas(64) float sums[MAX_TOKENS][16];
    for (int p = first; p < end; p++) {
        memset(sums, 0, (size_t)tokens * sizeof *sums);
        for (int g = 0; g < m->groups; g += CHUNK) {
            const int count = m->groups - g < CHUNK ? m->groups - g : CHUNK;
            unpack_groups(m, p, g, count, e, &unpacked);
            for (int t = 0; t < tokens; t += TOKENS) multiply_groups(&unpacked, a, t, g, count, e, sums + t);
        }
        const float *row_scales = (const float *)(const void *)(m->data + (size_t)p * panel_bytes(e, m->groups));
        for (int t = 0; t < tokens; t++) {
            const vec sum = e == INT8 ? mul(load(sums[t]), load(row_scales)) : load(sums[t]);
            finish(m, p, sum, y + (size_t)t * stride + p * PANEL, accumulate);
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------- bf16
#define ADD_TOKENS(n)                                                                       \
    if (tiles > n) {                                                                        \
        LOAD_TILE(4, x + (size_t)n * TOKENS * width + (size_t)g * GROUP, 2 * width);        \
        ADD_BF16(n, 4, 5);                                                                  \
    }

INLINE void multiply_bf16(const matrix *m, const activations *a, int token, int count, const int tiles, int panel, float *y,
                          size_t stride, int accumulate) {
    const size_t width = (size_t)a->width;
    const uint16_t *x = a->bf16 + (size_t)token * width;
    const uint8_t *w = m->data + (size_t)panel * panel_bytes(BF16, m->groups);
    _Alignas(64) float sums[4 * TOKENS][16];
    ZERO_TILE(0);
    ZERO_TILE(1);
    ZERO_TILE(2);
    ZERO_TILE(3);
    for (int g = 0; g < m->groups; g++, w += 1024) {
        for (int line = 0; line < 1024; line += 64) __builtin_prefetch(w + 4096 + line);
        LOAD_TILE(5, w, 64);
        ADD_TOKENS(0)
        ADD_TOKENS(1)
        ADD_TOKENS(2)
        ADD_TOKENS(3)
    }
    STORE_TILE(0, sums[0], 64);
    STORE_TILE(1, sums[TOKENS], 64);
    STORE_TILE(2, sums[2 * TOKENS], 64);
    STORE_TILE(3, sums[3 * TOKENS], 64);
    for (int t = 0; t < count; t++)
        finish(m, panel, load(sums[t]), y + (size_t)(token + t) * stride + panel * PANEL, accumulate);
}

static void multiply_all_bf16(const matrix *m, const activations *a, int tokens, float *y, size_t stride, int accumulate,
                              int first, int end) {
    const int rest = tokens % TOKENS;
    if (tokens >= TOKENS) configure(TOKENS, GROUP);
    for (int p = first; p < end; p++) {
        int t = 0;
        for (; t + 4 * TOKENS <= tokens; t += 4 * TOKENS)
            multiply_bf16(m, a, t, 4 * TOKENS, 4, p, y, stride, accumulate);
        for (; t + TOKENS <= tokens; t += TOKENS) multiply_bf16(m, a, t, TOKENS, 1, p, y, stride, accumulate);
    }
    if (rest) configure(rest, GROUP);
    for (int p = first; rest && p < end; p++)
        multiply_bf16(m, a, tokens - rest, rest, 1, p, y, stride, accumulate);
    RELEASE_TILES();
}

static void multiply(const matrix *m, const activations *a, int tokens, float *y, size_t stride, int accumulate, int first,
                     int end) {
    if (m->encoding == BF16) {
        multiply_all_bf16(m, a, tokens, y, stride, accumulate, first, end);
        return;
    }
    const int in_tiles = m->encoding == F32 ? 0 : tokens / TOKENS * TOKENS;
    if (in_tiles) {
        configure(TOKENS, m->encoding == Q6_K ? GROUP / 2 : GROUP);
        switch (m->encoding) {
        case Q8_0: multiply_integers(m, a, in_tiles, y, stride, accumulate, first, end, Q8_0); break;
        case Q4_0: multiply_integers(m, a, in_tiles, y, stride, accumulate, first, end, Q4_0); break;
        case Q4_1: multiply_integers(m, a, in_tiles, y, stride, accumulate, first, end, Q4_1); break;
        case Q5_0: multiply_integers(m, a, in_tiles, y, stride, accumulate, first, end, Q5_0); break;
        case Q5_1: multiply_integers(m, a, in_tiles, y, stride, accumulate, first, end, Q5_1); break;
        case Q4_K: multiply_integers(m, a, in_tiles, y, stride, accumulate, first, end, Q4_K); break;
        case Q5_K: multiply_integers(m, a, in_tiles, y, stride, accumulate, first, end, Q5_K); break;
        case Q6_K: multiply_integers(m, a, in_tiles, y, stride, accumulate, first, end, Q6_K); break;
        default: multiply_integers(m, a, in_tiles, y, stride, accumulate, first, end, INT8); break;
        }
        RELEASE_TILES();
    }
    multiply_from(m, a, in_tiles, tokens, y, stride, accumulate, first, end);
}
