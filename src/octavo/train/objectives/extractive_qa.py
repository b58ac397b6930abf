"""Extractive question answering: where an answer starts and where it ends, by cross-entropy over the tokens.

A question without an answer has both at the first token, `[CLS]`, whose scores say so (SQuAD 2.0). Unusual: padding
takes no part in the softmax, so that an example's loss does not depend on what it is batched with.
Source: Devlin et al. 2018 (arXiv 1810.04805), section 4.3.

`DistilledQA` learns what several readers think of a window, not only where its answer is marked (Hinton, Vinyals and
Dean 2015, arXiv 1503.02531): the mean of their chances, which says how likely each other span and no answer are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from octavo.train.objectives.objective import Batch


@dataclass(frozen=True)
class Marked:
    """ids, types: a window's tokens. start, end: the answer's first and last among them; 0, 0 for no answer."""

    ids: Sequence[int]
    types: Sequence[int]
    start: int
    end: int


class ExtractiveQA:
    """An example is a `Marked` window; it counts 1."""

    def collate(self, examples: Sequence[Marked]) -> Batch:
        """tokens, types: (rows, longest) int64; mask: the same, bool; marks: (rows, 2) int64."""
        longest = max((len(example.ids) for example in examples), default=1)
        tokens = np.zeros((len(examples), longest), np.int64)
        types, mask = np.zeros_like(tokens), np.zeros_like(tokens, bool)
        for row, example in enumerate(examples):
            size = len(example.ids)
            tokens[row, :size], types[row, :size], mask[row, :size] = example.ids, example.types, True
        marks = np.array([(example.start, example.end) for example in examples], np.int64).reshape(-1, 2)
        arrays = {"tokens": tokens, "types": types, "mask": mask, "marks": marks}
        return Batch({name: torch.from_numpy(array) for name, array in arrays.items()}, len(examples))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """model: (tokens, mask, types) -> (rows, tokens, 2): the mean of the two cross-entropies, summed over rows."""
        return F.cross_entropy(_scores(model, batch), batch.tensors["marks"], reduction="sum") / 2


class DistilledQA(ExtractiveQA):
    """The same examples; the marks count `1 - weight`, the teachers' mean chances `weight`, at temperature 1.

    Validation, with the model in its evaluation mode, is by the marks alone. The teachers are not trained.
    """

    def __init__(self, teachers: Sequence[nn.Module], weight: float) -> None:
        self._teachers, self._weight = [teacher.eval() for teacher in teachers], weight

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """As `ExtractiveQA`'s; the cross-entropy with the teachers' chances is a mean over start and end, too."""
        if not model.training:
            return super().loss(model, batch)
        scores, marks = _scores(model, batch), batch.tensors["marks"]
        with torch.no_grad():
            device = marks.device
            chances = [_scores(teacher.to(device), batch).softmax(1) for teacher in self._teachers]
        target = torch.stack(chances).mean(0)
        # A padded token's score is minus infinity and its chance 0, whose product would not be a number.
        learnt = -(target * F.log_softmax(scores, 1).masked_fill(~batch.tensors["mask"][:, :, None], 0)).sum() / 2
        return self._weight * learnt + (1 - self._weight) * F.cross_entropy(scores, marks, reduction="sum") / 2


def _scores(model: nn.Module, batch: Batch) -> Tensor:
    """(rows, tokens, 2) in float32; padding has minus infinity."""
    mask = batch.tensors["mask"]
    scores: Tensor = model(batch.tensors["tokens"], mask, batch.tensors["types"])
    return scores.float().masked_fill(~mask[:, :, None], -math.inf)
