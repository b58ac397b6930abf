"""Recipes of systems that retrieve, by their `objective`: "rag", "fid", "retro", "codet5p". No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from octavo.fetching.sources import DEFAULT_ENCODER
from octavo.train.recipe import (
    AnyRecipe,
    Count,
    DataSettings,
    Section,
)
from octavo.train.seq2seq.recipe import FreshSettings


class QuestionData(Section):
    """`[data]`: questions and the passages that answer them."""

    path: Annotated[str, Field(min_length=1)]
    """A `.json` (.gz too) in SQuAD's layout, sought beside the recipe, then in the current folder."""
    source: str | None = None
    """Where the file can be had; shown when it is missing."""
    passage_words: Count = 100
    """A passage's length at most; paragraphs are cut into such."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The share of articles whose questions are never trained on."""


class RetrieverSettings(Section):
    """`[retriever]`: what finds passages."""

    encoder: Annotated[str, Field(min_length=1)] = DEFAULT_ENCODER
    """The encoder that the index is made with and the question encoder begins as: a path, name or reference."""
    passages: Annotated[int, Field(ge=1, le=100)] = 5
    """How many are read for a question."""
    rate_scale: Annotated[float, Field(ge=0)] = 0.002
    """What the learning rate is multiplied by for the question encoder, which begins trained."""


class GeneratorSettings(FreshSettings):
    """`[generator]`: a model to begin with, or a fresh T5."""

    model: str | None = None
    """A T5 or a decoder to train on: a path, name or reference. None: a fresh T5."""
    source_tokens: Annotated[int, Field(ge=8)] = 200
    """A passage with its question is cut to this."""
    answer_tokens: Count = 20
    """Longest answer that is written."""


class RagSettings(Section):
    """`[rag]`."""

    marginal: Literal["sequence", "token"] = "sequence"
    """Whether one passage speaks for a whole answer, or each token has its own."""
    beams: Annotated[int, Field(ge=1, le=64)] = 1
    """Of the search for an answer."""
    decoding: Literal["thorough", "fast"] = "thorough"
    """Of the sequence marginal: whether each hypothesis is scored under every passage."""


class FidSettings(Section):
    """`[fid]`."""

    distil: bool = False
    """Whether the question encoder learns to find what the reader's cross-attention looks at."""
    beams: Annotated[int, Field(ge=1, le=64)] = 1
    """Of the search for an answer."""


class QuestionRecipe(AnyRecipe):
    """What both share."""

    data: QuestionData
    retriever: RetrieverSettings = RetrieverSettings()
    generator: GeneratorSettings = GeneratorSettings()


class RagRecipe(QuestionRecipe):
    """A run of RAG."""

    rag: RagSettings = RagSettings()


class FidRecipe(QuestionRecipe):
    """A run of Fusion-in-Decoder."""

    fid: FidSettings = FidSettings()


class RetroSettings(Section):
    """`[retro]`."""

    decoder: Annotated[str, Field(min_length=1)]
    """A trained decoder, which stays as it is: a path, name or reference. No default."""
    encoder: Annotated[str, Field(min_length=1)] = DEFAULT_ENCODER
    """What makes the keys of chunks."""
    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False)] = ()
    """Blocks that retrieve, counted from 0. Empty: every third from the sixth on, or the middle one of fewer."""
    encoder_layers: Count = 2
    """Of the encoder of neighbours."""
    neighbours: Annotated[int, Field(ge=1, le=50)] = 2
    """Retrieved for a chunk."""
    chunks: Count = 4
    """Chunks of 64 tokens that a text of training has at most."""


class RetroRecipe(AnyRecipe):
    """A run of RETRO. `data.path` and `retro.decoder` have no default."""

    data: DataSettings
    retro: RetroSettings


class CodeData(Section):
    """`[data]`: a folder of Python source."""

    path: str | None = None
    """None: the standard library of the interpreter that runs."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The share of files whose functions are never trained on."""


class CodeModelSettings(FreshSettings):
    """`[model]`: a fresh CodeT5+."""

    text_tokens: Annotated[int, Field(ge=4)] = 32
    """A text is cut to this."""
    code_tokens: Annotated[int, Field(ge=8)] = 128
    """Code is cut to this."""


class CodeRecipe(AnyRecipe):
    """A run of CodeT5+. Nothing has to be said."""

    data: CodeData = CodeData()
    model: CodeModelSettings = CodeModelSettings()
