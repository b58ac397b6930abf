"""Runs a decoder and watches it: what each head attends to, what stands in the residual stream after each block.

Unusual: attention weights are read by letting the same attention mix the rows of an identity matrix, so that windows,
soft caps, ALiBi and sinks are seen as they are, and no second softmax is written. Heads are switched off where their
output would enter the output projection.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from octavo.models.transformer import Transformer
from octavo.nn.scoring import Scoring, scaled_attention

Heads = Collection[tuple[int, int]]
"""(layer, head) pairs, both from 0."""


@dataclass(frozen=True)
class Watched:
    """logits: (batch, tokens, vocab_size). residuals: the embeddings, then the stream after each block, each (batch,
    tokens, hidden_size); empty where it was not asked for."""

    logits: Tensor
    residuals: tuple[Tensor, ...]


class WatchingAttention:
    """Implements `nn.paged.Cache` for whole sequences. see: called with each layer's weights (batch, heads, tokens,
    tokens). off: heads whose output becomes zero."""

    def __init__(self, see: Callable[[int, Tensor], None] | None, off: Heads) -> None:
        self._see = see
        self._off = off

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scoring: Scoring) -> Tensor:
        """As `Cache.attend`."""
        if self._see is not None:
            rows = torch.eye(k.shape[2], dtype=v.dtype, device=v.device).expand(*k.shape[:3], -1)
            self._see(layer, scaled_attention(q, k, rows, scoring))
        mixed = scaled_attention(q, k, v, scoring)
        heads = [head for at, head in self._off if at == layer]
        return mixed.index_fill(1, torch.tensor(heads, device=mixed.device), 0) if heads else mixed


@torch.inference_mode()
def watch(
    model: Transformer,
    tokens: Tensor,
    *,
    see: Callable[[int, Tensor], None] | None = None,
    off: Heads = (),
    residuals: bool = False,
) -> Watched:
    """Run whole sequences. tokens: (batch, tokens) integers."""
    positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    embedded = model.embed(tokens, positions)
    stream = [embedded]
    hooks = [block.register_forward_hook(_keep(stream)) for block in model.blocks] if residuals else []
    try:
        hidden = model.hidden(embedded, positions, WatchingAttention(see, off))
    finally:
        for hook in hooks:
            hook.remove()
    return Watched(model.logits(hidden), tuple(stream) if residuals else ())


def _keep(stream: list[Tensor]) -> Callable[[nn.Module, tuple[object, ...], Tensor], None]:
    def hook(block: nn.Module, arguments: tuple[object, ...], output: Tensor) -> None:
        stream.append(output)

    return hook
