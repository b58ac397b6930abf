// Rotary embedding, the KV cache's layout, and attention of a few queries over one KV head.
//
// Included once a level. A block (16 positions) holds its keys as [feature][position] and its values as
// [position][feature]: in bf16 with features and positions in pairs, in fp32, or in int8, then with the scales of its keys
// and of its values, one a position. Each query's maximum, sum and output run over the blocks in one order; what it does
// not see adds exact zeros, so tiles of any width give the same bits.
static void rotate(float *head, const float *cos_sin, int rotary_dim) {
    const int half = rotary_dim / 2;
    for (int i = 0; i < half; i++) {
        const float x = head[i], y = head[i + half], c = cos_sin[i], s = cos_sin[i + half];
        head[i] = x * c - y * s;
        head[i + half] = y * c + x * s;
    }
}

INLINE float rounded_to_bf16(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&f, &bits, 4);
    return f;
}

INLINE uint16_t bf16_of(float f) {  // what is no number stays so, whatever its last bits
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return (uint16_t)(f == f ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : bits >> 16 | 0x40);
}

// x in int8, `stride` apart; returns the scale.
INLINE float store_rounded(int8_t *out, int stride, const float *x, int count) {
    float largest = 0;
    for (int i = 0; i < count; i++) {
        const float size = fabsf(x[i]);
        largest = size > largest || size != size ? size : largest;
    }
    const float inverse = largest > 1e-35f && largest < INFINITY ? 127.0f / largest : 0.0f;
    for (int i = 0; i < count; i++) out[i * stride] = inverse != 0.0f ? (int8_t)lrintf(x[i] * inverse) : 0;
    return largest / 127.0f;  // not finite: all that is made of it is neither
}

INLINE float *scales_of(const uint8_t *block, int padded_dim) {  // of int8: BLOCK of keys, then BLOCK of values
    return (float *)(void *)(uintptr_t)(block + (size_t)2 * padded_dim * BLOCK);
}

typedef uint32_t pair __attribute__((may_alias));  // of bf16, the first in the low half

// Two features of a key are a pair; a value's feature is one half of a pair, `shift` bits up, with the neighbour's.
static void store_pairs(pair *keys, pair *values, const float *key, const float *value, int shift, int head_dim) {
    uint16_t rounded[MAX_HEAD_DIM + 1];
    for (int i = 0; i < head_dim; i++) rounded[i] = bf16_of(key[i]);
    rounded[head_dim] = 0;
    for (int i = 0; i < (head_dim + 1) / 2; i++) keys[i * BLOCK] = rounded[2 * i] | (pair)rounded[2 * i + 1] << 16;
    for (int i = 0; i < head_dim; i++) values[i] = (values[i] & ~((pair)0xffff << shift)) | (pair)bf16_of(value[i]) << shift;
}

static void store_position(uint8_t *block, const float *key, const float *value, int slot, int head_dim, int padded_dim,
                           cache_kind kind) {
    const size_t count = (size_t)padded_dim * BLOCK;  // of keys, and of values
    if (slot == 0) memset(block, 0, head_bytes_of(kind, padded_dim));  // what an earlier owner left could be infinite
    if (kind == CACHE_F32) {
        float *keys = (float *)(void *)block, *values = keys + count;
        for (int i = 0; i < head_dim; i++) keys[i * BLOCK + slot] = key[i];
        memcpy(values + (size_t)slot * padded_dim, value, (size_t)head_dim * 4);
        return;
    }
    if (kind == CACHE_INT8) {
        int8_t *keys = (int8_t *)block, *values = keys + count;
        scales_of(block, padded_dim)[slot] = store_rounded(keys + slot, BLOCK, key, head_dim);
        scales_of(block, padded_dim)[BLOCK + slot] = store_rounded(values + (size_t)slot * padded_dim, 1, value, head_dim);
        return;
    }
    store_pairs((pair *)(void *)block + slot, (pair *)(void *)block + count / 2 + (size_t)(slot / 2) * padded_dim, key, value,
                slot % 2 ? 16 : 0, head_dim);
}

static const float HIDDEN = -1e30f, LOG2_E = 1.44269504f;  // scores are powers of two

