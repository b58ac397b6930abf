"""The examples of a reader's training, drawn anew every epoch and batched by length.

Unusual: what an epoch holds (which gold answer, which part of a long text, which made questions, which tokens are
hidden) is a pure function of (seed, epoch), so that two numbers resume it exactly.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from octavo.errors import FormatError
from octavo.text.windows import LONGEST_QUESTION, PairReader, Pieces
from octavo.train.objectives.extractive_qa import Marked
from octavo.train.reading.made import cloze, elsewhere, moved, unanswerable
from octavo.train.reading.questions import Question, part_of
from octavo.train.reading.recipe import DistillationSettings, MixtureSettings

POOL = 32
"""Batches that are sorted by length together."""


class QuestionSource:
    """Implements `DataSource`: batches of `rows` windows of like length."""

    def __init__(
        self,
        questions: Sequence[Question],
        reader: PairReader,
        *,
        max_tokens: int,
        rows: int,
        seed: int,
        mixture: MixtureSettings,
        mask_id: int,
        texts: Sequence[tuple[str, str]] = (),
        taught: DistillationSettings | None = None,
        parts: int = 1,
    ) -> None:
        self._questions, self._reader, self._max_tokens, self._rows = questions, reader, max_tokens, rows
        self._seed, self._mixture, self._mask_id, self._texts = seed, mixture, mask_id, texts
        self._taught, self._parts = taught or DistillationSettings(), parts
        self._elsewhere = elsewhere(questions) if mixture.moved else {}
        self._pieces = lru_cache(maxsize=20_000)(reader.pieces)
        self._epoch, self._index = 0, 0
        self._examples = self._epoch_examples()

    def __len__(self) -> int:
        return len(self._examples)

    def draw(self, count: int, model: Any = None) -> list[Marked]:
        """The next `count` windows; an epoch's last batch may be filled from the next."""
        drawn: list[Marked] = []
        while len(drawn) < count:
            if self._index == len(self._examples):
                self._epoch, self._index = self._epoch + 1, 0
                self._examples = self._epoch_examples()
            drawn.append(self._examples[self._index])
            self._index += 1
        return drawn

    def state(self) -> dict[str, Any]:
        """Epoch and index in it."""
        return {"epoch": self._epoch, "index": self._index}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Raises FormatError for a state of other data."""
        self._epoch = int(state["epoch"])
        self._examples = self._epoch_examples()
        self._index = int(state["index"])
        if not 0 <= self._index <= len(self._examples):
            raise FormatError(f"the saved position {self._index} is outside the {len(self._examples)} examples")

    def _epoch_examples(self) -> list[Marked]:
        rng = random.Random(f"{self._seed} {self._epoch}")
        examples = [self._marked(question, taught, rng) for question, taught in self._epoch_questions(rng)]
        rng.shuffle(examples)
        pool = POOL * self._rows
        batches = []
        for start in range(0, len(examples), pool):
            by_length = sorted(examples[start : start + pool], key=lambda example: len(example.ids))
            batches += [by_length[at : at + self._rows] for at in range(0, len(by_length), self._rows)]
        rng.shuffle(batches)
        return [example for batch in batches for example in batch]

    def _epoch_questions(self, rng: random.Random) -> list[tuple[Question, float]]:
        """Each question with how much teachers count for it."""
        mixture, taught = self._mixture, self._taught
        chosen = [(question, taught.asked) for question in self._questions] if mixture.asked else []
        for question in self._questions if mixture.asked else ():
            if question.golds:
                made = unanswerable(question, rng) if rng.random() < mixture.edited else None
                other = moved(question, self._elsewhere, rng) if rng.random() < mixture.moved else None
                chosen += [(made, taught.edited)] if made is not None else []
                chosen += [(other, taught.moved)] if other is not None else []
        wanted = len(chosen) + mixture.clozes
        while self._texts and len(chosen) < wanted:
            made = cloze(*rng.choice(self._texts), rng)
            if made is None:
                continue
            chosen.append((made, taught.clozes))
            if rng.random() < 0.35:
                made = unanswerable(made, rng)
                chosen += [(made, taught.clozes)] if made is not None else []
        return chosen

    def _marked(self, question: Question, taught: float, rng: random.Random) -> Marked:
        """A window of the text, with the answer in it where there is one."""
        asked, text = self._pieces(question.text), self._pieces(question.context)
        room = self._max_tokens - 3 - min(len(asked.ids), LONGEST_QUESTION)
        span = None
        if question.golds:
            start, answer = rng.choice(question.golds)
            span = text.within(start, start + len(answer))
        start = self._window_start(text, room, span, rng)
        window = self._reader.window(asked.ids, text, start, start + room)
        if span is None or span[1] > start + room:
            marks = 0, 0
        else:
            marks = window.first + span[0] - start, window.first + span[1] - 1 - start
        ids = window.ids
        if self._mixture.hidden:
            kept = {0, window.first - 1, len(ids) - 1, *range(marks[0], marks[1] + 1)}
            ids = [
                self._mask_id if index not in kept and rng.random() < self._mixture.hidden else token
                for index, token in enumerate(ids)
            ]
        return Marked(ids, window.types, *marks, taught, part_of(question.article, self._parts))

    @staticmethod
    def _window_start(text: Pieces, room: int, span: tuple[int, int] | None, rng: random.Random) -> int:
        spare = len(text.ids) - room
        if spare <= 0:
            return 0
        if span is None:
            return rng.randint(0, spare)
        return rng.randint(max(0, min(span[1] - room, spare)), max(0, min(span[0], spare)))


def marked_windows(reader: PairReader, question: Question, max_tokens: int, overlap: int) -> list[Marked]:
    """A question's whole text in windows; one without the first answer, or only a part of it, is marked as without."""
    asked, text = reader.pieces(question.text), reader.pieces(question.context)
    span = None
    if question.golds:
        start, answer = question.golds[0]
        span = text.within(start, start + len(answer))
    made, begin = [], 0
    for window in reader.windows(asked.ids, text, max_tokens, overlap):
        marks = 0, 0
        if span is not None and begin <= span[0] and span[1] <= begin + len(window.ranges):
            marks = window.first + span[0] - begin, window.first + span[1] - 1 - begin
        made.append(Marked(window.ids, window.types, *marks))
        begin += len(window.ranges) - overlap
    return made
