// The MLP of a layer, in two halves with a barrier between: up to the activation, and down into the residual.
#include "step.h"

int feed_forms(const share *w, const layer *l) {
    const int *forms = w->m->level->forms;
    if (l->shape.moe) return experts_forms(w, l);
    return adapter_forms(w) | forms[l->matrices[UP].encoding] | (w->m->shape.gated ? forms[l->matrices[GATE].encoding] : 0);
}

void activate(const share *w, const matrix *up, float *gate_rows, float *up_rows, int tokens, size_t stride) {
    const model_shape *s = &w->m->shape;
    const int first = part(up->panels, w->thread, w->threads) * PANEL, end = part(up->panels, w->thread + 1, w->threads) * PANEL;
    for (int t = 0; t < tokens; t++) {
        float *gate = gate_rows + t * stride + first, *by = up_rows + t * stride + first;
        w->m->level->gate(s->gated ? gate : by, s->gated ? by : NULL, end - first, (activation_kind)s->activation, s->mlp_limit);
    }
}

void feed_in(const share *w, const layer *l, const activations *a) {
    model *m = w->m;
    const size_t stride = (size_t)m->mlp_width;
    const int tokens = w->s->tokens;
    if (l->shape.moe) {
        experts_in(w, l, a);
        return;
    }
    if (m->shape.gated) {
        multiply_share(w, &l->matrices[GATE], a, tokens, m->gate, stride, 0);
        adapt(w, l, GATE, a, m->gate, stride);
    }
    multiply_share(w, &l->matrices[UP], a, tokens, m->up, stride, 0);
    adapt(w, l, UP, a, m->up, stride);
    activate(w, &l->matrices[UP], m->gate, m->up, tokens, stride);
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
