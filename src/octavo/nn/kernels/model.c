// A model's life: create it by its shape, give it matrices and vectors, run steps (step.c), destroy it.
//
// Callers check sizes, names and completeness; here only memory and threads can fail. No state outside the handle.
#include "kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int whole(int n, int unit) { return (n + unit - 1) / unit * unit; }

static int take_activations(model *m, activations *a, size_t n) {  // n: features of all rows
    const size_t groups = n / GROUP;
    a->int8 = arena_take(&m->work, n);
    a->scale = arena_take(&m->work, groups * 4);
    a->scaled_sum = arena_take(&m->work, groups * 4);
    a->sum = arena_take(&m->work, groups * 4);
    a->first_sum = arena_take(&m->work, groups * 4);
    a->bf16 = arena_take(&m->work, n * 2);
    a->f32 = arena_take(&m->work, n * 4);
    a->turned = arena_take(&m->work, n);
    a->turned_scale = arena_take(&m->work, groups * 4);
    a->turned_sum = arena_take(&m->work, groups * 4);
    return a->int8 && a->scale && a->scaled_sum && a->sum && a->first_sum && a->bf16 && a->f32 && a->turned &&
           a->turned_scale && a->turned_sum;
}

static int take_rotary(model *m, rotary *r, const rotary_shape *shape) {
    const size_t bytes = (size_t)(shape->dim / 2) * sizeof(double);
    r->dim = shape->dim;
    r->factor = shape->factor;
    r->frequencies = arena_take(&m->work, bytes);
    r->turns = arena_take(&m->work, (size_t)m->shape.context_length * (size_t)shape->dim * 4);
    if (r->frequencies) memcpy(r->frequencies, shape->frequencies, bytes);
    return r->frequencies && r->turns;
}

static float *take_rows(model *m, int width) { return arena_take(&m->work, (size_t)MAX_TOKENS * (size_t)width * 4); }

static int take_of_thread(model *m, int thread, int widest) {
    m->scratch[thread] = arena_take(&m->work, (size_t)widest * 4);
    m->scores[thread] = arena_take(&m->work, m->score_stride * MAX_QUERIES * 4);
    m->low[thread] = arena_take(&m->work, (size_t)OWN_ROWS * (size_t)whole(m->shape.adapter_rank, GROUP) * 4);
    m->chain_tables[thread] = arena_take(&m->work, (size_t)(m->shape.context_length / BLOCK + 1 + TREE_BLOCKS) * 4);
    const int columns = m->expert_width > m->shared_width ? m->expert_width : m->shared_width;
    const size_t panel = panel_bytes(F32, (columns > widest ? columns : widest) / GROUP);
    m->packed[thread] = arena_take(&m->work, panel > PACKED_BYTES ? panel : PACKED_BYTES);
    return m->scratch[thread] && m->scores[thread] && m->low[thread] && m->chain_tables[thread] && m->packed[thread] &&
           take_activations(m, &m->own[thread], (size_t)OWN_ROWS * (size_t)widest);
}

static int take_routing(model *m, routing *r) {
    const size_t experts = (size_t)m->shape.moe.experts, places = (size_t)MAX_TOKENS * (size_t)m->shape.moe.experts_per_token;
    r->first = arena_take(&m->work, (experts + 2) * 4);
    r->token = arena_take(&m->work, places * 4);
    r->pair = arena_take(&m->work, places * 4);
    r->weight = arena_take(&m->work, places * 4);
    r->input = arena_take(&m->work, places * 4);
    r->scores = arena_take(&m->work, experts * 4);
    r->ranks = arena_take(&m->work, experts * 4);
    return r->first && r->token && r->pair && r->weight && r->input && r->scores && r->ranks;
}

static int take_experts(model *m) {
    const moe_shape *moe = &m->shape.moe;
    const size_t each = (size_t)moe->experts_per_token, hidden = (size_t)m->hidden_width, threads = (size_t)m->shape.threads;
    const size_t in = each * hidden, made = each * (size_t)m->expert_width + (size_t)m->shared_width;  // of one token
    const size_t features = in > made ? in : made;
    m->router_logits = take_rows(m, whole(moe->experts, PANEL));
    m->shared_gates = take_rows(m, 1);
    m->expert_out = arena_take(&m->work, MAX_TOKENS * (each + 1) * hidden * 4);
    m->own_pairs = arena_take(&m->work, threads * sizeof *m->own_pairs);
    m->routings = arena_take(&m->work, threads * sizeof *m->routings);
    if (!m->router_logits || !m->shared_gates || !m->expert_out || !m->own_pairs || !m->routings ||
        !take_activations(m, &m->pairs, MAX_TOKENS * features))
        return 0;
    for (size_t i = 0; i < threads; i++)
        if (!take_activations(m, &m->own_pairs[i], OWN_ROWS * features) || !take_routing(m, &m->routings[i])) return 0;
    for (int i = 0; i < m->shape.num_layers; i++) {
        if (!m->layers[i].shape.moe) continue;
        m->layers[i].experts = arena_take(&m->work, (size_t)(moe->experts + 1) * sizeof(expert));
        if (!m->layers[i].experts) return 0;
    }
    return 1;
}

