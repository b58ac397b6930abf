// The MLP of a layer, in two halves with a barrier between: up to the activation, and down into the residual.
#include "step.h"

int feed_forms(const share *w, const layer *l) {
    const int *forms = w->m->level->forms;
    return forms[l->matrices[UP].encoding] | (w->m->shape.gated ? forms[l->matrices[GATE].encoding] : 0);
}

void feed_in(const share *w, const layer *l, const activations *a) {
    model *m = w->m;
    const int tokens = w->s->tokens, gated = m->shape.gated;
    const matrix *up = &l->matrices[UP];
    if (gated) multiply_share(w, &l->matrices[GATE], a, tokens, m->gate, (size_t)m->mlp_width, 0);
    multiply_share(w, up, a, tokens, m->up, (size_t)m->mlp_width, 0);
    const int first = part(up->panels, w->thread, w->threads) * PANEL, end = part(up->panels, w->thread + 1, w->threads) * PANEL;
    for (int t = 0; t < tokens; t++) {
        const size_t at = (size_t)t * m->mlp_width + (size_t)first;
        m->level->gate((gated ? m->gate : m->up) + at, gated ? m->up + at : NULL, end - first,
                       (activation_kind)m->shape.activation);
    }
}

void feed_out(const share *w, const layer *l) {
    model *m = w->m;
    const matrix *down = &l->matrices[DOWN];
    const activations *a = prepared(w, m->shape.gated ? m->gate : m->up, m->mlp_width, NULL, w->s->tokens, NULL,
                                    m->level->forms[down->encoding], NULL);
    add_sublayer(w, down, a, norm_of(l, MLP_OUTPUT_NORM));
}
