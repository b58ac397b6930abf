// From logits to a token: what numpy would do in some twenty calls of a microsecond or two each.
#include "kernels.h"

#include <math.h>

static const float NEVER = -80.0f;  // exp of less is lost in any sum, and would be a slow denormal

static float weight(float logit, float largest, float temperature) {
    return expf(fmaxf((logit - largest) / temperature, NEVER));
}

// sums (count / WEIGHTS, rounded up): of exp((logit - the largest) / temperature); returns the largest.
EXPORT float octavo_sum_weights(int32_t level_bit, const float *logits, int32_t count, float temperature, float *sums) {
    return level_of(level_bit)->sum_weights(logits, count, 1.0f / temperature, sums);
}

// The index at which the weights, summed up from the first on, reach a part of all; part > 0. sums: as above, to work in.
EXPORT int32_t octavo_draw(int32_t level_bit, const float *logits, int32_t count, float temperature, double part,
                           float *sums) {
    const float largest = octavo_sum_weights(level_bit, logits, count, temperature, sums);
    const int chunks = (count + WEIGHTS - 1) / WEIGHTS;
    double total = 0.0, before = 0.0, inside = 0.0;
    for (int c = 0; c < chunks; c++) total += sums[c];
    const double place = part * total;
    int chunk = 0;
    while (chunk + 1 < chunks && before + sums[chunk] < place) before += sums[chunk++];
    const int first = chunk * WEIGHTS, end = first + WEIGHTS < count ? first + WEIGHTS : count;
    double reached[WEIGHTS];
    for (int i = first; i < end; i++) reached[i - first] = inside += weight(logits[i], largest, temperature);
    const double sought = fmin(place - before, inside);  // the weights of a chunk and their sum differ by rounding
    int at = first;
    while (at + 1 < end && reached[at - first] < sought) at++;
    return at;
}

// ids, weights (most): so many of the likeliest, in the order of their ids, that their weights sum to at least `part` of
// all, which is written to `wanted`; returns how many, -1 where `most` are too few. sums: as above, to work in.
EXPORT int32_t octavo_likeliest(int32_t level_bit, const float *logits, int32_t count, float temperature, double part,
                                int32_t most, float *sums, int32_t *ids, float *weights, double *wanted) {
    static const float depths[] = {4.0f, 6.0f, 8.0f, 11.0f, 16.0f, INFINITY};
    const float largest = octavo_sum_weights(level_bit, logits, count, temperature, sums);
    double total = 0.0;
    for (int c = 0; c * WEIGHTS < count; c++) total += sums[c];
    *wanted = part * total;
    for (int d = 0; d < (int)(sizeof depths / sizeof *depths); d++) {
        const float least = largest - depths[d] * temperature;
        const float worth = 0.99f * expf(-depths[d]);  // a chunk with a sum below has none of them
        double sum = 0.0;
        int found = 0;
        for (int first = 0; first < count; first += 16) {
            if (sums[first / WEIGHTS] < worth) {
                first += WEIGHTS - 16;
                continue;
            }
            const int end = first + 16 < count ? first + 16 : count;
            int any = 0;
            for (int i = first; i < end; i++) any |= logits[i] > least;
            for (int i = first; any && i < end; i++) {
                if (!(logits[i] > least)) continue;
                if (found == most) return -1;
                ids[found] = i;
                sum += weights[found++] = weight(logits[i], largest, temperature);
            }
        }
        if (sum >= *wanted || d + 1 == (int)(sizeof depths / sizeof *depths)) return found;
    }
    return -1;
}
