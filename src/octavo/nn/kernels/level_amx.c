// AMX beside AVX-512: matrices of bf16 always, those of integers from 16 tokens on, where bits are those of AVX-512.
#include "kernels.h"

#if defined(HAS_AMX)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#if defined(__clang__)
#pragma clang attribute push(                                                                       \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16"))), \
    apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")
#endif

#define TILE_PRODUCTS
#define BF16_PRODUCTS
#include "lanes_avx512.h"
#include "rows.inc.h"
#include "products.inc.h"
#include "tiles.inc.h"
#include "attention.inc.h"

const level level_amx = LEVEL_TABLE("amx", AS_BF16);

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int octavo_no_amx;  // ISO C wants something in each file
#endif
