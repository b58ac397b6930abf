"""From annotated sentences to what a model is trained on: labels of characters, for both of CKIP's kinds. No torch."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import chain

from octavo.generate.ckip.characters import CharacterReader
from octavo.generate.ckip.labels import OUTSIDE, marked, normalized
from octavo.nn.recurrent.tagger_config import TaggerConfig
from octavo.train.tagging.recipe import LabellerSettings
from octavo.train.tagging.sentences import Sentence, Task

TAGGER_FORM, ENCODER_FORM = "{type}:{part}", "{part}-{type}"


def labels_of(sentences: Sequence[Sentence], task: Task, form: str) -> tuple[str, ...]:
    """What a model of these sentences tells apart, in a fixed order. form: how an entity's label is written."""
    if task == "ws":
        return ("B", "I")
    if task == "pos":
        return tuple(sorted({tag for sentence in sentences for tag in sentence.tags}))
    kinds = sorted({kind for sentence in sentences for _, _, kind in sentence.entities or ()})
    return (OUTSIDE, *(form.format(type=kind, part=part) for kind in kinds for part in "SBIE"))


def normal(sentence: Sentence) -> Sentence:
    """The same in normalised characters, which a CKIP Tagger reads."""
    _, sources = normalized(sentence.text)
    places = [at for at, source in enumerate(sources) if source >= 0] + [len(sources)]
    entities = None
    if sentence.entities is not None:
        entities = tuple((places[start], places[end], kind) for start, end, kind in sentence.entities)
    words = tuple(unicodedata.normalize("NFKD", word) for word in sentence.words)
    return Sentence(words, sentence.tags, entities)


def character_labels(sentence: Sentence, task: Task, form: str) -> list[str | None]:
    """The label of each character of a sentence; None where it has none of its own."""
    if task == "ws":
        return ["I" if place else "B" for word in sentence.words for place in range(len(word))]
    if task == "pos":
        pairs = zip(sentence.words, sentence.tags, strict=True)
        return [None if place else tag for word, tag in pairs for place in range(len(word))]
    return list(marked(len(sentence.text), sentence.entities or (), form))


def tagger_tables(
    sentences: Sequence[Sentence], task: Task, settings: LabellerSettings
) -> tuple[TaggerConfig, list[str], list[str]]:
    """A CKIP Tagger's configuration for normalised sentences, and the characters and words that it will know."""

    def often(texts: Sequence[str]) -> list[str]:
        counts = Counter(texts)
        return sorted(text for text, count in counts.items() if count >= settings.occurrences) or [" "]

    characters = often(list(chain.from_iterable(sentence.text for sentence in sentences)))
    words = [] if task == "ws" else often(list(chain.from_iterable(sentence.words for sentence in sentences)))
    config = TaggerConfig(
        task,
        labels_of(sentences, task, TAGGER_FORM),
        len(characters),
        settings.character_size,
        settings.hidden_size,
        settings.num_layers,
        len(words),
        settings.word_size if words else 0,
        tuple(sorted({tag for sentence in sentences for tag in sentence.tags})) if task == "ner" else (),
    )
    return config, characters, words


def encoder_rows(
    sentences: Sequence[Sentence], task: Task, labels: Sequence[str], reader: CharacterReader, ignored: int
) -> list[tuple[list[int], list[int]]]:
    """Token ids and labels of each piece that an encoder reads; `ignored` where a token has no label that is known."""
    known = {label: index for index, label in enumerate(labels)}
    rows = []
    for sentence in sentences:
        units: Sequence[str] = sentence.words if task == "pos" else sentence.text
        wanted = character_labels(sentence, task, ENCODER_FORM)
        firsts = [label for label in wanted if label is not None]  # one a unit
        pieces = reader.pieces([units])
        flat = [ignored] * sum(map(len, pieces.rows))
        for place, label in zip(pieces.places[0], firsts, strict=True):
            if place is not None:
                flat[place] = known.get(label, ignored)
        for ids in pieces.rows:
            rows.append((ids, flat[: len(ids)]))
            flat = flat[len(ids) :]
    return rows
