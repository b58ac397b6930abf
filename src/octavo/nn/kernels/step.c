// One step: tokens of any number of rows through the whole model, entered once, on all threads of the pool.
//
// Unusual: up to 8 tokens are normalised and quantised by every thread for itself, which costs less than a barrier.
#include "step.h"

#include <math.h>
#include <string.h>

static void prepare_one(const share *w, activations *a, int row, const float *x, const norm *n, int forms, float *hidden) {
    model *m = w->m;
    if (n) {
        float *scratch = m->scratch[w->thread];
        m->level->normalize(n, x, m->shape.hidden_size, scratch);
        memset(scratch + (m->shape.hidden_size + 15) / 16 * 16, 0,
               (size_t)(m->hidden_width - (m->shape.hidden_size + 15) / 16 * 16) * 4);
        x = scratch;
    }
    if (hidden) memcpy(hidden + (size_t)row * m->shape.hidden_size, x, (size_t)m->shape.hidden_size * 4);
    m->level->prepare(a, row, x, forms);
}

const activations *prepared(const share *w, const float *x, int width, const int32_t *index, int tokens, const norm *n,
                            int forms, float *hidden) {
    if (tokens <= OWN_ROWS) {
        activations *own = &w->m->own[w->thread];
        own->width = width;
        for (int t = 0; t < tokens; t++)
            prepare_one(w, own, t, x + (size_t)(index ? index[t] : t) * width, n, forms, w->thread ? NULL : hidden);
        return own;
    }
    activations *a = &w->m->views[w->thread];  // of the rows that all share; a width is a thread's own
    *a = w->m->shared;
    a->width = width;
    for (EACH_HAND(h, w, tokens))
        for (int t = h.first; t < h.end; t++)
            prepare_one(w, a, t, x + (size_t)(index ? index[t] : t) * width, n, forms, hidden);
    barrier(w);
    return a;
}

// Packed where they are used, panels are the bits that they would be in memory.
static void multiply_stored(const share *w, const matrix *m, const activations *a, int tokens, float *y, size_t stride, int add,
                            int first, int end) {
    const size_t bytes = panel_bytes(m->encoding, m->groups), row = source_row_bytes(m->encoding, m->columns);
    const int some = bytes < PACKED_BYTES ? (int)(PACKED_BYTES / bytes) : 1;
    for (int p = first; p < end; p += some) {
        const int count = end - p < some ? end - p : some;
        matrix part = *m;
        part.data = w->m->packed[w->thread];
        part.rows = m->rows - p * PANEL;
        if (m->bias) part.bias = m->bias + p * PANEL;
        if (part.rows < count * PANEL || m->columns % GROUP) memset(part.data, 0, (size_t)count * bytes);  // padding
        pack_panels(&part, m->rows_as_stored + (size_t)p * PANEL * row, 0, count);
        w->m->level->multiply(&part, a, tokens, y + (size_t)p * PANEL, stride, add, 0, count);
    }
}

void multiply_panels(const share *w, const matrix *m, const activations *a, int tokens, float *y, size_t stride, int add, int first,
                     int end) {
    if (m->data) w->m->level->multiply(m, a, tokens, y, stride, add, first, end);
    else multiply_stored(w, m, a, tokens, y, stride, add, first, end);
}

void multiply_all(const share *w, const matrix *m, const activations *a, int tokens, float *y, size_t stride) {
    for (EACH_HAND(h, w, m->panels)) multiply_panels(w, m, a, tokens, y, stride, 0, h.first, h.end);
}

void multiply_some(const share *w, const layer *l, matrix_slot slot, const activations *a, float *y, size_t stride, int add,
                   int first, int end) {
    multiply_panels(w, &l->matrices[slot], a, w->s->tokens, y, stride, add, first, end);
    adapt(w, l, slot, a, y, stride, first, end);
}

int adds_to_x(const share *w, const norm *n) { return !n && w->m->shape.residual_scale == 1.0f; }

static void settle_one(const share *w, const norm *n, int t) {
    const model *m = w->m;
    const float *given = m->branch + (size_t)t * m->hidden_width;
    float *x = m->x + (size_t)t * m->hidden_width;
    const size_t size = (size_t)m->shape.hidden_size;
    if (n && !m->shape.post) {
        m->level->normalize(n, given, (int)size, m->scratch[w->thread]);
        given = m->scratch[w->thread];
    }
    for (size_t i = 0; i < size; i++) x[i] += m->shape.residual_scale * given[i];
    if (!n || !m->shape.post) return;
    m->level->normalize(n, x, (int)size, m->scratch[w->thread]);
    memcpy(x, m->scratch[w->thread], size * 4);
}

void settle(const share *w, const norm *n) {
    if (adds_to_x(w, n)) return;
    barrier(w);
    for (EACH_HAND(h, w, w->s->tokens))
        for (int t = h.first; t < h.end; t++) settle_one(w, n, t);
}

