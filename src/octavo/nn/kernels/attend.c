// Attention of a step: q and k are normalised and turned, keys and values stored, and each KV head's queries attend.
//
// Unusual: when all rows have one token, the thread that attends a KV head has also written it, which saves a barrier.
#include "step.h"

#include <math.h>
#include <string.h>

static void normalize_in_place(const share *w, const norm *n, size_t weight_at, float *x, int width) {
    const model *m = w->m;
    norm shifted = *n;
    shifted.weight += weight_at;
    if (n->bias) shifted.bias += weight_at;
    m->level->normalize(&shifted, x, width, m->scratch[w->thread]);
    memcpy(x, m->scratch[w->thread], (size_t)width * 4);
}

static void normalize_heads(const share *w, const norm *n, float *x, int first, int count) {
    const size_t dim = (size_t)w->m->shape.head_dim, each = w->m->shape.qk_norm == QK_PER_HEAD;
    for (int i = first; i < first + count; i++) normalize_in_place(w, n, each * i * dim, x + i * dim, (int)dim);
}

static void normalize_rows(const share *w, const layer *l) {  // all heads of a token as one vector
    const model *m = w->m;
    const int dim = m->shape.head_dim;
    for (EACH_HAND(h, w, w->s->tokens))
        for (int t = h.first; t < h.end; t++) {
            normalize_in_place(w, &l->norms[Q_NORM], 0, m->q + (size_t)t * m->q_width, m->shape.num_heads * dim);
            normalize_in_place(w, &l->norms[K_NORM], 0, m->k + (size_t)t * m->kv_width, m->shape.num_kv_heads * dim);
        }
}

static void turn(const model *m, const layer *l, int position, float *queries, int group, float *key) {
    const rotary *r = &m->rotaries[l->shape.rotary];
    const float *turns = r->turns + (size_t)position * r->dim;
    for (int i = 0; i < group; i++) m->level->rotate(queries + (size_t)i * m->shape.head_dim, turns, r->dim);
    m->level->rotate(key, turns, r->dim);
}

static void grow(const model_shape *s, int position, float *queries, int count) {  // with the logarithm of their position
    const float by = 1.0f + s->growth * log1pf((float)((position + s->growth_first) / s->growth_length));
    for (int i = 0; i < count; i++) queries[i] *= by;
}

// Normalise and turn one KV head's query heads and key of token t, and write its key and value to the cache.
static void place(const share *w, const layer *l, int index, int t, int head) {
    const model *m = w->m;
    const int dim = m->shape.head_dim, group = m->shape.num_heads / m->shape.num_kv_heads;
    const int position = w->s->position[t], slot = w->s->slot[t];
    float *queries = m->q + (size_t)t * m->q_width, *keys = m->k + (size_t)t * m->kv_width;
    float *first_query = queries + (size_t)head * group * dim, *key = keys + (size_t)head * dim;
    const int turns = l->shape.rotary >= 0, norms = m->shape.qk_norm;
    if (turns && m->shape.qk_norm_after) turn(m, l, position, first_query, group, key);
    if (norms == QK_HEAD || norms == QK_PER_HEAD || (norms == QK_TURNED && turns)) {
        normalize_heads(w, &l->norms[Q_NORM], queries, head * group, group);
        normalize_heads(w, &l->norms[K_NORM], keys, head, 1);
    }
    if (turns && !m->shape.qk_norm_after) turn(m, l, position, first_query, group, key);
    if (m->shape.growth != 0.0f && (!turns || m->shape.growth_turned)) grow(&m->shape, position, first_query, group * dim);
    const int32_t *table = w->s->tables + (size_t)w->s->row[t] * w->s->table_width;
    uint8_t *block = cache_of(m, index, head) + (size_t)table[slot / BLOCK] * m->block_bytes;
    const float *value = l->heads ? key : m->v + (size_t)t * m->kv_width + (size_t)head * dim;
    m->level->store(block, key, value, slot % BLOCK, dim, m->padded_dim,
                    (cache_kind)m->shape.cache);
}

static void place_all(const share *w, const layer *l, int index) {  // a block's positions are one thread's, in order
    const model *m = w->m;
    for (int t = 0; t < w->s->tokens; t++) {
        const int block = w->s->tables[(size_t)w->s->row[t] * w->s->table_width + w->s->slot[t] / BLOCK];
        for (int head = 0; head < m->shape.num_kv_heads; head++)
            if ((block + head) % w->threads == w->thread) place(w, l, index, t, head);
    }
}

