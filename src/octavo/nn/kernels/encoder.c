// An encoder: norms on sums or before each sublayer, positions by a table or by turning queries and keys, attention to both
// sides, as far as it goes or within a window, an MLP with or without a gate; blocks of their own or one for all layers.
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
    int32_t embedding_size, blocks, pre, gated, rotary_dim;  // layer i has block i % blocks; pre: norms before sublayers
    float norm_eps;
} encoder_shape;

typedef struct { matrix q, k, v, o, up, down, gate; norm attention, mlp; } encoder_block;  // a norm without weight is none
typedef struct { const uint8_t *data; int bf16; } table;  // rows of embedding_size, the caller's

typedef struct {  // of a thread
    float *x, *q, *k, *v, *y, *up, *gate, *scores;  // rows of padded width
    activations a;
    uint8_t *cache;  // [block][head][keys, values] of one text
} workspace;

typedef struct {
    encoder_shape shape;
    const level *level;
    pool *pool;
    arena weights, work;
    encoder_block *blocks;
    layer_shape *layers;         // how each layer turns and how far it sees
    const float *const *turns;   // of each rotary: (longest, rotary_dim) cosines, then sines, the caller's
    matrix projection;           // from the embeddings' width; without data: they have the layers'
    norm embed_norm, final_norm;
    table tables[3];  // tokens, positions, types
    workspace *spaces;
    int32_t *places;  // 0, 1, 2, ...
    int embed_width, width, mlp_width, padded_dim, rows;
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
    w->gate = e->shape.gated ? arena_take(&e->work, rows * (size_t)e->mlp_width * 4) : w->up;
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
    return w->up && w->gate && w->scores && w->cache && a->int8 && a->bf16 && a->f32 && a->scale && a->scaled_sum && a->sum &&
           a->first_sum && a->turned && a->turned_scale && a->turned_sum;
}

