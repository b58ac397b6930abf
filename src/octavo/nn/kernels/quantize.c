// Dense rows to integers at load, in the source formats that packing.c takes: int8 with a scale a row, Q4_0 and Q4_1 with
// one (and a minimum) for each 32 columns. Weights must be finite; what is not is taken for zero or the largest.
//
// int8 weights are turned: each 32 columns go through the Walsh-Hadamard matrix, and activations do when a product reads
// them (Ashkboos et al. 2024, arXiv 2404.00456). Products stay the same, but a feature or a weight much larger than those
// around it is spread over all 32, so that steps sized to the largest lose less of the others.
#include "kernels.h"

#include <math.h>
#include <string.h>

static uint16_t half_of(float f) {  // to nearest even; past the largest: the largest
    const float magnitude = fabsf(f), smallest = 0x1p-14f;
    uint32_t bits, half;
    if (magnitude >= smallest) {
        memcpy(&bits, &magnitude, 4);
        half = (bits + 0xfff + (bits >> 13 & 1)) >> 13;
        half = half - (112 << 10) > 0x7bff ? 0x7bff : half - (112 << 10);
    } else {  // subnormal steps of 2^-24 are the last bits of numbers from 0.5 on
        const float shifted = magnitude + 0.5f;
        memcpy(&bits, &shifted, 4);
        half = bits - 0x3f000000;
    }
    return (uint16_t)(half | (f < 0 ? 0x8000 : 0));
}

static float float_of(uint16_t half) {
    const uint32_t bits = (uint32_t)(half & 0x7fff) << 13;
    float f;
    memcpy(&f, &bits, 4);
    return half & 0x8000 ? -f * 0x1p112f : f * 0x1p112f;
}

static float limited(float x, float low, float high) { return fminf(fmaxf(rintf(x), low), high); }

// The Walsh-Hadamard matrix times x: 32 times its own inverse.
void turn_group(float *x) {
    for (int h = GROUP / 2; h; h /= 2)
        for (int i = 0; i < GROUP; i++) {
            if (i & h) continue;
            const float sum = x[i] + x[i + h];
            x[i + h] = x[i] - x[i + h];
            x[i] = sum;
        }
}

static void to_int8(float *x, int columns, uint8_t *out) {  // columns: whole groups; x is turned
    float largest = 0;
    for (int c = 0; c < columns; c += GROUP) turn_group(x + c);
    for (int c = 0; c < columns; c++) largest = fmaxf(largest, fabsf(x[c] *= 1.0f / GROUP));
    const float scale = largest / 127.0f, inverse = scale > 1e-37f ? 1.0f / scale : 0.0f;
    memcpy(out, &scale, 4);
    for (int c = 0; c < columns; c++) out[4 + c] = (uint8_t)(int8_t)limited(x[c] * inverse, -127.0f, 127.0f);
}

// Of several scales near the one that takes the largest weight to -8, that of the least squared error.
static float best_scale(const float *x) {
    float extreme = 0, best = -1, chosen = 0;
    for (int c = 0; c < GROUP; c++) extreme = fabsf(x[c]) > fabsf(extreme) ? x[c] : extreme;
    if (!(fabsf(extreme) > 1e-30f)) return 0;
    for (int step = -4; step <= 4; step++) {
        const float inverse = -(8.0f + 0.2f * (float)step) / extreme;
        float dot = 0, squares = 0;
        for (int c = 0; c < GROUP; c++) {
            const float q = limited(x[c] * inverse, -8.0f, 7.0f);
            dot += x[c] * q;
            squares += q * q;
        }
        if (squares > 0 && dot * dot > best * squares) {  // the error is sum x^2 - dot^2 / squares
            best = dot * dot / squares;
            chosen = dot / squares;
        }
    }
    return chosen;
}

static void put_nibbles(const float *x, float offset, float inverse, float shift, uint8_t *out) {
    for (int c = 0; c < 16; c++) {
        const int low = (int)limited((x[c] - offset) * inverse + shift, 0.0f, 15.0f);
        const int high = (int)limited((x[c + 16] - offset) * inverse + shift, 0.0f, 15.0f);
        out[c] = (uint8_t)(low | high << 4);
    }
}

static void to_q4_0(const float *x, uint8_t *out) {
    const uint16_t half = half_of(best_scale(x));
    const float scale = float_of(half);
    memcpy(out, &half, 2);
    put_nibbles(x, 0.0f, scale != 0 ? 1.0f / scale : 0.0f, 8.0f, out + 2);
}

static void to_q4_1(const float *x, uint8_t *out) {
    float least = x[0], most = x[0];
    for (int c = 1; c < GROUP; c++) {
        least = fminf(least, x[c]);
        most = fmaxf(most, x[c]);
    }
    const uint16_t half[2] = {half_of((most - least) / 15.0f), half_of(least)};
    const float scale = float_of(half[0]);
    memcpy(out, half, 4);
    put_nibbles(x, float_of(half[1]), scale > 0 ? 1.0f / scale : 0.0f, 0.0f, out + 4);
}

// One row of fp32 or bf16; columns whole groups, but for INT8. values: zeros, whole groups of them.
static void quantize_row(encoding target, encoding from, const uint8_t *source, int columns, float *values, uint8_t *out) {
    if (from == F32) memcpy(values, source, (size_t)columns * 4);
    else
        for (int c = 0; c < columns; c++) {
            uint8_t wide[4] = {0, 0, source[2 * c], source[2 * c + 1]};
            memcpy(values + c, wide, 4);
        }
    if (target == INT8) to_int8(values, (columns + GROUP - 1) / GROUP * GROUP, out);
    else
        for (int c = 0; c < columns; c += GROUP, out += source_row_bytes(target, GROUP)) {
            if (target == Q4_0) to_q4_0(values + c, out);
            else to_q4_1(values + c, out);
        }
}

EXPORT int32_t octavo_quantize(int32_t target, int32_t from, int32_t rows, int32_t columns, const uint8_t *source,
                               uint8_t *out) {
    arena work = {0};
    const size_t bytes = (size_t)(columns + GROUP - 1) / GROUP * GROUP * 4;
    float *values = arena_take(&work, bytes);
    for (int r = 0; values && r < rows; r++) {
        memset(values, 0, bytes);
        quantize_row((encoding)target, (encoding)from, source + (size_t)r * source_row_bytes((encoding)from, columns), columns,
                     values, out + (size_t)r * source_row_bytes((encoding)target, columns));
    }
    arena_free(&work);
    return values ? 0 : -1;
}
