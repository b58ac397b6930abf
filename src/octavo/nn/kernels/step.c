// One step: tokens of any number of rows through the whole model, entered once, on all threads of the pool.
//
// Unusual: up to 8 tokens are normalised and quantised by every thread for itself, which costs less than a barrier; and
// when all rows have one token, the thread that attends a KV head has also written it, which saves another.
#include "kernels.h"

#include <math.h>
#include <string.h>

typedef struct {  // the same fields in the same order as binding.Step
    int32_t tokens, wanted, table_width;
    const int32_t *token, *row, *position;  // (tokens,): id, index of its row's block table, position
    const int32_t *tables;                  // (rows, table_width) block ids
    const int32_t *wanted_tokens;           // (wanted,) ascending indices into the tokens
    float *logits, *hidden;                 // (wanted, vocab_size); (wanted, hidden_size) or NULL
} step;

typedef struct { model *m; const step *s; int thread, threads, one_token_rows; } share;

INLINE int part(int n, int thread, int threads) { return (int)((int64_t)n * thread / threads); }

static void prepare_one(const share *w, activations *a, int row, const float *x, const norm *n, int forms, float *hidden) {
    model *m = w->m;
    if (n) {
        float *scratch = m->scratch[w->thread];
        m->level->normalize(n, x, m->shape.hidden_size, scratch);
        memset(scratch + (m->shape.hidden_size + 15) / 16 * 16, 0,
               (size_t)(m->hidden_width - (m->shape.hidden_size + 15) / 16 * 16) * 4);
        if (hidden) memcpy(hidden + (size_t)row * m->shape.hidden_size, scratch, (size_t)m->shape.hidden_size * 4);
        x = scratch;
    }
    m->level->prepare(a, row, x, forms);
}

// The rows x[index[t]] (or x[t]) in the forms asked, normalised first when n is given.
static const activations *prepared(const share *w, const float *x, int width, const int32_t *index, int tokens,
                                   const norm *n, int forms, float *hidden) {
    const int alone = tokens <= OWN_ROWS;
    activations *a = alone ? &w->m->own[w->thread] : &w->m->shared;
    const int first = alone ? 0 : part(tokens, w->thread, w->threads);
    const int end = alone ? tokens : part(tokens, w->thread + 1, w->threads);
    a->width = width;  // every thread writes the same width
    if (alone && w->thread) hidden = NULL;
    for (int t = first; t < end; t++)
        prepare_one(w, a, t, x + (size_t)(index ? index[t] : t) * width, n, forms, hidden);
    if (!alone) pool_barrier(w->m->pool);
    return a;
}

static void multiply(const share *w, const matrix *m, const activations *a, int tokens, float *y, size_t stride, int add) {
    w->m->level->multiply(m, a, tokens, y, stride, add, part(m->panels, w->thread, w->threads),
                          part(m->panels, w->thread + 1, w->threads));
}

static void embed(const share *w) {
    model *m = w->m;
    const int end = part(w->s->tokens, w->thread + 1, w->threads);
    for (int t = part(w->s->tokens, w->thread, w->threads); t < end; t++) {
        float *x = m->x + (size_t)t * m->hidden_width;
        lookup_row(&m->embed, w->s->token[t], x);
        if (!m->positions.data) continue;
        float *position = m->scratch[w->thread];
        lookup_row(&m->positions, w->s->position[t], position);
        for (int i = 0; i < m->shape.hidden_size; i++) x[i] += position[i];
    }
}

static uint8_t *cache_of(const model *m, int layer, int head) {  // in block 0
    return m->cache + ((size_t)layer * m->shape.num_kv_heads + (size_t)head) * m->head_bytes;
}

