// Products of packed weights with prepared activations: one panel x T tokens at a time, T a compile-time constant.
//
// Included once a level. Weights are unpacked once for up to MAX_TILE tokens. Each token's sums run over the columns in
// one order whatever T is, so a token's result does not depend on its neighbours.
INLINE void dense_group(const uint8_t *w, const activations *a, size_t at, const int T, encoding e, vec *sum) {
    // at: the index of the first token's first feature in this group
    for (int c = 0; c < (e == F32 ? 32 : 16); c++) {
#if defined(BF16_PRODUCTS)
        if (e == BF16) {
            const ivec pairs = load_bytes(w + 64 * c);
            for (int t = 0; t < T; t++)
                sum[t] = dot_bf16(sum[t], pairs, two_columns(a->bf16 + at + (size_t)t * a->width + 2 * c));
            continue;
        }
#else
        if (e == BF16) {
            const vec first = first_of_pairs(load_bytes(w + 64 * c)), second = second_of_pairs(load_bytes(w + 64 * c));
            for (int t = 0; t < T; t++) {
                const float *x = a->f32 + at + (size_t)t * a->width + 2 * c;
                sum[t] = fma16(second, splat(x[1]), fma16(first, splat(x[0]), sum[t]));
            }
            continue;
        }
#endif
        const vec column = load((const float *)(const void *)(w + 64 * c));
        for (int t = 0; t < T; t++) sum[t] = fma16(column, splat(a->f32[at + (size_t)t * a->width + c]), sum[t]);
    }
}

INLINE int has_high_bit(const encoding e) { return e == Q5_0 || e == Q5_1 || e == Q5_K; }
INLINE int is_bytes(const encoding e) { return e == Q8_0 || e == INT8; }
INLINE int has_minimum(const encoding e) { return e == Q4_1 || e == Q5_1 || e == Q4_K || e == Q5_K; }

INLINE void unpack(const encoding e, const uint8_t *w, ivec *q) {  // 32 columns as unsigned bytes, 4 of them a vector
    if (is_bytes(e)) {
        for (int c = 0; c < 8; c++) q[c] = load_bytes(w + 64 * c);
        return;
    }
    for (int c = 0; c < 4; c++) {
        const ivec both = load_bytes(w + 64 * c);
        q[2 * c] = low_nibbles(both);
        q[2 * c + 1] = high_nibbles(both);
    }
    for (int c = 0; c < 8; c++) {
        if (has_high_bit(e)) q[c] = either(q[c], masked(shifted(load_bytes(w + 256), 4 - c), 0x10101010));
        if (e == Q6_K) q[c] = either(q[c], masked(shifted(load_bytes(w + 256 + c / 4 * 64), 4 - c % 4 * 2), 0x30303030));
    }
}

typedef struct { vec scale, second, minimum; } factors;  // second: the scale of the last 16 columns of Q6_K

INLINE factors factors_of(const encoding e, const uint8_t *head, const uint8_t *w) {
    factors f = {splat(1.0f), splat(1.0f), splat(0.0f)};
    if (e == INT8) return f;
    w += e == Q8_0 ? 512 : e == Q6_K ? 384 : has_high_bit(e) ? 320 : 256;
    if (e == Q6_K) {
        const vec d = load_half(head);
        f.scale = mul(d, load_signed(w));
        f.second = mul(d, load_signed(w + 16));
    } else if (e == Q4_K || e == Q5_K) {
        f.scale = mul(load_half(head), load_unsigned(w));
        f.minimum = mul(load_half(head + 32), load_unsigned(w + 16));
    } else {
        f.scale = load_half(w);
        if (has_minimum(e)) f.minimum = load_half(w + 32);
    }
    return f;
}

typedef struct {  // of a group of a few tokens: where its integer sums start, its scale, and scale x sum
    int32_t start[MAX_TILE], second[MAX_TILE];  // second: of the last 16 columns of Q6_K
    float scale[MAX_TILE], scaled_sum[MAX_TILE];
} group_facts;

