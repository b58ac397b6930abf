// AVX2 with FMA and F16C.
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif

#include "lanes_avx2.h"
#include "rows.inc.h"
#include "products.inc.h"
#include "attention.inc.h"

const level level_avx2 = LEVEL_TABLE("avx2", AS_F32);

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int octavo_no_avx2;  // ISO C wants something in each file
#endif