static int take_work(model *m) {
    const model_shape *s = &m->shape;
    int widest = m->hidden_width > m->mlp_width ? m->hidden_width : m->mlp_width;
    if (m->q_width > widest) widest = m->q_width;
    if (m->q_rank_width > widest) widest = m->q_rank_width;
    if (m->mixed_width > widest) widest = m->mixed_width;
    if (m->query_width > widest) widest = m->query_width;
    m->low_queries = take_rows(m, m->q_rank_width);
    m->queries = take_rows(m, m->query_width);
    m->mixed = take_rows(m, m->mixed_width);
    m->x = take_rows(m, m->hidden_width);
    m->branch = take_rows(m, m->hidden_width);
    m->q = take_rows(m, m->q_width);
    m->k = take_rows(m, m->kv_width);
    m->v = take_rows(m, m->kv_width);
    m->attended = take_rows(m, m->q_width);
    m->output_gate = take_rows(m, s->output_gate ? m->q_width : 0);
    const int experts_made = s->moe.experts_per_token * m->expert_width + m->shared_width;
    const int made = m->mlp_width > experts_made ? m->mlp_width : experts_made;
    m->gate = take_rows(m, made);
    m->up = take_rows(m, made);
    m->rotaries = arena_take(&m->work, (size_t)s->num_rotaries * sizeof *m->rotaries);
    m->own = arena_take(&m->work, (size_t)s->threads * sizeof *m->own);
    m->views = arena_take(&m->work, (size_t)s->threads * sizeof *m->views);
    m->scratch = arena_take(&m->work, (size_t)s->threads * sizeof *m->scratch);
    m->scores = arena_take(&m->work, (size_t)s->threads * sizeof *m->scores);
    m->packed = arena_take(&m->work, (size_t)s->threads * sizeof *m->packed);
    m->low = arena_take(&m->work, (size_t)s->threads * sizeof *m->low);
    m->chain_tables = arena_take(&m->work, (size_t)s->threads * sizeof *m->chain_tables);
    m->layers = arena_take(&m->work, (size_t)s->num_layers * sizeof *m->layers);
    if (!m->low_queries || !m->queries || !m->mixed || !m->x || !m->branch || !m->q || !m->k || !m->v || !m->attended ||
        !m->output_gate || !m->gate || !m->up || !m->rotaries || !m->own || !m->views ||
        !m->scratch || !m->scores || !m->packed || !m->low || !m->chain_tables || !m->layers || !take_activations(m, &m->shared, (size_t)MAX_TOKENS * (size_t)widest))
        return 0;
    for (int i = 0; i < s->threads; i++)
        if (!take_of_thread(m, i, widest)) return 0;
    return 1;
}

EXPORT void octavo_destroy(model *m) {
    if (!m) return;
    pool_destroy(m->pool);
    arena_free(&m->weights);
    arena_free(&m->work);
    arena_free(&m->cache_arena);
    free(m);
}

static int describe(model *m, const layer_shape *layers, const rotary_shape *rotaries, const float *slopes) {
    const model_shape *s = &m->shape;
    m->final_norm = m->embed_norm = (norm){.kind = (norm_kind)s->norm_kind, .eps = s->norm_eps};
    for (int i = 0; i < s->num_layers; i++) {
        m->layers[i].shape = layers[i];
        m->layers[i].adapters = arena_take(&m->work, (size_t)s->num_adapters * ADAPTED * sizeof(low_rank));
        if (!m->layers[i].adapters) return 0;
        for (int slot = 0; slot < NORMS_OF_LAYER; slot++) m->layers[i].norms[slot] = m->final_norm;
        if (s->latent.kv_rank) {
            m->layers[i].norms[Q_NORM] = m->layers[i].norms[K_NORM] = (norm){.kind = NORM_RMS, .eps = s->latent.eps};
            m->layers[i].heads = arena_take(&m->work, (size_t)s->num_heads * sizeof(latent_head));
            if (!m->layers[i].heads) return 0;
        }
        if (s->qk_norm == QK_PER_HEAD) m->layers[i].norms[Q_NORM].kind = m->layers[i].norms[K_NORM].kind = NORM_LAYER;
    }
    for (int i = 0; i < s->num_rotaries; i++)
        if (!take_rotary(m, &m->rotaries[i], &rotaries[i])) return 0;
    if (s->moe.experts && !take_experts(m)) return 0;
    if (!slopes) return 1;
    m->slopes = arena_take(&m->work, (size_t)s->num_heads * 4);
    if (m->slopes) memcpy(m->slopes, slopes, (size_t)s->num_heads * 4);
    return m->slopes != NULL;
}

