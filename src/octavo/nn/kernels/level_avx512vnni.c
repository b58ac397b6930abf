// AVX-512 with VNNI and no BF16 (Cascade and Ice Lake, Tiger Lake): bf16 is widened and multiplied in fp32.
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute push(                                                                       \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"))), \
    apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#endif

#include "lanes_avx512.h"
#include "rows.inc.h"
#include "products.inc.h"
#include "attention.inc.h"

const level level_avx512vnni = LEVEL_TABLE("avx512vnni", AS_F32);

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int octavo_no_avx512vnni;  // ISO C wants something in each file
#endif
