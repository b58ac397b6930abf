"""`TransformerConfig`: what a model is, as frozen, nested, orthogonal switches. No torch here.

A family file maps a checkpoint's config onto it; blocks and kernels read the switches and never a model's name.
A field that no family uses does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NormKind = Literal["rms", "layer"]
Activation = Literal["silu", "gelu", "gelu_tanh", "relu"]


@dataclass(frozen=True)
class NormConfig:
    """rms: x / sqrt(mean(x^2) + eps) * weight. layer: LayerNorm with weight and bias."""

    kind: NormKind
    eps: float


@dataclass(frozen=True)
class RopeConfig:
    """Rotary embedding in the half layout: feature i turns with feature i + rotary_dim / 2.

    freq_factors: rotary_dim / 2 divisors of the inverse frequencies (linear and llama3 scaling), or None for all 1.
    """

    theta: float
    rotary_dim: int
    freq_factors: tuple[float, ...] | None = None


@dataclass(frozen=True)
class AttentionConfig:
    """Multi-head (num_kv_heads = num_heads), grouped-query or multi-query (num_kv_heads = 1) attention.

    num_heads * head_dim need not be hidden_size. Scores are scaled by head_dim ** -0.5.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    qkv_bias: bool = False
    output_bias: bool = False


@dataclass(frozen=True)
class MlpConfig:
    """gated: down(act(gate(x)) * up(x)); plain: down(act(up(x)))."""

    intermediate_size: int
    activation: Activation
    gated: bool
    bias: bool = False


@dataclass(frozen=True)
class TransformerConfig:
    """A decoder of pre-norm blocks. rope None: positions are a learned table of context_length rows."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    context_length: int
    norm: NormConfig
    attention: AttentionConfig
    mlp: MlpConfig
    rope: RopeConfig | None
    tie_embeddings: bool
