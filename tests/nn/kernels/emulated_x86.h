// What a processor with AVX-512 and VNNI lacks of the levels avx512 and amx, in its place: -include this before all else.
//
// Products of bf16 pairs and tiles as Intel's manual describes them (volume 2, VDPBF16PS, VCVTNEPS2BF16, TDPBF16PS, TDPBSSD),
// with denormals taken and given as zero; what the processor would refuse as a wrong shape of tiles ends the program. Slow.
#if defined(__x86_64__) && !defined(OCTAVO_EMULATED_X86)
#define OCTAVO_EMULATED_X86
#define _GNU_SOURCE

#include <cpuid.h>
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EMULATED static __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"), unused))
#define EMULATED_IN_PLACE EMULATED inline __attribute__((always_inline))

// ------------------------------------------------------------------------------------------ what levels.c asks of the machine
static inline int emulated_cpuid_count(unsigned leaf, unsigned sub, unsigned *a, unsigned *b, unsigned *c, unsigned *d) {
    const int known = __get_cpuid_count(leaf, sub, a, b, c, d);
    if (leaf == 7 && sub == 0) *d |= 1u << 22 | 1u << 24 | 1u << 25;  // tiles, with bf16 and int8
    if (leaf == 7 && sub == 1) *a |= 1u << 5;                         // bf16
    return known;
}
#define __get_cpuid_count emulated_cpuid_count
#define syscall(number, ...) ((number) == SYS_arch_prctl ? 0 : syscall(number, __VA_ARGS__))

// ------------------------------------------------------------------------------------------------------------ pairs of bf16
EMULATED_IN_PLACE __m512 emulated_flushed(__m512 x) {  // denormals to zeros of their sign
    const __m512 zeros = _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(INT32_MIN)));
    return _mm512_mask_mov_ps(x, _mm512_fpclass_ps_mask(x, 0x20), zeros);
}
EMULATED_IN_PLACE __m512 emulated_first(__m512i pairs) {
    return emulated_flushed(_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)));
}
EMULATED_IN_PLACE __m512 emulated_second(__m512i pairs) {
    return emulated_flushed(_mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000))));
}
EMULATED_IN_PLACE __m512 emulated_fma(__m512 a, __m512 b, __m512 c) { return emulated_flushed(_mm512_fmadd_ps(a, b, c)); }
EMULATED_IN_PLACE __m512 emulated_dpbf16(__m512 sum, __m512i a, __m512i b) {
    sum = emulated_fma(emulated_second(a), emulated_second(b), emulated_flushed(sum));
    return emulated_fma(emulated_first(a), emulated_first(b), sum);
}
EMULATED_IN_PLACE __m256i emulated_cvtneps(__m512 x) {
    const __m512i bits = _mm512_castps_si512(emulated_flushed(x));
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(1 << 22));
    const __m512i chosen = _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), quiet);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(chosen, 16));
}
#define _mm512_dpbf16_ps(sum, a, b) emulated_dpbf16(sum, (__m512i)(a), (__m512i)(b))
#define _mm512_cvtneps_pbh(x) emulated_cvtneps(x)

// -------------------------------------------------------------------------------------------------------------------- tiles
typedef struct { uint8_t palette, start_row, zero[14]; uint16_t column_bytes[16]; uint8_t rows[16]; } emulated_shapes;
typedef struct { _Alignas(64) uint8_t row[16][64]; } emulated_tile;
static _Thread_local emulated_shapes emulated_configured;  // palette 0: none are
static _Thread_local emulated_tile emulated_tiles[8];

static inline void emulated_require(int lawful, const char *what) {
    if (lawful) return;
    fprintf(stderr, "emulated tiles: %s\n", what);
    abort();
}

static inline void emulated_configure(const void *memory) {
    emulated_shapes shapes;
    memcpy(&shapes, memory, 64);
    int lawful = shapes.palette == 1 && shapes.start_row == 0;
    for (int i = 0; i < 14; i++) lawful &= shapes.zero[i] == 0;
    for (int i = 0; i < 16; i++) lawful &= !shapes.rows[i] == !shapes.column_bytes[i];
    for (int i = 0; i < 16; i++) lawful &= shapes.rows[i] <= (i < 8 ? 16 : 0) && shapes.column_bytes[i] <= (i < 8 ? 64 : 0);
    emulated_require(lawful, "a configuration that the processor refuses");
    emulated_configured = shapes;
    memset(emulated_tiles, 0, sizeof emulated_tiles);
}