typedef struct { float f32[MAX_HEAD_DIM]; uint16_t bf16[MAX_HEAD_DIM]; } scaled_query;

// Keys of one feature, or values of one position: 16 of them, from index `at` of the block's numbers on.
INLINE vec load_kept(const uint8_t *numbers, size_t at, const cache_kind kind) {
    return kind == CACHE_INT8 ? load_signed(numbers + at) : load((const float *)(const void *)(numbers + 4 * at));
}

INLINE vec score_block(const uint8_t *block, const scaled_query *q, int padded_dim, const cache_kind kind) {
    vec score = splat(0.0f);
    if (kind != CACHE_BF16) {
        for (int i = 0; i < padded_dim; i++)
            score = fma16(load_kept(block, (size_t)i * BLOCK, kind), splat(q->f32[i]), score);
        return kind == CACHE_INT8 ? mul(score, load(scales_of(block, padded_dim))) : score;
    }
    for (int i = 0; i < padded_dim / 2; i++) {
        const ivec pairs = load_bytes(block + 64 * i);
#if defined(BF16_PRODUCTS)
        score = dot_bf16(score, pairs, two_columns(q->bf16 + 2 * i));
#else
        score = fma16(second_of_pairs(pairs), splat(q->f32[2 * i + 1]),
                      fma16(first_of_pairs(pairs), splat(q->f32[2 * i]), score));
#endif
    }
    return score;
}

// What a query makes of its products with the 16 keys of a block: capped or biased, hidden outside of what it sees.
INLINE vec scored(const attention_tile *tile, int query, int b, vec score) {
    const int start = b * BLOCK, first = tile->first[query] - start;
    if (tile->softcap != 0.0f) {
        score = mul(tanh_of_half(score), splat(tile->softcap * LOG2_E));
    } else if (tile->slope[query] != 0.0f) {  // ALiBi; before the scale as Falcon was trained: products of bf16, in bf16
        float bias[BLOCK];
        for (int p = 0; p < BLOCK; p++)
            bias[p] = tile->alibi_after ? tile->slope[query] * (float)(start + p)
                                        : rounded_to_bf16(tile->slope[query] * rounded_to_bf16((float)(start + p)));
        score = fma16(load(bias), splat(tile->alibi_after ? LOG2_E : tile->scale * LOG2_E), score);
    }
    score = mask_after(score, tile->position[query] - start, HIDDEN);
    if (first <= 0) return score;
    float lanes[BLOCK];
    store(lanes, score);
    for (int p = 0; p < first && p < BLOCK; p++) lanes[p] = HIDDEN;
    return load(lanes);
}

// The block after b, asked for while b is computed: blocks lie anywhere, and no processor guesses where the next one does.
INLINE const uint8_t *block_after(const attention_tile *tile, int b, int end) {
    return tile->cache + (size_t)tile->blocks[b + 1 < end ? b + 1 : b] * tile->block_bytes;
}

INLINE void scores_of(attention_tile *tile, int first, const int count, const cache_kind kind, const scaled_query *q, int begin,
                      int end, vec *largest) {
    for (int b = begin; b < end; b++) {
        const uint8_t *block = tile->cache + (size_t)tile->blocks[b] * tile->block_bytes;
        const uint8_t *following = block_after(tile, b, end);
        vec score[4];
        if (kind != CACHE_BF16 || count == 1) {
            for (int i = 0; i < count; i++) score[i] = score_block(block, q + i, tile->padded_dim, kind);
        } else {
            for (int i = 0; i < count; i++) score[i] = splat(0.0f);
            for (int f = 0; f < tile->padded_dim / 2; f++) {  // one load of the keys serves all queries
                const ivec pairs = load_bytes(block + 64 * f);
                __builtin_prefetch(following + 64 * f);
                for (int i = 0; i < count; i++) {
#if defined(BF16_PRODUCTS)
                    score[i] = dot_bf16(score[i], pairs, two_columns(q[i].bf16 + 2 * f));
#else
                    score[i] = fma16(second_of_pairs(pairs), splat(q[i].f32[2 * f + 1]),
                                     fma16(first_of_pairs(pairs), splat(q[i].f32[2 * f]), score[i]));
#endif
                }
            }
        }
        for (int i = 0; i < count; i++) {
            const vec masked = scored(tile, first + i, b, score[i]);
            largest[i] = maximum(largest[i], masked);
            store(tile->scores + (size_t)(first + i) * tile->score_stride + (size_t)b * BLOCK, masked);
        }
    }
}

