"""Answers to many sources, a token at a time and all in step, by an encoder-decoder or by a decoder.

A decoder reads the source as its prompt. Whoever searches sees no difference: there are rows, each with the scores of
its next token, and rows can be left out or doubled.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from octavo.errors import ContextLengthError
from octavo.models.transformer import Transformer
from octavo.nn.block import Memory
from octavo.nn.encoder_decoder.growing import GrowingCache


class Steps:
    """logits: (rows, vocab_size), of each row's next token."""

    logits: Tensor

    def __init__(
        self, model: Transformer, first: Tensor, mask: Tensor | None = None, memory: Sequence[Memory] = ()
    ) -> None:
        """first: (rows, tokens) that each row begins with, the prompt or what starts an answer. mask: of its padding.

        memory: what `Transformer.remember` gave of the sources.
        """
        self._model = model
        self._memory = list(memory)
        mask = torch.ones_like(first, dtype=torch.bool) if mask is None else mask
        self._cache = GrowingCache(model.relative_bias, None if bool(mask.all()) else mask)
        self._places = mask.sum(1)
        self._run(first, (mask.cumsum(1) - 1).clamp(min=0), self._places - 1)

    def advance(self, tokens: Tensor) -> None:
        """Each row goes on with a token. tokens: (rows,). Raises ContextLengthError where no place is left."""
        if int(self._places.max()) >= self._model.config.context_length:
            most = self._model.config.context_length
            raise ContextLengthError(f"a source and its answer are more than the model's context of {most} tokens")
        positions = self._places
        self._places = positions + 1
        self._run(tokens[:, None], positions[:, None], torch.zeros_like(positions))

    def _run(self, tokens: Tensor, positions: Tensor, wanted: Tensor) -> None:
        x = self._model.embed(tokens, positions)
        x = self._model.hidden(x, positions, self._cache, memory=self._memory)
        self.logits = self._model.logits(x[torch.arange(len(x), device=x.device), wanted])

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows, in this order."""
        self._cache.keep(rows)
        self._places = self._places[rows]
        self._memory = [(k[rows], v[rows], None if seen is None else seen[rows]) for k, v, seen in self._memory]


def steps(model: Transformer, sources: Sequence[Sequence[int]], start_id: int) -> Steps:
    """Ready to answer sources, ids each. start_id: what begins an encoder-decoder's answers; a decoder has none."""
    tokens, mask = padded(sources, model.embed_tokens.weight.device)
    if model.memory is None:
        return Steps(model, tokens, mask)
    return Steps(model, torch.full_like(tokens[:, :1], start_id), memory=model.remember(tokens, mask))


def padded(rows: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Rows of ids -> (rows, longest) with zeros on the right, and which of them are the rows' own."""
    encoded = [torch.tensor(list(ids), dtype=torch.long) for ids in rows]
    tokens = torch.nn.utils.rnn.pad_sequence(encoded, batch_first=True)
    lengths = torch.tensor([len(ids) for ids in encoded])
    return tokens.to(device), (torch.arange(tokens.shape[1])[None] < lengths[:, None]).to(device)
