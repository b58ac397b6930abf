// AVX2 with FMA and F16C. 8-bit products go through |w| x sign(x, w), which cannot saturate 16 bits; nibbles need no care.
// With AVX_VNNI, four products a lane in one instruction.
#define PIECE 32
#define MAX_TILE 4
#define HAS_FMA
#define HAS_HALF
#define HAS_DOTS
#define HAS_BUTTERFLY
#include "lanes_pieces.h"

INLINE vec fma16(vec a, vec b, vec c) {
    EACH c.p[i] = (fpiece)_mm256_fmadd_ps((__m256)a.p[i], (__m256)b.p[i], (__m256)c.p[i]);
    return c;
}
INLINE vec load_half(const uint8_t *x) {
    vec r;
    EACH r.p[i] = (fpiece)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(x + 16 * i)));
    return r;
}
INLINE vec butterfly(vec a, const int h) {  // lane l: its sum with lane l ^ h, or, where l & h, its difference from it
    if (h == 8) {
        const fpiece sum = a.p[0] + a.p[1];
        a.p[1] = a.p[0] - a.p[1];
        a.p[0] = sum;
        return a;
    }
    EACH {
        const __m256 x = (__m256)a.p[i];
        const __m256 other = h == 4 ? _mm256_permute2f128_ps(x, x, 1) : _mm256_permute_ps(x, h == 2 ? 0x4e : 0xb1);
        const __m256 sign = h == 4   ? _mm256_set_ps(-1, -1, -1, -1, 1, 1, 1, 1)
                            : h == 2 ? _mm256_set_ps(-1, -1, 1, 1, -1, -1, 1, 1)
                                     : _mm256_set_ps(-1, 1, -1, 1, -1, 1, -1, 1);
        a.p[i] = (fpiece)_mm256_fmadd_ps(x, sign, other);
    }
    return a;
}
INLINE __m256i four_columns(const int8_t *x) {
    int32_t word;
    memcpy(&word, x, 4);
    return _mm256_set1_epi32(word);
}

#if defined(AVX_VNNI)
enum { Q8_START = -128 };  // dot_q8 multiplies by weight + 128
INLINE ivec dot_q6(ivec sum, const ivec *w, const int8_t *x, const int count) {
    for (int c = 0; c < count; c++) {
        const __m256i columns = four_columns(x + 4 * c);
        EACH sum.p[i] = (ipiece)_mm256_dpbusd_avx_epi32((__m256i)sum.p[i], (__m256i)w[c].p[i], columns);
    }
    return sum;
}
INLINE ivec dot_q8(ivec sum, const ivec *w, const int8_t *x) { return dot_q6(sum, w, x, 8); }
INLINE ivec dot_q4(ivec sum, const ivec *w, const int8_t *x) { return dot_q6(sum, w, x, 8); }
#else
enum { Q8_START = 0 };  // dot_q8 takes the signed weight
INLINE ivec dot_q8(ivec sum, const ivec *w, const int8_t *x) {
    const __m256i flip = _mm256_set1_epi8((char)0x80), ones = _mm256_set1_epi16(1);
    for (int c = 0; c < 8; c++) {
        const __m256i columns = four_columns(x + 4 * c);
        EACH {
            __m256i q = _mm256_xor_si256((__m256i)w[c].p[i], flip);
            __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(columns, q));
            sum.p[i] = (ipiece)_mm256_add_epi32((__m256i)sum.p[i], _mm256_madd_epi16(pairs, ones));
        }
    }
    return sum;
}
INLINE ivec dot_q4(ivec sum, const ivec *w, const int8_t *x) {  // 8 x 2 x 15 x 127 = 30480 fits 16 bits
    __m256i pairs[PIECES];
    EACH pairs[i] = _mm256_setzero_si256();
    for (int c = 0; c < 8; c++) {
        const __m256i columns = four_columns(x + 4 * c);
        EACH pairs[i] = _mm256_add_epi16(pairs[i], _mm256_maddubs_epi16((__m256i)w[c].p[i], columns));
    }
    EACH sum.p[i] = (ipiece)_mm256_add_epi32((__m256i)sum.p[i], _mm256_madd_epi16(pairs[i], _mm256_set1_epi16(1)));
    return sum;
}
INLINE ivec dot_q6(ivec sum, const ivec *w, const int8_t *x, const int count) {  // 2 x 2 x 63 x 127 = 32004 fits 16 bits
    for (int c = 0; c < count; c += 2) {
        const __m256i first = four_columns(x + 4 * c), second = four_columns(x + 4 * c + 4);
        EACH {
            const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16((__m256i)w[c].p[i], first),
                                                   _mm256_maddubs_epi16((__m256i)w[c + 1].p[i], second));
            sum.p[i] = (ipiece)_mm256_add_epi32((__m256i)sum.p[i], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
        }
    }
    return sum;
}
#endif
