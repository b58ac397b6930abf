// A mixture of experts in place of the MLP: each token goes to the few experts that its router scores highest.
//
// Pairs of a token and an expert are sorted by expert, so that an expert's weights are read once for all its tokens.
// Unusual: every thread routes all tokens for itself, which costs less than a barrier. A token's experts add to it in
// ascending order, the shared one last, so its result does not depend on its neighbours.
#include "step.h"

#include <math.h>
#include <string.h>

static const matrix *matrix_of(const layer *l, int e, matrix_slot slot) { return &l->experts[e].matrices[slot - GATE]; }

int experts_forms(const share *w, const layer *l) {
    const moe_shape *moe = &w->m->shape.moe;
    const int *forms = w->m->level->forms, count = moe->experts + (moe->shared_size > 0);
    int wanted = forms[l->matrices[ROUTER].encoding];
    if (moe->shared_gated) wanted |= forms[l->matrices[SHARED_GATE].encoding];
    for (int e = 0; e < count; e++) {
        wanted |= forms[matrix_of(l, e, UP)->encoding];
        if (w->m->shape.gated) wanted |= forms[matrix_of(l, e, GATE)->encoding];
    }
    return wanted;
}

// The first, if several are; what is no number comes before what is taken already, so that no expert is taken twice.
static int best_of(const float *ranks, int count) {
    int best = 0;
    for (int i = 1; i < count; i++)
        if (ranks[i] > ranks[best] || (ranks[best] == -INFINITY && ranks[i] != ranks[i])) best = i;
    return best;
}

static float sum_of_best(float *ranks, int count, int top) {  // leaves ranks as they are
    float sum = 0, taken[16];
    int at[16];
    for (int i = 0; i < top; i++) {
        at[i] = best_of(ranks, count);
        sum += taken[i] = ranks[at[i]];
        ranks[at[i]] = -INFINITY;
    }
    for (int i = top - 1; i >= 0; i--) ranks[at[i]] = taken[i];
    return sum;
}

static void keep_groups(const moe_shape *moe, float *ranks) {  // all but the best groups of experts are out
    const int size = moe->experts / moe->groups;
    float sums[64];
    for (int g = 0; g < moe->groups; g++) sums[g] = sum_of_best(ranks + g * size, size, moe->group_top);
    for (int i = 0; i < moe->groups_kept; i++) sums[best_of(sums, moe->groups)] = -INFINITY;
    for (int g = 0; g < moe->groups; g++)
        for (int e = 0; sums[g] > -INFINITY && e < size; e++) ranks[g * size + e] = -INFINITY;
}

static void score(const moe_shape *moe, const float *logits, float *scores) {
    const float largest = logits[best_of(logits, moe->experts)];
    float sum = 0;
    for (int e = 0; e < moe->experts; e++) {
        scores[e] = moe->scoring == SPARSE_MIXER ? logits[e]
                    : moe->scoring == SIGMOID    ? 1.0f / (1.0f + expf(-logits[e]))
                                                 : expf(logits[e] - largest);
        sum += scores[e];
    }
    for (int e = 0; moe->scoring == SOFTMAX && e < moe->experts; e++) scores[e] /= sum;
}

// A softmax over the experts that are left and come near the best of them (Liu et al. 2024, arXiv 2409.12136).
static float mixed_share(const moe_shape *moe, const float *left, int best) {
    float sum = 0;
    for (int e = 0; e < moe->experts; e++)
        if (left[e] > -INFINITY && !((left[best] - left[e]) / fmaxf(fabsf(left[e]), left[best]) > 2 * moe->jitter))
            sum += expf(left[e] - left[best]);
    return 1.0f / sum;
}

