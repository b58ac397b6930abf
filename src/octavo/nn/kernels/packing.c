// Packing: 16 output rows side by side, so that a vector holds one small piece of each row and a product needs neither a
// shuffle nor a horizontal sum. Nothing is rounded: a packed matrix has the values of its source, bit for bit.
//
// A group (16 rows x 32 columns) begins with its numbers. Nibbles: 4 vectors of 64 bytes; byte 4r + e of vector c has row
// r's column 8c + e in the low nibble and 8c + 4 + e in the high one. Bytes: 8 vectors, byte 4r + e of vector c is row r's
// column 4c + e, plus 128. BF16: 16 vectors of column pairs. F32: 32 vectors of one column. Then, by encoding:
//   Q8_0         bytes, 16 f16 scales              Q4_0, Q4_1  nibbles, 16 f16 scales, (Q4_1) 16 f16 minima
//   Q5_0, Q5_1   as Q4, the fifth bits before the scales: bit c of byte 4r + e belongs to column 4c + e
//   Q4_K, Q5_K   nibbles, (Q5_K) fifth bits, 16 scales and 16 minima of a byte; 8 groups share a head before the first
//                of them: what those scales and minima count, as 16 f16 and, negated, 16 f16
//   Q6_K         nibbles, 2 vectors of high bits (bits 2f and 2f + 1 of vector v: columns 16v + 4f + e), 2 x 16 signed
//                scales, of 16 columns each; 8 groups share 16 f16
//   INT8         bytes, of turned groups (quantize.c); a panel begins with 16 fp32 scales
#include "kernels.h"

#include <string.h>

size_t source_row_bytes(encoding e, int columns) {
    static const size_t bytes[ENCODINGS] = {[F32] = 1024, [BF16] = 512, [Q8_0] = 272, [Q4_0] = 144, [Q4_1] = 160,
                                            [Q5_0] = 176, [Q5_1] = 192, [Q4_K] = 144, [Q5_K] = 176, [Q6_K] = 210};
    return e == INT8 ? 4 + (size_t)(columns + GROUP - 1) / GROUP * GROUP : (size_t)columns * bytes[e] / 256;
}

INLINE uint32_t word(const uint8_t *p) {
    uint32_t w;
    memcpy(&w, p, 4);
    return w;
}

INLINE void put(uint8_t *p, uint32_t w) { memcpy(p, &w, 4); }

// --------------------------------------------------------------------------------------------------- 32 source columns
typedef struct { uint8_t q[GROUP], scale, second, minimum; } unpacked;  // q unsigned; small scales where there are any

static void fifth_bits(const uint8_t *bits, unpacked *u) {
    for (int j = 0; j < GROUP; j++) u->q[j] |= (uint8_t)((bits[j / 8] >> j % 8 & 1) << 4);
}

static void nibbles(const uint8_t *q, unpacked *u) {
    for (int j = 0; j < 16; j++) {
        u->q[j] = q[j] & 15;
        u->q[j + 16] = q[j] >> 4;
    }
}

static void unpack_k(encoding e, const uint8_t *block, int g, unpacked *u) {  // group g of a block of 256
    if (e == Q6_K) {
        const int half_block = g / 4, sub = g % 4;
        const uint8_t *low = block + 64 * half_block + 32 * (sub % 2), *high = block + 128 + 32 * half_block;
        for (int j = 0; j < GROUP; j++)
            u->q[j] = (uint8_t)((low[j] >> sub / 2 * 4 & 15) | (high[j] >> 2 * sub & 3) << 4);
        u->scale = block[192 + 2 * g];
        u->second = block[193 + 2 * g];
        return;
    }
    const uint8_t *s = block + 4, *q = block + (e == Q4_K ? 16 : 48) + 32 * (g / 2);  // 8 scales and minima of 6 bits
    u->scale = g < 4 ? s[g] & 63 : (uint8_t)((s[g + 4] & 15) | s[g - 4] >> 6 << 4);
    u->minimum = g < 4 ? s[g + 4] & 63 : (uint8_t)(s[g + 4] >> 4 | s[g] >> 6 << 4);
    for (int j = 0; j < GROUP; j++) u->q[j] = q[j] >> g % 2 * 4 & 15;
    for (int j = 0; e == Q5_K && j < GROUP; j++) u->q[j] |= (uint8_t)((block[16 + j] >> g & 1) << 4);
}

