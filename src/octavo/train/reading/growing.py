"""A table of token embeddings that grows: known tokens stay as they are, those of new characters are learnt.

A new token begins as a random vector of the known ones' mean and covariance, so that what reads them can tell it from
others, and match it with itself, before it was trained at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import tokenizers
import torch
from tokenizers import models
from torch import Tensor, nn

from octavo.errors import UnsupportedError
from octavo.text.tokenizer import Tokenizer
from octavo.text.wordpiece import MAX_WORD


class GrownEmbedding(nn.Module):
    """weight: (tokens, width) of the known tokens, trained or not; new: (more, width), trained."""

    def __init__(self, known: Tensor, more: int, seed: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(known, known.requires_grad)
        self.new = nn.Parameter(like(known.detach(), more, seed))

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, tokens) -> (batch, tokens, width)."""
        size = len(self.weight)
        known = nn.functional.embedding(tokens.clamp(max=size - 1), self.weight)
        new = nn.functional.embedding((tokens - size).clamp(min=0), self.new)
        chosen: Tensor = torch.where((tokens >= size)[..., None], new, known)
        return chosen


def like(known: Tensor, more: int, seed: int) -> Tensor:
    """(more, width): drawn from the normal distribution with the mean and the covariance of (tokens, width) vectors."""
    generator = torch.Generator().manual_seed(seed)
    mean = known.mean(0)
    covariance = torch.cov(known.T) + 1e-8 * torch.eye(known.shape[1])
    noise = torch.randn(more, known.shape[1], generator=generator)
    drawn: Tensor = mean + noise @ torch.linalg.cholesky(covariance).T
    return drawn


def with_characters(tokenizer: Tokenizer, texts: Sequence[tuple[str, str]], occurrences: int) -> tuple[Tokenizer, int]:
    """The tokenizer with each character that stands so often in (name, text) and that it lacks, and how many those are.

    Raises UnsupportedError for a vocabulary that is not WordPiece.
    """
    if not isinstance(tokenizer.backend.model, models.WordPiece):
        raise UnsupportedError("new characters are added to a WordPiece vocabulary; leave model.new_characters out")
    vocabulary = tokenizer.backend.get_vocab(with_added_tokens=False)
    counts: Counter[str] = Counter()
    for _, text in texts:
        counts.update("".join(tokenizer.backend.normalizer.normalize_str(text).split()))
    fresh = sorted(
        character for character, count in counts.items() if count >= occurrences and character not in vocabulary
    )
    grown = {**vocabulary, **{character: len(vocabulary) + index for index, character in enumerate(fresh)}}
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    backend.model = models.WordPiece(grown, unk_token=tokenizer.named["unk_token"], max_input_chars_per_word=MAX_WORD)
    kept = {"templates": tokenizer.chat_templates, "config": tokenizer.config}
    return Tokenizer(backend, named=tokenizer.named, **kept), len(fresh)