// Turn one KV head's query heads and key of token t, and write its key and value to the cache.
static void place(const share *w, int layer, int t, int head) {
    const model *m = w->m;
    const int dim = m->shape.head_dim, group = m->shape.num_heads / m->shape.num_kv_heads;
    const int position = w->s->position[t];
    float *key = m->k + (size_t)t * m->kv_width + (size_t)head * dim;
    if (m->shape.rotary_dim) {
        const float *turn = m->rotations + (size_t)position * m->shape.rotary_dim;
        float *queries = m->q + (size_t)t * m->q_width + (size_t)head * group * dim;
        for (int i = 0; i < group; i++) m->level->rotate(queries + (size_t)i * dim, turn, m->shape.rotary_dim);
        m->level->rotate(key, turn, m->shape.rotary_dim);
    }
    const int32_t *table = w->s->tables + (size_t)w->s->row[t] * w->s->table_width;
    uint8_t *block = cache_of(m, layer, head) + (size_t)table[position / BLOCK] * m->block_bytes;
    m->level->store(block, key, m->v + (size_t)t * m->kv_width + (size_t)head * dim, position % BLOCK, dim, m->padded_dim,
                    m->shape.cache_f32);
}

static void place_all(const share *w, int layer) {  // a block's positions are one thread's, in order
    const model *m = w->m;
    for (int t = 0; t < w->s->tokens; t++) {
        const int block = w->s->tables[(size_t)w->s->row[t] * w->s->table_width + w->s->position[t] / BLOCK];
        for (int head = 0; head < m->shape.num_kv_heads; head++)
            if ((block + head) % w->threads == w->thread) place(w, layer, t, head);
    }
}

// Attend `count` tokens from t on, all of one row, over one KV head.
static void attend(const share *w, int layer, int t, int count, int head) {
    const model *m = w->m;
    const int dim = m->shape.head_dim, group = m->shape.num_heads / m->shape.num_kv_heads;
    attention_tile tile = {.head_dim = dim, .padded_dim = m->padded_dim, .f32 = m->shape.cache_f32,
                           .scale = 1.0f / sqrtf((float)dim), .cache = cache_of(m, layer, head),
                           .block_bytes = m->block_bytes, .scores = m->scores[w->thread], .score_stride = m->score_stride,
                           .blocks = w->s->tables + (size_t)w->s->row[t] * w->s->table_width};
    for (int i = 0; i < count * group; i++) {
        const size_t at = (size_t)(t + i / group) * m->q_width + (size_t)(head * group + i % group) * dim;
        tile.query[tile.count] = m->q + at;
        tile.out[tile.count] = m->attended + at;
        tile.position[tile.count] = w->s->position[t + i / group];
        if (++tile.count == MAX_QUERIES || i == count * group - 1) {
            m->level->attend(&tile);
            tile.count = 0;
        }
    }
}

static void attention(const share *w, int layer) {
    const model *m = w->m;
    const int heads = m->shape.num_kv_heads, tokens = w->s->tokens, group = m->shape.num_heads / heads;
    if (w->one_token_rows) {
        const int end = part(tokens * heads, w->thread + 1, w->threads);
        for (int e = part(tokens * heads, w->thread, w->threads); e < end; e++) {
            place(w, layer, e / heads, e % heads);
            attend(w, layer, e / heads, 1, e % heads);
        }
        return;
    }
    place_all(w, layer);
    pool_barrier(m->pool);
    const int most = group >= MAX_QUERIES ? 1 : MAX_QUERIES / group;
    int unit = 0;
    for (int t = 0, count; t < tokens; t += count) {
        for (count = 1; count < most && t + count < tokens && w->s->row[t + count] == w->s->row[t]; count++) {}
        for (int head = 0; head < heads; head++)
            if (unit++ % w->threads == w->thread) attend(w, layer, t, count, head);
    }
}