// Laid out once for many panels, so that the innermost loop reads all of it from one address.
INLINE void collect_facts(const activations *a, int token, const int T, const encoding e, group_facts *f) {
    const int32_t offset = is_bytes(e) ? Q8_START : e == Q4_0 ? -8 : e == Q5_0 ? -16 : e == Q6_K ? -32 : 0;
    const int groups = a->width / GROUP;
    for (int t = 0; t < T; t++) {
        const size_t first = (size_t)(token + t) * (size_t)groups;
        const float *scale = (e == INT8 ? a->turned_scale : a->scale) + first, *scaled_sum = a->scaled_sum + first;
        const int32_t *sum = (e == INT8 ? a->turned_sum : a->sum) + first, *first_sum = a->first_sum + first;
        for (int g = 0; g < groups; g++) {
            f[g].start[t] = offset * (e == Q6_K ? first_sum[g] : sum[g]);
            if (e == Q6_K) f[g].second[t] = offset * (sum[g] - first_sum[g]);
            f[g].scale[t] = scale[g];
            if (has_minimum(e)) f[g].scaled_sum[t] = scaled_sum[g];
        }
    }
}

// products[t]: the exact sums of a group, which start at start[t], with token t, whose features lie at x + t * stride.
INLINE void dots(const encoding e, const ivec *q, const int8_t *x, size_t stride, const int32_t *start, const int T,
                 ivec *products) {
#pragma GCC unroll 8
    for (int t = 0; t < T; t++) products[t] = ints(start[t]);
#if defined(DOTS_OF_FOUR)  // of all encodings alike, tokens in turn: none waits for its own last product
    (void)e;
#pragma GCC unroll 8
    for (int c = 0; c < 8; c++)
#pragma GCC unroll 8
        for (int t = 0; t < T; t++) products[t] = dot_four(products[t], q[c], x + (size_t)t * stride + 4 * c);
#else
    for (int t = 0; t < T; t++, x += stride)
        products[t] = is_bytes(e)       ? dot_q8(products[t], q, x)
                      : has_high_bit(e) ? dot_q6(products[t], q, x, 8)
                                        : dot_q4(products[t], q, x);
#endif
}

INLINE void block_group(const uint8_t *head, const uint8_t *w, const activations *a, int token, int g, const int T,
                        const encoding e, const group_facts *of, vec *sum) {
    ivec q[8], products[MAX_TILE];
    unpack(e, w, q);
    const factors f = factors_of(e, head, w);
    const size_t stride = (size_t)a->width;
    const int8_t *x = (e == INT8 ? a->turned : a->int8) + (size_t)token * stride + (size_t)g * GROUP;
    if (e != Q6_K) dots(e, q, x, stride, of->start, T, products);
#pragma GCC unroll 8
    for (int t = 0; t < T; t++) {
        const vec x_scale = splat(of->scale[t]);
        if (e == Q6_K) {
            const int8_t *row = x + (size_t)t * stride;
            const vec half = mul(to_float(dot_q6(ints(of->start[t]), q, row, 4)), f.scale);
            const vec both = fma16(to_float(dot_q6(ints(of->second[t]), q + 4, row + 16, 4)), f.second, half);
            sum[t] = fma16(both, x_scale, sum[t]);
            continue;
        }
        sum[t] = fma16(to_float(products[t]), e == INT8 ? x_scale : mul(f.scale, x_scale), sum[t]);
        if (has_minimum(e)) sum[t] = fma16(f.minimum, splat(of->scaled_sum[t]), sum[t]);
    }
}

INLINE void finish(const matrix *m, int panel, vec sum, float *y, int accumulate) {
    const int rows = m->rows - panel * PANEL;
    if (m->bias) sum = add(sum, load(m->bias + panel * PANEL));
    if (rows >= PANEL) {
        store(y, accumulate ? add(load(y), sum) : sum);
        return;
    }
    float last[PANEL];
    store(last, sum);
    for (int r = 0; r < rows; r++) y[r] = accumulate ? y[r] + last[r] : last[r];
}

