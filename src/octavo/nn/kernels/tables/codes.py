"""The library's numbers of instruction sets, encodings, matrices, norms and switches, and its limits."""

from __future__ import annotations

LEVELS = {"c": 1, "neon": 32, "avx2": 2, "avxvnni": 16, "avx512vnni": 64, "avx512": 4, "amx": 8}
"""The instruction sets, slowest first, with the library's bit for each."""
ENCODINGS = {
    "f32": 0, "bf16": 1, "q8_0": 2, "q4_0": 3, "q4_1": 4, "q5_0": 5, "q5_1": 6, "q4_k": 7, "q5_k": 8, "q6_k": 9,
    "int8": 10,
}  # fmt: skip
"""Weight encodings that have kernels. int8: a row is its scale, four bytes of fp32, and a signed byte a column, whole
groups of 32 of them, each turned by the Walsh-Hadamard matrix."""
MATRICES = {
    "q": 0, "k": 1, "v": 2, "o": 3, "gate": 4, "up": 5, "down": 6, "router": 7, "shared_gate": 8, "q_a": 9,
    "output_gate": 10, "embed": 11, "positions": 12, "head": 13,
}  # fmt: skip
ADAPTED = ("q", "k", "v", "o", "gate", "up", "down")
"""Matrices that may have adapters."""
EXPERTS = 14
"""Where the matrices of experts begin, three each."""
HEADS = 1 << 20
"""Where the matrices of latent attention's heads begin, a key's and a value's each."""
ENCODER_MATRICES = {"q": 0, "k": 1, "v": 2, "o": 3, "up": 4, "down": 5, "gate": 6, "embed_projection": 7}
ENCODER_NORMS = {
    "embed_norm": 0, "attention_output_norm": 1, "attention_norm": 1, "mlp_output_norm": 2, "mlp_norm": 2, "norm": 3
}  # fmt: skip
ENCODER_TABLES = {"embed_tokens": 0, "embed_positions": 1, "embed_types": 2}
NORMS = {
    "attention_norm": 0, "attention_output_norm": 1, "mlp_norm": 2, "mlp_output_norm": 3, "attention.q_norm": 4,
    "attention.k_norm": 5, "norm": 6, "embed_norm": 7, "attention.q_a_norm": 4, "attention.kv_a_norm": 5,
}  # fmt: skip
OF_HEADS = (4, 5)
"""Norms of queries and keys: of heads, or of the vectors that latent attention makes them of."""
VECTORS = {"mlp.correction_bias": 0, "attention.sinks": 1, "mlp.alpha_p": 2, "mlp.alpha_n": 3}
CACHES = {"bf16": 0, "f32": 1, "int8": 2}
"""What keys and values are kept in. int8: with a scale a position and head."""
QK_NORMS = {None: 0, "head": 1, "per_head": 2, "full": 3, "turned": 4}
MAX_HEAD_DIM = 576
MAX_TREE = 64
"""Tokens of a tree after its first."""
