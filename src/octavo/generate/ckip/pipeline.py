"""Which of CKIP's two kinds a model is, and the way of a text through it: words, parts of speech, entities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from octavo.errors import OctavoError, UnsupportedError
from octavo.fetching.sources import resolve
from octavo.generate.ckip.dictionary import NOTHING, Dictionary, joined
from octavo.generate.ckip.encoders import CkipTransformer
from octavo.generate.ckip.labels import Entity
from octavo.generate.ckip.recurrent import CkipTagger
from octavo.models.encoders.runner import Weights
from octavo.models.recurrent.tagger_files import is_tagger
from octavo.nn.recurrent.tagger_config import TaggerTask


@dataclass(frozen=True)
class Options:
    """How models are opened. runner, weights, max_length: of encoders alone."""

    runner: Literal["kernels", "torch"] | None = None
    weights: Weights | None = None
    max_length: int | None = None


PLAIN = Options()


class CkipModel(Protocol):
    """What both kinds do for words and parts of speech; delimiters None: as the kind does by itself."""

    name: str

    def words(self, texts: Sequence[str], delimiters: str = ...) -> list[list[str]]: ...

    def tags(self, sentences: Sequence[Sequence[str]], delimiters: str = ...) -> list[list[str]]: ...

    def close(self) -> None: ...


def open_ckip(reference: str, task: TaggerTask, options: Options = PLAIN) -> CkipTransformer | CkipTagger:
    """A model of either kind for a task, by path or reference.

    Raises UnsupportedError for a model of another task, or for an option that its kind does not have.
    """
    folder = resolve(reference)
    if not (folder.is_dir() and is_tagger(folder)):
        return CkipTransformer.load(
            reference, task, runner=options.runner, weights=options.weights, max_length=options.max_length
        )
    given = [name for name, value in vars(options).items() if value is not None]
    if given:
        raise UnsupportedError(f"{reference} is a CKIP Tagger, which has no {given[0]}; leave it out", param=given[0])
    return CkipTagger.load(folder, task)


def words_of(
    model: CkipModel,
    texts: Sequence[str],
    *,
    delimiters: str | None = None,
    recommended: Dictionary = NOTHING,
    coerced: Dictionary = NOTHING,
) -> list[list[str]]:
    """The words of each text, with both dictionaries; together they are the text."""
    found = model.words(texts) if delimiters is None else model.words(texts, delimiters)
    return [joined(words, recommended, coerced) for words in found]


def tags_of(model: CkipModel, sentences: Sequence[Sequence[str]], *, delimiters: str | None = None) -> list[list[str]]:
    """The part of speech of each word."""
    return model.tags(sentences) if delimiters is None else model.tags(sentences, delimiters)


def entities_of(
    model: CkipTransformer | CkipTagger,
    texts: Sequence[str],
    *,
    segmenter: CkipModel | None = None,
    tagger: CkipModel | None = None,
    delimiters: str | None = None,
) -> list[list[Entity]]:
    """The named entities of each text. segmenter, tagger: what a CKIP Tagger needs for words and parts of speech.

    Raises OctavoError where a CKIP Tagger lacks them.
    """
    if isinstance(model, CkipTransformer):
        return model.entities(texts) if delimiters is None else model.entities(texts, delimiters)
    if segmenter is None or tagger is None:
        raise OctavoError(f"{model.name} finds entities in words with parts of speech; give a model for each of both")
    words = words_of(segmenter, texts, delimiters=delimiters)
    return model.entities(words, tags_of(tagger, words, delimiters=delimiters))
