// The MLP of a layer, in two halves with a barrier between: up to the activation, and down into the residual.
#include "step.h"

#include <math.h>

int feed_forms(const share *w, const layer *l) {
    const int *forms = w->m->level->forms;
    if (l->shape.moe) return experts_forms(w, l);
    return adapter_forms(w) | forms[l->matrices[UP].encoding] | (w->m->shape.gated ? forms[l->matrices[GATE].encoding] : 0);
}

// Huang 2024 (arXiv 2411.13010): a parabola where x is positive, an exponential below, each with a learned number.
static void xielu(const layer *l, float *x, int count) {
    const float positive = l->vectors[ALPHA_P][0], negative = l->vectors[ALPHA_N][0];
    for (int i = 0; i < count; i++)
        x[i] = 0.5f * x[i] + (x[i] > 0 ? positive * x[i] * x[i] : negative * (expm1f(fminf(x[i], -1e-6f)) - x[i]));
}

void activate(const share *w, const layer *l, float *gate_rows, float *up_rows, int tokens, size_t stride, int first, int end) {
    const model_shape *s = &w->m->shape;
    if (s->activation == XIELU) {
        for (int t = 0; t < tokens; t++) xielu(l, up_rows + t * stride + first * PANEL, (end - first) * PANEL);
        return;
    }
    for (int t = 0; t < tokens; t++) {
        float *gate = gate_rows + t * stride + first * PANEL, *by = up_rows + t * stride + first * PANEL;
        w->m->level->gate(s->gated ? gate : by, s->gated ? by : NULL, (end - first) * PANEL, (activation_kind)s->activation,
                          s->mlp_limit);
    }
}

void feed_in(const share *w, const layer *l, const activations *a) {
    model *m = w->m;
    const size_t stride = (size_t)m->mlp_width;
    if (l->shape.moe) {
        experts_in(w, l, a);
        return;
    }
    for (EACH_HAND(h, w, l->matrices[UP].panels)) {
        if (m->shape.gated) multiply_some(w, l, GATE, a, m->gate, stride, 0, h.first, h.end);
        multiply_some(w, l, UP, a, m->up, stride, 0, h.first, h.end);
        activate(w, l, m->gate, m->up, w->s->tokens, stride, h.first, h.end);
    }
}

void feed_out(const share *w, const layer *l) {
    model *m = w->m;
    const matrix *down = &l->matrices[DOWN];
    if (l->shape.moe) {
        experts_out(w, l);
        return;
    }
    const activations *a = prepared(w, m->shape.gated ? m->gate : m->up, m->mlp_width, NULL, w->s->tokens, NULL,
                                    m->level->forms[down->encoding] | adapter_forms(w), NULL);
    add_sublayer(w, l, DOWN, a, norm_of(l, MLP_OUTPUT_NORM));
}
