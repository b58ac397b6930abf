// octavo_product for an emulator: sizes, weights and activations from stdin, the product to stdout.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int32_t octavo_levels(void);
int32_t octavo_product(int32_t level, int32_t encoding, int32_t rows, int32_t columns, const uint8_t *source, const float *x,
                       int32_t tokens, float *y);

int main(void) {
    int32_t n[6];  // level, encoding, rows, columns, bytes of the weights, tokens
    while (fread(n, 4, 6, stdin) == 6) {
        uint8_t *source = malloc((size_t)n[4]);
        float *x = malloc((size_t)n[5] * (size_t)n[3] * 4), *y = malloc((size_t)n[5] * (size_t)n[2] * 4);
        if (!source || !x || !y || !(octavo_levels() & n[0])) return 2;
        if (fread(source, 1, (size_t)n[4], stdin) != (size_t)n[4]) return 3;
        if (fread(x, 4, (size_t)n[5] * (size_t)n[3], stdin) != (size_t)n[5] * (size_t)n[3]) return 3;
        if (octavo_product(n[0], n[1], n[2], n[3], source, x, n[5], y)) return 4;
        fwrite(y, 4, (size_t)n[5] * (size_t)n[2], stdout);
        free(source), free(x), free(y);
    }
    return 0;
}
