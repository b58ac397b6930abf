"""Encoder-decoders that write: sources in, texts out, by the likeliest token or by beam search.

Source: Vaswani et al. 2017 (arXiv 1706.03762); what begins an answer is the checkpoint's `decoder_start_token_id`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from octavo.errors import FormatError, UnsupportedError
from octavo.fetching.sources import resolve
from octavo.generate.encoder_decoder.torch_beams import beam_search, without_end
from octavo.generate.encoder_decoder.torch_beams import greedy as greedy_choice
from octavo.generate.encoder_decoder.torch_rules import Rules
from octavo.generate.encoder_decoder.torch_steps import Steps, steps
from octavo.generate.lm import Beams
from octavo.generate.tasks.completion import Limits
from octavo.models.checkpoint import Checkpoint, open_checkpoint
from octavo.models.mapping.searching import SearchAdvice
from octavo.models.transformer import Transformer
from octavo.text.tokenizer import Tokenizer


class Seq2Seq:
    """A model with its tokenizer. start_id: what begins every answer; end_ids: any of them ends it.

    advice: how its authors search.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        start_id: int,
        end_ids: Sequence[int],
        advice: SearchAdvice | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self._start_id = start_id
        self._end_ids = tuple(end_ids)
        self._advice = advice or SearchAdvice()

    @classmethod
    def load(cls, reference: str) -> Seq2Seq:
        """By path, installed name or reference. Raises UnsupportedError for a model that reads no source."""
        checkpoint = open_checkpoint(resolve(reference))
        if checkpoint.config.memory is None:
            raise UnsupportedError(f"{checkpoint.name} is no encoder-decoder; load it with octavo.load")
        model = Transformer.from_checkpoint(checkpoint).requires_grad_(False).eval()
        advised = checkpoint.generation
        _check_forced(checkpoint)
        return cls(model, checkpoint.tokenizer(), start_of(checkpoint), advised.eos_token_ids, advised.search)

    def generate(self, sources: Sequence[str], *, max_tokens: int = 64, beams: Beams | None = None) -> list[str]:
        """An answer to each source, its special tokens left out. beams None: as the authors advise; one beam is the
        likeliest token after another."""
        encoded = [self.tokenizer.encode(source) for source in sources]
        advice = self._advice
        rules = [Rules(advice, source, self._start_id, self._end_ids, max_tokens) for source in encoded]
        beams = beams or Beams(advice.num_beams, advice.length_penalty, advice.early_stopping)
        with torch.inference_mode():
            if beams.num_beams == 1:
                state = steps(self.model, encoded, self._start_id)
                answers: list[Sequence[int]] = list(greedy_choice(state, self._end_ids, max_tokens, rules))
            else:
                answers = [self._searched(beams, each) for each in rules]
        return [self.tokenizer.decode(ids) for ids in answers]

    def _searched(self, beams: Beams, rules: Rules) -> Sequence[int]:
        state = steps(self.model, [rules.source], self._start_id)
        best, *_ = beam_search(state, beams, Limits(frozenset(self._end_ids), rules.max_tokens), rules)
        return without_end(best, self._end_ids)


@torch.inference_mode()
def greedy(
    model: Transformer, source: Tensor, mask: Tensor, start_id: int, end_ids: Sequence[int], max_tokens: int
) -> list[list[int]]:
    """The likeliest token after another. source, mask: (batch, tokens). Returns each answer's ids, without its end."""
    first = torch.full((len(source), 1), start_id, device=source.device)
    return greedy_choice(Steps(model, first, memory=model.remember(source, mask)), end_ids, max_tokens)


def _check_forced(checkpoint: Checkpoint) -> None:
    advice, vocab_size = checkpoint.generation.search, checkpoint.config.vocab_size
    for token in (advice.forced_bos_token_id, advice.forced_eos_token_id, *advice.suppress_tokens):
        if token is not None and token >= vocab_size:
            raise FormatError(f"{checkpoint.path} forces or forbids token {token}; its vocabulary ends at {vocab_size}")


def start_of(checkpoint: Checkpoint) -> int:
    """What begins an answer. Raises FormatError where the checkpoint does not say."""
    start = checkpoint.raw_config.get("decoder_start_token_id", checkpoint.raw_config.get("pad_token_id"))
    if not isinstance(start, int) or isinstance(start, bool):
        raise FormatError(f"{checkpoint.path} does not say its decoder_start_token_id")
    return start