static int all_windowed(const model_shape *shape, const layer_shape *layers) {  // then blocks behind windows come again
    for (int i = 0; i < shape->num_layers; i++)
        if (!layers[i].window) return 0;
    return 1;
}

EXPORT model *octavo_create(const model_shape *shape, const layer_shape *layers, const rotary_shape *rotaries,
                            const float *slopes) {
    model *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->shape = *shape;
    m->level = level_of(shape->level);
    m->weights.huge = m->cache_arena.huge = 1;
    m->padded_dim = whole(shape->head_dim, 16);
    m->hidden_width = whole(shape->hidden_size, GROUP);
    m->q_width = whole(shape->num_heads * shape->head_dim, GROUP);
    m->kv_width = whole(shape->num_kv_heads * shape->head_dim, GROUP);
    m->mlp_width = whole(shape->intermediate_size, GROUP);
    if (shape->latent.kv_rank) {
        m->q_rank_width = whole(shape->latent.q_rank, GROUP);
        m->query_width = whole(shape->num_heads * (shape->latent.kept_dim + shape->latent.rotary_dim), GROUP);
        m->mixed_width = whole(shape->num_heads * shape->latent.value_dim, GROUP);
    }
    m->expert_width = whole(shape->moe.expert_size, GROUP);
    m->shared_width = whole(shape->moe.shared_size, GROUP);
    const size_t positions = (size_t)shape->num_blocks * BLOCK;
    const size_t context = (size_t)whole(shape->context_length, BLOCK);
    m->score_stride = context < positions || all_windowed(shape, layers) ? context : positions;
    m->head_bytes = head_bytes_of((cache_kind)shape->cache, m->padded_dim);
    m->block_bytes = m->head_bytes * (size_t)shape->num_kv_heads * (size_t)shape->num_layers;
    size_t cache_bytes;
    const size_t blocks = (size_t)shape->num_blocks + (size_t)shape->threads * TREE_BLOCKS;
    if (!__builtin_mul_overflow(m->block_bytes, blocks, &cache_bytes))
        m->cache = arena_take(&m->cache_arena, cache_bytes);
    if (!m->level || !m->cache || !take_work(m) || !describe(m, layers, rotaries, slopes) ||
        !(m->pool = pool_create(shape->threads))) {
        octavo_destroy(m);
        return NULL;
    }
    return m;
}

static matrix *matrix_at(model *m, int layer, int slot) {
    if (slot < MATRICES_OF_LAYER) return &m->layers[layer].matrices[slot];
    if (slot >= HEADS) {
        latent_head *head = &m->layers[layer].heads[(slot - HEADS) / 2];
        return (slot - HEADS) % 2 ? &head->value : &head->key;
    }
    if (slot >= EXPERTS) return &m->layers[layer].experts[(slot - EXPERTS) / 3].matrices[(slot - EXPERTS) % 3];
    return slot == EMBED ? &m->embed : slot == POSITIONS ? &m->positions : &m->head;
}

typedef struct { const matrix *matrix; const uint8_t *source; int threads; } packing;

static void pack_share(void *argument, int thread) {
    const packing *p = argument;
    const int panels = p->matrix->panels;
    pack_panels(p->matrix, p->source, (int)((int64_t)panels * thread / p->threads),
                (int)((int64_t)panels * (thread + 1) / p->threads));
}

static matrix shaped(int32_t encoding_of, int32_t rows, int32_t columns) {
    return (matrix){.encoding = (encoding)encoding_of, .rows = rows, .columns = columns,
                    .panels = (rows + PANEL - 1) / PANEL, .groups = (columns + GROUP - 1) / GROUP};
}

static size_t packed_bytes(const matrix *m) { return (size_t)m->panels * panel_bytes(m->encoding, m->groups); }

