// Trees of guesses: many continuations of one text in one step, each token seeing those that lead to it and no other.
//
// Unusual: there is no mask in attention. A token's chain is copied, in the cache's own numbers, behind the text's last full
// block, as if the chain had been the text, so that it is read in the order in which it would be read alone: the same bits.
#include "step.h"

#include <string.h>

static void copy_strided(uint8_t *to, const uint8_t *from, int count, size_t stride, size_t size) {
    for (int i = 0; i < count; i++) memcpy(to + (size_t)i * stride, from + (size_t)i * stride, size);
}

// A position's key and value and, of int8, their scales, from one head's block to another, as store_position lays them.
static void copy_position(cache_kind kind, int dim, uint8_t *to, int to_slot, const uint8_t *from, int from_slot) {
    const size_t size = kind == CACHE_F32 ? 4 : kind == CACHE_BF16 ? 2 : 1, count = (size_t)dim * BLOCK * size;
    if (to_slot == 0 && to != from) memset(to, 0, head_bytes_of(kind, dim));
    if (kind == CACHE_BF16) {  // features and positions lie in pairs
        copy_strided(to + 4 * to_slot, from + 4 * from_slot, dim / 2, 4 * BLOCK, 4);
        uint8_t *values = to + count + (size_t)(to_slot / 2) * dim * 4 + 2 * (to_slot % 2);
        copy_strided(values, from + count + (size_t)(from_slot / 2) * dim * 4 + 2 * (from_slot % 2), dim, 4, 2);
        return;
    }
    copy_strided(to + to_slot * size, from + from_slot * size, dim, BLOCK * size, size);
    memcpy(to + count + (size_t)to_slot * dim * size, from + count + (size_t)from_slot * dim * size, (size_t)dim * size);
    if (kind == CACHE_INT8)
        copy_strided(to + 2 * count + 4 * to_slot, from + 2 * count + 4 * from_slot, 2, 4 * BLOCK, 4);
}

const int32_t *chain_of(const share *w, int index, int head, int t) {
    const model *m = w->m;
    const step *s = w->s;
    const int32_t *table = s->tables + (size_t)s->row[t] * s->table_width;
    int32_t *chain = m->chain_tables[w->thread];
    int32_t path[MAX_TREE + 1];
    int length = 0;
    for (int at = t;; at = s->parent[at]) {
        path[length++] = at;
        if (s->parent[at] == at) break;
    }
    uint8_t *base = cache_of(m, index, head);
    const int start = s->position[path[length - 1]], first = start / BLOCK;
    const int own = m->shape.num_blocks + w->thread * TREE_BLOCKS;
    memcpy(chain, table, (size_t)first * 4);
    for (int b = 0; b <= s->position[t] / BLOCK - first; b++) chain[first + b] = own + b;
    if (start % BLOCK) memcpy(base + (size_t)own * m->block_bytes, base + (size_t)table[first] * m->block_bytes, m->head_bytes);
    for (int i = length - 1; i >= 0; i--) {
        const int position = s->position[path[i]], slot = s->slot[path[i]];
        copy_position((cache_kind)m->shape.cache, m->padded_dim, base + (size_t)chain[position / BLOCK] * m->block_bytes,
                      position % BLOCK, base + (size_t)table[slot / BLOCK] * m->block_bytes, slot % BLOCK);
    }
    return chain;
}

// Moves what lies at slots from[i] of a row to slots start + i, in all layers; from ascends and is nowhere below its target.
EXPORT void octavo_move(model *m, const int32_t *table, int32_t start, const int32_t *from, int32_t count) {
    for (int i = 0; i < count; i++) {
        const int target = start + i;
        if (from[i] == target) continue;
        uint8_t *to = m->cache + (size_t)table[target / BLOCK] * m->block_bytes;
        const uint8_t *origin = m->cache + (size_t)table[from[i] / BLOCK] * m->block_bytes;
        for (size_t at = 0; at < m->block_bytes; at += m->head_bytes)
            copy_position((cache_kind)m->shape.cache, m->padded_dim, to + at, target % BLOCK, origin + at, from[i] % BLOCK);
    }
}