INLINE int weights_as_bf16(const cache_kind kind) {
#if defined(BF16_PRODUCTS)
    return kind == CACHE_BF16;
#else
    return (void)kind, 0;
#endif
}

INLINE vec exp2_or_zero(vec x) {  // x <= 0; exactly 0 below 2^-100, masked positions among them
    const vec e = exp2_of(x);
    return sub(maximum(e, splat(0x1p-100f)), splat(0x1p-100f));
}

// The weights of query i, not yet divided by their sum; returns 1 / sum. A sink takes a share that goes to no value.
INLINE float softmax_of(attention_tile *tile, int i, int begin, int end, vec largest, const cache_kind kind) {
    float *scores = tile->scores + (size_t)i * tile->score_stride, most = max_lanes(largest);
    if (tile->sinks && tile->sink[i] > most) most = tile->sink[i];
    const vec shift = splat(most);
    vec sum = splat(0.0f);
    if (tile->sinks) sum = mask_after(exp2_or_zero(sub(splat(tile->sink[i]), shift)), 0, 0.0f);
    for (int b = begin; b < end; b++) {
        vec e = exp2_or_zero(sub(load(scores + (size_t)b * BLOCK), shift));
        sum = add(sum, e);
        if (kind == CACHE_INT8)
            e = mul(e, load(scales_of(tile->cache + (size_t)tile->blocks[b] * tile->block_bytes, tile->padded_dim) + BLOCK));
        if (weights_as_bf16(kind)) store_bf16((uint16_t *)(void *)scores + (size_t)b * BLOCK, e);  // behind the reads
        else store(scores + (size_t)b * BLOCK, e);
    }
    return 1.0f / sum_lanes(sum);
}

INLINE void mix_columns(attention_tile *tile, int query, const int count, const int columns, int column,
                        const cache_kind kind, int begin, int end, vec (*mixed)[4]) {
    for (int i = 0; i < count; i++)
        for (int j = 0; j < columns; j++) mixed[i][j] = splat(0.0f);
    for (int b = begin; b < end; b++) {
        const size_t keys_bytes = (size_t)tile->padded_dim * BLOCK * (kind == CACHE_F32 ? 4 : kind == CACHE_BF16 ? 2 : 1);
        const uint8_t *values = tile->cache + (size_t)tile->blocks[b] * tile->block_bytes + keys_bytes;
        const uint8_t *following = block_after(tile, b, end) + keys_bytes;
        for (int p = 0; p < (kind == CACHE_BF16 ? BLOCK / 2 : BLOCK); p++) {
            const size_t line = (size_t)p * tile->padded_dim + (size_t)column * 16;
            for (int j = 0; j < columns; j++) {
                for (int i = 0; i < count; i++) {
                    const float *weights = tile->scores + (size_t)(query + i) * tile->score_stride;
                    if (kind != CACHE_BF16) {
                        mixed[i][j] = fma16(load_kept(values, line + 16 * (size_t)j, kind),
                                            splat(weights[(size_t)b * BLOCK + p]), mixed[i][j]);
                        continue;
                    }
                    const ivec pairs = load_bytes(values + 4 * line + 64 * j);
                    if (i == 0) __builtin_prefetch(following + 4 * line + 64 * j);
#if defined(BF16_PRODUCTS)
                    const uint16_t *pair = (const uint16_t *)(const void *)weights + (size_t)b * BLOCK + 2 * p;
                    mixed[i][j] = dot_bf16(mixed[i][j], pairs, two_columns(pair));
#else
                    const float *pair = weights + (size_t)b * BLOCK + 2 * p;
                    mixed[i][j] = fma16(second_of_pairs(pairs), splat(pair[1]),
                                        fma16(first_of_pairs(pairs), splat(pair[0]), mixed[i][j]));
#endif
                }
            }
        }
    }
}

