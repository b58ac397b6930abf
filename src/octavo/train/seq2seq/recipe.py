"""Recipes of T5: `objective = "span_corruption"` from a text, "text_to_text" from pairs. No torch here."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Self

from pydantic import Field, model_validator

from octavo.nn.config import (
    AttentionConfig,
    EncoderConfig,
    MlpConfig,
    NormConfig,
    RelativeConfig,
    TransformerConfig,
)
from octavo.train.recipe import (
    AnyRecipe,
    Count,
    DataSettings,
    Section,
)


class FreshSettings(Section):
    """The sizes of a fresh T5 (v1.1: gated, untied), with a vocabulary of its own."""

    num_layers: Count = 2
    """Of the encoder and of the decoder."""
    hidden_size: Count = 128
    num_heads: Count = 4
    intermediate_size: Count = 256
    vocab_size: Annotated[int, Field(ge=358)] = 1024
    """Tokens of a byte-level BPE that is learnt from the text."""

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} must divide hidden_size {self.hidden_size}")
        return self

    def transformer(self, vocab_size: int) -> TransformerConfig:
        """The model's configuration for a tokenizer of `vocab_size` tokens."""
        head_dim, relative = self.hidden_size // self.num_heads, RelativeConfig(32, 128)
        decoder = TransformerConfig(
            vocab_size=vocab_size,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            context_length=1 << 20,
            norm=NormConfig("rms", 1e-6),
            attention=AttentionConfig(self.num_heads, self.num_heads, head_dim, scale=1.0, relative=relative),
            mlp=MlpConfig(self.intermediate_size, "gelu_tanh", gated=True),
            rope=None,
            tie_embeddings=False,
        )
        return replace(decoder, memory=replace(decoder, encoder=EncoderConfig()))


class Seq2SeqSettings(FreshSettings):
    """`[model]`: a T5 to begin with, or a fresh one."""

    init: str | None = None
    """A T5 to train on: a path, name or reference. None: a fresh one in these sizes."""
    source_tokens: Annotated[int, Field(ge=8)] = 128
    """Longest source; longer ones are cut."""
    target_tokens: Annotated[int, Field(ge=2)] = 64
    """Longest target of a pair; longer ones are cut."""


class PairData(Section):
    """`[data]`: pairs of texts."""

    path: Annotated[str, Field(min_length=1)]
    """JSON Lines (.gz too) of {"source": ..., "target": ...}, beside the recipe or in the current folder."""
    source: str | None = None
    """Where the file can be had; shown when it is missing."""
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The last part of the pairs is never trained on."""


class SpanRecipe(AnyRecipe):
    """A run of span corruption."""

    data: DataSettings
    model: Seq2SeqSettings = Seq2SeqSettings()


class PairRecipe(AnyRecipe):
    """A run of text to text."""

    data: PairData
    model: Seq2SeqSettings = Seq2SeqSettings()
