// llama.cpp through its C API, one timed step at a time: a side of race.py; llama_cpp.py compiles it. With IK_LLAMA
// defined it is ik_llama.cpp, whose weights are laid out anew as they are loaded, its best setting.
// Usage: llama_steps MODEL THREADS STEPS. Prints a JSON object: seconds of loading, and for each step seconds by the clock
// and of the processor.
#include <llama.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { CONTEXT = 1024, PROMPT = 512, SEQUENCES = 8 };

#ifdef IK_LLAMA
#define clear(context) llama_kv_cache_clear(context)
#define llama_model_free llama_free_model
#else
#define clear(context) llama_memory_clear(llama_get_memory(context), true)
#endif

static double seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void quiet(enum ggml_log_level level, const char *text, void *data) { (void)level, (void)text, (void)data; }

static void add(struct llama_batch *b, int token, int position, int sequence, int logits) {
    const int i = b->n_tokens++;
    b->token[i] = token;
    b->pos[i] = position;
    b->n_seq_id[i] = 1;
    b->seq_id[i][0] = sequence;
    b->logits[i] = (int8_t)logits;
}

static void timed(struct llama_context *c, struct llama_batch b, const char *separator) {
    const double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    if (llama_decode(c, b)) exit(1);
    (void)llama_get_logits_ith(c, b.n_tokens - 1);
    printf("%s[%.7f, %.7f]", separator, seconds(CLOCK_MONOTONIC) - wall, seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
}

static void decode(struct llama_context *c, struct llama_batch b, int sequences, int steps) {
    clear(c);
    for (int step = 0; step < steps; step++) {
        b.n_tokens = 0;
        for (int s = 0; s < sequences; s++) add(&b, 100 + 7 * s + step, step, s, 1);
        timed(c, b, step ? ", " : "");
    }
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    const int threads = atoi(argv[2]), steps = atoi(argv[3]);
    llama_log_set(quiet, NULL);
    llama_backend_init();
    const double start = seconds(CLOCK_MONOTONIC);
    struct llama_model_params how = llama_model_default_params();
#ifdef IK_LLAMA
    how.repack_tensors = true;
#endif
    struct llama_model *model = llama_model_load_from_file(argv[1], how);
    if (!model) return 1;
    struct llama_context_params p = llama_context_default_params();
    p.n_ctx = CONTEXT;
    p.n_batch = p.n_ubatch = PROMPT;
    p.n_seq_max = SEQUENCES;
#ifndef IK_LLAMA
    p.kv_unified = true;
#endif
    p.n_threads = p.n_threads_batch = threads;
    struct llama_context *c = llama_init_from_model(model, p);
    if (!c) return 1;
    printf("{\"load\": %.4f, \"decode 1\": [", seconds(CLOCK_MONOTONIC) - start);
    struct llama_batch b = llama_batch_init(PROMPT, 0, SEQUENCES);
    decode(c, b, 1, steps);
    printf("], \"decode 8\": [");
    decode(c, b, SEQUENCES, steps);
    printf("], \"prefill 512\": [");
    for (int again = 0; again < 2; again++) {
        clear(c);
        b.n_tokens = 0;
        for (int i = 0; i < PROMPT; i++) add(&b, 100 + i, i, 0, i == PROMPT - 1);
        timed(c, b, again ? ", " : "");
    }
    printf("]}\n");
    llama_batch_free(b);
    llama_free(c);
    llama_model_free(model);
    return 0;
}
