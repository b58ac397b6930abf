// AVX-512 with VNNI and BF16.
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute push(                                                                       \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16"))), \
    apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")
#endif

#define BF16_PRODUCTS
#include "lanes_avx512.h"
#include "rows.inc.h"
#include "products.inc.h"
#include "attention.inc.h"

const level level_avx512 = LEVEL_TABLE("avx512", AS_BF16);

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int octavo_no_avx512;  // ISO C wants something in each file
#endif
