"""The reader: an encoder that marks where a passage answers a question, and says how sure it is that it does not.

It scores every span of a passage's tokens and, at `[CLS]`, the lack of an answer; both are sums of two logits, so that
their difference is comparable across passages (Devlin et al. 2018, arXiv 1810.04805, section 4.3). No torch here.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from octavo.errors import FormatError, OctavoError, UnsupportedError
from octavo.fetching.sources import resolve
from octavo.generate.embed import batches
from octavo.generate.tasks.evidence import ECHO, FEATURES, echoes, features, log_odds
from octavo.models.checkpoint import Checkpoint, open_checkpoint
from octavo.models.encoders.heads import EncoderHead
from octavo.models.encoders.runner import EncoderRow, EncoderRunner, Floats, Weights
from octavo.models.formats.folder import read_json
from octavo.models.loading import make_encoder
from octavo.nn.config import TransformerConfig
from octavo.text.windows import LONGEST_QUESTION, MATCHING_TYPES, PairReader, Range, Window

SHIPPED = Path(__file__).parents[2] / "models/shipped/reader"
"""The reader that comes with the package; its README.md says what it was trained on and how well it reads."""
SETTINGS_NAME = "reader.json"
MOST_UNKNOWN = 0.25
"""A question with a greater share of tokens that the reader does not know is not for it."""
READ_AT_ONCE = 32
"""Longest windows that go through the encoder together; as many tokens of shorter ones."""
KEPT = 1 << 16
"""Readings that are kept, some 15 MB: what ranked passages is asked for again to answer from them."""


@dataclass(frozen=True)
class ReaderSettings:
    """max_tokens: of a window. overlap: tokens that neighbouring windows share. longest_answer: in tokens.

    threshold: a question is answered where `no_answer_score` is not above it. weights: of `evidence.FEATURES` and a
    constant, which make that score; empty: it is the margin alone.
    """

    max_tokens: int = 256
    overlap: int = 64
    longest_answer: int = 30
    threshold: float = 0.0
    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What the reader makes of one passage: its best answer, characters start to end, and the scores of both sides.

    no_answer_score: the log-odds that there is no answer, of margin and evidence.
    """

    start: int
    end: int
    score: float
    null_score: float
    no_answer_score: float = 0.0

    @property
    def margin(self) -> float:
        """How much likelier no answer is than the best one, in logits."""
        return self.null_score - self.score


@dataclass(frozen=True)
class Answer:
    """text: exactly the characters start to end of passages[passage], the likeliest answer, even where it is held back.

    answered: whether the reader stands by it. score: of the span. no_answer_score: the log-odds that there is none.
    """

    text: str
    start: int
    end: int
    score: float
    no_answer_score: float
    passage: int
    answered: bool


_EDGE = re.compile(r"\n[ \t]*\n|\||[，。；！？]")
"""Where a paragraph ends, a cell of a table or a clause of Chinese; an answer lies on one side. Of DRCD's 2,603
training answers 1.2 % hold such a sign, and without this rule exact match on 400 of them is lower by 1.0."""
_QUOTES, _BRACKETS = "\"`'", ("()", "[]", "{}", "“”", "「」", "《》")
NOTHING = Reading(0, 0, -math.inf, 0.0)
"""Of a passage without tokens."""


