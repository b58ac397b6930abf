"""CKIP Tagger: words, then parts of speech, then entities, by recurrent networks over normalised characters.

The networks run in numpy. Characters are normalised (NFKD) for reading alone: what comes back is cut out of the text
as it was given. Source: ckiptagger (Li, Fu and Ma 2020, arXiv 1908.11046), whose answers it gives.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from octavo.errors import OctavoError, nearest
from octavo.generate.ckip.dictionary import cut
from octavo.generate.ckip.labels import WHITESPACE, Entity, lenient_entities, normalized, restored
from octavo.models.recurrent.bilstm import UNKNOWN, Floats, TaggerNetwork, TaggerRow
from octavo.models.recurrent.tagger_files import TaggerFiles, open_tagger
from octavo.nn.recurrent.tagger_config import CHARACTER_FEATURES, TaggerConfig, TaggerTask

DELIMITERS = ",。:?!;"
"""After which a sentence may be cut, normalised as the characters are."""
WITHOUT_PLACE = (WHITESPACE, "SPCHANGECATEGORY")
"""Parts of speech that entities are found without."""
READ_AT_ONCE = 16384
"""Characters that go through a network together."""
KINDS = (string.ascii_uppercase, string.ascii_lowercase, string.digits, string.punctuation)


class CkipTagger:
    """One network for one task, from our folder or the published one. `close()` has nothing to do."""

    def __init__(self, files: TaggerFiles, name: str) -> None:
        self.name = name
        self.task: TaggerTask = files.config.task
        self.labels = files.config.labels
        self.row = RowReader(files.config, files.characters, files.words).row
        self._network = TaggerNetwork(files.config, files.tensors)

    @staticmethod
    def load(folder: Path, task: TaggerTask) -> CkipTagger:
        """Open a folder's network for a task; as `models.recurrent.tagger_files.open_tagger`."""
        return CkipTagger(open_tagger(folder, task), folder.name)

    def words(self, texts: Sequence[str], delimiters: str = "") -> list[list[str]]:
        """The words of each text; together they are the text. delimiters: each ends a part that is read by itself."""
        read = [normalized(text) for text in texts]
        parts = [segments(text, delimiters) for text, _ in read]
        flat = [self.row(list(part)) for part in chain.from_iterable(parts)]
        labels = self._labels(flat)
        found = []
        for text, (_, sources), own in zip(texts, read, parts, strict=True):
            begins: list[bool] = []
            for part in own:
                made = [label == "B" for label in next(labels)]
                begins += [True, *made[1:]] if part else []
            kept = [begun for begun, source in zip(begins, sources, strict=True) if source >= 0]
            found.append(cut(text, kept))
        return found

    def tags(self, sentences: Sequence[Sequence[str]], delimiters: str = DELIMITERS) -> list[list[str]]:
        """The part of speech of each word, WHITESPACE for white space. delimiters: each ends a part."""
        read = [[unicodedata.normalize("NFKD", word) for word in sentence] for sentence in sentences]
        parts = [word_segments(sentence, delimiters) for sentence in read]
        labels = self._labels([self.row(part) for part in chain.from_iterable(parts)])
        return [[tag for part in own for tag in _of_words(part, next(labels))] for own in parts]

    def entities(self, sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[str]]) -> list[list[Entity]]:
        """The named entities of each sentence of words with their parts of speech, from left to right.

        Raises OctavoError for a part of speech that the network does not know.
        """
        rows = []
        for sentence, own in zip(sentences, tags, strict=True):
            rows.append(self.row([unicodedata.normalize("NFKD", word) for word in sentence], own))
        labels = self._labels(rows)
        found = []
        for sentence in sentences:
            text = "".join(sentence)
            found.append(lenient_entities(text, restored(next(labels), normalized(text)[1])))
        return found

    def close(self) -> None:
        """Nothing is held that Python does not free."""

    def scores(self, rows: Sequence[TaggerRow]) -> list[Floats]:
        """(characters, labels) of each row, a few of like length at a time."""
        order = sorted(range(len(rows)), key=lambda index: len(rows[index].characters))
        found: list[Floats] = [np.zeros((0, len(self.labels)), np.float32)] * len(rows)
        batch: list[int] = []
        for index in order:
            if not len(rows[index].characters):
                continue
            if batch and (len(batch) + 1) * len(rows[index].characters) > READ_AT_ONCE:
                self._fill(found, rows, batch)
                batch = []
            batch.append(index)
        if batch:
            self._fill(found, rows, batch)
        return found

    def _fill(self, found: list[Floats], rows: Sequence[TaggerRow], batch: Sequence[int]) -> None:
        for index, scores in zip(batch, self._network([rows[index] for index in batch]), strict=True):
            found[index] = scores

    def _labels(self, rows: Sequence[TaggerRow]) -> Iterator[list[str]]:
        """The likeliest label of each character, row after row."""
        return iter([[self.labels[at] for at in scores.argmax(axis=1)] for scores in self.scores(rows)])


class RowReader:
    """Sentences as a network of CKIP Tagger reads them. characters, words: the row of each in its table."""

    def __init__(self, config: TaggerConfig, characters: Mapping[str, int], words: Mapping[str, int]) -> None:
        self._config, self._characters, self._words = config, characters, words

    def row(self, words: Sequence[str], tags: Sequence[str] = ()) -> TaggerRow:
        """A sentence of normalised words (of characters, for word segmentation), with parts of speech for entities.

        Raises OctavoError for a part of speech that the network does not know.
        """
        config = self._config
        characters = [(character, place) for word in words for place, character in enumerate(word)]
        ids = np.array([self._characters.get(character, UNKNOWN) for character, _ in characters], np.int64)
        features = np.array([_features(*pair, config.task) for pair in characters], np.float32)
        repeats = np.array([len(word) if config.reads_words else 0 for word in words], np.int64)
        places = np.array([self._words.get(word, UNKNOWN) for word in words], np.int64)
        own = [self._tag(tag) for tag in tags] if tags and config.tags else [UNKNOWN] * len(words)
        shaped = features.reshape(len(characters), CHARACTER_FEATURES[config.task])
        return TaggerRow(ids, shaped, places.repeat(repeats), np.array(own, np.int64).repeat(repeats))

    def _tag(self, tag: str) -> int:
        known = self._config.tags
        if tag in known:
            return known.index(tag)
        if tag in WITHOUT_PLACE:
            return UNKNOWN
        raise OctavoError(f"no part of speech of this model is called {tag!r}{nearest(tag, known)}", param="tags")


def segments(text: str, delimiters: str) -> list[str]:
    """A text in parts that end after each delimiter; one of nothing for nothing."""
    return ["".join(part) for part in word_segments(text, delimiters)]


def word_segments(sentence: Sequence[str], delimiters: str) -> list[list[str]]:
    """The same of words, where a delimiter is a word of its own."""
    ends = {unicodedata.normalize("NFKD", delimiter) for delimiter in delimiters}
    parts: list[list[str]] = [[]]
    for word in sentence:
        parts[-1].append(word)
        if word in ends:
            parts.append([])
    return parts if parts[-1] or len(parts) == 1 else parts[:-1]


def _of_words(words: Sequence[str], labels: Sequence[str]) -> list[str]:
    """A label a word: its first character's."""
    found, at = [], 0
    for word in words:
        found.append(WHITESPACE if not word or word.isspace() else labels[at])
        at += len(word)
    return found


def _features(character: str, place: int, task: TaggerTask) -> list[bool]:
    kinds = [character in kind for kind in KINDS]
    return kinds if task == "ws" else [*kinds, "\u4e00" <= character <= "\u9fff", place > 0]
