"""The `Objective` seam: a training method is a collator and a loss; the loop is the `Trainer`'s alone.

The loss is a sum, and its count is known before the first backward pass, so that a step's gradient is that of one big
batch however the step is cut into parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

Example_contra = TypeVar("Example_contra", contravariant=True)


@dataclass(frozen=True)
class Batch:
    """Tensors of one part of a step, and how many terms its loss sums (target tokens, pairs, ...)."""

    tensors: Mapping[str, Tensor]
    count: int

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch({name: tensor.to(device) for name, tensor in self.tensors.items()}, self.count)


class Objective(Protocol[Example_contra]):
    """A training method."""

    def collate(self, examples: Sequence[Example_contra]) -> Batch:
        """Examples to tensors, on the CPU."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Scalar: the sum over `batch.count` terms, in fp32. A batch with none gives 0, not NaN."""
        ...
