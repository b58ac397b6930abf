"""The recipe of a reader, whose `objective` is "extractive_qa": questions, the encoder to begin with, what is made.

`recipes/reader.toml` shows every key with its default. No torch here.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from octavo.train.recipe import AnyRecipe, Section

EXTRACTIVE_QA: Final = "extractive_qa"
"""The objective that such a recipe names."""
Share = Annotated[float, Field(ge=0, le=1)]
Names = Annotated[tuple[str, ...], Field(strict=False)]


class QuestionFiles(Section):
    """`[data]`: files of questions, and the articles that are kept for validation."""

    path: Annotated[str, Field(min_length=1)]
    """A folder, sought beside the recipe, then in the current folder."""
    files: Annotated[Names, Field(min_length=1)]
    """In the folder: `.json` in SQuAD's layout, `.jsonl` of open questions, either as .gz."""
    source: str | None = None
    """Where the files can be had; shown when they are missing."""
    held_out: Names = ()
    """Articles that are never trained on: for validation, and for the threshold of having no answer."""
    parts: Annotated[int, Field(ge=1)] = 1
    """Articles fall into so many parts, by a checksum of their titles."""
    left_out: Annotated[int, Field(ge=0)] | None = None
    """The part, from 0, that is neither trained on nor validated with: for a teacher of its questions."""

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        if self.left_out is not None and self.left_out >= self.parts - (self.parts == 1):
            raise ValueError(f"left_out = {self.left_out} is not one of {self.parts} parts, or leaves nothing")
        return self


class EncoderSettings(Section):
    """`[model]`: the encoder that the reader is made of."""

    init: Annotated[str, Field(min_length=1)]
    """A model's folder (sought as `data.path` is) or reference: an encoder of BERT's shape, with or without a head."""
    train_embeddings: bool = False
    """Whether the table of token embeddings is trained too, or only what reads it."""
    new_characters: Annotated[int, Field(ge=0)] = 0
    """Characters that the vocabulary lacks become tokens where the files have them so often; their embeddings are
    always trained. 0: none do."""
    matches: bool = False
    """Whether the reader is told, by two more types of tokens, which words stand in the question and in the text."""
    weights: Literal["f32", "int8"] = "f32"
    """How the finished model is written; int8: a scale for each 32 numbers."""


class WindowSettings(Section):
    """`[windows]`: how a question and a text are read together."""

    max_tokens: Annotated[int, Field(ge=64)] = 256
    """Of a window in training."""
    overlap: Annotated[int, Field(ge=0)] = 64
    """Tokens that the windows of a long text share when it is read."""


class MixtureSettings(Section):
    """`[mixture]`: what an epoch holds beside the questions of the files."""

    asked: bool = True
    """Whether it holds the questions of the files at all."""
    edited: Share = 0.0
    """Of the questions with an answer, how many come again with a word changed so that they have none."""
    moved: Share = 0.0
    """How many come again with another text of their article, which does not answer them."""
    clozes: Annotated[int, Field(ge=0)] = 0
    """Questions made of the texts' own sentences, some without an answer."""
    hidden: Share = 0.0
    """Of the tokens outside the answer, how many are replaced by the mask."""

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if not self.asked and not self.clozes:
            raise ValueError("asked = false and clozes = 0 leave nothing to train on")
        return self


class DistillationSettings(Section):
    """`[distillation]`: other readers whose chances are learnt beside the marks.

    With `data.parts` above 1 teacher i, from 0, judges only the questions of part i modulo parts, and was trained with
    that part as `data.left_out`, so that it has not learnt the answers by heart.
    """

    teachers: Names = ()
    """Folders or references of readers with the same vocabulary; none: the marks alone are learnt."""
    asked: Share = 0.5
    """How much the teachers count for a question of the files, the rest being its marks'."""
    edited: Share = 0.8
    """For one with a word changed."""
    moved: Share = 0.7
    """For one with another text of its article."""
    clozes: Share = 0.3
    """For one made of a text's own sentence."""


class ReaderRecipe(AnyRecipe):
    """A whole run. `data.path`, `data.files` and `model.init` have no default."""

    data: QuestionFiles
    model: EncoderSettings
    windows: WindowSettings = WindowSettings()
    mixture: MixtureSettings = MixtureSettings()
    distillation: DistillationSettings = DistillationSettings()
