// NEON with dot products (ARMv8.2 DotProd): four int8 products a lane in one instruction, on signed weights.
#include "kernels.h"

#if defined(HAS_NEON_DOTS)
#include <arm_neon.h>
#include <math.h>
#include <string.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

#define PIECE 16
#define MAX_TILE 4
#define HAS_FMA
#define HAS_DOTS
#include "lanes_pieces.h"

INLINE vec fma16(vec a, vec b, vec c) {
    EACH c.p[i] = (fpiece)vfmaq_f32((float32x4_t)c.p[i], (float32x4_t)a.p[i], (float32x4_t)b.p[i]);
    return c;
}

INLINE ivec dot_signed(ivec sum, const ivec *w, const int8_t *x, const int count, const uint8_t flip) {
    for (int c = 0; c < count; c++) {
        int32_t columns;
        memcpy(&columns, x + 4 * c, 4);
        const int8x16_t every = vreinterpretq_s8_s32(vdupq_n_s32(columns));
        EACH {
            const int8x16_t q = vreinterpretq_s8_u8(veorq_u8((uint8x16_t)w[c].p[i], vdupq_n_u8(flip)));
            sum.p[i] = (ipiece)vdotq_s32((int32x4_t)sum.p[i], q, every);
        }
    }
    return sum;
}

enum { Q8_START = 0 };  // dot_q8 takes the signed weight
INLINE ivec dot_q8(ivec sum, const ivec *w, const int8_t *x) { return dot_signed(sum, w, x, 8, 0x80); }
INLINE ivec dot_q6(ivec sum, const ivec *w, const int8_t *x, const int count) { return dot_signed(sum, w, x, count, 0); }
INLINE ivec dot_q4(ivec sum, const ivec *w, const int8_t *x) { return dot_signed(sum, w, x, 8, 0); }

#include "rows.inc.h"
#include "products.inc.h"
#include "attention.inc.h"

const level level_neon = LEVEL_TABLE("neon", AS_F32);

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int octavo_no_neon;  // ISO C wants something in each file
#endif