// ----------------------------------------------------------------------------------------------- into a group, at row r
INLINE void pack_nibbles(const uint8_t *q, uint8_t *out) {  // q: low nibbles are columns 0..15, high ones 16..31
    const uint32_t low = 0x0f0f0f0f;
    for (int c = 0; c < 2; c++) {
        uint32_t a = word(q + 8 * c), b = word(q + 8 * c + 4);
        put(out + 64 * c, (a & low) | (b & low) << 4);
        put(out + 64 * (c + 2), (a >> 4 & low) | (b & ~low));
    }
}

static void pack_unpacked(const unpacked *u, int bits, int r, uint8_t *out) {
    uint8_t high[2][4] = {{0}, {0}};
    for (int j = 0; j < GROUP; j += 8)
        for (int b = 0; b < 4; b++) out[64 * (j / 8) + 4 * r + b] = (uint8_t)((u->q[j + b] & 15) | u->q[j + 4 + b] << 4);
    for (int j = 0; j < GROUP; j++)
        if (bits == 5) high[0][j % 4] |= (uint8_t)(u->q[j] >> 4 << j / 4);
        else high[j / 16][j % 4] |= (uint8_t)(u->q[j] >> 4 << j % 16 / 4 * 2);
    for (int v = 0; v < bits - 4; v++) memcpy(out + 256 + 64 * v + 4 * r, high[v], 4);
}

static void pack_k(encoding e, const uint8_t *block, int g, int r, uint8_t *head, uint8_t *out) {
    unpacked u = {0};
    unpack_k(e, block, g, &u);
    pack_unpacked(&u, e == Q4_K ? 4 : e == Q5_K ? 5 : 6, r, out);
    out += e == Q4_K ? 256 : e == Q5_K ? 320 : 384;
    out[r] = u.scale;
    out[16 + r] = e == Q6_K ? u.second : u.minimum;
    if (g) return;
    memcpy(head + 2 * r, e == Q6_K ? block + 208 : block, 2);
    if (e == Q6_K) return;
    head[32 + 2 * r] = block[2];
    head[33 + 2 * r] = block[3] ^ 0x80;
}

INLINE void pack_block(encoding e, const uint8_t *block, int r, uint8_t *out) {
    if (e == Q8_0) {
        for (int c = 0; c < 8; c++) put(out + 64 * c + 4 * r, word(block + 2 + 4 * c) ^ 0x80808080);
        memcpy(out + 512 + 2 * r, block, 2);
        return;
    }
    const int minimum = e == Q4_1 || e == Q5_1, five = e == Q5_0 || e == Q5_1;
    const uint8_t *q = block + 2 + 2 * minimum;
    if (five) {
        unpacked u;
        nibbles(q + 4, &u);
        fifth_bits(q, &u);
        pack_unpacked(&u, 5, r, out);
    } else {
        pack_nibbles(q, out + 4 * r);
    }
    out += five ? 320 : 256;
    memcpy(out + 2 * r, block, 2);
    if (minimum) memcpy(out + 32 + 2 * r, block + 2, 2);
}

INLINE void pack_dense(encoding e, const uint8_t *source, int count, int r, uint8_t *out) {
    if (e == F32) {
        for (int c = 0; c < count; c++) put(out + 64 * c + 4 * r, word(source + 4 * c));
    } else if (e == BF16) {
        for (int c = 0; c < count / 2; c++) put(out + 64 * c + 4 * r, word(source + 4 * c));
        if (count % 2) memcpy(out + 64 * (count / 2) + 4 * r, source + 2 * (count - 1), 2);
    } else {
        for (int c = 0; c < count / 4; c++) put(out + 64 * c + 4 * r, word(source + 4 * c) ^ 0x80808080);
    }
}

// 16 rows of 16 words, turned by squares of four: column after column.
#if defined(__clang__)
#define SHUFFLE(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define SHUFFLE(x, y, ...) __builtin_shuffle(x, y, (four_words){__VA_ARGS__})
#endif
typedef uint32_t four_words __attribute__((vector_size(16)));

INLINE four_words load_four(const uint8_t *p) {
    four_words x;
    memcpy(&x, p, 16);
    return x;
}