void add_sublayer(const share *w, const layer *l, matrix_slot slot, const activations *a, const norm *n) {
    const int adds = adds_to_x(w, n);
    float *y = adds ? w->m->x : w->m->branch;
    for (EACH_HAND(h, w, l->matrices[slot].panels))
        multiply_some(w, l, slot, a, y, (size_t)w->m->hidden_width, adds, h.first, h.end);
    settle(w, n);
}

static void embed_one(const share *w, int t) {
    model *m = w->m;
    float *x = m->x + (size_t)t * m->hidden_width;
    const size_t size = (size_t)m->shape.hidden_size;
    if (w->s->embedded && w->s->embedded[t] >= 0) {  // of a picture: as it is
        memcpy(x, w->s->embedding + (size_t)w->s->embedded[t] * size, size * 4);
        memset(x + size, 0, ((size_t)m->hidden_width - size) * 4);
    } else {
        lookup_row(&m->embed, w->s->token[t], x);
        for (size_t i = 0; i < size; i++) x[i] *= m->shape.embedding_scale;
    }
    if (m->embed_norm.weight) {
        m->level->normalize(&m->embed_norm, x, m->shape.hidden_size, m->scratch[w->thread]);
        memcpy(x, m->scratch[w->thread], size * 4);
    }
    if (!is_set(&m->positions)) return;
    float *position = m->scratch[w->thread];
    lookup_row(&m->positions, w->s->position[t], position);
    for (int i = 0; i < m->shape.hidden_size; i++) x[i] += position[i];
}

static void embed(const share *w) {
    for (EACH_HAND(h, w, w->s->tokens))
        for (int t = h.first; t < h.end; t++) embed_one(w, t);
}

static void clip(const share *w, const matrix *m, float *rows, size_t stride, int first, int end) {
    const float most = w->m->shape.attention_clip;
    for (int t = 0; t < w->s->tokens; t++)
        for (int i = first * PANEL; i < end * PANEL && i < m->rows; i++) {
            float *x = &rows[(size_t)t * stride + i];
            *x = *x > most ? most : *x < -most ? -most : *x;
        }
}

static int project_forms(const share *w, const layer *l) {
    const int *forms = w->m->level->forms;
    const int gate = w->m->shape.output_gate ? forms[l->matrices[OUTPUT_GATE].encoding] : 0;
    return forms[l->matrices[Q].encoding] | forms[l->matrices[K].encoding] | forms[l->matrices[V].encoding] | gate | adapter_forms(w);
}

static void project(const share *w, const layer *l, const activations *a) {  // a -> q, k, v; ends without a barrier
    model *m = w->m;
    const matrix *of = l->matrices;
    float *rows[] = {m->q, m->k, m->v};
    for (EACH_HAND(h, w, of[Q].panels + of[K].panels + of[V].panels))  // of one after the other
        for (int slot = Q, at = 0; slot <= V; at += of[slot++].panels) {
            const size_t stride = (size_t)(slot == Q ? m->q_width : m->kv_width);
            int first, end;
            if (!overlaps(&h, at, of[slot].panels, &first, &end)) continue;
            multiply_some(w, l, (matrix_slot)slot, a, rows[slot], stride, 0, first, end);
            if (m->shape.attention_clip != 0.0f) clip(w, &of[slot], rows[slot], stride, first, end);
        }
    if (m->shape.output_gate) multiply_all(w, &of[OUTPUT_GATE], a, w->s->tokens, m->output_gate, (size_t)m->q_width);
}

static void run_layer(const share *w, int index) {
    model *m = w->m;
    const layer *l = &m->layers[index];
    const norm *mlp_norm = norm_of(l, MLP_NORM);
    const int tokens = w->s->tokens, *forms = m->level->forms, parallel = m->shape.parallel;
    const matrix *o = &l->matrices[O];
    const int wanted = l->heads ? latent_forms(w, l) : project_forms(w, l);
    const activations *a = prepared(w, m->x, m->hidden_width, NULL, tokens, norm_of(l, ATTENTION_NORM),
                                    wanted | (parallel && !mlp_norm ? feed_forms(w, l) : 0), NULL);
    if (l->heads) latent_in(w, l, a);
    else project(w, l, a);
    if (parallel && !mlp_norm) feed_in(w, l, a);  // attention and MLP read one norm of x
    barrier(w);
    if (parallel && mlp_norm) feed_in(w, l, prepared(w, m->x, m->hidden_width, NULL, tokens, mlp_norm, feed_forms(w, l), NULL));
    attention(w, l, index);
    barrier(w);
    const float *mixed = l->heads ? latent_out(w, l) : m->attended;
    a = prepared(w, mixed, l->heads ? m->mixed_width : m->q_width, NULL, tokens, NULL,
                 forms[o->encoding] | adapter_forms(w), NULL);
    add_sublayer(w, l, O, a, norm_of(l, ATTENTION_OUTPUT_NORM));
    barrier(w);
    if (!parallel) {
        feed_in(w, l, prepared(w, m->x, m->hidden_width, NULL, tokens, mlp_norm, feed_forms(w, l), NULL));
        barrier(w);
    }
    feed_out(w, l);
    barrier(w);
}

