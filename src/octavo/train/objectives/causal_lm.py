"""Causal language modelling: each token from those before it, by cross-entropy in nats.

Rows are padded on the right and masked by their lengths, never by a token's id (a pad that is also a stop token would
vanish from the targets, and the model would never end). Causal attention keeps real positions from seeing the padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from octavo.models.transformer import Transformer
from octavo.nn.fused.cross_entropy import linear_cross_entropy, usable
from octavo.nn.linear import Linear
from octavo.train.objectives.objective import Batch

IGNORED = -100
"""Target of a padded position."""


class CausalLM:
    """An example is (n,) token ids; its first is never a target, so it counts n - 1."""

    def collate(self, examples: Sequence[NDArray[np.int32]]) -> Batch:
        """tokens, targets: (rows, longest - 1) int64."""
        longest = max(max((len(example) for example in examples), default=0), 2)
        tokens = np.zeros((len(examples), longest - 1), np.int64)
        targets = np.full_like(tokens, IGNORED)
        for row, example in enumerate(examples):
            size = max(len(example) - 1, 0)
            tokens[row, :size] = example[:-1]
            targets[row, :size] = example[1:]
        count = sum(max(len(example) - 1, 0) for example in examples)
        return Batch({"tokens": torch.from_numpy(tokens), "targets": torch.from_numpy(targets)}, count)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """model: (rows, tokens) int64 -> logits (rows, tokens, vocab_size), all at once only where that is needed."""
        tokens, targets = batch.tensors["tokens"], batch.tensors["targets"].flatten()
        weight = _output_weight(model)
        if isinstance(model, Transformer) and weight is not None and tokens.shape[1] <= model.config.context_length:
            positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
            hidden = model.hidden(model.embed(tokens, positions), positions)
            if usable(hidden, weight):
                return linear_cross_entropy(hidden.flatten(0, 1), weight, targets)
            logits = model.logits(hidden)
        else:
            logits = model(tokens)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets, ignore_index=IGNORED, reduction="sum")


def _output_weight(model: nn.Module) -> Tensor | None:
    """(vocab_size, hidden_size): the matrix whose products with hidden states are a decoder's logits, in training and
    where nothing else is done to them."""
    if type(model) is not Transformer or not model.training:
        return None
    config, head = model.config, model.lm_head
    if not config.has_logits or config.head is not None or config.memory is not None or config.encoder is not None:
        return None
    if config.logit_scale != 1 or config.logit_softcap is not None:
        return None
    if head is None:
        return model.embed_tokens.weight if type(model.embed_tokens) is nn.Embedding else None
    return head.weight if type(head) is Linear and head.bias is None else None
