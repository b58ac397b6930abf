// Packing: 16 output rows side by side, so that a vector holds one small piece of each row and a product needs neither a
// shuffle nor a horizontal sum.
//
// A group (16 rows x 32 columns) of Q4: 4 vectors of 64 bytes; byte 4r + e of vector c has row r's column 8c + e in the
// low nibble and 8c + 4 + e in the high one. Q8: 8 vectors, byte 4r + e of vector c is row r's column 4c + e, plus 128.
// BF16: 16 vectors of column pairs. F32: 32 vectors of one column. Then 16 f16 scales, and for Q4_1 16 f16 minima.
#include "kernels.h"

#include <string.h>

size_t group_bytes(encoding e) {
    static const size_t bytes[ENCODINGS] = {[F32] = 2048, [BF16] = 1024, [Q8_0] = 544, [Q4_0] = 288, [Q4_1] = 320};
    return bytes[e];
}

size_t source_row_bytes(encoding e, int columns) {
    static const size_t bytes[ENCODINGS] = {[F32] = 128, [BF16] = 64, [Q8_0] = 34, [Q4_0] = 18, [Q4_1] = 20};
    return (size_t)columns * bytes[e] / GROUP;
}

INLINE uint32_t word(const uint8_t *p) {
    uint32_t w;
    memcpy(&w, p, 4);
    return w;
}

INLINE void put(uint8_t *p, uint32_t w) { memcpy(p, &w, 4); }

INLINE void pack_nibbles(const uint8_t *q, uint8_t *out) {  // q: low nibbles are columns 0..15, high ones 16..31
    const uint32_t low = 0x0f0f0f0f;
    for (int c = 0; c < 2; c++) {
        uint32_t a = word(q + 8 * c), b = word(q + 8 * c + 4);
        put(out + 64 * c, (a & low) | (b & low) << 4);
        put(out + 64 * (c + 2), (a >> 4 & low) | (b & ~low));
    }
}

INLINE void pack_block(encoding e, const uint8_t *block, int r, uint8_t *out) {
    if (e == Q8_0) {
        for (int c = 0; c < 8; c++) put(out + 64 * c + 4 * r, word(block + 2 + 4 * c) ^ 0x80808080);
        memcpy(out + 512 + 2 * r, block, 2);
        return;
    }
    pack_nibbles(block + (e == Q4_1 ? 4 : 2), out + 4 * r);
    memcpy(out + 256 + 2 * r, block, 2);
    if (e == Q4_1) memcpy(out + 288 + 2 * r, block + 2, 2);
}

INLINE void pack_dense(encoding e, const uint8_t *source, int count, int r, uint8_t *out) {
    if (e == F32)
        for (int c = 0; c < count; c++) put(out + 64 * c + 4 * r, word(source + 4 * c));
    else
        for (int c = 0; c < count; c++) memcpy(out + 64 * (c / 2) + 4 * r + 2 * (c % 2), source + 2 * c, 2);
}

INLINE void pack_as(const matrix *m, encoding e, const uint8_t *source, int first, int end) {
    const size_t bytes = group_bytes(e), row_bytes = source_row_bytes(e, m->columns);
    for (int p = first; p < end; p++) {
        uint8_t *panel = m->data + (size_t)p * m->groups * bytes;
        const int rows = m->rows - p * PANEL < PANEL ? m->rows - p * PANEL : PANEL;
        for (int g = 0; g < m->groups; g++)
            for (int r = 0; r < rows; r++) {
                const uint8_t *row = source + (size_t)(p * PANEL + r) * row_bytes;
                const int count = m->columns - g * GROUP < GROUP ? m->columns - g * GROUP : GROUP;
                if (e <= BF16) pack_dense(e, row + source_row_bytes(e, GROUP) * g, count, r, panel + g * bytes);
                else pack_block(e, row + source_row_bytes(e, GROUP) * g, r, panel + g * bytes);
            }
    }
}

void pack_panels(const matrix *m, const uint8_t *source, int first, int end) {
    switch (m->encoding) {
    case F32: pack_as(m, F32, source, first, end); break;
    case BF16: pack_as(m, BF16, source, first, end); break;
    case Q8_0: pack_as(m, Q8_0, source, first, end); break;
    case Q4_0: pack_as(m, Q4_0, source, first, end); break;
    default: pack_as(m, Q4_1, source, first, end); break;
    }
}

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

static float element(encoding e, const uint8_t *group, int r, int c) {
    uint32_t bits;
    float f;
    if (e == F32) {
        memcpy(&f, group + 64 * c + 4 * r, 4);
        return f;
    }
    if (e == BF16) {
        uint16_t h;
        memcpy(&h, group + 64 * (c / 2) + 4 * r + 2 * (c % 2), 2);
        bits = (uint32_t)h << 16;
        memcpy(&f, &bits, 4);
        return f;
    }
    if (e == Q8_0) return half(group + 512 + 2 * r) * (float)(group[64 * (c / 4) + 4 * r + c % 4] - 128);
    const int pair = group[64 * (c / 8) + 4 * r + c % 4], q = c % 8 < 4 ? pair & 15 : pair >> 4;
    const float scale = half(group + 256 + 2 * r);
    return e == Q4_0 ? scale * (float)(q - 8) : scale * (float)q + half(group + 288 + 2 * r);
}

void lookup_row(const matrix *m, int row, float *out) {
    const uint8_t *panel = m->data + (size_t)(row / PANEL) * m->groups * group_bytes(m->encoding);
    for (int c = 0; c < m->columns; c++)
        out[c] = element(m->encoding, panel + (c / GROUP) * group_bytes(m->encoding), row % PANEL, c % GROUP);
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
