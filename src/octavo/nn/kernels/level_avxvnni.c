// AVX2 with AVX-VNNI, of processors that have no AVX-512.
#include "kernels.h"

#if defined(HAS_AVX_VNNI)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avxvnni"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,avxvnni")
#endif

#define AVX_VNNI
#include "lanes_avx2.h"
#include "rows.inc.h"
#include "products.inc.h"
#include "attention.inc.h"

const level level_avxvnni = LEVEL_TABLE("avxvnni", AS_F32);

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int octavo_no_avxvnni;  // ISO C wants something in each file
#endif