class Reader:
    """Complete when built; close it to free its memory. Safe to use from several threads, one at a time inside."""

    def __init__(self, runner: EncoderRunner, checkpoint: Checkpoint, settings: ReaderSettings) -> None:
        self.name = checkpoint.name
        self.settings = settings
        self._runner = runner
        self._head = EncoderHead(checkpoint)
        tokenizer = checkpoint.tokenizer()
        self._pairs, self._unknown = PairReader(tokenizer, matches=matches(checkpoint.config)), tokenizer.unk_id
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, Reading] = OrderedDict()

    @staticmethod
    def load(
        reference: str | Path | None = None,
        *,
        runner: Literal["kernels", "torch"] | None = None,
        weights: Weights | None = None,
    ) -> Reader:
        """Load a reader by path or reference; None: the one that comes with the package, in int8 on the kernels.

        Raises UnsupportedError for a model that has no head for answers.
        """
        path = SHIPPED if reference is None else resolve(str(reference))
        checkpoint = open_checkpoint(path)
        head = checkpoint.config.head
        if head is None or head.task != "span":
            raise UnsupportedError(f"{checkpoint.name} does not mark answers; give a model for question answering")
        if weights is None and reference is None and runner != "torch":
            weights = "int8"
        settings = read_settings(path / SETTINGS_NAME, checkpoint.config.context_length)
        return Reader(make_encoder(checkpoint, runner=runner, weights=weights), checkpoint, settings)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def answer(
        self,
        question: str,
        passages: Sequence[str],
        against: Sequence[float] | None = None,
        unsaid: Sequence[Sequence[Range]] | None = None,
    ) -> Answer:
        """The likeliest answer of all passages. Raises OctavoError without any passage.

        against: (passages,) what else speaks against an answer from each, added to its log-odds; None: nothing does.
        unsaid: of each passage, as `read` takes it.
        """
        if not passages:
            raise OctavoError("there is no passage to read; search found nothing")
        readings = self.read(question, passages, unsaid)
        more = against or [0.0] * len(passages)
        scores = [reading.no_answer_score + extra for reading, extra in zip(readings, more, strict=True)]
        best = min(range(len(readings)), key=scores.__getitem__)
        reading = readings[best]
        text = passages[best][reading.start : reading.end]
        answered = bool(text) and scores[best] <= self.settings.threshold
        return Answer(text, reading.start, reading.end, reading.score, scores[best], best, answered)

    def relevance(
        self, question: str, passages: Sequence[str], unsaid: Sequence[Sequence[Range]] | None = None
    ) -> Floats:
        """(n,): how surely each passage answers a question, for ranking them; higher is surer."""
        return np.array([-reading.margin for reading in self.read(question, passages, unsaid)], np.float32)

    def read(
        self, question: str, passages: Sequence[str], unsaid: Sequence[Sequence[Range]] | None = None
    ) -> list[Reading]:
        """The best answer of each passage by itself; one without any words has an empty span, never the likelier.

        unsaid: ranges of each passage, in order, that are read and hold no answer, such as a heading above it.
        """
        passed = unsaid or [()] * len(passages)
        keys = [_key(question, *pair) for pair in zip(passages, passed, strict=True)]
        found = {key: kept for key in keys if (kept := self._kept.get(key)) is not None}
        fresh = [at for at, key in enumerate(keys) if key not in found]
        made = self._read(question, [passages[at] for at in fresh], [passed[at] for at in fresh]) if fresh else []
        found.update((keys[at], reading) for at, reading in zip(fresh, made, strict=True))
        with self._lock:
            self._kept.update(found)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return [found[key] for key in keys]

    def _read(self, question: str, passages: Sequence[str], unsaid: Sequence[Sequence[Range]]) -> list[Reading]:
        settings, asked = self.settings, self._pairs.pieces(question).ids
        windows: list[tuple[int, Window]] = []
        for number, passage in enumerate(passages):
            text = self._pairs.pieces(passage)
            made = self._pairs.windows(asked, text, settings.max_tokens, settings.overlap)
            windows += [(number, window) for window in made]
        edges = [edges_of(passage, within) for passage, within in zip(passages, unsaid, strict=True)]
        best: list[Reading | None] = [None] * len(passages)
        lengths = np.array([len(window.ids) for _, window in windows], np.intp)
        for chosen in batches(lengths, READ_AT_ONCE * settings.max_tokens):
            rows = [EncoderRow(windows[index][1].ids, windows[index][1].types) for index in chosen]
            with self._lock:
                scores = self._head(self._runner.encode(rows), lengths[chosen])
            ends = np.cumsum(lengths[chosen])
            for index, end in zip(chosen, ends, strict=True):
                number, window = windows[index]
                parts = parts_of([start for start, _ in window.ranges], edges[number], unsaid[number])
                found = best_span(scores[end - lengths[index] : end], window, settings.longest_answer, parts)
                best[number] = joined(best[number], found)
        read = [whole_marks(passage, one or NOTHING) for passage, one in zip(passages, best, strict=True)]
        return [self._judged(question, *pair) for pair in zip(passages, read, strict=True)]

    def _judged(self, question: str, passage: str, reading: Reading) -> Reading:
        """A reading with the evidence against it weighed."""
        weights = self.settings.weights
        if not weights or reading.end <= reading.start:
            return replace(reading, no_answer_score=reading.margin)
        row = features(question, passage, reading.start, reading.end, reading.margin)
        echo = ECHO * echoes(question, passage[reading.start : reading.end])
        return replace(reading, no_answer_score=log_odds(weights, row) + echo)

    def knows(self, text: str) -> bool:
        """Whether the vocabulary has tokens for most of a text."""
        ids = self._pairs.pieces(text).ids
        return sum(token == self._unknown for token in ids) <= MOST_UNKNOWN * len(ids)

    def close(self) -> None:
        """Free the encoder's memory. Idempotent."""
        with self._lock:
            self._runner.close()