static inline void emulated_release(void) {
    memset(&emulated_configured, 0, sizeof emulated_configured);
    memset(emulated_tiles, 0xff, sizeof emulated_tiles);  // so that no one counts on what was in them
}

static inline emulated_tile *emulated_shaped(int n) {
    emulated_require(emulated_configured.rows[n] > 0, "a tile that is not configured");
    return &emulated_tiles[n];
}

static inline void emulated_zero(int n) { memset(emulated_shaped(n), 0, sizeof(emulated_tile)); }

static inline void emulated_load(int n, const void *base, int64_t stride) {
    emulated_zero(n);
    for (int r = 0; r < emulated_configured.rows[n]; r++)
        memcpy(emulated_tiles[n].row[r], (const uint8_t *)base + r * stride, emulated_configured.column_bytes[n]);
}

static inline void emulated_store(int n, void *base, int64_t stride) {
    const emulated_tile *t = emulated_shaped(n);
    for (int r = 0; r < emulated_configured.rows[n]; r++)
        memcpy((uint8_t *)base + r * stride, t->row[r], emulated_configured.column_bytes[n]);
}

static inline void emulated_require_product(int sum, int x, int w) {
    const emulated_shapes *s = &emulated_configured;
    emulated_shaped(sum), emulated_shaped(x), emulated_shaped(w);
    emulated_require(sum != x && sum != w && x != w, "one tile twice in a product");
    emulated_require(s->rows[sum] == s->rows[x] && s->column_bytes[sum] == s->column_bytes[w] &&
                     s->column_bytes[x] == 4 * s->rows[w] && s->column_bytes[w] % 4 == 0, "shapes that make no product");
}

EMULATED void emulated_add_int8(int sum, int x, int w) {
    emulated_require_product(sum, x, w);
    for (int m = 0; m < emulated_configured.rows[sum]; m++)
        for (int k = 0; k < emulated_configured.rows[w]; k++)
            for (int n = 0; n < emulated_configured.column_bytes[sum] / 4; n++) {
                int32_t total;
                memcpy(&total, emulated_tiles[sum].row[m] + 4 * n, 4);
                for (int i = 0; i < 4; i++)
                    total += (int8_t)emulated_tiles[x].row[m][4 * k + i] * (int8_t)emulated_tiles[w].row[k][4 * n + i];
                memcpy(emulated_tiles[sum].row[m] + 4 * n, &total, 4);
            }
}

// Sums of first and of second columns run apart, and meet in the tile's sum at the end.
EMULATED void emulated_add_bf16(int sum, int x, int w) {
    emulated_require_product(sum, x, w);
    for (int m = 0; m < emulated_configured.rows[sum]; m++) {
        __m512 first = _mm512_setzero_ps(), second = _mm512_setzero_ps();
        for (int k = 0; k < emulated_configured.rows[w]; k++) {
            int32_t pair;
            memcpy(&pair, emulated_tiles[x].row[m] + 4 * k, 4);
            const __m512i a = _mm512_set1_epi32(pair), b = _mm512_load_si512(emulated_tiles[w].row[k]);
            first = emulated_fma(emulated_first(a), emulated_first(b), first);
            second = emulated_fma(emulated_second(a), emulated_second(b), second);
        }
        const __m512 before = emulated_flushed(_mm512_load_ps(emulated_tiles[sum].row[m]));
        const __m512 both = emulated_flushed(_mm512_add_ps(first, second));
        _mm512_store_ps(emulated_tiles[sum].row[m], emulated_flushed(_mm512_add_ps(before, both)));
    }
}

#define LOAD_SHAPES(shapes) emulated_configure(&(shapes))
#define RELEASE_TILES() emulated_release()
#define ZERO_TILE(n) emulated_zero(n)
#define LOAD_TILE(n, base, stride) emulated_load(n, base, (int64_t)(stride))
#define STORE_TILE(n, base, stride) emulated_store(n, base, (int64_t)(stride))
#define ADD_INT8(sum, x, w) emulated_add_int8(sum, x, w)
#define ADD_BF16(sum, x, w) emulated_add_bf16(sum, x, w)
#endif