INLINE void turn_square(const uint8_t *rows, size_t stride, uint8_t *out) {
    const four_words a = load_four(rows), b = load_four(rows + stride), c = load_four(rows + 2 * stride),
                     d = load_four(rows + 3 * stride);
    const four_words ab = SHUFFLE(a, b, 0, 4, 1, 5), cd = SHUFFLE(c, d, 0, 4, 1, 5);
    const four_words ab_end = SHUFFLE(a, b, 2, 6, 3, 7), cd_end = SHUFFLE(c, d, 2, 6, 3, 7);
    const four_words turned[] = {SHUFFLE(ab, cd, 0, 1, 4, 5), SHUFFLE(ab, cd, 2, 3, 6, 7), SHUFFLE(ab_end, cd_end, 0, 1, 4, 5),
                                 SHUFFLE(ab_end, cd_end, 2, 3, 6, 7)};
    for (int i = 0; i < 4; i++) memcpy(out + 64 * i, &turned[i], 16);
}

INLINE void turn_words(const uint8_t *rows, size_t stride, uint8_t *out) {
    for (int r = 0; r < PANEL; r += 4)
        for (int c = 0; c < 16; c += 4) turn_square(rows + (size_t)r * stride + 4 * c, stride, out + 64 * c + 4 * r);
}

// Group by group, so that what is written stays in the first-level cache until all 16 rows have come.
INLINE void pack_panel(const matrix *m, const encoding e, const uint8_t *rows, int count, uint8_t *panel) {
    const layout l = layout_of(e);
    const size_t stride = source_row_bytes(e, m->columns);
    for (int r = 0; e == INT8 && r < count; r++) memcpy(panel + 4 * r, rows + (size_t)r * stride, 4);
    uint8_t *head = panel, *out = panel;
    for (int g = 0; g < m->groups; g++, out += l.group) {
        if (g % l.span == 0) {
            head = out;
            out += l.head;
        }
        const int columns = m->columns - g * GROUP < GROUP ? m->columns - g * GROUP : GROUP;
        const uint8_t *row = rows;
        if (e <= BF16 && columns == GROUP && count == PANEL) {
            row += source_row_bytes(e, GROUP) * g;
            const uint8_t *next = rows + PANEL * stride + (size_t)g * l.group;  // panel, in the order that it lies in
            for (size_t line = 0; line < l.group; line += 64) __builtin_prefetch(next + line, 0, 2);
            turn_words(row, stride, out);
            if (e == F32) turn_words(row + 64, stride, out + 1024);
            continue;
        }
        for (int r = 0; r < count; r++, row += stride) {
            if (e == INT8) pack_dense(e, row + 4 + (size_t)g * GROUP, GROUP, r, out);
            else if (e <= BF16 && columns == GROUP) pack_dense(e, row + source_row_bytes(e, GROUP) * g, GROUP, r, out);
            else if (e <= BF16) pack_dense(e, row + source_row_bytes(e, GROUP) * g, columns, r, out);
            else if (l.span == 8) pack_k(e, row + source_row_bytes(e, 8 * GROUP) * (g / 8), g % 8, r, head, out);
            else pack_block(e, row + source_row_bytes(e, GROUP) * g, r, out);
        }
    }
}

INLINE void pack_as(const matrix *m, const encoding e, const uint8_t *source, int first, int end) {
    for (int p = first; p < end; p++) {
        const int rows = m->rows - p * PANEL < PANEL ? m->rows - p * PANEL : PANEL;
        pack_panel(m, e, source + (size_t)p * PANEL * source_row_bytes(e, m->columns), rows,
                   m->data + (size_t)p * panel_bytes(e, m->groups));
    }
}

void pack_panels(const matrix *m, const uint8_t *source, int first, int end) {
    switch (m->encoding) {
    case F32: pack_as(m, F32, source, first, end); break;
    case BF16: pack_as(m, BF16, source, first, end); break;
    case Q8_0: pack_as(m, Q8_0, source, first, end); break;
    case Q4_0: pack_as(m, Q4_0, source, first, end); break;
    case Q4_1: pack_as(m, Q4_1, source, first, end); break;
    default: pack_as(m, m->encoding, source, first, end); break;
    }
}

// ----------------------------------------------------------------------------------------------- one row, as floats
static float half(const uint8_t *p) {  // f16 to fp32, subnormals too
    uint16_t h;
    memcpy(&h, p, 2);
    uint32_t bits = (uint32_t)(h & 0x7fff) << 13, inf = (h & 0x7c00) == 0x7c00 ? 0x70000000u : 0;
    float f;
    memcpy(&f, &bits, 4);
    f *= 0x1p112f;
    memcpy(&bits, &f, 4);
    bits |= inf | (uint32_t)(h & 0x8000) << 16;
    memcpy(&f, &bits, 4);
    return f;
}

static float float_at(const uint8_t *p) {
    float f;
    memcpy(&f, p, 4);
    return f;
}