static int take_work(encoder *e, const layer_shape *layers) {
    const int places = whole(e->shape.longest, BLOCK) / BLOCK;
    const size_t count = (size_t)e->shape.num_layers;
    e->blocks = arena_take(&e->work, (size_t)e->shape.blocks * sizeof *e->blocks);
    e->layers = arena_take(&e->work, count * sizeof *e->layers);
    e->spaces = arena_take(&e->work, (size_t)e->shape.threads * sizeof *e->spaces);
    e->places = arena_take(&e->work, (size_t)places * 4);
    if (!e->blocks || !e->layers || !e->spaces || !e->places) return 0;
    memcpy(e->layers, layers, count * sizeof *layers);
    for (int b = 0; b < places; b++) e->places[b] = b;
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

// What is wrong with a shape, in words; NULL for nothing. Callers ask before they create.
EXPORT const char *octavo_encoder_refusal(const encoder_shape *s) {
    const int wide = 1 << 20;
    if (s->hidden_size < 1 || s->hidden_size > wide || s->num_heads < 1 || s->head_dim < 1 || s->head_dim > MAX_HEAD_DIM ||
        s->num_heads > wide / s->head_dim || s->num_heads * s->head_dim != s->hidden_size)
        return "heads of 1 to 576 features must make up the hidden_size";
    if (s->embedding_size < 1 || s->embedding_size > s->hidden_size) return "embedding_size must be 1 to hidden_size";
    if (s->longest < 1 || s->longest > 1 << 16 || s->intermediate_size < 1 || s->intermediate_size >= 1 << 15)
        return "a text has 1 to 65536 tokens and an MLP 1 to 32767 features";
    if (s->num_layers < 1 || s->num_layers > wide || s->blocks < 1 || s->blocks > s->num_layers)
        return "blocks must be 1 to num_layers";
    if (s->threads < 1 || s->threads > 1024) return "threads must be 1 to 1024";
    if (s->activation < SILU || s->activation > RELU_SQUARED) return "the activation has no kernel";
    if (s->rotary_dim < 0 || s->rotary_dim % 2 || s->rotary_dim > s->head_dim)
        return "as many features as turn are even, and no more than a head has";
    return NULL;
}

EXPORT encoder *octavo_encoder_create(const encoder_shape *shape, const layer_shape *layers, const float *const *turns) {
    encoder *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    e->shape = *shape;
    e->level = level_of(shape->level);
    e->weights.huge = e->work.huge = 1;
    e->turns = turns;
    e->embed_width = whole(shape->embedding_size, GROUP);
    e->width = whole(shape->hidden_size, GROUP);
    e->mlp_width = whole(shape->intermediate_size, GROUP);
    e->padded_dim = whole(shape->head_dim, 16);
    e->rows = whole(shape->chunk > shape->longest ? shape->chunk : shape->longest, BLOCK);
    e->score_stride = (size_t)whole(shape->longest, BLOCK);
    e->kind = shape->exact ? CACHE_F32 : CACHE_BF16;
    e->head_bytes = head_bytes_of(e->kind, e->padded_dim);
    e->block_bytes = e->head_bytes * (size_t)shape->num_heads;
    if (!e->level || !take_work(e, layers) || !(e->pool = pool_create(shape->threads))) {
        octavo_encoder_destroy(e);
        return NULL;
    }
    e->embed_norm = e->final_norm = (norm){.kind = NORM_LAYER, .eps = shape->norm_eps};
    for (int i = 0; i < shape->blocks; i++) e->blocks[i].attention = e->blocks[i].mlp = e->embed_norm;
    return e;
}

static matrix *encoder_matrix(encoder *e, int block, int slot) {
    encoder_block *b = &e->blocks[block];
    matrix *all[] = {&b->q, &b->k, &b->v, &b->o, &b->up, &b->down, &b->gate, &e->projection};
    return all[slot];
}

EXPORT int32_t octavo_encoder_set_matrix(encoder *e, int32_t block, int32_t slot, int32_t encoding_of, int32_t rows,
                                         int32_t columns, const uint8_t *source, const float *bias) {
    matrix m = {.encoding = (encoding)encoding_of, .rows = rows, .columns = columns,
                .panels = (rows + PANEL - 1) / PANEL, .groups = (columns + GROUP - 1) / GROUP};
    m.data = arena_take(&e->weights, (size_t)m.panels * panel_bytes(m.encoding, m.groups));
    m.bias = arena_take(&e->weights, (size_t)whole(rows, GROUP) * 4);
    if (!m.data || !m.bias) return -1;
    pack_panels(&m, source, 0, m.panels);
    memcpy(m.bias, bias, (size_t)rows * 4);
    *encoder_matrix(e, block, slot) = m;
    return 0;
}

EXPORT int32_t octavo_encoder_set_norm(encoder *e, int32_t block, int32_t slot, const float *weight, const float *bias) {
    norm *all[] = {&e->embed_norm, &e->blocks[block].attention, &e->blocks[block].mlp, &e->final_norm};
    const size_t count = (size_t)(slot == 0 ? e->shape.embedding_size : e->shape.hidden_size);
    const size_t padded = (size_t)(slot == 0 ? e->embed_width : e->width);
    float *kept = arena_take(&e->weights, padded * 8);
    if (!kept) return -1;
    memcpy(kept, weight, count * 4);
    memcpy(kept + padded, bias, count * 4);
    all[slot]->weight = kept;
    all[slot]->bias = kept + padded;
    return 0;
}

EXPORT void octavo_encoder_set_table(encoder *e, int32_t slot, const uint8_t *data, int32_t bf16) {
    e->tables[slot] = (table){data, bf16};
}

static void add_row(const encoder *e, const table *t, int32_t row, float *x) {
    const int n = e->shape.embedding_size;
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

static void embed(const encoder *e, workspace *w, const texts *t, int first, int end) {
    const int begin = t->start[first], tokens = t->start[end] - begin, width = e->embed_width;
    float *rows = e->projection.data ? w->y : w->x;
    for (int text = first; text < end; text++)
        for (int i = t->start[text]; i < t->start[text + 1]; i++) {
            float *x = rows + (size_t)(i - begin) * (size_t)width;
            memset(x, 0, (size_t)width * 4);
            add_row(e, &e->tables[0], t->token[i], x);
            add_row(e, &e->tables[2], t->type[i], x);
            add_row(e, &e->tables[1], i - t->start[text], x);
            if (e->embed_norm.weight) e->level->normalize(&e->embed_norm, x, e->shape.embedding_size, x);
        }
    if (!e->projection.data) return;
    prepare_rows(e, w, &e->projection, rows, width, tokens);
    product(e, w, &e->projection, tokens, w->x, e->width);
}

// What a sublayer reads: x, or its norm where that stands before.
static const float *read_by(const encoder *e, workspace *w, const norm *n, int tokens) {
    if (!e->shape.pre || !n->weight) return w->x;
    const size_t used = (size_t)whole(e->shape.hidden_size, 16), width = (size_t)e->width;
    for (size_t t = 0; t < (size_t)tokens; t++) {
        e->level->normalize(n, w->x + t * width, e->shape.hidden_size, w->y + t * width);
        memset(w->y + t * width + used, 0, (width - used) * 4);
    }
    return w->y;
}

// A sublayer's end: x + y, or its norm where that stands on sums.
static void add_sublayer_of(const encoder *e, workspace *w, const norm *n, int tokens) {
    for (int t = 0; t < tokens; t++) {
        float *x = w->x + (size_t)t * (size_t)e->width;
        const float *y = w->y + (size_t)t * (size_t)e->width;
        for (int i = 0; i < e->shape.hidden_size; i++) x[i] += y[i];
        if (!e->shape.pre) e->level->normalize(n, x, e->shape.hidden_size, x);
    }
}

static void turn(const encoder *e, workspace *w, const layer_shape *s, size_t first, int tokens) {
    if (s->rotary < 0) return;
    for (int t = 0; t < tokens; t++) {
        const float *cos_sin = e->turns[s->rotary] + (size_t)t * (size_t)e->shape.rotary_dim;
        const size_t row = (first + (size_t)t) * (size_t)e->width;
        for (int h = 0; h < e->shape.num_heads; h++) {
            e->level->rotate(w->q + row + (size_t)h * (size_t)e->shape.head_dim, cos_sin, e->shape.rotary_dim);
            e->level->rotate(w->k + row + (size_t)h * (size_t)e->shape.head_dim, cos_sin, e->shape.rotary_dim);
        }
    }
}

// One text's heads: keys and values into the thread's blocks, then each query over what it sees of them, back into its place.
static void attend_text(const encoder *e, workspace *w, const layer_shape *s, size_t first, int tokens) {
    const int dim = e->shape.head_dim, reach = s->window ? s->window - 1 : tokens;  // to each side
    turn(e, w, s, first, tokens);
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
                                   .blocks = e->places, .scores = w->scores, .score_stride = e->score_stride};
            for (; t < tokens && tile.count < MAX_QUERIES; t++, tile.count++) {
                tile.query[tile.count] = tile.out[tile.count] = q + (size_t)t * e->width;
                tile.position[tile.count] = t + reach < tokens ? t + reach : tokens - 1;
                tile.first[tile.count] = t > reach ? t - reach : 0;
                tile.sink[tile.count] = NO_SINK;
            }
            e->level->attend(&tile);
        }
    }
}

