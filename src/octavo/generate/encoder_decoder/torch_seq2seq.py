"""Encoder-decoders that write: sources in, texts out, all sources of a batch in step, by the likeliest token.

Source: Vaswani et al. 2017 (arXiv 1706.03762); what begins an answer is the checkpoint's `decoder_start_token_id`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from octavo.errors import FormatError, UnsupportedError
from octavo.fetching.sources import resolve
from octavo.models.checkpoint import Checkpoint, open_checkpoint
from octavo.models.transformer import Transformer
from octavo.nn.encoder_decoder.growing import GrowingCache
from octavo.text.tokenizer import Tokenizer


class Seq2Seq:
    """A model with its tokenizer. start_id: what begins every answer; end_ids: any of them ends it."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, start_id: int, end_ids: Sequence[int]) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self._start_id = start_id
        self._end_ids = tuple(end_ids)

    @classmethod
    def load(cls, reference: str) -> Seq2Seq:
        """By path, installed name or reference. Raises UnsupportedError for a model that reads no source."""
        checkpoint = open_checkpoint(resolve(reference))
        if checkpoint.config.memory is None:
            raise UnsupportedError(f"{checkpoint.name} is no encoder-decoder; load it with octavo.load")
        model = Transformer.from_checkpoint(checkpoint).requires_grad_(False).eval()
        return cls(model, checkpoint.tokenizer(), _start_of(checkpoint), checkpoint.generation.eos_token_ids)

    def generate(self, sources: Sequence[str], *, max_tokens: int = 64) -> list[str]:
        """An answer to each source, its special tokens left out."""
        encoded = [torch.tensor(self.tokenizer.encode(source)) for source in sources]
        tokens = torch.nn.utils.rnn.pad_sequence(encoded, batch_first=True)
        lengths = torch.tensor([len(ids) for ids in encoded])
        mask = torch.arange(tokens.shape[1])[None] < lengths[:, None]
        answers = greedy(self.model, tokens, mask, self._start_id, self._end_ids, max_tokens)
        return [self.tokenizer.decode(ids) for ids in answers]


@torch.inference_mode()
def greedy(
    model: Transformer, source: Tensor, mask: Tensor, start_id: int, end_ids: Sequence[int], max_tokens: int
) -> list[list[int]]:
    """The likeliest token after another. source, mask: (batch, tokens). Returns each answer's ids, without its end."""
    memory, cache = model.remember(source, mask), GrowingCache(model.relative_bias)
    answers: list[list[int]] = [[] for _ in source]
    open_rows = list(range(len(source)))
    token = torch.full((len(source), 1), start_id)
    for position in range(max_tokens):
        positions = torch.full_like(token, position)
        x = model.hidden(model.embed(token, positions), positions, cache, memory=memory)
        chosen = model.logits(x[:, -1]).argmax(-1)
        going_on = [place for place, row in enumerate(open_rows) if int(chosen[place]) not in end_ids]
        for place in going_on:
            answers[open_rows[place]].append(int(chosen[place]))
        if not going_on:
            break
        kept = torch.tensor(going_on)  # a row that has ended is computed no further
        cache.keep(kept)
        memory = [(k[kept], v[kept], None if seen is None else seen[kept]) for k, v, seen in memory]
        open_rows = [open_rows[place] for place in going_on]
        token = chosen[kept][:, None]
    return answers


def _start_of(checkpoint: Checkpoint) -> int:
    """What begins an answer. Raises FormatError where the checkpoint does not say."""
    start = checkpoint.raw_config.get("decoder_start_token_id", checkpoint.raw_config.get("pad_token_id"))
    if not isinstance(start, int) or isinstance(start, bool):
        raise FormatError(f"{checkpoint.path} does not say its decoder_start_token_id")
    return start
