// An encoder in BERT's shape: norms on sums, learned positions, attention to both sides, a plain MLP.
//
// Unusual: nothing is shared between texts, so a thread takes a few whole texts through all layers by itself, without a
// barrier, in working memory that its second-level cache holds. A text's result does not depend on the others.
#include "kernels.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef struct {  // the same fields in the same order as binding.EncoderShape
    int32_t hidden_size, num_layers, num_heads, head_dim, intermediate_size, activation, longest, chunk;
    int32_t threads, level, exact;  // exact: keys and values in fp32
    float norm_eps;
} encoder_shape;

typedef struct { matrix q, k, v, o, up, down; norm attention, mlp; } encoder_layer;
typedef struct { const uint8_t *data; int bf16; } table;  // rows of hidden_size, the caller's

typedef struct {  // of a thread
    float *x, *q, *k, *v, *y, *up, *scores;  // rows of padded width
    activations a;
    uint8_t *cache;  // [block][head][keys, values] of one text
} workspace;

typedef struct {
    encoder_shape shape;
    const level *level;
    pool *pool;
    arena weights, work;
    encoder_layer *layers;
    norm embed_norm;
    table tables[3];  // tokens, positions, types
    workspace *spaces;
    int32_t *blocks;  // 0, 1, 2, ...
    int width, mlp_width, padded_dim, rows;
    cache_kind kind;
    size_t head_bytes, block_bytes, score_stride;
} encoder;

typedef struct {  // the same fields in the same order as binding.Texts
    int32_t chunks;
    const int32_t *chunk;   // (chunks + 1,): the first text of each, and how many texts there are
    const int32_t *start;   // (texts + 1,): the first token of each, and how many tokens there are
    const int32_t *token, *type;
    float *hidden;          // (tokens, hidden_size)
} texts;

typedef struct { encoder *e; const texts *t; atomic_int next; } job;

static const float NO_SINK = -1e30f;

static int whole(int n, int unit) { return (n + unit - 1) / unit * unit; }

static int take_space(encoder *e, workspace *w) {
    const size_t rows = (size_t)e->rows, wide = (size_t)(e->width > e->mlp_width ? e->width : e->mlp_width);
    float **narrow[] = {&w->x, &w->q, &w->k, &w->v, &w->y};
    for (size_t i = 0; i < sizeof narrow / sizeof *narrow; i++)
        if (!(*narrow[i] = arena_take(&e->work, rows * (size_t)e->width * 4))) return 0;
    w->up = arena_take(&e->work, rows * (size_t)e->mlp_width * 4);
    w->scores = arena_take(&e->work, e->score_stride * MAX_QUERIES * 4);
    w->cache = arena_take(&e->work, e->block_bytes * (size_t)(whole(e->shape.longest, BLOCK) / BLOCK));
    activations *a = &w->a;
    const size_t n = rows * wide, groups = n / GROUP;
    a->int8 = arena_take(&e->work, n);
    a->bf16 = arena_take(&e->work, n * 2);
    a->f32 = arena_take(&e->work, n * 4);
    a->scale = arena_take(&e->work, groups * 4);
    a->scaled_sum = arena_take(&e->work, groups * 4);
    a->sum = arena_take(&e->work, groups * 4);
    a->first_sum = arena_take(&e->work, groups * 4);
    a->turned = arena_take(&e->work, n);
    a->turned_scale = arena_take(&e->work, groups * 4);
    a->turned_sum = arena_take(&e->work, groups * 4);
    return w->up && w->scores && w->cache && a->int8 && a->bf16 && a->f32 && a->scale && a->scaled_sum && a->sum &&
           a->first_sum && a->turned && a->turned_scale && a->turned_sum;
}

static int take_work(encoder *e) {
    const int blocks = whole(e->shape.longest, BLOCK) / BLOCK;
    e->layers = arena_take(&e->work, (size_t)e->shape.num_layers * sizeof *e->layers);
    e->spaces = arena_take(&e->work, (size_t)e->shape.threads * sizeof *e->spaces);
    e->blocks = arena_take(&e->work, (size_t)blocks * 4);
    if (!e->layers || !e->spaces || !e->blocks) return 0;
    for (int b = 0; b < blocks; b++) e->blocks[b] = b;
    for (int i = 0; i < e->shape.threads; i++)
        if (!take_space(e, &e->spaces[i])) return 0;
    return 1;
}

EXPORT void octavo_encoder_destroy(encoder *e) {
    if (!e) return;
    pool_destroy(e->pool);
    arena_free(&e->weights);
    arena_free(&e->work);
    free(e);
}

