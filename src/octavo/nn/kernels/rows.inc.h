// What happens to one row of activations: norms, the forms that products read, the MLP's activation function.
//
// Included once a level. A row is padded with zeros to whole groups, and its result depends on nothing but itself.
INLINE vec exp2_of(vec x) {  // relative error below 3e-7
    x = maximum(x, splat(-126.0f));
    x = sub(splat(0.0f), maximum(sub(splat(0.0f), x), splat(-126.0f)));
    const vec n = nearest(x), r = sub(x, n);
    vec p = splat(1.5403530e-4f);
    p = fma16(p, r, splat(1.3333558e-3f));
    p = fma16(p, r, splat(9.6181291e-3f));
    p = fma16(p, r, splat(5.5504109e-2f));
    p = fma16(p, r, splat(2.4022651e-1f));
    p = fma16(p, r, splat(6.9314718e-1f));
    return times_power(fma16(p, r, splat(1.0f)), n);
}

INLINE vec tanh_of_half(vec x) {  // tanh(u) of x = 2 u / ln 2
    return sub(splat(1.0f), divide(splat(2.0f), add(splat(1.0f), exp2_of(x))));
}

static void normalize(const norm *n, const float *x, int width, float *out) {
    float last[16] = {0}, mean = 0;
    const int whole = width & ~15;
    memcpy(last, x + whole, (size_t)(width - whole) * 4);
    if (n->kind == NORM_LAYER) {
        vec sum = load(last);
        for (int i = 0; i < whole; i += 16) sum = add(sum, load(x + i));
        mean = sum_lanes(sum) / (float)width;
        for (int i = width - whole; i < 16; i++) last[i] = mean;  // so that padding adds nothing to the variance
    }
    vec d = sub(load(last), splat(mean)), squares = mul(d, d);
    for (int i = 0; i < whole; i += 16) {
        d = sub(load(x + i), splat(mean));
        squares = fma16(d, d, squares);
    }
    const vec scale = splat(1.0f / sqrtf(sum_lanes(squares) / (float)width + n->eps));
    for (int i = 0; i < width; i += 16) {  // weight and bias are padded with zeros
        const vec centred = sub(i < whole ? load(x + i) : load(last), splat(mean));
        const vec y = mul(mul(centred, scale), load(n->weight + i));
        store(out + i, n->bias ? add(y, load(n->bias + i)) : y);
    }
}

INLINE void turn_vectors(vec *first, vec *second) {  // as `turn_group` of quantize.c does, sum by sum
    const vec sum = add(*first, *second);
    *second = butterfly(butterfly(butterfly(butterfly(sub(*first, *second), 8), 4), 2), 1);
    *first = butterfly(butterfly(butterfly(butterfly(sum, 8), 4), 2), 1);
}

INLINE void prepare_int8(activations *a, int row, const float *x, const int turned) {
    const int groups = a->width / GROUP;
    int8_t *q = (turned ? a->turned : a->int8) + (size_t)row * a->width;
    float *scale = (turned ? a->turned_scale : a->scale) + (size_t)row * groups;
    int32_t *sum = (turned ? a->turned_sum : a->sum) + (size_t)row * groups;
    vec zero = splat(0.0f);  // not a number when a feature is not finite: a maximum would lose it
    for (int g = 0; g < groups; g++, x += GROUP, q += GROUP) {
        vec first = load(x), second = load(x + 16);
        if (turned) turn_vectors(&first, &second);
        const float largest = max_lanes(maximum(absolute(first), absolute(second)));
        zero = fma16(second, splat(0.0f), fma16(first, splat(0.0f), zero));
        // A group too small for a normal scale is zero.
        const vec inverse = splat(largest > 1e-35f && largest < INFINITY ? 127.0f / largest : 0.0f);
        const int32_t first_sum = store_int8(q, mul(first, inverse));
        sum[g] = first_sum + store_int8(q + 16, mul(second, inverse));
        scale[g] = largest / 127.0f;
        if (turned) continue;
        a->first_sum[(size_t)row * groups + g] = first_sum;
        a->scaled_sum[(size_t)row * groups + g] = scale[g] * (float)sum[g];
    }
    if (sum_lanes(zero) == 0.0f) return;
    for (int g = 0; g < groups; g++) scale[g] = NAN;  // all that is made of this row
}

static void prepare(activations *a, int row, const float *x, int forms) {
    if (forms & AS_INT8) prepare_int8(a, row, x, 0);
    if (forms & AS_TURNED) prepare_int8(a, row, x, 1);
    if (forms & AS_BF16)
        for (int i = 0; i < a->width; i += 16) store_bf16(a->bf16 + (size_t)row * a->width + i, load(x + i));
    if (forms & AS_F32) memcpy(a->f32 + (size_t)row * a->width, x, (size_t)a->width * 4);
}

