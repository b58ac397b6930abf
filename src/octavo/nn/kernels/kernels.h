// What the kernel files share: packed matrices, prepared activations, the table of one instruction set, a model.
//
// Words: a panel is 16 output rows side by side, a group is 32 columns of it; every width is padded with zeros to whole
// panels and groups. A level is one instruction set (c, avx2, avx512 …); all levels read the same packed weights.
#ifndef OCTAVO_KERNELS_H
#define OCTAVO_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "packed weights are little-endian"
#endif

#if defined(__x86_64__) && defined(__linux__) && (defined(__clang__) || __GNUC__ >= 11)
#define HAS_AMX  // the assembler knows it, and the system can be asked for it
#endif
#if defined(__x86_64__) && (defined(__clang__) || __GNUC__ >= 11)
#define HAS_AVX_VNNI
#endif
#if defined(__aarch64__)
#define HAS_NEON_DOTS
#endif

#define INLINE static inline __attribute__((always_inline))
#define EXPORT __attribute__((visibility("default")))

enum { PANEL = 16, GROUP = 32, BLOCK = 16 };              // rows, columns, positions of a KV block
enum { WEIGHTS = 256 };  // of a vocabulary, summed together
enum { MAX_TOKENS = 512, OWN_ROWS = 8, MAX_QUERIES = 12 };  // of a step; prepared by each thread itself; of an attention tile
enum { MAX_HEAD_DIM = 576 };  // DeepSeek's latent vector and what turns
enum { MAX_TREE = 64, TREE_BLOCKS = (BLOCK + MAX_TREE) / BLOCK };  // guesses after a tree's first token; of its longest chain

typedef enum { F32, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K, INT8, ENCODINGS } encoding;
typedef enum { NORM_RMS, NORM_LAYER } norm_kind;
typedef enum { SILU, GELU, GELU_TANH, RELU, QUICK_GELU, RELU_SQUARED, XIELU } activation_kind;  // xIELU: in feed.c alone
typedef enum { CACHE_BF16, CACHE_F32, CACHE_INT8 } cache_kind;
typedef enum { QK_NONE, QK_HEAD, QK_PER_HEAD, QK_FULL, QK_TURNED } qk_norm_kind;  // one weight for all heads, one each, one
// vector; TURNED: as HEAD, where heads turn
enum { AS_INT8 = 1, AS_BF16 = 2, AS_F32 = 4, AS_TURNED = 8 };  // forms of an activation row, a bit each

// ------------------------------------------------------------------------------------------------ memory (memory.c)
typedef struct region { struct region *next; void *base; size_t bytes, used; int mapped; } region;
typedef struct { region *first; int huge; } arena;  // huge: ask for 2 MiB pages

void *arena_take(arena *a, size_t bytes);  // zeroed, aligned to 64 bytes, untouched until used; NULL when there is none
void arena_free(arena *a);

// ------------------------------------------------------------------------------------------- packed weights (packing.c)
typedef struct {
    encoding encoding;
    int rows, columns;   // without padding
    int panels, groups;
    uint8_t *data;       // panels x panel_bytes; NULL: not packed
    float *bias;         // panels x PANEL, or NULL
    int borrowed;        // data is the caller's, and read-only
    const uint8_t *rows_as_stored;  // dense, the caller's: packed a few panels at a time by each product; else NULL
} matrix;

enum { PACKED_BYTES = 1 << 17 };  // of panels at once, where a product packs them itself: they stay in the second-level cache
enum { PACKING = 3 };  // raised whenever packed bytes change their meaning: files of another number are packed anew

typedef struct { size_t group, head; int span; } layout;  // bytes of a group, and of the head that `span` groups share