def _key(question: str, passage: str, unsaid: Sequence[Range]) -> bytes:
    """What a reading is kept by."""
    return hashlib.blake2b(repr((question, passage, tuple(unsaid))).encode("utf-8", "replace"), digest_size=16).digest()


def matches(config: TransformerConfig) -> bool:
    """Whether a reader is told what stands both in the question and in the text."""
    return config.encoder is not None and config.encoder.token_types >= MATCHING_TYPES


def whole_marks(text: str, reading: Reading) -> Reading:
    """The reading without a bracket or quote at either end whose other half is outside it."""
    start, end = reading.start, reading.end
    while end - start > 1:
        inside = text[start:end]
        if _alone(inside, inside[0]):
            start += 1
        elif _alone(inside, inside[-1]):
            end -= 1
        else:
            break
    return replace(reading, start=start, end=end)


def _alone(inside: str, mark: str) -> bool:
    """Whether a mark's other half is missing."""
    if mark in _QUOTES:
        return inside.count(mark) % 2 == 1
    return any(mark in pair and inside.count(pair[0]) != inside.count(pair[1]) for pair in _BRACKETS)


def edges_of(text: str, unsaid: Sequence[Range] = ()) -> list[int]:
    """Where parts of a text begin that no answer reaches over: paragraphs, cells of tables and the lines between."""
    edges = [place for match in _EDGE.finditer(text) for place in match.span()]
    return sorted([*edges, *(place for found in unsaid for place in found)])


def parts_of(places: Sequence[int], edges: Sequence[int], unsaid: Sequence[Range]) -> NDArray[np.intp]:
    """The number of the part that the token at each character is of; -1 where no answer may be."""
    parts = np.searchsorted(edges, places, side="right")
    bounds = [place for found in unsaid for place in found]
    parts[np.searchsorted(bounds, places, side="right") % 2 == 1] = -1
    return parts


def best_span(scores: Floats, window: Window, longest: int, parts: NDArray[np.intp]) -> Reading:
    """The likeliest span of a window that lies in one part.

    scores: (tokens, 2), of starting and of ending at each token. parts: (tokens of the text,), numbers that rise; -1
    for a token that is no part of an answer.
    """
    null, count = float(scores[0].sum()), len(window.ranges)
    if not count:
        return Reading(0, 0, -math.inf, null)
    text = scores[window.first : window.first + count]
    sums = np.full((min(longest, count), count), -np.inf, np.float32)  # (tokens of the span - 1, its first)
    for more in range(len(sums)):
        one = (parts[: count - more] == parts[more:]) & (parts[more:] >= 0)
        sums[more, : count - more] = np.where(one, text[: count - more, 0] + text[more:, 1], -np.inf)
    more, first = divmod(int(sums.argmax()), count)
    start, end = window.ranges[first][0], window.ranges[first + more][1]
    return Reading(start, end, float(sums[more, first]), null)


def joined(one: Reading | None, other: Reading) -> Reading:
    """Two windows of a passage: the likelier span, and no answer's score in the one that is less sure of it."""
    if one is None:
        return other
    best = max(one, other, key=lambda reading: reading.score)
    return replace(best, null_score=min(one.null_score, other.null_score))


def read_settings(path: Path, context_length: int) -> ReaderSettings:
    """The settings that lie beside a reader's weights; the usual ones where there are none."""
    usual = ReaderSettings(max_tokens=min(ReaderSettings.max_tokens, context_length))
    if not path.is_file():
        return usual
    raw = read_json(path)
    weights = raw.pop("weights", [])
    if not isinstance(weights, list) or len(weights) not in (0, len(FEATURES) + 1):
        raise FormatError(f"{path} has weights that are not {len(FEATURES) + 1} numbers")
    known = {name: type(value) for name, value in vars(usual).items() if name != "weights"}
    for name, value in (*raw.items(), *(("weights", weight) for weight in weights)):
        wanted = known.get(name, float) if name in known or name == "weights" else None
        if wanted is None or not isinstance(value, (int, float)) or (wanted is int and type(value) is not int):
            raise FormatError(f"{path} says {name} = {json.dumps(value)}; it knows numbers for {', '.join(known)}")
    settings = replace(usual, weights=tuple(map(float, weights)), **_typed(raw, known))
    if (
        not LONGEST_QUESTION < settings.max_tokens <= context_length
        or not 0 <= settings.overlap < settings.max_tokens - LONGEST_QUESTION - 3
    ):
        raise FormatError(f"{path} has windows that do not fit the model: {settings}")
    return settings


def _typed(raw: dict[str, Any], known: dict[str, type]) -> dict[str, Any]:
    return {name: known[name](value) for name, value in raw.items()}
