"""A table of token embeddings that grows: known tokens stay as they are, those of new characters are learnt.

A new token begins as a random vector of the known ones' mean and covariance, so that what reads them can tell it from
others, and match it with itself, before it was trained at all.
"""

from __future__ import annotations

import tokenizers
import torch
from tokenizers import models
from torch import Tensor, nn

from octavo.errors import UnsupportedError
from octavo.text.tokenizer import Tokenizer


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


def with_characters(tokenizer: Tokenizer, texts: str) -> tuple[Tokenizer, int]:
    """The tokenizer with each character of the texts that it knows no token for, and how many those are.

    Raises UnsupportedError for a vocabulary that is not WordPiece.
    """
    if not isinstance(tokenizer.backend.model, models.WordPiece):
        raise UnsupportedError("new characters are added to a WordPiece vocabulary; leave model.new_characters out")
    vocabulary = tokenizer.backend.get_vocab(with_added_tokens=False)
    normalised = tokenizer.backend.normalizer.normalize_str("".join(sorted(set(texts))))
    fresh = sorted(set(normalised.split()) | set("".join(normalised.split())))
    fresh = [character for character in fresh if len(character) == 1 and character not in vocabulary]
    grown = {**vocabulary, **{character: len(vocabulary) + index for index, character in enumerate(fresh)}}
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    backend.model = models.WordPiece(grown, unk_token=tokenizer.named["unk_token"], max_input_chars_per_word=100)
    return (
        Tokenizer(backend, named=tokenizer.named, templates=tokenizer.chat_templates, config=tokenizer.config),
        len(fresh),
    )