EXPORT encoder *octavo_encoder_create(const encoder_shape *shape) {
    encoder *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    e->shape = *shape;
    e->level = level_of(shape->level);
    e->weights.huge = e->work.huge = 1;
    e->width = whole(shape->hidden_size, GROUP);
    e->mlp_width = whole(shape->intermediate_size, GROUP);
    e->padded_dim = whole(shape->head_dim, 16);
    e->rows = whole(shape->chunk > shape->longest ? shape->chunk : shape->longest, BLOCK);
    e->score_stride = (size_t)whole(shape->longest, BLOCK);
    e->kind = shape->exact ? CACHE_F32 : CACHE_BF16;
    e->head_bytes = head_bytes_of(e->kind, e->padded_dim);
    e->block_bytes = e->head_bytes * (size_t)shape->num_heads;
    if (!e->level || !take_work(e) || !(e->pool = pool_create(shape->threads))) {
        octavo_encoder_destroy(e);
        return NULL;
    }
    e->embed_norm = (norm){.kind = NORM_LAYER, .eps = shape->norm_eps};
    for (int i = 0; i < shape->num_layers; i++) e->layers[i].attention = e->layers[i].mlp = e->embed_norm;
    return e;
}

static matrix *encoder_matrix(encoder *e, int layer, int slot) {
    encoder_layer *l = &e->layers[layer];
    matrix *all[] = {&l->q, &l->k, &l->v, &l->o, &l->up, &l->down};
    return all[slot];
}

EXPORT int32_t octavo_encoder_set_matrix(encoder *e, int32_t layer, int32_t slot, int32_t encoding_of, int32_t rows,
                                         int32_t columns, const uint8_t *source, const float *bias) {
    matrix m = {.encoding = (encoding)encoding_of, .rows = rows, .columns = columns,
                .panels = (rows + PANEL - 1) / PANEL, .groups = (columns + GROUP - 1) / GROUP};
    m.data = arena_take(&e->weights, (size_t)m.panels * panel_bytes(m.encoding, m.groups));
    m.bias = arena_take(&e->weights, (size_t)whole(rows, GROUP) * 4);
    if (!m.data || !m.bias) return -1;
    pack_panels(&m, source, 0, m.panels);
    memcpy(m.bias, bias, (size_t)rows * 4);
    *encoder_matrix(e, layer, slot) = m;
    return 0;
}

EXPORT int32_t octavo_encoder_set_norm(encoder *e, int32_t layer, int32_t slot, const float *weight, const float *bias) {
    norm *n = slot == 0 ? &e->embed_norm : slot == 1 ? &e->layers[layer].attention : &e->layers[layer].mlp;
    float *kept = arena_take(&e->weights, (size_t)e->width * 8);
    if (!kept) return -1;
    memcpy(kept, weight, (size_t)e->shape.hidden_size * 4);
    memcpy(kept + e->width, bias, (size_t)e->shape.hidden_size * 4);
    n->weight = kept;
    n->bias = kept + e->width;
    return 0;
}

EXPORT void octavo_encoder_set_table(encoder *e, int32_t slot, const uint8_t *data, int32_t bf16) {
    e->tables[slot] = (table){data, bf16};
}

static void add_row(const encoder *e, const table *t, int32_t row, float *x) {
    const int n = e->shape.hidden_size;
    if (!t->data) return;
    if (!t->bf16) {
        const float *values = (const float *)(const void *)t->data + (size_t)row * (size_t)n;
        for (int i = 0; i < n; i++) x[i] += values[i];
        return;
    }
    const uint16_t *values = (const uint16_t *)(const void *)t->data + (size_t)row * (size_t)n;
    for (int i = 0; i < n; i++) {
        const uint32_t bits = (uint32_t)values[i] << 16;
        float f;
        memcpy(&f, &bits, 4);
        x[i] += f;
    }
}

static void embed(const encoder *e, workspace *w, const texts *t, int first, int end) {
    const int begin = t->start[first];
    for (int text = first; text < end; text++)
        for (int i = t->start[text]; i < t->start[text + 1]; i++) {
            float *x = w->x + (size_t)(i - begin) * (size_t)e->width;
            memset(x, 0, (size_t)e->width * 4);
            add_row(e, &e->tables[0], t->token[i], x);
            add_row(e, &e->tables[2], t->type[i], x);
            add_row(e, &e->tables[1], i - t->start[text], x);
            e->level->normalize(&e->embed_norm, x, e->shape.hidden_size, x);
        }
}

static void prepare_rows(const encoder *e, workspace *w, const matrix *m, const float *x, int width, int tokens) {
    w->a.width = width;
    for (int t = 0; t < tokens; t++)
        e->level->prepare(&w->a, t, x + (size_t)t * (size_t)width, e->level->forms[m->encoding]);
}

