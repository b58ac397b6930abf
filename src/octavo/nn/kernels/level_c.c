// The portable level: plain C on the compiler's 16-byte vectors (SSE2, NEON, or scalars where there are none).
#include "kernels.h"

#include <math.h>
#include <string.h>

#define PIECE 16
#define MAX_TILE 4
#include "lanes_pieces.h"
#include "rows.inc.h"
#include "products.inc.h"
#include "attention.inc.h"

const level level_c = LEVEL_TABLE("c", AS_F32);