INLINE layout layout_of(const encoding e) {  // a constant where it is inlined; packing.c says what is where
    switch (e) {
    case F32: return (layout){2048, 0, 1};
    case BF16: return (layout){1024, 0, 1};
    case Q8_0: return (layout){544, 0, 1};
    case Q4_0: return (layout){288, 0, 1};
    case Q4_1: return (layout){320, 0, 1};
    case Q5_0: return (layout){352, 0, 1};
    case Q5_1: return (layout){384, 0, 1};
    case Q4_K: return (layout){288, 64, 8};
    case Q5_K: return (layout){352, 64, 8};
    case Q6_K: return (layout){416, 32, 8};
    default: return (layout){512, 64, 1 << 24};  // INT8: one head a panel
    }
}

INLINE int is_set(const matrix *m) { return m->data || m->rows_as_stored; }

INLINE size_t panel_bytes(const encoding e, int groups) {
    const layout l = layout_of(e);
    return (size_t)groups * l.group + (size_t)((groups + l.span - 1) / l.span) * l.head;
}

size_t source_row_bytes(encoding e, int columns);
void pack_panels(const matrix *m, const uint8_t *source, int first, int end);
void lookup_row(const matrix *m, int row, float *out);  // writes `columns` floats
void turn_group(float *x);  // GROUP floats (quantize.c)

// --------------------------------------------------------------------------------------------- activations, levels
typedef struct {  // rows of `width` features (whole groups), each in the forms that its matrices read
    int width;
    int8_t *int8;            // absmax / 127 a group
    float *scale, *scaled_sum;  // a group: the scale, and scale x sum
    int32_t *sum, *first_sum;   // a group: the sum of its int8, and of its first 16
    int8_t *turned;             // int8 of turned groups, with their own scales and sums
    float *turned_scale;
    int32_t *turned_sum;
    uint16_t *bf16;
    float *f32;
} activations;

INLINE size_t head_bytes_of(cache_kind kind, int padded_dim) {  // keys and values of one head in one block, with scales
    const size_t numbers = (size_t)2 * padded_dim * BLOCK;
    return kind == CACHE_F32 ? numbers * 4 : kind == CACHE_BF16 ? numbers * 2 : numbers + 2 * BLOCK * sizeof(float);
}

typedef struct { norm_kind kind; float eps; const float *weight, *bias; } norm;

typedef struct {  // up to MAX_QUERIES queries that share one KV head of one row
    int count, head_dim, padded_dim;
    int alibi_after, sinks;  // slopes are added to scaled scores, not before; there are sinks
    cache_kind kind;
    float scale;
    float softcap;          // of the scores, or 0
    const float *query[MAX_QUERIES];
    float *out[MAX_QUERIES];
    float slope[MAX_QUERIES], sink[MAX_QUERIES];  // of ALiBi, or 0; the score of seeing nothing
    int position[MAX_QUERIES], first[MAX_QUERIES];  // the last and the first position that a query sees
    const uint8_t *cache;   // this layer's and head's keys and values in block 0; block b lies b * block_bytes further
    size_t block_bytes;
    const int32_t *blocks;  // the row's block table
    float *scores;          // MAX_QUERIES x score_stride
    size_t score_stride;    // a multiple of BLOCK
} attention_tile;

typedef struct {
    const char *name;
    int forms[ENCODINGS];  // which form of the activations a matrix of each encoding reads
    void (*normalize)(const norm *n, const float *x, int width, float *out);
    void (*prepare)(activations *a, int row, const float *x, int forms);
    void (*multiply)(const matrix *m, const activations *a, int tokens, float *y, size_t stride, int add, int first, int end);
    void (*gate)(float *gate, const float *up, int count, activation_kind kind, float limit);  // up may be NULL: act(gate)
    void (*cap)(float *x, int count, float scale, float softcap);  // softcap tanh(scale x / softcap), or scale x
    float (*sum_weights)(const float *logits, int count, float scale, float *sums);  // a sum for each WEIGHTS; the largest
    void (*rotate)(float *head, const float *cos_sin, int rotary_dim);
    void (*store)(uint8_t *block, const float *key, const float *value, int slot, int head_dim, int padded_dim,
                  cache_kind kind);
    void (*attend)(attention_tile *tile);
} level;

