"""Rows and columns of each matrix, and the length of each norm, that a model of a shape has."""

from __future__ import annotations

from typing import Any

from octavo.nn.kernels.tables.codes import QK_NORMS

LATENT = ("q", "q_a", "k", "v", "o", "key", "value")
"""Matrices that latent attention has otherwise, or alone. Of its heads: `heads.N.key` and `heads.N.value`."""


def matrix_shape(shape: Any, slot: str) -> tuple[int, int]:
    """Rows and columns of a matrix of a `interface.Shape`.

    slot: a key of MATRICES; `experts.N.` or `shared.` and gate, up or down; `heads.N.` and key or value.
    """
    owner, _, leaf = slot.rpartition(".")
    if shape.latent.kv_rank and leaf in LATENT:
        return _latent_shape(shape, leaf)
    width, moe = shape.hidden_size, shape.moe
    mlp = {"": shape.intermediate_size, "shared": moe.shared_size}.get(owner, moe.expert_size)
    queries, keys = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    shapes = {"q": (queries, width), "k": (keys, width), "v": (keys, width), "o": (width, queries)}
    shapes |= {"output_gate": (queries, width)}
    shapes |= {"gate": (mlp, width), "up": (mlp, width), "down": (width, mlp)}
    shapes |= {"router": (moe.experts, width), "shared_gate": (1, width)}
    shapes |= {"embed": (shape.vocab_size, width), "head": (shape.vocab_size, width)}
    return {**shapes, "positions": (shape.context_length, width)}[leaf]


def _latent_shape(shape: Any, leaf: str) -> tuple[int, int]:
    latent, heads, width = shape.latent, shape.num_heads, shape.hidden_size
    queries = heads * (latent.kept_dim + latent.rotary_dim)
    shapes = {"q": (queries, latent.q_rank or width), "q_a": (latent.q_rank, width), "k": (latent.kv_rank, width)}
    shapes |= {"v": (latent.rotary_dim, width), "o": (width, heads * latent.value_dim)}
    return {
        **shapes, "key": (latent.kv_rank, latent.kept_dim), "value": (latent.value_dim, latent.kv_rank),
    }[leaf]  # fmt: skip


def norm_width(shape: Any, slot: str) -> int:
    """Length of the weight of a norm: a key of NORMS."""
    if slot in ("attention.q_a_norm", "attention.kv_a_norm"):
        rank: int = shape.latent.q_rank if slot == "attention.q_a_norm" else shape.latent.kv_rank
        return rank
    one = shape.qk_norm in (QK_NORMS["head"], QK_NORMS["turned"])
    heads = {"attention.q_norm": shape.num_heads, "attention.k_norm": shape.num_kv_heads}
    width: int = shape.head_dim * (1 if one else heads[slot]) if slot in heads else shape.hidden_size
    return width
