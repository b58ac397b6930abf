"""A label a token: the cross-entropy of each that has one, in nats, over an encoder's tokens or a text's characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from octavo.models.recurrent.bilstm import UNKNOWN, TaggerRow
from octavo.train.objectives.causal_lm import IGNORED
from octavo.train.objectives.objective import Batch


@dataclass(frozen=True)
class LabelledTokens:
    """ids: a row of an encoder's tokens. labels: of each, IGNORED where it has none."""

    ids: Sequence[int]
    labels: Sequence[int]


@dataclass(frozen=True)
class LabelledCharacters:
    """row: a sentence as a CKIP Tagger reads it. labels: of each character, IGNORED where it has none."""

    row: TaggerRow
    labels: Sequence[int]


class TokenLabels:
    """An example is a `LabelledTokens`; it counts its labels."""

    def collate(self, examples: Sequence[LabelledTokens]) -> Batch:
        """tokens, labels: (rows, longest) int64; mask: the same, bool."""
        longest = max((len(example.ids) for example in examples), default=1)
        tokens, labels = _table(examples, longest, 0), _table(examples, longest, IGNORED)
        mask = np.zeros(tokens.shape, bool)
        for row, example in enumerate(examples):
            size = len(example.ids)
            tokens[row, :size], labels[row, :size], mask[row, :size] = example.ids, example.labels, True
        arrays = {"tokens": tokens, "labels": labels, "mask": mask}
        return Batch({name: torch.from_numpy(array) for name, array in arrays.items()}, int((labels != IGNORED).sum()))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """model: (tokens, mask) -> (rows, tokens, labels)."""
        return _summed(model(batch.tensors["tokens"], batch.tensors["mask"]), batch.tensors["labels"])


class CharacterLabels:
    """An example is a `LabelledCharacters`; it counts its labels."""

    def collate(self, examples: Sequence[LabelledCharacters]) -> Batch:
        """What `BiLstmTagger.forward` takes, and labels: (rows, longest) int64."""
        lengths = [len(example.labels) for example in examples]
        longest = max(lengths, default=1)
        tables = {name: _table(examples, longest, UNKNOWN) for name in ("characters", "words", "tags")}
        labels = _table(examples, longest, IGNORED)
        width = examples[0].row.features.shape[1] if examples else 0
        features = np.zeros((len(examples), longest, width), np.float32)
        for index, (example, size) in enumerate(zip(examples, lengths, strict=True)):
            labels[index, :size], features[index, :size] = example.labels, example.row.features
            for name, table in tables.items():
                ids = getattr(example.row, name)
                table[index, : len(ids)] = ids
        arrays = {**tables, "labels": labels, "features": features, "lengths": np.array(lengths, np.int64)}
        return Batch({name: torch.from_numpy(array) for name, array in arrays.items()}, int((labels != IGNORED).sum()))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """model: a `BiLstmTagger`."""
        given = {name: tensor for name, tensor in batch.tensors.items() if name != "labels"}
        return _summed(model(**{**given, "lengths": given["lengths"].cpu()}), batch.tensors["labels"])


def _summed(scores: Tensor, labels: Tensor) -> Tensor:
    flat = scores.flatten(0, 1).float()
    return F.cross_entropy(flat, labels.flatten(), ignore_index=IGNORED, reduction="sum")


def _table(examples: Sequence[object], longest: int, fill: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    return np.full((len(examples), longest), fill, np.int64)