static void product(const encoder *e, workspace *w, const matrix *m, int tokens, float *y, int stride) {
    for (int t = 0; t < tokens; t += MAX_TOKENS) {  // what a level takes at once
        const activations *all = &w->a;
        const size_t at = (size_t)t * (size_t)all->width, group = at / GROUP;
        const activations a = {.width = all->width, .int8 = all->int8 + at, .scale = all->scale + group,
                               .scaled_sum = all->scaled_sum + group, .sum = all->sum + group,
                               .first_sum = all->first_sum + group, .bf16 = all->bf16 + at, .f32 = all->f32 + at,
                               .turned = all->turned + at, .turned_scale = all->turned_scale + group,
                               .turned_sum = all->turned_sum + group};
        const int count = tokens - t < MAX_TOKENS ? tokens - t : MAX_TOKENS;
        e->level->multiply(m, &a, count, y + (size_t)t * (size_t)stride, (size_t)stride, 0, 0, m->panels);
    }
}

// x = norm(x + y), a sublayer's end.
static void add_and_normalize(const encoder *e, workspace *w, const norm *n, int tokens) {
    for (int t = 0; t < tokens; t++) {
        float *x = w->x + (size_t)t * (size_t)e->width;
        const float *y = w->y + (size_t)t * (size_t)e->width;
        for (int i = 0; i < e->shape.hidden_size; i++) x[i] += y[i];
        e->level->normalize(n, x, e->shape.hidden_size, x);
    }
}

// One text's heads: keys and values into the thread's blocks, then each query over all of them, back into its place.
static void attend_text(const encoder *e, workspace *w, size_t first, int tokens) {
    const int dim = e->shape.head_dim;
    for (int h = 0; h < e->shape.num_heads; h++) {
        uint8_t *cache = w->cache + (size_t)h * e->head_bytes;
        float *q = w->q + first * (size_t)e->width + (size_t)h * dim;
        const float *k = w->k + first * (size_t)e->width + (size_t)h * dim;
        const float *v = w->v + first * (size_t)e->width + (size_t)h * dim;
        for (int t = 0; t < tokens; t++)
            e->level->store(cache + (size_t)(t / BLOCK) * e->block_bytes, k + (size_t)t * e->width,
                            v + (size_t)t * e->width, t % BLOCK, dim, e->padded_dim, e->kind);
        for (int t = 0; t < tokens;) {
            attention_tile tile = {.head_dim = dim, .padded_dim = e->padded_dim, .kind = e->kind,
                                   .scale = 1.0f / sqrtf((float)dim), .cache = cache, .block_bytes = e->block_bytes,
                                   .blocks = e->blocks, .scores = w->scores, .score_stride = e->score_stride};
            for (; t < tokens && tile.count < MAX_QUERIES; t++, tile.count++) {
                tile.query[tile.count] = tile.out[tile.count] = q + (size_t)t * e->width;
                tile.position[tile.count] = tokens - 1;
                tile.sink[tile.count] = NO_SINK;
            }
            e->level->attend(&tile);
        }
    }
}

static void run_layer(const encoder *e, workspace *w, const encoder_layer *l, const texts *t, int first, int end) {
    const int tokens = t->start[end] - t->start[first];
    prepare_rows(e, w, &l->q, w->x, e->width, tokens);
    product(e, w, &l->q, tokens, w->q, e->width);
    product(e, w, &l->k, tokens, w->k, e->width);
    product(e, w, &l->v, tokens, w->v, e->width);
    for (int text = first; text < end; text++)
        attend_text(e, w, (size_t)(t->start[text] - t->start[first]), t->start[text + 1] - t->start[text]);
    prepare_rows(e, w, &l->o, w->q, e->width, tokens);
    product(e, w, &l->o, tokens, w->y, e->width);
    add_and_normalize(e, w, &l->attention, tokens);
    prepare_rows(e, w, &l->up, w->x, e->width, tokens);
    product(e, w, &l->up, tokens, w->up, e->mlp_width);
    e->level->gate(w->up, NULL, tokens * e->mlp_width, (activation_kind)e->shape.activation, 0.0f);
    prepare_rows(e, w, &l->down, w->up, e->mlp_width, tokens);
    product(e, w, &l->down, tokens, w->y, e->width);
    add_and_normalize(e, w, &l->mlp, tokens);
}

static void run_chunk(const encoder *e, workspace *w, const texts *t, int first, int end) {
    const int begin = t->start[first], tokens = t->start[end] - begin, width = e->shape.hidden_size;
    embed(e, w, t, first, end);
    for (int i = 0; i < e->shape.num_layers; i++) run_layer(e, w, &e->layers[i], t, first, end);
    for (int i = 0; i < tokens; i++)
        memcpy(t->hidden + (size_t)(begin + i) * (size_t)width, w->x + (size_t)i * (size_t)e->width, (size_t)width * 4);
}

static void run_share(void *argument, int thread) {
    job *j = argument;
    for (int c; (c = atomic_fetch_add(&j->next, 1)) < j->t->chunks;)
        run_chunk(j->e, &j->e->spaces[thread], j->t, j->t->chunk[c], j->t->chunk[c + 1]);
}

EXPORT int32_t octavo_encode(encoder *e, const texts *t) {
    job j = {.e = e, .t = t};
    atomic_init(&j.next, 0);
    return pool_run(e->pool, run_share, &j) ? -1 : 0;
}
