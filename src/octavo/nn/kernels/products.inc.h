// Products of packed weights with prepared activations: one panel x T tokens at a time, T a compile-time constant.
//
// Included once a level. Weights are unpacked once for up to MAX_TILE tokens. Each token's sums run over the columns in
// one order whatever T is, so a token's result does not depend on its neighbours.
INLINE size_t group_bytes_of(const encoding e) {  // a constant where it is inlined
    return e == F32 ? 2048 : e == BF16 ? 1024 : e == Q8_0 ? 544 : e == Q4_0 ? 288 : 320;
}

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

INLINE void block_group(const uint8_t *w, const activations *a, int token, int g, const int T, encoding e, vec *sum) {
    ivec q[8];
    if (e == Q8_0)
        for (int c = 0; c < 8; c++) q[c] = load_bytes(w + 64 * c);
    else
        for (int c = 0; c < 4; c++) {
            const ivec both = load_bytes(w + 64 * c);
            q[2 * c] = low_nibbles(both);
            q[2 * c + 1] = high_nibbles(both);
        }
    const vec scale = load_half(w + (e == Q8_0 ? 512 : 256));
    const int groups = a->width / GROUP;
    for (int t = 0; t < T; t++) {
        const size_t at = (size_t)(token + t) * groups + g;
        const int8_t *x = a->int8 + at * GROUP;
        ivec products;  // the offset of unsigned weights is where the sum starts
        if (e == Q8_0) products = dot_q8(ints(Q8_START * a->sum[at]), q, x);
        else products = dot_q4(ints(e == Q4_0 ? -8 * a->sum[at] : 0), q, x);
        sum[t] = fma16(to_float(products), mul(scale, splat(a->scale[at])), sum[t]);
        if (e == Q4_1) sum[t] = fma16(load_half(w + 288), splat(a->scaled_sum[at]), sum[t]);
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

INLINE void tile(const matrix *m, int panel, const activations *a, int token, const int T, encoding e, float *y,
                 size_t stride, int accumulate) {
    const size_t bytes = group_bytes_of(e);
    const uint8_t *w = m->data + (size_t)panel * m->groups * bytes;
    vec sum[MAX_TILE];
    for (int t = 0; t < T; t++) sum[t] = splat(0.0f);
    for (int g = 0; g < m->groups; g++, w += bytes) {
        for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(w + 4096 + line);
        if (e <= BF16) dense_group(w, a, (size_t)token * a->width + (size_t)g * GROUP, T, e, sum);
        else block_group(w, a, token, g, T, e, sum);
    }
    for (int t = 0; t < T; t++) finish(m, panel, sum[t], y + (size_t)(token + t) * stride + panel * PANEL, accumulate);
}

INLINE void multiply_as(const matrix *m, const activations *a, int tokens, float *y, size_t stride, int accumulate,
                        int first, int end, encoding e) {
    for (int p = first; p < end; p++) {
        int t = 0;
        for (; t + MAX_TILE <= tokens; t += MAX_TILE) tile(m, p, a, t, MAX_TILE, e, y, stride, accumulate);
#if MAX_TILE > 4
        for (; t + 4 <= tokens; t += 4) tile(m, p, a, t, 4, e, y, stride, accumulate);
#endif
        for (; t + 2 <= tokens; t += 2) tile(m, p, a, t, 2, e, y, stride, accumulate);
        if (t < tokens) tile(m, p, a, t, 1, e, y, stride, accumulate);
    }
}

static void multiply(const matrix *m, const activations *a, int tokens, float *y, size_t stride, int accumulate, int first,
                     int end) {
    switch (m->encoding) {
    case F32: multiply_as(m, a, tokens, y, stride, accumulate, first, end, F32); break;
    case BF16: multiply_as(m, a, tokens, y, stride, accumulate, first, end, BF16); break;
    case Q8_0: multiply_as(m, a, tokens, y, stride, accumulate, first, end, Q8_0); break;
    case Q4_0: multiply_as(m, a, tokens, y, stride, accumulate, first, end, Q4_0); break;
    default: multiply_as(m, a, tokens, y, stride, accumulate, first, end, Q4_1); break;
    }
}
