// Vectors of 16 lanes as a few pieces of the compiler's own vector type: the portable level, and most of AVX2.
//
// The includer sets PIECE (bytes of a piece) and may define HAS_FMA, HAS_HALF, HAS_DOTS to bring its own versions.
#define PIECES (64 / PIECE)
#define EACH for (int i = 0; i < PIECES; i++)

typedef float fpiece __attribute__((vector_size(PIECE)));
typedef int32_t ipiece __attribute__((vector_size(PIECE)));
typedef uint32_t upiece __attribute__((vector_size(PIECE)));
typedef int16_t spiece __attribute__((vector_size(PIECE)));
typedef fpiece loose_fpiece __attribute__((aligned(4), may_alias));  // in memory: at any float, any byte
typedef ipiece loose_ipiece __attribute__((aligned(1), may_alias));
typedef struct { fpiece p[PIECES]; } vec;
typedef struct { ipiece p[PIECES]; } ivec;  // 16 int32, or 64 bytes

INLINE ivec ints(int32_t x) { ivec r; EACH r.p[i] = (ipiece){0} + x; return r; }
INLINE vec splat(float x) { vec r; EACH r.p[i] = (fpiece){0} + x; return r; }
INLINE vec load(const float *x) { vec r; EACH r.p[i] = ((const loose_fpiece *)x)[i]; return r; }
INLINE void store(float *x, vec v) { EACH ((loose_fpiece *)x)[i] = v.p[i]; }
INLINE ivec load_bytes(const void *x) { ivec r; EACH r.p[i] = ((const loose_ipiece *)x)[i]; return r; }
INLINE vec add(vec a, vec b) { EACH a.p[i] = a.p[i] + b.p[i]; return a; }
INLINE vec sub(vec a, vec b) { EACH a.p[i] = a.p[i] - b.p[i]; return a; }
INLINE vec mul(vec a, vec b) { EACH a.p[i] = a.p[i] * b.p[i]; return a; }
INLINE vec divide(vec a, vec b) { EACH a.p[i] = a.p[i] / b.p[i]; return a; }
INLINE vec maximum(vec a, vec b) {
    EACH {
        ipiece larger = a.p[i] > b.p[i];
        a.p[i] = (fpiece)((larger & (ipiece)a.p[i]) | (~larger & (ipiece)b.p[i]));
    }
    return a;
}
INLINE vec absolute(vec a) { EACH a.p[i] = (fpiece)((ipiece)a.p[i] & 0x7fffffff); return a; }
INLINE vec to_float(ivec a) { vec r; EACH r.p[i] = __builtin_convertvector(a.p[i], fpiece); return r; }
INLINE vec nearest(vec a) { EACH a.p[i] = (a.p[i] + 0x1.8p23f) - 0x1.8p23f; return a; }  // |a| < 2^22
INLINE ivec to_int(vec a) {  // to nearest even, |a| < 2^22
    ivec r;
    EACH r.p[i] = (ipiece)(a.p[i] + 0x1.8p23f) - 0x4b400000;
    return r;
}
INLINE vec times_power(vec a, vec n) {  // a x 2^n, n whole, the result normal
    ivec e = to_int(n);
    EACH a.p[i] = a.p[i] * (fpiece)((e.p[i] + 127) << 23);
    return a;
}
INLINE vec mask_after(vec a, int last, float filler) {  // lanes past `last` become filler
    int32_t lane[16];
    for (int l = 0; l < 16; l++) lane[l] = l;
    ivec lanes = load_bytes(lane);
    EACH {
        ipiece after = lanes.p[i] > last;
        a.p[i] = (fpiece)((after & (ipiece)((fpiece){0} + filler)) | (~after & (ipiece)a.p[i]));
    }
    return a;
}
#if !defined(HAS_BUTTERFLY)
#if defined(__clang__)
#define REORDERED(a, ...) __builtin_shufflevector(a, a, __VA_ARGS__)
#else
#define REORDERED(a, ...) __builtin_shuffle(a, (ipiece){__VA_ARGS__})
#endif
INLINE vec butterfly(vec a, const int h) {  // lane l: its sum with lane l ^ h, or, where l & h, its difference from it
    const fpiece ones = (fpiece){0} + 1.0f, twos = {1, 1, -1, -1}, turns = {1, -1, 1, -1};
    vec r;
    EACH {
        const fpiece other = h == 1 ? REORDERED(a.p[i], 1, 0, 3, 2) : h == 2 ? REORDERED(a.p[i], 2, 3, 0, 1) : a.p[i ^ h / 4];
        r.p[i] = other + a.p[i] * (h == 1 ? turns : h == 2 ? twos : i & h / 4 ? -ones : ones);
    }
    return r;
}
#endif

INLINE float sum_lanes(vec a) {
    float x[16];
    store(x, a);
    for (int half = 8; half; half /= 2)
        for (int l = 0; l < half; l++) x[l] += x[l + half];
    return x[0];
}
INLINE float max_lanes(vec a) {
    float x[16];
    store(x, a);
    for (int half = 8; half; half /= 2)
        for (int l = 0; l < half; l++) x[l] = x[l] > x[l + half] ? x[l] : x[l + half];
    return x[0];
}
INLINE int32_t store_int8(int8_t *out, vec a) {  // rounds; returns the sum
    int32_t x[16], sum = 0;
    ivec r = to_int(a);
    memcpy(x, &r, 64);
    for (int l = 0; l < 16; l++) {
        out[l] = (int8_t)x[l];
        sum += x[l];
    }
    return sum;
}
INLINE void store_bf16(uint16_t *out, vec a) {  // to nearest even
    uint32_t x[16];
    memcpy(x, &a, 64);
    for (int l = 0; l < 16; l++) out[l] = (uint16_t)((x[l] + 0x7fff + (x[l] >> 16 & 1)) >> 16);
}
INLINE vec first_of_pairs(ivec a) { vec r; EACH r.p[i] = (fpiece)((upiece)a.p[i] << 16); return r; }
INLINE vec second_of_pairs(ivec a) { vec r; EACH r.p[i] = (fpiece)(a.p[i] & (int32_t)0xffff0000); return r; }
INLINE ivec low_nibbles(ivec a) { EACH a.p[i] = a.p[i] & 0x0f0f0f0f; return a; }
INLINE ivec high_nibbles(ivec a) { EACH a.p[i] = (ipiece)((upiece)a.p[i] >> 4 & 0x0f0f0f0f); return a; }

