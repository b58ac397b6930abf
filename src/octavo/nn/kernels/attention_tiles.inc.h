// Attention over bf16 keys and values by AMX tiles: up to MAX_QUERIES queries by 16 keys, or by 16 features, at a time.
//
// A block's layout (attention.inc.h) is that of a tile's second factor, so keys and values are loaded as they lie. Sums run in
// the tile's own order, each row's whatever the others are, so that one query alone goes this way as well.
enum { QUERY_BYTES = MAX_HEAD_DIM * 2, SCORE_TILES = 2 };

// Tiles 0-3: sums. 4 and 5: 32 features of queries and of keys; 6 and 7: 16 of them, or 16 positions' weights and values.
static void configure_attention(int queries) {
    tile_shapes shapes = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        shapes.column_bytes[i] = i == 6 ? 32 : 64;
        shapes.rows[i] = (uint8_t)(i == 5 ? 16 : i == 7 ? 8 : queries);
    }
    LOAD_SHAPES(shapes);
}

#define SCORE_KEYS(n, keys, out)                                                             \
    do {                                                                                     \
        int f = 0;                                                                           \
        ZERO_TILE(n);                                                                        \
        for (; f + 32 <= padded_dim; f += 32) {                                              \
            LOAD_TILE(4, q + f, QUERY_BYTES);                                                \
            LOAD_TILE(5, (keys) + 32 * f, 64);                                               \
            ADD_BF16(n, 4, 5);                                                               \
        }                                                                                    \
        if (f < padded_dim) {                                                                \
            LOAD_TILE(6, q + f, QUERY_BYTES);                                                \
            LOAD_TILE(7, (keys) + 32 * f, 64);                                               \
            ADD_BF16(n, 6, 7);                                                               \
        }                                                                                    \
        STORE_TILE(n, out, 64);                                                              \
    } while (0)

static void take_scores(attention_tile *tile, int b, float (*products)[16], vec *largest) {
    for (int i = 0; i < tile->count; i++) {
        const vec masked = scored(tile, i, b, load(products[i]));
        largest[i] = maximum(largest[i], masked);
        store(tile->scores + (size_t)i * tile->score_stride + (size_t)b * BLOCK, masked);
    }
}

// A block's products are made while the last one's are scored: what a tile stores can be read quickly only a while later.
static void score_in_tiles(attention_tile *tile, const uint16_t *q, int begin, int end, vec *largest) {
    _Alignas(64) float products[SCORE_TILES][MAX_QUERIES][16];
    const int padded_dim = tile->padded_dim;
    for (int b = begin; b < end; b++) {
        const uint8_t *keys = tile->cache + (size_t)tile->blocks[b] * tile->block_bytes, *following = block_after(tile, b, end);
        for (int line = 0; line < padded_dim / 2; line++) __builtin_prefetch(following + 64 * line);
        if (b % 2) SCORE_KEYS(1, keys, products[1]);
        else SCORE_KEYS(0, keys, products[0]);
        if (b > begin) take_scores(tile, b - 1, products[(b - 1) % 2], largest);
    }
    take_scores(tile, end - 1, products[(end - 1) % 2], largest);
}

#define ADD_VALUES(n)                                                          \
    if (n < columns) {                                                         \
        LOAD_TILE(7, values + 64 * n, 4 * (size_t)tile->padded_dim);           \
        ADD_BF16(n, 6, 7);                                                     \
    }

// `columns` (to 4) times 16 features from `column` on.
INLINE void mix_in_tiles(attention_tile *tile, int column, const int columns, int begin, int end, const float *inverse) {
    _Alignas(64) float mixed[4][MAX_QUERIES][16];
    const size_t keys_bytes = (size_t)tile->padded_dim * BLOCK * 2;
    ZERO_TILE(0);
    ZERO_TILE(1);
    ZERO_TILE(2);
    ZERO_TILE(3);
    for (int b = begin; b < end; b++) {
        const size_t at = keys_bytes + 64 * (size_t)column;
        const uint8_t *values = tile->cache + (size_t)tile->blocks[b] * tile->block_bytes + at;
        const uint8_t *following = block_after(tile, b, end) + at;
        for (int p = 0; p < BLOCK / 2; p++)
            for (int j = 0; j < columns; j++) __builtin_prefetch(following + 4 * (size_t)p * tile->padded_dim + 64 * j);
        LOAD_TILE(6, (const uint16_t *)(const void *)tile->scores + (size_t)b * BLOCK, 4 * tile->score_stride);
        ADD_VALUES(0)
        ADD_VALUES(1)
        ADD_VALUES(2)
        ADD_VALUES(3)
    }
    STORE_TILE(0, mixed[0], 64);
    STORE_TILE(1, mixed[1], 64);
    STORE_TILE(2, mixed[2], 64);
    STORE_TILE(3, mixed[3], 64);
    for (int i = 0; i < tile->count; i++)
        for (int j = 0; j < columns; j++) put_mixed(tile, i, column + j, mul(load(mixed[j][i]), splat(inverse[i])));
}

static void attend_in_tiles(attention_tile *tile) {
    _Alignas(64) uint16_t q[MAX_QUERIES][MAX_HEAD_DIM];
    vec largest[MAX_QUERIES];
    float inverse[MAX_QUERIES], scaled[MAX_HEAD_DIM];
    const int columns = tile->padded_dim / 16;
    int begin, end, column = 0;
    blocks_seen(tile, 0, tile->count, &begin, &end);
    for (int i = 0; i < tile->count; i++) {
        scale_query(tile, i, scaled);
        for (int f = 0; f < tile->padded_dim; f += 16) store_bf16(q[i] + f, load(scaled + f));
        largest[i] = splat(HIDDEN);
    }
    configure_attention(tile->count);
    score_in_tiles(tile, q[0], begin, end, largest);
    for (int i = 0; i < tile->count; i++) inverse[i] = softmax_of(tile, i, begin, end, largest[i], CACHE_BF16);
    for (; column + 4 <= columns; column += 4) mix_in_tiles(tile, column, 4, begin, end, inverse);
    for (; column < columns; column++) mix_in_tiles(tile, column, 1, begin, end, inverse);
    RELEASE_TILES();
}