static void run_layer(const encoder *e, workspace *w, int index, const texts *t, int first, int end) {
    const encoder_block *b = &e->blocks[index % e->shape.blocks];
    const int tokens = t->start[end] - t->start[first];
    prepare_rows(e, w, &b->q, read_by(e, w, &b->attention, tokens), e->width, tokens);
    product(e, w, &b->q, tokens, w->q, e->width);
    product(e, w, &b->k, tokens, w->k, e->width);
    product(e, w, &b->v, tokens, w->v, e->width);
    for (int text = first; text < end; text++)
        attend_text(e, w, &e->layers[index], (size_t)(t->start[text] - t->start[first]), t->start[text + 1] - t->start[text]);
    prepare_rows(e, w, &b->o, w->q, e->width, tokens);
    product(e, w, &b->o, tokens, w->y, e->width);
    add_sublayer_of(e, w, &b->attention, tokens);
    prepare_rows(e, w, &b->up, read_by(e, w, &b->mlp, tokens), e->width, tokens);
    product(e, w, &b->up, tokens, w->up, e->mlp_width);
    if (e->shape.gated) product(e, w, &b->gate, tokens, w->gate, e->mlp_width);
    e->level->gate(w->gate, e->shape.gated ? w->up : NULL, tokens * e->mlp_width, (activation_kind)e->shape.activation, 0.0f);
    prepare_rows(e, w, &b->down, w->gate, e->mlp_width, tokens);
    product(e, w, &b->down, tokens, w->y, e->width);
    add_sublayer_of(e, w, &b->mlp, tokens);
}

static void run_chunk(const encoder *e, workspace *w, const texts *t, int first, int end) {
    const int begin = t->start[first], tokens = t->start[end] - begin, width = e->shape.hidden_size;
    embed(e, w, t, first, end);
    for (int i = 0; i < e->shape.num_layers; i++) run_layer(e, w, i, t, first, end);
    const float *rows = read_by(e, w, &e->final_norm, tokens);
    for (int i = 0; i < tokens; i++)
        memcpy(t->hidden + (size_t)(begin + i) * (size_t)width, rows + (size_t)i * (size_t)e->width, (size_t)width * 4);
}

static void run_share(void *argument, int thread) {
    job *j = argument;
    for (int c; (c = atomic_fetch_add(&j->next, 1)) < j->t->chunks;)
        run_chunk(j->e, &j->e->spaces[thread], j->t, j->t->chunk[c], j->t->chunk[c + 1]);
}

static int is_whole_encoder(const encoder *e) {
    for (int i = 0; i < e->shape.blocks; i++) {
        const encoder_block *b = &e->blocks[i];
        if (!b->q.data || !b->k.data || !b->v.data || !b->o.data || !b->up.data || !b->down.data) return 0;
        if ((e->shape.gated && !b->gate.data) || (!e->shape.pre && (!b->attention.weight || !b->mlp.weight))) return 0;
    }
    return e->projection.data || e->shape.embedding_size == e->shape.hidden_size;
}

// 0; 2: a matrix or a norm was never set; -1: threads are missing.
EXPORT int32_t octavo_encode(encoder *e, const texts *t) {
    if (!is_whole_encoder(e)) return 2;
    job j = {.e = e, .t = t};
    atomic_init(&j.next, 0);
    return pool_run(e->pool, run_share, &j) ? -1 : 0;
}
