"""Multi-head, grouped-query (Ainslie et al. 2023, arXiv 2305.13245) and multi-query attention, in one class.

Unusual: the layer projects, normalises and rotates, then hands q, k and v to an `Attend` with the `Scoring` of its
block: what keeps keys and values is not its business. Whole sequences in training and paged memory in serving both fit
behind it.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from octavo.nn.config import TransformerConfig
from octavo.nn.linear import Linear
from octavo.nn.norms import HeadNorm, LayerNorm, RmsNorm, make_norm
from octavo.nn.rotary import rotate
from octavo.nn.scoring import Scoring, cross_attention
from octavo.nn.shapes import qk_norm_widths


class Attend(Protocol):
    """Mixes values, by keys that it may keep."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, scoring: Scoring) -> Tensor:
        """q: (batch, heads, tokens, head_dim); k, v: (batch, kv_heads, tokens, head_dim) -> of q's shape."""
        ...


class Attention(nn.Module):
    """q: hidden_size -> heads * head_dim; k, v: -> kv_heads * head_dim; o: back to hidden_size."""

    q_norm: nn.Module | None
    k_norm: nn.Module | None

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        attention, width = config.attention, config.hidden_size
        self.head_dim = attention.head_dim
        self.scoring = Scoring.of(config, layer)
        q_size, kv_size = attention.num_heads * attention.head_dim, attention.num_kv_heads * attention.head_dim
        self.q = Linear(width, q_size, bias=attention.qkv_bias)
        self.k = Linear(width, kv_size, bias=attention.qkv_bias)
        self.v = Linear(width, kv_size, bias=attention.qkv_bias)
        self.o = Linear(q_size, width, bias=attention.output_bias)
        self.split_norm = attention.qk_norm == "head"
        self.q_norm = _qk_norm(config, "q_norm", attention.num_heads)
        self.k_norm = _qk_norm(config, "k_norm", attention.num_kv_heads)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, attend: Attend) -> Tensor:
        """x: (batch, tokens, hidden_size) -> the same. rotary: cos and sin of the positions, None without rotary."""
        q, (k, v) = self._heads(self.q(x), self.q_norm), self.keys_values(x)
        if rotary is not None:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        return self._output(attend(q, k, v, self.scoring))

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: (batch, tokens, hidden_size) -> its keys and values, (batch, kv_heads, tokens, head_dim)."""
        return self._heads(self.k(x), self.k_norm), self._heads(self.v(x))

    def read(self, x: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Cross-attention to keys and values of other tokens. mask: (batch, keys) bool, false at padding."""
        return self._output(cross_attention(self._heads(self.q(x), self.q_norm), k, v, self.scoring.scale, mask))

    def _output(self, mixed: Tensor) -> Tensor:
        return self.o(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _heads(self, x: Tensor, norm: nn.Module | None = None) -> Tensor:
        """(batch, tokens, n * head_dim) -> (batch, n, tokens, head_dim), normalised before or after the split."""
        if norm is not None and not self.split_norm:
            x = norm(x)
        x = x.view(*x.shape[:2], -1, self.head_dim)
        if norm is not None and self.split_norm:
            x = norm(x)
        return x.transpose(1, 2)


def _qk_norm(config: TransformerConfig, name: str, heads: int) -> RmsNorm | LayerNorm | HeadNorm | None:
    width = qk_norm_widths(config.attention).get(name)
    if width is None:
        return None
    if config.attention.qk_norm == "per_head":
        assert config.norm.kind == "layer_without_bias", "heads with a norm each are layer-normalised"
        return HeadNorm(width, heads, config.norm.eps)
    return make_norm(config.norm, width)
