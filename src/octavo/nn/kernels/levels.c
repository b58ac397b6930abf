// Which instruction sets this processor runs, and one matrix multiplied on any of them, apart from a model.
#define _GNU_SOURCE
#include "kernels.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(HAS_AMX)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(HAS_NEON_DOTS) && defined(__linux__)
#include <sys/auxv.h>
#endif

#if defined(HAS_AMX)
static int has_amx(void) {  // and the system lets this process use it, which it must be asked once
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    unsigned a, b, c, d;
    const unsigned needed = 1u << 22 | 1u << 24 | 1u << 25;  // bf16, tiles, int8
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & needed) != needed) return 0;
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}
#elif defined(__x86_64__)
static int has_amx(void) { return 0; }
#endif

EXPORT int32_t octavo_levels(void) {  // bits: 1 c, 2 avx2, 4 avx512, 8 amx, 16 avxvnni, 32 neon, 64 avx512vnni
    int32_t levels = 1;
#if defined(__x86_64__)
    __builtin_cpu_init();
    unsigned a, b, c, d;
    const int f16c = __get_cpuid(1, &a, &b, &c, &d) && (c >> 29 & 1);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c) levels |= 2;
    if ((levels & 2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni"))
        levels |= 64;
    if ((levels & 64) && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1)) levels |= 4;  // bf16
    if ((levels & 4) && has_amx()) levels |= 8;
#endif
#if defined(HAS_AVX_VNNI)
    if ((levels & 2) && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1)) levels |= 16;
#endif
#if defined(HAS_NEON_DOTS) && defined(__linux__)
    enum { DOT_PRODUCTS = 1 << 20 };  // HWCAP_ASIMDDP
    if (getauxval(AT_HWCAP) & DOT_PRODUCTS) levels |= 32;
#elif defined(HAS_NEON_DOTS) && defined(__APPLE__)
    levels |= 32;  // every processor of theirs with a 64-bit macOS
#endif
    return levels;
}

const level *level_of(int32_t bit) {
#if defined(HAS_NEON_DOTS)
    if (bit == 32) return &level_neon;
#endif
#if defined(HAS_AVX_VNNI)
    if (bit == 16) return &level_avxvnni;
#endif
#if defined(HAS_AMX)
    if (bit == 8) return &level_amx;
#endif
#if defined(__x86_64__)
    if (bit == 64) return &level_avx512vnni;
    if (bit == 4) return &level_avx512;
    if (bit == 2) return &level_avx2;
#endif
    return bit == 1 ? &level_c : NULL;
}

static void take(activations *a, arena *work, int rows, int width) {
    const size_t n = (size_t)rows * (size_t)width;
    *a = (activations){.width = width, .int8 = arena_take(work, n), .bf16 = arena_take(work, n * 2),
                       .f32 = arena_take(work, n * 4), .scale = arena_take(work, n / GROUP * 4),
                       .scaled_sum = arena_take(work, n / GROUP * 4), .sum = arena_take(work, n / GROUP * 4),
                       .first_sum = arena_take(work, n / GROUP * 4), .turned = arena_take(work, n),
                       .turned_scale = arena_take(work, n / GROUP * 4), .turned_sum = arena_take(work, n / GROUP * 4)};
}

// y (tokens, rows) = x (tokens, columns) times the transpose of source (rows, columns), on one thread.
EXPORT int32_t octavo_product(int32_t level_bit, int32_t encoding_of, int32_t rows, int32_t columns, const uint8_t *source,
                              const float *x, int32_t tokens, float *y) {
    const level *l = level_of(level_bit);
    arena work = {0};
    matrix m = {.encoding = (encoding)encoding_of, .rows = rows, .columns = columns,
                .panels = (rows + PANEL - 1) / PANEL, .groups = (columns + GROUP - 1) / GROUP};
    activations a;
    take(&a, &work, tokens, m.groups * GROUP);
    m.data = arena_take(&work, (size_t)m.panels * panel_bytes(m.encoding, m.groups));
    float *row = arena_take(&work, (size_t)a.width * 4);
    const int taken = a.int8 && a.bf16 && a.f32 && a.scale && a.scaled_sum && a.sum && a.first_sum && a.turned &&
                      a.turned_scale && a.turned_sum && m.data && row;
    if (taken) {
        pack_panels(&m, source, 0, m.panels);
        for (int t = 0; t < tokens; t++) {
            memcpy(row, x + (size_t)t * (size_t)columns, (size_t)columns * 4);
            l->prepare(&a, t, row, l->forms[m.encoding]);
        }
        l->multiply(&m, &a, tokens, y, (size_t)rows, 0, 0, m.panels);
    }
    arena_free(&work);
    return taken ? 0 : -1;
}