INLINE vec sigmoid_times(vec x, vec u) {  // x / (1 + exp(-u))
    return divide(x, add(splat(1.0f), exp2_of(mul(u, splat(-1.44269504f)))));
}

INLINE vec half_plus_erf(vec x) {  // exact GELU: x (1 + erf(x / sqrt 2)) / 2 = (x + |x| erf(|x| / sqrt 2)) / 2
    const vec magnitude = absolute(x), a = mul(magnitude, splat(0.70710678f));
    const vec t = divide(splat(1.0f), fma16(a, splat(0.3275911f), splat(1.0f)));
    vec p = splat(1.061405429f);  // Abramowitz and Stegun 7.1.26: erf within 1.5e-7
    p = fma16(p, t, splat(-1.453152027f));
    p = fma16(p, t, splat(1.421413741f));
    p = fma16(p, t, splat(-0.284496736f));
    p = fma16(p, t, splat(0.254829592f));
    const vec tail = mul(mul(p, t), exp2_of(mul(mul(a, a), splat(-1.44269504f))));
    return mul(splat(0.5f), add(x, mul(magnitude, sub(splat(1.0f), tail))));
}

INLINE vec activation(vec x, activation_kind kind) {
    if (kind == SILU) return sigmoid_times(x, x);
    if (kind == QUICK_GELU) return sigmoid_times(x, mul(x, splat(1.702f)));
    if (kind == RELU) return maximum(x, splat(0.0f));
    if (kind == RELU_SQUARED) return mul(maximum(x, splat(0.0f)), maximum(x, splat(0.0f)));
    if (kind == GELU_TANH) {  // 0.5 x (1 + tanh u) = x sigmoid(2u)
        const vec cubic = fma16(mul(mul(x, x), x), splat(0.044715f), x);
        return sigmoid_times(x, mul(cubic, splat(1.5957691216f)));
    }
    return half_plus_erf(x);
}

INLINE vec minimum(vec a, vec b) { return sub(splat(0.0f), maximum(sub(splat(0.0f), a), sub(splat(0.0f), b))); }

INLINE void gate_as(float *gate, const float *up, int count, const activation_kind kind, float limit) {
    for (int i = 0; i < count; i += 16) {
        const vec x = load(gate + i);
        if (limit != 0.0f) {  // gpt-oss: gate is cut above, up on both sides and raised by 1
            const vec most = splat(limit), u = maximum(minimum(load(up + i), most), splat(-limit));
            store(gate + i, mul(activation(minimum(x, most), kind), add(u, splat(1.0f))));
            continue;
        }
        const vec y = activation(x, kind);
        store(gate + i, up ? mul(y, load(up + i)) : y);
    }
}

static void gate(float *gate, const float *up, int count, activation_kind kind, float limit) {
    switch (kind) {
    case SILU: gate_as(gate, up, count, SILU, limit); break;
    case GELU: gate_as(gate, up, count, GELU, limit); break;
    case GELU_TANH: gate_as(gate, up, count, GELU_TANH, limit); break;
    case RELU: gate_as(gate, up, count, RELU, limit); break;
    case QUICK_GELU: gate_as(gate, up, count, QUICK_GELU, limit); break;
    default: gate_as(gate, up, count, RELU_SQUARED, limit); break;
    }
}

INLINE vec capped(vec x, float scale, float softcap) {
    if (softcap == 0.0f) return mul(x, splat(scale));
    return mul(tanh_of_half(mul(x, splat(2.88539008f * scale / softcap))), splat(softcap));
}

static void cap(float *x, int count, float scale, float softcap) {
    int i = 0;
    for (; i + 16 <= count; i += 16) store(x + i, capped(load(x + i), scale, softcap));
    float last[16] = {0};
    memcpy(last, x + i, (size_t)(count - i) * 4);
    store(last, capped(load(last), scale, softcap));
    memcpy(x + i, last, (size_t)(count - i) * 4);
}

static float sum_weights(const float *logits, int count, float scale, float *sums) {  // of exp(scale (logit - largest))
    float last[16];
    const int whole = count & ~15;
    for (int i = 0; i < 16; i++) last[i] = whole + i < count ? logits[whole + i] : -INFINITY;
    vec largest = load(last);
    for (int i = 0; i < whole; i += 16) largest = maximum(largest, load(logits + i));
    const float most = max_lanes(largest);
    for (int first = 0; first < count; first += WEIGHTS) {
        vec sum = splat(0.0f);
        for (int i = first; i < first + WEIGHTS && i < count; i += 16) {
            const vec below = sub(i < whole ? load(logits + i) : load(last), splat(most));
            sum = add(sum, exp2_of(mul(below, splat(scale * 1.44269504f))));
        }
        sums[first / WEIGHTS] = sum_lanes(sum);
    }
    return most;
}
