// Multi-head latent attention (DeepSeek-AI 2024, arXiv 2405.04434), whose heads' keys and values are made of one vector.
//
// Unusual: they are not made. The matrices that would make them are multiplied into the queries, and into what comes out, so
// that attention is that of one KV head over the latent vectors: a key is what turns, then the latent vector, and is its own
// value, of which the part that turned is left out at the end.
#include "step.h"

#include <string.h>

static void normalize_rows(const share *w, const norm *n, float *rows, size_t stride, int width) {
    float *scratch = w->m->scratch[w->thread];
    for (EACH_HAND(h, w, w->s->tokens))
        for (int t = h.first; t < h.end; t++) {
            w->m->level->normalize(n, rows + (size_t)t * stride, width, scratch);
            memcpy(rows + (size_t)t * stride, scratch, (size_t)width * 4);
        }
}

// out = m x of each token, on this thread alone; x and out are parts of wider rows.
static void multiply_part(const share *w, const matrix *m, const float *x, size_t x_stride, float *out, size_t out_stride) {
    activations a = w->m->own[w->thread];
    float *padded = w->m->scratch[w->thread];
    a.width = m->groups * GROUP;
    memset(padded, 0, (size_t)a.width * 4);
    for (int t = 0, count; t < w->s->tokens; t += count) {
        count = w->s->tokens - t < OWN_ROWS ? w->s->tokens - t : OWN_ROWS;
        for (int i = 0; i < count; i++) {
            memcpy(padded, x + (size_t)(t + i) * x_stride, (size_t)m->columns * 4);
            w->m->level->prepare(&a, i, padded, w->m->level->forms[m->encoding]);
        }
        w->m->level->multiply(m, &a, count, out + (size_t)t * out_stride, out_stride, 0, 0, m->panels);
    }
}

int latent_forms(const share *w, const layer *l) {
    const int *forms = w->m->level->forms;
    const matrix *queries = &l->matrices[w->m->shape.latent.q_rank ? Q_A : Q];
    return forms[queries->encoding] | forms[l->matrices[K].encoding] | forms[l->matrices[V].encoding];
}

void latent_in(const share *w, const layer *l, const activations *a) {
    model *m = w->m;
    const latent_shape *s = &m->shape.latent;
    const int tokens = w->s->tokens, heads = m->shape.num_heads, dim = s->kept_dim + s->rotary_dim;
    const size_t key = (size_t)m->kv_width, low = (size_t)m->q_rank_width, query = (size_t)m->query_width;
    multiply_all(w, &l->matrices[K], a, tokens, m->k + s->rotary_dim, key);
    multiply_all(w, &l->matrices[V], a, tokens, m->k, key);
    if (s->q_rank) multiply_all(w, &l->matrices[Q_A], a, tokens, m->low_queries, low);
    else multiply_all(w, &l->matrices[Q], a, tokens, m->queries, query);
    barrier(w);
    normalize_rows(w, &l->norms[K_NORM], m->k + s->rotary_dim, key, s->kv_rank);
    if (s->q_rank) {
        normalize_rows(w, &l->norms[Q_NORM], m->low_queries, low, s->q_rank);
        barrier(w);
        const matrix *q = &l->matrices[Q];
        a = prepared(w, m->low_queries, (int)low, NULL, tokens, NULL, m->level->forms[q->encoding], NULL);
        multiply_all(w, q, a, tokens, m->queries, query);
        barrier(w);
    }
    for (EACH_HAND(share_of, w, heads))
        for (int h = share_of.first; h < share_of.end; h++) {
            const float *from = m->queries + (size_t)h * dim;
            float *to = m->q + (size_t)h * m->shape.head_dim;
            for (int t = 0; t < tokens; t++)
                memcpy(to + (size_t)t * m->q_width, from + (size_t)t * query + s->kept_dim, (size_t)s->rotary_dim * 4);
            multiply_part(w, &l->heads[h].key, from, query, to + s->rotary_dim, (size_t)m->q_width);
        }
}

const float *latent_out(const share *w, const layer *l) {
    model *m = w->m;
    const latent_shape *s = &m->shape.latent;
    for (EACH_HAND(share_of, w, m->shape.num_heads))
        for (int h = share_of.first; h < share_of.end; h++)
            multiply_part(w, &l->heads[h].value, m->attended + (size_t)h * m->shape.head_dim + s->rotary_dim,
                          (size_t)m->q_width, m->mixed + (size_t)h * s->value_dim, (size_t)m->mixed_width);
    barrier(w);
    return m->mixed;
}