// The token's experts, ascending, and their shares of it; `expert` is where its pairs will be.
static void choose(const moe_shape *moe, const layer *l, const routing *r, const float *logits, int32_t *expert, float *weight) {
    float sum = 1e-20f;
    int place = 0;
    score(moe, logits, r->scores);
    for (int e = 0; e < moe->experts; e++) r->ranks[e] = r->scores[e] + (l->vectors[CORRECTION] ? l->vectors[CORRECTION][e] : 0.0f);
    if (moe->groups > 1) keep_groups(moe, r->ranks);
    for (int i = 0; i < moe->experts_per_token; i++) {
        const int best = best_of(r->ranks, moe->experts);
        if (moe->scoring == SPARSE_MIXER) r->scores[best] = mixed_share(moe, r->ranks, best);
        r->ranks[best] = -INFINITY;
        expert[i] = best;
        for (int j = i; j && expert[j] < expert[j - 1]; j--) {
            const int32_t larger = expert[j - 1];
            expert[j - 1] = expert[j];
            expert[j] = larger;
        }
    }
    for (; place < moe->experts_per_token; place++) sum += weight[place] = r->scores[expert[place]];
    for (place = 0; place < moe->experts_per_token; place++) weight[place] *= moe->scale / (moe->normalise ? sum : 1.0f);
}

static void route(const share *w, const layer *l) {
    const model *m = w->m;
    const moe_shape *moe = &m->shape.moe;
    const routing *r = &m->routings[w->thread];
    const int each = moe->experts_per_token, stride = (moe->experts + PANEL - 1) / PANEL * PANEL;
    memset(r->first, 0, (size_t)(moe->experts + 2) * 4);
    for (int t = 0; t < w->s->tokens; t++) {
        choose(moe, l, r, m->router_logits + (size_t)t * stride, r->pair + t * each, r->weight + t * each);
        for (int i = 0; i < each; i++) r->first[r->pair[t * each + i] + 2]++;
    }
    for (int e = 2; e < moe->experts + 2; e++) r->first[e] += r->first[e - 1];
    for (int at = 0; at < w->s->tokens * each; at++) {  // first[e + 1] runs from the first pair of e to its end
        const int pair = r->first[r->pair[at] + 1]++;
        r->token[pair] = at / each;
        r->input[pair] = r->weight[at];
        if (moe->scale_input) r->weight[at] = 1;
        r->pair[at] = pair;
    }
}

// The part of `a` from feature `at` on, as rows of `width`.
static activations view(const activations *a, size_t at, int width) {
    const size_t group = at / GROUP;
    return (activations){.width = width, .int8 = a->int8 + at, .scale = a->scale + group, .scaled_sum = a->scaled_sum + group,
                         .sum = a->sum + group, .first_sum = a->first_sum + group, .bf16 = a->bf16 + at, .f32 = a->f32 + at,
                         .turned = a->turned + at, .turned_scale = a->turned_scale + group, .turned_sum = a->turned_sum + group};
}

static void copy_row(activations *to, int row, const activations *from, int source, int forms) {
    const size_t width = (size_t)from->width, groups = width / GROUP, at = (size_t)row * width;
    const activations by = view(from, (size_t)source * width, from->width), into = view(to, at, from->width);
    if (forms & AS_INT8) {
        memcpy(into.int8, by.int8, width);
        memcpy(into.scale, by.scale, groups * 4);
        memcpy(into.scaled_sum, by.scaled_sum, groups * 4);
        memcpy(into.sum, by.sum, groups * 4);
        memcpy(into.first_sum, by.first_sum, groups * 4);
    }
    if (forms & AS_TURNED) {
        memcpy(into.turned, by.turned, width);
        memcpy(into.turned_scale, by.turned_scale, groups * 4);
        memcpy(into.turned_sum, by.turned_sum, groups * 4);
    }
    if (forms & AS_BF16) memcpy(into.bf16, by.bf16, width * 2);
    if (forms & AS_F32) memcpy(into.f32, by.f32, width * 4);
}

static int alone(const share *w) { return w->s->tokens <= OWN_ROWS; }  // each thread has all rows for itself

static activations *pair_rows(const share *w) { return alone(w) ? &w->m->own_pairs[w->thread] : &w->m->pairs; }

