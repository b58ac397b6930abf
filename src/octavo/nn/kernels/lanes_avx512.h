// AVX-512 with VNNI: one vector is one register, bytes multiply in fours and, with BF16_PRODUCTS, bf16 in pairs.
#define MAX_TILE 8

typedef __m512 vec;
typedef __m512i ivec;

INLINE ivec ints(int32_t x) { return _mm512_set1_epi32(x); }
INLINE vec splat(float x) { return _mm512_set1_ps(x); }
INLINE vec load(const float *x) { return _mm512_loadu_ps(x); }
INLINE void store(float *x, vec v) { _mm512_storeu_ps(x, v); }
INLINE ivec load_bytes(const void *x) { return _mm512_loadu_si512(x); }
INLINE vec add(vec a, vec b) { return _mm512_add_ps(a, b); }
INLINE vec sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
INLINE vec mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
INLINE vec divide(vec a, vec b) { return _mm512_div_ps(a, b); }
INLINE vec fma16(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vec maximum(vec a, vec b) { return _mm512_max_ps(a, b); }
INLINE vec absolute(vec a) { return _mm512_abs_ps(a); }
INLINE vec to_float(ivec a) { return _mm512_cvtepi32_ps(a); }
INLINE vec nearest(vec a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE vec times_power(vec a, vec n) { return _mm512_scalef_ps(a, n); }
INLINE vec mask_after(vec a, int last, float filler) {
    const ivec lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    return _mm512_mask_mov_ps(a, _mm512_cmpgt_epi32_mask(lanes, _mm512_set1_epi32(last)), _mm512_set1_ps(filler));
}
INLINE vec butterfly(vec a, const int h) {  // lane l: its sum with lane l ^ h, or, where l & h, its difference from it
    const ivec lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const vec other = h == 8   ? _mm512_shuffle_f32x4(a, a, 0x4e)
                      : h == 4 ? _mm512_shuffle_f32x4(a, a, 0xb1)
                               : _mm512_permute_ps(a, h == 2 ? 0x4e : 0xb1);
    const vec sign = _mm512_mask_mov_ps(splat(1.0f), _mm512_test_epi32_mask(lanes, ints(h)), splat(-1.0f));
    return fma16(a, sign, other);
}
INLINE float sum_lanes(vec a) { return _mm512_reduce_add_ps(a); }
INLINE float max_lanes(vec a) { return _mm512_reduce_max_ps(a); }
INLINE int32_t store_int8(int8_t *out, vec a) {
    const ivec rounded = _mm512_maskz_cvtps_epi32(_mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), a);  // no number: 0, so that sums fit
    _mm_storeu_si128((__m128i *)(void *)out, _mm512_cvtsepi32_epi8(rounded));
    return _mm512_reduce_add_epi32(rounded);
}
INLINE vec load_half(const uint8_t *x) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)x)); }
INLINE ivec low_nibbles(ivec a) { return _mm512_and_si512(a, _mm512_set1_epi8(15)); }
INLINE ivec high_nibbles(ivec a) { return _mm512_and_si512(_mm512_srli_epi16(a, 4), _mm512_set1_epi8(15)); }

#if defined(BF16_PRODUCTS)
INLINE void store_bf16(uint16_t *out, vec a) {
    _mm256_storeu_si256((__m256i *)(void *)out, (__m256i)_mm512_cvtneps_pbh(a));
}
INLINE ivec two_columns(const uint16_t *x) {  // a pair of bf16 in each lane
    int32_t pair;
    memcpy(&pair, x, 4);
    return _mm512_set1_epi32(pair);
}
INLINE vec dot_bf16(vec sum, ivec a, ivec b) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }
#else
INLINE void store_bf16(uint16_t *out, vec a) {  // to nearest even
    const ivec bits = _mm512_castps_si512(a), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const ivec rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    _mm256_storeu_si256((__m256i *)(void *)out, _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}
INLINE vec first_of_pairs(ivec a) { return _mm512_castsi512_ps(_mm512_slli_epi32(a, 16)); }
INLINE vec second_of_pairs(ivec a) { return _mm512_castsi512_ps(_mm512_and_si512(a, _mm512_set1_epi32((int)0xffff0000))); }
#endif

INLINE vec load_unsigned(const uint8_t *x) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)x)));
}
INLINE vec load_signed(const uint8_t *x) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)x)));
}
INLINE ivec either(ivec a, ivec b) { return _mm512_or_si512(a, b); }
INLINE ivec masked(ivec a, int32_t mask) { return _mm512_and_si512(a, _mm512_set1_epi32(mask)); }
INLINE ivec shifted(ivec a, const int left) {
    return left >= 0 ? _mm512_sllv_epi32(a, _mm512_set1_epi32(left)) : _mm512_srlv_epi32(a, _mm512_set1_epi32(-left));
}

enum { Q8_START = -128 };  // dot_q8 multiplies by weight + 128
#define DOTS_OF_FOUR
typedef int32_t four_bytes __attribute__((aligned(1), may_alias));
INLINE ivec dot_four(ivec sum, ivec w, const int8_t *x) {  // by hand, as GCC spends an instruction of its own on a broadcast
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*(const four_bytes *)(const void *)x));
    return sum;
}
INLINE ivec dot_q6(ivec sum, const ivec *w, const int8_t *x, const int count) {
#pragma GCC unroll 8
    for (int c = 0; c < count; c++) sum = dot_four(sum, w[c], x + 4 * c);
    return sum;
}
INLINE ivec dot_q8(ivec sum, const ivec *w, const int8_t *x) { return dot_q6(sum, w, x, 8); }
INLINE ivec dot_q4(ivec sum, const ivec *w, const int8_t *x) { return dot_q6(sum, w, x, 8); }
