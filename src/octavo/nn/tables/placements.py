"""The norms of a block, by where they stand."""

from __future__ import annotations

from octavo.nn.config import Placement

NORMS: dict[Placement, tuple[str, ...]] = {
    "pre": ("attention_norm", "mlp_norm"),
    "post": ("attention_output_norm", "mlp_output_norm"),
    "output": ("attention_output_norm", "mlp_output_norm"),
    "sandwich": ("attention_norm", "attention_output_norm", "mlp_norm", "mlp_output_norm"),
    "parallel": ("attention_norm",),
    "parallel_two": ("attention_norm", "mlp_norm"),
}
"""Of a block that reads no memory, by their placement."""
