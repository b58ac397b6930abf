"""Every task as text to text (Raffel et al. 2019, arXiv 1910.10683): a source is read, and a target written.

The decoder begins with the start token and is told the target's tokens as it goes; the loss is the cross-entropy of
each token of the target, its end among them, in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from octavo.models.transformer import Transformer
from octavo.train.objectives.causal_lm import IGNORED
from octavo.train.objectives.objective import Batch


@dataclass(frozen=True)
class Pair:
    """Token ids of both sides; the target with its end."""

    source: Sequence[int]
    target: Sequence[int]


class TextToText:
    """An example is a `Pair`; it counts its target's tokens."""

    def __init__(self, start_id: int) -> None:
        """start_id: what begins a target."""
        self._start_id = start_id

    def collate(self, examples: Sequence[Pair]) -> Batch:
        """source and its mask: (rows, longest); tokens, targets: (rows, longest target)."""
        source, mask = _padded([example.source for example in examples], 0)
        targets, _ = _padded([example.target for example in examples], IGNORED)
        tokens, _ = _padded([[self._start_id, *example.target[:-1]] for example in examples], 0)
        count = sum(len(example.target) for example in examples)
        return Batch({"source": source, "mask": mask, "tokens": tokens, "targets": targets}, count)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """model: a `Transformer` with an encoder."""
        assert isinstance(model, Transformer), "the model has an encoder and a decoder"
        memory = model.remember(batch.tensors["source"], batch.tensors["mask"])
        logits = model(batch.tensors["tokens"], memory=memory)
        targets = batch.tensors["targets"].flatten()
        return functional.cross_entropy(logits.flatten(0, 1).float(), targets, ignore_index=IGNORED, reduction="sum")


def _padded(rows: Sequence[Sequence[int]], fill: int) -> tuple[Tensor, Tensor]:
    longest = max((len(row) for row in rows), default=1)
    tokens = torch.full((len(rows), max(longest, 1)), fill)
    mask = torch.zeros(tokens.shape, dtype=torch.bool)
    for at, row in enumerate(rows):
        tokens[at, : len(row)] = torch.tensor(list(row), dtype=torch.long)
        mask[at, : len(row)] = True
    return tokens, mask