static void feed_forward(const share *w, const layer *l) {
    model *m = w->m;
    const int tokens = w->s->tokens, *forms = m->level->forms;
    const matrix *gate = &l->matrices[GATE], *up = &l->matrices[UP], *down = &l->matrices[DOWN];
    const int wanted = forms[up->encoding] | (m->shape.gated ? forms[gate->encoding] : 0);
    const activations *a = prepared(w, m->x, m->hidden_width, NULL, tokens, &l->mlp_norm, wanted, NULL);
    if (m->shape.gated) multiply(w, gate, a, tokens, m->gate, m->mlp_width, 0);
    multiply(w, up, a, tokens, m->up, m->mlp_width, 0);
    const int first = part(up->panels, w->thread, w->threads) * PANEL, end = part(up->panels, w->thread + 1, w->threads) * PANEL;
    float *acted = m->shape.gated ? m->gate : m->up;
    for (int t = 0; t < tokens; t++) {
        const size_t at = (size_t)t * m->mlp_width + (size_t)first;
        m->level->gate(acted + at, m->shape.gated ? m->up + at : NULL, end - first, (activation_kind)m->shape.activation);
    }
    pool_barrier(m->pool);
    a = prepared(w, acted, m->mlp_width, NULL, tokens, NULL, forms[down->encoding], NULL);
    multiply(w, down, a, tokens, m->x, m->hidden_width, 1);
    pool_barrier(m->pool);
}

static void run_layer(const share *w, int index) {
    model *m = w->m;
    const layer *l = &m->layers[index];
    const int tokens = w->s->tokens, *forms = m->level->forms;
    const matrix *q = &l->matrices[Q], *k = &l->matrices[K], *v = &l->matrices[V], *o = &l->matrices[O];
    const int wanted = forms[q->encoding] | forms[k->encoding] | forms[v->encoding];
    const activations *a = prepared(w, m->x, m->hidden_width, NULL, tokens, &l->attention_norm, wanted, NULL);
    multiply(w, q, a, tokens, m->q, m->q_width, 0);
    multiply(w, k, a, tokens, m->k, m->kv_width, 0);
    multiply(w, v, a, tokens, m->v, m->kv_width, 0);
    pool_barrier(m->pool);
    attention(w, index);
    pool_barrier(m->pool);
    a = prepared(w, m->attended, m->q_width, NULL, tokens, NULL, forms[o->encoding], NULL);
    multiply(w, o, a, tokens, m->x, m->hidden_width, 1);
    pool_barrier(m->pool);
    feed_forward(w, l);
}

static void run_share(void *argument, int thread) {
    share w = *(const share *)argument;
    w.thread = thread;
    model *m = w.m;
    embed(&w);
    pool_barrier(m->pool);
    for (int i = 0; i < m->shape.num_layers; i++) run_layer(&w, i);
    if (!w.s->wanted) return;
    const activations *a = prepared(&w, m->x, m->hidden_width, w.s->wanted_tokens, w.s->wanted, &m->final_norm,
                                    m->level->forms[m->head.encoding], w.s->hidden);
    multiply(&w, &m->head, a, w.s->wanted, w.s->logits, (size_t)m->shape.vocab_size, 0);
}

static void fill_rotations(model *m, const step *s) {  // in double; up to the furthest position seen
    const int half = m->shape.rotary_dim / 2;
    int furthest = -1;
    for (int t = 0; t < s->tokens; t++)
        if (s->position[t] > furthest) furthest = s->position[t];
    for (; half && m->rotations_filled <= furthest; m->rotations_filled++) {
        float *turn = m->rotations + (size_t)m->rotations_filled * m->shape.rotary_dim;
        for (int i = 0; i < half; i++) {
            const double angle = m->rotations_filled * m->frequencies[i];
            turn[i] = (float)cos(angle);
            turn[i + half] = (float)sin(angle);
        }
    }
}

EXPORT int32_t octavo_step(model *m, const step *s) {
    share w = {.m = m, .s = s, .threads = m->shape.threads, .one_token_rows = 1};
    for (int t = 1; t < s->tokens; t++)
        if (s->row[t] == s->row[t - 1]) w.one_token_rows = 0;
    fill_rotations(m, s);
    return pool_run(m->pool, run_share, &w) ? -1 : 0;
}
