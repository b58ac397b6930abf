// A step as its parts see it: step.c runs the layers, attend.c mixes values, tree.c lays out the chains of a tree, feed.c is
// the MLP of a layer, moe.c its experts.
#ifndef OCTAVO_STEP_H
#define OCTAVO_STEP_H

#include "kernels.h"

typedef struct {  // the same fields in the same order as binding.Step
    int32_t tokens, wanted, rows, table_width, embeddings;
    const int32_t *token, *row, *position;  // (tokens,): id, index of its row's block table, position
    const int32_t *slot;                    // (tokens,): where in its row's blocks its key and value go
    const int32_t *adapter;                 // (tokens,) or NULL: the adapter of its row, or -1
    const int32_t *parent;                  // (tokens,) or NULL: of a tree's token the one before it, its own if first; or -1
    const int32_t *tables;                  // (rows, table_width) block ids
    const int32_t *wanted_tokens;           // (wanted,) ascending indices into the tokens
    const int32_t *embedded;                // (tokens,) or NULL: which row of `embedding` it is instead of its id's, or -1
    const float *embedding;                 // (embeddings, hidden_size)
    float *logits, *hidden;                 // (wanted, vocab_size); (wanted, hidden_size) or NULL
} step;

typedef struct { model *m; const step *s; int thread, threads, one_token_rows; } share;

INLINE void barrier(const share *w) { pool_barrier(w->m->pool, w->thread); }

// For each h of this thread's share of `count` units: h.first .. h.end. Adapters want it in one piece (lora.c).
#define EACH_HAND(h, w, count) \
    hand h = pool_deal((w)->m->pool, (w)->thread, count, (w)->s->adapter != NULL); h.first < h.end; pool_next((w)->m->pool, &h)

// Whether units at .. at + count are among h's; *first .. *end: which of them.
INLINE int overlaps(const hand *h, int at, int count, int *first, int *end) {
    *first = h->first > at ? h->first - at : 0;
    *end = h->end - at < count ? h->end - at : count;
    return *first < *end;
}

INLINE int part(int n, int thread, int threads) { return (int)((int64_t)n * thread / threads); }
INLINE const norm *norm_of(const layer *l, norm_slot slot) { return l->norms[slot].weight ? &l->norms[slot] : NULL; }

// The rows x[index[t]] (or x[t]) in the forms asked, normalised first when n is given.
const activations *prepared(const share *w, const float *x, int width, const int32_t *index, int tokens, const norm *n,
                            int forms, float *hidden);

// y = m a, or y += m a, on panels first .. end.
void multiply_panels(const share *w, const matrix *m, const activations *a, int tokens, float *y, size_t stride, int add, int first,
                     int end);

// y = m a, shared by the panels; ends without a barrier.
void multiply_all(const share *w, const matrix *m, const activations *a, int tokens, float *y, size_t stride);

// x += the layer's matrix times a, normalised and scaled as the layer has it; ends without a barrier.
void add_sublayer(const share *w, const layer *l, matrix_slot slot, const activations *a, const norm *n);

// y = a layer's matrix times a, or y += that, with what the tokens' adapters add, on panels first .. end.
void multiply_some(const share *w, const layer *l, matrix_slot slot, const activations *a, float *y, size_t stride, int add,
                   int first, int end);

// y += what the tokens' adapters add to the product with the layer's matrix, on panels first .. end; it reads these forms.
void adapt(const share *w, const layer *l, matrix_slot slot, const activations *a, float *y, size_t stride, int first, int end);
int adapter_forms(const share *w);

// The same for a sublayer that writes itself: to x (adding) if `adds_to_x`, else to the branch, and then settles.
int adds_to_x(const share *w, const norm *n);
void settle(const share *w, const norm *n);

// gate = act(gate) * up on panels first .. end; rows of `stride`.
void activate(const share *w, const layer *l, float *gate_rows, float *up_rows, int tokens, size_t stride, int first, int end);

// Whether token t goes on from the one before it: the next of a chain, or of one branch of a tree.
INLINE int goes_on(const step *s, int t) {
    return s->row[t] == s->row[t - 1] && (!s->parent || s->parent[t] < 0 || s->parent[t] == t - 1);
}

// The block table of a tree's token t for one KV head: its row's, then blocks of this thread with the chain up to t.
const int32_t *chain_of(const share *w, int index, int head, int t);

INLINE uint8_t *cache_of(const model *m, int index, int head) {  // in block 0
    return m->cache + ((size_t)index * m->shape.num_kv_heads + (size_t)head) * m->head_bytes;
}

int latent_forms(const share *w, const layer *l);  // which forms latent attention reads
void latent_in(const share *w, const layer *l, const activations *a);   // a -> q, k; ends without a barrier
const float *latent_out(const share *w, const layer *l);                // attended -> rows of mixed_width, for `o`

void attention(const share *w, const layer *l, int index);  // q, k, v -> attended; ends without a barrier

int feed_forms(const share *w, const layer *l);             // which forms the MLP reads
void feed_in(const share *w, const layer *l, const activations *a);  // ends without a barrier
void feed_out(const share *w, const layer *l);

int experts_forms(const share *w, const layer *l);
void experts_in(const share *w, const layer *l, const activations *a);
void experts_out(const share *w, const layer *l);

#endif