static void copy_rows(const share *w, const layer *l, const activations *a, int first, int end) {
    const routing *r = &w->m->routings[w->thread];
    const int forms = experts_forms(w, l);
    for (int pair = first; pair < end; pair++) copy_row(pair_rows(w), pair, a, r->token[pair], forms);
}

static void scale_rows(float *rows, const float *by, int count, size_t stride, int first, int end) {
    for (int i = 0; i < count; i++)
        for (int j = first * PANEL; j < end * PANEL; j++) rows[i * stride + j] *= by[i];
}

// input: what each row of `a` was to be multiplied by; its products are instead. NULL: by nothing.
static void run_in(const share *w, const layer *l, int e, const activations *a, int tokens, size_t at, const float *input,
                   int first, int end) {
    model *m = w->m;
    const matrix *up = matrix_of(l, e, UP);
    const size_t width = (size_t)(e < m->shape.moe.experts ? m->expert_width : m->shared_width);
    if (m->shape.gated) multiply_panels(w, matrix_of(l, e, GATE), a, tokens, m->gate + at, width, 0, first, end);
    multiply_panels(w, up, a, tokens, m->up + at, width, 0, first, end);
    if (input && m->shape.gated) scale_rows(m->gate + at, input, tokens, width, first, end);
    if (input) scale_rows(m->up + at, input, tokens, width, first, end);
    activate(w, l, m->gate + at, m->up + at, tokens, width, first, end);
}

static void run_all_in(const share *w, const layer *l, const activations *a) {  // panels of one expert after the other
    const model *m = w->m;
    const moe_shape *moe = &m->shape.moe;
    const routing *r = &m->routings[w->thread];
    const activations *rows = pair_rows(w);
    const int panels = matrix_of(l, 0, UP)->panels, shared = moe->shared_size ? matrix_of(l, moe->experts, UP)->panels : 0;
    int used = 0, first, end;
    for (int e = 0; e < moe->experts; e++) used += r->first[e + 1] > r->first[e];
    for (EACH_HAND(h, w, used * panels + shared)) {
        int at = 0;
        for (int e = 0; e < moe->experts; e++) {
            const int from = r->first[e], count = r->first[e + 1] - from;
            const activations part_of = view(rows, (size_t)from * a->width, a->width);
            if (count && overlaps(&h, at, panels, &first, &end))
                run_in(w, l, e, &part_of, count, (size_t)from * m->expert_width, moe->scale_input ? r->input + from : NULL, first,
                       end);
            if (count) at += panels;
        }
        if (overlaps(&h, at, shared, &first, &end))
            run_in(w, l, moe->experts, a, w->s->tokens, (size_t)w->s->tokens * moe->experts_per_token * m->expert_width, NULL,
                   first, end);
    }
}

void experts_in(const share *w, const layer *l, const activations *a) {
    model *m = w->m;
    const moe_shape *moe = &m->shape.moe;
    const int tokens = w->s->tokens, stride = (moe->experts + PANEL - 1) / PANEL * PANEL, pairs = tokens * moe->experts_per_token;
    multiply_all(w, &l->matrices[ROUTER], a, tokens, m->router_logits, (size_t)stride);
    if (moe->shared_gated) multiply_all(w, &l->matrices[SHARED_GATE], a, tokens, m->shared_gates, 1);
    barrier(w);
    route(w, l);
    if (alone(w)) {
        copy_rows(w, l, a, 0, pairs);
    } else {
        for (EACH_HAND(h, w, pairs)) copy_rows(w, l, a, h.first, h.end);
        barrier(w);
    }
    run_all_in(w, l, a);
}

// `count` rows of what run_in made, from feature `at` on, in the forms that `down` reads.
static void prepare_rows(const share *w, const matrix *down, size_t at, int width, int first, int end) {
    const model *m = w->m;
    activations rows = view(pair_rows(w), at, width);
    const float *made = (m->shape.gated ? m->gate : m->up) + at;
    for (int i = first; i < end; i++) m->level->prepare(&rows, i, made + (size_t)i * width, m->level->forms[down->encoding]);
}

