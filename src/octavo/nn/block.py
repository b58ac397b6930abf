"""One pre-norm decoder block: x + attention(norm(x)), then x + mlp(norm(x)), by the switches of the config."""

from __future__ import annotations

from torch import Tensor, nn

from octavo.nn.attention import Attend, Attention
from octavo.nn.config import TransformerConfig
from octavo.nn.mlp import Mlp
from octavo.nn.norms import make_norm


class Block(nn.Module):
    """attention_norm, attention, mlp_norm, mlp."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention_norm = make_norm(config.norm, config.hidden_size)
        self.attention = Attention(config.attention, config.hidden_size)
        self.mlp_norm = make_norm(config.norm, config.hidden_size)
        self.mlp = Mlp(config.mlp, config.hidden_size)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, attend: Attend) -> Tensor:
        """(batch, tokens, hidden_size) -> the same."""
        x = x + self.attention(self.attention_norm(x), rotary, attend)
        return x + self.mlp(self.mlp_norm(x))  # type: ignore[no-any-return]
