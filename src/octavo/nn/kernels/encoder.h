// An encoder as its parts see it: encoder.c holds weights and runs texts, amx.c multiplies by tiles.
#ifndef OCTAVO_ENCODER_H
#define OCTAVO_ENCODER_H

#include "kernels.h"

enum { AMX_ROWS = 32 };  // tokens come in whole numbers of this, the last ones padding

int amx_available(void);  // whether processor and system let this process use bf16 tiles; asks the system for them
void amx_begin(void);     // once a thread, before it multiplies
void amx_end(void);
// y (tokens, stride) = a times the transpose of m, a BF16 matrix, plus its bias; rows up to whole AMX_ROWS are written.
void amx_multiply(const matrix *m, const activations *a, int tokens, float *y, size_t stride);

#endif
