// What no caller may ask for, so that a wrong argument is an error and never a crash: shapes whose parts do not fit each
// other, and steps of a model of which a part was never set.
#include "kernels.h"

static int between(int32_t x, int32_t least, int32_t most) { return least <= x && x <= most; }

static const char *refused_experts(const moe_shape *m) {  // of a model that has some
    enum { MAX_GROUPS = 64, MAX_TOP = 16 };  // of moe.c's arrays
    if (!between(m->experts, 1, 1 << 16) || !between(m->experts_per_token, 1, m->experts))
        return "a token goes to 1 or more of 1 to 65536 experts, and to none twice";
    if (!between(m->expert_size, 1, 1 << 24) || !between(m->shared_size, 0, 1 << 24))
        return "an expert has 1 to 16777216 features";
    if (!between(m->groups, 1, MAX_GROUPS) || m->experts % m->groups || !between(m->groups_kept, 1, m->groups))
        return "experts come in 1 to 64 groups of one size, of which 1 or more are kept";
    const int size = m->experts / m->groups;
    if (!between(m->scoring, SOFTMAX, SPARSE_MIXER)) return "scores of experts are a softmax, sigmoids or a sparse mixer's";
    if (m->groups_kept * size < m->experts_per_token) return "the groups that are kept have fewer experts than a token needs";
    if (m->groups > 1 && !between(m->group_top, 1, size < MAX_TOP ? size : MAX_TOP))
        return "a group is ranked by its best 1 to 16 experts";
    return NULL;
}

static const char *refused_latent(const model_shape *s) {
    const latent_shape *l = &s->latent;
    if (!between(l->kv_rank, 1, 1 << 16) || !between(l->q_rank, 0, 1 << 20) || !between(l->kept_dim, 1, 1 << 16) ||
        !between(l->rotary_dim, 0, 1 << 16) || !between(l->value_dim, 1, 1 << 16))
        return "latent attention has ranks and widths of 1 to 65536";
    if (s->num_kv_heads != 1 || s->head_dim != l->kv_rank + l->rotary_dim || s->qk_norm != QK_NONE)
        return "latent attention keeps one key, its vector behind what turns, and norms neither queries nor keys";
    return NULL;
}

// What is wrong with a shape, in words; NULL for nothing. Callers ask before they create.
EXPORT const char *octavo_refusal(const model_shape *s, const layer_shape *layers, const rotary_shape *rotaries) {
    if (!between(s->vocab_size, 1, 1 << 24) || !between(s->hidden_size, 1, 1 << 20) ||
        !between(s->intermediate_size, s->moe.experts ? 0 : 1, 1 << 24))
        return "a model has 1 to 16777216 ids, 1 to 1048576 features and 1 to 16777216 in its MLP";
    if (!between(s->num_heads, 1, 1 << 12) || !between(s->num_kv_heads, 1, s->num_heads) || s->num_heads % s->num_kv_heads ||
        !between(s->head_dim, 1, MAX_HEAD_DIM))
        return "1 to 4096 heads of 1 to 576 features share KV heads evenly";
    if (!between(s->context_length, 1, 1 << 24) || s->num_blocks < 1) return "a context has 1 to 16777216 tokens and has blocks";
    if (!between(s->threads, 1, 1024)) return "threads must be 1 to 1024";
    if (!between(s->num_adapters, 0, 1 << 16) || !between(s->adapter_rank, s->num_adapters > 0, 1 << 16))
        return "adapters are at most 65536, of ranks from 1 to 65536";
    if (!between(s->activation, SILU, s->gated || s->moe.experts ? RELU_SQUARED : XIELU) || !between(s->norm_kind, NORM_RMS, NORM_LAYER) ||
        !between(s->qk_norm, QK_NONE, QK_TURNED) || !between(s->cache, CACHE_BF16, CACHE_INT8))
        return "an activation, a norm or a cache has no kernel";
    if (s->growth != 0.0f && (s->growth_length < 1 || !between(s->growth_first, 0, 1 << 24)))
        return "queries grow after 1 or more positions, counted from 0 to 16777216";
    if (s->output_gate && s->latent.kv_rank) return "latent attention has no gate";
    if (s->latent.kv_rank && refused_latent(s)) return refused_latent(s);
    if (s->moe.experts && refused_experts(&s->moe)) return refused_experts(&s->moe);
    for (int i = 0; i < s->num_rotaries; i++)
        if (!between(rotaries[i].dim, 0, s->head_dim)) return "a rotary has more features than a head";
    for (int i = 0; i < s->num_layers; i++)
        if (layers[i].moe && !s->moe.experts) return "a layer has experts, of which there are none";
    return NULL;
}

static int has(const layer *l, matrix_slot first, matrix_slot last) {
    for (int slot = (int)first; slot <= (int)last; slot++)
        if (!is_set(&l->matrices[slot])) return 0;
    return 1;
}

static int has_attention(const model_shape *s, const layer *l) {
    if (!has(l, Q, O) || (s->output_gate && !has(l, OUTPUT_GATE, OUTPUT_GATE))) return 0;
    if (!s->latent.kv_rank) return s->qk_norm == QK_NONE || (l->norms[Q_NORM].weight && l->norms[K_NORM].weight);
    if (!l->norms[K_NORM].weight || (s->latent.q_rank && (!l->norms[Q_NORM].weight || !has(l, Q_A, Q_A)))) return 0;
    for (int h = 0; h < s->num_heads; h++)
        if (!is_set(&l->heads[h].key) || !is_set(&l->heads[h].value)) return 0;
    return 1;
}

static int has_feed(const model_shape *s, const layer *l) {
    if (s->activation == XIELU && (!l->vectors[ALPHA_P] || !l->vectors[ALPHA_N])) return 0;
    if (!l->shape.moe) return has(l, s->gated ? GATE : UP, DOWN);
    const int shared = s->moe.shared_size > 0;
    if (!has(l, ROUTER, s->moe.shared_gated ? SHARED_GATE : ROUTER)) return 0;
    for (int e = 0; e < s->moe.experts + shared; e++)
        for (int i = !s->gated; i < 3; i++)
            if (!is_set(&l->experts[e].matrices[i])) return 0;
    return 1;
}

int is_whole(const model *m) {
    for (int i = 0; i < m->shape.num_layers; i++)
        if (!has_attention(&m->shape, &m->layers[i]) || !has_feed(&m->shape, &m->layers[i])) return 0;
    return is_set(&m->embed) && is_set(&m->head);
}