INLINE void put_mixed(attention_tile *tile, int query, int column, vec y) {  // 16 features, or what is left of the head
    const int at = column * 16, rest = tile->head_dim - at;
    if (rest >= 16) {
        store(tile->out[query] + at, y);
    } else if (rest > 0) {
        float last[16];
        store(last, y);
        memcpy(tile->out[query] + at, last, (size_t)rest * 4);
    }
}

INLINE void mix_values(attention_tile *tile, int query, const int count, const int columns, int column, const cache_kind kind,
                       int begin, int end, const float *inverse) {
    vec mixed[4][4];
    mix_columns(tile, query, count, columns, column, kind, begin, end, mixed);
    for (int i = 0; i < count; i++)
        for (int j = 0; j < columns; j++) put_mixed(tile, query + i, column + j, mul(mixed[i][j], splat(inverse[i])));
}

// Query i times the scale of its scores, padded; out: padded_dim floats.
INLINE void scale_query(const attention_tile *tile, int i, float *out) {
    const float scale = tile->softcap != 0.0f ? 2 * LOG2_E * tile->scale / tile->softcap : LOG2_E * tile->scale;
    memset(out + tile->head_dim, 0, (size_t)(tile->padded_dim - tile->head_dim) * 4);
    for (int f = 0; f < tile->head_dim; f++) out[f] = tile->query[i][f] * scale;
}

INLINE void blocks_seen(const attention_tile *tile, int first, int count, int *begin, int *end) {  // by any of the queries
    int last = 0, first_seen = tile->first[first];
    for (int i = first; i < first + count; i++) {
        if (tile->position[i] > last) last = tile->position[i];
        if (tile->first[i] < first_seen) first_seen = tile->first[i];
    }
    *begin = first_seen / BLOCK;
    *end = last / BLOCK + 1;
}

INLINE void attend_some(attention_tile *tile, int first, const int count, const cache_kind kind) {
    scaled_query q[4];
    vec largest[4];
    float inverse[4];
    const int columns = tile->padded_dim / 16;
    int begin, end;
    blocks_seen(tile, first, count, &begin, &end);
    for (int i = 0; i < count; i++) {
        scale_query(tile, first + i, q[i].f32);
        for (int f = 0; f < tile->padded_dim; f += 16) store_bf16(q[i].bf16 + f, load(q[i].f32 + f));
        largest[i] = splat(HIDDEN);
    }
    scores_of(tile, first, count, kind, q, begin, end, largest);
    for (int i = 0; i < count; i++) inverse[i] = softmax_of(tile, first + i, begin, end, largest[i], kind);
    int column = 0;
    for (; column + 4 <= columns; column += 4) mix_values(tile, first, count, 4, column, kind, begin, end, inverse);
    for (; column < columns; column++) mix_values(tile, first, count, 1, column, kind, begin, end, inverse);
}

INLINE void attend_as(attention_tile *tile, const cache_kind kind) {
    int i = 0;
    for (; i + 4 <= tile->count; i += 4) attend_some(tile, i, 4, kind);
    if (tile->count - i == 3) attend_some(tile, i, 3, kind);
    else if (tile->count - i == 2) attend_some(tile, i, 2, kind);
    else if (tile->count - i == 1) attend_some(tile, i, 1, kind);
}

#if defined(TILE_PRODUCTS)
#include "attention_tiles.inc.h"
#else
INLINE void attend_in_tiles(attention_tile *tile) { attend_as(tile, CACHE_BF16); }
#endif

static void attend(attention_tile *tile) {
    if (tile->kind == CACHE_F32) attend_as(tile, CACHE_F32);
    else if (tile->kind == CACHE_INT8) attend_as(tile, CACHE_INT8);
    else attend_in_tiles(tile);
}

#define LEVEL_TABLE(NAME, BF16_FORM)                                                                            \
    {.name = NAME,                                                                                              \
     .forms = {[F32] = AS_F32, [BF16] = BF16_FORM, [Q8_0 ... Q6_K] = AS_INT8, [INT8] = AS_TURNED},              \
     .normalize = normalize, .prepare = prepare, .multiply = multiply, .gate = gate, .cap = cap, .rotate = rotate, \
     .sum_weights = sum_weights, .store = store_position, .attend = attend}