static void close_gates(const model *m, const attention_tile *tile) {  // what heads give, times a sigmoid
    for (int i = 0; i < tile->count; i++) {
        const float *gate = m->output_gate + (tile->out[i] - m->attended);
        for (int j = 0; j < tile->head_dim; j++) tile->out[i][j] /= 1.0f + expf(-gate[j]);
    }
}

static int first_seen(const model *m, int window, int position) {
    if (!window || position < window) return 0;
    return m->shape.chunked ? position / window * window : position - window + 1;
}

// Attend `count` tokens from t on, all of one chain, over one KV head: its queries `first` and on, `queries` of them.
static void attend(const share *w, const layer *l, int index, int t, int count, int head, int first, int queries) {
    const model *m = w->m;
    const int dim = m->shape.head_dim, group = m->shape.num_heads / m->shape.num_kv_heads, window = l->shape.window;
    attention_tile tile = {.head_dim = dim, .padded_dim = m->padded_dim, .kind = (cache_kind)m->shape.cache,
                           .scale = m->shape.attention_scale, .softcap = m->shape.attention_softcap,
                           .alibi_after = m->shape.alibi_after, .sinks = l->vectors[SINKS] != NULL,
                           .cache = cache_of(m, index, head), .block_bytes = m->block_bytes,
                           .scores = m->scores[w->thread], .score_stride = m->score_stride,
                           .blocks = w->s->tables + (size_t)w->s->row[t] * w->s->table_width};
    if (w->s->parent && w->s->parent[t] >= 0) tile.blocks = chain_of(w, index, head, t + count - 1);
    for (int i = 0; i < count * queries; i++) {
        const int token = t + i / queries, query = head * group + first + i % queries, position = w->s->position[token];
        const size_t at = (size_t)token * m->q_width + (size_t)query * dim;
        tile.query[tile.count] = m->q + at;
        tile.out[tile.count] = m->attended + at;
        tile.slope[tile.count] = m->slopes ? m->slopes[query] : 0;
        tile.sink[tile.count] = tile.sinks ? l->vectors[SINKS][query] : 0;
        tile.position[tile.count] = position;
        tile.first[tile.count] = first_seen(m, window, position);
        if (++tile.count == MAX_QUERIES || i == count * queries - 1) {
            m->level->attend(&tile);
            if (m->shape.output_gate) close_gates(m, &tile);
            tile.count = 0;
        }
    }
}

// Up to `most` tokens from t on that one tile takes: a chain.
static int chain_from(const step *s, int t, int most) {
    int count = 1;
    while (count < most && t + count < s->tokens && goes_on(s, t + count)) count++;
    return count;
}

static void attend_chains(const share *w, const layer *l, int index) {
    const int heads = w->m->shape.num_kv_heads, group = w->m->shape.num_heads / heads;
    const int most = group >= MAX_QUERIES ? 1 : MAX_QUERIES / group, parts = (group + MAX_QUERIES - 1) / MAX_QUERIES;
    int chains = 0, chain = 0, t = 0;  // the last two: which is next, and where it begins
    for (int at = 0; at < w->s->tokens; at += chain_from(w->s, at, most)) chains++;
    for (EACH_HAND(h, w, chains * heads * parts))  // shares only ever go on
        for (int unit = h.first; unit < h.end; unit++) {
            for (; chain < unit / (heads * parts); chain++) t += chain_from(w->s, t, most);
            const int e = unit % (heads * parts), first = part(group, e % parts, parts), end = part(group, e % parts + 1, parts);
            attend(w, l, index, t, chain_from(w->s, t, most), e / parts, first, end - first);
        }
}

void attention(const share *w, const layer *l, int index) {
    const model *m = w->m;
    const int heads = m->shape.num_kv_heads, tokens = w->s->tokens, group = m->shape.num_heads / heads;
    if (m->shape.qk_norm == QK_FULL) {
        normalize_rows(w, l);
        barrier(w);
    }
    if (w->one_token_rows) {
        for (EACH_HAND(h, w, tokens * heads))
            for (int e = h.first; e < h.end; e++) {
                place(w, l, index, e / heads, e % heads);
                attend(w, l, index, e / heads, 1, e % heads, 0, group);
            }
        return;
    }
    place_all(w, l, index);
    barrier(w);
    attend_chains(w, l, index);
}