INLINE ivec either(ivec a, ivec b) { EACH a.p[i] = a.p[i] | b.p[i]; return a; }
INLINE ivec masked(ivec a, int32_t mask) { EACH a.p[i] = a.p[i] & mask; return a; }
INLINE ivec shifted(ivec a, const int left) {  // each int32; to the right where negative
    EACH a.p[i] = (ipiece)(left >= 0 ? (upiece)a.p[i] << left : (upiece)a.p[i] >> -left);
    return a;
}

#if !defined(HAS_FMA)
INLINE vec fma16(vec a, vec b, vec c) { EACH c.p[i] = a.p[i] * b.p[i] + c.p[i]; return c; }
#endif

#if !defined(HAS_HALF)
INLINE vec load_half(const uint8_t *x) {  // 16 finite f16
    uint16_t h[16];
    uint32_t magnitude[16], sign[16];
    memcpy(h, x, 32);
    for (int l = 0; l < 16; l++) {
        magnitude[l] = (uint32_t)(h[l] & 0x7fff) << 13;
        sign[l] = (uint32_t)(h[l] & 0x8000) << 16;
    }
    vec r = mul(load((const float *)(const void *)magnitude), splat(0x1p112f));
    ivec s = load_bytes(sign);
    EACH r.p[i] = (fpiece)((ipiece)r.p[i] | s.p[i]);
    return r;
}
#endif

INLINE vec load_unsigned(const uint8_t *x) {  // 16 bytes
    float f[16];
    for (int l = 0; l < 16; l++) f[l] = (float)x[l];
    return load(f);
}
INLINE vec load_signed(const uint8_t *x) {
    float f[16];
    for (int l = 0; l < 16; l++) f[l] = (float)(int8_t)x[l];
    return load(f);
}

#if !defined(HAS_DOTS)
enum { Q8_START = -128 };  // dot_q8 multiplies by weight + 128
INLINE int32_t halves(int8_t low, int8_t high) { return (int32_t)((uint16_t)low | (uint32_t)(uint16_t)high << 16); }
INLINE ivec dot_q8(ivec sum, const ivec *w, const int8_t *x) {  // unsigned bytes of w, 4 columns a lane, 8 vectors
    for (int c = 0; c < 8; c++, x += 4) {
        const ivec even_x = ints(halves(x[0], x[2])), odd_x = ints(halves(x[1], x[3]));
        EACH {  // 255 x 127 fits 16 bits, so products need no wider type
            ipiece even = (ipiece)((spiece)(w[c].p[i] & 0x00ff00ff) * (spiece)even_x.p[i]);
            ipiece odd = (ipiece)((spiece)((ipiece)((upiece)w[c].p[i] >> 8) & 0x00ff00ff) * (spiece)odd_x.p[i]);
            sum.p[i] += (ipiece)((upiece)even << 16) >> 16;
            sum.p[i] += even >> 16;
            sum.p[i] += (ipiece)((upiece)odd << 16) >> 16;
            sum.p[i] += odd >> 16;
        }
    }
    return sum;
}
INLINE ivec dot_q4(ivec sum, const ivec *w, const int8_t *x) {  // nibbles: all 32 columns fit 16 bits
    ivec total = ints(0);
    for (int c = 0; c < 8; c++, x += 4) {
        const ivec even_x = ints(halves(x[0], x[2])), odd_x = ints(halves(x[1], x[3]));
        EACH {
            spiece even = (spiece)(w[c].p[i] & 0x00ff00ff) * (spiece)even_x.p[i];
            spiece odd = (spiece)((ipiece)((upiece)w[c].p[i] >> 8) & 0x00ff00ff) * (spiece)odd_x.p[i];
            total.p[i] = (ipiece)((spiece)total.p[i] + even + odd);
        }
    }
    EACH sum.p[i] += ((ipiece)((upiece)total.p[i] << 16) >> 16) + (total.p[i] >> 16);
    return sum;
}
INLINE ivec dot_q6(ivec sum, const ivec *w, const int8_t *x, const int count) {  // up to 63: 8 columns fit 16 bits
    for (int c = 0; c < count; c += 2, x += 8) {
        ivec total = ints(0);
        for (int j = 0; j < 2; j++) {
            const ivec even_x = ints(halves(x[4 * j], x[4 * j + 2])), odd_x = ints(halves(x[4 * j + 1], x[4 * j + 3]));
            EACH {
                spiece even = (spiece)(w[c + j].p[i] & 0x00ff00ff) * (spiece)even_x.p[i];
                spiece odd = (spiece)((ipiece)((upiece)w[c + j].p[i] >> 8) & 0x00ff00ff) * (spiece)odd_x.p[i];
                total.p[i] = (ipiece)((spiece)total.p[i] + even + odd);
            }
        }
        EACH sum.p[i] += ((ipiece)((upiece)total.p[i] << 16) >> 16) + (total.p[i] >> 16);
    }
    return sum;
}
#endif
