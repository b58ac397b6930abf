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
    """ids, types: a window's tokens. start, end: the answer's first and last among them; 0, 0 for no answer.

    taught, part: how much teachers count beside the marks, and which of them do; for `DistilledQA`.
    """

    ids: Sequence[int]
    types: Sequence[int]
    start: int
    end: int
    taught: float = 0.0
    part: int = 0


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
    """The same examples; an example's marks count `1 - taught`, its teachers' mean chances `taught`, at temperature 1.

    Teacher i, from 0, judges the examples of part i modulo `parts`. Validation, with the model in its evaluation mode,
    is by the marks alone. The teachers are not trained.
    """

    def __init__(self, teachers: Sequence[nn.Module], parts: int = 1) -> None:
        self._teachers, self._parts = [teacher.eval() for teacher in teachers], parts

    def collate(self, examples: Sequence[Marked]) -> Batch:
        """As `ExtractiveQA`'s, with taught: (rows,) float32 and part: (rows,) int64."""
        batch = super().collate(examples)
        taught = torch.tensor([example.taught for example in examples], dtype=torch.float32)
        part = torch.tensor([example.part for example in examples], dtype=torch.int64)
        return Batch({**batch.tensors, "taught": taught, "part": part}, batch.count)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """As `ExtractiveQA`'s; the cross-entropy with the teachers' chances is a mean over start and end, too."""
        if not model.training:
            return super().loss(model, batch)
        scores, taught = _scores(model, batch), batch.tensors["taught"]
        marks = F.cross_entropy(scores, batch.tensors["marks"], reduction="none").mean(1)
        # A padded token's score is minus infinity and its chance 0, whose product would not be a number.
        logs = F.log_softmax(scores, 1).masked_fill(~batch.tensors["mask"][:, :, None], 0)
        learnt = -(self._chances(batch) * logs).sum((1, 2)) / 2
        return (taught * learnt + (1 - taught) * marks).sum()

    @torch.no_grad()
    def _chances(self, batch: Batch) -> Tensor:
        """(rows, tokens, 2): the mean over each row's own teachers."""
        part = batch.tensors["part"]
        found = torch.zeros((*batch.tensors["tokens"].shape, 2), device=part.device)
        for index, teacher in enumerate(self._teachers):
            mine = part == index % self._parts
            if mine.any():
                rows = Batch({name: tensor[mine] for name, tensor in batch.tensors.items()}, int(mine.sum()))
                found[mine] += _scores(teacher.to(part.device), rows).softmax(1)
        return found / found.sum(1, keepdim=True)


def _scores(model: nn.Module, batch: Batch) -> Tensor:
    """(rows, tokens, 2) in float32; padding has minus infinity."""
    mask = batch.tensors["mask"]
    scores: Tensor = model(batch.tensors["tokens"], mask, batch.tensors["types"])
    return scores.float().masked_fill(~mask[:, :, None], -math.inf)