static void prepare_pairs(const share *w, const layer *l, int first, int end) {
    const moe_shape *moe = &w->m->shape.moe;
    const routing *r = &w->m->routings[w->thread];
    for (int e = 0; e < moe->experts; e++) {
        const int from = r->first[e] > first ? r->first[e] : first, to = r->first[e + 1] < end ? r->first[e + 1] : end;
        prepare_rows(w, matrix_of(l, e, DOWN), 0, w->m->expert_width, from, to);
    }
}

static void prepare_shared(const share *w, const layer *l, int first, int end) {
    const moe_shape *moe = &w->m->shape.moe;
    const size_t at = (size_t)w->s->tokens * moe->experts_per_token * w->m->expert_width;
    if (moe->shared_size) prepare_rows(w, matrix_of(l, moe->experts, DOWN), at, w->m->shared_width, first, end);
}

static void prepare_all(const share *w, const layer *l) {
    const int tokens = w->s->tokens, pairs = tokens * w->m->shape.moe.experts_per_token;
    if (alone(w)) {
        prepare_pairs(w, l, 0, pairs);
        prepare_shared(w, l, 0, tokens);
        return;
    }
    for (EACH_HAND(h, w, pairs)) prepare_pairs(w, l, h.first, h.end);
    for (EACH_HAND(h, w, tokens)) prepare_shared(w, l, h.first, h.end);
    barrier(w);
}

static void add_weighted(float *y, const float *x, float weight, int count) {
    for (int i = 0; i < count; i++) y[i] += weight * x[i];
}

static void combine(const share *w, int adds, int first_panel, int end_panel) {
    const model *m = w->m;
    const moe_shape *moe = &m->shape.moe;
    const routing *r = &m->routings[w->thread];
    const int each = moe->experts_per_token, tokens = w->s->tokens, first = first_panel * PANEL, end = end_panel * PANEL;
    const int count = (end < m->shape.hidden_size ? end : m->shape.hidden_size) - first;
    const size_t stride = (size_t)m->hidden_width;
    for (int t = 0; t < tokens; t++) {
        float *y = (adds ? m->x : m->branch) + t * stride + first;
        const float *shared = m->expert_out + ((size_t)tokens * each + t) * stride + first;
        if (!adds) memset(y, 0, (size_t)count * 4);
        for (int i = t * each; i < (t + 1) * each; i++)
            add_weighted(y, m->expert_out + r->pair[i] * stride + first, r->weight[i], count);
        if (moe->shared_size)
            add_weighted(y, shared, moe->shared_gated ? 1.0f / (1.0f + expf(-m->shared_gates[t])) : 1.0f, count);
    }
}

static void run_out(const share *w, const layer *l, int first, int end) {
    const model *m = w->m;
    const moe_shape *moe = &m->shape.moe;
    const routing *r = &m->routings[w->thread];
    const size_t stride = (size_t)m->hidden_width, pairs = (size_t)w->s->tokens * moe->experts_per_token;
    for (int e = 0; e < moe->experts; e++) {
        const int from = r->first[e], count = r->first[e + 1] - from;
        const activations rows = view(pair_rows(w), (size_t)from * m->expert_width, m->expert_width);
        if (count) multiply_panels(w, matrix_of(l, e, DOWN), &rows, count, m->expert_out + from * stride, stride, 0, first, end);
    }
    const activations rows = view(pair_rows(w), pairs * m->expert_width, m->shared_width);
    if (moe->shared_size)
        multiply_panels(w, matrix_of(l, moe->experts, DOWN), &rows, w->s->tokens, m->expert_out + pairs * stride, stride, 0,
                           first, end);
}

void experts_out(const share *w, const layer *l) {
    const norm *n = norm_of(l, MLP_OUTPUT_NORM);
    const int adds = adds_to_x(w, n);
    prepare_all(w, l);
    for (EACH_HAND(h, w, matrix_of(l, 0, DOWN)->panels)) {
        run_out(w, l, h.first, h.end);
        combine(w, adds, h.first, h.end);
    }
    settle(w, n);
}