static void head(const share *w) {
    model *m = w->m;
    const int wanted = w->s->wanted, vocab = m->shape.vocab_size;
    const norm *n = m->final_norm.weight ? &m->final_norm : NULL;  // none where norms stand on sums
    const activations *a = prepared(w, m->x, m->hidden_width, w->s->wanted_tokens, wanted, n,
                                    m->level->forms[m->head.encoding], w->s->hidden);
    const int plain = m->shape.logit_scale == 1.0f && m->shape.logit_softcap == 0.0f;
    for (EACH_HAND(h, w, m->head.panels)) {
        multiply_panels(w, &m->head, a, wanted, w->s->logits, (size_t)vocab, 0, h.first, h.end);
        const int first = h.first * PANEL, end = h.end * PANEL < vocab ? h.end * PANEL : vocab;
        for (int t = 0; !plain && t < wanted; t++)
            m->level->cap(w->s->logits + (size_t)t * vocab + first, end - first, m->shape.logit_scale, m->shape.logit_softcap);
    }
}

static void run_share(void *argument, int thread) {
    share w = *(const share *)argument;
    w.thread = thread;
    w.threads = pool_working(w.m->pool);
    embed(&w);
    barrier(&w);
    for (int i = 0; i < w.m->shape.num_layers; i++) run_layer(&w, i);
    if (w.s->wanted) head(&w);
}

static void fill_turns(rotary *r, int furthest) {  // in double; up to the furthest position seen
    const int half = r->dim / 2;
    for (; r->filled <= furthest; r->filled++) {
        float *turn = r->turns + (size_t)r->filled * r->dim;
        for (int i = 0; i < half; i++) {
            const double angle = r->filled * r->frequencies[i];
            turn[i] = (float)(cos(angle) * r->factor);
            turn[i + half] = (float)(sin(angle) * r->factor);
        }
    }
}

static int within(const int32_t *values, int count, int first, int end) {
    int wrong = 0;  // no way out of the loop, so that it is vectors
    for (int i = 0; i < count; i++) wrong |= (values[i] < first) | (values[i] >= end);
    return !wrong;
}

static int lawful(const model *m, const step *s) {  // whether each index is one; parents are the caller's business
    const model_shape *shape = &m->shape;
    int all_windowed = 1, blocks = s->table_width;
    for (int i = 0; i < shape->num_layers; i++) all_windowed &= m->layers[i].shape.window > 0;
    if (!all_windowed && blocks > shape->num_blocks) blocks = shape->num_blocks;  // a table may name one twice
    if (s->tokens < 1 || s->tokens > MAX_TOKENS || s->wanted < 0 || s->wanted > s->tokens) return 0;
    for (int i = 1; i < s->wanted; i++)
        if (s->wanted_tokens[i] <= s->wanted_tokens[i - 1]) return 0;
    return within(s->token, s->tokens, 0, shape->vocab_size) && within(s->row, s->tokens, 0, s->rows) &&
           within(s->position, s->tokens, 0, shape->context_length) && within(s->slot, s->tokens, 0, blocks * BLOCK) &&
           within(s->tables, s->rows * s->table_width, 0, shape->num_blocks) &&
           within(s->wanted_tokens, s->wanted, 0, s->tokens) &&
           (!s->embedded || within(s->embedded, s->tokens, -1, s->embeddings)) &&
           (!s->adapter || within(s->adapter, s->tokens, -1, shape->num_adapters));
}

// 0; 1: an index is out of range; 2: a matrix or a norm was never set; -1: threads are missing.
EXPORT int32_t octavo_step(model *m, const step *s) {
    if (!lawful(m, s)) return 1;
    if (!m->whole && !(m->whole = is_whole(m))) return 2;
    const int few = m->shape.num_heads / m->shape.num_kv_heads <= MAX_QUERIES;  // queries of a KV head: one tile
    share w = {.m = m, .s = s, .one_token_rows = few};
    for (int t = 1; t < s->tokens; t++)
        if (s->row[t] == s->row[t - 1]) w.one_token_rows = 0;
    int furthest = 0;
    for (int t = 0; t < s->tokens; t++)
        if (s->position[t] > furthest) furthest = s->position[t];
    for (int i = 0; i < m->shape.num_rotaries; i++) fill_turns(&m->rotaries[i], furthest);
    return pool_run_elastic(m->pool, run_share, &w) ? -1 : 0;
}