const level *level_of(int32_t bit);  // levels.c; NULL for what this machine's family lacks
extern const level level_c;
#if defined(__x86_64__)
extern const level level_avx2, level_avx512vnni, level_avx512;
#endif
#if defined(HAS_AVX_VNNI)
extern const level level_avxvnni;
#endif
#if defined(HAS_AMX)
extern const level level_amx;
#endif
#if defined(HAS_NEON_DOTS)
extern const level level_neon;
#endif

// -------------------------------------------------------------------------------------------------- threads (threads.c)
typedef struct pool pool;
typedef void (*pool_work)(void *argument, int thread);

pool *pool_create(int threads);
int pool_run(pool *p, pool_work work, void *argument);  // on all threads, the caller's is 0; 0 unless threads are missing
int pool_run_elastic(pool *p, pool_work work, void *argument);  // on as many as get their processors, at most all
int pool_working(const pool *p);                                // on how many, during the work

// A share of `count` units of work: half of them, or all when `even`, is dealt out beforehand, evenly and always alike, and
// the rest as threads come free. All threads deal alike between two barriers, DEALS times at most.
//     for (hand h = pool_deal(p, thread, count, 0); h.first < h.end; pool_next(p, &h)) units h.first .. h.end
typedef struct { int first, end, count, dealt, deal; } hand;
enum { DEALS = 8 };
hand pool_deal(pool *p, int thread, int count, int even);
void pool_next(pool *p, hand *h);
void pool_barrier(pool *p, int thread);
int pool_threads(const pool *p);
void pool_destroy(pool *p);

// ---------------------------------------------------------------------------------------------------- the model (model.c)
typedef enum { SOFTMAX, SIGMOID, SPARSE_MIXER } scoring_kind;
typedef struct {  // binding.MoeShape: a mixture of experts; experts 0: there is none
    int32_t experts, experts_per_token, expert_size, shared_size, shared_gated, scoring, normalise, scale_input;
    int32_t groups, groups_kept, group_top;
    float scale, jitter;
} moe_shape;

typedef struct {  // binding.LatentShape: latent attention; kv_rank 0: there is none; a head's key has what is kept, then what turns
    int32_t kv_rank, q_rank, rotary_dim, kept_dim, value_dim;
    float eps;
} latent_shape;

typedef struct {  // the same fields in the same order as binding.Shape; a soft cap of 0 is none
    int32_t vocab_size, hidden_size, num_layers, context_length, num_heads, num_kv_heads, head_dim;
    int32_t intermediate_size, gated, activation, norm_kind, qk_norm, qk_norm_after, parallel, post, alibi_after;
    int32_t num_rotaries, num_blocks, threads, level, cache, num_adapters, adapter_rank;
    int32_t output_gate, chunked, growth_length, growth_first, growth_turned;  // chunked: windows are; growth of queries: none if 0
    float norm_eps, attention_scale, attention_softcap, attention_clip;
    float embedding_scale, residual_scale, logit_scale, logit_softcap, mlp_limit, growth;
    moe_shape moe;
    latent_shape latent;  // head_dim and num_kv_heads are those of the kept keys then: kv_rank and what turns, and one
} model_shape;

typedef struct { int32_t rotary, window, moe; } layer_shape;  // binding.LayerShape: an index or -1; positions seen, 0: all
typedef struct { int32_t dim; float factor; const double *frequencies; } rotary_shape;  // binding.RotaryShape