static float dense_element(encoding e, const uint8_t *group, int r, int c) {
    if (e == F32) return float_at(group + 64 * c + 4 * r);
    uint8_t wide[4] = {0};
    memcpy(wide + 2, group + 64 * (c / 2) + 4 * r + 2 * (c % 2), 2);
    return float_at(wide);
}

static float block_element(encoding e, const uint8_t *head, const uint8_t *group, int r, int c) {
    if (e == Q8_0) return half(group + 512 + 2 * r) * (float)(group[64 * (c / 4) + 4 * r + c % 4] - 128);
    const int pair = group[64 * (c / 8) + 4 * r + c % 4];
    int q = c % 8 < 4 ? pair & 15 : pair >> 4;
    const uint8_t *scales = group + 256;
    if (e == Q6_K) {
        q |= (group[256 + 64 * (c / 16) + 4 * r + c % 4] >> c % 16 / 4 * 2 & 3) << 4;
        return half(head + 2 * r) * (float)(int8_t)group[384 + 16 * (c / 16) + r] * (float)(q - 32);
    }
    if (e == Q5_0 || e == Q5_1 || e == Q5_K) {
        q |= (group[256 + 4 * r + c % 4] >> c / 4 & 1) << 4;
        scales += 64;
    }
    if (e == Q4_K || e == Q5_K)
        return half(head + 2 * r) * (float)scales[r] * (float)q + half(head + 32 + 2 * r) * (float)scales[16 + r];
    if (e == Q4_0 || e == Q5_0) return half(scales + 2 * r) * (float)(q - (e == Q4_0 ? 8 : 16));
    return half(scales + 2 * r) * (float)q + half(scales + 32 + 2 * r);
}

static void lookup_turned(const matrix *m, const uint8_t *panel, int r, float *out) {
    const uint8_t *group = panel + layout_of(INT8).head;
    for (int c = 0; c < m->columns; c += GROUP, group += layout_of(INT8).group) {
        float x[GROUP];
        for (int i = 0; i < GROUP; i++) x[i] = float_at(panel + 4 * r) * (float)(group[64 * (i / 4) + 4 * r + i % 4] - 128);
        turn_group(x);
        memcpy(out + c, x, (size_t)(m->columns - c < GROUP ? m->columns - c : GROUP) * 4);
    }
}

static void lookup_stored(const matrix *m, int row, float *out) {
    const size_t bytes = m->encoding == F32 ? 4 : 2;
    const uint8_t *stored = m->rows_as_stored + (size_t)row * (size_t)m->columns * bytes;
    for (int c = 0; c < m->columns; c++, stored += bytes) {
        uint8_t wide[4] = {0};
        memcpy(wide + 4 - bytes, stored, bytes);
        out[c] = float_at(wide);
    }
}

void lookup_row(const matrix *m, int row, float *out) {
    const encoding e = m->encoding;
    const layout l = layout_of(e);
    const int r = row % PANEL;
    if (!m->data) {
        lookup_stored(m, row, out);
        return;
    }
    const uint8_t *group = m->data + (size_t)(row / PANEL) * panel_bytes(e, m->groups), *head = group;
    if (e == INT8) {
        lookup_turned(m, group, r, out);
        return;
    }
    for (int c = 0; c < m->columns; c++) {
        if (c && c % GROUP == 0) group += l.group;
        if (c % (GROUP * l.span) == 0) {
            head = group;
            group += l.head;
        }
        out[c] = e <= BF16 ? dense_element(e, group, r, c % GROUP) : block_element(e, head, group, r, c % GROUP);
    }
}

// Eight chains of multiply-and-mix, so that it runs as fast as memory can be read: notices damage, not malice.
EXPORT uint64_t octavo_checksum(const uint8_t *data, uint64_t bytes) {
    uint64_t lane[8] = {1, 2, 3, 4, 5, 6, 7, 8}, sum = bytes;
    for (; bytes; data += 64) {
        uint64_t line[8] = {0};
        const size_t count = bytes < 64 ? bytes : 64;
        if (count == 64) memcpy(line, data, 64);
        else memcpy(line, data, count);
        for (int i = 0; i < 8; i++) {
            lane[i] = (lane[i] ^ line[i]) * 0x9e3779b97f4a7c15u;
            lane[i] ^= lane[i] >> 29;
        }
        bytes -= count;
    }
    for (int i = 0; i < 8; i++) sum = (sum ^ lane[i]) * 0x9e3779b97f4a7c15u + (sum >> 32);
    return sum;
}