static void put_matrix(model *m, matrix *target, int32_t slot, matrix packed) {
    const matrix embed = m->embed;  // the head's too, until it gets its own
    packed.bias = target->bias;
    *target = packed;
    if (slot == EMBED && m->head.data == embed.data && m->head.rows_as_stored == embed.rows_as_stored) m->head = m->embed;
}

EXPORT int32_t octavo_set_matrix(model *m, int32_t layer, int32_t slot, int32_t encoding_of, int32_t rows,
                                 int32_t columns, const uint8_t *source) {
    matrix *target = matrix_at(m, layer, slot), packed = shaped(encoding_of, rows, columns);
    const int own = target->data && !target->borrowed && !(slot == HEAD && target->data == m->embed.data);
    packed.data = own && target->encoding == packed.encoding ? target->data
                                                             : arena_take(&m->weights, packed_bytes(&packed));
    if (!packed.data) return -1;
    packing job = {&packed, source, m->shape.threads};
    if (pool_run(m->pool, pack_share, &job)) return -1;
    put_matrix(m, target, slot, packed);
    return 0;
}

// Takes a matrix that is packed already and stays the caller's: never written to, never freed.
EXPORT void octavo_use_matrix(model *m, int32_t layer, int32_t slot, int32_t encoding_of, int32_t rows, int32_t columns,
                              const uint8_t *data) {
    matrix packed = shaped(encoding_of, rows, columns);
    packed.data = (uint8_t *)(uintptr_t)data;
    packed.borrowed = 1;
    put_matrix(m, matrix_at(m, layer, slot), slot, packed);
}

// Takes dense rows that stay the caller's; products pack them a few panels at a time.
EXPORT void octavo_use_rows(model *m, int32_t layer, int32_t slot, int32_t encoding_of, int32_t rows, int32_t columns,
                            const uint8_t *data) {
    matrix stored = shaped(encoding_of, rows, columns);
    stored.rows_as_stored = data;
    put_matrix(m, matrix_at(m, layer, slot), slot, stored);
}

// Into the caller's memory, which holds zeros.
EXPORT void octavo_pack(int32_t encoding_of, int32_t rows, int32_t columns, const uint8_t *source, uint8_t *packed) {
    matrix m = shaped(encoding_of, rows, columns);
    m.data = packed;
    pack_panels(&m, source, 0, m.panels);
}

EXPORT const uint8_t *octavo_packed_matrix(model *m, int32_t layer, int32_t slot, int32_t encoding_of) {
    const matrix *of = matrix_at(m, layer, slot);
    return of->encoding == (encoding)encoding_of ? of->data : NULL;
}

EXPORT int64_t octavo_packed_bytes(int32_t encoding_of, int32_t rows, int32_t columns) {
    const matrix packed = shaped(encoding_of, rows, columns);
    return (int64_t)packed_bytes(&packed);
}

// Padded with zeros; 16 more, as a norm of a part near the end reads whole vectors.
static float *set_padded(model *m, const float *old, const float *values, int32_t count) {
    float *taken = old ? (float *)(uintptr_t)old : arena_take(&m->weights, (size_t)(whole(count, GROUP) + 16) * 4);
    if (taken) memcpy(taken, values, (size_t)count * 4);
    return taken;
}

EXPORT int32_t octavo_set_bias(model *m, int32_t layer, int32_t slot, const float *values, int32_t count) {
    matrix *target = matrix_at(m, layer, slot);
    target->bias = set_padded(m, target->bias, values, count);
    return target->bias ? 0 : -1;
}

EXPORT int32_t octavo_set_norm(model *m, int32_t layer, int32_t slot, int32_t is_bias, const float *values, int32_t count) {
    norm *target = slot == FINAL_NORM   ? &m->final_norm
                   : slot == EMBED_NORM ? &m->embed_norm
                                        : &m->layers[layer].norms[slot];
    const float **field = is_bias ? &target->bias : &target->weight;
    *field = set_padded(m, *field, values, count);
    return *field ? 0 : -1;
}

EXPORT int32_t octavo_set_vector(model *m, int32_t layer, int32_t slot, const float *values, int32_t count) {
    float **target = &m->layers[layer].vectors[slot];
    *target = set_padded(m, *target, values, count);
    return *target ? 0 : -1;
}

EXPORT int32_t octavo_packing(void) { return PACKING; }
EXPORT int32_t octavo_max_tokens(void) { return MAX_TOKENS; }

#if !defined(INTERFACE)
#define INTERFACE 0
#endif
EXPORT uint32_t octavo_interface(void) { return INTERFACE; }  // of the tables that it was built with (setup.py)
