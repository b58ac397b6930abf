// Memory that costs nothing until it is touched: anonymous mappings, cut from the front.
//
// One arena for many tensors, since a mapping of its own for each would waste half a huge page a tensor.
#define _GNU_SOURCE
#include "kernels.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if !defined(MAP_ANONYMOUS)
#define MAP_ANONYMOUS MAP_ANON
#endif
#if !defined(MAP_NORESERVE)
#define MAP_NORESERVE 0
#endif

static const size_t HUGE = (size_t)2 << 20, CHUNK = (size_t)64 << 20;

static region *new_region(arena *a, size_t bytes) {
    region *r = calloc(1, sizeof *r);
    if (!r) return NULL;
#if defined(__SANITIZE_ADDRESS__)  // one block an allocation, so that the sanitizer sees its ends
    void *base = NULL;
    if (posix_memalign(&base, 64, bytes)) base = NULL;
    else memset(base, 0, bytes);
#else
    if (bytes < CHUNK) bytes = CHUNK;
    bytes = (bytes + HUGE - 1) & ~(HUGE - 1);
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) base = NULL;
#if defined(MADV_HUGEPAGE)
    else if (a->huge) madvise(base, bytes, MADV_HUGEPAGE);
#endif
    r->mapped = 1;
#endif
    if (!base) {
        free(r);
        return NULL;
    }
    r->base = base;
    r->bytes = bytes;
    r->next = a->first;
    return a->first = r;
}

void *arena_take(arena *a, size_t bytes) {
    if (bytes > SIZE_MAX / 2) return NULL;
    bytes = (bytes + 63) & ~(size_t)63;
    region *r = a->first;
    if (!r || r->bytes - r->used < bytes) r = new_region(a, bytes ? bytes : 64);
    if (!r) return NULL;
    void *taken = (char *)r->base + r->used;
    r->used += bytes;
    return taken;
}

void arena_free(arena *a) {
    while (a->first) {
        region *r = a->first;
        a->first = r->next;
        if (r->mapped) munmap(r->base, r->bytes);
        else free(r->base);
        free(r);
    }
}
