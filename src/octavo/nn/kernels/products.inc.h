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

INLINE ivec dot(const encoding e, const ivec *q, const int8_t *x, int32_t x_sum) {
    // The offset of unsigned weights is where the sum starts.
    if (is_bytes(e)) return dot_q8(ints(Q8_START * x_sum), q, x);
    const int32_t offset = e == Q4_0 ? -8 : e == Q5_0 ? -16 : 0;
    return has_high_bit(e) ? dot_q6(ints(offset * x_sum), q, x, 8) : dot_q4(ints(offset * x_sum), q, x);
}

INLINE void block_group(const uint8_t *head, const uint8_t *w, const activations *a, int token, int g, const int T,
                        const encoding e, vec *sum) {
    ivec q[8];
    unpack(e, w, q);
    const factors f = factors_of(e, head, w);
    const int groups = a->width / GROUP;
    for (int t = 0; t < T; t++) {
        const size_t at = (size_t)(token + t) * groups + g;
        const int8_t *x = (e == INT8 ? a->turned : a->int8) + at * GROUP;
        if (e == Q6_K) {
            const int32_t first_sum = a->first_sum[at], second_sum = a->sum[at] - first_sum;
            const vec first = mul(to_float(dot_q6(ints(-32 * first_sum), q, x, 4)), f.scale);
            const vec both = fma16(to_float(dot_q6(ints(-32 * second_sum), q + 4, x + 16, 4)), f.second, first);
            sum[t] = fma16(both, splat(a->scale[at]), sum[t]);
            continue;
        }
        const vec products = to_float(dot(e, q, x, e == INT8 ? a->turned_sum[at] : a->sum[at]));
        sum[t] = fma16(products, e == INT8 ? splat(a->turned_scale[at]) : mul(f.scale, splat(a->scale[at])), sum[t]);
        if (has_minimum(e)) sum[t] = fma16(f.minimum, splat(a->scaled_sum[at]), sum[t]);
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

INLINE void tile(const matrix *m, int panel, const activations *a, int token, const int T, const encoding e, float *y,
                 size_t stride, int accumulate) {
    const layout l = layout_of(e);
    const uint8_t *w = m->data + (size_t)panel * panel_bytes(e, m->groups), *head = w;
    vec sum[MAX_TILE];
    for (int t = 0; t < T; t++) sum[t] = splat(0.0f);
    for (int g = 0; g < m->groups; g++, w += l.group) {
        if (g % l.span == 0) {
            head = w;
            w += l.head;
        }
        for (size_t line = 0; line < l.group; line += 64) __builtin_prefetch(w + 4096 + line);
        if (e <= BF16) dense_group(w, a, (size_t)token * a->width + (size_t)g * GROUP, T, e, sum);
        else block_group(head, w, a, token, g, T, e, sum);
    }
    for (int t = 0; t < T; t++) {
        if (e == INT8) sum[t] = mul(sum[t], load((const float *)(const void *)head));
        finish(m, panel, sum[t], y + (size_t)(token + t) * stride + panel * PANEL, accumulate);
    }
}

// Tokens `from` .. `tokens` by panels `first` .. `end`.
INLINE void multiply_as(const matrix *m, const activations *a, int from, int tokens, float *y, size_t stride, int accumulate,
                        int first, int end, const encoding e) {
    for (int p = first; p < end; p++) {
        int t = from;
        for (; t + MAX_TILE <= tokens; t += MAX_TILE) tile(m, p, a, t, MAX_TILE, e, y, stride, accumulate);
#if MAX_TILE > 4
        for (; t + 4 <= tokens; t += 4) tile(m, p, a, t, 4, e, y, stride, accumulate);
#endif
        for (; t + 2 <= tokens; t += 2) tile(m, p, a, t, 2, e, y, stride, accumulate);
        if (t < tokens) tile(m, p, a, t, 1, e, y, stride, accumulate);
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