typedef enum {
    Q, K, V, O, GATE, UP, DOWN, ROUTER, SHARED_GATE, Q_A, OUTPUT_GATE, EMBED, POSITIONS, HEAD, EXPERTS  // then 3 an expert; the shared is last
} matrix_slot;  // latent attention: Q is of the queries' rank, K makes the latent vector and V what turns; HEADS: 2 a head
enum { HEADS = 1 << 20 };
typedef enum {
    ATTENTION_NORM, ATTENTION_OUTPUT_NORM, MLP_NORM, MLP_OUTPUT_NORM, Q_NORM, K_NORM, FINAL_NORM, EMBED_NORM
} norm_slot;
typedef enum { CORRECTION, SINKS, ALPHA_P, ALPHA_N, VECTORS } vector_slot;
enum { MATRICES_OF_LAYER = 11, NORMS_OF_LAYER = 6, ADAPTED = 7 };  // the first ADAPTED matrices may have adapters

typedef struct { matrix matrices[3]; } expert;  // gate, up, down
typedef struct { matrix key, value; } latent_head;  // from what is kept of a query; to the head's output
typedef struct { matrix down, up; } low_rank;   // an adapter of one matrix; without data: there is none

typedef struct {
    layer_shape shape;
    matrix matrices[MATRICES_OF_LAYER];
    norm norms[NORMS_OF_LAYER];
    expert *experts;
    latent_head *heads;  // of latent attention, or NULL
    low_rank *adapters;  // ADAPTED for each adapter
    float *vectors[VECTORS];  // or NULL. CORRECTION: added to the experts' scores for the choice alone; SINKS: a head's
                              // score of seeing nothing, in powers of two; ALPHA_P, ALPHA_N: the two numbers of xIELU
} layer;

typedef struct {         // which token goes to which experts: pairs of both, by expert and then by token
    int32_t *first;      // an expert: its first pair; one more: the number of pairs
    int32_t *token;      // a pair: its token
    int32_t *pair;       // a token's place: the pair, experts ascending
    float *weight;       // the same: the expert's share
    float *input;        // a pair: what its token is multiplied by before the expert, where scores are of inputs
    float *scores, *ranks;  // an expert
} routing;

typedef struct {
    int dim, filled;      // features that turn; positions whose turns are known
    float factor;         // of cosines and sines
    double *frequencies;  // dim / 2 radians a position
    float *turns;         // context x (dim / 2 cosines, then sines)
} rotary;

typedef struct {
    model_shape shape;
    const level *level;
    pool *pool;
    arena weights, work;
    layer *layers;
    matrix embed, positions, head;  // head.data is embed.data when tied; positions.data NULL: there is no table
    norm final_norm, embed_norm;
    rotary *rotaries;
    float *slopes;                  // of ALiBi, one a head, or NULL
    int padded_dim;                 // head_dim in whole vectors
    uint8_t *cache;                 // [block][layer][KV head][keys, values]; behind them TREE_BLOCKS a thread for trees
    int32_t **chain_tables;         // a thread: the block table of a chain in a tree
    arena cache_arena;
    size_t head_bytes, block_bytes;
    int hidden_width, q_width, kv_width, mlp_width;  // padded
    float *x, *branch, *q, *k, *v, *attended, *output_gate, *gate, *up;  // MAX_TOKENS rows each
    activations shared, *views;     // MAX_TOKENS rows; the same a thread
    activations *own;               // OWN_ROWS rows a thread
    int q_rank_width, query_width, mixed_width;  // of latent attention, padded
    float *low_queries, *queries, *mixed;        // MAX_TOKENS rows each
    float **scratch, **scores;      // a thread
    uint8_t **packed;               // a thread: PACKED_BYTES, or one panel where that is more
    float **low;                    // a thread: OWN_ROWS rows between the two matrices of an adapter
    int expert_width, shared_width;  // padded
    float *router_logits, *shared_gates;  // MAX_TOKENS rows
    float *expert_out;              // a row of hidden_width a pair, then MAX_TOKENS of the shared expert
    activations pairs, *own_pairs;  // of MAX_TOKENS tokens; of OWN_ROWS a thread
    routing *routings;              // a thread
    size_t score_stride;
    int whole;                      // every matrix and norm that a step reads has been seen to be set
} model;

int is_whole(const model *m);  // checks.c

#endif
