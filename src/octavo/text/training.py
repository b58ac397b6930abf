"""Learning a vocabulary from text: byte-level BPE (Sennrich et al. 2016; Radford et al. 2019), or single characters.

Both give ordinary tokenizers: saved, they are a tokenizer.json like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from octavo.errors import OctavoError
from octavo.text.tokenizer import Tokenizer


def train_bpe(texts: Iterable[str], vocab_size: int, special_tokens: Sequence[str]) -> Tokenizer:
    """Learn a byte-level BPE of at most vocab_size tokens, all 256 bytes and the special tokens among them."""
    smallest = 256 + len(special_tokens)
    if vocab_size < smallest:
        raise OctavoError(
            f"vocab_size is {vocab_size}; a byte-level vocabulary needs at least {smallest}: 256 bytes and the "
            f"{len(special_tokens)} special tokens",
            param="vocab_size",
        )
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    named = {"bos_token": special_tokens[0], "eos_token": special_tokens[0]} if special_tokens else {}
    return Tokenizer(backend, named=named)


def train_characters(text: str) -> Tokenizer:
    """Make each distinct character of the text a token, ids in code-point order. No special tokens."""
    if not text:
        raise OctavoError("the text to take characters from is empty")
    vocabulary = {character: place for place, character in enumerate(sorted(set(text)))}
    # No unknown token: encoding a character outside the vocabulary is then an error instead of a silent loss.
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="\0none"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    backend.decoder = decoders.Fuse()
    return Tokenizer(backend, named={})