INLINE void tile(const matrix *m, int panel, const activations *a, int token, const int T, const encoding e,
                 const group_facts *facts, int fresh, float *y, size_t stride, int accumulate) {
    const layout l = layout_of(e);
    const uint8_t *w = m->data + (size_t)panel * panel_bytes(e, m->groups), *head = w;
    vec sum[MAX_TILE];
    for (int t = 0; t < T; t++) sum[t] = splat(0.0f);
    for (int g = 0; g < m->groups; g++, w += l.group) {
        if (g % l.span == 0) {
            head = w;
            w += l.head;
        }
        for (size_t line = 0; fresh && line < l.group; line += 64) {  // to the second level: the first one's few slots run out
            if (T == 1 && l.group < 512) __builtin_prefetch(w + 4096 + line, 0, 3);
            else __builtin_prefetch(w + 4096 + line, 0, 2);
        }
        if (e <= BF16) dense_group(w, a, (size_t)token * a->width + (size_t)g * GROUP, T, e, sum);
        else block_group(head, w, a, token, g, T, e, facts + g, sum);
    }
    for (int t = 0; t < T; t++) {
        if (e == INT8) sum[t] = mul(sum[t], load((const float *)(const void *)head));
        finish(m, panel, sum[t], y + (size_t)(token + t) * stride + panel * PANEL, accumulate);
    }
}

// fresh: the panels were not read a moment ago.
INLINE void multiply_few(const matrix *m, const activations *a, int token, const int T, int fresh, float *y, size_t stride,
                         int accumulate, int first, int end, const encoding e) {
    group_facts facts[e <= BF16 ? 1 : m->groups];
    if (e > BF16) collect_facts(a, token, T, e, facts);
    for (int p = first; p < end; p++) tile(m, p, a, token, T, e, facts, fresh, y, stride, accumulate);
}

// Tokens `from` .. `tokens` by panels `first` .. `end`: a few tokens by as many panels as the second-level cache holds.
INLINE void multiply_as(const matrix *m, const activations *a, int from, int tokens, float *y, size_t stride, int accumulate,
                        int first, int end, const encoding e) {
    enum { HELD = 1 << 19 };
    const size_t bytes = panel_bytes(e, m->groups);
    const int some = bytes < HELD ? (int)(HELD / bytes) : 1;
    for (int p = first; p < end; p += some) {
        const int last = end - p < some ? end : p + some;
        int t = from;
        for (; t + MAX_TILE <= tokens; t += MAX_TILE)
            multiply_few(m, a, t, MAX_TILE, t == from, y, stride, accumulate, p, last, e);
#if MAX_TILE > 4
        for (; t + 4 <= tokens; t += 4) multiply_few(m, a, t, 4, t == from, y, stride, accumulate, p, last, e);
#endif
        for (; t + 2 <= tokens; t += 2) multiply_few(m, a, t, 2, t == from, y, stride, accumulate, p, last, e);
        if (t < tokens) multiply_few(m, a, t, 1, t == from, y, stride, accumulate, p, last, e);
    }
}

static void multiply_from(const matrix *m, const activations *a, int from, int tokens, float *y, size_t stride,
                          int accumulate, int first, int end) {
    switch (m->encoding) {
    case F32: multiply_as(m, a, from, tokens, y, stride, accumulate, first, end, F32); break;
    case BF16: multiply_as(m, a, from, tokens, y, stride, accumulate, first, end, BF16); break;
    case Q8_0: multiply_as(m, a, from, tokens, y, stride, accumulate, first, end, Q8_0); break;
    case Q4_0: multiply_as(m, a, from, tokens, y, stride, accumulate, first, end, Q4_0); break;
    case Q4_1: multiply_as(m, a, from, tokens, y, stride, accumulate, first, end, Q4_1); break;
    case Q5_0: multiply_as(m, a, from, tokens, y, stride, accumulate, first, end, Q5_0); break;
    case Q5_1: multiply_as(m, a, from, tokens, y, stride, accumulate, first, end, Q5_1); break;
    case Q4_K: multiply_as(m, a, from, tokens, y, stride, accumulate, first, end, Q4_K); break;
    case Q5_K: multiply_as(m, a, from, tokens, y, stride, accumulate, first, end, Q5_K); break;
    case Q6_K: multiply_as(m, a, from, tokens, y, stride, accumulate, first, end, Q6_K); break;
    default: multiply_as(m, a, from, tokens, y, stride, accumulate, first, end, INT8); break;
    }
}

#if !defined(TILE_PRODUCTS)
static void multiply(const matrix *m, const activations *a, int tokens, float *y, size_t stride, int accumulate, int first,
                     int end) {
    multiply_from(m, a, 0, tokens, y, stride, accumulate, first, end);
}
#endif
