// Products of bf16 on Intel's matrix tiles: 32 tokens x 32 outputs in four accumulators.
//
// A packed group (16 rows x 32 columns, in pairs) is a tile as it lies, and so are 16 rows of activations. A token's sums
// run over the columns in one order, so that its result does not depend on its neighbours.
#define _GNU_SOURCE
#include "encoder.h"

#if defined(__x86_64__) && defined(__linux__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TILES __attribute__((target("amx-tile,amx-bf16")))
enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };  // of arch_prctl

int amx_available(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) return 0;  // amx-bf16, amx-tile
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

static const struct { uint8_t palette, start, reserved[14]; uint16_t bytes[16]; uint8_t rows[16]; } SHAPE = {
    .palette = 1, .bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

TILES void amx_begin(void) { _tile_loadconfig(&SHAPE); }

TILES void amx_end(void) { _tile_release(); }

// Tiles: 0 to 3 are sums (tokens 0-15 and 16-31 by panel and the next), 4 and 5 activations, 6 and 7 weights.
TILES static void multiply_pair(const uint8_t *first, const uint8_t *second, const float *bias, int groups,
                                const uint16_t *x, size_t width, float *y, size_t stride) {
    const size_t half = 16 * width, out = stride * 4;
    if (bias) {  // a stride of 0: the same 16 numbers in each row
        _tile_loadd(0, bias, 0);
        _tile_loadd(1, bias + PANEL, 0);
        _tile_loadd(2, bias, 0);
        _tile_loadd(3, bias + PANEL, 0);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int g = 0; g < groups; g++) {
        _tile_loadd(6, first + (size_t)g * 1024, 64);
        _tile_loadd(7, second + (size_t)g * 1024, 64);
        _tile_loadd(4, x + (size_t)g * GROUP, width * 2);
        _tile_loadd(5, x + half + (size_t)g * GROUP, width * 2);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, y, out);
    _tile_stored(1, y + PANEL, out);
    _tile_stored(2, y + 16 * stride, out);
    _tile_stored(3, y + 16 * stride + PANEL, out);
}

TILES static void multiply_one(const uint8_t *panel, const float *bias, int groups, const uint16_t *x, size_t width,
                               float *y, size_t stride) {
    if (bias) _tile_loadd(0, bias, 0);
    else _tile_zero(0);
    for (int g = 0; g < groups; g++) {
        _tile_loadd(6, panel + (size_t)g * 1024, 64);
        _tile_loadd(4, x + (size_t)g * GROUP, width * 2);
        _tile_dpbf16ps(0, 4, 6);
    }
    _tile_stored(0, y, stride * 4);
}

void amx_multiply(const matrix *m, const activations *a, int tokens, float *y, size_t stride) {
    const size_t panel = panel_bytes(BF16, m->groups), width = (size_t)a->width;
    int p = 0;
    for (; p + 2 <= m->panels; p += 2) {
        const uint8_t *first = m->data + (size_t)p * panel;
        const float *bias = m->bias ? m->bias + (size_t)p * PANEL : NULL;
        for (int t = 0; t < tokens; t += AMX_ROWS)
            multiply_pair(first, first + panel, bias, m->groups, a->bf16 + (size_t)t * width, width,
                          y + (size_t)t * stride + (size_t)p * PANEL, stride);
    }
    for (int t = 0; p < m->panels && t < tokens; t += 16)
        multiply_one(m->data + (size_t)p * panel, m->bias ? m->bias + (size_t)p * PANEL : NULL, m->groups,
                     a->bf16 + (size_t)t * width, width, y + (size_t)t * stride + (size_t)p * PANEL, stride);
}
#else
int amx_available(void) { return 0; }
void amx_begin(void) {}
void amx_end(void) {}
void amx_multiply(const matrix *m, const activations *a, int tokens, float *y, size_t stride) {
    (void)m, (void)a, (void)tokens, (void)y, (void)stride;
}
#endif
