// Low-rank adapters (Hu et al. 2021, arXiv 2106.09685): of each token's own adapter, up (down x) is added to a product.
//
// Unusual: each thread makes down x for itself, a few tokens at a time: it is small, and a barrier would cost more. That is
// done once for each piece of a thread's share, so where there are adapters a share is one piece.
#include "step.h"

#include <string.h>

static activations from_token(const activations *a, int t) {  // rows t and on, in float32
    return (activations){.width = a->width, .f32 = a->f32 + (size_t)t * (size_t)a->width};
}

static void add_some(const share *w, const low_rank *pair, const activations *a, int t, int count, float *y, size_t stride,
                     int first, int end) {
    const activations x = from_token(a, t);
    activations low = {.width = pair->up.groups * GROUP, .f32 = w->m->low[w->thread]};
    memset(low.f32, 0, (size_t)count * (size_t)low.width * 4);
    w->m->level->multiply(&pair->down, &x, count, low.f32, (size_t)low.width, 0, 0, pair->down.panels);
    w->m->level->multiply(&pair->up, &low, count, y + (size_t)t * stride, stride, 1, first, end);
}

int adapter_forms(const share *w) { return w->s->adapter ? w->m->level->forms[F32] : 0; }

void adapt(const share *w, const layer *l, matrix_slot slot, const activations *a, float *y, size_t stride, int first, int end) {
    const step *s = w->s;
    if (!s->adapter) return;
    for (int t = 0, count; t < s->tokens; t += count) {
        for (count = 1; count < OWN_ROWS && t + count < s->tokens && s->adapter[t + count] == s->adapter[t]; count++) {}
        const low_rank *pair = s->adapter[t] < 0 ? NULL : &l->adapters[s->adapter[t] * ADAPTED + (int)slot];
        if (pair && pair->up.data) add_some(w, pair, a, t, count, y, stride, first, end);
    }
}

static int fill(model *m, matrix *target, const float *values, int32_t rows, int32_t columns) {
    matrix packed = {.encoding = F32, .rows = rows, .columns = columns,
                     .panels = (rows + PANEL - 1) / PANEL, .groups = (columns + GROUP - 1) / GROUP};
    packed.data = arena_take(&m->weights, (size_t)packed.panels * panel_bytes(F32, packed.groups));
    if (!packed.data) return -1;
    pack_panels(&packed, (const uint8_t *)(const void *)values, 0, packed.panels);
    *target = packed;
    return 0;
}

// down: (rank, columns), up: (rows, rank), its factor included.
EXPORT int32_t octavo_set_adapter(model *m, int32_t adapter, int32_t layer_index, int32_t slot, int32_t rank, int32_t rows,
                                  int32_t columns, const float *down, const float *up) {
    low_rank *pair = &m->layers[layer_index].adapters[adapter * ADAPTED + slot];
    return fill(m, &pair->down, down, rank, columns) || fill(m, &pair->up, up, rows, rank) ? -1 : 0;
}
